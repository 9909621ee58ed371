/* SPDX-License-Identifier: Apache-2.0
 * The blocks of a Llama or Qwen2 shape, forward and backward, over packed texts.
 *
 * Legend: T tokens, padded to a multiple of 64 rows so that products have few shapes; d = d_cal.
 * "Operand" is what matrix products read: bf16, or F32 itself under F32 precision. The padded rows of every
 * operand are zero, so they add nothing to any gradient.
 *
 *   n1 = norm(x); q, k, v = n1 W^T (+ bias); o = attention(rope(q), rope(k), v); y = x + o Wo^T
 *   n2 = norm(y); m = silu(n2 Wg^T) * (n2 Wu^T);                                 x' = y + m Wd^T */
#include "train/blocks.h"

#include <stdlib.h>
#include <string.h>

#include "train/attention.h"
#include "train/kernels.h"

enum {
    N_GROUPS = 16,     /* of rows whose share of a vector's gradient is summed alone: fixed, so that the
                          result does not depend on the number of threads */
    UP_PIECE = 1 << 12 /* floats of a row under way */
};

struct activations {            /* of one block, kept for the way back */
    float *x, *y;               /* (T, d) */
    float *inverse1, *inverse2; /* (T) 1/rms */
    void  *n1, *n2;             /* operands (T, d) */
    float *q, *k, *v;           /* (T, n_head d_head), (T, n_head_kv d_head) twice */
    void  *o, *m;               /* operands (T, n_head d_head), (T, n_ff) */
    float *gate, *up;           /* (T, n_ff) */
    float *probabilities;
    size_t n_probabilities; /* capacity */
};

struct soothe__blocks {
    struct soothe__train_shape    s;
    struct soothe__gemm          *gemm;
    const uint16_t               *embedding;
    bool                          bf16;
    int32_t                       max_tokens, n, n_padded; /* of the batch under way */
    struct soothe__block_offsets *offsets;
    size_t                        output_norm, n_parameters;
    uint16_t                     *weights; /* bf16 copy of the parameters; NULL under F32 */
    struct activations           *blocks;
    float                        *rope; /* table */
    float                        *x_last, *inverse_last, *h;
    float                        *wide, *wide2, *narrow, *dx, *dq, *dk, *dv; /* scratch, F32 */
    void                         *operand, *operand2, *operand3;             /* scratch (T, widest) */
    float                        *groups;                                    /* (N_GROUPS, widest) */
    size_t                        memory;
};

/* ---- layout ------------------------------------------------------------------------------------------- */

struct soothe__block_offsets soothe__block_layout(const struct soothe__train_shape *s, int32_t i, size_t *at,
                                                  soothe__emit_tensor emit, void *user) {
    struct soothe__block_offsets o   = {0};
    const int32_t                d_q = s->n_head * s->d_head, d_kv = s->n_head_kv * s->d_head, d = s->d_cal;
    const struct {
        const char *name;
        size_t     *offset;
        int32_t     n_out, n_in;
        bool        present;
    } tensors[] = {{"attn_norm.weight", &o.attn_norm, 1, d, true},   {"attn_q.weight", &o.q, d_q, d, true},
                   {"attn_k.weight", &o.k, d_kv, d, true},           {"attn_v.weight", &o.v, d_kv, d, true},
                   {"attn_q.bias", &o.q_bias, 1, d_q, s->qkv_bias},  {"attn_k.bias", &o.k_bias, 1, d_kv, s->qkv_bias},
                   {"attn_v.bias", &o.v_bias, 1, d_kv, s->qkv_bias}, {"attn_output.weight", &o.o, d, d_q, true},
                   {"ffn_norm.weight", &o.ffn_norm, 1, d, true},     {"ffn_gate.weight", &o.gate, s->n_ff, d, true},
                   {"ffn_up.weight", &o.up, s->n_ff, d, true},       {"ffn_down.weight", &o.down, d, s->n_ff, true}};
    for (size_t k = 0; k < sizeof tensors / sizeof *tensors; k++) {
        if (!tensors[k].present)
            continue;
        char name[48];
        snprintf(name, sizeof name, "blk.%d.%s", i, tensors[k].name);
        *tensors[k].offset = *at;
        *at += (size_t)tensors[k].n_out * (size_t)tensors[k].n_in;
        if (emit)
            emit(user, name, tensors[k].n_out, tensors[k].n_in);
    }
    return o;
}

/* ---- making ------------------------------------------------------------------------------------------- */

/* n_rows x width elements, counted; NULL after one failure, which the caller finds in b->memory == SIZE_MAX. */
static void *claim(struct soothe__blocks *b, int32_t width, size_t size) {
    if (b->memory == SIZE_MAX)
        return NULL;
    const size_t n = (size_t)b->n_padded * (size_t)width;
    void        *p = soothe__calloc(n, size);
    b->memory      = p ? b->memory + n * size : SIZE_MAX;
    return p;
}

static void claim_activations(struct soothe__blocks *b, struct activations *a) {
    const struct soothe__train_shape *s  = &b->s;
    const int32_t                     dq = s->n_head * s->d_head, dkv = s->n_head_kv * s->d_head;
    const size_t                      f = sizeof(float), op = b->bf16 ? sizeof(uint16_t) : sizeof(float);
    a->x        = claim(b, s->d_cal, f);
    a->y        = claim(b, s->d_cal, f);
    a->inverse1 = claim(b, 1, f);
    a->inverse2 = claim(b, 1, f);
    a->n1       = claim(b, s->d_cal, op);
    a->n2       = claim(b, s->d_cal, op);
    a->q        = claim(b, dq, f);
    a->k        = claim(b, dkv, f);
    a->v        = claim(b, dkv, f);
    a->o        = claim(b, dq, op);
    a->m        = claim(b, s->n_ff, op);
    a->gate     = claim(b, s->n_ff, f);
    a->up       = claim(b, s->n_ff, f);
}

static void claim_scratch(struct soothe__blocks *b) {
    const struct soothe__train_shape *s  = &b->s;
    const int32_t                     dq = s->n_head * s->d_head, dkv = s->n_head_kv * s->d_head;
    const size_t                      f = sizeof(float), op = b->bf16 ? sizeof(uint16_t) : sizeof(float);
    int32_t                           widest = s->n_ff > s->d_cal ? s->n_ff : s->d_cal;
    widest                                   = dq > widest ? dq : widest;
    b->x_last                                = claim(b, s->d_cal, f);
    b->inverse_last                          = claim(b, 1, f);
    b->h                                     = claim(b, s->d_cal, f);
    b->wide                                  = claim(b, widest, f);
    b->wide2                                 = claim(b, widest, f);
    b->narrow                                = claim(b, s->d_cal, f);
    b->dx                                    = claim(b, s->d_cal, f);
    b->dq                                    = claim(b, dq, f);
    b->dk                                    = claim(b, dkv, f);
    b->dv                                    = claim(b, dkv, f);
    b->operand                               = claim(b, widest, op);
    b->operand2                              = claim(b, widest, op);
    b->operand3                              = claim(b, widest, op);
    b->rope                                  = claim(b, s->d_head, f);
    if (b->memory == SIZE_MAX)
        return;
    b->groups = soothe__calloc((size_t)N_GROUPS * (size_t)widest, f);
    if (!b->groups)
        b->memory = SIZE_MAX;
}

static int32_t padded(int32_t n) {
    return (n + SOOTHE__ROWS_STEP - 1) / SOOTHE__ROWS_STEP * SOOTHE__ROWS_STEP;
}

enum soothe_status soothe__blocks_new(struct soothe__blocks **out, const struct soothe__train_shape *shape,
                                      int32_t max_tokens, bool bf16, struct soothe__gemm *gemm,
                                      const uint16_t *embedding, struct soothe_error *err) {
    *out                     = NULL;
    struct soothe__blocks *b = soothe__calloc(1, sizeof *b);
    if (!b)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for training");
    b->s          = *shape;
    b->gemm       = gemm;
    b->embedding  = embedding;
    b->bf16       = bf16;
    b->max_tokens = max_tokens;
    b->n_padded   = padded(max_tokens);
    b->blocks     = soothe__calloc((size_t)shape->n_blocks, sizeof *b->blocks);
    b->offsets    = soothe__calloc((size_t)shape->n_blocks, sizeof *b->offsets);
    bool ok       = b->blocks && b->offsets;
    for (int32_t i = 0; i < shape->n_blocks && ok; i++) {
        b->offsets[i] = soothe__block_layout(shape, i, &b->n_parameters, NULL, NULL);
        claim_activations(b, &b->blocks[i]);
    }
    b->output_norm = b->n_parameters;
    b->n_parameters += (size_t)shape->d_cal;
    if (ok)
        claim_scratch(b);
    if (ok && bf16) {
        b->weights = soothe__calloc(b->n_parameters, sizeof *b->weights);
        ok         = b->weights != NULL;
    }
    if (!ok || b->memory == SIZE_MAX) {
        soothe__blocks_free(b);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for training on %d tokens at a time", max_tokens);
    }
    soothe__rope_table(shape, max_tokens, b->rope);
    *out = b;
    return SOOTHE_OK;
}

void soothe__blocks_free(struct soothe__blocks *b) {
    if (!b)
        return;
    for (int32_t i = 0; b->blocks && i < b->s.n_blocks; i++) {
        struct activations *a     = &b->blocks[i];
        void               *all[] = {a->x, a->y, a->inverse1, a->inverse2, a->n1, a->n2,   a->q,
                                     a->k, a->v, a->o,        a->m,        a->up, a->gate, a->probabilities};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            free(all[k]);
    }
    void *all[] = {b->offsets, b->weights, b->blocks,  b->rope,     b->x_last,   b->inverse_last,
                   b->h,       b->wide,    b->wide2,   b->narrow,   b->dx,       b->dq,
                   b->dk,      b->dv,      b->operand, b->operand2, b->operand3, b->groups};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        free(all[k]);
    free(b);
}

size_t soothe__blocks_memory(const struct soothe__blocks *b) {
    return b->memory + (b->weights ? b->n_parameters * sizeof *b->weights : 0);
}

/* ---- pieces ------------------------------------------------------------------------------------------- */

/* The operand of a weight. */
static const void *weight(const struct soothe__blocks *b, const float *parameters, size_t offset) {
    return b->bf16 ? (const void *)(b->weights + offset) : (const void *)(parameters + offset);
}

/* Row t of x as an operand. */
static void put_row(const struct soothe__blocks *b, void *operand, const float *x, int32_t t, int32_t width) {
    const size_t n = (size_t)width, at = (size_t)t * n;
    if (b->bf16)
        soothe__to_bf16((uint16_t *)operand + at, x, n);
    else
        memcpy((float *)operand + at, x, n * sizeof *x);
}

static void zero_padding(const struct soothe__blocks *b, void *operand, int32_t width) {
    const size_t size = b->bf16 ? sizeof(uint16_t) : sizeof(float), row = (size_t)width * size;
    memset((char *)operand + (size_t)b->n * row, 0, (size_t)(b->n_padded - b->n) * row);
}

static void put_rows(const struct soothe__blocks *b, void *operand, const float *x, int32_t width) {
#pragma omp parallel for schedule(static)
    for (int32_t t = 0; t < b->n; t++)
        put_row(b, operand, x + (size_t)t * (size_t)width, t, width);
    zero_padding(b, operand, width);
}

/* y (T, n_out) = or += x W^T. */
static enum soothe_status forward(struct soothe__blocks *b, const void *w, const void *x, float *y, int32_t n_out,
                                  int32_t n_in, bool accumulate, struct soothe_error *err) {
    return soothe__gemm_run(b->gemm, false, true, b->n_padded, n_out, n_in, x, w, y, accumulate, err);
}

/* dW += dy^T x; and, unless dx is NULL, dx = or += dy W. */
static enum soothe_status backward(struct soothe__blocks *b, const void *w, const void *x, const void *dy, float *dw,
                                   float *dx, int32_t n_out, int32_t n_in, bool accumulate, struct soothe_error *err) {
    enum soothe_status status = soothe__gemm_run(b->gemm, true, false, n_out, n_in, b->n_padded, dy, x, dw, true, err);
    if (!status && dx)
        status = soothe__gemm_run(b->gemm, false, false, b->n_padded, n_in, n_out, dy, w, dx, accumulate, err);
    return status;
}

/* operand = norm(x) weight; the operand is left out when NULL, y (T, d) when NULL. */
static void norm_forward(struct soothe__blocks *b, const float *x, const float *w, float *inverse, void *operand,
                         float *y) {
    const size_t d = (size_t)b->s.d_cal;
#pragma omp parallel for schedule(static)
    for (int32_t t = 0; t < b->n; t++) {
        float *row = (y ? y : b->narrow) + (size_t)t * d;
        inverse[t] = soothe__rms_norm(row, x + (size_t)t * d, w, b->s.norm_eps, d);
        if (operand)
            put_row(b, operand, row, t, b->s.d_cal);
    }
    if (operand)
        zero_padding(b, operand, b->s.d_cal);
}

static int32_t group_start(const struct soothe__blocks *b, int32_t group) {
    return (int32_t)((int64_t)b->n * group / N_GROUPS);
}

/* out (width) += the groups' sums, in order. */
static void add_groups(const struct soothe__blocks *b, float *out, int32_t width) {
    for (int32_t g = 0; g < N_GROUPS; g++)
        soothe__add_scaled(out, b->groups + (size_t)g * (size_t)width, 1.0f, (size_t)width);
}

/* dx += the norm's gradient for dy; dweight += its share. */
static void norm_backward(struct soothe__blocks *b, float *dx, float *dweight, const float *dy, const float *x,
                          const float *w, const float *inverse) {
    const size_t d = (size_t)b->s.d_cal;
#pragma omp parallel for schedule(static)
    for (int32_t g = 0; g < N_GROUPS; g++) {
        float *sum = b->groups + (size_t)g * d;
        memset(sum, 0, d * sizeof *sum);
        for (int32_t t = group_start(b, g); t < group_start(b, g + 1); t++) {
            const size_t at = (size_t)t * d;
            soothe__rms_norm_backward(dx + at, sum, dy + at, x + at, w, inverse[t], d);
        }
    }
    add_groups(b, dweight, b->s.d_cal);
}

static void add_bias(const struct soothe__blocks *b, float *y, const float *bias, int32_t width) {
#pragma omp parallel for schedule(static)
    for (int32_t t = 0; t < b->n; t++)
        soothe__add_scaled(y + (size_t)t * (size_t)width, bias, 1.0f, (size_t)width);
}

static void bias_backward(struct soothe__blocks *b, float *dbias, const float *dy, int32_t width) {
    const size_t n = (size_t)width;
#pragma omp parallel for schedule(static)
    for (int32_t g = 0; g < N_GROUPS; g++) {
        float *sum = b->groups + (size_t)g * n;
        memset(sum, 0, n * sizeof *sum);
        for (int32_t t = group_start(b, g); t < group_start(b, g + 1); t++)
            soothe__add_scaled(sum, dy + (size_t)t * n, 1.0f, n);
    }
    add_groups(b, dbias, width);
}

/* ---- forward ------------------------------------------------------------------------------------------ */

static enum soothe_status make_room(struct activations *a, const struct soothe__train_shape *s,
                                    const struct soothe__train_batch *batch, struct soothe_error *err) {
    const size_t need = soothe__attention_probabilities(s, batch);
    if (need <= a->n_probabilities)
        return SOOTHE_OK;
    free(a->probabilities);
    a->probabilities   = soothe__calloc(need, sizeof *a->probabilities);
    a->n_probabilities = a->probabilities ? need : 0;
    return a->probabilities ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for attention");
}

static enum soothe_status attention(struct soothe__blocks *b, int32_t i, const float *p,
                                    const struct soothe__train_batch *batch, struct soothe_error *err) {
    const struct soothe__train_shape   *s  = &b->s;
    const struct soothe__block_offsets *o  = &b->offsets[i];
    struct activations                 *a  = &b->blocks[i];
    const int32_t                       dq = s->n_head * s->d_head, dkv = s->n_head_kv * s->d_head;
    enum soothe_status                  status = make_room(a, s, batch, err);
    norm_forward(b, a->x, p + o->attn_norm, a->inverse1, a->n1, NULL);
    if (!status)
        status = forward(b, weight(b, p, o->q), a->n1, a->q, dq, s->d_cal, false, err);
    if (!status)
        status = forward(b, weight(b, p, o->k), a->n1, a->k, dkv, s->d_cal, false, err);
    if (!status)
        status = forward(b, weight(b, p, o->v), a->n1, a->v, dkv, s->d_cal, false, err);
    if (status)
        return status;
    if (s->qkv_bias) {
        add_bias(b, a->q, p + o->q_bias, dq);
        add_bias(b, a->k, p + o->k_bias, dkv);
        add_bias(b, a->v, p + o->v_bias, dkv);
    }
    soothe__rope(s, batch, b->rope, a->q, a->k, 1.0f);
    soothe__attention_forward(s, batch, a->q, a->k, a->v, b->wide, a->probabilities);
    put_rows(b, a->o, b->wide, dq);
    memcpy(a->y, a->x, (size_t)b->n * (size_t)s->d_cal * sizeof *a->y);
    return forward(b, weight(b, p, o->o), a->o, a->y, s->d_cal, dq, true, err);
}

/* The second half of a block; its result goes to x_next. */
static enum soothe_status feed_forward(struct soothe__blocks *b, int32_t i, const float *p, float *x_next,
                                       struct soothe_error *err) {
    const struct soothe__train_shape   *s = &b->s;
    const struct soothe__block_offsets *o = &b->offsets[i];
    struct activations                 *a = &b->blocks[i];
    const size_t                        n = (size_t)s->n_ff;
    norm_forward(b, a->y, p + o->ffn_norm, a->inverse2, a->n2, NULL);
    enum soothe_status status = forward(b, weight(b, p, o->gate), a->n2, a->gate, s->n_ff, s->d_cal, false, err);
    if (!status)
        status = forward(b, weight(b, p, o->up), a->n2, a->up, s->n_ff, s->d_cal, false, err);
    if (status)
        return status;
#pragma omp parallel for schedule(static)
    for (int32_t t = 0; t < b->n; t++) {
        const size_t at = (size_t)t * n;
        soothe__silu_mul(b->wide + at, a->gate + at, a->up + at, n);
        put_row(b, a->m, b->wide + at, t, s->n_ff);
    }
    zero_padding(b, a->m, s->n_ff);
    memcpy(x_next, a->y, (size_t)b->n * (size_t)s->d_cal * sizeof *x_next);
    return forward(b, weight(b, p, o->down), a->m, x_next, s->d_cal, s->n_ff, true, err);
}

static void convert_weights(struct soothe__blocks *b, const float *parameters) {
    enum { PIECE = 1 << 16 };
    const int64_t n_pieces = b->weights ? (int64_t)((b->n_parameters + PIECE - 1) / PIECE) : 0;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n_pieces; i++) {
        const size_t from = (size_t)i * PIECE, left = b->n_parameters - from;
        soothe__to_bf16(b->weights + from, parameters + from, left < PIECE ? left : PIECE);
    }
}

enum soothe_status soothe__blocks_forward(struct soothe__blocks *b, const float *parameters,
                                          const struct soothe__train_batch *batch, const float **h_c,
                                          struct soothe_error *err) {
    const size_t d = (size_t)b->s.d_cal;
    b->n           = batch->n_tokens;
    b->n_padded    = padded(b->n);
    convert_weights(b, parameters);
#pragma omp parallel for schedule(static)
    for (int32_t t = 0; t < b->n; t++)
        soothe__from_bf16(b->blocks[0].x + (size_t)t * d, b->embedding + (size_t)batch->tokens[t] * d, d);
    enum soothe_status status = SOOTHE_OK;
    for (int32_t i = 0; i < b->s.n_blocks && !status; i++) {
        status = attention(b, i, parameters, batch, err);
        if (!status)
            status = feed_forward(b, i, parameters, i + 1 < b->s.n_blocks ? b->blocks[i + 1].x : b->x_last, err);
    }
    if (status)
        return status;
    norm_forward(b, b->x_last, parameters + b->output_norm, b->inverse_last, NULL, b->h);
    *h_c = b->h;
    return SOOTHE_OK;
}

/* ---- backward ----------------------------------------------------------------------------------------- */

/* b->dx, the gradient after the block, becomes that of y. */
static enum soothe_status feed_forward_backward(struct soothe__blocks *b, int32_t i, const float *p, float *g,
                                                struct soothe_error *err) {
    const struct soothe__train_shape   *s = &b->s;
    const struct soothe__block_offsets *o = &b->offsets[i];
    const struct activations           *a = &b->blocks[i];
    const size_t                        n = (size_t)s->n_ff;
    put_rows(b, b->operand, b->dx, s->d_cal);
    enum soothe_status status =
        backward(b, weight(b, p, o->down), a->m, b->operand, g + o->down, b->wide, s->d_cal, s->n_ff, false, err);
    if (status)
        return status;
#pragma omp parallel for schedule(static)
    for (int32_t t = 0; t < b->n; t++) {
        const size_t at    = (size_t)t * n;
        float       *dgate = b->wide2 + at, *dup = a->up + at; /* up is not needed again */
        for (size_t from = 0; from < n; from += UP_PIECE) {
            const size_t k = n - from < UP_PIECE ? n - from : UP_PIECE;
            float        up[UP_PIECE]; /* not the whole row: a thread's stack may be small */
            memcpy(up, dup + from, k * sizeof *up);
            soothe__silu_mul_backward(dgate + from, dup + from, b->wide + at + from, a->gate + at + from, up, k);
        }
        put_row(b, b->operand, dgate, t, s->n_ff);
        put_row(b, b->operand2, dup, t, s->n_ff);
    }
    zero_padding(b, b->operand, s->n_ff);
    zero_padding(b, b->operand2, s->n_ff);
    status =
        backward(b, weight(b, p, o->gate), a->n2, b->operand, g + o->gate, b->narrow, s->n_ff, s->d_cal, false, err);
    if (!status)
        status =
            backward(b, weight(b, p, o->up), a->n2, b->operand2, g + o->up, b->narrow, s->n_ff, s->d_cal, true, err);
    if (!status)
        norm_backward(b, b->dx, g + o->ffn_norm, b->narrow, a->y, p + o->ffn_norm, a->inverse2);
    return status;
}

/* b->dx, the gradient of y, becomes that of x. */
static enum soothe_status attention_backward(struct soothe__blocks *b, int32_t i, const float *p, float *g,
                                             const struct soothe__train_batch *batch, struct soothe_error *err) {
    const struct soothe__train_shape   *s  = &b->s;
    const struct soothe__block_offsets *o  = &b->offsets[i];
    const struct activations           *a  = &b->blocks[i];
    const int32_t                       dq = s->n_head * s->d_head, dkv = s->n_head_kv * s->d_head, d = s->d_cal;
    put_rows(b, b->operand, b->dx, d);
    enum soothe_status status = backward(b, weight(b, p, o->o), a->o, b->operand, g + o->o, b->wide, d, dq, false, err);
    if (status)
        return status;
    soothe__attention_backward(s, batch, a->q, a->k, a->v, b->wide, a->probabilities, b->dq, b->dk, b->dv);
    soothe__rope(s, batch, b->rope, b->dq, b->dk, -1.0f);
    if (s->qkv_bias) {
        bias_backward(b, g + o->q_bias, b->dq, dq);
        bias_backward(b, g + o->k_bias, b->dk, dkv);
        bias_backward(b, g + o->v_bias, b->dv, dkv);
    }
    put_rows(b, b->operand, b->dq, dq);
    put_rows(b, b->operand2, b->dk, dkv);
    put_rows(b, b->operand3, b->dv, dkv);
    status = backward(b, weight(b, p, o->q), a->n1, b->operand, g + o->q, b->narrow, dq, d, false, err);
    if (!status)
        status = backward(b, weight(b, p, o->k), a->n1, b->operand2, g + o->k, b->narrow, dkv, d, true, err);
    if (!status)
        status = backward(b, weight(b, p, o->v), a->n1, b->operand3, g + o->v, b->narrow, dkv, d, true, err);
    if (!status)
        norm_backward(b, b->dx, g + o->attn_norm, b->narrow, a->x, p + o->attn_norm, a->inverse1);
    return status;
}

enum soothe_status soothe__blocks_backward(struct soothe__blocks *b, const float *parameters,
                                           const struct soothe__train_batch *batch, const float *dh_c, float *gradients,
                                           struct soothe_error *err) {
    memset(b->dx, 0, (size_t)b->n * (size_t)b->s.d_cal * sizeof *b->dx);
    norm_backward(b, b->dx, gradients + b->output_norm, dh_c, b->x_last, parameters + b->output_norm, b->inverse_last);
    enum soothe_status status = SOOTHE_OK;
    for (int32_t i = b->s.n_blocks - 1; i >= 0 && !status; i--) {
        status = feed_forward_backward(b, i, parameters, gradients, err);
        if (!status)
            status = attention_backward(b, i, parameters, gradients, batch, err);
    }
    return status;
}
