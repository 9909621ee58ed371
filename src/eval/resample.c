/* SPDX-License-Identifier: Apache-2.0 */
#include "eval/resample.h"

#include <math.h>
#include <stdlib.h>

enum soothe_status soothe__resamples_draw(struct soothe__resamples *r, size_t n, size_t n_resamples, uint64_t seed,
                                          struct soothe_error *err) {
    struct soothe__rng rng = soothe__rng_seed(seed, 0);
    *r                     = (struct soothe__resamples){.n = n, .n_resamples = n_resamples};
    if (n == 0)
        return SOOTHE_OK;
    r->counts = n <= UINT32_MAX ? soothe__calloc(n_resamples, n) : NULL;
    if (!r->counts)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu resamples of %zu prompts", n_resamples, n);
    for (size_t k = 0; k < n_resamples; k++) {
        for (size_t i = 0; i < n; i++) {
            uint8_t *count = &r->counts[k * n + soothe__rng_below(&rng, (uint32_t)n)];
            *count         = (uint8_t)(*count + (*count < UINT8_MAX)); /* 255 of n: not in the life of the universe */
        }
    }
    return SOOTHE_OK;
}

void soothe__resamples_free(struct soothe__resamples *r) {
    free(r->counts);
    *r = (struct soothe__resamples){.n = 0};
}

/* Numerators and denominators of a figure over a draw. */
struct sums {
    double xa, wa, xb, wb;
};

static void add(struct sums *s, const struct soothe__series *a, const struct soothe__series *b, size_t i,
                double times) {
    if (!(a->w[i] > 0) || (b && !(b->w[i] > 0)))
        return;
    s->xa += times * a->x[i];
    s->wa += times * a->w[i];
    if (b) {
        s->xb += times * b->x[i];
        s->wb += times * b->w[i];
    }
}

static double figure(double x, double w, bool exponential) {
    const double ratio = w > 0 ? x / w : (double)NAN;
    return exponential ? exp(ratio) : ratio;
}

static double value_of(const struct sums *s, bool exponential, enum soothe__contrast contrast) {
    const double a = figure(s->xa, s->wa, exponential);
    if (contrast == SOOTHE__VALUE)
        return a;
    const double b = figure(s->xb, s->wb, exponential);
    if (contrast == SOOTHE__DIFFERENCE)
        return b - a;
    return a != 0 ? b / a - 1 : (double)NAN;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum soothe_status soothe__resampled(struct soothe__interval *out, const struct soothe__resamples *r,
                                     const struct soothe__series *a, const struct soothe__series *b,
                                     enum soothe__contrast contrast, struct soothe_error *err) {
    struct sums all = {0};
    size_t      n   = 0;
    if (contrast == SOOTHE__VALUE)
        b = NULL;
    for (size_t i = 0; i < r->n; i++)
        add(&all, a, b, i, 1);
    *out       = (struct soothe__interval){NAN, NAN, NAN};
    out->value = value_of(&all, a->exponential, contrast);
    if (!isfinite(out->value))
        return SOOTHE_OK;
    double *values = soothe__calloc(r->n_resamples, sizeof *values);
    if (!values)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu resamples", r->n_resamples);
    for (size_t k = 0; k < r->n_resamples; k++) {
        struct sums    s      = {0};
        const uint8_t *counts = r->counts + k * r->n;
        for (size_t i = 0; i < r->n; i++)
            if (counts[i])
                add(&s, a, b, i, counts[i]);
        const double value = value_of(&s, a->exponential, contrast);
        if (isfinite(value)) /* a draw of nothing but prompts without a value tells nothing */
            values[n++] = value;
    }
    qsort(values, n, sizeof *values, compare);
    out->lo = soothe__quantile_sorted(values, n, 0.025);
    out->hi = soothe__quantile_sorted(values, n, 0.975);
    free(values);
    return SOOTHE_OK;
}
