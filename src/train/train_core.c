/* SPDX-License-Identifier: Apache-2.0
 * The training core: layout of its parameters, checks of a batch, AdamW, the interface. */
#include "train/train_core.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "train/kernels.h"
#include "train/train_pass.h"

static const float BETA1 = 0.9f, BETA2 = 0.95f, EPSILON = 1e-8f;

enum { PIECE = 1 << 14 }; /* parameters that one thread sums or updates at a time: fixed, so that sums are */

struct soothe__train_options soothe__train_options_default(void) {
    return (struct soothe__train_options){.objective  = SOOTHE__PREFERENCE,
                                          .max_tokens = 2048,
                                          .max_rows   = 1024,
                                          .a          = true,
                                          .kappa      = 0.2f,
                                          .lambda     = 0.3f,
                                          .epsilon    = 1e-3f,
                                          .alpha      = 16.0f,
                                          .clip       = 1.0f};
}

const char *soothe__objective_name(enum soothe__objective objective) {
    static const char *const NAMES[] = {"preference", "paper", "lm-steer", "fused", "weighted", "own preference"};
    return NAMES[objective];
}

uint16_t soothe__bf16_from_f32(float x) {
    uint16_t out;
    soothe__to_bf16(&out, &x, 1);
    return out;
}

float soothe__f32_from_bf16(uint16_t x) {
    float out;
    soothe__from_bf16(&out, &x, 1);
    return out;
}

/* ---- layout ------------------------------------------------------------------------------------------- */

static size_t emit(struct soothe__train_core *core, const char *name, int32_t n_out, int32_t n_in, bool trainable) {
    const struct soothe__train_tensor *last = core->n_tensors ? &core->tensors[core->n_tensors - 1] : NULL;
    struct soothe__train_tensor       *t    = &core->tensors[core->n_tensors++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->offset    = last ? last->offset + last->n : 0;
    t->n         = (size_t)n_out * (size_t)n_in;
    t->n_out     = n_out;
    t->n_in      = n_in;
    t->fusion    = strncmp(name, "soothe.", 7) == 0;
    t->trainable = trainable;
    return t->offset;
}

static size_t emit_factor(struct soothe__train_core *core, const char *name, char which, int32_t n_out, int32_t n_in) {
    char full[sizeof core->tensors->name];
    snprintf(full, sizeof full, "%s.lora_%c", name, which);
    return emit(core, full, n_out, n_in, true);
}

/* Vectors are always held: they are small. */
static void place_tensor(void *user, const char *name, struct soothe__place *p) {
    struct soothe__train_core          *core   = user;
    const struct soothe__train_options *o      = &core->options;
    const bool                          matrix = p->n_out > 1;
    const enum soothe__learning         how    = o->freeze_blocks ? SOOTHE__STAYS
                                                 : o->learning    ? o->learning(o->learning_user, name)
                                                                  : SOOTHE__LEARNS;
    p->learns                                  = how == SOOTHE__LEARNS;
    if (matrix && !p->learns && o->fixed)
        p->handle = o->fixed->find(o->fixed->user, name, p->n_out, p->n_in);
    if (!p->handle)
        p->at = emit(core, name, p->n_out, p->n_in, p->learns);
    if (matrix && how == SOOTHE__LOW_RANK) {
        p->a = emit_factor(core, name, 'a', o->rank, p->n_in);
        p->b = emit_factor(core, name, 'b', p->n_out, o->rank);
    }
}

static size_t emit_fusion(struct soothe__train_core *core, size_t *at, const char *name, int32_t n_out, int32_t n_in) {
    *at += (size_t)n_out * (size_t)n_in;
    return emit(core, name, n_out, n_in, true);
}

static enum soothe_status lay_out(struct soothe__train_core *core, struct soothe_error *err) {
    const struct soothe__train_shape *s     = &core->shape;
    const size_t                      n_max = 26 * (size_t)s->n_blocks + 4; /* 12 a block, and factors of seven */
    core->tensors                           = soothe__calloc(n_max, sizeof *core->tensors);
    core->places                            = soothe__calloc((size_t)s->n_blocks + 1, sizeof *core->places);
    if (!core->tensors || !core->places)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for training");
    for (int32_t i = 0; i < s->n_blocks; i++)
        soothe__block_visit(s, i, &core->places[i], place_tensor, core);
    core->output_norm = (struct soothe__place){
        .n_out = 1, .n_in = s->d_cal, .at = SOOTHE__NOWHERE, .a = SOOTHE__NOWHERE, .b = SOOTHE__NOWHERE};
    if (s->n_blocks > 0)
        place_tensor(core, "output_norm.weight", &core->output_norm);
    const struct soothe__train_tensor *last = core->n_tensors ? &core->tensors[core->n_tensors - 1] : NULL;
    size_t                             at   = last ? last->offset + last->n : 0;
    core->fusion_from                       = at;
    if (!soothe__is_direct(core->options.objective)) {
        if (core->options.a && (s->n_blocks > 0 || core->options.given_states))
            core->a = emit_fusion(core, &at, "soothe.a.weight", s->d_cal, s->d_tgt);
        if (core->options.b)
            core->b = emit_fusion(core, &at, "soothe.b.weight", s->d_tgt, s->d_tgt);
        if (core->options.bias)
            core->bias = emit_fusion(core, &at, "soothe.bias", 1, s->d_tgt);
    }
    if (core->options.objective == SOOTHE__LM_STEER) {
        core->p1 = emit_fusion(core, &at, "soothe.p1.weight", s->d_tgt, core->options.rank);
        core->p2 = emit_fusion(core, &at, "soothe.p2.weight", s->d_tgt, core->options.rank);
    }
    core->n_parameters = at;
    return SOOTHE_OK;
}

static bool has_factors(const struct soothe__train_core *core) {
    for (int32_t i = 0; i < core->shape.n_blocks; i++) {
        const struct soothe__block_places *p     = &core->places[i];
        const struct soothe__place        *all[] = {&p->q, &p->k, &p->v, &p->o, &p->gate, &p->up, &p->down};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            if (all[k]->a != SOOTHE__NOWHERE)
                return true;
    }
    return false;
}

/* ---- making ------------------------------------------------------------------------------------------- */

static enum soothe_status check(const struct soothe__train_shape *s, const struct soothe__train_options *o,
                                struct soothe_error *err) {
    if (s->n_vocab < 2 || s->d_tgt < 1 || o->max_rows < 1 || (s->n_blocks > 0 && o->max_tokens < 1))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "training needs a vocabulary, a width and room for rows");
    if (s->n_blocks < 0 || (s->n_blocks > 0 && (s->n_head_kv < 1 || s->n_head < 1 || s->n_head % s->n_head_kv != 0 ||
                                                s->d_head < 2 || s->d_head % 2 != 0 || s->d_cal < 1 || s->n_ff < 1)))
        return soothe__fail(err, SOOTHE_E_SHAPE, "%d query heads on %d key heads of width %d cannot be trained",
                            s->n_head, s->n_head_kv, s->d_head);
    if (soothe__is_direct(o->objective) && (s->n_blocks == 0 || s->d_cal != s->d_tgt))
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "the %s objective trains blocks under their own head: it needs blocks and equal widths",
                            soothe__objective_name(o->objective));
    if (s->n_blocks > 0 && o->learning && (o->rank < 0 || o->rank > s->d_cal))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "factors of rank %d: 1 to the width %d are possible", o->rank,
                            s->d_cal);
    if (o->given_states &&
        (s->n_blocks > 0 || s->d_cal < 1 || o->objective == SOOTHE__PAPER || o->objective == SOOTHE__LM_STEER))
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "given calibrator states are for matrices alone: no blocks, a width");
    if (o->objective == SOOTHE__LM_STEER && (s->n_blocks != 0 || o->rank < 1 || o->rank > s->d_tgt || o->b || o->bias))
        return soothe__fail(
            err, SOOTHE_E_ARGUMENT,
            "lm-steer trains one matrix of a rank from 1 to the width %d, not %d, and nothing beside it", s->d_tgt,
            o->rank);
    const bool fused = o->objective == SOOTHE__PREFERENCE || o->objective == SOOTHE__FUSED; /* by A, B, bias */
    if (fused && !(o->a && (s->n_blocks > 0 || o->given_states)) && !o->b && !o->bias)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "nothing to train: neither A with blocks nor B nor a bias");
    return SOOTHE_OK;
}

static void *claim(struct soothe__train_core *core, size_t n, size_t size) {
    void *p      = soothe__calloc(n ? n : 1, size);
    core->memory = p && core->memory != SIZE_MAX ? core->memory + n * size : SIZE_MAX;
    return p;
}

static enum soothe_status claim_all(struct soothe__train_core *core, struct soothe_error *err) {
    const struct soothe__train_shape *s = &core->shape;
    const int32_t rows    = (core->options.max_rows + SOOTHE__HEAD_ROWS - 1) / SOOTHE__HEAD_ROWS * SOOTHE__HEAD_ROWS;
    const bool    has_h_c = s->n_blocks > 0 || core->options.given_states;
    const size_t  n = (size_t)rows, tgt = n * (size_t)s->d_tgt, cal = n * (size_t)(has_h_c ? s->d_cal : 0);
    const size_t  op = core->bf16 ? sizeof(uint16_t) : sizeof(float), f = sizeof(float);
    core->parameters    = claim(core, core->n_parameters, f);
    core->gradients     = claim(core, core->n_parameters, f);
    core->moments[0]    = claim(core, core->n_parameters, f);
    core->moments[1]    = claim(core, core->n_parameters, f);
    core->sums          = claim(core, core->n_parameters / PIECE + core->n_tensors + 1, sizeof *core->sums);
    core->h_f           = claim(core, tgt, f);
    core->g             = claim(core, tgt, f);
    core->h_operand     = claim(core, tgt, op);
    core->h_t_operand   = claim(core, tgt, op);
    core->h_c_operand   = claim(core, cal, op);
    core->dh_c_rows     = claim(core, cal, f);
    core->next          = claim(core, n, sizeof *core->next);
    core->diverge       = claim(core, n, sizeof *core->diverge);
    core->needs_log_p_t = claim(core, n, sizeof *core->needs_log_p_t);
    core->log_p         = claim(core, n, f);
    core->log_p_t       = claim(core, n, f);
    core->kl            = claim(core, n, f);
    core->scale         = claim(core, n, f);
    core->margins       = claim(core, n, sizeof *core->margins);
    if (core->options.objective == SOOTHE__LM_STEER) {
        core->u         = claim(core, n * (size_t)core->options.rank, f);
        core->u_operand = claim(core, n * (size_t)core->options.rank, op);
    }
    if (s->n_blocks)
        core->dh_c = claim(core, (size_t)core->options.max_tokens * (size_t)s->d_cal, f);
    return core->memory == SIZE_MAX
               ? soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for training %zu parameters", core->n_parameters)
               : SOOTHE_OK;
}

void soothe__train_start_factors(struct soothe__train_core *core, uint64_t seed) {
    struct soothe__rng rng = soothe__rng_seed(seed, 4);
    for (size_t i = 0; i < core->n_tensors; i++) {
        const struct soothe__train_tensor *t     = &core->tensors[i];
        const double                       bound = 1.0 / sqrt((double)t->n_in);
        for (size_t k = 0; strstr(t->name, ".lora_a") && k < t->n; k++)
            core->parameters[t->offset + k] = (float)(bound * (2 * soothe__rng_uniform(&rng) - 1));
    }
}

/* Norm weights start at 1. */
static void start_parameters(struct soothe__train_core *core) {
    for (size_t i = 0; i < core->n_tensors; i++) {
        const struct soothe__train_tensor *t = &core->tensors[i];
        for (size_t k = 0; strstr(t->name, "norm") && k < t->n; k++)
            core->parameters[t->offset + k] = 1.0f;
    }
}

enum soothe_status soothe__train_core_new(struct soothe__train_core **out, const struct soothe__train_shape *shape,
                                          const struct soothe__train_options *options, const uint16_t *embedding,
                                          const uint16_t *head, struct soothe_error *err) {
    *out                      = NULL;
    enum soothe_status status = check(shape, options, err);
    if (status)
        return status;
    if (!head || (shape->n_blocks > 0 && !embedding))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "training needs a head, and with blocks an embedding");
    struct soothe__train_core *core = soothe__calloc(1, sizeof *core);
    if (!core)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for training");
    core->shape   = *shape;
    core->options = *options;
    core->bf16    = options->precision == SOOTHE__PRECISION_BF16 ||
                 (options->precision == SOOTHE__PRECISION_AUTO && soothe__gemm_prefers_bf16());
    status = lay_out(core, err);
    if (!status && has_factors(core) && options->rank < 1)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "factors of rank %d: at least 1", options->rank);
    if (!status)
        status = claim_all(core, err);
    if (!status)
        status = soothe__gemm_new(&core->gemm, core->bf16, err);
    if (!status)
        status = soothe__head_new(&core->head, core->gemm, core->bf16, head, shape->n_vocab, shape->d_tgt, err);
    const struct soothe__blocks_setup setup = {.shape        = &core->shape,
                                               .places       = core->places,
                                               .output_norm  = core->output_norm,
                                               .n_parameters = core->fusion_from,
                                               .max_tokens   = options->max_tokens,
                                               .rank         = has_factors(core) ? options->rank : 0,
                                               .scale        = options->alpha / (float)options->rank,
                                               .bf16         = core->bf16,
                                               .gemm         = core->gemm,
                                               .fixed        = options->fixed,
                                               .embedding    = embedding};
    if (!status && shape->n_blocks > 0)
        status = soothe__blocks_new(&core->blocks, &setup, err);
    if (status) {
        soothe__train_core_free(core);
        return status;
    }
    start_parameters(core);
    *out = core;
    return SOOTHE_OK;
}

void soothe__train_core_free(struct soothe__train_core *core) {
    if (!core)
        return;
    soothe__blocks_free(core->blocks);
    soothe__head_free(core->head);
    soothe__gemm_free(core->gemm);
    void *all[] = {core->tensors,       core->places, core->parameters, core->gradients, core->moments[0],
                   core->moments[1],    core->sums,   core->h_f,        core->g,         core->h_operand,
                   core->h_t_operand,   core->next,   core->diverge,    core->log_p,     core->h_c_operand,
                   core->needs_log_p_t, core->kl,     core->scale,      core->margins,   core->dh_c_rows,
                   core->log_p_t,       core->dh_c,   core->u,          core->u_operand};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    free(core);
}

size_t soothe__train_core_memory(const struct soothe__train_core *core) {
    return core->memory + soothe__head_memory(core->head) + (core->blocks ? soothe__blocks_memory(core->blocks) : 0);
}

bool soothe__train_core_is_bf16(const struct soothe__train_core *core) {
    return core->bf16;
}

const struct soothe__train_tensor *soothe__train_tensors(const struct soothe__train_core *core, size_t *n) {
    *n = core->n_tensors;
    return core->tensors;
}

float *soothe__train_parameters(struct soothe__train_core *core, size_t *n) {
    if (n)
        *n = core->n_parameters;
    return core->parameters;
}

float *soothe__train_gradients(struct soothe__train_core *core) {
    return core->gradients;
}

float *soothe__train_moments(struct soothe__train_core *core, int which) {
    return core->moments[which != 0];
}

int64_t soothe__train_updates(const struct soothe__train_core *core) {
    return core->n_updates;
}

void soothe__train_set_updates(struct soothe__train_core *core, int64_t n) {
    core->n_updates = n;
}

/* ---- checking a batch ----------------------------------------------------------------------------------- */

static enum soothe_status check_tokens(const struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                       struct soothe_error *err) {
    if (batch->n_tokens < 1 || batch->n_tokens > core->options.max_tokens)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a batch of %d tokens where 1 to %d are possible", batch->n_tokens,
                            core->options.max_tokens);
    for (int32_t i = 0; i < batch->n_tokens; i++)
        if (batch->tokens[i] < 0 || batch->tokens[i] >= core->shape.n_vocab)
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "token %d is not in the vocabulary of %d", batch->tokens[i],
                                core->shape.n_vocab);
    bool ok = batch->n_texts > 0 && batch->text_start[0] == 0 && batch->text_start[batch->n_texts] == batch->n_tokens;
    for (int32_t i = 0; ok && i < batch->n_texts; i++)
        ok = batch->text_start[i] < batch->text_start[i + 1];
    return ok ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_ARGUMENT, "the texts of a batch do not cover its tokens");
}

static bool has_kl_rows(const struct soothe__train_batch *batch) {
    for (int32_t i = 0; i < batch->n_rows; i++)
        if (batch->rows[i].kind == SOOTHE__ROW_KL)
            return true;
    return false;
}

static enum soothe_status check_batch(const struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                      struct soothe_error *err) {
    enum soothe_status status = core->blocks ? check_tokens(core, batch, err) : SOOTHE_OK;
    if (status)
        return status;
    if (batch->n_rows < 1 || batch->n_rows > core->options.max_rows || batch->n_pairs < 0 ||
        batch->n_pairs > batch->n_rows)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a batch of %d rows and %d pairs where 1 to %d rows are possible",
                            batch->n_rows, batch->n_pairs, core->options.max_rows);
    if (core->options.objective != SOOTHE__PAPER && !batch->h_t &&
        (core->options.objective != SOOTHE__WEIGHTED || has_kl_rows(batch)))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "the %s objective needs the target's states",
                            soothe__objective_name(core->options.objective));
    if (core->options.given_states && core->options.a && !batch->h_c)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "the batch lacks the calibrator's states");
    const bool in_pairs = soothe__is_preference(core) || core->options.objective == SOOTHE__LM_STEER;
    for (int32_t i = 0; i < batch->n_rows; i++) {
        const struct soothe__train_row *r    = &batch->rows[i];
        const bool                      pair = r->kind == SOOTHE__ROW_CHOSEN || r->kind == SOOTHE__ROW_REJECTED;
        if ((core->blocks && (r->position < 0 || r->position >= batch->n_tokens)) || r->next < 0 ||
            r->next >= core->shape.n_vocab || (in_pairs && pair && (r->i_pair < 0 || r->i_pair >= batch->n_pairs)))
            return soothe__fail(err, SOOTHE_E_ARGUMENT,
                                "row %d names position %d, token %d, pair %d, which do not exist", i, r->position,
                                r->next, r->i_pair);
    }
    return SOOTHE_OK;
}

static double gradient_norm(struct soothe__train_core *core) {
    const int64_t n_pieces = (int64_t)((core->n_parameters + PIECE - 1) / PIECE);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n_pieces; i++) {
        const size_t from = (size_t)i * PIECE, left = core->n_parameters - from, n = left < PIECE ? left : PIECE;
        core->sums[i] = (double)soothe__dot(core->gradients + from, core->gradients + from, n);
    }
    double sum = 0;
    for (int64_t i = 0; i < n_pieces; i++)
        sum += core->sums[i];
    return sqrt(sum);
}

/* ---- AdamW ---------------------------------------------------------------------------------------------------- */

static void update_tensor(struct soothe__train_core *core, const struct soothe__train_tensor *t,
                          const struct soothe__adamw *a) {
    const int64_t n_pieces = (int64_t)((t->n + PIECE - 1) / PIECE);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n_pieces; i++) {
        const size_t from = t->offset + (size_t)i * PIECE, left = t->offset + t->n - from;
        soothe__adamw_update(core->parameters + from, core->moments[0] + from, core->moments[1] + from,
                             core->gradients + from, a, left < PIECE ? left : PIECE);
    }
}

static void update(struct soothe__train_core *core, double lr_blocks, double lr_fusion, double norm) {
    const double         n = (double)++core->n_updates, clip = core->options.clip;
    struct soothe__adamw a = {.beta1 = BETA1, .beta2 = BETA2, .eps = EPSILON, .scale = 1.0f};
    a.c1                   = (float)(1.0 - pow((double)BETA1, n));
    a.c2                   = (float)(1.0 - pow((double)BETA2, n));
    if (clip > 0 && norm > clip)
        a.scale = (float)(clip / norm);
    for (size_t i = 0; i < core->n_tensors; i++) {
        const struct soothe__train_tensor *t = &core->tensors[i];
        if (!t->trainable)
            continue;
        a.lr    = (float)(t->fusion ? lr_fusion : lr_blocks);
        a.decay = t->n_out > 1 ? core->options.weight_decay : 0.0f;
        update_tensor(core, t, &a);
    }
}

/* ---- interface ------------------------------------------------------------------------------------------------- */

static void use_threads(const struct soothe__train_core *core) {
#ifdef _OPENMP
    omp_set_num_threads(core->options.n_threads > 0 ? core->options.n_threads : omp_get_num_procs());
#else
    (void)core;
#endif
}

enum soothe_status soothe__train_gradient(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                          struct soothe__train_result *result, struct soothe_error *err) {
    memset(result, 0, sizeof *result);
    use_threads(core);
    enum soothe_status status = check_batch(core, batch, err);
    if (!status)
        status = soothe__pass_forward(core, batch, true, false, err);
    if (status)
        return status;
    *result = soothe__pass_loss(core, batch);
    if (!isfinite(result->loss))
        return soothe__fail(err, SOOTHE_E_NUMERIC, "the loss is not a finite number");
    status = soothe__pass_backward(core, batch, err);
    if (status)
        return status;
    result->gradient_norm = gradient_norm(core);
    return isfinite(result->gradient_norm) ? SOOTHE_OK
                                           : soothe__fail(err, SOOTHE_E_NUMERIC, "the gradient is not finite");
}

enum soothe_status soothe__train_step(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                      double lr_blocks, double lr_fusion, struct soothe__train_result *result,
                                      struct soothe_error *err) {
    const enum soothe_status status = soothe__train_gradient(core, batch, result, err);
    if (!status)
        update(core, lr_blocks, lr_fusion, result->gradient_norm);
    return status;
}

enum soothe_status soothe__train_evaluate(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                          float *log_p_f, float *log_p_t, float *kl,
                                          struct soothe__train_result *result, struct soothe_error *err) {
    memset(result, 0, sizeof *result);
    use_threads(core);
    enum soothe_status status = check_batch(core, batch, err);
    if (!status && (log_p_t || kl) && (core->options.objective == SOOTHE__PAPER || !batch->h_t))
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "the %s objective knows no target to compare with",
                              soothe__objective_name(core->options.objective));
    if (!status)
        status = soothe__pass_forward(core, batch, false, kl != NULL, err);
    if (status)
        return status;
    *result        = soothe__pass_loss(core, batch);
    const size_t n = (size_t)batch->n_rows * sizeof(float);
    if (log_p_f)
        memcpy(log_p_f, core->log_p, n);
    if (log_p_t)
        memcpy(log_p_t, core->log_p_t, n);
    if (kl)
        memcpy(kl, core->kl, n);
    return isfinite(result->loss) ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_NUMERIC, "the loss is not a finite number");
}

enum soothe_status soothe__train_base_states(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                             float *h, struct soothe_error *err) {
    const size_t d = (size_t)core->shape.d_cal;
    const float *all;
    use_threads(core);
    enum soothe_status status = core->blocks ? check_tokens(core, batch, err)
                                             : soothe__fail(err, SOOTHE_E_ARGUMENT, "there are no blocks to run");
    if (status)
        return status;
    soothe__blocks_use_factors(core->blocks, false);
    status = soothe__blocks_forward(core->blocks, core->parameters, batch, &all, err);
    soothe__blocks_use_factors(core->blocks, true);
    for (int32_t i = 0; i < batch->n_rows && !status; i++)
        memcpy(h + (size_t)i * d, all + (size_t)batch->rows[i].position * d, d * sizeof *h);
    return status;
}
