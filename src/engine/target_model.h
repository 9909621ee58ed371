/* SPDX-License-Identifier: Apache-2.0
 * Loading the model that is to speak. */
#ifndef SOOTHE_TARGET_MODEL_H
#define SOOTHE_TARGET_MODEL_H

#include "base/base.h"

/* Loads a GGUF for generation.
 * *model        fresh, llama_model_free(); NULL after an error
 * n_gpu_layers  as llama_model_params; on a CPU build without effect
 * errors  SOOTHE_E_IO cannot be opened; SOOTHE_E_FORMAT not a GGUF, or truncated; SOOTHE_E_UNSUPPORTED a
 *         calibrator, an encoder, or an architecture that the engine does not know
 * thread  any; the model is read-only and may be shared by sessions */
enum soothe_status soothe__target_load(struct llama_model **model, const char *path, int32_t n_gpu_layers,
                                       struct soothe_error *err);

/* Would the engine load it? Reads metadata and the vocabulary, no weights.  errors  SOOTHE_E_UNSUPPORTED */
enum soothe_status soothe__target_check(const char *path, struct soothe_error *err);

#endif /* SOOTHE_TARGET_MODEL_H */
