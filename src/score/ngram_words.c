/* SPDX-License-Identifier: Apache-2.0 */
#include "score/ngram_words.h"

#include <stdlib.h>
#include <string.h>

enum { TEXTS_MIN = 5, LETTERS_MIN = 3 };
static const double TOXICITY_MIN = 0.8;

struct counted {
    char     word[SOOTHE__LISTED_MAX];
    uint32_t n_texts, last_text; /* last_text: place + 1 */
};

struct table { /* open addressing */
    struct counted *slots;
    size_t          n_slots, n;
};

static uint64_t hash_word(const char *word) {
    uint64_t h = UINT64_C(14695981039346656037);
    for (; *word; word++)
        h = (h ^ (unsigned char)*word) * UINT64_C(1099511628211);
    return h ^ (h >> 29);
}

static struct counted *slot_of(struct table *t, const char *word) {
    size_t at = hash_word(word) & (t->n_slots - 1);
    while (t->slots[at].word[0] && strcmp(t->slots[at].word, word) != 0)
        at = (at + 1) & (t->n_slots - 1);
    return &t->slots[at];
}

static bool grow(struct table *t) {
    struct table larger = {.n_slots = t->n_slots ? 2 * t->n_slots : 4096, .n = t->n};
    larger.slots        = soothe__calloc(larger.n_slots, sizeof *larger.slots);
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < t->n_slots; i++)
        if (t->slots[i].word[0])
            *slot_of(&larger, t->slots[i].word) = t->slots[i];
    free(t->slots);
    *t = larger;
    return true;
}

/* The form's word in ASCII, if it is one of a to z that could be listed. */
static bool plain_word(char out[SOOTHE__LISTED_MAX], const struct soothe__text_form *form, size_t i) {
    const struct soothe__word *w = &form->words[i];
    if (!w->letters || w->n < LETTERS_MIN || w->n >= SOOTHE__LISTED_MAX)
        return false;
    for (uint32_t k = 0; k < w->n; k++) {
        const uint32_t c = form->chars[w->first + k];
        if (c < 'a' || c > 'z')
            return false;
        out[k] = (char)c;
    }
    out[w->n] = '\0';
    return true;
}

static bool count_words(struct table *t, const struct soothe__text_form *form, uint32_t text) {
    char word[SOOTHE__LISTED_MAX];
    for (size_t i = 0; i < form->n_words; i++) {
        if (!plain_word(word, form, i))
            continue;
        if (2 * (t->n + 1) > t->n_slots && !grow(t))
            return false;
        struct counted *c = slot_of(t, word);
        if (!c->word[0]) {
            strcpy(c->word, word);
            t->n++;
        }
        c->n_texts += c->last_text != text;
        c->last_text = text;
    }
    return true;
}

static int by_frequency(const void *a, const void *b) {
    const struct counted *x = a, *y = b;
    if (x->n_texts != y->n_texts)
        return x->n_texts < y->n_texts ? 1 : -1;
    return strcmp(x->word, y->word);
}

/* Keeps the words to be listed at the front of the slots, in order. */
static size_t choose(struct table *t, size_t n_max, const struct soothe__ngram_scorer *s) {
    struct soothe__ngram_reader reader = {0};
    size_t                      n      = 0;
    for (size_t i = 0; i < t->n_slots; i++) {
        const struct counted *c = &t->slots[i];
        if (c->n_texts >= TEXTS_MIN && soothe__ngram_score_with(s, &reader, c->word, strlen(c->word)) >= TOXICITY_MIN)
            t->slots[n++] = *c;
    }
    soothe__ngram_reader_free(&reader);
    if (n)
        qsort(t->slots, n, sizeof *t->slots, by_frequency);
    return n < n_max ? n : n_max;
}

enum soothe_status soothe__ngram_find_words(char ***words, size_t *n, size_t n_max,
                                            const struct soothe__ngram_scorer *s, char *const *texts,
                                            const unsigned char *which, size_t n_texts, struct soothe_error *err) {
    struct table             t      = {0};
    struct soothe__text_form form   = {0};
    enum soothe_status       status = SOOTHE_OK;
    *words                          = NULL;
    *n                              = 0;
    bool fits                       = true;
    for (size_t i = 0; i < n_texts && !status && fits; i++) {
        if (!which[i])
            continue;
        status = soothe__text_form_read(&form, texts[i], strlen(texts[i]), &s->list, err);
        fits   = status || count_words(&t, &form, (uint32_t)i + 1);
    }
    if (!status && fits) {
        const size_t n_chosen = choose(&t, n_max < SOOTHE__LIST_MAX ? n_max : SOOTHE__LIST_MAX, s);
        *words                = soothe__calloc(n_chosen + 1, sizeof **words);
        fits                  = *words != NULL;
        for (size_t i = 0; i < n_chosen && fits; i++) {
            (*words)[i] = soothe__strdup(t.slots[i].word);
            fits        = (*words)[i] != NULL;
            *n += fits;
        }
    }
    if (!fits)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the words of %zu texts", n_texts);
    free(t.slots);
    soothe__text_form_free(&form);
    return status;
}
