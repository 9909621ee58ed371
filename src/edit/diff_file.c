/* SPDX-License-Identifier: Apache-2.0
 * Diff files (docs/format.md): written in a stream, read without trusting them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "edit/diff_rows.h"
#include "engine/tensor_rows.h"

#define KEY(name) "soothe.diff." name
#define FACT KEY("fact.")

enum { TENSORS_MAX = 100000 };

static const struct soothe__gguf_kind KIND = {
    .type = "soothe-diff", .version = 1, .noun = "diff", .is_other = "is not a diff", .maker = "soothe edit diff"};

static const char *const FORMS[] = {"add", "rows"};

/* ---- writing --------------------------------------------------------------------------------------------------- */

struct row_writer { /* one tensor of the file to be */
    struct soothe__row_source source;
    const int32_t            *ids; /* or these as they are */
};

struct writer {
    const struct soothe__diff *diff;
    struct soothe__gguf        base, edited;
    struct soothe__gguf_plan   plan;
    struct row_writer         *rows;
    size_t                     n_rows;
};

static enum soothe_status make_rows(void *user, int64_t first, int64_t n, void *rows, struct soothe_error *err) {
    const struct row_writer *r      = user;
    enum soothe_status       status = SOOTHE_OK;
    for (int64_t k = 0; k < n && !status; k++)
        status =
            soothe__diff_read_row(&r->source, (size_t)(first + k), (char *)rows + (size_t)k * r->source.row_size, err);
    return status;
}

static enum soothe_status make_ids(void *user, int64_t first, int64_t n, void *rows, struct soothe_error *err) {
    const struct row_writer *r = user;
    (void)first;
    (void)n; /* it is one row */
    (void)err;
    memcpy(rows, r->ids, r->source.row_size);
    return SOOTHE_OK;
}

static enum soothe_status plan_bytes(struct writer *w, const struct soothe__diff_tensor *t, size_t i, const char *what,
                                     const struct soothe__gguf *from, struct soothe_error *err) {
    struct row_writer *r = &w->rows[w->n_rows++];
    char               name[GGML_MAX_NAME];
    enum soothe_status status = soothe__diff_find_rows(&r->source, t, from, err);
    if (status)
        return status;
    snprintf(name, sizeof name, "%zu.%s", i, what);
    return soothe__gguf_plan_make(&w->plan, name, gguf_get_tensor_type(from->meta, r->source.i_tensor),
                                  (int64_t[]){t->ne0, (int64_t)t->n_rows},
                                  &(struct soothe__row_change){make_rows, r, r->source.row_size}, err);
}

static enum soothe_status plan_tensor(struct writer *w, size_t i, bool keep_old, struct soothe_error *err) {
    const struct soothe__diff_tensor *t = &w->diff->tensors[i];
    struct row_writer                *r = &w->rows[w->n_rows++];
    char                              name[GGML_MAX_NAME];
    if (t->n_rows == 0) /* nothing of this tensor: a file has no empty arrays */
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "no row of tensor %s is to be changed", t->name);
    *r = (struct row_writer){.source = {.row_size = t->n_rows * sizeof *t->rows}, .ids = t->rows};
    snprintf(name, sizeof name, "%zu.ids", i);
    enum soothe_status status =
        soothe__gguf_plan_make(&w->plan, name, GGML_TYPE_I32, (int64_t[]){(int64_t)t->n_rows, 1},
                               &(struct soothe__row_change){make_ids, r, r->source.row_size}, err);
    snprintf(name, sizeof name, "%zu.add", i);
    if (!status && w->diff->form == SOOTHE__DIFF_ADD)
        status = soothe__gguf_plan_add(&w->plan, name, t->vector, 1, &t->ne0, GGML_TYPE_F16, err);
    else if (!status)
        status = plan_bytes(w, t, i, "new", &w->edited, err);
    if (!status && keep_old)
        status = plan_bytes(w, t, i, "old", &w->base, err);
    return status;
}

static enum soothe_status plan_names(struct writer *w, struct soothe_error *err) {
    const struct soothe__diff *d       = w->diff;
    const char               **names   = soothe__calloc(d->n_tensors + 1, sizeof *names);
    float                     *factors = soothe__calloc(d->n_tensors + 1, sizeof *factors);
    enum soothe_status         status  = SOOTHE_OK;
    if (!names || !factors)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    for (size_t i = 0; i < d->n_tensors && !status; i++) {
        names[i]   = d->tensors[i].name;
        factors[i] = d->tensors[i].factor;
    }
    if (!status) {
        gguf_set_arr_str(w->plan.meta, KEY("tensors"), names, d->n_tensors);
        if (d->form == SOOTHE__DIFF_ADD)
            gguf_set_arr_data(w->plan.meta, KEY("factors"), GGUF_TYPE_FLOAT32, factors, d->n_tensors);
    }
    free(names);
    free(factors);
    return status;
}

static enum soothe_status plan_metadata(struct writer *w, struct soothe_error *err) {
    const struct soothe__diff *d    = w->diff;
    struct gguf_context       *meta = w->plan.meta;
    char                       name[256];
    snprintf(name, sizeof name, "%.60s for %.150s", d->kind, d->base_name);
    soothe__gguf_set_kind(meta, &KIND, name);
    gguf_set_val_str(meta, KEY("form"), FORMS[d->form]);
    gguf_set_val_str(meta, KEY("kind"), d->kind);
    gguf_set_val_str(meta, KEY("base_name"), d->base_name);
    gguf_set_val_str(meta, KEY("base_fingerprint"), d->base_fingerprint);
    gguf_set_val_str(meta, KEY("base_tensors_sha256"), d->base_tensors);
    gguf_set_val_str(meta, KEY("old_rows_sha256"), d->old_rows);
    gguf_set_val_str(meta, KEY("id"), d->id);
    for (size_t i = 0; i < d->n_facts; i++) {
        snprintf(name, sizeof name, FACT "%.100s", d->facts[i].key);
        soothe__gguf_set_facts(meta, &(struct soothe__fact){name, d->facts[i].text, d->facts[i].number}, 1);
    }
    return plan_names(w, err);
}

enum soothe_status soothe__diff_write(const struct soothe__diff *diff, const char *path, const char *base_path,
                                      const char *edited_path, bool keep_old, struct soothe_error *err) {
    struct writer      w      = {.diff = diff};
    enum soothe_status status = soothe__gguf_plan_new(&w.plan, 3 * diff->n_tensors, err);
    w.rows                    = soothe__calloc(3 * diff->n_tensors + 1, sizeof *w.rows);
    if (!status && !w.rows)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    if (!status && keep_old)
        status = soothe__gguf_open(&w.base, base_path, err);
    if (!status && edited_path)
        status = soothe__gguf_open(&w.edited, edited_path, err);
    if (!status)
        status = plan_metadata(&w, err);
    for (size_t i = 0; i < diff->n_tensors && !status; i++)
        status = plan_tensor(&w, i, keep_old, err);
    if (!status)
        status = soothe__gguf_plan_save(&w.plan, path, err);
    soothe__gguf_plan_free(&w.plan);
    soothe__gguf_close(&w.base);
    soothe__gguf_close(&w.edited);
    free(w.rows);
    return status;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static enum soothe_status damaged(const struct soothe__diff *d, const char *what, struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_FORMAT, "%s is damaged: %s", d->file.path, what);
}

static enum soothe_status get_text(char **text, const struct soothe__diff *d, const char *key,
                                   struct soothe_error *err) {
    const char *found = soothe__gguf_find_string(&d->file, key);
    if (!found)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s lacks the key %s", d->file.path, key);
    *text = soothe__strdup(found);
    return *text ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
}

static enum soothe_status get_hash(char hex[65], const struct soothe__diff *d, const char *key,
                                   struct soothe_error *err) {
    const char *found = soothe__gguf_find_string(&d->file, key);
    if (!found || strlen(found) != 64)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s has no hash under the key %s", d->file.path, key);
    memcpy(hex, found, 65);
    return SOOTHE_OK;
}

static enum soothe_status read_facts(struct soothe__diff *d, struct soothe_error *err) {
    const struct gguf_context *meta = d->file.meta;
    const int64_t              n    = gguf_get_n_kv(meta);
    d->facts                        = soothe__calloc((size_t)n + 1, sizeof *d->facts);
    for (int64_t i = 0; i < n && d->facts; i++) {
        const char          *key  = gguf_get_key(meta, i);
        const enum gguf_type type = gguf_get_kv_type(meta, i);
        if (strncmp(key, FACT, sizeof FACT - 1) || (type != GGUF_TYPE_STRING && type != GGUF_TYPE_FLOAT64))
            continue;
        struct soothe__fact *f = &d->facts[d->n_facts++];
        f->key                 = soothe__strdup(key + sizeof FACT - 1);
        if (type == GGUF_TYPE_STRING)
            f->text = soothe__strdup(gguf_get_val_str(meta, i));
        else
            f->number = gguf_get_val_f64(meta, i);
        if (!f->key || (type == GGUF_TYPE_STRING && !f->text))
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    }
    return d->facts ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
}

static int64_t find_part(const struct soothe__diff *d, size_t i, const char *what) {
    char name[GGML_MAX_NAME];
    snprintf(name, sizeof name, "%zu.%s", i, what);
    return gguf_find_tensor(d->file.meta, name);
}

static enum soothe_status read_ids(struct soothe__diff *d, size_t i, struct soothe_error *err) {
    struct soothe__diff_tensor *t     = &d->tensors[i];
    const int64_t               i_ids = find_part(d, i, "ids");
    if (i_ids < 0 || gguf_get_tensor_type(d->file.meta, i_ids) != GGML_TYPE_I32)
        return damaged(d, "a tensor's row numbers are missing", err);
    const int64_t *ne = gguf_get_tensor_ne(d->file.meta, i_ids);
    if (ne[0] < 1 || ne[1] != 1 || ne[2] != 1 || ne[3] != 1)
        return damaged(d, "row numbers have a wrong shape", err);
    t->n_rows = (size_t)ne[0];
    t->rows   = soothe__calloc(t->n_rows, sizeof *t->rows);
    if (!t->rows)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    enum soothe_status status = soothe__gguf_read(&d->file, i_ids, 0, t->rows, t->n_rows * sizeof *t->rows, err);
    for (size_t k = 0; k < t->n_rows && !status; k++)
        if (t->rows[k] < 0 || (k && t->rows[k] <= t->rows[k - 1]))
            status = damaged(d, "row numbers do not ascend", err);
    return status;
}

static enum soothe_status read_vector(struct soothe__diff *d, size_t i, struct soothe_error *err) {
    struct soothe__diff_tensor *t   = &d->tensors[i];
    const int64_t               at  = find_part(d, i, "add");
    const int64_t               key = gguf_find_key(d->file.meta, KEY("factors"));
    if (at < 0 || key < 0 || gguf_get_kv_type(d->file.meta, key) != GGUF_TYPE_ARRAY ||
        gguf_get_arr_type(d->file.meta, key) != GGUF_TYPE_FLOAT32 || gguf_get_arr_n(d->file.meta, key) <= i)
        return damaged(d, "what is to be added is missing", err);
    t->ne0    = gguf_get_tensor_ne(d->file.meta, at)[0];
    t->factor = ((const float *)gguf_get_arr_data(d->file.meta, key))[i];
    if (t->ne0 < 1 || soothe__gguf_n_elements(&d->file, at) != t->ne0 || !isfinite(t->factor))
        return damaged(d, "what is to be added is no vector and factor", err);
    return soothe__gguf_read_f32(&d->file, at, &t->vector, err);
}

/* The place of the rows' bytes, in whole rows of a type that could be the model's; -1 in *at where there are none. */
static enum soothe_status find_bytes(struct soothe__diff *d, size_t i, const char *what, int64_t *at,
                                     struct soothe_error *err) {
    struct soothe__diff_tensor *t = &d->tensors[i];
    *at                           = find_part(d, i, what);
    if (*at < 0)
        return SOOTHE_OK;
    const int64_t       *ne   = gguf_get_tensor_ne(d->file.meta, *at);
    const enum ggml_type type = gguf_get_tensor_type(d->file.meta, *at);
    if (t->ne0 == 0)
        t->ne0 = ne[0];
    if (ne[0] != t->ne0 || ne[0] < 1 || (size_t)ne[1] != t->n_rows || ne[2] != 1 || ne[3] != 1)
        return damaged(d, "rows have a wrong shape", err);
    if (what[0] == 'o' && t->i_new >= 0 && type != t->type)
        return damaged(d, "rows have two types", err);
    t->type = type;
    return SOOTHE_OK;
}

static enum soothe_status read_tensor(struct soothe__diff *d, size_t i, struct soothe_error *err) {
    struct soothe__diff_tensor *t      = &d->tensors[i];
    enum soothe_status          status = read_ids(d, i, err);
    t->i_new = t->i_old = -1;
    if (!status && d->form == SOOTHE__DIFF_ADD)
        status = read_vector(d, i, err);
    else if (!status)
        status = find_bytes(d, i, "new", &t->i_new, err);
    if (!status && d->form == SOOTHE__DIFF_ROWS && t->i_new < 0)
        status = damaged(d, "a tensor's rows are missing", err);
    if (!status)
        status = find_bytes(d, i, "old", &t->i_old, err);
    return status;
}

static enum soothe_status read_tensors(struct soothe__diff *d, struct soothe_error *err) {
    const int64_t i_names = gguf_find_key(d->file.meta, KEY("tensors"));
    if (i_names < 0 || gguf_get_kv_type(d->file.meta, i_names) != GGUF_TYPE_ARRAY ||
        gguf_get_arr_type(d->file.meta, i_names) != GGUF_TYPE_STRING)
        return damaged(d, "the tensors' names are missing", err);
    const size_t n = gguf_get_arr_n(d->file.meta, i_names);
    if (n > TENSORS_MAX)
        return damaged(d, "it names too many tensors", err);
    d->tensors                = soothe__calloc(n + 1, sizeof *d->tensors);
    enum soothe_status status = SOOTHE_OK;
    if (!d->tensors)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    for (size_t i = 0; i < n && !status; i++) {
        const char *name = gguf_get_arr_str(d->file.meta, i_names, i);
        if (strlen(name) >= GGML_MAX_NAME || !*name || !soothe__utf8_valid(name, strlen(name)))
            return damaged(d, "a tensor's name is none", err);
        for (size_t k = 0; k < i; k++)
            if (!strcmp(d->tensors[k].name, name))
                return damaged(d, "a tensor is named twice", err);
        d->n_tensors++;
        d->tensors[i].name = soothe__strdup(name);
        status             = d->tensors[i].name ? read_tensor(d, i, err)
                                                : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    }
    return status;
}

static enum soothe_status read_form(struct soothe__diff *d, struct soothe_error *err) {
    const char *form = soothe__gguf_find_string(&d->file, KEY("form"));
    for (int i = 0; form && i < 2; i++)
        if (!strcmp(form, FORMS[i])) {
            d->form = (enum soothe__diff_form)i;
            return SOOTHE_OK;
        }
    return damaged(d, "it is of no form that is known (add, rows)", err);
}

static enum soothe_status check_id(struct soothe__diff *d, struct soothe_error *err) {
    char               hex[65];
    enum soothe_status status = soothe__diff_hash_new(hex, d, NULL, err);
    return status || !strcmp(hex, d->id) ? status : damaged(d, "it does not hold what its hash says", err);
}

enum soothe_status soothe__diff_open(struct soothe__diff **diff, const char *path, struct soothe_error *err) {
    struct soothe__diff *d = soothe__calloc(1, sizeof *d);
    *diff                  = NULL;
    if (!d)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    enum soothe_status status = soothe__gguf_open(&d->file, path, err);
    if (!status)
        status = soothe__gguf_check_kind(&d->file, &KIND, err);
    if (!status)
        status = read_form(d, err);
    if (!status)
        status = get_text(&d->kind, d, KEY("kind"), err);
    if (!status)
        status = get_text(&d->base_name, d, KEY("base_name"), err);
    if (!status)
        status = get_hash(d->base_fingerprint, d, KEY("base_fingerprint"), err);
    if (!status)
        status = get_hash(d->base_tensors, d, KEY("base_tensors_sha256"), err);
    if (!status)
        status = get_hash(d->old_rows, d, KEY("old_rows_sha256"), err);
    if (!status)
        status = get_hash(d->id, d, KEY("id"), err);
    if (!status)
        status = read_facts(d, err);
    if (!status)
        status = read_tensors(d, err);
    if (!status)
        status = check_id(d, err);
    if (!status)
        *diff = d;
    else
        soothe__diff_free(d);
    return status;
}
