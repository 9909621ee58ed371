/* SPDX-License-Identifier: Apache-2.0
 * Where a calibrator comes from, as the keys soothe.training.… of its file. */
#ifndef SOOTHE_TRAINING_FACTS_H
#define SOOTHE_TRAINING_FACTS_H

#include "fusion/calibrator_file.h"
#include "train/train_run.h"

enum { SOOTHE__FACTS_MAX = 128 };

struct soothe__training_facts {
    struct soothe__fact list[SOOTHE__FACTS_MAX];
    char                keys[SOOTHE__FACTS_MAX][64];
    size_t              n;
};

/* Options, the figures of the end, and data with their hashes (as many files as there is room for); r with its
 * defaults filled in. Texts are borrowed. */
void soothe__training_facts(struct soothe__training_facts *f, const struct soothe__train_request *r,
                            const struct soothe__train_report *p, const struct soothe__corpus *corpus,
                            const struct soothe__corpus *heldout, const char *run_hash);

/* Adds "soothe.training.KEY": a text, or with text NULL a number, which is left out where it is not finite. */
void soothe__training_fact_add(struct soothe__training_facts *f, const char *key, const char *text, double number);

#endif /* SOOTHE_TRAINING_FACTS_H */
