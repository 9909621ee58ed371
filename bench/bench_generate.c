/* SPDX-License-Identifier: Apache-2.0
 * How fast many continuations are sampled at once (the work of an evaluation): tokens per second of the plain and the
 * fused model in alternating runs, over several numbers of sequences.
 *
 *     [WORKERS=N] [THREADS=N] bench_generate MODEL CALIBRATOR|none [ROUNDS] [TOKENS] [PROMPT] [SEQUENCES...]
 *
 * Each run continues SEQUENCES prompts of PROMPT tokens by TOKENS tokens each, nucleus .9, in each of WORKERS contexts
 * of THREADS threads at the same time (1 and all processors; soothe eval takes as many workers as processors, of one
 * thread each). Prompts count in the time, not in the tokens. Tokens per second of processor time are given too: on a
 * busy machine only they can be compared. Last come the operations of the matrices of weights, attention not counted,
 * of the plain model and one processor. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/engine.h"
#include "generate/generate.h"

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

static void die(const char *message) {
    fprintf(stderr, "bench_generate: %s\n", message);
    exit(1);
}

static int32_t number_of(const char *text, int32_t most) {
    int64_t value;
    if (!soothe__parse_int64(&value, text, 1, most))
        die("ROUNDS, TOKENS, PROMPT, SEQUENCES, WORKERS and THREADS must be positive numbers");
    return (int32_t)value;
}

static int32_t number(int argc, char **argv, int i, int32_t otherwise) {
    return i < argc ? number_of(argv[i], 100000) : otherwise;
}

/* n prompts of made-up tokens, each different. */
static struct soothe__prompt *make_prompts(int32_t n, int32_t n_tokens, int32_t n_vocab) {
    struct soothe__prompt *prompts = soothe__calloc((size_t)n, sizeof *prompts);
    llama_token           *tokens  = soothe__calloc((size_t)n * (size_t)n_tokens, sizeof *tokens);
    if (!prompts || !tokens)
        die("out of memory");
    for (int32_t i = 0; i < n * n_tokens; i++)
        tokens[i] = (int32_t)((int64_t)i * 104729 % (n_vocab - 100)) + 50;
    for (int32_t i = 0; i < n; i++)
        prompts[i] = soothe__prompt_of(tokens + (size_t)i * (size_t)n_tokens, n_tokens, (uint64_t)i);
    return prompts;
}

static struct soothe_session *open_session(struct llama_model *target, const struct soothe_calibrator *cal,
                                           const struct soothe__prompt *prompts, int32_t n,
                                           const struct soothe__generate_options *o) {
    struct soothe_error          err;
    struct soothe_session       *s;
    struct soothe_session_params p = soothe_session_params_default();
    p.context.n_ctx                = 0;
    if (getenv("THREADS"))
        p.context.n_threads = p.context.n_threads_batch = number_of(getenv("THREADS"), 1024);
    soothe__generate_context(&p.context, target, prompts, (size_t)n, o, n);
    if (soothe_session_new(&s, target, cal, &p, &err))
        die(err.message);
    return s;
}

/* Of this program, all threads. */
static double processor_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct worker {
    struct soothe_session                 *sessions[2]; /* plain, fused */
    const struct soothe__prompt           *prompts;
    int32_t                                n;
    const struct soothe__generate_options *o;
    int                                    which;
    int64_t                                n_tokens;
};

static void *work(void *user) {
    struct worker                *w = user;
    struct soothe_error           err;
    struct soothe__generate_stats stats;
    if (soothe__generate(w->sessions[w->which], w->prompts, (size_t)w->n, w->o, &stats, &err))
        die(err.message);
    w->n_tokens = stats.n_tokens;
    return NULL;
}

enum { WORKERS_MAX = 64 };

struct speed {
    double wall, processor; /* tokens a second */
};

static struct speed run(struct worker *workers, int n_workers, int which) {
    pthread_t    threads[WORKERS_MAX];
    int64_t      n_tokens = 0;
    const double wall = soothe__seconds(), processor = processor_seconds();
    for (int i = 0; i < n_workers; i++) {
        workers[i].which = which;
        if (pthread_create(&threads[i], NULL, work, &workers[i]))
            die("cannot start a thread");
    }
    for (int i = 0; i < n_workers; i++) {
        pthread_join(threads[i], NULL);
        n_tokens += workers[i].n_tokens;
    }
    return (struct speed){(double)n_tokens / (soothe__seconds() - wall),
                          (double)n_tokens / (processor_seconds() - processor)};
}

static int ascending(const void *x, const void *y) {
    const double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, ascending);
    return x[n / 2];
}

/* 2 operations a weight: each token but the last goes through the blocks, each sampled one came of the head. */
static double operations_per_token(const char *path, const struct llama_model *model, int32_t n_prompt,
                                   int32_t n_tokens) {
    struct soothe_error err;
    struct soothe__gguf g = {0};
    if (soothe__gguf_open(&g, path, &err))
        die(err.message);
    const double head   = (double)llama_model_n_embd(model) * llama_vocab_n_tokens(llama_model_get_vocab(model));
    const bool   untied = gguf_find_tensor(g.meta, "output.weight") >= 0;
    const double blocks = (double)llama_model_n_params(model) - head * (untied ? 2 : 1);
    soothe__gguf_close(&g);
    return 2 * (blocks * (n_prompt + n_tokens - 1) / n_tokens + head);
}

int main(int argc, char **argv) {
    if (argc < 3)
        die("usage: bench_generate MODEL CALIBRATOR|none [ROUNDS] [TOKENS] [PROMPT] [SEQUENCES...]");
    const int32_t n_rounds = number(argc, argv, 3, 3), n_tokens = number(argc, argv, 4, 20),
                  n_prompt = number(argc, argv, 5, 16);
    struct soothe_error       err;
    struct soothe_calibrator *cal = NULL;
    llama_log_set(quiet, NULL);
    struct llama_model *target = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!target)
        die("cannot load the model");
    if (strcmp(argv[2], "none") && soothe_calibrator_open(&cal, argv[2], argv[1], NULL, &err))
        die(err.message);
    struct soothe__generate_options o = soothe__generate_options_default();
    o.n_predict                       = n_tokens;
    o.sampling.temp                   = 1;
    o.sampling.top_k                  = 0;
    o.sampling.top_p                  = 0.9f;
    o.sampling.min_p                  = 0;
    const int n_workers               = getenv("WORKERS") ? number_of(getenv("WORKERS"), WORKERS_MAX) : 1;
    double   *speed                   = soothe__calloc(4 * (size_t)n_rounds, sizeof *speed);
    if (!speed)
        die("out of memory");
    for (int i = 6; i < argc || i == 6; i++) {
        const int32_t          n       = i < argc ? number_of(argv[i], 100000) : 64;
        struct soothe__prompt *prompts = make_prompts(n, n_prompt, llama_vocab_n_tokens(llama_model_get_vocab(target)));
        struct worker          workers[WORKERS_MAX];
        for (int w = 0; w < n_workers; w++)
            workers[w] = (struct worker){.sessions = {open_session(target, NULL, prompts, n, &o),
                                                      cal ? open_session(target, cal, prompts, n, &o) : NULL},
                                         .prompts  = prompts,
                                         .n        = n,
                                         .o        = &o};
        for (int round = 0; round < n_rounds; round++)
            for (int k = 0; k < 2; k++) {
                const int which = (round + k) % 2;
                if (which == 1 && !cal)
                    continue;
                const struct speed s                  = run(workers, n_workers, which);
                speed[which * n_rounds + round]       = s.wall;
                speed[(2 + which) * n_rounds + round] = s.processor;
            }
        printf("%d x %d sequences: plain %.0f tokens/s", n_workers, n, median(speed, n_rounds));
        if (cal)
            printf(", fused %.0f", median(speed + n_rounds, n_rounds));
        printf("; a second of processor time: plain %.0f", median(speed + 2 * n_rounds, n_rounds));
        if (cal)
            printf(", fused %.0f", median(speed + 3 * n_rounds, n_rounds));
        printf("; matrices %.1f GFLOP/s\n", 1e-9 * median(speed + 2 * n_rounds, n_rounds) *
                                                operations_per_token(argv[1], target, n_prompt, n_tokens));
        fflush(stdout);
        for (int w = 0; w < n_workers; w++) {
            soothe_session_free(workers[w].sessions[0]);
            soothe_session_free(workers[w].sessions[1]);
        }
        free((void *)(uintptr_t)prompts[0].tokens);
        free(prompts);
    }
    free(speed);
    soothe_calibrator_free(cal);
    llama_model_free(target);
    return 0;
}
