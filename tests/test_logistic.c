/* SPDX-License-Identifier: Apache-2.0
 * The regression's gradient against finite differences, its minimum, its independence of threads; Platt scaling. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "score/logistic.h"
#include "score/platt.h"
#include "test_support.h"

enum { ROWS = 200, GROUPS = 2, COLUMNS = 30, PER_GROUP = 4 };

static uint64_t start[ROWS * GROUPS + 1];
static uint32_t columns[ROWS * GROUPS * PER_GROUP];
static float    values[ROWS * GROUPS], labels[ROWS], costs[ROWS], scales[COLUMNS];

/* Random rows whose labels depend on their columns. */
static struct soothe__logistic make_problem(void) {
    struct soothe__rng rng  = soothe__rng_seed(3, 1);
    uint64_t           used = 0;
    for (size_t j = 0; j < COLUMNS; j++)
        scales[j] = (float)(0.5 + soothe__rng_uniform(&rng));
    for (size_t i = 0; i < ROWS; i++) {
        double z = 0;
        for (size_t g = i * GROUPS; g < (i + 1) * GROUPS; g++) {
            const uint32_t n = 1 + soothe__rng_below(&rng, PER_GROUP);
            values[g]        = (float)(1.0 / sqrt((double)n));
            for (uint32_t k = 0; k < n; k++) {
                columns[used] = soothe__rng_below(&rng, COLUMNS);
                z += (double)values[g] * (columns[used++] % 3 == 0 ? 2.0 : -0.7);
            }
            start[g + 1] = used;
        }
        labels[i] = i % 17 == 0 ? 0.3f : soothe__rng_uniform(&rng) < 1 / (1 + exp(-z)) ? 1.0f : 0.0f;
        costs[i]  = i % 11 == 0 ? 0.0f : 1.0f + (float)(i % 3);
    }
    return (struct soothe__logistic){.n_rows    = ROWS,
                                     .n_groups  = GROUPS,
                                     .n_columns = COLUMNS,
                                     .start     = start,
                                     .columns   = columns,
                                     .values    = values,
                                     .scales    = scales,
                                     .labels    = labels,
                                     .costs     = costs,
                                     .c         = 2.0,
                                     .n_threads = 1};
}

static void test_gradient_is_that_of_finite_differences(void **state) {
    const struct soothe__logistic p   = make_problem();
    struct soothe__rng            rng = soothe__rng_seed(5, 1);
    double                        w[COLUMNS + 1], g[COLUMNS + 1], unused[COLUMNS + 1];
    (void)state;
    for (size_t j = 0; j <= COLUMNS; j++)
        w[j] = soothe__rng_normal(&rng);
    soothe__logistic_loss(&p, w, g);
    for (size_t j = 0; j <= COLUMNS; j++) {
        const double h = 1e-5, at = w[j];
        w[j]             = at + h;
        const double up  = soothe__logistic_loss(&p, w, unused);
        w[j]             = at - h;
        const double low = soothe__logistic_loss(&p, w, unused);
        w[j]             = at;
        /* central differences: error of order h^2 plus rounding of the loss / h, under 1e-6 here */
        assert_true(fabs((up - low) / (2 * h) - g[j]) < 1e-5 * (1 + fabs(g[j])));
    }
}

static void test_fit_ends_where_the_gradient_is_zero(void **state) {
    const struct soothe__minimise_options options        = {.max_iterations = 500, .gradient_tolerance = 1e-8};
    const struct soothe__logistic         p              = make_problem();
    double                                w[COLUMNS + 1] = {0}, g[COLUMNS + 1];
    struct soothe__minimise_report        report;
    struct soothe_error                   err;
    (void)state;
    must(soothe__logistic_fit(&p, w, &options, &report, &err), &err);
    assert_true(report.converged);
    const double least = soothe__logistic_loss(&p, w, g);
    for (size_t j = 0; j <= COLUMNS; j++)
        assert_true(fabs(g[j]) < 1e-4);
    for (size_t j = 0; j <= COLUMNS; j += 7) { /* and every way from there leads up */
        w[j] += 0.05;
        assert_true(soothe__logistic_loss(&p, w, g) > least);
        w[j] -= 0.05;
    }
}

static void test_threads_do_not_change_a_bit(void **state) {
    const struct soothe__minimise_options options        = {.max_iterations = 50, .gradient_tolerance = 1e-6};
    struct soothe__logistic               p              = make_problem();
    double                                a[COLUMNS + 1] = {0}, b[COLUMNS + 1] = {0};
    struct soothe__minimise_report        report;
    struct soothe_error                   err;
    (void)state;
    must(soothe__logistic_fit(&p, a, &options, &report, &err), &err);
    p.n_threads = 4;
    must(soothe__logistic_fit(&p, b, &options, &report, &err), &err);
    assert_memory_equal(a, b, sizeof a);
}

static void test_platt_scaling_finds_the_line(void **state) {
    enum { N = 20000 };
    static double        z[N];
    static unsigned char y[N];
    struct soothe__rng   rng = soothe__rng_seed(9, 1);
    double               a, b;
    (void)state;
    for (size_t i = 0; i < N; i++) {
        z[i] = 2 * soothe__rng_normal(&rng);
        y[i] = soothe__rng_uniform(&rng) < 1 / (1 + exp(-(0.7 * z[i] - 0.4)));
    }
    soothe__platt_fit(&a, &b, z, y, NULL, N);
    assert_true(fabs(a - 0.7) < 0.05); /* three standard errors at this n */
    assert_true(fabs(b + 0.4) < 0.06);
    memset(y, 1, sizeof y);
    soothe__platt_fit(&a, &b, z, y, NULL, N);
    assert_true(a == 1 && b == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradient_is_that_of_finite_differences),
                                       cmocka_unit_test(test_fit_ends_where_the_gradient_is_zero),
                                       cmocka_unit_test(test_threads_do_not_change_a_bit),
                                       cmocka_unit_test(test_platt_scaling_finds_the_line)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
