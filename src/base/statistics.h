/* SPDX-License-Identifier: Apache-2.0
 * Figures of scores and samples: ranking, calibration, resampling. n = 0 and one-class input give NaN. */
#ifndef SOOTHE_STATISTICS_H
#define SOOTHE_STATISTICS_H

#include "base/base.h"

/* Area under the ROC curve: the chance that a positive scores above a negative, ties counting half (Mann-Whitney).
 * scores, labels (n), labels 0 or 1; NaN when out of memory. */
double soothe__roc_auc(const double *scores, const unsigned char *labels, size_t n);

/* One bin of a reliability diagram. */
struct soothe__bin {
    size_t n;
    double mean_score, rate; /* mean predicted probability, share of positives; 0 where n is 0 */
};
/* Expected calibration error over n_bins bins of equal width of the score (Naeini et al. 2015; Guo et al. 2017):
 * sum n_b/n |rate_b - mean_score_b|. bins (n_bins) may be NULL. */
double soothe__calibration_error(const double *scores, const unsigned char *labels, size_t n, size_t n_bins,
                                 struct soothe__bin *bins);

/* A value and its interval. */
struct soothe__interval {
    double value, lo, hi;
};

/* Percentile bootstrap of the mean of x (n), level 0.95 for 95 %; n_resamples resamples of n with replacement drawn by
 * rng. With the differences of two methods on the same prompts as x: the paired interval.
 * errors  SOOTHE_E_MEMORY */
enum soothe_status soothe__bootstrap_mean(struct soothe__interval *out, const double *x, size_t n, double level,
                                          size_t n_resamples, struct soothe__rng *rng, struct soothe_error *err);
/* The same of sum(x)/sum(weights), resampled together (perplexity per token, pooled rates). */
enum soothe_status soothe__bootstrap_ratio(struct soothe__interval *out, const double *x, const double *weights,
                                           size_t n, double level, size_t n_resamples, struct soothe__rng *rng,
                                           struct soothe_error *err);

/* q-th quantile (linear interpolation between order statistics) of sorted x. */
double soothe__quantile_sorted(const double *x, size_t n, double q);

#endif /* SOOTHE_STATISTICS_H */
