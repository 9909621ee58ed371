/* SPDX-License-Identifier: Apache-2.0
 * The report of a folder. Everything in it follows from manifest.json, samples.jsonl and rescore-*.jsonl alone, except
 * what comes of timing.jsonl, which can be left out. */
#include "eval/report.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
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

/* ---- what a folder holds ------------------------------------------------------------------------------------ */

static enum soothe_status take_record(void *user, const struct soothe__eval_record *record, const char *line,
                                      size_t size, struct soothe_error *err) {
    (void)line;
    (void)size;
    return soothe__figures_add(user, record, err);
}

static enum soothe_status check_complete(const struct soothe__report *r, struct soothe_error *err) {
    size_t n_all = 0;
    for (int kind = 0; kind < SOOTHE__EVAL_KINDS; kind++)
        n_all += r->plan.n_items[kind];
    for (size_t i = 0; i < r->plan.n_methods; i++) {
        for (size_t k = 0, from = 0, kind = 0; k < n_all; k++) {
            while (k - from >= r->plan.n_items[kind])
                from += r->plan.n_items[kind++];
            if (!r->figures.seen[i * n_all + k])
                return soothe__fail(
                    err, SOOTHE_E_FORMAT,
                    "%s is not complete: %s %zu under method %zu is missing; the run goes on with --resume", r->folder,
                    soothe__eval_kind_names[kind], k - from, i);
        }
    }
    return SOOTHE_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct soothe__rescored *)a)->path, ((const struct soothe__rescored *)b)->path);
}

static enum soothe_status find_rescored(struct soothe__report *r, struct soothe_error *err) {
    DIR                 *dir = opendir(r->folder);
    const struct dirent *entry;
    if (!dir)
        return soothe__fail(err, SOOTHE_E_IO, "cannot open the folder %s: %s", r->folder, strerror(errno));
    enum soothe_status status = SOOTHE_OK;
    while ((entry = readdir(dir)) && !status) {
        const size_t n = strlen(entry->d_name);
        if (strncmp(entry->d_name, "rescore-", 8) || n < 15 || strcmp(entry->d_name + n - 6, ".jsonl"))
            continue;
        struct soothe__rescored *more = soothe__realloc(r->rescored, r->n_rescored + 1, sizeof *more);
        char                    *path = soothe__format("%s/%s", r->folder, entry->d_name);
        if (more)
            r->rescored = more;
        if (more && path)
            r->rescored[r->n_rescored++] = (struct soothe__rescored){.path = path};
        else
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    }
    closedir(dir);
    if (r->n_rescored)
        qsort(r->rescored, r->n_rescored, sizeof *r->rescored, by_name);
    return status;
}

static bool read_score(double *out, const json_t *value) {
    *out = json_is_number(value) ? json_number_value(value) : (double)NAN;
    return json_is_null(value) || (json_is_number(value) && *out >= 0 && *out <= 1);
}

/* A line {"method", "item", "scores": […], "greedy", "why": […]} of a rescore file; "why" only with nulls. */
static bool take_scores(struct soothe__report *r, size_t i_scorer, const json_t *o, uint8_t *seen) {
    const json_int_t method = json_integer_value(json_object_get(o, "method"));
    const json_int_t item   = json_integer_value(json_object_get(o, "item"));
    const json_t    *list   = json_object_get(o, "scores");
    const size_t     n = r->plan.n_samples, n_prompts = r->plan.n_items[SOOTHE__EVAL_PROMPT];
    double           greedy, *scores                  = soothe__calloc(n, sizeof *scores);
    bool ok = scores && json_is_object(o) && method >= 0 && (size_t)method < r->plan.n_methods && item >= 0 &&
              (size_t)item < n_prompts && json_array_size(list) == n &&
              read_score(&greedy, json_object_get(o, "greedy")) && !seen[(size_t)method * n_prompts + (size_t)item];
    for (size_t i = 0; i < n && ok; i++)
        ok = read_score(&scores[i], json_array_get(list, i));
    if (ok) {
        seen[(size_t)method * n_prompts + (size_t)item] = 1;
        soothe__figures_add_scores(&r->figures, i_scorer, (size_t)method, (size_t)item, scores, n, greedy);
        for (size_t i = 0; i <= n; i++)
            if (isnan(i < n ? scores[i] : greedy))
                soothe__figures_add_reason(&r->figures, i_scorer, (size_t)method,
                                           json_string_value(json_array_get(json_object_get(o, "why"), i)));
    }
    free(scores);
    return ok;
}

/* The first line: which scorer judged which samples. */
static enum soothe_status take_head(struct soothe__report *r, struct soothe__rescored *x, const json_t *o,
                                    struct soothe_error *err) {
    const char *spec     = json_string_value(json_object_get(o, "spec"));
    const char *kind     = json_string_value(json_object_get(o, "kind"));
    const char *identity = json_string_value(json_object_get(o, "identity"));
    const char *samples  = json_string_value(json_object_get(o, "samples_sha256"));
    x->spec              = spec ? soothe__strdup(spec) : NULL;
    x->kind              = kind ? soothe__strdup(kind) : NULL;
    x->identity          = identity ? soothe__strdup(identity) : NULL;
    if (!x->spec || !x->kind || !x->identity)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s does not begin with a scorer's name", x->path);
    if (!samples || strcmp(samples, r->samples_sha256))
        return soothe__fail(err, SOOTHE_E_MISMATCH, "%s is %s: delete the file, and rescore with %s", x->path,
                            samples ? "about other samples than the folder's"
                                    : "of a version that did not note which samples it is about",
                            x->spec);
    return SOOTHE_OK;
}

static enum soothe_status read_rescored(struct soothe__report *r, size_t i, struct soothe_error *err) {
    struct soothe__rescored *x    = &r->rescored[i];
    FILE                    *in   = fopen(x->path, "rbe");
    char                    *line = NULL;
    size_t                   size = 0, n_lines = 0;
    const size_t             n_wanted = r->plan.n_methods * r->plan.n_items[SOOTHE__EVAL_PROMPT];
    uint8_t                 *seen     = soothe__calloc(n_wanted + 1, 1);
    enum soothe_status       status   = SOOTHE_OK;
    if (!in || !seen)
        status = soothe__fail(err, SOOTHE_E_IO, "cannot open %s: %s", x->path, strerror(errno));
    while (!status && getline(&line, &size, in) > 0) {
        json_t *o = json_loads(line, 0, NULL);
        if (n_lines == 0) {
            status = take_head(r, x, o, err);
        } else if (!take_scores(r, r->plan.n_scorers + i, o, seen)) {
            status = soothe__fail(err, SOOTHE_E_FORMAT, "line %zu of %s does not fit the run: delete the file",
                                  n_lines + 1, x->path);
        }
        n_lines++;
        json_decref(o);
    }
    if (!status && n_lines != n_wanted + 1)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s has %zu lines, not %zu: delete the file", x->path, n_lines,
                              n_wanted + 1);
    free(line);
    free(seen);
    if (in)
        fclose(in);
    return status;
}

static enum soothe_status read_folder(struct soothe__report *r, struct soothe_error *err) {
    enum soothe_status status = soothe__eval_manifest_read(&r->manifest, &r->plan, r->folder, err);
    if (!status)
        status = find_rescored(r, err);
    if (!status)
        status = soothe__figures_init(&r->figures, &r->plan, r->n_rescored, err);
    char *samples = soothe__format("%s/samples.jsonl", r->folder);
    if (!status && samples && r->n_rescored)
        status = soothe__sha256_file(r->samples_sha256, samples, err);
    if (!status)
        status = samples ? soothe__eval_samples_read(samples, &r->plan, take_record, &r->figures, err)
                         : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    free(samples);
    if (!status)
        status = check_complete(r, err);
    if (!status)
        soothe__figures_finish(&r->figures);
    for (size_t i = 0; i < r->n_rescored && !status; i++)
        status = read_rescored(r, i, err);
    return status;
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

static enum soothe_status write_report(struct soothe__report *r, struct soothe_error *err) {
    json_t *o    = soothe__report_json(r);
    char   *text = o && !r->status ? json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(7)) : NULL;
    json_decref(o);
    enum soothe_status status = r->status;
    if (!status && !text)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the report of %s", r->folder);
    if (!status)
        status = write_text(r->folder, "report.json", text, err);
    char *page = soothe__format("%s/report.html", r->folder);
    if (!status)
        status = page ? soothe__report_write_html(page, text, strlen(text), err)
                      : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    free(page);
    free(text);
    return status;
}

enum soothe_status soothe__eval_report(const char *folder, bool no_timing, struct soothe_error *err) {
    struct soothe__report r      = {.folder = folder, .no_timing = no_timing, .err = err};
    enum soothe_status    status = read_folder(&r, err);
    if (!status)
        status = make_splits(&r, err);
    if (!status)
        status = write_report(&r, err);
    for (int i = 0; i < SOOTHE__SPLITS; i++)
        split_free(&r.splits[i]);
    split_free(&r.benign);
    split_free(&r.corpus);
    for (size_t i = 0; i < r.n_rescored; i++) {
        free(r.rescored[i].path);
        free(r.rescored[i].spec);
        free(r.rescored[i].kind);
        free(r.rescored[i].identity);
    }
    free(r.rescored);
    soothe__figures_free(&r.figures);
    json_decref(r.manifest);
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
