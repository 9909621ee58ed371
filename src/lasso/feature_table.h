/* SPDX-License-Identifier: Apache-2.0
 * A CSV, TSV or JSON-lines table read for a regression: numbers or a text in, one target out. */
#ifndef SOOTHE_FEATURE_TABLE_H
#define SOOTHE_FEATURE_TABLE_H

#include "corpus/rows.h"
#include "lasso/weighted_lasso.h"

struct soothe__table_choice {
    const char        *target;        /* column                                                          */
    const char        *text;          /* column whose words will be the features; NULL: numbers          */
    const char *const *columns;       /* NULL-terminated; NULL: all but the target, as the first row has  */
    const char *const *leave_out;     /* NULL-terminated or NULL                                         */
    bool               numbers_alone; /* the target must be a number                                      */
    bool               skip_bad;      /* false: the first bad row is an error that names line and column */
};

struct soothe__table {
    size_t                    n_rows, n_columns;
    char                    **names;   /* (n_columns + 1) NULL-terminated; none where the features are a text's words */
    double                   *cells;   /* (n_rows x n_columns)  */
    char                    **targets; /* (n_rows) as written   */
    char                    **texts;   /* (n_rows) or NULL      */
    size_t                   *lines;   /* (n_rows)              */
    char                      sha256[65];
    struct soothe__row_counts counts;
};

enum soothe_status soothe__table_read(struct soothe__table *table, const char *path,
                                      const struct soothe__table_choice *choice, struct soothe_error *err);
void               soothe__table_free(struct soothe__table *table); /* also of a zeroed one */

/* How the target's fields become y. */
struct soothe__target {
    enum soothe__lasso_family family;
    char                    **positive; /* (n_positive) binomial: the values that are 1; owned */
    size_t                    n_positive;
    char                     *negative; /* the only other value; NULL: whatever else; owned */
};

enum soothe__family_choice { SOOTHE__FAMILY_AUTO, SOOTHE__FAMILY_GAUSSIAN, SOOTHE__FAMILY_BINOMIAL };

/* positive  the values to be 1, with commas between; NULL: of exactly two values the larger (by number where both are
 *           numbers, else by bytes). Auto: binomial with positive or two values, else gaussian
 * errors    SOOTHE_E_FORMAT more values than two, a value that never occurs, no number */
enum soothe_status soothe__target_decide(struct soothe__target *target, const struct soothe__table *table,
                                         enum soothe__family_choice family, const char *positive,
                                         struct soothe_error *err);
/* y (n_rows). */
enum soothe_status soothe__target_values(double *y, const struct soothe__target *target,
                                         const struct soothe__table *table, const char *path, struct soothe_error *err);
void               soothe__target_free(struct soothe__target *target);

#endif /* SOOTHE_FEATURE_TABLE_H */
