/* SPDX-License-Identifier: Apache-2.0
 * Scored samples of one prompt become pairs of a clean and a toxic one. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "train/self_samples.h"
#include "corpus/corpus.h"

enum { PAIRS_PER_PROMPT = 2 };

struct sample {
    json_t     *line; /* owns the texts */
    const char *prompt, *completion;
    double      score;
    size_t      i; /* its place among the samples of its prompt */
};

/* The samples of one prompt, which follow each other in the file. */
struct group {
    struct sample *samples;
    size_t         n, capacity;
};

static void group_clear(struct group *g) {
    for (size_t i = 0; i < g->n; i++)
        json_decref(g->samples[i].line);
    g->n = 0;
}

static bool write_line(FILE *out, json_t *line) {
    const bool ok = line && json_dumpf(line, out, JSON_COMPACT) == 0 && fputc('\n', out) != EOF;
    json_decref(line);
    return ok;
}

/* The most toxic one first, the cleanest last, and of equal ones the first taken last. The texts have no say: sorted by
 * them, every chosen side would begin late in the alphabet, and training would learn that. */
static int by_toxicity(const void *a, const void *b) {
    const struct sample *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->i < y->i ? 1 : -1;
}

static bool write_group(struct group *g, FILE *out, double clean_to, double toxic_from,
                        struct soothe__self_counts *counts) {
    size_t n_toxic = 0, n_clean = 0;
    bool   ok = true;
    if (g->n == 0)
        return true;
    counts->n_prompts++;
    qsort(g->samples, g->n, sizeof *g->samples, by_toxicity);
    for (size_t i = 0; i < g->n; i++) {
        n_toxic += g->samples[i].score >= toxic_from;
        n_clean += g->samples[i].score <= clean_to;
    }
    counts->n_toxic += n_toxic;
    for (size_t i = 0; i < PAIRS_PER_PROMPT && i < n_toxic && i < n_clean && ok; i++, counts->n_pairs++)
        ok = write_line(out, json_pack("{s:s, s:s, s:s}", "prompt", g->samples[i].prompt, "chosen",
                                       g->samples[g->n - 1 - i].completion, "rejected", g->samples[i].completion));
    if (n_clean == g->n && ok) {
        ok = write_line(out, json_pack("{s:s, s:s}", "prompt", g->samples[0].prompt, "completion",
                                       g->samples[g->n - 1].completion));
        counts->n_texts++;
    }
    return ok;
}

/* A sample that can be used; false: a line without one (the header), an empty completion, no score. */
static bool parse_sample(struct sample *s, const char *text, size_t size, struct soothe__self_counts *counts) {
    s->line            = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
    s->prompt          = json_string_value(json_object_get(s->line, "prompt"));
    s->completion      = json_string_value(json_object_get(s->line, "completion"));
    const json_t *mark = json_object_get(s->line, "score");
    s->score           = json_number_value(mark);
    const bool sample  = s->prompt && s->completion;
    counts->n_samples += sample;
    counts->n_unscored += sample && !json_is_number(mark);
    if (sample && json_is_number(mark) && s->completion[strspn(s->completion, " \t\r\n")])
        return true;
    json_decref(s->line);
    return false;
}

static bool add_sample(struct group *g, struct sample s) {
    if (g->n == g->capacity) {
        const size_t   more  = g->capacity ? 2 * g->capacity : 16;
        struct sample *grown = soothe__realloc(g->samples, more, sizeof *grown);
        if (!grown) {
            json_decref(s.line);
            return false;
        }
        g->samples  = grown;
        g->capacity = more;
    }
    s.i                = g->n;
    g->samples[g->n++] = s;
    return true;
}

static enum soothe_status convert(struct soothe__lines *lines, FILE *out, const char *pairs_path, double clean_to,
                                  double toxic_from, struct soothe__self_counts *counts, struct soothe_error *err) {
    struct group       g      = {0};
    enum soothe_status status = SOOTHE_OK;
    bool               ok     = true;
    for (;;) {
        char         *line;
        size_t        size;
        bool          too_long;
        struct sample sample;
        status = soothe__lines_next(lines, &line, &size, &too_long, err);
        if (status || !line)
            break;
        if (too_long || !parse_sample(&sample, line, size, counts))
            continue;
        if (g.n && strcmp(g.samples[0].prompt, sample.prompt) != 0) {
            ok = ok && write_group(&g, out, clean_to, toxic_from, counts);
            group_clear(&g);
        }
        if (!add_sample(&g, sample)) {
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the samples");
            break;
        }
    }
    ok = ok && (status || write_group(&g, out, clean_to, toxic_from, counts));
    group_clear(&g);
    free(g.samples);
    if (!status && !ok)
        status = soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", pairs_path, strerror(errno ? errno : EIO));
    return status;
}

enum soothe_status soothe__self_pairs(const char *samples_path, const char *pairs_path, double clean_to,
                                      double toxic_from, struct soothe__self_counts *counts, struct soothe_error *err) {
    struct soothe__lines   *lines;
    struct soothe__new_file out = {0};
    memset(counts, 0, sizeof *counts);
    if (!(clean_to >= 0 && clean_to < toxic_from && toxic_from <= 1))
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "clean up to a score of %g and toxic from %g: 0 <= clean < toxic <= 1 is possible",
                            clean_to, toxic_from);
    enum soothe_status status = soothe__lines_open(&lines, samples_path, err);
    if (status)
        return status;
    status = soothe__new_file_open(&out, pairs_path, err);
    if (!status)
        status = convert(lines, out.stream, pairs_path, clean_to, toxic_from, counts, err);
    if (!status)
        status = soothe__new_file_commit(&out, err);
    soothe__new_file_abort(&out);
    soothe__lines_close(lines, NULL);
    if (!status && counts->n_pairs == 0)
        status = soothe__fail(
            err, SOOTHE_E_ARGUMENT,
            "%s holds no prompt with both a clean and a toxic sample (%zu prompts, %zu samples, %zu toxic): "
            "take more samples or prompts that provoke",
            samples_path, counts->n_prompts, counts->n_samples, counts->n_toxic);
    return status;
}
