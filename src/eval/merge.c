/* SPDX-License-Identifier: Apache-2.0
 * Shards to one folder, which then is as if one process had done it all. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "eval/eval.h"

/* Where a record's line is. */
struct place {
    off_t  at;
    size_t size;     /* 0: nowhere */
    size_t i_folder; /* whose samples */
};

struct merge {
    const char *const       *folders;
    size_t                   n_folders;
    json_t                  *manifest;
    struct soothe__eval_plan plan;
    size_t                   n_all;  /* items of a method, all kinds */
    struct place            *places; /* (methods, n_all) */
    size_t                   i_folder;
    off_t                    at; /* in the file being read */
};

static enum soothe_status read_manifests(struct merge *m, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (size_t i = 0; i < m->n_folders && !status; i++) {
        json_t                  *manifest;
        struct soothe__eval_plan plan;
        status = soothe__eval_manifest_read(&manifest, &plan, m->folders[i], err);
        if (status)
            break;
        char *difference =
            i ? soothe__eval_manifest_difference(m->manifest, m->folders[0], manifest, m->folders[i]) : NULL;
        if (difference)
            status = soothe__fail(err, SOOTHE_E_MISMATCH, "these runs cannot be merged: %.900s", difference);
        free(difference);
        if (i == 0) {
            m->manifest = manifest;
            m->plan     = plan;
        } else {
            json_decref(manifest);
        }
    }
    return status;
}

static size_t place_of(const struct merge *m, size_t i_method, enum soothe__eval_kind kind, size_t i_item) {
    size_t i = i_method * m->n_all + i_item;
    for (size_t k = 0; k < (size_t)kind; k++)
        i += m->plan.n_items[k];
    return i;
}

static const char *name_of(const struct merge *m, size_t i_method) {
    const json_t *method = json_array_get(json_object_get(m->manifest, "methods"), i_method);
    return json_string_value(json_object_get(method, "name"));
}

static enum soothe_status note_record(void *user, const struct soothe__eval_record *r, const char *line, size_t size,
                                      struct soothe_error *err) {
    struct merge *m = user;
    struct place *p = &m->places[place_of(m, r->i_method, r->kind, r->i_item)];
    (void)line;
    if (p->size)
        return soothe__fail(err, SOOTHE_E_MISMATCH, "group %zu of method %s is in %s and in %s",
                            soothe__eval_group_of(&m->plan, r->kind, r->i_item), name_of(m, r->i_method),
                            m->folders[p->i_folder], m->folders[m->i_folder]);
    *p = (struct place){.at = m->at, .size = size, .i_folder = m->i_folder};
    m->at += (off_t)size;
    return SOOTHE_OK;
}

/* Names the first few groups that no folder has. */
static enum soothe_status check_missing(const struct merge *m, struct soothe_error *err) {
    enum { SHOWN = 5 };
    const size_t n_groups  = soothe__eval_n_groups(&m->plan);
    size_t       n         = 0;
    char         list[512] = "";
    for (size_t i = 0; i < m->plan.n_methods; i++) {
        for (size_t g = 0; g < n_groups; g++) {
            const struct soothe__eval_unit u     = soothe__eval_unit_at(&m->plan, i, g);
            bool                           whole = true;
            for (size_t k = 0; k < u.n; k++)
                whole = whole && m->places[place_of(m, i, u.kind, u.from + k)].size;
            const size_t used = strlen(list);
            if (!whole && n++ < SHOWN)
                snprintf(list + used, sizeof list - used, "%s%zu of %s", used ? ", " : "", g, name_of(m, i));
        }
    }
    if (n == 0)
        return SOOTHE_OK;
    return soothe__fail(err, SOOTHE_E_MISMATCH,
                        "%zu group%s in none of the folders: %s%s; finish the shards (--resume)", n,
                        n == 1 ? " is" : "s are", list, n > SHOWN ? ", ..." : "");
}

static enum soothe_status find_records(struct merge *m, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (int kind = 0; kind < SOOTHE__EVAL_KINDS; kind++)
        m->n_all += m->plan.n_items[kind];
    m->places = soothe__calloc(m->plan.n_methods, (m->n_all + 1) * sizeof *m->places);
    if (!m->places)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu records", m->n_all);
    for (m->i_folder = 0; m->i_folder < m->n_folders && !status; m->i_folder++) {
        char *path = soothe__format("%s/samples.jsonl", m->folders[m->i_folder]);
        m->at      = 0;
        status     = path ? soothe__eval_samples_read(path, &m->plan, note_record, m, err)
                          : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
        free(path);
    }
    return status ? status : check_missing(m, err);
}

/* ---- writing ------------------------------------------------------------------------------------------------ */

static enum soothe_status copy_line(FILE *out, FILE *in, const struct place *p, const char *folder,
                                    struct soothe_error *err) {
    char              *line   = soothe__calloc(p->size, 1);
    enum soothe_status status = SOOTHE_OK;
    if (!line)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a record");
    else if (fseeko(in, p->at, SEEK_SET) != 0 || fread(line, 1, p->size, in) != p->size)
        status = soothe__fail(err, SOOTHE_E_IO, "cannot read %s/samples.jsonl again", folder);
    else
        fwrite(line, 1, p->size, out); /* the commit tells of what failed */
    free(line);
    return status;
}

static enum soothe_status write_samples(const struct merge *m, const char *path, struct soothe_error *err) {
    FILE                  **in = soothe__calloc(m->n_folders, sizeof *in);
    struct soothe__new_file f  = {0};
    enum soothe_status      status =
        in ? soothe__new_file_open(&f, path, err) : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < m->plan.n_methods * m->n_all && !status; i++) {
        const struct place *p = &m->places[i];
        if (!in[p->i_folder]) {
            char *from      = soothe__format("%s/samples.jsonl", m->folders[p->i_folder]);
            in[p->i_folder] = from ? fopen(from, "rbe") : NULL;
            free(from);
        }
        status = in[p->i_folder] ? copy_line(f.stream, in[p->i_folder], p, m->folders[p->i_folder], err)
                                 : soothe__fail(err, SOOTHE_E_IO, "cannot open %s/samples.jsonl: %s",
                                                m->folders[p->i_folder], strerror(errno));
    }
    if (!status)
        status = soothe__new_file_commit(&f, err);
    soothe__new_file_abort(&f);
    for (size_t i = 0; in && i < m->n_folders; i++)
        if (in[i])
            fclose(in[i]);
    free(in);
    return status;
}

static enum soothe_status write_manifest(const struct merge *m, const char *path, struct soothe_error *err) {
    struct soothe__new_file f;
    enum soothe_status      status = soothe__new_file_open(&f, path, err);
    if (status)
        return status;
    if (json_dumpf(m->manifest, f.stream, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0)
        fputc('\n', f.stream);
    status = soothe__new_file_commit(&f, err);
    soothe__new_file_abort(&f);
    return status;
}

static enum soothe_status write_timing(const struct merge *m, const char *path, struct soothe_error *err) {
    struct soothe__new_file f;
    enum soothe_status      status = soothe__new_file_open(&f, path, err);
    if (status)
        return status;
    for (size_t i = 0; i < m->n_folders; i++) {
        char  *from = soothe__format("%s/timing.jsonl", m->folders[i]), *text = NULL;
        size_t size = 0;
        if (from && soothe__read_file(&text, &size, from, NULL) == SOOTHE_OK) /* may be missing: times are no results */
            fwrite(text, 1, size, f.stream);
        free(text);
        free(from);
    }
    status = soothe__new_file_commit(&f, err);
    soothe__new_file_abort(&f);
    return status;
}

/* The folder to be written must be new, or of an earlier merge of the same run. */
static enum soothe_status check_out(const struct merge *m, const char *out, struct soothe_error *err) {
    json_t                  *there;
    struct soothe__eval_plan plan;
    char                    *path = soothe__format("%s/manifest.json", out);
    const bool               any  = path && soothe__file_exists(path);
    free(path);
    char      *samples = soothe__format("%s/samples.jsonl", out);
    const bool unknown = !any && samples && soothe__file_exists(samples);
    free(samples);
    if (unknown)
        return soothe__fail(err, SOOTHE_E_MISMATCH,
                            "%s has samples but no manifest.json that says of which run; choose another --out", out);
    if (!any)
        return soothe__make_folders(out, err);
    for (size_t i = 0; i < m->n_folders; i++)
        if (!strcmp(out, m->folders[i]))
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "--out %s is one of the folders to be merged", out);
    enum soothe_status status = soothe__eval_manifest_read(&there, &plan, out, err);
    if (status)
        return status;
    char *difference = soothe__eval_manifest_difference(there, out, m->manifest, m->folders[0]);
    if (difference)
        status = soothe__fail(err, SOOTHE_E_MISMATCH, "%s holds another run: %.900s", out, difference);
    free(difference);
    json_decref(there);
    return status;
}

enum soothe_status soothe__eval_merge(const char *const *folders, size_t n, const char *out, bool no_timing,
                                      struct soothe_error *err) {
    struct merge       m        = {.folders = folders, .n_folders = n};
    char              *samples  = soothe__format("%s/samples.jsonl", out);
    char              *timing   = soothe__format("%s/timing.jsonl", out);
    char              *manifest = soothe__format("%s/manifest.json", out);
    enum soothe_status status =
        samples && timing && manifest ? read_manifests(&m, err) : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status)
        status = find_records(&m, err);
    if (!status)
        status = check_out(&m, out, err);
    if (!status) /* first, so that there never are samples of which nobody knows the run */
        status = write_manifest(&m, manifest, err);
    if (!status)
        status = write_samples(&m, samples, err);
    if (!status)
        status = write_timing(&m, timing, err);
    if (!status)
        status = soothe__eval_report(out, no_timing, err);
    free(m.places);
    json_decref(m.manifest);
    free(samples);
    free(timing);
    free(manifest);
    return status;
}
