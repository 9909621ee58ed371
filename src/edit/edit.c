/* SPDX-License-Identifier: Apache-2.0
 * Changing a model's tensors row by row on the way from one file to another. */
#include "edit/edit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/tensor_rows.h"

enum { PIECE_ROWS = 1024, PIECE_VALUES = 1 << 18, N_EDITS_MAX = 100000 };

/* One changed tensor. */
struct target {
    struct work *work;
    const char  *name;
    const char  *in_path;
    int64_t      ne0;
    int64_t      piece_rows; /* so many rows at once */
    size_t       row_size;

    enum ggml_type                     type;
    const struct soothe__tensor_edit **edits; /* in the order given */
    size_t                             n_edits;
};

struct work {
    struct soothe__gguf                in;
    struct soothe__gguf_plan           plan;
    struct target                     *targets;
    size_t                             n_targets;
    const struct soothe__tensor_edit **sorted; /* the targets' edits, one array */
    float                             *values, *before, *scratch;
    bool                              *changed;
};

static void release(struct work *w) {
    soothe__gguf_plan_free(&w->plan);
    soothe__gguf_close(&w->in);
    free(w->targets);
    free(w->sorted);
    free(w->values);
    free(w->before);
    free(w->scratch);
    free(w->changed);
}

/* ---- rows ---------------------------------------------------------------------------------------------------- */

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

/* Rows that an edit wants, which follow each other: numbers, the edit, and back, but only where numbers changed:
 * quantising a row again need not give the same bytes. */
static enum soothe_status change_run(const struct target *t, const struct soothe__tensor_edit *e, int64_t first,
                                     int64_t n, char *bytes, struct soothe_error *err) {
    struct work       *w      = t->work;
    enum soothe_status status = SOOTHE_OK;
    char               where[512];
    bool              *changed = w->changed + PIECE_ROWS;
    for (int64_t r = 0; r < n && !status; r++) {
        snprintf(where, sizeof where, "row %lld of tensor %.64s of %s", (long long)(first + r), t->name, t->in_path);
        status =
            soothe__row_decode(w->values + r * t->ne0, bytes + (size_t)r * t->row_size, t->type, t->ne0, where, err);
    }
    if (status)
        return status;
    memcpy(w->before, w->values, (size_t)(n * t->ne0) * sizeof *w->values);
    clear(changed, n);
    status = e->apply(e->user, first, n, t->ne0, w->values, changed, err);
    for (int64_t r = 0; r < n && !status; r++) {
        const float *row = w->values + r * t->ne0;
        if (!changed[r] || same_numbers(row, w->before + r * t->ne0, t->ne0))
            continue;
        snprintf(where, sizeof where, "row %lld of tensor %.64s of %s", (long long)(first + r), t->name, t->in_path);
        status = soothe__row_encode(bytes + (size_t)r * t->row_size, row, t->type, t->ne0, w->scratch, where, err);
    }
    return status;
}

static enum soothe_status change_piece(const struct target *t, const struct soothe__tensor_edit *e, int64_t first,
                                       int64_t n, char *bytes, struct soothe_error *err) {
    bool *wanted = t->work->changed;
    clear(wanted, n);
    enum soothe_status status = e->apply(e->user, first, n, t->ne0, NULL, wanted, err);
    for (int64_t r = 0; r < n && !status;) {
        int64_t end = r;
        while (end < n && wanted[end] == wanted[r])
            end++;
        if (wanted[r])
            status = change_run(t, e, first + r, end - r, bytes + (size_t)r * t->row_size, err);
        r = end;
    }
    return status;
}

/* Several edits of one tensor act as if each had made a file for the next. */
static enum soothe_status change_rows(void *user, int64_t first, int64_t n, void *rows, struct soothe_error *err) {
    const struct target *t      = user;
    enum soothe_status   status = SOOTHE_OK;
    for (int64_t r = 0; r < n && !status; r += t->piece_rows) {
        const int64_t k = n - r < t->piece_rows ? n - r : t->piece_rows;
        for (size_t i = 0; i < t->n_edits && !status; i++)
            status = change_piece(t, t->edits[i], first + r, k, (char *)rows + (size_t)r * t->row_size, err);
    }
    return status;
}

/* ---- the plan ------------------------------------------------------------------------------------------------- */

static enum soothe_status check_paths(const char *in_path, const char *out_path, struct soothe_error *err) {
    struct stat in, out;
    if (stat(in_path, &in) == 0 && stat(out_path, &out) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "%s is the model that is read: an edit leaves its original alone and needs another name",
                            out_path);
    return SOOTHE_OK;
}

/* The edit that writes the tensor anew, or NULL. */
static const struct soothe__tensor_edit *replacement(const char *name, const struct soothe__tensor_edit *edits,
                                                     size_t n_edits) {
    for (size_t i = 0; i < n_edits; i++)
        if (edits[i].values && !strcmp(edits[i].name, name))
            return &edits[i];
    return NULL;
}

static enum soothe_status replace_tensor(struct work *w, int64_t i_tensor, const struct soothe__tensor_edit *e,
                                         const struct soothe__tensor_edit *edits, size_t n_edits,
                                         struct soothe_error *err) {
    const int64_t *ne = gguf_get_tensor_ne(w->in.meta, i_tensor), flat[2] = {ne[0], ne[1]};
    size_t         n_same = 0;
    for (size_t i = 0; i < n_edits; i++)
        n_same += !strcmp(edits[i].name, e->name);
    if (n_same != 1 || ne[2] * ne[3] != 1 || !soothe__type_writable(e->type) || ne[0] % ggml_blck_size(e->type) != 0)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "tensor %s of %s, with rows of %lld numbers, cannot be written anew as %s", e->name,
                            w->in.path, (long long)ne[0], ggml_type_name(e->type));
    for (int64_t i = 0; i < ne[0] * ne[1]; i++)
        if (!isfinite(e->values[i]))
            return soothe__fail(err, SOOTHE_E_NUMERIC, "the edit of tensor %s of %s gives what is not finite", e->name,
                                w->in.path);
    struct target                     *t    = &w->targets[w->n_targets];
    const struct soothe__tensor_edit **next = w->n_targets ? t[-1].edits + t[-1].n_edits : w->sorted;
    *t = (struct target){.work = w, .name = e->name, .in_path = w->in.path, .ne0 = ne[0], .edits = next};
    w->n_targets++;
    return soothe__gguf_plan_add(&w->plan, e->name, e->values, 2, flat, e->type, err);
}

static enum soothe_status add_target(struct work *w, int64_t i_tensor, const struct soothe__tensor_edit *edits,
                                     size_t n_edits, struct soothe_error *err) {
    const char                        *name   = gguf_get_tensor_name(w->in.meta, i_tensor);
    struct target                     *t      = &w->targets[w->n_targets];
    const struct soothe__tensor_edit **sorted = w->n_targets ? t[-1].edits + t[-1].n_edits : w->sorted;
    *t                                        = (struct target){.work    = w,
                                                                .name    = name,
                                                                .in_path = w->in.path,
                                                                .ne0     = gguf_get_tensor_ne(w->in.meta, i_tensor)[0],
                                                                .type    = gguf_get_tensor_type(w->in.meta, i_tensor),
                                                                .edits   = sorted};
    for (size_t i = 0; i < n_edits; i++)
        if (!strcmp(edits[i].name, name))
            sorted[t->n_edits++] = &edits[i];
    if (t->n_edits == 0 || t->ne0 == 0)
        return SOOTHE_OK;
    if (!soothe__type_writable(t->type))
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "tensor %s of %s has type %s, whose rows cannot be written",
                            name, w->in.path, ggml_type_name(t->type));
    t->row_size   = ggml_row_size(t->type, t->ne0);
    t->piece_rows = PIECE_VALUES / t->ne0 < 1 ? 1 : PIECE_VALUES / t->ne0;
    t->piece_rows = t->piece_rows > PIECE_ROWS ? PIECE_ROWS : t->piece_rows;
    soothe__gguf_plan_change_rows(&w->plan, &(struct soothe__row_change){change_rows, t, t->row_size});
    w->n_targets++;
    return SOOTHE_OK;
}

static enum soothe_status check_names(const struct work *w, const struct soothe__tensor_edit *edits, size_t n_edits,
                                      struct soothe_error *err) {
    for (size_t i = 0; i < n_edits; i++)
        if (gguf_find_tensor(w->in.meta, edits[i].name) < 0)
            return soothe__fail(err, SOOTHE_E_FORMAT, "%s has no tensor %s", w->in.path, edits[i].name);
    return SOOTHE_OK;
}

static enum soothe_status plan_tensors(struct work *w, const struct soothe__tensor_edit *edits, size_t n_edits,
                                       struct soothe_error *err) {
    const int64_t      n      = gguf_get_n_tensors(w->in.meta);
    size_t             widest = PIECE_VALUES;
    enum soothe_status status = soothe__gguf_plan_new(&w->plan, (size_t)n, err);
    w->targets                = soothe__calloc(n_edits + 1, sizeof *w->targets);
    w->sorted                 = soothe__calloc(n_edits + 1, sizeof(void *));
    if (!status && (!w->targets || !w->sorted))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory planning %zu edits", n_edits);
    for (int64_t i = 0; i < n && !status; i++) {
        const size_t                      ne0  = (size_t)gguf_get_tensor_ne(w->in.meta, i)[0];
        const struct soothe__tensor_edit *anew = replacement(gguf_get_tensor_name(w->in.meta, i), edits, n_edits);
        status =
            anew ? replace_tensor(w, i, anew, edits, n_edits, err) : soothe__gguf_plan_copy(&w->plan, &w->in, i, err);
        if (!status && !anew)
            status = add_target(w, i, edits, n_edits, err);
        widest = ne0 > widest ? ne0 : widest;
    }
    if (status)
        return status;
    w->values  = soothe__calloc(widest, sizeof *w->values);
    w->before  = soothe__calloc(widest, sizeof *w->before);
    w->scratch = soothe__calloc(widest, sizeof *w->scratch);
    w->changed = soothe__calloc(2 * PIECE_ROWS, sizeof *w->changed);
    if (!w->values || !w->before || !w->scratch || !w->changed)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory editing %s", w->in.path);
    return SOOTHE_OK;
}

/* ---- what is recorded ------------------------------------------------------------------------------------------- */

static void set_text(struct gguf_context *meta, uint32_t i, const char *key, const char *text) {
    char full[128];
    snprintf(full, sizeof full, SOOTHE__EDIT_KEY, i, key);
    gguf_set_val_str(meta, full, text);
}

static enum soothe_status set_names(struct work *w, uint32_t i, struct soothe_error *err) {
    char         full[128];
    const char **names = soothe__calloc(w->n_targets + 1, sizeof *names);
    if (!names)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory recording the edit");
    for (size_t k = 0; k < w->n_targets; k++)
        names[k] = w->targets[k].name;
    snprintf(full, sizeof full, SOOTHE__EDIT_KEY, i, "tensors");
    gguf_set_arr_str(w->plan.meta, full, names, w->n_targets);
    free(names);
    return SOOTHE_OK;
}

/* The hash of the result cannot be known before it is written: 64 zeros keep its place. */
static enum soothe_status plan_metadata(struct work *w, const struct soothe__edit_record *record, uint32_t *i,
                                        struct soothe_error *err) {
    struct gguf_context *meta = w->plan.meta;
    char                 hex[65];
    *i = soothe__edit_count(&w->in);
    if (*i >= N_EDITS_MAX)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s says that it was edited %u times", w->in.path, *i);
    gguf_set_kv(meta, w->in.meta);
    gguf_remove_key(meta, "general.alignment"); /* a plan always writes the default alignment */
    gguf_set_val_u32(meta, SOOTHE__EDIT_COUNT, *i + 1);
    set_text(meta, *i, "kind", record->kind);
    set_text(meta, *i, "tool", SOOTHE_VERSION);
    for (size_t k = 0; k < record->n_facts; k++) {
        char full[256];
        snprintf(full, sizeof full, SOOTHE__EDIT_KEY, *i, record->facts[k].key);
        soothe__gguf_set_facts(meta, &(struct soothe__fact){full, record->facts[k].text, record->facts[k].number}, 1);
    }
    enum soothe_status status = set_names(w, *i, err);
    if (!status)
        status = soothe__sha256_file(hex, w->in.path, err);
    if (!status) {
        set_text(meta, *i, "base_sha256", hex);
        status = soothe__tensors_hash(hex, &w->in, err);
    }
    if (!status) {
        set_text(meta, *i, "base_tensors_sha256", hex);
        memset(hex, '0', 64);
        set_text(meta, *i, "tensors_sha256", hex);
    }
    return status;
}

/* The new file is whole but for the hash of its tensors. */
static enum soothe_status write_hash(struct work *w, uint32_t i, struct soothe__new_file *f, struct soothe_error *err) {
    struct soothe__gguf written = {0};
    char                hex[65];
    enum soothe_status  status = soothe__gguf_open(&written, f->temporary, err);
    if (!status)
        status = soothe__tensors_hash(hex, &written, err);
    soothe__gguf_close(&written);
    if (status)
        return status;
    set_text(w->plan.meta, i, "tensors_sha256", hex);
    return soothe__gguf_plan_rewrite_metadata(&w->plan, f->stream, f->path, err);
}

enum soothe_status soothe__edit_gguf(const char *in_path, const char *out_path, const struct soothe__tensor_edit *edits,
                                     size_t n_edits, const struct soothe__edit_record *record,
                                     struct soothe_error *err) {
    struct work             w      = {0};
    struct soothe__new_file file   = {0};
    uint32_t                i      = 0;
    enum soothe_status      status = check_paths(in_path, out_path, err);
    if (!status)
        status = soothe__gguf_open(&w.in, in_path, err);
    if (!status)
        status = check_names(&w, edits, n_edits, err);
    if (!status)
        status = plan_tensors(&w, edits, n_edits, err);
    if (!status)
        status = soothe__new_file_open(&file, out_path, err); /* before the hashes: a folder that cannot be written is
                                                                 said at once */
    if (!status)
        status = plan_metadata(&w, record, &i, err);
    if (!status)
        status = soothe__gguf_plan_write(&w.plan, file.stream, out_path, err);
    if (!status && file.temporary)
        status = write_hash(&w, i, &file, err);
    if (!status)
        status = soothe__new_file_commit(&file, err);
    soothe__new_file_abort(&file);
    release(&w);
    return status;
}

uint32_t soothe__edit_count(const struct soothe__gguf *g) {
    uint32_t n = 0;
    return soothe__gguf_find_u32(g, SOOTHE__EDIT_COUNT, &n) ? n : 0;
}
