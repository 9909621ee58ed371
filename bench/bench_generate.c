/* SPDX-License-Identifier: Apache-2.0
 * How fast many continuations are sampled at once (the work of an evaluation): tokens per second of the plain and the
 * fused model in alternating runs, over several numbers of sequences.
 *
 *     [THREADS=N] bench_generate MODEL CALIBRATOR [ROUNDS] [TOKENS] [PROMPT] [SEQUENCES...]
 *
 * Each run continues SEQUENCES prompts of PROMPT tokens by TOKENS tokens each, nucleus .9; prompts are decoded too but
 * timed apart. CALIBRATOR may be "none". Tokens per second of processor time are given too: on a busy machine only
 * they can be compared. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

static int32_t number(int argc, char **argv, int i, int32_t otherwise) {
    int64_t value = otherwise;
    if (i < argc && !soothe__parse_int64(&value, argv[i], 1, 100000))
        die("ROUNDS, TOKENS, PROMPT and SEQUENCES must be positive numbers");
    return (int32_t)value;
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
        prompts[i] = (struct soothe__prompt){tokens + (size_t)i * (size_t)n_tokens, n_tokens, (uint64_t)i};
    return prompts;
}

static struct soothe_session *open_session(struct llama_model *target, const struct soothe_calibrator *cal,
                                           const struct soothe__prompt *prompts, int32_t n,
                                           const struct soothe__generate_options *o) {
    struct soothe_error          err;
    struct soothe_session       *s;
    struct soothe_session_params p = soothe_session_params_default();
    p.context.n_ctx                = 0;
    int64_t n_threads;
    if (getenv("THREADS") && soothe__parse_int64(&n_threads, getenv("THREADS"), 1, 1024))
        p.context.n_threads = p.context.n_threads_batch = (int32_t)n_threads;
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

static struct soothe__generate_stats run(struct soothe_session *s, const struct soothe__prompt *prompts, int32_t n,
                                         const struct soothe__generate_options *o) {
    struct soothe_error           err;
    struct soothe__generate_stats stats;
    if (soothe__generate(s, prompts, (size_t)n, o, &stats, &err))
        die(err.message);
    return stats;
}

static int ascending(const void *x, const void *y) {
    const double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, ascending);
    return x[n / 2];
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
    double *speed                     = soothe__calloc(6 * (size_t)n_rounds, sizeof *speed);
    if (!speed)
        die("out of memory");
    for (int i = 6; i < argc || i == 6; i++) {
        const int32_t          n       = number(argc, argv, i, 64);
        struct soothe__prompt *prompts = make_prompts(n, n_prompt, llama_vocab_n_tokens(llama_model_get_vocab(target)));
        struct soothe_session *sessions[2] = {open_session(target, NULL, prompts, n, &o),
                                              cal ? open_session(target, cal, prompts, n, &o) : NULL};
        for (int round = 0; round < n_rounds; round++)
            for (int k = 0; k < 2; k++) {
                const int which = (round + k) % 2;
                if (!sessions[which])
                    continue;
                const double                        from = processor_seconds();
                const struct soothe__generate_stats s    = run(sessions[which], prompts, n, &o);
                speed[(4 + which) * n_rounds + round]    = (double)s.n_tokens / (processor_seconds() - from);
                speed[which * n_rounds + round]          = (double)s.n_tokens / s.token_seconds;
                speed[(2 + which) * n_rounds + round]    = (double)s.n_prompt_tokens / s.prompt_seconds;
            }
        printf("%3d sequences: plain %.0f tokens/s (prompt %.0f)", n, median(speed, n_rounds),
               median(speed + 2 * n_rounds, n_rounds));
        if (cal)
            printf(", fused %.0f (prompt %.0f)", median(speed + n_rounds, n_rounds),
                   median(speed + 3 * n_rounds, n_rounds));
        printf("; a second of processor time, prompts and all: plain %.0f", median(speed + 4 * n_rounds, n_rounds));
        if (cal)
            printf(", fused %.0f", median(speed + 5 * n_rounds, n_rounds));
        printf("\n");
        fflush(stdout);
        soothe_session_free(sessions[0]);
        soothe_session_free(sessions[1]);
        free((void *)(uintptr_t)prompts[0].tokens);
        free(prompts);
    }
    free(speed);
    soothe_calibrator_free(cal);
    llama_model_free(target);
    return 0;
}
