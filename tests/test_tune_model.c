/* SPDX-License-Identifier: Apache-2.0
 * Whole tiny models that learn: what is written, that the engine reads it, what is gone on with and refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "edit/lora.h"
#include "engine/text_tokens.h"
#include "train_support.h"
#include "tiny_model.h"
#include "train/train_run.h"

#define TARGET "tune_model_target.gguf"
#define OTHER "tune_model_other.gguf"
#define OUT "tune_model_out.gguf"
#define OUT2 "tune_model_out2.gguf"
#define MERGED "tune_model_merged.gguf"
#define DATA "tune_model_data.jsonl"
#define HELDOUT "tune_model_heldout.jsonl"
#define SETS "tune_model_sets.jsonl"
#define STATES "tune_model_states.bin"

static const char *const FILES[] = {TARGET, OTHER, OUT, OUT2, MERGED, DATA, HELDOUT, SETS, STATES, OUT2 ".checkpoint"};

/* Sets of two harmless and two toxic texts. */
static void write_sets(const char *path, int n) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < 2; k++)
            fprintf(f,
                    "{\"prompt\": \"\", \"chosen\": \"m%d is fine %d\", \"rejected\": \"m%d zz qq %d\", \"set\": "
                    "\"s%d\"}\n",
                    i, k, i, k, i);
    assert_int_equal(fclose(f), 0);
}

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    assert_true(tiny_model_write(TARGET, &(struct tiny_options){.family = TINY_LLAMA, .seed = 3}));
    write_data(DATA, 0, 24);
    write_data(HELDOUT, 100, 6);
    write_sets(SETS, 12);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++)
        unlink(FILES[i]);
    return 0;
}

static struct soothe__train_request request(enum soothe__objective objective) {
    static const char *const data[] = {DATA}, *const heldout[] = {HELDOUT};
    struct soothe__train_request r = soothe__train_request_default();
    r.whole.on                     = true;
    r.whole.rank                   = 4;
    r.objective                    = objective;
    r.model_path                   = TARGET;
    r.out_path                     = OUT;
    r.data_paths                   = data;
    r.n_data                       = 1;
    r.heldout_paths                = heldout;
    r.n_heldout                    = 1;
    r.n_steps                      = 30;
    r.n_pairs                      = objective == SOOTHE__OWN_PREFERENCE ? 4 : 0;
    r.n_texts                      = 4;
    r.lr_blocks                    = 5e-3;
    r.checkpoint_every             = 5;
    r.precision                    = SOOTHE__PRECISION_F32;
    return r;
}

/* ---- through the engine ----------------------------------------------------------------------------- */

/* Logits of the last token of a text, by the engine; lora NULL: none. The caller's to free. */
static float *engine_logits(const char *model_path, const char *lora, const char *text, int32_t *n_vocab) {
    struct llama_model *model = llama_model_load_from_file(model_path, llama_model_default_params());
    assert_non_null(model);
    struct llama_context_params p = llama_context_default_params();
    struct soothe_error         err;
    llama_token                *tokens;
    int32_t                     n, first;
    p.n_ctx     = 128;
    p.n_threads = p.n_threads_batch = 1;
    p.type_k = p.type_v       = GGML_TYPE_F32; /* not F16, whose rounding depends on the last bit before it */
    p.flash_attn_type         = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    struct llama_context *ctx = llama_init_from_model(model, p);
    assert_non_null(ctx);
    if (lora) {
        float                      scale   = 1.0f;
        struct llama_adapter_lora *adapter = llama_adapter_lora_init(model, lora);
        assert_non_null(adapter);
        assert_int_equal(llama_set_adapters_lora(ctx, &adapter, 1, &scale), 0);
    }
    must(soothe__tokenize_pair(&tokens, &n, &first, llama_model_get_vocab(model), "", 0, text, strlen(text), &err),
         &err);
    assert_int_equal(llama_decode(ctx, llama_batch_get_one(tokens, n)), 0);
    *n_vocab   = llama_vocab_n_tokens(llama_model_get_vocab(model));
    float *out = soothe__calloc((size_t)*n_vocab, sizeof *out);
    assert_non_null(out);
    memcpy(out, llama_get_logits_ith(ctx, -1), (size_t)*n_vocab * sizeof *out);
    free(tokens);
    llama_free(ctx);
    llama_model_free(model);
    return out;
}

static double difference(const float *a, const float *b, int32_t n) {
    double sum = 0, norm = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += pow((double)a[i] - (double)b[i], 2);
        norm += (double)a[i] * (double)a[i];
    }
    return sqrt(sum / norm);
}

static void check_lora_is_merged(enum tiny_family family) {
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = request(SOOTHE__WEIGHTED);
    int32_t                      n;
    assert_true(tiny_model_write(TARGET, &(struct tiny_options){.family = family, .seed = 5}));
    r.whole.lora        = true;
    r.whole.merged_path = MERGED;
    must(soothe__train(&r, &report, &err), &err);
    assert_true(report.nll < report.nll_before - 0.2);
    float *plain = engine_logits(TARGET, NULL, "some text number 7", &n);
    float *lora  = engine_logits(TARGET, OUT, "some text number 7", &n);
    float *whole = engine_logits(MERGED, NULL, "some text number 7", &n);
    assert_true(difference(lora, plain, n) > 0.02);
    if (!(difference(lora, whole, n) < 1e-5)) /* F32 all along: sums in another order */
        fail_msg("factors and merged model differ by %g, from plain by %g", difference(lora, whole, n),
                 difference(lora, plain, n));
    must(soothe__lora_merge(TARGET, OUT, 1, OUT2, &err), &err);
    float *again = engine_logits(OUT2, NULL, "some text number 7", &n);
    assert_memory_equal(whole, again, (size_t)n * sizeof *whole);
    free(plain);
    free(lora);
    free(whole);
    free(again);
}

static void test_the_engine_reads_a_lora_file_as_it_reads_the_merged_model(void **state) {
    (void)state;
    check_lora_is_merged(TINY_QWEN2);
    check_lora_is_merged(TINY_LLAMA);
}

static void test_lora_files_that_do_not_fit_are_refused(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = request(SOOTHE__WEIGHTED);
    r.whole.lora                   = true;
    r.n_steps                      = 2;
    must(soothe__train(&r, &report, &err), &err);
    unlink(OUT2);
    assert_true(tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_LLAMA, .seed = 8}));
    assert_int_equal(soothe__lora_merge(OTHER, OUT, 1, OUT2, &err), SOOTHE_E_MISMATCH);
    assert_non_null(strstr(err.message, "another model"));
    assert_true(tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_QWEN2, .seed = 8}));
    assert_int_equal(soothe__lora_merge(OTHER, OUT, 1, OUT2, &err), SOOTHE_E_MISMATCH);
    assert_int_equal(soothe__lora_merge(TARGET, TARGET, 1, OUT2, &err), SOOTHE_E_FORMAT);
    assert_int_equal(soothe__lora_merge(TARGET, OUT, NAN, OUT2, &err), SOOTHE_E_ARGUMENT);
    assert_int_equal(soothe__lora_merge(TARGET, OUT, 1, TARGET, &err), SOOTHE_E_ARGUMENT);
    assert_false(soothe__file_exists(OUT2));
}

/* Every tensor of the two files; counts the ones that differ. */
static int n_different(const char *a, const char *b, const char *only) {
    struct soothe_error err;
    struct soothe__gguf x, y;
    int                 n = 0;
    must(soothe__gguf_open(&x, a, &err), &err);
    must(soothe__gguf_open(&y, b, &err), &err);
    for (int64_t i = 0; i < gguf_get_n_tensors(x.meta); i++) {
        const char *name = gguf_get_tensor_name(x.meta, i);
        float      *u, *v;
        must(soothe__gguf_read_f32(&x, i, &u, &err), &err);
        must(soothe__gguf_get_f32(&y, name, soothe__gguf_n_elements(&x, i), &v, &err), &err);
        if (memcmp(u, v, (size_t)soothe__gguf_n_elements(&x, i) * sizeof *u) != 0) {
            n++;
            if (only && !strstr(name, only))
                fail_msg("%s has changed", name);
        }
        free(u);
        free(v);
    }
    soothe__gguf_close(&x);
    soothe__gguf_close(&y);
    return n;
}

static void test_at_strength_0_a_merged_model_is_the_model(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = request(SOOTHE__WEIGHTED);
    r.whole.lora                   = true;
    r.n_steps                      = 3;
    must(soothe__train(&r, &report, &err), &err);
    must(soothe__lora_merge(TARGET, OUT, 0, OUT2, &err), &err);
    assert_int_equal(n_different(TARGET, OUT2, NULL), 0);
}

static void test_only_what_was_chosen_learns(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = request(SOOTHE__WEIGHTED);
    r.whole.matrices               = soothe__matrices_parse("q,down");
    r.whole.first_block            = 1;
    r.whole.end_block              = 3;
    must(soothe__train(&r, &report, &err), &err);
    assert_int_equal(n_different(TARGET, OUT, "blk."), 4);
    r.whole.first_block = 0; /* the first block alone */
    r.whole.end_block   = 1;
    must(soothe__train(&r, &report, &err), &err);
    assert_int_equal(n_different(TARGET, OUT, "blk.0."), 2);
    r.whole.end_block = 2;
    r.whole.full      = true;
    r.whole.matrices  = soothe__matrices_parse("down");
    r.lr_blocks       = 1e-3;
    must(soothe__train(&r, &report, &err), &err);
    assert_int_equal(n_different(TARGET, OUT, "ffn_down"), 2);
    assert_true(report.nll < report.nll_before);
    assert_int_equal(soothe__matrices_parse("q,x"), 0);
    assert_int_equal(soothe__matrices_parse(""), 0);
    assert_int_equal(soothe__matrices_parse("q,"), 0);
    assert_int_equal(soothe__matrices_parse("all"), SOOTHE__MATRIX_ALL);
}

/* ---- objectives ------------------------------------------------------------------------------------- */

static void test_preference_orders_pairs_and_begins_at_the_model(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = request(SOOTHE__OWN_PREFERENCE);
    must(soothe__train(&r, &report, &err), &err);
    assert_int_equal(report.n_heldout_pairs, 6);
    assert_true(report.pairs_right > 0.9);
    assert_true(report.kl_before < 1e-4); /* h_t is kept in bf16 */
    assert_true(report.kl > report.kl_before);
    assert_float_equal(report.nll_before, report.nll_plain, 1e-3);
    /* the engine's states, which full learning needs, give nearly the same */
    const double by_core = report.nll_plain;
    r.whole.full         = true;
    r.lr_blocks          = 1e-3;
    must(soothe__train(&r, &report, &err), &err);
    assert_true(report.pairs_right > 0.9);
    assert_float_equal(report.nll_plain, by_core, 2e-3);
}

static void test_contrastive_sets_part_the_toxic_from_the_harmless(void **state) {
    (void)state;
    static const char *const     sets[] = {SETS};
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = request(SOOTHE__WEIGHTED);
    r.data_paths                   = sets;
    r.n_heldout                    = 0;
    r.heldout_share                = 0.3;
    r.n_texts                      = 0;
    r.whole.cppl                   = true;
    r.whole.set_key                = SOOTHE__SET_FIELD;
    for (int form = 0; form < 2; form++) {
        r.whole.loss         = soothe__cppl_options_default(form ? SOOTHE__CPPL_CODE : SOOTHE__CPPL_PAPER);
        r.whole.loss.log_phi = true;
        r.whole.loss.alpha   = form ? 2 : 1.1;
        must(soothe__train(&r, &report, &err), &err);
        assert_true(report.sets.n_sets > 0 && report.sets.n_sets < 12);
        assert_true(report.n_pairs % 2 == 0); /* sets stay whole in the split */
        /* the code's loss is shallow: exp(-|l - c|) lies between 0 and 1, and its centre is of a batch */
        if (!(report.sets.loss < report.sets_before.loss + (form ? 0.05 : 0)))
            fail_msg("form %d: the loss was %g and is %g", form, report.sets_before.loss, report.sets.loss);
    }
    r.whole.n_kl                    = 2; /* the texts that hold the model are there, too */
    static const char *const both[] = {SETS, DATA};
    r.data_paths                    = both;
    r.n_data                        = 2;
    must(soothe__train(&r, &report, &err), &err);
    assert_true(isfinite(report.kl));
}

/* A text of weight 0 teaches nothing: with the others it is as if it were not there. */
static void test_weights_of_texts_count(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  with, without;
    static const char *const     weighted[] = {OTHER};
    struct soothe__train_request r          = request(SOOTHE__WEIGHTED);
    FILE                        *f          = fopen(OTHER, "w");
    assert_non_null(f);
    for (int i = 0; i < 8; i++)
        fprintf(
            f,
            "{\"text\": \"some text number %d of many\", \"weight\": %d}\n{\"text\": \"xyz qq %d\", \"weight\": %d}\n",
            i, 0, i, 1);
    assert_int_equal(fclose(f), 0);
    r.data_paths = weighted;
    must(soothe__train(&r, &with, &err), &err);
    f = fopen(OTHER, "w");
    assert_non_null(f);
    for (int i = 0; i < 8; i++)
        fprintf(
            f,
            "{\"text\": \"some text number %d of many\", \"weight\": %d}\n{\"text\": \"xyz qq %d\", \"weight\": %d}\n",
            i, 1, i, 0);
    assert_int_equal(fclose(f), 0);
    must(soothe__train(&r, &without, &err), &err);
    assert_true(without.nll < with.nll - 0.2); /* held out are texts with numbers */
}

/* ---- going on --------------------------------------------------------------------------------------- */

struct stopper {
    int32_t               at;
    volatile sig_atomic_t stop;
};

static void stop_there(void *user, int32_t step) {
    struct stopper *s = user;
    if (step == s->at)
        s->stop = 1;
}

static void test_a_resumed_run_writes_the_same_bytes(void **state) {
    (void)state;
    static const enum soothe__objective OBJECTIVES[] = {SOOTHE__WEIGHTED, SOOTHE__OWN_PREFERENCE};
    for (size_t i = 0; i < 2; i++) {
        struct soothe_error          err;
        struct soothe__train_report  report;
        struct stopper               s = {.at = 7};
        struct soothe__train_request r = request(OBJECTIVES[i]);
        r.n_steps                      = 12;
        r.whole.lora                   = true;
        must(soothe__train(&r, &report, &err), &err);
        r.out_path = OUT2;
        r.stop     = &s.stop;
        r.on_step  = stop_there;
        r.user     = &s;
        unlink(OUT2);
        assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_INTERRUPTED);
        assert_false(soothe__file_exists(OUT2));
        s.stop       = 0;
        r.whole.rank = 3; /* another run */
        assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_MISMATCH);
        r.whole.rank = 4;
        s.at         = 0;
        must(soothe__train(&r, &report, &err), &err);
        assert_int_equal(report.first_step, 7);
        assert_same_file(OUT, OUT2);
    }
}

static void test_a_file_of_states_changes_nothing(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r = request(SOOTHE__OWN_PREFERENCE);
    r.n_steps                      = 6;
    must(soothe__train(&r, &report, &err), &err);
    r.states_path = STATES;
    r.out_path    = OUT2;
    for (int i = 0; i < 2; i++) {
        must(soothe__train(&r, &report, &err), &err);
        assert_same_file(OUT, OUT2);
    }
}

/* ---- refusals --------------------------------------------------------------------------------------- */

static void test_what_cannot_be_is_refused_with_a_sentence(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  report;
    struct soothe__train_request r;
    r                 = request(SOOTHE__WEIGHTED);
    r.whole.end_block = 5;
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "has blocks 0 to 3"));
    r            = request(SOOTHE__WEIGHTED);
    r.whole.full = r.whole.lora = true;
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_ARGUMENT);
    r = request(SOOTHE__PREFERENCE);
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_ARGUMENT);
    r          = request(SOOTHE__WEIGHTED);
    r.whole.on = false;
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_ARGUMENT);
    r          = request(SOOTHE__WEIGHTED);
    r.out_path = TARGET;
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_ARGUMENT);
    r                   = request(SOOTHE__WEIGHTED);
    r.whole.lora        = true;
    r.whole.merged_path = OUT;
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_ARGUMENT);
    r            = request(SOOTHE__WEIGHTED);
    r.whole.rank = 65;
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "rank"));
    assert_true(tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_GEMMA3, .seed = 8}));
    r            = request(SOOTHE__WEIGHTED);
    r.model_path = OTHER;
    assert_int_equal(soothe__train(&r, &report, &err), SOOTHE_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "gemma3"));
    assert_null(strstr(err.message, "--blocks 0"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_engine_reads_a_lora_file_as_it_reads_the_merged_model),
        cmocka_unit_test(test_lora_files_that_do_not_fit_are_refused),
        cmocka_unit_test(test_at_strength_0_a_merged_model_is_the_model),
        cmocka_unit_test(test_only_what_was_chosen_learns),
        cmocka_unit_test(test_preference_orders_pairs_and_begins_at_the_model),
        cmocka_unit_test(test_contrastive_sets_part_the_toxic_from_the_harmless),
        cmocka_unit_test(test_weights_of_texts_count),
        cmocka_unit_test(test_a_resumed_run_writes_the_same_bytes),
        cmocka_unit_test(test_a_file_of_states_changes_nothing),
        cmocka_unit_test(test_what_cannot_be_is_refused_with_a_sentence),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
