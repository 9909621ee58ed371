/* SPDX-License-Identifier: Apache-2.0
 * The report of one run or of several. Everything in it follows from the folders' manifest.json, samples.jsonl and
 * rescore-*.jsonl alone, except what comes of timing.jsonl, which can be left out. */
#include "eval/report.h"

#include <stdlib.h>
#include <string.h>

#include "eval/report_html.h"

/* ---- splits ------------------------------------------------------------------------------------------------- */

static enum soothe_status split_init(struct soothe__split *s, size_t n_all, const int8_t *toxic, int wanted,
                                     struct soothe_error *err) {
    s->places = soothe__calloc(n_all + 1, sizeof *s->places);
    for (size_t i = 0; i < n_all && s->places; i++)
        if (!toxic || toxic[i] == wanted)
            s->places[s->n++] = i;
    s->xa = soothe__calloc(s->n + 1, sizeof *s->xa);
    s->wa = soothe__calloc(s->n + 1, sizeof *s->wa);
    s->xb = soothe__calloc(s->n + 1, sizeof *s->xb);
    s->wb = soothe__calloc(s->n + 1, sizeof *s->wb);
    if (!s->places || !s->xa || !s->wa || !s->xb || !s->wb)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu prompts", n_all);
    return soothe__resamples_draw(&s->resamples, s->n, SOOTHE__RESAMPLES, SOOTHE__RESAMPLE_SEED, err);
}

static void split_free(struct soothe__split *s) {
    soothe__resamples_free(&s->resamples);
    free(s->places);
    free(s->xa);
    free(s->wa);
    free(s->xb);
    free(s->wb);
}

static enum soothe_status make_splits(struct soothe__report *r, struct soothe_error *err) {
    const size_t      *n      = r->plan.n_items;
    const int8_t      *toxic  = r->figures.toxic;
    enum soothe_status status = split_init(&r->splits[0], n[SOOTHE__EVAL_PROMPT], NULL, 0, err);
    if (!status)
        status = split_init(&r->splits[1], n[SOOTHE__EVAL_PROMPT], toxic, 1, err);
    if (!status)
        status = split_init(&r->splits[2], n[SOOTHE__EVAL_PROMPT], toxic, 0, err);
    if (!status)
        status = split_init(&r->benign, n[SOOTHE__EVAL_BENIGN], NULL, 0, err);
    return status ? status : split_init(&r->corpus, n[SOOTHE__EVAL_CORPUS], NULL, 0, err);
}

/* ---- writing and reading reports ---------------------------------------------------------------------------- */

static enum soothe_status write_text(const char *folder, const char *name, const char *text, struct soothe_error *err) {
    struct soothe__new_file f    = {0};
    char                   *path = soothe__format("%s/%s", folder, name);
    enum soothe_status      status =
        path ? soothe__new_file_open(&f, path, err) : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status) {
        fputs(text, f.stream);
        fputc('\n', f.stream);
        status = soothe__new_file_commit(&f, err);
    }
    soothe__new_file_abort(&f);
    free(path);
    return status;
}

static enum soothe_status write_files(const char *folder, const char *text, struct soothe_error *err) {
    char              *page   = soothe__format("%s/report.html", folder);
    enum soothe_status status = write_text(folder, "report.json", text, err);
    if (!status)
        status = page ? soothe__report_write_html(page, text, strlen(text), err)
                      : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    free(page);
    return status;
}

static enum soothe_status fill(struct soothe__report *r, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (size_t i = 0; i < r->c->n_folders && !status; i++)
        status = soothe__part_open(&r->parts[i], r->c->folders[i], err);
    if (!status)
        status = soothe__report_join(r, err);
    if (!status)
        status = soothe__figures_init(&r->figures, &r->plan, err);
    for (size_t i = 0; i < r->c->n_folders && !status; i++)
        status = soothe__part_read(&r->parts[i], r, err);
    if (!status)
        soothe__figures_finish(&r->figures);
    return status ? status : make_splits(r, err);
}

static enum soothe_status report_text(char **text, struct soothe__report *r, struct soothe_error *err) {
    json_t *o = soothe__report_json(r);
    *text     = o && !r->status ? json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(7)) : NULL;
    json_decref(o);
    return r->status ? r->status
           : *text   ? SOOTHE_OK
                     : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the report");
}

/* The report as text, fresh. */
static enum soothe_status build(char **text, const struct soothe__eval_comparison *c, struct soothe_error *err) {
    struct soothe__report r = {.c = c, .parts = soothe__calloc(c->n_folders, sizeof *r.parts), .err = err};
    *text                   = NULL;
    enum soothe_status status =
        r.parts ? fill(&r, err) : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu runs", c->n_folders);
    if (!status)
        status = report_text(text, &r, err);
    for (int i = 0; i < SOOTHE__SPLITS; i++)
        split_free(&r.splits[i]);
    split_free(&r.benign);
    split_free(&r.corpus);
    for (size_t i = 0; r.parts && i < c->n_folders; i++)
        soothe__part_close(&r.parts[i]);
    free(r.parts);
    soothe__figures_free(&r.figures);
    json_decref(r.manifest);
    json_decref(r.scorers);
    json_decref(r.runs);
    json_decref(r.notes);
    return status;
}

enum soothe_status soothe__eval_report(const char *folder, bool no_timing, struct soothe_error *err) {
    const struct soothe__eval_comparison c = {.folders = &folder, .n_folders = 1, .no_timing = no_timing};
    char                                *text;
    enum soothe_status                   status = build(&text, &c, err);
    if (!status)
        status = write_files(folder, text, err);
    free(text);
    return status;
}

/* A run's own report must not be written over. */
static enum soothe_status check_out(const char *out, struct soothe_error *err) {
    char              *path   = soothe__format("%s/manifest.json", out);
    enum soothe_status status = SOOTHE_OK;
    if (!path)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    else if (soothe__file_exists(path))
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "%s holds a run and its report; choose another --out", out);
    free(path);
    return status;
}

enum soothe_status soothe__eval_compare(char **text, const struct soothe__eval_comparison *c,
                                        struct soothe_error *err) {
    enum soothe_status status = c->out ? check_out(c->out, err) : SOOTHE_OK;
    *text                     = NULL;
    if (!status)
        status = build(text, c, err);
    if (!status && c->out)
        status = soothe__make_folders(c->out, err);
    if (!status && c->out)
        status = write_files(c->out, *text, err);
    return status;
}

static bool is_interval(const json_t *o) {
    static const char *const keys[] = {"value", "lo", "hi"};
    bool                     ok     = json_is_object(o);
    for (int i = 0; i < 3 && ok; i++) {
        const json_t *x = json_object_get(o, keys[i]);
        ok              = json_is_number(x) || json_is_null(x);
    }
    return ok;
}

enum soothe_status soothe__eval_report_parse(json_t **report, const char *text, size_t size, const char *name,
                                             struct soothe_error *err) {
    json_error_t why;
    json_t      *o = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why), *method;
    const char  *kind;
    size_t       i;
    *report = NULL;
    if (!o)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s is no JSON: %s", name, why.text);
    kind    = json_string_value(json_object_get(o, "kind"));
    bool ok = kind && !strcmp(kind, "soothe-eval-report") &&
              json_integer_value(json_object_get(o, "schema")) == SOOTHE__EVAL_SCHEMA &&
              json_array_size(json_object_get(o, "methods")) > 0 &&
              json_is_integer(json_object_get(json_object_get(o, "prompts"), "n"));
    json_array_foreach(json_object_get(o, "methods"), i, method) {
        ok = ok && json_is_string(json_object_get(method, "name")) && json_is_integer(json_object_get(method, "nulls"));
        for (int k = 0; k < SOOTHE__N_METRICS; k++)
            ok = ok && ((k >= SOOTHE__N_FIRST && !json_object_get(method, soothe__metric_names[k])) ||
                        is_interval(json_object_get(method, soothe__metric_names[k])));
    }
    if (ok) {
        *report = o;
        return SOOTHE_OK;
    }
    json_decref(o);
    return soothe__fail(err, SOOTHE_E_FORMAT, "%s is not a report of schema %d", name, SOOTHE__EVAL_SCHEMA);
}
