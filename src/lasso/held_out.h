/* SPDX-License-Identifier: Apache-2.0
 * Rows that had no part in any choice: setting them aside, and judging on them what the others chose. */
#ifndef SOOTHE_HELD_OUT_H
#define SOOTHE_HELD_OUT_H

#include "lasso/lasso_path.h"

/* held (n): 1 for a share of the rows, drawn by rng, of each class alike. */
enum soothe_status soothe__hold_out(uint32_t *held, const double *y, size_t n, double share,
                                    enum soothe__lasso_family family, struct soothe__rng *rng,
                                    struct soothe_error *err);

struct soothe__judged {
    double loss;  /* mean loss, as in cross-validation                                     */
    double error; /* share of rows on the wrong side of 1/2; gaussian: mean squared error   */
    double auroc; /* NaN for gaussian, or where there is only one class                     */
};
enum soothe_status soothe__lasso_judge(struct soothe__judged *judged, const struct soothe__lasso_point *point,
                                       const struct soothe__design *x, const double *y,
                                       enum soothe__lasso_family family, struct soothe_error *err);

/* Of every point of trust's path, (path.n_points) fresh; free(). */
enum soothe_status soothe__lasso_judge_path(struct soothe__judged **judged, const struct soothe__lasso_trust *trust,
                                            const struct soothe__design *x, const double *y,
                                            enum soothe__lasso_family family, struct soothe_error *err);

#endif /* SOOTHE_HELD_OUT_H */
