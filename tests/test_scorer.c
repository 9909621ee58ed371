/* SPDX-License-Identifier: Apache-2.0
 * Statistics of scores, and the one interface of all scorers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "test_support.h"
#include "base/statistics.h"
#include "score/scorer.h"

static void test_auc_counts_the_pairs_won_and_half_of_the_ties(void **state) {
    (void)state;
    /* by hand: positives .8 .5 .5, negatives .5 .2; won: 2 + (.5+1) + (.5+1) = 5 of 6 */
    const double        scores[] = {.5, .8, .2, .5, .5};
    const unsigned char labels[] = {0, 1, 0, 1, 1};
    assert_true(fabs(soothe__roc_auc(scores, labels, 5) - 5.0 / 6) < 1e-12);
    assert_true(isnan(soothe__roc_auc(scores, labels, 1)));
    const double unknown[] = {.5, NAN};
    assert_true(isnan(soothe__roc_auc(unknown, labels, 2)));
}

static void test_calibration_error_of_a_case_done_by_hand(void **state) {
    (void)state;
    /* bins of .5: {.2 .4; one positive}: |.5-.3| ; {.9 1; one positive}: |.5-.95|; error (.2+.45)/2 */
    const double        scores[] = {.2, .4, .9, 1};
    const unsigned char labels[] = {1, 0, 1, 0};
    struct soothe__bin  bins[2];
    assert_true(fabs(soothe__calibration_error(scores, labels, 4, 2, bins) - .325) < 1e-12);
    assert_int_equal(bins[1].n, 2);
    assert_true(fabs(bins[0].mean_score - .3) < 1e-12);
}

/* The interval of a mean covers it in about 95 of 100 samples; 0.90 .. 0.99 is within 3.7 errors at 300 samples. */
static void test_the_bootstrap_interval_covers_the_mean(void **state) {
    (void)state;
    struct soothe__rng  rng = soothe__rng_seed(1, 1);
    struct soothe_error err;
    int                 covered = 0;
    for (int k = 0; k < 300; k++) {
        double                  x[60];
        struct soothe__interval i;
        for (int j = 0; j < 60; j++)
            x[j] = soothe__rng_uniform(&rng);
        must(soothe__bootstrap_mean(&i, x, 60, .95, 400, &rng, &err), &err);
        assert_true(i.lo <= i.value && i.value <= i.hi);
        covered += i.lo <= .5 && .5 <= i.hi;
    }
    assert_in_range(covered, 270, 297);
}

static void test_ratio_and_quantiles(void **state) {
    (void)state;
    struct soothe__rng      rng = soothe__rng_seed(1, 1);
    struct soothe_error     err;
    struct soothe__interval i;
    const double            x[] = {1, 2, 3}, w[] = {2, 4, 6};
    must(soothe__bootstrap_ratio(&i, x, w, 3, .95, 100, &rng, &err), &err);
    assert_true(i.value == .5 && fabs(i.lo - .5) < 1e-12 && fabs(i.hi - .5) < 1e-12);
    assert_true(soothe__quantile_sorted(x, 3, .25) == 1.5);
    must(soothe__bootstrap_mean(&i, x, 0, .95, 100, &rng, &err), &err);
    assert_true(isnan(i.value));
}

static void test_a_command_that_says_null_gives_no_score_but_a_reason(void **state) {
    (void)state;
    struct soothe__scorer *scorer;
    struct soothe_error    err;
    const char *const      texts[] = {"a", "b"};
    struct soothe__score   scores[2];
    must(soothe__scorer_open(&scorer, "command:cat >/dev/null; printf '{\"score\": 0.5}\\n{\"score\": null}\\n'", NULL,
                             &err),
         &err);
    must(soothe__scorer_score(scorer, texts, 2, scores, &err), &err);
    assert_true(scores[0].toxicity == .5 && scores[0].why[0] == '\0');
    assert_true(isnan(scores[1].toxicity) && scores[1].why[0] != '\0');
    assert_string_equal(soothe__scorer_kind(scorer), "command");
    assert_int_equal(strlen(soothe__scorer_identity(scorer)), 64);
    soothe__scorer_close(scorer);
}

static void score_by(struct soothe__scorer *scorer, const char *const *texts, size_t n, struct soothe__score *scores) {
    struct soothe_error err;
    must(soothe__scorer_score(scorer, texts, n, scores, &err), &err);
}

static struct soothe__scorer *open_command(const char *command) {
    struct soothe__scorer *scorer;
    struct soothe_error    err;
    char                   spec[400];
    snprintf(spec, sizeof spec, "command:cat >/dev/null; %s", command);
    must(soothe__scorer_open(&scorer, spec, NULL, &err), &err);
    return scorer;
}

static void test_a_line_that_is_no_score_costs_its_text_alone(void **state) {
    (void)state;
    const char *const      texts[] = {"a", "b", "c\xFF", "d", "e", "f"}; /* the third is not sent */
    struct soothe__score   s[6];
    struct soothe__scorer *scorer = open_command(
        "printf '%s\\n' '{\"toxicity\": 0.25, \"why\": \"-\"}' '{\"score\": null, \"reason\": \"too short\"}' "
        "'{\"score\": 1.5}' oops '{\"toxicity\": \"0.1\"}'");
    score_by(scorer, texts, 6, s);
    assert_true(s[0].toxicity == .25 && s[0].why[0] == '\0');
    for (int i = 1; i < 6; i++)
        assert_true(isnan(s[i].toxicity));
    assert_string_equal(s[1].why, "too short");
    assert_non_null(strstr(s[2].why, "UTF-8"));
    assert_non_null(strstr(s[3].why, "1.5"));
    assert_non_null(strstr(s[4].why, "no score"));
    assert_non_null(strstr(s[5].why, "no score"));
    score_by(scorer, texts, 0, s);
    soothe__scorer_close(scorer);
}

/* The wrong command is found by its first answers; one that answered before may fail at single texts. */
static void test_a_command_that_gives_no_scores_at_all_is_an_error(void **state) {
    (void)state;
    const char *const    texts[] = {"a", "b"};
    struct soothe__score s[2];
    struct soothe_error  err;
    static const struct {
        const char        *command;
        enum soothe_status status;
        const char        *word;
    } bad[] = {{"echo toxic; echo clean", SOOTHE_E_FORMAT, "or null}: toxic"},
               {"echo '{\"text\": \"a\"}{\"text\": \"b\"}'; echo '{}'", SOOTHE_E_FORMAT, "or null}: {…}"},
               {"echo '{\"score\": 1}'", SOOTHE_E_FORMAT, "wrote 1 lines for 2 texts"},
               {"exit 3", SOOTHE_E_IO, "exit code 3"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct soothe__scorer *scorer = open_command(bad[i].command);
        assert_int_equal(soothe__scorer_score(scorer, texts, 2, s, &err), bad[i].status);
        assert_non_null(strstr(err.message, bad[i].word));
        soothe__scorer_close(scorer);
    }
    struct soothe__scorer *scorer;
    must(soothe__scorer_open(&scorer, "command:sed 's/.*good.*/{\"score\": 0.5}/'", NULL, &err), &err);
    score_by(scorer, (const char *const[]){"good", "bad"}, 2, s);
    assert_true(s[0].toxicity == .5 && isnan(s[1].toxicity));
    score_by(scorer, (const char *const[]){"bad"}, 1, s);
    assert_true(isnan(s[0].toxicity) && s[0].why[0]);
    soothe__scorer_close(scorer);
}

static void test_an_unknown_scorer_is_refused(void **state) {
    (void)state;
    struct soothe__scorer *scorer;
    struct soothe_error    err;
    assert_int_equal(soothe__scorer_open(&scorer, "lexikon", NULL, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "lexikon"));
    assert_null(scorer);
    assert_int_equal(soothe__scorer_open(&scorer, "no_such_file.gguf", NULL, &err), SOOTHE_E_IO);
}

static void test_a_long_reason_is_cut_at_a_character(void **state) {
    (void)state;
    char text[200];
    for (size_t i = 0; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "\xC3\xA9", 3);
    const struct soothe__score s = soothe__no_score("x%s", text);
    assert_true(soothe__utf8_valid(s.why, strlen(s.why)));
    assert_in_range(strlen(s.why), 90, 95);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auc_counts_the_pairs_won_and_half_of_the_ties),
        cmocka_unit_test(test_calibration_error_of_a_case_done_by_hand),
        cmocka_unit_test(test_the_bootstrap_interval_covers_the_mean),
        cmocka_unit_test(test_ratio_and_quantiles),
        cmocka_unit_test(test_a_command_that_says_null_gives_no_score_but_a_reason),
        cmocka_unit_test(test_a_line_that_is_no_score_costs_its_text_alone),
        cmocka_unit_test(test_a_command_that_gives_no_scores_at_all_is_an_error),
        cmocka_unit_test(test_an_unknown_scorer_is_refused),
        cmocka_unit_test(test_a_long_reason_is_cut_at_a_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
