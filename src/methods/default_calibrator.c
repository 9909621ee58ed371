/* SPDX-License-Identifier: Apache-2.0
 * Where the shipped calibrator lies. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "methods/methods.h"

#define FILE_NAME "default.calibrator.gguf"
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
static bool try_folder(char **path, const char *folder) {
    char *candidate = folder ? soothe__format("%s/" FILE_NAME, folder) : NULL;
    if (candidate && soothe__file_exists(candidate)) {
        *path = candidate;
        return true;
    }
    free(candidate);
    return false;
}

enum soothe_status soothe__default_calibrator(char **path, struct soothe_error *err) {
    const char *named = getenv("SOOTHE_MODELS");
    *path             = NULL;
    if (named && *named) {
        if (try_folder(path, named))
            return SOOTHE_OK;
        return soothe__fail(err, SOOTHE_E_IO,
                            "there is no shipped calibrator: %s/" FILE_NAME
                            " does not exist (SOOTHE_MODELS says to look there); give one by --calibrator, or take "
                            "--method none",
                            named);
    }
    char      *installed = installed_models();
    const bool found     = try_folder(path, installed) || try_folder(path, SOOTHE_SOURCE_MODELS);
    free(installed);
    if (found)
        return SOOTHE_OK;
    return soothe__fail(err, SOOTHE_E_IO,
                        "there is no shipped calibrator (" FILE_NAME " in ../share/soothe/models beside the program or "
                        "in " SOOTHE_SOURCE_MODELS "); give one by --calibrator, or take --method none");
}
