/* SPDX-License-Identifier: Apache-2.0
 * Speed of training factors of low rank in a whole model, in tokens per second, on a fixed work: 24 texts of 36 to 48
 * tokens, 1014 together, all of them in the loss, factors of rank 16 on all seven matrices of every block.
 * lora_pytorch.py does the same work on a model of SmolLM2-135M's shape.
 *
 *     bench_lora MODEL.gguf auto|bf16|f32 [file|bf16|f32] [STEPS]     precision of products; how fixed weights are
 * kept; medians over STEPS (3) after 1 to warm up */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "train/file_weights.h"
#include "train/train_model.h"

enum { N_TEXTS = 24, LENGTH_MAX = 48, TOKENS_MAX = N_TEXTS * LENGTH_MAX, RANK = 16 };

static void must(enum soothe_status status, const struct soothe_error *err) {
    if (status == SOOTHE_OK)
        return;
    fprintf(stderr, "bench_lora: %s\n", err->message);
    exit(1);
}

static int ascending(const void *x, const void *y) {
    const double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

struct work {
    int32_t                    tokens[TOKENS_MAX], start[N_TEXTS + 1];
    struct soothe__train_row   rows[TOKENS_MAX];
    struct soothe__train_batch batch;
};

static void make_work(struct work *w, int32_t n_vocab) {
    int32_t n_rows = 0;
    w->start[0]    = 0;
    for (int32_t i = 0; i < N_TEXTS; i++) {
        const int32_t from = w->start[i], n = LENGTH_MAX - i * 7 % 13;
        for (int32_t t = 0; t < n; t++)
            w->tokens[from + t] = (i * 7919 + t * 104729 + 13) % n_vocab;
        for (int32_t t = 0; t < n - 1; t++)
            w->rows[n_rows++] = (struct soothe__train_row){from + t, w->tokens[from + t + 1], SOOTHE__ROW_PLAIN, 0};
        w->start[i + 1] = from + n;
    }
    w->batch = (struct soothe__train_batch){.n_tokens   = w->start[N_TEXTS],
                                            .tokens     = w->tokens,
                                            .n_texts    = N_TEXTS,
                                            .text_start = w->start,
                                            .n_rows     = n_rows,
                                            .rows       = w->rows};
}

static enum soothe__learning low_rank(const void *user, const char *name) {
    (void)user;
    return strstr(name, "norm") ? SOOTHE__STAYS : SOOTHE__LOW_RANK;
}

/* Of all threads; a busy machine disturbs it less than the clock. */
static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: bench_lora MODEL.gguf auto|bf16|f32 [file|bf16|f32] [STEPS]\n");
        return 2;
    }
    struct soothe_error               err;
    static struct soothe__train_model m;
    static struct work                w;
    struct soothe__file_weights      *weights;
    struct soothe__train_core        *core;
    struct soothe__train_result       r     = {0};
    const char                       *kept  = argc > 3 ? argv[3] : "file";
    int                               steps = argc > 4 ? atoi(argv[4]) : 3;
    double                            times[64], first = 0, cpu = 0;
    struct soothe__train_options      o = soothe__train_options_default();
    steps                               = steps < 1 ? 1 : steps > 64 ? 64 : steps;
    must(soothe__train_model_open_whole(&m, argv[1], &err), &err);
    must(soothe__file_weights_new(&weights, &m.target,
                                  strcmp(kept, "f32") == 0    ? SOOTHE__AS_F32
                                  : strcmp(kept, "bf16") == 0 ? SOOTHE__AS_BF16
                                                              : SOOTHE__AS_FILE,
                                  &err),
         &err);
    make_work(&w, m.shape.n_vocab);
    o.objective  = SOOTHE__WEIGHTED;
    o.precision  = strcmp(argv[2], "bf16") == 0  ? SOOTHE__PRECISION_BF16
                   : strcmp(argv[2], "f32") == 0 ? SOOTHE__PRECISION_F32
                                                 : SOOTHE__PRECISION_AUTO;
    o.max_tokens = w.batch.n_tokens;
    o.max_rows   = w.batch.n_rows;
    o.learning   = low_rank;
    o.fixed      = soothe__file_weights_source(weights);
    o.rank       = RANK;
    o.alpha      = 2 * RANK;
    must(soothe__train_core_new(&core, &m.shape, &o, m.embedding, m.head, &err), &err);
    must(soothe__train_model_load(&m, core, &err), &err);
    soothe__train_start_factors(core, 1);
    for (int i = -1; i < steps; i++) {
        const double start = soothe__seconds();
        must(soothe__train_step(core, &w.batch, 2e-4, 2e-4, &r, &err), &err);
        if (i < 0)
            first = r.loss, cpu = cpu_seconds();
        else
            times[i] = soothe__seconds() - start;
    }
    struct rusage usage;
    cpu = (cpu_seconds() - cpu) / steps;
    getrusage(RUSAGE_SELF, &usage);
    qsort(times, (size_t)steps, sizeof *times, ascending);
    printf(
        "tokens/s %.1f (fastest step %.1f)  ms/step %.0f (%.0f to %.0f)  CPU s/step %.2f  peak MiB %.0f (fixed weights "
        "%.0f)  loss %.4f -> %.4f  %s, kept as %s\n",
        w.batch.n_tokens / times[steps / 2], w.batch.n_tokens / times[0], 1e3 * times[steps / 2], 1e3 * times[0],
        1e3 * times[steps - 1], cpu, (double)usage.ru_maxrss / 1024,
        (double)soothe__file_weights_memory(weights) / (1 << 20), first, r.loss,
        soothe__train_core_is_bf16(core) ? "bf16" : "f32", kept);
    soothe__train_core_free(core);
    soothe__file_weights_free(weights);
    soothe__train_model_close(&m);
    return 0;
}
