/* SPDX-License-Identifier: Apache-2.0
 * Changing a model's tensors row by row, each in its own data type: GGUF in, GGUF out.
 *
 * An edit says what to add to which rows of which tensor; this file's functions do the rest: they stream (a
 * row or a piece of a tensor is in memory, never the model), keep the bytes of every row that was not changed,
 * quantise changed rows in the tensor's own type, write what was done into the metadata, and write beside and
 * rename. A *diff* holds the same edits in a file of its own (diff.h), which is laid over the model at load time. */
#ifndef SOOTHE_EDIT_H
#define SOOTHE_EDIT_H

#include "engine/engine.h"

/* What happens to one tensor. A tensor (ne0, ne1, ne2) is seen as ne1 ne2 rows of ne0 numbers; one of one dimension
 * is one row. A tensor may have several edits: the second finds what the first has written. */
struct soothe__tensor_edit {
    const char *name;
    /* values NULL: sets changed (n_rows, all false) for the rows that may change; the others are never dequantised.
     * values (n_rows, ne0): rows first_row …, dequantised, all of them rows that were wanted. The edit changes them in
     * place and sets changed (all false again) for those that count. A row that is not changed, or whose numbers come
     * back as they were, keeps its bytes.
     * Pieces come in ascending order; each is asked for and then changed, in one or more parts. */
    enum soothe_status (*apply)(void *user, int64_t first_row, int64_t n_rows, int64_t ne0, float *values,
                                bool *changed, struct soothe_error *err);
    void *user;
};

/* What is recorded of an edit: keys "soothe.edit.N.KEY", N counting from 0 the edits that the file has seen, and
 * "soothe.edit.count". The file's other keys stay. Always written: kind, tool (its version), tensors (names),
 * base_sha256 (of the file read), base_tensors_sha256 and tensors_sha256 (soothe__tensors_hash of what was read and
 * written). */
struct soothe__edit_record {
    const char                *kind;  /* "surgery", "dinm", "lora" … */
    const struct soothe__fact *facts; /* .key is KEY alone */
    size_t                     n_facts;
};
#define SOOTHE__EDIT_COUNT "soothe.edit.count"
#define SOOTHE__EDIT_KEY "soothe.edit.%u.%.100s" /* printf with N and KEY */

/* Writes in_path with the edits as out_path, beside it and renamed. Neither a row that no edit changed nor any other
 * tensor changes a byte; with no changed row at all every tensor is byte-identical.
 * errors  SOOTHE_E_FORMAT a tensor is missing; SOOTHE_E_UNSUPPORTED a data type that cannot be written;
 *         SOOTHE_E_NUMERIC an edit gives what is not finite; SOOTHE_E_ARGUMENT out_path is in_path; SOOTHE_E_IO
 *         After an error there is no out_path, or the one that was there before.
 * memory  some MiB and the file's metadata, beyond what the edits hold */
enum soothe_status soothe__edit_gguf(const char *in_path, const char *out_path, const struct soothe__tensor_edit *edits,
                                     size_t n_edits, const struct soothe__edit_record *record,
                                     struct soothe_error *err);

/* One matrix in a type of its own, made of one of the file's: for changes finer than the old type can hold, or beside
 * it. */
struct soothe__new_tensor {
    const char                *name; /* takes the place of one of that name, else comes behind all others */
    struct soothe__tensor_edit edit; /* .name: whose rows it is made of; apply gets all of them, unasked */
    enum ggml_type             type;
};
/* Writes in_path with it as out_path; everything else, errors included, is as with soothe__edit_gguf. A tensor that
 * comes behind the others is recorded as "added", so that soothe__edit_drop_added can take it back.
 * errors  also SOOTHE_E_UNSUPPORTED the engine has no place for such a tensor in a model of this architecture */
enum soothe_status soothe__edit_anew(const char *in_path, const char *out_path, const struct soothe__new_tensor *tensor,
                                     const struct soothe__edit_record *record, struct soothe_error *err);

/* How many edits the file says to have seen. */
uint32_t soothe__edit_count(const struct soothe__gguf *g);

#endif /* SOOTHE_EDIT_H */
