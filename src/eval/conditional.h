/* SPDX-License-Identifier: Apache-2.0
 * How likely continuations are to a model that reads along: sums of -log p over their tokens, many at a time. */
#ifndef SOOTHE_CONDITIONAL_H
#define SOOTHE_CONDITIONAL_H

#include "base/base.h"

struct soothe__conditional {
    const llama_token *tokens; /* of the continuation alone */
    int32_t            n_tokens;
    double             nll; /* out: nats, over n_counted tokens */
    int32_t            n_counted;
};

/* Cells of the cache that so many continuations take at once. */
int32_t soothe__conditional_cells(int32_t n_prompt, int32_t n_longest, int32_t n_parallel);
/* Rows of logits that fit into a set amount of memory: no batch here asks for more. */
int32_t soothe__conditional_rows(const struct llama_model *model);

/* Tokens that a prompt with one continuation may have: no more than the context, nor than the model was trained for. */
int32_t soothe__conditional_most(const struct llama_context *ctx);

/* Measures all continuations of one prompt (n_prompt >= 1), which is decoded once and shared.
 * session  with n_seq_max >= 1; as many at a time as it has sequences and cells for; empty afterwards
 * results  one that does not fit by itself (soothe__conditional_most) gets n_counted 0
 * errors   SOOTHE_E_ARGUMENT the prompt does not fit; SOOTHE_E_NUMERIC; those of soothe_decode */
enum soothe_status soothe__conditional_nll(struct soothe_session *session, const llama_token *prompt, int32_t n_prompt,
                                           struct soothe__conditional *items, size_t n, struct soothe_error *err);

/* The same of texts, split as soothe__tokenize_pair splits them. results (n): out, tokens is NULL there; n_counted is 0
 * too where prompt or text have too many tokens or the text has none.
 * errors  also those of soothe__tokenize_pair */
enum soothe_status soothe__conditional_texts(struct soothe_session *session, const char *prompt,
                                             const char *const *texts, size_t n, struct soothe__conditional *results,
                                             struct soothe_error *err);

#endif /* SOOTHE_CONDITIONAL_H */
