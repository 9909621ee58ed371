/* SPDX-License-Identifier: Apache-2.0 */
#include "lasso/held_out.h"

#include <math.h>
#include <stdlib.h>

#include "base/statistics.h"

enum soothe_status soothe__hold_out(uint32_t *held, const double *y, size_t n, double share,
                                    enum soothe__lasso_family family, struct soothe__rng *rng,
                                    struct soothe_error *err) {
    /* Every row a place of its own, the classes one after the other: equal steps take the same share of both. */
    const enum soothe_status status = soothe__deal_rows(held, y, n, (uint32_t)n, family, rng, err);
    for (size_t i = 0; i < n && !status; i++)
        held[i] = floor((held[i] + 1) * share) > floor(held[i] * share);
    return status;
}

enum soothe_status soothe__lasso_judge(struct soothe__judged *judged, const struct soothe__lasso_point *point,
                                       const struct soothe__design *x, const double *y,
                                       enum soothe__lasso_family family, struct soothe_error *err) {
    const size_t   n      = x->n_rows;
    double        *eta    = soothe__calloc(n + 1, sizeof *eta);
    unsigned char *labels = soothe__calloc(n + 1, sizeof *labels);
    if (!eta || !labels) {
        free(eta);
        free(labels);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu predictions", n);
    }
    soothe__lasso_predict(eta, point, x);
    *judged = (struct soothe__judged){.loss = soothe__lasso_loss(family, eta, y, n), .auroc = NAN};
    for (size_t i = 0; i < n; i++) {
        labels[i] = y[i] != 0;
        judged->error +=
            (family == SOOTHE__GAUSSIAN ? (y[i] - eta[i]) * (y[i] - eta[i]) : (eta[i] > 0) != labels[i]) / (double)n;
    }
    if (family == SOOTHE__BINOMIAL)
        judged->auroc = soothe__roc_auc(eta, labels, n);
    free(eta);
    free(labels);
    return SOOTHE_OK;
}

enum soothe_status soothe__lasso_judge_path(struct soothe__judged **judged, const struct soothe__lasso_trust *trust,
                                            const struct soothe__design *x, const double *y,
                                            enum soothe__lasso_family family, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    *judged                   = soothe__calloc(trust->path.n_points + 1, sizeof **judged);
    if (!*judged)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu results", trust->path.n_points);
    for (size_t l = 0; l < trust->path.n_points && !status; l++)
        status = soothe__lasso_judge(&(*judged)[l], &trust->path.points[l], x, y, family, err);
    if (status) {
        free(*judged);
        *judged = NULL;
    }
    return status;
}
