/* SPDX-License-Identifier: Apache-2.0
 * The training core against PyTorch in float64 (tests/data/train_reference.f32, written by
 * scripts/train_reference.py), against finite differences, and against itself. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "train_support.h"
#include "train/gemm.h"
#include "train/train_core.h"

enum { N_CASES = 9, CASE_ALL = 0, CASE_QWEN2 = 1, CASE_B_ONLY = 2, CASE_FROZEN = 4, CASE_PAPER = 5, CASE_GIVEN = 7 };

/* Some processors multiply no bf16. */
static bool is_known(int precision) {
    struct soothe__gemm     *g;
    const enum soothe_status status = soothe__gemm_new(&g, precision == SOOTHE__PRECISION_BF16, NULL);
    soothe__gemm_free(g);
    return status != SOOTHE_E_UNSUPPORTED;
}

/* ---- the reference file (layout at the top of its script) ----------------------------------------- */

static struct records file;

static int set_up(void **state) {
    (void)state;
    return records_read(&file, "train_reference.f32");
}

static int tear_down(void **state) {
    (void)state;
    free(file.data);
    return 0;
}

/* Record "case/name"; n is 0 where there is none. */
static struct record find(int i_case, const char *format, const char *name) {
    char suffix[64], wanted[80];
    snprintf(suffix, sizeof suffix, format, name);
    snprintf(wanted, sizeof wanted, "%d/%s", i_case, suffix);
    return record_find(&file, wanted);
}

static struct record get(int i_case, const char *format, const char *name) {
    const struct record r = find(i_case, format, name);
    if (r.n == 0) {
        fail_msg("the reference has no %s of case %d", name, i_case);
    }
    return r;
}

/* ---- a case as the core wants it --------------------------------------------------------------------- */

struct fixture {
    int                          i_case;
    struct soothe__train_shape   shape;
    struct soothe__train_options options;
    struct soothe__train_batch   batch;
    struct soothe__train_core   *core;
    uint16_t                    *embedding, *head, *h_t, *h_c;
    struct soothe__train_row    *rows;
    double                       lr_blocks, lr_fusion;
};

static void read_shape(struct fixture *f) {
    const int32_t *n = get(f->i_case, "%s", "shape").ints;
    const float   *r = get(f->i_case, "%s", "shape.f").floats;
    f->shape         = (struct soothe__train_shape){.n_blocks    = n[0],
                                                    .d_cal       = n[1],
                                                    .n_head      = n[2],
                                                    .n_head_kv   = n[3],
                                                    .d_head      = n[4],
                                                    .n_ff        = n[5],
                                                    .n_vocab     = n[6],
                                                    .d_tgt       = n[7],
                                                    .rope_halves = n[8] != 0,
                                                    .qkv_bias    = n[9] != 0,
                                                    .rope_base   = r[0],
                                                    .norm_eps    = r[1]};
}

static void read_options(struct fixture *f) {
    const int32_t *n         = get(f->i_case, "%s", "options").ints;
    const float   *r         = get(f->i_case, "%s", "options.f").floats;
    f->options               = soothe__train_options_default();
    f->options.objective     = n[0] == 0 ? SOOTHE__PREFERENCE : n[0] == 1 ? SOOTHE__PAPER : SOOTHE__FUSED;
    f->options.a             = n[1] != 0;
    f->options.b             = n[2] != 0;
    f->options.bias          = n[3] != 0;
    f->options.freeze_blocks = n[4] != 0;
    f->options.given_states  = n[6] != 0;
    f->batch.n_pairs         = n[0] ? 0 : n[5];
    f->options.kappa         = r[0];
    f->options.lambda        = r[1];
    f->options.weight_decay  = r[2];
    f->options.clip          = r[3];
    f->lr_blocks             = (double)r[4];
    f->lr_fusion             = (double)r[5];
}

static void read_batch(struct fixture *f) {
    static const enum soothe__row_kind KINDS[] = {SOOTHE__ROW_CHOSEN, SOOTHE__ROW_REJECTED, SOOTHE__ROW_KL,
                                                  SOOTHE__ROW_PLAIN};
    const struct record tokens = get(f->i_case, "%s", "tokens"), texts = get(f->i_case, "%s", "text_start");
    const struct record rows = get(f->i_case, "%s", "rows");
    f->embedding             = bf16_of(get(f->i_case, "%s", "embedding"));
    f->head                  = bf16_of(get(f->i_case, "%s", "head"));
    f->h_t                   = bf16_of(get(f->i_case, "%s", "h_t"));
    f->rows                  = soothe__calloc((size_t)rows.n / 4, sizeof *f->rows);
    assert_non_null(f->rows);
    for (int32_t i = 0; i < rows.n / 4; i++) {
        const int32_t *r = rows.ints + 4 * i;
        f->rows[i]       = (struct soothe__train_row){r[0], r[1], KINDS[r[2]], r[3]};
    }
    f->batch.n_tokens   = tokens.n;
    f->batch.tokens     = tokens.ints;
    f->batch.n_texts    = texts.n - 1;
    f->batch.text_start = texts.ints;
    f->batch.n_rows     = rows.n / 4;
    f->batch.rows       = f->rows;
    f->batch.h_t        = f->options.objective != SOOTHE__PAPER ? f->h_t : NULL;
    f->h_c              = f->options.given_states ? bf16_of(get(f->i_case, "%s", "h_c")) : NULL;
    f->batch.h_c        = f->h_c;
}

static struct soothe__train_core *new_core(const struct fixture *f, const struct soothe__train_options *options) {
    struct soothe_error        err;
    struct soothe__train_core *core;
    size_t                     n_tensors;
    must(soothe__train_core_new(&core, &f->shape, options, f->embedding, f->head, &err), &err);
    const struct soothe__train_tensor *t = soothe__train_tensors(core, &n_tensors);
    for (size_t i = 0; i < n_tensors; i++) {
        const struct record w = get(f->i_case, "w/%s", t[i].name);
        assert_int_equal((size_t)w.n, t[i].n);
        memcpy(soothe__train_parameters(core, NULL) + t[i].offset, w.floats, t[i].n * sizeof(float));
    }
    return core;
}

static struct fixture open_case(int i_case, enum soothe__precision precision) {
    struct fixture f = {.i_case = i_case};
    read_shape(&f);
    read_options(&f);
    read_batch(&f);
    f.options.precision  = precision;
    f.options.max_tokens = f.batch.n_tokens;
    f.options.max_rows   = f.batch.n_rows;
    f.core               = new_core(&f, &f.options);
    return f;
}

static void close_case(struct fixture *f) {
    soothe__train_core_free(f->core);
    free(f->embedding);
    free(f->head);
    free(f->h_t);
    free(f->h_c);
    free(f->rows);
}

/* ---- comparing ---------------------------------------------------------------------------------------- */

static void assert_near(const char *what, int i_case, double x, double reference, double relative) {
    if (!(fabs(x - reference) <= relative * (fabs(reference) + 1e-2))) {
        fail_msg("case %d: %s is %.9g, the reference says %.9g", i_case, what, x, reference);
    }
}

static void assert_near_norm(const char *what, int i_case, const float *x, const float *reference, size_t n,
                             double relative) {
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)x[i] - (double)reference[i];
        error += d * d;
        norm += (double)reference[i] * (double)reference[i];
    }
    if (!(sqrt(error) <= relative * (sqrt(norm) + 1e-4))) {
        fail_msg("case %d: %s is off by %.3g of its norm %.3g", i_case, what, sqrt(error / norm), sqrt(norm));
    }
}

static void assert_result(const struct fixture *f, const struct soothe__train_result *r, double relative) {
    const float *reference = get(f->i_case, "%s", "result").floats;
    assert_near("the loss", f->i_case, r->loss, (double)reference[0], relative);
    assert_near("the preference loss", f->i_case, r->preference, (double)reference[1], relative);
    assert_near("the KL", f->i_case, r->kl, (double)reference[2], relative);
    assert_near("the NLL", f->i_case, r->nll, (double)reference[3], relative);
    assert_int_equal(r->n_pairs_right, (int)reference[5]);
}

/* relative: of the norm of each tensor's gradient */
static void assert_gradients(const struct fixture *f, double relative) {
    size_t                             n_tensors;
    const struct soothe__train_tensor *t = soothe__train_tensors(f->core, &n_tensors);
    for (size_t i = 0; i < n_tensors; i++) {
        const struct record g = find(f->i_case, "g/%s", t[i].name);
        assert_int_equal(g.n > 0, t[i].trainable);
        if (g.n > 0) {
            assert_near_norm(t[i].name, f->i_case, soothe__train_gradients(f->core) + t[i].offset, g.floats, t[i].n,
                             relative);
        }
    }
}

/* The way from the old weights to the new ones, summed up without signs: AdamW's first step moves every weight
 * by about lr whatever its gradient, so that a few tiny gradients of the wrong sign must not decide. */
static void assert_weights(const struct fixture *f, const char *step, double relative) {
    size_t                             n_tensors;
    const struct soothe__train_tensor *t = soothe__train_tensors(f->core, &n_tensors);
    const float                       *w = soothe__train_parameters(f->core, NULL);
    for (size_t i = 0; i < n_tensors; i++) {
        char format[16];
        snprintf(format, sizeof format, "%s/%%s", step);
        const struct record before = get(f->i_case, "w/%s", t[i].name), after = find(f->i_case, format, t[i].name);
        double              error = 0, way = 0;
        for (size_t j = 0; j < t[i].n; j++) {
            const double reference = (double)(after.n > 0 ? after.floats : before.floats)[j];
            error += fabs((double)w[t[i].offset + j] - reference);
            way += fabs(reference - (double)before.floats[j]);
        }
        if (!(error <= relative * way)) {
            fail_msg("case %d, %s: %s is off by %.3g of a way of %.3g", f->i_case, step, t[i].name, error, way);
        }
    }
}

/* ---- against PyTorch --------------------------------------------------------------------------------------- */

/* Sums of some hundred products in F32 (unit 6e-8), against float64: a few 1e-6 of the norm. */
#define F32_GRADIENT 1e-5
#define F32_LOSS 3e-6
/* bf16 keeps 8 bits: 2e-3 for each operand, through two blocks and back. */
#define BF16_GRADIENT 4e-2
#define BF16_LOSS 1e-2

static void test_loss_and_gradients_are_pytorchs(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        struct soothe_error         err;
        struct soothe__train_result r;
        struct fixture              f = open_case(i, SOOTHE__PRECISION_F32);
        assert_false(soothe__train_core_is_bf16(f.core));
        must(soothe__train_gradient(f.core, &f.batch, &r, &err), &err);
        assert_result(&f, &r, F32_LOSS);
        assert_near("the gradient's norm", i, r.gradient_norm, (double)get(i, "%s", "result").floats[4], F32_LOSS);
        assert_gradients(&f, F32_GRADIENT);
        close_case(&f);
    }
}

static void test_loss_and_gradients_in_bf16_are_close(void **state) {
    (void)state;
    if (!is_known(SOOTHE__PRECISION_BF16))
        skip();
    for (int i = 0; i < N_CASES; i++) {
        struct soothe_error         err;
        struct soothe__train_result r;
        struct fixture              f = open_case(i, SOOTHE__PRECISION_BF16);
        assert_true(soothe__train_core_is_bf16(f.core));
        must(soothe__train_gradient(f.core, &f.batch, &r, &err), &err);
        assert_result(&f, &r, BF16_LOSS);
        assert_gradients(&f, BF16_GRADIENT);
        close_case(&f);
    }
}

static void test_steps_of_adamw_are_pytorchs(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        struct soothe_error         err;
        struct soothe__train_result r;
        struct fixture              f = open_case(i, SOOTHE__PRECISION_F32);
        must(soothe__train_step(f.core, &f.batch, f.lr_blocks, f.lr_fusion, &r, &err), &err);
        assert_result(&f, &r, F32_LOSS); /* of the parameters before the step */
        assert_int_equal(soothe__train_updates(f.core), 1);
        assert_weights(&f, "w1", 1e-3);
        if (i == CASE_ALL || i == CASE_QWEN2) {
            must(soothe__train_step(f.core, &f.batch, f.lr_blocks, f.lr_fusion, &r, &err), &err);
            assert_weights(&f, "w2", 2e-3);
        }
        close_case(&f);
    }
}

static void test_log_probabilities_are_pytorchs(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        struct soothe_error         err;
        struct soothe__train_result r;
        struct fixture              f     = open_case(i, SOOTHE__PRECISION_F32);
        const bool                  fused = f.options.objective != SOOTHE__PAPER;
        const size_t                n     = (size_t)f.batch.n_rows;
        float                      *x     = soothe__calloc(3 * n, sizeof *x);
        assert_non_null(x);
        must(soothe__train_evaluate(f.core, &f.batch, x, fused ? x + n : NULL, fused ? x + 2 * n : NULL, &r, &err),
             &err);
        assert_result(&f, &r, F32_LOSS);
        assert_near_norm("log p_f", i, x, get(i, "%s", "log_p_f").floats, n, F32_LOSS);
        if (fused) {
            assert_near_norm("log p_t", i, x + n, get(i, "%s", "log_p_t").floats, n, F32_LOSS);
            assert_near_norm("KL", i, x + 2 * n, get(i, "%s", "row_kl").floats, n, 2 * F32_LOSS);
        }
        free(x);
        close_case(&f);
    }
}

static void test_known_log_p_t_is_used_and_unknown_filled_in(void **state) {
    (void)state;
    struct soothe_error         err;
    struct soothe__train_result r;
    struct fixture              f         = open_case(CASE_QWEN2, SOOTHE__PRECISION_F32);
    const struct record         reference = get(CASE_QWEN2, "%s", "log_p_t");
    float                      *log_p_t   = soothe__calloc((size_t)reference.n, sizeof *log_p_t);
    assert_non_null(log_p_t);
    for (int32_t i = 0; i < reference.n; i++) {
        log_p_t[i] = i % 3 == 0 ? NAN : reference.floats[i];
    }
    f.batch.log_p_t = log_p_t;
    for (int i = 0; i < 2; i++) { /* the second time all are known */
        must(soothe__train_gradient(f.core, &f.batch, &r, &err), &err);
        assert_result(&f, &r, F32_LOSS);
        assert_gradients(&f, F32_GRADIENT);
        assert_near_norm("log p_t", CASE_QWEN2, log_p_t, reference.floats, (size_t)reference.n, F32_LOSS);
    }
    free(log_p_t);
    close_case(&f);
}

/* ---- against finite differences ----------------------------------------------------------------------------- */

static double loss_at(struct fixture *f, float *w, const float *centre, const double *direction, size_t n, double h) {
    struct soothe_error         err;
    struct soothe__train_result r;
    for (size_t i = 0; i < n; i++) {
        w[i] = (float)((double)centre[i] + h * direction[i]);
    }
    must(soothe__train_evaluate(f->core, &f->batch, NULL, NULL, NULL, &r, &err), &err);
    return r.loss;
}

/* Along one direction of length 1. The step: F32 noise of the loss (3e-7) over it must stay far below the
 * tolerance, and so must its square (the next term of the series). */
static void check_direction(struct fixture *f, const struct soothe__train_tensor *t, const float *g,
                            const double *direction, double norm) {
    enum { N_MAX = 1024 };
    const double h = 1e-2;
    float       *w = soothe__train_parameters(f->core, NULL) + t->offset, centre[N_MAX];
    assert_in_range(t->n, 1, N_MAX);
    memcpy(centre, w, t->n * sizeof *w);
    const double up = loss_at(f, w, centre, direction, t->n, h), down = loss_at(f, w, centre, direction, t->n, -h);
    memcpy(w, centre, t->n * sizeof *w);
    double expected = 0;
    for (size_t i = 0; i < t->n; i++) {
        expected += (double)g[i] * direction[i];
    }
    const double found = (up - down) / (2 * h);
    if (!(fabs(found - expected) <= 5e-3 * norm + 1e-4)) {
        fail_msg("case %d, %s: the slope is %.6g, the gradient says %.6g", f->i_case, t->name, found, expected);
    }
}

static void check_tensor(struct fixture *f, const struct soothe__train_tensor *t, const float *g,
                         struct soothe__rng *rng) {
    double *direction = soothe__calloc(t->n, sizeof *direction), norm = 0, length = 0;
    assert_non_null(direction);
    for (size_t i = 0; i < t->n; i++) {
        norm += (double)g[i] * (double)g[i];
        direction[i] = soothe__rng_normal(rng);
        length += direction[i] * direction[i];
    }
    norm = sqrt(norm);
    for (size_t i = 0; i < t->n; i++) {
        direction[i] /= sqrt(length);
    }
    check_direction(f, t, g, direction, norm);
    for (size_t i = 0; i < t->n; i++) { /* steepest: here the slope is the norm */
        direction[i] = (double)g[i] / norm;
    }
    check_direction(f, t, g, direction, norm);
    free(direction);
}

static void test_gradients_are_slopes_of_the_loss(void **state) {
    (void)state;
    struct soothe__rng rng = soothe__rng_seed(2025, 1);
    for (int i = 0; i < N_CASES; i++) {
        struct soothe_error                err;
        struct soothe__train_result        r;
        size_t                             n_tensors, n;
        struct fixture                     f = open_case(i, SOOTHE__PRECISION_F32);
        const struct soothe__train_tensor *t = soothe__train_tensors(f.core, &n_tensors);
        must(soothe__train_gradient(f.core, &f.batch, &r, &err), &err);
        soothe__train_parameters(f.core, &n);
        float *g = soothe__calloc(n, sizeof *g);
        assert_non_null(g);
        memcpy(g, soothe__train_gradients(f.core), n * sizeof *g);
        for (size_t j = 0; j < n_tensors; j++) {
            if (t[j].trainable) {
                check_tensor(&f, &t[j], g + t[j].offset, &rng);
            }
        }
        free(g);
        close_case(&f);
    }
}

/* ---- against itself ------------------------------------------------------------------------------------------ */

/* Parameters after two steps, for the caller to free. */
static float *two_steps(const struct fixture *f, const struct soothe__train_options *options, size_t *n) {
    struct soothe_error         err;
    struct soothe__train_result r;
    struct soothe__train_core  *core = new_core(f, options);
    for (int i = 0; i < 2; i++) {
        must(soothe__train_step(core, &f->batch, f->lr_blocks, f->lr_fusion, &r, &err), &err);
    }
    const float *w    = soothe__train_parameters(core, n);
    float       *copy = soothe__calloc(*n, sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, w, *n * sizeof *copy);
    soothe__train_core_free(core);
    return copy;
}

static void test_one_and_two_threads_agree_to_the_bit(void **state) {
    (void)state;
    for (int precision = SOOTHE__PRECISION_BF16; precision <= SOOTHE__PRECISION_F32; precision++) {
        if (!is_known(precision))
            continue;
        for (int i = 0; i < N_CASES; i++) {
            size_t                       n;
            struct fixture               f       = open_case(i, (enum soothe__precision)precision);
            struct soothe__train_options options = f.options;
            options.n_threads                    = 1;
            float *one                           = two_steps(&f, &options, &n);
            options.n_threads                    = 2;
            float *two                           = two_steps(&f, &options, &n);
            assert_memory_equal(one, two, n * sizeof *one);
            free(one);
            free(two);
            close_case(&f);
        }
    }
}

static void test_moments_and_updates_resume_a_run(void **state) {
    (void)state;
    struct soothe_error         err;
    struct soothe__train_result r;
    size_t                      n;
    struct fixture              f        = open_case(CASE_QWEN2, SOOTHE__PRECISION_AUTO);
    float                      *expected = two_steps(&f, &f.options, &n);
    must(soothe__train_step(f.core, &f.batch, f.lr_blocks, f.lr_fusion, &r, &err), &err);
    struct soothe__train_core *resumed = new_core(&f, &f.options);
    memcpy(soothe__train_parameters(resumed, NULL), soothe__train_parameters(f.core, NULL), n * sizeof(float));
    for (int i = 0; i < 2; i++) {
        memcpy(soothe__train_moments(resumed, i), soothe__train_moments(f.core, i), n * sizeof(float));
    }
    soothe__train_set_updates(resumed, soothe__train_updates(f.core));
    must(soothe__train_step(resumed, &f.batch, f.lr_blocks, f.lr_fusion, &r, &err), &err);
    assert_memory_equal(soothe__train_parameters(resumed, NULL), expected, n * sizeof *expected);
    soothe__train_core_free(resumed);
    free(expected);
    close_case(&f);
}

static void test_evaluation_agrees_with_the_gradient(void **state) {
    (void)state;
    for (int precision = SOOTHE__PRECISION_BF16; precision <= SOOTHE__PRECISION_F32; precision++) {
        if (!is_known(precision))
            continue;
        for (int i = 0; i < N_CASES; i++) {
            struct soothe_error         err;
            struct soothe__train_result g, e;
            struct fixture              f = open_case(i, (enum soothe__precision)precision);
            must(soothe__train_gradient(f.core, &f.batch, &g, &err), &err);
            must(soothe__train_evaluate(f.core, &f.batch, NULL, NULL, NULL, &e, &err), &err);
            assert_near("the loss", i, e.loss, g.loss, 1e-6);
            assert_near("the preference loss", i, e.preference, g.preference, 1e-6);
            assert_near("the KL", i, e.kl, g.kl, 1e-6);
            assert_near("the NLL", i, e.nll, g.nll, 1e-6);
            assert_int_equal(e.n_pairs_right, g.n_pairs_right);
            close_case(&f);
        }
    }
}

static void test_frozen_blocks_stay_to_the_bit(void **state) {
    (void)state;
    struct soothe_error                err;
    struct soothe__train_result        r;
    size_t                             n_tensors;
    struct fixture                     f = open_case(CASE_FROZEN, SOOTHE__PRECISION_F32);
    const struct soothe__train_tensor *t = soothe__train_tensors(f.core, &n_tensors);
    must(soothe__train_step(f.core, &f.batch, 1.0, 1e-3, &r, &err), &err);
    for (size_t i = 0; i < n_tensors; i++) {
        const struct record w       = get(CASE_FROZEN, "w/%s", t[i].name);
        const float        *now     = soothe__train_parameters(f.core, NULL) + t[i].offset;
        const bool          changed = memcmp(w.floats, now, t[i].n * sizeof *now) != 0;
        assert_int_equal(changed, t[i].fusion);
    }
    close_case(&f);
}

/* The loss is a mean over rows, so gradients of texts alone, weighted by their rows, add up to the gradient of all
 * together; with more tokens and rows than any internal step. */
static void test_a_packed_batch_is_the_sum_of_its_texts(void **state) {
    (void)state;
    enum { N_TEXTS = 12, LENGTH_MAX = 23, ROWS_MAX = N_TEXTS * LENGTH_MAX };
    struct soothe_error         err;
    struct soothe__train_result r;
    size_t                      n;
    struct soothe__rng          rng = soothe__rng_seed(7, 7);
    struct fixture              f   = open_case(CASE_PAPER, SOOTHE__PRECISION_F32);
    int32_t                     tokens[ROWS_MAX], start[N_TEXTS + 1] = {0};
    struct soothe__train_row    rows[ROWS_MAX], own[LENGTH_MAX];
    struct soothe__train_batch  all = {.tokens = tokens, .text_start = start, .rows = rows, .n_texts = N_TEXTS};
    for (int32_t i = 0; i < N_TEXTS; i++) {
        start[i + 1] = start[i] + LENGTH_MAX - (int32_t)soothe__rng_below(&rng, 5);
        for (int32_t j = start[i]; j < start[i + 1]; j++) {
            const int32_t next = (int32_t)soothe__rng_below(&rng, (uint32_t)f.shape.n_vocab);
            tokens[j]          = (int32_t)soothe__rng_below(&rng, (uint32_t)f.shape.n_vocab);
            rows[j]            = (struct soothe__train_row){.position = j, .next = next, .kind = SOOTHE__ROW_PLAIN};
        }
    }
    all.n_tokens = all.n_rows            = start[N_TEXTS];
    struct soothe__train_options options = f.options;
    options.max_tokens = options.max_rows = ROWS_MAX;
    struct soothe__train_core *core       = new_core(&f, &options);
    soothe__train_parameters(core, &n);
    float *sum = soothe__calloc(n, sizeof *sum);
    assert_non_null(sum);
    double loss = 0;
    for (int32_t i = 0; i < N_TEXTS; i++) {
        const int32_t length = start[i + 1] - start[i], one[] = {0, length};
        const double  share = (double)length / all.n_rows;
        for (int32_t j = 0; j < length; j++) {
            own[j]          = rows[start[i] + j];
            own[j].position = j;
        }
        const struct soothe__train_batch b = {.tokens     = tokens + start[i],
                                              .n_tokens   = length,
                                              .text_start = one,
                                              .n_texts    = 1,
                                              .rows       = own,
                                              .n_rows     = length};
        must(soothe__train_gradient(core, &b, &r, &err), &err);
        loss += share * r.loss;
        for (size_t j = 0; j < n; j++) {
            sum[j] += (float)(share * (double)soothe__train_gradients(core)[j]);
        }
    }
    must(soothe__train_gradient(core, &all, &r, &err), &err);
    assert_near("the loss", CASE_PAPER, r.loss, loss, 1e-6);
    assert_near_norm("the gradient", CASE_PAPER, soothe__train_gradients(core), sum, n, F32_GRADIENT);
    free(sum);
    soothe__train_core_free(core);
    close_case(&f);
}

/* ---- errors ------------------------------------------------------------------------------------------------- */

/* A step with the batch as it is now is refused, and nothing has moved. */
static void assert_refused(struct fixture *f, enum soothe_status expected, const char *what) {
    struct soothe_error         err = {0};
    struct soothe__train_result r;
    size_t                      n;
    const float                *w      = soothe__train_parameters(f->core, &n);
    float                      *before = soothe__calloc(3 * n, sizeof *before);
    assert_non_null(before);
    memcpy(before, w, n * sizeof *w);
    for (size_t i = 0; i < 2; i++) {
        memcpy(before + (i + 1) * n, soothe__train_moments(f->core, (int)i), n * sizeof *w);
    }
    const int64_t            updates = soothe__train_updates(f->core);
    const enum soothe_status status  = soothe__train_step(f->core, &f->batch, 1e-3, 1e-3, &r, &err);
    if (status != expected || err.message[0] == 0) {
        fail_msg("%s: %s, message '%s'", what, soothe_status_name(status), err.message);
    }
    assert_memory_equal(before, w, n * sizeof *w); /* bytes: also where there is a NaN */
    for (size_t i = 0; i < 2; i++) {
        assert_memory_equal(before + (i + 1) * n, soothe__train_moments(f->core, (int)i), n * sizeof *w);
    }
    assert_int_equal(soothe__train_updates(f->core), updates);
    free(before);
}

static void test_given_states_must_come(void **state) {
    (void)state;
    struct fixture f = open_case(CASE_GIVEN, SOOTHE__PRECISION_F32);
    f.batch.h_c      = NULL;
    assert_refused(&f, SOOTHE_E_ARGUMENT, "a batch without the calibrator's states");
    f.options.objective = SOOTHE__PAPER;
    struct soothe__train_core *core;
    assert_int_equal(soothe__train_core_new(&core, &f.shape, &f.options, NULL, f.head, NULL), SOOTHE_E_ARGUMENT);
    f.options.objective = SOOTHE__PREFERENCE;
    f.shape.d_cal       = 0;
    assert_int_equal(soothe__train_core_new(&core, &f.shape, &f.options, NULL, f.head, NULL), SOOTHE_E_ARGUMENT);
    close_case(&f);
}

static void test_bad_batches_are_refused(void **state) {
    (void)state;
    struct soothe_error         err;
    struct soothe__train_result r;
    struct fixture              f = open_case(CASE_ALL, SOOTHE__PRECISION_F32);
    int32_t                     tokens[64], start[16];
    const int32_t              *good_tokens = f.batch.tokens, *good_start = f.batch.text_start;
    memcpy(tokens, good_tokens, (size_t)f.batch.n_tokens * sizeof *tokens);
    memcpy(start, good_start, (size_t)(f.batch.n_texts + 1) * sizeof *start);
    must(soothe__train_step(f.core, &f.batch, 1e-3, 1e-3, &r, &err), &err); /* moments are not zero any more */

    f.batch.tokens = tokens;
    tokens[3]      = f.shape.n_vocab;
    assert_refused(&f, SOOTHE_E_ARGUMENT, "a token past the vocabulary");
    tokens[3] = -1;
    assert_refused(&f, SOOTHE_E_ARGUMENT, "a negative token");
    f.batch.tokens = good_tokens;

    f.batch.text_start = start;
    start[2]           = start[1] - 1;
    assert_refused(&f, SOOTHE_E_ARGUMENT, "texts that overlap");
    start[2] = good_start[2];
    start[f.batch.n_texts] += 1;
    assert_refused(&f, SOOTHE_E_ARGUMENT, "texts past the tokens");
    f.batch.text_start = good_start;

    const struct soothe__train_row row = f.rows[1];
    f.rows[1].next                     = f.shape.n_vocab;
    assert_refused(&f, SOOTHE_E_ARGUMENT, "a next token past the vocabulary");
    f.rows[1]          = row;
    f.rows[1].position = f.batch.n_tokens;
    assert_refused(&f, SOOTHE_E_ARGUMENT, "a position past the tokens");
    f.rows[1]        = row;
    f.rows[1].i_pair = f.batch.n_pairs;
    assert_refused(&f, SOOTHE_E_ARGUMENT, "a pair that does not exist");
    f.rows[1] = row;
    close_case(&f);
}

static void test_too_large_batches_are_refused(void **state) {
    (void)state;
    struct fixture               f       = open_case(CASE_ALL, SOOTHE__PRECISION_F32);
    struct soothe__train_options options = f.options;
    soothe__train_core_free(f.core);
    options.max_tokens = f.batch.n_tokens - 1;
    f.core             = new_core(&f, &options);
    assert_refused(&f, SOOTHE_E_ARGUMENT, "too many tokens");
    soothe__train_core_free(f.core);
    options          = f.options;
    options.max_rows = f.batch.n_rows - 1;
    f.core           = new_core(&f, &options);
    assert_refused(&f, SOOTHE_E_ARGUMENT, "too many rows");
    close_case(&f);
}

static void test_a_parameter_that_is_not_a_number_stops_the_step(void **state) {
    (void)state;
    for (int precision = SOOTHE__PRECISION_BF16; precision <= SOOTHE__PRECISION_F32; precision++) {
        if (!is_known(precision))
            continue;
        for (int i = 0; i < N_CASES; i++) {
            struct fixture f = open_case(i, (enum soothe__precision)precision);
            size_t         n;
            float         *w = soothe__train_parameters(f.core, &n);
            for (size_t at = 0; at < n; at += n / 3) {
                const float old = w[at];
                w[at]           = NAN;
                assert_refused(&f, SOOTHE_E_NUMERIC, "NaN");
                w[at] = old;
            }
            close_case(&f);
        }
    }
}

static void test_shapes_that_cannot_be_are_refused(void **state) {
    (void)state;
    struct soothe_error        err;
    struct fixture             f     = open_case(CASE_PAPER, SOOTHE__PRECISION_F32);
    struct soothe__train_core *core  = NULL;
    struct soothe__train_shape shape = f.shape;
    shape.d_tgt                      = f.shape.d_cal - 1; /* paper: the head is applied to h_c */
    assert_int_not_equal(soothe__train_core_new(&core, &shape, &f.options, f.embedding, f.head, &err), SOOTHE_OK);
    assert_null(core);
    shape           = f.shape;
    shape.n_head_kv = 3; /* does not divide 4 heads */
    assert_int_not_equal(soothe__train_core_new(&core, &shape, &f.options, f.embedding, f.head, &err), SOOTHE_OK);
    assert_null(core);
    assert_int_not_equal(soothe__train_core_new(&core, &f.shape, &f.options, NULL, f.head, &err), SOOTHE_OK);
    assert_null(core);
    soothe__train_core_free(NULL);
    close_case(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss_and_gradients_are_pytorchs),
        cmocka_unit_test(test_loss_and_gradients_in_bf16_are_close),
        cmocka_unit_test(test_steps_of_adamw_are_pytorchs),
        cmocka_unit_test(test_log_probabilities_are_pytorchs),
        cmocka_unit_test(test_known_log_p_t_is_used_and_unknown_filled_in),
        cmocka_unit_test(test_gradients_are_slopes_of_the_loss),
        cmocka_unit_test(test_one_and_two_threads_agree_to_the_bit),
        cmocka_unit_test(test_moments_and_updates_resume_a_run),
        cmocka_unit_test(test_evaluation_agrees_with_the_gradient),
        cmocka_unit_test(test_frozen_blocks_stay_to_the_bit),
        cmocka_unit_test(test_a_packed_batch_is_the_sum_of_its_texts),
        cmocka_unit_test(test_given_states_must_come),
        cmocka_unit_test(test_bad_batches_are_refused),
        cmocka_unit_test(test_too_large_batches_are_refused),
        cmocka_unit_test(test_a_parameter_that_is_not_a_number_stops_the_step),
        cmocka_unit_test(test_shapes_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
