/* SPDX-License-Identifier: Apache-2.0
 * Edits in a file of their own: which rows of which tensors of one model change, and how. Laid over the model, a diff
 * gives exactly the tensors of the edited file. Two forms:
 *
 *   add    row += factor * vector, one vector for each tensor: small, and good for every quantised file of the model
 *   rows   the changed rows themselves, in the tensor's data type: of whatever edit, for one file of the model
 *
 * Either may hold the rows as they were too, so that an edit can be taken back without the base. docs/edit.md,
 * docs/format.md. */
#ifndef SOOTHE_DIFF_H
#define SOOTHE_DIFF_H

#include "edit/edit.h"

enum soothe__diff_form { SOOTHE__DIFF_ADD, SOOTHE__DIFF_ROWS };

struct soothe__diff_tensor {
    char          *name;
    int64_t        ne0;
    enum ggml_type type; /* of the rows' bytes; in the form add of those kept, else of no meaning */
    int32_t       *rows; /* (n_rows), ascending */
    size_t         n_rows;
    float         *vector; /* add: (ne0), values that F16 can hold */
    float          factor;
    int64_t        i_new, i_old; /* the bytes' tensors in the diff's own file; -1: none */
};

struct soothe__diff {
    enum soothe__diff_form      form;
    char                       *kind; /* of the edit: "surgery" … */
    struct soothe__fact        *facts;
    size_t                      n_facts;
    char                       *base_name;
    char                        base_fingerprint[65]; /* soothe__model_fingerprint */
    char                        base_tensors[65];     /* soothe__tensors_hash of the file that it was made from */
    char                        old_rows[65];         /* hash of the rows as they were in that file */
    char                        id[65];               /* hash of what it does */
    struct soothe__diff_tensor *tensors;
    size_t                      n_tensors;
    struct soothe__gguf         file; /* zeroed of a diff that is not yet one */
};

void soothe__diff_free(struct soothe__diff *diff); /* NULL is fine */

/* ---- making: diff_make.c -------------------------------------------------------------------------------------------
 */

/* An empty diff for a base, whose names and hashes are taken.  facts  copied */
enum soothe_status soothe__diff_new(struct soothe__diff **diff, enum soothe__diff_form form, const char *kind,
                                    const struct soothe__fact *facts, size_t n_facts, const char *base_path,
                                    struct soothe_error *err);
/* Adds row += factor * vector for a tensor. Its values are rounded to F16, so that the file holds what is laid over. */
enum soothe_status soothe__diff_add(struct soothe__diff *diff, const char *tensor, const int32_t *rows, size_t n_rows,
                                    const float *vector, int64_t ne0, float factor, struct soothe_error *err);
/* Hashes what was added: the diff can be applied and written. */
enum soothe_status soothe__diff_finish(struct soothe__diff *diff, const char *base_path, struct soothe_error *err);
/* What makes edited out of base, in the form rows.
 * errors  SOOTHE_E_MISMATCH their tensors have other names, types or shapes; SOOTHE_E_ARGUMENT nothing differs */
enum soothe_status soothe__diff_between(struct soothe__diff **diff, const char *base_path, const char *edited_path,
                                        struct soothe_error *err);

/* ---- files: diff_file.c ---------------------------------------------------------------------------------------------
 */

/* edited_path  of the form rows: where the new rows are
 * keep_old     with the rows as they are in base_path */
enum soothe_status soothe__diff_write(const struct soothe__diff *diff, const char *path, const char *base_path,
                                      const char *edited_path, bool keep_old, struct soothe_error *err);
/* errors  SOOTHE_E_FORMAT no diff, or a damaged one (what it holds has another hash than it says) */
enum soothe_status soothe__diff_open(struct soothe__diff **diff, const char *path, struct soothe_error *err);

/* ---- laying over and taking back: diff.c ----------------------------------------------------------------------------
 */

/* Writes in_path with the diff laid over it as out_path, and its record.
 * errors  SOOTHE_E_MISMATCH made for another model, or (rows) another file of it; SOOTHE_E_ARGUMENT it lies there
 *         already; those of soothe__edit_gguf */
enum soothe_status soothe__diff_apply(struct soothe__diff *diff, const char *in_path, const char *out_path,
                                      struct soothe_error *err);
/* Writes edited in_path as it was before its last edit, by the rows that the diff keeps of the base.
 * errors  SOOTHE_E_ARGUMENT none are kept, or no edit is recorded; SOOTHE_E_MISMATCH the result would not be, byte by
 *         byte, the tensors that the edit began with */
enum soothe_status soothe__diff_take_back(struct soothe__diff *diff, const char *in_path, const char *out_path,
                                          struct soothe_error *err);

/* ---- at load time: diff_lay.c
 * ----------------------------------------------------------------------------------------- */

/* A model with a diff laid over it in a file without a name, which is gone with the last who has it open.
 * *path   fresh; opens like any file within this process, until soothe__diff_let_go or the process's end
 * folder  of the temporary file; NULL: $TMPDIR, or /tmp */
enum soothe_status soothe__diff_lay_one(char **path, struct soothe__diff *diff, const char *model_path,
                                        const char *folder, struct soothe_error *err);
void               soothe__diff_let_go(char *path); /* frees it too; NULL is fine */
/* The same for n diffs' files, each laid over what those before it gave; of none *path is a copy of model_path. */
enum soothe_status soothe__diff_lay(char **path, const char *model_path, const char *const *diff_paths, size_t n_diffs,
                                    const char *folder, struct soothe_error *err);

#endif /* SOOTHE_DIFF_H */
