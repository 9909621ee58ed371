/* SPDX-License-Identifier: Apache-2.0
 * How well the detectors of toxic_spans.h find what people marked.
 *
 *     bench_spans MODEL SPANS.csv [LIMIT [PROBE [CLEAN.jsonl]]]
 *
 * SPANS.csv   columns text and spans, a list of the toxic characters' places (SemEval-2021 task 5)
 * CLEAN       texts without toxicity: the share of them in which anything is marked
 * Figures over characters, all texts pooled; and the task's own: F1 of each text, where nothing to be found and
 * nothing found is 1, averaged. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "corpus/rows.h"
#include "engine/target_model.h"
#include "engine/text_tokens.h"
#include "methods/toxic_spans.h"

struct text {
    char        *text;
    bool        *toxic; /* (size) per byte */
    llama_token *tokens;
    int32_t      n_tokens;
};

struct texts {
    struct text items[20000];
    size_t      n;
};

static void fail(const struct soothe_error *err) {
    fprintf(stderr, "bench_spans: %s\n", err->message);
    exit(1);
}

/* The list holds places of characters, in order or not; bytes are wanted. */
static void mark(struct text *t, const char *list) {
    const size_t size = strlen(t->text);
    for (const char *at = list; at && *at;) {
        while (*at && !isdigit((unsigned char)*at))
            at++;
        if (!*at)
            return;
        char *end;
        long  place = strtol(at, &end, 10);
        at          = end;
        size_t i    = 0;
        for (; i < size && place > 0; i++)
            place -= (t->text[i + 1] & 0xc0) != 0x80;
        while (i < size && (t->text[i] & 0xc0) == 0x80)
            i++;
        for (size_t k = i; k < size && (k == i || (t->text[k] & 0xc0) == 0x80); k++)
            t->toxic[k] = true;
    }
}

static void read_texts(struct texts *all, const char *path, size_t limit, const struct llama_vocab *vocab) {
    static const char *const usual[] = {"text", "prompt.text", "prompt", NULL};
    struct soothe_error      err;
    struct soothe__rows     *rows;
    bool                     more = true;
    if (soothe__rows_open(&rows, path, true, &err))
        fail(&err);
    while (all->n < limit && all->n < 20000 && !soothe__rows_next(rows, &more, &err) && more) {
        const char *text = soothe__rows_any_field(rows, usual, NULL), *spans = soothe__rows_field(rows, "spans");
        if (!text || !*text)
            continue;
        struct text *t = &all->items[all->n++];
        t->text        = soothe__strdup(text);
        t->toxic       = soothe__calloc(strlen(text) + 1, 1);
        if (!t->text || !t->toxic || soothe__tokenize(&t->tokens, &t->n_tokens, vocab, text, strlen(text), 0, &err))
            fail(&err);
        if (spans)
            mark(t, spans);
    }
    soothe__rows_close(rows, NULL, NULL);
}

static void found_in(const struct text *t, const struct soothe__span_finder *f, const struct llama_vocab *vocab,
                     bool *found) {
    struct soothe_error         err;
    struct soothe__token_span  *spans;
    struct soothe__token_places p;
    size_t                      n;
    if (t->n_tokens < 1)
        return;
    if (soothe__toxic_spans(&spans, &n, f, vocab, t->tokens, t->n_tokens, &err) ||
        soothe__token_places(&p, vocab, t->tokens, t->n_tokens, &err))
        fail(&err);
    for (size_t i = 0; i < n; i++) {
        int32_t from = spans[i].from > 0 ? p.end[spans[i].from - 1] : 0;
        while (p.text[from] == ' ')
            from++;
        for (int32_t k = from; k < p.end[spans[i].to - 1]; k++)
            found[k] = true;
    }
    soothe__token_places_free(&p);
    free(spans);
}

static void measure(const char *name, const struct texts *all, const struct texts *clean,
                    const struct soothe__span_finder *f, const struct llama_vocab *vocab) {
    double right = 0, marked = 0, toxic = 0, f1 = 0, touched = 0;
    for (size_t i = 0; i < all->n; i++) {
        const struct text *t     = &all->items[i];
        const size_t       size  = strlen(t->text);
        bool              *found = soothe__calloc(size + 8, 1);
        double             r = 0, m = 0, x = 0;
        found_in(t, f, vocab, found);
        for (size_t k = 0; k < size; k++) {
            r += found[k] && t->toxic[k];
            m += found[k];
            x += t->toxic[k];
        }
        f1 += m + x > 0 ? 2 * r / (m + x) : 1;
        right += r;
        marked += m;
        toxic += x;
        free(found);
    }
    for (size_t i = 0; i < clean->n; i++) {
        bool *found = soothe__calloc(strlen(clean->items[i].text) + 8, 1);
        bool  any   = false;
        found_in(&clean->items[i], f, vocab, found);
        for (size_t k = 0; clean->items[i].text[k]; k++)
            any = any || found[k];
        touched += any;
        free(found);
    }
    const double n = (double)all->n;
    printf("%-8s %6.2f   %.3f      %.3f   %.3f  %.3f", name, f->threshold, right / (marked > 0 ? marked : 1),
           right / toxic, 2 * right / (marked + toxic), f1 / n);
    if (clean->n)
        printf("     %.3f", touched / (double)clean->n);
    putchar('\n');
    fflush(stdout);
}

int main(int argc, char **argv) {
    static struct texts          texts, clean;
    struct soothe_error          err;
    struct llama_model          *model;
    struct soothe__ngram_scorer *ngram;
    struct soothe__probe        *probe  = NULL;
    struct soothe__layer_reader *reader = NULL;
    char                        *path;
    if (argc < 3) {
        fprintf(stderr, "usage: bench_spans MODEL SPANS.csv [LIMIT [PROBE [CLEAN.jsonl]]]\n");
        return 2;
    }
    const size_t limit = argc > 3 ? (size_t)atol(argv[3]) : 20000;
    if (soothe__target_load(&model, argv[1], 0, &err) || soothe__default_scorer(&path, &err) ||
        soothe__ngram_open(&ngram, path, &err))
        fail(&err);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    read_texts(&texts, argv[2], limit, vocab);
    if (argc > 5)
        read_texts(&clean, argv[5], limit, vocab);
    printf("%zu texts, %zu clean ones\n\ndetector  from  precision  recall     F1  F1 by text%s\n", texts.n, clean.n,
           clean.n ? "  clean touched" : "");
    for (int i = 2; i <= 9; i++)
        measure("ngram", &texts, &clean, &(struct soothe__span_finder){SOOTHE__SPANS_NGRAM, 0.1 * i, ngram, NULL, NULL},
                vocab);
    for (int i = 1; i <= 9; i += 2)
        measure("lexicon", &texts, &clean,
                &(struct soothe__span_finder){SOOTHE__SPANS_LEXICON, 0.1 * i, NULL, NULL, NULL}, vocab);
    if (argc > 4 && *argv[4]) {
        int32_t longest = 1;
        for (size_t i = 0; i < texts.n; i++)
            longest = texts.items[i].n_tokens > longest ? texts.items[i].n_tokens : longest;
        for (size_t i = 0; i < clean.n; i++)
            longest = clean.items[i].n_tokens > longest ? clean.items[i].n_tokens : longest;
        if (soothe__probe_open(&probe, argv[4], argv[1], &err) ||
            soothe__layer_reader_new(&reader, model, &probe->layer, 1, longest, 1, &err))
            fail(&err);
        for (int i = 0; i < 4; i++)
            measure("probe", &texts, &clean,
                    &(struct soothe__span_finder){SOOTHE__SPANS_PROBE, (double)(2 << i), NULL, probe, reader}, vocab);
        soothe__layer_reader_free(reader);
        soothe__probe_free(probe);
    }
    soothe__ngram_close(ngram);
    free(path);
    llama_model_free(model);
    return 0;
}
