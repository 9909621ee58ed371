/* SPDX-License-Identifier: Apache-2.0
 * Objectives of whole models through factors of low rank against PyTorch in float64
 * (tests/data/train_whole_reference.f32, written by scripts/train_whole_reference.py). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "train_support.h"
#include "train/cppl.h"
#include "train/train_core.h"

enum { N_CASES = 6, N_TEXTS = 8 };

static struct records file;

static int set_up(void **state) {
    (void)state;
    return records_read(&file, "train_whole_reference.f32");
}

static int tear_down(void **state) {
    (void)state;
    free(file.data);
    return 0;
}

static struct record find(int i_case, const char *kind, const char *name) {
    char wanted[80];
    snprintf(wanted, sizeof wanted, "%d/%s%s", i_case, kind, name);
    return record_find(&file, wanted);
}

static struct record get(int i_case, const char *kind, const char *name) {
    const struct record r = find(i_case, kind, name);
    if (r.n == 0)
        fail_msg("the reference has no %s%s of case %d", kind, name, i_case);
    return r;
}

/* ---- a case ----------------------------------------------------------------------------------------- */

struct fixture {
    int                          i_case;
    struct soothe__train_shape   shape;
    struct soothe__train_options options;
    struct soothe__train_batch   batch;
    struct soothe__train_core   *core;
    uint16_t                    *embedding, *head, *h_t;
    struct soothe__train_row    *rows;
    struct soothe__cppl_options  loss;
    struct soothe__cppl_text     texts[N_TEXTS];
    const float                 *soft;
    double                       rate;
};

static enum soothe__learning factors(const void *user, const char *name) {
    (void)user;
    (void)name;
    return SOOTHE__LOW_RANK;
}

/* The core's hooks, as a user of it would write them. */
static double contrastive(void *user, const struct soothe__train_batch *batch, const float *log_p, const float *kl,
                          float *weight) {
    const struct fixture *f          = user;
    double                l[N_TEXTS] = {0}, dl[N_TEXTS];
    int32_t               n[N_TEXTS] = {0}, text_of[1024], text = 0;
    (void)kl;
    for (int32_t i = 0; i < batch->n_rows; i++) {
        while (batch->rows[i].position >= batch->text_start[text + 1])
            text++;
        text_of[i] = text;
        l[text] -= (double)log_p[i];
        n[text]++;
    }
    for (int32_t i = 0; i < N_TEXTS; i++)
        l[i] /= n[i];
    const double loss = soothe__cppl_loss(&f->loss, f->texts, N_TEXTS, 2, l, dl);
    for (int32_t i = 0; i < batch->n_rows; i++)
        weight[i] = (float)(dl[text_of[i]] / n[text_of[i]]);
    return loss;
}

static void soften(void *user, int32_t row, float *z) {
    const struct fixture *f = user;
    for (int32_t v = 0; v < f->shape.n_vocab; v++)
        z[v] -= (float)log1p(exp(-(double)f->soft[row * f->shape.n_vocab + v]));
}

static void read_options(struct fixture *f) {
    const int32_t *n        = get(f->i_case, "", "options").ints;
    const float   *r        = get(f->i_case, "", "options.f").floats;
    f->options              = soothe__train_options_default();
    f->options.objective    = n[0] ? SOOTHE__OWN_PREFERENCE : SOOTHE__WEIGHTED;
    f->options.rank         = n[2];
    f->options.learning     = factors;
    f->batch.n_pairs        = n[0] ? n[1] : 0;
    f->loss                 = soothe__cppl_options_default(n[3] == 2 ? SOOTHE__CPPL_CODE : SOOTHE__CPPL_PAPER);
    f->loss.log_phi         = n[4] != 0;
    f->loss.n_random        = n[5];
    f->options.kappa        = r[0];
    f->options.lambda       = r[1];
    f->options.alpha        = r[2];
    f->loss.alpha           = (double)r[3];
    f->loss.tau             = (double)r[4];
    f->rate                 = (double)r[5];
    f->options.weight_decay = r[6];
    f->options.clip         = r[7];
    if (n[3]) {
        f->batch.weigh      = contrastive;
        f->batch.weigh_user = f;
    } else if (!n[0]) {
        f->batch.row_weight = get(f->i_case, "", "weight").floats;
    }
}

static void read_batch(struct fixture *f) {
    static const enum soothe__row_kind KINDS[] = {SOOTHE__ROW_CHOSEN, SOOTHE__ROW_REJECTED, SOOTHE__ROW_KL,
                                                  SOOTHE__ROW_PLAIN};
    const struct record                tokens = get(f->i_case, "", "tokens"), starts = get(f->i_case, "", "text_start");
    const struct record                rows = get(f->i_case, "", "rows"), soft = find(f->i_case, "", "soft");
    const int32_t                     *texts = get(f->i_case, "", "texts").ints;
    f->embedding                             = bf16_of(get(f->i_case, "", "embedding"));
    f->head                                  = bf16_of(get(f->i_case, "", "head"));
    f->h_t                                   = bf16_of(get(f->i_case, "", "h_t"));
    f->rows                                  = soothe__calloc((size_t)rows.n / 4, sizeof *f->rows);
    f->soft                                  = soft.floats;
    assert_non_null(f->rows);
    for (int32_t i = 0; i < rows.n / 4; i++) {
        const int32_t *r = rows.ints + 4 * i;
        f->rows[i]       = (struct soothe__train_row){r[0], r[1], KINDS[r[2]], r[3]};
    }
    for (int i = 0; i < N_TEXTS; i++)
        f->texts[i] = (struct soothe__cppl_text){texts[2 * i], texts[2 * i + 1] != 0};
    f->batch.n_tokens    = tokens.n;
    f->batch.tokens      = tokens.ints;
    f->batch.n_texts     = starts.n - 1;
    f->batch.text_start  = starts.ints;
    f->batch.n_rows      = rows.n / 4;
    f->batch.rows        = f->rows;
    f->batch.h_t         = f->options.objective == SOOTHE__OWN_PREFERENCE || f->soft ? f->h_t : NULL;
    f->batch.soften      = f->soft ? soften : NULL;
    f->batch.soften_user = f;
}

static void open_case(struct fixture *f, int i_case) {
    struct soothe_error err;
    size_t              n_tensors;
    memset(f, 0, sizeof *f);
    f->i_case        = i_case;
    const int32_t *n = get(i_case, "", "shape").ints;
    const float   *r = get(i_case, "", "shape.f").floats;
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
    read_options(f);
    read_batch(f);
    f->options.precision  = SOOTHE__PRECISION_F32;
    f->options.max_tokens = f->batch.n_tokens;
    f->options.max_rows   = f->batch.n_rows;
    must(soothe__train_core_new(&f->core, &f->shape, &f->options, f->embedding, f->head, &err), &err);
    const struct soothe__train_tensor *t = soothe__train_tensors(f->core, &n_tensors);
    for (size_t i = 0; i < n_tensors; i++) {
        const struct record w = get(i_case, "w/", t[i].name);
        assert_int_equal((size_t)w.n, t[i].n);
        memcpy(soothe__train_parameters(f->core, NULL) + t[i].offset, w.floats, t[i].n * sizeof(float));
    }
}

static void close_case(struct fixture *f) {
    soothe__train_core_free(f->core);
    free(f->embedding);
    free(f->head);
    free(f->h_t);
    free(f->rows);
}

/* ---- comparing -------------------------------------------------------------------------------------- */

static void assert_near(const char *what, int i_case, double x, double reference, double relative) {
    if (!(fabs(x - reference) <= relative * (fabs(reference) + 1e-1)))
        fail_msg("case %d: %s is %.9g, the reference says %.9g", i_case, what, x, reference);
}

static void assert_result(int i_case, const struct soothe__train_result *r) {
    const float *reference = get(i_case, "", "result").floats;
    assert_near("the loss", i_case, r->loss, (double)reference[0], 1e-5);
    assert_near("the preference loss", i_case, r->preference, (double)reference[1], 1e-5);
    assert_near("the KL", i_case, r->kl, (double)reference[2], 1e-5);
    assert_near("the NLL", i_case, r->nll, (double)reference[3], 3e-6);
    assert_near("the gradient's norm", i_case, r->gradient_norm, (double)reference[4], 2e-5);
}

/* Sums of F32 against float64: a few 1e-6 of the norm; the contrastive loss multiplies by differences of likelihoods.
 */
static void test_loss_and_gradients_are_pytorchs(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        struct soothe_error         err;
        struct soothe__train_result result;
        struct fixture              f;
        size_t                      n_tensors, n_factors = 0;
        open_case(&f, i);
        must(soothe__train_gradient(f.core, &f.batch, &result, &err), &err);
        assert_result(i, &result);
        const struct soothe__train_tensor *t = soothe__train_tensors(f.core, &n_tensors);
        for (size_t k = 0; k < n_tensors; k++) {
            const struct record g     = find(i, "g/", t[k].name);
            double              error = 0, norm = 0;
            assert_int_equal(g.n > 0, t[k].trainable);
            n_factors += g.n > 0;
            for (int32_t j = 0; j < g.n; j++) {
                const double x = (double)soothe__train_gradients(f.core)[t[k].offset + (size_t)j];
                error += pow(x - (double)g.floats[j], 2);
                norm += pow((double)g.floats[j], 2);
            }
            if (!(sqrt(error) <= 4e-5 * (sqrt(norm) + 1e-4)))
                fail_msg("case %d: %s is off by %.3g of its norm %.3g", i, t[k].name, sqrt(error / norm), sqrt(norm));
        }
        assert_int_equal(n_factors, 14 * f.shape.n_blocks);
        close_case(&f);
    }
}

static void test_a_step_of_adamw_is_pytorchs(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        struct soothe_error         err;
        struct soothe__train_result result;
        struct fixture              f;
        size_t                      n_tensors;
        open_case(&f, i);
        must(soothe__train_step(f.core, &f.batch, f.rate, f.rate, &result, &err), &err);
        const struct soothe__train_tensor *t = soothe__train_tensors(f.core, &n_tensors);
        for (size_t k = 0; k < n_tensors; k++) {
            const struct record before = get(i, "w/", t[k].name), after = find(i, "w1/", t[k].name);
            double              error = 0, way = 0;
            for (size_t j = 0; j < t[k].n; j++) {
                const double reference = (double)(after.n > 0 ? after.floats : before.floats)[j];
                error += fabs((double)soothe__train_parameters(f.core, NULL)[t[k].offset + j] - reference);
                way += fabs(reference - (double)before.floats[j]);
            }
            if (!(error <= 2e-3 * way))
                fail_msg("case %d: %s is off by %.3g of a way of %.3g", i, t[k].name, error, way);
        }
        close_case(&f);
    }
}

/* ---- the contrastive loss by itself ----------------------------------------------------------------- */

static void test_contrastive_gradients_are_its_slope(void **state) {
    (void)state;
    static const struct soothe__cppl_text TEXTS[] = {{0, false}, {0, false}, {0, true},  {1, false}, {1, true},
                                                     {1, true},  {2, false}, {2, false}, {2, false}};
    const double                          l0[]    = {3.1, 3.4, 4.2, 2.9, 3.7, 2.2, 3.0, 3.3, 3.35};
    enum { N = sizeof TEXTS / sizeof *TEXTS };
    for (int form = 0; form < 4; form++) {
        struct soothe__cppl_options o = soothe__cppl_options_default(form < 2 ? SOOTHE__CPPL_PAPER : SOOTHE__CPPL_CODE);
        double                      l[N], dl[N], unused[N];
        o.log_phi = form != 0;
        o.tau     = form == 0 ? 15 : o.tau;
        o.alpha   = form == 3 ? 1 : o.alpha;
        memcpy(l, l0, sizeof l);
        soothe__cppl_loss(&o, TEXTS, N, 3, l, dl);
        for (int i = 0; i < N; i++) {
            const double step = 1e-5;
            l[i]              = l0[i] + step;
            const double up   = soothe__cppl_loss(&o, TEXTS, N, 3, l, unused);
            l[i]              = l0[i] - step;
            const double down = soothe__cppl_loss(&o, TEXTS, N, 3, l, unused);
            l[i]              = l0[i];
            if (!(fabs((up - down) / (2 * step) - dl[i]) < 1e-6 * (1 + fabs(dl[i]))))
                fail_msg("form %d: the slope by text %d is %g, the gradient says %g", form, i, (up - down) / (2 * step),
                         dl[i]);
        }
    }
}

/* A pair is the smallest set: the harmless text is its own centre. */
static void test_a_pair_is_log_of_one_plus_its_similarity(void **state) {
    (void)state;
    static const struct soothe__cppl_text TEXTS[] = {{0, false}, {0, true}};
    struct soothe__cppl_options           o       = soothe__cppl_options_default(SOOTHE__CPPL_PAPER);
    const double                          l[]     = {3.0, 3.01};
    double                                dl[2];
    const double                          distance = (exp(3.01) - exp(3.0)) / o.tau, s = o.alpha * exp(-distance);
    assert_float_equal(soothe__cppl_loss(&o, TEXTS, 2, 1, l, dl), log(1 + s), 1e-12);
    assert_true(dl[0] > 0 && dl[1] < 0); /* apart */
    const double far[] = {3.0, 6.0};
    assert_float_equal(soothe__cppl_loss(&o, TEXTS, 2, 1, far, dl), 0, 1e-12);
    assert_float_equal(dl[1], 0, 1e-12); /* what is far off is let go */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss_and_gradients_are_pytorchs),
        cmocka_unit_test(test_a_step_of_adamw_is_pytorchs),
        cmocka_unit_test(test_contrastive_gradients_are_its_slope),
        cmocka_unit_test(test_a_pair_is_log_of_one_plus_its_similarity),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
