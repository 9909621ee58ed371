/* SPDX-License-Identifier: Apache-2.0
 * Laying a diff over a model, and taking it back. */
#include <stdlib.h>
#include <string.h>

#include "edit/diff_rows.h"
#include "edit/edit_file.h"

/* ---- does it belong to the model? ---------------------------------------------------------------------------------
 */

static enum soothe_status check_model(const struct soothe__diff *d, const struct soothe__gguf *in,
                                      struct soothe_error *err) {
    char                       fingerprint[65];
    struct soothe__model_facts facts;
    enum soothe_status         status = soothe__model_facts(&facts, in, err);
    if (!status)
        status = soothe__model_fingerprint(fingerprint, in, err);
    if (!status && strcmp(fingerprint, d->base_fingerprint))
        status = soothe__fail(err, SOOTHE_E_MISMATCH, "the diff was made for the model \"%s\", not for \"%s\" (%s)",
                              d->base_name, facts.name, in->path);
    return status;
}

static enum soothe_status check_records(const struct soothe__diff *d, const struct soothe__gguf *in,
                                        struct soothe_error *err) {
    const uint32_t n = soothe__edit_count(in);
    for (uint32_t i = 0; i < n; i++) {
        const char *id = soothe__edit_text(in, i, "diff");
        if (id && !strcmp(id, d->id))
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "this diff (%s) lies over %s already", d->kind, in->path);
        if (!id && !soothe__edit_text(in, i, "kind")) /* a count that is not true */
            break;
    }
    return SOOTHE_OK;
}

/* Rows in the form rows replace those of one file of the model. */
static enum soothe_status check_rows(const struct soothe__diff *d, const struct soothe__gguf *in,
                                     struct soothe_error *err) {
    char               hex[65];
    enum soothe_status status = soothe__diff_hash_old(hex, d, in, err);
    if (status || d->form != SOOTHE__DIFF_ROWS || !strcmp(hex, d->old_rows))
        return status;
    for (size_t i = 0; i < d->n_tensors; i++) {
        const char          *name = d->tensors[i].name;
        const enum ggml_type type = gguf_get_tensor_type(in->meta, gguf_find_tensor(in->meta, name));
        if (type != d->tensors[i].type)
            return soothe__fail(err, SOOTHE_E_MISMATCH,
                                "tensor %s is %s in %s and %s in the diff: it was made for another file of the model",
                                name, ggml_type_name(type), in->path, ggml_type_name(d->tensors[i].type));
    }
    status = soothe__diff_hash_new(hex, d, in, err);
    if (status)
        return status;
    return !strcmp(hex, d->id)
               ? soothe__fail(err, SOOTHE_E_ARGUMENT, "this diff (%s) lies over %s already", d->kind, in->path)
               : soothe__fail(err, SOOTHE_E_MISMATCH,
                              "the diff replaces rows of another file of \"%s\": %s holds other numbers there",
                              d->base_name, in->path);
}

static enum soothe_status check_base(const struct soothe__diff *d, const char *in_path, struct soothe_error *err) {
    struct soothe__gguf in;
    enum soothe_status  status = soothe__gguf_open(&in, in_path, err);
    if (status)
        return status;
    status = check_model(d, &in, err);
    if (!status)
        status = check_records(d, &in, err);
    if (!status)
        status = check_rows(d, &in, err);
    soothe__gguf_close(&in);
    return status;
}

/* ---- the form add ------------------------------------------------------------------------------------------------ */

/* The first of the tensor's rows that is not below row. */
static size_t lower_bound(const struct soothe__diff_tensor *t, int64_t row) {
    size_t lo = 0, hi = t->n_rows;
    while (lo < hi) {
        const size_t middle = lo + (hi - lo) / 2;
        if (t->rows[middle] < row)
            lo = middle + 1;
        else
            hi = middle;
    }
    return lo;
}

static enum soothe_status add_vector(void *user, int64_t first, int64_t n_rows, int64_t ne0, float *values,
                                     bool *changed, struct soothe_error *err) {
    const struct soothe__diff_tensor *t = user;
    (void)err;
    for (size_t k = lower_bound(t, first); k < t->n_rows && t->rows[k] < first + n_rows; k++) {
        const int64_t r = t->rows[k] - first;
        changed[r]      = true;
        for (int64_t i = 0; values && i < ne0; i++)
            values[r * ne0 + i] += t->factor * t->vector[i];
    }
    return SOOTHE_OK;
}

static enum soothe_status apply_add(struct soothe__diff *d, const char *in_path, const char *out_path,
                                    const struct soothe__edit_record *record, struct soothe_error *err) {
    struct soothe__tensor_edit *edits = soothe__calloc(d->n_tensors + 1, sizeof *edits);
    if (!edits)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    for (size_t i = 0; i < d->n_tensors; i++)
        edits[i] = (struct soothe__tensor_edit){d->tensors[i].name, add_vector, &d->tensors[i]};
    const enum soothe_status status = soothe__edit_gguf(in_path, out_path, edits, d->n_tensors, record, err);
    free(edits);
    return status;
}

/* ---- rows as bytes ------------------------------------------------------------------------------------------------
 */

struct replacement {
    const struct soothe__diff        *diff;
    const struct soothe__diff_tensor *tensor;
    int64_t                           i_from; /* the bytes' tensor in the diff's file */
};

static enum soothe_status check_type(void *user, const struct soothe__edited_tensor *t, struct soothe_error *err) {
    const struct replacement *x = user;
    return t->type == x->tensor->type && t->ne0 == x->tensor->ne0
               ? SOOTHE_OK
               : soothe__fail(err, SOOTHE_E_MISMATCH, "tensor %s of %s is %s, the diff's rows are %s", t->name, t->path,
                              ggml_type_name(t->type), ggml_type_name(x->tensor->type));
}

static enum soothe_status replace(void *user, const struct soothe__edited_tensor *e, int64_t first, int64_t n_rows,
                                  char *rows, struct soothe_error *err) {
    const struct replacement         *x      = user;
    const struct soothe__diff_tensor *t      = x->tensor;
    const struct soothe__row_source   source = {&x->diff->file, x->i_from, NULL, e->row_size};
    enum soothe_status                status = SOOTHE_OK;
    for (size_t k = lower_bound(t, first); k < t->n_rows && t->rows[k] < first + n_rows && !status; k++)
        status = soothe__diff_read_row(&source, k, rows + (size_t)(t->rows[k] - first) * e->row_size, err);
    return status;
}

/* record NULL: the rows as they were are laid back. */
static enum soothe_status replace_rows(const struct soothe__diff *d, const char *in_path, const char *out_path,
                                       const struct soothe__edit_record *record, struct soothe_error *err) {
    struct replacement       *x      = soothe__calloc(d->n_tensors + 1, sizeof *x);
    struct soothe__byte_edit *edits  = soothe__calloc(d->n_tensors + 1, sizeof *edits);
    enum soothe_status        status = SOOTHE_OK;
    if (!x || !edits)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    for (size_t i = 0; i < d->n_tensors && !status; i++) {
        const struct soothe__diff_tensor *t = &d->tensors[i];
        x[i]                                = (struct replacement){d, t, record ? t->i_new : t->i_old};
        edits[i]                            = (struct soothe__byte_edit){t->name, check_type, replace, &x[i]};
        if (x[i].i_from < 0)
            status = soothe__fail(err, SOOTHE_E_ARGUMENT,
                                  "the diff does not keep the rows as they were (make it with --keep-rows, or undo by "
                                  "--base)");
    }
    if (!status)
        status = record ? soothe__edit_bytes(in_path, out_path, edits, d->n_tensors, record, err)
                        : soothe__edit_take_back(in_path, out_path, edits, d->n_tensors, err);
    free(x);
    free(edits);
    return status;
}

/* ---- the two
 * --------------------------------------------------------------------------------------------------------- */

enum soothe_status soothe__diff_apply(struct soothe__diff *diff, const char *in_path, const char *out_path,
                                      struct soothe_error *err) {
    enum soothe_status   status = check_base(diff, in_path, err);
    struct soothe__fact *facts  = soothe__calloc(diff->n_facts + 1, sizeof *facts);
    if (!status && !facts)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    if (!status) {
        memcpy(facts, diff->facts, diff->n_facts * sizeof *facts);
        facts[diff->n_facts]                    = (struct soothe__fact){"diff", diff->id, 0};
        const struct soothe__edit_record record = {diff->kind, facts, diff->n_facts + 1};
        status = diff->form == SOOTHE__DIFF_ADD ? apply_add(diff, in_path, out_path, &record, err)
                                                : replace_rows(diff, in_path, out_path, &record, err);
    }
    free(facts);
    return status;
}

enum soothe_status soothe__diff_take_back(struct soothe__diff *diff, const char *in_path, const char *out_path,
                                          struct soothe_error *err) {
    struct soothe__gguf in;
    enum soothe_status  status = soothe__gguf_open(&in, in_path, err);
    if (status)
        return status;
    status = check_model(diff, &in, err);
    soothe__gguf_close(&in);
    return status ? status : replace_rows(diff, in_path, out_path, NULL, err);
}
