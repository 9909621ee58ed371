/* SPDX-License-Identifier: Apache-2.0
 * CMD: spans found, gaps filled as the formulas of infill.h say (recomputed here by plain decoding), prompts changed
 * and told, clean ones left as they are. */
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
#include "methods/generate_with.h"
#include "methods/infill.h"
#include "methods/rewrite.h"
#include "methods/toxic_spans.h"
#include "test_support.h"
#include "tiny_model.h"

#define TARGET "test_cmd_target.gguf"

static struct soothe_error         err;
static struct llama_model         *model;
static const struct llama_vocab   *vocab;
static struct llama_context_params context;

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    context            = soothe_session_params_default().context;
    context.n_ctx      = 512;
    context.n_seq_max  = 9;
    context.kv_unified = true;
    context.n_threads = context.n_threads_batch = 1;
    if (!tiny_model_write(TARGET, &(struct tiny_options){.family = TINY_LLAMA, .seed = 5}) ||
        soothe__target_load(&model, TARGET, 0, &err))
        return -1;
    vocab = llama_model_get_vocab(model);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    llama_model_free(model);
    unlink(TARGET);
    return 0;
}

static llama_token *tokens_of(const char *text, int32_t *n) {
    llama_token *tokens;
    must(soothe__tokenize(&tokens, n, vocab, text, strlen(text), 0, &err), &err);
    return tokens;
}

/* ---- spans -------------------------------------------------------------------------------------------------- */

static void test_rises_of_one_token_and_of_two_are_marked(void **state) {
    (void)state;
    const double m[]      = {9, 0, 1, 3, 3.5, 0, 4, 4}; /* the first tells nothing */
    bool         marks[8] = {false};
    soothe__mark_rises(marks, m, 8, 2.9);
    /* two: m3 - m1 = 3 marks 2 and 3; one: m6 - m5 = 4 marks 6; two: m7 - m5 = 4 marks 6 and 7 */
    const bool expected[] = {false, false, true, true, false, false, true, true};
    assert_memory_equal(marks, expected, sizeof marks);
}

static void assert_spans(const struct soothe__span_finder *f, const char *text, const char *marked) {
    int32_t                    n;
    llama_token               *tokens = tokens_of(text, &n);
    struct soothe__token_span *spans;
    size_t                     n_spans;
    char                       found[256];
    memset(found, '.', sizeof found);
    must(soothe__toxic_spans(&spans, &n_spans, f, vocab, tokens, n, &err), &err);
    struct soothe__token_places p;
    must(soothe__token_places(&p, vocab, tokens, n, &err), &err);
    for (size_t i = 0; i < n_spans; i++)
        for (int32_t k = spans[i].from ? p.end[spans[i].from - 1] : 0; k < p.end[spans[i].to - 1]; k++)
            found[k] = '#';
    found[strlen(text)] = '\0';
    assert_string_equal(p.text, text);
    assert_string_equal(found, marked);
    soothe__token_places_free(&p);
    free(spans);
    free(tokens);
}

static void test_whole_words_of_the_lexicon_are_found(void **state) {
    (void)state;
    const struct soothe__span_finder f = {.detector = SOOTHE__SPANS_LEXICON, .threshold = 0.1};
    assert_spans(&f, "you idiot, go", "....#####....");
    assert_spans(&f, "a fine day", "..........");
    assert_spans(&f, "", "");
}

/* ---- infill --------------------------------------------------------------------------------------------------- */

static double log_p_behind(struct soothe_session *s, const llama_token *tokens, int32_t n, llama_token next) {
    soothe_clear(s);
    struct llama_batch b = llama_batch_get_one((llama_token *)(uintptr_t)tokens, n);
    must(soothe_decode(s, b, &err), &err);
    const float *z       = llama_get_logits_ith(soothe_session_context(s), -1);
    double       sum     = 0;
    const int    n_vocab = llama_vocab_n_tokens(vocab);
    for (int v = 0; v < n_vocab; v++)
        sum += exp((double)z[v]);
    return (double)z[next] - log(sum);
}

static void test_fills_are_cut_and_judged_by_what_stands_on_their_right(void **state) {
    (void)state;
    enum { K = 6, MOST = 7 };
    struct soothe_session       *s, *plain;
    struct soothe_session_params params = soothe_session_params_default();
    struct soothe__fill          fills[K], again[K];
    struct soothe__sampling      sampling = soothe__sampling_default();
    int32_t                      n_left, n_right;
    llama_token *left = tokens_of("some left", &n_left), *right = tokens_of(" right", &n_right), all[64];
    params.context = context;
    must(soothe_session_new(&s, model, NULL, &params, &err), &err);
    must(soothe_session_new(&plain, model, NULL, &params, &err), &err);
    const struct soothe__gap gap = {
        .last = left[n_left - 1], .n_left = n_left, .right = right, .n_right = n_right, .n_most = MOST};
    must(soothe__append_tokens(s, 0, 0, left, n_left - 1, &err), &err);
    must(soothe__infill(s, &gap, &sampling, 3, 40, K, fills, &err), &err);
    must(soothe__infill(s, &gap, &sampling, 3, 40, K, again, &err), &err); /* sequence 0 is as before */
    int n_any = 0;
    for (int k = 0; k < K; k++) {
        assert_int_equal(fills[k].n, again[k].n);
        assert_true(fills[k].n <= MOST);
        if (fills[k].n == 0)
            continue;
        n_any++;
        assert_memory_equal(fills[k].tokens, again[k].tokens, (size_t)fills[k].n * sizeof(llama_token));
        memcpy(all, left, (size_t)n_left * sizeof *all);
        memcpy(all + n_left, fills[k].tokens, (size_t)fills[k].n * sizeof *all);
        memcpy(all + n_left + fills[k].n, right, (size_t)n_right * sizeof *all);
        double sum = 0, best = 0;
        for (int32_t i = 0; i < n_right; i++) {
            const double log_p = log_p_behind(plain, all, n_left + fills[k].n + i, right[i]);
            sum += log_p;
            best = i ? best : log_p;
        }
        assert_true(fabs(fills[k].log_p_right - sum / n_right) < 2e-3);
        for (int32_t j = 1; j < fills[k].n; j++) {
            char byte = 0;
            soothe__token_bytes(vocab, fills[k].tokens[j - 1], &byte, 1);
            if (byte != ' ' && byte != '\t')
                assert_true(log_p_behind(plain, all, n_left + j, right[0]) <= best + 2e-3);
        }
    }
    assert_true(n_any > K / 2);
    free(left);
    free(right);
    soothe_session_free(s);
    soothe_session_free(plain);
}

/* ---- the method ---------------------------------------------------------------------------------------------- */

enum { N_PREDICT = 6 };
struct heard {
    llama_token tokens[N_PREDICT];
    int32_t     n;
    size_t      n_events;
    int32_t     span[2];
    char        text[256];
};

static void hear(void *user, const struct soothe__continuation *c) {
    struct heard *h = user;
    h->n            = c->n_tokens;
    for (int32_t i = 0; i < c->n_tokens; i++)
        h->tokens[i] = c->tokens[i].id;
}

static struct heard speak(const char *words, const char *text) {
    struct heard                    h     = {.n = -1};
    struct soothe__chain            chain = {.n = 0};
    struct soothe__applied          a;
    struct soothe__prompt           p      = {.stream = 3};
    llama_token                    *tokens = tokens_of(text, &p.n_tokens);
    struct soothe__generate_options o      = soothe__generate_options_default();
    must(soothe__chain_add(&chain, words, &err), &err);
    must(soothe__chain_apply(&a, &chain, model, TARGET, &context, &err), &err);
    p.tokens    = tokens;
    o.n_predict = N_PREDICT;
    o.on_done   = hear;
    o.user      = &h;
    must(soothe__generate_with(&a, &p, 1, &o, NULL, &err), &err);
    h.n_events = a.n_events;
    if (a.n_events) {
        assert_int_equal(a.events[0].n_spans, 1);
        memcpy(h.span, a.events[0].spans[0], sizeof h.span);
        snprintf(h.text, sizeof h.text, "%s", a.events[0].text);
    }
    free(tokens);
    soothe__applied_release(&a);
    soothe__chain_free(&chain);
    return h;
}

static void assert_same(const struct heard *a, const struct heard *b) {
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->tokens, b->tokens, (size_t)a->n * sizeof(llama_token));
}

static void test_a_clean_prompt_is_continued_as_without_the_method(void **state) {
    (void)state;
    const struct heard plain = speak("none", "a fine day"), cleaned = speak("cmd", "a fine day");
    assert_same(&plain, &cleaned);
    assert_int_equal(cleaned.n_events, 0);
}

static void test_at_strength_0_nothing_is_changed(void **state) {
    (void)state;
    const struct heard plain = speak("none", "you idiot go"), off = speak("cmd:strength=0", "you idiot go");
    assert_same(&plain, &off);
    assert_int_equal(off.n_events, 0);
}

static void test_a_change_is_told_and_what_is_told_is_continued(void **state) {
    (void)state;
    const char *const  words = "cmd:detector=lexicon:threshold=0.1";
    const struct heard h = speak(words, "you idiot go"), again = speak(words, "you idiot go");
    assert_int_equal(h.n_events, 1);
    assert_int_equal(h.span[0], 4);
    assert_int_equal(h.span[1], 9);
    assert_null(strstr(h.text, "idiot"));
    assert_memory_equal(h.text, "you ", 4);
    assert_string_equal(h.text + strlen(h.text) - 3, " go");
    assert_string_equal(h.text, again.text);
    const struct heard r = speak("none", h.text); /* byte tokens: the text gives its tokens back */
    assert_same(&h, &r);
}

static void test_a_prompt_of_one_toxic_word_leaves_something_to_continue(void **state) {
    (void)state;
    const struct heard h = speak("cmd:detector=lexicon:threshold=0.1", "idiot");
    assert_int_equal(h.n_events, 1);
    assert_null(strstr(h.text, "idiot"));
    assert_true(h.n >= 0);
}

static enum soothe_status apply(const char *words) {
    struct soothe__chain   chain  = {.n = 0};
    struct soothe__applied a      = {.n = 0};
    enum soothe_status     status = soothe__chain_add(&chain, words, &err);
    if (!status)
        status = soothe__chain_apply(&a, &chain, model, TARGET, &context, &err);
    soothe__applied_release(&a);
    soothe__chain_free(&chain);
    return status;
}

static void test_wrong_parameters_are_refused(void **state) {
    (void)state;
    assert_int_equal(apply("cmd:threshold=5"), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "a toxicity over 0 and up to 1"));
    assert_int_equal(apply("cmd:probe=x.gguf"), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "detector=probe alone"));
    assert_int_equal(apply("cmd:detector=probe"), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "needs probe=FILE"));
    assert_int_equal(apply("cmd:detector=magic"), SOOTHE_E_ARGUMENT);
    assert_int_equal(apply("cmd:k=0"), SOOTHE_E_ARGUMENT);
    assert_int_equal(apply("cmd:scorer=nobody"), SOOTHE_E_ARGUMENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rises_of_one_token_and_of_two_are_marked),
        cmocka_unit_test(test_whole_words_of_the_lexicon_are_found),
        cmocka_unit_test(test_fills_are_cut_and_judged_by_what_stands_on_their_right),
        cmocka_unit_test(test_a_clean_prompt_is_continued_as_without_the_method),
        cmocka_unit_test(test_at_strength_0_nothing_is_changed),
        cmocka_unit_test(test_a_change_is_told_and_what_is_told_is_continued),
        cmocka_unit_test(test_a_prompt_of_one_toxic_word_leaves_something_to_continue),
        cmocka_unit_test(test_wrong_parameters_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
