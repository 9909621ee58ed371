/* SPDX-License-Identifier: Apache-2.0
 * The steps of a pull, for pull.c only. */
#ifndef SOOTHE_PULL_STEPS_H
#define SOOTHE_PULL_STEPS_H

#include "pull/pull.h"

/* What a long step reports to and is stopped by. */
struct task {
    const volatile sig_atomic_t *stop;
    struct soothe__progress     *progress; /* NULL: silent                                       */
    double                       retry_seconds;
    int64_t                      total, before; /* bytes of all parts (0: not known), of those done */
    const char                  *name;          /* of the model, for messages */
};

bool               task_stopped(const struct task *task);
enum soothe_status task_interrupted(const struct task *task, struct soothe_error *err);

/* resolve.c: the address to load a source from, fresh. A path or file:// gives a path in *local instead.
 * sha256  in: NULL or what it must be; a registry that says otherwise is an error */
enum soothe_status resolve_source(char **url, char **local, const char *source, const char *sha256,
                                  struct soothe_error *err);
bool               is_address(const char *what); /* http, https, file, hf or pypi */

/* download.c: url into path, continued from the bytes that are there. size 0: not known. */
enum soothe_status download(const char *url, const char *path, int64_t size, const struct task *task,
                            struct soothe_error *err);

/* unpack.c: one member of an archive (member NULL: the file itself) to the end of out, hashing. At most
 * limit bytes. *n_bytes is what was written. */
enum soothe_status unpack(FILE *out, struct soothe__sha256 *hash, int64_t *n_bytes, int64_t limit,
                          const char *archive_path, const char *member, const struct task *task,
                          struct soothe_error *err);

#endif /* SOOTHE_PULL_STEPS_H */
