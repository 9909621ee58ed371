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

/* Applies a chain to a target that is then let go of again; *strength: of its last method. */
static enum soothe_status apply(const char *words, const char *target, float *strength) {
    struct llama_model         *model;
    struct soothe__chain        chain   = {.n = 0};
    struct soothe__applied      a       = {.n = 0};
    struct llama_context_params context = soothe_session_params_default().context;
    context.n_ctx                       = 256;
    assert_int_equal(soothe__target_load(&model, target, 0, &err), SOOTHE_OK);
    enum soothe_status status = words ? soothe__chain_add(&chain, words, &err) : SOOTHE_OK;
    if (!status)
        status = soothe__chain_apply(&a, &chain, model, target, &context, &err);
    if (status == SOOTHE_OK) {
        assert_non_null(a.session);
        *strength = a.links[a.n - 1].strength;
    } else {
        assert_null(a.session);
        assert_int_equal(a.n, 0);
    }
    soothe__applied_release(&a);
    soothe__chain_free(&chain);
    llama_model_free(model);
    return status;
}

static void test_the_default_is_auto_and_fusion_takes_the_shipped_calibrator(void **state) {
    (void)state;
    float strength;
    assert_string_equal(soothe__method_find(NULL)->name, "auto");
    assert_int_equal(apply("fusion", TARGET, &strength), SOOTHE_OK);
    assert_float_equal(strength, 0.75, 0); /* what the file recommends */
}

static void test_given_values_are_taken(void **state) {
    (void)state;
    float strength;
    assert_int_equal(apply("fusion:strength=0.25:calibrator=" SHIPPED, TARGET, &strength), SOOTHE_OK);
    assert_float_equal(strength, 0.25, 0);
    assert_int_equal(apply("none+fusion:alpha=0.5", TARGET, &strength), SOOTHE_OK); /* another word for strength */
    assert_float_equal(strength, 0.5, 0);
}

static void test_none_is_plain_and_takes_nothing(void **state) {
    (void)state;
    float strength;
    assert_int_equal(apply("plain", OTHER, &strength), SOOTHE_OK);
    assert_float_equal(strength, 0, 0);
    assert_int_equal(apply("none:calibrator=x", TARGET, &strength), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "takes no calibrator"));
}

static void test_wrong_words_are_answered_with_the_right_ones(void **state) {
    (void)state;
    float strength;
    assert_int_equal(apply("magic", TARGET, &strength), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "there is no method \"magic\"; there are: auto, fusion"));
    assert_int_equal(apply("fusion:power=3", TARGET, &strength), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "method fusion takes no power; it has: strength, calibrator, base"));
    assert_int_equal(apply("fusion:strength=lots", TARGET, &strength), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "a number from -100 to 100 is wanted"));
    assert_int_equal(apply("fusion:strength", TARGET, &strength), SOOTHE_E_ARGUMENT);
    assert_int_equal(apply("fusion+", TARGET, &strength), SOOTHE_E_ARGUMENT);
}

static void test_a_chain_is_named_by_what_was_given(void **state) {
    (void)state;
    struct soothe__chain chain = {.n = 0};
    assert_int_equal(soothe__chain_add(&chain, "plain+fusion:strength=0.50,calibrator=/some/where.gguf", &err),
                     SOOTHE_OK);
    char *name = soothe__chain_name(&chain);
    assert_string_equal(name, "plain+fusion:strength=0.5:calibrator=where.gguf");
    free(name);
    soothe__chain_free(&chain);
}

static void test_auto_stands_for_a_chain(void **state) {
    (void)state;
    struct soothe__chain chain = {.n = 0};
    assert_int_equal(soothe__chain_add(&chain, "auto", &err), SOOTHE_OK);
    assert_true(soothe__chain_has_stage(&chain, "gate"));
    assert_string_equal(chain.items[chain.n - 1].method->name, "fusion");
    char *name = soothe__chain_name(&chain);
    assert_string_equal(name, "auto");
    free(name);
    assert_int_equal(soothe__chain_set(&chain, "strength", "1", &err), SOOTHE_OK); /* no longer what auto stands for */
    name = soothe__chain_name(&chain);
    assert_string_equal(name, "cfl+gate+fusion:strength=1"); /* the last one's; the others stay as they were chosen */
    free(name);
    soothe__chain_free(&chain);
    assert_int_equal(soothe__chain_add(&chain, "auto", &err), SOOTHE_OK);
    assert_int_equal(soothe__chain_set(&chain, "strength", "0", &err), SOOTHE_OK);
    name = soothe__chain_name(&chain);
    assert_string_equal(name, "cfl:strength=0+gate+fusion:strength=0");
    free(name);
    soothe__chain_free(&chain);
    assert_int_equal(soothe__chain_add(&chain, "auto:power=3", &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "it has no parameters"));
    soothe__chain_free(&chain);
}

static void test_a_shipped_calibrator_that_does_not_fit_shows_the_way_on(void **state) {
    (void)state;
    float strength;
    assert_int_equal(apply("fusion", OTHER, &strength), SOOTHE_E_MISMATCH);
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
        cmocka_unit_test(test_the_default_is_auto_and_fusion_takes_the_shipped_calibrator),
        cmocka_unit_test(test_given_values_are_taken),
        cmocka_unit_test(test_none_is_plain_and_takes_nothing),
        cmocka_unit_test(test_wrong_words_are_answered_with_the_right_ones),
        cmocka_unit_test(test_a_chain_is_named_by_what_was_given),
        cmocka_unit_test(test_auto_stands_for_a_chain),
        cmocka_unit_test(test_a_shipped_calibrator_that_does_not_fit_shows_the_way_on),
        cmocka_unit_test(test_a_missing_shipped_calibrator_shows_the_way_on),
        cmocka_unit_test(test_a_calibrator_is_no_target),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
