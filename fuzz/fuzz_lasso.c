/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a table to select from and as a file of penalty factors: refused with a sentence, or finite figures. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "input_file.h"
#include "lasso/lasso_path.h"
#include "lasso/feature_table.h"
#include "lasso/penalty_factors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right) {
    if (!right)
        abort();
}

/* Small ones are fitted, too: values of any size, constant columns, classes of one row. */
static void fit(const struct soothe__table *table, const double *y, enum soothe__lasso_family family) {
    struct soothe__design            x;
    struct soothe__llm_lasso         r;
    struct soothe_error              err = {.message = ""};
    double                           factors[8];
    struct soothe__llm_lasso_options o = soothe__llm_lasso_defaults();
    o.family                           = family;
    o.n_folds = o.max_power = 2;
    o.n_lambdas             = 4;
    o.n_threads             = 1;
    if (table->n_columns > 8 || table->n_rows > 64)
        return;
    for (size_t j = 0; j < table->n_columns; j++)
        factors[j] = 2 + (double)(j % 4);
    check(soothe__design_from_cells(&x, table->cells, table->n_rows, table->n_columns, &err) == SOOTHE_OK);
    if (soothe__llm_lasso(&r, &x, y, factors, &o, &err)) {
        check(err.message[0]);
    } else {
        for (size_t t = 0; t < r.n_trusts; t++)
            for (size_t l = 0; l < r.trusts[t].path.n_points; l++)
                check(isfinite(r.trusts[t].path.points[l].intercept));
        soothe__llm_lasso_free(&r);
    }
    soothe__design_free(&x);
}

static void read_table(const char *path) {
    struct soothe__table              table;
    struct soothe__target             target;
    struct soothe_error               err    = {.message = ""};
    const struct soothe__table_choice choice = {.target = "y", .skip_bad = true};
    if (soothe__table_read(&table, path, &choice, &err)) {
        check(err.message[0]);
        return;
    }
    check(table.n_rows > 0 && table.n_rows == table.counts.n_good);
    for (size_t k = 0; k < table.n_rows * table.n_columns; k++)
        check(isfinite(table.cells[k]));
    double *y = soothe__calloc(table.n_rows, sizeof *y);
    if (soothe__target_decide(&target, &table, SOOTHE__FAMILY_AUTO, NULL, &err) ||
        soothe__target_values(y, &target, &table, path, &err))
        check(err.message[0]);
    else
        fit(&table, y, target.family);
    free(y);
    soothe__target_free(&target);
    soothe__table_free(&table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char         *path = fuzz_input_file(data, size), *names[] = {"a", "b"};
    struct soothe_error err = {.message = ""};
    double              factors[2];
    size_t              n_missing;
    read_table(path);
    if (soothe__factors_read(factors, names, 2, path, &n_missing, &err))
        check(err.message[0]);
    else
        check(factors[0] > 0 && factors[1] > 0 && isfinite(factors[0] + factors[1]) && n_missing < 2);
    return 0;
}
