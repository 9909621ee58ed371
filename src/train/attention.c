/* SPDX-License-Identifier: Apache-2.0 */
#include "train/attention.h"

#include <math.h>
#include <string.h>

#include "train/kernels.h"

void soothe__rope_table(const struct soothe__train_shape *s, int32_t n_positions, float *table) {
    const int32_t half = s->d_head / 2;
    for (int32_t p = 0; p < n_positions; p++) {
        for (int32_t i = 0; i < half; i++) {
            const double angle = p * pow((double)s->rope_base, -2.0 * i / s->d_head);
            const size_t at    = 2 * ((size_t)p * (size_t)half + (size_t)i);
            table[at]          = (float)cos(angle);
            table[at + 1]      = (float)sin(angle);
        }
    }
}

static void rotate(float *x, const float *table, int32_t half, bool halves, float direction) {
    for (int32_t i = 0; i < half; i++) {
        float      *a = halves ? x + i : x + 2 * i, *b = halves ? x + half + i : x + 2 * i + 1;
        const float c = table[2 * i], n = direction * table[2 * i + 1], u = *a, w = *b;
        *a = u * c - w * n;
        *b = u * n + w * c;
    }
}

void soothe__rope(const struct soothe__train_shape *s, const struct soothe__train_batch *batch, const float *table,
                  float *q, float *k, float direction) {
    const int32_t half = s->d_head / 2;
#pragma omp parallel for schedule(static)
    for (int32_t text = 0; text < batch->n_texts; text++) {
        for (int32_t t = batch->text_start[text]; t < batch->text_start[text + 1]; t++) {
            const float *row = table + (size_t)(t - batch->text_start[text]) * (size_t)(2 * half);
            for (int32_t h = 0; h < s->n_head; h++) {
                rotate(q + ((size_t)t * (size_t)s->n_head + (size_t)h) * (size_t)s->d_head, row, half, s->rope_halves,
                       direction);
            }
            for (int32_t h = 0; h < s->n_head_kv; h++) {
                rotate(k + ((size_t)t * (size_t)s->n_head_kv + (size_t)h) * (size_t)s->d_head, row, half,
                       s->rope_halves, direction);
            }
        }
    }
}

size_t soothe__attention_probabilities(const struct soothe__train_shape *s, const struct soothe__train_batch *batch) {
    size_t n = 0;
    for (int32_t i = 0; i < batch->n_texts; i++) {
        const size_t length = (size_t)(batch->text_start[i + 1] - batch->text_start[i]);
        n += length * length;
    }
    return n * (size_t)s->n_head;
}

/* Where the probabilities of a text begin: those of one head follow those of the one before. */
static size_t probabilities_of(const struct soothe__train_shape *s, const struct soothe__train_batch *batch,
                               int32_t text) {
    struct soothe__train_batch before = *batch;
    before.n_texts                    = text;
    return soothe__attention_probabilities(s, &before);
}

struct head {
    const float *q, *k, *v;
    size_t       q_step, kv_step; /* floats from one token to the next */
    int32_t      n;               /* tokens of the text */
    size_t       d;
};

static struct head head_of(const struct soothe__train_shape *s, const struct soothe__train_batch *batch, int32_t text,
                           int32_t h, const float *q, const float *k, const float *v) {
    const size_t first = (size_t)batch->text_start[text], d = (size_t)s->d_head;
    const size_t h_kv = (size_t)(h / (s->n_head / s->n_head_kv));
    struct head  x    = {.q_step  = (size_t)s->n_head * d,
                         .kv_step = (size_t)s->n_head_kv * d,
                         .d       = d,
                         .n       = batch->text_start[text + 1] - batch->text_start[text]};
    x.q               = q + first * x.q_step + (size_t)h * d;
    x.k               = k + first * x.kv_step + h_kv * d;
    x.v               = v + first * x.kv_step + h_kv * d;
    return x;
}

static void head_forward(const struct head *x, float *out, float *p) {
    const float scale = 1.0f / sqrtf((float)x->d);
    for (int32_t i = 0; i < x->n; i++, p += x->n) {
        const float *q = x->q + (size_t)i * x->q_step;
        for (int32_t j = 0; j <= i; j++) {
            p[j] = scale * soothe__dot(q, x->k + (size_t)j * x->kv_step, x->d);
        }
        const size_t n = (size_t)i + 1;
        soothe__exp_shifted(p, p, soothe__max(p, n), n);
        float sum = 0;
        for (size_t j = 0; j < n; j++) {
            sum += p[j];
        }
        float *o = out + (size_t)i * x->q_step;
        memset(o, 0, x->d * sizeof *o);
        for (size_t j = 0; j < n; j++) {
            p[j] /= sum;
            soothe__add_scaled(o, x->v + j * x->kv_step, p[j], x->d);
        }
    }
}

void        soothe__attention_forward(const struct soothe__train_shape *s, const struct soothe__train_batch *batch,
                                      const float *q, const float *k, const float *v, float *out, float *probabilities) {
#pragma omp parallel for schedule(dynamic)
    for (int32_t i = 0; i < batch->n_texts * s->n_head; i++) {
        const int32_t     text = i / s->n_head, h = i % s->n_head;
        const struct head x = head_of(s, batch, text, h, q, k, v);
        float            *p = probabilities + probabilities_of(s, batch, text) + (size_t)h * (size_t)x.n * (size_t)x.n;
        head_forward(&x, out + (x.q - q), p);
    }
}

static void head_backward(const struct head *x, const float *dout, const float *p, float *dq, float *dk, float *dv,
                          float *ds) {
    const float scale = 1.0f / sqrtf((float)x->d);
    for (int32_t i = 0; i < x->n; i++, p += x->n) {
        const size_t n  = (size_t)i + 1;
        const float *o  = dout + (size_t)i * x->q_step;
        float       *gq = dq + (size_t)i * x->q_step;
        for (size_t j = 0; j < n; j++) {
            ds[j] = soothe__dot(o, x->v + j * x->kv_step, x->d);
            soothe__add_scaled(dv + j * x->kv_step, o, p[j], x->d);
        }
        const float mean = soothe__dot(ds, p, n);
        for (size_t j = 0; j < n; j++) {
            const float g = scale * p[j] * (ds[j] - mean);
            soothe__add_scaled(gq, x->k + j * x->kv_step, g, x->d);
            soothe__add_scaled(dk + j * x->kv_step, x->q + (size_t)i * x->q_step, g, x->d);
        }
    }
}

void soothe__attention_backward(const struct soothe__train_shape *s, const struct soothe__train_batch *batch,
                                const float *q, const float *k, const float *v, const float *dout,
                                const float *probabilities, float *dq, float *dk, float *dv) {
    const size_t  n_tokens = (size_t)batch->n_tokens, d = (size_t)s->d_head;
    const int32_t group = s->n_head / s->n_head_kv;
    memset(dq, 0, n_tokens * (size_t)s->n_head * d * sizeof *dq);
    memset(dk, 0, n_tokens * (size_t)s->n_head_kv * d * sizeof *dk);
    memset(dv, 0, n_tokens * (size_t)s->n_head_kv * d * sizeof *dv);
    /* one thread per key-value head of a text: the query heads that share it add up in order */
#pragma omp parallel for schedule(dynamic)
    for (int32_t i = 0; i < batch->n_texts * s->n_head_kv; i++) {
        const int32_t text = i / s->n_head_kv, h_kv = i % s->n_head_kv;
        for (int32_t h = h_kv * group; h < (h_kv + 1) * group; h++) {
            const struct head x = head_of(s, batch, text, h, q, k, v);
            float             ds[x.n];
            const float *p = probabilities + probabilities_of(s, batch, text) + (size_t)h * (size_t)x.n * (size_t)x.n;
            head_backward(&x, dout + (x.q - q), p, dq + (x.q - q), dk + (x.k - k), dv + (x.v - v), ds);
        }
    }
}
