/* SPDX-License-Identifier: Apache-2.0
 * LLM-Lasso: how far to trust given penalty factors, decided by cross-validation.
 *
 * Factors w_j > 0 (small: the feature is held to matter) give the weights w_j^i, i = 0..i_max, each brought to sum q,
 * so that lambda means the same. i = 0 is the plain Lasso, a larger i trusts the factors more. For every i the whole
 * path is fitted to all rows, which tells how many features each lambda selects, and to K folds, which tell the error.
 * A curve is the best error at each number of features; the gain of i is the area between plain's curve and its own.
 *
 * Legend: n rows, q features, K folds, L lambdas. Source: Zhang et al., "LLM-Lasso" (arXiv 2502.10648), our choices
 * and what differs from its code: docs/methods/llm-lasso.md. */
#ifndef SOOTHE_LASSO_PATH_H
#define SOOTHE_LASSO_PATH_H

#include <signal.h>

#include "lasso/weighted_lasso.h"

enum { SOOTHE__POWERS_MAX = 10 };

struct soothe__llm_lasso_options {
    enum soothe__lasso_family family;
    int32_t                   max_power;        /* i_max, 0..SOOTHE__POWERS_MAX; 5                             */
    int32_t                   n_folds;          /* K >= 2; 10                                                  */
    int32_t                   n_lambdas;        /* L >= 2; 100, spaced evenly in log lambda                    */
    double                    lambda_min_ratio; /* smallest over largest lambda; 0.01                          */
    double                    guard;            /* i > 0 needs a gain of so many standard errors, and a best loss
                                                       not above plain's; 1. 0: the paper's rule, the largest gain */
    uint64_t               seed;                /* of the folds                                                */
    int32_t                n_threads;           /* 0: all; without effect on any figure                        */
    bool                   show_progress;       /* on stderr                                                   */
    volatile sig_atomic_t *interrupted;         /* NULL, or a flag that ends the work (SOOTHE_E_INTERRUPTED)   */
};
struct soothe__llm_lasso_options soothe__llm_lasso_defaults(void);

/* One i. */
struct soothe__lasso_trust {
    int32_t                   power;
    double                   *w;                /* (q) weights, sum q                                         */
    struct soothe__lasso_path path;             /* fitted to all rows; n_points also counts the arrays below  */
    double                   *cv_loss;          /* (n_points) mean over folds of the mean loss of the held-out rows */
    double                   *fold_loss;        /* (K x n_points)                                           */
    size_t                    best;             /* point of the least cv_loss                               */
    double                    gain, gain_error; /* area above its own and below plain's curve, per feature of width;
                                                   mean over folds and its standard error; of i = 0: 0 */
};

struct soothe__llm_lasso {
    size_t                     n_trusts, n_folds;
    struct soothe__lasso_trust trusts[SOOTHE__POWERS_MAX + 1]; /* [0] is plain                              */
    size_t                     proposed;   /* of the largest gain among those that may be chosen             */
    size_t                     chosen;     /* proposed, or 0 where its gain is not above the guard           */
    size_t                     n_compared; /* the curves are compared from 0 to so many features            */
};

/* factors   (q) finite, > 0
 * errors    SOOTHE_E_ARGUMENT options out of range, a class with fewer rows than folds, factors not above 0;
 *           SOOTHE_E_NUMERIC; SOOTHE_E_MEMORY; SOOTHE_E_INTERRUPTED */
enum soothe_status soothe__llm_lasso(struct soothe__llm_lasso *result, const struct soothe__design *x, const double *y,
                                     const double *factors, const struct soothe__llm_lasso_options *options,
                                     struct soothe_error *err);
void               soothe__llm_lasso_free(struct soothe__llm_lasso *result); /* also of a zeroed one */

/* Deals n rows into n_parts parts of equal size; binomial: each class for itself, so that all parts have their share.
 * part (n) < n_parts.  errors  SOOTHE_E_MEMORY */
enum soothe_status soothe__deal_rows(uint32_t *part, const double *y, size_t n, uint32_t n_parts,
                                     enum soothe__lasso_family family, struct soothe__rng *rng,
                                     struct soothe_error *err);

/* The point of least cv_loss among those with at most n_features terms; the first point always qualifies. */
size_t soothe__lasso_best_within(const struct soothe__lasso_trust *trust, size_t n_features);

#endif /* SOOTHE_LASSO_PATH_H */
