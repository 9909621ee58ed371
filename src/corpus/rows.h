/* SPDX-License-Identifier: Apache-2.0
 * Rows of a table, one at a time: JSON lines, CSV or TSV, plain or compressed (xz, gzip, zstd, bzip2), from a
 * file or, with path "-", from standard input.
 *
 * The format is that of the file's name (.csv, .tsv, .jsonl, .json, before .xz and the like); without such an end
 * the first byte decides: '{' is JSON lines, anything else CSV. The first row of CSV and TSV names the columns;
 * CSV quotes as in RFC 4180, so that a field may hold line ends; TSV has no quotes. Empty lines are passed over. */
#ifndef SOOTHE_ROWS_H
#define SOOTHE_ROWS_H

#include "base/base.h"

struct soothe__rows;

struct soothe__row_counts {
    size_t n_good, n_bad;
    char   first_bad[256]; /* "line 7: …" of the first bad row, "" without one */
};

/* skip_bad  true: bad rows are counted and passed over; false: the first one is an error that names its line
 * errors    SOOTHE_E_IO; SOOTHE_E_FORMAT damaged archive, no header, a column named twice */
enum soothe_status soothe__rows_open(struct soothe__rows **rows, const char *path, bool skip_bad,
                                     struct soothe_error *err);

/* Goes to the next row; *more is false at the end. Bad: no JSON object, invalid UTF-8, a zero byte, a line over
 * 4 MiB, more or fewer fields than the header. */
enum soothe_status soothe__rows_next(struct soothe__rows *rows, bool *more, struct soothe_error *err);

/* The present row's field, zero-terminated, valid until the next soothe__rows_next; NULL where there is none or it is
 * null. For JSON a dot goes into an object ("prompt.text"; a key that holds the dot itself comes first); numbers,
 * booleans, arrays and objects are given as JSON text (true and false as 1 and 0). */
const char *soothe__rows_field(struct soothe__rows *rows, const char *name);
/* The first of several names (NULL-terminated) that the row has; *i tells which (may be NULL). */
const char *soothe__rows_any_field(struct soothe__rows *rows, const char *const *names, size_t *i);
/* A field that must be one finite number in [lo, hi]: SOOTHE_E_FORMAT says line and column. */
enum soothe_status soothe__rows_number(struct soothe__rows *rows, const char *name, double lo, double hi, double *out,
                                       struct soothe_error *err);

/* Declares the present row bad, for a reason that only the caller can see (the field missing, the text empty):
 * counted under skip_bad (returns SOOTHE_OK), else the error "line N of FILE: <reason>". */
enum soothe_status soothe__rows_reject(struct soothe__rows *rows, struct soothe_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Names of the columns in the file's order (CSV, TSV), of the present row's fields (JSON); NULL-terminated, owned by
 * rows, valid until the next row. */
const char *const *soothe__rows_names(struct soothe__rows *rows);
size_t             soothe__rows_line(const struct soothe__rows *rows); /* where the present row begins; from 1 */

/* Closes (NULL is fine). hex and counts may be NULL; hex: SHA-256 of all bytes read, unpacked. */
void soothe__rows_close(struct soothe__rows *rows, char hex[65], struct soothe__row_counts *counts);

#endif /* SOOTHE_ROWS_H */
