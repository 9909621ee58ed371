/* SPDX-License-Identifier: Apache-2.0
 * Likelihoods of texts against a slow loop: one text, one token at a time, sums in long double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "eval/perplexity.h"
#include "fusion/calibrator_file.h"
#include "test_support.h"
#include "tiny_model.h"

#define TARGET "test_perplexity_target.gguf"
#define CUT "test_perplexity_cut.gguf"
#define CALIBRATOR "test_perplexity_calibrator.gguf"

enum { N_CTX = 200, N_PAIRS = 24 };

static int tear_down(void **state) {
    (void)state;
    unlink(TARGET);
    unlink(CUT);
    unlink(CALIBRATOR);
    return 0;
}

/* ---- models and texts --------------------------------------------------------------------------- */

struct bench {
    struct llama_model       *target;
    struct soothe_calibrator *cal;
    struct soothe__corpus     corpus;
};

/* A residual calibrator of two blocks with random A and B, strong enough to move the logits. */
static void write_calibrator(int32_t d) {
    struct soothe_error err;
    struct soothe__rng  rng = soothe__rng_seed(5, 7);
    const size_t        n   = (size_t)(d * d);
    float              *a = soothe__calloc(n, sizeof *a), *b = soothe__calloc(n, sizeof *b);
    assert_true(a && b);
    for (size_t i = 0; i < n; i++) {
        a[i] = (float)(0.05 * soothe__rng_normal(&rng));
        b[i] = (float)(0.05 * soothe__rng_normal(&rng));
    }
    must(soothe_calibrator_init(TARGET, 2, CUT, &err), &err);
    const struct soothe__calibrator_spec spec = {.name        = "test",
                                                 .source_path = CUT,
                                                 .target_path = TARGET,
                                                 .form        = SOOTHE_FORM_RESIDUAL,
                                                 .strength    = 0.5f,
                                                 .d_cal       = d,
                                                 .d_tgt       = d,
                                                 .a           = a,
                                                 .b           = b,
                                                 .block_type  = GGML_TYPE_F32,
                                                 .matrix_type = GGML_TYPE_F32};
    must(soothe__calibrator_write(CALIBRATOR, &spec, &err), &err);
    free(a);
    free(b);
}

static struct bench open_bench(enum tiny_family family, bool nan_weight) {
    struct soothe_error err;
    struct bench        b = {0};
    assert_true(tiny_model_write(TARGET, &(struct tiny_options){.family = family, .seed = 3}));
    write_calibrator(64);
    struct soothe_calibrator_params p = soothe_calibrator_params_default();
    p.keep_type                       = true;
    must(soothe_calibrator_open(&b.cal, CALIBRATOR, TARGET, &p, &err), &err);
    if (nan_weight)
        assert_true(tiny_model_write(TARGET, &(struct tiny_options){.family = family, .seed = 3, .nan_weight = true}));
    b.target = llama_model_load_from_file(TARGET, llama_model_default_params());
    assert_non_null(b.target);
    soothe__corpus_init(&b.corpus);
    return b;
}

static void close_bench(struct bench *b) {
    soothe__corpus_free(&b->corpus);
    soothe_calibrator_free(b->cal);
    llama_model_free(b->target);
}

static void add_texts(struct bench *b, int32_t n_max) {
    struct soothe_error err;
    char                prompt[32], chosen[64], rejected[64], clean[64];
    for (int i = 0; i < N_PAIRS; i++) { /* more than one batch holds */
        snprintf(prompt, sizeof prompt, "prompt number %d", i % 10);
        snprintf(chosen, sizeof chosen, " is %d times as kind as the others", i * i);
        snprintf(rejected, sizeof rejected, " hates %d of them", 7 * i);
        snprintf(clean, sizeof clean, "%d sheep went over the hill, and then came back", i);
        must(soothe__corpus_add_pair(&b->corpus, i % 3 ? prompt : "", chosen, rejected, &err), &err);
        must(soothe__corpus_add_single(&b->corpus, i % 2 ? "" : prompt, clean, &err), &err);
    }
    must(soothe__corpus_tokenize(&b->corpus, llama_model_get_vocab(b->target), n_max, NULL, &err), &err);
}

/* ---- the slow way -------------------------------------------------------------------------------- */

static long double log_sum(const float *z, int32_t n) {
    long double largest = z[0], sum = 0;
    for (int32_t i = 0; i < n; i++)
        largest = fmaxl(largest, (long double)z[i]);
    for (int32_t i = 0; i < n; i++)
        sum += expl((long double)z[i] - largest);
    return largest + logl(sum);
}

struct slow {
    double log_plain, log_fused, kl;
};

static struct soothe_session *open_session(const struct bench *b, bool fused, float strength) {
    struct soothe_error          err;
    struct soothe_session       *s;
    struct soothe_session_params p = soothe_session_params_default();
    p.context.n_ctx                = 256;
    p.context.n_threads            = 1; /* single tokens of a tiny model: more threads only wait */
    p.strength                     = strength;
    must(soothe_session_new(&s, b->target, fused ? b->cal : NULL, &p, &err), &err);
    return s;
}

/* Adds what row i of a decoded piece says of the token after it. */
static void add_row(struct slow *r, const float *z_t, const float *z_f, llama_token next, int32_t n_vocab) {
    const long double lse_t = log_sum(z_t, n_vocab), lse_f = log_sum(z_f, n_vocab);
    r->log_plain += (double)((long double)z_t[next] - lse_t);
    r->log_fused += (double)((long double)z_f[next] - lse_f);
    for (int32_t k = 0; k < n_vocab; k++) {
        const long double log_t = (long double)z_t[k] - lse_t, log_f = (long double)z_f[k] - lse_f;
        r->kl += (double)(expl(log_t) * (log_t - log_f));
    }
}

/* Plain by llama_decode itself, fused by soothe_decode; `step` tokens at a time. */
static struct slow measure_slowly(struct llama_context *plain, struct soothe_session *fused,
                                  const struct soothe__text *t, int32_t n_vocab, int32_t step) {
    struct soothe_error err;
    struct slow         r = {0};
    struct llama_batch  b = llama_batch_init(step, 0, 1);
    llama_memory_clear(llama_get_memory(plain), true);
    soothe_clear(fused);
    for (int32_t from = 0; from + 1 < t->n_tokens; from += step) {
        b.n_tokens = t->n_tokens - 1 - from < step ? t->n_tokens - 1 - from : step;
        for (int32_t i = 0; i < b.n_tokens; i++) {
            b.token[i]     = t->tokens[from + i];
            b.pos[i]       = from + i;
            b.n_seq_id[i]  = 1;
            b.seq_id[i][0] = 0;
            b.logits[i]    = 1;
        }
        assert_int_equal(llama_decode(plain, b), 0);
        must(soothe_decode(fused, b, &err), &err);
        for (int32_t i = 0; i < b.n_tokens; i++)
            if (from + i >= t->first - 1)
                add_row(&r, llama_get_logits_ith(plain, i), llama_get_logits_ith(soothe_session_context(fused), i),
                        t->tokens[from + i + 1], n_vocab);
    }
    llama_batch_free(b);
    return r;
}

static struct slow *measure_all_slowly(const struct bench *b, float strength) {
    struct soothe_session      *fused = open_session(b, true, strength);
    struct llama_context_params cp    = llama_context_default_params();
    cp.n_ctx                          = 256;
    cp.n_threads                      = 1;
    struct llama_context *plain       = llama_init_from_model(b->target, cp);
    const int32_t         n_vocab     = llama_vocab_n_tokens(llama_model_get_vocab(b->target));
    struct slow          *slow        = soothe__calloc(b->corpus.n_texts, sizeof *slow);
    assert_true(plain && slow);
    for (size_t i = 0; i < b->corpus.n_texts; i++)
        slow[i] = measure_slowly(plain, fused, &b->corpus.texts[i], n_vocab, 1);
    llama_free(plain);
    soothe_session_free(fused);
    return slow;
}

/* Logits of the tiny models agree to about 2e-4 between a batch and single tokens (test_fusion.c: the KV cache is
 * in half precision); strength -1 triples them, and means of 5 and 6 nats agree to 3e-4. */
static const double TOLERANCE = 1e-3;

static void assert_near(double x, double expected, double tolerance) {
    if (!(fabs(x - expected) <= tolerance))
        fail_msg("%.9g is not within %g of %.9g", x, tolerance, expected);
}

/* ---- tests ---------------------------------------------------------------------------------------- */

static void check_against_slow(const struct bench *b, const struct soothe__ppl_at *at,
                               const struct soothe__ppl_sets *plain) {
    const struct soothe__corpus *c    = &b->corpus;
    struct slow                 *slow = measure_all_slowly(b, at->strength);
    double nll_plain = 0, nll_fused = 0, kl = 0, n = 0, right = 0, margin = 0, square = 0, n_unclear = 0;
    for (size_t i = 0; i < c->n_singles; i++) {
        const struct soothe__text *t = &c->texts[c->singles[i]];
        n += t->n_tokens - t->first;
        nll_plain -= slow[c->singles[i]].log_plain;
        nll_fused -= slow[c->singles[i]].log_fused;
        kl += slow[c->singles[i]].kl;
    }
    for (size_t i = 0; i < c->n_pairs; i++) {
        const struct slow *x = &slow[c->pairs[i].i_chosen], *y = &slow[c->pairs[i].i_rejected];
        const double       s = (x->log_fused - x->log_plain) - (y->log_fused - y->log_plain);
        right += s > 0;
        n_unclear += fabs(s) < 2e-3; /* the two ways may round to either side */
        margin += s;
        square += s * s;
    }
    const double p = right / (double)c->n_pairs, mean = margin / (double)c->n_pairs, n_pairs = (double)c->n_pairs;
    assert_int_equal(at->sets.clean.n_tokens, (size_t)n);
    assert_near(plain->clean.nll.value, nll_plain / n, TOLERANCE);
    assert_near(at->sets.clean.nll.value, nll_fused / n, TOLERANCE);
    assert_near(at->sets.clean.perplexity, exp(nll_fused / n), TOLERANCE * exp(nll_fused / n));
    assert_near(at->sets.clean.ratio, exp((nll_fused - nll_plain) / n), TOLERANCE);
    assert_near(at->sets.clean.nll_ratio, nll_fused / nll_plain, TOLERANCE);
    assert_near(at->sets.clean.nll_change.value, (nll_fused - nll_plain) / n, TOLERANCE);
    assert_near(at->kl.value, kl / n, TOLERANCE);
    assert_near(at->share.value, p, n_unclear / n_pairs + 1e-12);
    assert_true(n_unclear <= 2);
    if (n_unclear == 0)
        assert_near(at->share.error, sqrt(p * (1 - p) / (n_pairs - 1)), 1e-9); /* of a mean of zeros and ones */
    assert_near(at->margin.value, mean, 1e-3);
    assert_near(at->margin.error, sqrt((square / n_pairs - mean * mean) / (n_pairs - 1)), 1e-3);
    free(slow);
}

static void test_figures_equal_a_slow_loop_over_single_tokens(void **state) {
    (void)state;
    static const enum tiny_family families[] = {TINY_LLAMA, TINY_QWEN2, TINY_GEMMA3};
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        struct soothe_error              err;
        struct bench                     b           = open_bench(families[f], false);
        const float                      strengths[] = {0.3f, -1.0f};
        const struct soothe__ppl_options o           = {.strengths = strengths, .n_strengths = 2, .n_ctx = N_CTX};
        struct soothe__ppl_report        r;
        add_texts(&b, N_CTX);
        must(soothe__perplexity(&r, b.target, b.cal, &b.corpus, &o, &err), &err);
        assert_int_equal(r.n_at, 2);
        assert_int_equal(r.n_pairs, N_PAIRS);
        for (size_t k = 0; k < r.n_at; k++) {
            assert_true(r.at[k].strength == strengths[k]);
            check_against_slow(&b, &r.at[k], &r.plain);
        }
        soothe__ppl_report_free(&r);
        close_bench(&b);
    }
}

static void test_strength_zero_ties_every_pair_and_diverges_by_nothing(void **state) {
    (void)state;
    struct soothe_error              err;
    struct bench                     b           = open_bench(TINY_LLAMA, false);
    const float                      strengths[] = {0.0f, 1e-30f}; /* the second goes through fusion */
    const struct soothe__ppl_options o           = {.strengths = strengths, .n_strengths = 2, .n_ctx = N_CTX};
    struct soothe__ppl_report        r;
    add_texts(&b, N_CTX);
    must(soothe__perplexity(&r, b.target, b.cal, &b.corpus, &o, &err), &err);
    for (size_t k = 0; k < 2; k++) {
        assert_int_equal(r.at[k].n_ties, r.n_pairs);
        assert_true(r.at[k].share.value == 0.5 && r.at[k].share.error == 0.0);
        assert_true(r.at[k].margin.value == 0.0);
        assert_near(r.at[k].kl.value, 0.0, 1e-12);
        assert_true(r.at[k].sets.clean.nll.value == r.plain.clean.nll.value);
        assert_true(r.at[k].sets.clean.ratio == 1.0);
    }
    soothe__ppl_report_free(&r);
    close_bench(&b);
}

static char *long_text(size_t n_words) {
    char *text = soothe__calloc(n_words * 8 + 1, 1);
    assert_non_null(text);
    for (size_t i = 0; i < n_words; i++)
        snprintf(text + strlen(text), 9, " word%zu", i % 97);
    return text;
}

/* The tiny models read 256 positions; rotary ones go on beyond, which serves to test windows. Against pieces of
 * another length, not single tokens: for those the engine sums attention in half precision, and over 1500 keys
 * that shows in the third digit. */
static void test_a_text_of_several_windows_equals_the_slow_loop(void **state) {
    (void)state;
    struct soothe_error       err;
    struct bench              b           = open_bench(TINY_LLAMA, false);
    char                     *text        = long_text(500);
    const float               strengths[] = {0.7f, 0.2f};
    struct soothe__ppl_report r;
    must(soothe__corpus_add_single(&b.corpus, "a short prompt", text, &err), &err);
    must(soothe__corpus_add_single(&b.corpus, text, " after a long prompt", &err), &err);
    must(soothe__corpus_add_single(&b.corpus, "", " a short text in between", &err), &err);
    must(soothe__corpus_tokenize(&b.corpus, llama_model_get_vocab(b.target), 4096, NULL, &err), &err);
    assert_true(b.corpus.texts[0].n_tokens > 1500);
    const struct soothe__ppl_options o = {.strengths = strengths, .n_strengths = 2, .n_ctx = 4096};
    must(soothe__perplexity(&r, b.target, b.cal, &b.corpus, &o, &err), &err);
    for (size_t k = 0; k < 2; k++) {
        struct soothe_session       *fused = NULL;
        struct llama_context_params  cp    = llama_context_default_params();
        struct soothe_session_params p     = soothe_session_params_default();
        struct slow                  sum   = {0};
        double                       n     = 0;
        cp.n_ctx = p.context.n_ctx  = 4096;
        p.strength                  = strengths[k];
        struct llama_context *plain = llama_init_from_model(b.target, cp);
        must(soothe_session_new(&fused, b.target, b.cal, &p, &err), &err);
        for (size_t i = 0; i < 3; i++) {
            const struct slow x = measure_slowly(plain, fused, &b.corpus.texts[i], 300, 100);
            sum.log_fused += x.log_fused;
            sum.kl += x.kl;
            n += b.corpus.texts[i].n_tokens - b.corpus.texts[i].first;
        }
        assert_near(r.at[k].sets.clean.nll.value, -sum.log_fused / n, TOLERANCE);
        assert_near(r.at[k].kl.value, sum.kl / n, TOLERANCE);
        llama_free(plain);
        soothe_session_free(fused);
    }
    soothe__ppl_report_free(&r);
    free(text);
    close_bench(&b);
}

static void test_without_a_calibrator_only_the_plain_model_is_measured(void **state) {
    (void)state;
    struct soothe_error              err;
    struct bench                     b = open_bench(TINY_QWEN2, false);
    const struct soothe__ppl_options o = {.n_ctx = N_CTX};
    struct soothe__ppl_report        r;
    add_texts(&b, N_CTX);
    must(soothe__perplexity(&r, b.target, NULL, &b.corpus, &o, &err), &err);
    assert_int_equal(r.n_at, 0);
    assert_true(r.plain.clean.nll.value > 1.0 && r.plain.clean.ratio == 1.0);
    assert_int_equal(r.plain.chosen.n_texts, N_PAIRS);
    soothe__ppl_report_free(&r);
    close_bench(&b);
}

static void test_what_cannot_be_measured_is_refused_with_a_sentence(void **state) {
    (void)state;
    struct soothe_error        err;
    struct bench               b        = open_bench(TINY_LLAMA, false);
    const float                strength = 1.0f;
    struct soothe__ppl_options o        = {.strengths = &strength, .n_strengths = 1, .n_ctx = N_CTX};
    struct soothe__ppl_report  r;
    assert_int_equal(soothe__perplexity(&r, b.target, b.cal, &b.corpus, &o, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "no texts"));
    add_texts(&b, N_CTX);
    assert_int_equal(soothe__perplexity(&r, b.target, NULL, &b.corpus, &o, &err), SOOTHE_E_ARGUMENT);
    o.n_ctx = 8;
    assert_int_equal(soothe__perplexity(&r, b.target, b.cal, &b.corpus, &o, &err), SOOTHE_E_ARGUMENT);
    o.n_ctx = 16; /* less than the texts were cut to */
    assert_int_equal(soothe__perplexity(&r, b.target, b.cal, &b.corpus, &o, &err), SOOTHE_E_ARGUMENT);
    assert_null(r.at);
    close_bench(&b);
}

static void test_a_target_with_nan_weights_gives_an_error_not_figures(void **state) {
    (void)state;
    struct soothe_error              err;
    struct bench                     b        = open_bench(TINY_LLAMA, true);
    const float                      strength = 1.0f;
    const struct soothe__ppl_options o        = {.strengths = &strength, .n_strengths = 1, .n_ctx = N_CTX};
    struct soothe__ppl_report        r;
    add_texts(&b, N_CTX);
    assert_int_equal(soothe__perplexity(&r, b.target, b.cal, &b.corpus, &o, &err), SOOTHE_E_NUMERIC);
    assert_non_null(strstr(err.message, "not finite"));
    close_bench(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures_equal_a_slow_loop_over_single_tokens),
        cmocka_unit_test(test_strength_zero_ties_every_pair_and_diverges_by_nothing),
        cmocka_unit_test(test_a_text_of_several_windows_equals_the_slow_loop),
        cmocka_unit_test(test_without_a_calibrator_only_the_plain_model_is_measured),
        cmocka_unit_test(test_what_cannot_be_measured_is_refused_with_a_sentence),
        cmocka_unit_test(test_a_target_with_nan_weights_gives_an_error_not_figures),
    };
    return cmocka_run_group_tests(tests, quiet_engine, tear_down);
}
