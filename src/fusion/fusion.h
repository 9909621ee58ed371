/* SPDX-License-Identifier: Apache-2.0
 * What the areas above may know of a calibrator beyond soothe.h. */
#ifndef SOOTHE_FUSION_H
#define SOOTHE_FUSION_H

#include "engine/engine.h"
#include "engine/file_rows.h"

/* The matrices of a calibrator; any of a, b, bias may be NULL. */
struct soothe__fusion {
    enum soothe_form form;
    int32_t          d_cal, d_tgt;
    float           *a;          /* (d_cal, d_tgt) row-major */
    float           *b;          /* (d_tgt, d_tgt) row-major */
    float           *bias;       /* (d_tgt) */
    bool             layer_norm; /* paper form: LN(A^T h_c) instead of A^T h_c */
    float            state_norm; /* norm that LN's output is scaled to; 0: LN's own, sqrt(d_tgt) */
};

/* Fuses one state in place.
 * h        (d_tgt) the target's state, becomes h_f
 * h_c      (d_cal) the calibrator's state; NULL if there are no blocks
 * scratch  (d_tgt)
 * alpha    any finite number; 0 does not touch h
 * Sums run over the inputs in order, so a row's result does not depend on the rows beside it. */
void soothe__fuse_row(const struct soothe__fusion *f, float *h, const float *h_c, float alpha, float *scratch);

void soothe__fusion_free(struct soothe__fusion *f); /* also of a zeroed one */

/* Matrices and metadata of a calibrator's or an alignment's file.
 * has_states  whether there is an h_c: blocks, or an alignment of some
 * state       after an error f is to be freed as ever */
enum soothe_status soothe__fusion_read(struct soothe__fusion *f, const struct soothe__gguf *g, bool has_states,
                                       struct soothe_error *err);
/* Were the matrices in g made for this target?  noun  "calibrator" or "alignment"
 * errors  SOOTHE_E_SHAPE, SOOTHE_E_MISMATCH, naming both */
enum soothe_status soothe__fusion_check_target(const struct soothe__fusion *f, const struct soothe__gguf *g,
                                               const char *noun, const struct soothe__gguf *target,
                                               struct soothe_error *err);

struct soothe_calibrator {
    char                 *path, *name, *base_name;
    int32_t               n_blocks;
    float                 default_strength;
    struct soothe__fusion fusion;
    struct llama_model   *model;   /* NULL without blocks */
    FILE                 *memory;  /* the file that the engine maps the model from */
    bool                  by_text; /* splits text otherwise than the target: follows its text, not its tokens */
    int32_t               n_vocab; /* with blocks */
    /* Where the engine gets the embedding's rows instead of tokens (calibrator_model.c): the rows in their file, and,
     * for who follows the text, the vocabulary. Else NULL. */
    struct soothe__file_rows *embedding;
    struct llama_model         *vocabulary;
};

/* Opens the blocks of a calibrator, whatever target its matrices were made for: its states h_c are had from a session,
 * and fusing changes nothing. errors  those of soothe_calibrator_open; SOOTHE_E_ARGUMENT it has no blocks */
enum soothe_status soothe__calibrator_open_blocks(struct soothe_calibrator **cal, const char *path,
                                                  const char                            *target_path,
                                                  const struct soothe_calibrator_params *params,
                                                  struct soothe_error                   *err);

#endif /* SOOTHE_FUSION_H */
