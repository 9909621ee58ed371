/* SPDX-License-Identifier: Apache-2.0 */
#include "score/minimise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MEMORY = 10, BACKTRACKS = 30 };

static double dot(const double *a, const double *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

struct history {
    double *s[MEMORY], *y[MEMORY], rho[MEMORY]; /* steps, changes of the gradient, 1 / s.y */
    int     n, next;
};

/* direction = -H g by the two loops of Nocedal (1980). */
static void find_direction(double *d, const double *g, const struct history *h, size_t n) {
    double alpha[MEMORY];
    for (size_t j = 0; j < n; j++)
        d[j] = -g[j];
    for (int k = 0; k < h->n; k++) {
        const int i = (h->next - 1 - k + 2 * MEMORY) % MEMORY;
        alpha[i]    = h->rho[i] * dot(h->s[i], d, n);
        for (size_t j = 0; j < n; j++)
            d[j] -= alpha[i] * h->y[i][j];
    }
    if (h->n > 0) {
        const int    last  = (h->next - 1 + MEMORY) % MEMORY;
        const double scale = 1.0 / (h->rho[last] * dot(h->y[last], h->y[last], n));
        for (size_t j = 0; j < n; j++)
            d[j] *= scale;
    }
    for (int k = h->n - 1; k >= 0; k--) {
        const int    i    = (h->next - 1 - k + 2 * MEMORY) % MEMORY;
        const double beta = h->rho[i] * dot(h->y[i], d, n);
        for (size_t j = 0; j < n; j++)
            d[j] += (alpha[i] - beta) * h->s[i][j];
    }
}

static void remember(struct history *h, const double *w, const double *w_old, const double *g, const double *g_old,
                     size_t n) {
    double *s = h->s[h->next], *y = h->y[h->next];
    for (size_t j = 0; j < n; j++) {
        s[j] = w[j] - w_old[j];
        y[j] = g[j] - g_old[j];
    }
    const double sy = dot(s, y, n);
    if (!(sy > 1e-12 * dot(y, y, n)))
        return;
    h->rho[h->next] = 1.0 / sy;
    h->next         = (h->next + 1) % MEMORY;
    h->n            = h->n < MEMORY ? h->n + 1 : MEMORY;
}

struct work {
    soothe__objective *objective;
    const void        *problem;
    size_t             n;
    double            *block, *w_old, *g, *g_old, *d; /* (n) each but block */
    struct history     h;
};

static bool make_work(struct work *k) {
    const size_t n = k->n;
    k->block       = soothe__calloc(2 * MEMORY + 4, n * sizeof *k->block);
    if (!k->block)
        return false;
    k->w_old = k->block;
    k->g     = k->block + n;
    k->g_old = k->block + 2 * n;
    k->d     = k->block + 3 * n;
    for (size_t i = 0; i < MEMORY; i++) {
        k->h.s[i] = k->block + (4 + i) * n;
        k->h.y[i] = k->block + (4 + MEMORY + i) * n;
    }
    return true;
}

/* Goes along d until the loss has fallen enough (Armijo); false where no step of any length does. */
static bool search_line(struct work *k, double *w, double *loss, double first) {
    const size_t n     = k->n;
    const double slope = dot(k->g, k->d, n);
    double       step  = first;
    memcpy(k->w_old, w, n * sizeof *w);
    memcpy(k->g_old, k->g, n * sizeof *w);
    for (int i = 0; i < BACKTRACKS && slope < 0; i++, step *= 0.5) {
        for (size_t j = 0; j < n; j++)
            w[j] = k->w_old[j] + step * k->d[j];
        const double now = k->objective(k->problem, w, k->g);
        if (now <= *loss + 1e-4 * step * slope) {
            *loss = now;
            return true;
        }
    }
    memcpy(w, k->w_old, n * sizeof *w);
    memcpy(k->g, k->g_old, n * sizeof *w);
    return false;
}

static void run(struct work *k, double *w, const struct soothe__minimise_options *o,
                struct soothe__minimise_report *report) {
    double       loss  = k->objective(k->problem, w, k->g);
    const double start = sqrt(dot(k->g, k->g, k->n));
    double       norm  = start;
    bool         flat  = false;
    while (isfinite(loss) && report->n_iterations < o->max_iterations && norm > o->gradient_tolerance * start &&
           !flat) {
        const double before = loss;
        find_direction(k->d, k->g, &k->h, k->n);
        if (!search_line(k, w, &loss, k->h.n ? 1.0 : 1.0 / (o->first_damping + norm)))
            break;
        remember(&k->h, w, k->w_old, k->g, k->g_old, k->n);
        norm = sqrt(dot(k->g, k->g, k->n));
        flat = before - loss < o->loss_tolerance * (fabs(before) + 1e-9);
        report->n_iterations++;
        if (o->watcher)
            o->watcher(o->user, report->n_iterations, loss);
    }
    report->loss          = loss;
    report->gradient_norm = norm;
    report->converged     = norm <= o->gradient_tolerance * start;
}

enum soothe_status soothe__minimise(soothe__objective *objective, const void *problem, double *w, size_t n,
                                    const struct soothe__minimise_options *options,
                                    struct soothe__minimise_report *report, struct soothe_error *err) {
    struct work k = {.objective = objective, .problem = problem, .n = n};
    memset(report, 0, sizeof *report);
    if (!make_work(&k))
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu weights", n);
    run(&k, w, options, report);
    free(k.block);
    return SOOTHE_OK;
}
