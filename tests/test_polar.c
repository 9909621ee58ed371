/* SPDX-License-Identifier: Apache-2.0
 * The harmoniser: gradients against differences, what a duplicated bad source does, sources that abstain or fail. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/sigmoid.h"
#include "score/polar.h"
#include "test_support.h"
#include "tiny_model.h"

#define FILE_NAME "test_polar.gguf"

static struct soothe_error err;

/* ---- the loss ------------------------------------------------------------------------------------------------ */

static void test_gradients_of_all_scalarisations_are_the_differences(void **state) {
    (void)state;
    static const signed char VOTES[][4] = {{1, 1, 0, 1}, {0, -1, -1, 1}, {-1, 0, -1, -1}, {1, 1, 1, 1}, {0, 0, 1, -1}};
    static const double      LOGITS[]   = {-3.1, -0.4, 0.3, 2.2};
    const double             h          = 1e-6;
    for (int s = 0; s < 4; s++)
        for (int v = 0; v < 5; v++)
            for (int k = 0; k < 4; k++) {
                const enum soothe__scalarisation which = (enum soothe__scalarisation)s;
                double                           dz, ignored;
                soothe__polar_loss(which, LOGITS[k], VOTES[v], 4, &dz);
                const double difference = (soothe__polar_loss(which, LOGITS[k] + h, VOTES[v], 4, &ignored) -
                                           soothe__polar_loss(which, LOGITS[k] - h, VOTES[v], 4, &ignored)) /
                                          (2 * h);
                if (fabs(dz - difference) > 1e-8 * (1 + fabs(dz)))
                    fail_msg("%s: %g against %g", soothe__scalarisation_name(which), dz, difference);
            }
}

/* By hand at z = 0, where every l is log 2: three of four vote, two of them toxic. */
static void test_losses_of_a_case_done_by_hand(void **state) {
    (void)state;
    const signed char votes[] = {1, 0, 1, -1}, none[] = {-1, -1, -1, -1};
    const double      l = log(2);
    double            dz;
    assert_true(fabs(soothe__polar_loss(SOOTHE__SCALAR_LINEAR, 0, votes, 4, &dz) - 0.75 * l) < 1e-12);
    assert_true(fabs(dz + 0.125) < 1e-12);
    assert_true(fabs(soothe__polar_loss(SOOTHE__SCALAR_QUADRATIC, 0, votes, 4, &dz) - 0.5625 * l * l) < 1e-12);
    assert_true(fabs(dz + 2 * 0.75 * l * 0.125) < 1e-12);
    assert_true(fabs(soothe__polar_loss(SOOTHE__SCALAR_EUCLIDEAN, 0, votes, 4, &dz) - l * sqrt(0.75)) < 1e-12);
    assert_true(fabs(soothe__polar_loss(SOOTHE__SCALAR_CHEBYSHEV, 0, votes, 4, &dz) - 0.25 * l) < 1e-12);
    assert_true(soothe__polar_loss(SOOTHE__SCALAR_QUADRATIC, 3, none, 4, &dz) == 0 && dz == 0);
}

/* ---- fitting --------------------------------------------------------------------------------------------------- */

enum { N = 3000, M_MAX = 5 };

/* The truth is the first feature's sign; three sources know it but err in a fifth of the cases, each by itself; a bad
 * source, `copies` times, follows the second feature, which has nothing to do with it. */
struct toy {
    float         x[N * 2];
    signed char   votes[N * M_MAX];
    unsigned char truth[N];
    size_t        m;
};

static void make_toy(struct toy *t, size_t copies) {
    struct soothe__rng rng = soothe__rng_seed(8, 1);
    t->m                   = 3 + copies;
    for (size_t i = 0; i < N; i++) {
        t->x[2 * i]     = (float)soothe__rng_normal(&rng);
        t->x[2 * i + 1] = (float)soothe__rng_normal(&rng);
        t->truth[i]     = t->x[2 * i] > 0;
        for (size_t j = 0; j < t->m; j++) {
            const bool wrong       = soothe__rng_uniform(&rng) < 0.2;
            t->votes[i * t->m + j] = j < 3 ? (signed char)(t->truth[i] != wrong) : t->x[2 * i + 1] > 0;
        }
    }
}

static double squared_error(const struct toy *t, const struct soothe__harmoniser *h) {
    double sum = 0;
    for (size_t i = 0; i < N; i++)
        sum += pow(soothe__sigmoid(soothe__harmoniser_logit(h, t->x + 2 * i)) - t->truth[i], 2) / N;
    return sum;
}

static double error_with(struct toy *t, enum soothe__scalarisation scalarisation, size_t copies) {
    struct soothe__harmoniser          h;
    const struct soothe__polar_options o = {.scalarisation = scalarisation, .n_epochs = 10};
    make_toy(t, copies);
    must(soothe__harmoniser_init(&h, 2, 0, &err), &err);
    must(soothe__harmoniser_fit(&h, t->x, t->votes, NULL, N, t->m, &o, NULL, &err), &err);
    const double e = squared_error(t, &h);
    soothe__harmoniser_free(&h);
    return e;
}

/* The control of the method: when a bad source is there twice, the linear form, soft majority voting, loses more of
 * its risk's squared error than the quadratic one. */
static void test_a_duplicated_bad_source_harms_linear_more_than_quadratic(void **state) {
    (void)state;
    struct toy *t = soothe__calloc(1, sizeof *t);
    assert_non_null(t);
    const double linear    = error_with(t, SOOTHE__SCALAR_LINEAR, 2) - error_with(t, SOOTHE__SCALAR_LINEAR, 1);
    const double quadratic = error_with(t, SOOTHE__SCALAR_QUADRATIC, 2) - error_with(t, SOOTHE__SCALAR_QUADRATIC, 1);
    if (!(linear > 0 && linear > 1.1 * quadratic))
        fail_msg("linear %+.4f, quadratic %+.4f", linear, quadratic);
    free(t);
}

static void test_a_hidden_layer_learns_what_no_line_divides(void **state) {
    (void)state;
    struct toy                        *t = soothe__calloc(1, sizeof *t);
    struct soothe__harmoniser          h;
    const struct soothe__polar_options o = {.n_epochs = 30, .learning_rate = 0.01F};
    assert_non_null(t);
    make_toy(t, 0);
    t->m = 1;
    for (size_t i = 0; i < N; i++)
        t->votes[i] = (signed char)(t->truth[i] = (t->x[2 * i] > 0) != (t->x[2 * i + 1] > 0));
    must(soothe__harmoniser_init(&h, 2, 16, &err), &err);
    must(soothe__harmoniser_fit(&h, t->x, t->votes, NULL, N, 1, &o, NULL, &err), &err);
    assert_true(squared_error(t, &h) < 0.05);
    soothe__harmoniser_free(&h);
    free(t);
}

static void test_nothing_can_be_learnt_where_all_abstain(void **state) {
    (void)state;
    struct soothe__harmoniser          h;
    const float                        x[2]     = {1, 2};
    const signed char                  votes[2] = {SOOTHE__ABSTAIN, SOOTHE__ABSTAIN};
    const struct soothe__polar_options o        = {.n_epochs = 1};
    must(soothe__harmoniser_init(&h, 1, 0, &err), &err);
    assert_int_equal(soothe__harmoniser_fit(&h, x, votes, NULL, 2, 1, &o, NULL, &err), SOOTHE_E_ARGUMENT);
    soothe__harmoniser_free(&h);
}

static void test_estimated_errors_of_a_case_done_by_hand(void **state) {
    (void)state;
    /* votes toxic at risk .75 (zeta .25, wrong), clean at risk .25 (zeta .25, right), abstains */
    const double                 risks[]  = {0.75, 0.25, 0.5};
    const signed char            votes[]  = {1, 0, SOOTHE__ABSTAIN};
    const unsigned char          labels[] = {0, 0, 1};
    struct soothe__error_figures f;
    must(soothe__polar_error_figures(&f, risks, votes, 1, labels, 3, &err), &err);
    assert_int_equal(f.n, 2);
    assert_true(fabs(f.error_rate - 0.5) < 1e-12 && fabs(f.mean_zeta - 0.25) < 1e-12 && fabs(f.ece - 0.25) < 1e-12);
    assert_true(isnan(f.r_squared));
}

/* ---- sources ------------------------------------------------------------------------------------------------------
 */

/* A harmoniser of these sources with weights that follow the first one's score. */
static void make_polar(struct soothe__polar *p, const char *const *specs, const float (*bands)[2], size_t n) {
    *p = (struct soothe__polar){.layer = SOOTHE__POLAR_NO_LAYER, .scalarisation = SOOTHE__SCALAR_QUADRATIC};
    for (size_t j = 0; j < n; j++)
        must(soothe__polar_add_source(p, specs[j], bands[j][0], bands[j][1], &err), &err);
    must(soothe__polar_open_sources(p, NULL, false, &err), &err);
    must(soothe__harmoniser_init(&p->harmoniser, soothe__polar_n_features(p), 0, &err), &err);
    p->harmoniser.out[0]   = 1;
    p->harmoniser.scale[0] = 1;
}

static void test_where_all_abstain_there_is_no_risk_but_a_reason(void **state) {
    (void)state;
    const char *const           specs[]    = {"lexicon"};
    const float                 bands[][2] = {{-1, 0.5F}};
    struct soothe__polar        p;
    struct soothe__polar_result r[2];
    make_polar(&p, specs, bands, 1);
    must(soothe__polar_score(&p, (const char *[]){"the hills are green", "you shit"}, 2, r, &err), &err);
    assert_true(isnan(r[0].risk));
    assert_string_equal(r[0].why, "all 1 scorers abstain");
    assert_true(r[1].risk > 0.5 && r[1].risk <= 1);
    soothe__polar_free(&p);
}

static void test_a_source_that_fails_costs_its_own_scores_alone(void **state) {
    (void)state;
    const char *const           specs[]    = {"lexicon", "command:false"};
    const float                 bands[][2] = {{0.1F, 0.5F}, {0.4F, 0.6F}};
    const char *const           texts[]    = {"the hills are green", "you shit"};
    struct soothe__polar        p;
    struct soothe__polar_result r[2];
    double                      scores[4];
    signed char                 votes[4];
    float                       features[8];
    char                        whys[2][96];
    make_polar(&p, specs, bands, 2);
    must(soothe__polar_ask(&p, texts, 2, scores, votes, features, whys, &err), &err);
    assert_true(!isnan(scores[0]) && isnan(scores[1]) && !isnan(scores[2]) && isnan(scores[3]));
    assert_int_equal(votes[0], 0);
    assert_int_equal(votes[1], SOOTHE__ABSTAIN);
    assert_true(!whys[0][0] && whys[1][0]);
    must(soothe__polar_score(&p, texts, 2, r, &err), &err);
    assert_true(r[0].risk < 0.5 && r[1].risk > 0.5);
    soothe__polar_free(&p);

    const char *const only[]    = {"command:false"};
    const float       band[][2] = {{0.4F, 0.6F}};
    make_polar(&p, only, band, 1);
    must(soothe__polar_score(&p, texts, 2, r, &err), &err);
    assert_true(isnan(r[0].risk));
    assert_non_null(strstr(r[0].why, "no scorer has a score"));
    soothe__polar_free(&p);
}

static void test_a_file_gives_the_same_risk_and_checks_its_scorers(void **state) {
    (void)state;
    const char *const           specs[]    = {"lexicon"};
    const float                 bands[][2] = {{0.1F, 0.5F}};
    const char *const           texts[]    = {"you shit"};
    struct soothe__polar        p;
    struct soothe__polar_result r;
    struct soothe__scorer      *scorer;
    struct soothe__score        s;
    make_polar(&p, specs, bands, 1);
    must(soothe__polar_score(&p, texts, 1, &r, &err), &err);
    must(soothe__polar_write(&p, FILE_NAME, NULL, 0, &err), &err);
    must(soothe__scorer_open(&scorer, FILE_NAME, NULL, &err), &err);
    assert_string_equal(soothe__scorer_kind(scorer), "polar");
    must(soothe__scorer_score(scorer, texts, 1, &s, &err), &err);
    assert_true(s.toxicity == r.risk);
    soothe__scorer_close(scorer);
    p.sources[0].identity[5] ^= 1; /* fitted to another scorer of that name */
    must(soothe__polar_write(&p, FILE_NAME, NULL, 0, &err), &err);
    assert_int_equal(soothe__scorer_open(&scorer, FILE_NAME, NULL, &err), SOOTHE_E_MISMATCH);
    soothe__polar_free(&p);
    unlink(FILE_NAME);
}

static void test_a_strangers_file_runs_no_command_unasked(void **state) {
    (void)state;
    const char *const      specs[]    = {"command:true"};
    const float            bands[][2] = {{0.4F, 0.6F}};
    struct soothe__polar   p;
    struct soothe__scorer *scorer;
    make_polar(&p, specs, bands, 1);
    must(soothe__polar_write(&p, FILE_NAME, NULL, 0, &err), &err);
    soothe__polar_free(&p);
    unsetenv("SOOTHE_ALLOW_COMMANDS");
    assert_int_equal(soothe__scorer_open(&scorer, FILE_NAME, NULL, &err), SOOTHE_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "SOOTHE_ALLOW_COMMANDS"));
    setenv("SOOTHE_ALLOW_COMMANDS", "1", 1);
    must(soothe__scorer_open(&scorer, FILE_NAME, NULL, &err), &err);
    soothe__scorer_close(scorer);
    unsetenv("SOOTHE_ALLOW_COMMANDS");
    /* however the way out is spelled */
    static const char *const OUT[] = {"http://127.0.0.1:1/", "HTTP://127.0.0.1:1/", "hTTps://127.0.0.1:1/"};
    for (size_t i = 0; i < 3; i++) {
        make_polar(&p, &OUT[i], bands, 1);
        must(soothe__polar_write(&p, "test_polar_out.gguf", NULL, 0, &err), &err);
        soothe__polar_free(&p);
        assert_int_equal(soothe__scorer_open(&scorer, "test_polar_out.gguf", NULL, &err), SOOTHE_E_UNSUPPORTED);
        assert_non_null(strstr(err.message, "SOOTHE_ALLOW_COMMANDS"));
    }
    unlink("test_polar_out.gguf");
    /* a combination of itself would have no end */
    assert_int_equal(soothe__polar_add_source(&p, FILE_NAME, 0.4F, 0.6F, &err), SOOTHE_OK);
    p.layer = SOOTHE__POLAR_NO_LAYER;
    assert_int_equal(soothe__polar_open_sources(&p, NULL, false, &err), SOOTHE_E_UNSUPPORTED);
    soothe__polar_free(&p);
    unlink(FILE_NAME);
}

/* A score that is missing says nothing: the risk is that of a text whose score is the feature's mean, also where none
 * was missing in the fit. With a logit of 0 in its place, this text of a mean of -3 would seem rather toxic. */
static void test_a_missing_score_counts_as_the_mean(void **state) {
    (void)state;
    enum { TEXTS = 64 };
    struct soothe__harmoniser          h;
    const struct soothe__polar_options o = {.n_epochs = 5};
    float                              x[TEXTS * 2];
    signed char                        votes[TEXTS];
    for (int i = 0; i < TEXTS; i++) {
        x[2 * i]     = i % 4 ? -5 : 3;
        x[2 * i + 1] = 0;
        votes[i]     = i % 4 ? 0 : 1;
    }
    must(soothe__harmoniser_init(&h, 2, 0, &err), &err);
    must(soothe__harmoniser_fit(&h, x, votes, NULL, TEXTS, 1, &o, NULL, &err), &err);
    const float missing[] = {NAN, 1}, mean[] = {-3, 0};
    assert_true(fabs(soothe__harmoniser_logit(&h, missing) - soothe__harmoniser_logit(&h, mean)) < 1e-5);
    soothe__harmoniser_free(&h);
    /* those that are there make the mean */
    x[0] = x[2] = NAN;
    must(soothe__harmoniser_init(&h, 2, 0, &err), &err);
    must(soothe__harmoniser_fit(&h, x, votes, NULL, TEXTS, 1, &o, NULL, &err), &err);
    assert_true(fabs((double)h.mean[0] - (15 * 3 - 47 * 5) / 62.0) < 1e-5);
    soothe__harmoniser_free(&h);
}

static void test_states_are_read_of_the_model_of_the_fit_alone(void **state) {
    (void)state;
    static const char *const      models[] = {"test_polar_model.gguf", "test_polar_other.gguf"};
    struct soothe__scorer_options options  = {.model_path = models[0], .n_threads = 1};
    struct soothe__polar          p        = {.layer = 1}, again;
    struct soothe__scorer        *scorer;
    struct soothe__score          s;
    for (int i = 0; i < 2; i++)
        assert_true(tiny_model_write(models[i],
                                     &(struct tiny_options){.family = TINY_LLAMA, .seed = 5, .other_words = i == 1}));
    must(soothe__polar_add_source(&p, "lexicon", 0.1F, 0.5F, &err), &err);
    must(soothe__polar_open_sources(&p, &options, false, &err), &err);
    must(soothe__harmoniser_init(&p.harmoniser, soothe__polar_n_features(&p), 0, &err), &err);
    must(soothe__polar_write(&p, FILE_NAME, NULL, 0, &err), &err);
    must(soothe__polar_read(&again, FILE_NAME, &err), &err);
    must(soothe__scorer_open(&scorer, FILE_NAME, &options, &err), &err);
    must(soothe__scorer_score(scorer, (const char *[]){"you shit"}, 1, &s, &err), &err);
    assert_true(s.toxicity == 0.5);
    assert_string_not_equal(soothe__scorer_identity(scorer), again.identity); /* the model is in it */
    soothe__scorer_close(scorer);
    options.model_path = models[1];
    assert_int_equal(soothe__scorer_open(&scorer, FILE_NAME, &options, &err), SOOTHE_E_MISMATCH);
    assert_non_null(strstr(err.message, "another model"));
    p.target[0] = '\0'; /* as an older file */
    must(soothe__polar_write(&p, FILE_NAME, NULL, 0, &err), &err);
    assert_int_equal(soothe__scorer_open(&scorer, FILE_NAME, &options, &err), SOOTHE_E_FORMAT);
    soothe__polar_free(&p);
    soothe__polar_free(&again);
    unlink(FILE_NAME);
    unlink(models[0]);
    unlink(models[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients_of_all_scalarisations_are_the_differences),
        cmocka_unit_test(test_losses_of_a_case_done_by_hand),
        cmocka_unit_test(test_a_duplicated_bad_source_harms_linear_more_than_quadratic),
        cmocka_unit_test(test_a_hidden_layer_learns_what_no_line_divides),
        cmocka_unit_test(test_nothing_can_be_learnt_where_all_abstain),
        cmocka_unit_test(test_estimated_errors_of_a_case_done_by_hand),
        cmocka_unit_test(test_where_all_abstain_there_is_no_risk_but_a_reason),
        cmocka_unit_test(test_a_source_that_fails_costs_its_own_scores_alone),
        cmocka_unit_test(test_a_file_gives_the_same_risk_and_checks_its_scorers),
        cmocka_unit_test(test_a_missing_score_counts_as_the_mean),
        cmocka_unit_test(test_states_are_read_of_the_model_of_the_fit_alone),
        cmocka_unit_test(test_a_strangers_file_runs_no_command_unasked),
    };
    return cmocka_run_group_tests(tests, quiet_engine, NULL);
}
