/* SPDX-License-Identifier: Apache-2.0
 * The paper's alignment: InfoNCE over tokens that both vocabularies have. With q = x W, unit vectors q' and y', the
 * logits l_j = q'·y'_j / t over the own y and K others, and p = softmax(l):
 *
 *     loss = -log p_own      dq' = sum_j (p_j - [j is own]) y'_j / t      dq = (dq' - q' (q'·dq')) / |q|      dW = x^T
 * dq */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/align_maps.h"
#include "train/kernels.h"

struct soothe__contrastive soothe__contrastive_default(void) {
    return (struct soothe__contrastive){
        .n_negatives = 10, .n_epochs = 8, .batch = 32, .rate = 1e-3, .temperature = 0.1, .seed = 1};
}

static float norm(const float *x, size_t n) {
    const float square = soothe__dot(x, x, n);
    return square > 0 ? sqrtf(square) : 1.0f;
}

/* q' in q; returns |q|. */
static float image(float *q, const float *x, const float *w, size_t d_x, size_t d_y) {
    memset(q, 0, d_y * sizeof *q);
    for (size_t k = 0; k < d_x; k++)
        soothe__add_scaled(q, w + k * d_y, x[k], d_y);
    const float size = norm(q, d_y);
    for (size_t k = 0; k < d_y; k++)
        q[k] /= size;
    return size;
}

/* One anchor: its loss, and dq times `share` where dq is wanted. */
static double anchor_loss(float *dq, const float *q, float size, const struct soothe__rows_pair *p,
                          const uint32_t *candidates, int32_t n, double temperature, double share) {
    const size_t d_y = (size_t)p->d_y;
    double       logits[n], top = -INFINITY, sum = 0;
    for (int32_t j = 0; j < n; j++) {
        const float *y = p->y + candidates[j] * d_y;
        logits[j]      = (double)(soothe__dot(q, y, d_y) / norm(y, d_y)) / temperature;
        top            = fmax(top, logits[j]);
    }
    for (int32_t j = 0; j < n; j++)
        sum += exp(logits[j] - top);
    if (!dq)
        return top + log(sum) - logits[0];
    memset(dq, 0, d_y * sizeof *dq);
    for (int32_t j = 0; j < n; j++) {
        const float *y = p->y + candidates[j] * d_y;
        const double g = (exp(logits[j] - top) / sum - (j == 0)) / temperature;
        soothe__add_scaled(dq, y, (float)(g / (double)norm(y, d_y)), d_y);
    }
    soothe__add_scaled(dq, q, -soothe__dot(q, dq, d_y), d_y);
    for (size_t k = 0; k < d_y; k++)
        dq[k] *= (float)share / size;
    return top + log(sum) - logits[0];
}

double soothe__contrastive_loss(float *gradient, const float *w, const struct soothe__rows_pair *p,
                                const uint32_t *anchors, const uint32_t *candidates, int32_t n, int32_t n_negatives,
                                double temperature, float *scratch, double *losses) {
    const size_t d_x = (size_t)p->d_x, d_y = (size_t)p->d_y, width = (size_t)(1 + n_negatives);
    double       loss = 0;
#pragma omp parallel for schedule(static)
    for (int32_t i = 0; i < n; i++) {
        float      *q    = scratch + (size_t)i * 2 * d_y;
        const float size = image(q, p->x + anchors[i] * d_x, w, d_x, d_y);
        losses[i] = anchor_loss(gradient ? q + d_y : NULL, q, size, p, candidates + (size_t)i * width, (int32_t)width,
                                temperature, 1.0 / n);
    }
    for (int32_t i = 0; i < n; i++)
        loss += losses[i] / n;
    if (!gradient)
        return loss;
#pragma omp parallel for schedule(static)
    for (size_t k = 0; k < d_x; k++) /* x^T dq by rows of W, each anchor in order */
        for (int32_t i = 0; i < n; i++)
            soothe__add_scaled(gradient + k * d_y, scratch + ((size_t)i * 2 + 1) * d_y, p->x[anchors[i] * d_x + k],
                               d_y);
    return loss;
}

/* ---- fitting ------------------------------------------------------------------------------------------------- */

struct fit {
    float                            *w, *gradient, *m, *v;
    uint32_t                         *order, *anchors, *candidates;
    float                            *scratch;
    double                           *losses;
    float                            *x; /* unit rows: their lengths mean nothing to a cosine, but to Adam's steps */
    struct soothe__rows_pair          p;
    const struct soothe__contrastive *o;
    struct soothe__rng                rng;
    int64_t                           n_updates;
};

static void fit_free(struct fit *f) {
    void *all[] = {f->gradient, f->m, f->v, f->order, f->anchors, f->candidates, f->x, f->scratch, f->losses};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static bool fit_begin(struct fit *f, float *w, const struct soothe__rows_pair *p, const struct soothe__contrastive *o) {
    const size_t d_x = (size_t)p->d_x, n = d_x * (size_t)p->d_y, batch = (size_t)o->batch;
    *f            = (struct fit){.w = w, .p = *p, .o = o, .rng = soothe__rng_seed(o->seed, 17)};
    f->gradient   = soothe__calloc(n, sizeof(float));
    f->m          = soothe__calloc(n, sizeof(float));
    f->v          = soothe__calloc(n, sizeof(float));
    f->order      = soothe__calloc(p->n, sizeof *f->order);
    f->anchors    = soothe__calloc(batch, sizeof *f->anchors);
    f->candidates = soothe__calloc(batch * (size_t)(1 + o->n_negatives), sizeof *f->candidates);
    f->x          = soothe__calloc(p->n, d_x * sizeof(float));
    f->scratch    = soothe__calloc(batch, 2 * (size_t)p->d_y * sizeof(float));
    f->losses     = soothe__calloc(batch, sizeof *f->losses);
    if (!f->gradient || !f->m || !f->v || !f->order || !f->anchors || !f->candidates || !f->x || !f->scratch ||
        !f->losses)
        return false;
    for (size_t i = 0; i < p->n; i++) {
        const float size = norm(p->x + i * d_x, d_x);
        f->order[i]      = (uint32_t)i;
        for (size_t k = 0; k < d_x; k++)
            f->x[i * d_x + k] = p->x[i * d_x + k] / size;
    }
    f->p.x = f->x;
    for (size_t i = 0; i < n; i++)
        w[i] = (float)(soothe__rng_normal(&f->rng) / sqrt((double)d_x));
    return true;
}

static void shuffle(struct fit *f) {
    for (size_t i = f->p.n; i > 1; i--) {
        const uint32_t k = soothe__rng_below(&f->rng, (uint32_t)i), kept = f->order[k];
        f->order[k]     = f->order[i - 1];
        f->order[i - 1] = kept;
    }
}

static double step(struct fit *f, size_t from, int32_t n) {
    const size_t size = (size_t)f->p.d_x * (size_t)f->p.d_y, width = (size_t)(1 + f->o->n_negatives);
    for (int32_t i = 0; i < n; i++) {
        uint32_t *candidates = f->candidates + (size_t)i * width;
        f->anchors[i] = candidates[0] = f->order[from + (size_t)i];
        for (size_t j = 1; j < width; j++) /* another than the own one */
            candidates[j] = (candidates[0] + 1 + soothe__rng_below(&f->rng, (uint32_t)f->p.n - 1)) % (uint32_t)f->p.n;
    }
    memset(f->gradient, 0, size * sizeof(float));
    const double               loss = soothe__contrastive_loss(f->gradient, f->w, &f->p, f->anchors, f->candidates, n,
                                                               f->o->n_negatives, f->o->temperature, f->scratch, f->losses);
    const double               updates = (double)++f->n_updates;
    const struct soothe__adamw a       = {.lr    = (float)f->o->rate,
                                          .beta1 = 0.9f,
                                          .beta2 = 0.999f,
                                          .eps   = 1e-8f,
                                          .c1    = (float)(1 - pow(0.9, updates)),
                                          .c2    = (float)(1 - pow(0.999, updates)),
                                          .scale = 1.0f};
    soothe__adamw_update(f->w, f->m, f->v, f->gradient, &a, size);
    return loss;
}

enum soothe_status soothe__map_contrastive(float *w, const struct soothe__rows_pair *p,
                                           const struct soothe__contrastive *o, double *loss,
                                           struct soothe_error *err) {
    struct fit              f;
    enum soothe_status      status   = SOOTHE_OK;
    struct soothe__progress progress = soothe__progress_start();
    if (p->n < 2)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%zu tokens to contrast: at least 2 are needed", p->n);
    if (!fit_begin(&f, w, p, o))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu tokens to align on", p->n);
    for (int32_t epoch = 0; epoch < o->n_epochs && !status; epoch++) {
        char   detail[64];
        double sum = 0;
        shuffle(&f);
        for (size_t from = 0; from < p->n && !status; from += (size_t)o->batch) {
            const size_t  left = p->n - from;
            const int32_t n    = left < (size_t)o->batch ? (int32_t)left : o->batch;
            sum += step(&f, from, n) * n;
            if (o->stop && *o->stop)
                status = soothe__fail(err, SOOTHE_E_INTERRUPTED, "stopped in epoch %d of %d", epoch + 1, o->n_epochs);
        }
        *loss = sum / (double)p->n;
        snprintf(detail, sizeof detail, "epoch %d/%d  loss %.4f", epoch + 1, o->n_epochs, *loss);
        soothe__progress_update(&progress, (double)(epoch + 1) / o->n_epochs, detail);
    }
    soothe__progress_finish(&progress);
    if (!status)
        soothe__map_rescale(w, p);
    fit_free(&f);
    return status;
}
