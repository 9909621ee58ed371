/* SPDX-License-Identifier: Apache-2.0 */
#include "train/kernels.h"

#include <math.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MULTIVERSION
#endif

/* e^x to about 2 units in the last place for x <= 0, 0 below -87: 2^n times a polynomial on
 * [-ln 2/2, ln 2/2] (Taylor's, degree 6), which the compiler turns into vector code. */
static inline float exp_nonpositive(float x) {
    x             = x < -87.0f ? -87.0f : x;
    const float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* rounds to the nearest integer */
    const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;   /* ln 2 in two parts */
    float       p = 1.0f / 720.0f;
    p             = p * r + 1.0f / 120.0f;
    p             = p * r + 1.0f / 24.0f;
    p             = p * r + 1.0f / 6.0f;
    p             = p * r + 0.5f;
    p             = p * r + 1.0f;
    p             = p * r + 1.0f;
    union {
        uint32_t u;
        float    f;
    } power = {.u = ((uint32_t)(int32_t)n + 127u) << 23};
    return x <= -87.0f ? 0.0f : p * power.f;
}

static inline uint16_t bf16(float x) {
    union {
        float    f;
        uint32_t u;
    } v = {.f = x};
    return (uint16_t)((v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16);
}

MULTIVERSION float soothe__dot(const float *x, const float *y, size_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        sum += x[i] * y[i];
    }
    return sum;
}

MULTIVERSION void soothe__add_scaled(float *restrict y, const float *restrict x, float scale, size_t n) {
    for (size_t i = 0; i < n; i++) {
        y[i] += scale * x[i];
    }
}

MULTIVERSION float soothe__max(const float *x, size_t n) {
    float top = -INFINITY;
#pragma omp simd reduction(max : top)
    for (size_t i = 0; i < n; i++) {
        top = x[i] > top ? x[i] : top;
    }
    return top;
}

MULTIVERSION float soothe__sum_exp(const float *z, float top, size_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        sum += exp_nonpositive(z[i] - top);
    }
    return sum;
}

MULTIVERSION void soothe__exp_shifted(float *restrict out, const float *restrict z, float top, size_t n) {
    for (size_t i = 0; i < n; i++) {
        out[i] = exp_nonpositive(z[i] - top);
    }
}

MULTIVERSION void soothe__softmax(uint16_t *restrict out_bf16, float *restrict out_f32, const float *restrict z,
                                  float log_sum, size_t n) {
    if (out_bf16) {
        for (size_t i = 0; i < n; i++) {
            out_bf16[i] = bf16(exp_nonpositive(z[i] - log_sum));
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            out_f32[i] = exp_nonpositive(z[i] - log_sum);
        }
    }
}

MULTIVERSION double soothe__softmax_difference(uint16_t *restrict out_bf16, float *restrict out_f32,
                                               const float *restrict z_f, float log_sum_f, const float *restrict z_t,
                                               float log_sum_t, size_t n) {
    float kl = 0;
    if (out_bf16) {
#pragma omp simd reduction(+ : kl)
        for (size_t i = 0; i < n; i++) {
            const float log_f = z_f[i] - log_sum_f, log_t = z_t[i] - log_sum_t, p_t = exp_nonpositive(log_t);
            kl += p_t * (log_t - log_f);
            out_bf16[i] = bf16(exp_nonpositive(log_f) - p_t);
        }
    } else {
#pragma omp simd reduction(+ : kl)
        for (size_t i = 0; i < n; i++) {
            const float log_f = z_f[i] - log_sum_f, log_t = z_t[i] - log_sum_t, p_t = exp_nonpositive(log_t);
            kl += p_t * (log_t - log_f);
            out_f32[i] = exp_nonpositive(log_f) - p_t;
        }
    }
    return (double)kl;
}

MULTIVERSION void soothe__to_bf16(uint16_t *restrict out, const float *restrict x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        out[i] = bf16(x[i]);
    }
}

MULTIVERSION void soothe__from_bf16(float *restrict out, const uint16_t *restrict x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        union {
            uint32_t u;
            float    f;
        } v    = {.u = (uint32_t)x[i] << 16};
        out[i] = v.f;
    }
}

MULTIVERSION float soothe__rms_norm(float *restrict y, const float *restrict x, const float *restrict weight, float eps,
                                    size_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        sum += x[i] * x[i];
    }
    const float inverse = 1.0f / sqrtf(sum / (float)n + eps);
    for (size_t i = 0; i < n; i++) {
        y[i] = x[i] * inverse * weight[i];
    }
    return inverse;
}

MULTIVERSION void soothe__rms_norm_backward(float *restrict dx, float *restrict dweight, const float *restrict dy,
                                            const float *restrict x, const float *restrict weight, float inverse_rms,
                                            size_t n) {
    float along = 0; /* of the gradient along x */
#pragma omp simd reduction(+ : along)
    for (size_t i = 0; i < n; i++) {
        along += dy[i] * weight[i] * x[i];
    }
    const float back = along * inverse_rms * inverse_rms * inverse_rms / (float)n;
    for (size_t i = 0; i < n; i++) {
        dx[i] += dy[i] * weight[i] * inverse_rms - x[i] * back;
        dweight[i] += dy[i] * x[i] * inverse_rms;
    }
}

static inline float sigmoid(float x) {
    const float e = exp_nonpositive(x < 0 ? x : -x);
    return x < 0 ? e / (1.0f + e) : 1.0f / (1.0f + e);
}

MULTIVERSION void soothe__silu_mul(float *restrict y, const float *restrict gate, const float *restrict up, size_t n) {
    for (size_t i = 0; i < n; i++) {
        y[i] = gate[i] * sigmoid(gate[i]) * up[i];
    }
}

MULTIVERSION void soothe__silu_mul_backward(float *restrict dgate, float *restrict dup, const float *restrict dy,
                                            const float *restrict gate, const float *restrict up, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float s = sigmoid(gate[i]);
        dup[i]        = dy[i] * gate[i] * s;
        dgate[i]      = dy[i] * up[i] * s * (1.0f + gate[i] * (1.0f - s));
    }
}

MULTIVERSION void soothe__adamw_update(float *restrict w, float *restrict m, float *restrict v, const float *restrict g,
                                       const struct soothe__adamw *a, size_t n) {
    const float lr = a->lr, b1 = a->beta1, b2 = a->beta2, eps = a->eps, decay = 1.0f - a->lr * a->decay;
    const float c1 = 1.0f / a->c1, c2 = 1.0f / a->c2, scale = a->scale;
    for (size_t i = 0; i < n; i++) {
        const float gi = g[i] * scale;
        m[i]           = b1 * m[i] + (1.0f - b1) * gi;
        v[i]           = b2 * v[i] + (1.0f - b2) * gi * gi;
        w[i]           = w[i] * decay - lr * (m[i] * c1) / (sqrtf(v[i] * c2) + eps);
    }
}
