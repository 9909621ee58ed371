/* SPDX-License-Identifier: Apache-2.0
 * Bootstrap over prompts (Efron & Tibshirani 1993, ch. 13: percentile intervals). The same resamples serve every
 * figure of every method, so that differences between methods are paired by prompt.
 *
 * A figure is sum(x) / sum(w) over the prompts, exp of it where so said: a mean where w is 1, 0 where a prompt has
 * no value; a rate pooled over tokens where w counts them. */
#ifndef SOOTHE_RESAMPLE_H
#define SOOTHE_RESAMPLE_H

#include "base/statistics.h"

struct soothe__series {
    const double *x, *w; /* (n); x counts only where w > 0 */
    bool          exponential;
};

struct soothe__resamples {
    size_t   n, n_resamples;
    uint8_t *counts; /* (n_resamples, n) how often a prompt was drawn */
};

/* errors  SOOTHE_E_MEMORY */
enum soothe_status soothe__resamples_draw(struct soothe__resamples *r, size_t n, size_t n_resamples, uint64_t seed,
                                          struct soothe_error *err);
void               soothe__resamples_free(struct soothe__resamples *r); /* also of a zeroed one */

/* What of two series: a alone, b - a, or b / a - 1. Prompts that one of two lacks count for neither. */
enum soothe__contrast { SOOTHE__VALUE, SOOTHE__DIFFERENCE, SOOTHE__RELATIVE };

/* 95 % interval; all NaN where there is no value. b is looked at for contrasts only.
 * errors  SOOTHE_E_MEMORY */
enum soothe_status soothe__resampled(struct soothe__interval *out, const struct soothe__resamples *r,
                                     const struct soothe__series *a, const struct soothe__series *b,
                                     enum soothe__contrast contrast, struct soothe_error *err);

#endif /* SOOTHE_RESAMPLE_H */
