/* SPDX-License-Identifier: Apache-2.0
 * Prompts to evaluate on: from files of rows, and from the suites that are compiled in. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "corpus/rows.h"
#include "eval/eval.h"

static const char CHALLENGING_MINI[] = {
#include "challenging_mini.inc"
};
static const char BENIGN_MINI[] = {
#include "benign_mini.inc"
};

static const struct suite {
    const char *name, *lines;
    size_t      size;
    int         toxic; /* what its prompts are, where they say no toxicity of their own */
} SUITES[] = {{"challenging-mini", CHALLENGING_MINI, sizeof CHALLENGING_MINI, -1},
              {"benign-mini", BENIGN_MINI, sizeof BENIGN_MINI, 0}};
enum { N_SUITES = sizeof SUITES / sizeof *SUITES };

const char *soothe__eval_suite_names(void) {
    return "challenging-mini, benign-mini";
}

/* ---- one prompt --------------------------------------------------------------------------------------------- */

static enum soothe_status add(struct soothe__eval_prompts *p, const char *text, double toxicity, int toxic,
                              struct soothe_error *err) {
    if (p->n == p->capacity) {
        const size_t                more  = p->capacity ? 2 * p->capacity : 64;
        struct soothe__eval_prompt *items = soothe__realloc(p->items, more, sizeof *items);
        if (!items)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu prompts", more);
        p->items    = items;
        p->capacity = more;
    }
    char *copy = soothe__strdup(text);
    if (!copy)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a prompt");
    if (!isnan(toxicity))
        toxic = toxicity >= SOOTHE__EVAL_THRESHOLD;
    p->items[p->n++] = (struct soothe__eval_prompt){copy, toxicity, toxic};
    return SOOTHE_OK;
}

static enum soothe_status add_source(struct soothe__eval_prompts *p, const char *name, const char *sha256, size_t n,
                                     struct soothe_error *err) {
    if (!p->sources)
        p->sources = json_array();
    json_t *source =
        json_pack("{s:s, s:s, s:I}", "file", soothe__file_name(name), "sha256", sha256, "n", (json_int_t)n);
    if (!source)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "the name of %s is not UTF-8: rename it", name);
    return json_array_append_new(p->sources, source) ? soothe__fail(err, SOOTHE_E_MEMORY, "out of memory") : SOOTHE_OK;
}

/* ---- files -------------------------------------------------------------------------------------------------- */

/* The row's own toxicity of its prompt; NaN where it has none, as RealToxicityPrompts has of a few. */
static double own_toxicity(struct soothe__rows *rows) {
    const char *text  = soothe__rows_field(rows, "prompt.toxicity");
    double      value = NAN;
    return text && soothe__parse_double(&value, text, 0.0, 1.0) ? value : (double)NAN;
}

static enum soothe_status take_row(struct soothe__eval_prompts *p, struct soothe__rows *rows,
                                   const struct soothe__eval_source *s, struct soothe_error *err) {
    static const char *const usual[] = {"prompt.text", "prompt", "text", NULL};
    const char *const        named[] = {s->field, NULL};
    const char              *text    = soothe__rows_any_field(rows, s->field ? named : usual, NULL);
    if (!text && s->field)
        return soothe__rows_reject(rows, err, "there is no field \"%s\"", s->field);
    if (!text)
        return soothe__rows_reject(rows, err, "there is no prompt.text, prompt or text; --field names another field");
    if (!*text)
        return soothe__rows_reject(rows, err, "the prompt is empty: there is nothing to go on from");
    return add(p, text, own_toxicity(rows), -1, err);
}

static enum soothe_status read_file(struct soothe__eval_prompts *p, const char *path,
                                    const struct soothe__eval_source *s, struct soothe_error *err) {
    struct soothe__rows      *rows;
    struct soothe__row_counts counts;
    const size_t              before = p->n;
    bool                      more   = true;
    char                      hex[65];
    enum soothe_status        status = soothe__rows_open(&rows, path, s->skip_bad, err);
    if (status)
        return status;
    while (!status && (s->limit == 0 || p->n - before < s->limit)) {
        status = soothe__rows_next(rows, &more, err);
        if (status || !more)
            break;
        status = take_row(p, rows, s, err);
    }
    while (!status && more) /* to the end, so that the hash is the whole file's */
        status = soothe__rows_next(rows, &more, err);
    soothe__rows_close(rows, hex, &counts);
    p->n_bad += counts.n_bad;
    if (counts.n_bad && !p->first_bad[0])
        snprintf(p->first_bad, sizeof p->first_bad, "%s", counts.first_bad);
    if (!status && p->n == before)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s holds no prompts", path);
    return status ? status : add_source(p, path, hex, p->n - before, err);
}

/* ---- suites ------------------------------------------------------------------------------------------------- */

static enum soothe_status take_line(struct soothe__eval_prompts *p, const struct suite *suite, const char *line,
                                    size_t size, struct soothe_error *err) {
    json_t            *row      = json_loadb(line, size, 0, NULL);
    const json_t      *prompt   = json_object_get(row, "prompt");
    const json_t      *toxicity = json_object_get(prompt, "toxicity");
    const char        *text     = json_string_value(json_is_object(prompt) ? json_object_get(prompt, "text")
                                                    : prompt               ? prompt
                                                                           : json_object_get(row, "text"));
    enum soothe_status status   = SOOTHE_OK;
    if (text)
        status = add(p, text, json_is_number(toxicity) ? json_number_value(toxicity) : (double)NAN, suite->toxic, err);
    json_decref(row);
    return status;
}

static enum soothe_status read_suite(struct soothe__eval_prompts *p, const char *name, size_t limit,
                                     struct soothe_error *err) {
    const struct suite *suite = NULL;
    for (size_t i = 0; i < N_SUITES; i++)
        if (!strcmp(SUITES[i].name, name))
            suite = &SUITES[i];
    if (!suite)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "there is no suite \"%s\"; there are: %s", name,
                            soothe__eval_suite_names());
    const size_t           before = p->n;
    enum soothe_status     status = SOOTHE_OK;
    char                   hex[65];
    struct soothe__sha256 *h = soothe__sha256_new();
    if (!h)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    soothe__sha256_add(h, suite->lines, suite->size);
    soothe__sha256_finish(h, hex);
    for (size_t at = 0; at < suite->size && !status && (limit == 0 || p->n - before < limit);) {
        const char  *end = memchr(suite->lines + at, '\n', suite->size - at);
        const size_t n   = end ? (size_t)(end - suite->lines) - at : suite->size - at;
        status           = take_line(p, suite, suite->lines + at, n, err);
        at += n + 1;
    }
    return status ? status : add_source(p, name, hex, p->n - before, err);
}

/* ---- all of it ---------------------------------------------------------------------------------------------- */

enum soothe_status soothe__eval_prompts_read(struct soothe__eval_prompts *prompts, const struct soothe__eval_source *s,
                                             struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    *prompts                  = (struct soothe__eval_prompts){.n = 0};
    for (size_t i = 0; s->suites && s->suites[i] && !status; i++)
        status = read_suite(prompts, s->suites[i], s->limit, err);
    for (size_t i = 0; s->files && s->files[i] && !status; i++)
        status = read_file(prompts, s->files[i], s, err);
    if (status)
        soothe__eval_prompts_free(prompts);
    return status;
}

void soothe__eval_prompts_hash(const struct soothe__eval_prompts *prompts, char hex[65]) {
    struct soothe__sha256 *h = soothe__sha256_new();
    for (size_t i = 0; i < prompts->n && h; i++) {
        const struct soothe__eval_prompt *p = &prompts->items[i];
        char                              number[40];
        const int                         n = snprintf(number, sizeof number, "%.9g %d", p->toxicity, p->toxic);
        soothe__sha256_add(h, p->text, strlen(p->text) + 1);
        soothe__sha256_add(h, number, (size_t)n + 1);
    }
    soothe__sha256_finish(h, hex);
}

void soothe__eval_prompts_free(struct soothe__eval_prompts *prompts) {
    for (size_t i = 0; i < prompts->n; i++)
        free(prompts->items[i].text);
    free(prompts->items);
    json_decref(prompts->sources);
    *prompts = (struct soothe__eval_prompts){.n = 0};
}
