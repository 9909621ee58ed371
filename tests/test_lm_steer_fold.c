/* SPDX-License-Identifier: Apache-2.0
 * LM-Steer in the output head: what the method does to states, by the model's own weights. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "edit/edit_file.h"
#include "edit/history.h"
#include "engine/batch.h"
#include "fusion/calibrator_file.h"
#include "methods/lm_steer.h"
#include "test_support.h"
#include "tiny_model.h"

#define TARGET "fold_target.gguf"
#define STEER "fold_steer.gguf"
#define OTHER "fold_other.gguf"
#define OUT "fold_out.gguf"
#define BACK "fold_back.gguf"

enum { D = 64, RANK = 3, N_TOKENS = 12, N_VOCAB = 300 };
static const double           E          = 0.02; /* in the place of the method's .001, so that 64 numbers show it */
static const float            STRENGTH   = 5;
static const llama_token      TOKENS[]   = {5, 77, 130, 9, 42, 200, 7, 11, 250, 3, 99, 181};
static const enum tiny_family FAMILIES[] = {TINY_LLAMA, TINY_QWEN2, TINY_GEMMA3, TINY_GPT2}; /* QWEN2: untied */
enum { N_FAMILIES = sizeof FAMILIES / sizeof *FAMILIES };
static double p1[D][RANK], p2[D][RANK];

static struct soothe_error err;

static int set_up(void **state) {
    struct soothe__rng rng = soothe__rng_seed(11, 1);
    (void)state;
    llama_log_set(quiet, NULL);
    for (int i = 0; i < D; i++)
        for (int k = 0; k < RANK; k++) {
            p1[i][k] = soothe__rng_normal(&rng);
            p2[i][k] = soothe__rng_normal(&rng);
        }
    return 0;
}

static int tear_down(void **state) {
    static const char *const files[] = {TARGET, STEER, OTHER, OUT, BACK};
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        unlink(files[i]);
    return 0;
}

/* ---- files ---------------------------------------------------------------------------------------------------------
 */

static void write_steer(const char *target, const float *bias, float nan_at_0) {
    float b[D * D];
    for (int i = 0; i < D; i++)
        for (int j = 0; j < D; j++) {
            double sum = 0; /* B = e P2 P1^T, as training writes it */
            for (int k = 0; k < RANK; k++)
                sum += p2[i][k] * p1[j][k];
            b[i * D + j] = (float)(E * sum);
        }
    b[0] += nan_at_0;
    const struct soothe__calibrator_spec spec = {.name        = "steer",
                                                 .target_path = target,
                                                 .form        = SOOTHE_FORM_RESIDUAL,
                                                 .strength    = STRENGTH,
                                                 .d_tgt       = D,
                                                 .b           = b,
                                                 .bias        = bias,
                                                 .matrix_type = GGML_TYPE_F32};
    must(soothe__calibrator_write(STEER, &spec, &err), &err);
}

static void begin(enum tiny_family family) {
    assert_true(tiny_model_write(TARGET, &(struct tiny_options){.family = family, .seed = 1}));
    write_steer(TARGET, NULL, 0);
    unlink(OUT);
}

static enum soothe_status fold(float strength, const char *type, struct soothe__fold_report *report) {
    const struct soothe__fold_options o = {
        .model_path = TARGET, .out_path = OUT, .steer_path = STEER, .strength = strength, .type = type};
    return soothe__lm_steer_fold(&o, report, &err);
}

static char *bytes_of(const struct soothe__gguf *g, const char *name, size_t *size) {
    const int64_t i = gguf_find_tensor(g->meta, name);
    assert_true(i >= 0);
    *size       = gguf_get_tensor_size(g->meta, i);
    char *bytes = soothe__calloc(*size, 1);
    assert_non_null(bytes);
    must(soothe__gguf_read(g, i, 0, bytes, *size, &err), &err);
    return bytes;
}

/* Every tensor of TARGET is in OUT, with its bytes. but: this one need not be. */
static void assert_kept(const char *but, int64_t n_more) {
    struct soothe__gguf in, out;
    must(soothe__gguf_open(&in, TARGET, &err), &err);
    must(soothe__gguf_open(&out, OUT, &err), &err);
    assert_int_equal(gguf_get_n_tensors(out.meta), gguf_get_n_tensors(in.meta) + n_more);
    for (int64_t i = 0; i < gguf_get_n_tensors(in.meta); i++) {
        const char *name = gguf_get_tensor_name(in.meta, i);
        size_t      n, m;
        if (but && strcmp(name, but) == 0)
            continue;
        char *x = bytes_of(&in, name, &n), *y = bytes_of(&out, name, &m);
        assert_int_equal(gguf_get_tensor_type(in.meta, i),
                         gguf_get_tensor_type(out.meta, gguf_find_tensor(out.meta, name)));
        assert_int_equal(n, m);
        assert_memory_equal(x, y, n);
        free(x);
        free(y);
    }
    soothe__gguf_close(&in);
    soothe__gguf_close(&out);
}

/* E (I + s e P1 P2^T), in double precision out of the factors: the paper's formula, not the code's matrix. */
static float *wanted_head(void) {
    struct soothe__gguf g;
    float              *rows;
    must(soothe__gguf_open(&g, TARGET, &err), &err);
    const char *name = gguf_find_tensor(g.meta, "output.weight") >= 0 ? "output.weight" : "token_embd.weight";
    must(soothe__gguf_get_f32(&g, name, (int64_t)N_VOCAB * D, &rows, &err), &err);
    soothe__gguf_close(&g);
    for (int v = 0; v < N_VOCAB; v++) {
        float *row     = rows + v * D;
        double u[RANK] = {0};
        for (int k = 0; k < RANK; k++)
            for (int i = 0; i < D; i++)
                u[k] += (double)row[i] * p1[i][k];
        for (int i = 0; i < D; i++)
            for (int k = 0; k < RANK; k++)
                row[i] += (float)((double)STRENGTH * E * u[k] * p2[i][k]);
    }
    return rows;
}

/* ---- logits --------------------------------------------------------------------------------------------------------
 */

/* (N_TOKENS, N_VOCAB) of a file, with the method at a strength beside it or without. */
static float *logits_of(const char *path, bool with_method, float strength) {
    struct soothe_calibrator    *cal = NULL;
    struct soothe_session       *s;
    struct soothe_session_params p      = soothe_session_params_default();
    struct llama_model          *model  = llama_model_load_from_file(path, llama_model_default_params());
    float                       *logits = soothe__calloc((size_t)N_TOKENS * N_VOCAB, sizeof *logits);
    struct llama_batch           b      = llama_batch_init(N_TOKENS, 0, 1);
    assert_non_null(model);
    assert_non_null(logits);
    if (with_method)
        must(soothe_calibrator_open(&cal, STEER, path, NULL, &err), &err);
    p.context.n_ctx     = 64;
    p.context.n_threads = p.context.n_threads_batch = 1;
    p.strength                                      = strength;
    must(soothe_session_new(&s, model, cal, &p, &err), &err);
    for (int i = 0; i < N_TOKENS; i++)
        soothe__batch_add(&b, TOKENS[i], i, 0, true);
    must(soothe_decode(s, b, &err), &err);
    for (int i = 0; i < N_TOKENS; i++)
        memcpy(logits + i * N_VOCAB, soothe_get_logits_ith(s, i), N_VOCAB * sizeof *logits);
    llama_batch_free(b);
    soothe_session_free(s);
    soothe_calibrator_free(cal);
    llama_model_free(model);
    return logits;
}

static double largest_difference(const float *a, const float *b, size_t n) {
    double largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)a[i] - (double)b[i]));
    return largest;
}

/* ---- tests ---------------------------------------------------------------------------------------------------------
 */

/* The tiny models' logits are of size 1; 1e-5 is the rounding of sums of 64 products in F32 and of the states, which
 * the method changes in F32 too. F16 has 2^-11 of each weight. */
static void test_logits_are_those_of_the_method(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        struct soothe__fold_report report;
        begin(FAMILIES[f]);
        const size_t n      = (size_t)N_TOKENS * N_VOCAB;
        float       *wanted = logits_of(TARGET, true, STRENGTH), *plain = logits_of(TARGET, false, 0);
        assert_true(largest_difference(wanted, plain, n) > 0.1); /* there is something to be the same */
        static const struct {
            const char *type;
            double      tolerance;
        } cases[] = {{NULL, 2e-5}, {"f16", 2e-2}, {"q8_0", 0.2}};
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            must(fold(NAN, cases[i].type, &report), &err); /* NAN: the file's own strength */
            float       *found = logits_of(OUT, false, 0);
            const double off   = largest_difference(found, wanted, n);
            if (!(off < cases[i].tolerance))
                fail_msg("family %d, type %s: %g", f, cases[i].type ? cases[i].type : "own", off);
            free(found);
        }
        free(wanted);
        free(plain);
    }
}

static void test_the_head_is_the_papers_formula_and_all_else_stays(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        struct soothe__fold_report report;
        struct soothe__gguf        g;
        float                     *found;
        begin(FAMILIES[f]);
        must(fold(STRENGTH, "own", &report), &err);
        const bool untied = FAMILIES[f] == TINY_QWEN2;
        assert_int_equal(report.added, !untied);
        assert_string_equal(report.from, untied ? "output.weight" : "token_embd.weight");
        assert_string_equal(report.type, "f32");
        assert_kept(untied ? "output.weight" : NULL, !untied);
        float *wanted = wanted_head();
        must(soothe__gguf_open(&g, OUT, &err), &err);
        must(soothe__gguf_get_f32(&g, "output.weight", (int64_t)N_VOCAB * D, &found, &err), &err);
        assert_true(largest_difference(found, wanted, (size_t)N_VOCAB * D) < 2e-6);
        double              moved = 0, size = 0;
        float              *old;
        struct soothe__gguf in;
        must(soothe__gguf_open(&in, TARGET, &err), &err);
        must(soothe__gguf_get_f32(&in, report.from, (int64_t)N_VOCAB * D, &old, &err), &err);
        for (int i = 0; i < N_VOCAB * D; i++) {
            moved += pow((double)wanted[i] - (double)old[i], 2);
            size += pow((double)old[i], 2);
        }
        assert_true(fabs(report.change - sqrt(moved / size)) < 1e-5);
        soothe__gguf_close(&in);
        soothe__gguf_close(&g);
        free(old);
        free(found);
        free(wanted);
    }
}

/* The numbers of the F32 head, quantised by the engine's own function. */
static void test_a_head_of_another_type_is_that_quantised(void **state) {
    static const struct {
        const char    *name;
        enum ggml_type type;
    } types[] = {{"f16", GGML_TYPE_F16}, {"BF16", GGML_TYPE_BF16}, {"q8_0", GGML_TYPE_Q8_0}, {"q4_0", GGML_TYPE_Q4_0}};
    struct soothe__fold_report report;
    struct soothe__gguf        g;
    float                     *rows;
    (void)state;
    begin(TINY_LLAMA);
    must(fold(STRENGTH, "own", &report), &err);
    must(soothe__gguf_open(&g, OUT, &err), &err);
    must(soothe__gguf_get_f32(&g, "output.weight", (int64_t)N_VOCAB * D, &rows, &err), &err);
    soothe__gguf_close(&g);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        size_t      size;
        const char *name = ggml_type_name(types[i].type);
        must(fold(STRENGTH, types[i].name, &report), &err);
        assert_string_equal(report.type, name);
        assert_kept(NULL, 1);
        must(soothe__gguf_open(&g, OUT, &err), &err);
        assert_int_equal(gguf_get_tensor_type(g.meta, gguf_find_tensor(g.meta, "output.weight")), types[i].type);
        char *found = bytes_of(&g, "output.weight", &size), *wanted = soothe__calloc(size, 1);
        assert_int_equal(size, ggml_row_size(types[i].type, D) * N_VOCAB);
        ggml_quantize_chunk(types[i].type, rows, wanted, 0, N_VOCAB, D, NULL);
        assert_memory_equal(found, wanted, size);
        soothe__gguf_close(&g);
        free(found);
        free(wanted);
    }
    free(rows);
}

static void test_strength_zero_adds_nothing_and_changes_no_byte(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        struct soothe__fold_report report;
        begin(FAMILIES[f]);
        must(fold(0, "f16", &report), &err);
        assert_false(report.added);
        assert_kept(NULL, 0);
    }
}

/* ---- there and back ------------------------------------------------------------------------------------------------
 */

static void hash_of(const char *path, char hex[65]) {
    struct soothe__gguf g;
    must(soothe__gguf_open(&g, path, &err), &err);
    must(soothe__tensors_hash(hex, &g, &err), &err);
    soothe__gguf_close(&g);
}

static void test_an_added_head_is_taken_back_without_a_base(void **state) {
    struct soothe__fold_report  report;
    struct soothe__edit_verdict v;
    char                        before[65], after[65];
    uint32_t                    n;
    (void)state;
    begin(TINY_LLAMA);
    hash_of(TARGET, before);
    must(fold(STRENGTH, NULL, &report), &err);
    must(soothe__edit_verify(&v, OUT, TARGET, NULL, 0, &err), &err);
    assert_true(soothe__edit_verified(&v));
    must(soothe__edit_drop_added(OUT, BACK, &err), &err);
    hash_of(BACK, after);
    assert_string_equal(before, after);
    struct soothe__gguf g;
    must(soothe__gguf_open(&g, BACK, &err), &err);
    assert_int_equal(soothe__edit_count(&g), 0);
    assert_true(gguf_find_key(g.meta, "soothe.edit.0.added") < 0);
    soothe__gguf_close(&g);
    must(soothe__edit_undo(OUT, TARGET, BACK, &n, &err), &err);
    assert_int_equal(n, 1);
    assert_int_equal(soothe__edit_drop_added(TARGET, BACK, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "records no edit"));
    begin(TINY_QWEN2); /* changed in its place: only the base can say what it was */
    must(fold(STRENGTH, NULL, &report), &err);
    assert_int_equal(soothe__edit_drop_added(OUT, BACK, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "--base MODEL or --diff FILE"));
}

/* ---- refusals ------------------------------------------------------------------------------------------------------
 */

static void assert_refused(enum soothe_status wanted, float strength, const char *type, const char *words) {
    struct soothe__fold_report report;
    const enum soothe_status   found = fold(strength, type, &report);
    if (found != wanted || !strstr(err.message, words))
        fail_msg("%s: \"%s\" does not say \"%s\"", soothe_status_name(found), err.message, words);
    assert_false(soothe__file_exists(OUT));
}

static void test_what_no_head_can_hold_is_refused(void **state) {
    float bias[D] = {0};
    (void)state;
    begin(TINY_LLAMA);
    assert_refused(SOOTHE_E_ARGUMENT, STRENGTH, "q9_0", "no data type \"q9_0\"");
    assert_refused(SOOTHE_E_UNSUPPORTED, STRENGTH, "q4_k", "rows of 64 numbers, cannot be written anew as q4_K");
    assert_refused(SOOTHE_E_UNSUPPORTED, STRENGTH, "iq1_s", "cannot be written anew as iq1_s");
    assert_refused(SOOTHE_E_ARGUMENT, INFINITY, NULL, "a strength of inf");
    assert_refused(SOOTHE_E_NUMERIC, 1e9F, "f16", "tensor output.weight of " TARGET ": the edit gives");
    write_steer(TARGET, bias, 0);
    assert_refused(SOOTHE_E_UNSUPPORTED, STRENGTH, NULL, "has a bias besides its matrix");
    must(soothe_calibrator_init(TARGET, 0, STEER, &err), &err);
    assert_refused(SOOTHE_E_UNSUPPORTED, STRENGTH, NULL, "has no matrix on the final state");
    must(soothe_calibrator_init(TARGET, 2, STEER, &err), &err);
    assert_refused(SOOTHE_E_UNSUPPORTED, STRENGTH, NULL, "has blocks of its own");
    write_steer(TARGET, NULL, NAN);
    assert_refused(SOOTHE_E_NUMERIC, STRENGTH, NULL, "not finite");
}

static void test_another_model_is_refused(void **state) {
    (void)state;
    begin(TINY_LLAMA);
    assert_true(tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_LLAMA, .seed = 2}));
    write_steer(OTHER, NULL, 0);
    assert_refused(SOOTHE_E_MISMATCH, STRENGTH, NULL, "was fitted to target");
}

/* gemma's graph knows no output.weight: such a file would not load anywhere. */
static void test_an_architecture_without_a_head_of_its_own_is_refused(void **state) {
    (void)state;
    begin(TINY_GEMMA);
    free(logits_of(TARGET, true, STRENGTH)); /* the method itself works */
    assert_refused(SOOTHE_E_UNSUPPORTED, STRENGTH, NULL,
                   "reads no output.weight in a model of this architecture (gemma)");
}

static void test_a_disk_that_is_full_is_said(void **state) {
    struct soothe__fold_report  report;
    struct soothe__fold_options o = {
        .model_path = TARGET, .out_path = "/dev/full", .steer_path = STEER, .strength = STRENGTH};
    (void)state;
    begin(TINY_LLAMA);
    assert_int_equal(soothe__lm_steer_fold(&o, &report, &err), SOOTHE_E_IO);
    o.out_path = TARGET;
    assert_int_equal(soothe__lm_steer_fold(&o, &report, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "leaves its original alone"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_are_those_of_the_method),
        cmocka_unit_test(test_the_head_is_the_papers_formula_and_all_else_stays),
        cmocka_unit_test(test_a_head_of_another_type_is_that_quantised),
        cmocka_unit_test(test_strength_zero_adds_nothing_and_changes_no_byte),
        cmocka_unit_test(test_an_added_head_is_taken_back_without_a_base),
        cmocka_unit_test(test_what_no_head_can_hold_is_refused),
        cmocka_unit_test(test_another_model_is_refused),
        cmocka_unit_test(test_an_architecture_without_a_head_of_its_own_is_refused),
        cmocka_unit_test(test_a_disk_that_is_full_is_said),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
