/* SPDX-License-Identifier: Apache-2.0
 * Error against number of features, and the area between two such curves. */
#ifndef SOOTHE_TRUST_CURVE_H
#define SOOTHE_TRUST_CURVE_H

#include "lasso/lasso_path.h"

/* A curve: at n_features[p], ascending, the point of the path that has so many terms and the least cv_loss. */
struct soothe__trust_curve {
    size_t  n;
    size_t *n_features, *point; /* (n) */
};

enum soothe_status soothe__trust_curve(struct soothe__trust_curve *curve, const struct soothe__lasso_trust *trust,
                                       struct soothe_error *err);
void               soothe__trust_curve_free(struct soothe__trust_curve *curve);

/* The value at x by linear interpolation, beyond the last n_features its value there; loss (n_points) by point. */
double soothe__trust_curve_at(const struct soothe__trust_curve *curve, const double *loss, double x);

/* Fills gain and gain_error of all trusts and n_compared of the result. */
enum soothe_status soothe__compare_curves(struct soothe__llm_lasso *result, struct soothe_error *err);

#endif /* SOOTHE_TRUST_CURVE_H */
