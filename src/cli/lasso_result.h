/* SPDX-License-Identifier: Apache-2.0
 * What soothe lasso has found, and its two forms: a table and JSON (lasso_output.c). */
#ifndef SOOTHE_LASSO_RESULT_H
#define SOOTHE_LASSO_RESULT_H

#include <jansson.h>

#include "lasso/feature_table.h"
#include "lasso/held_out.h"

struct soothe__lasso_result {
    const char                      *data, *test, *target_name, *text_column; /* as asked for; test, text may be NULL */
    const char                      *model, *task, *prior;                    /* where factors came from, or NULL     */
    bool                             by_rank, shuffled;
    uint32_t                         seed;
    double                           test_share;
    struct soothe__llm_lasso_options options;
    struct soothe__target            target;
    char                             data_sha256[65], test_sha256[65];
    size_t                           n_train, n_test, n_features, n_bad;
    char                           **names;     /* (n_features) owned                   */
    double                          *factors;   /* (n_features) owned; NULL: none given */
    size_t                           n_missing; /* features that the prior lacks        */
    struct soothe__llm_lasso         fit;
    struct soothe__judged           *judged[SOOTHE__POWERS_MAX + 1]; /* per trust (n_points), on the test rows; NULL */
    double                           seconds_prior, seconds_fit;
};

void    soothe__lasso_print(FILE *out, const struct soothe__lasso_result *r, int n_shown);
json_t *soothe__lasso_json(const struct soothe__lasso_result *r);

#endif /* SOOTHE_LASSO_RESULT_H */
