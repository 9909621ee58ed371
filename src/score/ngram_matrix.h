/* SPDX-License-Identifier: Apache-2.0
 * The features of many texts as the rows that logistic.h takes. */
#ifndef SOOTHE_NGRAM_MATRIX_H
#define SOOTHE_NGRAM_MATRIX_H

#include "score/logistic.h"
#include "score/ngram_scorer.h"

struct soothe__ngram_matrix {
    size_t    n_rows, n_columns;
    uint32_t *rows;    /* (n_rows) places of the texts                     */
    uint64_t *start;   /* as in logistic.h                                  */
    uint32_t *columns; /*                                                   */
    float    *values;  /*                                                   */
    uint32_t *buckets; /* (n_columns) bucket of a column                    */
    float    *scales;  /* (n_columns) inverse document frequency, mean square 1 over its uses */
    size_t    n_used, capacity;
};

/* which (n): the texts to take; scorer gives shape and list.
 * errors  SOOTHE_E_MEMORY */
enum soothe_status soothe__ngram_matrix_make(struct soothe__ngram_matrix *m, const struct soothe__ngram_scorer *scorer,
                                             char *const *texts, const unsigned char *which, size_t n,
                                             struct soothe_error *err);
void               soothe__ngram_matrix_free(struct soothe__ngram_matrix *m); /* also of a zeroed one */

#endif /* SOOTHE_NGRAM_MATRIX_H */
