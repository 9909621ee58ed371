/* SPDX-License-Identifier: Apache-2.0
 * What a training core achieves on texts it has not seen. */
#ifndef SOOTHE_HELDOUT_H
#define SOOTHE_HELDOUT_H

#include "train/batches.h"

struct soothe__heldout_result {
    size_t n_pairs, n_pairs_right, n_texts, n_rows;
    double kl, nll, nll_plain; /* nats per token of the single texts; NaN without, or without states */
};

/* Pairs and single texts of a tokenised corpus; under the paper objective the chosen sides count as texts.
 * states NULL: kl and nll_plain stay NaN. */
enum soothe_status soothe__heldout(struct soothe__train_core *core, const struct soothe__corpus *corpus,
                                   struct soothe__target_states *states, const struct soothe__batches_options *options,
                                   struct soothe__heldout_result *result, struct soothe_error *err);

#endif /* SOOTHE_HELDOUT_H */
