/* SPDX-License-Identifier: Apache-2.0
 * Texts with a label of toxicity and the name of their source: what a scorer is trained and tested on. */
#ifndef SOOTHE_LABELLED_TEXTS_H
#define SOOTHE_LABELLED_TEXTS_H

#include "corpus/rows.h"

struct soothe__labelled_fields {
    const char *text, *label, *source; /* names of fields; NULL: "text", "label", "source" */
    const char *positive; /* "hate,hateful": the labels that are toxic, all others are not; NULL: numbers */
    bool        skip_bad;
};

struct soothe__labelled_file {
    char                     *path;
    char                      sha256[65]; /* of its bytes, unpacked */
    struct soothe__row_counts counts;
};

struct soothe__labelled_texts {
    char                        **texts;   /* (n) */
    float                        *labels;  /* (n) in [0,1]; over .5 is toxic */
    uint32_t                     *sources; /* (n) places in .names           */
    size_t                        n, capacity;
    char                        **names;
    size_t                        n_names;
    struct soothe__labelled_file *files;
    size_t                        n_files;
};

/* Adds a file's rows to t (zeroed before the first). Bad: those of soothe__rows_next, no text, no label or an empty
 * one, a label that is no number from 0 to 1. A row without a source has the file's name for it, without folder and
 * ends. errors  those of soothe__rows_open and soothe__rows_next; SOOTHE_E_MEMORY */
enum soothe_status soothe__labelled_read(struct soothe__labelled_texts *t, const char *path,
                                         const struct soothe__labelled_fields *fields, struct soothe_error *err);
void               soothe__labelled_free(struct soothe__labelled_texts *t); /* also of a zeroed one */

/* ---- how well scores agree with labels ---------------------------------------------------------------- */

struct soothe__score_figures {
    const char *source; /* "all" for the last one */
    size_t      n, n_toxic, n_null;
    double      auc;            /* NaN with one class alone                                                  */
    double      ece;            /* expected calibration error, 15 bins                                        */
    double      false_positive; /* share of the clean that score over .5: over-blocking; NaN without clean    */
    double      recall;         /* share of the toxic that do                                                 */
    double      mean;           /* of the scores */
};

/* One figure a source that has rows, in the sources' order, and one of all together.
 * scores   (t->n); NaN: no score, counted and left out of the other figures
 * which    (t->n) rows to look at; NULL: all
 * figures  fresh, (*n)
 * errors   SOOTHE_E_MEMORY */
enum soothe_status soothe__score_figures(struct soothe__score_figures **figures, size_t *n,
                                         const struct soothe__labelled_texts *t, const double *scores,
                                         const unsigned char *which, struct soothe_error *err);

#endif /* SOOTHE_LABELLED_TEXTS_H */
