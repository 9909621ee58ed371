/* SPDX-License-Identifier: Apache-2.0
 * The weighted Lasso against scikit-learn's figures, against the optimum's own conditions, and against itself on
 * sparse and dense columns. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "corpus/rows.h"
#include "lasso/weighted_lasso.h"
#include "test_support.h"

static struct soothe_error err;

/* ---- tables ------------------------------------------------------------------------------------------- */

struct example {
    struct soothe__design x;
    double               *y, *w;
    char                 *names[64];
    size_t                n, q;
};

static char *data_path(const char *file) {
    const char *folder = getenv("SOOTHE_DATA");
    return soothe__format("%s/lasso/%s", folder ? folder : "tests/data", file);
}

/* All columns but the target and (if not NULL) another; weights as scripts/lasso_reference.py makes them. */
static void read_example(struct example *e, const char *file, const char *target, const char *leave_out) {
    struct soothe__rows *rows;
    char                *path = data_path(file);
    *e                        = (struct example){.y = soothe__calloc(1000, sizeof(double))};
    double *cells             = soothe__calloc((size_t)64 * 1000, sizeof *cells);
    must(soothe__rows_open(&rows, path, false, &err), &err);
    for (bool more;;) {
        must(soothe__rows_next(rows, &more, &err), &err);
        if (!more)
            break;
        for (const char *const *name = soothe__rows_names(rows); *name && e->n == 0; name++)
            if (strcmp(*name, target) && (!leave_out || strcmp(*name, leave_out)))
                e->names[e->q++] = soothe__strdup(*name);
        for (size_t j = 0; j < e->q; j++)
            must(soothe__rows_number(rows, e->names[j], -1e9, 1e9, &cells[e->n * e->q + j], &err), &err);
        must(soothe__rows_number(rows, target, -1e9, 1e9, &e->y[e->n], &err), &err);
        e->n++;
    }
    soothe__rows_close(rows, NULL, NULL);
    must(soothe__design_from_cells(&e->x, cells, e->n, e->q, &err), &err);
    free(cells);
    free(path);
    double sum = 0;
    e->w       = soothe__calloc(e->q, sizeof *e->w);
    for (size_t j = 0; j < e->q; j++)
        sum += e->w[j] = (double)(2 + 3 * j % 4);
    for (size_t j = 0; j < e->q; j++)
        e->w[j] *= (double)e->q / sum;
}

static void free_example(struct example *e) {
    for (size_t j = 0; j < e->q; j++)
        free(e->names[j]);
    soothe__design_free(&e->x);
    free(e->y);
    free(e->w);
}

/* 300 rows of 40 sparse counts, both as sparse and as dense columns; y depends on three of them. */
static void make_counts(struct soothe__design *sparse, struct soothe__design *dense, double *y, bool binomial) {
    enum { N = 300, Q = 40 };
    struct soothe__rng rng    = soothe__rng_seed(11, 3);
    double            *cells  = soothe__calloc(N * Q, sizeof *cells);
    uint32_t          *rows   = soothe__calloc(N * Q, sizeof *rows);
    double            *values = soothe__calloc(N * Q, sizeof *values);
    size_t             starts[Q + 1], n = 0;
    for (size_t j = 0; j < Q; j++) {
        starts[j] = n;
        for (size_t i = 0; i < N; i++)
            if (soothe__rng_uniform(&rng) < 0.1) {
                rows[n]          = (uint32_t)i;
                cells[i * Q + j] = values[n++] = 1 + soothe__rng_below(&rng, 3);
            }
    }
    starts[Q] = n;
    for (size_t i = 0; i < N; i++) {
        const double eta = 1.2 * cells[i * Q] - 0.8 * cells[i * Q + 7] + 0.5 * cells[i * Q + 20] - 0.3;
        y[i]             = binomial ? soothe__rng_uniform(&rng) < 1 / (1 + exp(-eta)) : eta + soothe__rng_normal(&rng);
    }
    must(soothe__design_from_cells(dense, cells, N, Q, &err), &err);
    must(soothe__design_from_sparse(sparse, N, Q, starts, rows, values, &err), &err);
    free(cells);
}

/* ---- scikit-learn --------------------------------------------------------------------------------------- */

/* Compares one family's figures, all lambdas, with one path. Tolerance 1e-4: that of the two solvers' ends. */
static void compare_with_reference(enum soothe__lasso_family family, const struct example *e) {
    struct soothe__lasso_problem problem = {family, &e->x, e->y, e->w};
    struct soothe__lasso_path    path;
    const double                 binomial[] = {0.1, 0.03, 0.01}, gaussian[] = {0.2, 0.05, 0.01};
    const double                *lambdas = family == SOOTHE__BINOMIAL ? binomial : gaussian;
    must(soothe__lasso_path(&path, &problem, lambdas, 3, 0, &err), &err);
    assert_int_equal(path.n_points, 3);
    struct soothe__rows *rows;
    char                *file       = data_path("reference.csv");
    size_t               n_compared = 0, n_nonzero = 0;
    must(soothe__rows_open(&rows, file, false, &err), &err);
    for (bool more;;) {
        must(soothe__rows_next(rows, &more, &err), &err);
        if (!more)
            break;
        double lambda, wanted, found = 0;
        if (strcmp(soothe__rows_field(rows, "family"), family == SOOTHE__BINOMIAL ? "binomial" : "gaussian") != 0)
            continue;
        must(soothe__rows_number(rows, "lambda", 0, 1, &lambda, &err), &err);
        must(soothe__rows_number(rows, "coefficient", -100, 100, &wanted, &err), &err);
        const char *name = soothe__rows_field(rows, "feature");
        size_t      l    = 0;
        while (lambdas[l] != lambda)
            l++;
        if (!strcmp(name, "(intercept)"))
            found = path.points[l].intercept;
        for (size_t k = 0; k < path.points[l].n_terms; k++)
            if (!strcmp(name, e->names[path.points[l].terms[k].j]))
                found = path.points[l].terms[k].b * path.sd[path.points[l].terms[k].j];
        if (fabs(found - wanted) > 1e-4)
            fail_msg("lambda %g, %s: %.9f, scikit-learn %.9f", lambda, name, found, wanted);
        n_compared++;
        n_nonzero += wanted != 0;
    }
    soothe__rows_close(rows, NULL, NULL);
    assert_int_equal(n_compared, 3 * (e->q + 1));
    assert_true(n_nonzero > 12);
    soothe__lasso_path_free(&path);
    free(file);
}

static void test_binomial_coefficients_are_those_of_scikit_learn(void **state) {
    (void)state;
    struct example e;
    read_example(&e, "breast_cancer.csv", "malignant", NULL);
    assert_int_equal(e.n, 569);
    compare_with_reference(SOOTHE__BINOMIAL, &e);
    free_example(&e);
}

static void test_gaussian_coefficients_are_those_of_scikit_learn(void **state) {
    (void)state;
    struct example e;
    read_example(&e, "wine.csv", "alcohol", "cultivar");
    assert_int_equal(e.n, 178);
    compare_with_reference(SOOTHE__GAUSSIAN, &e);
    free_example(&e);
}

/* ---- the optimum's own conditions --------------------------------------------------------------------------- */

/* |x~_j'(y - mu)/n| <= lambda w_j, with equality and b_j's sign where b_j is not 0; sum(y - mu) = 0. Found from the
 * path's coefficients alone, column by column. */
static void check_kkt(const struct soothe__lasso_problem *p, const struct soothe__lasso_path *path, size_t l,
                      double tolerance) {
    const struct soothe__lasso_point *point = &path->points[l];
    const size_t                      n     = p->x->n_rows;
    double                           *r     = soothe__calloc(n, sizeof *r);
    double                           *x     = soothe__calloc(n, sizeof *x);
    double                            sum   = 0;
    soothe__lasso_predict(r, point, p->x);
    for (size_t i = 0; i < n; i++) {
        r[i] = p->y[i] - (p->family == SOOTHE__BINOMIAL ? 1 / (1 + exp(-r[i])) : r[i]);
        sum += r[i] / (double)n;
    }
    assert_true(fabs(sum) < tolerance);
    size_t k = 0;
    for (size_t j = 0; j < p->x->n_columns; j++) {
        const struct soothe__column *c        = &p->x->columns[j];
        double                       gradient = 0;
        memset(x, 0, n * sizeof *x);
        for (size_t v = 0; v < c->n_values; v++)
            x[c->rows ? c->rows[v] : v] = c->values[v];
        for (size_t i = 0; i < n; i++)
            gradient += (x[i] - path->mean[j]) / path->sd[j] * r[i] / (double)n;
        const double limit = point->lambda * (p->w ? p->w[j] : 1);
        if (k < point->n_terms && point->terms[k].j == j)
            assert_true(fabs(gradient - copysign(limit, point->terms[k++].b)) < tolerance);
        else
            assert_true(fabs(gradient) < limit + tolerance);
    }
    assert_int_equal(k, point->n_terms);
    free(r);
    free(x);
}

static void check_path(const struct soothe__lasso_problem *p, size_t n_least) {
    enum { L = 40 };
    struct soothe__lasso_path path;
    double                    lambdas[L], largest;
    must(soothe__lasso_lambda_max(&largest, p, &err), &err);
    for (int l = 0; l < L; l++)
        lambdas[l] = largest * pow(0.01, l / (L - 1.0));
    must(soothe__lasso_path(&path, p, lambdas, L, 0, &err), &err);
    assert_false(path.gave_up);
    assert_int_equal(path.n_points, L);
    assert_int_equal(path.points[0].n_terms, 0);
    assert_true(path.points[1].n_terms > 0);
    if (path.points[L - 1].n_terms < n_least)
        fail_msg("only %zu features at the end", path.points[L - 1].n_terms);
    for (size_t l = 0; l < L; l++)
        check_kkt(p, &path, l, 1e-6 * largest);
    soothe__lasso_path_free(&path);
}

static void test_every_solution_satisfies_the_kkt_conditions(void **state) {
    (void)state;
    struct example e;
    read_example(&e, "breast_cancer.csv", "malignant", NULL);
    check_path(&(struct soothe__lasso_problem){SOOTHE__BINOMIAL, &e.x, e.y, e.w}, 8);
    check_path(&(struct soothe__lasso_problem){SOOTHE__GAUSSIAN, &e.x, e.y, NULL}, 8);
    free_example(&e);
    for (int binomial = 0; binomial < 2; binomial++) {
        struct soothe__design sparse, dense;
        double                y[300], w[40];
        for (int j = 0; j < 40; j++)
            w[j] = 0.2 + j % 5;
        make_counts(&sparse, &dense, y, binomial);
        check_path(&(struct soothe__lasso_problem){binomial ? SOOTHE__BINOMIAL : SOOTHE__GAUSSIAN, &sparse, y, w}, 8);
        soothe__design_free(&sparse);
        soothe__design_free(&dense);
    }
}

static void test_sparse_columns_give_what_dense_ones_give(void **state) {
    (void)state;
    struct soothe__design     sparse, dense;
    struct soothe__lasso_path a, b;
    double                    y[300];
    const double              lambdas[] = {0.2, 0.1, 0.05, 0.02, 0.01};
    make_counts(&sparse, &dense, y, true);
    must(soothe__lasso_path(&a, &(struct soothe__lasso_problem){SOOTHE__BINOMIAL, &sparse, y, NULL}, lambdas, 5, 0,
                            &err),
         &err);
    must(
        soothe__lasso_path(&b, &(struct soothe__lasso_problem){SOOTHE__BINOMIAL, &dense, y, NULL}, lambdas, 5, 0, &err),
        &err);
    for (size_t l = 0; l < 5; l++) {
        assert_int_equal(a.points[l].n_terms, b.points[l].n_terms);
        for (size_t k = 0; k < a.points[l].n_terms; k++)
            assert_true(fabs(a.points[l].terms[k].b - b.points[l].terms[k].b) < 1e-6);
    }
    soothe__lasso_path_free(&a);
    soothe__lasso_path_free(&b);
    soothe__design_free(&sparse);
    soothe__design_free(&dense);
}

static void test_a_cold_start_ends_where_the_warm_path_does(void **state) {
    (void)state;
    struct example            e;
    struct soothe__lasso_path warm, cold;
    const double              lambdas[] = {0.3, 0.1, 0.03, 0.01, 0.003};
    read_example(&e, "breast_cancer.csv", "malignant", NULL);
    const struct soothe__lasso_problem p = {SOOTHE__BINOMIAL, &e.x, e.y, e.w};
    must(soothe__lasso_path(&warm, &p, lambdas, 5, 1e-12, &err), &err);
    must(soothe__lasso_path(&cold, &p, lambdas + 4, 1, 1e-12, &err), &err);
    assert_int_equal(warm.points[4].n_terms, cold.points[0].n_terms);
    for (size_t k = 0; k < cold.points[0].n_terms; k++) {
        const uint32_t j = cold.points[0].terms[k].j;
        assert_true(fabs(warm.points[4].terms[k].b - cold.points[0].terms[k].b) * cold.sd[j] < 1e-4);
    }
    soothe__lasso_path_free(&warm);
    soothe__lasso_path_free(&cold);
    free_example(&e);
}

/* ---- what must not stop it ----------------------------------------------------------------------------------- */

static void test_constant_columns_and_separable_rows_are_survived(void **state) {
    (void)state;
    enum { N = 8 };
    struct soothe__design     x;
    struct soothe__lasso_path path;
    double                    cells[N * 3], y[N], lambdas[60];
    for (int i = 0; i < N; i++) {
        cells[3 * i]     = 5;         /* constant  */
        cells[3 * i + 1] = i;         /* separates */
        cells[3 * i + 2] = i * 1e200; /* too large to square */
        y[i]             = i >= N / 2;
    }
    for (int l = 0; l < 60; l++)
        lambdas[l] = 0.3 * pow(1e-8, l / 59.0);
    must(soothe__design_from_cells(&x, cells, N, 3, &err), &err);
    const struct soothe__lasso_problem p = {SOOTHE__BINOMIAL, &x, y, NULL};
    assert_int_equal(soothe__lasso_path(&path, &p, lambdas, 60, 0, &err), SOOTHE_E_NUMERIC);
    soothe__design_free(&x);
    for (int i = 0; i < N; i++)
        cells[3 * i + 2] = i % 3;
    must(soothe__design_from_cells(&x, cells, N, 3, &err), &err);
    must(soothe__lasso_path(&path, &p, lambdas, 60, 0, &err), &err);
    assert_true(path.n_points > 5 && path.n_points < 60); /* ended before the coefficients ran away */
    for (size_t l = 0; l < path.n_points; l++)
        for (size_t k = 0; k < path.points[l].n_terms; k++)
            assert_true(path.points[l].terms[k].j != 0 && isfinite(path.points[l].terms[k].b));
    soothe__lasso_path_free(&path);
    soothe__design_free(&x);
}

static void test_what_cannot_be_fitted_is_refused(void **state) {
    (void)state;
    struct soothe__design     x;
    struct soothe__lasso_path path;
    const double              cells[] = {1, 2, 3, 4}, lambdas[] = {0.1};
    const double              same[] = {1, 1, 1, 1}, good[] = {0, 1, 0, 1}, nan[] = {0, NAN, 0, 1}, w[] = {0};
    must(soothe__design_from_cells(&x, cells, 4, 1, &err), &err);
    struct soothe__lasso_problem p = {SOOTHE__BINOMIAL, &x, same, NULL};
    assert_int_equal(soothe__lasso_path(&path, &p, lambdas, 1, 0, &err), SOOTHE_E_ARGUMENT);
    p.y = nan;
    assert_int_equal(soothe__lasso_path(&path, &p, lambdas, 1, 0, &err), SOOTHE_E_NUMERIC);
    p.y = good;
    p.w = w;
    assert_int_equal(soothe__lasso_path(&path, &p, lambdas, 1, 0, &err), SOOTHE_E_ARGUMENT);
    soothe__design_free(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_binomial_coefficients_are_those_of_scikit_learn),
        cmocka_unit_test(test_gaussian_coefficients_are_those_of_scikit_learn),
        cmocka_unit_test(test_every_solution_satisfies_the_kkt_conditions),
        cmocka_unit_test(test_sparse_columns_give_what_dense_ones_give),
        cmocka_unit_test(test_a_cold_start_ends_where_the_warm_path_does),
        cmocka_unit_test(test_constant_columns_and_separable_rows_are_survived),
        cmocka_unit_test(test_what_cannot_be_fitted_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
