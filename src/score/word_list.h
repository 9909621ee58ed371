/* SPDX-License-Identifier: Apache-2.0
 * Looking words up in a list of those that disguises are resolved to. list may be NULL. */
#ifndef SOOTHE_WORD_LIST_H
#define SOOTHE_WORD_LIST_H

#include "score/text_forms.h"

/* The listed word, or NULL. collapsed: runs of a letter count as one letter, on both sides. */
const char *soothe__listed(const struct soothe__word_list *list, const char *word, size_t n, bool collapsed);
/* The first listed word that fits a pattern of letters and '*': of its length, or with the asterisks in the middle or
 * at the end standing for any number of letters. */
const char *soothe__listed_masked(const struct soothe__word_list *list, const char *pattern, size_t n);

#endif /* SOOTHE_WORD_LIST_H */
