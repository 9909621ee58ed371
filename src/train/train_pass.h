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
    size_t                       a, b, bias; /* offsets */

    /* per row of the batch; R padded to SOOTHE__HEAD_ROWS */
    float   *h_f, *g, *dh_c_rows;                   /* (R, d_tgt) twice, (R, d_cal) */
    void    *h_c_operand, *h_t_operand, *h_operand; /* operands */
    int32_t *next;
    bool    *diverge, *needs_log_p_t;
    float   *log_p, *log_p_t, *kl, *scale;
    double  *margins; /* (max_rows) S(y+) - S(y-) of each pair */
    float   *dh_c;    /* (T, d_cal) */
    size_t   memory;
};

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
