/* SPDX-License-Identifier: Apache-2.0
 * Figures of scores against labels, by source. */
#include <math.h>
#include <stdlib.h>

#include "base/statistics.h"
#include "score/labelled_texts.h"

enum { N_BINS = 15 };

/* Fills figure from the rows of one source, or of all with ALL; s, y are room for t->n. */
#define ALL SIZE_MAX
static void fill(struct soothe__score_figures *f, const struct soothe__labelled_texts *t, const double *scores,
                 const unsigned char *which, size_t source, double *s, unsigned char *y) {
    size_t n = 0, blocked = 0, found = 0, n_toxic = 0;
    *f         = (struct soothe__score_figures){.source = source == ALL ? "all" : t->names[source], .mean = NAN};
    double sum = 0;
    for (size_t i = 0; i < t->n; i++) {
        if ((which && !which[i]) || (source != ALL && t->sources[i] != source))
            continue;
        const unsigned char label = t->labels[i] > 0.5f;
        f->n++;
        f->n_toxic += label;
        if (isnan(scores[i])) {
            f->n_null++;
            continue;
        }
        s[n]   = scores[i];
        y[n++] = label;
        sum += scores[i];
        n_toxic += label;
        blocked += !label && scores[i] > 0.5;
        found += label && scores[i] > 0.5;
    }
    f->auc            = soothe__roc_auc(s, y, n);
    f->ece            = soothe__calibration_error(s, y, n, N_BINS, NULL);
    f->mean           = n ? sum / (double)n : NAN;
    f->false_positive = n > n_toxic ? (double)blocked / (double)(n - n_toxic) : NAN;
    f->recall         = n_toxic ? (double)found / (double)n_toxic : NAN;
}

enum soothe_status soothe__score_figures(struct soothe__score_figures **figures, size_t *n,
                                         const struct soothe__labelled_texts *t, const double *scores,
                                         const unsigned char *which, struct soothe_error *err) {
    double        *s = soothe__calloc(t->n + 1, sizeof *s);
    unsigned char *y = soothe__calloc(t->n + 1, 1);
    *figures         = soothe__calloc(t->n_names + 1, sizeof **figures);
    *n               = 0;
    if (!s || !y || !*figures) {
        free(s);
        free(y);
        free(*figures);
        *figures = NULL;
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the figures of %zu texts", t->n);
    }
    for (size_t i = 0; i < t->n_names; i++) {
        fill(&(*figures)[*n], t, scores, which, i, s, y);
        *n += (*figures)[*n].n > 0;
    }
    fill(&(*figures)[(*n)++], t, scores, which, ALL, s, y);
    free(s);
    free(y);
    return SOOTHE_OK;
}
