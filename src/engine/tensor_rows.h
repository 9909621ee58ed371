/* SPDX-License-Identifier: Apache-2.0
 * Rows of a tensor as numbers and back, in any data type that the engine can write. */
#ifndef SOOTHE_TENSOR_ROWS_H
#define SOOTHE_TENSOR_ROWS_H

#include "engine/engine.h"

/* False where writing needs what a file does not hold (importance weights), or where the type is too coarse to be
 * written a second time (ternary and one-bit types). */
bool soothe__type_writable(enum ggml_type type);

/* GGML_TYPE_COUNT: there is none of that name ("q8_0", in either case). */
enum ggml_type soothe__type_by_name(const char *name);

/* One row of ne0 numbers out of its bytes and back into them.
 * errors  SOOTHE_E_UNSUPPORTED the type cannot be read, or written; SOOTHE_E_NUMERIC a value, or what the type makes
 *         of it, is not finite (F16 ends at 65504). The sentence does not name the row: `where` does. */
enum soothe_status soothe__row_decode(float *values, const void *bytes, enum ggml_type type, int64_t ne0,
                                      const char *where, struct soothe_error *err);
/* scratch (ne0) */
enum soothe_status soothe__row_encode(void *bytes, const float *values, enum ggml_type type, int64_t ne0,
                                      float *scratch, const char *where, struct soothe_error *err);

#endif /* SOOTHE_TENSOR_ROWS_H */
