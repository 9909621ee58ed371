/* SPDX-License-Identifier: Apache-2.0
 * All curves begin at 0 features, the first point of every path. They are compared up to the largest number of features
 * at which any of them is best: beyond it there are only models that nobody would take, and over thousands of words
 * that tail would outweigh everything else. A curve that ends before goes on level: what it cannot reach is no gain. */
#include "lasso/trust_curve.h"

#include <math.h>
#include <stdlib.h>

enum soothe_status soothe__trust_curve(struct soothe__trust_curve *curve, const struct soothe__lasso_trust *trust,
                                       struct soothe_error *err) {
    const struct soothe__lasso_path *path  = &trust->path;
    size_t                           n_max = 0;
    for (size_t l = 0; l < path->n_points; l++)
        n_max = path->points[l].n_terms > n_max ? path->points[l].n_terms : n_max;
    size_t *best      = soothe__calloc(n_max + 1, sizeof *best); /* point + 1, by number of features */
    curve->n          = 0;
    curve->n_features = soothe__calloc(path->n_points + 1, sizeof *curve->n_features);
    curve->point      = soothe__calloc(path->n_points + 1, sizeof *curve->point);
    if (!best || !curve->n_features || !curve->point) {
        free(best);
        soothe__trust_curve_free(curve);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a curve of %zu points", path->n_points);
    }
    for (size_t l = 0; l < path->n_points; l++) {
        size_t *at = &best[path->points[l].n_terms];
        if (*at == 0 || trust->cv_loss[l] < trust->cv_loss[*at - 1])
            *at = l + 1;
    }
    for (size_t m = 0; m <= n_max; m++)
        if (best[m]) {
            curve->n_features[curve->n] = m;
            curve->point[curve->n++]    = best[m] - 1;
        }
    free(best);
    return SOOTHE_OK;
}

void soothe__trust_curve_free(struct soothe__trust_curve *curve) {
    free(curve->n_features);
    free(curve->point);
    *curve = (struct soothe__trust_curve){0};
}

double soothe__trust_curve_at(const struct soothe__trust_curve *curve, const double *loss, double x) {
    size_t p = 0;
    while (p + 1 < curve->n && (double)curve->n_features[p + 1] < x)
        p++;
    const double left = loss[curve->point[p]];
    if (p + 1 == curve->n)
        return left;
    const double from = (double)curve->n_features[p], to = (double)curve->n_features[p + 1];
    return left + (loss[curve->point[p + 1]] - left) * (x - from) / (to - from);
}

/* Trapezoids between whole numbers of features: exact, since both curves are straight there. Divided by the width, so
 * that it reads as a difference of losses. */
static double area(const struct soothe__trust_curve *plain, const double *plain_loss,
                   const struct soothe__trust_curve *own, const double *own_loss, size_t n) {
    double sum = 0;
    for (size_t m = 0; m <= n; m++)
        sum += (m == 0 || m == n ? 0.5 : 1.0) * (soothe__trust_curve_at(plain, plain_loss, (double)m) -
                                                 soothe__trust_curve_at(own, own_loss, (double)m));
    return n ? sum / (double)n : 0;
}

static size_t compared_up_to(const struct soothe__llm_lasso *r) {
    size_t most = 0;
    for (size_t t = 0; t < r->n_trusts; t++) {
        const size_t n = r->trusts[t].path.points[r->trusts[t].best].n_terms;
        most           = n > most ? n : most;
    }
    return most;
}

/* The gain on every fold, with the points that the mean over all folds chose: hence its mean is the area between the
 * curves themselves. */
static void find_gain(struct soothe__llm_lasso *r, const struct soothe__trust_curve *curves, size_t t) {
    struct soothe__lasso_trust       *own     = &r->trusts[t];
    const struct soothe__lasso_trust *plain   = &r->trusts[0];
    const size_t                      n_folds = r->n_folds;
    double                            sum = 0, squares = 0;
    for (size_t k = 0; k < n_folds; k++) {
        const double gain = area(&curves[0], plain->fold_loss + k * plain->path.n_points, &curves[t],
                                 own->fold_loss + k * own->path.n_points, r->n_compared);
        sum += gain;
        squares += gain * gain;
    }
    own->gain             = sum / (double)n_folds;
    const double variance = (squares - sum * own->gain) / (double)(n_folds - 1);
    own->gain_error       = sqrt(fmax(variance, 0) / (double)n_folds);
}

enum soothe_status soothe__compare_curves(struct soothe__llm_lasso *r, struct soothe_error *err) {
    struct soothe__trust_curve curves[SOOTHE__POWERS_MAX + 1] = {{0}};
    enum soothe_status         status                         = SOOTHE_OK;
    for (size_t t = 0; t < r->n_trusts && !status; t++)
        status = soothe__trust_curve(&curves[t], &r->trusts[t], err);
    if (!status) {
        r->n_compared = compared_up_to(r);
        for (size_t t = 1; t < r->n_trusts; t++)
            find_gain(r, curves, t);
    }
    for (size_t t = 0; t < r->n_trusts; t++)
        soothe__trust_curve_free(&curves[t]);
    return status;
}
