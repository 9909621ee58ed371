/* SPDX-License-Identifier: Apache-2.0
 * The loops of training that are not matrix products, each over one row. Compiled for several
 * instruction sets; sums run in a fixed order, so results do not depend on the number of threads. */
#ifndef SOOTHE_KERNELS_H
#define SOOTHE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

float soothe__dot(const float *x, const float *y, size_t n);
void  soothe__add_scaled(float *y, const float *x, float scale, size_t n); /* y += scale x */
float soothe__max(const float *x, size_t n);

/* Sum of exp(z - top); and out = exp(z - top). */
float soothe__sum_exp(const float *z, float top, size_t n);
void  soothe__exp_shifted(float *out, const float *z, float top, size_t n);
/* out_bf16 or out_f32 (the other NULL) = exp(z - log_sum): a softmax whose log of the sum is known. */
void soothe__softmax(uint16_t *out_bf16, float *out_f32, const float *z, float log_sum, size_t n);
/* The same for p_f - p_t; returns KL(p_t || p_f) = sum p_t (log p_t - log p_f). */
double soothe__softmax_difference(uint16_t *out_bf16, float *out_f32, const float *z_f, float log_sum_f,
                                  const float *z_t, float log_sum_t, size_t n);

void soothe__to_bf16(uint16_t *out, const float *x, size_t n);
void soothe__from_bf16(float *out, const uint16_t *x, size_t n);

/* y = x * weight / rms(x); returns 1/rms. */
float soothe__rms_norm(float *y, const float *x, const float *weight, float eps, size_t n);
/* dx += gradient of the norm at x for the outer gradient dy; dweight += its share. */
void soothe__rms_norm_backward(float *dx, float *dweight, const float *dy, const float *x, const float *weight,
                               float inverse_rms, size_t n);

/* y = silu(gate) * up; and its gradients (dgate and dup are written, not added to). */
void soothe__silu_mul(float *y, const float *gate, const float *up, size_t n);
void soothe__silu_mul_backward(float *dgate, float *dup, const float *dy, const float *gate, const float *up, size_t n);

/* One AdamW update of n parameters: gradient scaled, moments m and v, bias corrections c1, c2 = 1 - beta^t. */
struct soothe__adamw {
    float lr, beta1, beta2, eps, decay, c1, c2, scale;
};
void soothe__adamw_update(float *w, float *m, float *v, const float *g, const struct soothe__adamw *a, size_t n);

#endif /* SOOTHE_KERNELS_H */
