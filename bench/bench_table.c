/* SPDX-License-Identifier: Apache-2.0
 * What a table of words costs: a row's list and its subtraction alone, and decoding without and with it in alternating
 * runs of one process, as ratios.
 *
 *     bench_table MODEL [TABLE] [ROUNDS] [TOKENS] [THREADS]        TABLE: as soothe_sampler_init_table; -: the lexicon
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "methods/token_table.h"

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

static void die(const char *message) {
    fprintf(stderr, "bench_table: %s\n", message);
    exit(1);
}

static struct soothe_session *open_session(struct llama_model *model, const struct soothe__token_table *table,
                                           int32_t n_ctx, int32_t n_threads) {
    struct soothe_error          err;
    struct soothe_session       *s;
    struct soothe_session_params p = soothe_session_params_default();
    p.context.n_ctx                = (uint32_t)n_ctx;
    p.context.n_threads = p.context.n_threads_batch = n_threads;
    if (soothe_session_new(&s, model, NULL, &p, &err) != SOOTHE_OK)
        die(err.message);
    if (table && soothe__session_add_token_table(s, table, 1, &err) != SOOTHE_OK)
        die(err.message);
    return s;
}

static llama_token token_at(int32_t i, int32_t n_vocab) {
    return (i * 7919 + 13) % n_vocab;
}

/* Seconds of n_tokens single steps. */
static double step(struct soothe_session *s, int32_t n_tokens, int32_t n_vocab) {
    struct soothe_error err;
    soothe_clear(s);
    const double start = soothe__seconds();
    for (int32_t i = 0; i < n_tokens; i++) {
        llama_token token = token_at(i, n_vocab);
        if (soothe_decode(s, llama_batch_get_one(&token, 1), &err) != SOOTHE_OK)
            die(err.message);
        (void)soothe_get_logits_ith(s, -1);
    }
    return soothe__seconds() - start;
}

/* Seconds of one row: moving on, the list, the subtraction. */
static double row(const struct soothe__token_table *table, int32_t n_vocab, double *n_listed) {
    enum { ROWS = 100000 };
    struct soothe__table_state state = {.n_nodes = 0};
    struct soothe__token_room  room;
    float                     *z = soothe__calloc((size_t)n_vocab, sizeof *z);
    if (!z || !soothe__token_room_new(&room, table))
        die("out of memory");
    *n_listed          = 0;
    const double start = soothe__seconds();
    for (int32_t i = 0; i < ROWS; i++) {
        soothe__token_table_move(table, &state, token_at(i, n_vocab));
        const size_t n = soothe__token_table_list(table, &state, &room);
        for (size_t k = 0; k < n; k++)
            z[room.list[k].token] -= room.list[k].weight;
        *n_listed += (double)n / ROWS;
    }
    const double seconds = (soothe__seconds() - start) / ROWS;
    soothe__token_room_free(&room);
    free(z);
    return seconds;
}

static int ascending(const void *x, const void *y) {
    const double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

int main(int argc, char **argv) {
    if (argc < 2)
        die("usage: bench_table MODEL [TABLE] [ROUNDS] [TOKENS] [THREADS]");
    struct soothe_error         err;
    struct soothe__word_table   words;
    struct soothe__token_table *table;
    const char                 *path     = argc > 2 && strcmp(argv[2], "-") != 0 ? argv[2] : NULL;
    const int                   n_rounds = argc > 3 ? atoi(argv[3]) : 15;
    const int32_t               n_tokens = argc > 4 ? atoi(argv[4]) : 64, n_threads = argc > 5 ? atoi(argv[5]) : 1;
    if (n_rounds < 1 || n_rounds > 1000 || n_tokens < 1 || n_tokens > 4096)
        die("ROUNDS and TOKENS must be positive");
    llama_log_set(quiet, NULL);
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model)
        die("cannot load the model");
    const int32_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    if (soothe__word_table_open(&words, path, &err) != SOOTHE_OK)
        die(err.message);
    const double start = soothe__seconds();
    if (soothe__token_table_new(&table, &words, llama_model_get_vocab(model), &err) != SOOTHE_OK)
        die(err.message);
    double       n_listed;
    const double made = soothe__seconds() - start, alone = row(table, n_vocab, &n_listed);
    double      *ratio = soothe__calloc((size_t)n_rounds, sizeof *ratio),
           *plain      = soothe__calloc((size_t)n_rounds, sizeof *plain);
    if (!ratio || !plain)
        die("out of memory");
    struct soothe_session *a = open_session(model, NULL, n_tokens + 8, n_threads);
    struct soothe_session *b = open_session(model, table, n_tokens + 8, n_threads);
    step(a, n_tokens, n_vocab);
    step(b, n_tokens, n_vocab);
    for (int i = 0; i < n_rounds; i++) {
        const double first = i % 2 ? step(b, n_tokens, n_vocab) : step(a, n_tokens, n_vocab);
        const double other = i % 2 ? step(a, n_tokens, n_vocab) : step(b, n_tokens, n_vocab);
        plain[i]           = i % 2 ? other : first;
        ratio[i]           = i % 2 ? first / other : other / first;
    }
    qsort(ratio, (size_t)n_rounds, sizeof *ratio, ascending);
    qsort(plain, (size_t)n_rounds, sizeof *plain, ascending);
    const double token = plain[n_rounds / 2] / n_tokens;
    printf("table     %zu words on %d tokens, made in %.0f ms\n", words.n, n_vocab, 1e3 * made);
    printf("row       %.2f us for %.0f tokens listed: %.3f %% of a plain step\n", 1e6 * alone, n_listed,
           100 * alone / token);
    printf("step      with/without %.4f (quartiles %.4f to %.4f), plain %.3f ms/token (median)\n", ratio[n_rounds / 2],
           ratio[n_rounds / 4], ratio[3 * n_rounds / 4], 1e3 * token);
    free(ratio);
    free(plain);
    soothe_session_free(a);
    soothe_session_free(b);
    soothe__token_table_free(table);
    soothe__word_table_free(&words);
    llama_model_free(model);
    return 0;
}
