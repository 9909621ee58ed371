/* SPDX-License-Identifier: Apache-2.0
 * Causal grouped-query attention of packed texts, with rotary positions, in F32. */
#ifndef SOOTHE_ATTENTION_H
#define SOOTHE_ATTENTION_H

#include "train/train_core.h"

/* Rotates q (T, n_head d_head) and k (T, n_head_kv d_head) in place by their positions in their texts;
 * direction -1 turns back, which is also the gradient. */
void soothe__rope(const struct soothe__train_shape *s, const struct soothe__train_batch *batch, const float *table,
                  float *q, float *k, float direction);
/* cos and sin of every position: (n_positions, d_head/2, 2). */
void soothe__rope_table(const struct soothe__train_shape *s, int32_t n_positions, float *table);

/* out (T, n_head d_head); probabilities (n_head, sum over texts of length^2) are kept for the way back. */
void soothe__attention_forward(const struct soothe__train_shape *s, const struct soothe__train_batch *batch,
                               const float *q, const float *k, const float *v, float *out, float *probabilities);
/* dq, dk, dv are written. */
void soothe__attention_backward(const struct soothe__train_shape *s, const struct soothe__train_batch *batch,
                                const float *q, const float *k, const float *v, const float *dout,
                                const float *probabilities, float *dq, float *dk, float *dv);
/* Floats that probabilities needs, at most, for T tokens of one text. */
size_t soothe__attention_probabilities(const struct soothe__train_shape *s, const struct soothe__train_batch *batch);

#endif /* SOOTHE_ATTENTION_H */
