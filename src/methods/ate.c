/* SPDX-License-Identifier: Apache-2.0
 * Effects of words: draws sentences and fills, has them scored many at a time, and adds up. */
#include "methods/ate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 4096 };

struct soothe__ate_options soothe__ate_options_default(void) {
    return (struct soothe__ate_options){
        .n_min = 5, .n_sentences = 40, .n_fills = 5, .k = 10, .confidence = 0.95, .seed = 1};
}

/* One sentence of one word. */
struct trial {
    uint32_t word, sentence;
    double   sum; /* over the fills' scores */
    int32_t  n;
};

struct work {
    const struct soothe__ate_corpus  *corpus;
    struct soothe__scorer            *scorer;
    const struct soothe__fills       *fills;
    const struct soothe__ate_options *options;
    struct trial                     *trials; /* by word, as they are drawn */
    size_t                            n_trials, trials_capacity;
    double                           *base; /* of every sentence, NaN: none */
    /* texts waiting for their scores */
    char                *texts[BATCH];
    size_t               owner[BATCH]; /* trial, or sentence */
    struct soothe__score scores[BATCH];
    size_t               n_texts;
};

static enum soothe_status no_memory(struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the effects of words");
}

/* ---- scoring ------------------------------------------------------------------------------------------------- */

static bool is_stopped(const struct work *w) {
    return w->options->stop && *w->options->stop;
}

/* Scores the sentences themselves, those that some word was drawn for. */
static enum soothe_status score_sentences(struct work *w, struct soothe_error *err) {
    const struct soothe__ate_corpus *c      = w->corpus;
    enum soothe_status               status = SOOTHE_OK;
    size_t                           n      = 0;
    for (size_t i = 0; i <= c->n_sentences && !status; i++) {
        if (i < c->n_sentences && w->base[i] != 0) {
            w->texts[n]   = c->sentences[i].text;
            w->owner[n++] = i;
        }
        if (n < BATCH && i < c->n_sentences)
            continue;
        status = soothe__scorer_score(w->scorer, (const char *const *)w->texts, n, w->scores, err);
        for (size_t k = 0; k < n && !status; k++)
            w->base[w->owner[k]] = w->scores[k].toxicity;
        n = 0;
        if (!status && is_stopped(w))
            status = soothe__fail(err, SOOTHE_E_INTERRUPTED, "stopped");
    }
    return status;
}

static enum soothe_status flush(struct work *w, struct soothe_error *err) {
    enum soothe_status status =
        soothe__scorer_score(w->scorer, (const char *const *)w->texts, w->n_texts, w->scores, err);
    for (size_t k = 0; k < w->n_texts; k++) {
        struct trial *t = &w->trials[w->owner[k]];
        if (!status && !isnan(w->scores[k].toxicity)) {
            t->sum += w->scores[k].toxicity;
            t->n++;
        }
        free(w->texts[k]);
    }
    w->n_texts = 0;
    return status ? status : is_stopped(w) ? soothe__fail(err, SOOTHE_E_INTERRUPTED, "stopped") : SOOTHE_OK;
}

/* ---- counterfactuals ------------------------------------------------------------------------------------------- */

static bool is_upper(char c) {
    return c >= 'A' && c <= 'Z';
}

/* A fill in the letters' case of what it stands for: "Word", "WORD", "word". */
static void in_case_of(char *fill, const char *text, size_t size) {
    const bool all = size > 1 && is_upper(text[0]) && is_upper(text[1]);
    for (size_t i = 0; fill[i] && (all || (i == 0 && is_upper(text[0]))); i++)
        if (fill[i] >= 'a' && fill[i] <= 'z')
            fill[i] = (char)(fill[i] - 'a' + 'A');
}

/* The sentence with every occurrence of the word made the fill. */
static char *replaced(const struct soothe__ate_corpus *c, const struct soothe__ate_sentence *s, uint32_t word,
                      const char *fill) {
    size_t n = strlen(s->text) + 1, at = 0;
    for (uint32_t k = 0; k < s->n; k++)
        n += c->places[s->first + k].word == word ? strlen(fill) : 0;
    char *out = soothe__calloc(n, 1), *end = out;
    for (uint32_t k = 0; k < s->n && out; k++) {
        const struct soothe__ate_place *p = &c->places[s->first + k];
        if (p->word != word)
            continue;
        char cased[SOOTHE__WORD_BYTES_MAX + 1];
        snprintf(cased, sizeof cased, "%s", fill);
        in_case_of(cased, s->text + p->start, p->end - p->start);
        end += snprintf(end, n - (size_t)(end - out), "%.*s%s", (int)(p->start - at), s->text + at, cased);
        at = p->end;
    }
    if (out)
        snprintf(end, n - (size_t)(end - out), "%s", s->text + at);
    return out;
}

static const struct soothe__ate_place *place_of(const struct soothe__ate_corpus   *c,
                                                const struct soothe__ate_sentence *s, uint32_t word) {
    const struct soothe__ate_place *p = c->places + s->first;
    while (p->word != word)
        p++;
    return p;
}

static enum soothe_status try_fills(struct work *w, size_t i_trial, struct soothe__rng *rng, struct soothe_error *err) {
    const struct soothe__ate_corpus   *c = w->corpus;
    const struct trial                *t = &w->trials[i_trial];
    const struct soothe__ate_sentence *s = &c->sentences[t->sentence];
    char                               fills[SOOTHE__FILLS_MAX][SOOTHE__WORD_BYTES_MAX + 1];
    int32_t                            n = 0;
    enum soothe_status                 status =
        w->fills->draw(w->fills->self, s, place_of(c, s, t->word), w->options->n_fills, rng, fills, &n, err);
    for (int32_t i = 0; i < n && !status; i++) {
        if (w->n_texts == BATCH)
            status = flush(w, err);
        if (status)
            break;
        w->texts[w->n_texts] = replaced(c, s, t->word, fills[i]);
        if (!w->texts[w->n_texts])
            return no_memory(err);
        w->owner[w->n_texts++] = i_trial;
    }
    return status;
}

/* ---- drawing sentences --------------------------------------------------------------------------------------------
 */

static bool is_measured(const struct work *w, size_t word) {
    const struct soothe__ate_word *x = &w->corpus->words[word];
    return x->plain && x->n_sentences >= (uint32_t)w->options->n_min;
}

/* Each word's sentences are drawn by the seed and the word alone, whatever else is measured. */
static bool draw_sentences(struct work *w, uint32_t word) {
    const struct soothe__ate_word *x     = &w->corpus->words[word];
    const uint32_t                 n_max = (uint32_t)w->options->n_sentences;
    const uint32_t                 n     = x->n_sentences < n_max ? x->n_sentences : n_max;
    uint32_t                      *where = w->corpus->where + x->first;
    struct soothe__rng             rng   = soothe__rng_seed(w->options->seed, word);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t k    = i + soothe__rng_below(&rng, x->n_sentences - i);
        const uint32_t swap = where[i];
        where[i]            = where[k];
        where[k]            = swap;
        if (w->n_trials == w->trials_capacity) {
            const size_t  more   = w->trials_capacity ? 2 * w->trials_capacity : 4096;
            struct trial *larger = soothe__realloc(w->trials, more, sizeof *larger);
            if (!larger)
                return false;
            w->trials          = larger;
            w->trials_capacity = more;
        }
        w->trials[w->n_trials++] = (struct trial){.word = word, .sentence = where[i]};
        w->base[where[i]]        = NAN; /* wanted */
    }
    return true;
}

/* ---- the table ------------------------------------------------------------------------------------------------------
 */

static enum soothe_status add_effect(struct soothe__word_table *table, const struct work *w, const struct trial *trials,
                                     size_t n_trials, double *effects, struct soothe_error *err) {
    size_t n = 0;
    for (size_t i = 0; i < n_trials; i++)
        if (trials[i].n > 0 && !isnan(w->base[trials[i].sentence]))
            effects[n++] = w->base[trials[i].sentence] - trials[i].sum / trials[i].n;
    if (n < (size_t)w->options->n_min)
        return SOOTHE_OK;
    const struct soothe__ate        ate   = soothe__ate_of(effects, n, w->options->k, w->options->confidence);
    const struct soothe__table_word entry = {w->corpus->words[trials->word].word,
                                             (float)ate.weight,
                                             (float)ate.mean,
                                             (float)ate.lo,
                                             (float)ate.hi,
                                             (int32_t)n};
    return soothe__word_table_add(table, &entry, err);
}

static enum soothe_status add_effects(struct soothe__word_table *table, const struct work *w,
                                      struct soothe_error *err) {
    double            *effects = soothe__calloc((size_t)w->options->n_sentences, sizeof *effects);
    enum soothe_status status  = effects ? SOOTHE_OK : no_memory(err);
    for (size_t i = 0, next; i < w->n_trials && !status; i = next) {
        next = i;
        while (next < w->n_trials && w->trials[next].word == w->trials[i].word)
            next++;
        status = add_effect(table, w, w->trials + i, next - i, effects, err);
    }
    free(effects);
    soothe__word_table_sort(table);
    if (!status && table->n == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "no word has effects in %d sentences: more texts are needed",
                            w->options->n_min);
    return status;
}

static enum soothe_status measure(struct work *w, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    struct soothe__rng rng    = soothe__rng_seed(w->options->seed, 0);
    for (uint32_t i = 1; i < w->corpus->n_words; i++)
        if (is_measured(w, i) && !draw_sentences(w, i))
            return no_memory(err);
    status = score_sentences(w, err);
    for (size_t i = 0; i < w->n_trials && !status; i++) {
        if (i == 0 || w->trials[i].word != w->trials[i - 1].word)
            rng = soothe__rng_seed(w->options->seed, (uint64_t)1 << 32 | w->trials[i].word);
        status = is_stopped(w) ? soothe__fail(err, SOOTHE_E_INTERRUPTED, "stopped") : try_fills(w, i, &rng, err);
        if (w->options->say && i % 256 == 0)
            w->options->say((double)i / (double)w->n_trials);
    }
    return status ? status : flush(w, err);
}

enum soothe_status soothe__ate_table(struct soothe__word_table *table, const struct soothe__ate_corpus *corpus,
                                     struct soothe__scorer *scorer, const struct soothe__fills *fills,
                                     const struct soothe__ate_options *options, struct soothe_error *err) {
    struct work *w = soothe__calloc(1, sizeof *w);
    *table         = (struct soothe__word_table){.n = 0};
    if (!w || !(w->base = soothe__calloc(corpus->n_sentences, sizeof *w->base))) {
        free(w);
        return no_memory(err);
    }
    w->corpus                 = corpus;
    w->scorer                 = scorer;
    w->fills                  = fills;
    w->options                = options;
    enum soothe_status status = measure(w, err);
    if (!status)
        status = add_effects(table, w, err);
    for (size_t i = 0; i < w->n_texts; i++)
        free(w->texts[i]);
    free(w->trials);
    free(w->base);
    free(w);
    if (status)
        soothe__word_table_free(table);
    return status;
}
