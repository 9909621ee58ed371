/* SPDX-License-Identifier: Apache-2.0 */
#include "base/statistics.h"

#include <math.h>
#include <stdlib.h>

struct scored {
    double        score;
    unsigned char label;
};

static int by_score(const void *a, const void *b) {
    const double x = ((const struct scored *)a)->score, y = ((const struct scored *)b)->score;
    return (x > y) - (x < y);
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double soothe__roc_auc(const double *scores, const unsigned char *labels, size_t n) {
    struct scored *s = soothe__calloc(n + 1, sizeof *s);
    if (!s)
        return NAN;
    for (size_t i = 0; i < n; i++)
        s[i] = (struct scored){scores[i], labels[i]};
    qsort(s, n, sizeof *s, by_score);
    double n_negative = 0, n_positive = 0, pairs = 0; /* pairs won by the positive */
    for (size_t i = 0, end; i < n; i = end) {
        double positive = 0, negative = 0;
        for (end = i; end < n && s[end].score <= s[i].score; end++)
            *(s[end].label ? &positive : &negative) += 1;
        if (end == i) /* a NaN */
            break;
        pairs += positive * (n_negative + 0.5 * negative);
        n_positive += positive;
        n_negative += negative;
    }
    const bool all = n_positive + n_negative == (double)n;
    free(s);
    return all && n_positive > 0 && n_negative > 0 ? pairs / (n_positive * n_negative) : NAN;
}

double soothe__calibration_error(const double *scores, const unsigned char *labels, size_t n, size_t n_bins,
                                 struct soothe__bin *bins) {
    struct soothe__bin *b = soothe__calloc(n_bins + 1, sizeof *b);
    if (!b || n == 0 || n_bins == 0) {
        free(b);
        return NAN;
    }
    for (size_t i = 0; i < n; i++) {
        const double at    = scores[i] * (double)n_bins;
        const size_t i_bin = !(at > 0) ? 0 : at >= (double)n_bins ? n_bins - 1 : (size_t)at;
        b[i_bin].n++;
        b[i_bin].mean_score += scores[i];
        b[i_bin].rate += labels[i] ? 1 : 0;
    }
    double error = 0;
    for (size_t i = 0; i < n_bins; i++) {
        error += fabs(b[i].rate - b[i].mean_score) / (double)n;
        if (b[i].n) {
            b[i].mean_score /= (double)b[i].n;
            b[i].rate /= (double)b[i].n;
        }
        if (bins)
            bins[i] = b[i];
    }
    free(b);
    return error;
}

double soothe__quantile_sorted(const double *x, size_t n, double q) {
    if (n == 0)
        return NAN;
    const double at = q * (double)(n - 1);
    const size_t i  = at <= 0 ? 0 : (size_t)at;
    return i + 1 >= n ? x[n - 1] : x[i] + (at - (double)i) * (x[i + 1] - x[i]);
}

enum soothe_status soothe__bootstrap_ratio(struct soothe__interval *out, const double *x, const double *weights,
                                           size_t n, double level, size_t n_resamples, struct soothe__rng *rng,
                                           struct soothe_error *err) {
    double sum = 0, total = 0;
    *out         = (struct soothe__interval){NAN, NAN, NAN};
    double *seen = soothe__calloc(n_resamples + 1, sizeof *seen);
    if (!seen || n > UINT32_MAX) {
        free(seen);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu resamples", n_resamples);
    }
    for (size_t i = 0; i < n; i++) {
        sum += x[i];
        total += weights ? weights[i] : 1;
    }
    size_t n_seen = 0;
    for (size_t k = 0; n > 0 && k < n_resamples; k++) {
        double s = 0, w = 0;
        for (size_t i = 0; i < n; i++) {
            const uint32_t pick = soothe__rng_below(rng, (uint32_t)n);
            s += x[pick];
            w += weights ? weights[pick] : 1;
        }
        if (w != 0)
            seen[n_seen++] = s / w;
    }
    qsort(seen, n_seen, sizeof *seen, ascending);
    if (total != 0)
        *out = (struct soothe__interval){sum / total, soothe__quantile_sorted(seen, n_seen, (1 - level) / 2),
                                         soothe__quantile_sorted(seen, n_seen, (1 + level) / 2)};
    free(seen);
    return SOOTHE_OK;
}

enum soothe_status soothe__bootstrap_mean(struct soothe__interval *out, const double *x, size_t n, double level,
                                          size_t n_resamples, struct soothe__rng *rng, struct soothe_error *err) {
    return soothe__bootstrap_ratio(out, x, NULL, n, level, n_resamples, rng, err);
}
