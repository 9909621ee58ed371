/* SPDX-License-Identifier: Apache-2.0 */
#include "train/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static const char MAGIC[8] = "soothe\x01s";

struct header {
    char     magic[8];
    char     model[64];
    uint32_t d, reserved;
};

struct record {
    uint64_t key[2]; /* two hashes of the tokens: a chance hit would train on another text's states */
    uint32_t n_rows, check;
};

struct entry {
    uint64_t key[2];
    int64_t  offset; /* of the rows; 0: free */
};

struct soothe__state_file {
    FILE         *stream;
    char         *path;
    int32_t       d;
    int64_t       end;
    struct entry *table; /* open addressing */
    size_t        size, n;
};

static void key_of(uint64_t key[2], const struct soothe__text *t) {
    key[0] = 14695981039346656037u ^ (uint64_t)t->first;
    key[1] = 0x9e3779b97f4a7c15u + (uint64_t)t->n_tokens;
    for (int32_t i = 0; i < t->n_tokens; i++) {
        key[0] = (key[0] ^ (uint32_t)t->tokens[i]) * 1099511628211u;
        key[1] = (key[1] + (uint32_t)t->tokens[i]) * 0xff51afd7ed558ccdu;
        key[1] ^= key[1] >> 29;
    }
}

static uint32_t check_of(const struct record *r) {
    return (uint32_t)(r->key[0] ^ r->key[0] >> 32 ^ r->key[1] ^ r->key[1] >> 32) ^ r->n_rows ^ 0x50074e50u;
}

/* ---- the table -------------------------------------------------------------------------------------------- */

static struct entry *slot_of(const struct soothe__state_file *f, const uint64_t key[2]) {
    size_t i = (size_t)(key[0] ^ key[0] >> 31) & (f->size - 1);
    while (f->table[i].offset && (f->table[i].key[0] != key[0] || f->table[i].key[1] != key[1]))
        i = (i + 1) & (f->size - 1);
    return &f->table[i];
}

static bool put(struct soothe__state_file *f, const uint64_t key[2], int64_t offset) {
    if (2 * (f->n + 1) > f->size) {
        struct entry *old   = f->table;
        const size_t  n_old = f->size;
        struct entry *grown = soothe__calloc(n_old ? 2 * n_old : 1024, sizeof *grown);
        if (!grown)
            return false;
        f->table = grown;
        f->size  = n_old ? 2 * n_old : 1024;
        for (size_t i = 0; i < n_old; i++)
            if (old[i].offset)
                *slot_of(f, old[i].key) = old[i];
        free(old);
    }
    struct entry *e = slot_of(f, key);
    f->n += e->offset == 0;
    *e = (struct entry){{key[0], key[1]}, offset};
    return true;
}

int64_t soothe__state_file_find(const struct soothe__state_file *f, const struct soothe__text *text) {
    uint64_t key[2];
    key_of(key, text);
    const struct entry *e = f->size ? slot_of(f, key) : NULL;
    return e && e->offset ? e->offset : -1;
}

/* ---- the file --------------------------------------------------------------------------------------------- */

static enum soothe_status failed(const struct soothe__state_file *f, const char *what, struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_IO, "cannot %s the states in %s: %s", what, f->path,
                        strerror(errno ? errno : EIO));
}

static size_t row_bytes(const struct soothe__state_file *f, uint32_t n_rows) {
    return (size_t)n_rows * (size_t)f->d * sizeof(uint16_t);
}

/* Reads the records up to the first one that is not whole, and cuts the file there. */
static enum soothe_status index_records(struct soothe__state_file *f, struct soothe_error *err) {
    struct record r;
    if (fseeko(f->stream, 0, SEEK_END) != 0)
        return failed(f, "read", err);
    const int64_t size = ftello(f->stream);
    f->end             = (int64_t)sizeof(struct header);
    while (f->end + (int64_t)sizeof r <= size && fseeko(f->stream, f->end, SEEK_SET) == 0 &&
           fread(&r, sizeof r, 1, f->stream) == 1 && r.check == check_of(&r)) {
        const int64_t next = f->end + (int64_t)(sizeof r + row_bytes(f, r.n_rows));
        if (next > size)
            break;
        if (!put(f, r.key, f->end + (int64_t)sizeof r))
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the states in %s", f->path);
        f->end = next;
    }
    return ftruncate(fileno(f->stream), f->end) == 0 ? SOOTHE_OK : failed(f, "keep", err);
}

static enum soothe_status begin(struct soothe__state_file *f, const char *model_sha256, struct soothe_error *err) {
    struct header h = {.d = (uint32_t)f->d}, found;
    memcpy(h.magic, MAGIC, sizeof h.magic);
    memcpy(h.model, model_sha256, sizeof h.model);
    const size_t n = fread(&found, 1, sizeof found, f->stream);
    if (n == 0) {
        if (fwrite(&h, sizeof h, 1, f->stream) != 1 || fflush(f->stream) != 0)
            return failed(f, "keep", err);
    } else if (n != sizeof found || memcmp(found.magic, MAGIC, sizeof MAGIC) != 0) {
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s is not a file of target states", f->path);
    } else if (memcmp(found.model, h.model, sizeof h.model) != 0 || found.d != h.d) {
        return soothe__fail(err, SOOTHE_E_MISMATCH, "%s holds the states of another target (sha256 %.12s…, now %.12s…)",
                            f->path, found.model, h.model);
    }
    return index_records(f, err);
}

enum soothe_status soothe__state_file_open(struct soothe__state_file **out, const char *path, const char *model_sha256,
                                           int32_t d, struct soothe_error *err) {
    *out                         = NULL;
    struct soothe__state_file *f = soothe__calloc(1, sizeof *f);
    if (!f || !(f->path = soothe__strdup(path))) {
        free(f);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the states in %s", path);
    }
    f->d                          = d;
    const int          descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    enum soothe_status status     = SOOTHE_OK;
    if (descriptor < 0 || !(f->stream = fdopen(descriptor, "r+")))
        status = failed(f, "open", err);
    else if (flock(descriptor, LOCK_EX | LOCK_NB) != 0)
        status = soothe__fail(err, SOOTHE_E_IO, "%s is in use by another run", path);
    if (!status)
        status = begin(f, model_sha256, err);
    if (status)
        soothe__state_file_close(f);
    else
        *out = f;
    return status;
}

void soothe__state_file_close(struct soothe__state_file *f) {
    if (!f)
        return;
    if (f->stream)
        fclose(f->stream);
    free(f->path);
    free(f->table);
    free(f);
}

enum soothe_status soothe__state_file_add(struct soothe__state_file *f, const struct soothe__text *text,
                                          const uint16_t *rows, int64_t *offset, struct soothe_error *err) {
    struct record r = {.n_rows = (uint32_t)(text->n_tokens - text->first)};
    const size_t  n = row_bytes(f, r.n_rows);
    key_of(r.key, text);
    r.check = check_of(&r);
    errno   = 0;
    if (fseeko(f->stream, f->end, SEEK_SET) != 0 || fwrite(&r, sizeof r, 1, f->stream) != 1 ||
        fwrite(rows, 1, n, f->stream) != n)
        return failed(f, "keep", err);
    *offset = f->end + (int64_t)sizeof r;
    if (!put(f, r.key, *offset))
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the states in %s", f->path);
    f->end = *offset + (int64_t)n;
    return SOOTHE_OK;
}

enum soothe_status soothe__state_file_read(struct soothe__state_file *f, int64_t offset, size_t n, uint16_t *out,
                                           struct soothe_error *err) {
    errno = 0;
    if (fseeko(f->stream, offset, SEEK_SET) != 0 || fread(out, sizeof *out, n, f->stream) != n)
        return failed(f, "read", err);
    return SOOTHE_OK;
}
