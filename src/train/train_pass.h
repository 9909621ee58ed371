/* SPDX-License-Identifier: Apache-2.0
 * Inside the training core: its state, and one pass over a batch (forward, loss, backward). */
#ifndef SOOTHE_TRAIN_PASS_H
#define SOOTHE_TRAIN_PASS_H

#include "train/blocks.h"
#include "train/head.h"
#include "train/train_core.h"

struct soothe__train_core {
    struct soothe__train_shape   shape;
    struct soothe__train_options options;
    struct soothe__gemm         *gemm;
    struct soothe__blocks       *blocks; /* NULL without */
    struct soothe__head         *head;
    bool                         bf16;
    struct soothe__train_tensor *tensors;
    size_t                       n_tensors, n_parameters, fusion_from; /* A, B, bias begin there */
    float                       *parameters, *gradients, *moments[2];
    double                      *sums; /* per piece */
    int64_t                      n_updates;
    size_t                       a, b, bias, p1, p2; /* offsets */
    struct soothe__block_places *places;             /* (n_blocks) */
    struct soothe__place         output_norm;

    /* per row of the batch; R padded to SOOTHE__HEAD_ROWS */
    float   *h_f, *g, *dh_c_rows;                   /* (R, d_tgt) twice, (R, d_cal) */
    void    *h_c_operand, *h_t_operand, *h_operand; /* operands */
    int32_t *next;
    bool    *diverge, *needs_log_p_t;
    float   *log_p, *log_p_t, *kl, *scale;
    float   *u; /* (R, r) of lm-steer: +-e P2^T h_t, and on the way back the gradient with respect to it */
    void    *u_operand;
    bool     for_gradient; /* the last forward was: rejected rows are steered the other way */
    double  *margins;      /* (max_rows) S(y+) - S(y-) of each pair */
    float   *dh_c;         /* (T, d_cal) */
    size_t   memory;
};

/* z = W_out h_c: no fusion. */
static inline bool soothe__is_direct(enum soothe__objective objective) {
    return objective == SOOTHE__PAPER || objective == SOOTHE__WEIGHTED || objective == SOOTHE__OWN_PREFERENCE;
}

/* Learns from pairs how much likelier one side becomes. */
static inline bool soothe__is_preference(const struct soothe__train_core *core) {
    return core->options.objective == SOOTHE__PREFERENCE || core->options.objective == SOOTHE__OWN_PREFERENCE;
}

/* Rows (n, width) as an operand, padded by zeros to a multiple of SOOTHE__HEAD_ROWS. */
void soothe__pass_put_rows(const struct soothe__train_core *core, void *operand, const float *x, int32_t n,
                           int32_t width);
/* A parameter of n floats as an operand: *operand, or *scratch (fresh, free()) where it has to be converted. */
enum soothe_status soothe__pass_weight(const struct soothe__train_core *core, size_t offset, size_t n,
                                       const void **operand, void **scratch, struct soothe_error *err);

/* LM-Steer's term, low_rank.c: h_f += +-e P1 P2^T h_t, with h_t's operand; and the gradients of P1 and P2 from the
 * rows' scaled gradient, whose operand is in h_operand. */
/* 1e-2 of normal random numbers in P1 and P2: where both are 0 no gradient leads away. */
void soothe__low_rank_start(struct soothe__train_core *core, uint64_t seed);
/* The calibrator's B (d, d) at strength 1: e P2 P1^T; fresh, NULL: no memory. */
float             *soothe__low_rank_matrix(const struct soothe__train_core *core);
enum soothe_status soothe__low_rank_forward(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                            struct soothe_error *err);
enum soothe_status soothe__low_rank_backward(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                             struct soothe_error *err);

/* Fills log_p, log_p_t, kl of the rows, and g if the gradient is wanted. kl_of_all: of every row, not only of KL rows.
 */
enum soothe_status soothe__pass_forward(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                        bool gradient, bool kl_of_all, struct soothe_error *err);
/* The loss of the last forward, and in scale what each row's g counts for in its gradient. */
struct soothe__train_result soothe__pass_loss(struct soothe__train_core *core, const struct soothe__train_batch *batch);
/* Overwrites the gradients. */
enum soothe_status soothe__pass_backward(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                         struct soothe_error *err);

#endif /* SOOTHE_TRAIN_PASS_H */
