/* SPDX-License-Identifier: Apache-2.0 */
#include "train/file_weights.h"

#include <math.h>
#include <stdlib.h>

#include "train/kernels.h"

struct matrix {
    enum ggml_type type;
    void          *data;
    int64_t        i_tensor, n_in, n_out;
    size_t         row; /* bytes */
};

struct soothe__file_weights {
    const struct soothe__gguf   *g;
    enum soothe__weight_form     form;
    struct matrix              **matrices; /* (n): handles, so they must not move */
    size_t                       n, capacity, memory;
    struct soothe__fixed_weights source;
};

static void read_rows(void *user, const void *handle, int32_t first, int32_t n_rows, float *out) {
    (void)user;
    const struct matrix *m = handle;
    soothe__dequantise(out, (const char *)m->data + (size_t)first * m->row, m->type, (int64_t)n_rows * m->n_in);
}

static bool is_finite(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

static bool read_file(struct matrix *m, const struct soothe__gguf *g, int64_t i) {
    const size_t size = gguf_get_tensor_size(g->meta, i);
    m->type           = gguf_get_tensor_type(g->meta, i);
    m->row            = ggml_row_size(m->type, m->n_in);
    m->data           = m->row * (size_t)m->n_out == size ? soothe__calloc(size, 1) : NULL;
    return m->data && soothe__type_readable(m->type) && soothe__gguf_read(g, i, 0, m->data, size, NULL) == SOOTHE_OK;
}

/* As numbers once: a NaN in the file is found here, not in the loss. */
static bool take_form(struct matrix *m, enum soothe__weight_form form) {
    const size_t n      = (size_t)m->n_in * (size_t)m->n_out;
    float       *values = soothe__calloc(n, sizeof *values);
    bool         ok     = values != NULL;
    for (int64_t from = 0; ok && from < m->n_out; from++) {
        float *row = values + (size_t)(from * m->n_in);
        read_rows(NULL, m, (int32_t)from, 1, row);
        ok = is_finite(row, (size_t)m->n_in);
    }
    if (ok && form == SOOTHE__AS_F32) {
        free(m->data);
        m->data = values;
        values  = NULL;
        m->type = GGML_TYPE_F32;
    } else if (ok && form == SOOTHE__AS_BF16) {
        free(m->data);
        m->data = soothe__calloc(n, sizeof(uint16_t));
        ok      = m->data != NULL;
        if (ok)
            soothe__to_bf16(m->data, values, n);
        m->type = GGML_TYPE_BF16;
    }
    m->row = ggml_row_size(m->type, m->n_in);
    free(values);
    return ok;
}

static void matrix_free(struct matrix *m) {
    if (m)
        free(m->data);
    free(m);
}

static const struct matrix *add(struct soothe__file_weights *w, struct matrix *m) {
    if (w->n == w->capacity) {
        const size_t    capacity = 2 * w->capacity + 16;
        struct matrix **grown    = soothe__realloc(w->matrices, capacity, sizeof *grown);
        if (!grown) {
            matrix_free(m);
            return NULL;
        }
        w->matrices = grown;
        w->capacity = capacity;
    }
    w->matrices[w->n++] = m;
    w->memory += m->row * (size_t)m->n_out;
    return m;
}

static const void *find(void *user, const char *name, int32_t n_out, int32_t n_in) {
    struct soothe__file_weights *w = user;
    const int64_t                i = gguf_find_tensor(w->g->meta, name);
    for (size_t k = 0; k < w->n; k++) /* of another core before */
        if (w->matrices[k]->i_tensor == i)
            return w->matrices[k];
    const int64_t *ne = i < 0 ? NULL : gguf_get_tensor_ne(w->g->meta, i);
    const bool     is = ne && ne[0] == n_in && ne[1] == n_out && ne[2] == 1 && ne[3] == 1;
    struct matrix *m  = is ? soothe__calloc(1, sizeof *m) : NULL;
    if (!m)
        return NULL;
    m->i_tensor = i;
    m->n_in     = ne[0];
    m->n_out    = ne[1];
    if (read_file(m, w->g, i) && take_form(m, w->form))
        return add(w, m);
    matrix_free(m);
    return NULL;
}

enum soothe_status soothe__file_weights_new(struct soothe__file_weights **out, const struct soothe__gguf *g,
                                            enum soothe__weight_form form, struct soothe_error *err) {
    struct soothe__file_weights *w = soothe__calloc(1, sizeof *w);
    *out                           = w;
    if (!w)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the weights of %s", g->path);
    w->g      = g;
    w->form   = form;
    w->source = (struct soothe__fixed_weights){find, read_rows, w};
    return SOOTHE_OK;
}

void soothe__file_weights_free(struct soothe__file_weights *w) {
    if (!w)
        return;
    for (size_t i = 0; i < w->n; i++)
        matrix_free(w->matrices[i]);
    free(w->matrices);
    free(w);
}

size_t soothe__file_weights_memory(const struct soothe__file_weights *w) {
    return w->memory;
}

const struct soothe__fixed_weights *soothe__file_weights_source(const struct soothe__file_weights *w) {
    return &w->source;
}
