/* SPDX-License-Identifier: Apache-2.0
 * Logistic regression by L-BFGS, and Platt's calibration by Newton's method. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "score/probe_fit.h"

double soothe__sigmoid(double z) {
    return z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
}

/* log(1 + exp(z)) */
static double softplus(double z) {
    return z > 0 ? z + log1p(exp(-z)) : log1p(exp(z));
}

/* ---- the objective: parameters u (d + 1), w_j = u_j / sd_j, the last one the bias about the mean ------------ */

struct problem {
    const float         *states;
    const unsigned char *labels;
    size_t               n, d;
    double               l2;
    float               *mean, *scale; /* (d) 1/sd */
    float               *v;            /* (d) u_j scale_j */
};

static double objective(const struct problem *p, const double *u, double *gradient) {
    double loss = 0, offset = u[p->d];
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
        loss += softplus(p->labels[i] ? -z : z) / (double)p->n;
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

/* ---- L-BFGS --------------------------------------------------------------------------------------------------- */

enum { MEMORY = 10, ITERATIONS_MAX = 200 };

struct lbfgs {
    size_t  n;                     /* parameters */
    double *u, *g, *direction;     /* (n) */
    double *u_next, *g_next;       /* (n) */
    double *s[MEMORY], *y[MEMORY]; /* (n) steps and changes of the gradient, a ring */
    double  rho[MEMORY];
    size_t  n_kept, i_next;
    double *room;
};

static double dot(const double *a, const double *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static bool lbfgs_init(struct lbfgs *o, size_t n) {
    *o      = (struct lbfgs){.n = n};
    o->room = soothe__calloc((5 + 2 * MEMORY) * n, sizeof *o->room);
    if (!o->room)
        return false;
    double **const parts[] = {&o->u, &o->g, &o->direction, &o->u_next, &o->g_next};
    for (size_t i = 0; i < 5; i++)
        *parts[i] = o->room + i * n;
    for (size_t i = 0; i < MEMORY; i++) {
        o->s[i] = o->room + (5 + 2 * i) * n;
        o->y[i] = o->room + (6 + 2 * i) * n;
    }
    return true;
}

/* The two-loop recursion: direction = -H g. */
static void set_direction(struct lbfgs *o) {
    double a[MEMORY];
    for (size_t i = 0; i < o->n; i++)
        o->direction[i] = -o->g[i];
    for (size_t k = 0; k < o->n_kept; k++) {
        const size_t i = (o->i_next + MEMORY - 1 - k) % MEMORY;
        a[i]           = o->rho[i] * dot(o->s[i], o->direction, o->n);
        for (size_t j = 0; j < o->n; j++)
            o->direction[j] -= a[i] * o->y[i][j];
    }
    if (o->n_kept > 0) {
        const size_t last  = (o->i_next + MEMORY - 1) % MEMORY;
        const double scale = 1 / (o->rho[last] * dot(o->y[last], o->y[last], o->n));
        for (size_t j = 0; j < o->n; j++)
            o->direction[j] *= scale;
    }
    for (size_t k = o->n_kept; k > 0; k--) {
        const size_t i = (o->i_next + MEMORY - k) % MEMORY;
        const double b = o->rho[i] * dot(o->y[i], o->direction, o->n);
        for (size_t j = 0; j < o->n; j++)
            o->direction[j] += (a[i] - b) * o->s[i][j];
    }
}

static void remember(struct lbfgs *o) {
    double *s = o->s[o->i_next], *y = o->y[o->i_next];
    for (size_t j = 0; j < o->n; j++) {
        s[j] = o->u_next[j] - o->u[j];
        y[j] = o->g_next[j] - o->g[j];
    }
    const double curvature = dot(s, y, o->n);
    memcpy(o->u, o->u_next, o->n * sizeof *o->u);
    memcpy(o->g, o->g_next, o->n * sizeof *o->g);
    if (!(curvature > 1e-300))
        return;
    o->rho[o->i_next] = 1 / curvature;
    o->i_next         = (o->i_next + 1) % MEMORY;
    o->n_kept         = o->n_kept < MEMORY ? o->n_kept + 1 : MEMORY;
}

static void minimise(struct lbfgs *o, const struct problem *p) {
    double loss = objective(p, o->u, o->g);
    for (int it = 0; it < ITERATIONS_MAX; it++) {
        set_direction(o);
        const double slope = dot(o->direction, o->g, o->n);
        double       step = it == 0 ? 1 / (1 + sqrt(dot(o->g, o->g, o->n))) : 1, next = 0;
        bool         better = false;
        for (int tries = 0; tries < 40 && !better && slope < 0; tries++, step /= 2) { /* Armijo */
            for (size_t j = 0; j < o->n; j++)
                o->u_next[j] = o->u[j] + step * o->direction[j];
            next   = objective(p, o->u_next, o->g_next);
            better = next <= loss + 1e-4 * step * slope;
        }
        if (!better)
            return;
        const bool done = loss - next < 1e-9 * (fabs(loss) + 1e-9);
        loss            = next;
        remember(o);
        if (done)
            return;
    }
}

enum soothe_status soothe__probe_logistic_fit(const float *states, const unsigned char *labels, size_t n, int32_t d,
                                              double l2, double *w, double *b, struct soothe_error *err) {
    struct problem p     = {.states = states, .labels = labels, .n = n, .d = (size_t)d, .l2 = l2};
    struct lbfgs   o     = {.n = 0};
    size_t         n_one = 0;
    for (size_t i = 0; i < n; i++)
        n_one += labels[i] != 0;
    if (n_one == 0 || n_one == n)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a probe needs toxic and clean texts to learn from; %s are missing",
                            n_one ? "clean ones" : "toxic ones");
    enum soothe_status status = set_up(&p, err);
    if (!status && !lbfgs_init(&o, p.d + 1))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a regression of %d features", d);
    if (!status) {
        o.u[p.d] = *b;
        for (size_t j = 0; j < p.d; j++) {
            o.u[j] = p.scale[j] > 0 ? w[j] / (double)p.scale[j] : 0;
            o.u[p.d] += w[j] * (double)p.mean[j];
        }
        minimise(&o, &p);
        *b = o.u[p.d];
        for (size_t j = 0; j < p.d; j++) {
            w[j] = o.u[j] * (double)p.scale[j];
            *b -= w[j] * (double)p.mean[j];
        }
    }
    free(o.room);
    free(p.mean);
    free(p.scale);
    free(p.v);
    return status;
}

/* ---- Platt ------------------------------------------------------------------------------------------------------- */

void soothe__probe_platt_fit(const double *scores, const unsigned char *labels, size_t n, double *slope,
                             double *offset) {
    double n_one = 0, mean = 0, square = 0;
    *slope  = 1;
    *offset = 0;
    for (size_t i = 0; i < n; i++) {
        n_one += labels[i] != 0;
        mean += scores[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++)
        square += (scores[i] - mean) * (scores[i] - mean) / (double)n;
    const double sd = sqrt(square);
    if (n_one < 1 || n_one > (double)n - 1 || !(sd > 0) || !isfinite(sd))
        return;
    const double high = (n_one + 1) / (n_one + 2), low = 1 / ((double)n - n_one + 2);
    double       a = 0, c = log(n_one / ((double)n - n_one)); /* of standardised scores */
    for (int it = 0; it < 100; it++) {
        double ga = 0, gc = 0, haa = 1e-9, hac = 0, hcc = 1e-9;
        for (size_t i = 0; i < n; i++) {
            const double x = (scores[i] - mean) / sd, p = soothe__sigmoid(a * x + c);
            const double r = p - (labels[i] ? high : low), q = p * (1 - p);
            ga += r * x;
            gc += r;
            haa += q * x * x;
            hac += q * x;
            hcc += q;
        }
        const double det = haa * hcc - hac * hac;
        if (!(det > DBL_MIN))
            break;
        double       da = (hcc * ga - hac * gc) / det, dc = (haa * gc - hac * ga) / det;
        const double size = fabs(da) + fabs(dc), cut = size > 4 ? 4 / size : 1; /* a step too far cannot overflow */
        a -= cut * da;
        c -= cut * dc;
        if (size < 1e-10)
            break;
    }
    *slope  = a / sd;
    *offset = c - a * mean / sd;
}
