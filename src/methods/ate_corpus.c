/* SPDX-License-Identifier: Apache-2.0
 * Texts as sentences of numbered words. */
#include <stdlib.h>
#include <string.h>

#include "methods/ate.h"
#include "score/lexicon.h"

enum { SENTENCE_MAX = 600, WORDS_MIN = 3 };

static bool grow(void **array, size_t *capacity, size_t n, size_t size) {
    if (n <= *capacity)
        return true;
    const size_t more   = *capacity ? 2 * *capacity : 4096;
    void        *larger = soothe__realloc(*array, more > n ? more : n, size);
    if (!larger)
        return false;
    *array    = larger;
    *capacity = more > n ? more : n;
    return true;
}

static enum soothe_status no_memory(struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the texts");
}

/* ---- numbered words ---------------------------------------------------------------------------------------- */

static uint64_t hash_of(const char *text) { /* FNV-1a */
    uint64_t h = 14695981039346656037u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 1099511628211u;
    return h ^ h >> 29;
}

static size_t slot_of(const struct soothe__ate_corpus *c, const char *word) {
    size_t i = (size_t)hash_of(word) & (c->n_slots - 1);
    while (c->slots[i] && strcmp(c->words[c->slots[i]].word, word) != 0)
        i = (i + 1) & (c->n_slots - 1);
    return i;
}

uint32_t soothe__ate_corpus_find(const struct soothe__ate_corpus *c, const char *word) {
    return c->n_slots ? c->slots[slot_of(c, word)] : 0;
}

static bool more_slots(struct soothe__ate_corpus *c) {
    const size_t n = c->n_slots ? 2 * c->n_slots : 1 << 14;
    uint32_t    *s = soothe__calloc(n, sizeof *s);
    if (!s)
        return false;
    free(c->slots);
    c->slots   = s;
    c->n_slots = n;
    for (uint32_t i = 1; i < c->n_words; i++)
        c->slots[slot_of(c, c->words[i].word)] = i;
    return true;
}

static bool is_plain(const char *word) {
    size_t n = 0;
    for (; word[n]; n++)
        if (word[n] >= '0' && word[n] <= '9')
            return false;
    return n >= 2;
}

/* 0: out of memory. */
static uint32_t number_of(struct soothe__ate_corpus *c, const char *word) {
    if (2 * (c->n_words + 1) > c->n_slots && !more_slots(c))
        return 0;
    if (c->n_words == 0) {
        if (!grow((void **)&c->words, &c->words_capacity, 1, sizeof *c->words))
            return 0;
        c->words[c->n_words++] = (struct soothe__ate_word){.word = NULL};
    }
    const size_t i = slot_of(c, word);
    if (c->slots[i])
        return c->slots[i];
    char *copy = soothe__strdup(word);
    if (!copy || !grow((void **)&c->words, &c->words_capacity, c->n_words + 1, sizeof *c->words)) {
        free(copy);
        return 0;
    }
    c->words[c->n_words] = (struct soothe__ate_word){
        .word = copy, .listed = soothe__lexicon_count(word, strlen(word)) > 0, .plain = is_plain(word)};
    return c->slots[i] = (uint32_t)c->n_words++;
}

/* ---- sentences ---------------------------------------------------------------------------------------------- */

static bool add_place(struct soothe__ate_corpus *c, uint32_t word, size_t start, size_t end) {
    if (!grow((void **)&c->places, &c->places_capacity, c->n_places + 1, sizeof *c->places))
        return false;
    c->places[c->n_places++] = (struct soothe__ate_place){word, (uint32_t)start, (uint32_t)end};
    return true;
}

/* Between words that are not neighbours stands a 0, and so at both ends. */
static bool add_sentence(struct soothe__ate_corpus *c, const char *text, size_t size) {
    const size_t           first   = c->n_places;
    size_t                 n_words = 0;
    struct soothe__word_at w;
    bool                   ok = add_place(c, 0, 0, 0);
    for (size_t i = 0; ok && soothe__next_word(&w, text, size, &i); n_words++) {
        const uint32_t word = number_of(c, w.word);
        ok                  = word && (w.joined || n_words == 0 || add_place(c, 0, w.start, w.start)) &&
             add_place(c, word, w.start, w.end);
    }
    ok = ok && add_place(c, 0, size, size) &&
         grow((void **)&c->sentences, &c->sentences_capacity, c->n_sentences + 1, sizeof *c->sentences);
    if (!ok)
        return false;
    if (n_words < WORDS_MIN || size > SENTENCE_MAX) {
        c->n_places = first;
        return true;
    }
    char *copy = soothe__format("%.*s", (int)size, text);
    if (!copy)
        return false;
    c->sentences[c->n_sentences++] =
        (struct soothe__ate_sentence){copy, (uint32_t)first, (uint32_t)(c->n_places - first)};
    return true;
}

static bool ends_sentence(const char *text, size_t i) {
    if (text[i] == '\n')
        return true;
    return strchr(".!?", text[i]) && (text[i + 1] == ' ' || text[i + 1] == '\t');
}

enum soothe_status soothe__ate_corpus_add(struct soothe__ate_corpus *c, const char *text, struct soothe_error *err) {
    size_t start = strspn(text, " \t\r\n");
    for (size_t i = start; text[start]; i++) {
        if (text[i] && !ends_sentence(text, i))
            continue;
        size_t end = text[i] && text[i] != '\n' ? i + 1 : i;
        while (end > start && (text[end - 1] == ' ' || text[end - 1] == '\r'))
            end--;
        if (c->n_places > UINT32_MAX / 2)
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "more than %u words of text", UINT32_MAX / 2);
        if (end > start && !add_sentence(c, text + start, end - start))
            return no_memory(err);
        start = i + (text[i] ? 1 : 0);
        start += strspn(text + start, " \t\r\n");
        i = start - (text[start] ? 1 : 0);
    }
    return SOOTHE_OK;
}

/* ---- which sentences hold a word -------------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b) {
    const struct soothe__ate_sentence *x = a, *y = b;
    return strcmp(x->text, y->text);
}

static void drop_repeats(struct soothe__ate_corpus *c) {
    size_t n = 0;
    if (c->n_sentences > 0)
        qsort(c->sentences, c->n_sentences, sizeof *c->sentences, by_text);
    for (size_t i = 0; i < c->n_sentences; i++)
        if (n > 0 && strcmp(c->sentences[n - 1].text, c->sentences[i].text) == 0)
            free(c->sentences[i].text);
        else
            c->sentences[n++] = c->sentences[i];
    c->n_sentences = n;
}

/* Notes each sentence once for each of its words; with where NULL only counts. */
static void note_sentences(struct soothe__ate_corpus *c, uint32_t *where, uint32_t *last) {
    memset(last, 0xFF, c->n_words * sizeof *last);
    for (size_t i = 0; i < c->n_sentences; i++)
        for (uint32_t k = 0; k < c->sentences[i].n; k++) {
            const uint32_t           word = c->places[c->sentences[i].first + k].word;
            struct soothe__ate_word *w    = &c->words[word];
            if (word == 0)
                continue;
            w->n_occurrences += where == NULL;
            if (last[word] == (uint32_t)i)
                continue;
            last[word] = (uint32_t)i;
            if (where)
                where[w->first + w->n_sentences] = (uint32_t)i;
            w->n_sentences++;
        }
}

enum soothe_status soothe__ate_corpus_finish(struct soothe__ate_corpus *c, struct soothe_error *err) {
    drop_repeats(c);
    if (c->n_sentences == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "the texts hold no sentence of three words or more");
    uint32_t *last = soothe__calloc(c->n_words, sizeof *last);
    c->where       = soothe__calloc(c->n_places + 1, sizeof *c->where);
    if (!last || !c->where) {
        free(last);
        return no_memory(err);
    }
    note_sentences(c, NULL, last);
    uint32_t first = 0;
    for (size_t i = 1; i < c->n_words; i++) {
        c->words[i].first = first;
        first += c->words[i].n_sentences;
        c->words[i].n_sentences = 0;
    }
    note_sentences(c, c->where, last);
    free(last);
    return SOOTHE_OK;
}

void soothe__ate_corpus_free(struct soothe__ate_corpus *c) {
    for (size_t i = 0; i < c->n_sentences; i++)
        free(c->sentences[i].text);
    for (size_t i = 0; i < c->n_words; i++)
        free(c->words[i].word);
    free(c->sentences);
    free(c->places);
    free(c->words);
    free(c->where);
    free(c->slots);
    *c = (struct soothe__ate_corpus){.n_words = 0};
}
