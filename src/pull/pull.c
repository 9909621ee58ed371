/* SPDX-License-Identifier: Apache-2.0
 * Pulling a model: find it in the cache, or load its parts, verify, unpack, join, verify, rename. */
#define _XOPEN_SOURCE 700
#include "pull/pull.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pull/cache.h"
#include "pull/steps.h"

static enum soothe_status out_of_memory(struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
}

static bool is_regular_file(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static enum soothe_status check_hash(const char *path, const char *source, const char *sha256,
                                     struct soothe_error *err) {
    char                     hex[65];
    const enum soothe_status status = soothe__sha256_file(hex, path, err);
    if (status)
        return status;
    if (strcmp(hex, sha256) == 0)
        return SOOTHE_OK;
    return soothe__fail(err, SOOTHE_E_FORMAT, "%s has the sha256 %s, but it should be %s", source, hex, sha256);
}

/* ---- parts -------------------------------------------------------------------------------------- */

struct part_file {
    char *path;
    bool  ours; /* in the cache, to be removed after joining */
};

/* The name must not outlive its bytes in a power failure. A file system that cannot sync is no reason to fail. */
static void sync_file(const char *path) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
}

/* Loads url beside `verified` and gives it that name once its hash is right. */
static enum soothe_status load_part(const char *verified, const char *url, const struct soothe__model_part *part,
                                    const struct task *task, struct soothe_error *err) {
    char *partial = soothe__format("%s.part", verified);
    if (!partial)
        return out_of_memory(err);
    enum soothe_status status;
    for (bool again = soothe__file_exists(partial);; again = false) {
        status = download(url, partial, part->size, task, err);
        if (status || !part->sha256)
            break;
        status = check_hash(partial, url, part->sha256, err);
        if (status != SOOTHE_E_FORMAT)
            break;
        unlink(partial);
        if (!again)
            break; /* else the old bytes may be of another file: once more, from the start */
    }
    if (!status)
        sync_file(partial);
    if (!status && rename(partial, verified) != 0)
        status = soothe__fail(err, SOOTHE_E_IO, "cannot rename %s: %s", partial, strerror(errno));
    free(partial);
    return status;
}

static enum soothe_status fetch_part(struct part_file *file, const char *base, size_t i_part,
                                     const struct soothe__model_part *part, const struct task *task,
                                     struct soothe_error *err) {
    char *url, *local;
    file->ours = true;
    file->path = soothe__format("%s.%zu-%.8s", base, i_part + 1, part->sha256 ? part->sha256 : "unknown");
    if (!file->path)
        return out_of_memory(err);
    if (soothe__file_exists(file->path))
        return SOOTHE_OK; /* verified by an earlier call */
    if (task_stopped(task))
        return task_interrupted(task, err);

    enum soothe_status status = resolve_source(&url, &local, part->source, part->sha256, err);
    if (!status && local) {
        free(file->path);
        file->path = local;
        file->ours = false;
        local      = NULL;
        if (part->sha256)
            status = check_hash(file->path, part->source, part->sha256, err);
    } else if (!status)
        status = load_part(file->path, url, part, task, err);
    free(local);
    free(url);
    return status;
}

/* ---- joining ------------------------------------------------------------------------------------ */

static enum soothe_status finish_file(FILE *out, const char *path, struct soothe_error *err) {
    int why = 0;
    if (fflush(out) != 0 || fsync(fileno(out)) != 0)
        why = errno;
    if (fclose(out) != 0 && !why)
        why = errno;
    return why ? soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", path, strerror(why)) : SOOTHE_OK;
}

static enum soothe_status unpack_parts(char hex[65], FILE *out, const struct soothe__model *model,
                                       const struct part_file *files, const struct task *task,
                                       struct soothe_error *err) {
    enum soothe_status     status  = SOOTHE_OK;
    int64_t                n_bytes = 0;
    struct soothe__sha256 *hash    = soothe__sha256_new();
    if (!hash)
        return out_of_memory(err);
    for (size_t i = 0; i < model->n_parts && !status; i++)
        status = unpack(out, hash, &n_bytes, model->size, files[i].path, model->parts[i].member, task, err);
    soothe__sha256_finish(hash, hex);
    if (!status && model->sha256 && strcmp(hex, model->sha256) != 0)
        status =
            soothe__fail(err, SOOTHE_E_FORMAT, "%s (%lld bytes) has the sha256 %s, but it should be %s (%lld bytes)",
                         model->name, (long long)n_bytes, hex, model->sha256, (long long)model->size);
    return status;
}

/* Writes the model beside `path` from its parts and renames it. Not through soothe__new_file: a name of
 * its own lets the next call overwrite what a killed one left. */
static enum soothe_status join_parts(const char *path, const struct soothe__model *model, const struct part_file *files,
                                     const struct task *task, struct soothe_error *err) {
    char               hex[65];
    char              *joined = soothe__format("%s.join.part", path);
    FILE              *out    = joined ? fopen(joined, "wb") : NULL;
    enum soothe_status status;
    if (!joined)
        return out_of_memory(err);
    if (!out)
        status = soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", joined, strerror(errno));
    else {
        if (task->progress)
            soothe__progress_update(task->progress, 1.0, "unpacking");
        status = unpack_parts(hex, out, model, files, task, err);
        if (!status)
            status = finish_file(out, path, err);
        else
            fclose(out);
        if (!status && rename(joined, path) != 0)
            status = soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", path, strerror(errno));
        if (status)
            unlink(joined);
        else
            cache_stamp(path, hex);
    }
    free(joined);
    return status;
}

/* One part that is the model itself needs no second copy. */
static bool place_whole(const char *path, const struct soothe__model *model, const struct part_file *files) {
    char hex[65];
    if (model->n_parts != 1 || model->parts[0].member || !files[0].ours)
        return false;
    if (soothe__sha256_file(hex, files[0].path, NULL) || (model->sha256 && strcmp(hex, model->sha256) != 0))
        return false;
    if (rename(files[0].path, path) != 0)
        return false; /* another file system: joining copies it */
    cache_stamp(path, hex);
    return true;
}

static enum soothe_status fetch_and_join(const char *path, const char *base, const struct soothe__model *model,
                                         struct task *task, struct soothe_error *err) {
    struct part_file *files = soothe__calloc(model->n_parts, sizeof *files);
    if (!files)
        return out_of_memory(err);
    enum soothe_status status = SOOTHE_OK;
    for (size_t i = 0; i < model->n_parts && !status; i++) {
        status = fetch_part(&files[i], base, i, &model->parts[i], task, err);
        task->before += model->parts[i].size;
    }
    if (!status && !place_whole(path, model, files))
        status = join_parts(path, model, files, task, err);
    for (size_t i = 0; i < model->n_parts; i++) {
        /* After success a part has served; one that nobody vouches for may be what was wrong. */
        const bool useless = status == SOOTHE_OK || (status == SOOTHE_E_FORMAT && !model->parts[i].sha256);
        if (files[i].path && files[i].ours && useless)
            unlink(files[i].path);
        free(files[i].path);
    }
    free(files);
    return status;
}

/* ---- one model ------------------------------------------------------------------------------------ */

static enum soothe_status pull_into(char **path, const char *base, const struct soothe__model *model,
                                    const struct soothe__pull_options *options, struct soothe_error *err) {
    struct soothe__progress progress = soothe__progress_start();
    struct task             task     = {.stop          = options->stop,
                                        .progress      = options->show_progress ? &progress : NULL,
                                        .retry_seconds = options->retry_seconds > 0 ? options->retry_seconds : 1.0,
                                        .name          = model->name};
    int                     lock;
    bool                    has    = false;
    char                   *target = soothe__strdup(options->out_path ? options->out_path : base);
    if (!target)
        return out_of_memory(err);
    for (size_t i = 0; i < model->n_parts; i++)
        task.total += model->parts[i].size;

    enum soothe_status status = cache_lock(&lock, base, &task, err);
    if (!status) {
        if (!options->out_path)
            status = cache_has(&has, target, model->sha256, options->verify, err);
        if (!status && !has) {
            status = fetch_and_join(target, base, model, &task, err);
            soothe__progress_finish(&progress);
        }
        cache_unlock(lock);
    }
    if (status)
        free(target);
    else
        *path = target;
    return status;
}

static enum soothe_status pull_to_cache(char **path, const struct soothe__model *model,
                                        const struct soothe__pull_options *options, struct soothe_error *err) {
    char              *folder;
    enum soothe_status status = soothe__models_folder(&folder, err);
    if (status)
        return status;
    char *base = soothe__format("%s/%s", folder, model->file);
    status     = base ? soothe__make_folders(folder, err) : out_of_memory(err);
    if (!status)
        status = pull_into(path, base, model, options, err);
    free(base);
    free(folder);
    return status;
}

/* A file name for an address: its last piece with harmless letters, made unique by a hash. */
static void file_name_of(char file[128], const char *address) {
    static const char      allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-+=";
    char                   hex[65]   = "";
    const size_t           length    = strcspn(address, "?#");
    size_t                 from      = length;
    struct soothe__sha256 *h         = soothe__sha256_new();
    if (h)
        soothe__sha256_add(h, address, strlen(address));
    soothe__sha256_finish(h, hex);
    while (from > 0 && address[from - 1] != '/' && address[from - 1] != ':' && length - from < 100)
        from--;
    snprintf(file, 128, "%.8s-%.*s", hex, (int)(length - from), address + from);
    for (char *c = file; *c; c++)
        if (!strchr(allowed, *c))
            *c = '_';
}

static enum soothe_status pull_address(char **path, const char *what, const struct soothe__pull_options *options,
                                       struct soothe_error *err) {
    char                      file[128];
    struct soothe__model_part part = {.source = what, .sha256 = options->sha256};
    struct soothe__model model = {.name = what, .file = file, .sha256 = options->sha256, .n_parts = 1, .parts = &part};
    if (options->sha256 &&
        (strlen(options->sha256) != 64 || options->sha256[strspn(options->sha256, "0123456789abcdef")]))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "\"%s\" is no sha256: 64 digits of 0-9, a-f are needed",
                            options->sha256);
    file_name_of(file, what);

    const bool is_local = !is_address(what) || strncmp(what, "file:", 5) == 0;
    if (!is_local || options->out_path)
        return pull_to_cache(path, &model, options, err);

    char              *url, *local; /* a file of this machine is used where it is */
    enum soothe_status status = resolve_source(&url, &local, what, NULL, err);
    if (!status && !is_regular_file(local))
        status = soothe__fail(err, SOOTHE_E_IO, "there is no file %s", local);
    if (!status && options->sha256)
        status = check_hash(local, local, options->sha256, err);
    free(url);
    if (status)
        free(local);
    else
        *path = local;
    return status;
}

static enum soothe_status unknown_name(const struct soothe__manifest *manifest, const char *what,
                                       struct soothe_error *err) {
    char   names[400] = "";
    size_t n          = 0;
    for (size_t i = 0; i < manifest->n_models && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", manifest->models[i].name);
    return soothe__fail(err, SOOTHE_E_ARGUMENT, "there is no file and no model of the name %.300s; models: %s", what,
                        names);
}

enum soothe_status soothe__pull(char **path, const char *what, const struct soothe__pull_options *options,
                                struct soothe_error *err) {
    static const struct soothe__pull_options defaults = {0};
    struct soothe__manifest                 *manifest;
    *path = NULL;
    if (!options)
        options = &defaults;
    if (is_address(what) || is_regular_file(what))
        return pull_address(path, what, options, err);

    enum soothe_status status = soothe__manifest_open(&manifest, options->manifest_path, err);
    if (status)
        return status;
    const struct soothe__model *model = soothe__manifest_find(manifest, what);
    if (!model)
        status = unknown_name(manifest, what, err);
    else if (options->sha256 && strcmp(options->sha256, model->sha256) != 0)
        status = soothe__fail(err, SOOTHE_E_MISMATCH, "the manifest gives %s the sha256 %s, not %s", what,
                              model->sha256, options->sha256);
    else
        status = pull_to_cache(path, model, options, err);
    soothe__manifest_free(manifest);
    return status;
}

enum soothe_status soothe__pull_model(char **path, const char *name_or_path_or_url, struct soothe_error *err) {
    const struct soothe__pull_options options = {.show_progress = true};
    return soothe__pull(path, name_or_path_or_url, &options, err);
}
