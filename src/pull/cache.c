/* SPDX-License-Identifier: Apache-2.0
 * Where models are kept, and how we know that they are whole. */
#define _DEFAULT_SOURCE
#include "pull/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

enum soothe_status soothe__models_folder(char **path, struct soothe_error *err) {
    const char *own = variable("SOOTHE_CACHE"), *xdg = variable("XDG_CACHE_HOME"), *home = variable("HOME");
    *path = NULL;
    if (own)
        *path = soothe__format("%s/models", own);
    else if (xdg && *xdg == '/')
        *path = soothe__format("%s/soothe/models", xdg); /* its standard: ignore relative ones */
    else if (home)
        *path = soothe__format("%s/.cache/soothe/models", home);
    else
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "no folder for models: set SOOTHE_CACHE or HOME");
    return *path ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
}

/* ---- stamps ------------------------------------------------------------------------------------- */

static bool stamp_text(char text[160], const char *path, const char *sha256) {
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return false;
    snprintf(text, 160, "%lld %lld.%09ld %s\n", (long long)st.st_size, (long long)st.st_mtim.tv_sec,
             (long)st.st_mtim.tv_nsec, sha256);
    return true;
}

/* The hash that the stamp beside path claims, if size and time still fit. */
static bool stamped_hash(char sha256[65], const char *path) {
    char  *stamp = soothe__format("%s.ok", path), *data = NULL, expected[160];
    size_t size = 0;
    bool   fits = false;
    if (stamp && !soothe__read_file(&data, &size, stamp, NULL) && size > 66 && data[size - 1] == '\n') {
        memcpy(sha256, data + size - 65, 64);
        sha256[64] = '\0';
        fits       = stamp_text(expected, path, sha256) && strcmp(expected, data) == 0;
    }
    free(data);
    free(stamp);
    return fits;
}

void cache_stamp(const char *path, const char *sha256) {
    struct soothe__new_file f     = {0};
    char                   *stamp = soothe__format("%s.ok", path), text[160];
    if (stamp && stamp_text(text, path, sha256) && !soothe__new_file_open(&f, stamp, NULL)) {
        fputs(text, f.stream);
        soothe__new_file_commit(&f, NULL);
    }
    free(stamp);
}

enum soothe_status cache_has(bool *has, const char *path, const char *sha256, bool verify, struct soothe_error *err) {
    struct stat st;
    char        hex[65];
    *has = false;
    if (stat(path, &st) != 0)
        return SOOTHE_OK;
    if (!S_ISREG(st.st_mode))
        return soothe__fail(err, SOOTHE_E_IO, "%s is in the way: it is no file", path);
    if (!verify && stamped_hash(hex, path)) {
        *has = !sha256 || strcmp(hex, sha256) == 0;
        return SOOTHE_OK;
    }
    const enum soothe_status status = soothe__sha256_file(hex, path, err);
    if (status)
        return status;
    *has = !sha256 || strcmp(hex, sha256) == 0;
    if (*has)
        cache_stamp(path, hex);
    return SOOTHE_OK;
}

bool soothe__pull_find(char **path, const char *sha256) {
    char *folder;
    *path = NULL;
    if (soothe__models_folder(&folder, NULL))
        return false;
    DIR *dir = opendir(folder);
    for (const struct dirent *e; dir && !*path && (e = readdir(dir));) {
        const size_t n = strlen(e->d_name);
        char         hex[65];
        if (n < 4 || strcmp(e->d_name + n - 3, ".ok") != 0)
            continue;
        char *candidate = soothe__format("%s/%.*s", folder, (int)(n - 3), e->d_name);
        if (candidate && stamped_hash(hex, candidate) && strcmp(hex, sha256) == 0)
            *path = candidate;
        else
            free(candidate);
    }
    if (dir)
        closedir(dir);
    free(folder);
    return *path != NULL;
}

/* ---- the lock ------------------------------------------------------------------------------------- */

enum soothe_status cache_lock(int *lock, const char *path, const struct task *task, struct soothe_error *err) {
    char *name = soothe__format("%s.lock", path);
    if (!name)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    *lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (*lock < 0) {
        const enum soothe_status status = soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", name, strerror(errno));
        free(name);
        return status;
    }
    free(name);
    while (flock(*lock, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            cache_unlock(*lock);
            *lock = -1;
            return SOOTHE_OK;
        }
        if (task_stopped(task)) {
            cache_unlock(*lock);
            *lock = -1;
            return task_interrupted(task, err);
        }
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    return SOOTHE_OK;
}

void cache_unlock(int lock) {
    if (lock >= 0)
        close(lock); /* the empty file stays: removing it would race with who waits at it */
}
