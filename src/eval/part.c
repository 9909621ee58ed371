/* SPDX-License-Identifier: Apache-2.0
 * A run's folder as a part of a report: manifest.json, rescore-*.jsonl and samples.jsonl into figures. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/report.h"

/* ---- what a folder is about --------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct soothe__rescored *)a)->path, ((const struct soothe__rescored *)b)->path);
}

static enum soothe_status find_rescored(struct soothe__part *p, struct soothe_error *err) {
    DIR                 *dir = opendir(p->folder);
    const struct dirent *entry;
    if (!dir)
        return soothe__fail(err, SOOTHE_E_IO, "cannot open the folder %s: %s", p->folder, strerror(errno));
    enum soothe_status status = SOOTHE_OK;
    while ((entry = readdir(dir)) && !status) {
        const size_t n = strlen(entry->d_name);
        if (strncmp(entry->d_name, "rescore-", 8) || n < 15 || strcmp(entry->d_name + n - 6, ".jsonl"))
            continue;
        struct soothe__rescored *more = soothe__realloc(p->rescored, p->n_rescored + 1, sizeof *more);
        char                    *path = soothe__format("%s/%s", p->folder, entry->d_name);
        if (more)
            p->rescored = more;
        if (more && path)
            p->rescored[p->n_rescored++] = (struct soothe__rescored){.path = path};
        else
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    }
    closedir(dir);
    if (p->n_rescored)
        qsort(p->rescored, p->n_rescored, sizeof *p->rescored, by_name);
    return status;
}

/* The first line: which scorer judged which samples. */
static enum soothe_status take_head(const struct soothe__part *p, struct soothe__rescored *x, const json_t *o,
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
    if (!samples || strcmp(samples, p->samples_sha256))
        return soothe__fail(err, SOOTHE_E_MISMATCH, "%s is %s: delete the file, and rescore with %s", x->path,
                            samples ? "about other samples than the folder's"
                                    : "of a version that did not note which samples it is about",
                            x->spec);
    return SOOTHE_OK;
}

static enum soothe_status read_head(const struct soothe__part *p, struct soothe__rescored *x,
                                    struct soothe_error *err) {
    FILE              *in     = fopen(x->path, "rbe");
    char              *line   = NULL;
    size_t             size   = 0;
    enum soothe_status status = SOOTHE_OK;
    if (!in) {
        status = soothe__fail(err, SOOTHE_E_IO, "cannot open %s: %s", x->path, strerror(errno));
    } else {
        json_t *o = getline(&line, &size, in) > 0 ? json_loads(line, 0, NULL) : NULL;
        status    = take_head(p, x, o, err);
        json_decref(o);
        fclose(in);
    }
    free(line);
    return status;
}

enum soothe_status soothe__part_open(struct soothe__part *p, const char *folder, struct soothe_error *err) {
    *p                        = (struct soothe__part){.folder = folder};
    enum soothe_status status = soothe__eval_manifest_read(&p->manifest, &p->plan, folder, err);
    if (!status)
        status = find_rescored(p, err);
    if (!status && p->plan.n_scorers + p->n_rescored > SOOTHE__EVAL_SCORERS_MAX)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "%s has more than %d scorers", folder, SOOTHE__EVAL_SCORERS_MAX);
    char *samples = soothe__format("%s/samples.jsonl", folder);
    if (!status)
        status = !samples        ? soothe__fail(err, SOOTHE_E_MEMORY, "out of memory")
                 : p->n_rescored ? soothe__sha256_file(p->samples_sha256, samples, err)
                                 : SOOTHE_OK;
    free(samples);
    for (size_t i = 0; i < p->n_rescored && !status; i++)
        status = read_head(p, &p->rescored[i], err);
    p->view = soothe__figures_view_whole(&p->plan);
    return status;
}

void soothe__part_close(struct soothe__part *p) {
    for (size_t i = 0; i < p->n_rescored; i++) {
        free(p->rescored[i].path);
        free(p->rescored[i].spec);
        free(p->rescored[i].kind);
        free(p->rescored[i].identity);
    }
    free(p->rescored);
    json_decref(p->manifest);
    *p = (struct soothe__part){.folder = NULL};
}

/* ---- its records -------------------------------------------------------------------------------------------- */

struct reading {
    const struct soothe__part *part;
    struct soothe__report     *r;
};

static enum soothe_status take_record(void *user, const struct soothe__eval_record *record, const char *line,
                                      size_t size, struct soothe_error *err) {
    const struct reading   *reading = user;
    struct soothe__figures *f       = &reading->r->figures;
    const size_t            i       = record->i_item;
    (void)line;
    (void)size;
    if (record->kind == SOOTHE__EVAL_PROMPT && i < f->plan.n_items[SOOTHE__EVAL_PROMPT] && f->prompts[i] &&
        (strcmp(f->prompts[i], record->prompt) || f->toxic[i] != record->toxic))
        return soothe__fail(
            err, SOOTHE_E_MISMATCH,
            "these runs cannot be compared: prompt %zu, or whether it is toxic, is one in %s and another in %s", i,
            reading->r->parts[0].folder, reading->part->folder);
    return soothe__figures_add(f, &reading->part->view, record, err);
}

static enum soothe_status check_complete(const struct soothe__part *p, const struct soothe__figures *f,
                                         struct soothe_error *err) {
    size_t n_all = 0;
    for (int kind = 0; kind < SOOTHE__EVAL_KINDS; kind++)
        n_all += f->plan.n_items[kind];
    for (size_t i = 0; i < p->plan.n_methods; i++) {
        if (p->view.methods[i] == SOOTHE__NOWHERE)
            continue;
        for (size_t k = 0, from = 0, kind = 0; k < n_all; k++) {
            while (k - from >= f->plan.n_items[kind])
                from += f->plan.n_items[kind++];
            if (!f->seen[p->view.methods[i] * n_all + k])
                return soothe__fail(
                    err, SOOTHE_E_FORMAT,
                    "%s is not complete: %s %zu under method %zu is missing; the run goes on with --resume", p->folder,
                    soothe__eval_kind_names[kind], k - from, i);
        }
    }
    return SOOTHE_OK;
}

static bool read_score(double *out, const json_t *value) {
    *out = json_is_number(value) ? json_number_value(value) : (double)NAN;
    return json_is_null(value) || (json_is_number(value) && *out >= 0 && *out <= 1);
}

/* A line {"method", "item", "scores": […], "greedy", "why": […]} of a rescore file; "why" only with nulls. */
static bool take_scores(const struct soothe__part *p, struct soothe__figures *f, size_t i_scorer, const json_t *o,
                        uint8_t *seen) {
    const json_int_t method = json_integer_value(json_object_get(o, "method"));
    const json_int_t item   = json_integer_value(json_object_get(o, "item"));
    const json_t    *list   = json_object_get(o, "scores");
    const size_t     n = p->plan.n_samples, n_prompts = p->plan.n_items[SOOTHE__EVAL_PROMPT];
    double           greedy, *scores                  = soothe__calloc(n, sizeof *scores);
    bool ok = scores && json_is_object(o) && method >= 0 && (size_t)method < p->plan.n_methods && item >= 0 &&
              (size_t)item < n_prompts && json_array_size(list) == n &&
              read_score(&greedy, json_object_get(o, "greedy")) && !seen[(size_t)method * n_prompts + (size_t)item];
    for (size_t i = 0; i < n && ok; i++)
        ok = read_score(&scores[i], json_array_get(list, i));
    const size_t row = ok ? p->view.methods[method] : SOOTHE__NOWHERE;
    if (ok)
        seen[(size_t)method * n_prompts + (size_t)item] = 1;
    if (row != SOOTHE__NOWHERE && (size_t)item < f->plan.n_items[SOOTHE__EVAL_PROMPT]) {
        soothe__figures_add_scores(f, i_scorer, row, (size_t)item, scores, n, greedy);
        for (size_t i = 0; i <= n; i++)
            if (isnan(i < n ? scores[i] : greedy))
                soothe__figures_add_reason(f, i_scorer, row,
                                           json_string_value(json_array_get(json_object_get(o, "why"), i)));
    }
    free(scores);
    return ok;
}

static enum soothe_status read_rescored(const struct soothe__part *p, struct soothe__figures *f, size_t i,
                                        struct soothe_error *err) {
    const struct soothe__rescored *x        = &p->rescored[i];
    const size_t                   i_scorer = p->view.scorers[p->plan.n_scorers + i];
    if (i_scorer == SOOTHE__NOWHERE)
        return SOOTHE_OK;
    FILE              *in   = fopen(x->path, "rbe");
    char              *line = NULL;
    size_t             size = 0, n_lines = 0;
    const size_t       n_wanted = p->plan.n_methods * p->plan.n_items[SOOTHE__EVAL_PROMPT];
    uint8_t           *seen     = soothe__calloc(n_wanted + 1, 1);
    enum soothe_status status   = SOOTHE_OK;
    if (!in || !seen)
        status = soothe__fail(err, SOOTHE_E_IO, "cannot open %s: %s", x->path, strerror(errno));
    while (!status && getline(&line, &size, in) > 0) {
        json_t *o = json_loads(line, 0, NULL);
        if (n_lines > 0 && !take_scores(p, f, i_scorer, o, seen))
            status = soothe__fail(err, SOOTHE_E_FORMAT, "line %zu of %s does not fit the run: delete the file",
                                  n_lines + 1, x->path);
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

enum soothe_status soothe__part_read(const struct soothe__part *p, struct soothe__report *r, struct soothe_error *err) {
    struct reading     reading = {p, r};
    char              *samples = soothe__format("%s/samples.jsonl", p->folder);
    enum soothe_status status  = samples ? soothe__eval_samples_read(samples, &p->plan, take_record, &reading, err)
                                         : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    free(samples);
    if (!status)
        status = check_complete(p, &r->figures, err);
    for (size_t i = 0; i < p->n_rescored && !status; i++)
        status = read_rescored(p, &r->figures, i, err);
    return status;
}
