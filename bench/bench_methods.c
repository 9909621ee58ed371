/* SPDX-License-Identifier: Apache-2.0
 * What methods cost: each chain's generation against the plain model's, in alternating runs of one process, as ratios
 * of the time per token that is handed on.
 *
 *     bench_methods MODEL ROUNDS TOKENS SEQUENCES CHAIN...
 *
 * A round continues one prompt SEQUENCES times by TOKENS tokens (nucleus .9, temperature 1; equal random numbers)
 * without a method and with each chain; medians and quartiles of the ratios, and the resident memory that opening the
 * chain added. One thread a context, so that what is compared is work. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/target_model.h"
#include "engine/text_tokens.h"
#include "methods/generate_with.h"

enum { CHAINS_MAX = 32, ROUNDS_MAX = 200 };

struct contender {
    const char            *words;
    struct soothe__chain   chain;
    struct soothe__applied applied;
    double                 seconds[ROUNDS_MAX], ratio[ROUNDS_MAX];
    double                 mebibytes;
};

static void die(const char *message) {
    fprintf(stderr, "bench_methods: %s\n", message);
    exit(1);
}

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

static double resident_mebibytes(void) {
    long  pages = 0;
    FILE *f     = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%*s %ld", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1048576.0;
}

static int ascending(const void *x, const void *y) {
    const double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

/* Of what one call handed on, seconds a token. */
static double run(struct contender *c, const struct soothe__prompt *prompt, const struct soothe__generate_options *o) {
    struct soothe_error           err;
    struct soothe__generate_stats stats = {0};
    const double                  start = soothe__seconds();
    if (soothe__generate_with(&c->applied, prompt, 1, o, &stats, &err))
        die(err.message);
    return (soothe__seconds() - start) / (double)(stats.n_tokens > 0 ? stats.n_tokens : 1);
}

int main(int argc, char **argv) {
    static const char       TEXT[] = "The two of them had worked in the same office for years before that day, and";
    static struct contender all[CHAINS_MAX];
    if (argc < 6 || argc - 5 >= CHAINS_MAX)
        die("usage: bench_methods MODEL ROUNDS TOKENS SEQUENCES CHAIN...");
    const int n_rounds = atoi(argv[2]), n_sequences = atoi(argv[4]), n = argc - 4;
    if (n_rounds < 1 || n_rounds > ROUNDS_MAX || atoi(argv[3]) < 1 || n_sequences < 1)
        die("ROUNDS (to 200), TOKENS and SEQUENCES must be positive");
    llama_log_set(quiet, NULL);
    struct soothe_error err;
    struct llama_model *model;
    llama_token        *tokens;
    int32_t             n_tokens;
    if (soothe__target_load(&model, argv[1], 0, &err) ||
        soothe__tokenize(&tokens, &n_tokens, llama_model_get_vocab(model), TEXT, strlen(TEXT), SOOTHE__TOKENIZE_START,
                         &err))
        die(err.message);
    struct soothe__generate_options o = soothe__generate_options_default();
    o.sampling =
        (struct soothe__sampling){.temp = 1, .top_p = .9f, .repeat_penalty = 1, .repeat_last_n = 64, .seed = 1};
    o.n_samples                        = n_sequences;
    o.n_predict                        = atoi(argv[3]);
    const struct soothe__prompt prompt = soothe__prompt_of(tokens, n_tokens, 0);
    for (int i = 0; i < n; i++) {
        struct llama_context_params context = soothe_session_params_default().context;
        context.n_threads = context.n_threads_batch = 1;
        soothe__generate_context(&context, model, &prompt, 1, &o, n_sequences);
        const double before = resident_mebibytes();
        all[i].words        = i == 0 ? "plain" : argv[4 + i];
        if (soothe__chain_add(&all[i].chain, all[i].words, &err) ||
            soothe__chain_apply(&all[i].applied, &all[i].chain, model, argv[1], &context, &err))
            die(err.message);
        (void)run(&all[i], &prompt, &o); /* warms up */
        all[i].mebibytes = resident_mebibytes() - before;
    }
    for (int round = 0; round < n_rounds; round++) {
        for (int k = 0; k < n; k++) {
            const int i           = round & 1 ? n - 1 - k : k;
            all[i].seconds[round] = run(&all[i], &prompt, &o);
        }
        for (int i = 0; i < n; i++)
            all[i].ratio[round] = all[i].seconds[round] / all[0].seconds[round];
    }
    printf("%d rounds of %d x %s tokens, one thread; a session and its methods take so much memory\n", n_rounds,
           n_sequences, argv[3]);
    for (int i = 0; i < n; i++) {
        qsort(all[i].ratio, (size_t)n_rounds, sizeof(double), ascending);
        qsort(all[i].seconds, (size_t)n_rounds, sizeof(double), ascending);
        printf("%7.3f (quartiles %.3f to %.3f)  %8.3f ms/token  %7.1f MiB  %s\n", all[i].ratio[n_rounds / 2],
               all[i].ratio[n_rounds / 4], all[i].ratio[3 * n_rounds / 4], 1e3 * all[i].seconds[n_rounds / 2],
               all[i].mebibytes, all[i].words);
        soothe__applied_release(&all[i].applied);
        soothe__chain_free(&all[i].chain);
    }
    free(tokens);
    llama_model_free(model);
    return 0;
}
