/* SPDX-License-Identifier: Apache-2.0 */
#include "score/ngram_features.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "score/lexicon.h"
#include "score/text_fold.h"

#define FNV_START UINT64_C(14695981039346656037) /* FNV-1a (Fowler, Noll, Vo) over code points */
#define FNV_PRIME UINT64_C(1099511628211)

/* The finaliser of MurmurHash3 (Appleby): every bit of the result depends on every bit of h. */
static uint64_t mix(uint64_t h) {
    h ^= h >> 33;
    h *= UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 33;
    h *= UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ (h >> 33);
}

static bool make_slots(struct soothe__ngrams *g, size_t n_slots) {
    uint32_t *slots = soothe__calloc(n_slots, sizeof *slots);
    if (!slots)
        return false;
    free(g->slots);
    g->slots   = slots;
    g->n_slots = n_slots;
    for (size_t i = 0; i < g->n_distinct; i++) {
        size_t at = (g->buckets[i] * 2654435761U) & (n_slots - 1);
        while (slots[at])
            at = (at + 1) & (n_slots - 1);
        slots[at] = (uint32_t)i + 1;
    }
    return true;
}

/* Room for `more` further occurrences, so that add need not ask. */
static bool reserve(struct soothe__ngrams *g, size_t more) {
    return soothe__grow((void **)&g->all, &g->capacity, g->n + more, sizeof *g->all) &&
           soothe__grow((void **)&g->buckets, &g->capacity_buckets, g->n_distinct + more, sizeof *g->buckets) &&
           soothe__grow((void **)&g->times, &g->capacity_times, g->n_distinct + more, sizeof *g->times);
}

static void add(struct soothe__ngrams *g, const struct soothe__ngram_shape *shape, uint32_t group, uint64_t hash,
                size_t word, uint32_t n_words) {
    const uint32_t bucket = (group << shape->bits) | (uint32_t)(hash >> (64 - shape->bits));
    const size_t   mask   = g->n_slots - 1;
    size_t         at     = (bucket * 2654435761U) & mask;
    while (g->slots[at] && g->buckets[g->slots[at] - 1] != bucket)
        at = (at + 1) & mask;
    if (!g->slots[at]) {
        g->slots[at]              = (uint32_t)g->n_distinct + 1;
        g->buckets[g->n_distinct] = bucket;
        g->times[g->n_distinct++] = 0;
        g->n_in_group[group]++;
    }
    const uint32_t feature = g->slots[at] - 1;
    g->times[feature]++;
    g->all[g->n++] = (struct soothe__ngram){feature, (uint32_t)word, n_words};
}

/* The pieces of " word "; the hash of a piece goes on from that of the piece one shorter. */
static void add_pieces(struct soothe__ngrams *g, const struct soothe__ngram_shape *shape, const uint32_t *chars,
                       uint32_t n, size_t word) {
    for (uint32_t start = 0; start < n + 2; start++) {
        uint64_t h = FNV_START;
        for (uint32_t k = 0; k < shape->char_max && start + k < n + 2; k++) {
            const uint32_t i = start + k;
            h                = (h ^ (i == 0 || i == n + 1 ? ' ' : chars[i - 1])) * FNV_PRIME;
            if (k + 1 >= shape->char_min)
                add(g, shape, SOOTHE__GROUP_CHARS, mix(h + k), word, 1);
        }
    }
}

static uint64_t hash_of(const uint32_t *chars, uint32_t n) {
    uint64_t h = FNV_START;
    for (uint32_t i = 0; i < n; i++)
        h = (h ^ chars[i]) * FNV_PRIME;
    return mix(h);
}

/* A listed word is a feature whichever word it is, and so is its strength: rare words are judged by the company they
 * keep in the list. Figures with and without: docs/scorer.md. */
static void add_strength(struct soothe__ngrams *g, const struct soothe__ngram_shape *shape, const uint32_t *chars,
                         uint32_t n, size_t word) {
    enum { LISTED = 776, STRENGTH, LETTERS_MAX = 32 };
    char letters[LETTERS_MAX];
    if (n < 2 || n > LETTERS_MAX)
        return;
    for (uint32_t i = 0; i < n; i++) {
        if (chars[i] >= 0x80)
            return;
        letters[i] = (char)chars[i];
    }
    const double p = soothe__lexicon_score(letters, n);
    if (p > 0) {
        add(g, shape, SOOTHE__GROUP_WORDS, mix(LISTED), word, 1);
        add(g, shape, SOOTHE__GROUP_WORDS, mix(STRENGTH + (uint64_t)lround(-2 * log1p(-p))), word, 1);
    }
}

enum soothe_status soothe__ngrams_read(struct soothe__ngrams *g, const struct soothe__ngram_shape *shape,
                                       const struct soothe__text_form *form, size_t first, size_t end,
                                       struct soothe_error *err) {
    enum { WORDS_MAX = 3, SLOTS_START = 1024 };
    uint64_t last[WORDS_MAX] = {0}; /* hashes of the words before; 0 before the first */
    g->n = g->n_distinct = 0;
    memset(g->n_in_group, 0, sizeof g->n_in_group);
    if (g->n_slots)
        memset(g->slots, 0, g->n_slots * sizeof *g->slots);
    for (size_t i = first; i < end; i++) {
        const struct soothe__word *w     = &form->words[i];
        const uint32_t            *chars = form->chars + w->first;
        const size_t               more  = ((size_t)w->n + 2) * shape->char_max + WORDS_MAX + 3;
        size_t                     slots = g->n_slots ? g->n_slots : SLOTS_START;
        while (slots < 2 * (g->n_distinct + more))
            slots *= 2;
        if (!reserve(g, more) || (slots != g->n_slots && !make_slots(g, slots)))
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the features of a text of %zu words", end);
        uint64_t h = hash_of(chars, w->n);
        memmove(last + 1, last, (WORDS_MAX - 1) * sizeof *last);
        last[0] = h;
        add(g, shape, SOOTHE__GROUP_WORDS, h, i, 1);
        for (uint32_t k = 1; k < shape->n_words && i >= first + k; k++) {
            h = mix(h * 31 + last[k]);
            add(g, shape, SOOTHE__GROUP_WORDS, h, i - k, k + 1);
        }
        if (w->letters && shape->lexicon)
            add_strength(g, shape, chars, w->n, i);
        if (w->letters)
            add_pieces(g, shape, chars, w->n, i);
    }
    return SOOTHE_OK;
}

void soothe__ngrams_free(struct soothe__ngrams *g) {
    free(g->all);
    free(g->buckets);
    free(g->times);
    free(g->slots);
    memset(g, 0, sizeof *g);
}
