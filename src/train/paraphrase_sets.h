/* SPDX-License-Identifier: Apache-2.0
 * Sets of paraphrases out of the pairs of a corpus: the chosen sides are harmless, the rejected ones toxic. */
#ifndef SOOTHE_PARAPHRASE_SETS_H
#define SOOTHE_PARAPHRASE_SETS_H

#include "corpus/corpus.h"

/* What makes one set of pairs: nothing (each pair is a set of its own), a field "set" of their lines, the same prompt,
 * the same chosen or the same rejected text. */
enum soothe__set_key {
    SOOTHE__SET_PAIR,
    SOOTHE__SET_FIELD,
    SOOTHE__SET_PROMPT,
    SOOTHE__SET_CHOSEN,
    SOOTHE__SET_REJECTED
};

struct soothe__paraphrase_set {
    uint32_t *texts; /* of the corpus: n_harmless, then n_toxic, each once */
    uint32_t  n_harmless, n_toxic;
};

struct soothe__paraphrase_sets {
    struct soothe__paraphrase_set *sets;
    uint32_t                      *texts;
    size_t                         n;
};

/* At most n_max harmless and n_max toxic texts a set: the first of the corpus. Pairs without the field are sets of
 * their own. *sets is zeroed before. */
enum soothe_status soothe__paraphrase_sets_make(struct soothe__paraphrase_sets *sets,
                                                const struct soothe__corpus *corpus, enum soothe__set_key key,
                                                uint32_t n_max, struct soothe_error *err);
void               soothe__paraphrase_sets_free(struct soothe__paraphrase_sets *sets); /* also of a zeroed one */

#endif /* SOOTHE_PARAPHRASE_SETS_H */
