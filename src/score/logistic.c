/* SPDX-License-Identifier: Apache-2.0 */
#include "score/logistic.h"

#include <math.h>
#include <stdlib.h>

#include "base/sigmoid.h"

enum { N_SHARDS = 8 };

/* sw (n_columns + 1): the weights times their scales, the bias last. */
static double row_z(const struct soothe__logistic *p, const double *sw, size_t row) {
    double z = sw[p->n_columns];
    for (size_t g = row * p->n_groups; g < (row + 1) * p->n_groups; g++) {
        double sum = 0;
        for (uint64_t k = p->start[g]; k < p->start[g + 1]; k++)
            sum += sw[p->columns[k]];
        z += (double)p->values[g] * sum;
    }
    return z;
}

static double shard_loss(const struct soothe__logistic *p, const double *sw, double *gradient, size_t from, size_t to) {
    double loss = 0;
    for (size_t i = from; i < to; i++) {
        if (p->costs[i] <= 0)
            continue;
        const double z = row_z(p, sw, i), c = (double)p->costs[i], y = (double)p->labels[i];
        const double slope = c * (soothe__sigmoid(z) - y);
        loss += c * (soothe__softplus(z) - y * z);
        gradient[p->n_columns] += slope;
        for (size_t g = i * p->n_groups; g < (i + 1) * p->n_groups; g++) {
            const double step = slope * (double)p->values[g];
            for (uint64_t k = p->start[g]; k < p->start[g + 1]; k++)
                gradient[p->columns[k]] += step;
        }
    }
    return loss;
}

double soothe__logistic_loss(const struct soothe__logistic *p, const double *w, double *gradient) {
    const size_t n      = p->n_columns + 1;
    double      *shards = soothe__calloc(N_SHARDS + 1, n * sizeof *shards);
    double      *sw     = shards + N_SHARDS * n;
    double       losses[N_SHARDS], loss = 0, squares = 0;
    if (!shards)
        return NAN;
    for (size_t j = 0; j < n; j++)
        sw[j] = p->scales && j < p->n_columns ? (double)p->scales[j] * w[j] : w[j];
#pragma omp parallel for num_threads(p->n_threads > 0 ? p->n_threads : 1) schedule(static, 1)
    for (int s = 0; s < N_SHARDS; s++)
        losses[s] = shard_loss(p, sw, shards + (size_t)s * n, p->n_rows * (size_t)s / N_SHARDS,
                               p->n_rows * ((size_t)s + 1) / N_SHARDS);
    for (int s = 0; s < N_SHARDS; s++)
        loss += losses[s];
    for (size_t j = 0; j < n; j++) {
        double sum = 0;
        for (size_t s = 0; s < N_SHARDS; s++)
            sum += shards[s * n + j];
        gradient[j] = p->scales && j < p->n_columns ? (double)p->scales[j] * sum : sum;
    }
    for (size_t j = 0; j < p->n_columns; j++) {
        gradient[j] += w[j] / p->c;
        squares += w[j] * w[j];
    }
    free(shards);
    return loss + squares / (2 * p->c);
}

static double objective(const void *problem, const double *w, double *gradient) {
    return soothe__logistic_loss(problem, w, gradient);
}

enum soothe_status soothe__logistic_fit(const struct soothe__logistic *p, double *w,
                                        const struct soothe__minimise_options *options,
                                        struct soothe__minimise_report *report, struct soothe_error *err) {
    enum soothe_status status = soothe__minimise(objective, p, w, p->n_columns + 1, options, report, err);
    if (!status && (!isfinite(report->loss) || !isfinite(report->gradient_norm)))
        status =
            soothe__fail(err, SOOTHE_E_NUMERIC, "the loss of the logistic regression is not finite (out of memory?)");
    return status;
}
