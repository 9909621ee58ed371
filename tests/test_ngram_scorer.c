/* SPDX-License-Identifier: Apache-2.0
 * The shipped scorer: against a second implementation, under disguises, its attributions, spans and windows. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/statistics.h"
#include "engine/engine.h"
#include "score/labelled_texts.h"
#include "score/ngram_file.h"
#include "score/ngram_scorer.h"
#include "score/scorer.h"
#include "test_support.h"

static struct soothe__ngram_scorer *scorer;
static char                        *scorer_path;

static int open_default(void **state) {
    struct soothe_error err;
    (void)state;
    llama_log_set(quiet, NULL);
    must(soothe__default_scorer(&scorer_path, &err), &err);
    must(soothe__ngram_open(&scorer, scorer_path, &err), &err);
    return 0;
}

static int close_default(void **state) {
    (void)state;
    soothe__ngram_close(scorer);
    free(scorer_path);
    return 0;
}

static double score(const char *text) {
    return soothe__ngram_score(scorer, text, strlen(text));
}

static char *data_path(const char *name) {
    return soothe__format("%s/%s", getenv("SOOTHE_DATA"), name);
}

/* tests/data/ngram_reference.tsv is made by scripts/ngram_reference.py, which shares no code with the library. */
static void test_log_odds_agree_with_a_second_implementation(void **state) {
    char               *path = data_path("ngram_reference.tsv"), *data;
    size_t              size, n = 0;
    struct soothe_error err;
    (void)state;
    must(soothe__read_file(&data, &size, path, &err), &err);
    for (char *save, *line = strtok_r(data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        struct soothe__ngram_parts parts;
        char                      *tab = strchr(line, '\t');
        assert_non_null(tab);
        *tab = '\0';
        must(soothe__ngram_explain(&parts, scorer, line, strlen(line), &err), &err);
        /* figures of five digits; weights in f32 here, in f64 there */
        assert_true(fabs(parts.log_odds - strtod(tab + 1, NULL)) < 1e-4);
        soothe__ngram_parts_free(&parts);
        n++;
    }
    assert_true(n >= 10);
    free(data);
    free(path);
}

static void test_held_out_texts_are_told_apart(void **state) {
    const struct soothe__labelled_fields fields = {0};
    struct soothe__labelled_texts        t      = {0};
    struct soothe__score_figures        *figures;
    struct soothe_error                  err;
    char                                *path = data_path("scorer_heldout.jsonl");
    size_t                               n;
    (void)state;
    must(soothe__labelled_read(&t, path, &fields, &err), &err);
    double *scores = soothe__calloc(t.n, sizeof *scores);
    assert_non_null(scores);
    for (size_t i = 0; i < t.n; i++)
        scores[i] = score(t.texts[i]);
    must(soothe__score_figures(&figures, &n, &t, scores, NULL, &err), &err);
    assert_int_equal(n, 2); /* paradetox and all */
    assert_true(figures[0].n == 200 && figures[0].auc > 0.97 && figures[0].ece < 0.1);
    free(figures);
    free(scores);
    soothe__labelled_free(&t);
    free(path);
}

static void test_a_disguise_changes_little(void **state) {
    static const struct {
        const char *plain, *disguised;
    } pairs[] = {
        {"you are an idiot", "you are an i d i o t"},
        {"you are an idiot", "you are an 1d10t"},
        {"you are an idiot", "you are an id**t"},
        {"you are an idiot", "YOU ARE AN IDIOOOOT"},
        {"you are an idiot", "y\xd0\xbeu \xd0\xb0r\xd0\xb5"
                             " an \xd1\x96"
                             "di\xd0\xbet"}, /* Cyrillic o, a, e, i */
        {"you are an idiot", "you are an i\xe2\x80\x8b"
                             "diot"},
        {"you are an idiot", "you are an \xef\xbd\x89\xef\xbd\x84\xef\xbd\x89\xef\xbd\x8f\xef\xbd\x94"},
        {"what a moron he is", "what a m.o.r.o.n he is"},
        {"what a moron he is", "what a m0r0n he is"},
        {"what a moron he is", "what a mo*on he is"},
        {"what a moron he is", "what a moooroooon he is"},
        {"thank you for your help", "th\xd0\xb0nk you for y0ur h3lp"},
        {"have a nice day", "h a v e a nice day"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (fabs(score(pairs[i].plain) - score(pairs[i].disguised)) > 0.15)
            fail_msg("pair %zu: %.3f, disguised %.3f", i, score(pairs[i].plain), score(pairs[i].disguised));
}

static void test_clean_and_toxic_are_on_their_sides(void **state) {
    (void)state;
    assert_true(score("have a nice day") < 0.1);
    assert_true(score("The committee will meet again on Tuesday.") < 0.1);
    assert_true(score("you are a stupid idiot") > 0.9);
    assert_true(score("") == 0.0);
    assert_true(score(" \n\t") == 0.0);
}

static void test_attributions_sum_to_the_log_odds(void **state) {
    static const char *const texts[] = {"you are an 1d10t, a real id**t !!", "word word word", "a",
                                        "S\xc3\xa3o Paulo is a big city, isn't it? http://x.example @you 42", ""};
    struct soothe_error      err;
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct soothe__ngram_parts p;
        must(soothe__ngram_explain(&p, scorer, texts[i], strlen(texts[i]), &err), &err);
        double sum = p.bias;
        size_t end = 0;
        for (size_t k = 0; k < p.n; k++) {
            sum += p.parts[k].value;
            assert_true(p.parts[k].start >= end && p.parts[k].end > p.parts[k].start);
            end = p.parts[k].end;
        }
        assert_true(end <= strlen(texts[i]));
        assert_true(fabs(sum - p.log_odds) < 1e-9 * (1 + fabs(sum)));
        if (p.n)
            assert_true(fabs(1 / (1 + exp(-p.log_odds)) - score(texts[i])) < 1e-12);
        soothe__ngram_parts_free(&p);
    }
}

static void test_spans_name_the_toxic_words(void **state) {
    const char                *text = "Hello, you stupid idiot, how are you, m*ron?";
    struct soothe__ngram_parts p;
    struct soothe_error        err;
    (void)state;
    must(soothe__ngram_spans(&p, scorer, text, strlen(text), 0.5, &err), &err);
    assert_int_equal(p.n, 2);
    assert_int_equal(p.parts[0].start, 11);
    assert_int_equal(p.parts[0].end, 23); /* "stupid idiot" */
    assert_int_equal(p.parts[1].start, 38);
    assert_int_equal(p.parts[1].end, 43); /* "m*ron" */
    assert_true(p.parts[0].value > 0.9 && p.parts[1].value > 0.5);
    soothe__ngram_parts_free(&p);
    must(soothe__ngram_spans(&p, scorer, "a nice day", 10, 0.5, &err), &err);
    assert_int_equal(p.n, 0);
    soothe__ngram_parts_free(&p);
}

static void test_windows_find_the_insult_in_a_long_text(void **state) {
    enum { N = 600 };
    char                         text[N * 8] = "";
    struct soothe__ngram_windows w;
    struct soothe_error          err;
    (void)state;
    for (int i = 0; i < N; i++)
        if (i == 450)
            strcat(text, "idiot ");
        else /* words of all kinds, five letters each */
            sprintf(text + strlen(text), "%c%c%c%c%c ", "bcdfg"[i % 5], "aeiou"[i / 5 % 5], "lmnrst"[i % 6],
                    "aeiou"[i / 25 % 5], "bdgkp"[i / 7 % 5]);
    must(soothe__ngram_windows(&w, scorer, text, strlen(text), &err), &err);
    assert_true(w.n > 10 && w.max > w.mean && w.max > score(text));
    assert_true(w.start < 450 * 6 && w.end > 450 * 6);
    must(soothe__ngram_windows(&w, scorer, "one two", 7, &err), &err);
    assert_true(w.n == 1 && w.max == w.mean && w.max == score("one two") && w.end == 7);
    must(soothe__ngram_windows(&w, scorer, "", 0, &err), &err);
    assert_true(w.n == 1 && w.max == 0.0);
}

static void test_a_saved_scorer_is_read_back_the_same(void **state) {
    static const char *const     texts[] = {"you are an idi*t", "have a nice day"};
    struct soothe__ngram_scorer *again;
    struct soothe_error          err;
    char                         first[65], second[65];
    (void)state;
    must(soothe__ngram_save(scorer, NULL, "again.gguf", &err), &err);
    must(soothe__ngram_open(&again, "again.gguf", &err), &err);
    for (size_t i = 0; i < 2; i++)
        assert_true(soothe__ngram_score(again, texts[i], strlen(texts[i])) == score(texts[i]));
    must(soothe__sha256_file(first, "again.gguf", &err), &err);
    must(soothe__ngram_save(again, NULL, "again.gguf", &err), &err);
    must(soothe__sha256_file(second, "again.gguf", &err), &err);
    assert_string_equal(first, second);
    soothe__ngram_close(again);
    remove("again.gguf");
}

/* The bytes of the file with one metadata value changed. */
static enum soothe_status open_changed(const char *key, float bias, uint32_t value, struct soothe_error *err) {
    struct soothe__ngram_scorer *again;
    struct gguf_context         *meta = gguf_init_empty();
    if (key)
        gguf_set_val_u32(meta, key, value);
    else
        gguf_set_val_f32(meta, "soothe.ngram.bias", bias);
    must(soothe__ngram_save(scorer, meta, "changed.gguf", err), err);
    gguf_free(meta);
    const enum soothe_status status = soothe__ngram_open(&again, "changed.gguf", err);
    soothe__ngram_close(again);
    remove("changed.gguf");
    return status;
}

static void test_damaged_files_are_refused(void **state) {
    struct soothe__ngram_scorer *again;
    struct soothe_error          err;
    (void)state;
    assert_int_equal(open_changed("soothe.format_version", 0, 99, &err), SOOTHE_E_FORMAT);
    assert_int_equal(open_changed("soothe.ngram.bits", 0, 60, &err), SOOTHE_E_FORMAT);
    assert_int_equal(open_changed("soothe.ngram.bits", 0, 9, &err), SOOTHE_E_SHAPE);
    assert_int_equal(open_changed("soothe.ngram.char_max", 0, 1000, &err), SOOTHE_E_FORMAT);
    assert_int_equal(open_changed("soothe.ngram.window", 0, 0, &err), SOOTHE_E_FORMAT);
    assert_int_equal(open_changed(NULL, NAN, 0, &err), SOOTHE_E_NUMERIC);
    assert_int_equal(open_changed(NULL, INFINITY, 0, &err), SOOTHE_E_NUMERIC);
    assert_int_equal(open_changed(NULL, -1.5f, 0, &err), SOOTHE_OK);
    assert_int_equal(soothe__ngram_open(&again, "no-such-file.gguf", &err), SOOTHE_E_IO);
    assert_null(again);
}

static void test_the_scorer_is_the_default_one(void **state) {
    const char            *texts[] = {"you idiot", "hello"};
    struct soothe__scorer *s;
    struct soothe__score   scores[2];
    struct soothe_error    err;
    char                   identity[65];
    (void)state;
    must(soothe__scorer_open(&s, "default", NULL, &err), &err);
    assert_string_equal(soothe__scorer_kind(s), "ngram");
    must(soothe__scorer_score(s, texts, 2, scores, &err), &err);
    assert_true(scores[0].toxicity == score(texts[0]) && scores[1].toxicity == score(texts[1]));
    snprintf(identity, sizeof identity, "%s", soothe__scorer_identity(s));
    soothe__scorer_close(s);
    must(soothe__scorer_open(&s, scorer_path, NULL, &err), &err);
    assert_string_equal(soothe__scorer_identity(s), identity);
    assert_string_equal(soothe__scorer_kind(s), "ngram");
    soothe__scorer_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_log_odds_agree_with_a_second_implementation),
                                       cmocka_unit_test(test_held_out_texts_are_told_apart),
                                       cmocka_unit_test(test_a_disguise_changes_little),
                                       cmocka_unit_test(test_clean_and_toxic_are_on_their_sides),
                                       cmocka_unit_test(test_attributions_sum_to_the_log_odds),
                                       cmocka_unit_test(test_spans_name_the_toxic_words),
                                       cmocka_unit_test(test_windows_find_the_insult_in_a_long_text),
                                       cmocka_unit_test(test_a_saved_scorer_is_read_back_the_same),
                                       cmocka_unit_test(test_damaged_files_are_refused),
                                       cmocka_unit_test(test_the_scorer_is_the_default_one)};
    return cmocka_run_group_tests(tests, open_default, close_default);
}
