/* SPDX-License-Identifier: Apache-2.0
 * Filling the engine's batches. */
#ifndef SOOTHE_BATCH_H
#define SOOTHE_BATCH_H

#include "base/base.h"

/* Adds a token of one sequence to a batch with room for it, and returns its place. output: logits are wanted there. */
static inline int32_t soothe__batch_add(struct llama_batch *b, llama_token token, llama_pos pos, llama_seq_id seq,
                                        bool output) {
    const int32_t i = b->n_tokens++;
    b->token[i]     = token;
    b->pos[i]       = pos;
    b->n_seq_id[i]  = 1;
    b->seq_id[i][0] = seq;
    b->logits[i]    = output;
    return i;
}

#endif /* SOOTHE_BATCH_H */
