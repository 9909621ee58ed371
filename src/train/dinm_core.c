/* SPDX-License-Identifier: Apache-2.0
 * Loss and gradient of DINM over pieces of whole texts, by the training core's blocks and head.
 *
 * The cut's "embedding" is the table of all input states, one row per token of every text, and its "tokens" are the
 * rows' numbers: so blocks that begin at an embedding begin in the middle of a model. */
#include "train/dinm_core.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "train/blocks.h"
#include "train/head.h"
#include "train/kernels.h"

static const char EDITED[] = "blk.0.ffn_down.weight";

enum { PIECE_TOKENS = 512 }; /* of a pass, or the longest text's: what is held of a pass grows with them */

struct row { /* an answer's token */
    int32_t position, next;
    bool    general;
    double  weight; /* in the mean that it belongs to */
};

struct piece { /* whole texts of one pass */
    int32_t text, n_texts, token, n_tokens, row, n_rows;
};

struct soothe__dinm_core {
    struct soothe__train_shape  s;
    struct soothe__dinm_numbers numbers;
    struct soothe__gemm        *gemm;
    struct soothe__blocks      *blocks;
    struct soothe__head        *head;
    bool                        bf16;

    struct soothe__train_tensor *tensors;
    struct soothe__block_places *places;
    struct soothe__place         output_norm;
    float                       *parameters, *gradients;
    size_t                       n_tensors, n_parameters;
    float                       *moments[2]; /* of W */
    int32_t                      n_updates;

    uint16_t     *inputs; /* (all tokens, d) */
    int32_t      *ids;    /* (all tokens) 0, 1, 2 … */
    int32_t      *starts; /* (texts + 1) within its piece; a piece's own begin at its text + its place */
    struct row   *rows;   /* of all texts */
    struct piece *pieces;
    int32_t       n_texts, n_tokens, n_rows, n_pieces;
    float        *before; /* (rows, d) final states before the edit */

    /* of the piece under way; R padded to SOOTHE__HEAD_ROWS */
    void    *h, *h_before; /* operands (R, d) */
    int32_t *next;
    bool    *diverge;
    float   *log_p, *log_p_before, *kl, *g; /* (R) thrice, (R, d) */
    float   *dh;                            /* (T, d) */
};

/* ---- the texts in pieces ----------------------------------------------------------------------------- */

static enum soothe_status check_texts(const struct soothe__train_shape *s, const struct soothe__dinm_text *texts,
                                      size_t n_texts, int32_t counts[2], struct soothe_error *err) {
    int64_t n_tokens = 0;
    counts[0] = counts[1] = 0;
    for (size_t i = 0; i < n_texts; i++) {
        const struct soothe__dinm_text *t = &texts[i];
        if (t->first < 1 || t->first >= t->n_tokens)
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "text %zu has no answer behind a prompt", i + 1);
        for (int32_t k = t->first; k < t->n_tokens; k++)
            if (t->tokens[k] < 0 || t->tokens[k] >= s->n_vocab)
                return soothe__fail(err, SOOTHE_E_ARGUMENT, "text %zu holds token %d: ids 0 to %d exist", i + 1,
                                    t->tokens[k], s->n_vocab - 1);
        n_tokens += t->n_tokens;
        counts[t->general]++;
    }
    if (counts[0] == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "there is no instance to learn from");
    return n_tokens < INT32_MAX / 2
               ? SOOTHE_OK
               : soothe__fail(err, SOOTHE_E_ARGUMENT, "the texts have %lld tokens: too many", (long long)n_tokens);
}

/* Room of the largest piece, once the texts are in them. */
static int32_t largest(const struct soothe__dinm_core *core, bool rows) {
    int32_t most = 0;
    for (int32_t i = 0; i < core->n_pieces; i++) {
        const int32_t n = rows ? core->pieces[i].n_rows : core->pieces[i].n_tokens;
        most            = n > most ? n : most;
    }
    return most;
}

static void add_rows(struct soothe__dinm_core *core, const struct soothe__dinm_text *t, int32_t start, int32_t n_like) {
    const int32_t n = t->n_tokens - t->first;
    for (int32_t k = t->first; k < t->n_tokens; k++)
        core->rows[core->n_rows++] = (struct row){
            .position = start + k - 1, .next = t->tokens[k], .general = t->general, .weight = 1.0 / n / n_like};
}

static enum soothe_status take_texts(struct soothe__dinm_core *core, const struct soothe__dinm_text *texts, size_t n,
                                     const int32_t counts[2], struct soothe_error *err) {
    const size_t d        = (size_t)core->s.d_cal;
    size_t       n_tokens = 0;
    for (size_t i = 0; i < n; i++)
        n_tokens += (size_t)texts[i].n_tokens;
    core->inputs = soothe__calloc(n_tokens * d, sizeof *core->inputs);
    core->ids    = soothe__calloc(n_tokens, sizeof *core->ids);
    core->rows   = soothe__calloc(n_tokens, sizeof *core->rows);
    core->starts = soothe__calloc(2 * n, sizeof *core->starts);
    core->pieces = soothe__calloc(n, sizeof *core->pieces);
    if (!core->inputs || !core->ids || !core->rows || !core->starts || !core->pieces)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu tokens", n_tokens);
    for (size_t i = 0; i < n; i++) {
        const struct soothe__dinm_text *t = &texts[i];
        struct piece                   *p = core->n_pieces ? &core->pieces[core->n_pieces - 1] : NULL;
        if (!p || p->n_tokens + t->n_tokens > PIECE_TOKENS) {
            p  = &core->pieces[core->n_pieces++];
            *p = (struct piece){.text = (int32_t)i, .token = core->n_tokens, .row = core->n_rows};
        }
        memcpy(core->inputs + (size_t)core->n_tokens * d, t->inputs, (size_t)t->n_tokens * d * sizeof *t->inputs);
        add_rows(core, t, p->n_tokens, counts[t->general]);
        for (int32_t k = 0; k < t->n_tokens; k++, core->n_tokens++)
            core->ids[core->n_tokens] = core->n_tokens;
        p->n_tokens += t->n_tokens;
        p->n_rows += t->n_tokens - t->first;
        core->starts[p->text + core->n_pieces - 1 + ++p->n_texts] = p->n_tokens;
    }
    core->n_texts = (int32_t)n;
    return SOOTHE_OK;
}

/* ---- making ------------------------------------------------------------------------------------------ */

static enum soothe_status claim_rows(struct soothe__dinm_core *core, struct soothe_error *err) {
    const int32_t most = largest(core, true);
    const size_t  n = (size_t)(most + SOOTHE__HEAD_ROWS - 1) / SOOTHE__HEAD_ROWS * SOOTHE__HEAD_ROWS, f = sizeof(float);
    const size_t  d = (size_t)core->s.d_cal, op = core->bf16 ? sizeof(uint16_t) : f;
    core->before       = soothe__calloc((size_t)core->n_rows * d, f);
    core->h            = soothe__calloc(n * d, op);
    core->h_before     = soothe__calloc(n * d, op);
    core->g            = soothe__calloc(n * d, f);
    core->next         = soothe__calloc(n, sizeof *core->next);
    core->diverge      = soothe__calloc(n, sizeof *core->diverge);
    core->log_p        = soothe__calloc(n, f);
    core->log_p_before = soothe__calloc(n, f);
    core->kl           = soothe__calloc(n, f);
    core->dh           = soothe__calloc((size_t)largest(core, false) * d, f);
    const bool ok      = core->before && core->h && core->h_before && core->g && core->next && core->diverge &&
                    core->log_p && core->log_p_before && core->kl && core->dh;
    return ok ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d rows", most);
}

/* W learns; other matrices are the fixed weights', where there are such, and vectors are always held. */
static void place_tensor(void *user, const char *name, struct soothe__place *p) {
    struct soothe__dinm_core           *core  = user;
    const struct soothe__fixed_weights *fixed = core->numbers.fixed;
    p->learns                                 = strcmp(name, EDITED) == 0;
    if (fixed && p->n_out > 1 && !p->learns)
        p->handle = fixed->find(fixed->user, name, p->n_out, p->n_in);
    if (p->handle)
        return;
    struct soothe__train_tensor *t = &core->tensors[core->n_tensors++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->offset    = core->n_parameters;
    t->n         = (size_t)p->n_out * (size_t)p->n_in;
    t->n_out     = p->n_out;
    t->n_in      = p->n_in;
    t->trainable = p->learns;
    p->at        = t->offset;
    core->n_parameters += t->n;
}

static enum soothe_status claim_parameters(struct soothe__dinm_core *core, struct soothe_error *err) {
    const size_t n_down = (size_t)core->s.d_cal * (size_t)core->s.n_ff, n_blocks = (size_t)core->s.n_blocks;
    core->tensors = soothe__calloc(12 * n_blocks + 1, sizeof *core->tensors);
    core->places  = soothe__calloc(n_blocks, sizeof *core->places);
    if (!core->tensors || !core->places)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for an edit");
    for (int32_t i = 0; i < core->s.n_blocks; i++)
        soothe__block_visit(&core->s, i, &core->places[i], place_tensor, core);
    core->output_norm = (struct soothe__place){
        .n_out = 1, .n_in = core->s.d_cal, .at = SOOTHE__NOWHERE, .a = SOOTHE__NOWHERE, .b = SOOTHE__NOWHERE};
    place_tensor(core, "output_norm.weight", &core->output_norm);
    core->parameters = soothe__calloc(core->n_parameters, sizeof(float));
    core->gradients  = soothe__calloc(core->n_parameters, sizeof(float));
    core->moments[0] = soothe__calloc(n_down, sizeof(float));
    core->moments[1] = soothe__calloc(n_down, sizeof(float));
    return core->parameters && core->gradients && core->moments[0] && core->moments[1]
               ? SOOTHE_OK
               : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu parameters", core->n_parameters);
}

static enum soothe_status make_blocks(struct soothe__dinm_core *core, struct soothe_error *err) {
    return soothe__blocks_new(&core->blocks,
                              &(struct soothe__blocks_setup){.shape        = &core->s,
                                                             .places       = core->places,
                                                             .output_norm  = core->output_norm,
                                                             .n_parameters = core->n_parameters,
                                                             .max_tokens   = largest(core, false),
                                                             .bf16         = core->bf16,
                                                             .gemm         = core->gemm,
                                                             .fixed        = core->numbers.fixed,
                                                             .embedding    = core->inputs},
                              err);
}

enum soothe_status soothe__dinm_core_new(struct soothe__dinm_core **out, const struct soothe__train_shape *shape,
                                         const struct soothe__dinm_numbers *numbers, const uint16_t *head,
                                         const struct soothe__dinm_text *texts, size_t n_texts,
                                         struct soothe_error *err) {
    int32_t counts[2];
    *out                      = NULL;
    enum soothe_status status = check_texts(shape, texts, n_texts, counts, err);
    if (status)
        return status;
    struct soothe__dinm_core *core = soothe__calloc(1, sizeof *core);
    if (!core)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for an edit");
    core->s       = *shape;
    core->numbers = *numbers;
    core->bf16    = numbers->precision == SOOTHE__PRECISION_BF16 ||
                 (numbers->precision == SOOTHE__PRECISION_AUTO && soothe__gemm_prefers_bf16());
    status = take_texts(core, texts, n_texts, counts, err);
    if (!status)
        status = claim_rows(core, err);
    if (!status)
        status = claim_parameters(core, err);
    if (!status)
        status = soothe__gemm_new(&core->gemm, core->bf16, err);
    if (!status)
        status = soothe__head_new(&core->head, core->gemm, core->bf16, head, shape->n_vocab, shape->d_cal, err);
    if (!status)
        status = make_blocks(core, err);
    if (status)
        soothe__dinm_core_free(core);
    else
        *out = core;
    return status;
}

void soothe__dinm_core_free(struct soothe__dinm_core *core) {
    if (!core)
        return;
    soothe__blocks_free(core->blocks);
    soothe__head_free(core->head);
    soothe__gemm_free(core->gemm);
    void *all[] = {core->parameters, core->gradients, core->moments[0], core->moments[1],   core->inputs,
                   core->ids,        core->starts,    core->rows,       core->pieces,       core->before,
                   core->h,          core->h_before,  core->next,       core->diverge,      core->log_p,
                   core->kl,         core->g,         core->dh,         core->log_p_before, core->tensors,
                   core->places};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    free(core);
}

const struct soothe__train_tensor *soothe__dinm_tensors(const struct soothe__dinm_core *core, size_t *n) {
    *n = core->n_tensors;
    return core->tensors;
}

float *soothe__dinm_parameters(struct soothe__dinm_core *core) {
    return core->parameters;
}

float *soothe__dinm_weights(struct soothe__dinm_core *core, size_t *n) {
    if (n)
        *n = (size_t)core->s.d_cal * (size_t)core->s.n_ff;
    return core->parameters + core->places[0].down.at;
}

const float *soothe__dinm_weights_gradient(const struct soothe__dinm_core *core) {
    return core->gradients + core->places[0].down.at;
}

/* ---- a piece ----------------------------------------------------------------------------------------- */

static void use_threads(const struct soothe__dinm_core *core) {
#ifdef _OPENMP
    omp_set_num_threads(core->numbers.n_threads > 0 ? core->numbers.n_threads : omp_get_num_procs());
#else
    (void)core;
#endif
}

static struct soothe__train_batch batch_of(const struct soothe__dinm_core *core, int32_t i) {
    const struct piece *p = &core->pieces[i];
    return (struct soothe__train_batch){.n_tokens   = p->n_tokens,
                                        .tokens     = core->ids + p->token,
                                        .n_texts    = p->n_texts,
                                        .text_start = core->starts + p->text + i};
}

/* Row i of an operand. */
static void put_row(const struct soothe__dinm_core *core, void *operand, int32_t i, const float *x) {
    const size_t d = (size_t)core->s.d_cal, at = (size_t)i * d;
    if (core->bf16)
        soothe__to_bf16((uint16_t *)operand + at, x, d);
    else
        memcpy((float *)operand + at, x, d * sizeof *x);
}

static enum soothe_status run_head(struct soothe__dinm_core *core, const struct piece *p, const float *states,
                                   bool gradient, struct soothe_error *err) {
    const size_t d = (size_t)core->s.d_cal;
    for (int32_t i = 0; i < p->n_rows; i++) {
        const struct row *row = &core->rows[p->row + i];
        put_row(core, core->h, i, states + (size_t)row->position * d);
        put_row(core, core->h_before, i, core->before + (size_t)(p->row + i) * d);
        core->next[i]    = row->next;
        core->diverge[i] = row->general;
    }
    const struct soothe__head_rows rows = {.n       = p->n_rows,
                                           .h       = core->h,
                                           .h_t     = core->h_before,
                                           .next    = core->next,
                                           .diverge = core->diverge,
                                           .log_p   = core->log_p,
                                           .log_p_t = core->log_p_before,
                                           .kl      = core->kl,
                                           .g       = gradient ? core->g : NULL};
    return soothe__head_run(core->head, &rows, err);
}

/* Adds the piece's share to the loss; and to the gradients, from the rows' g. */
static enum soothe_status finish_piece(struct soothe__dinm_core *core, int32_t i_piece, struct soothe__dinm_loss *loss,
                                       bool gradient, struct soothe_error *err) {
    const struct piece              *p     = &core->pieces[i_piece];
    const struct soothe__train_batch batch = batch_of(core, i_piece);
    const size_t                     d     = (size_t)core->s.d_cal;
    memset(core->dh, 0, (size_t)p->n_tokens * d * sizeof *core->dh);
    for (int32_t i = 0; i < p->n_rows; i++) {
        const struct row *row   = &core->rows[p->row + i];
        const double      scale = row->general ? row->weight : row->weight * core->numbers.c_edit;
        if (row->general)
            loss->kl += row->weight * (double)core->kl[i];
        else
            loss->nll -= row->weight * (double)core->log_p[i];
        if (gradient)
            soothe__add_scaled(core->dh + (size_t)row->position * d, core->g + (size_t)i * d, (float)scale, d);
    }
    return gradient ? soothe__blocks_backward(core->blocks, core->parameters, &batch, core->dh, core->gradients, err)
                    : SOOTHE_OK;
}

static enum soothe_status run(struct soothe__dinm_core *core, struct soothe__dinm_loss *loss, bool gradient,
                              struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    *loss                     = (struct soothe__dinm_loss){.loss = 0};
    use_threads(core);
    if (gradient)
        memset(core->gradients, 0, core->n_parameters * sizeof *core->gradients);
    for (int32_t i = 0; i < core->n_pieces && !status; i++) {
        const struct soothe__train_batch batch = batch_of(core, i);
        const float                     *states;
        status = soothe__blocks_forward(core->blocks, core->parameters, &batch, &states, err);
        if (!status)
            status = run_head(core, &core->pieces[i], states, gradient, err);
        if (!status)
            status = finish_piece(core, i, loss, gradient, err);
    }
    loss->loss = core->numbers.c_edit * loss->nll + loss->kl;
    if (!status && !isfinite(loss->loss))
        status = soothe__fail(err, SOOTHE_E_NUMERIC, "the loss is not a finite number");
    return status;
}

/* ---- interface --------------------------------------------------------------------------------------- */

enum soothe_status soothe__dinm_begin(struct soothe__dinm_core *core, struct soothe_error *err) {
    const size_t       d      = (size_t)core->s.d_cal;
    enum soothe_status status = SOOTHE_OK;
    use_threads(core);
    for (int32_t i = 0; i < core->n_pieces && !status; i++) {
        const struct piece              *p     = &core->pieces[i];
        const struct soothe__train_batch batch = batch_of(core, i);
        const float                     *states;
        status = soothe__blocks_forward(core->blocks, core->parameters, &batch, &states, err);
        for (int32_t k = 0; k < p->n_rows && !status; k++)
            memcpy(core->before + (size_t)(p->row + k) * d, states + (size_t)core->rows[p->row + k].position * d,
                   d * sizeof *states);
    }
    return status;
}

enum soothe_status soothe__dinm_evaluate(struct soothe__dinm_core *core, struct soothe__dinm_loss *loss,
                                         struct soothe_error *err) {
    return run(core, loss, false, err);
}

enum soothe_status soothe__dinm_gradient(struct soothe__dinm_core *core, struct soothe__dinm_loss *loss,
                                         struct soothe_error *err) {
    const enum soothe_status status = run(core, loss, true, err);
    size_t                   n;
    soothe__dinm_weights(core, &n);
    const float *g = soothe__dinm_weights_gradient(core);
    return status || isfinite(soothe__dot(g, g, n)) ? status
                                                    : soothe__fail(err, SOOTHE_E_NUMERIC, "the gradient is not finite");
}

void soothe__dinm_update(struct soothe__dinm_core *core, double lr) {
    struct soothe__adamw a = {.lr = (float)lr, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .scale = 1.0f};
    size_t               n;
    float               *w = soothe__dinm_weights(core, &n);
    core->n_updates++;
    a.c1 = (float)(1.0 - pow((double)a.beta1, core->n_updates));
    a.c2 = (float)(1.0 - pow((double)a.beta2, core->n_updates));
    soothe__adamw_update(w, core->moments[0], core->moments[1], soothe__dinm_weights_gradient(core), &a, n);
}
