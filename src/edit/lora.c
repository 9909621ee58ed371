/* SPDX-License-Identifier: Apache-2.0 */
#include "edit/lora.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char KEY_BASE[] = "soothe.target.fingerprint"; /* as soothe's own files name their model */

enum soothe_status soothe__lora_apply(void *change, int64_t first_row, int64_t n_rows, int64_t ne0, float *values,
                                      bool *changed, struct soothe_error *err) {
    const struct soothe__lora_change *c = change;
    (void)err;
    for (int64_t i = 0; i < n_rows; i++) {
        const float *b = c->b + (first_row + i) * c->rank;
        changed[i]     = c->scale != 0.0f;
        for (int32_t r = 0; values && r < c->rank; r++)
            for (int64_t k = 0; k < ne0; k++)
                values[i * ne0 + k] += c->scale * b[r] * c->a[r * ne0 + k];
    }
    return SOOTHE_OK;
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

struct lora {
    struct soothe__gguf         file, model;
    struct soothe__tensor_edit *edits;
    struct soothe__lora_change *changes;
    char (*names)[GGML_MAX_NAME];
    float **owned; /* a and b of each */
    size_t  n;
};

static void lora_free(struct lora *l) {
    for (size_t i = 0; l->owned && i < 2 * l->n; i++)
        free(l->owned[i]);
    free(l->edits);
    free(l->changes);
    free(l->names);
    free(l->owned);
    soothe__gguf_close(&l->file);
    soothe__gguf_close(&l->model);
}

static bool is_text(const struct soothe__gguf *g, const char *key, const char *wanted) {
    const char *text = soothe__gguf_find_string(g, key);
    return text && strcmp(text, wanted) == 0;
}

/* Both files open: may they be put together? */
static enum soothe_status check_files(const struct lora *l, struct soothe_error *err) {
    char        hex[65];
    const char *base = soothe__gguf_find_string(&l->file, KEY_BASE);
    const char *mine = soothe__gguf_find_string(&l->model, "general.architecture");
    if (!is_text(&l->file, "general.type", "adapter") || !is_text(&l->file, "adapter.type", "lora"))
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s is not a LoRA file (general.type adapter, adapter.type lora)",
                            l->file.path);
    if (!mine || !is_text(&l->file, "general.architecture", mine))
        return soothe__fail(err, SOOTHE_E_MISMATCH, "%s is for another architecture than %s of %s", l->file.path,
                            mine ? mine : "none", l->model.path);
    if (!base)
        return SOOTHE_OK;
    const enum soothe_status status = soothe__model_fingerprint(hex, &l->model, err);
    if (!status && strcmp(hex, base) != 0)
        return soothe__fail(err, SOOTHE_E_MISMATCH,
                            "%s was made for another model than %s (fingerprint %.12s…, not %.12s…)", l->file.path,
                            l->model.path, base, hex);
    return status;
}

/* Adds the pair whose a is tensor i. */
static enum soothe_status add_pair(struct lora *l, int64_t i, float alpha, double strength, struct soothe_error *err) {
    static const char  A[]  = ".lora_a";
    const char        *name = gguf_get_tensor_name(l->file.meta, i);
    char               b[GGML_MAX_NAME + 8];
    const size_t       n = strlen(name) - (sizeof A - 1);
    enum soothe_status status;
    snprintf(b, sizeof b, "%.*s.lora_b", (int)n, name);
    snprintf(l->names[l->n], sizeof l->names[l->n], "%.*s", (int)n, name);
    const int64_t i_b = gguf_find_tensor(l->file.meta, b), i_w = gguf_find_tensor(l->model.meta, l->names[l->n]);
    if (i_b < 0)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s has %s but no %s", l->file.path, name, b);
    if (i_w < 0)
        return soothe__fail(err, SOOTHE_E_MISMATCH, "%s changes %s, which %s has not", l->file.path, l->names[l->n],
                            l->model.path);
    const int64_t *a_ne = gguf_get_tensor_ne(l->file.meta, i), *b_ne = gguf_get_tensor_ne(l->file.meta, i_b),
                  *w_ne = gguf_get_tensor_ne(l->model.meta, i_w);
    if (a_ne[0] != w_ne[0] || b_ne[1] != w_ne[1] || a_ne[1] != b_ne[0] || a_ne[1] > INT32_MAX || a_ne[2] != 1 ||
        b_ne[2] != 1 || w_ne[2] != 1 || w_ne[3] != 1 || a_ne[3] != 1 || b_ne[3] != 1)
        return soothe__fail(err, SOOTHE_E_MISMATCH,
                            "%s: factors (%lld, %lld) and (%lld, %lld) do not fit %s of %s (%lld, "
                            "%lld)",
                            l->file.path, (long long)a_ne[1], (long long)a_ne[0], (long long)b_ne[1],
                            (long long)b_ne[0], l->names[l->n], l->model.path, (long long)w_ne[1], (long long)w_ne[0]);
    float **owned = &l->owned[2 * l->n];
    status        = soothe__gguf_read_f32(&l->file, i, &owned[0], err);
    if (!status)
        status = soothe__gguf_read_f32(&l->file, i_b, &owned[1], err);
    const double own = alpha != 0.0f ? (double)alpha / (double)a_ne[1] : 1; /* as llama.cpp reads alpha 0 */
    l->changes[l->n] = (struct soothe__lora_change){owned[0], owned[1], (int32_t)a_ne[1], (float)(strength * own)};
    l->edits[l->n]   = (struct soothe__tensor_edit){l->names[l->n], soothe__lora_apply, &l->changes[l->n]};
    l->n++;
    return status;
}

static enum soothe_status read_pairs(struct lora *l, double strength, struct soothe_error *err) {
    const int64_t      n      = gguf_get_n_tensors(l->file.meta);
    const size_t       room   = (size_t)n + 1;
    float              alpha  = 0;
    enum soothe_status status = SOOTHE_OK;
    l->edits                  = soothe__calloc(room, sizeof *l->edits);
    l->changes                = soothe__calloc(room, sizeof *l->changes);
    l->names                  = soothe__calloc(room, sizeof *l->names);
    l->owned                  = soothe__calloc(2 * room, sizeof *l->owned);
    if (!l->edits || !l->changes || !l->names || !l->owned)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %s", l->file.path);
    soothe__gguf_find_f32(&l->file, "adapter.lora.alpha", &alpha);
    for (int64_t i = 0; i < n && !status; i++) {
        const char *name = gguf_get_tensor_name(l->file.meta, i), *dot = strrchr(name, '.');
        if (dot && strcmp(dot, ".lora_a") == 0)
            status = add_pair(l, i, alpha, strength, err);
        else if (!dot || strcmp(dot, ".lora_b") != 0)
            status = soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s holds %s, which is no factor of low rank",
                                  l->file.path, name);
    }
    if (!status && l->n == 0)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s holds no factors", l->file.path);
    return status;
}

/* ---- merging ---------------------------------------------------------------------------------------------------- */

enum soothe_status soothe__lora_merge(const char *model_path, const char *lora_path, double strength,
                                      const char *out_path, struct soothe_error *err) {
    struct lora        l = {.n = 0};
    char               hex[65];
    enum soothe_status status = isfinite(strength) ? soothe__gguf_open(&l.file, lora_path, err)
                                                   : soothe__fail(err, SOOTHE_E_ARGUMENT, "a strength of %g", strength);
    if (!status)
        status = soothe__gguf_open(&l.model, model_path, err);
    if (!status)
        status = check_files(&l, err);
    if (!status)
        status = read_pairs(&l, strength, err);
    if (!status)
        status = soothe__sha256_file(hex, lora_path, err);
    if (!status) {
        const struct soothe__fact        facts[] = {{"lora_sha256", hex, 0}, {"strength", NULL, strength}};
        const struct soothe__edit_record record  = {"lora", facts, 2};
        status                                   = soothe__edit_gguf(model_path, out_path, l.edits, l.n, &record, err);
    }
    lora_free(&l);
    return status;
}
