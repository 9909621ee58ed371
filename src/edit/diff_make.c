/* SPDX-License-Identifier: Apache-2.0
 * Making diffs: row by row, or out of two files. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "edit/diff_rows.h"
#include "edit/edit_file.h"

static void free_fact(const struct soothe__fact *f) {
    free((char *)(uintptr_t)f->key); /* a diff's facts are its own, though a fact's texts are const */
    free((char *)(uintptr_t)f->text);
}

void soothe__diff_free(struct soothe__diff *diff) {
    if (!diff)
        return;
    for (size_t i = 0; i < diff->n_tensors; i++) {
        free(diff->tensors[i].name);
        free(diff->tensors[i].rows);
        free(diff->tensors[i].vector);
    }
    for (size_t i = 0; i < diff->n_facts; i++)
        free_fact(&diff->facts[i]);
    free(diff->facts);
    free(diff->tensors);
    free(diff->kind);
    free(diff->base_name);
    soothe__gguf_close(&diff->file);
    free(diff);
}

static enum soothe_status copy_facts(struct soothe__diff *d, const struct soothe__fact *facts, size_t n,
                                     struct soothe_error *err) {
    d->facts = soothe__calloc(n + 1, sizeof *d->facts);
    for (size_t i = 0; i < n && d->facts; i++) {
        struct soothe__fact *f = &d->facts[d->n_facts++];
        *f = (struct soothe__fact){soothe__strdup(facts[i].key), facts[i].text ? soothe__strdup(facts[i].text) : NULL,
                                   facts[i].number};
        if (!f->key || (facts[i].text && !f->text))
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    }
    return d->facts ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
}

static enum soothe_status name_base(struct soothe__diff *d, const char *base_path, struct soothe_error *err) {
    struct soothe__gguf        base;
    struct soothe__model_facts facts;
    enum soothe_status         status = soothe__gguf_open(&base, base_path, err);
    if (status)
        return status;
    status = soothe__model_facts(&facts, &base, err);
    if (!status)
        status = soothe__model_fingerprint(d->base_fingerprint, &base, err);
    if (!status)
        status = soothe__tensors_hash(d->base_tensors, &base, err);
    if (!status && !(d->base_name = soothe__strdup(facts.name)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    soothe__gguf_close(&base);
    return status;
}

enum soothe_status soothe__diff_new(struct soothe__diff **diff, enum soothe__diff_form form, const char *kind,
                                    const struct soothe__fact *facts, size_t n_facts, const char *base_path,
                                    struct soothe_error *err) {
    struct soothe__diff *d = soothe__calloc(1, sizeof *d);
    *diff                  = NULL;
    if (!d || !(d->kind = soothe__strdup(kind))) {
        free(d);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    }
    d->form                   = form;
    enum soothe_status status = copy_facts(d, facts, n_facts, err);
    if (!status)
        status = name_base(d, base_path, err);
    if (!status)
        *diff = d;
    else
        soothe__diff_free(d);
    return status;
}

/* A fresh tensor of n_rows rows; what was given is copied. */
static enum soothe_status add_tensor(struct soothe__diff *diff, const char *name, const int32_t *rows, size_t n_rows,
                                     int64_t ne0, struct soothe__diff_tensor **added, struct soothe_error *err) {
    struct soothe__diff_tensor *tensors = soothe__realloc(diff->tensors, diff->n_tensors + 1, sizeof *diff->tensors);
    if (!tensors)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    diff->tensors                 = tensors;
    struct soothe__diff_tensor *t = &tensors[diff->n_tensors++];
    *t      = (struct soothe__diff_tensor){.ne0 = ne0, .n_rows = n_rows, .i_new = -1, .i_old = -1};
    t->name = soothe__strdup(name);
    t->rows = soothe__calloc(n_rows ? n_rows : 1, sizeof *t->rows);
    if (!t->name || !t->rows)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    memcpy(t->rows, rows, n_rows * sizeof *rows);
    *added = t;
    return SOOTHE_OK;
}

enum soothe_status soothe__diff_add(struct soothe__diff *diff, const char *tensor, const int32_t *rows, size_t n_rows,
                                    const float *vector, int64_t ne0, float factor, struct soothe_error *err) {
    struct soothe__diff_tensor *t      = NULL;
    enum soothe_status          status = add_tensor(diff, tensor, rows, n_rows, ne0, &t, err);
    if (status)
        return status;
    t->factor = factor;
    t->vector = soothe__calloc((size_t)ne0, sizeof *t->vector);
    if (!t->vector)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    for (int64_t i = 0; i < ne0; i++) {
        t->vector[i] = ggml_fp16_to_fp32(ggml_fp32_to_fp16(vector[i]));
        if (!isfinite(t->vector[i]) || !isfinite(factor))
            return soothe__fail(err, SOOTHE_E_NUMERIC, "what is to be added to tensor %s is not finite", tensor);
    }
    return SOOTHE_OK;
}

enum soothe_status soothe__diff_finish(struct soothe__diff *diff, const char *base_path, struct soothe_error *err) {
    struct soothe__gguf base;
    enum soothe_status  status = soothe__gguf_open(&base, base_path, err);
    if (status)
        return status;
    status = soothe__diff_hash_old(diff->old_rows, diff, &base, err);
    if (!status && diff->form == SOOTHE__DIFF_ADD)
        status = soothe__diff_hash_new(diff->id, diff, NULL, err);
    soothe__gguf_close(&base);
    return status;
}

/* ---- out of two files ------------------------------------------------------------------------------------------ */

static enum soothe_status check_alike(const struct soothe__gguf *a, const struct soothe__gguf *b,
                                      struct soothe_error *err) {
    const int64_t n = gguf_get_n_tensors(a->meta);
    if (n != gguf_get_n_tensors(b->meta))
        return soothe__fail(
            err, SOOTHE_E_MISMATCH,
            "%s has %lld tensors, %s has %lld: a diff holds changed rows, not tensors that were added or left "
            "out",
            a->path, (long long)n, b->path, (long long)gguf_get_n_tensors(b->meta));
    for (int64_t i = 0; i < n; i++) {
        const char   *name = gguf_get_tensor_name(a->meta, i);
        const int64_t j    = gguf_find_tensor(b->meta, name);
        if (j < 0 || gguf_get_tensor_type(a->meta, i) != gguf_get_tensor_type(b->meta, j) ||
            memcmp(gguf_get_tensor_ne(a->meta, i), gguf_get_tensor_ne(b->meta, j), GGML_MAX_DIMS * sizeof(int64_t)))
            return soothe__fail(err, SOOTHE_E_MISMATCH, "tensor %s is not of one type and shape in %s and %s", name,
                                a->path, b->path);
    }
    return SOOTHE_OK;
}

/* The rows that differ, as ids in ascending order. */
static enum soothe_status find_changed(const struct soothe__gguf *a, const struct soothe__gguf *b, int64_t i,
                                       int32_t **rows, size_t *n, struct soothe_error *err) {
    const int64_t     *ne       = gguf_get_tensor_ne(a->meta, i);
    const int64_t      n_rows   = ne[1] * ne[2] * ne[3];
    const int64_t      j        = gguf_find_tensor(b->meta, gguf_get_tensor_name(a->meta, i));
    const size_t       row_size = ggml_row_size(gguf_get_tensor_type(a->meta, i), ne[0]);
    enum soothe_status status   = SOOTHE_OK;
    char              *x = soothe__calloc(row_size + 1, 1), *y = soothe__calloc(row_size + 1, 1);
    *n    = 0;
    *rows = soothe__calloc((size_t)n_rows + 1, sizeof **rows);
    if (!x || !y || !*rows)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory comparing %s", a->path);
    if (!status && n_rows > INT32_MAX)
        status =
            soothe__fail(err, SOOTHE_E_UNSUPPORTED, "tensor %s has too many rows", gguf_get_tensor_name(a->meta, i));
    for (int64_t r = 0; r < n_rows && !status; r++) {
        status = soothe__gguf_read(a, i, (size_t)r * row_size, x, row_size, err);
        if (!status)
            status = soothe__gguf_read(b, j, (size_t)r * row_size, y, row_size, err);
        if (!status && memcmp(x, y, row_size))
            (*rows)[(*n)++] = (int32_t)r;
    }
    free(x);
    free(y);
    return status;
}

static enum soothe_status add_changed(struct soothe__diff *diff, const struct soothe__gguf *a,
                                      const struct soothe__gguf *b, int64_t i, struct soothe_error *err) {
    int32_t                    *rows   = NULL;
    size_t                      n      = 0;
    struct soothe__diff_tensor *t      = NULL;
    enum soothe_status          status = find_changed(a, b, i, &rows, &n, err);
    if (!status && n) {
        status =
            add_tensor(diff, gguf_get_tensor_name(a->meta, i), rows, n, gguf_get_tensor_ne(a->meta, i)[0], &t, err);
        if (!status)
            t->type = gguf_get_tensor_type(a->meta, i);
    }
    free(rows);
    return status;
}

/* What edited says of its last edit, if that is the step from base to it. */
static const char *kind_of(const struct soothe__gguf *edited, const char *base_tensors) {
    const uint32_t n    = soothe__edit_count(edited);
    const char    *kind = n ? soothe__edit_text(edited, n - 1, "kind") : NULL;
    const char    *base = n ? soothe__edit_text(edited, n - 1, "base_tensors_sha256") : NULL;
    return kind && base && !strcmp(base, base_tensors) ? kind : "difference";
}

enum soothe_status soothe__diff_between(struct soothe__diff **diff, const char *base_path, const char *edited_path,
                                        struct soothe_error *err) {
    struct soothe__gguf  a = {0}, b = {0};
    struct soothe__diff *d      = NULL;
    enum soothe_status   status = soothe__diff_new(&d, SOOTHE__DIFF_ROWS, "difference", NULL, 0, base_path, err);
    *diff                       = NULL;
    if (!status)
        status = soothe__gguf_open(&a, base_path, err);
    if (!status)
        status = soothe__gguf_open(&b, edited_path, err);
    if (!status)
        status = check_alike(&a, &b, err);
    for (int64_t i = 0; !status && i < gguf_get_n_tensors(a.meta); i++)
        status = add_changed(d, &a, &b, i, err);
    if (!status && d->n_tensors == 0)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "%s and %s have the same tensors", base_path, edited_path);
    if (!status) {
        free(d->kind);
        d->kind = soothe__strdup(kind_of(&b, d->base_tensors));
        status  = d->kind ? soothe__diff_hash_old(d->old_rows, d, &a, err)
                          : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    }
    if (!status)
        status = soothe__diff_hash_new(d->id, d, &b, err);
    soothe__gguf_close(&a);
    soothe__gguf_close(&b);
    if (!status)
        *diff = d;
    else
        soothe__diff_free(d);
    return status;
}
