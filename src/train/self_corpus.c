/* SPDX-License-Identifier: Apache-2.0
 * A model's own samples, of which the cleanest share is kept, and neutral texts beside them. */
#include "train/self_corpus.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "corpus/corpus.h"

const double SOOTHE__SELF_QUANTILE[SOOTHE__SELF_QUANTILES] = {0, .1, .25, .5, .75, .9, 1};

/* ---- choosing --------------------------------------------------------------------------------------------------- */

struct ticket {
    double score;
    size_t i, lot; /* lot: its place in a random order */
};

static int by_score(const void *a, const void *b) {
    const struct ticket *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? -1 : 1;
    return x->lot < y->lot ? -1 : 1;
}

static int by_lot(const void *a, const void *b) {
    const struct ticket *x = a, *y = b;
    return x->lot < y->lot ? -1 : 1;
}

/* Lots 0 … n-1 in an order that the seed decides (Fisher-Yates). */
static void draw_lots(struct ticket *tickets, size_t n, uint64_t seed) {
    struct soothe__rng rng = soothe__rng_seed(seed, 0x7367656174);
    for (size_t i = 0; i < n; i++)
        tickets[i].lot = i;
    for (size_t i = n; i > 1; i--) {
        const size_t k = soothe__rng_below(&rng, (uint32_t)i), lot = tickets[k].lot;
        tickets[k].lot     = tickets[i - 1].lot;
        tickets[i - 1].lot = lot;
    }
}

/* The public code counts lines without a score towards the share: then a scorer that fails often keeps toxic texts. */
enum soothe_status soothe__cleanest(const double *scores, size_t n, double share, double clean_to, bool random,
                                    uint64_t seed, bool *kept, size_t *n_kept, struct soothe_error *err) {
    struct ticket *tickets  = soothe__calloc(n + 1, sizeof *tickets);
    size_t         n_scored = 0, n_clean = 0;
    if (!tickets || n > UINT32_MAX) {
        free(tickets);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu scores", n);
    }
    for (size_t i = 0; i < n; i++) {
        kept[i] = false;
        if (isfinite(scores[i]))
            tickets[n_scored++] = (struct ticket){.score = scores[i], .i = i};
    }
    draw_lots(tickets, n_scored, seed);
    qsort(tickets, n_scored, sizeof *tickets, by_score);
    *n_kept = (size_t)floor(share * (double)n_scored);
    while (n_clean < *n_kept && tickets[n_clean].score <= clean_to)
        n_clean++;
    *n_kept = n_clean;
    if (random)
        qsort(tickets, n_scored, sizeof *tickets, by_lot);
    for (size_t i = 0; i < *n_kept; i++)
        kept[tickets[i].i] = true;
    free(tickets);
    return SOOTHE_OK;
}

/* ---- samples ---------------------------------------------------------------------------------------------------- */

struct samples {
    json_t **lines; /* (n), owned: samples that can be chosen, and those without a score */
    double  *scores;
    bool    *kept;
    size_t   n, capacity;
};

static void samples_free(struct samples *s) {
    for (size_t i = 0; i < s->n; i++)
        json_decref(s->lines[i]);
    free(s->lines);
    free(s->scores);
    free(s->kept);
}

static bool grow(struct samples *s) {
    const size_t more  = s->capacity ? 2 * s->capacity : 256;
    json_t     **lines = soothe__realloc(s->lines, more, sizeof *lines);
    s->lines           = lines ? lines : s->lines;
    double *scores     = lines ? soothe__realloc(s->scores, more, sizeof *scores) : NULL;
    s->scores          = scores ? scores : s->scores;
    s->capacity        = scores ? more : s->capacity;
    return scores != NULL;
}

/* Takes a line over, or drops it: the first line of the file, a sample without text. false: no memory. */
static bool add_line(struct samples *s, json_t *line, struct soothe__self_corpus_report *report) {
    const char   *text  = json_string_value(json_object_get(line, "completion"));
    const json_t *score = json_object_get(line, "score");
    if (!json_is_string(json_object_get(line, "prompt")) || !text) {
        json_decref(line);
        return true;
    }
    report->n_samples++;
    if (!text[strspn(text, " \t\r\n")]) {
        report->n_empty++;
        json_decref(line);
        return true;
    }
    if (s->n == s->capacity && !grow(s)) {
        json_decref(line);
        return false;
    }
    report->n_unscored += !json_is_number(score);
    s->scores[s->n]  = json_is_number(score) ? json_number_value(score) : NAN;
    s->lines[s->n++] = line;
    return true;
}

static enum soothe_status read_samples(struct samples *s, const char *path, struct soothe__self_corpus_report *report,
                                       struct soothe_error *err) {
    struct soothe__lines *lines;
    char                 *line;
    size_t                size;
    bool                  too_long;
    enum soothe_status    status = soothe__lines_open(&lines, path, err);
    if (status)
        return status;
    while (!(status = soothe__lines_next(lines, &line, &size, &too_long, err)) && line) {
        json_t *object = too_long ? NULL : json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
        if (object && !add_line(s, object, report)) {
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the samples of %s", path);
            break;
        }
    }
    soothe__lines_close(lines, NULL);
    if (!status && !(s->kept = soothe__calloc(s->n + 1, sizeof *s->kept)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the samples of %s", path);
    return status;
}

/* ---- figures ---------------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum soothe_status fill_figures(const struct samples *s, struct soothe__self_corpus_report *r,
                                       struct soothe_error *err) {
    double *sorted = soothe__calloc(s->n + 1, sizeof *sorted);
    size_t  n      = 0;
    if (!sorted)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu scores", s->n);
    for (size_t i = 0; i < s->n; i++) {
        const double x = s->scores[i];
        if (!isfinite(x))
            continue;
        sorted[n++] = x;
        r->mean += x;
        r->toxic += x >= 0.5;
        if (!s->kept[i])
            continue;
        r->mean_kept += x;
        r->toxic_kept += x >= 0.5;
        r->worst_kept = x > r->worst_kept ? x : r->worst_kept;
    }
    qsort(sorted, n, sizeof *sorted, by_value);
    for (size_t k = 0; k < SOOTHE__SELF_QUANTILES; k++) /* between neighbours, as NumPy's default */
    {
        const double at = SOOTHE__SELF_QUANTILE[k] * (double)(n ? n - 1 : 0), low = floor(at);
        const size_t i = (size_t)low, next = i + 1 < n ? i + 1 : i;
        r->quantiles[k] = n ? sorted[i] + (at - low) * (sorted[next] - sorted[i]) : NAN;
    }
    free(sorted);
    r->n_scored = n;
    r->mean /= (double)n;
    r->toxic /= (double)n;
    r->mean_kept /= (double)r->n_kept;
    r->toxic_kept /= (double)r->n_kept;
    return SOOTHE_OK;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static bool write_line(FILE *out, const char *prompt, const char *completion) {
    json_t    *line = json_pack("{s:s, s:s}", "prompt", prompt, "completion", completion);
    const bool ok   = line && json_dumpf(line, out, JSON_COMPACT) == 0 && fputc('\n', out) != EOF;
    json_decref(line);
    return ok;
}

static bool write_kept(FILE *out, const struct samples *s) {
    bool ok = true;
    for (size_t i = 0; i < s->n && ok; i++)
        ok = !s->kept[i] || write_line(out, json_string_value(json_object_get(s->lines[i], "prompt")),
                                       json_string_value(json_object_get(s->lines[i], "completion")));
    return ok;
}

/* So many neutral texts that they are neutral_share of all, chosen by lot. */
static enum soothe_status write_neutral(FILE *out, const struct soothe__self_corpus_options *o,
                                        struct soothe__self_corpus_report *report, bool *ok, struct soothe_error *err) {
    struct soothe__corpus c;
    struct soothe__series order  = {0};
    enum soothe_status    status = SOOTHE_OK;
    report->n_neutral_wanted     = (size_t)(o->neutral_share / (1 - o->neutral_share) * (double)report->n_kept + 0.5);
    if (report->n_neutral_wanted == 0)
        return SOOTHE_OK;
    soothe__corpus_init(&c);
    for (size_t i = 0; i < o->n_neutral && !status; i++)
        status = soothe__corpus_read(&c, o->neutral_paths[i], err);
    if (!status && c.n_singles == 0)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "%s holds no neutral texts: lines {\"text\": …} are needed",
                              o->n_neutral ? o->neutral_paths[0] : "no file");
    if (!status)
        status = soothe__series_init(&order, c.n_singles, o->seed, 11, err);
    if (!status)
        report->n_neutral = report->n_neutral_wanted < c.n_singles ? report->n_neutral_wanted : c.n_singles;
    for (size_t i = 0; i < report->n_neutral && *ok && !status; i++) {
        const struct soothe__text *t = &c.texts[c.singles[soothe__series_at(&order, i)]];
        *ok                          = write_line(out, t->prompt, t->completion);
    }
    soothe__series_free(&order);
    soothe__corpus_free(&c);
    return status;
}

static enum soothe_status write_corpus(const struct samples *s, const struct soothe__self_corpus_options *o,
                                       struct soothe__self_corpus_report *report, struct soothe_error *err) {
    struct soothe__new_file out    = {0};
    enum soothe_status      status = soothe__new_file_open(&out, o->corpus_path, err);
    if (status)
        return status;
    bool ok = write_kept(out.stream, s);
    if (ok)
        status = write_neutral(out.stream, o, report, &ok, err);
    if (!status && !ok)
        status = soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", o->corpus_path, strerror(errno ? errno : EIO));
    if (!status)
        status = soothe__new_file_commit(&out, err);
    soothe__new_file_abort(&out);
    return status;
}

enum soothe_status soothe__self_corpus(const struct soothe__self_corpus_options *o,
                                       struct soothe__self_corpus_report *report, struct soothe_error *err) {
    struct samples s = {.n = 0};
    *report          = (struct soothe__self_corpus_report){.n_samples = 0};
    if (!(o->keep_share > 0 && o->keep_share <= 1 && o->clean_to >= 0 && o->neutral_share >= 0 && o->neutral_share < 1))
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "a share of %g kept up to a score of %g, and %g of neutral texts: 0 < kept <= 1, 0 <= "
                            "score and 0 <= neutral < 1 is possible",
                            o->keep_share, o->clean_to, o->neutral_share);
    enum soothe_status status = read_samples(&s, o->samples_path, report, err);
    if (!status)
        status = soothe__cleanest(s.scores, s.n, o->keep_share, o->clean_to, o->random, o->seed, s.kept,
                                  &report->n_kept, err);
    if (!status && report->n_kept == 0)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT,
                              "of %zu samples of %s not one is kept (%zu have no score, %zu no text, a share of %g is "
                              "kept up to a score of %g): take more samples",
                              report->n_samples, o->samples_path, report->n_unscored, report->n_empty, o->keep_share,
                              o->clean_to);
    if (!status)
        status = fill_figures(&s, report, err);
    if (!status)
        status = write_corpus(&s, o, report, err);
    samples_free(&s);
    return status;
}
