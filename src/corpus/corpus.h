/* SPDX-License-Identifier: Apache-2.0
 * Texts to learn from or to measure on: JSON lines in, tokens, pairs and splits out. */
#ifndef SOOTHE_CORPUS_H
#define SOOTHE_CORPUS_H

#include "base/base.h"

/* ---- texts and pairs: corpus.c ------------------------------------------------------------------ */

/* A prompt and its completion. Equal texts are kept once. */
struct soothe__text {
    char    *prompt, *completion; /* UTF-8 */
    int32_t *tokens;              /* NULL before soothe__corpus_tokenize */
    int32_t  n_tokens, first;     /* tokens first … n_tokens-1 count; first >= 1 */
    float    weight;              /* of a single text, 1 where its line has none */
};

struct soothe__pair {
    uint32_t i_chosen, i_rejected; /* both after the same prompt */
    uint64_t set;                  /* hash of the line's "set"; 0: it has none */
};

struct soothe__source {
    char  *path;
    char   sha256[65];
    size_t n_lines;
}; /* hash of the unpacked bytes */

/* A collection of texts: pairs of them, and single ones ("clean" texts). */
struct soothe__corpus {
    struct soothe__text   *texts;
    size_t                 n_texts, capacity;
    struct soothe__pair   *pairs;
    size_t                 n_pairs, pairs_capacity;
    uint32_t              *singles;
    size_t                 n_singles, singles_capacity;
    struct soothe__source *sources;
    size_t                 n_sources;
    size_t                 n_bad, n_repeated; /* lines left out */
    size_t                 n_truncated;       /* texts that soothe__corpus_tokenize cut */
    char                   first_bad[256];    /* why, of the first bad one */
    uint32_t              *table;             /* open addressing over texts; index + 1 */
    size_t                 table_size;
};

void soothe__corpus_init(struct soothe__corpus *c);
void soothe__corpus_free(struct soothe__corpus *c); /* also of a zeroed one */

/* Adds the lines of a file, plain or compressed by xz, gzip, zstd or bzip2:
 *   {"prompt": "…", "chosen": "…", "rejected": "…"}   a pair
 *   {"prompt": "…", "completion": "…"} or {"text": "…"}   a single text
 * A pair may have a "set": "…", a name of what it shares a meaning with; a single text a "weight" from 0 to 1000.
 * Lines of no such form, invalid UTF-8, an empty or equal completion, a text over 1 MiB: counted in
 * n_bad; an exact repetition: in n_repeated.
 * errors  SOOTHE_E_IO; SOOTHE_E_FORMAT damaged archive, or not one good line (the first reason is told).
 *         libarchive does not compare gzip's checksum: xz and zstd notice a flipped bit, gzip may not */
enum soothe_status soothe__corpus_read(struct soothe__corpus *c, const char *path, struct soothe_error *err);

/* Adds one; equal texts are kept once, repeated pairs and singles stay repeated. */
enum soothe_status soothe__corpus_add_single(struct soothe__corpus *c, const char *prompt, const char *completion,
                                             struct soothe_error *err);
enum soothe_status soothe__corpus_add_pair(struct soothe__corpus *c, const char *prompt, const char *chosen,
                                           const char *rejected, struct soothe_error *err);

/* Moves about fraction of the pairs and singles of from to the empty corpus out. All with the same prompt
 * go to the same side (singles and pairs without a prompt: with the same completion; pairs of a set: with it), chosen
 * by hash, so that the choice depends on neither the order nor the number of the others. */
enum soothe_status soothe__corpus_split(struct soothe__corpus *out, struct soothe__corpus *from, double fraction,
                                        uint64_t seed, struct soothe_error *err);

/* Removes from c the pairs and singles that have a text or a non-empty prompt in common with other. */
enum soothe_status soothe__corpus_remove_shared(struct soothe__corpus *c, const struct soothe__corpus *other,
                                                size_t *n_removed, struct soothe_error *err);

/* Tokens of all texts that a pair or a single uses. Too long ones keep the first tokens of the completion
 * (three quarters of n_max at most, more where the prompt is shorter) and the last of the prompt, with BOS before
 * it where there was one. n_max >= 4.
 * Pairs and singles whose completion gives no token to predict are removed; *n_removed counts them. */
struct llama_vocab;
enum soothe_status soothe__corpus_tokenize(struct soothe__corpus *c, const struct llama_vocab *vocab, int32_t n_max,
                                           size_t *n_removed, struct soothe_error *err);

/* The i-th index of an endless series that runs through 0 … n-1 in a new order each round. */
struct soothe__series {
    uint64_t  seed, stream;
    uint32_t  n;
    uint64_t  round;
    uint32_t *order;
};
enum soothe_status soothe__series_init(struct soothe__series *s, size_t n, uint64_t seed, uint64_t stream,
                                       struct soothe_error *err);
void               soothe__series_free(struct soothe__series *s);
uint32_t           soothe__series_at(struct soothe__series *s, uint64_t i);

/* ---- JSON lines: json_lines.c -------------------------------------------------------------------- */

/* Lines of a plain or compressed file, one at a time. */
struct soothe__lines;
enum soothe_status soothe__lines_open(struct soothe__lines **lines, const char *path, struct soothe_error *err);
/* The next line, zero-terminated, without its end, valid until the next call; *line is NULL at the end. A line
 * over the limit is cut there and *too_long set. */
enum soothe_status soothe__lines_next(struct soothe__lines *lines, char **line, size_t *size, bool *too_long,
                                      struct soothe_error *err);
/* Closes (NULL is fine); hex may be NULL, else the hash of all bytes read so far, unpacked. */
void soothe__lines_close(struct soothe__lines *lines, char hex[65]);

#endif /* SOOTHE_CORPUS_H */
