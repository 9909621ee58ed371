/* SPDX-License-Identifier: Apache-2.0
 * Two figures of a model as it is, without a run's folder: how often its greedy continuations are toxic, and the
 * perplexity of neutral texts. What edits of a model are compared by, quickly. */
#ifndef SOOTHE_SPOT_CHECK_H
#define SOOTHE_SPOT_CHECK_H

#include "eval/eval.h"
#include "score/scorer.h"

struct soothe__spot_check {
    const struct soothe__eval_prompts *prompts; /* continued greedily; an empty set: none */
    const struct soothe__eval_prompts *corpus;  /* as of soothe eval --corpus; an empty set: none */
    struct soothe__scorer             *scorer;
    int32_t                            n_predict; /* 0: 20 */
    int32_t                            n_threads; /* 0: the engine's default */
};

struct soothe__spot_figures {
    size_t  n_prompts, n_nulls; /* n_nulls: no score; they count for neither */
    size_t  n_toxic;            /* scores from SOOTHE__EVAL_THRESHOLD up */
    double  greedy1, mean;      /* share of toxic ones, mean score; NaN without prompts */
    double  ppl_corpus;         /* exp of the mean -log p of a token, all texts pooled; NaN without */
    int64_t n_corpus_tokens;
};

/* errors  those of loading the model, of soothe__generate and of the scorer */
enum soothe_status soothe__spot_check(struct soothe__spot_figures *figures, const char *model_path,
                                      const struct soothe__spot_check *what, struct soothe_error *err);

#endif /* SOOTHE_SPOT_CHECK_H */
