/* SPDX-License-Identifier: Apache-2.0
 * Likelihoods of texts, plain and fused. Legend: V vocabulary, K strengths, row: one token that counts.
 *
 * Texts run in batches. A batch is decoded once plain, its logits kept, and once for each strength, its logits
 * compared row by row. A batch's composition is the same each time, so that the engine rounds alike and what is
 * compared is fusion, not noise. Nothing that depends on the strength is in either cache: fusion comes after them. */
#include "eval/perplexity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/batch.h"
#include "generate/shortlist.h"

enum { BATCH_TOKENS = 512, BATCH_TEXTS = 32, ROWS_MIN = 16, LOGITS_BYTES = 96 << 20 };

/* Sums over one text's tokens. */
struct tally {
    double log_p; /* of the text's own tokens */
    double kl;    /* of clean texts */
};

struct row {
    uint32_t     i_text;
    llama_token  next;    /* the token to be predicted */
    int32_t      i_batch; /* where its logits are */
    const float *z;       /* (V) the logits under comparison, the engine's */
    double       lse_plain;
    struct tally result;
};

struct measure {
    const struct soothe__corpus      *corpus;
    const struct soothe__ppl_options *options;
    struct soothe_session            *session;
    int32_t                           n_vocab, rows_max, n_threads;
    bool                              alone; /* one text a batch */
    uint8_t                          *uses;  /* per text: USE_… */
    struct tally                     *plain; /* per text */
    struct tally                     *fused; /* (K, n_texts) */
    struct llama_batch                batch;
    struct row                       *rows; /* (rows_max) */
    int32_t                           n_rows;
    float                            *z_plain; /* (rows_max, V) */
    size_t                            n_tokens_run, n_tokens_done, n_tokens_all;
    struct soothe__progress           progress;
};

enum { USE_PAIR = 1, USE_CLEAN = 2 };

/* ---- one row ------------------------------------------------------------------------------------- */

double soothe__logit_divergence(const float *z_t, double lse_t, const float *z_f, double lse_f, int32_t n) {
    const float shift = (float)lse_t;
    double      sum = 0, mass = 0;
    for (int32_t i = 0; i < n; i++) {
        const double p = (double)expf(z_t[i] - shift);
        sum += p * ((double)z_t[i] - (double)z_f[i]);
        mass += p;
    }
    return sum / mass - lse_t + lse_f; /* mass is 1 but for the rounding of shift */
}

static void compare_row(const struct measure *m, int32_t i, bool is_plain) {
    struct row  *r       = &m->rows[i];
    float       *z_plain = m->z_plain + (size_t)i * (size_t)m->n_vocab;
    const double lse     = soothe__log_sum_exp(r->z, m->n_vocab);
    r->result            = (struct tally){.log_p = (double)r->z[r->next] - lse};
    if (is_plain) {
        r->lse_plain = lse;
        memcpy(z_plain, r->z, (size_t)m->n_vocab * sizeof *z_plain);
    } else if (m->uses[r->i_text] & USE_CLEAN) {
        r->result.kl = soothe__logit_divergence(z_plain, r->lse_plain, r->z, lse, m->n_vocab);
    }
}

/* ---- one batch ------------------------------------------------------------------------------------- */

/* Adds the text's tokens [from, to) as a sequence. */
static void add_tokens(struct measure *m, uint32_t i_text, llama_seq_id seq, int32_t from, int32_t to) {
    const struct soothe__text *t = &m->corpus->texts[i_text];
    for (int32_t i = from; i < to; i++) {
        const bool    counts = i >= t->first - 1;
        const int32_t k      = soothe__batch_add(&m->batch, t->tokens[i], i, seq, counts);
        if (counts)
            m->rows[m->n_rows++] = (struct row){.i_text = i_text, .next = t->tokens[i + 1], .i_batch = k};
    }
}

/* Decodes the batch at one strength and adds its rows to the tallies. */
static enum soothe_status run_batch(struct measure *m, float strength, struct tally *tallies, bool is_plain,
                                    struct soothe_error *err) {
    enum soothe_status status = soothe_session_set_strength(m->session, -1, strength, err);
    if (!status)
        status = soothe_decode(m->session, m->batch, err);
    if (status)
        return status;
    m->n_tokens_run += (size_t)m->batch.n_tokens;
    for (int32_t i = 0; i < m->n_rows; i++) {
        m->rows[i].z = soothe_get_logits_ith(m->session, m->rows[i].i_batch);
        if (!m->rows[i].z)
            return soothe__fail(err, SOOTHE_E_ENGINE, "the engine gave no logits for token %d of a batch",
                                m->rows[i].i_batch);
    }
#pragma omp parallel for schedule(static) num_threads(m->n_threads)
    for (int32_t i = 0; i < m->n_rows; i++)
        compare_row(m, i, is_plain);
    for (int32_t i = 0; i < m->n_rows; i++) {
        const struct row *r = &m->rows[i];
        if (!isfinite(r->result.log_p) || !isfinite(r->result.kl))
            return soothe__fail(err, SOOTHE_E_NUMERIC, "the %s gives logits that are not finite: damaged weights?",
                                is_plain ? "target" : "fused model");
        tallies[r->i_text].log_p += r->result.log_p;
        tallies[r->i_text].kl += r->result.kl;
    }
    return SOOTHE_OK;
}

/* Takes both caches back to position from of the batch's texts (only a batch of one text has from > 0). */
static enum soothe_status rewind_to(struct measure *m, uint32_t i_text, int32_t from, struct soothe_error *err) {
    if (from > 0 && soothe_seq_rm(m->session, 0, from, -1))
        return SOOTHE_OK;
    soothe_clear(m->session);
    /* Recurrent models cannot forget their last tokens: they read the first ones again. */
    const struct soothe__text *t      = &m->corpus->texts[i_text];
    enum soothe_status         status = SOOTHE_OK;
    for (int32_t at = 0; at < from && !status; at += BATCH_TOKENS) {
        const int32_t      n = from - at < BATCH_TOKENS ? from - at : BATCH_TOKENS;
        struct llama_batch b = llama_batch_get_one(t->tokens + at, n);
        status               = soothe_decode(m->session, b, err);
    }
    return status;
}

/* The batch plain, then at every strength. i_text, from: where a batch of one text begins. */
static enum soothe_status measure_batch(struct measure *m, uint32_t i_text, int32_t from, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    if (m->n_rows == 0 && m->batch.n_tokens > 0) /* a long prompt's part: it only has to be read */
        return soothe_decode(m->session, m->batch, err);
    for (size_t k = 0; k <= m->options->n_strengths && !status; k++) {
        if (k && m->options->strengths[k - 1] == 0.0f)
            continue; /* the plain logits again, bit for bit (tests/test_fusion.c) */
        status = from > 0 && k == 0 ? SOOTHE_OK : rewind_to(m, i_text, from, err);
        if (!status)
            status = run_batch(m, k ? m->options->strengths[k - 1] : 0.0f,
                               k ? m->fused + (k - 1) * m->corpus->n_texts : m->plain, k == 0, err);
    }
    return status;
}

static void begin_batch(struct measure *m) {
    m->batch.n_tokens = 0;
    m->n_rows         = 0;
}

static void show_progress(struct measure *m, size_t n_tokens) {
    char         detail[64];
    const double seconds = soothe__seconds() - m->progress.started;
    m->n_tokens_done += n_tokens;
    if (!m->options->show_progress)
        return;
    snprintf(detail, sizeof detail, "%.0f tokens/s", (double)m->n_tokens_run / (seconds > 1e-3 ? seconds : 1e-3));
    soothe__progress_update(&m->progress, (double)m->n_tokens_done / (double)m->n_tokens_all, detail);
}

/* ---- all texts --------------------------------------------------------------------------------------- */

/* The tokens that run: the last one predicts nothing that counts. */
static int32_t n_run(const struct soothe__text *t) {
    return t->n_tokens - 1;
}

static int32_t n_counted(const struct soothe__text *t) {
    return t->n_tokens - t->first;
}

/* A text too long for one batch, in windows. */
static enum soothe_status measure_long(struct measure *m, uint32_t i_text, struct soothe_error *err) {
    const struct soothe__text *t      = &m->corpus->texts[i_text];
    enum soothe_status         status = SOOTHE_OK;
    soothe_clear(m->session);
    for (int32_t from = 0; from < n_run(t) && !status;) {
        int32_t to = from, n_rows = 0;
        while (to < n_run(t) && to - from < BATCH_TOKENS && n_rows < m->rows_max)
            n_rows += to++ >= t->first - 1;
        begin_batch(m);
        add_tokens(m, i_text, 0, from, to);
        status = measure_batch(m, i_text, from, err);
        from   = to;
    }
    return status;
}

static bool fits_batch(const struct measure *m, const struct soothe__text *t) {
    return n_run(t) <= BATCH_TOKENS && n_counted(t) <= m->rows_max;
}

static enum soothe_status measure_texts(struct measure *m, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    llama_seq_id       n_seq  = 0;
    begin_batch(m);
    for (uint32_t i = 0; i <= m->corpus->n_texts && !status; i++) {
        const struct soothe__text *t = i < m->corpus->n_texts ? &m->corpus->texts[i] : NULL;
        if (t && !m->uses[i])
            continue;
        const bool in_batch = t && fits_batch(m, t);
        /* What has gathered runs at the end, or as soon as this text would not go in with it. */
        if (n_seq > 0 && (!in_batch || m->alone || n_seq == BATCH_TEXTS ||
                          m->batch.n_tokens + n_run(t) > BATCH_TOKENS || m->n_rows + n_counted(t) > m->rows_max)) {
            status = measure_batch(m, 0, 0, err);
            show_progress(m, (size_t)m->batch.n_tokens);
            begin_batch(m);
            n_seq = 0;
        }
        if (in_batch && !status) {
            add_tokens(m, i, n_seq++, 0, n_run(t));
        } else if (t && !status) {
            status = measure_long(m, i, err);
            show_progress(m, (size_t)n_run(t));
            begin_batch(m);
        }
    }
    return status;
}

/* ---- setting up ---------------------------------------------------------------------------------------- */

static enum soothe_status note_uses(struct measure *m, struct soothe_error *err) {
    const struct soothe__corpus *c = m->corpus;
    for (size_t i = 0; i < c->n_pairs; i++) {
        m->uses[c->pairs[i].i_chosen] |= USE_PAIR;
        m->uses[c->pairs[i].i_rejected] |= USE_PAIR;
    }
    for (size_t i = 0; i < c->n_singles; i++)
        m->uses[c->singles[i]] |= USE_CLEAN;
    for (size_t i = 0; i < c->n_texts; i++) {
        const struct soothe__text *t = &c->texts[i];
        if (!m->uses[i])
            continue;
        if (!t->tokens || t->first < 1 || n_counted(t) < 1 || t->n_tokens > m->options->n_ctx)
            return soothe__fail(err, SOOTHE_E_ARGUMENT,
                                "text %zu has %d tokens, %d of them to be predicted: 2 to %d and at least 1 are needed",
                                i, t->n_tokens, n_counted(t), m->options->n_ctx);
        m->n_tokens_all += (size_t)n_run(t);
    }
    return m->n_tokens_all ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_ARGUMENT, "there are no texts to measure");
}

static enum soothe_status open_session(struct measure *m, struct llama_model *target,
                                       const struct soothe_calibrator *cal, struct soothe_error *err) {
    struct soothe_session_params p = soothe_session_params_default();
    const int32_t                n = m->options->n_ctx > BATCH_TOKENS ? m->options->n_ctx : BATCH_TOKENS;
    p.context.n_ctx                = (uint32_t)n;
    p.context.n_batch = p.context.n_ubatch = BATCH_TOKENS;
    p.context.n_seq_max                    = m->alone ? 1 : BATCH_TEXTS;
    p.strength                             = 0.0f;
    if (m->options->n_threads > 0)
        p.context.n_threads = p.context.n_threads_batch = m->options->n_threads;
    m->n_threads = p.context.n_threads_batch;
    return soothe_session_new(&m->session, target, cal, &p, err);
}

static enum soothe_status allocate(struct measure *m, struct soothe_error *err) {
    const size_t n         = m->corpus->n_texts;
    const size_t rows_wish = (size_t)LOGITS_BYTES / sizeof(float) / (size_t)m->n_vocab;
    m->rows_max = rows_wish < ROWS_MIN ? ROWS_MIN : rows_wish > BATCH_TOKENS ? BATCH_TOKENS : (int32_t)rows_wish;
    m->uses     = soothe__calloc(n + 1, sizeof *m->uses);
    m->plain    = soothe__calloc(n + 1, sizeof *m->plain);
    m->fused    = soothe__calloc((n + 1) * (m->options->n_strengths + 1), sizeof *m->fused);
    m->rows     = soothe__calloc((size_t)m->rows_max, sizeof *m->rows);
    m->z_plain  = soothe__calloc((size_t)m->rows_max, (size_t)m->n_vocab * sizeof *m->z_plain);
    m->batch    = llama_batch_init(BATCH_TOKENS, 0, 1);
    if (!m->uses || !m->plain || !m->fused || !m->rows || !m->z_plain || !m->batch.token)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the likelihoods of %zu texts", n);
    return SOOTHE_OK;
}

static void release(struct measure *m) {
    if (m->batch.token)
        llama_batch_free(m->batch);
    soothe_session_free(m->session);
    free(m->uses);
    free(m->plain);
    free(m->fused);
    free(m->rows);
    free(m->z_plain);
}

/* ---- figures from tallies ---------------------------------------------------------------------------------- */

/* Sum of x over sum of n, with its standard error over the texts (the usual one of a ratio). */
struct ratio_sums {
    double x, n, xx, xn, nn;
    size_t count;
};

static void ratio_add(struct ratio_sums *s, double x, double n) {
    s->x += x;
    s->n += n;
    s->xx += x * x;
    s->xn += x * n;
    s->nn += n * n;
    s->count++;
}

static struct soothe__estimate ratio_of(const struct ratio_sums *s) {
    struct soothe__estimate e = {0};
    if (s->count == 0 || s->n <= 0)
        return e;
    e.value           = s->x / s->n;
    const double rest = s->xx - 2 * e.value * s->xn + e.value * e.value * s->nn; /* sum of (x - value n)^2 */
    if (s->count > 1 && rest > 0)
        e.error = sqrt(rest * (double)s->count / (double)(s->count - 1)) / s->n;
    return e;
}

struct set_sums {
    struct ratio_sums plain, fused, change, kl;
};

static void set_add(struct set_sums *s, const struct measure *m, uint32_t i, const struct tally *fused) {
    const double n     = n_counted(&m->corpus->texts[i]);
    const double plain = -m->plain[i].log_p, now = -fused[i].log_p;
    ratio_add(&s->plain, plain, n);
    ratio_add(&s->fused, now, n);
    ratio_add(&s->change, now - plain, n);
    ratio_add(&s->kl, fused[i].kl, n);
}

static struct soothe__ppl_set set_of(const struct set_sums *s) {
    struct soothe__ppl_set set = {.n_texts = s->fused.count, .n_tokens = (size_t)s->fused.n};
    if (set.n_texts == 0)
        return set;
    const double plain = ratio_of(&s->plain).value;
    set.nll            = ratio_of(&s->fused);
    set.nll_change     = ratio_of(&s->change);
    set.perplexity     = exp(set.nll.value);
    set.ratio          = exp(set.nll_change.value);
    set.nll_ratio      = plain > 0 ? set.nll.value / plain : 1.0;
    return set;
}

/* The figures of one strength; fused = plain gives those of the plain model. */
static struct soothe__ppl_at figures(const struct measure *m, float strength, const struct tally *fused) {
    const struct soothe__corpus *c     = m->corpus;
    struct soothe__ppl_at        at    = {.strength = strength};
    struct set_sums              clean = {0}, chosen = {0}, rejected = {0};
    struct ratio_sums            share = {0}, margin = {0};
    for (size_t i = 0; i < c->n_singles; i++)
        set_add(&clean, m, c->singles[i], fused);
    for (size_t i = 0; i < c->n_pairs; i++) {
        const uint32_t a = c->pairs[i].i_chosen, b = c->pairs[i].i_rejected;
        const double   s = (fused[a].log_p - m->plain[a].log_p) - (fused[b].log_p - m->plain[b].log_p);
        set_add(&chosen, m, a, fused);
        set_add(&rejected, m, b, fused);
        ratio_add(&share, s > 0 ? 1.0 : s < 0 ? 0.0 : 0.5, 1.0);
        ratio_add(&margin, s, 1.0);
        at.n_ties += s == 0;
    }
    at.sets   = (struct soothe__ppl_sets){set_of(&clean), set_of(&chosen), set_of(&rejected)};
    at.share  = ratio_of(&share);
    at.margin = ratio_of(&margin);
    at.kl     = ratio_of(&clean.kl);
    return at;
}

static enum soothe_status report_of(struct soothe__ppl_report *r, const struct measure *m, struct soothe_error *err) {
    const size_t n_strengths = m->options->n_strengths;
    r->at                    = soothe__calloc(n_strengths + 1, sizeof *r->at);
    if (!r->at)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the figures of %zu strengths", n_strengths);
    r->n_at         = n_strengths;
    r->n_pairs      = m->corpus->n_pairs;
    r->n_clean      = m->corpus->n_singles;
    r->n_tokens_run = m->n_tokens_run;
    r->seconds      = soothe__seconds() - m->progress.started;
    r->plain        = figures(m, 0.0f, m->plain).sets;
    for (size_t k = 0; k < n_strengths; k++) {
        const float strength = m->options->strengths[k];
        r->at[k]             = figures(m, strength, strength == 0.0f ? m->plain : m->fused + k * m->corpus->n_texts);
    }
    return SOOTHE_OK;
}

enum soothe_status soothe__perplexity(struct soothe__ppl_report *report, struct llama_model *target,
                                      const struct soothe_calibrator *cal, const struct soothe__corpus *corpus,
                                      const struct soothe__ppl_options *options, struct soothe_error *err) {
    memset(report, 0, sizeof *report);
    if (options->n_ctx < 16)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a context of %d tokens: at least 16 are needed", options->n_ctx);
    if (!cal && options->n_strengths > 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a strength means nothing without a calibrator");
    struct measure     m      = {.corpus   = corpus,
                                 .options  = options,
                                 .n_vocab  = llama_vocab_n_tokens(llama_model_get_vocab(target)),
                                 .alone    = llama_model_is_recurrent(target) || llama_model_is_hybrid(target),
                                 .progress = soothe__progress_start()};
    enum soothe_status status = allocate(&m, err);
    if (!status)
        status = note_uses(&m, err);
    if (!status)
        status = open_session(&m, target, cal, err);
    if (!status)
        status = measure_texts(&m, err);
    if (options->show_progress)
        soothe__progress_finish(&m.progress);
    if (!status)
        status = report_of(report, &m, err);
    release(&m);
    return status;
}

void soothe__ppl_report_free(struct soothe__ppl_report *report) {
    free(report->at);
    memset(report, 0, sizeof *report);
}
