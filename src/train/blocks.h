/* SPDX-License-Identifier: Apache-2.0
 * Forward and backward of the blocks: tokens to final states and back. */
#ifndef SOOTHE_BLOCKS_H
#define SOOTHE_BLOCKS_H

#include "train/gemm.h"
#include "train/train_core.h"

enum { SOOTHE__ROWS_STEP = 64 }; /* token counts are padded to this, so that products have few shapes */

struct soothe__blocks;

/* Room for batches of max_tokens. The parameters are the blocks' tensors one after the other, then output_norm.
 * gemm and embedding (V, d_cal) must outlive it. */
enum soothe_status soothe__blocks_new(struct soothe__blocks **b, const struct soothe__train_shape *shape,
                                      int32_t max_tokens, bool bf16, struct soothe__gemm *gemm,
                                      const uint16_t *embedding, struct soothe_error *err);
void               soothe__blocks_free(struct soothe__blocks *b);
size_t             soothe__blocks_memory(const struct soothe__blocks *b);

/* Final states (n_tokens, d_cal), owned by b until the next call. parameters as of this moment are
 * converted to the operand type. */
enum soothe_status soothe__blocks_forward(struct soothe__blocks *b, const float *parameters,
                                          const struct soothe__train_batch *batch, const float **h_c,
                                          struct soothe_error *err);
/* For the gradient dh_c (n_tokens, d_cal) of the last forward's states. Gradients are added to the flat array. */
enum soothe_status soothe__blocks_backward(struct soothe__blocks *b, const float *parameters,
                                           const struct soothe__train_batch *batch, const float *dh_c, float *gradients,
                                           struct soothe_error *err);

/* Offsets of block tensors in the flat array. */
struct soothe__block_offsets {
    size_t attn_norm, q, k, v, q_bias, k_bias, v_bias, o, ffn_norm, gate, up, down;
};
/* Lays block i out from *at on, advancing it; emit is called for each tensor in order. */
typedef void (*soothe__emit_tensor)(void *user, const char *name, int32_t n_out, int32_t n_in);
struct soothe__block_offsets soothe__block_layout(const struct soothe__train_shape *s, int32_t i, size_t *at,
                                                  soothe__emit_tensor emit, void *user);

#endif /* SOOTHE_BLOCKS_H */
