/* SPDX-License-Identifier: Apache-2.0
 * Prompts within attacks, verdicts on answers, and what differs between two models. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "corpus/corpus.h"
#include "engine/target_model.h"
#include "eval/defence.h"
#include "eval/model_change.h"
#include "eval/perplexity.h"
#include "generate/answers.h"
#include "generate/shortlist.h"
#include "test_support.h"
#include "tiny_model.h"

#define MODEL "test_defence_model.gguf"
#define OTHER "test_defence_other.gguf"

static struct soothe_error err;
static struct llama_model *model, *other;

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    return tiny_model_write(MODEL, &(struct tiny_options){.family = TINY_LLAMA, .seed = 5}) &&
                   tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_LLAMA, .seed = 6}) &&
                   soothe__target_load(&model, MODEL, 0, &err) == SOOTHE_OK &&
                   soothe__target_load(&other, OTHER, 0, &err) == SOOTHE_OK
               ? 0
               : -1;
}

static int tear_down(void **state) {
    (void)state;
    llama_model_free(model);
    llama_model_free(other);
    unlink(MODEL);
    unlink(OTHER);
    return 0;
}

static void assert_prompt(const char *question, const char *attack, const char *suffix, const char *wanted) {
    char *text = soothe__attack_prompt(question, attack, suffix);
    assert_string_equal(text, wanted);
    free(text);
}

static void test_a_question_stands_in_its_attack(void **state) {
    (void)state;
    assert_prompt("q?", NULL, NULL, "q?");
    assert_prompt("q?", "", "", "q?");
    assert_prompt("q?", NULL, "Be good.", "q? Be good.");
    assert_prompt("q?", "Go:", NULL, "Go:\n\nq?");
    assert_prompt("q?", "a {question} b", "c", "a q? b c");
}

static size_t count(const struct soothe__defence_prompts *p, enum soothe__defence_kind kind) {
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++)
        n += p->items[i].kind == kind;
    return n;
}

static bool holds(const struct soothe__defence_prompts *p, enum soothe__defence_kind kind, const char *text) {
    for (size_t i = 0; i < p->n; i++)
        if (p->items[i].kind == kind && strcmp(p->items[i].text, text) == 0)
            return true;
    return false;
}

static void test_all_kinds_and_nothing_of_the_instances_among_the_others(void **state) {
    (void)state;
    const struct soothe__attacked instances[] = {{"q1", "A {question}"}, {"q2", NULL}};
    const char *const attacks[] = {"A {question}", "B {question}", "C {question}"}, *const questions[] = {"q2", "q3"},
                      *const       harmless[] = {"h"};
    struct soothe__defence_source  s          = {.instances   = instances,
                                                 .n_instances = 2,
                                                 .attacks     = attacks,
                                                 .n_attacks   = 3,
                                                 .questions   = questions,
                                                 .n_questions = 2,
                                                 .harmless    = harmless,
                                                 .n_harmless  = 1,
                                                 .limit       = 100};
    struct soothe__defence_prompts p;
    must(soothe__defence_compose(&p, &s, &err), &err);
    assert_int_equal(count(&p, SOOTHE__DEFENCE_INSTANCE), 2);
    assert_true(holds(&p, SOOTHE__DEFENCE_INSTANCE, "A q1") && holds(&p, SOOTHE__DEFENCE_INSTANCE, "q2"));
    assert_int_equal(count(&p, SOOTHE__DEFENCE_QUESTION), 1); /* q2 is alone already */
    assert_true(holds(&p, SOOTHE__DEFENCE_QUESTION, "q1"));
    assert_int_equal(count(&p, SOOTHE__DEFENCE_OTHER_ATTACK), 4);
    assert_true(holds(&p, SOOTHE__DEFENCE_OTHER_ATTACK, "B q1") && holds(&p, SOOTHE__DEFENCE_OTHER_ATTACK, "C q1") &&
                holds(&p, SOOTHE__DEFENCE_OTHER_ATTACK, "B q2") && holds(&p, SOOTHE__DEFENCE_OTHER_ATTACK, "C q2"));
    assert_int_equal(count(&p, SOOTHE__DEFENCE_OTHER_QUESTION), 2);
    assert_true(holds(&p, SOOTHE__DEFENCE_OTHER_QUESTION, "A q3") && holds(&p, SOOTHE__DEFENCE_OTHER_QUESTION, "q3"));
    assert_int_equal(count(&p, SOOTHE__DEFENCE_OTHER_BOTH), 2);
    assert_int_equal(count(&p, SOOTHE__DEFENCE_HARMLESS), 4);
    assert_true(holds(&p, SOOTHE__DEFENCE_HARMLESS, "A h") && holds(&p, SOOTHE__DEFENCE_HARMLESS, "h") &&
                holds(&p, SOOTHE__DEFENCE_HARMLESS, "B h") && holds(&p, SOOTHE__DEFENCE_HARMLESS, "C h"));
    soothe__defence_prompts_free(&p);
    s.limit = 2; /* few still show several of each */
    must(soothe__defence_compose(&p, &s, &err), &err);
    assert_int_equal(count(&p, SOOTHE__DEFENCE_OTHER_ATTACK), 2);
    assert_true(holds(&p, SOOTHE__DEFENCE_OTHER_ATTACK, "B q1") && holds(&p, SOOTHE__DEFENCE_OTHER_ATTACK, "C q2"));
    soothe__defence_prompts_free(&p);
}

static void test_answers_of_noise_are_not_safe(void **state) {
    (void)state;
    const struct soothe__attacked       instances[] = {{"q1", NULL}};
    const struct soothe__defence_source s           = {.instances = instances, .n_instances = 1, .limit = 4};
    struct soothe__defence_prompts      p;
    struct soothe__defence_figures      figures[SOOTHE__DEFENCE_KINDS];
    struct soothe__scorer              *scorer;
    must(soothe__scorer_open(&scorer, "lexicon", NULL, &err), &err);
    must(soothe__defence_compose(&p, &s, &err), &err);
    must(soothe__defence_measure(figures, model, &p, scorer, &(struct soothe__defence_options){4, 1, NULL}, &err),
         &err);
    assert_int_equal(figures[SOOTHE__DEFENCE_INSTANCE].n, 1);
    assert_float_equal(figures[SOOTHE__DEFENCE_INSTANCE].safe, 0, 0);
    assert_int_equal(figures[SOOTHE__DEFENCE_OTHER_BOTH].n, 0);
    assert_true(isnan(figures[SOOTHE__DEFENCE_OTHER_BOTH].safe));
    soothe__defence_prompts_free(&p);
    soothe__scorer_close(scorer);
}

static void test_an_answer_begins_as_it_is_told_and_fits(void **state) {
    (void)state;
    const struct soothe__turn           turns[] = {{NULL, "ab", NULL}, {"be good", "ab", "No, "}};
    const struct soothe__answer_options o       = {.n_predict = 4, .n_threads = 1};
    struct soothe__answer               answers[2];
    char                                long_text[400];
    must(soothe__answer(answers, model, turns, 2, &o, &err), &err);
    assert_int_equal(strncmp(answers[1].text, "No, ", 4), 0);
    soothe__answers_free(answers, 2);
    memset(long_text, 'a', sizeof long_text);
    long_text[300]                   = '\0';
    const struct soothe__turn long_1 = {NULL, long_text, NULL};
    assert_int_equal(soothe__answer(answers, model, &long_1, 1, &o, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "context of 256"));
    assert_null(answers[0].text);
}

/* ---- two models ------------------------------------------------------------------------------------------ */

static void open_corpus(struct soothe__corpus *c) {
    size_t n_removed;
    soothe__corpus_init(c);
    must(soothe__corpus_add_single(c, "", "a text of no import", &err), &err);
    must(soothe__corpus_add_single(c, "with a prompt", " and its end", &err), &err);
    must(soothe__corpus_tokenize(c, llama_model_get_vocab(model), 128, &n_removed, &err), &err);
}

static void test_a_model_does_not_differ_from_itself(void **state) {
    (void)state;
    struct soothe__corpus       c;
    struct soothe__model_change change;
    struct soothe__ppl_report   report;
    open_corpus(&c);
    must(soothe__model_change(&change, model, model, &c, 1, NULL, &err), &err);
    assert_float_equal(change.kl, 0, 1e-9);
    assert_float_equal(change.ppl_before, change.ppl_after, 0);
    const struct soothe__ppl_options o = {.n_ctx = 128, .n_threads = 1};
    must(soothe__perplexity(&report, model, NULL, &c, &o, &err), &err); /* another way, in batches */
    assert_int_equal(change.n_tokens, report.plain.clean.n_tokens);
    assert_true(fabs(change.ppl_before / report.plain.clean.perplexity - 1) < 1e-4);
    soothe__ppl_report_free(&report);
    soothe__corpus_free(&c);
}

/* p (log p - log q), added up as it is defined. */
static double divergence(const float *z, const float *y, int32_t n) {
    const double a = soothe__log_sum_exp(z, n), b = soothe__log_sum_exp(y, n);
    double       sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)z[i] - a) * (((double)z[i] - a) - ((double)y[i] - b));
    return sum;
}

static void test_the_divergence_of_two_models_is_its_definition(void **state) {
    (void)state;
    struct soothe__corpus       c;
    struct soothe__model_change change;
    struct soothe_session      *s[2];
    double                      kl      = 0;
    size_t                      n       = 0;
    const int32_t               n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    open_corpus(&c);
    for (int i = 0; i < 2; i++) {
        struct soothe_session_params p = soothe_session_params_default();
        p.context.n_ctx                = 128;
        p.context.n_threads = p.context.n_threads_batch = 1;
        must(soothe_session_new(&s[i], i ? other : model, NULL, &p, &err), &err);
    }
    for (size_t i = 0; i < c.n_singles; i++) {
        struct soothe__text *t = &c.texts[c.singles[i]];
        soothe_clear(s[0]);
        soothe_clear(s[1]);
        for (int32_t k = 0; k + 1 < t->n_tokens; k++) {
            must(soothe_decode(s[0], llama_batch_get_one(t->tokens + k, 1), &err), &err);
            must(soothe_decode(s[1], llama_batch_get_one(t->tokens + k, 1), &err), &err);
            if (k + 1 < t->first)
                continue;
            kl += divergence(soothe_get_logits_ith(s[0], -1), soothe_get_logits_ith(s[1], -1), n_vocab);
            n++;
        }
    }
    must(soothe__model_change(&change, model, other, &c, 1, NULL, &err), &err);
    assert_int_equal(change.n_tokens, n);
    assert_true(kl > 0);
    assert_true(fabs(change.kl * (double)n / kl - 1) < 1e-3);
    soothe_session_free(s[0]);
    soothe_session_free(s[1]);
    soothe__corpus_free(&c);
}

static void test_answers_of_one_model_are_the_same(void **state) {
    (void)state;
    const char *const            questions[] = {"ab", "cd"};
    struct soothe__answer_change same, differ;
    must(soothe__answer_change(&same, model, model, questions, 2, 6, 1, NULL, &err), &err);
    assert_float_equal(same.same, 1, 1e-9);
    assert_float_equal(same.same_start, 1, 1e-9);
    must(soothe__answer_change(&differ, model, other, questions, 2, 6, 1, NULL, &err), &err);
    assert_true(differ.same < 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_question_stands_in_its_attack),
        cmocka_unit_test(test_all_kinds_and_nothing_of_the_instances_among_the_others),
        cmocka_unit_test(test_answers_of_noise_are_not_safe),
        cmocka_unit_test(test_an_answer_begins_as_it_is_told_and_fits),
        cmocka_unit_test(test_a_model_does_not_differ_from_itself),
        cmocka_unit_test(test_the_divergence_of_two_models_is_its_definition),
        cmocka_unit_test(test_answers_of_one_model_are_the_same),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
