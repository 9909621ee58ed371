/* SPDX-License-Identifier: Apache-2.0 */
#include "lasso/design.h"

#include <stdlib.h>
#include <string.h>

static enum soothe_status no_memory(struct soothe_error *err, size_t n_rows, size_t n_columns) {
    return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a table of %zu rows and %zu features", n_rows,
                        n_columns);
}

enum soothe_status soothe__design_from_cells(struct soothe__design *x, const double *cells, size_t n_rows,
                                             size_t n_columns, struct soothe_error *err) {
    *x = (struct soothe__design){.n_rows = n_rows, .n_columns = n_columns};
    if (n_rows > UINT32_MAX || (n_columns && n_rows > SIZE_MAX / n_columns))
        return no_memory(err, n_rows, n_columns);
    x->columns = soothe__calloc(n_columns + 1, sizeof *x->columns);
    x->values  = soothe__calloc(n_rows * n_columns + 1, sizeof *x->values);
    if (!x->columns || !x->values) {
        soothe__design_free(x);
        return no_memory(err, n_rows, n_columns);
    }
    for (size_t j = 0; j < n_columns; j++) {
        double *column = x->values + j * n_rows;
        for (size_t i = 0; i < n_rows; i++)
            column[i] = cells[i * n_columns + j];
        x->columns[j] = (struct soothe__column){.n_values = n_rows, .values = column};
    }
    return SOOTHE_OK;
}

enum soothe_status soothe__design_from_sparse(struct soothe__design *x, size_t n_rows, size_t n_columns,
                                              const size_t *starts, uint32_t *rows, double *values,
                                              struct soothe_error *err) {
    *x         = (struct soothe__design){.n_rows = n_rows, .n_columns = n_columns, .rows = rows, .values = values};
    x->columns = soothe__calloc(n_columns + 1, sizeof *x->columns);
    if (!x->columns) {
        soothe__design_free(x);
        return no_memory(err, n_rows, n_columns);
    }
    for (size_t j = 0; j < n_columns; j++)
        x->columns[j] = (struct soothe__column){
            .n_values = starts[j + 1] - starts[j], .rows = rows + starts[j], .values = values + starts[j]};
    return SOOTHE_OK;
}

/* Copies the wanted values of one column to (rows, values); place[row] is the row's new number. */
static struct soothe__column take_column(const struct soothe__column *from, const uint32_t *place, uint32_t *rows,
                                         double *values) {
    size_t n = 0;
    for (size_t k = 0; k < from->n_values; k++) {
        const uint32_t at = place[from->rows ? from->rows[k] : (uint32_t)k];
        if (at == UINT32_MAX)
            continue;
        if (from->rows)
            rows[n] = at;
        values[n++] = from->values[k];
    }
    return (struct soothe__column){.n_values = n, .rows = from->rows ? rows : NULL, .values = values};
}

enum soothe_status soothe__design_take(struct soothe__design *out, const struct soothe__design *x,
                                       const uint32_t *wanted, uint32_t keep, bool invert, struct soothe_error *err) {
    *out            = (struct soothe__design){.n_columns = x->n_columns};
    size_t n_wanted = 0;
    size_t n_values = 0, n_rows = 0; /* of all columns, of the sparse ones: no fewer than are wanted */
    for (size_t i = 0; i < x->n_rows; i++)
        n_wanted += (wanted[i] == keep) != invert;
    for (size_t j = 0; j < x->n_columns; j++) {
        const size_t n = x->columns[j].rows ? x->columns[j].n_values : n_wanted;
        n_values += n;
        n_rows += x->columns[j].rows ? n : 0;
    }
    uint32_t *place = soothe__calloc(x->n_rows + 1, sizeof *place);
    out->columns    = soothe__calloc(x->n_columns + 1, sizeof *out->columns);
    out->rows       = soothe__calloc(n_rows + 1, sizeof *out->rows);
    out->values     = soothe__calloc(n_values + 1, sizeof *out->values);
    if (!place || !out->columns || !out->rows || !out->values) {
        free(place);
        soothe__design_free(out);
        return no_memory(err, x->n_rows, x->n_columns);
    }
    for (size_t i = 0; i < x->n_rows; i++)
        place[i] = (wanted[i] == keep) != invert ? (uint32_t)out->n_rows++ : UINT32_MAX;
    size_t used = 0, used_rows = 0;
    for (size_t j = 0; j < x->n_columns; j++) {
        out->columns[j] = take_column(&x->columns[j], place, out->rows + used_rows, out->values + used);
        used += out->columns[j].n_values;
        used_rows += out->columns[j].rows ? out->columns[j].n_values : 0;
    }
    free(place);
    return SOOTHE_OK;
}

void soothe__design_free(struct soothe__design *x) {
    free(x->columns);
    free(x->rows);
    free(x->values);
    memset(x, 0, sizeof *x);
}
