/* SPDX-License-Identifier: Apache-2.0
 * Lines of a file, plain or compressed, streamed by libarchive. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "corpus/corpus.h"

enum { LINE_MAX_SIZE = 4 << 20, PIECE = 1 << 16 };

struct soothe__lines {
    struct archive        *archive;
    char                  *path;
    struct soothe__sha256 *hash;
    char                   piece[PIECE];
    size_t                 at, n; /* unread part of piece */
    char                  *line;
    size_t                 capacity;
    bool                   ended;
};

/* libarchive names its errors in a private header: EILSEQ a bad format, EINVAL no known one, -1 the rest. */
static enum soothe_status archive_failed(const struct soothe__lines *l, struct soothe_error *err) {
    const char *why = archive_error_string(l->archive);
    const int   n   = archive_errno(l->archive);
    if (n == EILSEQ || n == EINVAL || n == -1)
        return soothe__fail(err, SOOTHE_E_FORMAT, "cannot read %s: %s", l->path, why ? why : "the file is damaged");
    return soothe__fail(err, SOOTHE_E_IO, "cannot read %s: %s", l->path, strerror(n));
}

enum soothe_status soothe__lines_open(struct soothe__lines **out, const char *path, struct soothe_error *err) {
    *out                    = NULL;
    struct soothe__lines *l = soothe__calloc(1, sizeof *l);
    if (!l)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s", path);
    l->path                   = soothe__strdup(strcmp(path, "-") == 0 ? "standard input" : path);
    l->hash                   = soothe__sha256_new();
    l->archive                = archive_read_new();
    enum soothe_status status = SOOTHE_OK;
    if (!l->path || !l->hash || !l->archive) {
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s", path);
        goto done;
    }
    archive_read_support_filter_xz(l->archive);
    archive_read_support_filter_gzip(l->archive);
    archive_read_support_filter_zstd(l->archive);
    archive_read_support_filter_bzip2(l->archive);
    archive_read_support_format_raw(l->archive);
    archive_read_support_format_empty(l->archive);
    struct archive_entry *entry;
    if (archive_read_open_filename(l->archive, strcmp(path, "-") == 0 ? NULL : path, PIECE) != ARCHIVE_OK) {
        status = archive_failed(l, err);
        goto done;
    }
    const int code = archive_read_next_header(l->archive, &entry);
    if (code == ARCHIVE_EOF)
        l->ended = true;
    else if (code != ARCHIVE_OK && code != ARCHIVE_WARN)
        status = archive_failed(l, err);
done:
    if (status)
        soothe__lines_close(l, NULL);
    else
        *out = l;
    return status;
}

static enum soothe_status next_piece(struct soothe__lines *l, struct soothe_error *err) {
    const la_ssize_t n = archive_read_data(l->archive, l->piece, PIECE);
    if (n < 0)
        return archive_failed(l, err);
    l->at    = 0;
    l->n     = (size_t)n;
    l->ended = n == 0;
    soothe__sha256_add(l->hash, l->piece, l->n);
    return SOOTHE_OK;
}

static bool append(struct soothe__lines *l, size_t size, const char *bytes, size_t n) {
    if (size + n + 1 > l->capacity) {
        const size_t capacity = 2 * (size + n + 1);
        char        *line     = soothe__realloc(l->line, capacity, 1);
        if (!line)
            return false;
        l->line     = line;
        l->capacity = capacity;
    }
    memcpy(l->line + size, bytes, n);
    l->line[size + n] = '\0';
    return true;
}

enum soothe_status soothe__lines_next(struct soothe__lines *l, char **line, size_t *size, bool *too_long,
                                      struct soothe_error *err) {
    size_t n   = 0;
    bool   any = false, end_of_line = false;
    *line     = NULL;
    *too_long = false;
    while (!end_of_line) {
        if (l->at == l->n) {
            if (l->ended)
                break;
            enum soothe_status status = next_piece(l, err);
            if (status)
                return status;
            if (l->ended)
                break;
        }
        const char  *from = l->piece + l->at;
        const char  *end  = memchr(from, '\n', l->n - l->at);
        const size_t more = end ? (size_t)(end - from) : l->n - l->at;
        const size_t room = LINE_MAX_SIZE - n;
        *too_long         = *too_long || more > room;
        if (!append(l, n, from, more < room ? more : room))
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s", l->path);
        n += more < room ? more : room;
        l->at += more + (end != NULL);
        end_of_line = end != NULL;
        any         = true;
    }
    if (!any)
        return SOOTHE_OK;
    if (n && l->line[n - 1] == '\r')
        l->line[--n] = '\0';
    *line = l->line;
    *size = n;
    return SOOTHE_OK;
}

void soothe__lines_close(struct soothe__lines *l, char hex[65]) {
    if (!l)
        return;
    if (l->hash)
        soothe__sha256_finish(l->hash, hex);
    archive_read_free(l->archive); /* NULL is fine */
    free(l->path);
    free(l->line);
    free(l);
}
