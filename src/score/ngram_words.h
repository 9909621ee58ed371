/* SPDX-License-Identifier: Apache-2.0
 * Finding the words that are worth recognising under a disguise. */
#ifndef SOOTHE_NGRAM_WORDS_H
#define SOOTHE_NGRAM_WORDS_H

#include "score/ngram_scorer.h"

/* The words of 3 or more letters that stand in at least 5 of the texts and by themselves have a toxicity of at least
 * .8, at most n_max, those in most texts first. words   fresh, (*n), each fresh */
enum soothe_status soothe__ngram_find_words(char ***words, size_t *n, size_t n_max,
                                            const struct soothe__ngram_scorer *scorer, char *const *texts,
                                            const unsigned char *which, size_t n_texts, struct soothe_error *err);

#endif /* SOOTHE_NGRAM_WORDS_H */
