/* SPDX-License-Identifier: Apache-2.0
 * Edits of numbers: rows out of their bytes, the edit, and back in the tensor's own data type. */
#include <stdlib.h>

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

/* Rows that the edit wants, which follow each other. Only those whose numbers changed are written: quantising a row
 * again need not give the same bytes. */
static enum soothe_status change_run(const struct numbers *n, const struct soothe__edited_tensor *t, int64_t first,
                                     int64_t n_rows, char *bytes, struct soothe_error *err) {
    struct scratch    *s      = n->scratch;
    enum soothe_status status = SOOTHE_OK;
    char               where[512];
    for (int64_t r = 0; r < n_rows && !status; r++)
        status = soothe__row_decode(s->values + r * t->ne0, bytes + (size_t)r * t->row_size, t->type, t->ne0,
                                    row_name(where, sizeof where, t, first + r), err);
    if (status)
        return status;
    for (int64_t i = 0; i < n_rows * t->ne0; i++)
        s->before[i] = s->values[i];
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

static enum soothe_status change(void *user, const struct soothe__edited_tensor *t, int64_t first, int64_t n_rows,
                                 char *rows, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    int64_t            most   = PIECE_VALUES / t->ne0 < 1 ? 1 : PIECE_VALUES / t->ne0;
    most                      = most > PIECE_ROWS ? PIECE_ROWS : most;
    for (int64_t r = 0; r < n_rows && !status; r += most)
        status = change_piece(user, t, first + r, n_rows - r < most ? n_rows - r : most, rows + (size_t)r * t->row_size,
                              err);
    return status;
}

static enum soothe_status check(void *user, const struct soothe__edited_tensor *t, struct soothe_error *err) {
    struct scratch *s = ((const struct numbers *)user)->scratch;
    const size_t    n = t->ne0 > PIECE_VALUES ? (size_t)t->ne0 : PIECE_VALUES;
    if (!soothe__type_writable(t->type))
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "tensor %s of %s has type %s, whose rows cannot be written",
                            t->name, t->path, ggml_type_name(t->type));
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
    if (s) {
        free(s->values);
        free(s->before);
        free(s->again);
    }
    free(s);
    free(numbers);
    free(bytes);
    return status;
}
