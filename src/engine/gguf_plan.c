/* SPDX-License-Identifier: Apache-2.0
 * Planning and streaming new GGUF files. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

enum soothe_status soothe__gguf_plan_new(struct soothe__gguf_plan *plan, size_t n_tensors_max,
                                         struct soothe_error *err) {
    memset(plan, 0, sizeof *plan);
    plan->meta     = gguf_init_empty();
    plan->shapes   = ggml_init((struct ggml_init_params){
          .mem_size = ggml_tensor_overhead() * (n_tensors_max + 1), .mem_buffer = NULL, .no_alloc = true});
    plan->tensors  = soothe__calloc(n_tensors_max ? n_tensors_max : 1, sizeof *plan->tensors);
    plan->capacity = n_tensors_max;
    if (!plan->meta || !plan->shapes || !plan->tensors) {
        soothe__gguf_plan_free(plan);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory planning a file of %zu tensors", n_tensors_max);
    }
    return SOOTHE_OK;
}

void soothe__gguf_plan_free(struct soothe__gguf_plan *plan) {
    for (size_t i = 0; i < plan->n_tensors; i++) {
        free(plan->tensors[i].data);
    }
    free(plan->tensors);
    gguf_free(plan->meta);
    ggml_free(plan->shapes);
    memset(plan, 0, sizeof *plan);
}

static enum soothe_status add_shape(struct soothe__gguf_plan *plan, const char *name, int n_dims, const int64_t *ne,
                                    enum ggml_type type, struct soothe_error *err) {
    if (plan->n_tensors == plan->capacity || strlen(name) >= GGML_MAX_NAME) {
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "no room for tensor %s", name);
    }
    struct ggml_tensor *t = ggml_new_tensor(plan->shapes, type, n_dims, ne);
    ggml_set_name(t, name);
    gguf_add_tensor(plan->meta, t);
    plan->tensors[plan->n_tensors++].size = ggml_nbytes(t);
    return SOOTHE_OK;
}

enum soothe_status soothe__gguf_plan_copy(struct soothe__gguf_plan *plan, const struct soothe__gguf *from,
                                          int64_t i_tensor, struct soothe_error *err) {
    const int64_t *ne     = gguf_get_tensor_ne(from->meta, i_tensor);
    int            n_dims = GGML_MAX_DIMS;
    while (n_dims > 1 && ne[n_dims - 1] == 1) {
        n_dims--;
    }
    enum soothe_status status = add_shape(plan, gguf_get_tensor_name(from->meta, i_tensor), n_dims, ne,
                                          gguf_get_tensor_type(from->meta, i_tensor), err);
    if (status == SOOTHE_OK) {
        plan->tensors[plan->n_tensors - 1].from   = from;
        plan->tensors[plan->n_tensors - 1].i_from = i_tensor;
    }
    return status;
}

void soothe__gguf_plan_change_rows(struct soothe__gguf_plan *plan, const struct soothe__row_change *change) {
    plan->tensors[plan->n_tensors - 1].change = *change;
}

enum soothe_status soothe__gguf_plan_add(struct soothe__gguf_plan *plan, const char *name, const float *values,
                                         int n_dims, const int64_t *ne, enum ggml_type type, struct soothe_error *err) {
    if (ne[0] % ggml_blck_size(type) != 0) {
        type = GGML_TYPE_F16;
    }
    const int64_t n_rows = n_dims > 1 ? ne[1] : 1;
    void         *data   = soothe__calloc((size_t)n_rows, ggml_row_size(type, ne[0]));
    if (!data) {
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for tensor %s", name);
    }
    enum soothe_status status = add_shape(plan, name, n_dims, ne, type, err);
    if (status != SOOTHE_OK) {
        free(data);
        return status;
    }
    if (type == GGML_TYPE_F32) {
        memcpy(data, values, (size_t)(n_rows * ne[0]) * sizeof *values);
    } else {
        ggml_quantize_chunk(type, values, data, 0, n_rows, ne[0], NULL);
    }
    plan->tensors[plan->n_tensors - 1].data = data;
    return SOOTHE_OK;
}

enum soothe_status soothe__gguf_plan_make(struct soothe__gguf_plan *plan, const char *name, enum ggml_type type,
                                          const int64_t ne[2], const struct soothe__row_change *make,
                                          struct soothe_error *err) {
    const enum soothe_status status = add_shape(plan, name, 2, ne, type, err);
    if (status == SOOTHE_OK) {
        soothe__gguf_plan_change_rows(plan, make);
    }
    return status;
}

enum soothe_status soothe__gguf_plan_add_i8(struct soothe__gguf_plan *plan, const char *name, const int8_t *values,
                                            const int64_t ne[2], struct soothe_error *err) {
    const size_t size = (size_t)(ne[0] * ne[1]);
    void        *data = soothe__calloc(size ? size : 1, 1);
    if (!data) {
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for tensor %s", name);
    }
    enum soothe_status status = add_shape(plan, name, 2, ne, GGML_TYPE_I8, err);
    if (status != SOOTHE_OK) {
        free(data);
        return status;
    }
    memcpy(data, values, size);
    plan->tensors[plan->n_tensors - 1].data = data;
    return SOOTHE_OK;
}

static bool write_padding(FILE *stream, size_t size, size_t alignment) {
    static const char zeros[256];
    size_t            n = (alignment - size % alignment) % alignment;
    while (n > 0) {
        const size_t k = n < sizeof zeros ? n : sizeof zeros;
        if (fwrite(zeros, 1, k, stream) != k) {
            return false;
        }
        n -= k;
    }
    return true;
}

/* Bytes [at, at + n) of a tensor that is copied, changed if it is to be, or made. */
static enum soothe_status read_piece(const struct soothe__planned_tensor *t, size_t at, char *buffer, size_t n,
                                     struct soothe_error *err) {
    const struct soothe__row_change *c      = &t->change;
    enum soothe_status               status = SOOTHE_OK;
    if (t->from) {
        status = soothe__gguf_read(t->from, t->i_from, at, buffer, n, err);
    }
    if (status == SOOTHE_OK && c->change) {
        status = c->change(c->user, (int64_t)(at / c->row_size), (int64_t)(n / c->row_size), buffer, err);
    }
    return status;
}

static enum soothe_status write_tensor(const struct soothe__planned_tensor *t, FILE *stream, const char *path,
                                       char *buffer, size_t buffer_size, struct soothe_error *err) {
    const size_t step = t->change.change ? buffer_size / t->change.row_size * t->change.row_size : buffer_size;
    for (size_t at = 0; at < t->size; at += step) {
        const size_t n     = t->size - at < step ? t->size - at : step;
        const char  *bytes = t->data ? (const char *)t->data + at : buffer;
        if (!t->data) {
            enum soothe_status status = read_piece(t, at, buffer, n, err);
            if (status != SOOTHE_OK) {
                return status;
            }
        }
        if (fwrite(bytes, 1, n, stream) != n) {
            return soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", path, strerror(errno));
        }
    }
    return SOOTHE_OK;
}

/* One MiB, or the longest row that is to be changed. */
static size_t piece_size(const struct soothe__gguf_plan *plan) {
    size_t size = 1 << 20;
    for (size_t i = 0; i < plan->n_tensors; i++) {
        const struct soothe__row_change *c = &plan->tensors[i].change;
        size                               = c->change && c->row_size > size ? c->row_size : size;
    }
    return size;
}

static enum soothe_status write_metadata(const struct soothe__gguf_plan *plan, FILE *stream, const char *path,
                                         struct soothe_error *err) {
    const size_t size = gguf_get_meta_size(plan->meta);
    char        *meta = soothe__calloc(size, 1);
    if (!meta) {
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory writing %s", path);
    }
    gguf_get_meta_data(plan->meta, meta);
    const bool written = fwrite(meta, 1, size, stream) == size;
    free(meta);
    return written ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", path, strerror(errno));
}

enum soothe_status soothe__gguf_plan_rewrite_metadata(const struct soothe__gguf_plan *plan, FILE *stream,
                                                      const char *path, struct soothe_error *err) {
    if (fseeko(stream, 0, SEEK_SET) != 0) {
        return soothe__fail(err, SOOTHE_E_IO, "cannot seek in %s: %s", path, strerror(errno));
    }
    return write_metadata(plan, stream, path, err);
}

enum soothe_status soothe__gguf_plan_write(const struct soothe__gguf_plan *plan, FILE *stream, const char *path,
                                           struct soothe_error *err) {
    const size_t chunk     = piece_size(plan);
    const size_t alignment = gguf_get_alignment(plan->meta);
    char        *buffer    = soothe__calloc(chunk, 1);
    if (!buffer) {
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory writing %s", path);
    }
    enum soothe_status status = write_metadata(plan, stream, path, err);
    for (size_t i = 0; i < plan->n_tensors && status == SOOTHE_OK; i++) {
        status = write_tensor(&plan->tensors[i], stream, path, buffer, chunk, err);
        if (status == SOOTHE_OK && !write_padding(stream, plan->tensors[i].size, alignment)) {
            status = soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", path, strerror(errno));
        }
    }
    if (status == SOOTHE_OK && fflush(stream) != 0) {
        status = soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", path, strerror(errno));
    }
    free(buffer);
    return status;
}

enum soothe_status soothe__gguf_plan_save(const struct soothe__gguf_plan *plan, const char *path,
                                          struct soothe_error *err) {
    struct soothe__new_file file   = {0};
    enum soothe_status      status = soothe__new_file_open(&file, path, err);
    if (status == SOOTHE_OK) {
        status = soothe__gguf_plan_write(plan, file.stream, path, err);
    }
    if (status == SOOTHE_OK) {
        status = soothe__new_file_commit(&file, err);
    }
    soothe__new_file_abort(&file);
    return status;
}

/* A per-block array (head counts, feed-forward widths, window patterns …) keeps its first n entries. */
static void cut_array(struct gguf_context *meta, const struct soothe__gguf *g, int64_t i_key, uint32_t n) {
    const char          *key  = gguf_get_key(g->meta, i_key);
    const enum gguf_type type = gguf_get_arr_type(g->meta, i_key);
    if (type != GGUF_TYPE_STRING && type != GGUF_TYPE_ARRAY) {
        gguf_set_arr_data(meta, key, type, gguf_get_arr_data(g->meta, i_key), n);
    }
}

enum soothe_status soothe__gguf_plan_cut_metadata(struct soothe__gguf_plan *plan, const struct soothe__gguf *g,
                                                  uint32_t n_blocks, struct soothe_error *err) {
    struct soothe__model_facts facts;
    enum soothe_status         status = soothe__model_facts(&facts, g, err);
    if (status != SOOTHE_OK) {
        return status;
    }
    const size_t  prefix = strlen(facts.architecture);
    const int64_t n_keys = gguf_get_n_kv(g->meta);
    char          key[256];
    gguf_set_kv(plan->meta, g->meta);
    gguf_remove_key(plan->meta, "general.alignment"); /* a plan always writes the default alignment */
    for (int64_t i = 0; i < n_keys; i++) {
        const char *name = gguf_get_key(g->meta, i);
        if (strncmp(name, facts.architecture, prefix) == 0 && name[prefix] == '.' &&
            gguf_get_kv_type(g->meta, i) == GGUF_TYPE_ARRAY && gguf_get_arr_n(g->meta, i) == facts.n_blocks) {
            cut_array(plan->meta, g, i, n_blocks);
        }
    }
    snprintf(key, sizeof key, "%s.block_count", facts.architecture);
    gguf_set_val_u32(plan->meta, key, n_blocks);
    snprintf(key, sizeof key, "%s.nextn_predict_layers", facts.architecture);
    if (gguf_find_key(plan->meta, key) >= 0) {
        gguf_set_val_u32(plan->meta, key, 0); /* multi-token prediction blocks sit at the end and are cut */
    }
    return SOOTHE_OK;
}
