/* SPDX-License-Identifier: Apache-2.0
 * By pread, not mmap: nothing is resident, and a file that shrinks is an error, not a signal. A row of a few hundred
 * bytes costs a microsecond, the engine's token milliseconds. */
#include "engine/file_rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct soothe__file_rows {
    int            file;
    char          *path, *name;
    off_t          at;
    size_t         row_size;
    int64_t        d, n;
    enum ggml_type type;
};

void soothe__file_rows_free(struct soothe__file_rows *rows) {
    if (!rows)
        return;
    if (rows->file >= 0)
        close(rows->file);
    free(rows->path);
    free(rows->name);
    free(rows);
}

int64_t soothe__file_rows_count(const struct soothe__file_rows *rows) {
    return rows->n;
}

enum soothe_status soothe__file_rows_new(struct soothe__file_rows **out, const struct soothe__gguf *g, const char *name,
                                         struct soothe_error *err) {
    const int64_t  i  = gguf_find_tensor(g->meta, name);
    const int64_t *ne = i < 0 ? NULL : gguf_get_tensor_ne(g->meta, i);
    *out              = NULL;
    if (!ne || ne[2] != 1 || ne[3] != 1)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s has no matrix %s", g->path, name);
    const enum ggml_type type = gguf_get_tensor_type(g->meta, i);
    if (!soothe__type_readable(type))
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "tensor %s of %s has type %s, which cannot be read as numbers",
                            name, g->path, ggml_type_name(type));
    struct soothe__file_rows *rows = soothe__calloc(1, sizeof *rows);
    if (!rows)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening %s", g->path);
    *rows =
        (struct soothe__file_rows){.file = dup(fileno(g->stream)),
                                   .path = soothe__strdup(g->path),
                                   .name = soothe__strdup(name),
                                   .at   = (off_t)(gguf_get_data_offset(g->meta) + gguf_get_tensor_offset(g->meta, i)),
                                   .row_size = ggml_row_size(type, ne[0]),
                                   .d        = ne[0],
                                   .n        = ne[1],
                                   .type     = type};
    enum soothe_status status = SOOTHE_OK;
    if (rows->file < 0)
        status = soothe__fail(err, SOOTHE_E_IO, "cannot keep %s open: %s", g->path, strerror(errno));
    else if (!rows->path || !rows->name)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening %s", g->path);
    if (status)
        soothe__file_rows_free(rows);
    else
        *out = rows;
    return status;
}

static enum soothe_status read_row(const struct soothe__file_rows *rows, int64_t i, char *raw,
                                   struct soothe_error *err) {
    for (size_t done = 0; done < rows->row_size;) {
        const off_t   at = rows->at + (off_t)((size_t)i * rows->row_size + done);
        const ssize_t n  = pread(rows->file, raw + done, rows->row_size - done, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return soothe__fail(err, SOOTHE_E_IO, "cannot read tensor %s of %s: %s", rows->name, rows->path,
                                n < 0 ? strerror(errno) : "the file ends early");
        done += (size_t)n;
    }
    return SOOTHE_OK;
}

enum soothe_status soothe__file_rows_get(const struct soothe__file_rows *rows, const int32_t *i, int32_t n, float *out,
                                         struct soothe_error *err) {
    char              *raw    = soothe__calloc(rows->row_size, 1);
    enum soothe_status status = raw ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a row");
    for (int32_t k = 0; k < n && !status; k++) {
        float *row = out + (size_t)k * (size_t)rows->d;
        if (i[k] < 0 || i[k] >= rows->n)
            status = soothe__fail(err, SOOTHE_E_ARGUMENT, "row %d of tensor %s of %s: it has %lld", i[k], rows->name,
                                  rows->path, (long long)rows->n);
        else
            status = read_row(rows, i[k], raw, err);
        if (!status)
            soothe__dequantise(row, raw, rows->type, rows->d);
    }
    free(raw);
    return status;
}
