/* SPDX-License-Identifier: Apache-2.0
 * The lowest layer: errors, memory, random numbers, files, hashes, text. Knows nothing of models. */
#ifndef SOOTHE_BASE_H
#define SOOTHE_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "soothe.h"

/* ---- errors: status.c ---------------------------------------------------------------------- */

/* Fills err (may be NULL) with a formatted sentence and returns status, so that callers write
 * `return soothe__fail(err, SOOTHE_E_IO, "cannot open %s: %s", path, strerror(errno));` */
enum soothe_status soothe__fail(struct soothe_error *err, enum soothe_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- memory: memory.c ---------------------------------------------------------------------- */

/* n x size bytes, zeroed, with the product checked; NULL when out of memory. free() releases. */
void *soothe__calloc(size_t n, size_t size);
/* As realloc, for n x size bytes with the product checked; the old block stays on failure. */
void *soothe__realloc(void *old, size_t n, size_t size);
char *soothe__strdup(const char *s);
/* printf into a fresh string; NULL when out of memory; free() releases. */
char *soothe__format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- random numbers: random.c (PCG32; O'Neill 2014) ------------------------------------------ */
struct soothe__rng {
    uint64_t state, inc;
};

struct soothe__rng soothe__rng_seed(uint64_t seed, uint64_t stream);
uint32_t           soothe__rng_u32(struct soothe__rng *rng);
uint32_t           soothe__rng_below(struct soothe__rng *rng, uint32_t n); /* uniform in [0,n), unbiased */
double             soothe__rng_uniform(struct soothe__rng *rng);           /* [0,1)                      */
double             soothe__rng_normal(struct soothe__rng *rng);            /* mean 0, variance 1         */

/* ---- files: file.c --------------------------------------------------------------------------- */

/* Whole file into a fresh zero-terminated buffer (*size without the zero). path "-" is stdin. */
enum soothe_status soothe__read_file(char **data, size_t *size, const char *path, struct soothe_error *err);

/* A file that appears under its name only when complete: written beside, synced, renamed.
 * open -> fwrite on .stream -> commit, or abort (also safe after commit and on a zeroed struct). */
struct soothe__new_file {
    FILE *stream;
    char *path;
    char *temporary;
};

enum soothe_status soothe__new_file_open(struct soothe__new_file *f, const char *path, struct soothe_error *err);
enum soothe_status soothe__new_file_commit(struct soothe__new_file *f, struct soothe_error *err);
void               soothe__new_file_abort(struct soothe__new_file *f);

enum soothe_status soothe__make_folders(const char *path, struct soothe_error *err); /* mkdir -p */
bool               soothe__file_exists(const char *path);
int64_t            soothe__file_size(const char *path); /* bytes; 0 if there is none */
const char        *soothe__file_name(const char *path); /* without its folders; within path */

/* The fresh path of a file that comes with soothe: in the folder that SOOTHE_MODELS names, else in the models of an
 * installed copy, else in the source tree's: shipped_file.c.
 * what, instead  for the error's sentence: what it is, and what the user may do instead
 * errors         SOOTHE_E_IO it is not there */
enum soothe_status soothe__shipped_file(char **path, const char *name, const char *what, const char *instead,
                                        struct soothe_error *err);

/* ---- hashes: sha256.c (libcrypto) ------------------------------------------------------------ */
struct soothe__sha256;                           /* running hash; opaque          */
struct soothe__sha256 *soothe__sha256_new(void); /* NULL when out of memory       */
void                   soothe__sha256_add(struct soothe__sha256 *h, const void *data, size_t size);
void                   soothe__sha256_finish(struct soothe__sha256 *h, char hex[65]); /* frees h; hex may be NULL  */
enum soothe_status     soothe__sha256_file(char hex[65], const char *path, struct soothe_error *err);

/* ---- time and interruption: progress.c -------------------------------------------------------- */
double soothe__seconds(void); /* monotonic clock               */

/* One line on stderr that redraws itself on a terminal and stays silent elsewhere (then only a
 * line at every tenth is printed). fraction in [0,1]; detail is free text after the bar. */
struct soothe__progress {
    double started, last_draw;
    int    last_tenth;
    bool   terminal;
};
struct soothe__progress soothe__progress_start(void);
void                    soothe__progress_update(struct soothe__progress *p, double fraction, const char *detail);
void                    soothe__progress_finish(struct soothe__progress *p);

/* ---- threads: threads.c ------------------------------------------------------------------------ */
int32_t soothe__thread_count(int32_t wanted); /* wanted; if that is 0 or less, all processors */
/* work(user) in n threads at once, this one among them, until all are done. Where fewer can be started those that run
 * do everything: work takes pieces until none is left. */
void soothe__run_threads(size_t n, void *(*work)(void *), void *user);

/* ---- text: text.c ------------------------------------------------------------------------------ */
bool soothe__utf8_valid(const char *text, size_t size);
/* Numbers from outside: the whole string must be one finite number inside [lo, hi]. */
bool soothe__parse_double(double *out, const char *text, double lo, double hi);
bool soothe__parse_int64(int64_t *out, const char *text, int64_t lo, int64_t hi);

/* ---- characters out of bytes that come in pieces: utf8_stream.c ------------------------------- */

/* A token may end within a character: its bytes are held until the character is whole. Zeroed to begin. */
struct soothe__utf8_stream {
    unsigned char held[4];
    size_t        n_held;
};
/* Adds n bytes; writes the characters now whole to out and returns their size. Bytes that can be part of no
 * character, and zero bytes, become U+FFFD. out has room for 3 * (n + n_held) bytes. */
size_t soothe__utf8_push(struct soothe__utf8_stream *s, const char *bytes, size_t n, char *out);

#endif /* SOOTHE_BASE_H */
