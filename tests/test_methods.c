/* SPDX-License-Identifier: Apache-2.0
 * Methods by name, and the shipped calibrator. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/target_model.h"
#include "fusion/calibrator_file.h"
#include "methods/methods.h"
#include "test_support.h"
#include "tiny_model.h"

#define FOLDER "test_methods_models"
#define SHIPPED FOLDER "/default.calibrator.gguf"
#define TARGET "test_methods_target.gguf"
#define OTHER "test_methods_other.gguf"

static struct soothe_error err;

/* A calibrator without blocks for one target. */
static bool write_calibrator(const char *path, const char *target) {
    enum { D = 64 };
    float                               *b    = soothe__calloc(D * D, sizeof *b);
    const struct soothe__calibrator_spec spec = {.name        = "test",
                                                 .target_path = target,
                                                 .form        = SOOTHE_FORM_RESIDUAL,
                                                 .strength    = 0.75f,
                                                 .d_tgt       = D,
                                                 .b           = b,
                                                 .matrix_type = GGML_TYPE_F32};
    const bool                           ok   = b && soothe__calibrator_write(path, &spec, &err) == SOOTHE_OK;
    free(b);
    return ok;
}

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    setenv("SOOTHE_MODELS", FOLDER, 1);
    const bool ok = tiny_model_write(TARGET, &(struct tiny_options){.family = TINY_LLAMA, .seed = 5}) &&
                    tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_QWEN2, .seed = 6}) &&
                    soothe__make_folders(FOLDER, &err) == SOOTHE_OK && write_calibrator(SHIPPED, TARGET);
    return ok ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    unlink(SHIPPED);
    rmdir(FOLDER);
    unlink(TARGET);
    unlink(OTHER);
    return 0;
}

/* Applies a method to a target that is then let go of again; what m held stays readable but for its pointers. */
static enum soothe_status apply(struct soothe__applied_method *m, const char *name, const char *target,
                                struct soothe__method_options options) {
    struct llama_model *model;
    assert_int_equal(soothe__target_load(&model, target, 0, &err), SOOTHE_OK);
    options.context.n_ctx                = 256;
    const enum soothe_status      status = soothe__method_apply(m, name, model, target, &options, &err);
    struct soothe__applied_method held   = *m;
    if (status == SOOTHE_OK) {
        assert_non_null(m->session);
        assert_float_equal(soothe_session_strength(m->session, 0), m->strength, 0);
        soothe__method_release(&held);
    } else {
        assert_null(m->session);
        assert_null(m->state);
    }
    llama_model_free(model);
    return status;
}

static void test_the_default_is_fusion_with_the_shipped_calibrator(void **state) {
    (void)state;
    struct soothe__applied_method m;
    assert_int_equal(apply(&m, NULL, TARGET, soothe__method_options_default()), SOOTHE_OK);
    assert_string_equal(m.method->name, "fusion");
    assert_float_equal(m.strength, 0.75, 0); /* what the file recommends */
}

static void test_a_given_strength_is_taken(void **state) {
    (void)state;
    struct soothe__applied_method m;
    struct soothe__method_options o = soothe__method_options_default();
    o.calibrator_path               = SHIPPED;
    o.strength                      = 0.25f;
    assert_int_equal(apply(&m, "fusion", TARGET, o), SOOTHE_OK);
    assert_float_equal(m.strength, 0.25, 0);
}

static void test_none_is_plain_and_takes_no_calibrator(void **state) {
    (void)state;
    struct soothe__applied_method m;
    struct soothe__method_options o = soothe__method_options_default();
    assert_int_equal(apply(&m, "none", OTHER, o), SOOTHE_OK);
    assert_float_equal(m.strength, 0, 0);
    o.calibrator_path = SHIPPED;
    assert_int_equal(apply(&m, "none", TARGET, o), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "takes no calibrator"));
}

static void test_an_unknown_name_is_answered_with_those_there_are(void **state) {
    (void)state;
    struct soothe__applied_method m;
    assert_int_equal(apply(&m, "magic", TARGET, soothe__method_options_default()), SOOTHE_E_ARGUMENT);
    assert_string_equal(err.message, "there is no method \"magic\"; there are: fusion, none");
}

static void test_a_shipped_calibrator_that_does_not_fit_shows_the_way_on(void **state) {
    (void)state;
    struct soothe__applied_method m;
    assert_int_equal(apply(&m, "fusion", OTHER, soothe__method_options_default()), SOOTHE_E_MISMATCH);
    assert_non_null(strstr(err.message, "does not fit " OTHER));
    assert_non_null(strstr(err.message, "--calibrator"));
    assert_non_null(strstr(err.message, "--method none"));
}

static void test_a_missing_shipped_calibrator_shows_the_way_on(void **state) {
    (void)state;
    char *path;
    setenv("SOOTHE_MODELS", "/nonexistent", 1);
    assert_int_equal(soothe__default_calibrator(&path, &err), SOOTHE_E_IO);
    assert_null(path);
    assert_non_null(strstr(err.message, "/nonexistent/default.calibrator.gguf"));
    assert_non_null(strstr(err.message, "--calibrator"));
    setenv("SOOTHE_MODELS", FOLDER, 1);
    assert_int_equal(soothe__default_calibrator(&path, &err), SOOTHE_OK);
    assert_string_equal(path, SHIPPED);
    free(path);
}

static void test_a_calibrator_is_no_target(void **state) {
    (void)state;
    struct llama_model *model;
    assert_int_equal(soothe__target_load(&model, SHIPPED, 0, &err), SOOTHE_E_UNSUPPORTED);
    assert_null(model);
    assert_non_null(strstr(err.message, "--calibrator"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_default_is_fusion_with_the_shipped_calibrator),
        cmocka_unit_test(test_a_given_strength_is_taken),
        cmocka_unit_test(test_none_is_plain_and_takes_no_calibrator),
        cmocka_unit_test(test_an_unknown_name_is_answered_with_those_there_are),
        cmocka_unit_test(test_a_shipped_calibrator_that_does_not_fit_shows_the_way_on),
        cmocka_unit_test(test_a_missing_shipped_calibrator_shows_the_way_on),
        cmocka_unit_test(test_a_calibrator_is_no_target),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
