/* SPDX-License-Identifier: Apache-2.0
 * Rows of a matrix that stays in its file and is read where it is wanted: of an embedding, a token's row of the tens
 * of thousands. */
#ifndef SOOTHE_FILE_ROWS_H
#define SOOTHE_FILE_ROWS_H

#include "engine/engine.h"

struct soothe__file_rows;

/* g may be closed afterwards: the file stays open.
 * errors  SOOTHE_E_FORMAT no such matrix; SOOTHE_E_UNSUPPORTED its type cannot be read as numbers */
enum soothe_status soothe__file_rows_new(struct soothe__file_rows **rows, const struct soothe__gguf *g,
                                         const char *name, struct soothe_error *err);
void               soothe__file_rows_free(struct soothe__file_rows *rows); /* NULL is fine */
int64_t            soothe__file_rows_count(const struct soothe__file_rows *rows);

/* out (n, d): the rows i[0 … n), dequantised as the engine does it.
 * errors  SOOTHE_E_ARGUMENT no such row; SOOTHE_E_IO the file is gone or shorter than it was
 * thread  any number at once */
enum soothe_status soothe__file_rows_get(const struct soothe__file_rows *rows, const int32_t *i, int32_t n, float *out,
                                         struct soothe_error *err);

#endif /* SOOTHE_FILE_ROWS_H */
