/* SPDX-License-Identifier: Apache-2.0
 * Logistic regression with an L2 penalty on sparse rows. Arrays in, arrays out.
 *
 *     loss(w, b) = sum_i c_i [ log(1 + exp(z_i)) - y_i z_i ] + |w|^2 / (2 C),   z_i = b + sum_j x_ij s_j w_j
 *
 * Within a row the columns come in groups, all of a group with the same value: that is what normalised indicator
 * features are, and it saves an array as large as the columns. The sums are taken in the same order with any number of
 * threads, so the result does not depend on it. */
#ifndef SOOTHE_LOGISTIC_H
#define SOOTHE_LOGISTIC_H

#include "score/minimise.h"

struct soothe__logistic {
    size_t          n_rows, n_groups, n_columns;
    const uint64_t *start; /* (n_rows * n_groups + 1) where a row's group begins in .columns */
    const uint32_t *columns;
    const float    *values; /* (n_rows * n_groups) x of every column of that group             */
    const float    *scales; /* (n_columns) s: a column of a larger scale is penalised less; NULL: 1 */
    const float    *labels; /* (n_rows) y in [0,1]                                             */
    const float    *costs;  /* (n_rows) c, 0 leaves a row out                                  */
    double          c;      /* C: the inverse of the penalty                                    */
    int             n_threads;
};

/* The loss at w (n_columns + 1, the bias b last) and its gradient there (n_columns + 1). NaN when out of memory. */
double soothe__logistic_loss(const struct soothe__logistic *p, const double *w, double *gradient);

/* w  (n_columns + 1) the start, and the result
 * errors  SOOTHE_E_MEMORY; SOOTHE_E_NUMERIC a loss that is not finite */
enum soothe_status soothe__logistic_fit(const struct soothe__logistic *p, double *w,
                                        const struct soothe__minimise_options *options,
                                        struct soothe__minimise_report *report, struct soothe_error *err);

#endif /* SOOTHE_LOGISTIC_H */
