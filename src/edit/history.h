/* SPDX-License-Identifier: Apache-2.0
 * What a file says of its edits: whether that is true, and back to the file before them. */
#ifndef SOOTHE_EDIT_HISTORY_H
#define SOOTHE_EDIT_HISTORY_H

#include "edit/diff.h"

/* Writes base_path's bytes as out_path, if in_path records that it was made from base's tensors.
 * *n_taken  how many edits lie between the two
 * errors    SOOTHE_E_ARGUMENT no edit is recorded, or out_path is one of the two; SOOTHE_E_MISMATCH base is none of the
 *           files that the edits began with */
enum soothe_status soothe__edit_undo(const char *in_path, const char *base_path, const char *out_path,
                                     uint32_t *n_taken, struct soothe_error *err);

enum soothe__verdict { SOOTHE__VERDICT_NO, SOOTHE__VERDICT_YES, SOOTHE__VERDICT_NOT_ASKED };

struct soothe__edit_verdict {
    uint32_t             n_edits;        /* recorded */
    enum soothe__verdict intact;         /* the tensors have the hash of the last record; not asked: there is none */
    enum soothe__verdict unbroken;       /* each edit began with what the one before it gave; as above */
    enum soothe__verdict from_base;      /* the first edit began with base's tensors; not asked: no base, no record */
    enum soothe__verdict base_and_diffs; /* base with the diffs laid over it has the same tensors */
    char                 tensors[65], base_tensors[65]; /* hashes; "" without base */
};

/* base_path  NULL: only what the file says itself
 * diffs      (n) laid over base, in this order */
enum soothe_status soothe__edit_verify(struct soothe__edit_verdict *verdict, const char *path, const char *base_path,
                                       const char *const *diffs, size_t n_diffs, struct soothe_error *err);
/* Whether nothing that was asked is answered by no, and anything at all by yes. */
bool soothe__edit_verified(const struct soothe__edit_verdict *verdict);

#endif /* SOOTHE_EDIT_HISTORY_H */
