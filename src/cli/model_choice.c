/* SPDX-License-Identifier: Apache-2.0
 * The model of -m, or the default one; and diffs laid over it: MODEL+DIFF. */
#include <stdlib.h>
#include <string.h>

#include "cli/speak.h"
#include "edit/diff.h"
#include "pull/pull.h"

enum { DIFFS_MAX = 16 };

static enum soothe_status choose_default(char **path, struct soothe_error *err) {
    struct soothe__manifest *manifest;
    *path                     = NULL;
    enum soothe_status status = soothe__manifest_open(&manifest, NULL, err);
    if (status)
        return status;
    status = *manifest->default_name
                 ? soothe__pull_model(path, manifest->default_name, err)
                 : soothe__fail(err, SOOTHE_E_ARGUMENT, "the list of models names no default: say which by -m");
    soothe__manifest_free(manifest);
    return status;
}

/* A word that is no file names a diff that comes with soothe: surgery is default.surgery.gguf. */
static enum soothe_status find_diff(char **path, const char *word, struct soothe_error *err) {
    if (soothe__file_exists(word) || strpbrk(word, "./")) {
        *path = soothe__strdup(word);
        return *path ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    }
    char              *name   = soothe__format("default.%s.gguf", word);
    enum soothe_status status = name ? soothe__shipped_file(path, name, "diff", "give a file: MODEL+FILE", err)
                                     : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    free(name);
    return status;
}

/* "MODEL+DIFF+DIFF": *path is a file without a name that lives as long as the process. */
static enum soothe_status choose_with_diffs(char **path, const char *name, struct soothe_error *err) {
    char              *words = soothe__strdup(name), *diffs[DIFFS_MAX] = {NULL}, *base = NULL;
    size_t             n      = 0;
    enum soothe_status status = words ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    for (char *plus = words ? strchr(words, '+') : NULL; plus && !status; n++) {
        char *next = strchr(plus + 1, '+');
        *plus      = '\0';
        if (next)
            *next = '\0';
        status = n == DIFFS_MAX ? soothe__fail(err, SOOTHE_E_ARGUMENT, "%s: more than %d diffs", name, DIFFS_MAX)
                                : find_diff(&diffs[n], plus + 1, err);
        if (next)
            *next = '+';
        plus = next;
        if (status)
            break;
    }
    if (!status)
        status = *words ? soothe__pull_model(&base, words, err) : choose_default(&base, err);
    if (!status)
        status = soothe__diff_lay(path, base, (const char *const *)diffs, n, NULL, err);
    for (size_t i = 0; i < DIFFS_MAX; i++)
        free(diffs[i]);
    free(base);
    free(words);
    return status;
}

enum soothe_status soothe__choose_model(char **path, const char *name, struct soothe_error *err) {
    *path = NULL;
    if (!name)
        return choose_default(path, err);
    if (strchr(name, '+') && !strstr(name, "://") && !soothe__file_exists(name))
        return choose_with_diffs(path, name, err);
    return soothe__pull_model(path, name, err);
}

const char *soothe__laid_name(const char *name, const char *path) {
    if (!name || !path || strncmp(path, "/dev/fd/", 8) != 0 || !strncmp(name, "/dev/fd/", 8))
        return NULL;
    const char *start = strchr(name, '+'); /* from the model's own name on: folders before it are not told */
    while (start && start > name && start[-1] != '/')
        start--;
    return start ? start : name;
}
