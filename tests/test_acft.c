/* SPDX-License-Identifier: Apache-2.0
 * ACFT's soft labels: against the formula in double, against Bellman's equation, and through training to a model. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/text_tokens.h"
#include "test_support.h"
#include "tiny_model.h"
#include "train/schedule.h"
#include "train/soft_labels.h"
#include "train/train_run.h"

#define TARGET "acft_target.gguf"
#define OUT "acft_out.gguf"
#define OUT2 "acft_out2.gguf"
#define USEFUL "acft_useful.jsonl"
#define KL "acft_kl.jsonl"

static const char *const FILES[] = {TARGET, OUT, OUT2, OUT ".checkpoint", USEFUL, KL};

static int tear_down(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++)
        unlink(FILES[i]);
    return 0;
}

/* ---- the formula --------------------------------------------------------------------------------------------------
 */

enum { V = 211, D = 37 };

struct line { /* u = scale h, o */
    float scale, offset;
};

static float state_of_line(const void *user, const float *h, float *u) {
    const struct line *l = user;
    for (int i = 0; i < D; i++)
        u[i] = l->scale * h[i];
    return l->offset;
}

static void random_numbers(float *x, size_t n, double scale, uint64_t seed) {
    struct soothe__rng rng = soothe__rng_seed(seed, 3);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(scale * soothe__rng_normal(&rng));
}

static uint16_t head[V * D];
static float    h[D], z[V], p_logits[V];

static void make_numbers(void) {
    static float numbers[V * D];
    random_numbers(numbers, V * D, .3, 1);
    for (int i = 0; i < V * D; i++)
        head[i] = soothe__bf16_from_f32(numbers[i]);
    random_numbers(h, D, 1, 2);
    random_numbers(p_logits, V, 2, 3);
}

static double log_sum(const double *x, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += exp(x[i]);
    return log(sum);
}

/* log q(v) = log p(v) + strength log R(v) - log sum_w p(w) R(w)^strength, in double. At strength 1 that norm is R of
 * the prefix by Bellman's equation, so that q = p(x) R(x, prefix) / R(prefix). */
static void test_labels_are_p_times_r_over_r(void **state) {
    (void)state;
    const struct line lines[]  = {{1, -.4f}, {-8, 3}, {30, -20}, {0, -100}};
    const float       powers[] = {1, 4, .25f};
    make_numbers();
    for (int l = 0; l < 4; l++)
        for (int s = 0; s < 3; s++) {
            const struct soothe__soft_labels soft = {state_of_line, &lines[l], powers[s], "line"};
            double                           p[V], q[V], wanted[V], success = 0;
            float                            u[D];
            memcpy(z, p_logits, sizeof z);
            soothe__soften(&soft, head, h, u, V, D, z);
            for (int v = 0; v < V; v++)
                p[v] = (double)p_logits[v];
            const double norm_p = log_sum(p, V);
            for (int v = 0; v < V; v++) {
                double g = (double)lines[l].offset;
                for (int i = 0; i < D; i++)
                    g += (double)soothe__f32_from_bf16(head[v * D + i]) * (double)lines[l].scale * (double)h[i];
                const double log_r = g > 0 ? -log1p(exp(-g)) : g - log1p(exp(g));
                wanted[v]          = p[v] - norm_p + (double)powers[s] * log_r;
                success += exp(wanted[v]);
                q[v] = (double)z[v];
            }
            const double norm = log_sum(q, V);
            for (int v = 0; v < V; v++)
                if (fabs(q[v] - norm - (wanted[v] - log(success))) > 2e-4)
                    fail_msg("line %d, power %g, token %d: %g, not %g", l, (double)powers[s], v, q[v] - norm,
                             wanted[v] - log(success));
        }
}

static void test_power_0_is_the_model_bit_for_bit(void **state) {
    (void)state;
    const struct line                line = {1, -.4f};
    const struct soothe__soft_labels soft = {state_of_line, &line, 0, "line"};
    float                            u[D];
    make_numbers();
    memcpy(z, p_logits, sizeof z);
    soothe__soften(&soft, head, h, u, V, D, z);
    assert_memory_equal(z, p_logits, sizeof z);
}

/* ---- which texts a step takes ---------------------------------------------------------------------------------------
 */

static void test_texts_of_weight_0_are_for_kl_alone(void **state) {
    (void)state;
    struct soothe_error     err;
    struct soothe__corpus   c;
    struct soothe__schedule s;
    soothe__corpus_init(&c);
    for (int i = 0; i < 12; i++) {
        char text[16];
        snprintf(text, sizeof text, "t%d", i);
        must(soothe__corpus_add_single(&c, "", text, &err), &err);
        c.texts[c.singles[i]].weight = i % 3 ? 0 : 2;
    }
    must(soothe__schedule_init(&s, &c, 0, 5, 1, &err), &err);
    must(soothe__schedule_part(&s, 3, 1, &err), &err);
    int times[12] = {0};
    for (int64_t step = 0; step < 16; step++) {
        uint32_t pairs[1], texts[5];
        soothe__schedule_step(&s, step, pairs, texts);
        for (int k = 0; k < 5; k++) {
            assert_int_equal(c.texts[texts[k]].weight > 0, k < 2);
            times[texts[k]]++;
        }
    }
    for (int i = 0; i < 12; i++)
        assert_int_equal(times[i], i % 3 ? 6 : 8); /* 48 turns of 8 texts, 32 of 4 */
    soothe__schedule_free(&s);
    for (int i = 0; i < 12; i++)
        c.texts[c.singles[i]].weight = 1;
    must(soothe__schedule_init(&s, &c, 0, 5, 1, &err), &err);
    assert_int_equal(soothe__schedule_part(&s, 3, 1, &err), SOOTHE_E_ARGUMENT);
    soothe__schedule_free(&s);
    soothe__corpus_free(&c);
}

/* ---- to a model
 * ------------------------------------------------------------------------------------------------------ */

static const char PROMPT[] = "p1 a1";

/* log p of every token behind a text, by the engine. */
static float *log_probs(const char *path, int32_t *n, const char *text) {
    struct llama_model *model = llama_model_load_from_file(path, llama_model_default_params());
    assert_non_null(model);
    struct llama_context_params params = llama_context_default_params();
    struct soothe_error         err;
    llama_token                *tokens;
    int32_t                     n_tokens, first;
    params.n_ctx              = 64;
    params.n_threads          = 1;
    struct llama_context *ctx = llama_init_from_model(model, params);
    assert_non_null(ctx);
    must(soothe__tokenize_pair(&tokens, &n_tokens, &first, llama_model_get_vocab(model), "", 0, text, strlen(text),
                               &err),
         &err);
    assert_int_equal(llama_decode(ctx, llama_batch_get_one(tokens, n_tokens)), 0);
    *n         = llama_vocab_n_tokens(llama_model_get_vocab(model));
    float *out = soothe__calloc((size_t)*n, sizeof *out);
    double sum = 0;
    assert_non_null(out);
    memcpy(out, llama_get_logits_ith(ctx, -1), (size_t)*n * sizeof *out);
    for (int32_t v = 0; v < *n; v++)
        sum += exp((double)out[v]);
    for (int32_t v = 0; v < *n; v++)
        out[v] -= (float)log(sum);
    free(tokens);
    llama_free(ctx);
    llama_model_free(model);
    return out;
}

struct wish { /* u = that of a token's own row: it and its like succeed, the others do not */
    const float *row;
    int32_t      d;
    float        scale;
};

static float state_of_wish(const void *user, const float *state, float *u) {
    const struct wish *w = user;
    (void)state;
    for (int32_t i = 0; i < w->d; i++)
        u[i] = w->scale * w->row[i];
    return 0;
}

static struct soothe__train_request request(const struct wish *wish) {
    static const char *const     data[] = {USEFUL, KL};
    struct soothe__train_request r      = soothe__train_request_default();
    r.whole.on                          = true;
    r.whole.name                        = "acft";
    r.whole.rank                        = 8;
    r.whole.n_kl                        = 4;
    r.whole.kl_apart                    = true;
    r.whole.soft                        = (struct soothe__soft_labels){state_of_wish, wish, 1, "wish"};
    r.objective                         = SOOTHE__WEIGHTED;
    r.model_path                        = TARGET;
    r.out_path                          = OUT;
    r.data_paths                        = data;
    r.n_data                            = 2;
    r.heldout_share                     = .1;
    r.n_steps                           = 60;
    r.n_texts                           = 4;
    r.lr_blocks                         = 1e-2;
    r.lambda                            = 20;
    r.precision                         = SOOTHE__PRECISION_F32;
    return r;
}

static void write_texts(void) {
    FILE *f = fopen(USEFUL, "w");
    assert_non_null(f);
    for (int i = 0; i < 24; i++)
        fprintf(f, "{\"text\": \"some text number %d of many\"}\n", i);
    assert_int_equal(fclose(f), 0);
    f = fopen(KL, "w");
    assert_non_null(f);
    for (int i = 0; i < 24; i++)
        fprintf(f, "{\"prompt\": \"p%d\", \"completion\": \" a%dbb cc\", \"weight\": 0}\n", i, i);
    assert_int_equal(fclose(f), 0);
}

/* A head that thinks one token's direction clean makes that token likelier and leaves what is useful to be learnt; the
 * model comes nearer to q than it was. Without labels of another kind the KL holds it at p. */
static void test_the_model_comes_nearer_to_its_constrained_self(void **state) {
    (void)state;
    enum { TOKEN = 70 };
    struct soothe_error         err;
    struct soothe__train_report report;
    struct soothe__gguf         g;
    float                      *embedding;
    int32_t                     n = 0;
    assert_true(tiny_model_write(TARGET, &(struct tiny_options){.family = TINY_LLAMA, .seed = 3}));
    write_texts();
    must(soothe__gguf_open(&g, TARGET, &err), &err);
    const char *name   = gguf_find_tensor(g.meta, "output.weight") >= 0 ? "output.weight" : "token_embd.weight";
    float      *before = log_probs(TARGET, &n, PROMPT);
    must(soothe__gguf_get_f32(&g, name, (int64_t)n * 64, &embedding, &err), &err);
    soothe__gguf_close(&g);
    double square = 0;
    for (int i = 0; i < 64; i++)
        square += pow((double)embedding[TOKEN * 64 + i], 2);
    const struct wish            wish = {embedding + TOKEN * 64, 64, (float)(8 / square)};
    struct soothe__train_request r    = request(&wish);
    must(soothe__train(&r, &report, &err), &err);
    assert_true(report.nll < report.nll_before); /* utility stays in the loss */
    float *after = log_probs(OUT, &n, PROMPT);
    double kl[2] = {0}, norm = 0;
    for (int32_t v = 0; v < n; v++) {
        double s = 0;
        for (int i = 0; i < 64; i++)
            s += (double)wish.scale * (double)wish.row[i] * (double)embedding[(size_t)v * 64 + (size_t)i];
        norm += exp((double)before[v]) / (1 + exp(-s));
    }
    for (int32_t v = 0; v < n; v++) {
        double s = 0;
        for (int i = 0; i < 64; i++)
            s += (double)wish.scale * (double)wish.row[i] * (double)embedding[(size_t)v * 64 + (size_t)i];
        const double log_q = (double)before[v] - log1p(exp(-s)) - log(norm);
        kl[0] += exp(log_q) * (log_q - (double)before[v]);
        kl[1] += exp(log_q) * (log_q - (double)after[v]);
    }
    if (!(kl[1] < .7 * kl[0]))
        fail_msg("KL to the constrained distribution was %g and is %g", kl[0], kl[1]);
    assert_true(after[TOKEN] > before[TOKEN] + .2f);
    /* with p itself for a label it is held where it was */
    r.whole.soft.strength = 0;
    r.out_path            = OUT2;
    must(soothe__train(&r, &report, &err), &err);
    float *held = log_probs(OUT2, &n, PROMPT);
    assert_true(held[TOKEN] < after[TOKEN] - .1f);
    free(before);
    free(after);
    free(held);
    free(embedding);
}

int main(void) {
    llama_log_set(quiet, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels_are_p_times_r_over_r),
        cmocka_unit_test(test_power_0_is_the_model_bit_for_bit),
        cmocka_unit_test(test_texts_of_weight_0_are_for_kl_alone),
        cmocka_unit_test(test_the_model_comes_nearer_to_its_constrained_self),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
