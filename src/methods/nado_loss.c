/* SPDX-License-Identifier: Apache-2.0
 * NADO's loss and its gradient, by hand; arrays in, arrays out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sigmoid.h"
#include "methods/nado.h"

size_t soothe__nado_n_parameters(int32_t d, int32_t rank) {
    return 2 * (size_t)d * (size_t)rank + (size_t)rank + (size_t)d + 1;
}

/* Points p, q, c, w, b into one block. */
static void lay_out(struct soothe__nado *n, float *block) {
    const size_t dr = (size_t)n->d * (size_t)n->rank;
    n->p            = block;
    n->q            = n->p + dr;
    n->c            = n->q + dr;
    n->w            = n->c + n->rank;
    n->b            = n->w + n->d;
}

enum soothe_status soothe__nado_new(struct soothe__nado **out, int32_t d, int32_t rank, struct soothe_error *err) {
    struct soothe__nado *n     = soothe__calloc(1, sizeof *n);
    float               *block = soothe__calloc(soothe__nado_n_parameters(d, rank), sizeof *block);
    *out                       = NULL;
    if (!n || !block) {
        free(n);
        free(block);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a success head");
    }
    n->d    = d;
    n->rank = rank;
    lay_out(n, block);
    *out = n;
    return SOOTHE_OK;
}

void soothe__nado_free(struct soothe__nado *n) {
    if (n)
        free(n->p);
    free(n);
}

static float dot(const float *a, const float *b, int32_t n) {
    float   sums[16] = {0}, sum = 0; /* in this shape the compiler uses vectors */
    int32_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int32_t k = 0; k < 16; k++)
            sums[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        sum += a[i] * b[i];
    for (int32_t k = 0; k < 16; k++)
        sum += sums[k];
    return sum;
}

static void add_scaled(float *restrict y, float a, const float *restrict x, int32_t n) {
    for (int32_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

/* a (r) = Q h + c, u = P a. */
static float forward(const struct soothe__nado *n, const float *h, float *a, float *u) {
    for (int32_t k = 0; k < n->rank; k++)
        a[k] = dot(n->q + (size_t)k * (size_t)n->d, h, n->d) + n->c[k];
    for (int32_t i = 0; i < n->d; i++)
        u[i] = dot(n->p + (size_t)i * (size_t)n->rank, a, n->rank);
    return dot(n->w, h, n->d) + n->b[0];
}

float soothe__nado_state(const struct soothe__nado *n, const float *h, float *u) {
    enum { RANK_MAX = 1024 }; /* soothe__nado_open takes no more */
    float a[RANK_MAX];
    return forward(n, h, a, u);
}

/* ---- one text ------------------------------------------------------------------------------------------------- */

enum { K = SOOTHE__NADO_CANDIDATES };

struct pass {   /* of all positions */
    float *a;   /* (T, r) */
    float *u;   /* (T, d) */
    float *g_y; /* (T) logit of the token that was drawn; */
    float *d_y; /* (T) the loss's slope in it */
    float *g;   /* (T, K) of the candidates */
    float *d_g; /* (T, K) */
    float *d_u; /* (d) */
    float *d_a; /* (r) */
};

size_t soothe__nado_scratch(const struct soothe__nado *n, int32_t n_tokens) {
    return (size_t)n_tokens * (size_t)(n->rank + n->d + 2 + 2 * K) + (size_t)(n->d + n->rank);
}

static struct pass lay_out_pass(const struct soothe__nado *n, int32_t t, float *scratch) {
    const size_t T = (size_t)t;
    struct pass  s = {.a = scratch};
    s.u            = s.a + T * (size_t)n->rank;
    s.g_y          = s.u + T * (size_t)n->d;
    s.d_y          = s.g_y + T;
    s.g            = s.d_y + T;
    s.d_g          = s.g + T * K;
    s.d_u          = s.d_g + T * K;
    s.d_a          = s.d_u + n->d;
    return s;
}

static void run_forward(const struct soothe__nado *n, const float *head, const struct soothe__nado_text *x,
                        struct pass *s) {
    const size_t d = (size_t)n->d;
    for (int32_t t = 0; t < x->n; t++) {
        float      *u      = s->u + (size_t)t * d;
        const float offset = forward(n, x->h + (size_t)t * d, s->a + (size_t)t * (size_t)n->rank, u);
        s->g_y[t]          = dot(head + (size_t)x->tokens[t] * d, u, n->d) + offset;
        for (int32_t k = 0; k < K; k++)
            if (x->p[t * K + k] > 0)
                s->g[t * K + k] = dot(head + (size_t)x->candidates[t * K + k] * d, u, n->d) + offset;
    }
}

/* KL(m_t || R_{t-1}) of two coins, and its slopes. R's logit is g: log R = -softplus(-g). */
static double bellman_term(const struct soothe__nado_text *x, struct pass *s, int32_t t, float weight) {
    const double g = (double)s->g_y[t - 1], r = soothe__sigmoid(g);
    double       m = 0;
    for (int32_t k = 0; k < K; k++)
        if (x->p[t * K + k] > 0)
            m += (double)x->p[t * K + k] * soothe__sigmoid((double)s->g[t * K + k]);
    m                  = m < 1e-7 ? 1e-7 : m > 1 - 1e-7 ? 1 - 1e-7 : m;
    const double slope = log(m / (1 - m)) - g; /* in m */
    for (int32_t k = 0; k < K; k++)
        if (x->p[t * K + k] > 0) {
            const double q = soothe__sigmoid((double)s->g[t * K + k]);
            s->d_g[t * K + k] += (float)((double)weight * slope * (double)x->p[t * K + k] * q * (1 - q));
        }
    s->d_y[t - 1] += weight * (float)(r - m);
    return (double)weight * (m * (log(m) + soothe__softplus(-g)) + (1 - m) * (log(1 - m) + soothe__softplus(g)));
}

static void run_backward(const struct soothe__nado *n, const float *head, const struct soothe__nado_text *x,
                         struct pass *s, struct soothe__nado *gradient) {
    const size_t d = (size_t)n->d;
    for (int32_t t = 0; t < x->n; t++) {
        const float *h = x->h + (size_t)t * d, *a = s->a + (size_t)t * (size_t)n->rank;
        float        d_offset = s->d_y[t];
        memset(s->d_u, 0, d * sizeof *s->d_u);
        memset(s->d_a, 0, (size_t)n->rank * sizeof *s->d_a);
        add_scaled(s->d_u, s->d_y[t], head + (size_t)x->tokens[t] * d, n->d);
        for (int32_t k = 0; k < K; k++)
            if (s->d_g[t * K + k] != 0) {
                add_scaled(s->d_u, s->d_g[t * K + k], head + (size_t)x->candidates[t * K + k] * d, n->d);
                d_offset += s->d_g[t * K + k];
            }
        for (int32_t i = 0; i < n->d; i++) {
            add_scaled(s->d_a, s->d_u[i], n->p + (size_t)i * (size_t)n->rank, n->rank);
            add_scaled(gradient->p + (size_t)i * (size_t)n->rank, s->d_u[i], a, n->rank);
        }
        for (int32_t k = 0; k < n->rank; k++) {
            add_scaled(gradient->q + (size_t)k * d, s->d_a[k], h, n->d);
            gradient->c[k] += s->d_a[k];
        }
        add_scaled(gradient->w, d_offset, h, n->d);
        gradient->b[0] += d_offset;
    }
}

double soothe__nado_loss(const struct soothe__nado *n, const float *head, const struct soothe__nado_text *x,
                         float bellman, float *gradient, float *r_out, float *scratch) {
    struct pass s    = lay_out_pass(n, x->n, scratch);
    double      loss = 0;
    run_forward(n, head, x, &s);
    memset(s.d_g, 0, (size_t)x->n * K * sizeof *s.d_g);
    for (int32_t t = 0; t < x->n; t++) {
        const double g = (double)s.g_y[t];
        loss += soothe__softplus(g) - (double)x->clean * g;
        s.d_y[t] = (float)soothe__sigmoid(g) - x->clean;
        if (r_out)
            r_out[t] = (float)soothe__sigmoid(g);
    }
    for (int32_t t = 1; t < x->n && bellman > 0; t++)
        loss += bellman_term(x, &s, t, bellman);
    if (gradient) {
        struct soothe__nado into = {.d = n->d, .rank = n->rank};
        lay_out(&into, gradient);
        run_backward(n, head, x, &s, &into);
    }
    return loss;
}
