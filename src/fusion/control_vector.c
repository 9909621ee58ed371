/* SPDX-License-Identifier: Apache-2.0 */
#include "fusion/control_vector.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ARCHITECTURE "controlvector"
#define KEY_HINT "controlvector.model_hint"
#define KEY_LAYERS "controlvector.layer_count"
#define KEY_STRENGTH "soothe.control_vector.strength"
#define KEY_TARGET_NAME "soothe.target.name"
#define KEY_TARGET "soothe.target.fingerprint"
#define KEY_TOOL "soothe.tool.version"

void soothe__control_vector_free(struct soothe__control_vector *v) {
    if (!v)
        return;
    free(v->values);
    free(v->path);
    free(v);
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

struct model {
    struct soothe__model_facts facts;
    char                       fingerprint[65];
};

static enum soothe_status check_model(const struct soothe__gguf *g, const struct model *m, const char *model_path,
                                      struct soothe_error *err) {
    const char *target = soothe__gguf_find_string(g, KEY_TARGET), *name = soothe__gguf_find_string(g, KEY_TARGET_NAME);
    if (target && strcmp(target, m->fingerprint) != 0)
        return soothe__fail(err, SOOTHE_E_MISMATCH,
                            "control vector %s was made for \"%s\" (fingerprint %.12s…), not for %s (\"%s\", %.12s…)",
                            g->path, name ? name : "?", target, model_path, m->facts.name, m->fingerprint);
    return SOOTHE_OK;
}

/* One "direction.N"; layers without one stay 0. */
static enum soothe_status read_direction(struct soothe__control_vector *v, const struct soothe__gguf *g, int64_t i,
                                         const char *model_path, struct soothe_error *err) {
    const char *name  = gguf_get_tensor_name(g->meta, i);
    int64_t     layer = 0;
    float      *values;
    if (strncmp(name, "direction.", 10) != 0)
        return SOOTHE_OK;
    if (!soothe__parse_int64(&layer, name + 10, 1, INT32_MAX))
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s has a tensor \"%.40s\": directions are of layers from 1", g->path,
                            name);
    if (layer > v->n_layers || soothe__gguf_n_elements(g, i) != v->d)
        return soothe__fail(
            err, SOOTHE_E_SHAPE, "%s has a direction of width %lld for layer %lld; %s has layers 1 to %d of width %d",
            g->path, (long long)soothe__gguf_n_elements(g, i), (long long)layer, model_path, v->n_layers, v->d);
    const enum soothe_status status = soothe__gguf_read_f32(g, i, &values, err);
    if (status)
        return status;
    memcpy(v->values + (size_t)(layer - 1) * (size_t)v->d, values, (size_t)v->d * sizeof *values);
    free(values);
    return SOOTHE_OK;
}

static enum soothe_status read_file(struct soothe__control_vector *v, const struct soothe__gguf *g,
                                    const struct model *m, const char *model_path, struct soothe_error *err) {
    const char *architecture = soothe__gguf_find_string(g, "general.architecture");
    if (!architecture || strcmp(architecture, ARCHITECTURE) != 0)
        return soothe__fail(err, SOOTHE_E_FORMAT,
                            "%s is no control vector (general.architecture is %.40s); make one with: soothe "
                            "control-vector",
                            g->path, architecture ? architecture : "absent");
    v->d                      = (int32_t)m->facts.d;
    v->n_layers               = (int32_t)m->facts.n_blocks - 1;
    v->strength               = 1;
    v->path                   = soothe__strdup(g->path);
    v->values                 = soothe__calloc((size_t)v->n_layers * (size_t)v->d + 1, sizeof *v->values);
    enum soothe_status status = check_model(g, m, model_path, err);
    if (!v->path || !v->values)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening %s", g->path);
    if (soothe__gguf_find_f32(g, KEY_STRENGTH, &v->strength) && !isfinite(v->strength))
        return soothe__fail(err, SOOTHE_E_NUMERIC, "%s recommends a strength that is no number", g->path);
    for (int64_t i = 0; i < gguf_get_n_tensors(g->meta) && !status; i++)
        status = read_direction(v, g, i, model_path, err);
    return status;
}

static enum soothe_status read_model(struct model *m, struct soothe__gguf *g, const char *model_path,
                                     struct soothe_error *err) {
    enum soothe_status status = soothe__gguf_open(g, model_path, err);
    if (!status)
        status = soothe__model_facts(&m->facts, g, err);
    if (!status)
        status = soothe__model_fingerprint(m->fingerprint, g, err);
    return status;
}

enum soothe_status soothe__control_vector_open(struct soothe__control_vector **out, const char *path,
                                               const char *model_path, struct soothe_error *err) {
    struct soothe__gguf            g = {0}, g_model = {0};
    struct model                   m;
    struct soothe__control_vector *v = soothe__calloc(1, sizeof *v);
    *out                             = NULL;
    if (!v)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening %s", path);
    enum soothe_status status = soothe__gguf_open(&g, path, err);
    if (!status)
        status = read_model(&m, &g_model, model_path, err);
    if (!status)
        status = read_file(v, &g, &m, model_path, err);
    soothe__gguf_close(&g);
    soothe__gguf_close(&g_model);
    if (status)
        soothe__control_vector_free(v);
    else
        *out = v;
    return status;
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

enum soothe_status soothe__control_vector_write(const char *path, const struct soothe__control_vector *v,
                                                const char *model_path, const struct soothe__fact *facts,
                                                size_t n_facts, struct soothe_error *err) {
    struct soothe__gguf_plan plan;
    struct soothe__gguf      g_model = {0};
    struct model             m;
    enum soothe_status       status = soothe__gguf_plan_new(&plan, (size_t)v->n_layers, err);
    if (status)
        return status;
    status = read_model(&m, &g_model, model_path, err);
    if (!status) {
        gguf_set_val_str(plan.meta, "general.architecture", ARCHITECTURE);
        gguf_set_val_str(plan.meta, "general.name", "control vector from toxic to clean");
        gguf_set_val_str(plan.meta, KEY_HINT, m.facts.architecture);
        gguf_set_val_i32(plan.meta, KEY_LAYERS, v->n_layers);
        gguf_set_val_f32(plan.meta, KEY_STRENGTH, v->strength);
        gguf_set_val_str(plan.meta, KEY_TARGET_NAME, m.facts.name);
        gguf_set_val_str(plan.meta, KEY_TARGET, m.fingerprint);
        gguf_set_val_str(plan.meta, KEY_TOOL, SOOTHE_VERSION);
        soothe__gguf_set_facts(plan.meta, facts, n_facts);
    }
    for (int32_t i = 0; i < v->n_layers && !status; i++) {
        char name[32];
        snprintf(name, sizeof name, "direction.%d", i + 1);
        status = soothe__gguf_plan_add(&plan, name, v->values + (size_t)i * (size_t)v->d, 1, (int64_t[]){v->d},
                                       GGML_TYPE_F32, err);
    }
    if (!status)
        status = soothe__gguf_plan_save(&plan, path, err);
    soothe__gguf_close(&g_model);
    soothe__gguf_plan_free(&plan);
    return status;
}
