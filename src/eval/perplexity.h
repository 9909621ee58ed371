/* SPDX-License-Identifier: Apache-2.0
 * What fusion does to the probability of given texts: perplexity, divergence from the plain model, and how many
 * pairs it orders rightly. All of it through soothe_decode, so that what is measured is what runs.
 *
 * Legend: p_t the plain target, p_f the fused model at one strength, y a completion, nats throughout.
 *   S(y)   = sum over y's tokens of log p_f - log p_t; a pair is right if S(chosen) > S(rejected)
 *   KL     = sum over the vocabulary of p_t (log p_t - log p_f), at each token of a clean text's completion
 * Source: the preference objective's own terms (docs/fusion.md), so training and measuring mean the same. */
#ifndef SOOTHE_PERPLEXITY_H
#define SOOTHE_PERPLEXITY_H

#include "corpus/corpus.h"

struct soothe__ppl_options {
    const float *strengths; /* n_strengths of them; 0 without a calibrator */
    size_t       n_strengths;
    int32_t      n_ctx;         /* the longest text in tokens; >= 16 */
    int32_t      n_threads;     /* 0: the session's default */
    bool         show_progress; /* a bar on stderr */
};

/* A figure and its standard error, over the texts or pairs that it is made of. */
struct soothe__estimate {
    double value, error; /* error 0 where there is one text only */
};

/* Log-likelihood of one set of texts: clean ones, or the chosen or rejected side of the pairs. */
struct soothe__ppl_set {
    size_t                  n_texts, n_tokens;
    struct soothe__estimate nll;        /* nats a token */
    struct soothe__estimate nll_change; /* fused minus plain, paired by text; 0 for plain */
    double                  perplexity; /* exp(nll) */
    double                  ratio;      /* of the perplexities, fused to plain; 1 for plain */
    double                  nll_ratio;  /* of the nll; 1 for plain */
};

struct soothe__ppl_sets {
    struct soothe__ppl_set clean, chosen, rejected; /* n_texts 0: the data have none */
};

struct soothe__ppl_at {
    float                   strength;
    struct soothe__ppl_sets sets;
    size_t                  n_ties;
    struct soothe__estimate share;  /* of pairs ordered rightly; ties count half */
    struct soothe__estimate margin; /* mean of S(chosen) - S(rejected) */
    struct soothe__estimate kl;     /* nats a token on clean texts */
};

struct soothe__ppl_report {
    size_t                  n_pairs, n_clean;
    size_t                  n_tokens_run; /* tokens that went through the target, all strengths together */
    double                  seconds;
    struct soothe__ppl_sets plain;
    struct soothe__ppl_at  *at; /* one for each strength, owned; NULL without */
    size_t                  n_at;
};

/* Measures all pairs and singles of a tokenised corpus.
 * cal     NULL: plain likelihoods only
 * corpus  soothe__corpus_tokenize was called, with at most options->n_ctx tokens a text
 * errors  SOOTHE_E_ARGUMENT an option, or nothing to measure; SOOTHE_E_NUMERIC logits that are not finite;
 *         those of soothe_decode. *report is then zeroed
 * thread  any; the models may be used by others meanwhile */
enum soothe_status soothe__perplexity(struct soothe__ppl_report *report, struct llama_model *target,
                                      const struct soothe_calibrator *cal, const struct soothe__corpus *corpus,
                                      const struct soothe__ppl_options *options, struct soothe_error *err);
void               soothe__ppl_report_free(struct soothe__ppl_report *report); /* also of a zeroed one */

/* KL(p_t || p_f) of two rows of n logits whose log-sum-exps are known. */
double soothe__logit_divergence(const float *z_t, double lse_t, const float *z_f, double lse_f, int32_t n);

#endif /* SOOTHE_PERPLEXITY_H */
