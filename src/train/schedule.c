/* SPDX-License-Identifier: Apache-2.0 */
#include "train/schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- texts ----------------------------------------------------------------------------------------------- */

static enum soothe_status read_files(struct soothe__corpus *c, const char *const *paths, size_t n,
                                     struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (size_t i = 0; i < n && !status; i++)
        status = soothe__corpus_read(c, paths[i], err);
    return status;
}

enum soothe_status soothe__training_texts(struct soothe__corpus *corpus, struct soothe__corpus *heldout,
                                          const struct soothe__texts_wanted *wanted, const struct llama_vocab *vocab,
                                          size_t *n_read, size_t *n_left_out, struct soothe_error *err) {
    size_t             n_removed = 0, n_empty = 0;
    enum soothe_status status = read_files(corpus, wanted->data_paths, wanted->n_data, err);
    *n_read                   = corpus->n_pairs;
    if (!status && wanted->n_heldout)
        status = read_files(heldout, wanted->heldout_paths, wanted->n_heldout, err);
    else if (!status && wanted->heldout_share > 0)
        status = soothe__corpus_split(heldout, corpus, wanted->heldout_share, wanted->seed, err);
    if (!status)
        status = soothe__corpus_remove_shared(corpus, heldout, &n_removed, err);
    if (!status)
        status = soothe__corpus_tokenize(corpus, vocab, wanted->max_length, &n_empty, err);
    if (!status)
        status = soothe__corpus_tokenize(heldout, vocab, wanted->max_length, NULL, err);
    *n_left_out = corpus->n_bad + corpus->n_repeated + n_removed + n_empty;
    return status;
}

/* ---- steps ----------------------------------------------------------------------------------------------- */

enum soothe_status soothe__schedule_init(struct soothe__schedule *s, const struct soothe__corpus *corpus,
                                         size_t n_pairs, size_t n_texts, uint64_t seed, struct soothe_error *err) {
    const bool   singles = corpus->n_singles > 0;
    const size_t n       = singles ? corpus->n_singles : corpus->n_pairs;
    *s                   = (struct soothe__schedule){.corpus = corpus, .n_pairs = n_pairs, .n_texts = n_texts};
    s->text_pool         = soothe__calloc(n, sizeof *s->text_pool);
    if (!s->text_pool)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", n);
    for (size_t i = 0; i < n; i++)
        s->text_pool[i] = singles ? corpus->singles[i] : corpus->pairs[i].i_chosen;
    enum soothe_status status = SOOTHE_OK;
    if (n_pairs)
        status = soothe__series_init(&s->pairs, corpus->n_pairs, seed, 1, err);
    if (!status)
        status = soothe__series_init(&s->texts, n, seed, 2, err);
    return status;
}

enum soothe_status soothe__schedule_part(struct soothe__schedule *s, size_t n_apart, uint64_t seed,
                                         struct soothe_error *err) {
    const struct soothe__corpus *c      = s->corpus;
    size_t                       counts = 0, n_rest = 0;
    for (size_t i = 0; i < c->n_singles; i++)
        counts += c->texts[c->singles[i]].weight > 0;
    if (counts == 0 || counts == c->n_singles || n_apart == 0 || n_apart >= s->n_texts)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "of %zu texts %zu have a weight, and %zu of %zu texts a step are to be without: both kinds "
                            "are needed",
                            c->n_singles, counts, n_apart, s->n_texts);
    if (!(s->apart_pool = soothe__calloc(c->n_singles - counts, sizeof *s->apart_pool)))
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", c->n_singles);
    counts = 0;
    for (size_t i = 0; i < c->n_singles; i++)
        if (c->texts[c->singles[i]].weight > 0)
            s->text_pool[counts++] = c->singles[i];
        else
            s->apart_pool[n_rest++] = c->singles[i];
    s->n_apart = n_apart;
    soothe__series_free(&s->texts);
    const enum soothe_status status = soothe__series_init(&s->texts, counts, seed, 2, err);
    return status ? status : soothe__series_init(&s->apart, n_rest, seed, 6, err);
}

void soothe__schedule_free(struct soothe__schedule *s) {
    soothe__series_free(&s->apart);
    free(s->apart_pool);
    s->apart_pool = NULL;
    soothe__series_free(&s->pairs);
    soothe__series_free(&s->texts);
    free(s->text_pool);
    s->text_pool = NULL;
}

void soothe__schedule_step(struct soothe__schedule *s, int64_t step, uint32_t *pairs, uint32_t *texts) {
    for (uint64_t k = 0; k < s->n_pairs; k++)
        pairs[k] = soothe__series_at(&s->pairs, (uint64_t)step * s->n_pairs + k);
    const uint64_t n = s->n_texts - s->n_apart;
    for (uint64_t k = 0; k < n; k++)
        texts[k] = s->text_pool[soothe__series_at(&s->texts, (uint64_t)step * n + k)];
    for (uint64_t k = 0; k < s->n_apart; k++)
        texts[n + k] = s->apart_pool[soothe__series_at(&s->apart, (uint64_t)step * s->n_apart + k)];
}

struct order {
    uint32_t *texts;
    bool     *seen;
    size_t    n;
};

static void ask_for(struct order *o, uint32_t i_text) {
    if (!o->seen[i_text])
        o->texts[o->n++] = i_text;
    o->seen[i_text] = true;
}

static void ask_for_step(struct soothe__schedule *s, int32_t step, struct order *o) {
    uint32_t pairs[s->n_pairs + 1], texts[s->n_texts + 1];
    soothe__schedule_step(s, step, pairs, texts);
    for (size_t k = 0; k < s->n_pairs; k++) {
        ask_for(o, s->corpus->pairs[pairs[k]].i_chosen);
        ask_for(o, s->corpus->pairs[pairs[k]].i_rejected);
    }
    for (size_t k = 0; k < s->n_texts; k++)
        ask_for(o, texts[k]);
}

enum soothe_status soothe__schedule_order(struct soothe__schedule *s, int32_t n_steps, uint32_t **order, size_t *n,
                                          struct soothe_error *err) {
    const size_t n_texts = s->corpus->n_texts;
    struct order o = {soothe__calloc(n_texts + 1, sizeof *o.texts), soothe__calloc(n_texts + 1, sizeof *o.seen), 0};
    *order         = NULL;
    *n             = 0;
    if (!o.texts || !o.seen) {
        free(o.texts);
        free(o.seen);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the order of %zu texts", n_texts);
    }
    for (int32_t step = 0; step < n_steps; step++)
        ask_for_step(s, step, &o);
    free(o.seen);
    *order = o.texts;
    *n     = o.n;
    return SOOTHE_OK;
}

double soothe__schedule_rate(int32_t step, int32_t n_steps) {
    const double warm = 1 + n_steps / 20, done = step + 0.5;
    if (done < warm)
        return done / warm;
    return 0.5 * (1 + cos(acos(-1.0) * (done - warm) / (n_steps - warm)));
}
