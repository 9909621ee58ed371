/* SPDX-License-Identifier: Apache-2.0
 * A harmoniser's file: what it combines, and its weights (docs/format.md). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "score/polar.h"

#define KEY_SPECS "soothe.polar.scorers"         /* array of strings: their SPECs                       */
#define KEY_IDENTITIES "soothe.polar.identities" /* array of strings: 64 hexadecimal digits each        */
#define KEY_LO "soothe.polar.clean_below"        /* array of f32: votes clean at or below               */
#define KEY_HI "soothe.polar.toxic_above"        /* array of f32: votes toxic at or above               */
#define KEY_SCALAR "soothe.polar.scalarisation"
#define KEY_LAYER "soothe.polar.layer"         /* "none", or whose mean state is part of the features */
#define KEY_D "soothe.polar.d"                 /* of that state; 0 without                            */
#define KEY_TARGET "soothe.target.fingerprint" /* with a layer: of the model whose state it is  */
#define KEY_HIDDEN "soothe.polar.hidden"
#define TENSOR_MEAN "soothe.polar.mean"     /* ne = {n_features}                         */
#define TENSOR_SCALE "soothe.polar.scale"   /* ne = {n_features}                         */
#define TENSOR_HIDDEN "soothe.polar.hidden" /* ne = {n_features + 1, n_hidden}           */
#define TENSOR_OUT "soothe.polar.out"       /* ne = {n_hidden or n_features, + 1}        */
enum { D_MAX = 1 << 20, HIDDEN_MAX = 1 << 14 };

static const struct soothe__gguf_kind KIND = {"soothe-polar", 2, "combination", "combines no scorers",
                                              "soothe polar fit"};

/* ---- reading ----------------------------------------------------------------------------------------------- */

static int64_t find_array(const struct soothe__gguf *g, const char *key, enum gguf_type type, size_t n) {
    const int64_t i = gguf_find_key(g->meta, key);
    return i >= 0 && gguf_get_kv_type(g->meta, i) == GGUF_TYPE_ARRAY && gguf_get_arr_type(g->meta, i) == type &&
                   (n == 0 || gguf_get_arr_n(g->meta, i) == n)
               ? i
               : -1;
}

static enum soothe_status damaged(const struct soothe__gguf *g, const char *what, struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_FORMAT, "%s is a damaged combination of scorers: %s", g->path, what);
}

static enum soothe_status read_sources(struct soothe__polar *p, const struct soothe__gguf *g,
                                       struct soothe_error *err) {
    const int64_t i_specs = find_array(g, KEY_SPECS, GGUF_TYPE_STRING, 0);
    const size_t  n       = i_specs < 0 ? 0 : gguf_get_arr_n(g->meta, i_specs);
    if (n < 1 || n > SOOTHE__POLAR_SOURCES_MAX)
        return damaged(g, "it names no scorers, or too many", err);
    const int64_t i_ids = find_array(g, KEY_IDENTITIES, GGUF_TYPE_STRING, n);
    const int64_t i_lo  = find_array(g, KEY_LO, GGUF_TYPE_FLOAT32, n);
    const int64_t i_hi  = find_array(g, KEY_HI, GGUF_TYPE_FLOAT32, n);
    if (i_ids < 0 || i_lo < 0 || i_hi < 0)
        return damaged(g, "the scorers' identities or bands are missing", err);
    const float       *lo     = gguf_get_arr_data(g->meta, i_lo);
    const float       *hi     = gguf_get_arr_data(g->meta, i_hi);
    enum soothe_status status = SOOTHE_OK;
    for (size_t j = 0; j < n && !status; j++) {
        const char *identity = gguf_get_arr_str(g->meta, i_ids, j);
        const char *spec     = gguf_get_arr_str(g->meta, i_specs, j);
        if (strlen(identity) != 64 || !*spec || !isfinite(lo[j]) || !isfinite(hi[j]) || !(lo[j] < hi[j]))
            return damaged(g, "a scorer's name, identity or band is no such", err);
        status = soothe__polar_add_source(p, spec, lo[j], hi[j], err);
        if (!status)
            memcpy(p->sources[j].identity, identity, 65);
    }
    return status;
}

static enum soothe_status read_shape(struct soothe__polar *p, const struct soothe__gguf *g, uint32_t *n_hidden,
                                     struct soothe_error *err) {
    uint32_t                 d      = 0;
    const enum soothe_status status = soothe__gguf_check_kind(g, &KIND, err);
    const char              *target = soothe__gguf_find_string(g, KEY_TARGET);
    const char              *layer  = soothe__gguf_find_string(g, KEY_LAYER);
    if (status)
        return status;
    p->layer = SOOTHE__POLAR_NO_LAYER;
    if (!layer || (strcmp(layer, "none") != 0 && !soothe__layer_parse(&p->layer, layer)) ||
        !soothe__gguf_find_u32(g, KEY_D, &d) || d > D_MAX || (d == 0) != (p->layer == SOOTHE__POLAR_NO_LAYER) ||
        !soothe__gguf_find_u32(g, KEY_HIDDEN, n_hidden) || *n_hidden > HIDDEN_MAX ||
        !soothe__scalarisation_parse(&p->scalarisation, soothe__gguf_find_string(g, KEY_SCALAR)))
        return damaged(g, "layer, width, hidden units or scalarisation are no such", err);
    if (d > 0 && (!target || strlen(target) != 64))
        return damaged(g, "it does not say which model's states it reads", err);
    if (d > 0)
        memcpy(p->target, target, 65);
    p->d = (int32_t)d;
    return SOOTHE_OK;
}

static enum soothe_status read_weights(struct soothe__polar *p, const struct soothe__gguf *g, uint32_t n_hidden,
                                       struct soothe_error *err) {
    struct soothe__harmoniser *h = &p->harmoniser;
    h->n_features                = soothe__polar_n_features(p);
    h->n_hidden                  = (int32_t)n_hidden;
    const int64_t      n = h->n_features, k = h->n_hidden;
    enum soothe_status status = soothe__gguf_get_f32(g, TENSOR_MEAN, n, &h->mean, err);
    if (!status)
        status = soothe__gguf_get_f32(g, TENSOR_SCALE, n, &h->scale, err);
    if (!status && k > 0)
        status = soothe__gguf_get_f32(g, TENSOR_HIDDEN, k * (n + 1), &h->hidden, err);
    if (!status)
        status = soothe__gguf_get_f32(g, TENSOR_OUT, (k ? k : n) + 1, &h->out, err);
    return status;
}

enum soothe_status soothe__polar_read(struct soothe__polar *p, const char *path, struct soothe_error *err) {
    struct soothe__gguf g        = {0};
    uint32_t            n_hidden = 0;
    memset(p, 0, sizeof *p);
    enum soothe_status status = soothe__gguf_open(&g, path, err);
    if (!status)
        status = read_shape(p, &g, &n_hidden, err);
    if (!status)
        status = read_sources(p, &g, err);
    if (!status)
        status = read_weights(p, &g, n_hidden, err);
    if (!status)
        status = soothe__sha256_file(p->identity, path, err);
    soothe__gguf_close(&g);
    if (status)
        soothe__polar_free(p);
    return status;
}

/* ---- writing ----------------------------------------------------------------------------------------------- */

static void set_sources(struct gguf_context *meta, const struct soothe__polar *p) {
    const char *specs[SOOTHE__POLAR_SOURCES_MAX], *identities[SOOTHE__POLAR_SOURCES_MAX];
    float       lo[SOOTHE__POLAR_SOURCES_MAX], hi[SOOTHE__POLAR_SOURCES_MAX];
    for (size_t j = 0; j < p->n_sources; j++) {
        specs[j]      = p->sources[j].spec;
        identities[j] = p->sources[j].identity;
        lo[j]         = p->sources[j].lo;
        hi[j]         = p->sources[j].hi;
    }
    gguf_set_arr_str(meta, KEY_SPECS, specs, p->n_sources);
    gguf_set_arr_str(meta, KEY_IDENTITIES, identities, p->n_sources);
    gguf_set_arr_data(meta, KEY_LO, GGUF_TYPE_FLOAT32, lo, p->n_sources);
    gguf_set_arr_data(meta, KEY_HI, GGUF_TYPE_FLOAT32, hi, p->n_sources);
}

static enum soothe_status plan_weights(struct soothe__gguf_plan *plan, const struct soothe__harmoniser *h,
                                       struct soothe_error *err) {
    const int64_t      n = h->n_features, k = h->n_hidden;
    enum soothe_status status =
        soothe__gguf_plan_add(plan, TENSOR_MEAN, h->mean, 1, (int64_t[]){n}, GGML_TYPE_F32, err);
    if (!status)
        status = soothe__gguf_plan_add(plan, TENSOR_SCALE, h->scale, 1, (int64_t[]){n}, GGML_TYPE_F32, err);
    if (!status && k > 0)
        status = soothe__gguf_plan_add(plan, TENSOR_HIDDEN, h->hidden, 2, (int64_t[]){n + 1, k}, GGML_TYPE_F32, err);
    if (!status)
        status = soothe__gguf_plan_add(plan, TENSOR_OUT, h->out, 1, (int64_t[]){(k ? k : n) + 1}, GGML_TYPE_F32, err);
    return status;
}

enum soothe_status soothe__polar_write(const struct soothe__polar *p, const char *path,
                                       const struct soothe__fact *facts, size_t n_facts, struct soothe_error *err) {
    struct soothe__gguf_plan plan;
    char                     layer[16] = "none";
    enum soothe_status       status    = soothe__gguf_plan_new(&plan, 4, err);
    if (status)
        return status;
    if (p->layer != SOOTHE__POLAR_NO_LAYER)
        soothe__layer_name(layer, p->layer);
    soothe__gguf_set_kind(plan.meta, &KIND, "combined toxicity risk");
    gguf_set_val_str(plan.meta, KEY_LAYER, layer);
    gguf_set_val_u32(plan.meta, KEY_D, p->layer == SOOTHE__POLAR_NO_LAYER ? 0 : (uint32_t)p->d);
    if (p->layer != SOOTHE__POLAR_NO_LAYER)
        gguf_set_val_str(plan.meta, KEY_TARGET, p->target);
    gguf_set_val_u32(plan.meta, KEY_HIDDEN, (uint32_t)p->harmoniser.n_hidden);
    gguf_set_val_str(plan.meta, KEY_SCALAR, soothe__scalarisation_name(p->scalarisation));
    set_sources(plan.meta, p);
    soothe__gguf_set_facts(plan.meta, facts, n_facts);
    status = plan_weights(&plan, &p->harmoniser, err);
    if (!status)
        status = soothe__gguf_plan_save(&plan, path, err);
    soothe__gguf_plan_free(&plan);
    return status;
}
