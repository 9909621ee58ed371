/* SPDX-License-Identifier: Apache-2.0
 * DINM: its numbers against PyTorch (scripts/dinm_reference.py) and finite differences; the layer it finds against
 * states read another way; the file it writes against what the engine says of it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "edit/edit.h"
#include "engine/target_model.h"
#include "fusion/stage.h"
#include "generate/shortlist.h"
#include "test_support.h"
#include "tiny_model.h"
#include "train/dinm.h"
#include "train/dinm_core.h"

static struct soothe_error err;

/* ---- the reference: the same numbers as scripts/dinm_reference.py makes ------------------------------ */

enum { D = 16, N_FF = 24, V = 40, N_TEXTS = 4, N_TOKENS = 30, N_W = D * N_FF };

static const int32_t LENGTHS[N_TEXTS] = {9, 7, 8, 6}, FIRST[N_TEXTS] = {4, 3, 3, 2};

struct problem {
    struct soothe__dinm_core *core;
    uint16_t                  inputs[N_TOKENS * D], head[V * D];
    int32_t                   tokens[N_TOKENS];
};

static double noise(int stream, size_t i) {
    const double x = sin(12.9898 * (double)(i + 1) + 78.233 * stream) * 43758.5453;
    return 2 * (x - floor(x)) - 1;
}

static void fill_parameters(struct soothe__dinm_core *core) {
    size_t                             n;
    const struct soothe__train_tensor *t = soothe__dinm_tensors(core, &n);
    float                             *p = soothe__dinm_parameters(core);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < t[i].n; k++) {
            const double x     = noise((int)i, k);
            p[t[i].offset + k] = (float)(t[i].n_out == 1 ? 1 + 0.2 * x : x * sqrt(3.0 / t[i].n_in));
        }
}

/* texts: which of the four take part */
static void open_problem(struct problem *p, const bool *texts, enum soothe__precision precision) {
    const struct soothe__train_shape  shape   = {.n_blocks  = 2,
                                                 .d_cal     = D,
                                                 .n_head    = 4,
                                                 .n_head_kv = 2,
                                                 .d_head    = 4,
                                                 .n_ff      = N_FF,
                                                 .n_vocab   = V,
                                                 .d_tgt     = D,
                                                 .rope_base = 10000.0f,
                                                 .norm_eps  = 1e-5f};
    const struct soothe__dinm_numbers numbers = {.c_edit = 0.5, .precision = precision, .n_threads = 1};
    struct soothe__dinm_text          all[N_TEXTS];
    size_t                            n  = 0;
    int32_t                           at = 0;
    for (size_t k = 0; k < N_TOKENS * D; k++)
        p->inputs[k] = soothe__bf16_from_f32((float)(1.3 * noise(100, k)));
    for (size_t k = 0; k < V * D; k++)
        p->head[k] = soothe__bf16_from_f32((float)(noise(101, k) * sqrt(3.0 / D)));
    for (int i = 0; i < N_TEXTS; i++) {
        for (int32_t k = 0; k < LENGTHS[i]; k++)
            p->tokens[at + k] = (7 * k * k + 3 * k + i) % V;
        if (texts[i])
            all[n++] =
                (struct soothe__dinm_text){p->inputs + (size_t)at * D, p->tokens + at, LENGTHS[i], FIRST[i], i >= 2};
        at += LENGTHS[i];
    }
    must(soothe__dinm_core_new(&p->core, &shape, &numbers, p->head, all, n, &err), &err);
    fill_parameters(p->core);
    must(soothe__dinm_begin(p->core, &err), &err);
}

static const bool ALL[N_TEXTS] = {true, true, true, true};

static void disturb(struct soothe__dinm_core *core) {
    float *w = soothe__dinm_weights(core, NULL);
    for (size_t k = 0; k < N_W; k++)
        w[k] += (float)(0.05 * noise(102, k));
}

static double norm_of(const float *x, size_t n) {
    double sum = 0;
    for (size_t k = 0; k < n; k++)
        sum += (double)x[k] * (double)x[k];
    return sqrt(sum);
}

static void assert_loss(const struct soothe__dinm_loss *l, double loss, double nll, double kl) {
    assert_float_equal(l->loss, loss, 2e-6);
    assert_float_equal(l->nll, nll, 4e-6);
    assert_float_equal(l->kl, kl, 2e-6);
}

/* The figures that the script prints. F32 sums of a few dozen terms agree to about 1e-6 of them. */
static void test_loss_gradient_and_steps_are_pytorchs(void **state) {
    (void)state;
    static const double LOSS[4][3]     = {{2.00557719, 4.00612724, 0.00251357213},
                                          {1.94020603, 3.87708184, 0.00166510914},
                                          {1.87836919, 3.75235309, 0.00219263977},
                                          {1.81964849, 3.63257946, 0.00335875863}},
                        GRADIENT[3][4] = {{0.510642305, -0.0279721531, -0.00193950464, -0.00591987285},
                                          {0.48862556, -0.0260685659, -0.00321844958, -0.00288792903},
                                          {0.466417301, -0.024846968, -0.00471834997, 0.00126174971}};
    struct problem           p;
    struct soothe__dinm_loss l;
    open_problem(&p, ALL, SOOTHE__PRECISION_F32);
    must(soothe__dinm_evaluate(p.core, &l, &err), &err);
    assert_loss(&l, 1.99551316, 3.99102632, 0);
    disturb(p.core);
    for (int step = 0; step < 3; step++) {
        must(soothe__dinm_gradient(p.core, &l, &err), &err);
        assert_loss(&l, LOSS[step][0], LOSS[step][1], LOSS[step][2]);
        const float *g = soothe__dinm_weights_gradient(p.core);
        assert_float_equal(norm_of(g, N_W), GRADIENT[step][0], 1e-5);
        assert_float_equal(g[0], GRADIENT[step][1], 2e-6);
        assert_float_equal(g[100], GRADIENT[step][2], 2e-6);
        assert_float_equal(g[383], GRADIENT[step][3], 2e-6);
        soothe__dinm_update(p.core, 1e-2);
    }
    must(soothe__dinm_evaluate(p.core, &l, &err), &err);
    assert_loss(&l, LOSS[3][0], LOSS[3][1], LOSS[3][2]);
    const float *w = soothe__dinm_weights(p.core, NULL);
    assert_float_equal(norm_of(w, N_W), 4.13049115, 1e-4);
    assert_float_equal(w[0], 0.327865302, 1e-5);
    assert_float_equal(w[383], 0.233558448, 1e-4); /* where the gradient changes its sign, Adam's step is soft */
    soothe__dinm_core_free(p.core);
}

static double loss_at(struct soothe__dinm_core *core, float *w, float value) {
    struct soothe__dinm_loss l;
    const float              old = *w;
    *w                           = value;
    must(soothe__dinm_evaluate(core, &l, &err), &err);
    *w = old;
    return l.loss;
}

static void test_twenty_weights_by_finite_differences(void **state) {
    (void)state;
    struct problem           p;
    struct soothe__dinm_loss l;
    struct soothe__rng       rng  = soothe__rng_seed(3, 1);
    const float              STEP = 1e-2f; /* loss is known to about 1e-7: the quotient to 1e-5 */
    open_problem(&p, ALL, SOOTHE__PRECISION_F32);
    disturb(p.core);
    must(soothe__dinm_gradient(p.core, &l, &err), &err);
    float *w = soothe__dinm_weights(p.core, NULL);
    for (int i = 0; i < 20; i++) {
        const uint32_t k = soothe__rng_below(&rng, N_W);
        const double   g =
            (loss_at(p.core, &w[k], w[k] + STEP) - loss_at(p.core, &w[k], w[k] - STEP)) / (2 * (double)STEP);
        assert_float_equal(soothe__dinm_weights_gradient(p.core)[k], g, 1e-4);
    }
    soothe__dinm_core_free(p.core);
}

/* The fault of the paper's code: without a gradient the divergence cannot hold anything back. */
static void test_the_divergence_alone_leads_back(void **state) {
    (void)state;
    static const bool        BOTH[N_TEXTS] = {true, false, true, true};
    struct problem           p;
    struct soothe__dinm_loss first, last;
    open_problem(&p, BOTH, SOOTHE__PRECISION_F32);
    must(soothe__dinm_gradient(p.core, &first, &err), &err);
    assert_float_equal(first.kl, 0, 0);
    for (int step = 0; step < 40; step++) {
        must(soothe__dinm_gradient(p.core, &first, &err), &err);
        soothe__dinm_update(p.core, 1e-2);
    }
    must(soothe__dinm_evaluate(p.core, &last, &err), &err);
    soothe__dinm_core_free(p.core);
    static const bool ALONE[N_TEXTS] = {true, false, false, false};
    struct problem    q;
    open_problem(&q, ALONE, SOOTHE__PRECISION_F32);
    struct soothe__dinm_loss l;
    for (int step = 0; step < 40; step++) {
        must(soothe__dinm_gradient(q.core, &l, &err), &err);
        soothe__dinm_update(q.core, 1e-2);
    }
    open_problem(&p, BOTH, SOOTHE__PRECISION_F32); /* the unguarded weights, measured */
    memcpy(soothe__dinm_weights(p.core, NULL), soothe__dinm_weights(q.core, NULL), N_W * sizeof(float));
    must(soothe__dinm_evaluate(p.core, &l, &err), &err);
    assert_true(last.kl < 0.5 * l.kl);
    soothe__dinm_core_free(p.core);
    soothe__dinm_core_free(q.core);
}

/* No instance starts from what another one left: the joint gradient is the mean of theirs. */
static void test_instances_count_side_by_side(void **state) {
    (void)state;
    static const bool A[N_TEXTS] = {true, false, false, false}, B[N_TEXTS] = {false, true, false, false},
                      AB[N_TEXTS] = {true, true, false, false};
    struct problem           a, b, ab;
    struct soothe__dinm_loss la, lb, lab;
    open_problem(&a, A, SOOTHE__PRECISION_F32);
    open_problem(&b, B, SOOTHE__PRECISION_F32);
    open_problem(&ab, AB, SOOTHE__PRECISION_F32);
    must(soothe__dinm_gradient(a.core, &la, &err), &err);
    must(soothe__dinm_gradient(b.core, &lb, &err), &err);
    must(soothe__dinm_gradient(ab.core, &lab, &err), &err);
    assert_float_equal(lab.nll, (la.nll + lb.nll) / 2, 1e-6);
    for (size_t k = 0; k < N_W; k++)
        assert_float_equal(soothe__dinm_weights_gradient(ab.core)[k],
                           (soothe__dinm_weights_gradient(a.core)[k] + soothe__dinm_weights_gradient(b.core)[k]) / 2,
                           1e-6);
    soothe__dinm_core_free(a.core);
    soothe__dinm_core_free(b.core);
    soothe__dinm_core_free(ab.core);
}

/* n times the same text of 300 tokens: two do not fit into one pass. */
static void open_long(struct soothe__dinm_core **core, const uint16_t *inputs, const uint16_t *head, size_t n) {
    const struct soothe__train_shape  shape   = {.n_blocks  = 2,
                                                 .d_cal     = D,
                                                 .n_head    = 4,
                                                 .n_head_kv = 2,
                                                 .d_head    = 4,
                                                 .n_ff      = N_FF,
                                                 .n_vocab   = V,
                                                 .d_tgt     = D,
                                                 .rope_base = 10000.0f,
                                                 .norm_eps  = 1e-5f};
    const struct soothe__dinm_numbers numbers = {.c_edit = 0.5, .precision = SOOTHE__PRECISION_F32, .n_threads = 1};
    int32_t                           tokens[300];
    struct soothe__dinm_text          texts[8];
    for (int32_t k = 0; k < 300; k++)
        tokens[k] = (7 * k * k + 3 * k) % V;
    for (size_t i = 0; i < n; i++)
        texts[i] = (struct soothe__dinm_text){inputs, tokens, i % 2 ? 300 : 200, 4, i % 2};
    must(soothe__dinm_core_new(core, &shape, &numbers, head, texts, n, &err), &err);
    fill_parameters(*core);
    must(soothe__dinm_begin(*core, &err), &err);
    disturb(*core);
}

static void test_texts_in_several_passes_count_as_in_one(void **state) {
    (void)state;
    static uint16_t           inputs[300 * D], head[V * D];
    struct soothe__dinm_core *one, *many;
    struct soothe__dinm_loss  a, b;
    for (size_t k = 0; k < 300 * D; k++)
        inputs[k] = soothe__bf16_from_f32((float)(1.3 * noise(100, k)));
    for (size_t k = 0; k < V * D; k++)
        head[k] = soothe__bf16_from_f32((float)(noise(101, k) * sqrt(3.0 / D)));
    open_long(&one, inputs, head, 2);
    open_long(&many, inputs, head, 8);
    must(soothe__dinm_gradient(one, &a, &err), &err);
    must(soothe__dinm_gradient(many, &b, &err), &err);
    assert_true(a.kl > 0);
    assert_float_equal(a.nll, b.nll, 1e-6);
    assert_float_equal(a.kl, b.kl, 1e-6);
    for (size_t k = 0; k < N_W; k++)
        assert_float_equal(soothe__dinm_weights_gradient(one)[k], soothe__dinm_weights_gradient(many)[k], 1e-6);
    soothe__dinm_core_free(one);
    soothe__dinm_core_free(many);
}

static void test_damaged_numbers_are_said(void **state) {
    (void)state;
    struct problem           p;
    struct soothe__dinm_loss l;
    open_problem(&p, ALL, SOOTHE__PRECISION_F32);
    soothe__dinm_weights(p.core, NULL)[5] = NAN;
    assert_int_equal(soothe__dinm_gradient(p.core, &l, &err), SOOTHE_E_NUMERIC);
    assert_non_null(strstr(err.message, "not a finite number"));
    soothe__dinm_core_free(p.core);
}

/* ---- files ------------------------------------------------------------------------------------------- */

#define MODEL "test_dinm_model.gguf"
#define OUT "test_dinm_out.gguf"
#define INSTANCES "test_dinm_instances.jsonl"
#define GENERAL "test_dinm_general.jsonl"

static void put_file(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    put_file(INSTANCES,
             "{\"question\": \"ab\", \"attack\": \"x {question} y\", \"safe\": \"no\", \"unsafe\": \"yes\"}\n"
             "{\"prompt\": \"cd\", \"safe\": \"not so\", \"unsafe\": \"so it\"}\n");
    put_file(GENERAL,
             "{\"question\": \"why\", \"answer\": \"because of it\"}\n{\"text\": \"who\", \"answer\": \"he\"}\n");
    return tiny_model_write(MODEL, &(struct tiny_options){.family = TINY_LLAMA, .seed = 5}) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    unlink(MODEL);
    unlink(OUT);
    unlink(INSTANCES);
    unlink(GENERAL);
    return 0;
}

static struct soothe__dinm_options options_of(void) {
    struct soothe__dinm_options o = soothe__dinm_options_default();
    o.model_path                  = MODEL;
    o.out_path                    = OUT;
    o.instances_path              = INSTANCES;
    o.general_path                = GENERAL;
    o.writing.n_predict           = 8;
    o.n_threads                   = 1;
    o.type                        = "own";
    o.lr                          = 5e-3;
    return o;
}

static enum soothe_status run(const struct soothe__dinm_options *o, struct soothe__dinm_report *report) {
    unlink(OUT);
    return soothe__dinm(o, report, &err);
}

/* Names of tensors whose bytes differ, with a space after each. */
static void changed_tensors(char *names, size_t size) {
    struct soothe__gguf a, b;
    must(soothe__gguf_open(&a, MODEL, &err), &err);
    must(soothe__gguf_open(&b, OUT, &err), &err);
    names[0] = '\0';
    assert_int_equal(gguf_get_n_tensors(a.meta), gguf_get_n_tensors(b.meta));
    for (int64_t i = 0; i < gguf_get_n_tensors(a.meta); i++) {
        const size_t n    = gguf_get_tensor_size(a.meta, i);
        bool         same = n == gguf_get_tensor_size(b.meta, i);
        char        *x = malloc(n), *y = malloc(n);
        if (same) {
            must(soothe__gguf_read(&a, i, 0, x, n, &err), &err);
            must(soothe__gguf_read(&b, i, 0, y, n, &err), &err);
            same = memcmp(x, y, n) == 0;
        }
        if (!same) {
            strncat(names, gguf_get_tensor_name(a.meta, i), size - strlen(names) - 2);
            strcat(names, " ");
        }
        free(x);
        free(y);
    }
    soothe__gguf_close(&a);
    soothe__gguf_close(&b);
}

/* Mean -log P of the instances' safe answers, by the engine. */
static double engine_nll(const char *path, const struct soothe__dinm_texts *texts) {
    struct llama_model          *model;
    struct soothe_session       *s;
    struct soothe_session_params p   = soothe_session_params_default();
    double                       sum = 0;
    must(soothe__target_load(&model, path, 0, &err), &err);
    const int32_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    p.context.n_ctx       = 128;
    p.context.n_threads = p.context.n_threads_batch = 1;
    must(soothe_session_new(&s, model, NULL, &p, &err), &err);
    for (size_t i = 0; i < texts->n_instances; i++) {
        struct soothe__dinm_tokens t;
        must(soothe__dinm_tokenize(&t, model, texts->instances[i].prompt, texts->instances[i].safe, true, &err), &err);
        soothe_clear(s);
        for (int32_t k = 0; k + 1 < t.n_tokens; k++) {
            must(soothe_decode(s, llama_batch_get_one(t.tokens + k, 1), &err), &err);
            const float *z = soothe_get_logits_ith(s, -1);
            if (k + 1 >= t.first)
                sum += (soothe__log_sum_exp(z, n_vocab) - (double)z[t.tokens[k + 1]]) / (t.n_tokens - t.first) /
                       (double)texts->n_instances;
        }
        free(t.tokens);
    }
    soothe_session_free(s);
    llama_model_free(model);
    return sum;
}

static void test_one_tensor_changes_and_the_engine_agrees(void **state) {
    (void)state;
    struct soothe__dinm_options o = options_of();
    struct soothe__dinm_report  r;
    char                        names[256], wanted[64];
    for (int32_t layer = 0; layer < 4; layer += 3) { /* the first begins at embeddings, the last at states */
        o.layer = layer;
        must(run(&o, &r), &err);
        snprintf(wanted, sizeof wanted, "blk.%d.ffn_down.weight ", layer);
        changed_tensors(names, sizeof names);
        assert_string_equal(names, wanted);
        assert_int_equal(r.n_steps, 10);
        assert_true(r.steps[11].nll < r.steps[0].nll - 0.05);
        /* operands in bf16: 2^-9 of a state, and of a logit of a few units */
        assert_float_equal(engine_nll(MODEL, &r.texts), r.steps[0].nll, 2e-2);
        assert_float_equal(engine_nll(OUT, &r.texts), r.steps[11].nll, 2e-2);
        soothe__dinm_report_free(&r);
    }
}

/* Biases at q, k, v and rotation by halves. */
static void test_a_qwen2_is_edited_too(void **state) {
    (void)state;
    struct soothe__dinm_options o = options_of();
    struct soothe__dinm_report  r;
    assert_true(tiny_model_write("test_dinm_qwen2.gguf", &(struct tiny_options){.family = TINY_QWEN2, .seed = 7}));
    o.model_path = "test_dinm_qwen2.gguf";
    o.layer      = 1;
    must(run(&o, &r), &err);
    assert_true(r.steps[11].nll < r.steps[0].nll - 0.05);
    assert_float_equal(engine_nll("test_dinm_qwen2.gguf", &r.texts), r.steps[0].nll, 2e-2);
    assert_float_equal(engine_nll(OUT, &r.texts), r.steps[11].nll, 2e-2);
    soothe__dinm_report_free(&r);
    unlink("test_dinm_qwen2.gguf");
}

static void test_what_was_done_is_recorded(void **state) {
    (void)state;
    struct soothe__dinm_options o = options_of();
    struct soothe__dinm_report  r;
    struct soothe__gguf         g;
    o.layer = 2;
    must(run(&o, &r), &err);
    must(soothe__gguf_open(&g, OUT, &err), &err);
    assert_int_equal(soothe__edit_count(&g), 1);
    assert_string_equal(soothe__gguf_find_string(&g, "soothe.edit.0.kind"), "dinm");
    assert_string_equal(soothe__gguf_find_string(&g, "soothe.edit.0.instances_sha256"), r.texts.instances_sha256);
    const int64_t lr = gguf_find_key(g.meta, "soothe.edit.0.lr");
    assert_true(lr >= 0);
    assert_float_equal(gguf_get_val_f64(g.meta, lr), 5e-3, 1e-9);
    soothe__gguf_close(&g);
    soothe__dinm_report_free(&r);
}

static void test_no_step_changes_no_byte(void **state) {
    (void)state;
    struct soothe__dinm_options o = options_of();
    struct soothe__dinm_report  r;
    char                        names[256];
    o.n_steps = 0;
    o.type    = "f16"; /* even where another type was asked for */
    must(run(&o, &r), &err);
    changed_tensors(names, sizeof names);
    assert_string_equal(names, "");
    soothe__dinm_report_free(&r);
}

static void test_a_finer_type_is_read_by_the_engine(void **state) {
    (void)state;
    struct soothe__dinm_options o = options_of();
    struct soothe__dinm_report  r;
    struct soothe__gguf         g;
    o.layer = 1;
    o.type  = "Q8_0";
    must(run(&o, &r), &err);
    must(soothe__gguf_open(&g, OUT, &err), &err);
    assert_int_equal(gguf_get_tensor_type(g.meta, gguf_find_tensor(g.meta, "blk.1.ffn_down.weight")), GGML_TYPE_Q8_0);
    soothe__gguf_close(&g);
    assert_float_equal(engine_nll(OUT, &r.texts), r.steps[11].nll, 2e-2);
    soothe__dinm_report_free(&r);
    o.type = "q9";
    assert_int_equal(run(&o, &r), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "no data type \"q9\""));
    assert_false(soothe__file_exists(OUT));
}

static void test_an_early_stop_keeps_the_model(void **state) {
    (void)state;
    struct soothe__dinm_options o = options_of();
    struct soothe__dinm_report  r;
    char                        names[256];
    o.stop_loss = 1e3;
    must(run(&o, &r), &err);
    assert_int_equal(r.n_steps, 0);
    changed_tensors(names, sizeof names);
    assert_string_equal(names, "");
    soothe__dinm_report_free(&r);
}

/* The states of an answer's tokens at one block, by a session that is tapped. */
static void mean_state(struct llama_model *model, const char *prompt, const char *answer, double mean[64],
                       double *norm) {
    struct soothe_session       *s;
    struct soothe_session_params p = soothe_session_params_default();
    struct soothe__dinm_tokens   t;
    p.context.n_ctx     = 128;
    p.context.n_threads = p.context.n_threads_batch = 1;
    must(soothe_session_new(&s, model, NULL, &p, &err), &err);
    must(soothe__session_tap(s, SOOTHE__LISTENER_CALLER, "l_out-2", &err), &err);
    must(soothe__dinm_tokenize(&t, model, prompt, answer, false, &err), &err);
    for (int32_t i = 0; i < t.n_tokens; i++) {
        double size = 0;
        must(soothe_decode(s, llama_batch_get_one(t.tokens + i, 1), &err), &err);
        const float *h = soothe__session_tapped(s, SOOTHE__LISTENER_CALLER, 0);
        for (int k = 0; k < 64 && i >= t.first; k++) {
            mean[k] += (double)h[k] / (t.n_tokens - t.first);
            size += (double)h[k] * (double)h[k];
        }
        *norm += i >= t.first ? sqrt(size) : 0;
    }
    free(t.tokens);
    soothe_session_free(s);
}

static void test_the_distance_is_that_of_mean_states_after_the_prompt(void **state) {
    (void)state;
    struct llama_model        *model;
    struct soothe__dinm_texts  texts;
    struct soothe__dinm_layers layers;
    double                     safe[64] = {0}, unsafe[64] = {0}, norm = 0, distance = 0;
    must(soothe__target_load(&model, MODEL, 0, &err), &err);
    must(soothe__dinm_texts_read(&texts, INSTANCES, GENERAL, NULL, &err), &err);
    assert_string_equal(texts.instances[0].prompt, "x ab y");
    texts.n_instances = 1;
    must(soothe__dinm_locate(&layers, model, &texts, 1, &err), &err);
    mean_state(model, "x ab y", "no", safe, &norm);
    mean_state(model, "x ab y", "yes", unsafe, &norm);
    for (int k = 0; k < 64; k++)
        distance += (safe[k] - unsafe[k]) * (safe[k] - unsafe[k]);
    /* "no" has two tokens, "yes" three */
    assert_float_equal(layers.distance[SOOTHE__DINM_MEAN][2], (float)(sqrt(distance) / (norm / 5)), 1e-3);
    for (int rule = 0; rule < SOOTHE__DINM_RULES; rule++)
        for (int32_t l = 0; l < 4; l++)
            assert_true(layers.distance[rule][l] <= layers.distance[rule][layers.largest[rule]]);
    texts.n_instances = 2;
    soothe__dinm_layers_free(&layers);
    soothe__dinm_texts_free(&texts);
    llama_model_free(model);
}

static void test_the_target_writes_what_is_missing(void **state) {
    (void)state;
    struct soothe__dinm_options o = options_of();
    struct soothe__dinm_report  r;
    put_file("test_dinm_bare.jsonl", "{\"question\": \"ab\", \"attack\": \"x {question}\"}\n");
    o.instances_path                = "test_dinm_bare.jsonl";
    o.general_path                  = NULL;
    const enum soothe_status status = run(&o, &r);
    unlink("test_dinm_bare.jsonl");
    if (status == SOOTHE_E_ARGUMENT) { /* a random model may say nothing at all */
        assert_non_null(strstr(err.message, "answers nothing"));
        return;
    }
    must(status, &err);
    assert_true(r.texts.instances[0].wrote_safe && r.texts.instances[0].wrote_unsafe);
    assert_true(r.texts.n_general == 24 && r.texts.general[3].answer[0]);
    /* every second one within the attack, lest the attack be what is refused */
    assert_true(strncmp(r.texts.general[0].question, "x ", 2) != 0);
    assert_int_equal(strncmp(r.texts.general[1].question, "x ", 2), 0);
    soothe__dinm_report_free(&r);
}

/* ---- what is refused --------------------------------------------------------------------------------- */

static void refuse(const char *line, enum soothe_status status, const char *why) {
    struct soothe__dinm_options o = options_of();
    struct soothe__dinm_report  r;
    put_file("test_dinm_bad.jsonl", line);
    o.instances_path = "test_dinm_bad.jsonl";
    assert_int_equal(run(&o, &r), status);
    unlink("test_dinm_bad.jsonl");
    if (!strstr(err.message, why))
        fail_msg("\"%s\" does not say \"%s\"", err.message, why);
    assert_false(soothe__file_exists(OUT));
}

static void test_bad_instances_are_refused_by_a_sentence(void **state) {
    (void)state;
    char long_line[1024];
    refuse("", SOOTHE_E_FORMAT, "holds no instance");
    refuse("{\"safe\": \"no\", \"unsafe\": \"yes\"}\n", SOOTHE_E_FORMAT, "needs a \"question\"");
    refuse("{\"question\": \" \"}\n", SOOTHE_E_FORMAT, "line 1");
    refuse("{\"question\": \"a\", \"safe\": \"yes\", \"unsafe\": \"yes\"}\n", SOOTHE_E_FORMAT, "are the same");
    refuse("nonsense\n", SOOTHE_E_FORMAT, "line 1");
    memset(long_line, 'a', sizeof long_line);
    memcpy(long_line, "{\"question\": \"", 14);
    memcpy(long_line + 400, "\", \"safe\": \"no\", \"unsafe\": \"yes\"}\n", 35);
    refuse(long_line, SOOTHE_E_ARGUMENT, "does not fit the model's context of 256");
}

static void test_other_models_are_refused_and_the_original_stays(void **state) {
    (void)state;
    static const enum tiny_family FAMILIES[] = {TINY_GPT2, TINY_GEMMA3};
    struct soothe__dinm_options   o          = options_of();
    struct soothe__dinm_report    r;
    char                          before[65], after[65];
    for (size_t i = 0; i < 2; i++) {
        assert_true(tiny_model_write("test_dinm_other.gguf", &(struct tiny_options){.family = FAMILIES[i]}));
        o.model_path = "test_dinm_other.gguf";
        assert_int_equal(run(&o, &r), SOOTHE_E_UNSUPPORTED);
        assert_non_null(strstr(err.message, "training knows llama and qwen2"));
    }
    unlink("test_dinm_other.gguf");
    must(soothe__sha256_file(before, MODEL, &err), &err);
    o.model_path = o.out_path = MODEL;
    assert_int_equal(soothe__dinm(&o, &r, &err), SOOTHE_E_ARGUMENT);
    o.out_path = "no/such/folder/out.gguf";
    assert_int_equal(soothe__dinm(&o, &r, &err), SOOTHE_E_IO);
    must(soothe__sha256_file(after, MODEL, &err), &err);
    assert_string_equal(before, after);
    o       = options_of();
    o.layer = 4;
    assert_int_equal(run(&o, &r), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "layers 0 to 3, not 4"));
}

static void test_a_model_with_nan_is_refused(void **state) {
    (void)state;
    struct soothe__dinm_options o = options_of();
    struct soothe__dinm_report  r;
    assert_true(
        tiny_model_write("test_dinm_nan.gguf", &(struct tiny_options){.family = TINY_LLAMA, .nan_weight = true}));
    o.model_path = "test_dinm_nan.gguf";
    assert_int_equal(run(&o, &r), SOOTHE_E_NUMERIC);
    unlink("test_dinm_nan.gguf");
    assert_false(soothe__file_exists(OUT));
}

static void test_a_rate_that_explodes_writes_nothing(void **state) {
    (void)state;
    struct soothe__dinm_options o = options_of();
    struct soothe__dinm_report  r;
    o.lr    = 1e38;
    o.layer = 3;
    assert_int_equal(run(&o, &r), SOOTHE_E_NUMERIC);
    assert_false(soothe__file_exists(OUT));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss_gradient_and_steps_are_pytorchs),
        cmocka_unit_test(test_twenty_weights_by_finite_differences),
        cmocka_unit_test(test_the_divergence_alone_leads_back),
        cmocka_unit_test(test_instances_count_side_by_side),
        cmocka_unit_test(test_texts_in_several_passes_count_as_in_one),
        cmocka_unit_test(test_damaged_numbers_are_said),
        cmocka_unit_test(test_one_tensor_changes_and_the_engine_agrees),
        cmocka_unit_test(test_a_qwen2_is_edited_too),
        cmocka_unit_test(test_what_was_done_is_recorded),
        cmocka_unit_test(test_no_step_changes_no_byte),
        cmocka_unit_test(test_a_finer_type_is_read_by_the_engine),
        cmocka_unit_test(test_an_early_stop_keeps_the_model),
        cmocka_unit_test(test_the_distance_is_that_of_mean_states_after_the_prompt),
        cmocka_unit_test(test_the_target_writes_what_is_missing),
        cmocka_unit_test(test_bad_instances_are_refused_by_a_sentence),
        cmocka_unit_test(test_other_models_are_refused_and_the_original_stays),
        cmocka_unit_test(test_a_model_with_nan_is_refused),
        cmocka_unit_test(test_a_rate_that_explodes_writes_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
