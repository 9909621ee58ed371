/* SPDX-License-Identifier: Apache-2.0 */
#include "score/logistic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_SHARDS = 8, MEMORY = 10, BACKTRACKS = 30 };

static double log1p_exp(double z) {
    return z > 0 ? z + log1p(exp(-z)) : log1p(exp(z));
}
static double sigmoid(double z) {
    return z >= 0 ? 1.0 / (1.0 + exp(-z)) : exp(z) / (1.0 + exp(z));
}

/* ---- the loss --------------------------------------------------------------------------------------- */

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
        const double slope = c * (sigmoid(z) - y);
        loss += c * (log1p_exp(z) - y * z);
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

/* ---- L-BFGS -------------------------------------------------------------------------------------------- */

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
    double        *block, *w_old, *g, *g_old, *d;
    struct history h;
};

static bool make_work(struct work *k, size_t n) {
    memset(k, 0, sizeof *k);
    k->block = soothe__calloc(2 * MEMORY + 4, n * sizeof *k->block);
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
static bool search_line(const struct soothe__logistic *p, double *w, struct work *k, double *loss, double first) {
    const size_t n     = p->n_columns + 1;
    const double slope = dot(k->g, k->d, n);
    double       step  = first;
    memcpy(k->w_old, w, n * sizeof *w);
    memcpy(k->g_old, k->g, n * sizeof *w);
    for (int i = 0; i < BACKTRACKS && slope < 0; i++, step *= 0.5) {
        for (size_t j = 0; j < n; j++)
            w[j] = k->w_old[j] + step * k->d[j];
        const double now = soothe__logistic_loss(p, w, k->g);
        if (now <= *loss + 1e-4 * step * slope) {
            *loss = now;
            return true;
        }
    }
    memcpy(w, k->w_old, n * sizeof *w);
    memcpy(k->g, k->g_old, n * sizeof *w);
    return false;
}

enum soothe_status soothe__logistic_fit(const struct soothe__logistic *p, double *w, int max_iterations,
                                        double tolerance, soothe__logistic_watcher *watcher, void *user,
                                        struct soothe__logistic_report *report, struct soothe_error *err) {
    const size_t n = p->n_columns + 1;
    struct work  k;
    memset(report, 0, sizeof *report);
    if (!make_work(&k, n))
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu weights", n);
    double       loss  = soothe__logistic_loss(p, w, k.g);
    const double start = sqrt(dot(k.g, k.g, n));
    double       norm  = start;
    while (isfinite(loss) && report->n_iterations < max_iterations && norm > tolerance * start) {
        find_direction(k.d, k.g, &k.h, n);
        if (!search_line(p, w, &k, &loss, k.h.n ? 1.0 : 1.0 / norm))
            break;
        remember(&k.h, w, k.w_old, k.g, k.g_old, n);
        norm = sqrt(dot(k.g, k.g, n));
        report->n_iterations++;
        if (watcher)
            watcher(user, report->n_iterations, loss);
    }
    free(k.block);
    report->loss          = loss;
    report->gradient_norm = norm;
    report->converged     = norm <= tolerance * start;
    if (!isfinite(loss) || !isfinite(norm))
        return soothe__fail(err, SOOTHE_E_NUMERIC,
                            "the loss of the logistic regression is not finite (out of memory?)");
    return SOOTHE_OK;
}

/* ---- calibration --------------------------------------------------------------------------------------- */

struct platt {
    const double        *z, *costs;
    const unsigned char *labels;
    size_t               n;
    double               targets[2];
};

static double cost_of(const struct platt *p, size_t i) {
    return p->costs ? p->costs[i] : 1.0;
}

static double platt_loss(const struct platt *p, double a, double b) {
    double loss = 0;
    for (size_t i = 0; i < p->n; i++) {
        const double z = a * p->z[i] + b;
        loss += cost_of(p, i) * (log1p_exp(z) - p->targets[p->labels[i]] * z);
    }
    return loss;
}

/* The step of Newton's method from (a, b). */
static void platt_step(const struct platt *p, double a, double b, double *da, double *db) {
    double ga = 0, gb = 0, haa = 1e-9, hab = 0, hbb = 1e-9;
    for (size_t i = 0; i < p->n; i++) {
        const double z = p->z[i], q = sigmoid(a * z + b), c = cost_of(p, i);
        const double r = c * (q - p->targets[p->labels[i]]), h = c * q * (1 - q);
        ga += r * z;
        gb += r;
        haa += h * z * z;
        hab += h * z;
        hbb += h;
    }
    const double det = haa * hbb - hab * hab;
    *da              = -(hbb * ga - hab * gb) / det;
    *db              = -(haa * gb - hab * ga) / det;
}

void soothe__platt_fit(double *a, double *b, const double *z, const unsigned char *labels, const double *costs,
                       size_t n) {
    struct platt p  = {.z = z, .costs = costs, .labels = labels, .n = n};
    double       n1 = 0;
    for (size_t i = 0; i < n; i++)
        n1 += labels[i] ? 1 : 0;
    const double n0 = (double)n - n1;
    p.targets[0]    = 1 / (n0 + 2);
    p.targets[1]    = (n1 + 1) / (n1 + 2);
    *a              = 1;
    *b              = 0;
    if (n1 == 0 || n0 == 0)
        return;
    double loss = platt_loss(&p, *a, *b);
    for (int iteration = 0; iteration < 100; iteration++) {
        double da, db, step = 1;
        platt_step(&p, *a, *b, &da, &db);
        while (step > 1e-10 && !(platt_loss(&p, *a + step * da, *b + step * db) <= loss))
            step *= 0.5;
        if (step <= 1e-10)
            break;
        *a += step * da;
        *b += step * db;
        const double now = platt_loss(&p, *a, *b);
        if (loss - now < 1e-10 * loss)
            break;
        loss = now;
    }
}
