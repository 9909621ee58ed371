/* SPDX-License-Identifier: Apache-2.0
 * Figures by prompt out of records: what the report's metrics are averaged from. */
#ifndef SOOTHE_FIGURES_H
#define SOOTHE_FIGURES_H

#include "eval/eval.h"
#include "eval/resample.h"

enum soothe__metric {
    SOOTHE__EMT,
    SOOTHE__TP,
    SOOTHE__MEAN,
    SOOTHE__GREEDY1,
    SOOTHE__PPL,
    SOOTHE__PPL_RESPONSE,
    SOOTHE__DIST1,
    SOOTHE__DIST2,
    SOOTHE__DIST3,
    SOOTHE__EMPTY,
    SOOTHE__TOKENS_PER_SAMPLE,
    SOOTHE__LOOPS,
    SOOTHE__N_METRICS,
    SOOTHE__N_FIRST  = SOOTHE__EMPTY, /* the ones that every report has; earlier versions had no others */
    SOOTHE__N_SCORED = SOOTHE__PPL    /* the first ones come of scores: every scorer has its own */
};
extern const char *const soothe__metric_names[SOOTHE__N_METRICS];
extern const char *const soothe__metric_definitions[SOOTHE__N_METRICS];

/* Sums of one metric for every prompt of a method; see resample.h. */
struct soothe__columns {
    double *x, *w; /* (n) */
};

struct soothe__worst {
    double score;
    size_t i_prompt, i_sample;
    char  *text;
};
enum { SOOTHE__N_WORST = 20 };

/* One method's. */
struct soothe__method_figures {
    struct soothe__columns metrics[SOOTHE__N_METRICS];
    struct soothe__columns scored[SOOTHE__EVAL_SCORERS_MAX][SOOTHE__N_SCORED]; /* by scorer; [0] is in metrics */
    uint32_t            *n_nulls[SOOTHE__EVAL_SCORERS_MAX]; /* by scorer, then prompt: continuations without a score */
    size_t               n_samples, n_tokens;
    size_t               n_unmeasured; /* continuations that were to have a perplexity and did not fit the model */
    json_t              *null_reasons[SOOTHE__EVAL_SCORERS_MAX]; /* by scorer: {reason: count} */
    struct soothe__worst worst[SOOTHE__N_WORST];
    size_t               n_worst;
    struct soothe__columns refusals, identical_tokens, identical_texts, benign_mean, benign_tp; /* (n benign) */
    size_t                 n_benign_nulls;
    llama_token          **greedy; /* (n benign) tokens of the greedy continuations, compared at the end */
    int32_t               *n_greedy;
    struct soothe__columns corpus; /* (n corpus texts) nll and tokens */
};

/* Of a report, whose methods and scorers may be those of several runs. */
struct soothe__figures {
    struct soothe__eval_plan       plan;    /* n_scorers with those of rescore */
    char                         **prompts; /* texts */
    int8_t                        *toxic;   /* (n prompts) 1, 0, -1 unknown */
    struct soothe__method_figures *methods;
    uint8_t                       *seen; /* (methods, items of all kinds) counted records */
};

/* Where the records of a run stand among the figures. What stands nowhere does not count, nor do items beyond the
 * plan's. */
struct soothe__figures_view {
    size_t n_scorers; /* of a record */
    size_t n_ppl_samples;
    size_t methods[SOOTHE__EVAL_METHODS_MAX], scorers[SOOTHE__EVAL_SCORERS_MAX]; /* of the run; or SOOTHE__NOWHERE */
};
#define SOOTHE__NOWHERE SIZE_MAX

/* Every one stands at its own number. */
struct soothe__figures_view soothe__figures_view_whole(const struct soothe__eval_plan *plan);

/* errors  SOOTHE_E_MEMORY */
enum soothe_status soothe__figures_init(struct soothe__figures *f, const struct soothe__eval_plan *plan,
                                        struct soothe_error *err);
/* Takes a record in; in whatever order they come, the figures are the same.
 * errors  SOOTHE_E_MEMORY; SOOTHE_E_FORMAT a record that is there twice */
enum soothe_status soothe__figures_add(struct soothe__figures *f, const struct soothe__figures_view *view,
                                       const struct soothe__eval_record *r, struct soothe_error *err);
/* Takes in a scorer's scores of a record's samples (n_samples) and of its greedy continuation. */
void soothe__figures_add_scores(struct soothe__figures *f, size_t i_scorer, size_t i_method, size_t i_prompt,
                                const double *scores, size_t n_samples, double greedy);
/* Counts the reason of one of its nulls; NULL or "": none is known. */
void soothe__figures_add_reason(struct soothe__figures *f, size_t i_scorer, size_t i_method, const char *why);
/* To be called after the last record: what compares methods with one another. */
void soothe__figures_finish(struct soothe__figures *f);
void soothe__figures_free(struct soothe__figures *f); /* also of a zeroed one */

/* ---- what they are made of; for tests ----------------------------------------------------------------------- */

/* Unique over all n-grams of words between white space, within each text; NaN without any. */
double soothe__distinct(const char *const *texts, size_t n_texts, size_t n);
/* Does it go round in circles: 8 tokens or more, and less than three fifths of the pairs of neighbours distinct? Of
 * tokens, since words hide it: "2-3, 3-4, 4-5" has no word twice. */
bool soothe__loops(const llama_token *tokens, int32_t n);
/* Does a text begin as a refusal does? */
bool        soothe__is_refusal(const char *text);
const char *soothe__refusal_openings(void);

#endif /* SOOTHE_FIGURES_H */
