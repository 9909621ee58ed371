/* SPDX-License-Identifier: Apache-2.0
 * Speed of the training core in loss-tokens per second, on a fixed work: the first 3 blocks of a 135M
 * model (d 576, 9 heads on 3, feed-forward 1536, vocabulary 49152), 24 texts of 36 to 48 tokens, the
 * last third of each in the loss. train_pytorch.py and bench_ggml_training.c do the same work.
 *
 *     bench_train paper|preference auto|bf16|f32 [STEPS]     medians over STEPS (20) after 3 to warm up;
 *                                                             1: that step alone, for slow builds
 *     bench_train peak auto|bf16|f32                         what the matrix products reach alone */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "train/gemm.h"
#include "train/train_core.h"

enum { N_TEXTS = 24, LENGTH_MAX = 48, TOKENS_MAX = N_TEXTS * LENGTH_MAX };

static const struct soothe__train_shape SHAPE = {.n_blocks  = 3,
                                                 .d_cal     = 576,
                                                 .n_head    = 9,
                                                 .n_head_kv = 3,
                                                 .d_head    = 64,
                                                 .n_ff      = 1536,
                                                 .n_vocab   = 49152,
                                                 .d_tgt     = 576,
                                                 .rope_base = 10000.0f,
                                                 .norm_eps  = 1e-5f};

static void die(const char *message) {
    fprintf(stderr, "bench_train: %s\n", message);
    exit(1);
}

static void must(enum soothe_status status, const struct soothe_error *err) {
    if (status != SOOTHE_OK)
        die(err->message);
}

static void *claim(size_t n, size_t size) {
    void *p = soothe__calloc(n, size);
    if (!p)
        die("out of memory");
    return p;
}

static int ascending(const void *x, const void *y) {
    const double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static uint16_t *random_bf16(size_t n, double scale, uint64_t seed) {
    struct soothe__rng rng = soothe__rng_seed(seed, 0);
    uint16_t          *x   = claim(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = soothe__bf16_from_f32((float)(scale * soothe__rng_normal(&rng)));
    return x;
}

static double peak_memory_mib(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

/* ---- the work ------------------------------------------------------------------------------------- */

struct work {
    int32_t                    tokens[TOKENS_MAX], start[N_TEXTS + 1];
    struct soothe__train_row   rows[TOKENS_MAX];
    struct soothe__train_batch batch;
};

/* Preference: 8 pairs and 8 clean texts. */
static void make_work(struct work *w) {
    memset(w, 0, sizeof *w);
    int32_t n_rows = 0;
    for (int32_t i = 0; i < N_TEXTS; i++) {
        const int32_t               from = w->start[i], n = LENGTH_MAX - i * 7 % 13;
        const enum soothe__row_kind kind = i >= 16      ? SOOTHE__ROW_KL
                                           : i % 2 == 0 ? SOOTHE__ROW_CHOSEN
                                                        : SOOTHE__ROW_REJECTED;
        for (int32_t t = 0; t < n; t++)
            w->tokens[from + t] = (i * 7919 + t * 104729 + 13) % SHAPE.n_vocab;
        for (int32_t t = n - 1 - n / 3; t < n - 1; t++)
            w->rows[n_rows++] = (struct soothe__train_row){from + t, w->tokens[from + t + 1], kind, i < 16 ? i / 2 : 0};
        w->start[i + 1] = from + n;
    }
    w->batch = (struct soothe__train_batch){.n_tokens   = w->start[N_TEXTS],
                                            .tokens     = w->tokens,
                                            .n_texts    = N_TEXTS,
                                            .text_start = w->start,
                                            .n_rows     = n_rows,
                                            .rows       = w->rows,
                                            .n_pairs    = 8};
}

/* Two for each weight and row on the way there, four on the way back; the head is constant, so it has no
 * gradient of its own and counts two there. */
static double flops_of(const struct work *w, bool preference) {
    const double d = SHAPE.d_cal, q = SHAPE.n_head * SHAPE.d_head, kv = SHAPE.n_head_kv * SHAPE.d_head;
    const double block  = d * (2 * q + 2 * kv) + 3 * d * SHAPE.n_ff;
    double       n_head = 2.0 * w->batch.n_rows; /* times that a row meets the head */
    for (int32_t i = 0; preference && i < w->batch.n_rows; i++)
        n_head += w->rows[i].kind == SOOTHE__ROW_KL; /* p_t is needed whole */
    return 6 * SHAPE.n_blocks * block * w->batch.n_tokens + 2.0 * SHAPE.n_vocab * d * n_head;
}

static void start_weights(struct soothe__train_core *core) {
    size_t                             n;
    struct soothe__rng                 rng = soothe__rng_seed(1, 1);
    const struct soothe__train_tensor *t   = soothe__train_tensors(core, &n);
    float                             *w   = soothe__train_parameters(core, NULL);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; t[i].n_out > 1 && !t[i].fusion && j < t[i].n; j++)
            w[t[i].offset + j] = (float)(0.04 * soothe__rng_normal(&rng));
}

static void run_training(bool preference, enum soothe__precision precision, int n_steps) {
    struct soothe_error          err;
    struct soothe__train_result  r = {0};
    struct soothe__train_core   *core;
    struct work                 *w    = claim(1, sizeof *w);
    double                      *time = claim((size_t)n_steps, sizeof *time);
    struct soothe__train_options o    = soothe__train_options_default();
    uint16_t                    *head = random_bf16((size_t)SHAPE.n_vocab * (size_t)SHAPE.d_cal, 0.04, 2);
    make_work(w);
    uint16_t *h_t     = random_bf16((size_t)w->batch.n_rows * (size_t)SHAPE.d_tgt, 3.0, 3);
    float    *log_p_t = claim((size_t)w->batch.n_rows, sizeof *log_p_t);
    for (int32_t i = 0; i < w->batch.n_rows; i++)
        log_p_t[i] = -8.0f; /* known beforehand, as in training */
    w->batch.h_t     = preference ? h_t : NULL;
    w->batch.log_p_t = preference ? log_p_t : NULL;
    o.objective      = preference ? SOOTHE__PREFERENCE : SOOTHE__PAPER;
    o.precision      = precision;
    o.max_tokens     = w->batch.n_tokens;
    o.max_rows       = w->batch.n_rows;
    must(soothe__train_core_new(&core, &SHAPE, &o, head, head, &err), &err);
    start_weights(core);
    const int warm_up = n_steps > 1 ? 3 : 0;
    double    first   = 0;
    for (int i = -warm_up; i < n_steps; i++) {
        const double start = soothe__seconds();
        must(soothe__train_step(core, &w->batch, 2e-4, 1e-3, &r, &err), &err);
        if (i >= 0)
            time[i] = soothe__seconds() - start;
        if (i == -warm_up)
            first = r.loss;
    }
    qsort(time, (size_t)n_steps, sizeof *time, ascending);
    const double median = time[n_steps / 2];
    printf("loss-tokens/s %.1f (fastest step %.1f)  tokens/s %.1f  GFLOP/s %.1f  ms/step %.1f (%.1f to %.1f)  peak MiB "
           "%.0f  loss %.4f -> %.4f  %s\n",
           w->batch.n_rows / median, w->batch.n_rows / time[0], w->batch.n_tokens / median,
           1e-9 * flops_of(w, preference) / median, 1e3 * median, 1e3 * time[0], 1e3 * time[n_steps - 1],
           peak_memory_mib(), first, r.loss, soothe__train_core_is_bf16(core) ? "bf16" : "f32");
    soothe__train_core_free(core);
    free(w);
    free(time);
    free(head);
    free(h_t);
    free(log_p_t);
}

/* ---- matrix products alone ------------------------------------------------------------------------------ */

static void print_product(struct soothe__gemm *g, bool bf16, const char *what, int64_t m, int64_t n, int64_t k) {
    enum { ROUNDS_MAX = 9 };
    struct soothe_error err;
    double              time[ROUNDS_MAX], begun = soothe__seconds();
    const size_t        size = bf16 ? sizeof(uint16_t) : sizeof(float);
    void               *a = claim((size_t)(m * k), size), *b = claim((size_t)(k * n), size);
    float              *c        = claim((size_t)(m * n), sizeof *c);
    int                 n_rounds = -1; /* the first warms up; a slow build stops after 3 s */
    for (; n_rounds < 1 || (n_rounds < ROUNDS_MAX && soothe__seconds() - begun < 3); n_rounds++) {
        const double start = soothe__seconds();
        must(soothe__gemm_run(g, false, true, m, n, k, a, b, c, false, &err), &err);
        if (n_rounds >= 0)
            time[n_rounds] = soothe__seconds() - start;
    }
    qsort(time, (size_t)n_rounds, sizeof *time, ascending);
    printf("%-12s (%5d x %5d x %5d)  GFLOP/s %.1f\n", what, (int)m, (int)n, (int)k,
           2e-9 * (double)(m * n * k) / time[n_rounds / 2]);
    free(a);
    free(b);
    free(c);
}

static void run_peak(bool bf16) {
    struct soothe_error  err;
    struct soothe__gemm *g;
    must(soothe__gemm_new(&g, bf16, &err), &err);
    print_product(g, bf16, "square", 2048, 2048, 2048);
    print_product(g, bf16, "feed-forward", 1024, SHAPE.n_ff, SHAPE.d_cal);
    print_product(g, bf16, "head", 128, SHAPE.n_vocab, SHAPE.d_cal);
    print_product(g, bf16, "head back", 128, SHAPE.d_cal, SHAPE.n_vocab);
    soothe__gemm_free(g);
}

int main(int argc, char **argv) {
    static const char *const names[] = {
        [SOOTHE__PRECISION_AUTO] = "auto", [SOOTHE__PRECISION_BF16] = "bf16", [SOOTHE__PRECISION_F32] = "f32"};
    int     precision = 0;
    int64_t n_steps   = 20;
    while (argc > 2 && precision < 3 && strcmp(argv[2], names[precision]) != 0)
        precision++;
    if (argc < 3 || precision == 3 || (argc > 3 && !soothe__parse_int64(&n_steps, argv[3], 1, 10000)))
        die("usage: bench_train paper|preference|peak auto|bf16|f32 [STEPS]");
    if (strcmp(argv[1], "peak") == 0)
        run_peak(precision == SOOTHE__PRECISION_BF16 ||
                 (precision == SOOTHE__PRECISION_AUTO && soothe__gemm_prefers_bf16()));
    else if (strcmp(argv[1], "paper") == 0 || strcmp(argv[1], "preference") == 0)
        run_training(strcmp(argv[1], "preference") == 0, (enum soothe__precision)precision, (int)n_steps);
    else
        die("the first argument is paper, preference or peak");
    return 0;
}
