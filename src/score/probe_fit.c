/* SPDX-License-Identifier: Apache-2.0
 * Linear discriminant in closed form from streamed sums. */
#include "score/probe_fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- sums ---------------------------------------------------------------------------------------------- */

enum soothe_status soothe__scatter_init(struct soothe__scatter *s, int32_t d, struct soothe_error *err) {
    memset(s, 0, sizeof *s);
    const size_t n = (size_t)d;
    s->d           = d;
    s->shift       = soothe__calloc(n, sizeof *s->shift);
    s->sum[0]      = soothe__calloc(n, sizeof *s->sum[0]);
    s->sum[1]      = soothe__calloc(n, sizeof *s->sum[1]);
    s->product     = soothe__calloc(n, n * sizeof *s->product);
    s->block       = soothe__calloc(SOOTHE__SCATTER_BLOCK * n, sizeof *s->block);
    if (!s->shift || !s->sum[0] || !s->sum[1] || !s->product || !s->block) {
        soothe__scatter_free(s);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the covariance of %d features", d);
    }
    return SOOTHE_OK;
}

void soothe__scatter_free(struct soothe__scatter *s) {
    free(s->shift);
    free(s->sum[0]);
    free(s->sum[1]);
    free(s->product);
    free(s->block);
    memset(s, 0, sizeof *s);
}

/* A block's outer products are summed in f32, 64 terms at most, and added in double: twice as fast. */
static void add_block(struct soothe__scatter *s) {
    const size_t d = (size_t)s->d;
#pragma omp parallel for schedule(dynamic, 16)
    for (size_t i = 0; i < d; i++) {
        double *out = s->product + i * d;
        for (size_t j0 = 0; j0 <= i; j0 += 64) {
            const size_t n        = i + 1 - j0 < 64 ? i + 1 - j0 : 64;
            float        sums[64] = {0};
            for (int32_t k = 0; k < s->n_block; k++) {
                const float *x = s->block + (size_t)k * d;
                const float  a = x[i];
                for (size_t j = 0; j < n; j++)
                    sums[j] += a * x[j0 + j];
            }
            for (size_t j = 0; j < n; j++)
                out[j0 + j] += (double)sums[j];
        }
    }
    s->n_block = 0;
}

void soothe__scatter_add(struct soothe__scatter *s, const float *state, unsigned char label) {
    const int c = label != 0;
    if (s->n[0] + s->n[1] == 0)
        for (int32_t i = 0; i < s->d; i++)
            s->shift[i] = (double)state[i];
    float *x = s->block + (size_t)s->n_block * (size_t)s->d;
    for (int32_t i = 0; i < s->d; i++) {
        const double centred = (double)state[i] - s->shift[i];
        s->sum[c][i] += centred;
        x[i] = (float)centred;
    }
    s->n[c] += 1;
    if (++s->n_block == SOOTHE__SCATTER_BLOCK)
        add_block(s);
}

/* ---- solving --------------------------------------------------------------------------------------------- */

static double dot(const double *a, const double *b, int32_t n) {
    double  s[4] = {0}; /* four sums, so that they may run beside one another */
    int32_t i    = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++)
            s[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        s[0] += a[i] * b[i];
    return s[0] + s[1] + (s[2] + s[3]);
}

bool soothe__cholesky_solve(double *a, int32_t n, double *x) {
    const size_t d = (size_t)n;
    for (int32_t i = 0; i < n; i++) {
        double *row_i = a + (size_t)i * d;
        for (int32_t j = 0; j <= i; j++) {
            const double *row_j = a + (size_t)j * d;
            const double  v     = row_i[j] - dot(row_i, row_j, j);
            if (j < i)
                row_i[j] = v / row_j[j];
            else if (!(v > 0) || !isfinite(v))
                return false;
            else
                row_i[i] = sqrt(v);
        }
    }
    for (int32_t i = 0; i < n; i++)
        x[i] = (x[i] - dot(a + (size_t)i * d, x, i)) / a[(size_t)i * d + (size_t)i];
    for (int32_t i = n - 1; i >= 0; i--) {
        x[i] /= a[(size_t)i * d + (size_t)i];
        for (int32_t j = 0; j < i; j++)
            x[j] -= a[(size_t)i * d + (size_t)j] * x[i];
    }
    return true;
}

/* S of probe_fit.h; the features that never vary get variance 1, and so weight 0. */
static void covariance(const struct soothe__scatter *s, double shrinkage, double *out) {
    const size_t d       = (size_t)s->d;
    const double n       = s->n[0] + s->n[1];
    const double freedom = n > 2 ? n - 2 : 1;
    for (size_t i = 0; i < d; i++) {
        for (size_t j = 0; j <= i; j++) {
            double v = s->product[i * d + j];
            for (int c = 0; c < 2; c++)
                v -= s->sum[c][i] * s->sum[c][j] / s->n[c];
            out[i * d + j] = v / freedom * (i == j ? 1.0 : 1.0 - shrinkage);
        }
        if (!(out[i * d + i] > 0))
            out[i * d + i] = 1;
    }
}

enum soothe_status soothe__lda_fit(struct soothe__scatter *s, double shrinkage, double *w, double *b,
                                   struct soothe_error *err) {
    const size_t d = (size_t)s->d;
    if (!(s->n[0] > 0) || !(s->n[1] > 0))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a probe needs toxic and clean texts to learn from; %s are missing",
                            s->n[1] > 0 ? "clean ones" : "toxic ones");
    add_block(s);
    double *a = soothe__calloc(d, d * sizeof *a);
    if (!a)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the covariance of %d features", s->d);
    covariance(s, shrinkage, a);
    for (size_t i = 0; i < d; i++)
        w[i] = s->sum[1][i] / s->n[1] - s->sum[0][i] / s->n[0];
    const bool solved = soothe__cholesky_solve(a, s->d, w);
    free(a);
    if (!solved)
        return soothe__fail(err, SOOTHE_E_NUMERIC, "the states' covariance is singular: shrink it more than by %g",
                            shrinkage);
    *b = 0;
    for (size_t i = 0; i < d; i++)
        *b -= w[i] * (s->shift[i] + (s->sum[1][i] / s->n[1] + s->sum[0][i] / s->n[0]) / 2);
    return SOOTHE_OK;
}
