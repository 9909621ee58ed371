/* SPDX-License-Identifier: Apache-2.0
 * The rows that a diff speaks of. */
#include "edit/diff_rows.h"

#include <stdlib.h>
#include <string.h>

enum soothe_status soothe__diff_find_rows(struct soothe__row_source *s, const struct soothe__diff_tensor *t,
                                          const struct soothe__gguf *model, struct soothe_error *err) {
    const int64_t i = gguf_find_tensor(model->meta, t->name);
    if (i < 0)
        return soothe__fail(err, SOOTHE_E_MISMATCH, "%s has no tensor %s, which the diff changes", model->path,
                            t->name);
    const int64_t *ne     = gguf_get_tensor_ne(model->meta, i);
    const int64_t  n_rows = ne[1] * ne[2] * ne[3];
    if (ne[0] != t->ne0 || (t->n_rows && t->rows[t->n_rows - 1] >= n_rows))
        return soothe__fail(err, SOOTHE_E_MISMATCH,
                            "tensor %s of %s has %lld rows of %lld values; the diff is for rows of %lld, up to row %d",
                            t->name, model->path, (long long)n_rows, (long long)ne[0], (long long)t->ne0,
                            t->n_rows ? t->rows[t->n_rows - 1] : 0);
    *s = (struct soothe__row_source){model, i, t->rows, ggml_row_size(gguf_get_tensor_type(model->meta, i), ne[0])};
    return SOOTHE_OK;
}

enum soothe_status soothe__diff_read_row(const struct soothe__row_source *s, size_t k, void *out,
                                         struct soothe_error *err) {
    const size_t row = s->rows ? (size_t)s->rows[k] : k;
    return soothe__gguf_read(s->file, s->i_tensor, row * s->row_size, out, s->row_size, err);
}

enum soothe_status soothe__diff_hash_rows(struct soothe__sha256 *h, const struct soothe__row_source *s, size_t n,
                                          struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    char              *row    = soothe__calloc(s->row_size, 1);
    if (!row)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s", s->file->path);
    for (size_t k = 0; k < n && !status; k++) {
        status = soothe__diff_read_row(s, k, row, err);
        if (!status)
            soothe__sha256_add(h, row, s->row_size);
    }
    free(row);
    return status;
}

static void hash_text(struct soothe__sha256 *h, const char *text) {
    soothe__sha256_add(h, text, strlen(text) + 1);
}

enum soothe_status soothe__diff_hash_old(char hex[65], const struct soothe__diff *diff,
                                         const struct soothe__gguf *model, struct soothe_error *err) {
    struct soothe__sha256 *h      = soothe__sha256_new();
    enum soothe_status     status = h ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < diff->n_tensors && !status; i++) {
        const struct soothe__diff_tensor *t = &diff->tensors[i];
        struct soothe__row_source         source;
        status = soothe__diff_find_rows(&source, t, model, err);
        hash_text(h, t->name);
        if (!status)
            status = soothe__diff_hash_rows(h, &source, t->n_rows, err);
    }
    if (h)
        soothe__sha256_finish(h, hex);
    return status;
}

enum soothe_status soothe__diff_hash_new(char hex[65], const struct soothe__diff *diff,
                                         const struct soothe__gguf *edited, struct soothe_error *err) {
    struct soothe__sha256 *h      = soothe__sha256_new();
    enum soothe_status     status = h ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < diff->n_tensors && !status; i++) {
        const struct soothe__diff_tensor *t = &diff->tensors[i];
        hash_text(h, t->name);
        soothe__sha256_add(h, t->rows, t->n_rows * sizeof *t->rows);
        if (diff->form == SOOTHE__DIFF_ADD) {
            soothe__sha256_add(h, t->vector, (size_t)t->ne0 * sizeof *t->vector);
            soothe__sha256_add(h, &t->factor, sizeof t->factor);
            continue;
        }
        struct soothe__row_source source = {&diff->file, t->i_new, NULL, ggml_row_size(t->type, t->ne0)};
        hash_text(h, ggml_type_name(t->type));
        if (edited)
            status = soothe__diff_find_rows(&source, t, edited, err);
        if (!status)
            status = soothe__diff_hash_rows(h, &source, t->n_rows, err);
    }
    if (h)
        soothe__sha256_finish(h, hex);
    return status;
}
