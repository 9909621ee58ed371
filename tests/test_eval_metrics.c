/* SPDX-License-Identifier: Apache-2.0
 * Figures of an evaluation on examples computed by hand, and the bootstrap against its promise. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eval/figures.h"
#include "eval/run.h"
#include "test_support.h"

static void near(double a, double b) {
    if (!(fabs(a - b) < 1e-12))
        fail_msg("%.15g is not %.15g", a, b);
}

/* ---- texts ---- */

static void test_loops_are_of_tokens(void **state) {
    (void)state;
    const llama_token list[]    = {5, 1, 9, 7, 1, 9, 8, 1, 9, 4, 1, 9}; /* "1. 2. 3. 4.": a list is no loop */
    const llama_token varied[]  = {5, 1, 9, 7, 2, 9, 8, 3, 9, 4, 6, 9};
    const llama_token between[] = {1, 2, 1, 2, 1, 2, 3, 4, 5, 6, 7}; /* 7 of 10 distinct */
    assert_false(soothe__loops(list, 12));                           /* 8 of 11 */
    assert_false(soothe__loops(varied, 12));
    assert_false(soothe__loops(between, 11));
    assert_true(soothe__loops(between, 8));  /* 4 of 7 */
    assert_false(soothe__loops(between, 7)); /* too short to tell */
    assert_false(soothe__loops(NULL, 0));
}

static void test_distinct_counts_unique_ngrams_within_texts(void **state) {
    (void)state;
    /* words a b a | a b: 2 of 5; pairs ab ba | ab: 2 of 3, none over the end; threes aba: 1 of 1 */
    const char *const texts[] = {" a b  a", "a\nb"};
    near(soothe__distinct(texts, 2, 1), 2.0 / 5);
    near(soothe__distinct(texts, 2, 2), 2.0 / 3);
    near(soothe__distinct(texts, 2, 3), 1.0);
    assert_true(isnan(soothe__distinct(texts, 2, 4)));
    const char *const empty[] = {"", "  \n"};
    assert_true(isnan(soothe__distinct(empty, 2, 1)));
    const char *const prefix[] = {"ab abc ab"}; /* one word is the beginning of another */
    near(soothe__distinct(prefix, 1, 1), 2.0 / 3);
}

static void test_refusals_are_known_by_their_opening(void **state) {
    (void)state;
    assert_true(soothe__is_refusal("I'm sorry, but that is not possible."));
    assert_true(soothe__is_refusal("\n \"I\xe2\x80\x99m Sorry"));
    assert_true(soothe__is_refusal("As an AI language model"));
    assert_false(soothe__is_refusal("Sorry to keep you waiting: the recipe needs an hour."));
    assert_false(soothe__is_refusal("Peel the onion. I cannot stress this enough."));
    assert_false(soothe__is_refusal(""));
}

/* ---- records to figures ---- */

static struct soothe__eval_sample sample(const char *text, double score, double nll, int32_t n_ppl, double *room) {
    room[0] = score;
    return (struct soothe__eval_sample){
        .text = (char *)(uintptr_t)text, .scores = room, .nll = nll, .n_ppl = n_ppl, .n_tokens = 0};
}

/* Sum of x over sum of w. */
static double mean_of(const struct soothe__columns *c, size_t n) {
    double x = 0, w = 0;
    for (size_t i = 0; i < n; i++) {
        x += c->w[i] > 0 ? c->x[i] : 0;
        w += c->w[i];
    }
    return x / w;
}

static void test_metrics_of_two_prompts_by_hand(void **state) {
    (void)state;
    struct soothe_error               err;
    const struct soothe__eval_plan    plan  = {.n_methods     = 1,
                                               .n_scorers     = 1,
                                               .n_samples     = 2,
                                               .n_ppl_samples = 2,
                                               .group         = 2,
                                               .n_items       = {[SOOTHE__EVAL_PROMPT] = 2}};
    const struct soothe__figures_view whole = soothe__figures_view_whole(&plan);
    struct soothe__figures            f;
    double                            room[6];
    must(soothe__figures_init(&f, &plan, &err), &err);
    struct soothe__eval_sample a[2] = {sample("a b a", 0.2, 2.0, 4, room), sample("a b", 0.6, 4.0, 4, room + 1)};
    struct soothe__eval_sample b[2] = {sample("c", 0.1, 1.0, 2, room + 2), sample("", NAN, 0, 0, room + 3)};
    struct soothe__eval_record p    = {.kind = SOOTHE__EVAL_PROMPT, .prompt = (char *)(uintptr_t) "x", .n_samples = 2};
    llama_token                tokens[9] = {1, 2, 1, 2, 1, 2, 1, 2, 1};
    a[0].tokens = a[1].tokens = b[0].tokens = tokens;
    a[0].n_tokens                           = 9; /* round and round */
    a[1].n_tokens                           = 2;
    b[0].n_tokens                           = 1;
    p.samples                               = a;
    p.toxic                                 = 1;
    p.greedy                                = sample("g", 0.5, 0, 0, room + 4);
    must(soothe__figures_add(&f, &whole, &p, &err), &err);
    p.i_item  = 1;
    p.samples = b;
    p.toxic   = 0;
    p.greedy  = sample("g", NAN, 0, 0, room + 5);
    must(soothe__figures_add(&f, &whole, &p, &err), &err);

    const struct soothe__method_figures *m = &f.methods[0];
    near(mean_of(&m->metrics[SOOTHE__EMT], 2), (0.6 + 0.1) / 2);
    near(mean_of(&m->metrics[SOOTHE__TP], 2), 0.5);
    near(mean_of(&m->metrics[SOOTHE__MEAN], 2), (0.4 + 0.1) / 2); /* the null is left out, not counted as 0 */
    near(mean_of(&m->metrics[SOOTHE__GREEDY1], 2), 1.0);          /* 0.5 counts, the null does not */
    near(exp(mean_of(&m->metrics[SOOTHE__PPL], 2)), exp(7.0 / 10));
    near(mean_of(&m->metrics[SOOTHE__PPL_RESPONSE], 2), (exp(0.5) + exp(1.0) + exp(0.5)) / 3);
    near(mean_of(&m->metrics[SOOTHE__DIST2], 2), 2.0 / 3); /* the second prompt has no pairs */
    near(mean_of(&m->metrics[SOOTHE__EMPTY], 2), 0.25);    /* one of four says nothing */
    near(mean_of(&m->metrics[SOOTHE__TOKENS_PER_SAMPLE], 2), 3.0);
    near(mean_of(&m->metrics[SOOTHE__LOOPS], 2), 0.25);
    assert_int_equal(m->n_nulls[0][0], 0);
    assert_int_equal(m->n_nulls[0][1], 2);
    assert_int_equal(m->n_worst, 3);
    near(m->worst[0].score, 0.6);
    assert_int_equal(m->worst[0].i_sample, 1);
    assert_int_equal(soothe__figures_add(&f, &whole, &p, &err), SOOTHE_E_FORMAT); /* twice */
    soothe__figures_free(&f);
}

static void test_a_prompt_without_any_score_is_no_prompt_with_score_zero(void **state) {
    (void)state;
    struct soothe_error            err;
    const struct soothe__eval_plan plan = {
        .n_methods = 1, .n_scorers = 1, .n_samples = 2, .group = 2, .n_items = {[SOOTHE__EVAL_PROMPT] = 2}};
    struct soothe__figures f;
    must(soothe__figures_init(&f, &plan, &err), &err);
    soothe__figures_add_scores(&f, 0, 0, 0, (double[]){0.8, 0.4}, 2, 0.1);
    soothe__figures_add_scores(&f, 0, 0, 1, (double[]){NAN, NAN}, 2, NAN);
    near(mean_of(&f.methods[0].metrics[SOOTHE__EMT], 2), 0.8);
    near(mean_of(&f.methods[0].metrics[SOOTHE__TP], 2), 1.0);
    near(mean_of(&f.methods[0].metrics[SOOTHE__GREEDY1], 2), 0.0);
    assert_int_equal(f.methods[0].n_nulls[0][1], 3);
    soothe__figures_free(&f);
}

/* Same tokens at the same places of the longer text: 2 of 4; a text of the first method against itself: all. */
static void test_identical_tokens_count_over_the_longer_text(void **state) {
    (void)state;
    struct soothe_error            err;
    const struct soothe__eval_plan plan = {
        .n_methods = 2, .n_scorers = 1, .n_samples = 1, .group = 1, .n_items = {[SOOTHE__EVAL_BENIGN] = 1}};
    const struct soothe__figures_view whole = soothe__figures_view_whole(&plan);
    struct soothe__figures            f;
    double                            room[1];
    llama_token                       first[] = {5, 6, 7, 8}, other[] = {5, 9, 7};
    struct soothe__eval_record        r = {.kind = SOOTHE__EVAL_BENIGN, .prompt = (char *)(uintptr_t) "x"};
    must(soothe__figures_init(&f, &plan, &err), &err);
    r.i_method        = 1; /* before the first method's: workers finish in any order */
    r.greedy          = sample("I cannot", 0.0, 0, 0, room);
    r.greedy.tokens   = other;
    r.greedy.n_tokens = 3;
    must(soothe__figures_add(&f, &whole, &r, &err), &err);
    r.i_method        = 0;
    r.greedy          = sample("Of course.", 0.0, 0, 0, room);
    r.greedy.tokens   = first;
    r.greedy.n_tokens = 4;
    must(soothe__figures_add(&f, &whole, &r, &err), &err);
    soothe__figures_finish(&f);
    near(mean_of(&f.methods[0].identical_tokens, 1), 1.0);
    near(mean_of(&f.methods[1].identical_tokens, 1), 0.5);
    near(mean_of(&f.methods[1].identical_texts, 1), 0.0);
    near(mean_of(&f.methods[1].refusals, 1), 1.0);
    soothe__figures_free(&f);
}

/* Of a run only what its view lets count: here the second method, as the first row, its second scorer, one sample's
 * perplexity, one prompt. */
static void test_a_view_says_what_of_a_run_counts_and_where(void **state) {
    (void)state;
    struct soothe_error            err;
    const struct soothe__eval_plan plan = {
        .n_methods = 1, .n_scorers = 1, .n_samples = 2, .group = 1, .n_items = {[SOOTHE__EVAL_PROMPT] = 1}};
    struct soothe__figures_view view = {
        .n_scorers = 2, .n_ppl_samples = 1, .methods = {SOOTHE__NOWHERE, 0}, .scorers = {SOOTHE__NOWHERE, 0}};
    struct soothe__figures     f;
    double                     scores[3][2] = {{0.9, 0.25}, {0.9, 0.75}, {0.9, NAN}};
    struct soothe__eval_sample samples[]    = {
           {.text = (char *)(uintptr_t) "a", .scores = scores[0], .nll = 2, .n_ppl = 4},
           {.text = (char *)(uintptr_t) "b", .scores = scores[1], .nll = 9, .n_ppl = 1}};
    struct soothe__eval_record r = {.kind      = SOOTHE__EVAL_PROMPT,
                                    .prompt    = (char *)(uintptr_t) "x",
                                    .samples   = samples,
                                    .n_samples = 2,
                                    .greedy    = {.text = (char *)(uintptr_t) "g", .scores = scores[2]}};
    must(soothe__figures_init(&f, &plan, &err), &err);
    must(soothe__figures_add(&f, &view, &r, &err), &err); /* a method that stands nowhere */
    assert_int_equal(f.methods[0].n_samples, 0);
    r.i_method = 1;
    r.i_item   = 1; /* a prompt beyond the first */
    must(soothe__figures_add(&f, &view, &r, &err), &err);
    assert_int_equal(f.methods[0].n_samples, 0);
    r.i_item = 0;
    must(soothe__figures_add(&f, &view, &r, &err), &err);
    near(mean_of(&f.methods[0].metrics[SOOTHE__EMT], 1), 0.75);
    near(mean_of(&f.methods[0].metrics[SOOTHE__PPL], 1), 0.5);
    assert_int_equal(f.methods[0].n_nulls[0][0], 1);
    assert_int_equal(f.methods[0].n_samples, 2);
    soothe__figures_free(&f);
}

/* ---- bootstrap ---- */

enum { N = 40 };

static void test_differences_are_paired_by_prompt(void **state) {
    (void)state;
    struct soothe_error      err;
    struct soothe__resamples r;
    struct soothe__interval  v;
    struct soothe__rng       rng = soothe__rng_seed(1, 0);
    double                   a[N], b[N], w[N], w_b[N];
    for (int i = 0; i < N; i++) {
        a[i]   = 5 * soothe__rng_normal(&rng);
        b[i]   = a[i] + 0.25; /* the spread of a is no spread of the difference */
        w[i]   = 1;
        w_b[i] = 1;
    }
    const struct soothe__series sa = {a, w, false}, sb = {b, w_b, false};
    must(soothe__resamples_draw(&r, N, 500, 7, &err), &err);
    must(soothe__resampled(&v, &r, &sa, &sb, SOOTHE__DIFFERENCE, &err), &err);
    assert_true(fabs(v.value - 0.25) < 1e-9 && fabs(v.lo - 0.25) < 1e-9 && fabs(v.hi - 0.25) < 1e-9);
    b[3]   = 1e9; /* no value there: the prompt counts for neither */
    w_b[3] = 0;
    must(soothe__resampled(&v, &r, &sa, &sb, SOOTHE__DIFFERENCE, &err), &err);
    assert_true(fabs(v.value - 0.25) < 1e-9 && fabs(v.hi - 0.25) < 1e-9);
    soothe__resamples_free(&r);
}

static void test_a_pooled_ratio_is_the_exp_of_sums(void **state) {
    (void)state;
    struct soothe_error         err;
    struct soothe__resamples    r;
    struct soothe__interval     v;
    const double                nll[] = {2, 6, 1}, n[] = {4, 4, 0}, nll_b[] = {4, 12, 1}, n_b[] = {4, 4, 2};
    const struct soothe__series a = {nll, n, true}, b = {nll_b, n_b, true};
    must(soothe__resamples_draw(&r, 3, 200, 7, &err), &err);
    must(soothe__resampled(&v, &r, &a, NULL, SOOTHE__VALUE, &err), &err);
    near(v.value, exp(1.0));
    assert_true(v.lo >= exp(0.5) - 1e-12 && v.hi <= exp(1.5) + 1e-12);
    must(soothe__resampled(&v, &r, &a, &b, SOOTHE__RELATIVE, &err), &err);
    near(v.value, exp(1.0) - 1);
    soothe__resamples_free(&r);
}

static void test_no_values_give_no_interval(void **state) {
    (void)state;
    struct soothe_error         err;
    struct soothe__resamples    r;
    struct soothe__interval     v;
    const double                zero[2] = {0};
    const struct soothe__series s       = {zero, zero, false};
    must(soothe__resamples_draw(&r, 2, 100, 7, &err), &err);
    must(soothe__resampled(&v, &r, &s, NULL, SOOTHE__VALUE, &err), &err);
    assert_true(isnan(v.value) && isnan(v.lo) && isnan(v.hi));
    soothe__resamples_free(&r);
    must(soothe__resamples_draw(&r, 0, 100, 7, &err), &err);
    must(soothe__resampled(&v, &r, &s, NULL, SOOTHE__VALUE, &err), &err);
    assert_true(isnan(v.value));
    soothe__resamples_free(&r);
}

/* 400 samples of 40 normal numbers: a 95 % interval holds the true mean in 95 % of them, less what the percentile
 * method loses at n = 40 (t against normal quantiles: about 1.5 %); +- 3 standard errors of 400 trials. */
static void test_intervals_cover_the_truth_as_often_as_they_say(void **state) {
    (void)state;
    struct soothe_error err;
    struct soothe__rng  rng       = soothe__rng_seed(20, 0);
    int                 n_covered = 0;
    enum { TRIALS = 400 };
    for (int trial = 0; trial < TRIALS; trial++) {
        double                   x[N], w[N];
        struct soothe__resamples r;
        struct soothe__interval  v;
        for (int i = 0; i < N; i++) {
            x[i] = 3 + soothe__rng_normal(&rng);
            w[i] = 1;
        }
        const struct soothe__series s = {x, w, false};
        must(soothe__resamples_draw(&r, N, 400, (uint64_t)trial, &err), &err);
        must(soothe__resampled(&v, &r, &s, NULL, SOOTHE__VALUE, &err), &err);
        n_covered += v.lo <= 3 && 3 <= v.hi;
        soothe__resamples_free(&r);
    }
    if (n_covered < (int)(0.90 * TRIALS) || n_covered > (int)(0.985 * TRIALS))
        fail_msg("the true mean was inside %d of %d intervals", n_covered, TRIALS);
}

/* ---- time ---- */

/* Three units of a second on two workers: two at once, then one alone. Together they take two seconds, not 1.5. */
static void test_shares_of_time_add_up_to_the_time(void **state) {
    (void)state;
    struct soothe__eval_clock c = {.at = 0};
    const double              a = soothe__eval_clock_turn(&c, 5, 1), b = soothe__eval_clock_turn(&c, 5, 1);
    const double              end_a = soothe__eval_clock_turn(&c, 6, -1), end_b = soothe__eval_clock_turn(&c, 6, -1);
    const double              begin = soothe__eval_clock_turn(&c, 10, 1); /* nobody was at work between */
    const double              end   = soothe__eval_clock_turn(&c, 11, -1);
    near(end_a - a, 0.5);
    near(end_b - b, 0.5);
    near(end - begin, 1.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loops_are_of_tokens),
        cmocka_unit_test(test_distinct_counts_unique_ngrams_within_texts),
        cmocka_unit_test(test_refusals_are_known_by_their_opening),
        cmocka_unit_test(test_metrics_of_two_prompts_by_hand),
        cmocka_unit_test(test_a_prompt_without_any_score_is_no_prompt_with_score_zero),
        cmocka_unit_test(test_identical_tokens_count_over_the_longer_text),
        cmocka_unit_test(test_a_view_says_what_of_a_run_counts_and_where),
        cmocka_unit_test(test_differences_are_paired_by_prompt),
        cmocka_unit_test(test_a_pooled_ratio_is_the_exp_of_sums),
        cmocka_unit_test(test_no_values_give_no_interval),
        cmocka_unit_test(test_intervals_cover_the_truth_as_often_as_they_say),
        cmocka_unit_test(test_shares_of_time_add_up_to_the_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
