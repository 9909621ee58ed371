/* SPDX-License-Identifier: Apache-2.0
 * Target states kept from run to run: one file per target, texts found by their tokens. Append only; a record cut
 * short by a crash is dropped at the next opening. One process at a time. Host byte order: a cache, not a format. */
#ifndef SOOTHE_STATE_FILE_H
#define SOOTHE_STATE_FILE_H

#include "corpus/corpus.h"

struct soothe__state_file;

/* model_sha256  of the target's file: states of another one are refused
 * errors        SOOTHE_E_MISMATCH another target's, SOOTHE_E_FORMAT no such file, SOOTHE_E_IO */
enum soothe_status soothe__state_file_open(struct soothe__state_file **f, const char *path, const char *model_sha256,
                                           int32_t d, struct soothe_error *err);
void               soothe__state_file_close(struct soothe__state_file *f); /* NULL is fine */

/* Where the rows of a text are, or -1. */
int64_t soothe__state_file_find(const struct soothe__state_file *f, const struct soothe__text *text);
/* rows (n_tokens - first, d) bf16; *offset where they are now. */
enum soothe_status soothe__state_file_add(struct soothe__state_file *f, const struct soothe__text *text,
                                          const uint16_t *rows, int64_t *offset, struct soothe_error *err);
/* n values from offset on. */
enum soothe_status soothe__state_file_read(struct soothe__state_file *f, int64_t offset, size_t n, uint16_t *out,
                                           struct soothe_error *err);

#endif /* SOOTHE_STATE_FILE_H */
