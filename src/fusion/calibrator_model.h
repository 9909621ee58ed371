/* SPDX-License-Identifier: Apache-2.0
 * Blocks of a calibrator for the engine. */
#ifndef SOOTHE_CALIBRATOR_MODEL_H
#define SOOTHE_CALIBRATOR_MODEL_H

#include "fusion/fusion.h"

/* Fills model, memory, n_vocab and, where that is possible, embedding and vocabulary of cal, of which n_blocks, by_text
 * and fusion are known.
 * from        the model's tensors and metadata
 * delta       is added to it; may be NULL
 * vocabulary  takes the place of the model's own; may be NULL
 * state       after an error cal is to be freed as ever */
enum soothe_status soothe__calibrator_load_model(struct soothe_calibrator *cal, const struct soothe__gguf *from,
                                                 const struct soothe__gguf             *delta,
                                                 const struct soothe__gguf             *vocabulary,
                                                 const struct soothe_calibrator_params *p, struct soothe_error *err);

#endif /* SOOTHE_CALIBRATOR_MODEL_H */
