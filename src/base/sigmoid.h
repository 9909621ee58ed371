/* SPDX-License-Identifier: Apache-2.0
 * The logistic function and the loss that belongs to it, without overflow. */
#ifndef SOOTHE_SIGMOID_H
#define SOOTHE_SIGMOID_H

#include <math.h>

/* 1 / (1 + e^-z) */
static inline double soothe__sigmoid(double z) {
    return z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
}

/* log(1 + e^z): what a clean text of log-odds z costs; a toxic one costs softplus(-z). */
static inline double soothe__softplus(double z) {
    return z > 0 ? z + log1p(exp(-z)) : log1p(exp(z));
}

#endif /* SOOTHE_SIGMOID_H */
