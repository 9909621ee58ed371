/* SPDX-License-Identifier: Apache-2.0
 * A member of a wheel or zip, streamed to a file. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>

#include "pull/steps.h"

struct sink {
    FILE                  *out;
    struct soothe__sha256 *hash;
    int64_t               *n_bytes, limit;
    const struct task     *task;
};

static enum soothe_status put(const struct sink *sink, const void *data, size_t n, const char *from,
                              struct soothe_error *err) {
    if (task_stopped(sink->task))
        return task_interrupted(sink->task, err);
    if (sink->limit && *sink->n_bytes + (int64_t)n > sink->limit)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s holds more than the %lld bytes of the model", from,
                            (long long)sink->limit);
    errno = 0;
    if (fwrite(data, 1, n, sink->out) != n)
        return soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s; what is loaded is kept", sink->task->name,
                            strerror(errno ? errno : EIO));
    soothe__sha256_add(sink->hash, data, n);
    *sink->n_bytes += (int64_t)n;
    return SOOTHE_OK;
}

static enum soothe_status copy_file(const struct sink *sink, const char *path, struct soothe_error *err) {
    static const size_t chunk = 1 << 16;
    char                buffer[1 << 16];
    enum soothe_status  status = SOOTHE_OK;
    size_t              n;
    FILE               *in = fopen(path, "rb");
    if (!in)
        return soothe__fail(err, SOOTHE_E_IO, "cannot open %s: %s", path, strerror(errno));
    while (!status && (n = fread(buffer, 1, chunk, in)) > 0)
        status = put(sink, buffer, n, path, err);
    if (!status && ferror(in))
        status = soothe__fail(err, SOOTHE_E_IO, "cannot read %s: %s", path, strerror(errno));
    fclose(in);
    return status;
}

static enum soothe_status copy_member(const struct sink *sink, struct archive *a, const char *path,
                                      struct soothe_error *err) {
    const void *data;
    size_t      n;
    la_int64_t  offset;
    for (;;) {
        const int code = archive_read_data_block(a, &data, &n, &offset);
        if (code == ARCHIVE_EOF)
            return SOOTHE_OK;
        if (code != ARCHIVE_OK) {
            const char *why = archive_error_string(a);
            return soothe__fail(err, SOOTHE_E_FORMAT, "%s is a broken archive: %s", path, why ? why : "unknown error");
        }
        const enum soothe_status status = put(sink, data, n, path, err);
        if (status)
            return status;
    }
}

static enum soothe_status find_and_copy(const struct sink *sink, struct archive *a, const char *path,
                                        const char *member, struct soothe_error *err) {
    struct archive_entry *entry;
    for (;;) {
        const int code = archive_read_next_header(a, &entry);
        if (code == ARCHIVE_EOF)
            return soothe__fail(err, SOOTHE_E_FORMAT, "%s holds no member %s", path, member);
        if (code != ARCHIVE_OK && code != ARCHIVE_WARN) {
            const char *why = archive_error_string(a);
            return soothe__fail(err, SOOTHE_E_FORMAT, "%s is no zip archive or a broken one: %s", path,
                                why ? why : "unknown error");
        }
        const char *name = archive_entry_pathname(entry);
        if (name && strcmp(name, member) == 0)
            return copy_member(sink, a, path, err);
    }
}

enum soothe_status unpack(FILE *out, struct soothe__sha256 *hash, int64_t *n_bytes, int64_t limit,
                          const char *archive_path, const char *member, const struct task *task,
                          struct soothe_error *err) {
    const struct sink sink = {out, hash, n_bytes, limit, task};
    if (!member)
        return copy_file(&sink, archive_path, err);

    enum soothe_status status;
    struct archive    *a = archive_read_new();
    if (!a)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory unpacking %s", archive_path);
    archive_read_support_format_zip(a);
    if (archive_read_open_filename(a, archive_path, 1 << 16) != ARCHIVE_OK) {
        const char *why = archive_error_string(a);
        status = soothe__fail(err, SOOTHE_E_FORMAT, "cannot unpack %s: %s", archive_path, why ? why : "unknown error");
    } else
        status = find_and_copy(&sink, a, archive_path, member, err);
    archive_read_free(a);
    return status;
}
