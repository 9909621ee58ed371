/* SPDX-License-Identifier: Apache-2.0
 * Which tokens of a prompt are toxic: for methods that replace them. Detectors, the better first (docs/methods/cmd.md):
 *   ngram    words toxic by themselves by an n-gram scorer         threshold: toxicity, 0 to 1
 *   lexicon  words, or two together, of the built-in list          threshold: toxicity, 0 to 1
 *   probe    m_t - m_(t-1) of a token, or m_(t+1) - m_(t-1) of two, where m is a probe's logit of a token's state,
 * reach the threshold (in nats): how much the words added Source of the windows of two: CMD (arXiv 2308.08295). */
#ifndef SOOTHE_TOXIC_SPANS_H
#define SOOTHE_TOXIC_SPANS_H

#include "score/ngram_scorer.h"
#include "score/probe.h"

enum soothe__span_detector { SOOTHE__SPANS_NGRAM, SOOTHE__SPANS_LEXICON, SOOTHE__SPANS_PROBE };

struct soothe__span_finder {
    enum soothe__span_detector         detector;
    double                             threshold;
    const struct soothe__ngram_scorer *ngram;  /* of ngram; borrowed, as all here */
    const struct soothe__probe        *probe;  /* of probe … */
    struct soothe__layer_reader       *reader; /* … and what reads its layer, alone */
};

/* What a prompt's tokens are as text. */
struct soothe__token_places {
    char    *text; /* the tokens' bytes, special ones have none */
    int32_t *end;  /* (n) behind the i-th token's last byte */
};
enum soothe_status soothe__token_places(struct soothe__token_places *p, const struct llama_vocab *vocab,
                                        const llama_token *tokens, int32_t n, struct soothe_error *err);
void               soothe__token_places_free(struct soothe__token_places *p);

/* A run of tokens, from and to behind. */
struct soothe__token_span {
    int32_t from, to;
};
/* Toxic runs of whole words, those that touch joined; *spans fresh.
 * errors  those of reading states; SOOTHE_E_MEMORY */
enum soothe_status soothe__toxic_spans(struct soothe__token_span **spans, size_t *n_spans,
                                       const struct soothe__span_finder *finder, const struct llama_vocab *vocab,
                                       const llama_token *tokens, int32_t n, struct soothe_error *err);

/* Without the words: marks (n) of which tokens reach the threshold, from the logits m (n) of their states; the first
 * state, where attention rests, tells nothing. */
void soothe__mark_rises(bool *marks, const double *m, int32_t n, double threshold);

#endif /* SOOTHE_TOXIC_SPANS_H */
