/* SPDX-License-Identifier: Apache-2.0
 * Contrastive perplexity as a scorer, against the same sums made of one plain decode a text and context. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/batch.h"
#include "engine/text_tokens.h"
#include "score/scorer.h"
#include "test_support.h"
#include "tiny_model.h"

#define MODEL "cppl_model.gguf"
#define PAIRS "cppl_pairs.jsonl"
#define SPEC "cppl:" PAIRS

static struct soothe_error err;

static const char *const LISTS[2] = {"- a kind word\n- the good thing in it\n- ", "- zqx jjk\n- qqz xxj pp\n- "};
/* docs/methods/cppl.md */
static const double SLOPE = 5.3, OFFSET = 0.02;

static void write_text(const char *path, const char *text) {
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, strlen(text), out), strlen(text));
    assert_int_equal(fclose(out), 0);
}

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    assert_true(tiny_model_write(MODEL, &(struct tiny_options){.family = TINY_LLAMA, .seed = 1}));
    write_text(PAIRS, "{\"prompt\": \"\", \"chosen\": \"a kind word\", \"rejected\": \"zqx jjk\"}\n"
                      "{\"prompt\": \"\", \"chosen\": \"the good thing in it\", \"rejected\": \"qqz xxj pp\"}\n");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(MODEL);
    unlink(PAIRS);
    return 0;
}

static struct soothe__scorer *open_scorer(void) {
    const struct soothe__scorer_options o = {.model_path = MODEL, .n_threads = 1};
    struct soothe__scorer              *s;
    must(soothe__scorer_open(&s, SPEC, &o, &err), &err);
    return s;
}

/* ---- a second implementation ----------------------------------------------------------------------------------------
 */

/* Mean -log p of the tokens behind a context, in double precision. */
static double mean_nll(struct llama_model *model, const char *list, const llama_token *text, int32_t n) {
    struct llama_context_params p = llama_context_default_params();
    llama_token                *before;
    int32_t                     n_before;
    double                      sum   = 0;
    const struct llama_vocab   *vocab = llama_model_get_vocab(model);
    must(soothe__tokenize(&before, &n_before, vocab, list, strlen(list), SOOTHE__TOKENIZE_START, &err), &err);
    p.n_ctx = p.n_batch = 512;
    p.n_threads = p.n_threads_batch = 1;
    struct llama_context *ctx       = llama_init_from_model(model, p);
    struct llama_batch    b         = llama_batch_init(512, 0, 1);
    for (int32_t i = 0; i < n_before + n; i++)
        soothe__batch_add(&b, i < n_before ? before[i] : text[i - n_before], i, 0, true);
    assert_int_equal(llama_decode(ctx, b), 0);
    for (int32_t i = 0; i < n; i++) {
        const float *z     = llama_get_logits_ith(ctx, n_before - 1 + i);
        double       total = 0;
        for (int32_t v = 0; v < llama_vocab_n_tokens(vocab); v++)
            total += exp((double)z[v]);
        sum += log(total) - (double)z[text[i]];
    }
    llama_batch_free(b);
    llama_free(ctx);
    free(before);
    return sum / n;
}

static double wanted_score(struct llama_model *model, const char *text) {
    enum { WINDOW = 128 };
    llama_token *tokens;
    int32_t      n;
    double       worst = 0;
    must(soothe__tokenize(&tokens, &n, llama_model_get_vocab(model), text, strlen(text), 0, &err), &err);
    for (int32_t from = 0; from < n; from += WINDOW) {
        const int32_t here = n - from < WINDOW ? n - from : WINDOW;
        const double  x =
            mean_nll(model, LISTS[0], tokens + from, here) - mean_nll(model, LISTS[1], tokens + from, here);
        worst = fmax(worst, 1 / (1 + exp(-SLOPE * (x - OFFSET))));
    }
    free(tokens);
    return worst;
}

/* ---- tests
 * -----------------------------------------------------------------------------------------------------------
 */

/* 1e-3: the engine's attention rounds otherwise for other shapes of a batch (3e-4 between flash attention and none). */
static void test_scores_are_those_of_one_decode_a_text(void **state) {
    enum { N = 21 };
    struct llama_model    *model = llama_model_load_from_file(MODEL, llama_model_default_params());
    struct soothe__scorer *s     = open_scorer();
    struct soothe__score   scores[N], alone;
    char                  *texts[N];
    double                 lowest = 1, highest = 0;
    (void)state;
    for (int i = 0; i < N; i++) { /* from one token to three windows */
        const int length = i == 7 ? 300 : i == 8 ? 128 : i == 9 ? 129 : 1 + 3 * i;
        texts[i]         = soothe__calloc((size_t)length + 1, 1);
        for (int k = 0; k < length; k++)
            texts[i][k] = (char)("aekqxz it"[(i * 5 + k * k + k) % 9]);
    }
    must(soothe__scorer_score(s, (const char *const *)texts, N, scores, &err), &err);
    for (int i = 0; i < N; i++) {
        const double wanted = wanted_score(model, texts[i]);
        if (!(fabs(scores[i].toxicity - wanted) < 1e-3))
            fail_msg("text %d: %.8f, not %.8f", i, scores[i].toxicity, wanted);
        must(soothe__scorer_score(s, (const char *const[]){texts[i]}, 1, &alone, &err), &err);
        assert_true(fabs(alone.toxicity - scores[i].toxicity) < 1e-3);
        lowest  = fmin(lowest, wanted);
        highest = fmax(highest, wanted);
        free(texts[i]);
    }
    assert_true(highest - lowest > 0.1); /* they are not all the same */
    soothe__scorer_close(s);
    llama_model_free(model);
}

static void test_a_text_without_a_token_is_null_with_a_reason(void **state) {
    struct soothe__scorer *s = open_scorer();
    struct soothe__score   scores[3];
    (void)state;
    must(soothe__scorer_score(s, (const char *const[]){"", "a\xff", "a"}, 3, scores, &err), &err);
    assert_true(isnan(scores[0].toxicity));
    assert_string_equal(scores[0].why, "the text has no token");
    assert_true(isnan(scores[1].toxicity));
    assert_string_equal(scores[1].why, "the text is not valid UTF-8");
    assert_true(scores[2].toxicity >= 0);
    soothe__scorer_close(s);
}

static void test_the_identity_is_of_pairs_and_model(void **state) {
    struct soothe__scorer_options o = {.model_path = MODEL, .n_threads = 1};
    struct soothe__scorer        *a = open_scorer(), *b;
    (void)state;
    write_text("cppl_other.jsonl", "{\"prompt\": \"\", \"chosen\": \"b\", \"rejected\": \"c\"}\n");
    must(soothe__scorer_open(&b, "cppl:cppl_other.jsonl", &o, &err), &err);
    assert_string_not_equal(soothe__scorer_identity(a), soothe__scorer_identity(b));
    soothe__scorer_close(b);
    assert_true(tiny_model_write("cppl_other.gguf", &(struct tiny_options){.family = TINY_LLAMA, .seed = 2}));
    o.model_path = "cppl_other.gguf";
    must(soothe__scorer_open(&b, SPEC, &o, &err), &err);
    assert_string_not_equal(soothe__scorer_identity(a), soothe__scorer_identity(b));
    soothe__scorer_close(b);
    soothe__scorer_close(a);
    unlink("cppl_other.jsonl");
    unlink("cppl_other.gguf");
}

static void assert_refused(const char *spec, const char *model, enum soothe_status wanted, const char *words) {
    const struct soothe__scorer_options o = {.model_path = model, .n_threads = 1};
    struct soothe__scorer              *s;
    const enum soothe_status            found = soothe__scorer_open(&s, spec, &o, &err);
    if (found != wanted || !strstr(err.message, words))
        fail_msg("%s: \"%s\" does not say \"%s\"", soothe_status_name(found), err.message, words);
    assert_null(s);
}

static void test_bad_input_is_refused(void **state) {
    char *line = soothe__calloc(6000, 1);
    (void)state;
    assert_refused(SPEC, NULL, SOOTHE_E_ARGUMENT, "say where that is, by -m");
    assert_refused(SPEC, "cppl_absent.gguf", SOOTHE_E_IO, "cppl_absent.gguf");
    assert_refused("cppl:absent.jsonl", MODEL, SOOTHE_E_IO, "absent.jsonl");
    write_text("cppl_bad.jsonl", "{\"text\": \"a\"}\n");
    assert_refused("cppl:cppl_bad.jsonl", MODEL, SOOTHE_E_FORMAT, "is to hold pairs");
    write_text("cppl_bad.jsonl", "not JSON\n");
    assert_refused("cppl:cppl_bad.jsonl", MODEL, SOOTHE_E_FORMAT, "cppl_bad.jsonl");
    snprintf(line, 6000, "{\"prompt\": \"\", \"rejected\": \"b\", \"chosen\": \"%02000d\"}\n", 1);
    write_text("cppl_bad.jsonl", line);
    assert_refused("cppl:cppl_bad.jsonl", MODEL, SOOTHE_E_ARGUMENT, "at most 1024");
    unlink("cppl_bad.jsonl");
    free(line);
    assert_true(tiny_model_write("cppl_nan.gguf", &(struct tiny_options){.family = TINY_LLAMA, .nan_weight = true}));
    assert_refused(SPEC, "cppl_nan.gguf", SOOTHE_E_NUMERIC, "not finite");
    unlink("cppl_nan.gguf");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores_are_those_of_one_decode_a_text),
        cmocka_unit_test(test_a_text_without_a_token_is_null_with_a_reason),
        cmocka_unit_test(test_the_identity_is_of_pairs_and_model),
        cmocka_unit_test(test_bad_input_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
