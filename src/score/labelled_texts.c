/* SPDX-License-Identifier: Apache-2.0 */
#include "score/labelled_texts.h"

#include <stdlib.h>
#include <string.h>

enum { SOURCES_MAX = 4096 };

/* "davidson" of "data/davidson.csv.xz"; fresh. */
static char *name_of_file(const char *path) {
    char *name = soothe__strdup(soothe__file_name(path));
    if (name && *name)
        name[1 + strcspn(name + 1, ".")] = '\0';
    return name;
}

static enum soothe_status find_source(uint32_t *i, struct soothe__labelled_texts *t, const char *name,
                                      struct soothe_error *err) {
    for (size_t k = t->n_names; k-- > 0;) /* rows of a source stand together: the last is the likeliest */
        if (strcmp(t->names[k], name) == 0) {
            *i = (uint32_t)k;
            return SOOTHE_OK;
        }
    if (t->n_names == SOURCES_MAX)
        return soothe__fail(err, SOOTHE_E_FORMAT, "more than %d different sources: is the source's field right?",
                            SOURCES_MAX);
    char **names = soothe__realloc(t->names, t->n_names + 1, sizeof *names);
    if (names)
        t->names = names;
    char *copy = names ? soothe__strdup(name) : NULL;
    if (!copy)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the source %s", name);
    t->names[t->n_names] = copy;
    *i                   = (uint32_t)t->n_names++;
    return SOOTHE_OK;
}

static enum soothe_status add(struct soothe__labelled_texts *t, const char *text, double label, uint32_t source,
                              struct soothe_error *err) {
    if (t->n == t->capacity) {
        const size_t capacity = 2 * t->capacity + 1024;
        char       **texts    = soothe__realloc(t->texts, capacity, sizeof *texts);
        if (texts)
            t->texts = texts;
        float *labels = texts ? soothe__realloc(t->labels, capacity, sizeof *labels) : NULL;
        if (labels)
            t->labels = labels;
        uint32_t *sources = labels ? soothe__realloc(t->sources, capacity, sizeof *sources) : NULL;
        if (!sources)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", capacity);
        t->sources  = sources;
        t->capacity = capacity;
    }
    t->texts[t->n] = soothe__strdup(text);
    if (!t->texts[t->n])
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", t->n + 1);
    t->labels[t->n]    = (float)label;
    t->sources[t->n++] = source;
    return SOOTHE_OK;
}

/* Is word one of the list's, which has commas between? */
static bool is_among(const char *list, const char *word) {
    const size_t n = strlen(word);
    for (const char *at = list;; at++) {
        const size_t m = strcspn(at, ",");
        if (m == n && memcmp(at, word, n) == 0)
            return true;
        at += m;
        if (!*at)
            return false;
    }
}

static enum soothe_status add_row(struct soothe__labelled_texts *t, struct soothe__rows *rows,
                                  const struct soothe__labelled_fields *f, const char *file_name,
                                  struct soothe_error *err) {
    const char *text_field = f->text ? f->text : "text", *label_field = f->label ? f->label : "label";
    const char *text   = soothe__rows_field(rows, text_field);
    const char *label  = soothe__rows_field(rows, label_field);
    double      value  = 0;
    uint32_t    source = 0;
    if (!text)
        return soothe__rows_reject(rows, err, "no field \"%s\"", text_field);
    if (!label)
        return soothe__rows_reject(rows, err, "no field \"%s\"", label_field);
    if (!*label) /* nobody said anything: among the positive ones it would seem to be a 0 */
        return soothe__rows_reject(rows, err, "\"%s\" is empty", label_field);
    if (f->positive)
        value = is_among(f->positive, label) ? 1 : 0;
    else if (!soothe__parse_double(&value, label, 0, 1))
        return soothe__rows_reject(rows, err, "\"%s\" is \"%.40s\", not a number from 0 to 1", label_field, label);
    const char        *name   = soothe__rows_field(rows, f->source ? f->source : "source");
    enum soothe_status status = find_source(&source, t, name ? name : file_name, err);
    return status ? status : add(t, text, value, source, err);
}

enum soothe_status soothe__labelled_read(struct soothe__labelled_texts *t, const char *path,
                                         const struct soothe__labelled_fields *fields, struct soothe_error *err) {
    struct soothe__rows          *rows;
    bool                          more   = true;
    char                         *name   = name_of_file(path);
    struct soothe__labelled_file *files  = soothe__realloc(t->files, t->n_files + 1, sizeof *files);
    enum soothe_status            status = SOOTHE_OK;
    if (files)
        t->files = files;
    char *copy = files && name ? soothe__strdup(path) : NULL;
    if (!copy) {
        free(name);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s", path);
    }
    t->files[t->n_files] = (struct soothe__labelled_file){.path = copy};
    status               = soothe__rows_open(&rows, path, fields->skip_bad, err);
    if (!status) {
        while (!(status = soothe__rows_next(rows, &more, err)) && more)
            if ((status = add_row(t, rows, fields, name, err)))
                break;
        soothe__rows_close(rows, t->files[t->n_files].sha256, &t->files[t->n_files].counts);
    }
    t->n_files++;
    free(name);
    return status;
}

void soothe__labelled_free(struct soothe__labelled_texts *t) {
    for (size_t i = 0; i < t->n; i++)
        free(t->texts[i]);
    for (size_t i = 0; i < t->n_names; i++)
        free(t->names[i]);
    for (size_t i = 0; i < t->n_files; i++)
        free(t->files[i].path);
    free(t->texts);
    free(t->labels);
    free(t->sources);
    free(t->names);
    free(t->files);
    memset(t, 0, sizeof *t);
}
