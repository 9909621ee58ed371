/* SPDX-License-Identifier: Apache-2.0
 * Which of a classifier's labels mean "toxic". Names are compared without regard to case, spaces, - and _. */
#ifndef SOOTHE_CLASSIFIER_LABELS_H
#define SOOTHE_CLASSIFIER_LABELS_H

#include "base/base.h"

/* How the classifier's outputs become probabilities. */
enum soothe__label_link {
    SOOTHE__LINK_SOFTMAX, /* one label is true: the score is the sum of the chosen labels' probabilities     */
    SOOTHE__LINK_SIGMOID, /* each label is true or not: the score is the highest of the chosen probabilities */
    SOOTHE__LINK_NONE     /* the engine gives probabilities already                                          */
};

/* Chooses among labels (n; "" where the file names none):
 * wanted  NULL: by the labels' own words. Toxic are toxic, hate, offensive, abusive, insult, obscene, threat, … unless
 *         the label denies it (non-toxic, not_hate); of LABEL_0 and LABEL_1, the second. Else labels with commas
 *         between them, by name or by number from 0.
 * chosen  (n) filled
 * *link   sigmoid for a single label, and where no label says "clean" (neutral, non-toxic, neither, LABEL_0, …): then
 *         all may hold at once
 * errors  SOOTHE_E_ARGUMENT none can be chosen, or wanted names one that is not there: the sentence lists the labels */
enum soothe_status soothe__choose_labels(bool *chosen, enum soothe__label_link *link, const char *const *labels,
                                         size_t n, const char *wanted, const char *path, struct soothe_error *err);

/* The score of outputs (n) under that choice; NaN if an output is not finite. */
double soothe__label_score(const float *outputs, const bool *chosen, size_t n, enum soothe__label_link link);

#endif /* SOOTHE_CLASSIFIER_LABELS_H */
