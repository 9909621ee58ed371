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

enum { N_FACTORS = 7 }; /* q, k, v, o, gate, up, down */

/* Places of the way back, from the lowest on; the same in every block. */
enum stage { STAGE_ATTN_NORM, STAGE_QKV, STAGE_O, STAGE_FFN_NORM, STAGE_GATE_UP, STAGE_DOWN, N_STAGES };

struct activations {            /* of one block, kept for the way back */
    float *x, *y;               /* (T, d) */
    float *inverse1, *inverse2; /* (T) 1/rms */
    void  *n1, *n2;             /* operands (T, d) */
    float *q, *k, *v;           /* (T, n_head d_head), (T, n_head_kv d_head) twice */
    void  *o, *m;               /* operands (T, n_head d_head), (T, n_ff) */
    float *gate, *up;           /* (T, n_ff) */
    void  *u[N_FACTORS];        /* operands (T, r) */
    float *probabilities;
    size_t n_probabilities; /* capacity */
};

struct soothe__blocks {
    struct soothe__train_shape         s;
    const struct soothe__block_places *places;
    struct soothe__place               output_norm;
    struct soothe__linear              linear;
    const uint16_t                    *embedding;
    bool                               bf16;
    int32_t                            max_tokens, n, n_padded; /* of the batch under way */
    int32_t                            lowest; /* block, stage: i N_STAGES + stage of the lowest that learns */
    struct activations                *kept; /* one for each block that the way back reaches, and one for the others */
    struct activations               **blocks; /* each block's */
    int32_t                            n_kept;
    float                             *rope; /* table */
    float                             *x_last, *inverse_last, *h;
    float                             *wide, *wide2, *narrow, *dx, *dq, *dk, *dv; /* scratch, F32 */
    void                              *operand, *operand2, *operand3;             /* scratch (T, widest) */
    float                             *groups;                                    /* (N_GROUPS, widest) */
    size_t                             memory;
};

/* ---- layout ------------------------------------------------------------------------------------------- */

void soothe__block_visit(const struct soothe__train_shape *s, int32_t i, struct soothe__block_places *p,
                         soothe__visit_tensor visit, void *user) {
    const int32_t d_q = s->n_head * s->d_head, d_kv = s->n_head_kv * s->d_head, d = s->d_cal;
    const struct {
        const char           *name;
        struct soothe__place *place;
        int32_t               n_out, n_in;
        bool                  present;
    } tensors[] = {{"attn_norm.weight", &p->attn_norm, 1, d, true},   {"attn_q.weight", &p->q, d_q, d, true},
                   {"attn_k.weight", &p->k, d_kv, d, true},           {"attn_v.weight", &p->v, d_kv, d, true},
                   {"attn_q.bias", &p->q_bias, 1, d_q, s->qkv_bias},  {"attn_k.bias", &p->k_bias, 1, d_kv, s->qkv_bias},
                   {"attn_v.bias", &p->v_bias, 1, d_kv, s->qkv_bias}, {"attn_output.weight", &p->o, d, d_q, true},
                   {"ffn_norm.weight", &p->ffn_norm, 1, d, true},     {"ffn_gate.weight", &p->gate, s->n_ff, d, true},
                   {"ffn_up.weight", &p->up, s->n_ff, d, true},       {"ffn_down.weight", &p->down, d, s->n_ff, true}};
    for (size_t k = 0; k < sizeof tensors / sizeof *tensors; k++) {
        *tensors[k].place = (struct soothe__place){tensors[k].n_out, tensors[k].n_in, SOOTHE__NOWHERE, NULL, false,
                                                   SOOTHE__NOWHERE,  SOOTHE__NOWHERE};
        if (!tensors[k].present)
            continue;
        char name[48];
        snprintf(name, sizeof name, "blk.%d.%s", i, tensors[k].name);
        visit(user, name, tensors[k].place);
    }
}

/* The lowest stage that learns; behind the last block's where only the final norm does, or nothing. */
static int32_t find_lowest(const struct soothe__block_places *places, int32_t n_blocks) {
    for (int32_t i = 0; i < n_blocks; i++) {
        const struct soothe__block_places *p                = &places[i];
        const bool                         learns[N_STAGES] = {soothe__place_learns(&p->attn_norm),
                                                               soothe__place_learns(&p->q) || soothe__place_learns(&p->k) ||
                                                                   soothe__place_learns(&p->v) || p->q_bias.learns || p->k_bias.learns ||
                                                                   p->v_bias.learns,
                                                               soothe__place_learns(&p->o),
                                                               soothe__place_learns(&p->ffn_norm),
                                                               soothe__place_learns(&p->gate) || soothe__place_learns(&p->up),
                                                               soothe__place_learns(&p->down)};
        for (int32_t stage = 0; stage < N_STAGES; stage++)
            if (learns[stage])
                return i * N_STAGES + stage;
    }
    return n_blocks * N_STAGES;
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
    for (int k = 0; k < N_FACTORS && b->linear.rank; k++)
        a->u[k] = claim(b, b->linear.rank, op);
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

/* Elements of the largest weight that is kept elsewhere. */
static size_t largest_fixed(const struct soothe__blocks *b) {
    size_t n = 0;
    for (int32_t i = 0; i < b->s.n_blocks; i++) {
        const struct soothe__block_places *p     = &b->places[i];
        const struct soothe__place        *all[] = {&p->q, &p->k, &p->v, &p->o, &p->gate, &p->up, &p->down};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
            const size_t size = (size_t)all[k]->n_out * (size_t)all[k]->n_in;
            if (all[k]->at == SOOTHE__NOWHERE && size > n)
                n = size;
        }
    }
    return n;
}

/* Blocks below the lowest that learns share their activations: no way back reaches them. */
static bool place_activations(struct soothe__blocks *b) {
    const int32_t n = b->s.n_blocks, first = b->lowest / N_STAGES < n ? b->lowest / N_STAGES : n;
    b->n_kept = n - first + (first > 0);
    b->kept   = soothe__calloc((size_t)b->n_kept, sizeof *b->kept);
    b->blocks = soothe__calloc((size_t)n, sizeof *b->blocks);
    if (!b->kept || !b->blocks)
        return false;
    for (int32_t i = 0; i < n; i++)
        b->blocks[i] = i < first ? &b->kept[0] : &b->kept[i - first + (first > 0)];
    for (int32_t i = 0; i < b->n_kept; i++)
        claim_activations(b, &b->kept[i]);
    return true;
}

enum soothe_status soothe__blocks_new(struct soothe__blocks **out, const struct soothe__blocks_setup *setup,
                                      struct soothe_error *err) {
    *out                     = NULL;
    struct soothe__blocks *b = soothe__calloc(1, sizeof *b);
    if (!b)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for training");
    b->s           = *setup->shape;
    b->places      = setup->places;
    b->output_norm = setup->output_norm;
    b->embedding   = setup->embedding;
    b->bf16        = setup->bf16;
    b->max_tokens  = setup->max_tokens;
    b->n_padded    = padded(setup->max_tokens);
    b->lowest      = find_lowest(setup->places, b->s.n_blocks);
    b->linear      = (struct soothe__linear){.gemm         = setup->gemm,
                                             .bf16         = setup->bf16,
                                             .fixed        = setup->fixed,
                                             .n_parameters = setup->n_parameters,
                                             .rank         = setup->rank,
                                             .scale        = setup->scale};
    const bool ok  = place_activations(b);
    if (ok)
        claim_scratch(b);
    enum soothe_status status = ok ? soothe__linear_init(&b->linear, b->n_padded, largest_fixed(b), err) : SOOTHE_OK;
    if (!ok || b->memory == SIZE_MAX)
        status =
            soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for training on %d tokens at a time", setup->max_tokens);
    if (status) {
        soothe__blocks_free(b);
        return status;
    }
    soothe__rope_table(&b->s, setup->max_tokens, b->rope);
    *out = b;
    return SOOTHE_OK;
}

void soothe__blocks_free(struct soothe__blocks *b) {
    if (!b)
        return;
    for (int32_t i = 0; b->kept && i < b->n_kept; i++) {
        struct activations *a     = &b->kept[i];
        void               *all[] = {a->x, a->y, a->inverse1, a->inverse2, a->n1, a->n2,   a->q,
                                     a->k, a->v, a->o,        a->m,        a->up, a->gate, a->probabilities};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            free(all[k]);
        for (size_t k = 0; k < N_FACTORS; k++)
            free(a->u[k]);
    }
    void *all[] = {b->kept, b->blocks,  b->rope,     b->x_last,   b->inverse_last, b->h,
                   b->wide, b->wide2,   b->narrow,   b->dx,       b->dq,           b->dk,
                   b->dv,   b->operand, b->operand2, b->operand3, b->groups};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        free(all[k]);
    soothe__linear_free(&b->linear);
    free(b);
}

size_t soothe__blocks_memory(const struct soothe__blocks *b) {
    return b->memory + b->linear.memory;
}

/* ---- pieces ------------------------------------------------------------------------------------------- */

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

/* dx += the norm's gradient for dy; its weight's gradient += its share, where it learns. */
static void norm_backward(struct soothe__blocks *b, float *dx, const struct soothe__place *place, const float *dy,
                          const float *x, const float *inverse) {
    const float *w = b->linear.parameters + place->at;
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
    if (place->learns)
        add_groups(b, b->linear.gradients + place->at, b->s.d_cal);
}

static void add_bias(const struct soothe__blocks *b, float *y, const struct soothe__place *bias) {
    const float *values = b->linear.parameters + bias->at;
    const size_t width  = (size_t)bias->n_in;
#pragma omp parallel for schedule(static)
    for (int32_t t = 0; t < b->n; t++)
        soothe__add_scaled(y + (size_t)t * width, values, 1.0f, width);
}

static void bias_backward(struct soothe__blocks *b, const struct soothe__place *bias, const float *dy) {
    const size_t n = (size_t)bias->n_in;
    if (!bias->learns)
        return;
#pragma omp parallel for schedule(static)
    for (int32_t g = 0; g < N_GROUPS; g++) {
        float *sum = b->groups + (size_t)g * n;
        memset(sum, 0, n * sizeof *sum);
        for (int32_t t = group_start(b, g); t < group_start(b, g + 1); t++)
            soothe__add_scaled(sum, dy + (size_t)t * n, 1.0f, n);
    }
    add_groups(b, b->linear.gradients + bias->at, bias->n_in);
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

static enum soothe_status attention(struct soothe__blocks *b, int32_t i, const struct soothe__train_batch *batch,
                                    struct soothe_error *err) {
    const struct soothe__train_shape  *s      = &b->s;
    const struct soothe__block_places *p      = &b->places[i];
    struct soothe__linear             *l      = &b->linear;
    struct activations                *a      = b->blocks[i];
    enum soothe_status                 status = make_room(a, s, batch, err);
    norm_forward(b, a->x, l->parameters + p->attn_norm.at, a->inverse1, a->n1, NULL);
    if (!status)
        status = soothe__linear_forward(l, &p->q, a->n1, a->u[0], a->q, false, err);
    if (!status)
        status = soothe__linear_forward(l, &p->k, a->n1, a->u[1], a->k, false, err);
    if (!status)
        status = soothe__linear_forward(l, &p->v, a->n1, a->u[2], a->v, false, err);
    if (status)
        return status;
    if (s->qkv_bias) {
        add_bias(b, a->q, &p->q_bias);
        add_bias(b, a->k, &p->k_bias);
        add_bias(b, a->v, &p->v_bias);
    }
    soothe__rope(s, batch, b->rope, a->q, a->k, 1.0f);
    soothe__attention_forward(s, batch, a->q, a->k, a->v, b->wide, a->probabilities);
    put_rows(b, a->o, b->wide, p->o.n_in);
    memcpy(a->y, a->x, (size_t)b->n * (size_t)s->d_cal * sizeof *a->y);
    return soothe__linear_forward(l, &p->o, a->o, a->u[3], a->y, true, err);
}

/* The second half of a block; its result goes to x_next. */
static enum soothe_status feed_forward(struct soothe__blocks *b, int32_t i, float *x_next, struct soothe_error *err) {
    const struct soothe__train_shape  *s = &b->s;
    const struct soothe__block_places *p = &b->places[i];
    struct soothe__linear             *l = &b->linear;
    struct activations                *a = b->blocks[i];
    const size_t                       n = (size_t)s->n_ff;
    norm_forward(b, a->y, l->parameters + p->ffn_norm.at, a->inverse2, a->n2, NULL);
    enum soothe_status status = soothe__linear_forward(l, &p->gate, a->n2, a->u[4], a->gate, false, err);
    if (!status)
        status = soothe__linear_forward(l, &p->up, a->n2, a->u[5], a->up, false, err);
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
    return soothe__linear_forward(l, &p->down, a->m, a->u[6], x_next, true, err);
}

void soothe__blocks_use_factors(struct soothe__blocks *b, bool use) {
    b->linear.no_factors = !use;
}

enum soothe_status soothe__blocks_forward(struct soothe__blocks *b, const float *parameters,
                                          const struct soothe__train_batch *batch, const float **h_c,
                                          struct soothe_error *err) {
    const size_t d       = (size_t)b->s.d_cal;
    b->n                 = batch->n_tokens;
    b->n_padded          = padded(b->n);
    b->linear.n          = b->n;
    b->linear.n_padded   = b->n_padded;
    b->linear.parameters = parameters;
    soothe__linear_convert(&b->linear);
#pragma omp parallel for schedule(static)
    for (int32_t t = 0; t < b->n; t++)
        soothe__from_bf16(b->blocks[0]->x + (size_t)t * d, b->embedding + (size_t)batch->tokens[t] * d, d);
    enum soothe_status status = SOOTHE_OK;
    for (int32_t i = 0; i < b->s.n_blocks && !status; i++) {
        status = attention(b, i, batch, err);
        if (!status)
            status = feed_forward(b, i, i + 1 < b->s.n_blocks ? b->blocks[i + 1]->x : b->x_last, err);
    }
    if (status)
        return status;
    norm_forward(b, b->x_last, parameters + b->output_norm.at, b->inverse_last, NULL, b->h);
    *h_c = b->h;
    return SOOTHE_OK;
}

/* ---- backward ----------------------------------------------------------------------------------------- */

/* Is there anything to learn below this stage of block i? */
static bool goes_below(const struct soothe__blocks *b, int32_t i, enum stage stage) {
    return b->lowest < i * N_STAGES + (int32_t)stage;
}

/* b->dx, the gradient after the block, becomes that of y, where anything there learns. */
static enum soothe_status feed_forward_backward(struct soothe__blocks *b, int32_t i, struct soothe_error *err) {
    const struct soothe__train_shape  *s     = &b->s;
    const struct soothe__block_places *p     = &b->places[i];
    struct soothe__linear             *l     = &b->linear;
    const struct activations          *a     = b->blocks[i];
    const size_t                       n     = (size_t)s->n_ff;
    const bool                         below = goes_below(b, i, STAGE_GATE_UP);
    put_rows(b, b->operand, b->dx, s->d_cal);
    enum soothe_status status = soothe__linear_backward(l, &p->down, a->m, a->u[6], b->operand,
                                                        goes_below(b, i, STAGE_DOWN) ? b->wide : NULL, false, err);
    if (status || !goes_below(b, i, STAGE_DOWN))
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
    status = soothe__linear_backward(l, &p->gate, a->n2, a->u[4], b->operand, below ? b->narrow : NULL, false, err);
    if (!status)
        status = soothe__linear_backward(l, &p->up, a->n2, a->u[5], b->operand2, below ? b->narrow : NULL, true, err);
    if (!status && below)
        norm_backward(b, b->dx, &p->ffn_norm, b->narrow, a->y, a->inverse2);
    return status;
}

/* b->dx, the gradient of y, becomes that of x, where anything there learns. */
static enum soothe_status attention_backward(struct soothe__blocks *b, int32_t i,
                                             const struct soothe__train_batch *batch, struct soothe_error *err) {
    const struct soothe__train_shape  *s     = &b->s;
    const struct soothe__block_places *p     = &b->places[i];
    struct soothe__linear             *l     = &b->linear;
    const struct activations          *a     = b->blocks[i];
    float                             *below = goes_below(b, i, STAGE_QKV) ? b->narrow : NULL;
    put_rows(b, b->operand, b->dx, s->d_cal);
    enum soothe_status status = soothe__linear_backward(l, &p->o, a->o, a->u[3], b->operand,
                                                        goes_below(b, i, STAGE_O) ? b->wide : NULL, false, err);
    if (status || !goes_below(b, i, STAGE_O))
        return status;
    soothe__attention_backward(s, batch, a->q, a->k, a->v, b->wide, a->probabilities, b->dq, b->dk, b->dv);
    soothe__rope(s, batch, b->rope, b->dq, b->dk, -1.0f);
    if (s->qkv_bias) {
        bias_backward(b, &p->q_bias, b->dq);
        bias_backward(b, &p->k_bias, b->dk);
        bias_backward(b, &p->v_bias, b->dv);
    }
    put_rows(b, b->operand, b->dq, p->q.n_out);
    put_rows(b, b->operand2, b->dk, p->k.n_out);
    put_rows(b, b->operand3, b->dv, p->v.n_out);
    status = soothe__linear_backward(l, &p->q, a->n1, a->u[0], b->operand, below, false, err);
    if (!status)
        status = soothe__linear_backward(l, &p->k, a->n1, a->u[1], b->operand2, below, true, err);
    if (!status)
        status = soothe__linear_backward(l, &p->v, a->n1, a->u[2], b->operand3, below, true, err);
    if (!status && below)
        norm_backward(b, b->dx, &p->attn_norm, b->narrow, a->x, a->inverse1);
    return status;
}

enum soothe_status soothe__blocks_backward(struct soothe__blocks *b, const float *parameters,
                                           const struct soothe__train_batch *batch, const float *dh_c, float *gradients,
                                           struct soothe_error *err) {
    b->linear.parameters = parameters;
    b->linear.gradients  = gradients;
    memset(b->dx, 0, (size_t)b->n * (size_t)b->s.d_cal * sizeof *b->dx);
    norm_backward(b, b->dx, &b->output_norm, dh_c, b->x_last, b->inverse_last);
    enum soothe_status status = SOOTHE_OK;
    for (int32_t i = b->s.n_blocks - 1; i >= 0 && !status; i--) {
        if (goes_below(b, i + 1, STAGE_ATTN_NORM))
            status = feed_forward_backward(b, i, err);
        if (!status && goes_below(b, i, STAGE_FFN_NORM))
            status = attention_backward(b, i, batch, err);
    }
    return status;
}
