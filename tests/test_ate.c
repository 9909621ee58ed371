/* SPDX-License-Identifier: Apache-2.0
 * Effects of words: the figures, the sentences, the fills, and what the shipped table says of names of groups. */
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
#include "engine/text_tokens.h"
#include "methods/ate.h"
#include "score/lexicon.h"
#include "test_support.h"

#define TABLE "test_ate_table.gguf"

static struct soothe_error err;

static int tear_down(void **state) {
    (void)state;
    unlink(TABLE);
    return 0;
}

static void check_near(double x, double expected, double tolerance) {
    if (!(fabs(x - expected) <= tolerance))
        fail_msg("%.17g is not %.17g", x, expected);
}

/* ---- figures: from scripts/cfl_reference.py ------------------------------------------------------------------ */

static const struct {
    size_t n;
    double k, confidence, mean, lo, hi, weight;
} CASES[] = {
    {5, 10, 0.95, 0.425, 0.122443909103867, 0.727556090896133, 0.141666666666667},
    {5, 10, 0.95, 0.125, -0.514938977015107, 0.764938977015107, 0},
    {4, 2, 0.99, -0.34375, -0.693265306692817, 0.00576530669281722, 0},
    {40, 10, 0.99, 0.205, 0.154946316636683, 0.255053683363317, 0.164},
    {2, 0, 0.9, 0.5, -1.07843787866876, 2.07843787866876, 0},
};
static const struct {
    double p, degrees, t;
} QUANTILES[] = {
    {0.975, 1, 12.7062047361747}, {0.975, 4, 2.77644510519779},  {0.995, 39, 2.70791318351766},
    {0.75, 2, 0.816496580927726}, {0.9999, 7, 7.06343282815764}, {0.975, 1000, 1.96233908082641},
};

static void test_figures_are_those_of_numpy(void **state) {
    (void)state;
    double       steps[40];
    const double a[] = {0.5, 0.25, 0.75, 0.5, 0.125}, b[] = {0.5, -0.25, 0.75, -0.5, 0.125},
                 c[] = {-0.5, -0.25, -0.375, -0.25}, e[] = {0.25, 0.75};
    const double *effects[] = {a, b, c, steps, e};
    for (int i = 0; i < 40; i++)
        steps[i] = 0.01 * (i + 1);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        const struct soothe__ate x = soothe__ate_of(effects[i], CASES[i].n, CASES[i].k, CASES[i].confidence);
        check_near(x.mean, CASES[i].mean, 1e-13);
        check_near(x.lo, CASES[i].lo, 1e-11);
        check_near(x.hi, CASES[i].hi, 1e-11);
        check_near(x.weight, CASES[i].weight, 1e-13);
    }
    for (size_t i = 0; i < sizeof QUANTILES / sizeof *QUANTILES; i++)
        check_near(soothe__t_quantile(QUANTILES[i].p, QUANTILES[i].degrees) / QUANTILES[i].t, 1, 1e-12);
    check_near(soothe__ate_of(a, 1, 10, 0.95).weight, 0, 0); /* one sentence says nothing */
    const double certain[] = {-0.5, -0.5, -0.5};             /* nothing is clipped at 0 */
    check_near(soothe__ate_of(certain, 3, 1, 0.95).weight, -0.375, 1e-15);
}

/* ---- sentences ---------------------------------------------------------------------------------------------- */

static void test_texts_are_cut_into_sentences_of_numbered_words(void **state) {
    (void)state;
    struct soothe__ate_corpus c = {.n_words = 0};
    must(soothe__ate_corpus_add(&c, "One two three. Two THREE, four!  Too short\nOne two three.", &err), &err);
    must(soothe__ate_corpus_add(&c, "", &err), &err);
    must(soothe__ate_corpus_add(&c, "v1.5 is two three", &err), &err);
    must(soothe__ate_corpus_finish(&c, &err), &err);
    assert_int_equal(c.n_sentences, 3);
    assert_string_equal(c.sentences[0].text, "One two three.");
    assert_string_equal(c.sentences[1].text, "Two THREE, four!");
    assert_string_equal(c.sentences[2].text, "v1.5 is two three");
    const uint32_t two = soothe__ate_corpus_find(&c, "two"), three = soothe__ate_corpus_find(&c, "three");
    assert_int_equal(c.words[two].n_sentences, 3);
    assert_int_equal(c.words[two].n_occurrences, 3);
    assert_true(c.words[two].plain);
    assert_false(c.words[soothe__ate_corpus_find(&c, "v1")].plain);
    assert_int_equal(soothe__ate_corpus_find(&c, "five"), 0);
    const struct soothe__ate_place *p        = c.places + c.sentences[1].first;
    const uint32_t                  places[] = {0, two, three, 0, soothe__ate_corpus_find(&c, "four"), 0};
    assert_int_equal(c.sentences[1].n, 6); /* the comma parts neighbours */
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(p[i].word, places[i]);
    assert_int_equal(p[2].start, 4);
    assert_int_equal(p[2].end, 9);
    soothe__ate_corpus_free(&c);
    must(soothe__ate_corpus_add(&c, "too short", &err), &err);
    assert_int_equal(soothe__ate_corpus_finish(&c, &err), SOOTHE_E_ARGUMENT);
    soothe__ate_corpus_free(&c);
}

/* ---- effects -------------------------------------------------------------------------------------------------- */

/* A scorer for which "murky" alone counts. */
static struct soothe__scorer *scorer_of_murky(void) {
    struct soothe__word_table       t = {.n = 0};
    const struct soothe__table_word a = {(char *)(uintptr_t) "murky", 0.75f, NAN, NAN, NAN, 0};
    struct soothe__scorer          *scorer;
    must(soothe__word_table_add(&t, &a, &err), &err);
    must(soothe__word_table_write(&t, TABLE, NULL, 0, &err), &err);
    soothe__word_table_free(&t);
    must(soothe__scorer_open(&scorer, TABLE, NULL, &err), &err);
    return scorer;
}

/* Neighbours of a company that is always murky, and other sentences that lend words to the same places. */
static void make_corpus(struct soothe__ate_corpus *c) {
    char text[128];
    for (int i = 0; i < 30; i++) {
        static const char *const kinds[] = {"quiet", "happy", "tired"}, *const who[] = {"cats", "dogs", "birds"};
        snprintf(text, sizeof text, "all MURKY neighbours came home %d", i);
        must(soothe__ate_corpus_add(c, text, &err), &err);
        snprintf(text, sizeof text, "all %s %s came home %d", kinds[i % 3], who[i / 3 % 3], i);
        must(soothe__ate_corpus_add(c, text, &err), &err);
    }
    must(soothe__ate_corpus_finish(c, &err), &err);
}

static void test_bad_company_has_no_effect(void **state) {
    (void)state;
    struct soothe__ate_corpus  c      = {.n_words = 0};
    struct soothe__scorer     *scorer = scorer_of_murky();
    struct soothe__fills       fills;
    struct soothe__word_table  table, again;
    struct soothe__ate_options o = soothe__ate_options_default();
    make_corpus(&c);
    must(soothe__ngram_fills_new(&fills, &c, &err), &err);
    must(soothe__ate_table(&table, &c, scorer, &fills, &o, &err), &err);
    const struct soothe__table_word *murky      = soothe__word_table_find(&table, "murky"),
                                    *neighbours = soothe__word_table_find(&table, "neighbours"),
                                    *quiet      = soothe__word_table_find(&table, "quiet");
    assert_int_equal(murky->n, 30);
    assert_float_equal(murky->effect, 0.75, 1e-6); /* whatever takes its place, the score is 0 */
    assert_float_equal(murky->weight, 0.75 * 30 / 40, 1e-6);
    assert_true(fabsf(neighbours->effect) < 0.05f); /* though it is never met without */
    assert_true(neighbours->weight <= 0);           /* a fill may be the murky word itself */
    assert_int_equal(quiet->n, 10);
    assert_true(quiet->effect < 0); /* "murky" may take its place */
    soothe__ate_corpus_free(&c);
    fills.free(fills.self);
    make_corpus(&c);
    must(soothe__ngram_fills_new(&fills, &c, &err), &err);
    must(soothe__ate_table(&again, &c, scorer, &fills, &o, &err), &err);
    assert_int_equal(again.n, table.n);
    for (size_t i = 0; i < table.n; i++)
        assert_memory_equal(&table.words[i].weight, &again.words[i].weight, sizeof(float));
    soothe__word_table_free(&again);
    soothe__word_table_free(&table);
    const volatile sig_atomic_t stop = 1;
    o.stop                           = &stop;
    assert_int_equal(soothe__ate_table(&table, &c, scorer, &fills, &o, &err), SOOTHE_E_INTERRUPTED);
    o       = soothe__ate_options_default();
    o.n_min = 1000;
    assert_int_equal(soothe__ate_table(&table, &c, scorer, &fills, &o, &err), SOOTHE_E_ARGUMENT);
    assert_null(table.words);
    fills.free(fills.self);
    soothe__scorer_close(scorer);
    soothe__ate_corpus_free(&c);
}

/* ---- fills of a model -------------------------------------------------------------------------------------------- */

static double log_likelihood(struct soothe_session *s, const struct llama_vocab *v, const char *left, const char *word,
                             const char *right) {
    llama_token       *parts[3];
    int32_t            n[3], total = 0;
    const char        *texts[] = {left, word, right};
    struct llama_batch b       = llama_batch_init(256, 0, 1);
    double             sum     = 0;
    const int32_t      n_vocab = llama_vocab_n_tokens(v);
    for (int i = 0; i < 3; i++) {
        must(soothe__tokenize(&parts[i], &n[i], v, texts[i], strlen(texts[i]), i == 0 ? SOOTHE__TOKENIZE_START : 0,
                              &err),
             &err);
        for (int32_t k = 0; k < n[i]; k++)
            soothe__batch_add(&b, parts[i][k], total++, 0, true);
    }
    soothe_clear(s);
    must(soothe_decode(s, b, &err), &err);
    for (int32_t k = 0; k < n[2]; k++) {
        const float *z       = soothe_get_logits_ith(s, n[0] + n[1] + k - 1);
        double       largest = -INFINITY, norm = 0;
        for (int32_t i = 0; i < n_vocab; i++)
            largest = fmax(largest, (double)z[i]);
        for (int32_t i = 0; i < n_vocab; i++)
            norm += exp((double)z[i] - largest);
        sum += (double)z[parts[2][k]] - largest - log(norm);
    }
    for (int i = 0; i < 3; i++)
        free(parts[i]);
    llama_batch_free(b);
    return sum;
}

static void test_a_models_fills_fit_both_sides(void **state) {
    (void)state;
    const char *path = getenv("SOOTHE_TEST_MODEL");
    if (!path)
        skip();
    struct llama_model          *model;
    struct soothe__fills         fills;
    struct soothe__ate_corpus    c   = {.n_words = 0};
    struct soothe__rng           rng = soothe__rng_seed(1, 1);
    struct soothe_session       *s;
    struct soothe_session_params p = soothe_session_params_default();
    char                         out[SOOTHE__FILLS_MAX][SOOTHE__WORD_BYTES_MAX + 1];
    int32_t                      n;
    must(soothe__target_load(&model, path, 0, &err), &err);
    must(soothe__model_fills_new(&fills, model, 2, 1, &err), &err);
    p.context.n_ctx     = 256;
    p.context.n_threads = p.context.n_threads_batch = 1;
    must(soothe_session_new(&s, model, NULL, &p, &err), &err);
    must(soothe__ate_corpus_add(&c, "You are the worst brother of all.", &err), &err);
    must(soothe__ate_corpus_finish(&c, &err), &err);
    must(fills.draw(fills.self, &c.sentences[0], &c.places[c.sentences[0].first + 5], 5, &rng, out, &n, &err), &err);
    assert_true(n >= 1 && n <= 5);
    const struct llama_vocab *v         = llama_model_get_vocab(model);
    const double              as_it_was = log_likelihood(s, v, "You are the worst", " brother", " of all.");
    for (int32_t i = 0; i < n; i++) {
        char word[SOOTHE__WORD_BYTES_MAX + 2], capital[SOOTHE__WORD_BYTES_MAX + 2];
        snprintf(word, sizeof word, " %.63s", out[i]);
        snprintf(capital, sizeof capital, " %.63s", out[i]);
        capital[1] = (char)(capital[1] - 'a' + 'A');
        assert_string_not_equal(out[i], "brother");
        assert_int_equal(soothe__lexicon_count(out[i], strlen(out[i])), 0);
        for (int32_t k = 0; k < i; k++)
            assert_string_not_equal(out[i], out[k]);
        /* the token may be the capitalised one; 0.5 for what a batch's size does to the engine's rounding */
        const double best = fmax(log_likelihood(s, v, "You are the worst", word, " of all."),
                                 log_likelihood(s, v, "You are the worst", capital, " of all."));
        assert_true(best >= as_it_was - 2 - 0.5);
    }
    fills.free(fills.self);
    soothe_session_free(s);
    soothe__ate_corpus_free(&c);
    llama_model_free(model);
}

/* ---- fairness ---------------------------------------------------------------------------------------------------- */

/* The five words that CFL's authors published: their effect must lie below what the classifier gives the bare word. */
static void test_names_of_groups_weigh_less_than_the_classifier_says(void **state) {
    (void)state;
    static const char *const  WORDS[] = {"female", "black", "gay", "hispanic", "african"};
    char                     *path;
    struct soothe__word_table table;
    struct soothe__scorer    *scorer;
    struct soothe__score      bare[5];
    double                    sum_effect = 0, sum_bare = 0;
    must(soothe__default_word_table(&path, &err), &err);
    must(soothe__word_table_read(&table, path, &err), &err);
    must(soothe__scorer_open(&scorer, "default", NULL, &err), &err);
    must(soothe__scorer_score(scorer, WORDS, 5, bare, &err), &err);
    for (size_t i = 0; i < 5; i++) {
        const struct soothe__table_word *w = soothe__word_table_find(&table, WORDS[i]);
        assert_non_null(w);
        if (!((double)w->weight < bare[i].toxicity) || !((double)w->effect < bare[i].toxicity))
            fail_msg("%s: effect %g, weight %g, bare %g", WORDS[i], (double)w->effect, (double)w->weight,
                     bare[i].toxicity);
        sum_effect += (double)w->weight;
        sum_bare += bare[i].toxicity;
    }
    assert_true(sum_effect < sum_bare / 3);
    soothe__scorer_close(scorer);
    soothe__word_table_free(&table);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures_are_those_of_numpy),
        cmocka_unit_test(test_texts_are_cut_into_sentences_of_numbered_words),
        cmocka_unit_test(test_bad_company_has_no_effect),
        cmocka_unit_test(test_a_models_fills_fit_both_sides),
        cmocka_unit_test(test_names_of_groups_weigh_less_than_the_classifier_says),
    };
    return cmocka_run_group_tests(tests, quiet_engine, tear_down);
}
