/* SPDX-License-Identifier: Apache-2.0
 * The folder of a run: manifest.json, written once; samples.jsonl and timing.jsonl, only ever added to. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "eval/eval.h"

/* ---- reading samples ---------------------------------------------------------------------------------------- */

static enum soothe_status read_lines(FILE *in, const char *path, const struct soothe__eval_plan *plan,
                                     soothe__eval_on_record on_record, void *user, struct soothe_error *err) {
    char               *line     = NULL;
    size_t              capacity = 0, n_line = 0;
    ssize_t             size;
    enum soothe_status  status = SOOTHE_OK;
    struct soothe_error why    = {.message = ""};
    bool                broken = false; /* a bad line is torn if it is the last, and damage if others follow */
    while (!status && (size = getline(&line, &capacity, in)) > 0) {
        struct soothe__eval_record r;
        if (broken)
            status = soothe__fail(err, SOOTHE_E_FORMAT, "line %zu of %s is damaged: %.600s", n_line, path, why.message);
        n_line++;
        if (status)
            break;
        broken =
            line[size - 1] != '\n' || soothe__eval_record_parse(&r, plan, line, (size_t)size - 1, &why) != SOOTHE_OK;
        if (!broken) {
            status = on_record(user, &r, line, (size_t)size, err);
            soothe__eval_record_free(&r);
        }
    }
    if (!status && ferror(in))
        status = soothe__fail(err, SOOTHE_E_IO, "cannot read %s: %s", path, strerror(errno));
    free(line);
    return status;
}

enum soothe_status soothe__eval_samples_read(const char *path, const struct soothe__eval_plan *plan,
                                             soothe__eval_on_record on_record, void *user, struct soothe_error *err) {
    FILE *in = fopen(path, "rbe");
    if (!in)
        return soothe__fail(err, SOOTHE_E_IO, "cannot open %s: %s", path, strerror(errno));
    const enum soothe_status status = read_lines(in, path, plan, on_record, user, err);
    fclose(in);
    return status;
}

/* ---- what is done ------------------------------------------------------------------------------------------- */

/* Counts the records of each unit; only the tail of the file can hold an unfinished one. */
struct scan {
    struct soothe__eval_store *store;
    const char                *path;
    size_t                     n_groups, i_open, n_open; /* the unit that is being read and its records so far */
    size_t                     n_line;
    off_t                      at, end; /* end: after the last line of a whole unit */
};

static enum soothe_status scan_record(void *user, const struct soothe__eval_record *r, const char *line, size_t size,
                                      struct soothe_error *err) {
    struct scan                    *s       = user;
    const struct soothe__eval_plan *plan    = &s->store->plan;
    const size_t                    i_group = soothe__eval_group_of(plan, r->kind, r->i_item);
    const size_t                    i       = r->i_method * s->n_groups + i_group;
    const struct soothe__eval_unit  unit    = soothe__eval_unit_at(plan, r->i_method, i_group);
    (void)line;
    s->n_line++;
    s->at += (off_t)size;
    if (s->n_open == 0)
        s->i_open = i;
    if (i != s->i_open || r->i_item != unit.from + s->n_open || s->store->done[i])
        return soothe__fail(err, SOOTHE_E_FORMAT, "line %zu of %s is out of order: prompt %zu under method %zu",
                            s->n_line, s->path, r->i_item, r->i_method);
    if (++s->n_open == unit.n) {
        s->store->done[i] = 1;
        s->n_open         = 0;
        s->end            = s->at;
    }
    return SOOTHE_OK;
}

static enum soothe_status scan_samples(struct soothe__eval_store *s, const char *path, struct soothe_error *err) {
    struct scan scan = {.store = s, .path = path, .n_groups = soothe__eval_n_groups(&s->plan)};
    rewind(s->samples);
    enum soothe_status status = read_lines(s->samples, path, &s->plan, scan_record, &scan, err);
    if (!status && (ftruncate(fileno(s->samples), scan.end) != 0 || fseeko(s->samples, scan.end, SEEK_SET) != 0))
        status = soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", path, strerror(errno));
    return status;
}

bool soothe__eval_store_has(const struct soothe__eval_store *s, const struct soothe__eval_unit *unit) {
    return s->done[unit->i_method * soothe__eval_n_groups(&s->plan) + unit->i_group];
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

static enum soothe_status write_manifest(const char *path, const json_t *manifest, struct soothe_error *err) {
    struct soothe__new_file f;
    enum soothe_status      status = soothe__new_file_open(&f, path, err);
    if (status)
        return status;
    if (json_dumpf(manifest, f.stream, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0)
        fputc('\n', f.stream);
    status = soothe__new_file_commit(&f, err);
    soothe__new_file_abort(&f);
    return status;
}

/* The manifest as a file gives it back: numbers as written. */
static enum soothe_status normalize(json_t **out, struct soothe__eval_plan *plan, const json_t *manifest,
                                    struct soothe_error *err) {
    char *text = json_dumps(manifest, JSON_REAL_PRECISION(9));
    *out       = NULL;
    if (!text)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the manifest");
    const enum soothe_status status =
        soothe__eval_manifest_parse(out, plan, text, strlen(text), "the new manifest", err);
    free(text);
    return status;
}

/* "e": a score command that outlives a killed run would go on holding its lock. */
static enum soothe_status open_file(FILE **out, const char *folder, const char *name, bool lock,
                                    struct soothe_error *err) {
    char              *path   = soothe__format("%s/%s", folder, name);
    enum soothe_status status = SOOTHE_OK;
    *out                      = path ? fopen(path, "a+e") : NULL;
    if (!*out)
        status = soothe__fail(err, SOOTHE_E_IO, "cannot write %s/%s: %s", folder, name, strerror(errno));
    else if (lock && flock(fileno(*out), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "another process is at work in %s", folder);
    free(path);
    return status;
}

/* The folder's own manifest against the wanted one. */
static enum soothe_status compare(struct soothe__eval_store *s, const char *folder, const char *path,
                                  struct soothe_error *err) {
    json_t                  *there;
    struct soothe__eval_plan plan;
    char                    *text;
    size_t                   size;
    enum soothe_status       status = soothe__read_file(&text, &size, path, err);
    if (status)
        return status;
    status = soothe__eval_manifest_parse(&there, &plan, text, size, path, err);
    free(text);
    if (status)
        return status;
    char *difference = soothe__eval_manifest_difference(there, path, s->manifest, "this run");
    json_decref(there);
    if (difference)
        status = soothe__fail(err, SOOTHE_E_MISMATCH, "%s holds another run: %.900s; choose another --out", folder,
                              difference);
    free(difference);
    return status;
}

static off_t size_of(FILE *f) {
    struct stat info;
    return fstat(fileno(f), &info) == 0 ? info.st_size : -1;
}

static size_t n_done(const struct soothe__eval_store *s) {
    const size_t n     = s->plan.n_methods * soothe__eval_n_groups(&s->plan);
    size_t       count = 0;
    for (size_t i = 0; i < n; i++)
        count += s->done[i];
    return count;
}

enum soothe_status soothe__eval_store_open(struct soothe__eval_store *s, const char *folder, json_t *manifest,
                                           bool resume, struct soothe_error *err) {
    *s                         = (struct soothe__eval_store){.folder = soothe__strdup(folder)};
    char              *path    = soothe__format("%s/manifest.json", folder);
    char              *samples = soothe__format("%s/samples.jsonl", folder);
    enum soothe_status status  = SOOTHE_OK;
    if (!s->folder || !path || !samples)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status)
        status = normalize(&s->manifest, &s->plan, manifest, err);
    if (!status)
        status = soothe__make_folders(folder, err);
    const bool known = !status && soothe__file_exists(path);
    if (known)
        status = compare(s, folder, path, err);
    if (!status)
        status = open_file(&s->samples, folder, "samples.jsonl", true, err);
    if (!status && !known && size_of(s->samples) != 0)
        status =
            soothe__fail(err, SOOTHE_E_MISMATCH,
                         "%s has samples but no manifest.json that says of which run; choose another --out", folder);
    if (!status && !known)
        status = write_manifest(path, s->manifest, err);
    if (!status)
        status = open_file(&s->timing, folder, "timing.jsonl", false, err);
    if (!status) {
        const size_t n = s->plan.n_methods * soothe__eval_n_groups(&s->plan);
        s->done        = soothe__calloc(n, sizeof *s->done);
        status         = s->done ? scan_samples(s, samples, err) : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
        if (!status && known && !resume)
            status = soothe__fail(err, SOOTHE_E_ARGUMENT,
                                  "%s holds this run already, %zu of %zu groups of prompts done: --resume goes on with "
                                  "it; else choose another --out",
                                  folder, n_done(s), n);
    }
    free(path);
    free(samples);
    if (status)
        soothe__eval_store_close(s);
    return status;
}

/* ---- adding ------------------------------------------------------------------------------------------------- */

/* Past the stream's buffer, in which bytes that found no room would wait for the next chance. */
static int write_all(int fd, const char *bytes, size_t size) {
    while (size > 0) {
        const ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno != EINTR)
            return errno;
        bytes += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return fsync(fd) == 0 ? 0 : errno;
}

enum soothe_status soothe__eval_store_append(struct soothe__eval_store *s, const struct soothe__eval_unit *unit,
                                             const char *lines, size_t size, const char *timing,
                                             struct soothe_error *err) {
    if (s->failed)
        return soothe__fail(err, SOOTHE_E_IO, "%s/samples.jsonl could not be written before", s->folder);
    const off_t before = size_of(s->samples);
    const int   why    = before < 0 ? errno : write_all(fileno(s->samples), lines, size);
    if (why) {
        s->failed = true; /* where the torn line cannot be cut off now, the next start does, if nothing follows it */
        if (before >= 0 && ftruncate(fileno(s->samples), before) != 0)
            return soothe__fail(err, SOOTHE_E_IO, "cannot write %s/samples.jsonl, nor cut off its torn end: %s",
                                s->folder, strerror(why));
        return soothe__fail(err, SOOTHE_E_IO, "cannot write %s/samples.jsonl: %s", s->folder, strerror(why));
    }
    if (timing) { /* of less worth: its loss is no failure */
        fputs(timing, s->timing);
        fflush(s->timing);
    }
    s->done[unit->i_method * soothe__eval_n_groups(&s->plan) + unit->i_group] = 1;
    return SOOTHE_OK;
}

void soothe__eval_store_close(struct soothe__eval_store *s) {
    if (s->samples)
        fclose(s->samples);
    if (s->timing)
        fclose(s->timing);
    json_decref(s->manifest);
    free(s->done);
    free(s->folder);
    *s = (struct soothe__eval_store){.folder = NULL};
}
