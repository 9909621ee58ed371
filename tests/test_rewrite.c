/* SPDX-License-Identifier: Apache-2.0
 * Methods that act on the prompt: what is continued, what is told, and what stays as it was. */
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
#include "methods/rewrite.h"
#include "test_support.h"
#include "tiny_model.h"

#define TARGET "test_rewrite_target.gguf"
#define WORDS "test_rewrite_words.txt"

static struct soothe_error         err;
static struct llama_model         *model;
static struct llama_context_params context;

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    FILE *f = fopen(WORDS, "w");
    if (!f || fputs("kind, words: only", f) < 0 || fclose(f))
        return -1;
    context            = soothe_session_params_default().context;
    context.n_ctx      = 256;
    context.n_seq_max  = 3;
    context.kv_unified = true;
    context.n_threads = context.n_threads_batch = 1;
    return tiny_model_write(TARGET, &(struct tiny_options){.family = TINY_LLAMA, .seed = 5}) &&
                   soothe__target_load(&model, TARGET, 0, &err) == SOOTHE_OK
               ? 0
               : -1;
}

static int tear_down(void **state) {
    (void)state;
    llama_model_free(model);
    unlink(TARGET);
    unlink(WORDS);
    return 0;
}

enum { N_PREDICT = 6, N_DOSES = 2 };

struct heard {
    llama_token tokens[N_DOSES][N_PREDICT];
    int32_t     n[N_DOSES];
    size_t      n_events;
    char        event[256];
};

static void hear(void *user, const struct soothe__continuation *c) {
    struct heard *h = user;
    h->n[c->i_dose] = c->n_tokens;
    for (int32_t i = 0; i < c->n_tokens; i++)
        h->tokens[c->i_dose][i] = c->tokens[i].id;
}

/* Continues a text under a chain, with both doses or as the session is. */
static struct heard speak(const char *words, const char *text, bool both) {
    static const float              DOSES[] = {0, 1};
    struct heard                    h       = {.n = {-1, -1}};
    struct soothe__chain            chain   = {.n = 0};
    struct soothe__applied          a;
    struct soothe__prompt           p = {.stream = 3};
    llama_token                    *tokens;
    struct soothe__generate_options o = soothe__generate_options_default();
    must(soothe__chain_add(&chain, words, &err), &err);
    must(soothe__chain_apply(&a, &chain, model, TARGET, &context, &err), &err);
    must(soothe__tokenize(&tokens, &p.n_tokens, llama_model_get_vocab(model), text, strlen(text),
                          SOOTHE__TOKENIZE_START, &err),
         &err);
    p.tokens    = tokens;
    o.n_predict = N_PREDICT;
    o.doses     = DOSES;
    o.n_doses   = both ? 2 : 0;
    o.on_done   = hear;
    o.user      = &h;
    must(soothe__generate_with(&a, &p, 1, &o, NULL, &err), &err);
    h.n_events = a.n_events;
    if (a.n_events)
        snprintf(h.event, sizeof h.event, "%s: %s", a.events[0].method->name, a.events[0].text);
    free(tokens);
    soothe__applied_release(&a);
    soothe__chain_free(&chain);
    return h;
}

static void assert_same(const struct heard *a, int i, const struct heard *b, int k) {
    assert_int_equal(a->n[i], b->n[k]);
    assert_memory_equal(a->tokens[i], b->tokens[k], (size_t)a->n[i] * sizeof(llama_token));
}

static void test_at_strength_0_the_prompt_stays(void **state) {
    (void)state;
    const struct heard plain = speak("none", "abc", false), off = speak("safe-prompt:strength=0", "abc", false);
    assert_same(&plain, 0, &off, 0);
    assert_int_equal(off.n_events, 0);
}

static void test_the_text_continued_is_the_words_and_the_prompt(void **state) {
    (void)state;
    const struct heard h = speak("safe-prompt:text=be kind", "abc", false);
    const struct heard r = speak("none", "be kind\n\nabc", false);
    assert_same(&h, 0, &r, 0);
    assert_int_equal(h.n_events, 1);
    assert_string_equal(h.event, "safe-prompt: be kind\n\nabc");
}

static void test_words_may_come_from_a_file(void **state) {
    (void)state;
    const struct heard h = speak("safe-prompt:file=" WORDS, "abc", false);
    assert_string_equal(h.event, "safe-prompt: kind, words: only\n\nabc");
}

static void test_the_plain_side_of_a_comparison_gets_the_users_prompt(void **state) {
    (void)state;
    const struct heard both  = speak("safe-prompt:text=be kind", "abc", true);
    const struct heard plain = speak("none", "abc", false), kind = speak("safe-prompt:text=be kind", "abc", false);
    assert_same(&both, 0, &plain, 0);
    assert_same(&both, 1, &kind, 0);
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
    assert_int_equal(apply("safe-prompt:text=x:file=" WORDS), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "a text or a file, not both"));
    assert_int_equal(apply("safe-prompt:strength=0.5"), SOOTHE_E_ARGUMENT);
    assert_int_equal(apply("safe-prompt:file=nowhere.txt"), SOOTHE_E_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_at_strength_0_the_prompt_stays),
        cmocka_unit_test(test_the_text_continued_is_the_words_and_the_prompt),
        cmocka_unit_test(test_words_may_come_from_a_file),
        cmocka_unit_test(test_the_plain_side_of_a_comparison_gets_the_users_prompt),
        cmocka_unit_test(test_wrong_parameters_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
