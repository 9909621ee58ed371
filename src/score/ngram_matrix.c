/* SPDX-License-Identifier: Apache-2.0 */
#include "score/ngram_matrix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "score/text_fold.h"

enum { G = SOOTHE__N_GROUPS };

/* Adds a text's features, still as buckets, group by group. */
static enum soothe_status add_row(struct soothe__ngram_matrix *m, struct soothe__ngram_reader *r,
                                  const struct soothe__ngram_scorer *s, const char *text, struct soothe_error *err) {
    enum soothe_status status = soothe__text_form_read(&r->form, text, strlen(text), &s->list, err);
    if (!status)
        status = soothe__ngrams_read(&r->ngrams, &s->shape, &r->form, 0, r->form.n_words, err);
    if (status)
        return status;
    const struct soothe__ngrams *g = &r->ngrams;
    if (!soothe__grow((void **)&m->columns, &m->capacity, m->n_used + g->n_distinct, sizeof *m->columns))
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu features", m->n_used + g->n_distinct);
    for (uint32_t group = 0; group < G; group++) {
        const size_t at = m->n_rows * G + group;
        m->values[at]   = g->n_in_group[group] ? (float)(1.0 / sqrt((double)g->n_in_group[group])) : 0.0f;
        for (size_t i = 0; i < g->n_distinct; i++)
            if (soothe__ngram_group(g->buckets[i], &s->shape) == group)
                m->columns[m->n_used++] = g->buckets[i];
        m->start[at + 1] = m->n_used;
    }
    m->n_rows++;
    return SOOTHE_OK;
}

/* Buckets to columns, in the order of the buckets; scales. */
static enum soothe_status number_columns(struct soothe__ngram_matrix *m, const struct soothe__ngram_shape *shape,
                                         struct soothe_error *err) {
    const size_t n_buckets = (size_t)G << shape->bits;
    uint32_t    *times     = soothe__calloc(n_buckets, sizeof *times);
    if (!times)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu buckets", n_buckets);
    for (size_t k = 0; k < m->n_used; k++)
        times[m->columns[k]]++;
    for (size_t b = 0; b < n_buckets; b++)
        m->n_columns += times[b] > 0;
    m->buckets = soothe__calloc(m->n_columns + 1, sizeof *m->buckets);
    m->scales  = soothe__calloc(m->n_columns + 1, sizeof *m->scales);
    if (!m->buckets || !m->scales) {
        free(times);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu columns", m->n_columns);
    }
    double squares = 0;
    for (size_t b = 0, column = 0; b < n_buckets; b++) {
        if (!times[b])
            continue;
        const double idf   = 1.0 + log(((double)m->n_rows + 1.0) / ((double)times[b] + 1.0));
        m->buckets[column] = (uint32_t)b;
        m->scales[column]  = (float)idf;
        squares += idf * idf * times[b];
        times[b] = (uint32_t)column++;
    }
    for (size_t k = 0; k < m->n_used; k++)
        m->columns[k] = times[m->columns[k]];
    const float mean = (float)sqrt(squares / (double)(m->n_used ? m->n_used : 1));
    for (size_t j = 0; j < m->n_columns; j++)
        m->scales[j] /= mean;
    free(times);
    return SOOTHE_OK;
}

enum soothe_status soothe__ngram_matrix_make(struct soothe__ngram_matrix *m, const struct soothe__ngram_scorer *s,
                                             char *const *texts, const unsigned char *which, size_t n,
                                             struct soothe_error *err) {
    struct soothe__ngram_reader reader = {0};
    enum soothe_status          status = SOOTHE_OK;
    memset(m, 0, sizeof *m);
    m->rows   = soothe__calloc(n + 1, sizeof *m->rows);
    m->start  = soothe__calloc(n * G + 1, sizeof *m->start);
    m->values = soothe__calloc(n * G + 1, sizeof *m->values);
    if (!m->rows || !m->start || !m->values)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", n);
    for (size_t i = 0; !status && i < n; i++) {
        if (!which[i])
            continue;
        m->rows[m->n_rows] = (uint32_t)i;
        status             = add_row(m, &reader, s, texts[i], err);
    }
    if (!status)
        status = number_columns(m, &s->shape, err);
    soothe__ngram_reader_free(&reader);
    if (status)
        soothe__ngram_matrix_free(m);
    return status;
}

void soothe__ngram_matrix_free(struct soothe__ngram_matrix *m) {
    free(m->rows);
    free(m->start);
    free(m->columns);
    free(m->values);
    free(m->buckets);
    free(m->scales);
    memset(m, 0, sizeof *m);
}
