/* SPDX-License-Identifier: Apache-2.0
 * The folder of models: stamps beside verified files, and the lock of a model; for pull.c only. */
#ifndef SOOTHE_PULL_CACHE_H
#define SOOTHE_PULL_CACHE_H

#include "pull/steps.h"

/* Is there a whole file at path, of this hash (NULL: any)? By its stamp, or, without one that fits or with
 * verify, by hashing it. errors: only such as prevent an answer. */
enum soothe_status cache_has(bool *has, const char *path, const char *sha256, bool verify, struct soothe_error *err);

/* Notes that the file at path has this hash. A failure only costs hashing again, so none is reported. */
void cache_stamp(const char *path, const char *sha256);

/* Waits until no other process works on path. *lock >= 0 is released by cache_unlock; -1: the file
 * system knows no locks, and we go on without. */
enum soothe_status cache_lock(int *lock, const char *path, const struct task *task, struct soothe_error *err);
void               cache_unlock(int lock);

#endif /* SOOTHE_PULL_CACHE_H */
