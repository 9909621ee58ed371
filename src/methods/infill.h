/* SPDX-License-Identifier: Apache-2.0
 * Filling a gap with a causal model: fills are drawn from the left, and judged by what stands on the right.
 *
 *   fill ~ p(. | left), token by token; of a fill's beginnings of j tokens that one stays which the first token on the
 *   right follows best: argmax over j >= 1 of log p(right_0 | left, fill_1..j), all known from drawing;
 *   log_p_right = mean over the tokens on the right of log p(right_i | left, fill, right_<i). */
#ifndef SOOTHE_INFILL_H
#define SOOTHE_INFILL_H

#include "generate/generate.h"

enum { SOOTHE__FILL_MAX = 24, SOOTHE__FILLS_MAX = 32, SOOTHE__RIGHT_MAX = 16 };

struct soothe__fill {
    llama_token tokens[SOOTHE__FILL_MAX];
    int32_t     n;           /* 0: none, an end of text or of line or a wrong start was drawn */
    double      log_p_right; /* in nats a token; 0 without anything on the right */
};

/* How a fill must begin, so that it is no later part of the word before it. */
enum soothe__fill_start { SOOTHE__FILL_ANYHOW, SOOTHE__FILL_SPACE, SOOTHE__FILL_WORD };

struct soothe__gap {
    llama_token             last; /* the left's last token */
    int32_t                 n_left;
    const llama_token      *right;
    int32_t                 n_right;  /* those that count: at most SOOTHE__RIGHT_MAX */
    int32_t                 n_most;   /* tokens of a fill, 1 to SOOTHE__FILL_MAX */
    int32_t                 n_wanted; /* without anything on the right: so many tokens stay, no space at their end */
    enum soothe__fill_start start;
};

/* Draws n fills (at most SOOTHE__FILLS_MAX) in one batch a token.
 * session   its sequence 0 holds the left but for the last token, and does so afterwards; sequences 1 to n are used
 * stream, i_draw  choose the random numbers: fill k has those of sample i_draw + k of that stream
 * errors    those of soothe_decode; SOOTHE_E_NUMERIC */
enum soothe_status soothe__infill(struct soothe_session *session, const struct soothe__gap *gap,
                                  const struct soothe__sampling *sampling, uint64_t stream, uint32_t i_draw, int32_t n,
                                  struct soothe__fill *fills, struct soothe_error *err);

/* Appends tokens to a sequence, in pieces that fit the session's batch; no logits. */
enum soothe_status soothe__append_tokens(struct soothe_session *session, llama_seq_id seq, int32_t n_before,
                                         const llama_token *tokens, int32_t n, struct soothe_error *err);

#endif /* SOOTHE_INFILL_H */
