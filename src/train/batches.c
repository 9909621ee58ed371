/* SPDX-License-Identifier: Apache-2.0 */
#include "train/batches.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct soothe__batches {
    const struct soothe__corpus   *corpus;
    struct soothe__target_states  *states;
    struct soothe__batches_options options;
    struct soothe__train_batch     batch;
    int32_t                       *tokens, *text_start;
    struct soothe__train_row      *rows;
    uint16_t                      *h_t, *h_c; /* h_c: NULL where the states know no calibrator */
    float                         *log_p_t;
    uint32_t                      *members; /* texts of the batch, in order */
    size_t                         n_members;
    float                        **known; /* per text of the corpus: log p_t of its rows, or NULL */
};

static int32_t rows_of(const struct soothe__text *t) {
    return t->n_tokens - t->first;
}

void soothe__batches_room(const struct soothe__corpus *corpus, const struct soothe__batches_options *options,
                          int32_t *max_tokens, int32_t *max_rows) {
    int32_t tokens = 1, rows = 1;
    for (size_t i = 0; i < corpus->n_texts; i++) {
        const struct soothe__text *t = &corpus->texts[i];
        if (!t->tokens)
            continue;
        tokens = t->n_tokens > tokens ? t->n_tokens : tokens;
        rows   = rows_of(t) > rows ? rows_of(t) : rows;
    }
    const int32_t n = (int32_t)(2 * options->n_pairs + options->n_texts);
    *max_tokens     = tokens * n; /* fits: soothe__train_request_check bounds both factors */
    *max_rows       = rows * n;
}

enum soothe_status soothe__batches_new(struct soothe__batches **out, const struct soothe__corpus *corpus,
                                       struct soothe__target_states         *states,
                                       const struct soothe__batches_options *options, struct soothe_error *err) {
    int32_t max_tokens, max_rows;
    *out                      = NULL;
    struct soothe__batches *b = soothe__calloc(1, sizeof *b);
    if (!b)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for batches");
    b->corpus  = corpus;
    b->states  = states;
    b->options = *options;
    soothe__batches_room(corpus, options, &max_tokens, &max_rows);
    const size_t n_texts = 2 * options->n_pairs + options->n_texts, rows = (size_t)max_rows;
    b->tokens     = soothe__calloc((size_t)max_tokens, sizeof *b->tokens);
    b->text_start = soothe__calloc(n_texts + 1, sizeof *b->text_start);
    b->rows       = soothe__calloc(rows, sizeof *b->rows);
    b->members    = soothe__calloc(n_texts, sizeof *b->members);
    b->known      = soothe__calloc(corpus->n_texts, sizeof *b->known);
    bool ok       = b->tokens && b->text_start && b->rows && b->members && b->known;
    if (states) {
        const int32_t d_cal = soothe__target_states_width_calibrator(states);
        b->h_t              = soothe__calloc(rows * (size_t)soothe__target_states_width(states), sizeof *b->h_t);
        b->h_c              = d_cal ? soothe__calloc(rows * (size_t)d_cal, sizeof *b->h_c) : NULL;
        b->log_p_t          = soothe__calloc(rows, sizeof *b->log_p_t);
        ok                  = ok && b->h_t && b->log_p_t && (b->h_c || !d_cal);
    }
    if (!ok) {
        soothe__batches_free(b);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for batches of %d tokens", max_tokens);
    }
    *out = b;
    return SOOTHE_OK;
}

void soothe__batches_free(struct soothe__batches *b) {
    if (!b)
        return;
    for (size_t i = 0; b->known && i < b->corpus->n_texts; i++)
        free(b->known[i]);
    void *all[] = {b->tokens, b->text_start, b->rows, b->h_t, b->h_c, b->log_p_t, b->members, b->known};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    free(b);
}

static void add_text(struct soothe__batches *b, uint32_t i_text, enum soothe__row_kind kind, int32_t i_pair) {
    const struct soothe__text  *t     = &b->corpus->texts[i_text];
    struct soothe__train_batch *batch = &b->batch;
    const int32_t               start = batch->n_tokens, n = rows_of(t);
    for (int32_t i = 0; i < n; i++) {
        const int32_t row = batch->n_rows + i, token = t->first + i;
        b->rows[row] = (struct soothe__train_row){start + token - 1, t->tokens[token], kind, i_pair};
        if (b->log_p_t)
            b->log_p_t[row] = b->known[i_text] ? b->known[i_text][i] : kind == SOOTHE__ROW_KL ? 0.0f : NAN;
    }
    batch->n_rows += n;
    b->members[b->n_members++] = i_text;
    if (!b->options.with_tokens)
        return;
    memcpy(b->tokens + start, t->tokens, (size_t)(t->n_tokens - 1) * sizeof *b->tokens); /* the last predicts nothing */
    batch->n_tokens += t->n_tokens - 1;
    b->text_start[++batch->n_texts] = batch->n_tokens;
}

static void begin(struct soothe__batches *b) {
    b->n_members = 0;
    b->batch     = (struct soothe__train_batch){.tokens     = b->tokens,
                                                .text_start = b->text_start,
                                                .rows       = b->rows,
                                                .h_t        = b->h_t,
                                                .h_c        = b->h_c,
                                                .log_p_t    = b->log_p_t};
}

static enum soothe_status finish(struct soothe__batches *b, const struct soothe__train_batch **batch,
                                 struct soothe_error *err) {
    *batch = &b->batch;
    return b->states ? soothe__target_states_get(b->states, b->members, b->n_members, b->h_t, b->h_c, err) : SOOTHE_OK;
}

enum soothe_status soothe__batches_build(struct soothe__batches *b, const uint32_t *pairs, size_t n_pairs,
                                         const uint32_t *texts, size_t n_texts, enum soothe__row_kind kind,
                                         const struct soothe__train_batch **batch, struct soothe_error *err) {
    begin(b);
    for (size_t i = 0; i < n_pairs; i++) {
        const struct soothe__pair *pair = &b->corpus->pairs[pairs[i]];
        add_text(b, pair->i_chosen, SOOTHE__ROW_CHOSEN, (int32_t)i);
        add_text(b, pair->i_rejected, SOOTHE__ROW_REJECTED, (int32_t)i);
    }
    b->batch.n_pairs = (int32_t)n_pairs;
    for (size_t i = 0; i < n_texts; i++)
        add_text(b, texts[i], kind, 0);
    return finish(b, batch, err);
}

enum soothe_status soothe__batches_build_texts(struct soothe__batches *b, const struct soothe__batch_text *texts,
                                               size_t n, const struct soothe__train_batch **batch,
                                               struct soothe_error *err) {
    begin(b);
    for (size_t i = 0; i < n; i++)
        add_text(b, texts[i].i_text, texts[i].kind, texts[i].i_pair);
    return finish(b, batch, err);
}

void soothe__batches_keep(struct soothe__batches *b) {
    int32_t row = 0;
    for (size_t i = 0; i < b->n_members && b->log_p_t; i++) {
        const int32_t n      = rows_of(&b->corpus->texts[b->members[i]]);
        float       **known  = &b->known[b->members[i]];
        const bool    filled = b->rows[row].kind != SOOTHE__ROW_KL;
        if (filled && !*known && (*known = soothe__calloc((size_t)n, sizeof **known)))
            memcpy(*known, b->log_p_t + row, (size_t)n * sizeof **known);
        row += n;
    }
}
