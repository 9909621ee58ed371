/* SPDX-License-Identifier: Apache-2.0
 * A probe, its file, and its dot product. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sigmoid.h"
#include "score/probe.h"

#define KEY_TARGET_NAME "soothe.target.name"
#define KEY_TARGET "soothe.target.fingerprint"
#define KEY_LAYER "soothe.probe.layer" /* "final", or the block's number */
#define KEY_POOL "soothe.probe.pool"   /* "last", "mean" or "token" */
#define KEY_KIND "soothe.probe.kind"   /* "lda" or "logistic" */
#define KEY_D "soothe.probe.d"
#define KEY_BIAS "soothe.probe.bias"
#define TENSOR_WEIGHT "soothe.probe.weight" /* ne = {d} */
enum { D_MAX = 1 << 20 };

static const struct soothe__gguf_kind KIND = {"soothe-probe", 1, "probe", "is not a probe", "soothe probe train"};

/* ---- names ------------------------------------------------------------------------------------------------- */

static const char *const POOLS[] = {"last", "mean", "token"};
static const char *const KINDS[] = {"lda", "logistic"};

static int find_name(const char *const *names, int n, const char *name) {
    for (int i = 0; name && i < n; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

const char *soothe__pool_name(enum soothe__pool pool) {
    return POOLS[pool];
}

const char *soothe__probe_kind_name(enum soothe__probe_kind kind) {
    return KINDS[kind];
}

bool soothe__pool_parse(enum soothe__pool *pool, const char *name) {
    const int i = find_name(POOLS, 3, name);
    *pool       = i < 0 ? SOOTHE__POOL_LAST : (enum soothe__pool)i;
    return i >= 0;
}

bool soothe__probe_kind_parse(enum soothe__probe_kind *kind, const char *name) {
    const int i = find_name(KINDS, 2, name);
    *kind       = i < 0 ? SOOTHE__PROBE_LDA : (enum soothe__probe_kind)i;
    return i >= 0;
}

/* ---- what it says --------------------------------------------------------------------------------------------- */

double soothe__probe_logit(const struct soothe__probe *p, const float *state) {
    double sum = p->bias;
    for (int32_t i = 0; i < p->d; i++)
        sum += (double)p->weight[i] * (double)state[i];
    return sum;
}

double soothe__probe_risk(const struct soothe__probe *p, const float *state) {
    return soothe__sigmoid(soothe__probe_logit(p, state));
}

/* The first token counts only where it is alone. */
void soothe__pool_states(enum soothe__pool pool, const float *states, int32_t n_tokens, int32_t d, float *out) {
    if (pool == SOOTHE__POOL_LAST || n_tokens < 3) {
        memcpy(out, states + (size_t)(n_tokens - 1) * (size_t)d, (size_t)d * sizeof *out);
        return;
    }
    memset(out, 0, (size_t)d * sizeof *out);
    for (int32_t t = 1; t < n_tokens; t++)
        for (int32_t i = 0; i < d; i++)
            out[i] += states[(size_t)t * (size_t)d + (size_t)i];
    for (int32_t i = 0; i < d; i++)
        out[i] /= (float)(n_tokens - 1);
}

/* The mean state's logit is the mean of the logits. */
void soothe__probe_prefix_logits(const struct soothe__probe *p, const float *states, int32_t n_tokens,
                                 const int32_t *n_at, size_t n, double *out) {
    double sum = 0, last = 0;
    size_t i = 0;
    for (int32_t t = 0; t < n_tokens; t++) {
        last = soothe__probe_logit(p, states + (size_t)t * (size_t)p->d);
        sum += t > 0 ? last : 0;
        for (; i < n && n_at[i] == t + 1; i++)
            out[i] = p->pool == SOOTHE__POOL_LAST || t == 0 ? last : sum / t;
    }
    for (; i < n; i++) /* longer than the text */
        out[i] = p->pool == SOOTHE__POOL_LAST || n_tokens < 2 ? last : sum / (n_tokens - 1);
}

void soothe__probe_free(struct soothe__probe *p) {
    if (!p)
        return;
    free(p->weight);
    free(p->target_name);
    free(p);
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

static enum soothe_status read_keys(struct soothe__probe *p, const struct soothe__gguf *g, struct soothe_error *err) {
    uint32_t                 d      = 0;
    float                    bias   = NAN;
    const enum soothe_status status = soothe__gguf_check_kind(g, &KIND, err);
    const char              *layer  = soothe__gguf_find_string(g, KEY_LAYER);
    const char              *target = soothe__gguf_find_string(g, KEY_TARGET);
    const char              *name   = soothe__gguf_find_string(g, KEY_TARGET_NAME);
    if (status)
        return status;
    if (!layer || !soothe__layer_parse(&p->layer, layer) ||
        !soothe__pool_parse(&p->pool, soothe__gguf_find_string(g, KEY_POOL)) ||
        !soothe__probe_kind_parse(&p->kind, soothe__gguf_find_string(g, KEY_KIND)) ||
        !soothe__gguf_find_u32(g, KEY_D, &d) || d < 1 || d > D_MAX || !soothe__gguf_find_f32(g, KEY_BIAS, &bias) ||
        !isfinite(bias) || !target || strlen(target) != 64)
        return soothe__fail(err, SOOTHE_E_FORMAT,
                            "%s is a damaged probe: layer, pool, kind, width, bias or its model is missing or no such",
                            g->path);
    p->d    = (int32_t)d;
    p->bias = (double)bias;
    memcpy(p->target, target, 65);
    p->target_name = soothe__strdup(name ? name : "?");
    return p->target_name ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening %s", g->path);
}

static enum soothe_status check_model(const struct soothe__probe *p, const char *path, const char *model_path,
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
    if (!status && strcmp(hex, p->target) != 0)
        status = soothe__fail(err, SOOTHE_E_MISMATCH,
                              "probe %s was made for \"%s\" (fingerprint %.12s…), not for %s (\"%s\", %.12s…)", path,
                              p->target_name, p->target, model_path, facts.name, hex);
    else if (!status && (facts.d != (uint32_t)p->d || p->layer >= (int32_t)facts.n_blocks))
        status = soothe__fail(err, SOOTHE_E_SHAPE, "probe %s reads layer %d of width %d; %s has %u of width %u", path,
                              p->layer, p->d, model_path, facts.n_blocks, facts.d);
    soothe__gguf_close(&g);
    return status;
}

enum soothe_status soothe__probe_open(struct soothe__probe **out, const char *path, const char *model_path,
                                      struct soothe_error *err) {
    struct soothe__gguf   g = {0};
    struct soothe__probe *p = soothe__calloc(1, sizeof *p);
    *out                    = NULL;
    if (!p)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening %s", path);
    enum soothe_status status = soothe__gguf_open(&g, path, err);
    if (!status)
        status = read_keys(p, &g, err);
    if (!status)
        status = soothe__gguf_get_f32(&g, TENSOR_WEIGHT, p->d, &p->weight, err);
    if (!status)
        status = soothe__sha256_file(p->identity, path, err);
    if (!status && model_path)
        status = check_model(p, path, model_path, err);
    soothe__gguf_close(&g);
    if (status)
        soothe__probe_free(p);
    else
        *out = p;
    return status;
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

enum soothe_status soothe__probe_write(const char *path, const struct soothe__probe *p,
                                       const struct soothe__fact *facts, size_t n_facts, struct soothe_error *err) {
    struct soothe__gguf_plan plan;
    char                     layer[16];
    enum soothe_status       status = soothe__gguf_plan_new(&plan, 1, err);
    if (status)
        return status;
    soothe__layer_name(layer, p->layer);
    soothe__gguf_set_kind(plan.meta, &KIND, "toxicity probe");
    gguf_set_val_str(plan.meta, KEY_TARGET_NAME, p->target_name ? p->target_name : "?");
    gguf_set_val_str(plan.meta, KEY_TARGET, p->target);
    gguf_set_val_str(plan.meta, KEY_LAYER, layer);
    gguf_set_val_str(plan.meta, KEY_POOL, POOLS[p->pool]);
    gguf_set_val_str(plan.meta, KEY_KIND, KINDS[p->kind]);
    gguf_set_val_u32(plan.meta, KEY_D, (uint32_t)p->d);
    gguf_set_val_f32(plan.meta, KEY_BIAS, (float)p->bias);
    soothe__gguf_set_facts(plan.meta, facts, n_facts);
    status = soothe__gguf_plan_add(&plan, TENSOR_WEIGHT, p->weight, 1, (int64_t[]){p->d}, GGML_TYPE_F32, err);
    if (!status)
        status = soothe__gguf_plan_save(&plan, path, err);
    soothe__gguf_plan_free(&plan);
    return status;
}
