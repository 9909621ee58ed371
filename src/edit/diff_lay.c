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

static void let_go(const char *path) {
    int fd;
    if (sscanf(path, "/dev/fd/%d", &fd) == 1)
        close(fd);
}

static enum soothe_status lay_one(char **path, const char *model_path, const char *diff_path, const char *folder,
                                  struct soothe_error *err) {
    struct soothe__diff *diff   = NULL;
    enum soothe_status   status = soothe__diff_open(&diff, diff_path, err);
    char                *name   = soothe__format("%s/soothe-laid-%ld.gguf", folder, (long)getpid());
    if (!status && !name)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory laying a diff over a model");
    if (!status)
        status = soothe__diff_apply(diff, model_path, name, err);
    if (!status)
        status = take_name_off(path, name, err);
    soothe__diff_free(diff);
    free(name);
    return status;
}

enum soothe_status soothe__diff_lay(char **path, const char *model_path, const char *const *diff_paths, size_t n_diffs,
                                    const char *folder, struct soothe_error *err) {
    const char        *set    = getenv("TMPDIR");
    char              *below  = NULL;
    enum soothe_status status = SOOTHE_OK;
    *path                     = NULL;
    for (size_t i = 0; i < n_diffs && !status; i++) {
        below  = *path;
        *path  = NULL;
        status = lay_one(path, below ? below : model_path, diff_paths[i],
                         folder        ? folder
                         : set && *set ? set
                                       : "/tmp",
                         err);
        if (below)
            let_go(below);
        free(below);
    }
    if (!status && n_diffs == 0 && !(*path = soothe__strdup(model_path)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    return status;
}
