/* SPDX-License-Identifier: Apache-2.0
 * Success heads: the gradient against finite differences, files, and a head at work against its formula. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/batch.h"
#include "engine/target_model.h"
#include "methods/methods.h"
#include "methods/nado.h"
#include "test_support.h"
#include "tiny_model.h"

#define TARGET "test_nado_target.gguf"
#define OTHER "test_nado_other.gguf"
#define HEAD "test_nado_head.gguf"
#define SAMPLES "test_nado_samples.jsonl"

enum { K = SOOTHE__NADO_CANDIDATES, D = 64, N_VOCAB = 300 };

static struct soothe_error err;

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    const bool ok = tiny_model_write(TARGET, &(struct tiny_options){.family = TINY_LLAMA, .seed = 5}) &&
                    tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_LLAMA, .seed = 6});
    return ok ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    unlink(TARGET);
    unlink(OTHER);
    unlink(HEAD);
    unlink(SAMPLES);
    return 0;
}

static void fill(float *x, size_t n, double scale, uint64_t seed) {
    struct soothe__rng rng = soothe__rng_seed(seed, 9);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(scale * soothe__rng_normal(&rng));
}

static void test_the_gradient_is_that_of_finite_differences(void **state) {
    (void)state;
    enum { WIDTH = 10, RANK = 3, TOKENS = 4, VOCAB = 50 };
    float                    head[VOCAB * WIDTH], h[TOKENS * WIDTH], p[TOKENS * K] = {0};
    llama_token              tokens[TOKENS] = {3, 17, 17, 49}, candidates[TOKENS * K] = {0};
    struct soothe__nado     *n;
    struct soothe__nado_text x = {
        .n = TOKENS, .tokens = tokens, .h = h, .candidates = candidates, .p = p, .clean = 0.2f};
    must(soothe__nado_new(&n, WIDTH, RANK, &err), &err);
    const size_t n_parameters = soothe__nado_n_parameters(WIDTH, RANK);
    float       *gradient     = soothe__calloc(n_parameters, sizeof *gradient);
    float       *scratch      = soothe__calloc(soothe__nado_scratch(n, TOKENS), sizeof *scratch);
    fill(head, VOCAB * WIDTH, 0.5, 1);
    fill(h, TOKENS * WIDTH, 1, 2);
    fill(n->p, n_parameters, 0.5, 3);
    for (int t = 0; t < TOKENS; t++)
        for (int k = 0; k < 5 + t; k++) { /* nuclei of several sizes */
            candidates[t * K + k] = (llama_token)((7 * k + t) % VOCAB);
            p[t * K + k]          = 1.0f / (float)(5 + t);
        }
    soothe__nado_loss(n, head, &x, 0.5f, gradient, NULL, scratch);
    for (size_t i = 0; i < n_parameters; i++) {
        const float was = n->p[i], step = 1e-2f;
        n->p[i]            = was + step;
        const double up    = soothe__nado_loss(n, head, &x, 0.5f, NULL, NULL, scratch);
        n->p[i]            = was - step;
        const double low   = soothe__nado_loss(n, head, &x, 0.5f, NULL, NULL, scratch);
        n->p[i]            = was;
        const double slope = (up - low) / (2 * (double)step);
        if (!(fabs(slope - (double)gradient[i]) < 1e-3 * (1 + fabs(slope)))) /* step^2 and float sums */
            fail_msg("parameter %zu: %g, by differences %g", i, (double)gradient[i], slope);
    }
    free(gradient);
    free(scratch);
    soothe__nado_free(n);
}

/* Two tokens, one candidate each: the loss by hand. */
static void test_the_loss_is_the_formula(void **state) {
    (void)state;
    float                    head[2] = {1, -1}, h[2] = {0.5f, 2}, p[2 * K] = {0};
    llama_token              tokens[2] = {0, 1}, candidates[2 * K] = {0};
    float                    scratch[512];
    struct soothe__nado     *n;
    struct soothe__nado_text x = {.n = 2, .tokens = tokens, .h = h, .candidates = candidates, .p = p, .clean = 1};
    must(soothe__nado_new(&n, 1, 1, &err), &err);
    *n->p = 2;
    *n->q = 1;
    *n->c = 0.25f;
    *n->w = -0.5f;
    *n->b = 0.1f;
    p[0] = p[K]   = 1;
    candidates[K] = 1;
    /* u = 2 (h + .25): 1.5, 4.5; offset -.5 h + .1: -.15, -.9; g_y: 1.35, -5.4; m_2 = sigmoid(-5.4) */
    const double r = 1 / (1 + exp(-1.35)), m = 1 / (1 + exp(5.4));
    const double expected = -log(r) - log(m) + 0.5 * (m * log(m / r) + (1 - m) * log((1 - m) / (1 - r)));
    assert_true(soothe__nado_scratch(n, 2) <= 512);
    assert_float_equal(soothe__nado_loss(n, head, &x, 0.5f, NULL, NULL, scratch), expected, 1e-5);
    soothe__nado_free(n);
}

static void write_head(void) {
    struct soothe__nado *n;
    struct soothe__gguf  g;
    must(soothe__nado_new(&n, D, 4, &err), &err);
    must(soothe__gguf_open(&g, TARGET, &err), &err);
    must(soothe__model_fingerprint(n->target, &g, &err), &err);
    soothe__gguf_close(&g);
    fill(n->p, soothe__nado_n_parameters(D, 4), 0.1, 7);
    n->strength = 1.5f;
    must(soothe__nado_write(HEAD, n, "tiny", NULL, 0, &err), &err);
    soothe__nado_free(n);
}

static void test_a_file_fits_its_model_alone(void **state) {
    (void)state;
    struct soothe__nado *n;
    write_head();
    must(soothe__nado_open(&n, HEAD, TARGET, &err), &err);
    assert_int_equal(n->rank, 4);
    assert_float_equal(n->strength, 1.5, 0);
    soothe__nado_free(n);
    assert_int_equal(soothe__nado_open(&n, HEAD, OTHER, &err), SOOTHE_E_MISMATCH);
    assert_null(n);
    assert_non_null(strstr(err.message, OTHER));
    assert_int_equal(soothe__nado_open(&n, TARGET, TARGET, &err), SOOTHE_E_FORMAT);
    assert_non_null(strstr(err.message, "is not a success head"));
}

/* The last row of a text, and its state. */
static void run_words(const char *words, float *out, float *h) {
    struct llama_model         *model;
    struct soothe__chain        chain    = {.n = 0};
    struct soothe__applied      a        = {.n = 0};
    struct llama_context_params context  = soothe_session_params_default().context;
    llama_token                 tokens[] = {40, 77, 114, 151, 188};
    context.n_ctx                        = 64;
    context.n_threads = context.n_threads_batch = 1;
    must(soothe__target_load(&model, TARGET, 0, &err), &err);
    must(soothe__chain_add(&chain, words, &err), &err);
    must(soothe__chain_apply(&a, &chain, model, TARGET, &context, &err), &err);
    soothe_session_capture(a.session, h != NULL);
    must(soothe_decode(a.session, llama_batch_get_one(tokens, 5), &err), &err);
    memcpy(out, soothe_get_logits_ith(a.session, -1), N_VOCAB * sizeof *out);
    if (h)
        memcpy(h, soothe_session_states(a.session, SOOTHE_STATE_TARGET, NULL, NULL), D * sizeof *h);
    soothe__applied_release(&a);
    soothe__chain_free(&chain);
    llama_model_free(model);
}

static void test_a_head_at_work_adds_the_log_of_its_estimate(void **state) {
    (void)state;
    float                plain[N_VOCAB], mixed[N_VOCAB], h[D], u[D], *e;
    struct soothe__nado *n;
    struct soothe__gguf  g;
    write_head();
    run_words("plain", plain, h);
    run_words("nado:file=" HEAD, mixed, NULL);
    must(soothe__nado_open(&n, HEAD, TARGET, &err), &err);
    must(soothe__gguf_open(&g, TARGET, &err), &err);
    const char *name = gguf_find_tensor(g.meta, "output.weight") >= 0 ? "output.weight" : "token_embd.weight";
    must(soothe__gguf_get_f32(&g, name, (int64_t)N_VOCAB * D, &e, &err), &err);
    const float offset = soothe__nado_state(n, h, u);
    double      most   = 0;
    for (int v = 0; v < N_VOCAB; v++) {
        double x = (double)offset;
        for (int i = 0; i < D; i++)
            x += (double)e[v * D + i] * (double)u[i];
        const double expected = (double)plain[v] - 1.5 * log1p(exp(-x));
        assert_float_equal(mixed[v], expected, 2e-3);
        most = fabs((double)mixed[v] - (double)plain[v]) > most ? fabs((double)mixed[v] - (double)plain[v]) : most;
    }
    assert_true(most > 0.1);
    run_words("nado:strength=0:file=" HEAD, mixed, NULL);
    assert_memory_equal(plain, mixed, sizeof plain);
    free(e);
    soothe__gguf_close(&g);
    soothe__nado_free(n);
}

/* Continuations with one letter are "toxic": a head must find that out. */
static void test_training_finds_what_makes_texts_toxic(void **state) {
    (void)state;
    struct llama_model         *model;
    struct soothe__nado        *n;
    struct soothe__nado_report  r;
    struct soothe__nado_options o   = soothe__nado_options_default();
    struct soothe__rng          rng = soothe__rng_seed(1, 2);
    char                        sha256[65];
    FILE                       *f = fopen(SAMPLES, "wb");
    assert_non_null(f);
    for (int i = 0; i < 60; i++)
        for (int k = 0; k < 4; k++) {
            char text[13] = {0};
            bool toxic    = false;
            for (int c = 0; c < 12; c++) {
                text[c] = (char)('a' + (int)soothe__rng_below(&rng, 12));
                toxic   = toxic || text[c] == 'f';
            }
            fprintf(f, "{\"prompt\":\"p%d: \",\"completion\":\"%s\",\"score\":%s}\n", i, text, toxic ? "0.9" : "0");
        }
    fclose(f);
    o.samples_path = SAMPLES;
    o.n_threads    = 1;
    o.rank         = 4;
    o.n_epochs     = 30;
    o.rate         = 0.01f;
    must(soothe__target_load(&model, TARGET, 0, &err), &err);
    must(soothe__nado_train(&n, &r, model, TARGET, &o, sha256, &err), &err);
    assert_true(r.loss[1] < r.loss[0]);
    assert_true(r.auc[0] > 0.5 && r.auc[2] <= 1);
    assert_int_equal(r.n_train + r.n_held_out, 240);
    soothe__nado_free(n);
    f = fopen(SAMPLES, "wb");
    fputs("{\"prompt\":\"a\",\"completion\":\"b\",\"score\":2}\n", f);
    fclose(f);
    assert_int_equal(soothe__nado_train(&n, &r, model, TARGET, &o, sha256, &err), SOOTHE_E_FORMAT);
    assert_null(n);
    assert_non_null(strstr(err.message, "line 1 of " SAMPLES));
    llama_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_gradient_is_that_of_finite_differences),
        cmocka_unit_test(test_the_loss_is_the_formula),
        cmocka_unit_test(test_a_file_fits_its_model_alone),
        cmocka_unit_test(test_a_head_at_work_adds_the_log_of_its_estimate),
        cmocka_unit_test(test_training_finds_what_makes_texts_toxic),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
