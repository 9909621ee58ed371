/* SPDX-License-Identifier: Apache-2.0
 * From a map between two spaces to matrices. With rows e_s of the source's output head and e_t of the target's for the
 * same tokens, P (d_s, d_t) with e_s P ~ e_t, and its way back Q (d_t, d_s) with e_t Q ~ e_s:
 *
 *     contrastive, ridge, procrustes   A = P, or A_s P where the calibrator has an A_s for its own target
 *     transfer                         A = A_s Q^T,  B = P^T B_s Q^T,  b = Q b_s
 *
 * Why transfer is so: the source's fusion adds e_s·(A_s^T h_c + B_s^T h + b_s) to a token's logit. With e_s = e_t Q
 * that is e_t·(Q A_s^T h_c + …), and h_s, known only through the logits e_s·h_s = e_t·h_t, is P h_t.
 * (docs/alignment.md) */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fusion/calibrator_file.h"
#include "train/align_parts.h"
#include "train/align_tokens.h"
#include "train/kernels.h"

/* Rows to fit on, and tokens held out. */
struct fitting {
    float                   *x, *y; /* (n, d_x), (n, d_y), those held out first */
    size_t                   n, n_heldout;
    int32_t                  d_x, d_y;
    struct soothe__rows_pair rows; /* those to fit on */
    float                   *p;    /* (d_x, d_y) */
};

static enum soothe_status no_memory(struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for an alignment");
}

/* ---- tokens --------------------------------------------------------------------------------------------------- */

/* The model that the calibrator was made from: its embedding and head. */
static enum soothe_status open_source(struct soothe__gguf *source, const struct soothe__align_run *run,
                                      struct soothe_error *err) {
    const struct soothe__gguf *cal    = &run->calibrator;
    const char                *kind   = soothe__gguf_find_string(cal, SOOTHE__KEY_KIND);
    const char                *wanted = soothe__gguf_find_string(cal, SOOTHE__KEY_BASE_TOKENIZER);
    const char                *target = soothe__gguf_find_string(cal, SOOTHE__KEY_TARGET);
    const bool                 full   = kind && !strcmp(kind, "full");
    const char                *path   = run->r.base_path ? run->r.base_path : full ? cal->path : NULL;
    char                       hex[65];
    if (!path)
        return soothe__fail(
            err, SOOTHE_E_ARGUMENT,
            "calibrator %s carries no vocabulary: --base names the model that it was made from (\"%s\")", cal->path,
            soothe__gguf_find_string(cal, SOOTHE__KEY_TARGET_NAME)
                ? soothe__gguf_find_string(cal, SOOTHE__KEY_TARGET_NAME)
                : "?");
    enum soothe_status status = soothe__gguf_open(source, path, err);
    if (status || (full && !run->r.base_path))
        return status;
    if (target && (run->own.a || run->own.b || run->own.bias)) {
        status = soothe__model_fingerprint(hex, source, err);
        if (!status && strcmp(hex, target) != 0)
            status = soothe__fail(err, SOOTHE_E_MISMATCH,
                                  "calibrator %s was fitted to \"%s\" (fingerprint %.12s…), not to %s (%.12s…)",
                                  cal->path, soothe__gguf_find_string(cal, SOOTHE__KEY_TARGET_NAME), target, path, hex);
    } else if (wanted) {
        soothe__tokenizer_hash(hex, source);
        if (strcmp(hex, wanted) != 0)
            status =
                soothe__fail(err, SOOTHE_E_MISMATCH,
                             "calibrator %s was cut from a model with another vocabulary than %s has", cal->path, path);
    }
    if (status)
        soothe__gguf_close(source);
    return status;
}

static void shuffle(struct soothe__token_pairs *pairs, uint64_t seed) {
    struct soothe__rng rng = soothe__rng_seed(seed, 19);
    for (size_t i = pairs->n; i > 1; i--) {
        const uint32_t k = soothe__rng_below(&rng, (uint32_t)i), x = pairs->i_x[k], y = pairs->i_y[k];
        pairs->i_x[k]     = pairs->i_x[i - 1];
        pairs->i_y[k]     = pairs->i_y[i - 1];
        pairs->i_x[i - 1] = x;
        pairs->i_y[i - 1] = y;
    }
}

static enum soothe_status read_rows(struct fitting *f, const struct soothe__align_run *run,
                                    const struct soothe__gguf *source, struct soothe__token_pairs *pairs,
                                    struct soothe_error *err) {
    enum { HELDOUT_MAX = 1000 };
    const bool own = run->own.a || run->own.b || run->own.bias; /* then the source's output space counts */
    shuffle(pairs, run->r.seed);
    f->n                      = pairs->n;
    f->n_heldout              = (size_t)((double)pairs->n * run->r.token_share);
    f->n_heldout              = f->n_heldout < HELDOUT_MAX ? f->n_heldout : HELDOUT_MAX;
    enum soothe_status status = soothe__token_rows(&f->x, &f->d_x, source, own, pairs->i_x, pairs->n, err);
    if (!status)
        status = soothe__token_rows(&f->y, &f->d_y, &run->files.target, true, pairs->i_y, pairs->n, err);
    return status;
}

static enum soothe_status take_tokens(struct fitting *f, struct soothe__align_run *run, struct soothe_error *err) {
    struct soothe__gguf        source = {0};
    struct soothe__token_pairs pairs  = {0};
    enum soothe_status         status = open_source(&source, run, err);
    if (status)
        return status;
    status                 = soothe__token_pairs(&pairs, &source, &run->files.target, err);
    run->report->n_vocab_x = pairs.n_x;
    run->report->n_vocab_y = pairs.n_y;
    run->report->n_common  = pairs.n;
    if (!status)
        status = read_rows(f, run, &source, &pairs, err);
    soothe__token_pairs_free(&pairs);
    soothe__gguf_close(&source);
    return status;
}

/* ---- states --------------------------------------------------------------------------------------------------- */

static size_t rows_of(const struct soothe__text *t) {
    return (size_t)(t->n_tokens - t->first);
}

/* h_c and h_t of the data's texts, until there are enough. */
static enum soothe_status take_states(struct fitting *f, struct soothe__align_run *run, struct soothe_error *err) {
    enum { ROWS_MAX = 20000 };
    const struct soothe__corpus  *c      = &run->corpus;
    struct soothe__target_states *states = NULL;
    size_t                        rows = 0, n_texts = 0, longest = 0;
    for (; n_texts < c->n_texts && rows < ROWS_MAX; n_texts++) {
        const size_t n = c->texts[n_texts].tokens ? rows_of(&c->texts[n_texts]) : 0;
        longest        = n > longest ? n : longest;
        rows += n;
    }
    f->d_x           = run->own.d_cal;
    f->d_y           = run->files.shape.d_tgt;
    const size_t d_x = (size_t)f->d_x, d_y = (size_t)f->d_y;
    f->x                      = soothe__calloc(rows + 1, d_x * sizeof *f->x);
    f->y                      = soothe__calloc(rows + 1, d_y * sizeof *f->y);
    uint16_t          *h_t    = soothe__calloc(longest + 1, d_y * sizeof *h_t);
    uint16_t          *h_c    = soothe__calloc(longest + 1, d_x * sizeof *h_c);
    enum soothe_status status = f->x && f->y && h_t && h_c ? SOOTHE_OK : no_memory(err);
    if (!status)
        status = soothe__align_states(run, c, NULL, 0, &states, err);
    const double start = soothe__seconds();
    for (uint32_t i = 0; i < n_texts && !status; i++) {
        const size_t n = c->texts[i].tokens ? rows_of(&c->texts[i]) : 0;
        if (n && !(status = soothe__target_states_get(states, &i, 1, h_t, h_c, err))) {
            soothe__from_bf16(f->x + f->n * d_x, h_c, n * d_x);
            soothe__from_bf16(f->y + f->n * d_y, h_t, n * d_y);
            f->n += n;
        }
        if (!status && run->r.stop && *run->r.stop)
            status = soothe__fail(err, SOOTHE_E_INTERRUPTED, "stopped while computing states");
    }
    run->report->state_seconds += soothe__seconds() - start;
    run->report->n_state_rows = f->n;
    soothe__target_states_free(states);
    free(h_t);
    free(h_c);
    return status;
}

/* The target's typical norm, to which the paper's form scales LN's output: mean over the first texts. */
static enum soothe_status find_norm(float *norm, struct soothe__align_run *run, struct soothe_error *err) {
    enum { TEXTS_MAX = 64 };
    const struct soothe__corpus  *c      = run->corpus.n_texts ? &run->corpus : &run->heldout;
    struct soothe__target_states *states = NULL;
    const size_t                  d      = (size_t)run->files.shape.d_tgt;
    double                        sum    = 0;
    size_t                        total  = 0;
    if (c->n_texts == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "the paper's form is scaled to the target's typical norm: --data or --heldout is needed");
    enum soothe_status status = soothe__align_states(run, c, NULL, 0, &states, err);
    for (uint32_t i = 0; i < c->n_texts && i < TEXTS_MAX && !status; i++) {
        const size_t n    = c->texts[i].tokens ? rows_of(&c->texts[i]) : 0;
        uint16_t    *h_t  = soothe__calloc(n + 1, d * sizeof *h_t);
        float       *wide = soothe__calloc(d, sizeof *wide);
        status            = !h_t || !wide ? no_memory(err)
                            : n           ? soothe__target_states_get(states, &i, 1, h_t, NULL, err)
                                          : SOOTHE_OK;
        for (size_t k = 0; k < n && !status; k++, total++) {
            soothe__from_bf16(wide, h_t + k * d, d);
            sum += sqrt((double)soothe__dot(wide, wide, d));
        }
        free(h_t);
        free(wide);
    }
    soothe__target_states_free(states);
    *norm = total ? (float)(sum / (double)total) : 0;
    return status;
}

/* Rows of X are sent anywhere, to a length that rows of Y have. */
static enum soothe_status random_map(float *p, const struct soothe__rows_pair *rows, uint64_t seed) {
    struct soothe__rng rng = soothe__rng_seed(seed, 23);
    const size_t       n_x = rows->n * (size_t)rows->d_x, n_y = rows->n * (size_t)rows->d_y;
    double             x = 0, y = 0;
    for (size_t i = 0; i < n_x; i++)
        x += (double)rows->x[i] * (double)rows->x[i];
    for (size_t i = 0; i < n_y; i++)
        y += (double)rows->y[i] * (double)rows->y[i];
    for (size_t i = 0; i < (size_t)rows->d_x * (size_t)rows->d_y; i++)
        p[i] = (float)(soothe__rng_normal(&rng) * sqrt(x > 0 ? y / x / (double)rows->d_y : 0));
    return SOOTHE_OK;
}

/* ---- the map -------------------------------------------------------------------------------------------------- */

static enum soothe_status fit_map(struct fitting *f, struct soothe__align_run *run, struct soothe_error *err) {
    const struct soothe__align_request *r    = &run->r;
    const size_t                        held = f->n_heldout;
    f->rows = (struct soothe__rows_pair){f->x + held * (size_t)f->d_x, f->y + held * (size_t)f->d_y, f->n - held,
                                         f->d_x, f->d_y};
    f->p    = soothe__calloc((size_t)f->d_x * (size_t)f->d_y, sizeof *f->p);
    if (!f->p)
        return no_memory(err);
    const double       start   = soothe__seconds();
    const bool         carried = r->objective == SOOTHE__ALIGN_TRANSFER;
    enum soothe_status status;
    if (r->objective == SOOTHE__ALIGN_RANDOM)
        status = random_map(f->p, &f->rows, r->seed);
    else if (r->objective == SOOTHE__ALIGN_RIDGE || (carried && r->map == SOOTHE__MAP_RIDGE))
        status = soothe__map_ridge(f->p, &f->rows, r->ridge, err);
    else if (r->objective == SOOTHE__ALIGN_CONTRASTIVE || (carried && r->map == SOOTHE__MAP_CONTRASTIVE))
        status = soothe__map_contrastive(f->p, &f->rows, &r->contrastive, &run->report->loss, err);
    else
        status = soothe__map_procrustes(f->p, &f->rows, err);
    run->report->seconds = soothe__seconds() - start;
    uint32_t *own        = soothe__calloc(held + 1, sizeof *own);
    for (size_t i = 0; own && i < held; i++)
        own[i] = (uint32_t)i;
    if (!status && !own)
        status = no_memory(err);
    const struct soothe__rows_pair heldout = {f->x, f->y, held, f->d_x, f->d_y};
    run->report->n_retrieved               = held;
    if (!status)
        status = soothe__map_retrieval(&run->report->top1, &run->report->top5, f->p, &heldout, own, f->y, f->n, err);
    free(own);
    return status;
}

static float *transposed(const float *m, size_t rows, size_t columns) {
    float *t = soothe__calloc(rows * columns, sizeof *t);
    for (size_t i = 0; t && i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            t[j * rows + i] = m[i * columns + j];
    return t;
}

/* Q^T (d_x, d_y) of the way back: of P = s U V^T it is P^T / s²; else fitted as P is, the rows changed about. */
static enum soothe_status way_back(float **q_t, const struct fitting *f, const struct soothe__align_request *r,
                                   struct soothe_error *err) {
    const size_t                   n       = (size_t)f->d_x * (size_t)f->d_y;
    const struct soothe__rows_pair reverse = {f->rows.y, f->rows.x, f->rows.n, f->d_y, f->d_x};
    *q_t                                   = NULL;
    if (r->map != SOOTHE__MAP_PROCRUSTES) {
        double             loss;
        float             *q      = soothe__calloc(n, sizeof *q);
        enum soothe_status status = q ? SOOTHE_OK : no_memory(err);
        if (!status)
            status = r->map == SOOTHE__MAP_RIDGE ? soothe__map_ridge(q, &reverse, r->ridge, err)
                                                 : soothe__map_contrastive(q, &reverse, &r->contrastive, &loss, err);
        if (!status)
            *q_t = transposed(q, (size_t)f->d_y, (size_t)f->d_x);
        free(q);
        return status || *q_t ? status : no_memory(err);
    }
    const double rank = f->d_x < f->d_y ? f->d_x : f->d_y, square = (double)soothe__dot(f->p, f->p, n) / rank;
    *q_t = soothe__calloc(n, sizeof **q_t);
    for (size_t i = 0; *q_t && i < n && square > 0; i++)
        (*q_t)[i] = f->p[i] / (float)square;
    return *q_t ? SOOTHE_OK : no_memory(err);
}

/* ---- the matrices ----------------------------------------------------------------------------------------------- */

/* *out = left (m, k) right (k, n), fresh. */
static enum soothe_status multiply(float **out, const float *left, const float *right, int32_t m, int32_t k, int32_t n,
                                   struct soothe_error *err) {
    *out = soothe__calloc((size_t)m * (size_t)n, sizeof **out);
    return *out ? soothe__map_product(*out, left, right, m, k, n, err) : no_memory(err);
}

static enum soothe_status transfer(struct fitting *f, struct soothe__align_run *run, struct soothe_error *err) {
    const struct soothe__fusion *own = &run->own;
    const int32_t                d_x = f->d_x, d_y = f->d_y;
    float                       *q_t = NULL, *p_t = NULL, *b_q = NULL;
    enum soothe_status           status = way_back(&q_t, f, &run->r, err);
    if (!status && own->a)
        status = multiply(&run->fusion.a, own->a, q_t, own->d_cal, d_x, d_y, err);
    if (!status && own->bias)
        status = multiply(&run->fusion.bias, own->bias, q_t, 1, d_x, d_y, err);
    if (!status && own->b)
        status = (p_t = transposed(f->p, (size_t)d_x, (size_t)d_y)) ? multiply(&b_q, own->b, q_t, d_x, d_x, d_y, err)
                                                                    : no_memory(err);
    if (!status && own->b)
        status = multiply(&run->fusion.b, p_t, b_q, d_y, d_x, d_y, err);
    free(q_t);
    free(p_t);
    free(b_q);
    return status;
}

static enum soothe_status make_fusion(struct fitting *f, struct soothe__align_run *run, struct soothe_error *err) {
    const struct soothe__fusion *own      = &run->own;
    const bool                   residual = own->form == SOOTHE_FORM_RESIDUAL && (own->a || own->b || own->bias);
    const bool                   transfers =
        run->r.objective == SOOTHE__ALIGN_TRANSFER || (run->r.objective == SOOTHE__ALIGN_RANDOM && residual);
    const bool own_a = own->form == SOOTHE_FORM_RESIDUAL && own->a;
    run->fusion =
        (struct soothe__fusion){.form = own->form, .d_cal = transfers && !own->a ? 0 : own->d_cal, .d_tgt = f->d_y};
    if (transfers || own_a) {
        if (f->d_x != own->d_tgt)
            return soothe__fail(err, SOOTHE_E_SHAPE, "the map begins at width %d, the calibrator's matrices end at %d",
                                f->d_x, own->d_tgt);
        return transfers ? transfer(f, run, err)
                         : multiply(&run->fusion.a, own->a, f->p, own->d_cal, f->d_x, f->d_y, err);
    }
    run->fusion.a = f->p;
    f->p          = NULL;
    if (f->d_x != own->d_cal)
        return soothe__fail(err, SOOTHE_E_SHAPE, "the map begins at width %d, the calibrator's states have %d", f->d_x,
                            own->d_cal);
    run->fusion.layer_norm = own->form == SOOTHE_FORM_PAPER;
    return run->fusion.layer_norm ? find_norm(&run->fusion.state_norm, run, err) : SOOTHE_OK;
}

enum soothe_status soothe__align_fit(struct soothe__align_run *run, struct soothe_error *err) {
    struct fitting     f      = {0};
    enum soothe_status status = run->r.on_states ? take_states(&f, run, err) : take_tokens(&f, run, err);
    if (!status)
        status = fit_map(&f, run, err);
    if (!status)
        status = make_fusion(&f, run, err);
    free(f.x);
    free(f.y);
    free(f.p);
    return status;
}
