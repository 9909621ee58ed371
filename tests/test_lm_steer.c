/* SPDX-License-Identifier: Apache-2.0
 * LM-Steer's objective against PyTorch in float64 (figures of scripts/lm_steer_reference.py), and its method. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "methods/methods.h"
#include "test_support.h"
#include "train/train_core.h"
#include "train/train_pass.h"

enum { V = 40, D = 16, RANK = 3, N = 9, P = D * RANK };

static struct soothe_error err;
static uint16_t            head[V * D], h_t[N * D];
static float               log_p_t[N];

static float wave(int i, double a, double scale) {
    return (float)(scale * sin(a * i));
}

static struct soothe__train_core *new_core(enum soothe__precision precision) {
    const struct soothe__train_shape shape   = {.n_vocab = V, .d_tgt = D};
    struct soothe__train_options     options = soothe__train_options_default();
    struct soothe__train_core       *core;
    options.objective = SOOTHE__LM_STEER;
    options.precision = precision;
    options.rank      = RANK;
    options.epsilon   = 0.05f;
    options.clip      = 0;
    options.max_rows  = N;
    for (int i = 0; i < V * D; i++)
        head[i] = soothe__bf16_from_f32(wave(i, 0.37, 1.0));
    for (int i = 0; i < N * D; i++)
        h_t[i] = soothe__bf16_from_f32(wave(i, 0.53, 2.0));
    must(soothe__train_core_new(&core, &shape, &options, NULL, head, &err), &err);
    float *p = soothe__train_parameters(core, NULL);
    for (int i = 0; i < P; i++) {
        p[i]     = wave(i, 0.71, 0.6);
        p[P + i] = wave(i, 1.13, 0.6);
    }
    return core;
}

static struct soothe__train_batch batch(struct soothe__train_row *rows) {
    for (int i = 0; i < N; i++) {
        const enum soothe__row_kind kind = i % 3 == 0   ? SOOTHE__ROW_CHOSEN
                                           : i % 3 == 1 ? SOOTHE__ROW_REJECTED
                                                        : SOOTHE__ROW_PLAIN;
        rows[i]                          = (struct soothe__train_row){.next = 7 * i % V, .kind = kind, .i_pair = i / 3};
        log_p_t[i]                       = NAN;
    }
    return (struct soothe__train_batch){.n_rows = N, .rows = rows, .h_t = h_t, .log_p_t = log_p_t, .n_pairs = 3};
}

static double norm_of(const float *x) {
    double sum = 0;
    for (int i = 0; i < P; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static void test_loss_gradients_and_a_step_are_pytorchs(void **state) {
    (void)state;
    struct soothe__train_row         rows[N];
    const struct soothe__train_batch b    = batch(rows);
    struct soothe__train_core       *core = new_core(SOOTHE__PRECISION_F32);
    struct soothe__train_result      r;
    const float                     *g = soothe__train_gradients(core), *w = soothe__train_parameters(core, NULL);
    must(soothe__train_step(core, &b, 0, 0.01, &r, &err), &err);
    assert_float_equal(r.loss, 12.507682895, 2e-5);
    assert_float_equal(r.gradient_norm, 0.175632503, 2e-6);
    assert_float_equal(norm_of(g), 0.052629523, 1e-6);
    assert_float_equal(norm_of(g + P), 0.167561659, 2e-6);
    const double gradients[] = {0.000313205, 0.006977450, 0.009994609, 0.010473372, 0.031459715, 0.019615332};
    const double after[]     = {-0.009999681, -0.590200837, 0.546466470, -0.009999990, 0.589058810, 0.165634821};
    const int    places[]    = {0, 7, P - 1, P, P + 7, 2 * P - 1};
    for (int i = 0; i < 6; i++) {
        assert_float_equal(g[places[i]], gradients[i], 1e-6);
        assert_float_equal(w[places[i]], after[i], 2e-6);
    }
    float *matrix = soothe__low_rank_matrix(core);
    assert_float_equal(matrix[0 * D + 1], -0.001403462, 1e-6);
    assert_float_equal(matrix[5 * D + 2], 0.022916302, 1e-6);
    assert_float_equal(matrix[15 * D + 14], -0.024599194, 1e-6);
    free(matrix);
    soothe__train_core_free(core);
}

static void test_gradients_are_those_of_finite_differences(void **state) {
    (void)state;
    struct soothe__train_row         rows[N];
    const struct soothe__train_batch b    = batch(rows);
    struct soothe__train_core       *core = new_core(SOOTHE__PRECISION_F32);
    struct soothe__train_result      r, up, down;
    float                           *w = soothe__train_parameters(core, NULL), gradient[2 * P];
    must(soothe__train_gradient(core, &b, &r, &err), &err);
    memcpy(gradient, soothe__train_gradients(core), sizeof gradient);
    for (int i = 0; i < 2 * P; i += 5) {
        const float at = w[i], step = 0.2f;
        w[i] = at + step;
        must(soothe__train_gradient(core, &b, &up, &err), &err);
        w[i] = at - step;
        must(soothe__train_gradient(core, &b, &down, &err), &err);
        w[i] = at;
        assert_true(fabs((double)gradient[i] - (up.loss - down.loss) / (2 * (double)step)) < 2e-4);
    }
    soothe__train_core_free(core);
}

/* What is measured is what will be used: all rows with the plus, toxic ones too. */
static void test_evaluation_steers_every_row_alike(void **state) {
    (void)state;
    struct soothe__train_row         rows[N];
    const struct soothe__train_batch b    = batch(rows);
    struct soothe__train_core       *core = new_core(SOOTHE__PRECISION_F32);
    struct soothe__train_result      r;
    float                            log_p[N];
    must(soothe__train_evaluate(core, &b, log_p, NULL, NULL, &r, &err), &err);
    assert_float_equal(r.nll, 12.509697408, 2e-5);
    for (int i = 0; i < N; i++)
        assert_true(isfinite(log_p_t[i])); /* the plain model's, to compare with */
    soothe__train_core_free(core);
}

static void test_a_rank_beyond_the_width_is_refused(void **state) {
    (void)state;
    const struct soothe__train_shape shape   = {.n_vocab = V, .d_tgt = D};
    struct soothe__train_options     options = soothe__train_options_default();
    struct soothe__train_core       *core;
    options.objective = SOOTHE__LM_STEER;
    options.rank      = D + 1;
    assert_int_equal(soothe__train_core_new(&core, &shape, &options, NULL, head, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "rank from 1 to the width 16, not 17"));
}

static void test_the_method_is_in_the_table(void **state) {
    (void)state;
    const struct soothe__method *m = soothe__method_find("lm-steer");
    assert_non_null(m);
    assert_string_equal(m->stage, "state");
    assert_string_equal(m->parameters[0].name, "strength");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss_gradients_and_a_step_are_pytorchs),
        cmocka_unit_test(test_gradients_are_those_of_finite_differences),
        cmocka_unit_test(test_evaluation_steers_every_row_alike),
        cmocka_unit_test(test_a_rank_beyond_the_width_is_refused),
        cmocka_unit_test(test_the_method_is_in_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
