/* SPDX-License-Identifier: Apache-2.0
 * Whole files in, and files that appear only when complete out. */
#define _XOPEN_SOURCE 700
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- reading ------------------------------------------------------------------------------- */

static enum soothe_status read_stream(char **data, size_t *size, FILE *in, const char *name, size_t hint,
                                      struct soothe_error *err) {
    size_t capacity = hint < SIZE_MAX - 2 ? hint + 2 : hint; /* one for the zero, one to see the end */
    size_t n        = 0;
    char  *buffer   = soothe__realloc(NULL, capacity, 1);
    if (!buffer)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s (%zu bytes)", name, hint);
    for (;;) {
        n += fread(buffer + n, 1, capacity - 1 - n, in);
        if (n < capacity - 1)
            break; /* the end, or an error */
        char *larger = capacity > SIZE_MAX / 2 ? NULL : soothe__realloc(buffer, capacity * 2, 1);
        if (!larger) {
            free(buffer);
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s (%zu bytes so far)", name, n);
        }
        buffer = larger;
        capacity *= 2;
    }
    if (ferror(in)) {
        free(buffer);
        return soothe__fail(err, SOOTHE_E_IO, "cannot read %s: %s", name, strerror(errno));
    }
    buffer[n] = '\0';
    *data     = buffer;
    if (size)
        *size = n;
    return SOOTHE_OK;
}

enum soothe_status soothe__read_file(char **data, size_t *size, const char *path, struct soothe_error *err) {
    *data = NULL;
    if (size)
        *size = 0;
    if (strcmp(path, "-") == 0)
        return read_stream(data, size, stdin, "standard input", 4096, err);

    FILE *in = fopen(path, "rb");
    if (!in)
        return soothe__fail(err, SOOTHE_E_IO, "cannot open %s: %s", path, strerror(errno));
    struct stat        st;
    const bool         sized = fstat(fileno(in), &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0;
    enum soothe_status status;
    if (sized && (uintmax_t)st.st_size > SIZE_MAX / 2)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "%s is too large to be read whole", path);
    else
        status = read_stream(data, size, in, path, sized ? (size_t)st.st_size : 4096, err);
    fclose(in);
    return status;
}

bool soothe__file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

int64_t soothe__file_size(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? (int64_t)st.st_size : 0;
}

/* ---- writing ------------------------------------------------------------------------------- */

const char *soothe__file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Length of the folder part of path with its last '/', 0 if there is none. */
static size_t folder_length(const char *path) {
    return (size_t)(soothe__file_name(path) - path);
}

/* Creates a fresh file in path's folder. The name is short whatever path is, so that a name of the
 * longest kind still has a neighbour; the mode is the one that open gives, under the umask. */
static int open_beside(char **temporary, const char *path, mode_t mode) {
    for (unsigned attempt = 0; attempt < 10000; attempt++) {
        char *name = soothe__format("%.*s.soothe-%ld-%u.tmp", (int)folder_length(path), path, (long)getpid(), attempt);
        if (!name) {
            errno = ENOMEM;
            return -1;
        }
        const int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd >= 0) {
            *temporary = name;
            return fd;
        }
        const int why = errno;
        free(name);
        errno = why;
        if (why != EEXIST)
            return -1;
    }
    return -1;
}

enum soothe_status soothe__new_file_open(struct soothe__new_file *f, const char *path, struct soothe_error *err) {
    struct stat st;
    const bool  exists = stat(path, &st) == 0;
    int         fd;
    memset(f, 0, sizeof *f);
    if (exists && S_ISDIR(st.st_mode))
        return soothe__fail(err, SOOTHE_E_IO, "cannot write %s: it is a folder", path);

    /* A link is followed, so that the file it names is replaced and not the link. */
    f->path = exists ? realpath(path, NULL) : NULL;
    if (!f->path)
        f->path = soothe__strdup(path);
    if (!f->path)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory writing %s", path);

    if (exists && !S_ISREG(st.st_mode))
        fd = open(path, O_WRONLY | O_CLOEXEC); /* a device or a pipe stays what it is */
    else
        fd = open_beside(&f->temporary, f->path, exists ? st.st_mode & 0777 : 0666);
    if (fd < 0) {
        soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", path, strerror(errno));
        soothe__new_file_abort(f);
        return SOOTHE_E_IO;
    }
    if (exists && f->temporary)
        (void)fchmod(fd, st.st_mode & 0777); /* past the umask: as the old file was */
    f->stream = fdopen(fd, "wb");
    if (!f->stream) {
        soothe__fail(err, SOOTHE_E_MEMORY, "cannot write %s: %s", path, strerror(errno));
        close(fd);
        soothe__new_file_abort(f);
        return SOOTHE_E_MEMORY;
    }
    return SOOTHE_OK;
}

/* The new name itself must survive a power failure. Some file systems cannot sync a folder; nothing
 * is lost then that we could still save, so the answer is not looked at. */
static void sync_folder_of(const char *path) {
    const size_t length = folder_length(path);
    char        *folder = length ? soothe__format("%.*s", (int)length, path) : soothe__strdup(".");
    const int    fd     = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(folder);
}

enum soothe_status soothe__new_file_commit(struct soothe__new_file *f, struct soothe_error *err) {
    if (!f->stream)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "no file is open to be committed");
    const char *name = f->path;
    /* A write that failed earlier left only the flag; errno of the last flush is the better reason. */
    errno       = 0;
    bool failed = fflush(f->stream) != 0;
    if (!failed && ferror(f->stream)) {
        failed = true;
        if (!errno)
            errno = EIO;
    }
    if (!failed && f->temporary)
        failed = fsync(fileno(f->stream)) != 0;
    int why = errno;
    if (fclose(f->stream) != 0 && !failed) {
        failed = true;
        why    = errno;
    }
    f->stream = NULL;
    if (!failed && f->temporary && rename(f->temporary, f->path) != 0) {
        failed = true;
        why    = errno;
    }
    if (failed)
        soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", name, strerror(why));
    else if (f->temporary) {
        sync_folder_of(f->path);
        free(f->temporary); /* renamed: abort has nothing to remove */
        f->temporary = NULL;
    }
    soothe__new_file_abort(f);
    return failed ? SOOTHE_E_IO : SOOTHE_OK;
}

void soothe__new_file_abort(struct soothe__new_file *f) {
    if (f->stream)
        fclose(f->stream);
    if (f->temporary)
        unlink(f->temporary);
    free(f->temporary);
    free(f->path);
    memset(f, 0, sizeof *f);
}

static bool is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

enum soothe_status soothe__make_folders(const char *path, struct soothe_error *err) {
    char *copy = soothe__strdup(path);
    if (!copy)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory making the folder %s", path);
    enum soothe_status status = SOOTHE_OK;
    for (char *p = copy; *p && !status;) {
        p += strspn(p, "/");
        p += strcspn(p, "/");
        const char rest = *p;
        *p              = '\0';
        if (mkdir(copy, 0777) != 0 && !is_folder(copy)) {
            const int why = errno == EEXIST ? ENOTDIR : errno;
            status        = soothe__fail(err, SOOTHE_E_IO, "cannot make the folder %s: %s", copy, strerror(why));
        }
        *p = rest;
    }
    free(copy);
    return status;
}
