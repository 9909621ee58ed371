/* SPDX-License-Identifier: Apache-2.0
 * Fitting a direction in the space of hidden states that tells toxic from clean: numbers in, numbers out.
 * Legend: n states of width d, labels 0 (clean) and 1 (toxic); a state h scores w.h + b. */
#ifndef SOOTHE_PROBE_FIT_H
#define SOOTHE_PROBE_FIT_H

#include "base/base.h"

/* ---- closed form: probe_fit.c -------------------------------------------------------------------------- */

/* Sums of states and of their outer products, so that no state need be kept: 8 d (d + 3) bytes. All sums are about
 * the first state seen, since some features of a residual stream are thousands of times larger than they vary. */
struct soothe__scatter {
    int32_t d;
    double  n[2];
    double *shift;   /* (d)                                    */
    double *sum[2];  /* (d) per class                          */
    double *product; /* (d, d), lower triangle                 */
    float  *block;   /* (SOOTHE__SCATTER_BLOCK, d) not yet added */
    int32_t n_block;
};
enum { SOOTHE__SCATTER_BLOCK = 64 };

enum soothe_status soothe__scatter_init(struct soothe__scatter *s, int32_t d, struct soothe_error *err);
void               soothe__scatter_free(struct soothe__scatter *s); /* also of a zeroed one */
void               soothe__scatter_add(struct soothe__scatter *s, const float *state, unsigned char label);

/* Fisher's linear discriminant, equal priors (SASA's subspace: Ko et al. 2024, arXiv 2410.03818, up to scale):
 *   w = S^-1 (mu_1 - mu_0),  b = -w.(mu_1 + mu_0)/2
 *   S = (1 - shrinkage) S_w + shrinkage diag(S_w),  S_w = (scatter_0 + scatter_1) / (n - 2)
 * Shrinking towards the diagonal, not the identity, keeps the result free of the features' scales.
 * shrinkage  in (0,1]
 * errors     SOOTHE_E_ARGUMENT a class is missing; SOOTHE_E_NUMERIC S is singular; SOOTHE_E_MEMORY */
enum soothe_status soothe__lda_fit(struct soothe__scatter *s, double shrinkage, double *w, double *b,
                                   struct soothe_error *err);

/* Solves A x = y for symmetric positive definite A (n, n), lower triangle given and overwritten by its Cholesky
 * factor; x (n) holds y and becomes x.  returns false if A is not positive definite */
bool soothe__cholesky_solve(double *a, int32_t n, double *x);

/* ---- logistic regression: probe_logistic.c ---------------------------------------------------------------- */

/* Minimises  mean log(1 + exp(-y (w.h + b))) + l2/2 sum_j (sd_j w_j)^2,  y = +-1, sd_j the features' standard
 * deviations, by L-BFGS (score/minimise.h). The bias is not penalised.
 * states  (n, d) row-major
 * w, b    start from what they hold (zeros will do) and become the solution
 * errors  SOOTHE_E_ARGUMENT a class is missing; SOOTHE_E_MEMORY */
enum soothe_status soothe__probe_logistic_fit(const float *states, const unsigned char *labels, size_t n, int32_t d,
                                              double l2, double *w, double *b, struct soothe_error *err);

#endif /* SOOTHE_PROBE_FIT_H */
