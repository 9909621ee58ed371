/* SPDX-License-Identifier: Apache-2.0
 * A success head's file: P and Q in F16, the rest in F32. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/nado.h"

#define KEY_TARGET_NAME "soothe.target.name"
#define KEY_TARGET "soothe.target.fingerprint"
#define KEY_D "soothe.nado.d"
#define KEY_RANK "soothe.nado.rank"
#define KEY_STRENGTH "soothe.nado.strength"
enum { D_MAX = 1 << 17, RANK_MAX = 1024 };

static const struct soothe__gguf_kind KIND = {"soothe-nado", 1, "success head", "is not a success head",
                                              "soothe nado train"};

struct part {
    const char *name;
    int64_t     n_in, n_out; /* n_out 1: a vector */
    float      *values;
};

static void parts_of(const struct soothe__nado *n, struct part parts[5]) {
    parts[0] = (struct part){"soothe.nado.p", n->rank, n->d, n->p};
    parts[1] = (struct part){"soothe.nado.q", n->d, n->rank, n->q};
    parts[2] = (struct part){"soothe.nado.c", n->rank, 1, n->c};
    parts[3] = (struct part){"soothe.nado.w", n->d, 1, n->w};
    parts[4] = (struct part){"soothe.nado.b", 1, 1, n->b};
}

static enum soothe_status check_model(const struct soothe__nado *n, const char *path, const char *model_path,
                                      struct soothe_error *err) {
    struct soothe__gguf        g;
    struct soothe__model_facts facts;
    char                       hex[65];
    enum soothe_status         status = soothe__gguf_open(&g, model_path, err);
    if (status)
        return status;
    status = soothe__model_facts(&facts, &g, err);
    if (!status)
        status = soothe__model_fingerprint(hex, &g, err);
    if (!status && (strcmp(hex, n->target) || facts.d != (uint32_t)n->d))
        status = soothe__fail(err, SOOTHE_E_MISMATCH,
                              "success head %s was made for the model of fingerprint %.12s…, not for %s (\"%s\", "
                              "%.12s…): soothe nado train makes one",
                              path, n->target, model_path, facts.name, hex);
    soothe__gguf_close(&g);
    return status;
}

static enum soothe_status read_file(struct soothe__nado **out, const struct soothe__gguf *g, struct soothe_error *err) {
    uint32_t           d = 0, rank = 0;
    float              strength = NAN;
    const char        *target   = soothe__gguf_find_string(g, KEY_TARGET);
    enum soothe_status status   = soothe__gguf_check_kind(g, &KIND, err);
    if (status)
        return status;
    if (!soothe__gguf_find_u32(g, KEY_D, &d) || d < 1 || d > D_MAX || !soothe__gguf_find_u32(g, KEY_RANK, &rank) ||
        rank < 1 || rank > RANK_MAX || !soothe__gguf_find_f32(g, KEY_STRENGTH, &strength) || !isfinite(strength) ||
        !target || strlen(target) != 64)
        return soothe__fail(err, SOOTHE_E_FORMAT,
                            "%s is a damaged success head: width, rank, strength or its model is missing or no such",
                            g->path);
    struct part parts[5] = {{"soothe.nado.p", rank, d, NULL},
                            {"soothe.nado.q", d, rank, NULL},
                            {"soothe.nado.c", rank, 1, NULL},
                            {"soothe.nado.w", d, 1, NULL},
                            {"soothe.nado.b", 1, 1, NULL}};
    for (int i = 0; i < 5 && !status; i++)
        status = soothe__gguf_get_f32(g, parts[i].name, parts[i].n_in * parts[i].n_out, &parts[i].values, err);
    if (!status)
        status = soothe__nado_new(out, (int32_t)d, (int32_t)rank, err);
    if (!status) {
        struct part into[5];
        parts_of(*out, into);
        for (int i = 0; i < 5; i++)
            memcpy(into[i].values, parts[i].values, (size_t)(parts[i].n_in * parts[i].n_out) * sizeof(float));
        (*out)->strength = strength;
        memcpy((*out)->target, target, 65);
    }
    for (int i = 0; i < 5; i++)
        free(parts[i].values);
    return status;
}

enum soothe_status soothe__nado_open(struct soothe__nado **n, const char *path, const char *model_path,
                                     struct soothe_error *err) {
    struct soothe__gguf g     = {.meta = NULL};
    *n                        = NULL;
    enum soothe_status status = soothe__gguf_open(&g, path, err);
    if (!status)
        status = read_file(n, &g, err);
    if (!status && model_path)
        status = check_model(*n, path, model_path, err);
    soothe__gguf_close(&g);
    if (status) {
        soothe__nado_free(*n);
        *n = NULL;
    }
    return status;
}

enum soothe_status soothe__nado_write(const char *path, const struct soothe__nado *n, const char *target_name,
                                      const struct soothe__fact *facts, size_t n_facts, struct soothe_error *err) {
    struct soothe__gguf_plan plan;
    struct part              parts[5];
    enum soothe_status       status = soothe__gguf_plan_new(&plan, 5, err);
    if (status)
        return status;
    soothe__gguf_set_kind(plan.meta, &KIND, "success head");
    gguf_set_val_str(plan.meta, KEY_TARGET_NAME, target_name);
    gguf_set_val_str(plan.meta, KEY_TARGET, n->target);
    gguf_set_val_u32(plan.meta, KEY_D, (uint32_t)n->d);
    gguf_set_val_u32(plan.meta, KEY_RANK, (uint32_t)n->rank);
    gguf_set_val_f32(plan.meta, KEY_STRENGTH, n->strength);
    soothe__gguf_set_facts(plan.meta, facts, n_facts);
    parts_of(n, parts);
    for (int i = 0; i < 5 && !status; i++)
        status = soothe__gguf_plan_add(&plan, parts[i].name, parts[i].values, parts[i].n_out > 1 ? 2 : 1,
                                       (int64_t[]){parts[i].n_in, parts[i].n_out},
                                       parts[i].n_out > 1 ? GGML_TYPE_F16 : GGML_TYPE_F32, err);
    if (!status)
        status = soothe__gguf_plan_save(&plan, path, err);
    soothe__gguf_plan_free(&plan);
    return status;
}
