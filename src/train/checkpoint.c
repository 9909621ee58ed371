/* SPDX-License-Identifier: Apache-2.0
 * Saving and loading a training run. */
#include "train/checkpoint.h"

#include <stdlib.h>
#include <string.h>

static const char TYPE[]     = "soothe-checkpoint";
static const char KEY_RUN[]  = "soothe.checkpoint.run_sha256";
static const char KEY_STEP[] = "soothe.checkpoint.step";
static const char KEY_HASH[] = "soothe.checkpoint.values_sha256";

/* Of the step and the arrays. */
static void hash_values(char hex[65], const struct soothe__checkpoint *c, uint32_t step) {
    struct soothe__sha256 *h = soothe__sha256_new();
    hex[0]                   = '\0';
    if (!h)
        return;
    soothe__sha256_add(h, &step, sizeof step);
    for (size_t i = 0; i < c->n_arrays; i++) {
        soothe__sha256_add(h, c->arrays[i].name, strlen(c->arrays[i].name) + 1);
        soothe__sha256_add(h, c->arrays[i].values, c->arrays[i].n * sizeof(float));
    }
    soothe__sha256_finish(h, hex);
}

enum soothe_status soothe__checkpoint_save(const char *path, const struct soothe__checkpoint *c,
                                           struct soothe_error *err) {
    struct soothe__gguf_plan plan;
    char                     hex[65];
    enum soothe_status       status = soothe__gguf_plan_new(&plan, c->n_arrays, err);
    if (status)
        return status;
    hash_values(hex, c, (uint32_t)c->step);
    gguf_set_val_str(plan.meta, "general.type", TYPE);
    gguf_set_val_str(plan.meta, "general.architecture", TYPE);
    gguf_set_val_str(plan.meta, KEY_RUN, c->run);
    gguf_set_val_u32(plan.meta, KEY_STEP, (uint32_t)c->step);
    gguf_set_val_str(plan.meta, KEY_HASH, hex);
    for (size_t i = 0; i < c->n_arrays && !status; i++)
        status = soothe__gguf_plan_add(&plan, c->arrays[i].name, c->arrays[i].values, 1,
                                       (int64_t[]){(int64_t)c->arrays[i].n}, GGML_TYPE_F32, err);
    if (!status)
        status = soothe__gguf_plan_save(&plan, path, err);
    soothe__gguf_plan_free(&plan);
    return status;
}

static enum soothe_status read_array(const struct soothe__gguf *g, struct soothe__checkpoint_array *a,
                                     struct soothe_error *err) {
    const int64_t i = gguf_find_tensor(g->meta, a->name);
    if (i < 0 || gguf_get_tensor_type(g->meta, i) != GGML_TYPE_F32 || soothe__gguf_n_elements(g, i) != (int64_t)a->n)
        return soothe__fail(err, SOOTHE_E_FORMAT, "checkpoint %s has no %zu values of %s; delete it to begin again",
                            g->path, a->n, a->name);
    return soothe__gguf_read(g, i, 0, a->values, a->n * sizeof(float), err);
}

static enum soothe_status check_type(const struct soothe__gguf *g, struct soothe_error *err) {
    const char *type = soothe__gguf_find_string(g, "general.type");
    if (type && strcmp(type, TYPE) == 0 && soothe__gguf_find_string(g, KEY_RUN))
        return SOOTHE_OK;
    return soothe__fail(err, SOOTHE_E_FORMAT, "%s is not a checkpoint of soothe calibrator train (general.type is %s)",
                        g->path, type ? type : "absent");
}

static enum soothe_status check_run(const struct soothe__gguf *g, const char *run, struct soothe_error *err) {
    const enum soothe_status status = check_type(g, err);
    if (status)
        return status;
    const char *hex = soothe__gguf_find_string(g, KEY_RUN);
    if (strcmp(hex, run) != 0)
        return soothe__fail(
            err, SOOTHE_E_MISMATCH,
            "checkpoint %s is of a run with other options, data or models (sha256 %.12s…, now %.12s…): give those "
            "again, or delete it to begin anew",
            g->path, hex, run);
    return SOOTHE_OK;
}

enum soothe_status soothe__checkpoint_load(const char *path, struct soothe__checkpoint *c, struct soothe_error *err) {
    struct soothe__gguf g;
    enum soothe_status  status = soothe__gguf_open(&g, path, err);
    if (status)
        return status;
    uint32_t step = 0;
    status        = check_run(&g, c->run, err);
    if (!status && !soothe__gguf_find_u32(&g, KEY_STEP, &step))
        status =
            soothe__fail(err, SOOTHE_E_FORMAT, "checkpoint %s does not say its step; delete it to begin again", path);
    for (size_t i = 0; i < c->n_arrays && !status; i++)
        status = read_array(&g, &c->arrays[i], err);
    if (!status) {
        char        hex[65];
        const char *wanted = soothe__gguf_find_string(&g, KEY_HASH);
        hash_values(hex, c, step);
        if (!wanted || strcmp(wanted, hex) != 0)
            status = soothe__fail(err, SOOTHE_E_FORMAT, "checkpoint %s is damaged; delete it to begin again", path);
    }
    c->step = step;
    soothe__gguf_close(&g);
    return status;
}

enum soothe_status soothe__checkpoint_check(const char *path, struct soothe_error *err) {
    struct soothe__gguf g;
    enum soothe_status  status = soothe__gguf_open(&g, path, err);
    if (status)
        return status;
    status = check_type(&g, err);
    soothe__gguf_close(&g);
    return status;
}
