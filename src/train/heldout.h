/* SPDX-License-Identifier: Apache-2.0
 * What a training core achieves on texts it has not seen. */
#ifndef SOOTHE_HELDOUT_H
#define SOOTHE_HELDOUT_H

#include <signal.h>

#include "train/batches.h"

struct soothe__heldout_result {
    size_t n_pairs, n_pairs_right, n_texts, n_rows;
    double kl, nll, nll_plain; /* nats per token of the single texts; NaN without, or without states */
};

/* Pairs and single texts of a tokenised corpus.
 * states  NULL, under the paper objective: no pairs are ordered, kl and nll_plain stay NaN; without single texts the
 *         pairs' chosen sides count as texts, as they do in training
 * stop    becomes nonzero to return SOOTHE_E_INTERRUPTED; NULL: never */
enum soothe_status soothe__heldout(struct soothe__train_core *core, const struct soothe__corpus *corpus,
                                   struct soothe__target_states *states, const struct soothe__batches_options *options,
                                   const volatile sig_atomic_t *stop, struct soothe__heldout_result *result,
                                   struct soothe_error *err);

#endif /* SOOTHE_HELDOUT_H */
