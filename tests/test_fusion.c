/* SPDX-License-Identifier: Apache-2.0
 * Fused decoding against the engine alone, against itself, and against outside references. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/batch.h"
#include "fusion/calibrator_file.h"
#include "fusion/fusion.h"
#include "test_support.h"
#include "tiny_model.h"

#define TARGET "test_fusion_target.gguf"
#define CALIBRATOR "test_fusion_calibrator.gguf"
#define TRAINED "test_fusion_trained.gguf"
#define PACKED "test_fusion_packed.gguf"

static const enum tiny_family FAMILIES[] = {TINY_LLAMA, TINY_QWEN2, TINY_GEMMA3, TINY_GPT2};
enum { N_FAMILIES = sizeof FAMILIES / sizeof *FAMILIES };

static int tear_down(void **state) {
    (void)state;
    unlink(TARGET);
    unlink(CALIBRATOR);
    unlink(TRAINED);
    unlink(PACKED);
    return 0;
}

/* ---- a pair of models to test with -------------------------------------------------------------- */

struct pair {
    struct llama_model       *target;
    struct soothe_calibrator *cal;
    int32_t                   n_vocab, d;
};

static float *random_values(size_t n, double scale, uint64_t seed) {
    struct soothe__rng rng = soothe__rng_seed(seed, 7);
    float             *x   = soothe__calloc(n, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(scale * soothe__rng_normal(&rng));
    }
    return x;
}

/* CALIBRATOR, cut from TARGET, with random A, B and bias written as a residual calibrator TRAINED. */
static void write_trained(int32_t d, bool with_blocks) {
    struct soothe_error       err;
    float                    *a       = random_values((size_t)(d * d), 0.05, 11);
    float                    *b       = random_values((size_t)(d * d), 0.05, 12);
    float                    *bias    = random_values((size_t)d, 0.1, 13);
    const struct soothe__fact facts[] = {{"soothe.training.note", "random", 0}, {"soothe.training.steps", NULL, 3}};
    const struct soothe__calibrator_spec spec = {.name        = "test",
                                                 .source_path = with_blocks ? CALIBRATOR : NULL,
                                                 .target_path = TARGET,
                                                 .form        = SOOTHE_FORM_RESIDUAL,
                                                 .strength    = 0.5f,
                                                 .d_cal       = with_blocks ? d : 0,
                                                 .d_tgt       = d,
                                                 .a           = with_blocks ? a : NULL,
                                                 .b           = b,
                                                 .bias        = bias,
                                                 .block_type  = GGML_TYPE_F16,
                                                 .matrix_type = GGML_TYPE_F32,
                                                 .n_facts     = 2,
                                                 .facts       = facts};
    must(soothe__calibrator_write(TRAINED, &spec, &err), &err);
    free(a);
    free(b);
    free(bias);
}

static struct pair open_pair(enum tiny_family family, int32_t n_blocks, const char *calibrator_path) {
    struct soothe_error err;
    struct pair         p = {0};
    assert_true(tiny_model_write(TARGET, &(struct tiny_options){.family = family, .seed = 1}));
    must(soothe_calibrator_init(TARGET, n_blocks, CALIBRATOR, &err), &err);
    struct llama_model_params mp = llama_model_default_params();
    p.target                     = llama_model_load_from_file(TARGET, mp);
    assert_non_null(p.target);
    p.n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(p.target));
    p.d       = llama_model_n_embd(p.target);
    if (strcmp(calibrator_path, CALIBRATOR) != 0) {
        write_trained(p.d, n_blocks > 0);
    }
    struct soothe_calibrator_params cp = soothe_calibrator_params_default();
    cp.keep_type                       = true;
    must(soothe_calibrator_open(&p.cal, calibrator_path, TARGET, &cp, &err), &err);
    return p;
}

static void close_pair(struct pair *p) {
    soothe_calibrator_free(p->cal);
    llama_model_free(p->target);
}

static struct soothe_session *open_session(const struct pair *p, bool with_calibrator, float alpha) {
    struct soothe_error          err;
    struct soothe_session       *s;
    struct soothe_session_params sp = soothe_session_params_default();
    sp.context.n_ctx                = 256;
    sp.context.n_seq_max            = 16;
    sp.context.n_ubatch             = 32;
    sp.context.kv_unified           = true;
    sp.strength                     = alpha;
    must(soothe_session_new(&s, p->target, with_calibrator ? p->cal : NULL, &sp, &err), &err);
    return s;
}

/* ---- batches -------------------------------------------------------------------------------------- */

static llama_token token_at(int32_t seq, int32_t pos) {
    return (llama_token)((37 * pos + 101 * seq + pos * pos) % 250);
}

static void decode(struct soothe_session *s, struct llama_batch b) {
    struct soothe_error err;
    must(soothe_decode(s, b, &err), &err);
}

/* Decodes tokens [from, to) of one sequence, all of them output. */
static void decode_range(struct soothe_session *s, llama_seq_id seq, int32_t as_seq, int32_t from, int32_t to) {
    struct llama_batch b = llama_batch_init(64, 0, 1);
    for (int32_t i = from; i < to; i++) {
        soothe__batch_add(&b, token_at(as_seq, i), i, seq, true);
    }
    decode(s, b);
    llama_batch_free(b);
}

static float *logits(struct soothe_session *s, int32_t i) {
    float *z = llama_get_logits_ith(soothe_session_context(s), i);
    assert_non_null(z);
    return z;
}

static double largest_difference(const float *x, const float *y, int32_t n) {
    double largest = 0;
    for (int32_t i = 0; i < n; i++) {
        assert_true(isfinite(x[i]) && isfinite(y[i]));
        largest = fmax(largest, fabs((double)x[i] - (double)y[i]));
    }
    return largest;
}

/* Logits of the tiny models are of order 1; F32 sums in another order differ by about 1e-5. */
static const double FLOAT_TOLERANCE = 2e-4;

/* ---- exactness ------------------------------------------------------------------------------------- */

static void test_alpha_zero_changes_no_logit(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        struct pair            p     = open_pair(FAMILIES[f], 2, TRAINED);
        struct soothe_session *fused = open_session(&p, true, 0.0f);
        struct soothe_session *plain = open_session(&p, false, 0.0f);
        decode_range(fused, 0, 0, 0, 40);
        decode_range(plain, 0, 0, 0, 40);
        for (int32_t i = 0; i < 40; i++) {
            assert_memory_equal(logits(fused, i), logits(plain, i), (size_t)p.n_vocab * sizeof(float));
        }
        soothe_session_free(fused);
        soothe_session_free(plain);
        close_pair(&p);
    }
}

static void test_paper_form_at_one_with_an_uncut_calibrator_is_the_plain_model(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        struct pair            p     = open_pair(FAMILIES[f], 4, CALIBRATOR);
        struct soothe_session *fused = open_session(&p, true, 1.0f);
        struct soothe_session *plain = open_session(&p, false, 0.0f);
        decode_range(fused, 0, 0, 0, 20);
        decode_range(plain, 0, 0, 0, 20);
        for (int32_t i = 0; i < 20; i++) {
            assert_true(largest_difference(logits(fused, i), logits(plain, i), p.n_vocab) < FLOAT_TOLERANCE);
        }
        soothe_session_free(fused);
        soothe_session_free(plain);
        close_pair(&p);
    }
}

static void test_fusion_changes_the_logits(void **state) {
    (void)state;
    struct pair            p     = open_pair(TINY_LLAMA, 2, TRAINED);
    struct soothe_session *fused = open_session(&p, true, 0.5f);
    struct soothe_session *plain = open_session(&p, false, 0.0f);
    decode_range(fused, 0, 0, 0, 20);
    decode_range(plain, 0, 0, 0, 20);
    assert_true(largest_difference(logits(fused, 19), logits(plain, 19), p.n_vocab) > 0.01);
    soothe_session_free(fused);
    soothe_session_free(plain);
    close_pair(&p);
}

static void test_eight_sequences_in_a_batch_equal_eight_single_runs(void **state) {
    (void)state;
    enum { N = 8, LENGTH = 7 };
    struct pair            p      = open_pair(TINY_LLAMA, 2, TRAINED);
    struct soothe_session *batch  = open_session(&p, true, 0.0f);
    struct soothe_session *single = open_session(&p, true, 0.0f);
    struct llama_batch     b      = llama_batch_init(N * LENGTH, 0, 1);
    struct soothe_error    err;
    for (int32_t pos = 0; pos < LENGTH; pos++) { /* interleaved, over several micro-batches */
        for (int32_t seq = 0; seq < N; seq++) {
            soothe__batch_add(&b, token_at(seq, pos), pos, seq, pos == LENGTH - 1);
        }
    }
    for (int32_t seq = 0; seq < N; seq++) {
        must(soothe_session_set_strength(batch, seq, 0.25f * (float)seq, &err), &err);
    }
    decode(batch, b);
    for (int32_t seq = 0; seq < N; seq++) {
        soothe_clear(single);
        must(soothe_session_set_strength(single, 0, 0.25f * (float)seq, &err), &err);
        decode_range(single, 0, seq, 0, LENGTH);
        assert_true(largest_difference(logits(batch, N * (LENGTH - 1) + seq), logits(single, LENGTH - 1), p.n_vocab) <
                    FLOAT_TOLERANCE);
    }
    llama_batch_free(b);
    soothe_session_free(batch);
    soothe_session_free(single);
    close_pair(&p);
}

/* How far the last logits of a prompt in three chunks are from those of the whole prompt. */
static double chunking_difference(const struct pair *p, bool with_calibrator) {
    struct soothe_session *chunked = open_session(p, with_calibrator, 0.8f);
    struct soothe_session *whole   = open_session(p, with_calibrator, 0.8f);
    decode_range(chunked, 0, 0, 0, 5);
    decode_range(chunked, 0, 0, 5, 6);
    decode_range(chunked, 0, 0, 6, 45);
    decode_range(whole, 0, 0, 0, 45);
    const double difference = largest_difference(logits(chunked, 38), logits(whole, 44), p->n_vocab);
    soothe_session_free(chunked);
    soothe_session_free(whole);
    return difference;
}

/* The engine's own attention kernels differ with the batch's shape (F16 KV cache): fusion may add
 * the calibrator's share of that, no more. */
static void test_a_prompt_in_chunks_equals_the_whole_prompt(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        struct pair  p     = open_pair(FAMILIES[f], 2, TRAINED);
        const double plain = chunking_difference(&p, false), fused = chunking_difference(&p, true);
        if (fused > FLOAT_TOLERANCE + 3 * plain) {
            fail_msg("family %d: chunking changes the fused logits by %g, the plain ones by %g", f, fused, plain);
        }
        close_pair(&p);
    }
}

static void test_a_batch_without_flags_fuses_its_last_token_only(void **state) {
    (void)state;
    struct pair            p     = open_pair(TINY_LLAMA, 2, TRAINED);
    struct soothe_session *bare  = open_session(&p, true, 0.8f);
    struct soothe_session *whole = open_session(&p, true, 0.8f);
    llama_token            tokens[45];
    for (int32_t i = 0; i < 45; i++) {
        tokens[i] = token_at(0, i);
    }
    decode(bare, llama_batch_get_one(tokens, 45));
    decode_range(whole, 0, 0, 0, 45);
    assert_true(largest_difference(logits(bare, -1), logits(whole, 44), p.n_vocab) < FLOAT_TOLERANCE);
    decode(bare, llama_batch_get_one(tokens, 1));
    assert_int_equal(llama_memory_seq_pos_max(llama_get_memory(soothe_session_context(bare)), 0), 45);
    soothe_session_free(bare);
    soothe_session_free(whole);
    close_pair(&p);
}

static void test_removed_tokens_leave_no_trace_in_the_calibrator(void **state) {
    (void)state;
    struct pair            p     = open_pair(TINY_LLAMA, 2, TRAINED);
    struct soothe_session *s     = open_session(&p, true, 0.8f);
    struct soothe_session *fresh = open_session(&p, true, 0.8f);
    decode_range(s, 0, 0, 0, 10);
    decode_range(s, 0, 5, 10, 20); /* other tokens … */
    assert_true(soothe_seq_rm(s, 0, 10, -1));
    decode_range(s, 0, 0, 10, 20); /* … replaced */
    decode_range(fresh, 0, 0, 0, 20);
    assert_true(largest_difference(logits(s, 9), logits(fresh, 19), p.n_vocab) < FLOAT_TOLERANCE);
    soothe_session_free(s);
    soothe_session_free(fresh);
    close_pair(&p);
}

static void test_a_copied_sequence_goes_on_like_its_source(void **state) {
    (void)state;
    struct pair            p     = open_pair(TINY_LLAMA, 2, TRAINED);
    struct soothe_session *s     = open_session(&p, true, 0.8f);
    struct soothe_session *fresh = open_session(&p, true, 0.8f);
    decode_range(s, 0, 0, 0, 10);
    soothe_seq_cp(s, 0, 3, -1, -1);
    soothe_seq_keep(s, 3);
    decode_range(s, 3, 0, 10, 20);
    decode_range(fresh, 0, 0, 0, 20);
    assert_true(largest_difference(logits(s, 9), logits(fresh, 19), p.n_vocab) < FLOAT_TOLERANCE);
    soothe_session_free(s);
    soothe_session_free(fresh);
    close_pair(&p);
}

static void test_fused_logits_are_the_head_applied_to_the_fused_states(void **state) {
    (void)state;
    struct pair            p = open_pair(TINY_LLAMA, 2, TRAINED);
    struct soothe_session *s = open_session(&p, true, 0.7f);
    struct soothe__gguf    g;
    struct soothe_error    err;
    float                 *head, *scratch = random_values((size_t)p.d, 1, 1), *h = random_values((size_t)p.d, 1, 1);
    int32_t                n_t, n_c, n_f, d_c;
    soothe_session_capture(s, true);
    decode_range(s, 0, 0, 0, 12);
    const float *h_t = soothe_session_states(s, SOOTHE_STATE_TARGET, &n_t, NULL);
    const float *h_c = soothe_session_states(s, SOOTHE_STATE_CALIBRATOR, &n_c, &d_c);
    const float *h_f = soothe_session_states(s, SOOTHE_STATE_FUSED, &n_f, NULL);
    assert_true(h_t && h_c && h_f && n_t == 12 && n_c == 12 && n_f == 12 && d_c == p.d);
    must(soothe__gguf_open(&g, TARGET, &err), &err);
    must(soothe__gguf_get_f32(&g, "token_embd.weight", (int64_t)p.n_vocab * p.d, &head, &err), &err);
    for (int32_t i = 0; i < 12; i++) {
        memcpy(h, h_t + i * p.d, (size_t)p.d * sizeof *h);
        soothe__fuse_row(&p.cal->fusion, h, h_c + i * p.d, 0.7f, scratch);
        assert_memory_equal(h, h_f + i * p.d, (size_t)p.d * sizeof *h);
        for (int32_t v = 0; v < p.n_vocab; v++) {
            double z = 0;
            for (int32_t j = 0; j < p.d; j++) {
                z += (double)head[v * p.d + j] * (double)h[j];
            }
            assert_true(fabs(z - (double)logits(s, i)[v]) < FLOAT_TOLERANCE);
        }
    }
    free(head);
    free(scratch);
    free(h);
    soothe__gguf_close(&g);
    soothe_session_free(s);
    close_pair(&p);
}

/* Reference made by scripts/fusion_reference.py with NumPy in float64. */
static void test_fusing_a_row_agrees_with_numpy(void **state) {
    (void)state;
    const char *folder = getenv("SOOTHE_DATA");
    char       *path   = soothe__format("%s/fusion_reference.f32", folder ? folder : "tests/data");
    char       *data;
    size_t      size;
    enum { D_CAL = 6, D_TGT = 8, N = D_CAL * D_TGT + D_TGT * D_TGT + D_TGT + D_TGT + D_CAL + 3 * D_TGT };
    struct soothe_error err;
    must(soothe__read_file(&data, &size, path, &err), &err);
    assert_int_equal(size, N * sizeof(float));
    float                *x = (float *)(void *)data, scratch[D_TGT], h[D_TGT];
    struct soothe__fusion f = {.form = SOOTHE_FORM_RESIDUAL, .d_cal = D_CAL, .d_tgt = D_TGT};
    f.a                     = x;
    f.b                     = f.a + D_CAL * D_TGT;
    f.bias                  = f.b + D_TGT * D_TGT;
    const float *h_t = f.bias + D_TGT, *h_c = h_t + D_TGT, *expected = h_c + D_CAL;
    memcpy(h, h_t, sizeof h);
    soothe__fuse_row(&f, h, h_c, 0.7f, scratch);
    assert_true(largest_difference(h, expected, D_TGT) < 1e-6 * 10);
    f = (struct soothe__fusion){
        .form = SOOTHE_FORM_PAPER, .d_cal = D_CAL, .d_tgt = D_TGT, .a = f.a, .layer_norm = true};
    memcpy(h, h_t, sizeof h);
    soothe__fuse_row(&f, h, h_c, 0.3f, scratch);
    assert_true(largest_difference(h, expected + D_TGT, D_TGT) < 1e-5);
    f.state_norm = 5.0f;
    memcpy(h, h_t, sizeof h);
    soothe__fuse_row(&f, h, h_c, 0.3f, scratch);
    assert_true(largest_difference(h, expected + 2 * D_TGT, D_TGT) < 1e-5);
    free(data);
    free(path);
}

/* ---- files ------------------------------------------------------------------------------------------ */

static void test_a_matrix_alone_needs_no_blocks(void **state) {
    (void)state;
    struct pair            p     = open_pair(TINY_GPT2, 0, TRAINED);
    struct soothe_session *fused = open_session(&p, true, 0.5f);
    struct soothe_session *plain = open_session(&p, false, 0.0f);
    assert_int_equal(soothe_calibrator_info(p.cal).n_blocks, 0);
    decode_range(fused, 0, 0, 0, 20);
    decode_range(plain, 0, 0, 0, 20);
    assert_true(largest_difference(logits(fused, 19), logits(plain, 19), p.n_vocab) > 0.01);
    soothe_session_free(fused);
    soothe_session_free(plain);
    close_pair(&p);
}

static void test_a_cut_loads_in_the_engine_by_itself(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        struct soothe_error err;
        assert_true(tiny_model_write(TARGET, &(struct tiny_options){.family = FAMILIES[f], .seed = 1}));
        must(soothe_calibrator_init(TARGET, 3, CALIBRATOR, &err), &err);
        struct llama_model *m = llama_model_load_from_file(CALIBRATOR, llama_model_default_params());
        assert_non_null(m);
        assert_int_equal(llama_model_n_layer(m), 3);
        llama_model_free(m);
    }
}

static void test_a_packed_delta_gives_the_logits_of_the_full_calibrator(void **state) {
    (void)state;
    struct pair                          p = open_pair(TINY_LLAMA, 2, TRAINED);
    struct soothe_error                  err;
    float                               *gate     = random_values((size_t)(p.d * 2 * p.d), 0.2, 21);
    const struct soothe__named_values    replaced = {"blk.1.ffn_gate.weight", gate};
    float                               *a        = random_values((size_t)(p.d * p.d), 0.05, 11);
    const struct soothe__calibrator_spec spec     = {.name        = "test",
                                                     .source_path = CALIBRATOR,
                                                     .target_path = TARGET,
                                                     .form        = SOOTHE_FORM_RESIDUAL,
                                                     .strength    = 0.5f,
                                                     .d_cal       = p.d,
                                                     .d_tgt       = p.d,
                                                     .a           = a,
                                                     .n_replaced  = 1,
                                                     .replaced    = &replaced,
                                                     .block_type  = GGML_TYPE_F32,
                                                     .matrix_type = GGML_TYPE_F32};
    must(soothe__calibrator_write(TRAINED, &spec, &err), &err);
    must(soothe_calibrator_pack(TRAINED, TARGET, GGML_TYPE_F16, PACKED, &err), &err);
    struct soothe_calibrator_params cp = soothe_calibrator_params_default();
    cp.keep_type                       = true;
    struct pair full = p, packed = p;
    must(soothe_calibrator_open(&full.cal, TRAINED, TARGET, &cp, &err), &err);
    must(soothe_calibrator_open(&packed.cal, PACKED, TARGET, &cp, &err), &err);
    struct soothe_session *x = open_session(&full, true, 0.5f), *y = open_session(&packed, true, 0.5f);
    decode_range(x, 0, 0, 0, 20);
    decode_range(y, 0, 0, 0, 20);
    assert_true(largest_difference(logits(x, 19), logits(y, 19), p.n_vocab) < 5e-3); /* F16 deltas */
    soothe_session_free(x);
    soothe_session_free(y);
    soothe_calibrator_free(full.cal);
    soothe_calibrator_free(packed.cal);
    free(gate);
    free(a);
    close_pair(&p);
}

/* ---- what must be refused ------------------------------------------------------------------------------ */

static void expect_refusal(enum soothe_status expected, const char *calibrator, const char *target, const char *word) {
    struct soothe_error       err;
    struct soothe_calibrator *cal;
    assert_int_equal(soothe_calibrator_open(&cal, calibrator, target, NULL, &err), expected);
    assert_null(cal);
    assert_int_equal(err.status, expected);
    assert_non_null(strstr(err.message, word));
}

static void test_wrong_pairs_are_refused_with_a_sentence(void **state) {
    (void)state;
    struct pair         p = open_pair(TINY_LLAMA, 2, TRAINED);
    struct soothe_error err;
    const char         *other = PACKED;
    expect_refusal(SOOTHE_E_IO, "no-such-file.gguf", TARGET, "no-such-file.gguf");
    expect_refusal(SOOTHE_E_FORMAT, TARGET, TARGET, "is not a calibrator");
    assert_true(tiny_model_write(other, &(struct tiny_options){.family = TINY_LLAMA, .seed = 1, .other_words = true}));
    expect_refusal(SOOTHE_E_MISMATCH, CALIBRATOR, other, "vocabular");     /* with A it would follow the text … */
    expect_refusal(SOOTHE_E_MISMATCH, TRAINED, other, "fitted to target"); /* … of the model that A was made for */
    assert_true(tiny_model_write(other, &(struct tiny_options){.family = TINY_LLAMA, .seed = 1, .d = 96}));
    expect_refusal(SOOTHE_E_SHAPE, TRAINED, other, "width");
    assert_true(tiny_model_write(other, &(struct tiny_options){.family = TINY_LLAMA, .seed = 2}));
    expect_refusal(SOOTHE_E_MISMATCH, TRAINED, other, "fitted to target");
    assert_true(tiny_model_write(other, &(struct tiny_options){.family = TINY_LLAMA, .seed = 1, .nan_weight = true}));
    must(soothe_calibrator_init(other, 2, CALIBRATOR, &err), &err);
    expect_refusal(SOOTHE_E_NUMERIC, CALIBRATOR, TARGET, "not finite");
    assert_int_equal(soothe_calibrator_init(TARGET, 5, CALIBRATOR, &err), SOOTHE_E_ARGUMENT);
    assert_int_equal(soothe_calibrator_init(TARGET, -1, CALIBRATOR, &err), SOOTHE_E_ARGUMENT);
    close_pair(&p);
}

static void test_damaged_files_are_refused_with_a_sentence(void **state) {
    (void)state;
    struct pair         p = open_pair(TINY_LLAMA, 2, TRAINED);
    struct soothe_error err;
    char               *data;
    size_t              size;
    must(soothe__read_file(&data, &size, TRAINED, &err), &err);
    const size_t cuts[] = {0, 3, 4, 8, 23, 100, 1000, size / 2, size - 5};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        FILE *f = fopen(PACKED, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(data, 1, cuts[i], f), cuts[i]);
        fclose(f);
        struct soothe_calibrator *cal;
        assert_int_equal(soothe_calibrator_open(&cal, PACKED, TARGET, NULL, &err), SOOTHE_E_FORMAT);
        assert_non_null(strstr(err.message, PACKED));
    }
    free(data);
    close_pair(&p);
}

static void test_a_target_with_nan_weights_gives_an_error_not_text(void **state) {
    (void)state;
    struct soothe_error err;
    struct pair         p = open_pair(TINY_LLAMA, 0, TRAINED);
    llama_model_free(p.target);
    assert_true(tiny_model_write(PACKED, &(struct tiny_options){.family = TINY_LLAMA, .seed = 1, .nan_weight = true}));
    p.target                 = llama_model_load_from_file(PACKED, llama_model_default_params());
    struct soothe_session *s = open_session(&p, true, 0.5f);
    llama_token            t = 1;
    assert_int_equal(soothe_decode(s, llama_batch_get_one(&t, 1), &err), SOOTHE_E_NUMERIC);
    soothe_session_free(s);
    close_pair(&p);
}

static void test_bad_batches_are_refused_and_leave_both_memories_as_they_were(void **state) {
    (void)state;
    struct soothe_error    err;
    struct pair            p     = open_pair(TINY_LLAMA, 2, TRAINED);
    struct soothe_session *s     = open_session(&p, true, 0.8f);
    struct soothe_session *fresh = open_session(&p, true, 0.8f);
    struct llama_batch     big   = llama_batch_init(300, 0, 1);
    llama_token            bad   = p.n_vocab;
    decode_range(s, 0, 0, 0, 10);
    assert_int_equal(soothe_decode(s, llama_batch_get_one(&bad, 1), &err), SOOTHE_E_ARGUMENT);
    assert_int_equal(soothe_decode(s, (struct llama_batch){0}, &err), SOOTHE_E_ARGUMENT);
    int32_t            none  = 0;
    llama_token        good  = 1;
    struct llama_batch stray = llama_batch_get_one(&good, 1);
    stray.n_seq_id           = &none; /* and no list of sequences */
    assert_int_equal(soothe_decode(s, stray, &err), SOOTHE_E_ARGUMENT);
    for (int32_t i = 0; i < 250; i++) { /* 10 + 250 tokens do not fit a context of 256 */
        soothe__batch_add(&big, token_at(0, i), 10 + i, 0, i == 249);
    }
    assert_int_equal(soothe_decode(s, big, &err), SOOTHE_E_ENGINE);
    decode_range(s, 0, 0, 10, 20);
    decode_range(fresh, 0, 0, 0, 20);
    assert_true(largest_difference(logits(s, 9), logits(fresh, 19), p.n_vocab) < FLOAT_TOLERANCE);
    assert_int_equal(soothe_session_set_strength(s, 0, NAN, &err), SOOTHE_E_ARGUMENT);
    assert_int_equal(soothe_session_set_strength(s, 100000, 1.0f, &err), SOOTHE_E_ARGUMENT);
    llama_batch_free(big);
    soothe_session_free(s);
    soothe_session_free(fresh);
    close_pair(&p);
}

static void test_a_context_of_embeddings_is_refused(void **state) {
    (void)state;
    struct soothe_error          err;
    struct pair                  p      = open_pair(TINY_LLAMA, 2, TRAINED);
    struct soothe_session_params params = soothe_session_params_default();
    struct soothe_session       *s;
    params.context.embeddings = true;
    assert_int_equal(soothe_session_new(&s, p.target, p.cal, &params, &err), SOOTHE_E_UNSUPPORTED);
    assert_null(s);
    assert_non_null(strstr(err.message, "embeddings"));
    close_pair(&p);
}

static void test_a_batch_at_wrong_positions_takes_nothing_with_it(void **state) {
    (void)state;
    struct soothe_error    err;
    struct pair            p     = open_pair(TINY_LLAMA, 2, TRAINED);
    struct soothe_session *s     = open_session(&p, true, 0.8f);
    struct soothe_session *fresh = open_session(&p, true, 0.8f);
    struct llama_batch     b     = llama_batch_init(300, 0, 1);
    decode_range(s, 1, 1, 0, 10);
    decode_range(s, 0, 0, 0, 3);
    soothe__batch_add(&b, token_at(1, 4), 4, 1, true); /* there are tokens at 4 … 9 already */
    assert_int_equal(soothe_decode(s, b, &err), SOOTHE_E_ENGINE);
    b.n_tokens = 0;
    for (int32_t i = 0; i < 250; i++) { /* too many, and the engine is to find out their positions */
        soothe__batch_add(&b, token_at(1, 10 + i), 0, 1, i == 249);
    }
    struct llama_batch no_positions = b;
    no_positions.pos                = NULL;
    assert_int_equal(soothe_decode(s, no_positions, &err), SOOTHE_E_ENGINE);
    decode_range(s, 1, 1, 10, 20);
    decode_range(fresh, 1, 1, 0, 20);
    assert_true(largest_difference(logits(s, 9), logits(fresh, 19), p.n_vocab) < FLOAT_TOLERANCE);
    llama_batch_free(b);
    soothe_session_free(s);
    soothe_session_free(fresh);
    close_pair(&p);
}

/* ---- the embedding stays in its file -------------------------------------------------------------------- */

/* The whole model as its own calibrator: from the embedding's rows it comes to the states that the target has from
 * tokens. */
static void test_rows_of_the_embedding_give_the_states_of_tokens(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        const bool             shares = FAMILIES[f] == TINY_LLAMA || FAMILIES[f] == TINY_QWEN2;
        struct pair            p      = open_pair(FAMILIES[f], 4, CALIBRATOR);
        struct soothe_session *s      = open_session(&p, true, 0.3f);
        int32_t                n_t, n_c, d_t, d_c;
        soothe_session_capture(s, true);
        decode_range(s, 3, 3, 0, 40); /* two pieces */
        const float *h_t = soothe_session_states(s, SOOTHE_STATE_TARGET, &n_t, &d_t);
        const float *h_c = soothe_session_states(s, SOOTHE_STATE_CALIBRATOR, &n_c, &d_c);
        assert_int_equal(n_t, 40);
        assert_int_equal(n_c, 40);
        assert_int_equal(d_t, d_c);
        assert_true(largest_difference(h_t, h_c, n_t * d_t) < FLOAT_TOLERANCE);
        assert_int_equal(p.cal->embedding != NULL, shares);
        assert_null(p.cal->vocabulary);
        const uint64_t embedding =
            (uint64_t)(p.n_vocab - 2) * (uint64_t)p.d * sizeof(float); /* one row, head and all */
        if (shares)
            assert_true(llama_model_size(p.cal->model) + embedding <= llama_model_size(p.target));
        soothe_session_free(s);
        close_pair(&p);
    }
}

static void test_a_base_that_shrinks_fails_the_decode_and_nothing_else(void **state) {
    (void)state;
    struct soothe_error    err;
    struct pair            p     = open_pair(TINY_LLAMA, 2, TRAINED);
    struct soothe_session *s     = open_session(&p, true, 0.8f);
    struct soothe_session *fresh = open_session(&p, true, 0.8f);
    char                  *kept  = NULL;
    size_t                 size  = 0;
    llama_token            token = token_at(0, 10);
    decode_range(s, 0, 0, 0, 10);
    must(soothe__read_file(&kept, &size, TRAINED, &err), &err);
    assert_int_equal(truncate(TRAINED, 1000), 0);
    assert_int_equal(soothe_decode(s, llama_batch_get_one(&token, 1), &err), SOOTHE_E_IO);
    assert_non_null(strstr(err.message, "the file ends early"));
    FILE *stream = fopen(TRAINED, "r+b");
    assert_non_null(stream);
    assert_int_equal(fwrite(kept, 1, size, stream), size);
    assert_int_equal(fclose(stream), 0);
    decode_range(s, 0, 0, 10, 20);
    decode_range(fresh, 0, 0, 0, 20);
    assert_true(largest_difference(logits(s, 9), logits(fresh, 19), p.n_vocab) < FLOAT_TOLERANCE);
    free(kept);
    soothe_session_free(s);
    soothe_session_free(fresh);
    close_pair(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alpha_zero_changes_no_logit),
        cmocka_unit_test(test_paper_form_at_one_with_an_uncut_calibrator_is_the_plain_model),
        cmocka_unit_test(test_fusion_changes_the_logits),
        cmocka_unit_test(test_eight_sequences_in_a_batch_equal_eight_single_runs),
        cmocka_unit_test(test_a_prompt_in_chunks_equals_the_whole_prompt),
        cmocka_unit_test(test_a_batch_without_flags_fuses_its_last_token_only),
        cmocka_unit_test(test_removed_tokens_leave_no_trace_in_the_calibrator),
        cmocka_unit_test(test_a_copied_sequence_goes_on_like_its_source),
        cmocka_unit_test(test_fused_logits_are_the_head_applied_to_the_fused_states),
        cmocka_unit_test(test_fusing_a_row_agrees_with_numpy),
        cmocka_unit_test(test_rows_of_the_embedding_give_the_states_of_tokens),
        cmocka_unit_test(test_a_base_that_shrinks_fails_the_decode_and_nothing_else),
        cmocka_unit_test(test_a_matrix_alone_needs_no_blocks),
        cmocka_unit_test(test_a_cut_loads_in_the_engine_by_itself),
        cmocka_unit_test(test_a_packed_delta_gives_the_logits_of_the_full_calibrator),
        cmocka_unit_test(test_wrong_pairs_are_refused_with_a_sentence),
        cmocka_unit_test(test_damaged_files_are_refused_with_a_sentence),
        cmocka_unit_test(test_a_target_with_nan_weights_gives_an_error_not_text),
        cmocka_unit_test(test_a_context_of_embeddings_is_refused),
        cmocka_unit_test(test_a_batch_at_wrong_positions_takes_nothing_with_it),
        cmocka_unit_test(test_bad_batches_are_refused_and_leave_both_memories_as_they_were),
    };
    return cmocka_run_group_tests(tests, quiet_engine, tear_down);
}
