/* SPDX-License-Identifier: Apache-2.0
 * Whole training runs on tiny models: what is written, gone on with and refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "engine/text_tokens.h"
#include "fusion/fusion.h"
#include "train_support.h"
#include "tiny_model.h"
#include "train/train_run.h"

#define TARGET "train_run_target.gguf"
#define OTHER "train_run_other.gguf"
#define START "train_run_start.gguf"
#define OUT "train_run_out.gguf"
#define OUT2 "train_run_out2.gguf"
#define CHECKPOINT "train_run.checkpoint"
#define DATA "train_run_data.jsonl"
#define HELDOUT "train_run_heldout.jsonl"
#define STATES "train_run_states.bin"
#define SAMPLES "train_run_samples.jsonl"
#define PAIRS "train_run_pairs.jsonl"

static const char *const FILES[] = {TARGET, OTHER,   START,  OUT,     OUT2,  CHECKPOINT,
                                    DATA,   HELDOUT, STATES, SAMPLES, PAIRS, SAMPLES ".part"};

static void write_text(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static int set_up(void **state) {
    struct soothe_error err;
    (void)state;
    llama_log_set(quiet, NULL);
    assert_true(tiny_model_write(TARGET, &(struct tiny_options){.family = TINY_LLAMA, .seed = 3}));
    must(soothe_calibrator_init(TARGET, 2, START, &err), &err);
    write_data(DATA, 0, 24);
    write_data(HELDOUT, 100, 6);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++)
        unlink(FILES[i]);
    return 0;
}

static struct soothe__train_request request(void) {
    static const char *const data[] = {DATA}, *const heldout[] = {HELDOUT};
    struct soothe__train_request r = soothe__train_request_default();
    r.model_path                   = TARGET;
    r.calibrator_path              = START;
    r.out_path                     = OUT;
    r.data_paths                   = data;
    r.n_data                       = 1;
    r.heldout_paths                = heldout;
    r.n_heldout                    = 1;
    r.n_steps                      = 12;
    r.n_pairs                      = 4;
    r.n_texts                      = 4;
    r.lr_blocks                    = 2e-3;
    r.lr_fusion                    = 2e-3;
    r.own_matrix                   = true;
    r.bias                         = true;
    r.checkpoint_every             = 5;
    r.precision                    = SOOTHE__PRECISION_F32;
    return r;
}

/* ---- what a run gives --------------------------------------------------------------------------------- */

/* Mean -log p of the texts' tokens by the engine itself, with the calibrator at strength 1 (0: plain). */
static double engine_nll(const char *calibrator, float strength) {
    struct soothe_error             err;
    struct soothe_calibrator       *cal;
    struct soothe_session          *s;
    struct soothe_session_params    p      = soothe_session_params_default();
    struct soothe_calibrator_params exact  = soothe_calibrator_params_default();
    struct llama_model             *target = llama_model_load_from_file(TARGET, llama_model_default_params());
    assert_non_null(target);
    const struct llama_vocab *vocab   = llama_model_get_vocab(target);
    const int32_t             n_vocab = llama_vocab_n_tokens(vocab);
    double                    nll = 0, n_rows = 0;
    exact.keep_type = true;
    must(soothe_calibrator_open(&cal, calibrator, TARGET, &exact, &err), &err);
    p.context.n_ctx     = 128;
    p.context.n_threads = p.context.n_threads_batch = 1;
    p.strength                                      = strength;
    must(soothe_session_new(&s, target, cal, &p, &err), &err);
    for (int i = 100; i < 106; i++) {
        char         text[64];
        llama_token *tokens;
        int32_t      n, first;
        snprintf(text, sizeof text, "some text number %d of many", i);
        must(soothe__tokenize_pair(&tokens, &n, &first, vocab, "", 0, text, strlen(text), &err), &err);
        first = first < 1 ? 1 : first;
        soothe_clear(s);
        for (int32_t k = 0; k + 1 < n; k++) {
            must(soothe_decode(s, llama_batch_get_one(tokens + k, 1), &err), &err);
            if (k + 1 < first)
                continue;
            const float *z   = llama_get_logits_ith(soothe_session_context(s), -1);
            double       sum = 0;
            for (int32_t v = 0; v < n_vocab; v++)
                sum += exp((double)z[v]);
            nll += log(sum) - (double)z[tokens[k + 1]];
            n_rows++;
        }
        free(tokens);
    }
    soothe_session_free(s);
    soothe_calibrator_free(cal);
    llama_model_free(target);
    return nll / n_rows;
}

static void check_family(enum tiny_family family) {
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = request();
    assert_true(tiny_model_write(TARGET, &(struct tiny_options){.family = family, .seed = 5}));
    must(soothe_calibrator_init(TARGET, 2, START, &err), &err);
    r.n_steps   = 60;
    r.lambda    = 0; /* else clean texts would stay where they were */
    r.lr_blocks = r.lr_fusion = 5e-3;
    must(soothe__train(&r, &report, &err), &err);
    /* the file holds weights in F16: 2^-11 relative each */
    assert_float_equal(engine_nll(OUT, 1.0f), report.nll, 4e-3);
    assert_float_equal(engine_nll(OUT, 0.0f), report.nll_plain, 4e-3);
    assert_true(fabs(report.nll - report.nll_plain) > 5e-2); /* else the comparison says little */
}

static void test_the_engine_computes_what_training_computed(void **state) {
    (void)state;
    check_family(TINY_QWEN2);
    check_family(TINY_LLAMA);
}

static void test_preference_orders_unseen_pairs(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = request();
    r.n_steps                      = 60;
    must(soothe__train(&r, &report, &err), &err);
    assert_int_equal(report.n_heldout_pairs, 6);
    assert_int_equal(report.n_heldout_texts, 6);
    assert_true(report.pairs_right > 0.8);
    assert_true(report.kl >= 0);
}

static void test_without_blocks_a_matrix_is_trained(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = request();
    struct soothe_calibrator    *cal;
    r.calibrator_path = NULL;
    r.own_matrix = r.bias = false;
    must(soothe__train(&r, &report, &err), &err);
    must(soothe_calibrator_open(&cal, OUT, TARGET, NULL, &err), &err);
    const struct soothe_calibrator_info info = soothe_calibrator_info(cal);
    assert_int_equal(info.n_blocks, 0);
    assert_true(info.has_b && !info.has_a);
    assert_int_equal(info.form, SOOTHE_FORM_RESIDUAL);
    soothe_calibrator_free(cal);
    assert_float_equal(engine_nll(OUT, 1.0f), report.nll, 4e-3);
}

static struct soothe__train_request steer_request(void) {
    struct soothe__train_request r = request();
    r.calibrator_path              = NULL;
    r.objective                    = SOOTHE__LM_STEER;
    r.own_matrix = r.bias = false;
    r.n_steps             = 60;
    r.rank                = 5;
    r.lr_fusion           = 0; /* its default */
    return r;
}

static void test_lm_steer_writes_a_matrix_that_tells_clean_from_toxic(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = steer_request();
    struct soothe_calibrator    *cal;
    must(soothe__train(&r, &report, &err), &err);
    must(soothe_calibrator_open(&cal, OUT, TARGET, NULL, &err), &err);
    const struct soothe_calibrator_info info = soothe_calibrator_info(cal);
    assert_int_equal(info.n_blocks, 0);
    assert_true(info.has_b && !info.has_a && !info.has_bias);
    soothe_calibrator_free(cal);
    assert_true(report.pairs_right > 0.8);
    assert_float_equal(engine_nll(OUT, 1.0f), report.nll, 4e-3);
}

static void test_lm_steer_refuses_what_it_does_not_train(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = steer_request();
    r.rank                         = 65; /* the target's width is 64 */
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "1 to the width 64, not 65"));
    r      = steer_request();
    r.bias = true;
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_ARGUMENT);
    r           = steer_request();
    r.objective = SOOTHE__PREFERENCE;
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "lm-steer alone"));
}

static void test_the_paper_objective_fits_the_completions(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  first, last;
    struct soothe__train_request r = request();
    r.objective                    = SOOTHE__PAPER;
    r.own_matrix = r.bias = false;
    r.n_pairs             = 0;
    r.n_steps             = 1;
    must(soothe__train(&r, &first, &err), &err);
    r.n_steps = 60;
    must(soothe__train(&r, &last, &err), &err);
    assert_true(last.nll < first.nll - 0.5);
    assert_true(isnan(last.kl));
}

static void test_the_paper_objective_is_measured_on_chosen_sides_where_there_are_no_texts(void **state) {
    (void)state;
    static const char *const     pairs[] = {PAIRS};
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = request();
    write_text(PAIRS, "{\"prompt\": \"p\", \"chosen\": \" a7bb\", \"rejected\": \" a7cc\"}\n");
    r.heldout_paths = pairs;
    r.objective     = SOOTHE__PAPER;
    r.own_matrix = r.bias = false;
    r.n_pairs             = 0;
    must(soothe__train(&r, &report, &err), &err);
    assert_int_equal(report.n_heldout_pairs, 0);
    assert_int_equal(report.n_heldout_texts, 1);
    assert_true(report.nll > 0);
}

/* Without asking for them again: the first loss is that of the calibrator given, not of one without B and bias. */
static void test_a_calibrator_with_a_matrix_and_bias_goes_on_with_both(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = request();
    struct soothe_calibrator    *cal;
    must(soothe__train(&r, &report, &err), &err);
    r.calibrator_path = OUT;
    r.out_path        = OUT2;
    r.own_matrix = r.bias = false;
    must(soothe__train(&r, &report, &err), &err);
    must(soothe_calibrator_open(&cal, OUT2, TARGET, NULL, &err), &err);
    const struct soothe_calibrator_info info = soothe_calibrator_info(cal);
    assert_true(info.has_a && info.has_b && info.has_bias);
    soothe_calibrator_free(cal);
}

/* ---- going on --------------------------------------------------------------------------------------------- */

struct stopper { /* stops the run after some step */
    int32_t               at;
    volatile sig_atomic_t stop;
};

static void stop_there(void *user, int32_t step) {
    struct stopper *s = user;
    if (step == s->at)
        s->stop = 1;
}

static struct soothe__train_request stopped_at(struct stopper *s, int32_t step) {
    struct soothe__train_request r = request();
    *s                             = (struct stopper){.at = step};
    r.checkpoint_path              = CHECKPOINT;
    r.out_path                     = OUT2;
    r.stop                         = &s->stop;
    r.on_step                      = stop_there;
    r.user                         = s;
    return r;
}

static void assert_says(const struct soothe_error *err, const char *word) {
    if (!strstr(err->message, word))
        fail_msg("\"%s\" does not say \"%s\"", err->message, word);
}

/* Stopped at the begin, between checkpoints, in the last tenth, whose loss the file tells, and before the held-out
 * figures. */
static void test_a_resumed_run_writes_the_same_bytes(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  whole, report;
    struct soothe__train_request r       = request();
    static const int32_t         STEPS[] = {1, 7, 11, 12};
    must(soothe__train(&r, &whole, &err), &err);
    for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++) {
        struct stopper s;
        char           words[40];
        r = stopped_at(&s, STEPS[i]);
        unlink(OUT2);
        assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_INTERRUPTED);
        snprintf(words, sizeof words, "after step %d of 12; saved in", STEPS[i]);
        assert_says(&err, words);
        assert_false(soothe__file_exists(OUT2));
        s.stop = 0;
        s.at   = 0;
        must(soothe__train(&r, &report, &err), &err);
        assert_int_equal(report.first_step, STEPS[i]);
        assert_float_equal(report.loss, whole.loss, 0);
        assert_same_file(OUT, OUT2);
        assert_false(soothe__file_exists(CHECKPOINT));
    }
}

static void test_stopping_saves_and_another_run_is_refused(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct stopper               s;
    struct soothe__train_request r = stopped_at(&s, 0);
    s.stop                         = 1;
    unlink(OUT2);
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_INTERRUPTED);
    assert_says(&err, CHECKPOINT);
    assert_false(soothe__file_exists(OUT2));
    s.stop = 0;
    r.seed = 2;
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_MISMATCH);
    r.fresh = true;
    must(soothe__train(&r, &report, &err), &err);
    assert_int_equal(report.first_step, 0);
}

/* Whatever the result depends on makes another run; the target's weights, too, of which the fingerprint says little. */
static void test_a_checkpoint_is_of_one_run(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct stopper               s;
    struct soothe__train_request r = stopped_at(&s, 3);
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_INTERRUPTED);

    static const char *const     both[] = {DATA, HELDOUT};
    struct soothe__train_request other  = r;
    other.data_paths                    = both;
    other.n_data                        = 2;
    other.n_heldout                     = 0;
    other.heldout_share                 = 0;
    assert_int_equal(soothe__train(&other, &report, &err), SOOTHE_E_MISMATCH);

    char  *bytes;
    size_t size;
    must(soothe__read_file(&bytes, &size, TARGET, &err), &err);
    bytes[size - 4096] = (char)(bytes[size - 4096] ^ 1); /* the mantissa of one weight */
    FILE *f            = fopen(OTHER, "w");
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
    free(bytes);
    other            = r;
    other.model_path = OTHER;
    assert_int_equal(soothe__train(&other, &report, &err), SOOTHE_E_MISMATCH);

    other                  = r;
    other.cache_bytes      = 1000;
    other.checkpoint_every = 1;
    other.stop             = NULL;
    must(soothe__train(&other, &report, &err), &err); /* neither changes the result */
    assert_int_equal(report.first_step, 3);
    r = request();
    must(soothe__train(&r, &report, &err), &err);
    assert_same_file(OUT, OUT2);
}

/* What is trained already is kept when the end fails: the calibrator cannot be written. */
static void test_a_failure_at_the_end_loses_nothing(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct stopper               s;
    struct soothe__train_request r = stopped_at(&s, 0);
    r.out_path                     = "/dev/full";
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_IO);
    assert_says(&err, "/dev/full");
    assert_says(&err, "step 12 of 12 is saved in " CHECKPOINT);
    r.out_path = OUT2;
    must(soothe__train(&r, &report, &err), &err);
    assert_int_equal(report.first_step, 12);
    r = request();
    must(soothe__train(&r, &report, &err), &err);
    assert_same_file(OUT, OUT2);
}

/* A disk that is full for checkpoints does not stop the run. */
static void test_checkpoints_that_cannot_be_written_are_told_and_the_run_goes_on(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = request();
    struct rlimit                old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    unlink(CHECKPOINT);
    r.checkpoint_path = CHECKPOINT;
    must(soothe__train(&r, &report, &err), &err);
    assert_int_equal(report.n_unsaved, 0);
    must(soothe__sha256_file((char[65]){0}, OUT, &err), &err);
    small          = old;
    small.rlim_cur = 400000; /* the calibrator of 2 blocks fits, its checkpoint does not */
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    r.out_path                      = OUT2;
    const enum soothe_status status = soothe__train(&r, &report, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    must(status, &err);
    assert_int_equal(report.n_unsaved, 2);
    assert_says(&report.unsaved, CHECKPOINT);
    assert_same_file(OUT, OUT2);
}

/* ---- states from run to run ------------------------------------------------------------------------------- */

static void test_kept_states_change_nothing(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = request();
    unlink(STATES);
    must(soothe__train(&r, &report, &err), &err);
    r.out_path    = OUT2;
    r.states_path = STATES;
    must(soothe__train(&r, &report, &err), &err);
    assert_same_file(OUT, OUT2); /* computed now */
    must(soothe__train(&r, &report, &err), &err);
    assert_same_file(OUT, OUT2); /* read */

    char  *bytes;
    size_t size;
    must(soothe__read_file(&bytes, &size, STATES, &err), &err);
    FILE *f = fopen(STATES, "w");
    assert_int_equal(fwrite(bytes, 1, size - 5, f), size - 5);
    fclose(f);
    free(bytes);
    must(soothe__train(&r, &report, &err), &err); /* its last record was cut short: that text runs again */
}

static void test_states_of_another_target_are_refused(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = request();
    unlink(STATES);
    r.states_path = STATES;
    must(soothe__train(&r, &report, &err), &err);
    assert_true(tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_LLAMA, .seed = 4}));
    r.model_path = OTHER;
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_MISMATCH);
    write_text(STATES, "something else");
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_FORMAT);
}

/* ---- what is refused ----------------------------------------------------------------------------------------- */

static void assert_refused(const struct soothe__train_request *r, enum soothe_status wanted, const char *word) {
    struct soothe_error         err = {0};
    struct soothe__train_report report;
    assert_int_equal(soothe__train(r, &report, &err), wanted);
    if (!strstr(err.message, word))
        fail_msg("\"%s\" does not say \"%s\"", err.message, word);
}

static void test_wrong_files_are_refused_with_a_sentence(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_request r   = request();
    static const char *const texts[] = {SAMPLES}, *const missing[] = {"missing.jsonl"};
    write_text(SAMPLES, "{\"text\": \"only a text\"}\n");
    r.data_paths = texts;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "no pairs");
    r.data_paths = missing;
    assert_refused(&r, SOOTHE_E_IO, "missing.jsonl");
    r = request();
    assert_true(tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_LLAMA, .other_words = true}));
    must(soothe_calibrator_init(OTHER, 1, OUT2, &err), &err);
    r.calibrator_path = OUT2;
    assert_refused(&r, SOOTHE_E_MISMATCH, "different tokens");
    assert_true(tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_GEMMA3, .seed = 3}));
    must(soothe_calibrator_init(OTHER, 1, OUT2, &err), &err);
    assert_refused(&r, SOOTHE_E_UNSUPPORTED, "architecture");
    r.calibrator_path = TARGET;
    assert_refused(&r, SOOTHE_E_FORMAT, "not a calibrator");
    r.calibrator_path = DATA;
    assert_refused(&r, SOOTHE_E_FORMAT, DATA);
}

/* START with one key changed, as OUT2. */
static void write_changed(const char *key, const char *text, float number, uint32_t count) {
    struct soothe_error      err;
    struct soothe__gguf      g;
    struct soothe__gguf_plan plan;
    must(soothe__gguf_open(&g, START, &err), &err);
    must(soothe__gguf_plan_new(&plan, (size_t)gguf_get_n_tensors(g.meta), &err), &err);
    gguf_set_kv(plan.meta, g.meta);
    if (text)
        gguf_set_val_str(plan.meta, key, text);
    else if (count)
        gguf_set_val_u32(plan.meta, key, count);
    else
        gguf_set_val_f32(plan.meta, key, number);
    for (int64_t i = 0; i < gguf_get_n_tensors(g.meta); i++)
        must(soothe__gguf_plan_copy(&plan, &g, i, &err), &err);
    must(soothe__gguf_plan_save(&plan, OUT2, &err), &err);
    soothe__gguf_plan_free(&plan);
    soothe__gguf_close(&g);
}

/* Numbers out of a file that would overflow, and forms that the engine computes otherwise than training. */
static void test_shapes_that_training_does_not_compute_are_refused(void **state) {
    (void)state;
    struct soothe__train_request r  = request();
    r.calibrator_path               = OUT2;
    r.out_path                      = OUT;
    static const char *const KEYS[] = {"llama.attention.key_length", "llama.attention.head_count_kv",
                                       "llama.attention.head_count", "llama.feed_forward_length",
                                       "llama.embedding_length"};
    for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS; i++) {
        write_changed(KEYS[i], NULL, 0, 0x7fffffff);
        assert_refused(&r, SOOTHE_E_UNSUPPORTED, "2147483647");
    }
    write_changed("llama.attention.key_length", NULL, 0, 7);
    assert_refused(&r, SOOTHE_E_UNSUPPORTED, "heads of 7");
    write_changed("llama.rope.scaling.type", "yarn", 0, 0);
    assert_refused(&r, SOOTHE_E_UNSUPPORTED, "yarn");
    write_changed("llama.rope.scaling.factor", NULL, 4.0f, 0);
    assert_refused(&r, SOOTHE_E_UNSUPPORTED, "factor 4");
    write_changed("llama.rope.scaling.type", "none", 0, 0);
    struct soothe_error         err;
    struct soothe__train_report report;
    must(soothe__train(&r, &report, &err), &err);
}

static void test_a_target_with_damaged_weights_is_named(void **state) {
    (void)state;
    struct soothe__train_request r = request();
    assert_true(tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_LLAMA, .seed = 3, .nan_weight = true}));
    r.model_path      = OTHER;
    r.calibrator_path = NULL;
    assert_refused(&r, SOOTHE_E_NUMERIC, "the target's states are no finite numbers");
}

static void test_what_is_read_is_never_overwritten(void **state) {
    (void)state;
    struct soothe__train_request r = request();
    char                         before[65], after[65];
    must(soothe__sha256_file(before, DATA, NULL), NULL);
    unlink(OUT2);
    unlink(CHECKPOINT);
    r.out_path = TARGET;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "it is the target");
    assert_int_equal(link(TARGET, OUT2), 0); /* by another name */
    r.out_path = OUT2;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "it is the target");
    unlink(OUT2);
    r.out_path = HELDOUT;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "held-out data");
    r.out_path        = OUT2;
    r.checkpoint_path = OUT2;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "both the result and the checkpoint");
    r.fresh           = true;
    r.checkpoint_path = DATA;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "it is data");
    write_text(SAMPLES, "my diary, which was never a checkpoint");
    r.checkpoint_path = SAMPLES;
    assert_refused(&r, SOOTHE_E_FORMAT, SAMPLES);
    r.checkpoint_path = START;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "the calibrator to begin from");
    r             = request();
    r.states_path = DATA;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "it is data");
    must(soothe__sha256_file(after, DATA, NULL), NULL);
    assert_string_equal(before, after);
    assert_true(soothe__file_exists(SAMPLES));
}

/* Told before the run, not after it. */
static void test_a_place_that_cannot_be_written_is_told_at_once(void **state) {
    (void)state;
    struct soothe__train_request r = request();
    r.model_path                   = "missing.gguf"; /* which is not even looked at */
    r.out_path                     = "no such folder/out.gguf";
    assert_refused(&r, SOOTHE_E_IO, "no such folder");
    r.out_path = ".";
    assert_refused(&r, SOOTHE_E_IO, "folder");
    r.out_path        = OUT2;
    r.checkpoint_path = "no such folder/x";
    assert_refused(&r, SOOTHE_E_IO, "no such folder");
}

static void test_what_an_objective_cannot_train_is_refused(void **state) {
    (void)state;
    struct soothe__train_request r = request();
    r.objective                    = SOOTHE__PAPER; /* with pairs: this divided by zero */
    r.own_matrix = r.bias = false;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "pairs");
    r.n_pairs       = 0;
    r.freeze_blocks = true;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "nothing to train");
    r.freeze_blocks = false;
    r.bias          = true;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "bias");
    r.bias            = false;
    r.calibrator_path = NULL;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "blocks");
    r         = request();
    r.n_pairs = 1 << 20;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "1048576 pairs");
    r            = request();
    r.max_length = 3;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "at most 3 tokens");
    r        = request();
    r.n_data = 0;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "data file");
}

static void test_data_that_are_all_held_out_are_refused(void **state) {
    (void)state;
    struct soothe__train_request r = request();
    r.heldout_paths                = r.data_paths;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "left to train on");
    r.objective  = SOOTHE__PAPER;
    r.own_matrix = r.bias = false;
    r.n_pairs             = 0;
    assert_refused(&r, SOOTHE_E_ARGUMENT, "left to train on");
}

static void test_numbers_that_blow_up_are_told_with_their_step(void **state) {
    (void)state;
    struct soothe__train_request r = request();
    r.lr_blocks = r.lr_fusion = 1e30;
    assert_refused(&r, SOOTHE_E_NUMERIC, " of 12: the ");
    assert_refused(&r, SOOTHE_E_NUMERIC, "learning rates");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_engine_computes_what_training_computed),
        cmocka_unit_test(test_preference_orders_unseen_pairs),
        cmocka_unit_test(test_without_blocks_a_matrix_is_trained),
        cmocka_unit_test(test_lm_steer_writes_a_matrix_that_tells_clean_from_toxic),
        cmocka_unit_test(test_lm_steer_refuses_what_it_does_not_train),
        cmocka_unit_test(test_the_paper_objective_fits_the_completions),
        cmocka_unit_test(test_the_paper_objective_is_measured_on_chosen_sides_where_there_are_no_texts),
        cmocka_unit_test(test_a_calibrator_with_a_matrix_and_bias_goes_on_with_both),
        cmocka_unit_test(test_a_resumed_run_writes_the_same_bytes),
        cmocka_unit_test(test_stopping_saves_and_another_run_is_refused),
        cmocka_unit_test(test_a_checkpoint_is_of_one_run),
        cmocka_unit_test(test_a_failure_at_the_end_loses_nothing),
        cmocka_unit_test(test_checkpoints_that_cannot_be_written_are_told_and_the_run_goes_on),
        cmocka_unit_test(test_kept_states_change_nothing),
        cmocka_unit_test(test_states_of_another_target_are_refused),
        cmocka_unit_test(test_wrong_files_are_refused_with_a_sentence),
        cmocka_unit_test(test_shapes_that_training_does_not_compute_are_refused),
        cmocka_unit_test(test_a_target_with_damaged_weights_is_named),
        cmocka_unit_test(test_what_is_read_is_never_overwritten),
        cmocka_unit_test(test_a_place_that_cannot_be_written_is_told_at_once),
        cmocka_unit_test(test_what_an_objective_cannot_train_is_refused),
        cmocka_unit_test(test_data_that_are_all_held_out_are_refused),
        cmocka_unit_test(test_numbers_that_blow_up_are_told_with_their_step),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
