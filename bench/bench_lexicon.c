/* SPDX-License-Identifier: Apache-2.0
 * How well the lexicon scorer tells toxic text from the rest, and how fast.
 *
 *     bench_lexicon DATA            reads DATA/rtp/mixed.jsonl (RealToxicityPrompts)
 *     bench_lexicon DATA toxic nontoxic challenging     other files, pooled
 *
 * Text: prompt and continuation together; toxic: the larger of their two Perspective scores > .5.
 * Beside it the plainest rival in the same run: the count of listed words. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "score/score.h"

struct row {
    char  *text;
    size_t size;
    double toxicity, score;
    size_t count;
};

struct rows {
    struct row *row;
    size_t      n, capacity;
};

static bool add_row(struct rows *rows, const json_t *object) {
    const json_t *prompt = json_object_get(object, "prompt"), *rest = json_object_get(object, "continuation");
    const char   *a = json_string_value(json_object_get(prompt, "text"));
    const char   *b = json_string_value(json_object_get(rest, "text"));
    const double  p = json_number_value(json_object_get(prompt, "toxicity"));
    const double  c = json_number_value(json_object_get(rest, "toxicity"));
    if (!a || !b)
        return true; /* some rows have no continuation */
    if (rows->n == rows->capacity) {
        struct row *more = soothe__realloc(rows->row, rows->capacity * 2 + 64, sizeof *more);
        if (!more)
            return false;
        rows->row      = more;
        rows->capacity = rows->capacity * 2 + 64;
    }
    char *text = soothe__format("%s%s", a, b);
    if (!text)
        return false;
    rows->row[rows->n++] = (struct row){.text = text, .size = strlen(text), .toxicity = p > c ? p : c};
    return true;
}

static bool read_rows(struct rows *rows, const char *path) {
    FILE        *in = fopen(path, "r");
    json_error_t error;
    bool         fine = in != NULL;
    if (!in)
        perror(path);
    for (json_t *object; fine && (object = json_loadf(in, JSON_DISABLE_EOF_CHECK, &error)); json_decref(object))
        fine = add_row(rows, object);
    if (in)
        fclose(in);
    return fine;
}

static int by_score(const void *a, const void *b) {
    const double x = ((const struct row *)a)->score, y = ((const struct row *)b)->score;
    return (x > y) - (x < y);
}

static int by_count(const void *a, const void *b) {
    const size_t x = ((const struct row *)a)->count, y = ((const struct row *)b)->count;
    return (x > y) - (x < y);
}

/* Share of (toxic, clean) pairs in the right order, ties counting half (Mann and Whitney). */
static double roc_auc(struct rows *rows, int (*compare)(const void *, const void *)) {
    double below = 0, sum = 0, n_toxic = 0;
    qsort(rows->row, rows->n, sizeof *rows->row, compare);
    for (size_t i = 0, j; i < rows->n; i = j) {
        double toxic = 0, clean = 0;
        for (j = i; j < rows->n && compare(&rows->row[i], &rows->row[j]) == 0; j++)
            *(rows->row[j].toxicity > .5 ? &toxic : &clean) += 1;
        sum += toxic * (below + clean / 2);
        below += clean;
        n_toxic += toxic;
    }
    return sum / (n_toxic * below);
}

static void print_figures(struct rows *rows) {
    double hits = 0, marked = 0, toxic = 0, squares = 0, bytes = 0;
    for (size_t i = 0; i < rows->n; i++)
        bytes += (double)rows->row[i].size;
    const double before = soothe__seconds();
    for (size_t i = 0; i < rows->n; i++)
        rows->row[i].score = soothe__lexicon_score(rows->row[i].text, rows->row[i].size);
    const double seconds = soothe__seconds() - before;
    for (size_t i = 0; i < rows->n; i++) {
        const struct row *r = &rows->row[i];
        rows->row[i].count  = soothe__lexicon_count(r->text, r->size);
        toxic += r->toxicity > .5;
        marked += r->score >= .5;
        hits += r->score >= .5 && r->toxicity > .5;
        squares += (r->score - r->toxicity) * (r->score - r->toxicity);
    }
    const double n = (double)rows->n;
    printf("texts %zu, toxic %.1f %%\n", rows->n, 100 * toxic / n);
    printf("ROC-AUC score %.4f, count of words %.4f\n", roc_auc(rows, by_score), roc_auc(rows, by_count));
    printf("score >= .5: precision %.3f, recall %.3f; squared error to the Perspective score %.4f\n", hits / marked,
           hits / toxic, squares / n);
    printf("speed %.1f MB/s\n", bytes / seconds / 1e6);
}

int main(int argc, char **argv) {
    static char  standard[] = "mixed";
    char        *only[]     = {standard};
    struct rows  rows       = {0};
    bool         fine       = argc > 1;
    char *const *names      = argc > 2 ? argv + 2 : only;
    const int    n_names    = argc > 2 ? argc - 2 : 1;
    if (!fine)
        fputs("usage: bench_lexicon DATA [FILE ...], with DATA/rtp/FILE.jsonl\n", stderr);
    for (int i = 0; i < n_names && fine; i++) {
        char *path = soothe__format("%s/rtp/%s.jsonl", argv[1], names[i]);
        fine       = path && read_rows(&rows, path);
        free(path);
    }
    if (fine)
        print_figures(&rows);
    for (size_t i = 0; i < rows.n; i++)
        free(rows.row[i].text);
    free(rows.row);
    return !fine;
}
