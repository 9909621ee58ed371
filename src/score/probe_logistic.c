/* SPDX-License-Identifier: Apache-2.0
 * Logistic regression on hidden states. */
#include <math.h>
#include <stdlib.h>

#include "base/sigmoid.h"
#include "score/minimise.h"
#include "score/probe_fit.h"

enum { ITERATIONS_MAX = 200 };

/* ---- the objective: parameters u (d + 1), w_j = u_j / sd_j, the last one the bias about the mean ------------ */

struct problem {
    const float         *states;
    const unsigned char *labels;
    size_t               n, d;
    double               l2;
    float               *mean, *scale; /* (d) 1/sd */
    float               *v;            /* (d) u_j scale_j */
};

static double objective(const void *problem, const double *u, double *gradient) {
    const struct problem *p    = problem;
    double                loss = 0, offset = u[p->d];
    for (size_t j = 0; j < p->d; j++) {
        p->v[j] = (float)u[j] * p->scale[j];
        offset -= (double)(p->v[j] * p->mean[j]);
        loss += 0.5 * p->l2 * u[j] * u[j];
        gradient[j] = 0;
    }
    double residuals = 0;
    for (size_t i = 0; i < p->n; i++) {
        const float *x    = p->states + i * p->d;
        float        s[8] = {0};
        size_t       j    = 0;
        for (; j + 8 <= p->d; j += 8)
            for (int k = 0; k < 8; k++)
                s[k] += x[j + (size_t)k] * p->v[j + (size_t)k];
        for (; j < p->d; j++)
            s[0] += x[j] * p->v[j];
        const double z = offset + (double)((s[0] + s[1]) + (s[2] + s[3]) + ((s[4] + s[5]) + (s[6] + s[7])));
        loss += soothe__softplus(p->labels[i] ? -z : z) / (double)p->n;
        const double r = (soothe__sigmoid(z) - p->labels[i]) / (double)p->n;
        residuals += r;
        for (j = 0; j < p->d; j++)
            gradient[j] += r * (double)x[j];
    }
    for (size_t j = 0; j < p->d; j++)
        gradient[j] = (gradient[j] - residuals * (double)p->mean[j]) * (double)p->scale[j] + p->l2 * u[j];
    gradient[p->d] = residuals;
    return loss;
}

static enum soothe_status set_up(struct problem *p, struct soothe_error *err) {
    p->mean  = soothe__calloc(p->d, sizeof *p->mean);
    p->scale = soothe__calloc(p->d, sizeof *p->scale);
    p->v     = soothe__calloc(p->d, sizeof *p->v);
    if (!p->mean || !p->scale || !p->v)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a regression of %zu features", p->d);
    for (size_t j = 0; j < p->d; j++) {
        double mean = 0, square = 0;
        for (size_t i = 0; i < p->n; i++)
            mean += (double)p->states[i * p->d + j] / (double)p->n;
        for (size_t i = 0; i < p->n; i++) {
            const double x = (double)p->states[i * p->d + j] - mean;
            square += x * x / (double)p->n;
        }
        p->mean[j]  = (float)mean;
        p->scale[j] = square > 0 ? (float)(1 / sqrt(square)) : 0; /* a constant feature has no weight */
    }
    return SOOTHE_OK;
}

enum soothe_status soothe__probe_logistic_fit(const float *states, const unsigned char *labels, size_t n, int32_t d,
                                              double l2, double *w, double *b, struct soothe_error *err) {
    const struct soothe__minimise_options options = {
        .max_iterations = ITERATIONS_MAX, .loss_tolerance = 1e-9, .first_damping = 1};
    struct soothe__minimise_report report;
    struct problem                 p     = {.states = states, .labels = labels, .n = n, .d = (size_t)d, .l2 = l2};
    double                        *u     = NULL;
    size_t                         n_one = 0;
    for (size_t i = 0; i < n; i++)
        n_one += labels[i] != 0;
    if (n_one == 0 || n_one == n)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a probe needs toxic and clean texts to learn from; %s are missing",
                            n_one ? "clean ones" : "toxic ones");
    enum soothe_status status = set_up(&p, err);
    if (!status && !(u = soothe__calloc(p.d + 1, sizeof *u)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a regression of %d features", d);
    if (!status) {
        u[p.d] = *b;
        for (size_t j = 0; j < p.d; j++) {
            u[j] = p.scale[j] > 0 ? w[j] / (double)p.scale[j] : 0;
            u[p.d] += w[j] * (double)p.mean[j];
        }
        status = soothe__minimise(objective, &p, u, p.d + 1, &options, &report, err);
    }
    if (!status) {
        *b = u[p.d];
        for (size_t j = 0; j < p.d; j++) {
            w[j] = u[j] * (double)p.scale[j];
            *b -= w[j] * (double)p.mean[j];
        }
    }
    free(u);
    free(p.mean);
    free(p.scale);
    free(p.v);
    return status;
}
