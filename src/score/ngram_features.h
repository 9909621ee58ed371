/* SPDX-License-Identifier: Apache-2.0
 * What the n-gram scorer sees of a text: words and pairs of neighbouring words, and the pieces of 2 to 5 characters of
 * every word with a blank on both sides, each hashed to a bucket; and, as two more words, that a word is listed in the
 * built-in lexicon and how strong it is there. A feature is there or not, however often; the
 * features of a group together have length one:
 *     x_j = 1 / sqrt(number of distinct buckets of j's group)
 * so that long and short texts compare (as TF-IDF rows do that are divided by their norm). */
#ifndef SOOTHE_NGRAM_FEATURES_H
#define SOOTHE_NGRAM_FEATURES_H

#include "score/text_forms.h"

enum { SOOTHE__GROUP_WORDS, SOOTHE__GROUP_CHARS, SOOTHE__N_GROUPS };

struct soothe__ngram_shape {
    uint32_t bits;     /* each group has 2^bits buckets, 8 to 24        */
    uint32_t n_words;  /* longest word n-gram, 1 to 3                    */
    uint32_t char_min; /* shortest and longest piece of a word, 1 to 8   */
    uint32_t char_max;
    uint32_t lexicon; /* 1: words of the lexicon are told; 0: not        */
};

/* One occurrence of a feature. */
struct soothe__ngram {
    uint32_t feature; /* place in .buckets                     */
    uint32_t word;    /* of the form: where it begins           */
    uint32_t n_words; /* over how many words it goes, 1 or more */
};

struct soothe__ngrams {
    struct soothe__ngram *all;
    size_t                n, capacity;
    uint32_t             *buckets; /* distinct: group * 2^bits + hash */
    uint32_t             *times;   /* occurrences of each             */
    size_t                n_distinct, capacity_buckets, capacity_times;
    size_t                n_in_group[SOOTHE__N_GROUPS]; /* distinct */
    uint32_t             *slots;                        /* open addressing: place + 1 */
    size_t                n_slots;
};

/* The features of words [first, end) of a form; out is zeroed before its first use and used again and again after.
 * errors  SOOTHE_E_MEMORY */
enum soothe_status soothe__ngrams_read(struct soothe__ngrams *out, const struct soothe__ngram_shape *shape,
                                       const struct soothe__text_form *form, size_t first, size_t end,
                                       struct soothe_error *err);
void               soothe__ngrams_free(struct soothe__ngrams *out); /* also of a zeroed one */

static inline uint32_t soothe__ngram_group(uint32_t bucket, const struct soothe__ngram_shape *shape) {
    return bucket >> shape->bits;
}

#endif /* SOOTHE_NGRAM_FEATURES_H */
