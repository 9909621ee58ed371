/* SPDX-License-Identifier: Apache-2.0 */
#include "score/ngram_scorer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sigmoid.h"

void soothe__ngram_reader_free(struct soothe__ngram_reader *reader) {
    soothe__text_form_free(&reader->form);
    soothe__ngrams_free(&reader->ngrams);
}

/* Of each group: 1 / sqrt(distinct features). */
static void scales_of(double scale[SOOTHE__N_GROUPS], const struct soothe__ngrams *g) {
    for (int i = 0; i < SOOTHE__N_GROUPS; i++)
        scale[i] = g->n_in_group[i] ? 1.0 / sqrt((double)g->n_in_group[i]) : 0.0;
}

static double weight_of(const struct soothe__ngram_scorer *s, uint32_t bucket) {
    return (double)s->values[soothe__ngram_group(bucket, &s->shape)][s->codes[bucket] + 127];
}

/* The log-odds of words [first, end) of the form in reader. */
static enum soothe_status score_words(double *log_odds, const struct soothe__ngram_scorer *s,
                                      struct soothe__ngram_reader *r, size_t first, size_t end,
                                      struct soothe_error *err) {
    double             sum[SOOTHE__N_GROUPS] = {0}, scale[SOOTHE__N_GROUPS];
    enum soothe_status status                = soothe__ngrams_read(&r->ngrams, &s->shape, &r->form, first, end, err);
    if (status)
        return status;
    for (size_t i = 0; i < r->ngrams.n_distinct; i++) {
        const uint32_t bucket = r->ngrams.buckets[i];
        sum[soothe__ngram_group(bucket, &s->shape)] += weight_of(s, bucket);
    }
    scales_of(scale, &r->ngrams);
    *log_odds = (double)s->bias;
    for (int i = 0; i < SOOTHE__N_GROUPS; i++)
        *log_odds += scale[i] * sum[i];
    return SOOTHE_OK;
}

double soothe__ngram_score_with(const struct soothe__ngram_scorer *s, struct soothe__ngram_reader *r, const char *text,
                                size_t size) {
    double z;
    if (soothe__text_form_read(&r->form, text, size, &s->list, NULL))
        return NAN;
    if (r->form.n_words == 0)
        return 0.0;
    return score_words(&z, s, r, 0, r->form.n_words, NULL) ? NAN : soothe__sigmoid(z);
}

double soothe__ngram_score(const struct soothe__ngram_scorer *s, const char *text, size_t size) {
    struct soothe__ngram_reader reader = {0};
    const double                score  = soothe__ngram_score_with(s, &reader, text, size);
    soothe__ngram_reader_free(&reader);
    return score;
}

/* ---- attribution ---------------------------------------------------------------------------------------- */

void soothe__ngram_parts_free(struct soothe__ngram_parts *parts) {
    free(parts->parts);
    memset(parts, 0, sizeof *parts);
}

static enum soothe_status explain(struct soothe__ngram_parts *out, const struct soothe__ngram_scorer *s,
                                  struct soothe__ngram_reader *r, const char *text, size_t size,
                                  struct soothe_error *err) {
    double scale[SOOTHE__N_GROUPS];
    memset(out, 0, sizeof *out);
    enum soothe_status status = soothe__text_form_read(&r->form, text, size, &s->list, err);
    if (!status)
        status = score_words(&out->log_odds, s, r, 0, r->form.n_words, err);
    if (status)
        return status;
    out->bias  = (double)s->bias;
    out->n     = r->form.n_words;
    out->parts = soothe__calloc(out->n + 1, sizeof *out->parts);
    if (!out->parts)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory explaining a text of %zu words", out->n);
    for (size_t i = 0; i < out->n; i++)
        out->parts[i] = (struct soothe__ngram_part){r->form.words[i].start, r->form.words[i].end, 0.0};
    scales_of(scale, &r->ngrams);
    for (size_t i = 0; i < r->ngrams.n; i++) {
        const struct soothe__ngram *g      = &r->ngrams.all[i];
        const uint32_t              bucket = r->ngrams.buckets[g->feature];
        const double                share  = weight_of(s, bucket) * scale[soothe__ngram_group(bucket, &s->shape)] /
                             ((double)r->ngrams.times[g->feature] * (double)g->n_words);
        for (uint32_t k = 0; k < g->n_words; k++)
            out->parts[g->word + k].value += share;
    }
    return SOOTHE_OK;
}

enum soothe_status soothe__ngram_explain(struct soothe__ngram_parts *out, const struct soothe__ngram_scorer *s,
                                         const char *text, size_t size, struct soothe_error *err) {
    struct soothe__ngram_reader reader = {0};
    const enum soothe_status    status = explain(out, s, &reader, text, size, err);
    soothe__ngram_reader_free(&reader);
    if (status)
        soothe__ngram_parts_free(out);
    return status;
}

/* ---- spans -------------------------------------------------------------------------------------------------- */

enum soothe_status soothe__ngram_spans(struct soothe__ngram_parts *out, const struct soothe__ngram_scorer *s,
                                       const char *text, size_t size, double threshold, struct soothe_error *err) {
    struct soothe__ngram_reader r      = {0};
    enum soothe_status          status = explain(out, s, &r, text, size, err);
    size_t                      n = 0, first = 0; /* spans so far; the first word of the last */
    double                      z = 0;
    for (size_t i = 0; !status && i < out->n; i++) {
        const struct soothe__ngram_part part = out->parts[i];
        if (!r.form.words[i].letters || part.value <= 0)
            continue;
        status = score_words(&z, s, &r, i, i + 1, err);
        if (status || soothe__sigmoid(z) < threshold)
            continue;
        const bool joined = n > 0 && i > 0 && out->parts[n - 1].end == r.form.words[i - 1].end;
        if (!joined) {
            first           = i;
            out->parts[n++] = part; /* n <= i: what is overwritten was looked at */
        }
        out->parts[n - 1].end = part.end;
        if (joined)
            status = score_words(&z, s, &r, first, i + 1, err);
        const double value      = soothe__sigmoid(z);
        out->parts[n - 1].value = joined && out->parts[n - 1].value > value ? out->parts[n - 1].value : value;
    }
    out->n = n;
    soothe__ngram_reader_free(&r);
    if (status)
        soothe__ngram_parts_free(out);
    return status;
}

/* ---- windows ----------------------------------------------------------------------------------------------- */

enum soothe_status soothe__ngram_windows(struct soothe__ngram_windows *out, const struct soothe__ngram_scorer *s,
                                         const char *text, size_t size, struct soothe_error *err) {
    struct soothe__ngram_reader r       = {0};
    enum soothe_status          status  = soothe__text_form_read(&r.form, text, size, &s->list, err);
    const size_t                n_words = r.form.n_words, half = s->window / 2;
    double                      sum = 0;
    memset(out, 0, sizeof *out);
    for (size_t at = 0; !status && (at == 0 || at + half < n_words) && n_words > 0; at += half) {
        const size_t end = at + s->window < n_words ? at + s->window : n_words;
        double       z;
        status         = score_words(&z, s, &r, at, end, err);
        const double p = status ? 0 : soothe__sigmoid(z);
        if (out->n == 0 || p > out->max) {
            out->max   = p;
            out->start = r.form.words[at].start;
            out->end   = r.form.words[end - 1].end;
        }
        sum += p;
        out->n++;
    }
    out->n    = out->n ? out->n : 1;
    out->mean = sum / (double)out->n;
    soothe__ngram_reader_free(&r);
    return status;
}
