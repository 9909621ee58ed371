/* SPDX-License-Identifier: Apache-2.0
 * Words without disguise, and where they stand in the text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "score/text_forms.h"
#include "test_support.h"

static struct soothe__word_list list;

static int make_list(void **state) {
    static const char *const words[] = {"idiot", "moron", "stupid", "pest", "ass", "donkey", "donkeyhood"};
    struct soothe_error      err;
    (void)state;
    must(soothe__word_list_new(&list, words, sizeof words / sizeof *words, &err), &err);
    return 0;
}

static int free_list(void **state) {
    (void)state;
    soothe__word_list_free(&list);
    return 0;
}

/* The form's words with blanks between; special words as capital letters. */
static void expect(const char *text, const struct soothe__word_list *words, const char *wanted) {
    struct soothe__text_form form = {0};
    struct soothe_error      err;
    char                     got[512] = "";
    size_t                   n = 0, end = 0;
    must(soothe__text_form_read(&form, text, strlen(text), words, &err), &err);
    for (size_t i = 0; i < form.n_words; i++) {
        const struct soothe__word *w = &form.words[i];
        assert_true(w->n > 0 && w->start < w->end && w->end <= strlen(text) && w->start >= end);
        end = w->end;
        for (uint32_t k = 0; k < w->n && n + 2 < sizeof got; k++) {
            const uint32_t c = form.chars[w->first + k];
            got[n++]         = c == SOOTHE__WORD_ADDRESS   ? 'A'
                               : c == SOOTHE__WORD_MENTION ? 'M'
                               : c == SOOTHE__WORD_NUMBER  ? 'N'
                               : c < 0x80                  ? (char)c
                                                           : '?';
        }
        got[n++] = ' ';
    }
    got[n ? n - 1 : 0] = '\0';
    assert_string_equal(got, wanted);
    soothe__text_form_free(&form);
}

static void test_plain_text_is_lower_cased_and_split(void **state) {
    (void)state;
    expect("Hello, World!", &list, "hello , world !");
    expect("don't well-known  what???", &list, "dont well - known what ??");
    expect("", &list, "");
    expect(" \t\r\n ", &list, "");
    expect("in 2024 the 2nd covid19", &list, "in N the 2nd covid19");
}

static void test_disguises_come_off(void **state) {
    (void)state;
    expect("i d i o t", &list, "idiot");
    expect("you i.d.i.o.t!", &list, "you idiot !");
    expect("s-t-u-p-i-d", &list, "stupid");
    expect("a i d i o t", &list, "a idiot");
    expect("1d10t $tup1d st0opid", &list, "idiot stupid stoopid");
    expect("stuuuupid MORRRRON", &list, "stupid moron");
    expect("st*pid m***n id##t", &list, "stupid moron idiot");
    expect("d*****", &list, "donkey");
    expect("stu pid mor on", &list, "stupid moron");
    expect("@ss", &list, "ass");
}

static void test_masks_stay_where_no_word_fits(void **state) {
    (void)state;
    expect("x*z", &list, "x*z");
    expect("st*pid", NULL, "st*pid");
    expect("e-mail, a.m. and t-shirt", &list, "e - mail , a . m . and t - shirt");
    expect("*sigh*", &list, "*sigh*");
}

static void test_innocent_neighbours_are_not_joined(void **state) {
    static const char *const words[] = {"theme", "into", "ass"};
    struct soothe__word_list other;
    struct soothe_error      err;
    (void)state;
    must(soothe__word_list_new(&other, words, 3, &err), &err);
    expect("the me in to", &other, "the me in to");
    expect("as sure", &other, "as sure");
    soothe__word_list_free(&other);
}

static void test_unicode_lookalikes_are_read(void **state) {
    (void)state;
    expect("\xd1\x95tu\xd1\x80id", &list, "stupid"); /* Cyrillic s and r */
    expect("\xef\xbd\x93\xef\xbd\x94\xef\xbd\x95\xef\xbd\x90\xef\xbd\x89\xef\xbd\x84", &list,
           "stupid"); /* full width */
    expect("\xf0\x9d\x93\xbc\xf0\x9d\x93\xbd\xf0\x9d\x93\xbe\xf0\x9d\x93\xb9\xf0\x9d\x93\xb2\xf0\x9d\x93\xad", &list,
           "stupid"); /* mathematical script */
    expect("st\xe2\x80\x8bup\xc2\xad"
           "id",
           &list, "stupid"); /* zero width space, soft hyphen */
    expect("s\xcc\xb6t\xcc\xb6upid \xc3\xaf"
           "diot",
           &list, "stupid idiot"); /* struck out; diaeresis */
    expect("don\xe2\x80\x99t &amp; &#33;", &list, "dont & !");
}

static void test_addresses_and_mentions_are_words(void **state) {
    (void)state;
    expect("see https://a.example/x?y=1 and www.b.example @someone_1", &list, "see A and A M");
}

static void test_any_bytes_are_read(void **state) {
    struct soothe__text_form form   = {0};
    const char               text[] = "a\0b \xff\xfe\xc3 \xf0\x9f\x98\x80 c";
    struct soothe_error      err;
    (void)state;
    must(soothe__text_form_read(&form, text, sizeof text - 1, &list, &err), &err);
    assert_true(form.n_words >= 4);
    soothe__text_form_free(&form);
}

/* Two megabytes without a space, with each sign that joins: the scans for a word's forms must stop, or their time is
 * the square of the length. */
static void test_long_runs_are_read_in_pieces(void **state) {
    static const char *const units[] = {"a", "a*", "a'", "*", "a@", "-", "1"};
    const size_t             size    = 2 << 20;
    char                    *text    = malloc(size);
    struct soothe_error      err;
    (void)state;
    assert_non_null(text);
    for (size_t k = 0; k < sizeof units / sizeof *units; k++) {
        struct soothe__text_form form = {0};
        const size_t             n    = strlen(units[k]);
        for (size_t i = 0; i < size; i++)
            text[i] = units[k][i % n];
        must(soothe__text_form_read(&form, text, size, &list, &err), &err);
        assert_true(form.n_words > 0 && form.words[form.n_words - 1].end == size);
        soothe__text_form_free(&form);
    }
    free(text);
}

static uint64_t hash_of(const char *text) {
    struct soothe__text_form form = {0};
    struct soothe_error      err;
    must(soothe__text_form_read(&form, text, strlen(text), NULL, &err), &err);
    const uint64_t hash = soothe__text_form_hash(&form);
    soothe__text_form_free(&form);
    return hash;
}

static void test_equal_texts_have_equal_hashes(void **state) {
    (void)state;
    assert_true(hash_of("Hello   World") == hash_of("hello world\n"));
    assert_true(hash_of("hello world") != hash_of("hello worlds"));
    assert_true(hash_of("ab c") != hash_of("a bc"));
}

static void test_unfit_words_are_refused(void **state) {
    static const char *const bad[] = {"", "x", "Upper", "two words", "abcdefghijklmnopqrstuvwxyz"};
    struct soothe__word_list l;
    struct soothe_error      err;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(soothe__word_list_new(&l, &bad[i], 1, &err), SOOTHE_E_FORMAT);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_plain_text_is_lower_cased_and_split),
                                       cmocka_unit_test(test_disguises_come_off),
                                       cmocka_unit_test(test_masks_stay_where_no_word_fits),
                                       cmocka_unit_test(test_innocent_neighbours_are_not_joined),
                                       cmocka_unit_test(test_unicode_lookalikes_are_read),
                                       cmocka_unit_test(test_addresses_and_mentions_are_words),
                                       cmocka_unit_test(test_any_bytes_are_read),
                                       cmocka_unit_test(test_long_runs_are_read_in_pieces),
                                       cmocka_unit_test(test_equal_texts_have_equal_hashes),
                                       cmocka_unit_test(test_unfit_words_are_refused)};
    return cmocka_run_group_tests(tests, make_list, free_list);
}
