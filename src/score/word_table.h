/* SPDX-License-Identifier: Apache-2.0
 * A table of words and phrases with weights: what token tables (methods/token_table.h) act on and what scores
 * sentences.
 *
 * Words stand in the form of word_chars.h: folded, one to four of them with single spaces between. A table comes from
 *   a file that `soothe cfl train` wrote (GGUF, general.type "soothe-token-table", docs/format.md): effects of words
 *   a list, one word or phrase a line, a tab and a weight behind it (1 if there is none), '#' begins a comment
 *   the built-in lexicon with its plurals and verb forms, weight its severity (0.1 to 3) */
#ifndef SOOTHE_WORD_TABLE_H
#define SOOTHE_WORD_TABLE_H

#include "engine/engine.h"

#define SOOTHE__WORD_TABLE_TYPE "soothe-token-table"
enum { SOOTHE__WORD_TABLE_MAX = 1 << 18 };

struct soothe__table_word {
    char *word;
    float weight; /* what counts; of an effect: shrunk, 0 where its interval holds 0 */
    /* of an effect: the mean before shrinking, its interval, the sentences behind it; else NaN and 0 */
    float   effect, lo, hi;
    int32_t n;
};

struct soothe__word_table {
    struct soothe__table_word *words; /* sorted by the bytes of .word, each once */
    size_t                     n, capacity;
};

/* Adds an entry; to be sorted when all are there. word  in the table's form; copied */
enum soothe_status soothe__word_table_add(struct soothe__word_table *t, const struct soothe__table_word *entry,
                                          struct soothe_error *err);
/* Sorts; of equal words the one with the largest weight stays. */
void soothe__word_table_sort(struct soothe__word_table *t);
/* NULL: not in the table. */
const struct soothe__table_word *soothe__word_table_find(const struct soothe__word_table *t, const char *word);
void                             soothe__word_table_free(struct soothe__word_table *t); /* also of a zeroed one */

/* All of these fill a zeroed t; after an error it is empty.
 * path    a GGUF table or a list, told apart by the file's first bytes; NULL: the lexicon
 * errors  SOOTHE_E_IO; SOOTHE_E_FORMAT no such table, or a line that is no word (named); SOOTHE_E_NUMERIC */
enum soothe_status soothe__word_table_open(struct soothe__word_table *t, const char *path, struct soothe_error *err);
enum soothe_status soothe__word_table_read(struct soothe__word_table *t, const char *path, struct soothe_error *err);
enum soothe_status soothe__word_table_write(const struct soothe__word_table *t, const char *path,
                                            const struct soothe__fact *facts, size_t n_facts, struct soothe_error *err);

/* default.cfl.gguf of the shipped files, fresh. */
enum soothe_status soothe__default_word_table(char **path, struct soothe_error *err);

/* A sentence's score by the weights of its words, those below 0 left out: 1 - prod (1 - min(weight, 1)) over all
 * occurrences, or the largest of them; of words alone, not of phrases. */
enum soothe__sentence_score { SOOTHE__SENTENCE_ANY, SOOTHE__SENTENCE_MAX };
double soothe__word_table_score(const struct soothe__word_table *t, enum soothe__sentence_score how, const char *text,
                                size_t size);

#endif /* SOOTHE_WORD_TABLE_H */
