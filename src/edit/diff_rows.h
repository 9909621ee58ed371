/* SPDX-License-Identifier: Apache-2.0
 * The rows that a diff speaks of, within a model or within the diff's own file; inside of the area alone. */
#ifndef SOOTHE_DIFF_ROWS_H
#define SOOTHE_DIFF_ROWS_H

#include "edit/diff.h"

/* Rows of one tensor of a diff as some file holds them: the k-th row is rows[k], or k where rows is NULL. */
struct soothe__row_source {
    const struct soothe__gguf *file;
    int64_t                    i_tensor;
    const int32_t             *rows;
    size_t                     row_size;
};

/* The tensor in a model's file, which must have the shape that the diff thinks.
 * errors  SOOTHE_E_MISMATCH */
enum soothe_status soothe__diff_find_rows(struct soothe__row_source *s, const struct soothe__diff_tensor *t,
                                          const struct soothe__gguf *model, struct soothe_error *err);
enum soothe_status soothe__diff_read_row(const struct soothe__row_source *s, size_t k, void *out,
                                         struct soothe_error *err);
/* Adds n rows to a hash. */
enum soothe_status soothe__diff_hash_rows(struct soothe__sha256 *h, const struct soothe__row_source *s, size_t n,
                                          struct soothe_error *err);

/* Hash of the rows of all tensors as a model has them; and what a diff does, its new rows taken from edited (NULL: the
 * diff's own file). */
enum soothe_status soothe__diff_hash_old(char hex[65], const struct soothe__diff *diff,
                                         const struct soothe__gguf *model, struct soothe_error *err);
enum soothe_status soothe__diff_hash_new(char hex[65], const struct soothe__diff *diff,
                                         const struct soothe__gguf *edited, struct soothe_error *err);

#endif /* SOOTHE_DIFF_ROWS_H */
