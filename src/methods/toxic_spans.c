/* SPDX-License-Identifier: Apache-2.0 */
#include "methods/toxic_spans.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text_tokens.h"
#include "score/lexicon.h"

/* ---- tokens as text ---------------------------------------------------------------------------------------- */

enum soothe_status soothe__token_places(struct soothe__token_places *p, const struct llama_vocab *vocab,
                                        const llama_token *tokens, int32_t n, struct soothe_error *err) {
    size_t size = 0;
    *p          = (struct soothe__token_places){.end = soothe__calloc((size_t)n + 1, sizeof *p->end)};
    for (int32_t i = 0; i < n && p->end; i++) {
        size += soothe__token_bytes(vocab, tokens[i], NULL, 0);
        p->end[i] = (int32_t)size;
    }
    p->text = p->end ? soothe__calloc(size + 1, 1) : NULL;
    if (!p->text) {
        soothe__token_places_free(p);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a prompt of %d tokens", n);
    }
    for (int32_t i = 0, at = 0; i < n; at = p->end[i++])
        soothe__token_bytes(vocab, tokens[i], p->text + at, (size_t)(p->end[i] - at));
    return SOOTHE_OK;
}

void soothe__token_places_free(struct soothe__token_places *p) {
    free(p->text);
    free(p->end);
    *p = (struct soothe__token_places){.text = NULL};
}

static int32_t start_of(const struct soothe__token_places *p, int32_t i) {
    return i > 0 ? p->end[i - 1] : 0;
}

/* Marks the tokens that share a byte, other than a space before a word, with [from, to). */
static void mark_bytes(bool *marks, const struct soothe__token_places *p, int32_t n, size_t from, size_t to) {
    for (int32_t i = 0; i < n; i++) {
        size_t start = (size_t)start_of(p, i);
        while (start < (size_t)p->end[i] && isspace((unsigned char)p->text[start]))
            start++;
        if (start < to && (size_t)p->end[i] > from && start < (size_t)p->end[i])
            marks[i] = true;
    }
}

/* ---- detectors ---------------------------------------------------------------------------------------------- */

static enum soothe_status mark_ngram(bool *marks, const struct soothe__span_finder *f,
                                     const struct soothe__token_places *p, int32_t n, struct soothe_error *err) {
    struct soothe__ngram_parts parts;
    const enum soothe_status   status =
        soothe__ngram_spans(&parts, f->ngram, p->text, strlen(p->text), f->threshold, err);
    if (status)
        return status;
    for (size_t i = 0; i < parts.n; i++)
        mark_bytes(marks, p, n, parts.parts[i].start, parts.parts[i].end);
    soothe__ngram_parts_free(&parts);
    return SOOTHE_OK;
}

static bool is_word_byte(char c) {
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80 || (c && strchr("*@$#'", c));
}

/* The next word behind *at, between spaces and without its punctuation; false: none. */
static bool next_word(const char *text, size_t *at, size_t *from, size_t *to) {
    while (text[*at] && !is_word_byte(text[*at]))
        ++*at;
    *from = *at;
    while (text[*at] && !isspace((unsigned char)text[*at]))
        ++*at;
    *to = *at;
    while (*to > *from && !is_word_byte(text[*to - 1]))
        --*to;
    return *to > *from;
}

static void mark_lexicon(bool *marks, const struct soothe__span_finder *f, const struct soothe__token_places *p,
                         int32_t n) {
    size_t at = 0, from, to, before = 0;
    bool   toxic_before = true; /* the word before is marked, or there is none: it needs no partner */
    while (next_word(p->text, &at, &from, &to)) {
        const bool toxic = soothe__lexicon_score(p->text + from, to - from) >= f->threshold;
        const bool both =
            !toxic && !toxic_before && soothe__lexicon_score(p->text + before, to - before) >= f->threshold;
        if (toxic || both)
            mark_bytes(marks, p, n, both ? before : from, to);
        toxic_before = toxic || both;
        before       = from;
    }
}

void soothe__mark_rises(bool *marks, const double *m, int32_t n, double threshold) {
    for (int32_t t = 2; t < n; t++) {
        if (m[t] - m[t - 1] >= threshold)
            marks[t] = true;
        if (t + 1 < n && m[t + 1] - m[t - 1] >= threshold)
            marks[t] = marks[t + 1] = true;
    }
}

struct reading {
    const struct soothe__probe *probe;
    double                     *logits;
};

static enum soothe_status take_states(void *user, size_t i_text, const float *const *states, int32_t n_tokens,
                                      struct soothe_error *err) {
    const struct reading *r = user;
    (void)i_text;
    (void)err;
    for (int32_t i = 0; i < n_tokens; i++)
        r->logits[i] = soothe__probe_logit(r->probe, states[0] + (size_t)i * (size_t)r->probe->d);
    return SOOTHE_OK;
}

static enum soothe_status mark_probe(bool *marks, const struct soothe__span_finder *f, const llama_token *tokens,
                                     int32_t n, struct soothe_error *err) {
    const struct soothe__token_text text = {tokens, n};
    struct reading                  r    = {f->probe, soothe__calloc((size_t)n + 1, sizeof *r.logits)};
    if (!r.logits)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a prompt of %d tokens", n);
    const enum soothe_status status = soothe__layer_reader_read(f->reader, &text, 1, take_states, &r, err);
    if (!status)
        soothe__mark_rises(marks, r.logits, n, f->threshold);
    free(r.logits);
    return status;
}

/* ---- whole words, joined --------------------------------------------------------------------------------------- */

/* Is token i a later part of the word that the one before it ends in? */
static bool goes_on(const struct soothe__token_places *p, int32_t i) {
    const int32_t start = start_of(p, i);
    return i > 0 && start > 0 && start < p->end[i] && is_word_byte(p->text[start]) && is_word_byte(p->text[start - 1]);
}

static void mark_whole_words(bool *marks, const struct soothe__token_places *p, int32_t n) {
    for (int32_t i = 1; i < n; i++)
        marks[i] = marks[i] || (marks[i - 1] && goes_on(p, i));
    for (int32_t i = n - 1; i > 0; i--)
        marks[i - 1] = marks[i - 1] || (marks[i] && goes_on(p, i));
}

static enum soothe_status join(struct soothe__token_span **spans, size_t *n_spans, const bool *marks, int32_t n,
                               struct soothe_error *err) {
    *n_spans = 0;
    *spans   = soothe__calloc((size_t)n / 2 + 1, sizeof **spans);
    if (!*spans)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a prompt of %d tokens", n);
    for (int32_t i = 0; i < n; i++) {
        if (!marks[i])
            continue;
        const int32_t from = i;
        while (i < n && marks[i])
            i++;
        (*spans)[(*n_spans)++] = (struct soothe__token_span){from, i};
    }
    return SOOTHE_OK;
}

enum soothe_status soothe__toxic_spans(struct soothe__token_span **spans, size_t *n_spans,
                                       const struct soothe__span_finder *f, const struct llama_vocab *vocab,
                                       const llama_token *tokens, int32_t n, struct soothe_error *err) {
    struct soothe__token_places p;
    *spans                    = NULL;
    *n_spans                  = 0;
    enum soothe_status status = soothe__token_places(&p, vocab, tokens, n, err);
    if (status)
        return status;
    bool *marks = soothe__calloc((size_t)n + 1, sizeof *marks);
    if (!marks)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a prompt of %d tokens", n);
    else if (f->detector == SOOTHE__SPANS_NGRAM)
        status = mark_ngram(marks, f, &p, n, err);
    else if (f->detector == SOOTHE__SPANS_PROBE)
        status = mark_probe(marks, f, tokens, n, err);
    else
        mark_lexicon(marks, f, &p, n);
    if (!status) {
        mark_whole_words(marks, &p, n);
        status = join(spans, n_spans, marks, n, err);
    }
    free(marks);
    soothe__token_places_free(&p);
    return status;
}
