/* SPDX-License-Identifier: Apache-2.0
 * The parts of the training core: matrix products against their definition, row kernels and
 * attention against the same formulas in double precision, gradients against finite differences. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test_support.h"
#include "train/attention.h"
#include "train/gemm.h"
#include "train/kernels.h"

static const size_t LENGTHS[] = {1, 7, 16, 33, 576, 1000}; /* below, at and past the widths of vectors */
enum { N_LENGTHS = sizeof LENGTHS / sizeof *LENGTHS, LENGTH_MAX = 1000 };

static struct soothe__rng rng;

static float *random_values(size_t n, double scale) {
    float *x = soothe__calloc(n, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(scale * soothe__rng_normal(&rng));
    }
    return x;
}

/* absolute: in units that the caller knows */
static void assert_near(const char *what, size_t i, double x, double reference, double absolute) {
    if (!(fabs(x - reference) <= absolute)) {
        fail_msg("%s [%zu] is %.9g, should be %.9g", what, i, x, reference);
    }
}

static int set_up(void **state) {
    (void)state;
    rng = soothe__rng_seed(2025, 3);
    return 0;
}

/* Some processors multiply no bf16: then a sentence says so, and f32 is all that there is to test. */
static bool new_gemm(struct soothe__gemm **g, bool bf16) {
    struct soothe_error      err;
    const enum soothe_status status = soothe__gemm_new(g, bf16, &err);
    if (bf16 && status == SOOTHE_E_UNSUPPORTED) {
        assert_non_null(strstr(err.message, "bf16"));
        assert_null(*g);
        return false;
    }
    must(status, &err);
    return true;
}

/* ---- matrix products ---------------------------------------------------------------------------------- */

struct product {
    bool    bf16, a_transposed, b_transposed, accumulate;
    int64_t m, n, k;
};

struct operands {
    float      *a, *b, *c;         /* c: what is added to */
    uint16_t   *a_bf16, *b_bf16;   /* the same values: a and b hold what bf16 can hold */
    const void *a_given, *b_given; /* those of the product's type */
};

static uint16_t *round_to_bf16(float *x, size_t n) {
    uint16_t *rounded = soothe__calloc(n, sizeof *rounded);
    assert_non_null(rounded);
    soothe__to_bf16(rounded, x, n);
    soothe__from_bf16(x, rounded, n);
    return rounded;
}

static struct operands operands_new(const struct product *p) {
    struct operands o = {.a = random_values((size_t)(p->m * p->k), 1.0),
                         .b = random_values((size_t)(p->k * p->n), 1.0),
                         .c = random_values((size_t)(p->m * p->n), 1.0)};
    o.a_bf16          = round_to_bf16(o.a, (size_t)(p->m * p->k));
    o.b_bf16          = round_to_bf16(o.b, (size_t)(p->k * p->n));
    o.a_given         = p->bf16 ? (const void *)o.a_bf16 : o.a;
    o.b_given         = p->bf16 ? (const void *)o.b_bf16 : o.b;
    return o;
}

static void operands_free(struct operands *o) {
    free(o->a);
    free(o->b);
    free(o->c);
    free(o->a_bf16);
    free(o->b_bf16);
}

/* Products of bf16 are exact in F32, so for both types only the sum rounds: by less than a unit in
 * the last place of the sum of magnitudes a few times over. */
static void assert_product(const struct product *p, const struct operands *o, const float *result) {
    for (int64_t i = 0; i < p->m; i++) {
        for (int64_t j = 0; j < p->n; j++) {
            double sum = p->accumulate ? (double)o->c[i * p->n + j] : 0, magnitude = fabs(sum);
            for (int64_t l = 0; l < p->k; l++) {
                const double x = (double)o->a[p->a_transposed ? l * p->m + i : i * p->k + l] *
                                 (double)o->b[p->b_transposed ? j * p->k + l : l * p->n + j];
                sum += x;
                magnitude += fabs(x);
            }
            if (!(fabs((double)result[i * p->n + j] - sum) <= 1e-6 * magnitude)) {
                fail_msg("%s (%d,%d,%d)%s%s%s [%d,%d] is %.9g, should be %.9g", p->bf16 ? "bf16" : "f32", (int)p->m,
                         (int)p->n, (int)p->k, p->a_transposed ? " A^T" : "", p->b_transposed ? " B^T" : "",
                         p->accumulate ? " +=" : "", (int)i, (int)j, (double)result[i * p->n + j], sum);
            }
        }
    }
}

static void check_product(struct soothe__gemm *g, const struct product *p) {
    struct soothe_error err;
    struct operands     o    = operands_new(p);
    const size_t        size = (size_t)(p->m * p->n) * sizeof *o.c;
    float              *c    = soothe__calloc(size, 1);
    assert_non_null(c);
    memcpy(c, o.c, size);
    must(soothe__gemm_run(g, p->a_transposed, p->b_transposed, p->m, p->n, p->k, o.a_given, o.b_given, c, p->accumulate,
                          &err),
         &err);
    assert_product(p, &o, c);
    memcpy(c, o.c, size);
    soothe__gemm_reference(p->bf16, p->a_transposed, p->b_transposed, p->m, p->n, p->k, o.a_given, o.b_given, c,
                           p->accumulate);
    assert_product(p, &o, c);
    if (!p->accumulate && !p->a_transposed) {
        struct soothe__packed *packed;
        must(soothe__gemm_pack(&packed, g, p->b_transposed, p->m, p->n, p->k, o.b_given, &err), &err);
        for (int i = 0; i < 2; i++) { /* a packed matrix serves many times */
            memset(c, 0xff, size);
            must(soothe__gemm_run_packed(g, packed, o.a_given, c, &err), &err);
            assert_product(p, &o, c);
        }
        soothe__packed_free(packed);
    }
    free(c);
    operands_free(&o);
}

static void test_products_are_their_definition(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1}, {3, 5, 7}, {64, 40, 16}, {65, 33, 129}, {128, 64, 576}, {2, 200, 1}};
    for (int bf16 = 0; bf16 < 2; bf16++) {
        struct soothe__gemm *g;
        if (!new_gemm(&g, bf16))
            continue;
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            for (int flags = 0; flags < 8; flags++) {
                check_product(g, &(struct product){.bf16         = bf16,
                                                   .a_transposed = flags & 1,
                                                   .b_transposed = flags & 2,
                                                   .accumulate   = flags & 4,
                                                   .m            = shapes[i][0],
                                                   .n            = shapes[i][1],
                                                   .k            = shapes[i][2]});
            }
        }
        soothe__gemm_free(g);
    }
    soothe__gemm_free(NULL);
    soothe__packed_free(NULL);
}

/* More shapes than are kept at a time: those forgotten are made again. */
static void test_products_of_very_many_shapes(void **state) {
    (void)state;
    struct soothe_error  err;
    struct soothe__gemm *g;
    must(soothe__gemm_new(&g, false, &err), &err);
    for (int64_t i = 0; i < 600; i++) {
        check_product(g, &(struct product){.accumulate = true, .m = 1 + i % 30, .n = 1 + i / 30, .k = 3});
    }
    soothe__gemm_free(g);
}

/* A resumed run meets a text in another row of a batch than the run that was never stopped, and must go on with the
 * same bits. */
static void check_place(struct soothe__gemm *g, bool bf16) {
    enum { M = 128, K = 576, N = 3001 };
    static const int       PLACES[] = {1, 15, 16, 47, 63, 64, 100, 127};
    struct soothe_error    err;
    struct soothe__packed *packed;
    float                 *a = random_values((size_t)M * K, 1), *b = random_values((size_t)N * K, 1);
    float                 *c      = random_values((size_t)M * N, 1);
    uint16_t              *a_bf16 = soothe__calloc((size_t)M * K, sizeof *a_bf16);
    uint16_t              *b_bf16 = soothe__calloc((size_t)N * K, sizeof *b_bf16);
    assert_true(a_bf16 && b_bf16);
    for (size_t i = 0; i < sizeof PLACES / sizeof *PLACES; i++)
        memcpy(a + PLACES[i] * K, a, K * sizeof *a);
    soothe__to_bf16(a_bf16, a, (size_t)M * K);
    soothe__to_bf16(b_bf16, b, (size_t)N * K);
    must(soothe__gemm_pack(&packed, g, true, M, N, K, bf16 ? (void *)b_bf16 : b, &err), &err);
    must(soothe__gemm_run_packed(g, packed, bf16 ? (void *)a_bf16 : a, c, &err), &err);
    for (size_t i = 0; i < sizeof PLACES / sizeof *PLACES; i++)
        assert_memory_equal(c + PLACES[i] * N, c, N * sizeof *c);
    soothe__packed_free(packed);
    free(a);
    free(b);
    free(c);
    free(a_bf16);
    free(b_bf16);
}

static void test_a_row_of_a_product_does_not_depend_on_its_place(void **state) {
    (void)state;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        struct soothe__gemm *g;
        if (!new_gemm(&g, bf16))
            continue;
        check_place(g, bf16);
        soothe__gemm_free(g);
    }
}

/* ---- row kernels ---------------------------------------------------------------------------------------- */

static void test_bf16_rounds_to_nearest_even(void **state) {
    (void)state;
    static const struct {
        uint32_t f32;
        uint16_t bf16;
    } cases[] = {{0x3f800000, 0x3f80}, {0x3f808000, 0x3f80},  /* a tie goes to the even one */
                 {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81},  /* and to the even one above; past the tie up */
                 {0x80000000, 0x8000}, {0x7f800000, 0x7f80},  /* -0 and infinity */
                 {0x7f7fffff, 0x7f80}, {0xc0490fdb, 0xc049}}; /* too large for bf16; -pi */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float    x, back;
        uint16_t y;
        memcpy(&x, &cases[i].f32, sizeof x);
        assert_int_equal(soothe__bf16_from_f32(x), cases[i].bf16);
        soothe__to_bf16(&y, &x, 1);
        assert_int_equal(y, cases[i].bf16);
        soothe__from_bf16(&back, &y, 1);
        const float same = soothe__f32_from_bf16(y);
        assert_memory_equal(&back, &same, sizeof back);
    }
    assert_true(isnan(soothe__f32_from_bf16(soothe__bf16_from_f32(NAN))));
}

static void test_sums_are_those_in_double(void **state) {
    (void)state;
    for (int i = 0; i < N_LENGTHS; i++) {
        const size_t n = LENGTHS[i];
        float       *x = random_values(n, 1.0), *y = random_values(n, 1.0), *z = random_values(n, 1.0);
        double       dot = 0, top = -INFINITY;
        memcpy(z, y, n * sizeof *z);
        soothe__add_scaled(z, x, 0.25f, n);
        for (size_t j = 0; j < n; j++) {
            dot += (double)x[j] * (double)y[j];
            top = fmax(top, (double)x[j]);
            assert_near("y + x/4", j, (double)z[j], (double)y[j] + 0.25 * (double)x[j], 1e-6);
        }
        assert_near("dot", n, (double)soothe__dot(x, y, n), dot, 1e-6 * (double)n);
        assert_true((double)soothe__max(x, n) == top);
        free(x);
        free(y);
        free(z);
    }
}

static double log_sum_exp(const float *z, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += exp((double)z[i]);
    }
    return log(sum);
}

static void test_exponentials_are_libms(void **state) {
    (void)state;
    enum { N = 4000 };
    float *x = soothe__calloc(N, sizeof *x), *y = soothe__calloc(N, sizeof *y);
    assert_true(x && y);
    double sum = 0;
    for (int i = 0; i < N; i++) {
        x[i] = -0.025f * (float)i; /* 0 to -100: the last ones underflow */
        sum += exp((double)x[i]);
    }
    soothe__exp_shifted(y, x, 0, N);
    for (size_t i = 0; i < N; i++) { /* from -87 on it is zero by definition */
        const double e = exp((double)x[i]);
        assert_near("exp", i, (double)y[i], x[i] > -87.0f ? e : 0, 4e-7 * e);
    }
    assert_near("sum of exp", N, (double)soothe__sum_exp(x, 0, N), sum, 1e-5 * sum);
    free(x);
    free(y);
}

static void test_softmax_and_its_differences(void **state) {
    (void)state;
    for (int i = 0; i < N_LENGTHS; i++) {
        const size_t n   = LENGTHS[i];
        float       *z_f = random_values(n, 3.0), *z_t = random_values(n, 3.0);
        float        out[LENGTH_MAX];
        uint16_t     out_bf16[LENGTH_MAX];
        const double log_f = log_sum_exp(z_f, n), log_t = log_sum_exp(z_t, n);
        soothe__softmax(NULL, out, z_f, (float)log_f, n);
        soothe__softmax(out_bf16, NULL, z_f, (float)log_f, n);
        for (size_t j = 0; j < n; j++) { /* log_sum in F32 is off by 1e-6 where it is 10: so is p, relative */
            const double p = exp((double)z_f[j] - log_f);
            assert_near("softmax", j, (double)out[j], p, 3e-6 * p);
            assert_near("softmax in bf16", j, (double)soothe__f32_from_bf16(out_bf16[j]), p, 4e-3 * p);
        }
        const double kl       = soothe__softmax_difference(NULL, out, z_f, (float)log_f, z_t, (float)log_t, n);
        const double kl_bf16  = soothe__softmax_difference(out_bf16, NULL, z_f, (float)log_f, z_t, (float)log_t, n);
        double       expected = 0;
        for (size_t j = 0; j < n; j++) {
            const double a = (double)z_f[j] - log_f, b = (double)z_t[j] - log_t, d = exp(a) - exp(b);
            expected += exp(b) * (b - a);
            assert_near("p_f - p_t", j, (double)out[j], d, 3e-6 * (exp(a) + exp(b)));
            assert_near("p_f - p_t in bf16", j, (double)soothe__f32_from_bf16(out_bf16[j]), d,
                        4e-3 * fabs(d) + 3e-6 * (exp(a) + exp(b)));
        }
        assert_near("KL", n, kl, expected, 1e-5 * (1 + expected));
        assert_near("KL beside bf16", n, kl_bf16, expected, 1e-5 * (1 + expected));
        free(z_f);
        free(z_t);
    }
}

static void test_rms_norm_and_its_gradient(void **state) {
    (void)state;
    for (int i = 0; i < N_LENGTHS; i++) {
        const size_t n   = LENGTHS[i];
        const float  eps = 1e-2f; /* large enough that its place matters */
        float       *x = random_values(n, 0.3), *w = random_values(n, 1.0), *dy = random_values(n, 1.0);
        float *dx = random_values(n, 1.0), *dw = random_values(n, 1.0), y[LENGTH_MAX], dx0[LENGTH_MAX], dw0[LENGTH_MAX];
        double square = 0, along = 0;
        memcpy(dx0, dx, n * sizeof *dx);
        memcpy(dw0, dw, n * sizeof *dw);
        for (size_t j = 0; j < n; j++) {
            square += (double)x[j] * (double)x[j];
            along += (double)dy[j] * (double)w[j] * (double)x[j];
        }
        const double r       = 1 / sqrt(square / (double)n + (double)eps);
        const float  inverse = soothe__rms_norm(y, x, w, eps, n);
        soothe__rms_norm_backward(dx, dw, dy, x, w, inverse, n);
        assert_near("1/rms", n, (double)inverse, r, 1e-6 * r);
        for (size_t j = 0; j < n; j++) { /* d/dx of w x r(x), with dr/dx = -r^3 x/n */
            const double g = (double)dy[j] * (double)w[j] * r - (double)x[j] * along * r * r * r / (double)n;
            assert_near("y", j, (double)y[j], (double)x[j] * (double)w[j] * r, 1e-5);
            assert_near("dx", j, (double)dx[j] - (double)dx0[j], g, 1e-5 * (1 + r));
            assert_near("dweight", j, (double)dw[j] - (double)dw0[j], (double)dy[j] * (double)x[j] * r, 1e-5);
        }
        free(x);
        free(w);
        free(dy);
        free(dx);
        free(dw);
    }
}

static double silu_mul(double gate, double up) {
    return gate / (1 + exp(-gate)) * up;
}

static void test_silu_and_its_gradients(void **state) {
    (void)state;
    for (int i = 0; i < N_LENGTHS; i++) {
        const size_t n    = LENGTHS[i];
        float       *gate = random_values(n, 4.0), *up = random_values(n, 1.0), *dy = random_values(n, 1.0);
        float        y[LENGTH_MAX], dgate[LENGTH_MAX], dup[LENGTH_MAX];
        soothe__silu_mul(y, gate, up, n);
        soothe__silu_mul_backward(dgate, dup, dy, gate, up, n);
        for (size_t j = 0; j < n; j++) {
            const double g = (double)gate[j], u = (double)up[j], h = 1e-5;
            assert_near("y", j, (double)y[j], silu_mul(g, u), 1e-5);
            assert_near("dgate", j, (double)dgate[j],
                        (double)dy[j] * (silu_mul(g + h, u) - silu_mul(g - h, u)) / (2 * h), 1e-5);
            assert_near("dup", j, (double)dup[j], (double)dy[j] * silu_mul(g, 1), 1e-5);
        }
        free(gate);
        free(up);
        free(dy);
    }
}

static void test_adamw_is_its_formula(void **state) {
    (void)state;
    enum { N = 33 };
    float *w = random_values(N, 1.0), *m = random_values(N, 0.1), *v = random_values(N, 0.1),
          *g                     = random_values(N, 1.0);
    const struct soothe__adamw a = {.lr    = 1e-2f,
                                    .beta1 = 0.9f,
                                    .beta2 = 0.95f,
                                    .eps   = 1e-8f,
                                    .decay = 0.1f,
                                    .c1    = 1 - 0.729f,
                                    .c2    = 1 - 0.857375f,
                                    .scale = 0.5f};
    double                     expected[N];
    for (int i = 0; i < N; i++) {
        v[i]            = fabsf(v[i]);
        const double gi = 0.5 * (double)g[i];
        const double mi = 0.9 * (double)m[i] + 0.1 * gi, vi = 0.95 * (double)v[i] + 0.05 * gi * gi;
        expected[i] = (double)w[i] * (1 - 1e-2 * 0.1) - 1e-2 * (mi / (1 - 0.729)) / (sqrt(vi / (1 - 0.857375)) + 1e-8);
    }
    soothe__adamw_update(w, m, v, g, &a, N);
    for (size_t i = 0; i < N; i++) {
        assert_near("w", i, (double)w[i], expected[i], 1e-6);
    }
    free(w);
    free(m);
    free(v);
    free(g);
}

/* ---- attention ---------------------------------------------------------------------------------------------- */

enum { N_HEAD = 4, N_HEAD_KV = 2, D_HEAD = 6, N_TOKENS = 12, D_Q = N_HEAD * D_HEAD, D_KV = N_HEAD_KV * D_HEAD };

static const int32_t                    TEXT_START[] = {0, 1, 5, 12};
static const struct soothe__train_shape SHAPE        = {
           .n_head = N_HEAD, .n_head_kv = N_HEAD_KV, .d_head = D_HEAD, .rope_base = 100.0f};
static const struct soothe__train_batch BATCH = {.n_tokens = N_TOKENS, .n_texts = 3, .text_start = TEXT_START};

/* One head of one position by the definition, in double. */
static void attend(double *out, const double *q, const double *k, const double *v, int32_t first, int32_t t,
                   int32_t h) {
    double        p[N_TOKENS], sum = 0;
    const int32_t h_kv = h / (N_HEAD / N_HEAD_KV);
    for (int32_t j = first; j <= t; j++) {
        double s = 0;
        for (int32_t i = 0; i < D_HEAD; i++) {
            s += q[t * D_Q + h * D_HEAD + i] * k[j * D_KV + h_kv * D_HEAD + i];
        }
        sum += p[j] = exp(s / sqrt(D_HEAD));
    }
    for (int32_t i = 0; i < D_HEAD; i++) {
        out[i] = 0;
        for (int32_t j = first; j <= t; j++) {
            out[i] += p[j] / sum * v[j * D_KV + h_kv * D_HEAD + i];
        }
    }
}

/* Attention of all: q (T, D_Q), k and v (T, D_KV) one behind the other in x. */
static void attend_all(double *out, const double *x) {
    const double *q = x, *k = q + N_TOKENS * D_Q, *v = k + N_TOKENS * D_KV;
    for (int32_t text = 0; text < BATCH.n_texts; text++) {
        for (int32_t t = TEXT_START[text]; t < TEXT_START[text + 1]; t++) {
            for (int32_t h = 0; h < N_HEAD; h++) {
                attend(out + t * D_Q + h * D_HEAD, q, k, v, TEXT_START[text], t, h);
            }
        }
    }
}

static double attention_loss(const double *x, const float *dout) {
    double out[N_TOKENS * D_Q], sum = 0;
    attend_all(out, x);
    for (int i = 0; i < N_TOKENS * D_Q; i++) {
        sum += out[i] * (double)dout[i];
    }
    return sum;
}

static void test_attention_and_its_gradients(void **state) {
    (void)state;
    enum { N = N_TOKENS * (D_Q + 2 * D_KV) };
    float       *x = random_values(N, 1.0), *g = random_values(N, 1.0), *dout = random_values(N_TOKENS * D_Q, 1.0);
    float       *q = x, *k = q + N_TOKENS * D_Q, *v = k + N_TOKENS * D_KV, out[N_TOKENS * D_Q];
    float       *dq = g, *dk = dq + N_TOKENS * D_Q, *dv = dk + N_TOKENS * D_KV;
    double       exact[N], expected[N_TOKENS * D_Q];
    const size_t n_probabilities = soothe__attention_probabilities(&SHAPE, &BATCH);
    assert_int_equal(n_probabilities, N_HEAD * (1 + 16 + 49));
    float *p = random_values(n_probabilities, 1.0);
    for (int i = 0; i < N; i++) {
        exact[i] = (double)x[i];
    }
    soothe__attention_forward(&SHAPE, &BATCH, q, k, v, out, p);
    attend_all(expected, exact);
    for (size_t i = 0; i < N_TOKENS * D_Q; i++) {
        assert_near("out", i, (double)out[i], expected[i], 2e-6);
    }
    soothe__attention_backward(&SHAPE, &BATCH, q, k, v, dout, p, dq, dk, dv);
    for (size_t i = 0; i < N; i++) {
        const double h = 1e-5, centre = exact[i];
        exact[i]          = centre + h;
        const double up   = attention_loss(exact, dout);
        exact[i]          = centre - h;
        const double down = attention_loss(exact, dout);
        exact[i]          = centre;
        assert_near("gradient", i, (double)g[i], (up - down) / (2 * h), 1e-5);
    }
    free(x);
    free(g);
    free(dout);
    free(p);
}

static void rotate_all(bool halves, float *q, float *k, float direction) {
    struct soothe__train_shape s = SHAPE;
    float                      table[N_TOKENS * D_HEAD];
    s.rope_halves = halves;
    soothe__rope_table(&s, N_TOKENS, table);
    soothe__rope(&s, &BATCH, table, q, k, direction);
}

static void test_rope_turns_by_position_and_back(void **state) {
    (void)state;
    for (int halves = 0; halves < 2; halves++) {
        float *q = random_values(N_TOKENS * D_Q, 1.0), *k = random_values(N_TOKENS * D_KV, 1.0);
        float  q0[N_TOKENS * D_Q], k0[N_TOKENS * D_KV];
        memcpy(q0, q, sizeof q0);
        memcpy(k0, k, sizeof k0);
        rotate_all(halves, q, k, 1);
        for (int text = 0; text < BATCH.n_texts; text++) {
            for (int32_t t = TEXT_START[text]; t < TEXT_START[text + 1]; t++) {
                for (int i = 0; i < D_HEAD / 2; i++) { /* head 1 of k */
                    const int    at = t * D_KV + D_HEAD, one = at + (halves ? i : 2 * i);
                    const int    two   = at + (halves ? i + D_HEAD / 2 : 2 * i + 1);
                    const double angle = (t - TEXT_START[text]) * pow(100.0, -2.0 * i / D_HEAD);
                    assert_near("k", (size_t)one, (double)k[one],
                                (double)k0[one] * cos(angle) - (double)k0[two] * sin(angle), 1e-6);
                    assert_near("k", (size_t)two, (double)k[two],
                                (double)k0[one] * sin(angle) + (double)k0[two] * cos(angle), 1e-6);
                }
            }
        }
        rotate_all(halves, q, k, -1);
        for (size_t i = 0; i < N_TOKENS * D_Q; i++) {
            assert_near("q turned back", i, (double)q[i], (double)q0[i], 1e-6);
        }
        for (size_t i = 0; i < N_TOKENS * D_KV; i++) {
            assert_near("k turned back", i, (double)k[i], (double)k0[i], 1e-6);
        }
        free(q);
        free(k);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_are_their_definition),
        cmocka_unit_test(test_products_of_very_many_shapes),
        cmocka_unit_test(test_a_row_of_a_product_does_not_depend_on_its_place),
        cmocka_unit_test(test_bf16_rounds_to_nearest_even),
        cmocka_unit_test(test_sums_are_those_in_double),
        cmocka_unit_test(test_exponentials_are_libms),
        cmocka_unit_test(test_softmax_and_its_differences),
        cmocka_unit_test(test_rms_norm_and_its_gradient),
        cmocka_unit_test(test_silu_and_its_gradients),
        cmocka_unit_test(test_adamw_is_its_formula),
        cmocka_unit_test(test_attention_and_its_gradients),
        cmocka_unit_test(test_rope_turns_by_position_and_back),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
