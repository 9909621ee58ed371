/* SPDX-License-Identifier: Apache-2.0
 * Diffs laid over a model for the time of one process. The engine loads files, so the edited model is written to one
 * that has no name any more: exactly the edited file's tensors, and nothing that could be left behind. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "edit/diff.h"

/* The file at name, opened and without its name from here on. */
static enum soothe_status take_name_off(char **path, const char *name, struct soothe_error *err) {
    const int fd = open(name, O_RDONLY | O_CLOEXEC);
    *path        = fd >= 0 ? soothe__format("/dev/fd/%d", fd) : NULL;
    if (fd < 0)
        soothe__fail(err, SOOTHE_E_IO, "cannot open %s: %s", name, strerror(errno));
    else if (!*path)
        soothe__fail(err, SOOTHE_E_MEMORY, "out of memory laying a diff over a model");
    unlink(name);
    return *path ? SOOTHE_OK : fd < 0 ? SOOTHE_E_IO : SOOTHE_E_MEMORY;
}

void soothe__diff_let_go(char *path) {
    int fd;
    if (path && sscanf(path, "/dev/fd/%d", &fd) == 1)
        close(fd);
    free(path);
}

enum soothe_status soothe__diff_lay_one(char **path, struct soothe__diff *diff, const char *model_path,
                                        const char *folder, struct soothe_error *err) {
    const char *set  = getenv("TMPDIR");
    char       *name = soothe__format("%s/soothe-laid-%ld.gguf",
                                folder        ? folder
                                      : set && *set ? set
                                                    : "/tmp",
                                      (long)getpid());
    *path            = NULL;
    if (!name)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory laying a diff over a model");
    enum soothe_status status = soothe__diff_apply(diff, model_path, name, err);
    if (!status)
        status = take_name_off(path, name, err);
    free(name);
    return status;
}

enum soothe_status soothe__diff_lay(char **path, const char *model_path, const char *const *diff_paths, size_t n_diffs,
                                    const char *folder, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    *path                     = soothe__strdup(model_path);
    if (!*path)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory laying a diff over a model");
    for (size_t i = 0; i < n_diffs && !status; i++) {
        struct soothe__diff *diff  = NULL;
        char                *below = *path;
        *path                      = NULL;
        status                     = soothe__diff_open(&diff, diff_paths[i], err);
        if (!status)
            status = soothe__diff_lay_one(path, diff, below, folder, err);
        soothe__diff_free(diff);
        if (i == 0)
            free(below);
        else
            soothe__diff_let_go(below);
    }
    return status;
}
