/* SPDX-License-Identifier: Apache-2.0
 * SGEAT's corpus: the cleanest share of a model's own samples, checked by counting; texts from nothing. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "corpus/corpus.h"
#include "engine/engine.h"
#include "test_support.h"
#include "tiny_model.h"
#include "train/self_corpus.h"
#include "train/self_samples.h"
#include "train/train_run.h"

#define TARGET "self_corpus_target.gguf"
#define SAMPLES "self_corpus_samples.jsonl"
#define CORPUS "self_corpus_corpus.jsonl"
#define NEUTRAL "self_corpus_neutral.jsonl"
#define OUT "self_corpus_out.gguf"

static const char *const FILES[] = {TARGET, SAMPLES, SAMPLES ".part", CORPUS, NEUTRAL, OUT};

static int tear_down(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++)
        unlink(FILES[i]);
    return 0;
}

/* ---- choosing --------------------------------------------------------------------------------------------------- */

enum { N = 200 };

/* Coarse scores, so that there are ties; every fifth is missing. */
static void random_scores(double *scores, uint64_t seed) {
    struct soothe__rng rng = soothe__rng_seed(seed, 1);
    for (int i = 0; i < N; i++)
        scores[i] = i % 5 == 2 ? NAN : floor(20 * soothe__rng_uniform(&rng)) / 20;
}

/* By the definition: nobody who is kept is worse than somebody who is not, nobody without a score is kept, and as many
 * are kept as the share of those with a score is. */
static void test_the_cleanest_share_is_kept_and_nulls_never_count(void **state) {
    (void)state;
    struct soothe_error err;
    double              scores[N];
    bool                kept[N];
    size_t              n;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        const double share      = 0.05 * (double)seed;
        double       worst_kept = 0, best_left = 1;
        size_t       n_kept = 0;
        random_scores(scores, seed);
        must(soothe__cleanest(scores, N, share, 1, false, seed, kept, &n, &err), &err);
        for (int i = 0; i < N; i++) {
            assert_false(isnan(scores[i]) && kept[i]);
            n_kept += kept[i];
            if (kept[i] && scores[i] > worst_kept)
                worst_kept = scores[i];
            if (!kept[i] && scores[i] < best_left)
                best_left = scores[i];
        }
        assert_int_equal(n_kept, n);
        assert_int_equal(n, (size_t)floor(share * (N - N / 5)));
        assert_true(worst_kept <= best_left);
    }
}

static void test_none_is_kept_above_the_score_that_was_named(void **state) {
    (void)state;
    struct soothe_error err;
    double              scores[N];
    bool                kept[N], lot[N];
    size_t              n, n_random, n_clean = 0;
    random_scores(scores, 3);
    must(soothe__cleanest(scores, N, .5, .2, false, 1, kept, &n, &err), &err);
    for (int i = 0; i < N; i++) {
        assert_false(kept[i] && scores[i] > .2);
        n_clean += scores[i] <= .2;
    }
    assert_int_equal(n, n_clean); /* fewer than half */
    must(soothe__cleanest(scores, N, .5, .2, true, 1, lot, &n_random, &err), &err);
    assert_int_equal(n_random, n); /* the control has the same size */
}

/* Every sample with a score is as likely to be in the control as any other, and the ties of the cleanest share are
 * broken by lot. */
static void test_the_control_does_not_look_at_scores(void **state) {
    (void)state;
    enum { DRAWS = 400 };
    struct soothe_error err;
    double              scores[N], correlation = 0;
    int                 times[N] = {0}, tied[N] = {0};
    bool                kept[N];
    size_t              n;
    random_scores(scores, 5);
    for (uint64_t seed = 0; seed < DRAWS; seed++) {
        must(soothe__cleanest(scores, N, .5, 1, true, seed, kept, &n, &err), &err);
        assert_int_equal(n, (N - N / 5) / 2);
        for (int i = 0; i < N; i++)
            times[i] += kept[i];
    }
    for (int i = 0; i < N; i++) {
        if (isnan(scores[i])) {
            assert_int_equal(times[i], 0);
            continue;
        }
        assert_true(abs(times[i] - DRAWS / 2) < 60); /* six standard deviations of ten draws each */
        correlation += (times[i] - DRAWS / 2.0) * (scores[i] - .5);
    }
    assert_true(fabs(correlation) < 250); /* its standard deviation: sqrt(160 * 100 / 12) * 1 = 37 */
    for (int i = 0; i < N; i++)
        scores[i] = .1;
    for (uint64_t seed = 0; seed < DRAWS; seed++) {
        must(soothe__cleanest(scores, N, .5, 1, false, seed, kept, &n, &err), &err);
        for (int i = 0; i < N; i++)
            tied[i] += kept[i];
    }
    for (int i = 0; i < N; i++)
        assert_true(abs(tied[i] - DRAWS / 2) < 60);
}

/* ---- the file --------------------------------------------------------------------------------------------------- */

static void write_samples(void) {
    FILE *f = fopen(SAMPLES, "w");
    assert_non_null(f);
    fputs("{\"soothe_samples\": {\"model\": \"x\"}}\n", f);
    const char *const scores[] = {"0.4", "0.1", "null", "0.9", "0.3", "0", "0.7", "null", "0.2"};
    for (int i = 0; i < 9; i++)
        fprintf(f, "{\"prompt\": \"%s\", \"completion\": \" c%d\", \"score\": %s}\n", i < 4 ? "" : "p", i, scores[i]);
    fputs("{\"prompt\": \"p\", \"completion\": \" \\n\", \"score\": 0}\nno line\n", f);
    assert_int_equal(fclose(f), 0);
    f = fopen(NEUTRAL, "w");
    assert_non_null(f);
    for (int i = 0; i < 5; i++)
        fprintf(f, "{\"text\": \"neutral %d\"}\n", i);
    assert_int_equal(fclose(f), 0);
}

static struct soothe__self_corpus_options options(void) {
    static const char *const neutral[] = {NEUTRAL};
    return (struct soothe__self_corpus_options){.samples_path  = SAMPLES,
                                                .corpus_path   = CORPUS,
                                                .keep_share    = .5,
                                                .clean_to      = 1,
                                                .neutral_paths = neutral,
                                                .n_neutral     = 1,
                                                .neutral_share = .4,
                                                .seed          = 1};
}

static void assert_near(double x, double wanted) {
    if (!(fabs(x - wanted) < 1e-9))
        fail_msg("%.12g, not %.12g", x, wanted);
}

/* numpy.quantile([.4, .1, .9, .3, 0, .7, .2], [0, .1, .25, .5, .75, .9, 1]) */
static const double QUANTILES[] = {0, .06, .15, .3, .55, .78, .9};

static void test_the_corpus_holds_what_was_kept_and_neutral_texts(void **state) {
    (void)state;
    struct soothe_error                err;
    struct soothe__self_corpus_report  r;
    struct soothe__self_corpus_options o = options();
    char                              *text;
    write_samples();
    must(soothe__self_corpus(&o, &r, &err), &err);
    must(soothe__read_file(&text, NULL, CORPUS, &err), &err);
    const char wanted[] = "{\"prompt\":\"\",\"completion\":\" c1\"}\n{\"prompt\":\"p\",\"completion\":\" c5\"}\n"
                          "{\"prompt\":\"p\",\"completion\":\" c8\"}\n{\"prompt\":\"\",\"completion\":\"neutral ";
    assert_int_equal(strncmp(text, wanted, sizeof wanted - 1), 0);
    free(text);
    assert_int_equal(r.n_samples, 10);
    assert_int_equal(r.n_empty, 1);
    assert_int_equal(r.n_unscored, 2);
    assert_int_equal(r.n_scored, 7);
    assert_int_equal(r.n_kept, 3);
    assert_int_equal(r.n_neutral, 2); /* 2 of 5 texts: a share of .4 */
    for (size_t k = 0; k < SOOTHE__SELF_QUANTILES; k++)
        assert_near(r.quantiles[k], QUANTILES[k]);
    assert_near(r.mean, 2.6 / 7);
    assert_near(r.mean_kept, .1);
    assert_near(r.worst_kept, .2);
    assert_near(r.toxic, 2.0 / 7);
    assert_near(r.toxic_kept, 0);
    o.neutral_share = .9; /* 27 are wanted, 5 are there */
    must(soothe__self_corpus(&o, &r, &err), &err);
    assert_int_equal(r.n_neutral_wanted, 27);
    assert_int_equal(r.n_neutral, 5);
}

static void test_what_cannot_be_made_is_said(void **state) {
    (void)state;
    struct soothe_error                err;
    struct soothe__self_corpus_report  r;
    struct soothe__self_corpus_options o = options();
    write_samples();
    unlink(CORPUS);
    o.keep_share = .1; /* of 7: none */
    assert_int_equal(soothe__self_corpus(&o, &r, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "not one is kept"));
    o            = options();
    o.keep_share = NAN;
    assert_int_equal(soothe__self_corpus(&o, &r, &err), SOOTHE_E_ARGUMENT);
    o               = options();
    o.neutral_share = 1;
    assert_int_equal(soothe__self_corpus(&o, &r, &err), SOOTHE_E_ARGUMENT);
    o           = options();
    o.n_neutral = 0;
    assert_int_equal(soothe__self_corpus(&o, &r, &err), SOOTHE_E_ARGUMENT);
    o              = options();
    o.samples_path = "self_corpus_no_file.jsonl";
    assert_int_equal(soothe__self_corpus(&o, &r, &err), SOOTHE_E_IO);
    o             = options();
    o.corpus_path = "self_corpus_no_folder/x.jsonl";
    assert_int_equal(soothe__self_corpus(&o, &r, &err), SOOTHE_E_IO);
    assert_false(soothe__file_exists(CORPUS));
}

/* ---- texts from nothing, to a model -------------------------------------------------------------------------------
 */

static struct soothe__self_options sampling(void) {
    struct soothe__self_options o = soothe__self_options_default();
    o.model_path                  = TARGET;
    o.samples_path                = SAMPLES;
    o.scorer                      = "lexicon";
    o.n_samples                   = 4;
    o.n_predict                   = 6;
    o.n_unprompted                = 30; /* 32 */
    return o;
}

static void test_texts_from_nothing_are_drawn_each_by_its_own_lot(void **state) {
    (void)state;
    const enum tiny_family families[] = {TINY_LLAMA, TINY_GEMMA3};
    for (int k = 0; k < 2; k++) { /* without BOS and with it */
        struct soothe_error         err;
        struct soothe__self_options o = sampling();
        struct soothe__corpus       c;
        char                        hex[65], again[65];
        assert_true(tiny_model_write(TARGET, &(struct tiny_options){.family = families[k], .seed = 3}));
        unlink(SAMPLES);
        must(soothe__self_samples(&o, &err), &err);
        must(soothe__sha256_file(hex, SAMPLES, &err), &err);
        soothe__corpus_init(&c);
        must(soothe__corpus_read(&c, SAMPLES, &err), &err);
        assert_int_equal(c.n_singles + c.n_bad, 32 + 1); /* bad: the first line, and texts that end at once */
        assert_true(c.n_singles > 25 && c.n_texts > 25); /* random letters: few are alike */
        for (size_t i = 0; i < c.n_texts; i++)
            assert_string_equal(c.texts[i].prompt, "");
        soothe__corpus_free(&c);
        must(soothe__self_samples(&o, &err), &err); /* they are there */
        must(soothe__sha256_file(again, SAMPLES, &err), &err);
        assert_string_equal(hex, again);
        o.scorer = "nobody";
        assert_int_equal(soothe__self_samples(&o, &err), SOOTHE_E_ARGUMENT);
        o        = sampling();
        o.scorer = NULL; /* the same lexicon by another name: not known to be the same */
        assert_int_equal(soothe__self_samples(&o, &err), SOOTHE_E_MISMATCH);
        o              = sampling();
        o.n_unprompted = 0;
        o.prompts_path = NEUTRAL;
        assert_int_not_equal(soothe__self_samples(&o, &err), SOOTHE_OK);
    }
}

/* What is kept becomes likelier, and the file says what it was made of. */
static void test_a_model_learns_its_own_clean_texts(void **state) {
    (void)state;
    static const char *const           data[]  = {CORPUS};
    const struct soothe__fact          facts[] = {{"sgeat.control", "none", 0}, {"sgeat.n_kept", NULL, 16}};
    struct soothe_error                err;
    struct soothe__self_options        s = sampling();
    struct soothe__self_corpus_options c = options();
    struct soothe__self_corpus_report  made;
    struct soothe__train_report        report;
    struct soothe__train_request       r = soothe__train_request_default();
    struct soothe__gguf                g;
    assert_true(tiny_model_write(TARGET, &(struct tiny_options){.family = TINY_LLAMA, .seed = 3}));
    unlink(SAMPLES);
    must(soothe__self_samples(&s, &err), &err);
    c.n_neutral     = 0;
    c.neutral_share = 0;
    must(soothe__self_corpus(&c, &made, &err), &err);
    r.whole.on   = true;
    r.whole.name = "sgeat";
    r.whole.rank = 4;
    r.objective  = SOOTHE__WEIGHTED;
    r.model_path = TARGET;
    r.out_path   = OUT;
    r.data_paths = r.heldout_paths = data; /* learnt by heart: what is measured is the learning */
    r.n_data                       = 1;
    r.heldout_share                = .2;
    r.n_steps                      = 40;
    r.lr_blocks                    = 1e-2;
    r.facts                        = facts;
    r.n_facts                      = 2;
    must(soothe__train(&r, &report, &err), &err);
    assert_true(report.loss < report.nll_before);
    must(soothe__gguf_open(&g, OUT, &err), &err);
    assert_string_equal(soothe__gguf_find_string(&g, "soothe.edit.0.objective"), "sgeat");
    assert_string_equal(soothe__gguf_find_string(&g, "soothe.edit.0.sgeat.control"), "none");
    soothe__gguf_close(&g);
}

int main(void) {
    llama_log_set(quiet, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_cleanest_share_is_kept_and_nulls_never_count),
        cmocka_unit_test(test_none_is_kept_above_the_score_that_was_named),
        cmocka_unit_test(test_the_control_does_not_look_at_scores),
        cmocka_unit_test(test_the_corpus_holds_what_was_kept_and_neutral_texts),
        cmocka_unit_test(test_what_cannot_be_made_is_said),
        cmocka_unit_test(test_texts_from_nothing_are_drawn_each_by_its_own_lot),
        cmocka_unit_test(test_a_model_learns_its_own_clean_texts),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
