/* SPDX-License-Identifier: Apache-2.0
 * Training parts of a model: masks, weights kept elsewhere, factors of low rank; against the whole gradient and against
 * finite differences. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test_support.h"
#include "train/train_core.h"

enum { D = 16, HEADS = 4, HEADS_KV = 2, D_HEAD = 4, FF = 24, VOCAB = 40, BLOCKS = 3, TOKENS = 23, ROWS = 15, RANK = 3 };

static const struct soothe__train_shape SHAPE = {.n_blocks  = BLOCKS,
                                                 .d_cal     = D,
                                                 .n_head    = HEADS,
                                                 .n_head_kv = HEADS_KV,
                                                 .d_head    = D_HEAD,
                                                 .n_ff      = FF,
                                                 .n_vocab   = VOCAB,
                                                 .d_tgt     = D,
                                                 .rope_base = 10000.0f,
                                                 .norm_eps  = 1e-5f,
                                                 .qkv_bias  = true};

static uint16_t embedding[VOCAB * D], head[VOCAB * D];

static void random_bf16(uint16_t *x, size_t n, double scale, uint64_t seed) {
    struct soothe__rng rng = soothe__rng_seed(seed, 1);
    for (size_t i = 0; i < n; i++)
        x[i] = soothe__bf16_from_f32((float)(scale * soothe__rng_normal(&rng)));
}

static uint64_t hash_of(const char *name) {
    uint64_t h = 7;
    for (; *name; name++)
        h = h * 131 + (unsigned char)*name;
    return h;
}

/* The same tensor has the same values in every core. */
static void random_tensor(float *x, const char *name, size_t n, int32_t n_in) {
    struct soothe__rng rng  = soothe__rng_seed(hash_of(name), 2);
    const bool         norm = strstr(name, "norm") != NULL;
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((norm ? 1 : 0) + soothe__rng_normal(&rng) * (norm ? .2 : 1 / sqrt((double)n_in)));
}

static struct soothe__train_core *new_core(const struct soothe__train_options *options) {
    struct soothe_error        err;
    struct soothe__train_core *core;
    size_t                     n;
    random_bf16(embedding, VOCAB * D, 1, 3);
    random_bf16(head, VOCAB * D, 1 / sqrt(D), 4);
    must(soothe__train_core_new(&core, &SHAPE, options, embedding, head, &err), &err);
    const struct soothe__train_tensor *t = soothe__train_tensors(core, &n);
    for (size_t i = 0; i < n; i++)
        random_tensor(soothe__train_parameters(core, NULL) + t[i].offset, t[i].name, t[i].n, t[i].n_in);
    return core;
}

static struct soothe__train_options options_of(enum soothe__learning (*learning)(const void *, const char *)) {
    struct soothe__train_options o = soothe__train_options_default();
    o.objective                    = SOOTHE__PAPER;
    o.precision                    = SOOTHE__PRECISION_F32;
    o.max_tokens                   = TOKENS;
    o.max_rows                     = ROWS;
    o.learning                     = learning;
    o.rank                         = RANK;
    o.alpha                        = 4;
    return o;
}

static int32_t                  tokens[TOKENS];
static const int32_t            TEXT_START[] = {0, 9, 17, TOKENS};
static struct soothe__train_row rows[ROWS];

static struct soothe__train_batch a_batch(void) {
    struct soothe__rng rng = soothe__rng_seed(5, 5);
    for (int32_t i = 0; i < TOKENS; i++)
        tokens[i] = (int32_t)soothe__rng_below(&rng, VOCAB);
    for (int32_t i = 0; i < ROWS; i++)
        rows[i] = (struct soothe__train_row){
            .position = i + 4, .next = (int32_t)soothe__rng_below(&rng, VOCAB), .kind = SOOTHE__ROW_PLAIN};
    return (struct soothe__train_batch){
        .n_tokens = TOKENS, .tokens = tokens, .n_texts = 3, .text_start = TEXT_START, .n_rows = ROWS, .rows = rows};
}

static const struct soothe__train_tensor *tensor(struct soothe__train_core *core, const char *name) {
    size_t                             n;
    const struct soothe__train_tensor *t = soothe__train_tensors(core, &n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(t[i].name, name) == 0)
            return &t[i];
    return NULL;
}

static struct soothe__train_result gradient_of(struct soothe__train_core *core) {
    struct soothe_error              err;
    struct soothe__train_result      r;
    const struct soothe__train_batch batch = a_batch();
    must(soothe__train_gradient(core, &batch, &r, &err), &err);
    return r;
}

/* ---- masks ------------------------------------------------------------------------------------------------------ */

static enum soothe__learning one_tensor(const void *user, const char *name) {
    return strcmp(user, name) == 0 ? SOOTHE__LEARNS : SOOTHE__STAYS;
}

/* Whatever single tensor learns: its gradient is bit for bit its part of the whole one, and nothing else has any. */
static void test_one_tensor_has_its_part_of_the_gradient(void **state) {
    (void)state;
    const char *const            names[] = {"blk.0.attn_norm.weight", "blk.1.attn_q.weight",   "blk.1.attn_k.bias",
                                            "blk.0.attn_v.weight",    "blk.2.attn_v.bias",     "blk.1.attn_output.weight",
                                            "blk.2.ffn_norm.weight",  "blk.1.ffn_gate.weight", "blk.0.ffn_up.weight",
                                            "blk.1.ffn_down.weight",  "blk.2.ffn_down.weight", "output_norm.weight"};
    struct soothe__train_options all     = options_of(NULL);
    struct soothe__train_core   *whole   = new_core(&all);
    const double                 loss    = gradient_of(whole).loss;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct soothe__train_options o          = options_of(one_tensor);
        o.learning_user                         = names[i];
        struct soothe__train_core         *core = new_core(&o);
        const struct soothe__train_result  r    = gradient_of(core);
        const struct soothe__train_tensor *mine = tensor(core, names[i]), *its = tensor(whole, names[i]);
        assert_true(r.loss == loss);
        assert_true(mine->trainable);
        assert_memory_equal(soothe__train_gradients(core) + mine->offset, soothe__train_gradients(whole) + its->offset,
                            mine->n * sizeof(float));
        double sum = 0;
        for (size_t k = 0; k < mine->n; k++)
            sum += pow((double)soothe__train_gradients(core)[mine->offset + k], 2);
        assert_true(sum > 0);
        assert_float_equal(r.gradient_norm, sqrt(sum), 1e-6);
        soothe__train_core_free(core);
    }
    soothe__train_core_free(whole);
}

static void test_a_step_moves_what_learns_alone(void **state) {
    (void)state;
    struct soothe_error          err;
    struct soothe__train_result  r;
    struct soothe__train_options o           = options_of(one_tensor);
    o.learning_user                          = "blk.1.ffn_down.weight";
    struct soothe__train_core         *core  = new_core(&o);
    const struct soothe__train_batch   batch = a_batch();
    size_t                             n, n_tensors;
    float                             *w      = soothe__train_parameters(core, &n);
    float                             *before = soothe__calloc(n, sizeof *before);
    const struct soothe__train_tensor *t      = soothe__train_tensors(core, &n_tensors);
    assert_non_null(before);
    memcpy(before, w, n * sizeof *w);
    must(soothe__train_step(core, &batch, 1e-3, 1e-3, &r, &err), &err);
    for (size_t i = 0; i < n_tensors; i++) {
        const bool same = memcmp(before + t[i].offset, w + t[i].offset, t[i].n * sizeof *w) == 0;
        assert_int_equal(same, strcmp(t[i].name, "blk.1.ffn_down.weight") != 0);
    }
    free(before);
    soothe__train_core_free(core);
}

/* ---- weights kept elsewhere ------------------------------------------------------------------------- */

struct elsewhere {
    char    name[48];
    int32_t n_in;
};

static const void *find_elsewhere(void *user, const char *name, int32_t n_out, int32_t n_in) {
    struct elsewhere *list = user;
    size_t            i    = 0;
    (void)n_out;
    while (list[i].name[0])
        i++;
    snprintf(list[i].name, sizeof list[i].name, "%s", name);
    list[i].n_in = n_in;
    return &list[i];
}

static void read_elsewhere(void *user, const void *handle, int32_t first, int32_t n_rows, float *out) {
    const struct elsewhere *e = handle;
    float                   all[FF * FF];
    (void)user;
    random_tensor(all, e->name, (size_t)((first + n_rows) * e->n_in), e->n_in);
    memcpy(out, all + first * e->n_in, (size_t)(n_rows * e->n_in) * sizeof *out);
}

static enum soothe__learning low_rank(const void *user, const char *name) {
    return user && !strstr(name, user) ? SOOTHE__STAYS : SOOTHE__LOW_RANK;
}

static void test_weights_kept_elsewhere_change_nothing(void **state) {
    (void)state;
    enum soothe__learning (*const masks[])(const void *, const char *) = {one_tensor, low_rank};
    for (size_t i = 0; i < 2; i++) {
        struct elsewhere             list[7 * BLOCKS + 1] = {{.n_in = 0}};
        struct soothe__fixed_weights fixed                = {find_elsewhere, read_elsewhere, list};
        struct soothe__train_options o                    = options_of(masks[i]);
        o.learning_user                                   = "blk.1.attn_q.weight";
        struct soothe__train_core *held                   = new_core(&o);
        o.fixed                                           = &fixed;
        struct soothe__train_core         *core           = new_core(&o);
        const struct soothe__train_result  a = gradient_of(held), b = gradient_of(core);
        size_t                             n;
        const struct soothe__train_tensor *t = soothe__train_tensors(core, &n);
        assert_true(a.loss == b.loss && a.gradient_norm == b.gradient_norm);
        assert_true(soothe__train_core_memory(core) < soothe__train_core_memory(held));
        for (size_t k = 0; k < n; k++)
            assert_memory_equal(soothe__train_gradients(core) + t[k].offset,
                                soothe__train_gradients(held) + tensor(held, t[k].name)->offset,
                                t[k].n * sizeof(float));
        soothe__train_core_free(held);
        soothe__train_core_free(core);
    }
}

/* ---- factors of low rank ---------------------------------------------------------------------------- */

/* With W' = W + s B A put in W's place, dB = s dW' A^T and dA = s B^T dW'. */
static void test_factors_have_the_gradient_of_the_merged_weights(void **state) {
    (void)state;
    struct soothe__train_options       some = options_of(low_rank), all = options_of(NULL);
    struct soothe__train_core         *core = new_core(&some), *merged = new_core(&all);
    const double                       s = 4.0 / RANK;
    size_t                             n, n_pairs = 0;
    const struct soothe__train_tensor *t = soothe__train_tensors(core, &n);
    const float                       *w = soothe__train_parameters(core, NULL);
    for (size_t i = 0; i < n; i++) { /* W' */
        if (!strstr(t[i].name, ".lora_a"))
            continue;
        const struct soothe__train_tensor *whole = &t[i - 1], *b = &t[i + 1];
        float *out = soothe__train_parameters(merged, NULL) + tensor(merged, whole->name)->offset;
        n_pairs++;
        for (int32_t o = 0; o < whole->n_out; o++)
            for (int32_t k = 0; k < whole->n_in; k++)
                for (int32_t r = 0; r < RANK; r++)
                    out[o * whole->n_in + k] += (float)(s * (double)w[b->offset + (size_t)(o * RANK + r)] *
                                                        (double)w[t[i].offset + (size_t)(r * whole->n_in + k)]);
    }
    assert_int_equal(n_pairs, 7 * BLOCKS);
    assert_float_equal(gradient_of(core).loss, gradient_of(merged).loss, 1e-5);
    const float *g = soothe__train_gradients(core);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(t[i].trainable, strstr(t[i].name, ".lora_") != NULL);
        if (!strstr(t[i].name, ".lora_a"))
            continue;
        const struct soothe__train_tensor *whole = &t[i - 1], *b = &t[i + 1];
        const float                       *dw = soothe__train_gradients(merged) + tensor(merged, whole->name)->offset;
        double                             error = 0, norm = 0;
        for (int32_t r = 0; r < RANK; r++) {
            for (int32_t k = 0; k < whole->n_in; k++) {
                double da = 0;
                for (int32_t o = 0; o < whole->n_out; o++)
                    da += s * (double)w[b->offset + (size_t)(o * RANK + r)] * (double)dw[o * whole->n_in + k];
                error += pow(da - (double)g[t[i].offset + (size_t)(r * whole->n_in + k)], 2);
                norm += da * da;
            }
            for (int32_t o = 0; o < whole->n_out; o++) {
                double db = 0;
                for (int32_t k = 0; k < whole->n_in; k++)
                    db += s * (double)dw[o * whole->n_in + k] * (double)w[t[i].offset + (size_t)(r * whole->n_in + k)];
                error += pow(db - (double)g[b->offset + (size_t)(o * RANK + r)], 2);
                norm += db * db;
            }
        }
        assert_true(norm > 0);
        if (!(sqrt(error / norm) < 1e-4))
            fail_msg("factors of %s are off by %g of their norm %g", whole->name, sqrt(error / norm), sqrt(norm));
    }
    soothe__train_core_free(core);
    soothe__train_core_free(merged);
}

/* Along a random direction of each tensor's, central differences of the loss. F32 sums leave about 1e-7 of noise in a
 * loss of 4, over a way of 2e-2. */
static void test_factors_gradient_is_the_losss_slope(void **state) {
    (void)state;
    struct soothe__train_options       o    = options_of(low_rank);
    struct soothe__train_core         *core = new_core(&o);
    size_t                             n, n_all;
    float                             *w   = soothe__train_parameters(core, &n_all);
    const struct soothe__train_tensor *t   = soothe__train_tensors(core, &n);
    struct soothe__rng                 rng = soothe__rng_seed(9, 9);
    float *g = soothe__calloc(n_all, sizeof *g), *start = soothe__calloc(n_all, sizeof *start);
    assert_true(g && start);
    gradient_of(core);
    memcpy(g, soothe__train_gradients(core), n_all * sizeof *g);
    memcpy(start, w, n_all * sizeof *w);
    for (size_t i = 0; i < n; i++) {
        if (!t[i].trainable)
            continue;
        const double step  = 1e-2;
        double       along = 0, norm = 0;
        float        way[FF * FF];
        for (size_t k = 0; k < t[i].n; k++) {
            way[k] = (float)soothe__rng_normal(&rng);
            norm += (double)way[k] * (double)way[k];
        }
        for (size_t k = 0; k < t[i].n; k++) {
            way[k] = (float)((double)way[k] / sqrt(norm));
            along += (double)way[k] * (double)g[t[i].offset + k];
        }
        for (size_t k = 0; k < t[i].n; k++)
            w[t[i].offset + k] = start[t[i].offset + k] + (float)step * way[k];
        const double up = gradient_of(core).loss;
        for (size_t k = 0; k < t[i].n; k++)
            w[t[i].offset + k] = start[t[i].offset + k] - (float)step * way[k];
        const double down = gradient_of(core).loss;
        memcpy(w, start, n_all * sizeof *w);
        if (!(fabs((up - down) / (2 * step) - along) < 2e-4 + 1e-2 * fabs(along)))
            fail_msg("%s: the slope is %g, the gradient says %g", t[i].name, (up - down) / (2 * step), along);
    }
    free(g);
    free(start);
    soothe__train_core_free(core);
}

static void test_factors_begin_without_effect(void **state) {
    (void)state;
    struct soothe__train_options       o = options_of(low_rank), all = options_of(NULL);
    struct soothe__train_core         *core = new_core(&o), *plain = new_core(&all);
    size_t                             n;
    float                             *w = soothe__train_parameters(core, NULL);
    const struct soothe__train_tensor *t = soothe__train_tensors(core, &n);
    for (size_t i = 0; i < n; i++)
        if (strstr(t[i].name, ".lora_b"))
            memset(w + t[i].offset, 0, t[i].n * sizeof *w);
    soothe__train_start_factors(core, 1);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < t[i].n && strstr(t[i].name, ".lora_a"); k++)
            assert_true(fabs((double)w[t[i].offset + k]) <= 1 / sqrt((double)t[i].n_in));
    assert_true(gradient_of(core).loss == gradient_of(plain).loss);
    soothe__train_core_free(core);
    soothe__train_core_free(plain);
}

static void test_bad_ranks_are_refused(void **state) {
    (void)state;
    struct soothe_error        err;
    struct soothe__train_core *core;
    const int32_t              ranks[] = {-1, 0, D + 1};
    for (size_t i = 0; i < 3; i++) {
        struct soothe__train_options o = options_of(low_rank);
        o.rank                         = ranks[i];
        assert_int_equal(soothe__train_core_new(&core, &SHAPE, &o, embedding, head, &err), SOOTHE_E_ARGUMENT);
        assert_non_null(strstr(err.message, "factors of rank"));
        assert_null(core);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_tensor_has_its_part_of_the_gradient),
        cmocka_unit_test(test_a_step_moves_what_learns_alone),
        cmocka_unit_test(test_weights_kept_elsewhere_change_nothing),
        cmocka_unit_test(test_factors_have_the_gradient_of_the_merged_weights),
        cmocka_unit_test(test_factors_gradient_is_the_losss_slope),
        cmocka_unit_test(test_factors_begin_without_effect),
        cmocka_unit_test(test_bad_ranks_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
