/* SPDX-License-Identifier: Apache-2.0
 * Where the files that come with soothe lie. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"

#ifndef SOOTHE_SOURCE_MODELS /* CMake names the source tree's */
#define SOOTHE_SOURCE_MODELS "models"
#endif

/* The models of an installed copy; NULL where the system does not tell where the program is. */
static char *installed_models(void) {
    char          program[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0)
        return NULL;
    program[n]  = '\0';
    char *slash = strrchr(program, '/');
    if (!slash)
        return NULL;
    *slash = '\0';
    return soothe__format("%s/../share/soothe/models", program);
}

/* Takes the file of that folder if it is there. */
static bool try_folder(char **path, const char *folder, const char *name) {
    char *candidate = folder ? soothe__format("%s/%s", folder, name) : NULL;
    if (candidate && soothe__file_exists(candidate)) {
        *path = candidate;
        return true;
    }
    free(candidate);
    return false;
}

enum soothe_status soothe__shipped_file(char **path, const char *name, const char *what, const char *instead,
                                        struct soothe_error *err) {
    const char *named = getenv("SOOTHE_MODELS");
    *path             = NULL;
    if (named && *named) {
        if (try_folder(path, named, name))
            return SOOTHE_OK;
        return soothe__fail(err, SOOTHE_E_IO,
                            "there is no shipped %s: %s/%s does not exist (SOOTHE_MODELS says to look there); %s", what,
                            named, name, instead);
    }
    char      *installed = installed_models();
    const bool found     = try_folder(path, installed, name) || try_folder(path, SOOTHE_SOURCE_MODELS, name);
    free(installed);
    if (found)
        return SOOTHE_OK;
    return soothe__fail(err, SOOTHE_E_IO,
                        "there is no shipped %s (%s in ../share/soothe/models beside the program or in "
                        "" SOOTHE_SOURCE_MODELS "); %s",
                        what, name, instead);
}
