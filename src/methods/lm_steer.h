/* SPDX-License-Identifier: Apache-2.0
 * LM-Steer as an edit of the model: its matrix multiplied into the output head, at no cost per token. */
#ifndef SOOTHE_LM_STEER_H
#define SOOTHE_LM_STEER_H

#include "edit/edit.h"
#include "methods/calibrator_link.h"

/* The matrix as the method opens it: of a file or an alignment (either may be NULL), else the shipped one. */
struct soothe__calibrator_source soothe__lm_steer_source(const char *file, const char *alignment, const char *option);

struct soothe__fold_options {
    const char *model_path, *out_path;
    const char *steer_path, *alignment_path; /* NULL, NULL: the shipped file                          */
    float       strength;                    /* NaN: what the file recommends; 0: no tensor changes   */
    const char *type;                        /* of the new head: a name, or "own" (NULL): the old one's */
};

struct soothe__fold_report {
    const char *from; /* the head that was there: output.weight, or the embedding it was tied to; static */
    char        type_before[32], type[32];
    bool        added;     /* a tensor, because the old head is the embedding, which stays */
    int64_t     n_rows, d; /* of the head */
    float       strength;
    double      change; /* norm of what is added to the head, as a share of its own, before rounding */
};

/* Writes the model with the head e'_v = e_v + strength B e_v for every token's row e_v, which gives every state h the
 * logits that the method gives it: e_v (h + strength B^T h). Of LM-Steer B = e P2 P1^T; any calibrator that is but such
 * a matrix is folded alike. Rows whose numbers stay keep their bytes. Memory: B twice, and some MiB.
 * report  filled on success
 * errors  SOOTHE_E_UNSUPPORTED the file has blocks, a bias or another form: no head can hold it; or the engine takes no
 *         head of its own for this architecture; SOOTHE_E_ARGUMENT strength or type; those of soothe_calibrator_open
 * and soothe__edit_anew */
enum soothe_status soothe__lm_steer_fold(const struct soothe__fold_options *options, struct soothe__fold_report *report,
                                         struct soothe_error *err);

#endif /* SOOTHE_LM_STEER_H */
