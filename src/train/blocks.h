/* SPDX-License-Identifier: Apache-2.0
 * Forward and backward of the blocks: tokens to final states and back. */
#ifndef SOOTHE_BLOCKS_H
#define SOOTHE_BLOCKS_H

#include "train/gemm.h"
#include "train/linear.h"
#include "train/train_core.h"

enum { SOOTHE__ROWS_STEP = 64 }; /* token counts are padded to this, so that products have few shapes */

struct soothe__blocks;

/* The tensors of one block. */
struct soothe__block_places {
    struct soothe__place attn_norm, q, k, v, q_bias, k_bias, v_bias, o, ffn_norm, gate, up, down;
};

struct soothe__blocks_setup { /* everything outlives the blocks */
    const struct soothe__train_shape   *shape;
    const struct soothe__block_places  *places; /* (n_blocks) */
    struct soothe__place                output_norm;
    size_t                              n_parameters; /* of the flat array that the places are in */
    int32_t                             max_tokens;   /* of a batch */
    int32_t                             rank;         /* of the factors; 0: there are none */
    float                               scale;
    bool                                bf16;
    struct soothe__gemm                *gemm;
    const struct soothe__fixed_weights *fixed;     /* NULL: no place is elsewhere */
    const uint16_t                     *embedding; /* (V, d_cal) */
};
enum soothe_status soothe__blocks_new(struct soothe__blocks **b, const struct soothe__blocks_setup *setup,
                                      struct soothe_error *err);
void               soothe__blocks_free(struct soothe__blocks *b);
size_t             soothe__blocks_memory(const struct soothe__blocks *b);

/* Final states (n_tokens, d_cal), owned by b until the next call. parameters as of this moment are
 * converted to the operand type. */
enum soothe_status soothe__blocks_forward(struct soothe__blocks *b, const float *parameters,
                                          const struct soothe__train_batch *batch, const float **h_c,
                                          struct soothe_error *err);
/* Whether the next forwards take the factors of low rank into account; they do until told otherwise. */
void soothe__blocks_use_factors(struct soothe__blocks *b, bool use);
/* For the gradient dh_c (n_tokens, d_cal) of the last forward's states. Gradients of what learns are added to the flat
 * array; the way back ends at the lowest tensor that does. */
enum soothe_status soothe__blocks_backward(struct soothe__blocks *b, const float *parameters,
                                           const struct soothe__train_batch *batch, const float *dh_c, float *gradients,
                                           struct soothe_error *err);

/* Calls visit for each tensor of block i in order; its place, of which only the shape is filled in, is the visitor's to
 * complete. */
typedef void (*soothe__visit_tensor)(void *user, const char *name, struct soothe__place *place);
void soothe__block_visit(const struct soothe__train_shape *s, int32_t i, struct soothe__block_places *places,
                         soothe__visit_tensor visit, void *user);

#endif /* SOOTHE_BLOCKS_H */
