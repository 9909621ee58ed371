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

/* What happens to one tensor. A tensor (ne0, ne1, ne2) is seen as ne1 ne2 rows of ne0 numbers. */
struct soothe__tensor_edit {
    const char *name;
    /* values (n_rows, ne0) F32 hold rows first_row …, dequantised; changed (n_rows) is all false. The edit changes
     * values in place and says of which rows; the others keep their bytes. Pieces come in ascending order.
     * NULL values: only `changed` is asked for, so that rows that stay are never dequantised. */
    enum soothe_status (*apply)(void *user, int64_t first_row, int64_t n_rows, int64_t ne0, float *values,
                                bool *changed, struct soothe_error *err);
    void *user;
};

/* What is recorded of an edit: keys "soothe.edit.N.KEY", N counting the edits that the file has seen. */
struct soothe__edit_record {
    const char                *kind; /* "surgery", "dinm", "lora" … */
    const struct soothe__fact *facts;
    size_t                     n_facts;
};

/* Writes in_path with the edits as out_path. Neither a row that no edit changed nor any other tensor changes a byte;
 * with no changed row at all every tensor is byte-identical.
 * errors  SOOTHE_E_FORMAT a tensor is missing; SOOTHE_E_UNSUPPORTED a data type that cannot be written;
 *         SOOTHE_E_NUMERIC an edit gives what is not finite; SOOTHE_E_ARGUMENT out_path is in_path; SOOTHE_E_IO
 * memory  at most some MiB beyond what the edits hold */
enum soothe_status soothe__edit_gguf(const char *in_path, const char *out_path, const struct soothe__tensor_edit *edits,
                                     size_t n_edits, const struct soothe__edit_record *record,
                                     struct soothe_error *err);

#endif /* SOOTHE_EDIT_H */
