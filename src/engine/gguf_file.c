/* SPDX-License-Identifier: Apache-2.0
 * Reading GGUF files without trusting them. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

static enum soothe_status check_extent(const struct soothe__gguf *g, struct soothe_error *err) {
    if (fseeko(g->stream, 0, SEEK_END) != 0) {
        return soothe__fail(err, SOOTHE_E_IO, "cannot seek in %s: %s", g->path, strerror(errno));
    }
    const uint64_t size      = (uint64_t)ftello(g->stream);
    const uint64_t data      = gguf_get_data_offset(g->meta);
    const int64_t  n_tensors = gguf_get_n_tensors(g->meta);
    for (int64_t i = 0; i < n_tensors; i++) {
        const uint64_t offset = gguf_get_tensor_offset(g->meta, i);
        const uint64_t length = gguf_get_tensor_size(g->meta, i);
        if (offset > size || length > size || data > size || offset + length > size - data) {
            return soothe__fail(err, SOOTHE_E_FORMAT,
                                "%s is truncated: tensor %s ends at byte %llu, the file has %llu bytes", g->path,
                                gguf_get_tensor_name(g->meta, i), (unsigned long long)(data + offset + length),
                                (unsigned long long)size);
        }
    }
    return SOOTHE_OK;
}

/* The engine reads a key that begins with a zero byte, but aborts where it is copied to another file. */
static enum soothe_status check_keys(const struct soothe__gguf *g, struct soothe_error *err) {
    const int64_t n = gguf_get_n_kv(g->meta);
    for (int64_t i = 0; i < n; i++) {
        if (!*gguf_get_key(g->meta, i)) {
            return soothe__fail(err, SOOTHE_E_FORMAT, "%s is damaged: entry %lld of its metadata has no name", g->path,
                                (long long)i);
        }
    }
    return SOOTHE_OK;
}

enum soothe_status soothe__gguf_open(struct soothe__gguf *g, const char *path, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    memset(g, 0, sizeof *g);
    g->path   = soothe__strdup(path);
    g->stream = fopen(path, "rb");
    if (!g->path) {
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening %s", path);
        goto done;
    }
    if (!g->stream) {
        status = soothe__fail(err, SOOTHE_E_IO, "cannot open %s: %s", path, strerror(errno));
        goto done;
    }
    char magic[4] = {0};
    if (fread(magic, 1, sizeof magic, g->stream) != sizeof magic || memcmp(magic, "GGUF", 4) != 0) {
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s is not a GGUF file (it does not begin with GGUF)", path);
        goto done;
    }
    g->meta = gguf_init_from_file(path, (struct gguf_init_params){.no_alloc = true, .ctx = NULL});
    if (!g->meta) {
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s has a damaged or truncated GGUF header", path);
        goto done;
    }
    const int64_t i_split = gguf_find_key(g->meta, "split.count");
    if (i_split >= 0 && gguf_get_kv_type(g->meta, i_split) == GGUF_TYPE_UINT16 &&
        gguf_get_val_u16(g->meta, i_split) > 1) {
        status = soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s is one of several splits; join them first", path);
        goto done;
    }
    status = check_keys(g, err);
    if (status == SOOTHE_OK) {
        status = check_extent(g, err);
    }
done:
    if (status != SOOTHE_OK) {
        soothe__gguf_close(g);
    }
    return status;
}

void soothe__gguf_close(struct soothe__gguf *g) {
    gguf_free(g->meta);
    if (g->stream) {
        fclose(g->stream);
    }
    free(g->path);
    memset(g, 0, sizeof *g);
}

static int64_t find_typed(const struct soothe__gguf *g, const char *key, enum gguf_type type) {
    const int64_t i = gguf_find_key(g->meta, key);
    return i >= 0 && gguf_get_kv_type(g->meta, i) == type ? i : -1;
}

bool soothe__gguf_find_u32(const struct soothe__gguf *g, const char *key, uint32_t *out) {
    const int64_t i = find_typed(g, key, GGUF_TYPE_UINT32);
    if (i >= 0) {
        *out = gguf_get_val_u32(g->meta, i);
    }
    return i >= 0;
}

bool soothe__gguf_find_f32(const struct soothe__gguf *g, const char *key, float *out) {
    const int64_t i = find_typed(g, key, GGUF_TYPE_FLOAT32);
    if (i >= 0) {
        *out = gguf_get_val_f32(g->meta, i);
    }
    return i >= 0;
}

bool soothe__gguf_find_bool(const struct soothe__gguf *g, const char *key, bool *out) {
    const int64_t i = find_typed(g, key, GGUF_TYPE_BOOL);
    if (i >= 0) {
        *out = gguf_get_val_bool(g->meta, i);
    }
    return i >= 0;
}

const char *soothe__gguf_find_string(const struct soothe__gguf *g, const char *key) {
    const int64_t i = find_typed(g, key, GGUF_TYPE_STRING);
    return i >= 0 ? gguf_get_val_str(g->meta, i) : NULL;
}

bool soothe__gguf_find_arch_u32(const struct soothe__gguf *g, const char *suffix, uint32_t *out) {
    const char *architecture = soothe__gguf_find_string(g, "general.architecture");
    char        key[256];
    if (!architecture || snprintf(key, sizeof key, "%s.%s", architecture, suffix) >= (int)sizeof key) {
        return false;
    }
    return soothe__gguf_find_u32(g, key, out);
}

int64_t soothe__gguf_n_elements(const struct soothe__gguf *g, int64_t i_tensor) {
    const int64_t *ne = gguf_get_tensor_ne(g->meta, i_tensor);
    return ne[0] * ne[1] * ne[2] * ne[3]; /* gguf_init checked that this does not overflow */
}

enum soothe_status soothe__gguf_read(const struct soothe__gguf *g, int64_t i_tensor, size_t offset, void *out,
                                     size_t size, struct soothe_error *err) {
    const size_t at = gguf_get_data_offset(g->meta) + gguf_get_tensor_offset(g->meta, i_tensor) + offset;
    if (fseeko(g->stream, (off_t)at, SEEK_SET) != 0 || fread(out, 1, size, g->stream) != size) {
        return soothe__fail(err, SOOTHE_E_IO, "cannot read tensor %s of %s: %s",
                            gguf_get_tensor_name(g->meta, i_tensor), g->path,
                            ferror(g->stream) ? strerror(errno) : "the file ends early");
    }
    return SOOTHE_OK;
}

bool soothe__type_readable(enum ggml_type type) {
    return type == GGML_TYPE_F32 || ggml_get_type_traits(type)->to_float;
}

void soothe__dequantise(float *out, const void *bytes, enum ggml_type type, int64_t n) {
    if (type == GGML_TYPE_F32)
        memcpy(out, bytes, (size_t)n * sizeof *out);
    else
        ggml_get_type_traits(type)->to_float(bytes, out, n);
}

enum soothe_status soothe__gguf_read_f32(const struct soothe__gguf *g, int64_t i_tensor, float **out,
                                         struct soothe_error *err) {
    enum soothe_status   status = SOOTHE_OK;
    const enum ggml_type type   = gguf_get_tensor_type(g->meta, i_tensor);
    const size_t         size   = gguf_get_tensor_size(g->meta, i_tensor);
    const int64_t        n      = soothe__gguf_n_elements(g, i_tensor);
    const char          *name   = gguf_get_tensor_name(g->meta, i_tensor);
    void                *raw    = soothe__calloc(size ? size : 1, 1);
    float               *values = soothe__calloc((size_t)n, sizeof *values);
    *out                        = NULL;
    if (!raw || !values) {
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading tensor %s of %s", name, g->path);
        goto done;
    }
    status = soothe__gguf_read(g, i_tensor, 0, raw, size, err);
    if (status != SOOTHE_OK) {
        goto done;
    }
    if (!soothe__type_readable(type)) {
        status = soothe__fail(err, SOOTHE_E_UNSUPPORTED, "tensor %s of %s has type %s, which cannot be read as numbers",
                              name, g->path, ggml_type_name(type));
        goto done;
    }
    soothe__dequantise(values, raw, type, n);
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(values[i])) {
            status =
                soothe__fail(err, SOOTHE_E_NUMERIC, "tensor %s of %s holds a value that is not finite (%g at %lld)",
                             name, g->path, (double)values[i], (long long)i);
            goto done;
        }
    }
    *out   = values;
    values = NULL;
done:
    free(raw);
    free(values);
    return status;
}

enum soothe_status soothe__gguf_get_f32(const struct soothe__gguf *g, const char *name, int64_t n_elements, float **out,
                                        struct soothe_error *err) {
    const int64_t i = gguf_find_tensor(g->meta, name);
    *out            = NULL;
    if (i < 0) {
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s has no tensor %s", g->path, name);
    }
    if (soothe__gguf_n_elements(g, i) != n_elements) {
        return soothe__fail(err, SOOTHE_E_SHAPE, "tensor %s of %s has %lld values where %lld are needed", name, g->path,
                            (long long)soothe__gguf_n_elements(g, i), (long long)n_elements);
    }
    return soothe__gguf_read_f32(g, i, out, err);
}
