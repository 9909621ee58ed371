/* SPDX-License-Identifier: Apache-2.0
 * The choice of trust: a good prior is taken, a useless or hostile one costs nothing, and the test rows never count. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lasso/held_out.h"
#include "lasso/trust_curve.h"
#include "test_support.h"

enum { N = 160, Q = 60, N_TRUE = 6, N_TEST = 2000 };

static struct soothe_error err;

/* Standard normal features, of which the first N_TRUE count; y as the family has it. */
struct example {
    struct soothe__design x, x_test;
    double                y[N], y_test[N_TEST];
};

static void draw(struct soothe__design *x, double *y, size_t n, enum soothe__lasso_family family,
                 struct soothe__rng *rng) {
    double *cells = soothe__calloc(n * Q, sizeof *cells);
    for (size_t i = 0; i < n; i++) {
        double eta = 0;
        for (size_t j = 0; j < Q; j++) {
            cells[i * Q + j] = soothe__rng_normal(rng);
            eta += j < N_TRUE ? (j % 2 ? -0.7 : 0.7) * cells[i * Q + j] : 0;
        }
        y[i] =
            family == SOOTHE__BINOMIAL ? soothe__rng_uniform(rng) < 1 / (1 + exp(-eta)) : eta + soothe__rng_normal(rng);
    }
    must(soothe__design_from_cells(x, cells, n, Q, &err), &err);
    free(cells);
}

static void make_example(struct example *e, enum soothe__lasso_family family, uint64_t seed) {
    struct soothe__rng rng = soothe__rng_seed(seed, 0);
    draw(&e->x, e->y, N, family, &rng);
    draw(&e->x_test, e->y_test, N_TEST, family, &rng);
}

static void free_example(struct example *e) {
    soothe__design_free(&e->x);
    soothe__design_free(&e->x_test);
}

static struct soothe__llm_lasso_options options_of(enum soothe__lasso_family family) {
    struct soothe__llm_lasso_options o = soothe__llm_lasso_defaults();
    o.family                           = family;
    o.n_folds                          = 5;
    o.n_lambdas                        = 30;
    o.lambda_min_ratio                 = 0.03;
    o.n_threads                        = 1;
    return o;
}

static double test_loss(const struct soothe__llm_lasso *r, size_t t, const struct example *e,
                        enum soothe__lasso_family family) {
    struct soothe__judged judged;
    must(
        soothe__lasso_judge(&judged, &r->trusts[t].path.points[r->trusts[t].best], &e->x_test, e->y_test, family, &err),
        &err);
    return judged.loss;
}

/* Factors 2 for the features that count and 5 for the others, or the other way round. */
static void set_factors(double *factors, bool right) {
    for (int j = 0; j < Q; j++)
        factors[j] = (j < N_TRUE) == right ? 2 : 5;
}

static void test_a_right_prior_is_taken_and_lowers_the_test_loss(void **state) {
    (void)state;
    for (int family = 0; family < 2; family++) {
        double                   factors[Q], gained = 0;
        struct soothe__llm_lasso r;
        set_factors(factors, true);
        for (uint64_t seed = 1; seed <= 2; seed++) {
            struct example                         e;
            const struct soothe__llm_lasso_options o = options_of((enum soothe__lasso_family)family);
            make_example(&e, o.family, seed);
            must(soothe__llm_lasso(&r, &e.x, e.y, factors, &o, &err), &err);
            assert_true(r.chosen > 0);
            assert_true(r.trusts[r.chosen].gain > r.trusts[r.chosen].gain_error);
            gained += test_loss(&r, 0, &e, o.family) - test_loss(&r, r.chosen, &e, o.family);
            soothe__llm_lasso_free(&r);
            free_example(&e);
        }
        assert_true(gained / 2 > 0.01);
    }
}

static void test_a_hostile_prior_falls_back_to_the_plain_lasso(void **state) {
    (void)state;
    double factors[Q];
    set_factors(factors, false);
    for (int family = 0; family < 2; family++)
        for (uint64_t seed = 1; seed <= 2; seed++) {
            struct example                         e;
            struct soothe__llm_lasso               r;
            const struct soothe__llm_lasso_options o = options_of((enum soothe__lasso_family)family);
            make_example(&e, o.family, seed);
            must(soothe__llm_lasso(&r, &e.x, e.y, factors, &o, &err), &err);
            assert_int_equal(r.chosen, 0);
            assert_true(r.trusts[5].gain < 0);
            soothe__llm_lasso_free(&r);
            free_example(&e);
        }
}

/* Factors that are right, dealt out anew: on average over the draws no worse on the test rows than the plain Lasso, by
 * more than one standard error of the differences. */
static void test_a_shuffled_prior_is_not_worse_than_plain_beyond_noise(void **state) {
    (void)state;
    enum { DRAWS = 10 };
    double sum = 0, squares = 0;
    int    n_plain = 0;
    for (uint64_t seed = 1; seed <= DRAWS; seed++) {
        struct example                         e;
        struct soothe__llm_lasso               r;
        double                                 factors[Q];
        struct soothe__rng                     rng = soothe__rng_seed(seed, 9);
        const struct soothe__llm_lasso_options o   = options_of(SOOTHE__BINOMIAL);
        for (int j = 0; j < Q; j++) /* the share of low factors stays, their places do not */
            factors[j] = j < N_TRUE ? 2 : 5;
        for (uint32_t j = Q - 1; j > 0; j--) {
            const uint32_t k = soothe__rng_below(&rng, j + 1);
            const double   f = factors[j];
            factors[j]       = factors[k];
            factors[k]       = f;
        }
        make_example(&e, o.family, seed);
        must(soothe__llm_lasso(&r, &e.x, e.y, factors, &o, &err), &err);
        n_plain += r.chosen == 0;
        const struct soothe__lasso_trust *own = &r.trusts[r.chosen], *plain = &r.trusts[0];
        assert_true(own->cv_loss[own->best] <= plain->cv_loss[plain->best]);
        const double worse = test_loss(&r, r.chosen, &e, o.family) - test_loss(&r, 0, &e, o.family);
        sum += worse;
        squares += worse * worse;
        soothe__llm_lasso_free(&r);
        free_example(&e);
    }
    const double mean = sum / DRAWS, error = sqrt((squares / DRAWS - mean * mean) / (DRAWS - 1));
    if (mean > error || n_plain < DRAWS / 2)
        fail_msg("shuffled: %+.5f +- %.5f, plain chosen %d of %d times", mean, error, n_plain, DRAWS);
}

static void test_without_a_guard_the_largest_gain_is_taken(void **state) {
    (void)state;
    struct soothe__llm_lasso_options o = options_of(SOOTHE__BINOMIAL);
    double                           factors[Q];
    o.guard = 0;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct example           e;
        struct soothe__llm_lasso r;
        struct soothe__rng       rng = soothe__rng_seed(seed, 4);
        for (int j = 0; j < Q; j++)
            factors[j] = 2 + soothe__rng_below(&rng, 4);
        make_example(&e, o.family, seed);
        must(soothe__llm_lasso(&r, &e.x, e.y, factors, &o, &err), &err);
        assert_int_equal(r.chosen, r.proposed);
        for (size_t t = 0; t < r.n_trusts; t++)
            assert_true(r.trusts[t].gain <= r.trusts[r.chosen].gain);
        soothe__llm_lasso_free(&r);
        free_example(&e);
    }
}

static void test_figures_do_not_depend_on_threads(void **state) {
    (void)state;
    struct example                   e;
    struct soothe__llm_lasso         a, b;
    double                           factors[Q];
    struct soothe__llm_lasso_options o = options_of(SOOTHE__BINOMIAL);
    make_example(&e, o.family, 5);
    set_factors(factors, true);
    must(soothe__llm_lasso(&a, &e.x, e.y, factors, &o, &err), &err);
    o.n_threads = 2;
    must(soothe__llm_lasso(&b, &e.x, e.y, factors, &o, &err), &err);
    assert_int_equal(a.chosen, b.chosen);
    for (size_t t = 0; t < a.n_trusts; t++) {
        assert_int_equal(a.trusts[t].path.n_points, b.trusts[t].path.n_points);
        assert_memory_equal(a.trusts[t].cv_loss, b.trusts[t].cv_loss,
                            a.trusts[t].path.n_points * sizeof *a.trusts[t].cv_loss);
    }
    soothe__llm_lasso_free(&a);
    soothe__llm_lasso_free(&b);
    free_example(&e);
}

static void test_weights_of_every_power_sum_to_the_number_of_features(void **state) {
    (void)state;
    struct example                         e;
    struct soothe__llm_lasso               r;
    double                                 factors[Q];
    const struct soothe__llm_lasso_options o = options_of(SOOTHE__GAUSSIAN);
    make_example(&e, o.family, 6);
    for (int j = 0; j < Q; j++)
        factors[j] = 2 + j % 4;
    must(soothe__llm_lasso(&r, &e.x, e.y, factors, &o, &err), &err);
    assert_int_equal(r.n_trusts, 6);
    for (size_t t = 0; t < r.n_trusts; t++) {
        double sum = 0;
        for (size_t j = 0; j < Q; j++)
            sum += r.trusts[t].w[j];
        assert_true(fabs(sum - Q) < 1e-9);
        assert_true(fabs(r.trusts[t].w[1] / r.trusts[t].w[0] - pow(1.5, (double)t)) < 1e-9);
    }
    soothe__llm_lasso_free(&r);
    free_example(&e);
}

/* Two curves made by hand: plain 1.0, 0.6, 0.4 at 0, 2, 4 features; own 1.0, 0.4 at 0, 4. By hand: plain's area is
 * 1.6 + 1.0, own's 2.8, the gain (2.6 - 2.8) / 4. The second point of 2 features is worse and does not count. */
static void test_gain_is_the_area_between_hand_made_curves(void **state) {
    (void)state;
    struct soothe__lasso_point plain_points[] = {{.n_terms = 0}, {.n_terms = 2}, {.n_terms = 2}, {.n_terms = 4}};
    struct soothe__lasso_point own_points[]   = {{.n_terms = 0}, {.n_terms = 4}};
    double                     plain_mean[] = {1.0, 0.6, 0.7, 0.4}, own_mean[] = {1.0, 0.4};
    double plain_folds[] = {1.1, 0.7, 0.8, 0.5, 0.9, 0.5, 0.6, 0.3}, own_folds[] = {1.1, 0.5, 0.9, 0.3};
    struct soothe__llm_lasso r = {.n_trusts = 2, .n_folds = 2};
    r.trusts[0]                = (struct soothe__lasso_trust){
                       .path = {.n_points = 4, .points = plain_points}, .cv_loss = plain_mean, .fold_loss = plain_folds, .best = 3};
    r.trusts[1] = (struct soothe__lasso_trust){.power     = 1,
                                               .path      = {.n_points = 2, .points = own_points},
                                               .cv_loss   = own_mean,
                                               .fold_loss = own_folds,
                                               .best      = 1};
    must(soothe__compare_curves(&r, &err), &err);
    assert_int_equal(r.n_compared, 4);
    assert_true(fabs(r.trusts[1].gain - (2.6 - 2.8) / 4) < 1e-12);
    assert_true(fabs(r.trusts[1].gain_error) < 1e-7); /* both folds are shifted alike */
    assert_int_equal(soothe__lasso_best_within(&r.trusts[0], 3), 1);
}

static void test_rows_are_dealt_by_class_and_held_out_by_share(void **state) {
    (void)state;
    enum { ROWS = 103 };
    double             y[ROWS];
    uint32_t           part[ROWS];
    size_t             n[5] = {0}, n_positive[5] = {0}, n_held = 0, n_held_positive = 0;
    struct soothe__rng rng = soothe__rng_seed(1, 1);
    for (int i = 0; i < ROWS; i++)
        y[i] = i % 4 == 0; /* 26 of 103 */
    must(soothe__deal_rows(part, y, ROWS, 5, SOOTHE__BINOMIAL, &rng, &err), &err);
    for (int i = 0; i < ROWS; i++) {
        n[part[i]]++;
        n_positive[part[i]] += y[i] != 0;
    }
    for (int k = 0; k < 5; k++) {
        assert_in_range(n[k], 20, 21);
        assert_in_range(n_positive[k], 5, 6);
    }
    must(soothe__hold_out(part, y, ROWS, 0.2, SOOTHE__BINOMIAL, &rng, &err), &err);
    for (int i = 0; i < ROWS; i++) {
        n_held += part[i];
        n_held_positive += part[i] && y[i] != 0;
    }
    assert_int_equal(n_held, 20);
    assert_in_range(n_held_positive, 5, 6);
}

static void test_options_out_of_range_are_refused(void **state) {
    (void)state;
    struct example                   e;
    struct soothe__llm_lasso         r;
    double                           factors[Q];
    struct soothe__llm_lasso_options o = options_of(SOOTHE__BINOMIAL);
    make_example(&e, o.family, 7);
    set_factors(factors, true);
    o.n_folds = N;
    assert_int_equal(soothe__llm_lasso(&r, &e.x, e.y, factors, &o, &err), SOOTHE_E_ARGUMENT);
    o           = options_of(SOOTHE__BINOMIAL);
    o.max_power = SOOTHE__POWERS_MAX + 1;
    assert_int_equal(soothe__llm_lasso(&r, &e.x, e.y, factors, &o, &err), SOOTHE_E_ARGUMENT);
    o          = options_of(SOOTHE__BINOMIAL);
    factors[3] = 0;
    assert_int_equal(soothe__llm_lasso(&r, &e.x, e.y, factors, &o, &err), SOOTHE_E_ARGUMENT);
    volatile sig_atomic_t stop = 1;
    factors[3]                 = 2;
    o.interrupted              = &stop;
    assert_int_equal(soothe__llm_lasso(&r, &e.x, e.y, factors, &o, &err), SOOTHE_E_INTERRUPTED);
    free_example(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_right_prior_is_taken_and_lowers_the_test_loss),
        cmocka_unit_test(test_a_hostile_prior_falls_back_to_the_plain_lasso),
        cmocka_unit_test(test_a_shuffled_prior_is_not_worse_than_plain_beyond_noise),
        cmocka_unit_test(test_without_a_guard_the_largest_gain_is_taken),
        cmocka_unit_test(test_figures_do_not_depend_on_threads),
        cmocka_unit_test(test_weights_of_every_power_sum_to_the_number_of_features),
        cmocka_unit_test(test_gain_is_the_area_between_hand_made_curves),
        cmocka_unit_test(test_rows_are_dealt_by_class_and_held_out_by_share),
        cmocka_unit_test(test_options_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
