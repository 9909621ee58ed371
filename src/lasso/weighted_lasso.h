/* SPDX-License-Identifier: Apache-2.0
 * The Lasso with a penalty weight of its own for every feature, for a whole path of lambda:
 *
 *     minimise over b0, b   (1/n) sum_i loss(y_i, b0 + x_i b) + lambda sum_j w_j |b_j|
 *
 * with columns of x brought to mean 0 and standard deviation 1 (divisor n) by their own rows; the intercept b0 is
 * not penalised. loss is half the squared error (gaussian) or the log loss of a logistic model (binomial).
 * Legend: n rows, q features, S(z, t) = sign(z) max(|z| - t, 0).
 *
 * Source: Friedman, Hastie, Tibshirani, "Regularization Paths for Generalized Linear Models via Coordinate Descent"
 * (2010); the strong rule: Tibshirani et al., "Strong Rules for Discarding Predictors in Lasso-type Problems" (2012).
 */
#ifndef SOOTHE_WEIGHTED_LASSO_H
#define SOOTHE_WEIGHTED_LASSO_H

#include "lasso/design.h"

enum soothe__lasso_family { SOOTHE__GAUSSIAN, SOOTHE__BINOMIAL };

struct soothe__lasso_problem {
    enum soothe__lasso_family    family;
    const struct soothe__design *x; /* (n x q) */
    const double                *y; /* (n); binomial: 0 or 1 */
    const double                *w; /* (q) > 0; NULL: all 1 */
};

struct soothe__lasso_term {
    uint32_t j;
    double   b; /* of the column as it is given; of the standardised one: b * sd[j] */
};

/* One solution of the path. */
struct soothe__lasso_point {
    double                     lambda, intercept;
    double                     loss; /* mean loss of the rows it was fitted to, without the penalty */
    size_t                     n_terms;
    struct soothe__lasso_term *terms; /* (n_terms) those that are not 0, by ascending j; owned */
};

struct soothe__lasso_path {
    size_t                      n_points;  /* fewer than lambdas when the path was ended early */
    struct soothe__lasso_point *points;    /* in the order of the lambdas                       */
    double                     *mean, *sd; /* (q) of the columns; sd 0: constant, never selected */
    bool                        gave_up;   /* ended because a solution was not reached           */
};

/* The smallest lambda at which no feature is selected.  errors  SOOTHE_E_MEMORY */
enum soothe_status soothe__lasso_lambda_max(double *lambda, const struct soothe__lasso_problem *problem,
                                            struct soothe_error *err);

/* The path, each solution starting from the one before.
 * lambdas    (n_lambdas) descending, > 0
 * tolerance  0: 1e-13. A solution is reached when no step would change b_j so far that its share of the loss's second
 *            order, x_j'Ux_j/n (change of b_j)^2, exceeds tolerance x loss of the null model
 * ends       early when less than 1/1000 of the null model's loss remains (a separable table has no finite end)
 * errors     SOOTHE_E_ARGUMENT only one value of y; SOOTHE_E_NUMERIC values that are not finite; SOOTHE_E_MEMORY
 * thread     any; the problem is only read */
enum soothe_status soothe__lasso_path(struct soothe__lasso_path *path, const struct soothe__lasso_problem *problem,
                                      const double *lambdas, size_t n_lambdas, double tolerance,
                                      struct soothe_error *err);
void               soothe__lasso_path_free(struct soothe__lasso_path *path); /* also of a zeroed one */

/* eta (n) = intercept + x b; x may be other rows than those that were fitted. */
void soothe__lasso_predict(double *eta, const struct soothe__lasso_point *point, const struct soothe__design *x);
/* Mean loss of predictions eta (n) for y (n). */
double soothe__lasso_loss(enum soothe__lasso_family family, const double *eta, const double *y, size_t n);

#endif /* SOOTHE_WEIGHTED_LASSO_H */
