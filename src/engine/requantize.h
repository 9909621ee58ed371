/* SPDX-License-Identifier: Apache-2.0
 * The same model with its matrices in another data type. */
#ifndef SOOTHE_REQUANTIZE_H
#define SOOTHE_REQUANTIZE_H

#include "base/base.h"

/* The names that soothe__requantize knows, "q8_0, q4_0, …"; static. */
const char *soothe__requantize_types(void);

/* Writes model path with the matrices in type to out_path, beside it first. The engine does the work; tensors
 * that are quantised already are quantised again (to q8_0 that costs next to nothing, to q4_0 it does).
 * errors  SOOTHE_E_ARGUMENT no such type; SOOTHE_E_FORMAT path is no whole GGUF; SOOTHE_E_ENGINE */
enum soothe_status soothe__requantize(const char *path, const char *type, const char *out_path,
                                      struct soothe_error *err);

#endif /* SOOTHE_REQUANTIZE_H */
