/* SPDX-License-Identifier: Apache-2.0
 * Edits of numbers: rows out of their bytes, the edit, and back in the tensor's own data type. */
#include <stdlib.h>
#include <string.h>

#include "edit/edit_file.h"
#include "engine/tensor_rows.h"

enum { PIECE_ROWS = 1024, PIECE_VALUES = 1 << 18 };

struct numbers {
    const struct soothe__tensor_edit *edit;
    struct scratch                   *scratch;
};
struct scratch {                    /* of all edits of a file */
    float *values, *before, *again; /* a piece, a piece, a row */
    size_t n_values;
    bool   wanted[PIECE_ROWS], changed[PIECE_ROWS];
};

static void clear(bool *flags, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        flags[i] = false;
}

/* 0 and -0 are the same. */
static bool same_numbers(const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!(a[i] == b[i]))
            return false;
    return true;
}

static const char *row_name(char *text, size_t size, const struct soothe__edited_tensor *t, int64_t row) {
    snprintf(text, size, "row %lld of tensor %.64s of %s", (long long)row, t->name, t->path);
    return text;
}

/* Into values, and before. */
static enum soothe_status decode_rows(struct scratch *s, const struct soothe__edited_tensor *t, int64_t first,
                                      int64_t n_rows, const char *bytes, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    char               where[512];
    for (int64_t r = 0; r < n_rows && !status; r++)
        status = soothe__row_decode(s->values + r * t->ne0, bytes + (size_t)r * t->row_size, t->type, t->ne0,
                                    row_name(where, sizeof where, t, first + r), err);
    for (int64_t i = 0; i < n_rows * t->ne0 && !status; i++)
        s->before[i] = s->values[i];
    return status;
}

/* Rows that the edit wants, which follow each other. Only those whose numbers changed are written: quantising a row
 * again need not give the same bytes. */
static enum soothe_status change_run(const struct numbers *n, const struct soothe__edited_tensor *t, int64_t first,
                                     int64_t n_rows, char *bytes, struct soothe_error *err) {
    struct scratch    *s      = n->scratch;
    enum soothe_status status = decode_rows(s, t, first, n_rows, bytes, err);
    char               where[512];
    if (status)
        return status;
    clear(s->changed, n_rows);
    status = n->edit->apply(n->edit->user, first, n_rows, t->ne0, s->values, s->changed, err);
    for (int64_t r = 0; r < n_rows && !status; r++) {
        const float *row = s->values + r * t->ne0;
        if (s->changed[r] && !same_numbers(row, s->before + r * t->ne0, t->ne0))
            status = soothe__row_encode(bytes + (size_t)r * t->row_size, row, t->type, t->ne0, s->again,
                                        row_name(where, sizeof where, t, first + r), err);
    }
    return status;
}

static enum soothe_status change_piece(const struct numbers *n, const struct soothe__edited_tensor *t, int64_t first,
                                       int64_t n_rows, char *bytes, struct soothe_error *err) {
    bool *wanted = n->scratch->wanted;
    clear(wanted, n_rows);
    enum soothe_status status = n->edit->apply(n->edit->user, first, n_rows, t->ne0, NULL, wanted, err);
    for (int64_t r = 0; r < n_rows && !status;) {
        int64_t end = r;
        while (end < n_rows && wanted[end] == wanted[r])
            end++;
        if (wanted[r])
            status = change_run(n, t, first + r, end - r, bytes + (size_t)r * t->row_size, err);
        r = end;
    }
    return status;
}

static int64_t rows_at_once(int64_t ne0) {
    const int64_t n = PIECE_VALUES / ne0;
    return n < 1 ? 1 : n > PIECE_ROWS ? PIECE_ROWS : n;
}

static enum soothe_status change(void *user, const struct soothe__edited_tensor *t, int64_t first, int64_t n_rows,
                                 char *rows, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    const int64_t      most   = rows_at_once(t->ne0);
    for (int64_t r = 0; r < n_rows && !status; r += most)
        status = change_piece(user, t, first + r, n_rows - r < most ? n_rows - r : most, rows + (size_t)r * t->row_size,
                              err);
    return status;
}

static enum soothe_status grow(struct scratch *s, const struct soothe__edited_tensor *t, struct soothe_error *err) {
    const size_t n = t->ne0 > PIECE_VALUES ? (size_t)t->ne0 : PIECE_VALUES;
    if (n <= s->n_values)
        return SOOTHE_OK;
    float *values = soothe__realloc(s->values, n, sizeof *values);
    s->values     = values ? values : s->values;
    float *before = soothe__realloc(s->before, n, sizeof *before);
    s->before     = before ? before : s->before;
    float *again  = soothe__realloc(s->again, n, sizeof *again);
    s->again      = again ? again : s->again;
    if (!values || !before || !again)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory editing %s", t->path);
    s->n_values = n;
    return SOOTHE_OK;
}

static enum soothe_status check(void *user, const struct soothe__edited_tensor *t, struct soothe_error *err) {
    if (!soothe__type_writable(t->type))
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "tensor %s of %s has type %s, whose rows cannot be written",
                            t->name, t->path, ggml_type_name(t->type));
    return grow(((const struct numbers *)user)->scratch, t, err);
}

/* ---- a tensor anew ------------------------------------------------------------------------------------------------
 */

struct anew {
    struct numbers                   numbers;
    const struct soothe__new_tensor *tensor;
};

/* Rows in the old type whose numbers stay keep their bytes here, too. */
static enum soothe_status make_piece(const struct anew *a, const struct soothe__edited_tensor *from, int64_t first,
                                     int64_t n_rows, const char *old, char *rows, struct soothe_error *err) {
    const enum ggml_type               type   = a->tensor->type;
    const struct soothe__edited_tensor made   = {.name = a->tensor->name, .path = from->path};
    struct scratch                    *s      = a->numbers.scratch;
    const size_t                       size   = ggml_row_size(type, from->ne0);
    enum soothe_status                 status = decode_rows(s, from, first, n_rows, old, err);
    char                               where[512];
    clear(s->changed, n_rows);
    if (!status)
        status = a->tensor->edit.apply(a->tensor->edit.user, first, n_rows, from->ne0, s->values, s->changed, err);
    for (int64_t r = 0; r < n_rows && !status; r++) {
        const float *row  = s->values + r * from->ne0;
        const bool   same = !s->changed[r] || same_numbers(row, s->before + r * from->ne0, from->ne0);
        if (same && type == from->type)
            memcpy(rows + (size_t)r * size, old + (size_t)r * size, size);
        else
            status = soothe__row_encode(rows + (size_t)r * size, row, type, from->ne0, s->again,
                                        row_name(where, sizeof where, &made, first + r), err);
    }
    return status;
}

static enum soothe_status make(void *user, const struct soothe__edited_tensor *from, int64_t first, int64_t n_rows,
                               const char *old, char *rows, struct soothe_error *err) {
    const struct anew *a      = user;
    enum soothe_status status = SOOTHE_OK;
    const int64_t      most   = rows_at_once(from->ne0);
    const size_t       size   = ggml_row_size(a->tensor->type, from->ne0);
    for (int64_t r = 0; r < n_rows && !status; r += most)
        status = make_piece(a, from, first + r, n_rows - r < most ? n_rows - r : most, old + (size_t)r * from->row_size,
                            rows + (size_t)r * size, err);
    return status;
}

static enum soothe_status check_source(void *user, const struct soothe__edited_tensor *from, struct soothe_error *err) {
    return grow(((const struct anew *)user)->numbers.scratch, from, err);
}

/* ---- files ----------------------------------------------------------------------------------------------------------
 */

static void scratch_free(struct scratch *s) {
    if (!s)
        return;
    free(s->values);
    free(s->before);
    free(s->again);
    free(s);
}

enum soothe_status soothe__edit_anew(const char *in_path, const char *out_path, const struct soothe__new_tensor *tensor,
                                     const struct soothe__edit_record *record, struct soothe_error *err) {
    struct scratch *s = soothe__calloc(1, sizeof *s);
    if (!s)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for an edit");
    struct anew                      a      = {{&tensor->edit, s}, tensor};
    const struct soothe__made_tensor made   = {tensor->name, tensor->edit.name, tensor->type, check_source, make, &a};
    const enum soothe_status         status = soothe__edit_make(in_path, out_path, &made, record, err);
    scratch_free(s);
    return status;
}

enum soothe_status soothe__edit_gguf(const char *in_path, const char *out_path, const struct soothe__tensor_edit *edits,
                                     size_t n_edits, const struct soothe__edit_record *record,
                                     struct soothe_error *err) {
    struct scratch           *s       = soothe__calloc(1, sizeof *s);
    struct numbers           *numbers = soothe__calloc(n_edits + 1, sizeof *numbers);
    struct soothe__byte_edit *bytes   = soothe__calloc(n_edits + 1, sizeof *bytes);
    enum soothe_status        status  = SOOTHE_OK;
    if (!s || !numbers || !bytes)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu edits", n_edits);
    for (size_t i = 0; i < n_edits && !status; i++) {
        numbers[i] = (struct numbers){&edits[i], s};
        bytes[i]   = (struct soothe__byte_edit){edits[i].name, check, change, &numbers[i]};
    }
    if (!status)
        status = soothe__edit_bytes(in_path, out_path, bytes, n_edits, record, err);
    scratch_free(s);
    free(numbers);
    free(bytes);
    return status;
}
