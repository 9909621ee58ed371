/* SPDX-License-Identifier: Apache-2.0
 * Alignment: the closed forms against NumPy (tests/data/align_reference.f32, written by scripts/align_reference.py),
 * the contrastive gradient by finite differences, spellings of tokens, and whole runs on tiny models. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fusion/alignment_file.h"
#include "fusion/calibrator_file.h"
#include "train_support.h"
#include "tiny_model.h"
#include "train/align.h"
#include "train/align_tokens.h"
#include "train/train_run.h"

#define TARGET "align_target.gguf"
#define OTHER "align_other.gguf" /* of another vocabulary and width */
#define CUT "align_cut.gguf"     /* two blocks of TARGET, untrained */
#define TRAINED "align_trained.gguf"
#define MATRIX "align_matrix.gguf" /* of no blocks */
#define OUT "align_out.gguf"
#define OUT2 "align_out2.gguf"
#define DATA "align_data.jsonl"
#define HELDOUT "align_heldout.jsonl"
#define STATES "align_states.bin"

static const char *const FILES[] = {TARGET, OTHER, CUT, TRAINED, MATRIX, OUT, OUT2, DATA, HELDOUT, STATES};
enum { N = 50, D_X = 6, D_Y = 9 };

/* ---- the reference ---------------------------------------------------------------------------------------------- */

static struct reference {
    float x[N * D_X], y[N * D_Y], ridge[D_X * D_Y], procrustes[D_X * D_Y], back[D_Y * D_X], flat[D_X * D_Y],
        w[D_X * D_Y], loss, carried[D_Y * D_Y];
} ref;

static void write_matrix(const char *path, const char *source, bool with_a, uint64_t seed) {
    struct soothe_error err;
    enum { D = 64 };
    static float       a[D * D], b[D * D], bias[D];
    struct soothe__rng rng = soothe__rng_seed(seed, 5);
    for (int i = 0; i < D * D; i++) {
        a[i] = (float)(0.05 * soothe__rng_normal(&rng));
        b[i] = (float)(0.05 * soothe__rng_normal(&rng));
    }
    for (int i = 0; i < D; i++)
        bias[i] = (float)(0.1 * soothe__rng_normal(&rng));
    const struct soothe__calibrator_spec spec = {.name        = "trained",
                                                 .source_path = source,
                                                 .target_path = TARGET,
                                                 .form        = SOOTHE_FORM_RESIDUAL,
                                                 .strength    = 0.5f,
                                                 .d_cal       = source ? D : 0,
                                                 .d_tgt       = D,
                                                 .a           = with_a ? a : NULL,
                                                 .b           = b,
                                                 .bias        = bias,
                                                 .block_type  = GGML_TYPE_F32,
                                                 .matrix_type = GGML_TYPE_F16};
    must(soothe__calibrator_write(path, &spec, &err), &err);
}

static int set_up(void **state) {
    (void)state;
    char                path[4096], *data;
    size_t              size;
    struct soothe_error err;
    const char         *folder = getenv("SOOTHE_DATA");
    llama_log_set(quiet, NULL);
    snprintf(path, sizeof path, "%s/align_reference.f32", folder ? folder : "tests/data");
    must(soothe__read_file(&data, &size, path, &err), &err);
    assert_int_equal(size, sizeof ref);
    memcpy(&ref, data, size);
    free(data);
    assert_true(tiny_model_write(TARGET, &(struct tiny_options){.family = TINY_LLAMA, .seed = 3}));
    assert_true(tiny_model_write(
        OTHER, &(struct tiny_options){.family = TINY_GEMMA3, .seed = 4, .d = 96, .sentence_piece = true}));
    must(soothe_calibrator_init(TARGET, 2, CUT, &err), &err);
    write_matrix(TRAINED, CUT, true, 1);
    write_matrix(MATRIX, NULL, false, 2);
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

static void assert_near(const char *what, const float *x, const float *reference, size_t n, double relative) {
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)x[i] - (double)reference[i];
        error += d * d;
        norm += (double)reference[i] * (double)reference[i];
    }
    if (!(sqrt(error) <= relative * sqrt(norm)))
        fail_msg("%s is off by %.3g of its norm %.3g", what, sqrt(error / norm), sqrt(norm));
}

static void assert_close(double x, double reference, double tolerance) {
    if (!(fabs(x - reference) <= tolerance))
        fail_msg("%.9g, not %.9g", x, reference);
}

/* ---- maps ------------------------------------------------------------------------------------------------------- */

static const struct soothe__rows_pair there = {ref.x, ref.y, N, D_X, D_Y}, back = {ref.y, ref.x, N, D_Y, D_X};

static void test_closed_forms_are_numpys(void **state) {
    (void)state;
    struct soothe_error err;
    float               w[D_X * D_Y], flat[N * D_X];
    must(soothe__map_ridge(w, &there, 0.01, &err), &err);
    assert_near("ridge", w, ref.ridge, D_X * D_Y, 1e-5);
    must(soothe__map_procrustes(w, &there, &err), &err);
    assert_near("procrustes", w, ref.procrustes, D_X * D_Y, 1e-5);
    must(soothe__map_procrustes(w, &back, &err), &err);
    assert_near("procrustes, to the narrower space", w, ref.back, D_X * D_Y, 1e-5);
    memcpy(flat, ref.x, sizeof flat);
    for (int i = 0; i < N; i++)
        flat[i * D_X + D_X - 1] = 0; /* a direction without anything in it: goes nowhere */
    const struct soothe__rows_pair p = {flat, ref.y, N, D_X, D_Y};
    must(soothe__map_procrustes(w, &p, &err), &err);
    assert_near("procrustes of lower rank", w, ref.flat, D_X * D_Y, 1e-5);
    assert_int_equal(soothe__map_ridge(w, &p, 0, &err), SOOTHE_E_NUMERIC);
}

enum { ANCHORS = 5, NEGATIVES = 4 };

static double loss_at(const float *w, float *gradient) {
    uint32_t anchors[ANCHORS], candidates[ANCHORS * (1 + NEGATIVES)];
    for (uint32_t i = 0; i < ANCHORS; i++) {
        anchors[i] = candidates[i * (1 + NEGATIVES)] = i;
        for (uint32_t j = 1; j <= NEGATIVES; j++)
            candidates[i * (1 + NEGATIVES) + j] = (7 * i + 3 * j) % N;
    }
    float  scratch[ANCHORS * 2 * D_Y];
    double losses[ANCHORS];
    return soothe__contrastive_loss(gradient, w, &there, anchors, candidates, ANCHORS, NEGATIVES, 0.1, scratch, losses);
}

static void test_the_contrastive_loss_is_numpys_and_its_gradient_its_slope(void **state) {
    (void)state;
    float g[D_X * D_Y] = {0}, w[D_X * D_Y], largest = 0;
    assert_close(loss_at(ref.w, g), (double)ref.loss, 1e-5 * (double)ref.loss);
    for (int k = 0; k < D_X * D_Y; k++)
        largest = fmaxf(largest, fabsf(g[k]));
    for (int k = 0; k < D_X * D_Y; k++) {
        const float h = 1e-2f;
        memcpy(w, ref.w, sizeof w);
        w[k]               = ref.w[k] + h;
        const double up    = loss_at(w, NULL);
        w[k]               = ref.w[k] - h;
        const double slope = (up - loss_at(w, NULL)) / (2 * (double)h);
        if (!(fabs(slope - (double)g[k]) <= 5e-3 * (double)largest))
            fail_msg("weight %d: the slope is %g, the gradient says %g", k, slope, (double)g[k]);
    }
}

/* A rotation of noise-free rows is found by every method, and each row finds its own again. */
static void test_every_method_finds_a_rotation(void **state) {
    (void)state;
    enum { M = 400, D = 8 };
    struct soothe_error            err;
    static float                   x[M * D], y[M * D];
    float                          turn[D * D], w[D * D];
    double                         loss, top1, top5;
    uint32_t                       own[M];
    struct soothe__rng             rng     = soothe__rng_seed(11, 1);
    struct soothe__contrastive     options = soothe__contrastive_default();
    const struct soothe__rows_pair p       = {x, y, M, D, D};
    for (int i = 0; i < M * D; i++)
        x[i] = (float)soothe__rng_normal(&rng);
    for (int i = 0; i < D * D; i++) /* a reflection: I - 2 u u^T with u = (1, ..., 1)/sqrt D; doubled */
        turn[i] = 2.0f * ((i / D == i % D ? 1.0f : 0.0f) - 2.0f / D);
    must(soothe__map_product(y, x, turn, M, D, D, &err), &err);
    for (uint32_t i = 0; i < M; i++)
        own[i] = i;
    must(soothe__map_ridge(w, &p, 1e-6, &err), &err);
    assert_near("ridge", w, turn, D * D, 1e-3);
    must(soothe__map_procrustes(w, &p, &err), &err);
    assert_near("procrustes", w, turn, D * D, 1e-4);
    options.n_epochs = 60;
    options.rate     = 1e-2;
    must(soothe__map_contrastive(w, &p, &options, &loss, &err), &err);
    assert_near("contrastive", w, turn, D * D, 0.1);
    must(soothe__map_retrieval(&top1, &top5, w, &p, own, y, M, &err), &err);
    assert_true(top1 > 0.95 && top5 >= top1);
    memset(w, 0, sizeof w);
    w[0] = 1; /* a map that keeps one direction of eight */
    must(soothe__map_retrieval(&top1, &top5, w, &p, own, y, M, &err), &err);
    assert_true(top1 < 0.2);
}

/* ---- tokens ------------------------------------------------------------------------------------------------------ */

static void test_spellings(void **state) {
    (void)state;
    static const struct {
        enum soothe__spelling spelling;
        const char           *token;
        bool                  is_byte;
        const char           *bytes; /* "": none */
    } CASES[] = {
        {SOOTHE__SPELL_BYTES, "\xc4\xa0word", false, " word"}, /* Ġ */
        {SOOTHE__SPELL_BYTES, "\xc4\x8a", false, "\n"},        /* Ċ */
        {SOOTHE__SPELL_BYTES, "word", false, "word"},
        {SOOTHE__SPELL_BYTES, "\xc3\x83\xc2\xa9", false, "\xc3\xa9"}, /* Ã© is é */
        {SOOTHE__SPELL_BYTES, "\xc5\x83", false, "\xad"},             /* the last of the alphabet: byte 173 */
        {SOOTHE__SPELL_BYTES, "\xe2\x96\x81word", false, ""},         /* no letter of that alphabet */
        {SOOTHE__SPELL_SPACES, "\xe2\x96\x81word", false, " word"},
        {SOOTHE__SPELL_SPACES, "\xe2\x96\x81\xe2\x96\x81", false, "  "},
        {SOOTHE__SPELL_SPACES, "\xc3\xa9t\xc3\xa9", false, "\xc3\xa9t\xc3\xa9"},
        {SOOTHE__SPELL_SPACES, "<0x0A>", true, "\n"},
        {SOOTHE__SPELL_SPACES, "<0xFF>", true, "\xff"},
        {SOOTHE__SPELL_SPACES, "<0x0A>", false, "<0x0A>"}, /* a text that looks like one */
        {SOOTHE__SPELL_SPACES, "<0x0A", true, ""},
        {SOOTHE__SPELL_WORDS, "\xe2\x96\x81word", false, " word"},
        {SOOTHE__SPELL_WORDS, "ing", false, "ing"},
        {SOOTHE__SPELL_WORDS_HASH, "word", false, " word"},
        {SOOTHE__SPELL_WORDS_HASH, "##ing", false, "ing"},
        {SOOTHE__SPELL_WORDS_HASH, "##", false, " ##"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        unsigned char out[32];
        const size_t  n = soothe__token_spelling(CASES[i].spelling, CASES[i].token, CASES[i].is_byte, out, sizeof out);
        if (n != strlen(CASES[i].bytes) || memcmp(out, CASES[i].bytes, n) != 0)
            fail_msg("case %zu: %zu bytes of \"%s\"", i, n, CASES[i].token);
    }
    unsigned char small[3];
    assert_int_equal(soothe__token_spelling(SOOTHE__SPELL_SPACES, "word", false, small, sizeof small), 0);
}

static void test_vocabularies_of_two_kinds_meet(void **state) {
    (void)state;
    struct soothe_error        err;
    struct soothe__gguf        x, y;
    struct soothe__token_pairs pairs;
    must(soothe__gguf_open(&x, TARGET, &err), &err);
    must(soothe__gguf_open(&y, OTHER, &err), &err);
    must(soothe__token_pairs(&pairs, &x, &y, &err), &err);
    assert_true(pairs.n >= 16 && pairs.n <= pairs.n_x && pairs.n <= pairs.n_y);
    const int64_t keys[] = {gguf_find_key(x.meta, "tokenizer.ggml.tokens"),
                            gguf_find_key(y.meta, "tokenizer.ggml.tokens")};
    for (size_t i = 0; i < pairs.n; i++) {
        unsigned char a[256], b[256];
        const char   *of_y = gguf_get_arr_str(y.meta, keys[1], pairs.i_y[i]);
        const size_t  n = soothe__token_spelling(SOOTHE__SPELL_BYTES, gguf_get_arr_str(x.meta, keys[0], pairs.i_x[i]),
                                                 false, a, sizeof a);
        const bool    byte = strlen(of_y) == 6 && !strncmp(of_y, "<0x", 3);
        assert_int_equal(soothe__token_spelling(SOOTHE__SPELL_SPACES, of_y, byte, b, sizeof b), n);
        assert_memory_equal(a, b, n);
        if (i > 0)
            assert_true(pairs.i_x[i] > pairs.i_x[i - 1]);
    }
    soothe__token_pairs_free(&pairs);
    soothe__gguf_close(&x);
    soothe__gguf_close(&y);
}

/* ---- runs ----------------------------------------------------------------------------------------------------------
 */

static struct soothe__align_request request(enum soothe__align_objective objective) {
    static const char *const data[] = {DATA}, *const heldout[] = {HELDOUT};
    struct soothe__align_request r = soothe__align_request_default();
    r.model_path                   = TARGET;
    r.calibrator_path              = TRAINED;
    r.base_path                    = TARGET;
    r.out_path                     = OUT;
    r.data_paths                   = data;
    r.n_data                       = 1;
    r.heldout_paths                = heldout;
    r.n_heldout                    = 1;
    r.objective                    = objective;
    r.precision                    = SOOTHE__PRECISION_F32;
    r.n_steps                      = 12;
    r.n_pairs = r.n_texts = 4;
    r.rate                = 2e-3;
    r.keep_type           = true;
    return r;
}

static struct soothe__align_report align(const struct soothe__align_request *r) {
    struct soothe_error         err;
    struct soothe__align_report report;
    must(soothe__align(r, &report, &err), &err);
    return report;
}

static struct soothe_calibrator *open_with(const char *calibrator, const char *alignment, const char *target) {
    struct soothe_error             err;
    struct soothe_calibrator       *cal;
    struct soothe_calibrator_params p = soothe_calibrator_params_default();
    p.alignment_path                  = alignment;
    p.base_path                       = TARGET;
    must(soothe_calibrator_open(&cal, calibrator, target, &p, &err), &err);
    return cal;
}

/* Frozen blocks inside the trainer, against the engine's states of the same blocks: the same figures, up to the
 * rounding of cached states to bf16 (8 bits). */
static void test_given_states_train_what_frozen_blocks_do(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_report  inside;
    struct soothe__align_request r = request(SOOTHE__ALIGN_PREFERENCE);
    struct soothe__train_request t = soothe__train_request_default();
    t.model_path                   = TARGET;
    t.calibrator_path              = CUT;
    t.out_path                     = OUT2;
    t.data_paths                   = r.data_paths;
    t.heldout_paths                = r.heldout_paths;
    t.n_data = t.n_heldout = 1;
    t.n_steps              = r.n_steps;
    t.n_pairs = t.n_texts = 4;
    t.lr_fusion           = r.rate;
    t.precision           = r.precision;
    t.own_matrix = t.bias = t.freeze_blocks = true;
    must(soothe__train(&t, &inside, &err), &err);
    r.calibrator_path = CUT;
    r.own_matrix = r.bias                     = true;
    const struct soothe__align_report outside = align(&r);
    assert_true(outside.has_a && outside.has_b && outside.has_bias);
    assert_true(outside.strength == 1.0f);
    assert_close(outside.loss, inside.loss, 2e-3 * inside.loss);
    assert_close(outside.heldout.pairs_right, inside.pairs_right, 1e-9);
    assert_close(outside.heldout.kl, inside.kl, 0.02 * inside.kl);
    assert_close(outside.heldout.nll_clean, inside.nll, 1e-3 * inside.nll);
    assert_close(outside.heldout.nll_clean_plain, inside.nll_plain, 1e-5 * inside.nll_plain);
    assert_true(inside.kl > 1e-4); /* it has learnt something to compare */
    struct soothe_calibrator *x = open_with(CUT, OUT, TARGET), *y;
    must(soothe_calibrator_open(&y, OUT2, TARGET, NULL, &err), &err);
    assert_near("B", x->fusion.b, y->fusion.b, 64 * 64, 0.1); /* Adam's first steps go by signs, not by sizes */
    assert_near("A", x->fusion.a, y->fusion.a, 64 * 64, 0.1);
    soothe_calibrator_free(x);
    soothe_calibrator_free(y);
}

static void test_states_are_kept_for_the_next_run(void **state) {
    (void)state;
    struct soothe__align_request r          = request(SOOTHE__ALIGN_PREFERENCE);
    r.states_path                           = STATES;
    const struct soothe__align_report first = align(&r), second = align(&r);
    assert_true(first.loss == second.loss && first.heldout.kl == second.heldout.kl);
    r.calibrator_path                       = CUT; /* the same blocks: the same states */
    const struct soothe__align_report third = align(&r);
    assert_true(third.loss == first.loss);
    struct soothe_error         err;
    struct soothe__align_report report;
    r.calibrator_path = NULL; /* states of the target alone are others */
    assert_int_equal(soothe__align(&r, &report, &err), SOOTHE_E_MISMATCH);
}

static void test_fused_lowers_the_loss_of_clean_texts(void **state) {
    (void)state;
    struct soothe__align_request r           = request(SOOTHE__ALIGN_FUSED);
    r.n_steps                                = 30;
    const struct soothe__align_report report = align(&r);
    assert_true(report.heldout.nll_clean < report.heldout.nll_clean_plain);
    assert_true(report.has_a && !report.has_b);
}

/* Carried to the very model that it comes from, a calibrator's matrices stay as they are. */
static void test_transfer_to_its_own_target_changes_nothing(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__align_request r = request(SOOTHE__ALIGN_TRANSFER);
    for (int ridge = 0; ridge < 2; ridge++) {
        r.map                                    = ridge ? SOOTHE__MAP_RIDGE : SOOTHE__MAP_PROCRUSTES;
        r.ridge                                  = 1e-7;
        const struct soothe__align_report report = align(&r);
        struct soothe_calibrator         *x      = open_with(TRAINED, OUT, TARGET), *y;
        must(soothe_calibrator_open(&y, TRAINED, TARGET, NULL, &err), &err);
        assert_true(report.top1 == 1.0 && report.has_a && report.has_b && report.has_bias);
        assert_true(report.strength == 0.5f); /* the calibrator's own, since its drift is the same */
        assert_int_equal(report.strength_by, SOOTHE__STRENGTH_DRIFT);
        assert_true(fabs(report.drift / report.own_drift - 1) < 0.03);
        assert_near("A", x->fusion.a, y->fusion.a, 64 * 64, 2e-3);
        assert_near("B", x->fusion.b, y->fusion.b, 64 * 64, 2e-3);
        assert_near("bias", x->fusion.bias, y->fusion.bias, 64, 2e-3);
        soothe_calibrator_free(x);
        soothe_calibrator_free(y);
    }
}

static double cosine(const float *x, const float *y, size_t n) {
    double xy = 0, xx = 0, yy = 0;
    for (size_t i = 0; i < n; i++) {
        xy += (double)x[i] * (double)y[i];
        xx += (double)x[i] * (double)x[i];
        yy += (double)y[i] * (double)y[i];
    }
    return xy / sqrt(xx * yy);
}

/* A contrastive map is no inverse of its way back, but both find the same directions again. */
static void test_transfer_by_a_contrastive_map(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe_calibrator    *x, *y;
    struct soothe__align_request r = request(SOOTHE__ALIGN_TRANSFER);
    r.map                          = SOOTHE__MAP_CONTRASTIVE;
    r.contrastive.n_epochs         = 600;
    r.n_data = r.n_heldout                   = 0;
    const struct soothe__align_report report = align(&r);
    assert_true(report.top1 > 0.9); /* measured: 1 */
    assert_true(report.n_drift_texts == 20 && report.strength_by == SOOTHE__STRENGTH_DRIFT);
    x = open_with(TRAINED, OUT, TARGET);
    must(soothe_calibrator_open(&y, TRAINED, TARGET, NULL, &err), &err);
    assert_true(x->default_strength == report.strength);
    assert_true(cosine(x->fusion.a, y->fusion.a, 64 * 64) > 0.6); /* .79 */
    assert_true(cosine(x->fusion.b, y->fusion.b, 64 * 64) > 0.4); /* .64 */
    soothe_calibrator_free(x);
    soothe_calibrator_free(y);
}

/* The strength is where clean text drifts as far as beside the calibrator's own model, whatever the scale of what was
 * carried over; and one that is asked for stays. */
static void test_a_strength_is_found_by_its_drift(void **state) {
    (void)state;
    struct soothe__align_request r = request(SOOTHE__ALIGN_TRANSFER);
    r.model_path                   = OTHER;
    r.map                          = SOOTHE__MAP_RIDGE;
    for (int data = 0; data < 2; data++) {
        r.n_data = r.n_heldout = data ? 1 : 0;
        for (int k = 0; k < 2; k++) {
            r.ridge                                  = k ? 1.0 : 1e-2; /* the larger, the weaker */
            const struct soothe__align_report report = align(&r);
            assert_int_equal(report.strength_by, SOOTHE__STRENGTH_DRIFT);
            assert_true(report.own_strength == 0.5f && report.strength > 0.03f && report.strength < 8.0f);
            assert_true(fabs(report.drift / report.own_drift - 1) < 0.15);
        }
    }
    r.strength                               = 3;
    const struct soothe__align_report report = align(&r);
    assert_true(report.strength == 3.0f && report.strength_by == SOOTHE__STRENGTH_ASKED && isnan(report.drift));
}

/* Another vocabulary, another width, no data: a matrix stands alone, and training goes on from it. */
static void test_transfer_to_another_model_and_on_from_there(void **state) {
    (void)state;
    struct soothe__align_request r = request(SOOTHE__ALIGN_TRANSFER);
    r.model_path                   = OTHER;
    r.calibrator_path              = MATRIX;
    r.n_data = r.n_heldout             = 0;
    struct soothe__align_report report = align(&r);
    assert_true(!report.has_a && report.has_b && report.n_common >= 16 && isnan(report.heldout.kl));
    struct soothe_calibrator *cal = open_with(NULL, OUT, OTHER);
    assert_int_equal(soothe_calibrator_info(cal).d_tgt, 96);
    assert_int_equal(soothe_calibrator_info(cal).n_blocks, 0);
    soothe_calibrator_free(cal);
    r                 = request(SOOTHE__ALIGN_PREFERENCE);
    r.model_path      = OTHER;
    r.calibrator_path = NULL;
    r.base_path       = NULL;
    r.from_path       = OUT;
    r.out_path        = OUT2;
    r.bias            = true;
    struct soothe_error err; /* with a bias alone there is no place for the matrix */
    assert_int_equal(soothe__align(&r, &report, &err), SOOTHE_E_ARGUMENT);
    r.own_matrix = true;
    report       = align(&r);
    assert_true(report.has_b && report.has_bias && report.heldout.n_pairs == 6);
}

static void test_a_random_map_retrieves_nothing(void **state) {
    (void)state;
    const char *const calibrators[] = {TRAINED, MATRIX, CUT};
    for (size_t i = 0; i < 3; i++) {
        struct soothe__align_request r           = request(SOOTHE__ALIGN_RANDOM);
        r.model_path                             = OTHER;
        r.calibrator_path                        = calibrators[i];
        const struct soothe__align_report report = align(&r);
        assert_true(report.top1 < 0.5 && report.heldout.kl > 0);
        assert_int_equal(report.has_a, i != 1);
        assert_int_equal(report.has_b, i != 2);
        soothe_calibrator_free(open_with(calibrators[i], OUT, OTHER));
    }
}

/* A calibrator's blocks follow the text of a target with another tokenizer. */
static void test_blocks_serve_a_target_of_another_vocabulary(void **state) {
    (void)state;
    static const enum soothe__align_objective OBJECTIVES[] = {SOOTHE__ALIGN_PREFERENCE, SOOTHE__ALIGN_RIDGE,
                                                              SOOTHE__ALIGN_PROCRUSTES, SOOTHE__ALIGN_CONTRASTIVE};
    for (size_t i = 0; i < sizeof OBJECTIVES / sizeof *OBJECTIVES; i++)
        for (int paper = 0; paper < 2; paper++) { /* CUT is of the paper's form */
            struct soothe__align_request r           = request(OBJECTIVES[i]);
            r.model_path                             = OTHER;
            r.calibrator_path                        = paper ? CUT : TRAINED;
            r.contrastive.n_epochs                   = 2;
            const struct soothe__align_report report = align(&r);
            const bool                        steps  = soothe__align_has_steps(r.objective);
            struct soothe_calibrator         *cal    = open_with(r.calibrator_path, OUT, OTHER);
            assert_true(report.has_a && report.heldout.kl > 0);
            assert_int_equal(cal->fusion.form, paper && !steps ? SOOTHE_FORM_PAPER : SOOTHE_FORM_RESIDUAL);
            assert_true(cal->fusion.layer_norm == (paper && !steps));
            if (cal->fusion.layer_norm)
                assert_true(cal->fusion.state_norm > 1);
            assert_int_equal(isnan(report.top1), steps);
            soothe_calibrator_free(cal);
        }
}

static void test_a_map_between_states_finds_a_target_its_own(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__align_request r = request(SOOTHE__ALIGN_RIDGE);
    must(soothe_calibrator_init(TARGET, 4, OUT2, &err), &err); /* all its blocks: h_c is h_t */
    r.calibrator_path                        = OUT2;
    r.on_states                              = true;
    r.ridge                                  = 1e-7;
    const struct soothe__align_report report = align(&r);
    struct soothe_calibrator         *cal    = open_with(OUT2, OUT, TARGET);
    double                            off    = 0;
    for (int i = 0; i < 64 * 64; i++)
        off += pow((double)cal->fusion.a[i] - (i / 64 == i % 64), 2);
    assert_true(report.n_state_rows > 200 && isnan(report.top1));
    assert_true(sqrt(off / 64) < 0.1);
    soothe_calibrator_free(cal);
}

/* ---- refusals -----------------------------------------------------------------------------------------------------
 */

static void expect_refusal(enum soothe_status expected, const char *calibrator, const char *alignment,
                           const char *target, const char *word, const char *other_word) {
    struct soothe_error             err;
    struct soothe_calibrator       *cal;
    struct soothe_calibrator_params p = soothe_calibrator_params_default();
    p.alignment_path                  = alignment;
    assert_int_equal(soothe_calibrator_open(&cal, calibrator, target, &p, &err), expected);
    assert_null(cal);
    if (!strstr(err.message, word) || !strstr(err.message, other_word))
        fail_msg("\"%s\" names not both %s and %s", err.message, word, other_word);
}

static void test_alignments_of_others_are_refused(void **state) {
    (void)state;
    struct soothe__align_request r = request(SOOTHE__ALIGN_RIDGE);
    align(&r);
    expect_refusal(SOOTHE_E_SHAPE, TRAINED, OUT, OTHER, OUT, OTHER);
    assert_true(tiny_model_write(OUT2, &(struct tiny_options){.family = TINY_LLAMA, .seed = 8}));
    expect_refusal(SOOTHE_E_MISMATCH, TRAINED, OUT, OUT2, OUT, OUT2);
    expect_refusal(SOOTHE_E_MISMATCH, MATRIX, OUT, TARGET, OUT, MATRIX);
    expect_refusal(SOOTHE_E_ARGUMENT, NULL, OUT, TARGET, OUT, "trained"); /* the name of TRAINED */
    expect_refusal(SOOTHE_E_FORMAT, TRAINED, TRAINED, TARGET, TRAINED, "soothe align");
    expect_refusal(SOOTHE_E_FORMAT, OUT, NULL, TARGET, OUT, "is not a calibrator");
    expect_refusal(SOOTHE_E_ARGUMENT, NULL, NULL, TARGET, "calibrator", "alignment");
    soothe_calibrator_free(open_with(CUT, OUT, TARGET)); /* the same blocks: the same calibrator */
    r                 = request(SOOTHE__ALIGN_PREFERENCE);
    r.calibrator_path = NULL;
    align(&r);
    expect_refusal(SOOTHE_E_MISMATCH, TRAINED, OUT, TARGET, OUT, TRAINED);
}

static void expect_no(struct soothe__align_request r, enum soothe_status expected, const char *word) {
    struct soothe_error         err;
    struct soothe__align_report report;
    assert_int_equal(soothe__align(&r, &report, &err), expected);
    if (!strstr(err.message, word))
        fail_msg("\"%s\" does not say \"%s\"", err.message, word);
}

static void test_impossible_requests_are_refused(void **state) {
    (void)state;
    struct soothe__align_request r = request(SOOTHE__ALIGN_PREFERENCE);
    r.calibrator_path              = MATRIX;
    expect_no(r, SOOTHE_E_ARGUMENT, "no blocks");
    r.objective = SOOTHE__ALIGN_RIDGE;
    expect_no(r, SOOTHE_E_ARGUMENT, "transfer");
    r.objective = SOOTHE__ALIGN_TRANSFER;
    r.base_path = NULL;
    expect_no(r, SOOTHE_E_ARGUMENT, "--base");
    r.base_path = OTHER;
    expect_no(r, SOOTHE_E_MISMATCH, OTHER);
    r.calibrator_path = CUT;
    expect_no(r, SOOTHE_E_ARGUMENT, "no matrices");
    r.on_states = true;
    expect_no(r, SOOTHE_E_ARGUMENT, "states");
    r        = request(SOOTHE__ALIGN_PREFERENCE);
    r.n_data = 0;
    expect_no(r, SOOTHE_E_ARGUMENT, "data");
    r          = request(SOOTHE__ALIGN_PREFERENCE);
    r.out_path = TRAINED;
    expect_no(r, SOOTHE_E_ARGUMENT, "it is read");
    r           = request(SOOTHE__ALIGN_RIDGE);
    r.from_path = OUT;
    expect_no(r, SOOTHE_E_ARGUMENT, "preference and fused");
    r                 = request(SOOTHE__ALIGN_RIDGE);
    r.calibrator_path = CUT;
    r.n_data = r.n_heldout = 0;
    expect_no(r, SOOTHE_E_ARGUMENT, "typical norm");
    static volatile sig_atomic_t stop = 1;
    r                                 = request(SOOTHE__ALIGN_PREFERENCE);
    r.stop                            = &stop;
    expect_no(r, SOOTHE_E_INTERRUPTED, "nothing is written");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closed_forms_are_numpys),
        cmocka_unit_test(test_the_contrastive_loss_is_numpys_and_its_gradient_its_slope),
        cmocka_unit_test(test_every_method_finds_a_rotation),
        cmocka_unit_test(test_spellings),
        cmocka_unit_test(test_vocabularies_of_two_kinds_meet),
        cmocka_unit_test(test_given_states_train_what_frozen_blocks_do),
        cmocka_unit_test(test_states_are_kept_for_the_next_run),
        cmocka_unit_test(test_fused_lowers_the_loss_of_clean_texts),
        cmocka_unit_test(test_transfer_to_its_own_target_changes_nothing),
        cmocka_unit_test(test_transfer_by_a_contrastive_map),
        cmocka_unit_test(test_a_strength_is_found_by_its_drift),
        cmocka_unit_test(test_transfer_to_another_model_and_on_from_there),
        cmocka_unit_test(test_a_random_map_retrieves_nothing),
        cmocka_unit_test(test_blocks_serve_a_target_of_another_vocabulary),
        cmocka_unit_test(test_a_map_between_states_finds_a_target_its_own),
        cmocka_unit_test(test_alignments_of_others_are_refused),
        cmocka_unit_test(test_impossible_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
