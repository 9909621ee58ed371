/* SPDX-License-Identifier: Apache-2.0
 * What an alignment does to held-out texts, of whatever form its fusion is. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/align_parts.h"
#include "train/batches.h"
#include "train/head.h"
#include "train/kernels.h"

struct sums {
    double nll, nll_plain, kl;
    size_t n;
};

struct measuring {
    const struct soothe__align_run *run;
    struct soothe__gemm            *gemm;
    struct soothe__head            *head;
    struct soothe__batches         *batches;
    bool                            bf16;
    void                           *h_f, *h_t; /* operands */
    int32_t                        *next;
    bool                           *flags; /* all true */
    float                          *log_p, *log_p_t, *kl;
    struct sums                     clean, chosen, rejected;
    double                          margin;
    size_t                          n_right;
};

enum { TEXTS_AT_ONCE = 8 };

static void measuring_free(struct measuring *m) {
    void *all[] = {m->h_f, m->h_t, m->next, m->flags, m->log_p, m->log_p_t, m->kl};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    soothe__batches_free(m->batches);
    soothe__head_free(m->head);
    soothe__gemm_free(m->gemm);
}

static enum soothe_status begin(struct measuring *m, struct soothe__target_states *states,
                                const struct soothe__corpus *corpus, struct soothe_error *err) {
    const struct soothe__batches_options options = {.n_pairs = TEXTS_AT_ONCE / 2, .n_texts = TEXTS_AT_ONCE};
    const enum soothe__precision         wanted  = m->run->r.precision;
    int32_t                              tokens, rows;
    soothe__batches_room(corpus, &options, &tokens, &rows);
    const size_t n = ((size_t)rows + SOOTHE__HEAD_ROWS - 1) / SOOTHE__HEAD_ROWS * SOOTHE__HEAD_ROWS,
                 d = (size_t)m->run->files.shape.d_tgt;
    m->bf16    = wanted == SOOTHE__PRECISION_BF16 || (wanted == SOOTHE__PRECISION_AUTO && soothe__gemm_prefers_bf16());
    m->h_f     = soothe__calloc(n * d, m->bf16 ? sizeof(uint16_t) : sizeof(float));
    m->h_t     = soothe__calloc(n * d, m->bf16 ? sizeof(uint16_t) : sizeof(float));
    m->next    = soothe__calloc(n, sizeof *m->next);
    m->flags   = soothe__calloc(n, sizeof *m->flags);
    m->log_p   = soothe__calloc(n, sizeof(float));
    m->log_p_t = soothe__calloc(n, sizeof(float));
    m->kl      = soothe__calloc(n, sizeof(float));
    if (!m->h_f || !m->h_t || !m->next || !m->flags || !m->log_p || !m->log_p_t || !m->kl)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for held-out texts");
    memset(m->flags, true, n);
    enum soothe_status status = soothe__gemm_new(&m->gemm, m->bf16, err);
    if (!status)
        status = soothe__head_new(&m->head, m->gemm, m->bf16, m->run->files.head, m->run->files.shape.n_vocab,
                                  m->run->files.shape.d_tgt, err);
    return status ? status : soothe__batches_new(&m->batches, corpus, states, &options, err);
}

static void put(const struct measuring *m, void *operand, size_t at, const float *h, size_t d) {
    if (m->bf16)
        soothe__to_bf16((uint16_t *)operand + at, h, d);
    else
        memcpy((float *)operand + at, h, d * sizeof *h);
}

/* log p and KL of a batch's rows, plain and fused. */
static enum soothe_status run_batch(struct measuring *m, const struct soothe__train_batch *batch,
                                    struct soothe_error *err) {
    const struct soothe__fusion *f   = &m->run->fusion;
    const size_t                 d   = (size_t)f->d_tgt;
    const size_t                 d_c = batch->h_c ? (size_t)m->run->own.d_cal : 0;
    float                        h[d], scratch[d], h_c[d_c + 1];
    for (int32_t i = 0; i < batch->n_rows; i++) {
        m->next[i] = batch->rows[i].next;
        soothe__from_bf16(h, batch->h_t + (size_t)i * d, d);
        put(m, m->h_t, (size_t)i * d, h, d);
        if (d_c)
            soothe__from_bf16(h_c, batch->h_c + (size_t)i * d_c, d_c);
        soothe__fuse_row(f, h, d_c ? h_c : NULL, m->run->report->strength, scratch);
        put(m, m->h_f, (size_t)i * d, h, d);
    }
    const struct soothe__head_rows rows = {.n             = batch->n_rows,
                                           .h             = m->h_f,
                                           .h_t           = m->h_t,
                                           .next          = m->next,
                                           .diverge       = m->flags,
                                           .needs_log_p_t = m->flags,
                                           .log_p         = m->log_p,
                                           .log_p_t       = m->log_p_t,
                                           .kl            = m->kl};
    return soothe__head_run(m->head, &rows, err);
}

static void add_row(struct sums *s, const struct measuring *m, int32_t i) {
    s->nll -= (double)m->log_p[i];
    s->nll_plain -= (double)m->log_p_t[i];
    s->kl += (double)m->kl[i];
    s->n++;
}

static void add_pairs(struct measuring *m, const struct soothe__train_batch *batch) {
    double margins[TEXTS_AT_ONCE] = {0};
    for (int32_t i = 0; i < batch->n_rows; i++) {
        const struct soothe__train_row *row    = &batch->rows[i];
        const bool                      chosen = row->kind == SOOTHE__ROW_CHOSEN;
        const double                    gain   = (double)m->log_p[i] - (double)m->log_p_t[i];
        margins[row->i_pair] += chosen ? gain : -gain;
        add_row(chosen ? &m->chosen : &m->rejected, m, i);
    }
    for (int32_t i = 0; i < batch->n_pairs; i++) {
        m->margin += margins[i];
        m->n_right += margins[i] > 0;
    }
}

static enum soothe_status run_all(struct measuring *m, const struct soothe__corpus *corpus, struct soothe_error *err) {
    const struct soothe__train_batch *batch;
    enum soothe_status                status = SOOTHE_OK;
    uint32_t                          pairs[TEXTS_AT_ONCE / 2];
    struct soothe__progress           progress = soothe__progress_start();
    const size_t                      total    = corpus->n_pairs * 2 + corpus->n_singles;
    for (size_t from = 0; from < corpus->n_pairs && !status; from += TEXTS_AT_ONCE / 2) {
        size_t n = 0;
        for (; n < TEXTS_AT_ONCE / 2 && from + n < corpus->n_pairs; n++)
            pairs[n] = (uint32_t)(from + n);
        status = soothe__batches_build(m->batches, pairs, n, NULL, 0, SOOTHE__ROW_PLAIN, &batch, err);
        if (!status)
            status = run_batch(m, batch, err);
        if (!status)
            add_pairs(m, batch);
        soothe__progress_update(&progress, 2 * (double)(from + n) / (double)total, "held-out pairs");
        if (m->run->r.stop && *m->run->r.stop)
            status = soothe__fail(err, SOOTHE_E_INTERRUPTED, "stopped while measuring");
    }
    for (size_t from = 0; from < corpus->n_singles && !status; from += TEXTS_AT_ONCE) {
        const size_t left = corpus->n_singles - from, n = left < TEXTS_AT_ONCE ? left : TEXTS_AT_ONCE;
        status = soothe__batches_build(m->batches, NULL, 0, corpus->singles + from, n, SOOTHE__ROW_KL, &batch, err);
        if (!status)
            status = run_batch(m, batch, err);
        for (int32_t i = 0; !status && i < batch->n_rows; i++)
            add_row(&m->clean, m, i);
        soothe__progress_update(&progress, (double)(2 * corpus->n_pairs + from + n) / (double)total, "held-out texts");
        if (m->run->r.stop && *m->run->r.stop)
            status = soothe__fail(err, SOOTHE_E_INTERRUPTED, "stopped while measuring");
    }
    soothe__progress_finish(&progress);
    return status;
}

static double per_token(double sum, const struct sums *s) {
    return s->n ? sum / (double)s->n : NAN;
}

enum soothe_status soothe__align_measure_on(const struct soothe__align_run *run, const struct soothe__corpus *corpus,
                                            struct soothe__target_states *states, struct soothe__align_figures *f,
                                            struct soothe_error *err) {
    struct measuring   m      = {.run = run};
    enum soothe_status status = SOOTHE_OK;
    *f = (struct soothe__align_figures){.n_pairs = corpus->n_pairs, .n_texts = corpus->n_singles};
    if (states) {
        status = begin(&m, states, corpus, err);
        if (!status)
            status = run_all(&m, corpus, err);
    }
    f->pairs_right        = corpus->n_pairs ? (double)m.n_right / (double)corpus->n_pairs : NAN;
    f->margin             = corpus->n_pairs ? m.margin / (double)corpus->n_pairs : NAN;
    f->kl                 = per_token(m.clean.kl, &m.clean);
    f->nll_clean          = per_token(m.clean.nll, &m.clean);
    f->nll_clean_plain    = per_token(m.clean.nll_plain, &m.clean);
    f->nll_chosen         = per_token(m.chosen.nll, &m.chosen);
    f->nll_chosen_plain   = per_token(m.chosen.nll_plain, &m.chosen);
    f->nll_rejected       = per_token(m.rejected.nll, &m.rejected);
    f->nll_rejected_plain = per_token(m.rejected.nll_plain, &m.rejected);
    measuring_free(&m);
    return status;
}

enum soothe_status soothe__align_measure(struct soothe__align_run *run, struct soothe__align_figures *f,
                                         struct soothe_error *err) {
    struct soothe__target_states *states = NULL;
    const struct soothe__corpus  *corpus = &run->heldout;
    enum soothe_status            status = SOOTHE_OK;
    if (corpus->n_pairs + corpus->n_singles > 0)
        status = soothe__align_states(run, corpus, NULL, 0, &states, err);
    if (!status)
        status = soothe__align_measure_on(run, corpus, states, f, err);
    soothe__target_states_free(states);
    return status;
}
