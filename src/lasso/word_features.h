/* SPDX-License-Identifier: Apache-2.0
 * Words of texts as features: 1 where the text has the word, else 0.
 *
 * A word is a run of letters, digits and inner apostrophes with at least one letter, in lower case (ASCII letters;
 * every other character counts as a letter as it is). Passed over: @names, addresses (http://…), HTML entities (&amp;).
 */
#ifndef SOOTHE_WORD_FEATURES_H
#define SOOTHE_WORD_FEATURES_H

#include "lasso/design.h"

struct soothe__words {
    size_t n;
    char **names; /* (n) ascending by bytes */
};

/* The max_words words that stand in the most of n texts (of equal ones the first by bytes), if in at least min_texts.
 * errors  SOOTHE_E_ARGUMENT no word at all; SOOTHE_E_MEMORY */
enum soothe_status soothe__words_choose(struct soothe__words *words, const char *const *texts, size_t n,
                                        size_t max_words, size_t min_texts, struct soothe_error *err);
void               soothe__words_free(struct soothe__words *words); /* also of a zeroed one */

/* (n texts x n words), sparse. */
enum soothe_status soothe__words_design(struct soothe__design *x, const struct soothe__words *words,
                                        const char *const *texts, size_t n, struct soothe_error *err);

#endif /* SOOTHE_WORD_FEATURES_H */
