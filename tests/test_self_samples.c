/* SPDX-License-Identifier: Apache-2.0
 * The target's own samples: taken, gone on with, scored, made into pairs. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "score/score.h"
#include "test_support.h"
#include "tiny_model.h"
#include "train/self_samples.h"

#define TARGET "self_samples_target.gguf"
#define OTHER "self_samples_other.gguf"
#define DATA "self_samples_data.jsonl"
#define SAMPLES "self_samples.jsonl"
#define PAIRS "self_samples_pairs.jsonl"

static const char *const FILES[] = {TARGET, OTHER, DATA, SAMPLES, PAIRS, SAMPLES ".part"};

static void write_text(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void assert_says(const struct soothe_error *err, const char *word) {
    if (!strstr(err->message, word))
        fail_msg("\"%s\" does not say \"%s\"", err->message, word);
}

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    assert_true(tiny_model_write(TARGET, &(struct tiny_options){.family = TINY_LLAMA, .seed = 3}));
    FILE *f = fopen(DATA, "w");
    for (int i = 0; f && i < 24; i++)
        fprintf(f, "{\"prompt\": \"p%d\", \"chosen\": \" a%dbb\", \"rejected\": \" a%dcc\"}\n", i, i, i);
    return f && fclose(f) == 0 ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++)
        unlink(FILES[i]);
    return 0;
}

static volatile sig_atomic_t *the_flag;

static void set_the_flag(int signal_number) {
    (void)signal_number;
    *the_flag = 1;
}

#define ODD_LENGTH_IS_TOXIC "awk '{print length($0) % 2 ? \"{\\\"score\\\": 0.9}\" : \"{\\\"score\\\": 0}\"}'"

static struct soothe__self_options self_options(void) {
    struct soothe__self_options o = soothe__self_options_default();
    o.model_path                  = TARGET;
    o.prompts_path                = DATA;
    o.samples_path                = SAMPLES;
    o.score_command               = ODD_LENGTH_IS_TOXIC;
    o.n_samples                   = 4;
    o.n_predict                   = 6;
    o.n_prompts_max               = 5;
    return o;
}

static void test_own_samples_become_pairs(void **state) {
    (void)state;
    struct soothe_error               err;
    struct soothe__self_counts        counts;
    const struct soothe__self_options o = self_options();
    unlink(SAMPLES);
    must(soothe__self_samples(&o, &err), &err);
    must(soothe__self_pairs(SAMPLES, PAIRS, 0.0, 0.4, &counts, &err), &err);
    assert_int_equal(counts.n_prompts, 5);
    assert_int_equal(counts.n_samples, 20);
    assert_true(counts.n_toxic >= 1 && counts.n_toxic < 20 && counts.n_pairs >= 1 && counts.n_pairs <= 10);
}

static void append_sample(FILE *f, const char *completion, double score) {
    fprintf(f, "{\"prompt\": \"p\", \"completion\": \"%s\", \"score\": %g}\n", completion, score);
}

static void assert_pairs_file(const char *wanted) {
    struct soothe_error err;
    char               *text;
    must(soothe__read_file(&text, NULL, PAIRS, &err), &err);
    assert_string_equal(text, wanted);
    free(text);
}

/* Among clean samples the first ones are chosen, wherever their letters stand in the alphabet. */
static void test_pairs_are_chosen_by_score_not_by_letters(void **state) {
    (void)state;
    struct soothe_error        err;
    struct soothe__self_counts counts;
    FILE                      *f = fopen(SAMPLES, "w");
    append_sample(f, "m clean", 0);
    append_sample(f, "bad", 0.5);
    append_sample(f, "a clean", 0);
    append_sample(f, "z clean", 0);
    append_sample(f, "worse", 0.9);
    append_sample(f, "between", 0.2);
    fclose(f);
    must(soothe__self_pairs(SAMPLES, PAIRS, 0.0, 0.4, &counts, &err), &err);
    assert_pairs_file("{\"prompt\":\"p\",\"chosen\":\"m clean\",\"rejected\":\"worse\"}\n"
                      "{\"prompt\":\"p\",\"chosen\":\"a clean\",\"rejected\":\"bad\"}\n");
    assert_int_equal(soothe__self_pairs(SAMPLES, PAIRS, 0.4, 0.4, &counts, &err), SOOTHE_E_ARGUMENT);
    assert_int_equal(soothe__self_pairs(SAMPLES, PAIRS, NAN, 0.4, &counts, &err), SOOTHE_E_ARGUMENT);
    assert_int_equal(soothe__self_pairs(SAMPLES, PAIRS, 0.0, 1.5, &counts, &err), SOOTHE_E_ARGUMENT);
}

static void test_samples_that_are_there_are_completed_kept_or_refused(void **state) {
    (void)state;
    struct soothe_error         err;
    struct soothe__self_options o = self_options();
    char                        hex[65], again[65];
    unlink(SAMPLES);
    must(soothe__self_samples(&o, &err), &err);
    must(soothe__sha256_file(hex, SAMPLES, &err), &err);
    o.n_prompts_max = 3;
    unlink(SAMPLES);
    must(soothe__self_samples(&o, &err), &err);
    o.n_prompts_max = 5;
    must(soothe__self_samples(&o, &err), &err); /* two prompts more */
    must(soothe__sha256_file(again, SAMPLES, &err), &err);
    assert_string_equal(hex, again);
    o.model_path = OTHER;
    assert_true(tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_LLAMA, .seed = 11}));
    assert_int_equal(soothe__self_samples(&o, &err), SOOTHE_E_MISMATCH);
    o      = self_options();
    o.seed = 2;
    assert_int_equal(soothe__self_samples(&o, &err), SOOTHE_E_MISMATCH);
    must(soothe__sha256_file(again, SAMPLES, &err), &err);
    assert_string_equal(hex, again);
    write_text(SAMPLES, "{\"prompt\": \"mine\", \"completion\": \"own\", \"score\": 1}\n");
    must(soothe__self_samples(&o, &err), &err);
    must(soothe__sha256_file(hex, SAMPLES, &err), &err);
    write_text(PAIRS, "{\"prompt\": \"mine\", \"completion\": \"own\", \"score\": 1}\n");
    must(soothe__sha256_file(again, PAIRS, &err), &err);
    assert_string_equal(hex, again);
    unlink(SAMPLES);
}

/* A terminal's Ctrl-C ends the score command as well: that is no failure of the command. */
static void test_a_score_command_ended_by_ctrl_c_is_an_interruption(void **state) {
    (void)state;
    struct soothe_error         err;
    volatile sig_atomic_t       stop = 0;
    struct soothe__self_options o    = self_options();
    char                        command[80];
    the_flag = &stop;
    signal(SIGUSR1, set_the_flag);
    snprintf(command, sizeof command, "kill -USR1 %ld; sleep 0.05; kill -INT $$", (long)getpid());
    unlink(SAMPLES);
    o.score_command = command;
    o.stop          = &stop;
    assert_int_equal(soothe__self_samples(&o, &err), SOOTHE_E_INTERRUPTED);
    assert_says(&err, SAMPLES ".part");
    stop = 0;
    assert_int_equal(soothe__self_samples(&o, &err), SOOTHE_E_INTERRUPTED);
    signal(SIGUSR1, SIG_DFL);
}

static void test_a_prompt_longer_than_the_context_is_named(void **state) {
    (void)state;
    struct soothe_error         err;
    struct soothe__self_options o = self_options();
    o.prompts_path                = PAIRS;
    FILE *f                       = fopen(PAIRS, "w");
    fprintf(f, "{\"prompt\": \"short\"}\n{\"prompt\": \"%0300d\"}\n", 7);
    fclose(f);
    unlink(SAMPLES);
    assert_int_equal(soothe__self_samples(&o, &err), SOOTHE_E_ARGUMENT);
    assert_says(&err, "prompt 2 of " PAIRS " has 300 tokens");
}

static void test_interrupted_sampling_goes_on_to_the_same_samples(void **state) {
    (void)state;
    unlink(SAMPLES);
    struct soothe_error               err;
    const struct soothe__self_options o = self_options();
    char                             *bytes;
    size_t                            size;
    char                              hex[65], again[65];
    must(soothe__self_samples(&o, &err), &err);
    must(soothe__sha256_file(hex, SAMPLES, &err), &err);
    must(soothe__read_file(&bytes, &size, SAMPLES, &err), &err);
    FILE *f = fopen(SAMPLES ".part", "w"); /* as after a crash in the middle of a line */
    assert_int_equal(fwrite(bytes, 1, 3 * size / 5, f), 3 * size / 5);
    fclose(f);
    free(bytes);
    unlink(SAMPLES);
    must(soothe__self_samples(&o, &err), &err);
    must(soothe__sha256_file(again, SAMPLES, &err), &err);
    assert_string_equal(hex, again);
}

static void test_a_score_command_that_fails_is_named(void **state) {
    (void)state;
    struct soothe_error err;
    const char *const   texts[] = {"one", "two"};
    double              scores[2];
    must(soothe__score_by_command("cat >/dev/null; echo '{\"score\": 0.25}'; echo '{\"score\": null}'", texts, 2,
                                  scores, &err),
         &err);
    assert_float_equal(scores[0], 0.25, 0);
    assert_true(isnan(scores[1]));
    assert_int_equal(soothe__score_by_command("exit 3", texts, 2, scores, &err), SOOTHE_E_IO);
    assert_non_null(strstr(err.message, "exit 3"));
    assert_int_equal(soothe__score_by_command("echo '{\"score\": 1}'", texts, 2, scores, &err), SOOTHE_E_FORMAT);
    assert_int_equal(soothe__score_by_command("echo toxic; echo clean", texts, 2, scores, &err), SOOTHE_E_FORMAT);
    /* one line that is no score costs its own text alone */
    must(soothe__score_by_command("echo '{\"score\": 2}'; echo '{\"score\": 0}'", texts, 2, scores, &err), &err);
    assert_true(isnan(scores[0]) && scores[1] == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_samples_become_pairs),
        cmocka_unit_test(test_pairs_are_chosen_by_score_not_by_letters),
        cmocka_unit_test(test_samples_that_are_there_are_completed_kept_or_refused),
        cmocka_unit_test(test_a_score_command_ended_by_ctrl_c_is_an_interruption),
        cmocka_unit_test(test_a_prompt_longer_than_the_context_is_named),
        cmocka_unit_test(test_interrupted_sampling_goes_on_to_the_same_samples),
        cmocka_unit_test(test_a_score_command_that_fails_is_named),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
