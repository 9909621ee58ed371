/* SPDX-License-Identifier: Apache-2.0
 * Texts with labels, and their split by hash. */
#include "score/probe_texts.h"

#include <stdlib.h>
#include <string.h>

#include "corpus/rows.h"

enum soothe__part soothe__part_of_text(const char *text) {
    char                   hex[65] = "";
    struct soothe__sha256 *h       = soothe__sha256_new();
    soothe__sha256_add(h, text, strlen(text));
    soothe__sha256_finish(h, hex);
    hex[8]                  = '\0'; /* the first 32 bits decide */
    const unsigned long rem = strtoul(hex, NULL, 16) % 10;
    return rem < 2 ? SOOTHE__PART_HELD_OUT : rem == 2 ? SOOTHE__PART_VALIDATION : SOOTHE__PART_TRAIN;
}

static enum soothe_status out_of_memory(const struct soothe__probe_texts *t, struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", t->n + 1);
}

static enum soothe_status find_source(struct soothe__probe_texts *t, const char *name, uint32_t *i,
                                      struct soothe_error *err) {
    for (*i = 0; *i < t->n_sources; ++*i)
        if (strcmp(t->sources[*i], name) == 0)
            return SOOTHE_OK;
    char **more = soothe__realloc(t->sources, t->n_sources + 1, sizeof *more);
    char  *copy = soothe__strdup(name);
    if (more)
        t->sources = more;
    if (!more || !copy) {
        free(copy);
        return out_of_memory(t, err);
    }
    t->sources[t->n_sources++] = copy;
    return SOOTHE_OK;
}

static enum soothe_status add(struct soothe__probe_texts *t, const char *text, unsigned char label, const char *source,
                              struct soothe_error *err) {
    struct soothe__probe_text item   = {.label = label, .part = soothe__part_of_text(text)};
    enum soothe_status        status = find_source(t, source, &item.i_source, err);
    if (status)
        return status;
    if (t->n == t->capacity) {
        const size_t               capacity = t->capacity ? 2 * t->capacity : 1024;
        struct soothe__probe_text *items    = soothe__realloc(t->items, capacity, sizeof *items);
        if (!items)
            return out_of_memory(t, err);
        t->items    = items;
        t->capacity = capacity;
    }
    item.text = soothe__strdup(text);
    if (!item.text)
        return out_of_memory(t, err);
    t->items[t->n++] = item;
    return SOOTHE_OK;
}

static enum soothe_status add_row(struct soothe__probe_texts *t, struct soothe__rows *rows, const char *path,
                                  bool need_labels, struct soothe_error *err) {
    const char *text   = soothe__rows_field(rows, "text");
    const char *label  = soothe__rows_field(rows, "label");
    const char *source = soothe__rows_field(rows, "source");
    double      value  = 0;
    if (!text || !*text)
        return soothe__rows_reject(rows, err, "no \"text\"");
    if (label && !soothe__parse_double(&value, label, 0, 1)) {
        if (need_labels)
            return soothe__rows_reject(rows, err, "\"label\" is \"%.40s\": a number from 0 to 1 is needed", label);
        label = NULL;
    }
    if (need_labels && !label)
        return soothe__rows_reject(rows, err, "no \"label\"");
    return add(t, text, label ? value >= 0.5 : SOOTHE__LABEL_NONE, source ? source : path, err);
}

/* The hash of several files is that of their hashes. */
static void add_hash(struct soothe__probe_texts *t, const char hex[65]) {
    if (t->n_files++ == 0) {
        memcpy(t->sha256, hex, 65);
        return;
    }
    struct soothe__sha256 *h = soothe__sha256_new();
    soothe__sha256_add(h, t->sha256, 64);
    soothe__sha256_add(h, hex, 64);
    soothe__sha256_finish(h, t->sha256);
}

enum soothe_status soothe__probe_texts_read(struct soothe__probe_texts *t, const char *path, bool need_labels,
                                            bool skip_bad, struct soothe_error *err) {
    struct soothe__rows      *rows;
    struct soothe__row_counts counts;
    char                      hex[65];
    const size_t              n_before = t->n;
    enum soothe_status        status   = soothe__rows_open(&rows, path, skip_bad, err);
    if (status)
        return status;
    for (bool more = true; !status;) {
        status = soothe__rows_next(rows, &more, err);
        if (status || !more)
            break;
        status = add_row(t, rows, path, need_labels, err);
    }
    soothe__rows_close(rows, hex, &counts);
    if (!status && t->n == n_before)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s has no row with a \"text\"%s%s%s", path,
                              need_labels ? " and a \"label\"" : "", counts.n_bad ? "; the first bad one: " : "",
                              counts.first_bad);
    if (!status) {
        t->n_bad += counts.n_bad;
        add_hash(t, hex);
    }
    return status;
}

void soothe__probe_texts_free(struct soothe__probe_texts *t) {
    for (size_t i = 0; i < t->n; i++)
        free(t->items[i].text);
    for (size_t i = 0; i < t->n_sources; i++)
        free(t->sources[i]);
    free(t->items);
    free(t->sources);
    memset(t, 0, sizeof *t);
}
