/* SPDX-License-Identifier: Apache-2.0
 * Ways to make a target speak more gently, behind one interface: chosen by name, given options, each yields a
 * session to generate with. One method = one file here, one line in the table of methods.c, one page in
 * docs/methods/.
 *
 *     struct soothe__applied_method m;
 *     if (soothe__method_apply(&m, "fusion", model, "target.gguf", &options, &err)) die(err.message);
 *     soothe__generate(m.session, ...);
 *     soothe__method_release(&m);
 */
#ifndef SOOTHE_METHODS_H
#define SOOTHE_METHODS_H

#include "base/base.h"

struct soothe__method_options {
    const char                 *calibrator_path; /* NULL: the shipped default where it fits           */
    const char                 *base_path;       /* of a calibrator in delta form; NULL: the target   */
    float                       strength;        /* NaN: what the method recommends                   */
    struct llama_context_params context;         /* of the target, see soothe__generate_context       */
};
struct soothe__method_options soothe__method_options_default(void);

/* A method at work on a target. */
struct soothe__applied_method {
    const struct soothe__method *method;
    struct soothe_session       *session;
    void                        *state;    /* the method's own               */
    float                        strength; /* the one in force; 0 for plain  */
    const char                  *source;   /* the calibrator's file or NULL; owned by state */
};

struct soothe__method {
    const char *name;
    const char *summary; /* one line without a full stop */
    /* Fills session, state, strength and source of a zeroed m; after an error what is filled gets released. */
    enum soothe_status (*apply)(struct soothe__applied_method *m, struct llama_model *target, const char *target_path,
                                const struct soothe__method_options *options, struct soothe_error *err);
    void (*release)(void *state); /* after the session has ended; state may be NULL */
};

/* NULL if there is none of that name; name NULL: the default. */
const struct soothe__method *soothe__method_find(const char *name);
/* "fusion, none": all of them, the default first, cut to size. */
void soothe__method_names(char *out, size_t size);

/* name         NULL: the default
 * target       borrowed, must outlive m;  target_path  its file
 * errors       SOOTHE_E_ARGUMENT no method of that name, an option that it does not take; those of
 *              soothe_calibrator_open and soothe_session_new
 * state        after an error m is released */
enum soothe_status soothe__method_apply(struct soothe__applied_method *m, const char *name, struct llama_model *target,
                                        const char *target_path, const struct soothe__method_options *options,
                                        struct soothe_error *err);
void               soothe__method_release(struct soothe__applied_method *m); /* also of a zeroed one */

/* The table's entries, each in its own file. */
extern const struct soothe__method soothe__method_fusion, soothe__method_none;

/* ---- the shipped calibrator: default_calibrator.c ---------------------------------------------------- */

/* default.calibrator.gguf in $SOOTHE_MODELS, and only there if that is set; else in ../share/soothe/models beside
 * the program, else in the models folder of the source tree.
 * *path   fresh, free(); NULL after an error
 * errors  SOOTHE_E_IO there is none: the sentence says where it was looked for and what to do */
enum soothe_status soothe__default_calibrator(char **path, struct soothe_error *err);

#endif /* SOOTHE_METHODS_H */
