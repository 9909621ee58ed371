/* SPDX-License-Identifier: Apache-2.0
 * Training: learns, is the same twice, keeps held-out texts out, refuses what it cannot learn from. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "score/ngram_train.h"
#include "test_support.h"

static struct soothe__labelled_texts texts;

static int read_texts(void **state) {
    const struct soothe__labelled_fields fields = {0};
    struct soothe_error                  err;
    char                                *path = soothe__format("%s/scorer_train.jsonl", getenv("SOOTHE_DATA"));
    (void)state;
    llama_log_set(quiet, NULL);
    must(soothe__labelled_read(&texts, path, &fields, &err), &err);
    free(path);
    return 0;
}

static int free_texts(void **state) {
    (void)state;
    soothe__labelled_free(&texts);
    return 0;
}

static struct soothe__ngram_train_options small_options(void) {
    struct soothe__ngram_train_options o = soothe__ngram_train_options_default();
    o.shape.bits                         = 14;
    o.n_threads                          = 1;
    o.seed                               = 7; /* seed 1 is the shipped scorer's split, by which the rows were chosen */
    return o;
}

/* Trains, writes the file, and returns its hash. */
static void train(const struct soothe__ngram_train_options *o, struct soothe__ngram_train_report *report,
                  char hash[65]) {
    struct soothe__ngram_scorer *s;
    struct soothe_error          err;
    must(soothe__ngram_train(&s, report, &texts, o, &err), &err);
    must(soothe__ngram_train_save(s, report, &texts, o, "trained.gguf", &err), &err);
    must(soothe__sha256_file(hash, "trained.gguf", &err), &err);
    soothe__ngram_close(s);
}

static void test_it_learns_and_says_how_well(void **state) {
    const struct soothe__ngram_train_options o = small_options();
    struct soothe__ngram_train_report        r;
    char                                     hash[65];
    size_t                                   n = 0;
    (void)state;
    train(&o, &r, hash);
    for (size_t i = 0; i < texts.n; i++) {
        n += r.held_out[i];
        assert_true(r.held_out[i] ? r.scores[i] >= 0 && r.scores[i] <= 1 : isnan(r.scores[i]));
    }
    assert_int_equal(n, r.n_holdout);
    assert_int_equal(r.n_train + r.n_calibration + r.n_holdout, texts.n);
    assert_true(n > texts.n / 8 && n < texts.n / 3);
    assert_string_equal(r.figures[r.n_figures - 1].source, "all");
    assert_true(r.figures[r.n_figures - 1].auc > 0.85); /* .5 is chance */
    soothe__ngram_train_report_free(&r);
}

static void test_the_file_tells_where_it_comes_from(void **state) {
    struct soothe__gguf g;
    struct soothe_error err;
    (void)state;
    must(soothe__gguf_open(&g, "trained.gguf", &err), &err);
    assert_string_equal(soothe__gguf_find_string(&g, "general.type"), SOOTHE__NGRAM_TYPE);
    assert_string_equal(soothe__gguf_find_string(&g, "soothe.training.data.0.file"), "scorer_train.jsonl");
    assert_string_equal(soothe__gguf_find_string(&g, "soothe.training.data.0.sha256"), texts.files[0].sha256);
    assert_true(gguf_find_key(g.meta, "soothe.training.result.paradetox.auc") >= 0);
    assert_true(gguf_find_key(g.meta, "soothe.training.seed") >= 0);
    soothe__gguf_close(&g);
}

static void test_twice_and_with_more_threads_is_the_same_file(void **state) {
    struct soothe__ngram_train_options o = small_options();
    struct soothe__ngram_train_report  r;
    char                               a[65], b[65];
    (void)state;
    o.max_iterations = 10;
    train(&o, &r, a);
    soothe__ngram_train_report_free(&r);
    o.n_threads = 3;
    train(&o, &r, b);
    soothe__ngram_train_report_free(&r);
    assert_string_equal(a, b);
    o.seed = 8;
    train(&o, &r, b);
    soothe__ngram_train_report_free(&r);
    assert_string_not_equal(a, b);
    remove("trained.gguf");
}

static void test_equal_texts_lie_on_one_side(void **state) {
    enum { N = 200 };
    struct soothe__ngram_train_options o = small_options();
    struct soothe__ngram_train_report  r;
    struct soothe__ngram_scorer       *s;
    struct soothe_error                err;
    char                              *list[N], *names[] = {(char[]){"one"}, (char[]){"two"}};
    float                              labels[N];
    uint32_t                           sources[N];
    (void)state;
    for (int i = 0; i < N; i++) { /* the second half says the first again, louder, and under another source */
        list[i]    = soothe__format(i < N / 2 ? "text number %c%c %s" : "TEXT  Number %c%c  %s", 'a' + i % 10,
                                 'a' + i % (N / 2) / 10, i % 2 ? "good" : "bad");
        labels[i]  = i % 2 ? 0.0f : 1.0f;
        sources[i] = i >= N / 2;
    }
    const struct soothe__labelled_texts t = {
        .texts = list, .labels = labels, .sources = sources, .n = N, .names = names, .n_names = 2};
    o.max_iterations = 5;
    o.holdout        = 0.5;
    must(soothe__ngram_train(&s, &r, &t, &o, &err), &err);
    for (int i = 0; i < N / 2; i++)
        assert_int_equal(r.held_out[i], r.held_out[i + N / 2]);
    soothe__ngram_train_report_free(&r);
    soothe__ngram_close(s);
    for (int i = 0; i < N; i++)
        free(list[i]);
}

static void test_what_cannot_be_learnt_is_refused(void **state) {
    const struct soothe__source_weight  weight = {"nowhere", 2};
    struct soothe__ngram_train_options  o      = small_options();
    struct soothe__ngram_train_report   r;
    struct soothe__ngram_scorer        *s;
    struct soothe_error                 err;
    const struct soothe__labelled_texts none = {0};
    (void)state;
    assert_int_equal(soothe__ngram_train(&s, &r, &none, &o, &err), SOOTHE_E_ARGUMENT);
    o.weights   = &weight;
    o.n_weights = 1;
    assert_int_equal(soothe__ngram_train(&s, &r, &texts, &o, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "nowhere"));
    o   = small_options();
    o.c = -1;
    assert_int_equal(soothe__ngram_train(&s, &r, &texts, &o, &err), SOOTHE_E_ARGUMENT);
    assert_null(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_learns_and_says_how_well), cmocka_unit_test(test_the_file_tells_where_it_comes_from),
        cmocka_unit_test(test_twice_and_with_more_threads_is_the_same_file),
        cmocka_unit_test(test_equal_texts_lie_on_one_side), cmocka_unit_test(test_what_cannot_be_learnt_is_refused)};
    return cmocka_run_group_tests(tests, read_texts, free_texts);
}
