/* SPDX-License-Identifier: Apache-2.0
 * Model Surgery computed a second time in the test, diffs laid over models, and the way back. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "edit/history.h"
#include "engine/requantize.h"
#include "engine/target_model.h"
#include "methods/gates.h"
#include "methods/surgery.h"
#include "test_support.h"
#include "tiny_model.h"

#define MODEL "surgery_model.gguf"
#define Q8 "surgery_q8.gguf"
#define Q4 "surgery_q4.gguf"
#define OTHER "surgery_other.gguf"
#define GPT2 "surgery_gpt2.gguf"
#define MADE "surgery_made.gguf"
#define OUT "surgery_out.gguf"
#define OUT2 "surgery_out2.gguf"
#define DIFF "surgery_diff.gguf"
#define DIFF2 "surgery_diff2.gguf"

static const char *const FILES[] = {MODEL, Q8, Q4, OTHER, GPT2, MADE, OUT, OUT2, DIFF, DIFF2};

enum { D = 64 };

static int set_up(void **state) {
    struct soothe_error err;
    (void)state;
    llama_log_set(quiet, NULL);
    assert_true(tiny_model_write(MODEL, &(struct tiny_options){.family = TINY_LLAMA, .d = D, .seed = 3}));
    assert_true(tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_LLAMA, .d = D, .seed = 4}));
    assert_true(tiny_model_write(GPT2, &(struct tiny_options){.family = TINY_GPT2, .d = D, .seed = 3}));
    must(soothe__requantize(MODEL, "q8_0", Q8, &err), &err);
    must(soothe__requantize(MODEL, "q4_0", Q4, &err), &err);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++)
        unlink(FILES[i]);
    return 0;
}

static int clean(void **state) {
    (void)state;
    unlink(OUT);
    unlink(OUT2);
    unlink(DIFF);
    unlink(DIFF2);
    return 0;
}

/* ---- what tests share ------------------------------------------------------------------------------------------- */

static struct soothe__probe probe_of(float weight[D], int32_t layer) {
    struct soothe__rng rng = soothe__rng_seed(8, 2);
    for (int i = 0; i < D; i++)
        weight[i] = (float)(3 * soothe__rng_normal(&rng));
    return (struct soothe__probe){.layer = layer, .d = D, .pool = SOOTHE__POOL_MEAN, .weight = weight};
}

static struct soothe__diff *operate(const char *model, const struct soothe__surgery_options *o,
                                    struct soothe__surgery_report *report) {
    struct soothe_error           err;
    struct soothe__diff          *diff;
    struct soothe__surgery_report own = {0};
    float                         weight[D];
    const struct soothe__probe    probe = probe_of(weight, SOOTHE__LAYER_FINAL);
    must(soothe__surgery(&diff, report ? report : &own, model, &probe, o, NULL, 0, &err), &err);
    soothe__surgery_report_free(&own);
    return diff;
}

static void hash(char hex[65], const char *path) {
    struct soothe_error err;
    struct soothe__gguf g;
    must(soothe__gguf_open(&g, path, &err), &err);
    must(soothe__tensors_hash(hex, &g, &err), &err);
    soothe__gguf_close(&g);
}

static void assert_same_tensors(const char *a, const char *b) {
    char x[65], y[65];
    hash(x, a);
    hash(y, b);
    assert_string_equal(x, y);
}

static float *numbers(const char *path, const char *name, int64_t *n) {
    struct soothe_error err;
    struct soothe__gguf g;
    float              *values;
    must(soothe__gguf_open(&g, path, &err), &err);
    const int64_t i = gguf_find_tensor(g.meta, name);
    assert_true(i >= 0);
    *n = soothe__gguf_n_elements(&g, i);
    must(soothe__gguf_read_f32(&g, i, &values, &err), &err);
    soothe__gguf_close(&g);
    return values;
}

static void assert_says(const struct soothe_error *err, const char *words) {
    if (!strstr(err->message, words))
        fail_msg("\"%s\" does not say \"%s\"", err->message, words);
}

/* Logits of the last of a few tokens; fresh. */
static float *logits_of(const char *path, int32_t *n_vocab) {
    struct soothe_error         err;
    struct llama_model         *model;
    struct llama_context_params p = llama_context_default_params();
    must(soothe__target_load(&model, path, 0, &err), &err);
    p.n_ctx     = 64;
    p.n_threads = p.n_threads_batch = 1;
    struct llama_context *ctx       = llama_init_from_model(model, p);
    assert_non_null(ctx);
    llama_token tokens[] = {5, 77, 130, 9, 42, 200, 7};
    assert_int_equal(llama_decode(ctx, llama_batch_get_one(tokens, 7)), 0);
    *n_vocab    = llama_vocab_n_tokens(llama_model_get_vocab(model));
    float *kept = soothe__calloc((size_t)*n_vocab, sizeof *kept);
    assert_non_null(kept);
    memcpy(kept, llama_get_logits_ith(ctx, -1), (size_t)*n_vocab * sizeof *kept);
    llama_free(ctx);
    llama_model_free(model);
    return kept;
}

/* ---- surgery, a second time ----------------------------------------------------------------------------------------
 */

struct ranked {
    double  cosine, norm;
    int32_t block, row;
};

static int by_cosine(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    return (x->cosine > y->cosine) - (x->cosine < y->cosine);
}

static double dot(const float *a, const float *b) {
    double sum = 0;
    for (int i = 0; i < D; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static void direction_in(float out[D], const float *v, uint32_t block, enum soothe__surgery_coordinates coordinates) {
    memcpy(out, v, D * sizeof *out);
    if (coordinates == SOOTHE__SURGERY_PLAIN)
        return;
    char    name[64];
    int64_t n;
    snprintf(name, sizeof name, "blk.%u.ffn_norm.weight", block);
    float *gain = numbers(MODEL, name, &n), *final = numbers(MODEL, "output_norm.weight", &n);
    for (int i = 0; i < D; i++)
        out[i] = v[i] * final[i] / gain[i];
    free(gain);
    free(final);
}

static void check_surgery(enum soothe__surgery_coordinates coordinates, double strength) {
    enum { BLOCKS = 4 };
    struct soothe_error            err;
    struct soothe__surgery_report  report;
    struct soothe__surgery_options o = soothe__surgery_options_default();
    struct ranked                 *all;
    float                          v[D], direction[BLOCKS][D];
    float                         *before[BLOCKS];
    int64_t                        n_values = 0, n_rows = 0;
    o.strength    = strength;
    o.share       = 0.1;
    o.coordinates = coordinates;
    (void)probe_of(v, SOOTHE__LAYER_FINAL);
    all = soothe__calloc(BLOCKS * 4096, sizeof *all);
    assert_non_null(all);
    for (uint32_t b = 0; b < BLOCKS; b++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.ffn_gate.weight", b);
        before[b] = numbers(MODEL, name, &n_values);
        direction_in(direction[b], v, b, coordinates);
        for (int32_t r = 0; r < n_values / D; r++) {
            const float *g    = before[b] + r * D;
            const double norm = sqrt(dot(g, g));
            all[n_rows++] = (struct ranked){dot(g, direction[b]) / norm / sqrt(dot(direction[b], direction[b])), norm,
                                            (int32_t)b, r};
        }
    }
    qsort(all, (size_t)n_rows, sizeof *all, by_cosine);
    const int64_t n_chosen = llround(0.1 * (double)n_rows);
    double        norms = 0, lengths = 0;
    for (int64_t i = 0; i < n_chosen; i++) {
        norms += all[i].norm;
        lengths += sqrt(dot(direction[all[i].block], direction[all[i].block]));
    }
    const double factor = strength * norms / lengths;

    struct soothe__diff *diff = operate(MODEL, &o, &report);
    assert_int_equal(report.n_rows, n_rows);
    assert_int_equal(report.n_chosen, n_chosen);
    assert_true(fabs(report.mean_norm - norms / (double)n_chosen) < 1e-5);
    assert_true(fabs(report.cos_first - all[0].cosine) < 1e-5 && all[0].cosine < -0.2);
    must(soothe__diff_apply(diff, MODEL, OUT, &err), &err);
    int64_t n_changed = 0;
    for (uint32_t b = 0; b < BLOCKS; b++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.ffn_gate.weight", b);
        float *after = numbers(OUT, name, &n_values);
        for (int64_t i = 0; i < n_chosen; i++) {
            if (all[i].block != (int32_t)b)
                continue;
            float *row = before[b] + all[i].row * D;
            for (int k = 0; k < D; k++) {
                const double added = factor * (double)direction[b][k];
                /* the vectors are kept in F16, of length 1: 2^-11 of each value, and 2^-25 of the length */
                const double most =
                    fabs(added) * 5e-4 + fabs(factor) * sqrt(dot(direction[b], direction[b])) * 1e-7 + 1e-6;
                assert_true(fabs((double)after[all[i].row * D + k] - ((double)row[k] + added)) <= most);
            }
            memcpy(row, after + all[i].row * D, D * sizeof *row);
            n_changed++;
        }
        assert_memory_equal(before[b], after, (size_t)n_values * sizeof *after); /* and no other row */
        free(after);
        free(before[b]);
    }
    assert_int_equal(n_changed, n_chosen);
    free(all);
    soothe__surgery_report_free(&report);
    soothe__diff_free(diff);
}

static void test_the_most_negative_rows_get_the_direction_times_a_share_of_their_length(void **state) {
    (void)state;
    check_surgery(SOOTHE__SURGERY_PLAIN, 0.5);
    check_surgery(SOOTHE__SURGERY_PLAIN, -0.25); /* sign flip */
}

static void test_coordinates_of_the_gates_own_norm(void **state) {
    (void)state;
    check_surgery(SOOTHE__SURGERY_GAIN, 0.7);
}

static void test_only_rows_of_the_blocks_that_are_named(void **state) {
    (void)state;
    struct soothe_error            err;
    struct soothe__surgery_report  all, some;
    struct soothe__surgery_options o = soothe__surgery_options_default();
    struct soothe__probe           probe;
    struct soothe__diff           *diff;
    float                          v[D];
    o.share = 0.1;
    soothe__diff_free(operate(MODEL, &o, &all));
    o.first_block = 1;
    o.end_block   = 3;
    soothe__diff_free(operate(MODEL, &o, &some));
    assert_int_equal(some.n_rows, all.n_rows / 2);
    assert_int_equal(some.n_chosen, llround(0.1 * (double)some.n_rows));
    assert_int_equal(some.chosen_in[1] + some.chosen_in[2], some.n_chosen);
    assert_true(some.chosen_in[1] > 0 && some.chosen_in[2] > 0);
    soothe__surgery_report_free(&all);
    soothe__surgery_report_free(&some);

    probe         = probe_of(v, SOOTHE__LAYER_FINAL);
    o.first_block = 3;
    assert_int_equal(soothe__surgery(&diff, &some, MODEL, &probe, &o, NULL, 0, &err), SOOTHE_E_ARGUMENT);
    assert_says(&err, "blocks 3 to 2");
    o.first_block = 4;
    o.end_block   = 0;
    assert_int_equal(soothe__surgery(&diff, &some, MODEL, &probe, &o, NULL, 0, &err), SOOTHE_E_ARGUMENT);
    assert_says(&err, "has blocks 0 to 3, not 4");
}

static void test_strength_zero_leaves_every_tensor_byte_for_byte(void **state) {
    (void)state;
    struct soothe_error            err;
    struct soothe__surgery_options o = soothe__surgery_options_default();
    o.strength                       = 0;
    const char *const models[]       = {MODEL, Q8, Q4};
    for (int i = 0; i < 3; i++) {
        struct soothe__diff *diff = operate(models[i], &o, NULL);
        must(soothe__diff_apply(diff, models[i], OUT, &err), &err);
        assert_same_tensors(models[i], OUT);
        soothe__diff_free(diff);
    }
}

static void test_controls_change_other_rows_or_another_way(void **state) {
    (void)state;
    struct soothe__surgery_options o    = soothe__surgery_options_default();
    struct soothe__diff           *real = operate(MODEL, &o, NULL);
    o.control                           = SOOTHE__SURGERY_RANDOM_DIRECTION;
    struct soothe__diff *direction      = operate(MODEL, &o, NULL);
    o.control                           = SOOTHE__SURGERY_RANDOM_ROWS;
    struct soothe__diff *rows = operate(MODEL, &o, NULL), *again = operate(MODEL, &o, NULL);
    o.seed                      = 1;
    struct soothe__diff *others = operate(MODEL, &o, NULL);
    assert_memory_equal(real->tensors[0].vector, rows->tensors[0].vector, D * sizeof(float));
    assert_memory_not_equal(real->tensors[0].vector, direction->tensors[0].vector, D * sizeof(float));
    assert_string_equal(rows->id, again->id);
    assert_string_not_equal(rows->id, others->id);
    assert_string_not_equal(rows->id, real->id);
    struct soothe__diff *const all[] = {real, direction, rows, again, others};
    for (int i = 0; i < 5; i++)
        soothe__diff_free(all[i]);
}

static void test_what_cannot_be_operated_on_is_refused_by_name(void **state) {
    (void)state;
    struct soothe_error            err;
    struct soothe__diff           *diff;
    struct soothe__surgery_report  report;
    struct soothe__surgery_options o = soothe__surgery_options_default();
    float                          weight[D];
    struct soothe__probe           probe = probe_of(weight, SOOTHE__LAYER_FINAL);
    assert_int_equal(soothe__surgery(&diff, &report, GPT2, &probe, &o, NULL, 0, &err), SOOTHE_E_UNSUPPORTED);
    assert_says(&err, "architecture gpt2) has an MLP without a gate in block 0");
    const double bad[] = {NAN, INFINITY, -INFINITY, 1e6};
    for (int i = 0; i < 4; i++) {
        o.strength = bad[i];
        assert_int_equal(soothe__surgery(&diff, &report, MODEL, &probe, &o, NULL, 0, &err), SOOTHE_E_ARGUMENT);
        assert_says(&err, "strength");
    }
    o.strength = 1;
    o.share    = 0;
    assert_int_equal(soothe__surgery(&diff, &report, MODEL, &probe, &o, NULL, 0, &err), SOOTHE_E_ARGUMENT);
    o.share = 0.1;
    probe.d = 32;
    assert_int_equal(soothe__surgery(&diff, &report, MODEL, &probe, &o, NULL, 0, &err), SOOTHE_E_SHAPE);
    probe.d = D;
    memset(weight, 0, sizeof weight);
    assert_int_equal(soothe__surgery(&diff, &report, MODEL, &probe, &o, NULL, 0, &err), SOOTHE_E_NUMERIC);
    assert_null(diff);
}

/* ---- fused gates and experts ---------------------------------------------------------------------------------------
 */

/* Block 0: gate and up in one tensor; block 1: three experts, fused; block 2: experts and a shared one. */
static void write_made(void) {
    struct soothe__rng   rng     = soothe__rng_seed(9, 9);
    struct gguf_context *meta    = gguf_init_empty();
    struct ggml_context *shapes  = ggml_init((struct ggml_init_params){.mem_size = 8 << 20, .no_alloc = false});
    const char          *words[] = {"a", "b"};
    const struct {
        const char *name;
        int64_t     ne[3];
    } tensors[] = {{"output_norm.weight", {D, 1, 1}},         {"blk.0.ffn_up.weight", {D, 2 * 10, 1}},
                   {"blk.0.ffn_down.weight", {10, D, 1}},     {"blk.1.ffn_gate_up_exps.weight", {D, 2 * 6, 3}},
                   {"blk.1.ffn_down_exps.weight", {6, D, 3}}, {"blk.2.ffn_gate_exps.weight", {D, 5, 3}},
                   {"blk.2.ffn_up_exps.weight", {D, 5, 3}},   {"blk.2.ffn_gate_shexp.weight", {D, 4, 1}}};
    gguf_set_val_str(meta, "general.architecture", "made");
    gguf_set_val_u32(meta, "made.block_count", 3);
    gguf_set_val_u32(meta, "made.embedding_length", D);
    gguf_set_arr_str(meta, "tokenizer.ggml.tokens", words, 2);
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        struct ggml_tensor *t = ggml_new_tensor(shapes, GGML_TYPE_F32, 3, tensors[i].ne);
        ggml_set_name(t, tensors[i].name);
        for (int64_t k = 0; k < ggml_nelements(t); k++)
            ((float *)t->data)[k] = (float)soothe__rng_normal(&rng);
        gguf_add_tensor(meta, t);
    }
    assert_true(gguf_write_to_file(meta, MADE, false));
    gguf_free(meta);
    ggml_free(shapes);
}

/* Whether rows [first, first + n) of a tensor changed; all of them must agree. */
static bool changed(const char *name, int64_t first, int64_t n) {
    int64_t n_values;
    float  *a = numbers(MADE, name, &n_values), *b = numbers(OUT, name, &n_values);
    int64_t n_changed = 0;
    for (int64_t r = first; r < first + n; r++)
        n_changed += memcmp(a + r * D, b + r * D, D * sizeof *a) != 0;
    free(a);
    free(b);
    assert_true(n_changed == 0 || n_changed == n);
    return n_changed > 0;
}

static void test_gates_within_fused_tensors_and_of_experts(void **state) {
    (void)state;
    struct soothe_error            err;
    struct soothe__surgery_report  report;
    struct soothe__surgery_options o = soothe__surgery_options_default();
    o.share                          = 1; /* every gate row */
    write_made();
    struct soothe__diff *diff = operate(MADE, &o, &report);
    assert_int_equal(report.n_rows, 10 + 3 * 6 + 3 * 5 + 4);
    assert_int_equal(report.chosen_in[1], 18);
    must(soothe__diff_write(diff, DIFF, MADE, NULL, true, &err), &err);
    must(soothe__diff_apply(diff, MADE, OUT, &err), &err);
    assert_true(changed("blk.0.ffn_up.weight", 0, 10));
    assert_false(changed("blk.0.ffn_up.weight", 10, 10));
    for (int64_t e = 0; e < 3; e++) {
        assert_true(changed("blk.1.ffn_gate_up_exps.weight", e * 12, 6));
        assert_false(changed("blk.1.ffn_gate_up_exps.weight", e * 12 + 6, 6));
    }
    assert_true(changed("blk.2.ffn_gate_exps.weight", 0, 15));
    assert_false(changed("blk.2.ffn_up_exps.weight", 0, 15));
    assert_true(changed("blk.2.ffn_gate_shexp.weight", 0, 4));
    soothe__diff_free(diff);
    must(soothe__diff_open(&diff, DIFF, &err), &err); /* each tensor once, though it has several gates */
    must(soothe__diff_take_back(diff, OUT, OUT2, &err), &err);
    assert_same_tensors(MADE, OUT2);
    soothe__diff_free(diff);
    soothe__surgery_report_free(&report);
}

/* ---- diffs ---------------------------------------------------------------------------------------------------------
 */

static void test_laid_over_is_the_edited_file_bit_for_bit(void **state) {
    (void)state;
    struct soothe_error            err;
    struct soothe__surgery_options o = soothe__surgery_options_default();
    o.share                          = 0.3;
    const char *const models[]       = {MODEL, Q8, Q4};
    for (int i = 0; i < 3; i++) {
        const char *const    files[] = {DIFF};
        char                *laid;
        int32_t              n, m;
        struct soothe__diff *diff = operate(models[i], &o, NULL);
        must(soothe__diff_apply(diff, models[i], OUT, &err), &err);
        must(soothe__diff_write(diff, DIFF, models[i], NULL, false, &err), &err);
        soothe__diff_free(diff);
        must(soothe__diff_lay(&laid, models[i], files, 1, ".", &err), &err);
        assert_same_tensors(OUT, laid);
        assert_false(soothe__file_exists("soothe-laid.gguf"));
        float *a = logits_of(OUT, &n), *b = logits_of(laid, &m), *plain = logits_of(models[i], &m);
        assert_memory_equal(a, b, (size_t)n * sizeof *a);
        assert_memory_not_equal(a, plain, (size_t)n * sizeof *a);
        free(a);
        free(b);
        free(plain);
        soothe__diff_let_go(laid);
        must(soothe__diff_lay(&laid, models[i], NULL, 0, ".", &err), &err); /* taken off again: the model itself */
        assert_string_equal(laid, models[i]);
        soothe__diff_let_go(laid);
    }
    assert_int_equal(system("test -z \"$(ls -A | grep soothe-laid)\""), 0);
}

/* Small and good for every quantised file of its model. */
static void test_an_added_vector_fits_every_file_of_the_model(void **state) {
    (void)state;
    struct soothe_error            err;
    struct soothe__surgery_options o    = soothe__surgery_options_default();
    struct soothe__diff           *diff = operate(MODEL, &o, NULL);
    must(soothe__diff_apply(diff, Q4, OUT, &err), &err);
    must(soothe__diff_apply(diff, Q8, OUT2, &err), &err);
    char a[65], b[65];
    hash(a, Q4);
    hash(b, OUT);
    assert_string_not_equal(a, b);
    soothe__diff_free(diff);
}

static void test_a_diff_of_rows_rebuilds_the_edited_file_and_the_base(void **state) {
    (void)state;
    struct soothe_error            err;
    struct soothe__surgery_options o    = soothe__surgery_options_default();
    struct soothe__diff           *made = operate(Q8, &o, NULL), *diff;
    must(soothe__diff_apply(made, Q8, OUT, &err), &err);
    must(soothe__diff_between(&diff, Q8, OUT, &err), &err);
    assert_string_equal(diff->kind, "surgery");
    must(soothe__diff_write(diff, DIFF, Q8, OUT, true, &err), &err);
    soothe__diff_free(diff);
    must(soothe__diff_open(&diff, DIFF, &err), &err);
    must(soothe__diff_apply(diff, Q8, OUT2, &err), &err);
    assert_same_tensors(OUT, OUT2);
    unlink(OUT2);
    must(soothe__diff_take_back(diff, OUT, OUT2, &err), &err);
    assert_same_tensors(Q8, OUT2);
    struct soothe__gguf g;
    must(soothe__gguf_open(&g, OUT2, &err), &err);
    assert_int_equal(soothe__edit_count(&g), 0);
    assert_int_equal(gguf_find_key(g.meta, "soothe.edit.0.kind"), -1);
    soothe__gguf_close(&g);
    /* and the very bytes of the base's file, whose metadata has been kept */
    char  *a, *b;
    size_t n, m;
    must(soothe__read_file(&a, &n, Q8, &err), &err);
    must(soothe__read_file(&b, &m, OUT2, &err), &err);
    assert_int_equal(n, m);
    free(a);
    free(b);
    soothe__diff_free(diff);
    soothe__diff_free(made);
}

static void assert_not_applied(struct soothe__diff *diff, const char *in, enum soothe_status wanted,
                               const char *words) {
    struct soothe_error err;
    char                before[65], after[65];
    hash(before, in);
    unlink(OUT2);
    assert_int_equal(soothe__diff_apply(diff, in, OUT2, &err), wanted);
    assert_says(&err, words);
    assert_false(soothe__file_exists(OUT2));
    hash(after, in);
    assert_string_equal(before, after);
}

static void test_a_diff_fits_its_model_once(void **state) {
    (void)state;
    struct soothe_error            err;
    struct soothe__surgery_options o   = soothe__surgery_options_default();
    struct soothe__diff           *add = operate(Q8, &o, NULL), *rows;
    must(soothe__diff_apply(add, Q8, OUT, &err), &err);
    must(soothe__diff_between(&rows, Q8, OUT, &err), &err);
    must(soothe__diff_write(rows, DIFF, Q8, OUT, false, &err), &err);
    soothe__diff_free(rows);
    must(soothe__diff_open(&rows, DIFF, &err), &err);
    assert_not_applied(add, OUT, SOOTHE_E_ARGUMENT, "lies over " OUT " already");
    assert_not_applied(rows, OUT, SOOTHE_E_ARGUMENT, "lies over " OUT " already");
    assert_not_applied(add, OTHER, SOOTHE_E_MISMATCH, "was made for the model");
    assert_not_applied(rows, OTHER, SOOTHE_E_MISMATCH, "was made for the model");
    assert_not_applied(rows, Q4, SOOTHE_E_MISMATCH, "made for another file of the model");
    assert_int_equal(soothe__diff_take_back(rows, OUT, OUT2, &err), SOOTHE_E_ARGUMENT);
    assert_says(&err, "--keep-rows");
    /* another edit below changes the rows that this one replaces */
    o.strength                 = 0.3;
    struct soothe__diff *below = operate(Q8, &o, NULL);
    unlink(OUT);
    must(soothe__diff_apply(below, Q8, OUT, &err), &err);
    assert_not_applied(rows, OUT, SOOTHE_E_MISMATCH, "holds other numbers there");
    must(soothe__diff_apply(add, OUT, OUT2, &err), &err); /* a vector can be added to any */
    soothe__diff_free(below);
    soothe__diff_free(add);
    soothe__diff_free(rows);
}

static void test_files_that_are_no_edit_of_each_other_have_no_diff(void **state) {
    (void)state;
    struct soothe_error  err;
    struct soothe__diff *diff;
    assert_int_equal(soothe__diff_between(&diff, MODEL, Q8, &err), SOOTHE_E_MISMATCH);
    assert_int_equal(soothe__diff_between(&diff, MODEL, GPT2, &err), SOOTHE_E_MISMATCH);
    assert_int_equal(soothe__diff_between(&diff, MODEL, MODEL, &err), SOOTHE_E_ARGUMENT);
    assert_null(diff);
}

static void test_a_damaged_diff_is_refused(void **state) {
    (void)state;
    struct soothe_error            err;
    struct soothe__surgery_options o    = soothe__surgery_options_default();
    struct soothe__diff           *diff = operate(MODEL, &o, NULL);
    char                          *bytes;
    size_t                         size;
    must(soothe__diff_write(diff, DIFF, MODEL, NULL, false, &err), &err);
    soothe__diff_free(diff);
    must(soothe__read_file(&bytes, &size, DIFF, &err), &err);
    for (size_t at = size - 2000; at < size; at += 97) { /* within what is to be added, and the row numbers */
        FILE *f = fopen(DIFF2, "wb");
        assert_non_null(f);
        bytes[at] ^= 0x11;
        assert_int_equal(fwrite(bytes, 1, size, f), size);
        bytes[at] ^= 0x11;
        assert_int_equal(fclose(f), 0);
        const enum soothe_status status = soothe__diff_open(&diff, DIFF2, &err);
        if (status == SOOTHE_OK) { /* padding between tensors may be anything */
            soothe__diff_free(diff);
            continue;
        }
        assert_null(diff);
    }
    assert_int_equal(truncate(DIFF, (off_t)size - 100), 0);
    assert_int_equal(soothe__diff_open(&diff, DIFF, &err), SOOTHE_E_FORMAT);
    assert_int_equal(soothe__diff_open(&diff, MODEL, &err), SOOTHE_E_FORMAT);
    assert_says(&err, "is not a diff");
    free(bytes);
}

/* ---- history -------------------------------------------------------------------------------------------------------
 */

static void test_undo_by_the_base(void **state) {
    (void)state;
    struct soothe_error            err;
    struct soothe__surgery_options o    = soothe__surgery_options_default();
    struct soothe__diff           *diff = operate(Q8, &o, NULL);
    uint32_t                       n_taken;
    char                           before[65], after[65];
    must(soothe__diff_apply(diff, Q8, OUT, &err), &err);
    must(soothe__edit_undo(OUT, Q8, OUT2, &n_taken, &err), &err);
    assert_int_equal(n_taken, 1);
    must(soothe__sha256_file(before, Q8, &err), &err);
    must(soothe__sha256_file(after, OUT2, &err), &err);
    assert_string_equal(before, after);
    unlink(OUT2);
    assert_int_equal(soothe__edit_undo(OUT, Q4, OUT2, &n_taken, &err), SOOTHE_E_MISMATCH);
    assert_int_equal(soothe__edit_undo(Q8, Q8, OUT2, &n_taken, &err), SOOTHE_E_ARGUMENT);
    assert_int_equal(soothe__edit_undo(OUT, Q8, Q8, &n_taken, &err), SOOTHE_E_ARGUMENT);
    assert_false(soothe__file_exists(OUT2));
    soothe__diff_free(diff);
}

static void test_verify_tells_base_and_edits_from_anything_else(void **state) {
    (void)state;
    struct soothe_error            err;
    struct soothe__edit_verdict    v;
    struct soothe__surgery_options o     = soothe__surgery_options_default();
    struct soothe__diff           *first = operate(Q8, &o, NULL);
    o.strength                           = -0.2;
    struct soothe__diff *second          = operate(Q8, &o, NULL);
    const char *const    diffs[]         = {DIFF, DIFF2};
    must(soothe__diff_write(first, DIFF, Q8, NULL, false, &err), &err);
    must(soothe__diff_write(second, DIFF2, Q8, NULL, false, &err), &err);
    must(soothe__diff_apply(first, Q8, OUT, &err), &err);
    must(soothe__diff_apply(second, OUT, OUT2, &err), &err);
    must(soothe__edit_verify(&v, OUT2, Q8, diffs, 2, &err), &err);
    assert_int_equal(v.n_edits, 2);
    assert_true(v.intact && v.unbroken && v.from_base && v.base_and_diffs && soothe__edit_verified(&v));
    must(soothe__edit_verify(&v, OUT2, Q8, diffs, 1, &err), &err);
    assert_true(v.intact == SOOTHE__VERDICT_YES && v.base_and_diffs == SOOTHE__VERDICT_NO);
    assert_false(soothe__edit_verified(&v));
    must(soothe__edit_verify(&v, OUT2, Q4, NULL, 0, &err), &err);
    assert_int_equal(v.from_base, SOOTHE__VERDICT_NO);
    must(soothe__edit_verify(&v, OUT, NULL, NULL, 0, &err), &err);
    assert_true(soothe__edit_verified(&v) && v.from_base == SOOTHE__VERDICT_NOT_ASKED);
    must(soothe__edit_verify(&v, Q8, NULL, NULL, 0, &err), &err);
    assert_false(soothe__edit_verified(&v)); /* never edited: nothing to be said */
    /* one bit of a tensor, at the end of the file */
    FILE *f = fopen(OUT, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, -3, SEEK_END), 0);
    const int c = getc(f);
    assert_int_equal(fseek(f, -3, SEEK_END), 0);
    putc(c ^ 1, f);
    assert_int_equal(fclose(f), 0);
    must(soothe__edit_verify(&v, OUT, Q8, diffs, 1, &err), &err);
    assert_true(v.intact == SOOTHE__VERDICT_NO && v.base_and_diffs == SOOTHE__VERDICT_NO);
    /* and it cannot be taken back to what it was */
    unlink(OUT2);
    must(soothe__diff_write(first, DIFF, Q8, NULL, true, &err), &err);
    struct soothe__diff *kept;
    must(soothe__diff_open(&kept, DIFF, &err), &err);
    assert_int_equal(soothe__diff_take_back(kept, OUT, OUT2, &err), SOOTHE_E_MISMATCH);
    assert_false(soothe__file_exists(OUT2));
    soothe__diff_free(kept);
    soothe__diff_free(first);
    soothe__diff_free(second);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_the_most_negative_rows_get_the_direction_times_a_share_of_their_length, clean),
        cmocka_unit_test_teardown(test_coordinates_of_the_gates_own_norm, clean),
        cmocka_unit_test_teardown(test_only_rows_of_the_blocks_that_are_named, clean),
        cmocka_unit_test_teardown(test_strength_zero_leaves_every_tensor_byte_for_byte, clean),
        cmocka_unit_test_teardown(test_controls_change_other_rows_or_another_way, clean),
        cmocka_unit_test_teardown(test_what_cannot_be_operated_on_is_refused_by_name, clean),
        cmocka_unit_test_teardown(test_gates_within_fused_tensors_and_of_experts, clean),
        cmocka_unit_test_teardown(test_laid_over_is_the_edited_file_bit_for_bit, clean),
        cmocka_unit_test_teardown(test_an_added_vector_fits_every_file_of_the_model, clean),
        cmocka_unit_test_teardown(test_a_diff_of_rows_rebuilds_the_edited_file_and_the_base, clean),
        cmocka_unit_test_teardown(test_a_diff_fits_its_model_once, clean),
        cmocka_unit_test_teardown(test_files_that_are_no_edit_of_each_other_have_no_diff, clean),
        cmocka_unit_test_teardown(test_a_damaged_diff_is_refused, clean),
        cmocka_unit_test_teardown(test_undo_by_the_base, clean),
        cmocka_unit_test_teardown(test_verify_tells_base_and_edits_from_anything_else, clean),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
