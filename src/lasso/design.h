/* SPDX-License-Identifier: Apache-2.0
 * A matrix of features by columns, each dense or sparse: what a table's numbers and a text's words have in common.
 * Legend: n rows, q columns. */
#ifndef SOOTHE_DESIGN_H
#define SOOTHE_DESIGN_H

#include "base/base.h"

struct soothe__column {
    size_t          n_values;
    const uint32_t *rows;   /* (n_values) ascending; NULL: dense, n_values is the number of rows */
    const double   *values; /* (n_values) */
};

struct soothe__design {
    size_t                 n_rows, n_columns;
    struct soothe__column *columns; /* (n_columns) */
    uint32_t              *rows;    /* what the columns point into, owned */
    double                *values;
};

/* Dense columns from cells, row-major (n x q).  errors  SOOTHE_E_MEMORY */
enum soothe_status soothe__design_from_cells(struct soothe__design *x, const double *cells, size_t n_rows,
                                             size_t n_columns, struct soothe_error *err);
/* Sparse columns: column j has the values[starts[j]..starts[j+1]) in rows[…]; both arrays become the design's. */
enum soothe_status soothe__design_from_sparse(struct soothe__design *x, size_t n_rows, size_t n_columns,
                                              const size_t *starts, uint32_t *rows, double *values,
                                              struct soothe_error *err);
/* The rows for which wanted[row] is keep, in their order. A sparse column stays sparse. */
enum soothe_status soothe__design_take(struct soothe__design *out, const struct soothe__design *x,
                                       const uint32_t *wanted, uint32_t keep, bool invert, struct soothe_error *err);
void               soothe__design_free(struct soothe__design *x); /* also of a zeroed one */

#endif /* SOOTHE_DESIGN_H */
