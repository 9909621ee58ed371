/* SPDX-License-Identifier: Apache-2.0 */
#include "train/paraphrase_sets.h"

#include <stdlib.h>
#include <string.h>

struct keyed {
    uint64_t key;
    uint32_t i_pair;
};

static int compare(const void *a, const void *b) {
    const struct keyed *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->i_pair < y->i_pair ? -1 : x->i_pair > y->i_pair;
}

static uint64_t hash_of(const char *text) {
    uint64_t h = 14695981039346656037u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 1099511628211u;
    return h;
}

/* Pairs of one key make a set. Keys of pairs that stay alone have the highest bit set, others have not. */
static uint64_t key_of(const struct soothe__corpus *c, uint32_t i_pair, enum soothe__set_key key) {
    const uint64_t             single = UINT64_C(1) << 63 | i_pair, grouped = ~(UINT64_C(1) << 63);
    const struct soothe__pair *pair   = &c->pairs[i_pair];
    const char                *prompt = c->texts[pair->i_chosen].prompt;
    switch (key) {
    case SOOTHE__SET_FIELD:
        return pair->set ? pair->set & grouped : single;
    case SOOTHE__SET_PROMPT:
        return prompt[0] ? hash_of(prompt) & grouped : single;
    case SOOTHE__SET_CHOSEN:
        return pair->i_chosen;
    case SOOTHE__SET_REJECTED:
        return pair->i_rejected;
    default:
        return single;
    }
}

static void add_once(uint32_t *texts, uint32_t *n, uint32_t n_max, uint32_t i_text) {
    for (uint32_t i = 0; i < *n; i++)
        if (texts[i] == i_text)
            return;
    if (*n < n_max)
        texts[(*n)++] = i_text;
}

/* The set of pairs from … end-1, written to texts; its size is returned. */
static size_t make_set(struct soothe__paraphrase_set *set, uint32_t *texts, const struct soothe__corpus *c,
                       const struct keyed *order, size_t from, size_t end, uint32_t n_max) {
    *set = (struct soothe__paraphrase_set){.texts = texts};
    for (size_t i = from; i < end; i++)
        add_once(texts, &set->n_harmless, n_max, c->pairs[order[i].i_pair].i_chosen);
    for (size_t i = from; i < end; i++)
        add_once(texts + set->n_harmless, &set->n_toxic, n_max, c->pairs[order[i].i_pair].i_rejected);
    return set->n_harmless + set->n_toxic;
}

enum soothe_status soothe__paraphrase_sets_make(struct soothe__paraphrase_sets *sets,
                                                const struct soothe__corpus *corpus, enum soothe__set_key key,
                                                uint32_t n_max, struct soothe_error *err) {
    const size_t  n     = corpus->n_pairs;
    struct keyed *order = soothe__calloc(n + 1, sizeof *order);
    size_t        used  = 0;
    sets->sets          = soothe__calloc(n + 1, sizeof *sets->sets);
    sets->texts         = soothe__calloc(2 * n + 1, sizeof *sets->texts);
    sets->n             = 0;
    if (!order || !sets->sets || !sets->texts) {
        free(order);
        soothe__paraphrase_sets_free(sets);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for sets of %zu pairs", n);
    }
    for (uint32_t i = 0; i < n; i++)
        order[i] = (struct keyed){key_of(corpus, i, key), i};
    qsort(order, n, sizeof *order, compare);
    for (size_t from = 0, end; from < n; from = end) {
        end = from + 1;
        while (end < n && order[end].key == order[from].key)
            end++;
        used += make_set(&sets->sets[sets->n++], sets->texts + used, corpus, order, from, end, n_max);
    }
    free(order);
    return SOOTHE_OK;
}

void soothe__paraphrase_sets_free(struct soothe__paraphrase_sets *sets) {
    free(sets->sets);
    free(sets->texts);
    memset(sets, 0, sizeof *sets);
}
