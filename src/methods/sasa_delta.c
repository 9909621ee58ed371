/* SPDX-License-Identifier: Apache-2.0
 * The file of SASA's delta form, and the table that comes of it. */
#include "methods/sasa_delta.h"

#include <stdlib.h>
#include <string.h>

#include "methods/sasa_delta_file.h"

#define KEY_TARGET_NAME "soothe.target.name"
#define KEY_TARGET "soothe.target.fingerprint"
#define KEY_SUBSPACE "soothe.sasa.subspace" /* SHA-256 of the probe's file */
#define KEY_D "soothe.sasa.d"
#define TENSOR_U "soothe.sasa.delta" /* ne = {d} */
enum { D_MAX = 1 << 20, ROWS = 512 };

static const struct soothe__gguf_kind KIND = {"soothe-sasa-delta", 1, "SASA delta", "is not a SASA delta",
                                              "soothe sasa fit-delta"};

/* ---- the file ----------------------------------------------------------------------------------------------- */

enum soothe_status soothe__sasa_delta_read(struct soothe__sasa_delta *out, const char *path, struct soothe_error *err) {
    struct soothe__gguf g      = {0};
    uint32_t            d      = 0;
    enum soothe_status  status = soothe__gguf_open(&g, path, err);
    *out                       = (struct soothe__sasa_delta){.d = 0};
    if (!status)
        status = soothe__gguf_check_kind(&g, &KIND, err);
    const char *target   = status ? NULL : soothe__gguf_find_string(&g, KEY_TARGET);
    const char *name     = status ? NULL : soothe__gguf_find_string(&g, KEY_TARGET_NAME);
    const char *subspace = status ? NULL : soothe__gguf_find_string(&g, KEY_SUBSPACE);
    if (!status && (!target || strlen(target) != 64 || !subspace || strlen(subspace) != 64 ||
                    !soothe__gguf_find_u32(&g, KEY_D, &d) || d < 1 || d > D_MAX))
        status = soothe__fail(err, SOOTHE_E_FORMAT,
                              "%s is a damaged SASA delta: its model, subspace or width is missing or no such", path);
    if (!status)
        status = soothe__gguf_get_f32(&g, TENSOR_U, (int64_t)d, &out->u, err);
    if (!status) {
        out->d = (int32_t)d;
        memcpy(out->target, target, 65);
        memcpy(out->subspace, subspace, 65);
        snprintf(out->target_name, sizeof out->target_name, "%s", name ? name : "?");
    }
    soothe__gguf_close(&g);
    return status;
}

enum soothe_status soothe__sasa_delta_write(const struct soothe__sasa_delta *delta, const char *path,
                                            const struct soothe__fact *facts, size_t n_facts,
                                            struct soothe_error *err) {
    struct soothe__gguf_plan plan;
    enum soothe_status       status = soothe__gguf_plan_new(&plan, 1, err);
    if (status)
        return status;
    soothe__gguf_set_kind(plan.meta, &KIND, "margin of tokens");
    gguf_set_val_str(plan.meta, KEY_TARGET_NAME, delta->target_name);
    gguf_set_val_str(plan.meta, KEY_TARGET, delta->target);
    gguf_set_val_str(plan.meta, KEY_SUBSPACE, delta->subspace);
    gguf_set_val_u32(plan.meta, KEY_D, (uint32_t)delta->d);
    soothe__gguf_set_facts(plan.meta, facts, n_facts);
    status = soothe__gguf_plan_add(&plan, TENSOR_U, delta->u, 1, (int64_t[]){delta->d}, GGML_TYPE_F32, err);
    if (!status)
        status = soothe__gguf_plan_save(&plan, path, err);
    soothe__gguf_plan_free(&plan);
    return status;
}

void soothe__sasa_delta_free(struct soothe__sasa_delta *delta) {
    free(delta->u);
    delta->u = NULL;
}

/* ---- embeddings --------------------------------------------------------------------------------------------- */

enum soothe_status soothe__token_embeddings(const char *model_path, int32_t d, soothe__take_embedding *take, void *user,
                                            int32_t *n_vocab, struct soothe_error *err) {
    struct soothe__gguf g      = {0};
    enum soothe_status  status = soothe__gguf_open(&g, model_path, err);
    if (status)
        return status;
    const int64_t        i        = gguf_find_tensor(g.meta, "token_embd.weight");
    const enum ggml_type type     = i < 0 ? GGML_TYPE_F32 : gguf_get_tensor_type(g.meta, i);
    const size_t         row_size = ggml_row_size(type, d);
    const int64_t        n        = i < 0 ? 0 : soothe__gguf_n_elements(&g, i) / d;
    char                *bytes    = soothe__calloc(ROWS, row_size);
    float               *rows     = soothe__calloc((size_t)ROWS * (size_t)d, sizeof *rows);
    if (i < 0 || n < 1 || n > INT32_MAX || n * d != soothe__gguf_n_elements(&g, i) || d % ggml_blck_size(type) != 0 ||
        !soothe__type_readable(type))
        status = soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s has no token embeddings of width %d", model_path, d);
    else if (!bytes || !rows)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for embeddings");
    for (int64_t from = 0; from < n && !status; from += ROWS) {
        const int64_t m = n - from < ROWS ? n - from : ROWS;
        status          = soothe__gguf_read(&g, i, (size_t)from * row_size, bytes, (size_t)m * row_size, err);
        if (!status)
            soothe__dequantise(rows, bytes, type, m * d);
        for (int64_t k = 0; k < m && !status; k++)
            take(user, (int32_t)(from + k), rows + k * d);
    }
    *n_vocab = (int32_t)n;
    free(bytes);
    free(rows);
    soothe__gguf_close(&g);
    return status;
}

/* ---- the table ---------------------------------------------------------------------------------------------- */

struct table {
    const struct soothe__sasa_delta *delta;
    float                           *values;
    int32_t                          n, capacity;
};

static void take(void *user, int32_t token, const float *e) {
    struct table *t   = user;
    double        sum = 0;
    if (token >= t->capacity)
        return;
    for (int32_t i = 0; i < t->delta->d; i++)
        sum += (double)t->delta->u[i] * (double)e[i];
    t->values[token] = (float)sum;
    t->n             = token + 1;
}

static enum soothe_status check(const struct soothe__sasa_delta *delta, const char *path,
                                const struct soothe__probe *subspace, struct soothe_error *err) {
    if (strcmp(delta->target, subspace->target) != 0 || delta->d != subspace->d)
        return soothe__fail(err, SOOTHE_E_MISMATCH, "SASA delta %s was fitted for \"%s\", not for \"%s\"", path,
                            delta->target_name, subspace->target_name);
    if (strcmp(delta->subspace, subspace->identity) != 0)
        return soothe__fail(err, SOOTHE_E_MISMATCH,
                            "SASA delta %s was fitted for another subspace (%.12s...) than the one at work (%.12s...)",
                            path, delta->subspace, subspace->identity);
    return SOOTHE_OK;
}

enum soothe_status soothe__sasa_delta_table(float **out, int32_t *n_vocab, const char *given,
                                            const struct soothe__probe *subspace, const char *model_path,
                                            struct soothe_error *err) {
    enum { V_MAX = 1 << 22 };
    struct soothe__sasa_delta delta  = {.d = 0};
    struct table              t      = {.delta = &delta};
    char                     *path   = NULL;
    enum soothe_status        status = SOOTHE_OK;
    *out                             = NULL;
    if (!given)
        status = soothe__shipped_file(&path, "default.sasa-delta.gguf", "SASA delta",
                                      "make one by soothe sasa fit-delta", err);
    if (!status)
        status = soothe__sasa_delta_read(&delta, given ? given : path, err);
    if (!status)
        status = check(&delta, given ? given : path, subspace, err);
    struct soothe__gguf        g     = {0};
    struct soothe__model_facts facts = {0};
    if (!status)
        status = soothe__gguf_open(&g, model_path, err);
    if (!status)
        status = soothe__model_facts(&facts, &g, err);
    t.capacity = facts.n_vocab < V_MAX ? (int32_t)facts.n_vocab : V_MAX;
    t.values   = status ? NULL : soothe__calloc((size_t)t.capacity + 1, sizeof *t.values);
    soothe__gguf_close(&g);
    if (!status && !t.values)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a table of tokens");
    if (!status)
        status = soothe__token_embeddings(model_path, delta.d, take, &t, n_vocab, err);
    if (!status && t.n < t.capacity)
        status = soothe__fail(err, SOOTHE_E_SHAPE, "%s has embeddings of %d tokens and a vocabulary of %d", model_path,
                              t.n, t.capacity);
    *n_vocab = t.capacity;
    *out     = status ? NULL : t.values;
    if (status)
        free(t.values);
    soothe__sasa_delta_free(&delta);
    free(path);
    return status;
}
