/* SPDX-License-Identifier: Apache-2.0
 * A calibrator that follows a target of another vocabulary by its text: its KV cache holds, of each sequence, its own
 * tokens of the text so far. At each decode the longest common prefix of what it holds and what it should hold stays;
 * behind it the cache is rolled back and the changed tail decoded. */
#ifndef SOOTHE_TEXT_COUPLING_H
#define SOOTHE_TEXT_COUPLING_H

#include "fusion/stage.h"
#include "fusion/text_follower.h"

struct soothe__coupling;

/* The calibrator's context is given with each call; own is its model.
 * errors  those of soothe__follow_rules_new */
enum soothe_status soothe__coupling_new(struct soothe__coupling **out, const struct llama_vocab *target,
                                        const struct llama_model *own, uint32_t n_seq, struct soothe_error *err);
void               soothe__coupling_free(struct soothe__coupling *c);

/* Tokens and memory that the calibrator's context needs for a target's n_ctx: a text may have more tokens in the
 * calibrator's vocabulary, several times as many where it falls back to bytes. */
uint32_t soothe__coupling_context(uint32_t n_ctx);

/* Decodes a piece; rows[k] is where the state of its k-th output belongs. */
typedef enum soothe_status soothe__decode_piece(void *user, const struct llama_batch *piece, const int32_t *rows,
                                                int32_t n_outputs, struct soothe_error *err);
/* rows of `step` that are the state of the same text share it: same_as[i] is the row that was decoded for row i. */
struct soothe__piece_target {
    struct llama_context *ctx;
    soothe__decode_piece *decode;
    void                 *user;
    int32_t               n_tokens_max, n_outputs_max; /* of a piece */
};
enum soothe_status soothe__coupling_before(struct soothe__coupling *c, const struct soothe__step *step,
                                           const struct soothe__piece_target *to, int32_t *same_as,
                                           struct soothe_error *err);
bool               soothe__coupling_memory(struct soothe__coupling *c, const struct soothe__memory_change *change,
                                           struct llama_context *ctx);
const struct soothe__coupling_counts *soothe__coupling_counts(const struct soothe__coupling *c);

#endif /* SOOTHE_TEXT_COUPLING_H */
