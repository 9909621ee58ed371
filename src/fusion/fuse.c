/* SPDX-License-Identifier: Apache-2.0
 * Output-layer fusion of one state. Legend: h_t (d_tgt) target, h_c (d_cal) calibrator,
 * A (d_cal, d_tgt), B (d_tgt, d_tgt), b (d_tgt), alpha strength. docs/fusion.md. */
#include <math.h>
#include <string.h>

#include "fusion/fusion.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define MULTIVERSION __attribute__((target_clones("avx512f", "avx2,fma", "default")))
#else
#define MULTIVERSION
#endif

/* out (n_out) += M^T x with M (n_in, n_out) row-major; four inputs at a time so that out is
 * read and written a quarter as often. */
MULTIVERSION
static void add_transposed_product(float *restrict out, const float *restrict m, const float *restrict x, int32_t n_in,
                                   int32_t n_out) {
    int32_t i = 0;
    for (; i + 4 <= n_in; i += 4) {
        const float *restrict r0 = m + (size_t)i * (size_t)n_out;
        const float *restrict r1 = r0 + n_out;
        const float *restrict r2 = r1 + n_out;
        const float *restrict r3 = r2 + n_out;
        const float x0 = x[i], x1 = x[i + 1], x2 = x[i + 2], x3 = x[i + 3];
        for (int32_t j = 0; j < n_out; j++) {
            out[j] += x0 * r0[j] + x1 * r1[j] + x2 * r2[j] + x3 * r3[j];
        }
    }
    for (; i < n_in; i++) {
        const float *restrict r = m + (size_t)i * (size_t)n_out;
        for (int32_t j = 0; j < n_out; j++) {
            out[j] += x[i] * r[j];
        }
    }
}

/* LayerNorm without weights, then scaled to the given norm (0: left at sqrt(n)). */
static void layer_norm(float *x, int32_t n, float norm) {
    double mean = 0, variance = 0;
    for (int32_t j = 0; j < n; j++) {
        mean += (double)x[j];
    }
    mean /= n;
    for (int32_t j = 0; j < n; j++) {
        variance += ((double)x[j] - mean) * ((double)x[j] - mean);
    }
    const double scale = (norm > 0 ? (double)norm / sqrt((double)n) : 1.0) / sqrt(variance / n + 1e-5);
    for (int32_t j = 0; j < n; j++) {
        x[j] = (float)(((double)x[j] - mean) * scale);
    }
}

static void fuse_paper(const struct soothe__fusion *f, float *h, const float *h_c, float alpha, float *u) {
    if (f->a) {
        memset(u, 0, (size_t)f->d_tgt * sizeof *u);
        add_transposed_product(u, f->a, h_c, f->d_cal, f->d_tgt);
        if (f->layer_norm) {
            layer_norm(u, f->d_tgt, f->state_norm);
        }
        h_c = u;
    }
    for (int32_t j = 0; j < f->d_tgt; j++) {
        h[j] = (1.0f - alpha) * h[j] + alpha * h_c[j];
    }
}

static void fuse_residual(const struct soothe__fusion *f, float *h, const float *h_c, float alpha, float *u) {
    if (f->bias) {
        memcpy(u, f->bias, (size_t)f->d_tgt * sizeof *u);
    } else {
        memset(u, 0, (size_t)f->d_tgt * sizeof *u);
    }
    if (f->a) {
        add_transposed_product(u, f->a, h_c, f->d_cal, f->d_tgt);
    }
    if (f->b) {
        add_transposed_product(u, f->b, h, f->d_tgt, f->d_tgt);
    }
    for (int32_t j = 0; j < f->d_tgt; j++) {
        h[j] += alpha * u[j];
    }
}

void soothe__fuse_row(const struct soothe__fusion *f, float *h, const float *h_c, float alpha, float *scratch) {
    if (alpha == 0.0f) {
        return;
    }
    if (f->form == SOOTHE_FORM_RESIDUAL) {
        fuse_residual(f, h, h_c, alpha, scratch);
    } else if (h_c) {
        fuse_paper(f, h, h_c, alpha, scratch);
    }
}
