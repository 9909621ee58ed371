/* SPDX-License-Identifier: Apache-2.0
 * Ways to make a target speak more gently, behind one interface: chosen by name, given parameters, put one behind the
 * other in a *chain*. One method = one file here, one line in the table of methods.c, one page in docs/methods/.
 *
 *     struct soothe__chain chain = {0};
 *     struct soothe__applied a;
 *     if (soothe__chain_add(&chain, "cfl+fusion:strength=0.5", &err)) die(err.message);
 *     if (soothe__chain_apply(&a, &chain, model, "target.gguf", &context, &err)) die(err.message);
 *     soothe__generate_with(&a, ...);
 *     soothe__applied_release(&a);
 *     soothe__chain_free(&chain);
 *
 * A chain in words: NAME[:KEY=VALUE[:KEY=VALUE]...] joined by '+'; a comma will do for the colon between parameters. */
#ifndef SOOTHE_METHODS_H
#define SOOTHE_METHODS_H

#include "base/base.h"

enum { SOOTHE__PARAMETERS_MAX = 16, SOOTHE__CHAIN_MAX = 8 };

/* ---- what a method tells of itself --------------------------------------------------------------------- */

enum soothe__parameter_kind {
    SOOTHE__NUMBER,
    SOOTHE__INTEGER,
    SOOTHE__CHOICE, /* one of `choices`                          */
    SOOTHE__FILE,   /* a file; evaluations record its hash       */
    SOOTHE__TEXT
};

struct soothe__parameter {
    const char                 *name;
    enum soothe__parameter_kind kind;
    const char                 *fallback;        /* as it would be typed; NULL: the method decides, `help` says how */
    double                      lowest, highest; /* of numbers */
    const char                 *choices;         /* "margin softmax" */
    const char                 *help;            /* one line */
};

struct soothe__value {
    bool   given;  /* by the user; else it is the fallback's                         */
    double number; /* NaN where there is none; of a choice: its place in `choices`   */
    char  *text;   /* as typed; NULL where there is none                             */
};

/* A method at work on a target, as one link of a chain. */
struct soothe__link {
    const struct soothe__method *method;
    struct soothe__value         values[SOOTHE__PARAMETERS_MAX]; /* in the order of method->parameters; borrowed */
    void                        *state;    /* the method's own                                                   */
    float                        strength; /* the one in force: the first parameter of most; 0: no effect        */
    const char                  *source;   /* the file at work, of which evaluations record the hash, or NULL; owned by
                                              state */
    const char *judge;                     /* identity of the scorer at work, or NULL; owned by state */
};

struct soothe__method_target {
    struct llama_model *model;
    const char         *path;
};

/* What became of a prompt (rewrite.h). */
struct soothe__event {
    size_t                       i_prompt;
    const struct soothe__method *method;
    char                        *text; /* of the prompt that is continued instead, as far as tokens have bytes */
    int32_t (*spans)[2]; /* (n_spans) bytes of the prompt before, from and to behind, that were replaced */
    size_t n_spans;
};

/* Another prompt in place of one. */
struct soothe__rewriting {
    llama_token *tokens; /* fresh; NULL: the prompt stays as it is */
    int32_t      n_tokens;
    int32_t (*spans)[2]; /* fresh, (n_spans) as in the event; NULL where nothing was replaced, only added */
    size_t n_spans;
};
struct soothe__prompt;

struct soothe__method {
    const char *name;
    const char *summary; /* one line without a full stop                                                    */
    const char *stage;   /* "state", "logits", "candidates", "prompt", "text", "blocks", "gate" or "none"             */
    const char *cost;    /* of a token, in words: "one d x d product"                                       */
    const char *source;  /* the paper                                                                       */
    const char
        *stands_for; /* NULL, or a chain in words that is put in the place of the name; then nothing else counts */
    const struct soothe__parameter *parameters; /* ended by one without a name; the first is the strength: what
                                                   --strength sets, and at 0 the method does nothing        */
    bool one_dose; /* acts on a whole context: generation under several doses runs them one after another */
    /* Opens files and checks all values; fills l->state, strength, source and judge. May enlarge the context to be
     * made: cells, and sequences of its own above those there are (fusion/branch.h). After an error what is filled gets
     * released. NULL: nothing to open. */
    enum soothe_status (*open)(struct soothe__link *l, const struct soothe__method_target *target,
                               struct llama_context_params *context, struct soothe_error *err);
    /* Adds its stages to the session. NULL: none. */
    enum soothe_status (*attach)(struct soothe__link *l, struct soothe_session *session, struct soothe_error *err);
    void (*release)(void *state); /* after the session has ended; state may be NULL */
    /* Of methods that act on the prompt (rewrite.h); NULL: all others. May decode in the session, which is empty before
     * and after. After an error what is filled gets released. */
    enum soothe_status (*rewrite)(struct soothe__link *l, struct soothe_session *session,
                                  const struct soothe__prompt *prompt, struct soothe__rewriting *out,
                                  struct soothe_error *err);
    /* Of methods that choose among whole continuations (generate_with.h); NULL: all others. How many are to be drawn
     * for each that is wanted, and which of n texts is kept. */
    int32_t (*n_tries)(const struct soothe__link *l);
    enum soothe_status (*choose)(struct soothe__link *l, const char *const *texts, int32_t n, int32_t *i_best,
                                 struct soothe_error *err);
};

/* NULL if there is none of that name; name NULL: the default. */
const struct soothe__method *soothe__method_find(const char *name);
/* The i-th, the default first; NULL behind the last. */
const struct soothe__method *soothe__method_at(size_t i);
/* "fusion, none": all of them, cut to size. */
void soothe__method_names(char *out, size_t size);

/* For methods: the value of the parameter of that name, which must exist. */
const struct soothe__value *soothe__link_value(const struct soothe__link *l, const char *name);
static inline float         soothe__link_number(const struct soothe__link *l, const char *name) {
            return (float)soothe__link_value(l, name)->number;
}

/* ---- chains: chain.c ------------------------------------------------------------------------------------- */

struct soothe__chain {
    struct soothe__chain_item {
        const struct soothe__method *method;
        struct soothe__value         values[SOOTHE__PARAMETERS_MAX];
    } items[SOOTHE__CHAIN_MAX];
    size_t                       n;
    const struct soothe__method *all; /* the one method that stands for just these, or NULL */
};

/* Adds the methods of `text` ("plain" is another word for none; NULL: the default).
 * errors  SOOTHE_E_ARGUMENT no method or parameter of that name, a value out of its range, too many
 * state   after an error the chain is as it was, and is freed as ever */
enum soothe_status soothe__chain_add(struct soothe__chain *chain, const char *text, struct soothe_error *err);
/* Sets a parameter of every method that has one of that name ("strength": the first parameter of each, whatever its
 * name, but a gate's only where it stands alone, and of a combination the last one's, unless it is 0). errors
 * SOOTHE_E_ARGUMENT no method of the chain has it, or a value out of its range */
enum soothe_status soothe__chain_set(struct soothe__chain *chain, const char *name, const char *value,
                                     struct soothe_error *err);
/* Adds a method ahead of the others. errors  those of soothe__chain_add */
enum soothe_status soothe__chain_add_first(struct soothe__chain *chain, const char *text, struct soothe_error *err);
/* errors  SOOTHE_E_ARGUMENT a gate with nothing that it can hold back, or beside what it cannot */
enum soothe_status soothe__chain_check(const struct soothe__chain *chain, struct soothe_error *err);
/* Does a method of that stage stand in it? */
bool soothe__chain_has_stage(const struct soothe__chain *chain, const char *stage);
/* "cfl+fusion:strength=0.5": what was given, files without their folders; "plain" for none; "auto" for what that stands
 * for; fresh, NULL: no memory. */
char *soothe__chain_name(const struct soothe__chain *chain);
void  soothe__chain_free(struct soothe__chain *chain); /* also of a zeroed one */

/* A chain at work. */
struct soothe__applied {
    struct soothe_session *session;
    struct soothe__link    links[SOOTHE__CHAIN_MAX];
    size_t                 n;
    struct soothe__event  *events; /* of the last soothe__generate_with, there from before the first token */
    size_t                 n_events;
};

/* chain    an empty one: the default method; borrowed, must outlive a
 * target   borrowed, must outlive a;  target_path  its file;  context  see soothe__generate_context
 * errors   those of the methods and of soothe_session_new
 * state    after an error a is released */
enum soothe_status soothe__chain_apply(struct soothe__applied *a, struct soothe__chain *chain,
                                       struct llama_model *target, const char *target_path,
                                       const struct llama_context_params *context, struct soothe_error *err);
void               soothe__applied_release(struct soothe__applied *a); /* also of a zeroed one */
/* "cfl+fusion", cut to size; the file at work, no gate's, rather that of a state than of a table, or NULL; the strength
 * of a single method, else NaN. */
void        soothe__applied_names(const struct soothe__applied *a, char *out, size_t size);
const char *soothe__applied_source(const struct soothe__applied *a);
float       soothe__applied_strength(const struct soothe__applied *a);

/* The table's entries, each in its own file. */
extern const struct soothe__method soothe__method_fusion, soothe__method_none, soothe__method_auto;
extern const struct soothe__method soothe__method_dexperts, soothe__method_proxy, soothe__method_gedi,
    soothe__method_self_debias, soothe__method_nado;
extern const struct soothe__method soothe__method_cfl, soothe__method_word_filter, soothe__method_bad_words;
extern const struct soothe__method soothe__method_sasa, soothe__method_rad, soothe__method_best_of_n;
extern const struct soothe__method soothe__method_lm_steer, soothe__method_safe_prompt, soothe__method_cmd,
    soothe__method_control_vector;
extern const struct soothe__method soothe__method_gate;

/* ---- the shipped calibrator: default_calibrator.c ---------------------------------------------------- */

/* default.calibrator.gguf in $SOOTHE_MODELS, and only there if that is set; else in ../share/soothe/models beside
 * the program, else in the models folder of the source tree.
 * *path   fresh, free(); NULL after an error
 * errors  SOOTHE_E_IO there is none: the sentence says where it was looked for and what to do */
enum soothe_status soothe__default_calibrator(char **path, struct soothe_error *err);

#endif /* SOOTHE_METHODS_H */
