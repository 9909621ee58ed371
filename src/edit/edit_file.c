/* SPDX-License-Identifier: Apache-2.0
 * A GGUF file with some tensors' bytes changed, and the record of it. */
#include "edit/edit_file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/target_model.h"
#include "engine/tensor_rows.h"

enum { N_EDITS_MAX = 100000 };
static const char ADDED[] = "added"; /* the record's key */

/* One changed tensor. */
struct target {
    struct soothe__edited_tensor     tensor;
    const struct soothe__byte_edit **edits; /* in the order given */
    size_t                           n_edits;
};

/* The tensor that is made. */
struct making {
    const struct soothe__made_tensor *made; /* NULL: none */
    const struct soothe__gguf        *in;
    struct soothe__edited_tensor      from;
    int64_t                           i_from;
    bool                              added; /* not in the place of another */
    char                             *old;   /* (size_old) rows of from */
    size_t                            size_old;
};

struct work {
    struct soothe__gguf               in;
    struct soothe__gguf_plan          plan;
    struct target                    *targets;
    size_t                            n_targets;
    const struct soothe__byte_edit  **sorted; /* the targets' edits, one array */
    struct making                     making;
    const struct soothe__edit_record *record;     /* NULL: the last edit is taken back */
    bool                              drop;       /* the last edit is taken back by leaving out what it added: */
    const char                       *dropped;    /* this tensor */
    uint32_t                          i_edit;     /* that is recorded, or taken back */
    char                              wanted[65]; /* of an edit taken back: the hash of the tensors to come */
};

static void release(struct work *w) {
    soothe__gguf_plan_free(&w->plan);
    soothe__gguf_close(&w->in);
    free(w->targets);
    free(w->sorted);
    free(w->making.old);
}

/* ---- tensors --------------------------------------------------------------------------------------------------- */

enum soothe_status soothe__edit_check_paths(const char *in_path, const char *out_path, struct soothe_error *err) {
    struct stat in, out;
    if (stat(in_path, &in) == 0 && stat(out_path, &out) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "%s is the model that is read: an edit leaves its original alone and needs another name",
                            out_path);
    return SOOTHE_OK;
}

/* Several edits of one tensor act as if each had made a file for the next. */
static enum soothe_status change_rows(void *user, int64_t first, int64_t n, void *rows, struct soothe_error *err) {
    const struct target *t      = user;
    enum soothe_status   status = SOOTHE_OK;
    for (size_t i = 0; i < t->n_edits && !status; i++)
        status = t->edits[i]->change(t->edits[i]->user, &t->tensor, first, n, rows, err);
    return status;
}

static enum soothe_status add_target(struct work *w, int64_t i_tensor, const struct soothe__byte_edit *edits,
                                     size_t n_edits, struct soothe_error *err) {
    struct target                   *t      = &w->targets[w->n_targets];
    const struct soothe__byte_edit **sorted = w->n_targets ? t[-1].edits + t[-1].n_edits : w->sorted;
    const int64_t                   *ne     = gguf_get_tensor_ne(w->in.meta, i_tensor);
    const enum ggml_type             type   = gguf_get_tensor_type(w->in.meta, i_tensor);
    enum soothe_status               status = SOOTHE_OK;
    *t = (struct target){.tensor = {gguf_get_tensor_name(w->in.meta, i_tensor), w->in.path, type, ne[0],
                                    ne[1] * ne[2] * ne[3], ggml_row_size(type, ne[0])},
                         .edits  = sorted};
    for (size_t i = 0; i < n_edits && !status; i++)
        if (!strcmp(edits[i].name, t->tensor.name)) {
            sorted[t->n_edits++] = &edits[i];
            status               = edits[i].check ? edits[i].check(edits[i].user, &t->tensor, err) : SOOTHE_OK;
        }
    if (t->n_edits == 0 || t->tensor.row_size == 0 || status)
        return status;
    soothe__gguf_plan_change_rows(&w->plan, &(struct soothe__row_change){change_rows, t, t->tensor.row_size});
    w->n_targets++;
    return SOOTHE_OK;
}

static enum soothe_status make_rows(void *user, int64_t first, int64_t n, void *rows, struct soothe_error *err) {
    struct making *m    = user;
    const size_t   size = (size_t)n * m->from.row_size;
    if (size > m->size_old) {
        char *old = soothe__realloc(m->old, size, 1);
        if (!old)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory editing %s", m->in->path);
        m->old      = old;
        m->size_old = size;
    }
    const enum soothe_status status =
        soothe__gguf_read(m->in, m->i_from, (size_t)first * m->from.row_size, m->old, size, err);
    return status ? status : m->made->make(m->made->user, &m->from, first, n, m->old, rows, err);
}

static enum soothe_status add_made(struct work *w, struct soothe_error *err) {
    struct making                    *m    = &w->making;
    const struct soothe__made_tensor *t    = m->made;
    const int64_t                    *ne   = gguf_get_tensor_ne(w->in.meta, m->i_from);
    const enum ggml_type              type = gguf_get_tensor_type(w->in.meta, m->i_from);
    if (ne[2] * ne[3] != 1 || !soothe__type_writable(t->type) || ne[0] % ggml_blck_size(t->type) != 0)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "tensor %s of %s, with rows of %lld numbers, cannot be written anew as %s", t->name,
                            w->in.path, (long long)ne[0], ggml_type_name(t->type));
    m->in   = &w->in;
    m->from = (struct soothe__edited_tensor){t->from, w->in.path, type, ne[0], ne[1], ggml_row_size(type, ne[0])};
    w->targets[w->n_targets++] = (struct target){.tensor = {.name = t->name, .path = w->in.path}, .edits = w->sorted};
    const struct soothe__row_change make   = {make_rows, m, ggml_row_size(t->type, ne[0])};
    const enum soothe_status        status = t->check ? t->check(t->user, &m->from, err) : SOOTHE_OK;
    return status ? status
                  : soothe__gguf_plan_make(&w->plan, t->name, t->type, (const int64_t[]){ne[0], ne[1]}, &make, err);
}

/* What the last edit added, if it is to be left out. */
static enum soothe_status find_added(struct work *w, struct soothe_error *err) {
    const uint32_t n = soothe__edit_count(&w->in);
    if (n == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%s records no edit that could be taken back", w->in.path);
    w->dropped = soothe__edit_text(&w->in, n - 1, ADDED);
    return w->dropped ? SOOTHE_OK
                      : soothe__fail(err, SOOTHE_E_ARGUMENT,
                                     "the last edit of %s added no tensor that could be left out: taking it back needs "
                                     "--base MODEL or --diff FILE",
                                     w->in.path);
}

static enum soothe_status find_sources(struct work *w, const struct soothe__byte_edit *edits, size_t n_edits,
                                       struct soothe_error *err) {
    struct making *m = &w->making;
    for (size_t i = 0; i < n_edits; i++)
        if (gguf_find_tensor(w->in.meta, edits[i].name) < 0)
            return soothe__fail(err, SOOTHE_E_FORMAT, "%s has no tensor %s", w->in.path, edits[i].name);
    if (!m->made)
        return SOOTHE_OK;
    m->i_from = gguf_find_tensor(w->in.meta, m->made->from);
    m->added  = gguf_find_tensor(w->in.meta, m->made->name) < 0;
    return m->i_from >= 0 ? SOOTHE_OK
                          : soothe__fail(err, SOOTHE_E_FORMAT, "%s has no tensor %s", w->in.path, m->made->from);
}

static enum soothe_status plan_tensors(struct work *w, const struct soothe__byte_edit *edits, size_t n_edits,
                                       struct soothe_error *err) {
    const int64_t      n      = gguf_get_n_tensors(w->in.meta);
    enum soothe_status status = find_sources(w, edits, n_edits, err);
    if (!status && w->drop)
        status = find_added(w, err);
    if (!status)
        status = soothe__gguf_plan_new(&w->plan, (size_t)n + 1, err);
    w->targets = soothe__calloc(n_edits + 2, sizeof *w->targets); /* one made, and one to look at */
    w->sorted  = soothe__calloc(n_edits + 1, sizeof(void *));
    if (!status && (!w->targets || !w->sorted))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory planning %zu edits", n_edits);
    for (int64_t i = 0; i < n && !status; i++) {
        const char *name = gguf_get_tensor_name(w->in.meta, i);
        if (w->dropped && !strcmp(name, w->dropped))
            continue;
        if (w->making.made && !strcmp(name, w->making.made->name)) {
            status = add_made(w, err);
            continue;
        }
        status = soothe__gguf_plan_copy(&w->plan, &w->in, i, err);
        if (!status)
            status = add_target(w, i, edits, n_edits, err);
    }
    return !status && w->making.added ? add_made(w, err) : status;
}

/* ---- what is recorded ------------------------------------------------------------------------------------------- */

static void set_text(struct gguf_context *meta, uint32_t i, const char *key, const char *text) {
    char full[160];
    snprintf(full, sizeof full, SOOTHE__EDIT_KEY, i, key);
    gguf_set_val_str(meta, full, text);
}

static enum soothe_status set_names(struct work *w, struct soothe_error *err) {
    char         full[160];
    const char **names = soothe__calloc(w->n_targets + 1, sizeof *names);
    if (!names)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory recording the edit");
    for (size_t k = 0; k < w->n_targets; k++)
        names[k] = w->targets[k].tensor.name;
    snprintf(full, sizeof full, SOOTHE__EDIT_KEY, w->i_edit, "tensors");
    gguf_set_arr_str(w->plan.meta, full, names, w->n_targets);
    free(names);
    return SOOTHE_OK;
}

/* The hash of the result cannot be known before it is written: 64 zeros keep its place. */
static enum soothe_status add_record(struct work *w, struct soothe_error *err) {
    const struct soothe__edit_record *record = w->record;
    struct gguf_context              *meta   = w->plan.meta;
    char                              hex[65];
    w->i_edit = soothe__edit_count(&w->in);
    if (w->i_edit >= N_EDITS_MAX)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s says that it was edited %u times", w->in.path, w->i_edit);
    gguf_set_val_u32(meta, SOOTHE__EDIT_COUNT, w->i_edit + 1);
    set_text(meta, w->i_edit, "kind", record->kind);
    set_text(meta, w->i_edit, "tool", SOOTHE_VERSION);
    for (size_t k = 0; k < record->n_facts; k++) {
        const struct soothe__fact *fact = &record->facts[k];
        char                       full[160];
        snprintf(full, sizeof full, SOOTHE__EDIT_KEY, w->i_edit, fact->key);
        soothe__gguf_set_facts(meta, &(struct soothe__fact){full, fact->text, fact->number}, 1);
    }
    if (w->making.added)
        set_text(meta, w->i_edit, ADDED, w->making.made->name);
    enum soothe_status status = set_names(w, err);
    if (!status)
        status = soothe__sha256_file(hex, w->in.path, err);
    if (!status) {
        set_text(meta, w->i_edit, "base_sha256", hex);
        status = soothe__tensors_hash(hex, &w->in, err);
    }
    if (!status) {
        set_text(meta, w->i_edit, "base_tensors_sha256", hex);
        memset(hex, '0', 64);
        set_text(meta, w->i_edit, "tensors_sha256", hex);
    }
    return status;
}

static enum soothe_status drop_record(struct work *w, struct soothe_error *err) {
    struct gguf_context *meta    = w->plan.meta;
    const uint32_t       n_edits = soothe__edit_count(&w->in);
    const int64_t        n_keys  = gguf_get_n_kv(w->in.meta);
    char                 prefix[160];
    const char          *hex = n_edits ? soothe__edit_text(&w->in, n_edits - 1, "base_tensors_sha256") : NULL;
    if (!hex || strlen(hex) != 64)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%s records no edit that could be taken back", w->in.path);
    memcpy(w->wanted, hex, sizeof w->wanted);
    w->i_edit = n_edits - 1;
    snprintf(prefix, sizeof prefix, SOOTHE__EDIT_KEY, w->i_edit, "");
    for (int64_t i = 0; i < n_keys; i++)
        if (!strncmp(gguf_get_key(w->in.meta, i), prefix, strlen(prefix)))
            gguf_remove_key(meta, gguf_get_key(w->in.meta, i));
    gguf_remove_key(meta, SOOTHE__EDIT_COUNT);
    if (w->i_edit)
        gguf_set_val_u32(meta, SOOTHE__EDIT_COUNT, w->i_edit);
    return SOOTHE_OK;
}

static enum soothe_status plan_metadata(struct work *w, struct soothe_error *err) {
    gguf_set_kv(w->plan.meta, w->in.meta);
    gguf_remove_key(w->plan.meta, "general.alignment"); /* a plan always writes the default alignment */
    return w->record ? add_record(w, err) : drop_record(w, err);
}

/* The new file is whole but for the hash of its tensors, which is put in its place; or compared with what an edit
 * began with. */
static enum soothe_status finish(struct work *w, struct soothe__new_file *f, struct soothe_error *err) {
    struct soothe__gguf written = {0};
    char                hex[65];
    enum soothe_status  status = soothe__gguf_open(&written, f->temporary, err);
    if (!status)
        status = soothe__tensors_hash(hex, &written, err);
    soothe__gguf_close(&written);
    if (!status && w->making.added && soothe__target_check(f->temporary, err))
        status =
            soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                         "the engine reads no %s in a model of this architecture (%s), so that %s cannot have one",
                         w->making.made->name, soothe__gguf_find_string(&w->in, "general.architecture"), w->in.path);
    if (status)
        return status;
    if (!w->record)
        return !strcmp(hex, w->wanted)
                   ? SOOTHE_OK
                   : soothe__fail(err, SOOTHE_E_MISMATCH,
                                  "%s does not become what it was before its last edit: it was changed since, or what "
                                  "is to be laid back is of another file",
                                  w->in.path);
    set_text(w->plan.meta, w->i_edit, "tensors_sha256", hex);
    return soothe__gguf_plan_rewrite_metadata(&w->plan, f->stream, f->path, err);
}

/* ---- the whole ----------------------------------------------------------------------------------------------------
 */

/* w: what is to be made, recorded or dropped. */
static enum soothe_status write_edited(struct work w, const char *in_path, const char *out_path,
                                       const struct soothe__byte_edit *edits, size_t n_edits,
                                       struct soothe_error *err) {
    struct soothe__new_file file   = {0};
    enum soothe_status      status = soothe__edit_check_paths(in_path, out_path, err);
    if (!status)
        status = soothe__gguf_open(&w.in, in_path, err);
    if (!status)
        status = plan_tensors(&w, edits, n_edits, err);
    if (!status) /* before the hashes: a folder that cannot be written to is said at once */
        status = soothe__new_file_open(&file, out_path, err);
    if (!status)
        status = plan_metadata(&w, err);
    if (!status)
        status = soothe__gguf_plan_write(&w.plan, file.stream, out_path, err);
    if (!status && file.temporary)
        status = finish(&w, &file, err);
    if (!status)
        status = soothe__new_file_commit(&file, err);
    soothe__new_file_abort(&file);
    release(&w);
    return status;
}

enum soothe_status soothe__edit_bytes(const char *in_path, const char *out_path, const struct soothe__byte_edit *edits,
                                      size_t n_edits, const struct soothe__edit_record *record,
                                      struct soothe_error *err) {
    return write_edited((struct work){.record = record}, in_path, out_path, edits, n_edits, err);
}

enum soothe_status soothe__edit_make(const char *in_path, const char *out_path, const struct soothe__made_tensor *made,
                                     const struct soothe__edit_record *record, struct soothe_error *err) {
    return write_edited((struct work){.making = {.made = made}, .record = record}, in_path, out_path, NULL, 0, err);
}

enum soothe_status soothe__edit_take_back(const char *in_path, const char *out_path,
                                          const struct soothe__byte_edit *edits, size_t n_edits,
                                          struct soothe_error *err) {
    return write_edited((struct work){.record = NULL}, in_path, out_path, edits, n_edits, err);
}

enum soothe_status soothe__edit_drop_added(const char *in_path, const char *out_path, struct soothe_error *err) {
    return write_edited((struct work){.drop = true}, in_path, out_path, NULL, 0, err);
}

uint32_t soothe__edit_count(const struct soothe__gguf *g) {
    uint32_t n = 0;
    return soothe__gguf_find_u32(g, SOOTHE__EDIT_COUNT, &n) ? n : 0;
}

const char *soothe__edit_text(const struct soothe__gguf *g, uint32_t i, const char *key) {
    char full[160];
    snprintf(full, sizeof full, SOOTHE__EDIT_KEY, i, key);
    return soothe__gguf_find_string(g, full);
}
