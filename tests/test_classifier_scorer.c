/* SPDX-License-Identifier: Apache-2.0
 * Classifiers in GGUF files: against NumPy's figures, windows, batches, and which labels are toxic. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "score/classifier_labels.h"
#include "score/scorer.h"
#include "test_support.h"
#include "tiny_model.h"

#define MODEL "classifier.gguf"
#define NUMBERED "classifier_numbered.gguf"
#define HEADLESS "classifier_headless.gguf"
#define DECODER "classifier_decoder.gguf"
#define QWEN3 "classifier_qwen3.gguf"

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    /* as scripts/classifier_reference.py read it: make_tiny MODEL bert blocks=2 seed=5 */
    struct tiny_options o  = {.family = TINY_BERT, .n_blocks = 2, .seed = 5};
    bool                ok = tiny_model_write(MODEL, &o);
    o.numbered             = true;
    ok                     = ok && tiny_model_write(NUMBERED, &o);
    o.headless             = true;
    ok                     = ok && tiny_model_write(HEADLESS, &o);
    ok = ok && tiny_model_write(QWEN3, &(struct tiny_options){.family = TINY_QWEN3, .n_blocks = 2, .seed = 7});
    return ok && tiny_model_write(DECODER, &(struct tiny_options){.family = TINY_LLAMA, .seed = 1}) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    unlink(MODEL);
    unlink(NUMBERED);
    unlink(HEADLESS);
    unlink(DECODER);
    unlink(QWEN3);
    return 0;
}

static struct soothe__scorer *open_scorer(const char *spec) {
    struct soothe__scorer              *scorer;
    struct soothe_error                 err;
    const struct soothe__scorer_options o = {.n_threads = 1};
    must(soothe__scorer_open(&scorer, spec, &o, &err), &err);
    return scorer;
}

static void assert_refused(const char *spec, enum soothe_status status, const char *word) {
    struct soothe__scorer *scorer;
    struct soothe_error    err;
    assert_int_equal(soothe__scorer_open(&scorer, spec, NULL, &err), status);
    assert_null(scorer);
    if (!strstr(err.message, word))
        fail_msg("\"%s\" does not say \"%s\"", err.message, word);
}

enum { N_MAX = 32 };

struct reference {
    size_t n;
    char  *texts[N_MAX];
    double z[N_MAX][3], score[N_MAX];
};

static void read_reference(struct reference *r) {
    char   path[1024], *line = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "%s/classifier_reference.tsv", getenv("SOOTHE_DATA"));
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    for (r->n = 0; r->n < N_MAX && getline(&line, &size, f) > 0; r->n++) {
        char *numbers = strchr(line, '\t');
        assert_non_null(numbers);
        *numbers++      = '\0';
        r->texts[r->n]  = strdup(line);
        double *const z = r->z[r->n];
        assert_int_equal(sscanf(numbers, "%lf %lf %lf %lf", &z[0], &z[1], &z[2], &r->score[r->n]), 4);
    }
    free(line);
    fclose(f);
    assert_true(r->n >= 10);
}

static void free_reference(struct reference *r) {
    for (size_t i = 0; i < r->n; i++)
        free(r->texts[i]);
}

/* The engine's GELU is a table of half precision values: 2e-3 is that, through two blocks. A text longer than the
 * context of 256 is among them. */
static void test_scores_agree_with_numpy(void **state) {
    (void)state;
    static struct reference r;
    struct soothe_error     err;
    struct soothe__score    scores[N_MAX];
    read_reference(&r);
    struct soothe__scorer *scorer = open_scorer(MODEL);
    assert_string_equal(soothe__scorer_kind(scorer), "classifier");
    must(soothe__scorer_score(scorer, (const char *const *)r.texts, r.n, scores, &err), &err);
    for (size_t i = 0; i < r.n; i++)
        if (!(fabs(scores[i].toxicity - r.score[i]) < 2e-3))
            fail_msg("text %zu: %g (%s), NumPy says %g", i, scores[i].toxicity, scores[i].why, r.score[i]);
    soothe__scorer_close(scorer);

    scorer = open_scorer(MODEL "#label=insult"); /* the softmax's third part alone */
    must(soothe__scorer_score(scorer, (const char *const *)r.texts, 5, scores, &err), &err);
    for (size_t i = 0; i < 5; i++) {
        const double wanted = exp(r.z[i][2]) / (exp(r.z[i][0]) + exp(r.z[i][1]) + exp(r.z[i][2]));
        assert_true(fabs(scores[i].toxicity - wanted) < 2e-3);
    }
    soothe__scorer_close(scorer);
    free_reference(&r);
}

/* More texts than sequences at once, of many lengths; each as when it is alone, to the engine's rounding. */
static void test_a_text_scores_the_same_in_any_batch(void **state) {
    (void)state;
    struct soothe_error  err;
    struct soothe__score together[150], alone;
    static char          room[150][600];
    const char          *texts[150];
    for (size_t i = 0; i < 150; i++) {
        const size_t n = i * 37 % 599;
        for (size_t j = 0; j < n; j++)
            room[i][j] = j % 7 == 6 ? ' ' : (char)('a' + (i + j * j) % 26);
        texts[i] = room[i];
    }
    struct soothe__scorer *scorer = open_scorer(MODEL);
    must(soothe__scorer_score(scorer, texts, 150, together, &err), &err);
    for (size_t i = 0; i < 150; i += 7) {
        must(soothe__scorer_score(scorer, texts + i, 1, &alone, &err), &err);
        assert_true(fabs(alone.toxicity - together[i].toxicity) < 1e-3);
    }
    must(soothe__scorer_score(scorer, texts, 0, together, &err), &err);
    soothe__scorer_close(scorer);
}

/* A decoder has a cache, which one batch must not leave to the next; of its two labels the engine makes probabilities.
 */
static void test_a_decoder_with_a_head_is_a_classifier(void **state) {
    (void)state;
    struct soothe_error    err;
    struct soothe__score   yes[100], no[100], alone;
    static char            room[100][700];
    const char            *texts[100];
    struct soothe__scorer *a = open_scorer(QWEN3 "#label=yes"), *b = open_scorer(QWEN3 "#label=no");
    for (size_t i = 0; i < 100; i++) {
        memset(room[i], (int)('a' + i % 26), i * 71 % 699);
        texts[i] = room[i];
    }
    strcpy(room[0], "not empty");
    must(soothe__scorer_score(a, texts, 100, yes, &err), &err);
    must(soothe__scorer_score(b, texts, 100, no, &err), &err);
    bool differ = false;
    for (size_t i = 0; i < 100; i++) {
        differ = differ || fabs(yes[i].toxicity - yes[0].toxicity) > 1e-3;
        if (strlen(texts[i]) < 250) /* one window */
            assert_true(fabs(yes[i].toxicity + no[i].toxicity - 1) < 1e-5);
    }
    assert_true(differ);
    for (size_t i = 0; i < 100; i += 9) {
        must(soothe__scorer_score(a, texts + i, 1, &alone, &err), &err);
        assert_true(fabs(alone.toxicity - yes[i].toxicity) < 1e-3);
    }
    must(soothe__scorer_score(a, (const char *const[]){""}, 1, &alone, &err), &err);
    assert_true(isnan(alone.toxicity) && strstr(alone.why, "no tokens"));
    soothe__scorer_close(a);
    soothe__scorer_close(b);
    assert_refused(QWEN3, SOOTHE_E_ARGUMENT, "no label");
}

static void test_what_cannot_be_split_has_a_reason_and_the_others_their_score(void **state) {
    (void)state;
    struct soothe_error    err;
    struct soothe__score   scores[3];
    const char *const      texts[] = {"hello", "a\xFF", "world"};
    struct soothe__scorer *scorer  = open_scorer(NUMBERED);
    must(soothe__scorer_score(scorer, texts, 3, scores, &err), &err);
    assert_true(scores[0].toxicity > 0 && scores[0].toxicity < 1 && scores[2].toxicity > 0);
    assert_true(isnan(scores[1].toxicity) && strstr(scores[1].why, "UTF-8"));
    soothe__scorer_close(scorer);
}

static void test_the_identity_changes_with_the_choice_of_labels(void **state) {
    (void)state;
    struct soothe__scorer *a = open_scorer(MODEL), *b = open_scorer(MODEL "#label=insult"),
                          *c = open_scorer(MODEL "#label=toxic,2");
    assert_string_not_equal(soothe__scorer_identity(a), soothe__scorer_identity(b));
    assert_string_equal(soothe__scorer_identity(a), soothe__scorer_identity(c)); /* the same two labels */
    soothe__scorer_close(a);
    soothe__scorer_close(b);
    soothe__scorer_close(c);
}

static void test_what_is_no_classifier_is_refused(void **state) {
    (void)state;
    assert_refused(DECODER, SOOTHE_E_UNSUPPORTED, "no classification head");
    assert_refused(HEADLESS, SOOTHE_E_UNSUPPORTED, "no classification head");
    assert_refused(MODEL "#label=rude", SOOTHE_E_ARGUMENT, "has no label \"rude\": it has 0 \"neutral\", 1 \"toxic\"");
    assert_refused(MODEL "#label=", SOOTHE_E_ARGUMENT, "has no label \"\"");
    assert_refused(MODEL "#label=3", SOOTHE_E_ARGUMENT, "has no label \"3\"");
    assert_refused(MODEL "#head=1", SOOTHE_E_ARGUMENT, "#label=NAME");
    assert_refused("no_such.gguf#label=toxic", SOOTHE_E_IO, "no_such.gguf");
}

/* ---- labels: sets that published classifiers have ------------------------------------------------------------ */

static void assert_choice(const char *const *labels, size_t n, const char *wanted, const char *marks,
                          enum soothe__label_link wanted_link) {
    bool                    chosen[16];
    enum soothe__label_link link;
    struct soothe_error     err;
    must(soothe__choose_labels(chosen, &link, labels, n, wanted, "x.gguf", &err), &err);
    for (size_t i = 0; i < n; i++)
        if (chosen[i] != (marks[i] == '+'))
            fail_msg("label %s is %schosen", labels[i], chosen[i] ? "" : "not ");
    assert_int_equal(link, wanted_link);
}
#define LABELS(...) ((const char *const[]){__VA_ARGS__}), sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)

static void test_toxic_labels_are_known_by_their_words(void **state) {
    (void)state;
    assert_choice(LABELS("neutral", "toxic"), NULL, "-+", SOOTHE__LINK_SOFTMAX);
    assert_choice(LABELS("LABEL_0", "LABEL_1"), NULL, "-+", SOOTHE__LINK_SOFTMAX);
    assert_choice(LABELS("nothate", "hate"), NULL, "-+", SOOTHE__LINK_SOFTMAX);
    assert_choice(LABELS("Non-Toxic", "Toxic"), NULL, "-+", SOOTHE__LINK_SOFTMAX);
    assert_choice(LABELS("offensive", "not_offensive"), NULL, "+-", SOOTHE__LINK_SOFTMAX);
    assert_choice(LABELS("hate speech", "offensive language", "neither"), NULL, "++-", SOOTHE__LINK_SOFTMAX);
    assert_choice(LABELS("safe", "unsafe"), NULL, "-+", SOOTHE__LINK_SOFTMAX);
    /* several may hold at once: none of them says clean */
    assert_choice(LABELS("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"), NULL, "++++++",
                  SOOTHE__LINK_SIGMOID);
    assert_choice(LABELS("toxicity", "male", "christian"), NULL, "+--", SOOTHE__LINK_SIGMOID);
    assert_choice(LABELS("toxic"), NULL, "+", SOOTHE__LINK_SIGMOID);
    assert_choice(LABELS("a", "b", "c"), "c, 0", "+-+", SOOTHE__LINK_SIGMOID);
    assert_choice(LABELS("", "", "neutral"), "1", "-+-", SOOTHE__LINK_SOFTMAX);
}

static void test_labels_that_say_nothing_are_not_guessed(void **state) {
    (void)state;
    static const struct {
        const char *labels[3];
        size_t      n;
    } sets[] = {{{"positive", "negative"}, 2}, {{""}, 1}, {{"LABEL_0", "LABEL_1", "LABEL_2"}, 3}, {{"nontoxic"}, 1}};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        bool                    chosen[3];
        enum soothe__label_link link;
        struct soothe_error     err;
        assert_int_equal(soothe__choose_labels(chosen, &link, sets[i].labels, sets[i].n, NULL, "x.gguf", &err),
                         SOOTHE_E_ARGUMENT);
        assert_non_null(strstr(err.message, "x.gguf#label=NAME"));
        assert_non_null(strstr(err.message, sets[i].labels[0]));
    }
}

static void test_outputs_become_probabilities(void **state) {
    (void)state;
    const float  z[]    = {1, 2, -1};
    const bool   some[] = {false, true, true};
    const double sum    = exp(1) + exp(2) + exp(-1);
    assert_true(fabs(soothe__label_score(z, some, 3, SOOTHE__LINK_SOFTMAX) - (exp(2) + exp(-1)) / sum) < 1e-12);
    assert_true(fabs(soothe__label_score(z, some, 3, SOOTHE__LINK_SIGMOID) - 1 / (1 + exp(-2))) < 1e-12);
    const float p[] = {.25f, .5f, .25f}, huge[] = {900, 1000, -900}, bad[] = {0, NAN, 0};
    assert_true(soothe__label_score(p, some, 3, SOOTHE__LINK_NONE) == .75);
    assert_true(soothe__label_score(huge, some, 3, SOOTHE__LINK_SOFTMAX) == 1);
    assert_true(isnan(soothe__label_score(bad, some, 3, SOOTHE__LINK_SOFTMAX)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores_agree_with_numpy),
        cmocka_unit_test(test_a_text_scores_the_same_in_any_batch),
        cmocka_unit_test(test_a_decoder_with_a_head_is_a_classifier),
        cmocka_unit_test(test_what_cannot_be_split_has_a_reason_and_the_others_their_score),
        cmocka_unit_test(test_the_identity_changes_with_the_choice_of_labels),
        cmocka_unit_test(test_what_is_no_classifier_is_refused),
        cmocka_unit_test(test_toxic_labels_are_known_by_their_words),
        cmocka_unit_test(test_labels_that_say_nothing_are_not_guessed),
        cmocka_unit_test(test_outputs_become_probabilities),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
