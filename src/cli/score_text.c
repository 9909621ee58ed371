/* SPDX-License-Identifier: Apache-2.0
 * The score of one text, printed. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/score.h"
#include "score/lexicon.h"

/* [{"start", "end", "text", "value"}, …] */
static json_t *json_parts(const struct soothe__ngram_parts *p, const char *text, const char *value_name) {
    json_t *list = json_array();
    for (size_t i = 0; i < p->n; i++) {
        const struct soothe__ngram_part *part = &p->parts[i];
        json_array_append_new(list, json_pack("{s:I, s:I, s:o, s:f}", "start", (json_int_t)part->start, "end",
                                              (json_int_t)part->end, "text",
                                              json_stringn(text + part->start, part->end - part->start), value_name,
                                              part->value));
    }
    return list;
}

static enum soothe_status add_view(json_t *o, const char *text, const struct soothe__ngram_scorer *ngram,
                                   const struct soothe__score_view *view, struct soothe_error *err) {
    struct soothe__ngram_parts   parts   = {0};
    struct soothe__ngram_windows windows = {0};
    const size_t                 size    = strlen(text);
    enum soothe_status           status  = SOOTHE_OK;
    if (view->explain) {
        status = soothe__ngram_explain(&parts, ngram, text, size, err);
        if (status)
            return status;
        json_object_set_new(o, "log_odds", json_real(parts.log_odds));
        json_object_set_new(o, "bias", json_real(parts.bias));
        json_object_set_new(o, "parts", json_parts(&parts, text, "log_odds"));
        soothe__ngram_parts_free(&parts);
    }
    if (view->spans) {
        status = soothe__ngram_spans(&parts, ngram, text, size, view->threshold, err);
        if (!status)
            status = soothe__ngram_windows(&windows, ngram, text, size, err);
        if (status)
            return status;
        json_object_set_new(o, "spans", json_parts(&parts, text, "toxicity"));
        json_object_set_new(o, "windows",
                            json_pack("{s:I, s:f, s:f, s:I, s:I}", "n", (json_int_t)windows.n, "max", windows.max,
                                      "mean", windows.mean, "start", (json_int_t)windows.start, "end",
                                      (json_int_t)windows.end));
        soothe__ngram_parts_free(&parts);
    }
    return SOOTHE_OK;
}

static enum soothe_status print_json(const struct soothe__score *score, const char *text,
                                     const struct soothe__ngram_scorer *ngram, const struct soothe__score_view *view,
                                     struct soothe_error *err) {
    json_t *o = json_pack("{s:o}", "toxicity", soothe__json_number(score->toxicity));
    if (!o)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (isnan(score->toxicity))
        json_object_set_new(o, "why", json_string(score->why));
    const enum soothe_status status = ngram ? add_view(o, text, ngram, view, err) : SOOTHE_OK;
    if (!status) {
        json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
        putchar('\n');
    }
    json_decref(o);
    return status;
}

/* A line of its own: breaks and tabs become spaces, crude words are masked. */
static enum soothe_status print_masked(const char *text, size_t size, struct soothe_error *err) {
    char *masked = soothe__mask_toxic(text, size);
    if (!masked)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    for (char *c = masked; *c; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
    puts(masked);
    free(masked);
    return SOOTHE_OK;
}

static enum soothe_status print_parts(const struct soothe__ngram_parts *p, const char *text, const char *format,
                                      struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (size_t i = 0; i < p->n && !status; i++) {
        const struct soothe__ngram_part *part = &p->parts[i];
        printf("  %5zu-%-5zu ", part->start, part->end);
        printf(format, part->value);
        status = print_masked(text + part->start, part->end - part->start, err);
    }
    return status;
}

static enum soothe_status print_view(const char *text, const struct soothe__ngram_scorer *ngram,
                                     const struct soothe__score_view *view, struct soothe_error *err) {
    struct soothe__ngram_parts   parts   = {0};
    struct soothe__ngram_windows windows = {0};
    const size_t                 size    = strlen(text);
    enum soothe_status           status  = SOOTHE_OK;
    if (view->explain) {
        status = soothe__ngram_explain(&parts, ngram, text, size, err);
        if (!status) {
            printf("  log-odds %+.3f = bias %+.3f, and of the bytes\n", parts.log_odds, parts.bias);
            status = print_parts(&parts, text, "%+7.3f  ", err);
        }
        soothe__ngram_parts_free(&parts);
    }
    if (view->spans && !status) {
        status = soothe__ngram_spans(&parts, ngram, text, size, view->threshold, err);
        if (!status)
            status = soothe__ngram_windows(&windows, ngram, text, size, err);
        if (!status && windows.n > 1)
            printf("  %zu windows: max %.4f (bytes %zu-%zu), mean %.4f\n", windows.n, windows.max, windows.start,
                   windows.end, windows.mean);
        if (!status)
            status = print_parts(&parts, text, " %.4f  ", err);
        soothe__ngram_parts_free(&parts);
    }
    return status;
}

enum soothe_status soothe__print_score(const struct soothe__score *score, const char *text,
                                       const struct soothe__ngram_scorer *ngram, const struct soothe__score_view *view,
                                       struct soothe_error *err) {
    if (view->json)
        return print_json(score, text, ngram, view, err);
    if (isnan(score->toxicity))
        printf("-\t(%s) ", score->why);
    else
        printf("%.4f\t", score->toxicity);
    enum soothe_status status = print_masked(text, strlen(text), err);
    if (!status && ngram)
        status = print_view(text, ngram, view, err);
    return status;
}
