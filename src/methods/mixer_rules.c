/* SPDX-License-Identifier: Apache-2.0
 * The mixing rules: arithmetic on rows of logits. scripts/mixer_reference.py computes the same in NumPy. */
#include <math.h>
#include <stdlib.h>

#include "base/sigmoid.h"
#include "generate/shortlist.h"
#include "methods/mixer.h"

/* ---- thresholds ---------------------------------------------------------------------------------------- */

struct weighted {
    float value, weight;
};

static int descending(const void *x, const void *y) {
    const float a = ((const struct weighted *)x)->value, b = ((const struct weighted *)y)->value;
    return (a < b) - (a > b);
}

enum { N_BINS = 4096 };

static int32_t bin_of(float value, float hi, float per_bin) {
    const float at = (hi - value) * per_bin;
    return at < (float)(N_BINS - 1) ? (int32_t)at : N_BINS - 1;
}

/* Within the bin at which the mass is reached the values are sorted. */
static float tail_within(const float *values, const float *weights, int32_t n, float hi, float per_bin, int32_t bin,
                         double mass, double above) {
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++)
        count += values[i] > -INFINITY && bin_of(values[i], hi, per_bin) == bin;
    struct weighted *members = soothe__calloc((size_t)count + 1, sizeof *members);
    if (!members)
        return NAN;
    count = 0;
    for (int32_t i = 0; i < n; i++)
        if (values[i] > -INFINITY && bin_of(values[i], hi, per_bin) == bin)
            members[count++] = (struct weighted){values[i], weights[i]};
    qsort(members, (size_t)count, sizeof *members, descending);
    int32_t i = 0;
    while (i < count && (above += (double)members[i].weight) < mass)
        i++;
    const float t = members[i < count ? i : count - 1].value;
    free(members);
    return t;
}

/* A histogram finds the neighbourhood, so that the vocabulary is never sorted. */
float soothe__weighted_tail(const float *values, const float *weights, int32_t n, double mass) {
    double sums[N_BINS] = {0}, above = 0;
    float  lo = INFINITY, hi = -INFINITY;
    for (int32_t i = 0; i < n; i++)
        if (values[i] > -INFINITY) {
            lo = values[i] < lo ? values[i] : lo;
            hi = values[i] > hi ? values[i] : hi;
        }
    if (!(hi > lo))
        return lo;
    const float per_bin = (float)N_BINS / (hi - lo);
    for (int32_t i = 0; i < n; i++)
        if (values[i] > -INFINITY)
            sums[bin_of(values[i], hi, per_bin)] += (double)weights[i];
    int32_t bin = 0;
    while (bin < N_BINS && above + sums[bin] < mass)
        above += sums[bin++];
    return bin == N_BINS ? lo : tail_within(values, weights, n, hi, per_bin, bin, mass, above);
}

static enum soothe_status no_memory(struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory mixing logits");
}

static enum soothe_status no_numbers(struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_NUMERIC, "logits to be mixed are no finite numbers: damaged weights?");
}

/* softmax(z) into p; false where z has none. */
static bool softmax(const float *z, int32_t n, float *p) {
    const double lse = soothe__log_sum_exp(z, n);
    for (int32_t i = 0; i < n; i++)
        p[i] = expf(z[i] - (float)lse);
    return isfinite(lse);
}

/* ---- the rules ------------------------------------------------------------------------------------------ */

enum soothe_status soothe__mix_contrast(float *z, int32_t n, const float *plus, const float *minus, float a,
                                        float top_p, struct soothe_error *err) {
    float threshold = -INFINITY;
    if (top_p < 1) {
        float     *p   = soothe__calloc((size_t)n, sizeof *p);
        const bool ok  = p && softmax(z, n, p);
        const bool bad = p && !ok;
        threshold      = ok ? soothe__weighted_tail(z, p, n, (double)top_p) : NAN;
        free(p);
        if (!ok || isnan(threshold))
            return bad ? no_numbers(err) : no_memory(err);
    }
    for (int32_t i = 0; i < n; i++) {
        const float old = z[i];
        if (old < threshold)
            z[i] = -INFINITY;
        else if (old > -INFINITY) /* what a stage before has banned stays banned */
            z[i] = old + a * ((plus ? plus[i] : old) - (minus ? minus[i] : old));
    }
    return SOOTHE_OK;
}

void soothe__mix_within(float *z, int32_t n, const llama_token_data *nucleus, size_t n_nucleus, const float *difference,
                        float a) {
    for (int32_t i = 0; i < n; i++)
        z[i] = -INFINITY;
    for (size_t k = 0; k < n_nucleus; k++)
        z[nucleus[k].id] = nucleus[k].logit + a * difference[k];
}

void soothe__mix_soften(const llama_token_data *nucleus, size_t n, float *difference, float a, float slack) {
    double sum = 0, mean = 0;
    for (size_t i = 0; i < n; i++) {
        const double p = exp((double)(nucleus[i].logit - nucleus[0].logit));
        sum += p;
        mean += p * (double)difference[i];
    }
    mean /= sum;
    for (size_t i = 0; i < n; i++) {
        const float shift = a * (difference[i] - (float)mean) + slack;
        difference[i]     = shift < 0 ? shift : 0;
    }
}

enum soothe_status soothe__mix_self_debias(float *z, int32_t n, const float *const *z_k, int32_t n_k, float lambda,
                                           float eps, struct soothe_error *err) {
    const double lse     = soothe__log_sum_exp(z, n);
    const float  most    = -logf(eps);
    float       *largest = soothe__calloc((size_t)n, sizeof *largest); /* max over k of log p_k */
    bool         finite  = isfinite(lse);
    /* e^-23 is 1e-10: what lies below moves z by less than lambda 1e-10, under a float's resolution. */
    const float negligible = -23.0f;
    if (!largest)
        return no_memory(err);
    for (int32_t k = 0; k < n_k; k++) {
        const float lse_k = (float)soothe__log_sum_exp(z_k[k], n);
        finite            = finite && isfinite(lse_k);
        for (int32_t i = 0; i < n; i++) {
            const float log_p = z_k[k][i] - lse_k;
            largest[i]        = k == 0 || log_p > largest[i] ? log_p : largest[i];
        }
    }
    for (int32_t i = 0; i < n && finite; i++) {
        const float log_p = z[i] - (float)lse;
        if (largest[i] <= log_p || largest[i] < negligible)
            continue;
        const float d = lambda * (expf(largest[i]) - expf(log_p));
        z[i] -= d < most ? d : most; /* log max(exp(-lambda D), eps) */
    }
    free(largest);
    return finite ? SOOTHE_OK : no_numbers(err);
}

enum soothe_status soothe__mix_gedi(float *z, int32_t n, const float *desired, const float *undesired,
                                    const double sums[2], int32_t length, const struct soothe__gedi *g,
                                    struct soothe_error *err) {
    const double lse_0 = soothe__log_sum_exp(desired, n), lse_1 = soothe__log_sum_exp(undesired, n);
    float       *p = soothe__calloc((size_t)n, 2 * sizeof *p), *odds = p + n; /* log-odds of the undesired */
    if (!p)
        return no_memory(err);
    if (!softmax(z, n, p) || !isfinite(lse_0) || !isfinite(lse_1)) {
        free(p);
        return no_numbers(err);
    }
    for (int32_t i = 0; i < n; i++) {
        const double difference = sums[0] + (double)desired[i] - lse_0 - sums[1] - (double)undesired[i] + lse_1;
        odds[i]                 = -(float)((double)g->scale * difference / length + (double)g->bias);
    }
    /* The least desired first: the tail is what weighs less than filter_p, each token counted with itself. */
    const float threshold = soothe__weighted_tail(odds, p, n, (double)g->filter_p);
    const float target    = g->target_p > 0 && g->target_p < 1 ? -logf(g->target_p / (1 - g->target_p))
                            : g->target_p >= 1                 ? -INFINITY
                                                               : INFINITY;
    for (int32_t i = 0; i < n; i++)
        if (odds[i] > threshold && odds[i] > target)
            z[i] = -INFINITY;
        else
            z[i] -= g->omega * (odds[i] > 0 ? odds[i] + log1pf(expf(-odds[i])) : log1pf(expf(odds[i])));
    free(p);
    return isnan(threshold) ? no_memory(err) : SOOTHE_OK;
}

void soothe__mix_success(float *z, int32_t n, const float *g, float offset, float strength) {
    for (int32_t i = 0; i < n; i++) {
        const float x = g[i] + offset;
        z[i] -= strength * (x > 0 ? log1pf(expf(-x)) : log1pf(expf(x)) - x);
    }
}
