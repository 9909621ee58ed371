/* SPDX-License-Identifier: Apache-2.0
 * One weight of a block at work: y = x W^T, W learning, fixed, or fixed beside two factors of low rank that learn.
 *
 *   y = x W^T + s (x A^T) B^T,   A (r, n_in), B (n_out, r), s = alpha / r
 *   G = dy:  dB = G^T u with u = s x A^T;  v = s G B;  dA = v^T x;  dx = G W + v A;  no dW for a fixed W
 * Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021. */
#ifndef SOOTHE_LINEAR_H
#define SOOTHE_LINEAR_H

#include "train/gemm.h"
#include "train/train_core.h"

#define SOOTHE__NOWHERE SIZE_MAX

/* Where a tensor of the blocks is, and how it learns. */
struct soothe__place {
    int32_t     n_out, n_in;
    size_t      at;     /* in the flat array, or SOOTHE__NOWHERE: kept by fixed weights under the handle */
    const void *handle; /* of soothe__fixed_weights */
    bool        learns; /* the tensor itself */
    size_t      a, b;   /* factors in the flat array; SOOTHE__NOWHERE: none */
};

/* Does it, or a factor beside it? */
bool soothe__place_learns(const struct soothe__place *place);

/* What all products share. */
struct soothe__linear {
    struct soothe__gemm                *gemm;
    bool                                bf16;
    const struct soothe__fixed_weights *fixed;
    const float                        *parameters;
    float                              *gradients;
    uint16_t                           *converted; /* bf16 copy of the parameters; NULL under F32 */
    size_t                              n_parameters;
    int32_t                             n, n_padded; /* rows of x; the padded ones are zero */
    int32_t                             rank;
    float                               scale;
    bool                                no_factors; /* forward without them */
    float                              *wide;       /* a fixed weight, F32 */
    uint16_t                           *narrow;     /* the same in bf16 */
    float                              *u;          /* (T padded, r) scratch */
    void                               *v;          /* operand (T padded, r) scratch */
    size_t                              memory;     /* bytes; SIZE_MAX after a failure */
};

/* n_largest  elements of the largest fixed weight, 0: there is none.  Fields above `n` are the caller's. */
enum soothe_status soothe__linear_init(struct soothe__linear *l, int32_t n_padded_max, size_t n_largest,
                                       struct soothe_error *err);
void               soothe__linear_free(struct soothe__linear *l);
/* Takes the parameters as of now. */
void soothe__linear_convert(struct soothe__linear *l);

/* y (T, n_out) = or += …; x is an operand. u (T, r), an operand kept for the way back, is written where there are
 * factors. */
enum soothe_status soothe__linear_forward(struct soothe__linear *l, const struct soothe__place *w, const void *x,
                                          void *u, float *y, bool accumulate, struct soothe_error *err);
/* Adds to the gradients of what learns; and, unless dx is NULL, dx = or += …; dy is an operand. */
enum soothe_status soothe__linear_backward(struct soothe__linear *l, const struct soothe__place *w, const void *x,
                                           const void *u, const void *dy, float *dx, bool accumulate,
                                           struct soothe_error *err);

#endif /* SOOTHE_LINEAR_H */
