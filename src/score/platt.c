/* SPDX-License-Identifier: Apache-2.0 */
#include "score/platt.h"

#include <math.h>

#include "base/sigmoid.h"

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
        loss += cost_of(p, i) * (soothe__softplus(z) - p->targets[p->labels[i]] * z);
    }
    return loss;
}

/* The step of Newton's method from (a, b). */
static void platt_step(const struct platt *p, double a, double b, double *da, double *db) {
    double ga = 0, gb = 0, haa = 1e-9, hab = 0, hbb = 1e-9;
    for (size_t i = 0; i < p->n; i++) {
        const double z = p->z[i], q = soothe__sigmoid(a * z + b), c = cost_of(p, i);
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

static void fit(const struct platt *p, double *a, double *b, double tolerance) {
    double loss = platt_loss(p, *a, *b);
    for (int iteration = 0; iteration < 100; iteration++) {
        double da, db, step = 1;
        platt_step(p, *a, *b, &da, &db);
        while (step > 1e-10 && !(platt_loss(p, *a + step * da, *b + step * db) <= loss))
            step *= 0.5;
        if (step <= 1e-10)
            break;
        *a += step * da;
        *b += step * db;
        const double now = platt_loss(p, *a, *b);
        if (loss - now <= tolerance * loss)
            break;
        loss = now;
    }
}

/* False for one class alone. */
static bool set_targets(struct platt *p) {
    double n1 = 0;
    for (size_t i = 0; i < p->n; i++)
        n1 += p->labels[i] ? 1 : 0;
    const double n0 = (double)p->n - n1;
    p->targets[0]   = 1 / (n0 + 2);
    p->targets[1]   = (n1 + 1) / (n1 + 2);
    return n0 > 0 && n1 > 0;
}

void soothe__platt_fit(double *a, double *b, const double *z, const unsigned char *labels, const double *costs,
                       size_t n) {
    struct platt p = {.z = z, .costs = costs, .labels = labels, .n = n};
    *a             = 1;
    *b             = 0;
    if (set_targets(&p))
        fit(&p, a, b, 1e-10);
}

void soothe__platt_fit_any_scale(double *a, double *b, double *z, const unsigned char *labels, size_t n) {
    struct platt p    = {.z = z, .labels = labels, .n = n};
    double       mean = 0, square = 0, slope = 1, offset = 0;
    *a = 1;
    *b = 0;
    for (size_t i = 0; i < n; i++)
        mean += z[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        square += (z[i] - mean) * (z[i] - mean) / (double)n;
    const double sd = sqrt(square);
    if (!set_targets(&p) || !(sd > 0) || !isfinite(sd))
        return;
    for (size_t i = 0; i < n; i++)
        z[i] = (z[i] - mean) / sd;
    fit(&p, &slope, &offset, 0); /* to the last bit */
    *a = slope / sd;
    *b = offset - slope * mean / sd;
}
