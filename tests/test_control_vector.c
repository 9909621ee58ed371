/* SPDX-License-Identifier: Apache-2.0
 * Control vectors: learnt as means say, in llama.cpp's format, and at work in a whole context. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/target_model.h"
#include "engine/text_tokens.h"
#include "fusion/control_vector.h"
#include "fusion/stage.h"
#include "methods/generate_with.h"
#include "test_support.h"
#include "tiny_model.h"
#include "train/control_vector_train.h"

#define TARGET "test_control_target.gguf"
#define OTHER "test_control_other.gguf"
#define DATA "test_control_data.jsonl"
#define OUT "test_control_out.gguf"
enum { D = 64, N_BLOCKS = 4, N_LAYERS = N_BLOCKS - 1 };

static struct soothe_error err;
static struct llama_model *model;

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    FILE *f = fopen(DATA, "w");
    if (!f ||
        fputs("{\"prompt\": \"ab\", \"chosen\": \" cd\", \"rejected\": \" xyz\"}\n"
              "{\"prompt\": \"\", \"chosen\": \"so it is\", \"rejected\": \"not so\"}\n",
              f) < 0 ||
        fclose(f))
        return -1;
    const struct soothe__control_vector_request r = {.model_path = TARGET,
                                                     .out_path   = OUT,
                                                     .data_paths = (const char *const[]){DATA},
                                                     .n_data     = 1,
                                                     .max_length = 64,
                                                     .n_threads  = 1,
                                                     .strength   = 0.5f};
    struct soothe__control_vector_report        report;
    return tiny_model_write(TARGET, &(struct tiny_options){.family = TINY_LLAMA, .seed = 5}) &&
                   tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_LLAMA, .seed = 6}) &&
                   soothe__control_vector_train(&r, &report, &err) == SOOTHE_OK && report.n_pairs == 2 &&
                   soothe__target_load(&model, TARGET, 0, &err) == SOOTHE_OK
               ? 0
               : -1;
}

static int tear_down(void **state) {
    (void)state;
    llama_model_free(model);
    unlink(TARGET);
    unlink(OTHER);
    unlink(DATA);
    unlink(OUT);
    return 0;
}

static struct soothe_session *new_session(void) {
    struct soothe_session       *s;
    struct soothe_session_params p = soothe_session_params_default();
    p.context.n_ctx                = 128;
    p.context.n_seq_max            = 2;
    p.context.n_threads = p.context.n_threads_batch = 1;
    must(soothe_session_new(&s, model, NULL, &p, &err), &err);
    return s;
}

/* Adds sign * the mean state of the completion's tokens at layer 2, read by another way: a session that is tapped. */
static void add_mean(double *sum, const char *prompt, const char *completion, double sign) {
    struct soothe_session *s = new_session();
    llama_token           *tokens;
    int32_t                n, first;
    must(soothe__tokenize_pair(&tokens, &n, &first, llama_model_get_vocab(model), prompt, strlen(prompt), completion,
                               strlen(completion), &err),
         &err);
    first = first < 1 ? 1 : first;
    must(soothe__session_tap(s, SOOTHE__LISTENER_CALLER, "l_out-2", &err), &err);
    for (int32_t i = 0; i < n; i++) {
        must(soothe_decode(s, llama_batch_get_one(tokens + i, 1), &err), &err);
        const float *h = soothe__session_tapped(s, SOOTHE__LISTENER_CALLER, 0);
        for (int k = 0; k < D && i >= first; k++)
            sum[k] += sign * (double)h[k] / (n - first);
    }
    free(tokens);
    soothe_session_free(s);
}

static void test_a_direction_is_the_mean_difference_of_the_layers_states(void **state) {
    (void)state;
    struct soothe__control_vector *v;
    double                         expected[D] = {0}, norm = 0, off = 0;
    must(soothe__control_vector_open(&v, OUT, TARGET, &err), &err);
    assert_int_equal(v->d, D);
    assert_int_equal(v->n_layers, N_LAYERS);
    assert_float_equal(v->strength, 0.5, 0);
    add_mean(expected, "ab", " cd", 0.5);
    add_mean(expected, "ab", " xyz", -0.5);
    add_mean(expected, "", "so it is", 0.5);
    add_mean(expected, "", "not so", -0.5);
    for (int k = 0; k < D; k++) {
        norm += expected[k] * expected[k];
        off += pow((double)v->values[D + k] - expected[k], 2); /* layer 2 is the second row */
    }
    assert_true(norm > 0 && sqrt(off / norm) < 1e-3);
    soothe__control_vector_free(v);
}

static void test_the_file_is_what_llama_cpp_loads(void **state) {
    (void)state;
    struct soothe__gguf g;
    uint32_t            n;
    must(soothe__gguf_open(&g, OUT, &err), &err);
    assert_string_equal(soothe__gguf_find_string(&g, "general.architecture"), "controlvector");
    assert_string_equal(soothe__gguf_find_string(&g, "controlvector.model_hint"), "llama");
    assert_false(soothe__gguf_find_u32(&g, "controlvector.layer_count", &n)); /* an i32 there */
    assert_int_equal(gguf_get_n_tensors(g.meta), N_LAYERS);
    assert_true(gguf_find_tensor(g.meta, "direction.1") >= 0 && gguf_find_tensor(g.meta, "direction.3") >= 0);
    soothe__gguf_close(&g);
}

static void test_another_model_and_other_files_are_refused(void **state) {
    (void)state;
    struct soothe__control_vector *v;
    assert_int_equal(soothe__control_vector_open(&v, OUT, OTHER, &err), SOOTHE_E_MISMATCH);
    assert_non_null(strstr(err.message, OTHER));
    assert_null(v);
    assert_int_equal(soothe__control_vector_open(&v, TARGET, TARGET, &err), SOOTHE_E_FORMAT);
}

/* ---- the method ------------------------------------------------------------------------------------------------ */

static struct soothe__chain   chain;
static struct soothe__applied applied;

static enum soothe_status apply(const char *words) {
    struct llama_context_params context = soothe_session_params_default().context;
    context.n_ctx                       = 128;
    context.n_seq_max                   = 3;
    context.n_threads = context.n_threads_batch = 1;
    chain                                       = (struct soothe__chain){.n = 0};
    applied                                     = (struct soothe__applied){.n = 0};
    enum soothe_status status                   = soothe__chain_add(&chain, words, &err);
    return status ? status : soothe__chain_apply(&applied, &chain, model, TARGET, &context, &err);
}

static void release(void) {
    soothe__applied_release(&applied);
    soothe__chain_free(&chain);
}

static void logits_of(struct soothe_session *s, float *z) {
    llama_token tokens[] = {65, 66, 67};
    must(soothe_decode(s, llama_batch_get_one(tokens, 3), &err), &err);
    memcpy(z, soothe_get_logits_ith(s, -1), (size_t)llama_vocab_n_tokens(llama_model_get_vocab(model)) * sizeof *z);
    soothe_clear(s);
}

static void test_at_strength_and_dose_0_logits_are_the_engines(void **state) {
    (void)state;
    float                  plain[512], z[512];
    const size_t           size = (size_t)llama_vocab_n_tokens(llama_model_get_vocab(model)) * sizeof *z;
    struct soothe_session *s    = new_session();
    logits_of(s, plain);
    soothe_session_free(s);
    must(apply("control-vector:strength=0:file=" OUT), &err);
    logits_of(applied.session, z);
    assert_memory_equal(z, plain, size);
    release();
    must(apply("control-vector:strength=2:file=" OUT), &err);
    logits_of(applied.session, z);
    assert_memory_not_equal(z, plain, size);
    must(soothe__session_set_dose(applied.session, -1, 0, &err), &err);
    logits_of(applied.session, z);
    assert_memory_equal(z, plain, size);
    release();
}

static void test_two_doses_in_one_context_are_refused(void **state) {
    (void)state;
    llama_token token = 65;
    must(apply("control-vector:strength=2:file=" OUT), &err);
    must(soothe_decode(applied.session, llama_batch_get_one(&token, 1), &err), &err);
    must(soothe__session_set_dose(applied.session, 0, 0.5f, &err), &err);
    assert_int_equal(soothe_decode(applied.session, llama_batch_get_one(&token, 1), &err), SOOTHE_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "acts on a whole context"));
    release();
}

struct heard {
    llama_token tokens[2][6];
    int32_t     n[2];
};

static void hear(void *user, const struct soothe__continuation *c) {
    struct heard *h = user;
    h->n[c->i_dose] = c->n_tokens;
    for (int32_t i = 0; i < c->n_tokens; i++)
        h->tokens[c->i_dose][i] = c->tokens[i].id;
}

static struct heard speak(const char *words, bool both) {
    static const float              DOSES[]  = {0, 1};
    const llama_token               tokens[] = {65, 66, 67};
    const struct soothe__prompt     p        = {.tokens = tokens, .n_tokens = 3};
    struct soothe__generate_options o        = soothe__generate_options_default();
    struct heard                    h        = {.n = {-1, -1}};
    must(apply(words), &err);
    o.n_predict = 6;
    o.doses     = DOSES;
    o.n_doses   = both ? 2 : 0;
    o.on_done   = hear;
    o.user      = &h;
    must(soothe__generate_with(&applied, &p, 1, &o, NULL, &err), &err);
    release();
    return h;
}

static void assert_same(const struct heard *a, int i, const struct heard *b, int k) {
    assert_int_equal(a->n[i], b->n[k]);
    assert_memory_equal(a->tokens[i], b->tokens[k], (size_t)a->n[i] * sizeof(llama_token));
}

static void test_a_comparison_runs_one_dose_after_the_other(void **state) {
    (void)state;
    const struct heard both  = speak("control-vector:strength=9:file=" OUT, true);
    const struct heard plain = speak("none", false), strong = speak("control-vector:strength=9:file=" OUT, false);
    assert_same(&both, 0, &plain, 0);
    assert_same(&both, 1, &strong, 0);
}

static void test_layers_that_do_not_exist_are_refused(void **state) {
    (void)state;
    assert_int_equal(apply("control-vector:last=4:file=" OUT), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "layers 1 to 3"));
    release();
    assert_int_equal(apply("control-vector:first=3:last=2:file=" OUT), SOOTHE_E_ARGUMENT);
    release();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_direction_is_the_mean_difference_of_the_layers_states),
        cmocka_unit_test(test_the_file_is_what_llama_cpp_loads),
        cmocka_unit_test(test_another_model_and_other_files_are_refused),
        cmocka_unit_test(test_at_strength_and_dose_0_logits_are_the_engines),
        cmocka_unit_test(test_two_doses_in_one_context_are_refused),
        cmocka_unit_test(test_a_comparison_runs_one_dose_after_the_other),
        cmocka_unit_test(test_layers_that_do_not_exist_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
