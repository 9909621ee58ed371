/* SPDX-License-Identifier: Apache-2.0
 * A GGUF file with some tensors' bytes changed, and the record of it: what all edits are written by. */
#ifndef SOOTHE_EDIT_FILE_H
#define SOOTHE_EDIT_FILE_H

#include "edit/edit.h"

struct soothe__edited_tensor {
    const char    *name, *path; /* path: of the file that is read */
    enum ggml_type type;
    int64_t        ne0, n_rows;
    size_t         row_size;
};

/* What happens to one tensor's bytes. */
struct soothe__byte_edit {
    const char *name;
    /* Before anything is written; NULL: nothing to check. */
    enum soothe_status (*check)(void *user, const struct soothe__edited_tensor *t, struct soothe_error *err);
    /* Changes rows first_row … in place; pieces come in ascending order. */
    enum soothe_status (*change)(void *user, const struct soothe__edited_tensor *t, int64_t first_row, int64_t n_rows,
                                 char *rows, struct soothe_error *err);
    void *user;
};

/* A matrix made of the rows of one of the file: in the place of one of its own name, else behind all others. */
struct soothe__made_tensor {
    const char    *name, *from;
    enum ggml_type type;
    enum soothe_status (*check)(void *user, const struct soothe__edited_tensor *from, struct soothe_error *err);
    /* Fills rows first_row … of the new tensor; old: the same rows of from. In ascending order. */
    enum soothe_status (*make)(void *user, const struct soothe__edited_tensor *from, int64_t first_row, int64_t n_rows,
                               const char *old, char *rows, struct soothe_error *err);
    void *user;
};
/* As soothe__edit_anew, on bytes. */
enum soothe_status soothe__edit_make(const char *in_path, const char *out_path, const struct soothe__made_tensor *made,
                                     const struct soothe__edit_record *record, struct soothe_error *err);

/* As soothe__edit_gguf, on bytes. */
enum soothe_status soothe__edit_bytes(const char *in_path, const char *out_path, const struct soothe__byte_edit *edits,
                                      size_t n_edits, const struct soothe__edit_record *record,
                                      struct soothe_error *err);

/* Takes the last edit back: the edits given restore its rows, and its record goes.
 * errors  SOOTHE_E_ARGUMENT no edit is recorded; SOOTHE_E_MISMATCH the result's tensors are not those that the record
 *         says the edit began with; no file is written then */
enum soothe_status soothe__edit_take_back(const char *in_path, const char *out_path,
                                          const struct soothe__byte_edit *edits, size_t n_edits,
                                          struct soothe_error *err);

/* The same for a last edit that did nothing but add a tensor: it is left out.
 * errors  SOOTHE_E_ARGUMENT it added none */
enum soothe_status soothe__edit_drop_added(const char *in_path, const char *out_path, struct soothe_error *err);

/* SOOTHE_E_ARGUMENT where both are one file. */
enum soothe_status soothe__edit_check_paths(const char *in_path, const char *out_path, struct soothe_error *err);

/* The text under KEY of the file's edit number i; NULL without. */
const char *soothe__edit_text(const struct soothe__gguf *g, uint32_t i, const char *key);

#endif /* SOOTHE_EDIT_FILE_H */
