/* SPDX-License-Identifier: Apache-2.0
 * The lexicon scorer and the masking of toxic words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "score/score.h"

static double score(const char *text) {
    return soothe__lexicon_score(text, strlen(text));
}
static size_t count(const char *text) {
    return soothe__lexicon_count(text, strlen(text));
}

static void assert_masked(const char *text, const char *expected) {
    char *masked = soothe__mask_toxic(text, strlen(text));
    assert_non_null(masked);
    assert_string_equal(masked, expected);
    free(masked);
}

static void test_harmless_text_scores_zero(void **state) {
    (void)state;
    static const char *texts[] = {"",
                                  "The weather is lovely today.",
                                  "Scunthorpe, Matsushita and Fukushima",
                                  "a snigger of a therapist",
                                  "gay, black, Muslim, Jewish, Chinese or disabled",
                                  "Dick Cheney spoke",
                                  "U.S.S.R. 1945 455 7/11 $5",
                                  "a naïve fiancée"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (score(texts[i]) != 0.0)
            fail_msg("\"%s\" scores %g", texts[i], score(texts[i]));
    }
}

static void test_a_listed_word_counts_in_any_case_and_form(void **state) {
    (void)state;
    static const char *words[] = {"fuck",    "FUCK",         "Fucked",  "fuckin'", "fucking", "shits",    "shitting",
                                  "bitches", "masturbating", "retards", "idiots",  "faggots", "fucker's", "whores"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (count(words[i]) != 1)
            fail_msg("\"%s\" counts %zu", words[i], count(words[i]));
}

static void test_the_usual_disguises_are_seen_through(void **state) {
    (void)state;
    static const char *words[] = {"sh1t",    "5h1t",      "@sshole", "$hit",     "b!tch",   "f***",    "f**k",
                                  "f--king", "sh*t",      "n*****",  "f u c k",  "s.h.i.t", "S-H-I-T", "fuuuuuck",
                                  "shiiiit", "niggggger", "a55hole", "@asshole", "**shit**"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (count(words[i]) != 1)
            fail_msg("\"%s\" counts %zu", words[i], count(words[i]));
}

static void test_strong_words_are_found_inside_longer_ones(void **state) {
    (void)state;
    assert_int_equal(count("absofuckinglutely"), 1);
    assert_int_equal(count("shitgibbon and horseshitty"), 1); /* not in the midst of a word: names hold it there */
    assert_int_equal(count("motherfuckery"), 1);
}

static void test_phrases_count_once(void **state) {
    (void)state;
    assert_int_equal(count("you son of a bitch"), 1);
    assert_int_equal(count("piece of shit!"), 1);
    assert_int_equal(count("shut up, idiot"), 2);
    assert_int_equal(count("son-of-a-bitch"), 1);
}

static void test_punctuation_beyond_ascii_ends_a_word(void **state) {
    (void)state;
    assert_int_equal(count("\xE2\x80\x9Cshit\xE2\x80\x9D"), 1);
    assert_int_equal(count("what the fuck\xE2\x80\xA6"), 1);
    assert_int_equal(count("\xC3\xA9shit\xC3\xA9"), 0); /* but a letter does not */
}

static void test_the_score_is_one_minus_the_product_over_hits(void **state) {
    (void)state;
    const double a = score("shit"), b = score("idiot");
    assert_true(a > 0.5 && b > 0.5 && a < 1.0 && b < 1.0);
    assert_true(fabs(score("shit, idiot") - (1 - (1 - a) * (1 - b))) < 1e-9);
    assert_true(score("crap") < score("shit"));
    assert_true(score("hate to kill time") < 0.6);
}

static void test_a_slur_outweighs_a_swear_word(void **state) {
    (void)state;
    assert_true(score("faggot") > score("fuck"));
    assert_true(score("fuck") > score("damn"));
}

static void test_crude_words_are_masked_and_insults_stay_readable(void **state) {
    (void)state;
    assert_masked("What the fuck, you idiot?", "W*** t** f***, you idiot?");
    assert_masked("Shit happens", "S*** happens");
    assert_masked("damn it, what the hell", "damn it, what the hell");
    assert_masked("absofuckinglutely", "absof***inglutely");
    assert_masked("a motherfucking 'shit'", "a m************ 's***'");
    assert_masked("f**k", "f***");
    assert_masked("\xE2\x80\x9C"
                  "bitch\xE2\x80\x9D and gr\xC3\xBC\xC3\x9F",
                  "\xE2\x80\x9C"
                  "b****\xE2\x80\x9D and gr\xC3\xBC\xC3\x9F");
    assert_masked("", "");
}

static void test_masking_keeps_length_and_hides_every_word_it_masks(void **state) {
    (void)state;
    static const char text[] = "a\0fuck\0b \xFF\xFE shit";
    char             *masked = soothe__mask_toxic(text, sizeof text - 1);
    assert_memory_equal(masked, "a\0f***\0b \xFF\xFE s***", sizeof text);
    free(masked);
    masked = soothe__mask_toxic(NULL, 0);
    assert_string_equal(masked, "");
    free(masked);
}

static void test_any_bytes_are_taken(void **state) {
    (void)state;
    static const char  alphabet[] = "fuckshit*@$!'-_. \xE2\x80\x99\xC3\xFF\0"
                                    "1a\n";
    struct soothe__rng rng        = soothe__rng_seed(7, 7);
    for (int round = 0; round < 20000; round++) {
        const size_t size = soothe__rng_below(&rng, 100);
        char        *text = soothe__calloc(size, 1); /* exact size: a sanitizer sees a step beyond */
        for (size_t i = 0; i < size; i++)
            text[i] = alphabet[soothe__rng_below(&rng, sizeof alphabet - 1)];
        const double s = soothe__lexicon_score(text, size);
        assert_true(s >= 0.0 && s <= 1.0);
        assert_true((s > 0.0) == (soothe__lexicon_count(text, size) > 0));
        free(soothe__mask_toxic(text, size));
        free(text);
    }
}

static void test_a_very_long_word_does_no_harm(void **state) {
    (void)state;
    enum { N = 100000 };
    char *text = soothe__calloc(N, 1);
    memset(text, 'f', N);
    assert_int_equal(soothe__lexicon_count(text, N), 0);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_harmless_text_scores_zero),
        cmocka_unit_test(test_a_listed_word_counts_in_any_case_and_form),
        cmocka_unit_test(test_the_usual_disguises_are_seen_through),
        cmocka_unit_test(test_strong_words_are_found_inside_longer_ones),
        cmocka_unit_test(test_phrases_count_once),
        cmocka_unit_test(test_punctuation_beyond_ascii_ends_a_word),
        cmocka_unit_test(test_the_score_is_one_minus_the_product_over_hits),
        cmocka_unit_test(test_a_slur_outweighs_a_swear_word),
        cmocka_unit_test(test_crude_words_are_masked_and_insults_stay_readable),
        cmocka_unit_test(test_masking_keeps_length_and_hides_every_word_it_masks),
        cmocka_unit_test(test_any_bytes_are_taken),
        cmocka_unit_test(test_a_very_long_word_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
