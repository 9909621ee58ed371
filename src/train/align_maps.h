/* SPDX-License-Identifier: Apache-2.0
 * Linear maps between two spaces, fitted on pairs of rows (x, y): W (d_x, d_y) with x W close to y. Row-major
 * throughout. docs/alignment.md has the mathematics. */
#ifndef SOOTHE_ALIGN_MAPS_H
#define SOOTHE_ALIGN_MAPS_H

#include <signal.h>

#include "base/base.h"

struct soothe__rows_pair {
    const float *x, *y; /* (n, d_x), (n, d_y) */
    size_t       n;
    int32_t      d_x, d_y;
};

/* W = (X^T X + lambda t I)^-1 X^T Y with t = trace(X^T X) / d_x, so that lambda > 0 has the same sense in every space.
 */
enum soothe_status soothe__map_ridge(float *w, const struct soothe__rows_pair *p, double lambda,
                                     struct soothe_error *err);
/* W = s U V^T with X^T Y = U S V^T (of rank 0 directions nothing), s the best scale for it. */
enum soothe_status soothe__map_procrustes(float *w, const struct soothe__rows_pair *p, struct soothe_error *err);

/* InfoNCE: an anchor x_i, its own y_i and n_negatives other rows of Y; similarity is the cosine divided by temperature.
 */
struct soothe__contrastive {
    int32_t                      n_negatives, n_epochs, batch; /* 10, 8, 32 */
    double                       rate, temperature;            /* 1e-3, .1  */
    uint64_t                     seed;
    const volatile sig_atomic_t *stop;
};
struct soothe__contrastive soothe__contrastive_default(void);
/* From W ~ N(0, 1/d_x) by Adam (.9, .999, 1e-8); the scale, which cosines do not see, is the best one of |xW - y|². */
enum soothe_status soothe__map_contrastive(float *w, const struct soothe__rows_pair *p,
                                           const struct soothe__contrastive *options, double *loss,
                                           struct soothe_error *err);
/* The mean loss of n anchors, and its gradient by W added to gradient (d_x, d_y), which may be NULL.
 * candidates  (n, 1 + n_negatives) rows of Y, the first of each is the anchor's own
 * scratch     (n, 2, d_y);  losses  (n) of each anchor */
double soothe__contrastive_loss(float *gradient, const float *w, const struct soothe__rows_pair *p,
                                const uint32_t *anchors, const uint32_t *candidates, int32_t n, int32_t n_negatives,
                                double temperature, float *scratch, double *losses);

/* Multiplies W by the scale that brings XW closest to Y. */
void soothe__map_rescale(float *w, const struct soothe__rows_pair *p);

/* Of n rows x W: the share whose own y is the nearest by cosine among all n_all rows of all, or among the five nearest.
 * own  (n) places in all
 * state  n = 0: NaN */
enum soothe_status soothe__map_retrieval(double *top1, double *top5, const float *w, const struct soothe__rows_pair *p,
                                         const uint32_t *own, const float *all, size_t n_all, struct soothe_error *err);

/* C (m, n) = A (m, k) B (k, n). */
enum soothe_status soothe__map_product(float *c, const float *a, const float *b, int32_t m, int32_t k, int32_t n,
                                       struct soothe_error *err);

#endif /* SOOTHE_ALIGN_MAPS_H */
