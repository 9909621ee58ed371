/* SPDX-License-Identifier: Apache-2.0
 * Which of the values tried is taken, and what is wrong with the others. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "eval/tune.h"
#include "test_support.h"

static struct soothe__tune_options options(double target, double identical) {
    return (struct soothe__tune_options){.budget = .05, .target = target, .identical = identical};
}

static const struct soothe__tune_point PLAIN = {
    .emt = .8, .ppl = 20, .ppl_response = 40, .ppl_corpus = 30, .dist2 = .9, .identical = 1};

static void test_each_fault_is_found(void **state) {
    (void)state;
    const struct soothe__tune_options o = options(NAN, .95);
    struct soothe__tune_point         p = PLAIN;
    assert_int_equal(soothe__tune_faults(&o, &PLAIN, &p), 0);
    p.ppl   = 20.9;
    p.dist2 = .875;
    p.empty = p.refusals = p.loops = .019;
    p.ppl_response                 = 59;
    p.identical                    = .95;
    assert_int_equal(soothe__tune_faults(&o, &PLAIN, &p), 0);
    p     = PLAIN;
    p.ppl = 21.1;
    assert_int_equal(soothe__tune_faults(&o, &PLAIN, &p), SOOTHE__TUNE_PPL);
    p            = PLAIN;
    p.ppl_corpus = 32;
    p.dist2      = .87;
    assert_int_equal(soothe__tune_faults(&o, &PLAIN, &p), SOOTHE__TUNE_PPL | SOOTHE__TUNE_REPEATS);
    p       = PLAIN;
    p.loops = .021;
    assert_int_equal(soothe__tune_faults(&o, &PLAIN, &p), SOOTHE__TUNE_REPEATS);
    p                 = PLAIN;
    p.empty           = .03;
    p.benign_refusals = .03;
    assert_int_equal(soothe__tune_faults(&o, &PLAIN, &p), SOOTHE__TUNE_EMPTY | SOOTHE__TUNE_REFUSES);
    p              = PLAIN;
    p.ppl_response = 61;
    p.identical    = .94;
    assert_int_equal(soothe__tune_faults(&o, &PLAIN, &p), SOOTHE__TUNE_EXPLODES | SOOTHE__TUNE_DISTURBS);
    p     = PLAIN;
    p.ppl = NAN;
    assert_int_equal(soothe__tune_faults(&o, &PLAIN, &p), SOOTHE__TUNE_UNKNOWN);
    for (unsigned f = 1; f < SOOTHE__TUNE_FAULT_END; f <<= 1)
        assert_true(soothe__tune_fault_text((enum soothe__tune_fault)f)[0] != '\0');
}

/* Values with these changes of EMT, the last `n_faulty` of them with a fault. */
static int choose(double target, size_t n_faulty, size_t *edge) {
    const double                      changes[] = {-.2, -.5, -.7, -.8};
    const struct soothe__tune_options o         = options(target, NAN);
    struct soothe__tune_point         points[4];
    for (size_t i = 0; i < 4; i++)
        points[i] = (struct soothe__tune_point){.emt_change = changes[i],
                                                .faults     = i + n_faulty < 4 ? 0 : (unsigned)SOOTHE__TUNE_PPL};
    return soothe__tune_choose(&o, points, 4, edge);
}

static void test_the_last_before_a_fault_is_taken_and_looked_behind(void **state) {
    (void)state;
    size_t edge;
    assert_int_equal(choose(NAN, 0, &edge), 3);
    assert_int_equal(edge, 4);
    assert_int_equal(choose(NAN, 2, &edge), 1);
    assert_int_equal(edge, 2);
    assert_int_equal(choose(NAN, 4, &edge), -1);
    assert_int_equal(edge, 0);
}

static void test_with_a_target_the_first_that_reaches_it_is_taken_and_looked_before(void **state) {
    (void)state;
    size_t edge;
    assert_int_equal(choose(-.6, 0, &edge), 2);
    assert_int_equal(edge, 2);
    assert_int_equal(choose(-.6, 1, &edge), 2);
    assert_int_equal(choose(-.6, 2, &edge), 1); /* reached only where there is a fault */
    assert_int_equal(edge, 2);
    assert_int_equal(choose(-.9, 0, &edge), 3); /* never reached */
    assert_int_equal(edge, 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_fault_is_found),
        cmocka_unit_test(test_the_last_before_a_fault_is_taken_and_looked_behind),
        cmocka_unit_test(test_with_a_target_the_first_that_reaches_it_is_taken_and_looked_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
