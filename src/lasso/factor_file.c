/* SPDX-License-Identifier: Apache-2.0
 * Penalty factors as a table, and by their order alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "corpus/rows.h"
#include "lasso/penalty_factors.h"

struct named {
    const char *name;
    size_t      i;
    double      factor;
};

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static int by_factor(const void *a, const void *b) {
    const double x = ((const struct named *)a)->factor, y = ((const struct named *)b)->factor;
    return (x > y) - (x < y);
}

enum soothe_status soothe__factors_by_rank(double *factors, size_t n, struct soothe_error *err) {
    struct named *order = soothe__calloc(n + 1, sizeof *order);
    if (!order)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu factors", n);
    for (size_t i = 0; i < n; i++)
        order[i] = (struct named){.i = i, .factor = factors[i]};
    qsort(order, n, sizeof *order, by_factor);
    for (size_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && order[to].factor == order[from].factor;)
            to++;
        const double rank = 0.5 * (double)(from + to - 1);
        for (size_t k = from; k < to; k++)
            factors[order[k].i] = n > 1 ? 2 + 3 * rank / (double)(n - 1) : 3.5;
    }
    free(order);
    return SOOTHE_OK;
}

/* Takes over the factor of the present row, where the name is one of ours. */
static enum soothe_status take_row(struct soothe__rows *rows, struct named *sorted, size_t n, const char *path,
                                   struct soothe_error *err) {
    double             factor;
    const char        *name   = soothe__rows_field(rows, "feature");
    enum soothe_status status = soothe__rows_number(rows, "factor", 0, 1e100, &factor, err);
    if (status)
        return status;
    if (!name || !(factor > 0))
        return soothe__fail(err, SOOTHE_E_FORMAT, "line %zu of %s: %s", soothe__rows_line(rows), path,
                            name ? "the factor is not above 0" : "there is no \"feature\"");
    struct named *found = bsearch(&(struct named){.name = name}, sorted, n, sizeof *sorted, by_name);
    if (!found)
        return SOOTHE_OK;
    if (found->factor > 0)
        return soothe__fail(err, SOOTHE_E_FORMAT, "line %zu of %s: the feature \"%.60s\" stands there twice",
                            soothe__rows_line(rows), path, name);
    found->factor = factor;
    return SOOTHE_OK;
}

static enum soothe_status read_rows(struct named *sorted, size_t n, const char *path, struct soothe_error *err) {
    struct soothe__rows *rows;
    bool                 more   = true;
    enum soothe_status   status = soothe__rows_open(&rows, path, false, err);
    if (status)
        return status;
    while (!(status = soothe__rows_next(rows, &more, err)) && more)
        if ((status = take_row(rows, sorted, n, path, err)))
            break;
    soothe__rows_close(rows, NULL, NULL);
    return status;
}

enum soothe_status soothe__factors_read(double *factors, const char *const *names, size_t n_names, const char *path,
                                        size_t *n_missing, struct soothe_error *err) {
    struct named *sorted = soothe__calloc(n_names + 1, sizeof *sorted);
    *n_missing           = 0;
    if (!sorted)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu factors", n_names);
    for (size_t i = 0; i < n_names; i++)
        sorted[i] = (struct named){.name = names[i], .i = i};
    qsort(sorted, n_names, sizeof *sorted, by_name);
    enum soothe_status status = read_rows(sorted, n_names, path, err);
    double             sum    = 0;
    for (size_t k = 0; k < n_names && !status; k++) {
        sum += sorted[k].factor;
        *n_missing += sorted[k].factor == 0;
    }
    if (!status && *n_missing == n_names)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s has a factor for none of the %zu features", path, n_names);
    const double mean = sum / (double)(n_names - *n_missing);
    for (size_t k = 0; k < n_names && !status; k++)
        factors[sorted[k].i] = sorted[k].factor > 0 ? sorted[k].factor : mean;
    free(sorted);
    return status;
}

/* RFC 4180: in quotes, quotes doubled. */
static void write_quoted(FILE *out, const char *text) {
    putc('"', out);
    for (; *text; text++) {
        if (*text == '"')
            putc('"', out);
        putc(*text, out);
    }
    putc('"', out);
}

enum soothe_status soothe__factors_write(const double *factors, const char *const *names, size_t n_names,
                                         const char *path, struct soothe_error *err) {
    struct soothe__new_file  file   = {0};
    const enum soothe_status status = soothe__new_file_open(&file, path, err);
    if (status)
        return status;
    fputs("feature,factor\n", file.stream);
    for (size_t i = 0; i < n_names; i++) {
        write_quoted(file.stream, names[i]);
        fprintf(file.stream, ",%.9g\n", factors[i]);
    }
    const enum soothe_status done = soothe__new_file_commit(&file, err);
    soothe__new_file_abort(&file);
    return done;
}
