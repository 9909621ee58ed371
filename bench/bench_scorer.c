/* SPDX-License-Identifier: Apache-2.0
 * How fast the n-gram scorer is, on one core.
 *
 *     bench_scorer TEXTS.jsonl [SCORER.gguf]      rows {"text"}; up to 100 000 of them, of at most 280 bytes
 *
 * Each round scores all texts; the median of the rounds is printed. */
#include <stdlib.h>
#include <string.h>

#include "corpus/rows.h"
#include "score/ngram_scorer.h"

enum { TEXTS_MAX = 100000, SIZE_MAX_SHORT = 280, N_ROUNDS = 7 };

static char **texts;
static size_t n_texts, n_bytes;

static enum soothe_status read_texts(const char *path, struct soothe_error *err) {
    struct soothe__rows *rows;
    bool                 more   = true;
    enum soothe_status   status = soothe__rows_open(&rows, path, true, err);
    if (status)
        return status;
    while (n_texts < TEXTS_MAX && !(status = soothe__rows_next(rows, &more, err)) && more) {
        const char *text = soothe__rows_field(rows, "text");
        if (!text || strlen(text) > SIZE_MAX_SHORT)
            continue;
        texts[n_texts] = soothe__strdup(text);
        if (!texts[n_texts])
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
        n_bytes += strlen(texts[n_texts++]);
    }
    soothe__rows_close(rows, NULL, NULL);
    return status;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    struct soothe_error          err;
    struct soothe__ngram_scorer *scorer = NULL;
    struct soothe__ngram_reader  reader = {0};
    char                        *path   = NULL;
    double                       seconds[N_ROUNDS], sum = 0;
    if (argc < 2) {
        fputs("usage: bench_scorer TEXTS.jsonl [SCORER.gguf]\n", stderr);
        return 1;
    }
    texts = soothe__calloc(TEXTS_MAX, sizeof *texts);
    if (argc > 2)
        path = soothe__strdup(argv[2]);
    if (!texts || (!path && soothe__default_scorer(&path, &err)) || soothe__ngram_open(&scorer, path, &err) ||
        read_texts(argv[1], &err)) {
        fprintf(stderr, "%s\n", texts ? err.message : "out of memory");
        return 1;
    }
    for (int round = 0; round < N_ROUNDS; round++) {
        const double begun = soothe__seconds();
        for (size_t i = 0; i < n_texts; i++)
            sum += soothe__ngram_score_with(scorer, &reader, texts[i], strlen(texts[i]));
        seconds[round] = soothe__seconds() - begun;
    }
    qsort(seconds, N_ROUNDS, sizeof *seconds, ascending);
    const double median = seconds[N_ROUNDS / 2];
    printf("%zu texts of %.0f bytes on the average, mean toxicity %.4f\n", n_texts, (double)n_bytes / (double)n_texts,
           sum / N_ROUNDS / (double)n_texts);
    printf("%.0f texts/s, %.2f MB/s on one core (best round %.0f texts/s)\n", (double)n_texts / median,
           (double)n_bytes / median / 1e6, (double)n_texts / seconds[0]);
    soothe__ngram_reader_free(&reader);
    soothe__ngram_close(scorer);
    for (size_t i = 0; i < n_texts; i++)
        free(texts[i]);
    free(texts);
    free(path);
    return 0;
}
