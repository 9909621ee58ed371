/* SPDX-License-Identifier: Apache-2.0
 * Making calibrator files: cut from a model, written after training, packed to a delta. */
#include <stdlib.h>
#include <string.h>

#include "fusion/calibrator_file.h"

static bool is_fusion_tensor(const char *name) {
    return strncmp(name, "soothe.", 7) == 0;
}

static void set_common_keys(struct gguf_context *meta, const char *kind, enum soothe_form form, uint32_t n_blocks,
                            uint32_t d_cal, uint32_t d_tgt, float strength) {
    gguf_set_val_str(meta, "general.type", SOOTHE__CALIBRATOR_TYPE);
    gguf_set_val_u32(meta, SOOTHE__KEY_VERSION, SOOTHE__FORMAT_VERSION);
    gguf_set_val_str(meta, SOOTHE__KEY_TOOL, SOOTHE_VERSION);
    gguf_set_val_str(meta, SOOTHE__KEY_KIND, kind);
    gguf_set_val_str(meta, SOOTHE__KEY_FORM, form == SOOTHE_FORM_RESIDUAL ? "residual" : "paper");
    gguf_set_val_u32(meta, SOOTHE__KEY_BLOCKS, n_blocks);
    gguf_set_val_u32(meta, SOOTHE__KEY_D_CAL, d_cal);
    gguf_set_val_u32(meta, SOOTHE__KEY_D_TGT, d_tgt);
    gguf_set_val_f32(meta, SOOTHE__KEY_STRENGTH, strength);
}

enum soothe_status soothe__set_target_keys(struct gguf_context *meta, const char *target_path,
                                           struct soothe_error *err) {
    struct soothe__gguf        target;
    struct soothe__model_facts facts;
    char                       hex[65];
    enum soothe_status         status = soothe__gguf_open(&target, target_path, err);
    if (status != SOOTHE_OK) {
        return status;
    }
    status = soothe__model_facts(&facts, &target, err);
    if (status == SOOTHE_OK) {
        status = soothe__model_fingerprint(hex, &target, err);
    }
    if (status == SOOTHE_OK) {
        gguf_set_val_str(meta, SOOTHE__KEY_TARGET_NAME, facts.name);
        gguf_set_val_str(meta, SOOTHE__KEY_TARGET, hex);
    }
    soothe__gguf_close(&target);
    return status;
}

/* ---- init: a cut of a model ------------------------------------------------------------------- */

static enum soothe_status set_base_keys(struct gguf_context *meta, const struct soothe__gguf *base,
                                        const struct soothe__model_facts *facts, uint32_t n_blocks,
                                        struct soothe_error *err) {
    char               hex[65];
    enum soothe_status status = soothe__cut_hash(hex, base, n_blocks, err);
    if (status != SOOTHE_OK) {
        return status;
    }
    gguf_set_val_str(meta, SOOTHE__KEY_BASE_NAME, facts->name);
    gguf_set_val_str(meta, SOOTHE__KEY_BASE_CUT, hex);
    soothe__tokenizer_hash(hex, base);
    gguf_set_val_str(meta, SOOTHE__KEY_BASE_TOKENIZER, hex);
    return SOOTHE_OK;
}

static enum soothe_status plan_cut(struct soothe__gguf_plan *plan, const struct soothe__gguf *g, uint32_t n_blocks,
                                   struct soothe_error *err) {
    enum soothe_status status = soothe__gguf_plan_cut_metadata(plan, g, n_blocks, err);
    bool               found  = false;
    const int64_t      n      = gguf_get_n_tensors(g->meta);
    for (int64_t i = 0; i < n && status == SOOTHE_OK; i++) {
        const int32_t block = soothe__block_of_tensor(gguf_get_tensor_name(g->meta, i));
        found               = found || block >= 0;
        if (block < (int32_t)n_blocks) {
            status = soothe__gguf_plan_copy(plan, g, i, err);
        }
    }
    if (status == SOOTHE_OK && !found) {
        status = soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s has no blocks named blk.N: it cannot be cut", g->path);
    }
    return status;
}

enum soothe_status soothe_calibrator_init(const char *model_path, int32_t n_blocks, const char *out_path,
                                          struct soothe_error *err) {
    struct soothe__gguf        g    = {0};
    struct soothe__gguf_plan   plan = {0};
    struct soothe__model_facts facts;
    char                      *name   = NULL;
    enum soothe_status         status = soothe__gguf_open(&g, model_path, err);
    if (status == SOOTHE_OK) {
        status = soothe__model_facts(&facts, &g, err);
    }
    if (status != SOOTHE_OK) {
        goto done;
    }
    if (n_blocks < 0 || (uint32_t)n_blocks > facts.n_blocks) {
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "%s has %u blocks; %d cannot be cut from it (0 to %u can)",
                              model_path, facts.n_blocks, n_blocks, facts.n_blocks);
        goto done;
    }
    status = soothe__gguf_plan_new(&plan, (size_t)gguf_get_n_tensors(g.meta), err);
    if (status == SOOTHE_OK && n_blocks > 0) {
        status = plan_cut(&plan, &g, (uint32_t)n_blocks, err);
    }
    if (status == SOOTHE_OK && n_blocks > 0) {
        status = set_base_keys(plan.meta, &g, &facts, (uint32_t)n_blocks, err);
    }
    if (status == SOOTHE_OK && n_blocks == 0) {
        gguf_set_val_str(plan.meta, "general.architecture", SOOTHE__CALIBRATOR_TYPE);
        status = soothe__set_target_keys(plan.meta, model_path, err);
    }
    if (status != SOOTHE_OK) {
        goto done;
    }
    set_common_keys(plan.meta, n_blocks ? "full" : "matrix", n_blocks ? SOOTHE_FORM_PAPER : SOOTHE_FORM_RESIDUAL,
                    (uint32_t)n_blocks, n_blocks ? facts.d : 0, facts.d, 0.0f);
    name = soothe__format("%s, first %d blocks", facts.name, n_blocks);
    gguf_set_val_str(plan.meta, "general.name", name ? name : "");
    status = soothe__gguf_plan_save(&plan, out_path, err);
done:
    free(name);
    soothe__gguf_plan_free(&plan);
    soothe__gguf_close(&g);
    return status;
}

/* ---- write: what training made ---------------------------------------------------------------- */

enum soothe_status soothe__calibrator_check(const struct soothe__gguf *g, struct soothe_error *err) {
    static const struct soothe__gguf_kind KIND = {SOOTHE__CALIBRATOR_TYPE, SOOTHE__FORMAT_VERSION, "calibrator",
                                                  "is not a calibrator", "soothe calibrator init"};
    return soothe__gguf_check_kind(g, &KIND, err);
}

static enum soothe_status add_replaced(struct soothe__gguf_plan *plan, const struct soothe__gguf *source, int64_t i,
                                       const float *values, enum ggml_type block_type, struct soothe_error *err) {
    const int64_t *ne     = gguf_get_tensor_ne(source->meta, i);
    const bool     matrix = ne[1] > 1;
    return soothe__gguf_plan_add(plan, gguf_get_tensor_name(source->meta, i), values, matrix ? 2 : 1, ne,
                                 matrix ? block_type : GGML_TYPE_F32, err);
}

static enum soothe_status plan_source(struct soothe__gguf_plan *plan, const struct soothe__gguf *source,
                                      const struct soothe__calibrator_spec *spec, struct soothe_error *err) {
    enum soothe_status status     = SOOTHE_OK;
    size_t             n_replaced = 0;
    const int64_t      n          = gguf_get_n_tensors(source->meta);
    gguf_set_kv(plan->meta, source->meta);
    gguf_remove_key(plan->meta, "general.alignment");
    for (int64_t i = 0; i < n && status == SOOTHE_OK; i++) {
        const char  *name   = gguf_get_tensor_name(source->meta, i);
        const float *values = NULL;
        if (is_fusion_tensor(name)) {
            continue;
        }
        for (size_t k = 0; k < spec->n_replaced; k++) {
            if (strcmp(spec->replaced[k].name, name) == 0) {
                values = spec->replaced[k].values;
            }
        }
        n_replaced += values != NULL;
        status = values ? add_replaced(plan, source, i, values, spec->block_type, err)
                        : soothe__gguf_plan_copy(plan, source, i, err);
    }
    if (status == SOOTHE_OK && n_replaced != spec->n_replaced) {
        status = soothe__fail(err, SOOTHE_E_SHAPE, "%s lacks some of the %zu trained tensors", source->path,
                              spec->n_replaced);
    }
    return status;
}

enum soothe_status soothe__plan_fusion(struct soothe__gguf_plan *plan, const float *a, const float *b,
                                       const float *bias, int64_t d_cal, int64_t d_tgt, enum ggml_type type,
                                       struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    if (a) {
        status = soothe__gguf_plan_add(plan, SOOTHE__TENSOR_A, a, 2, (int64_t[]){d_tgt, d_cal}, type, err);
    }
    if (b && status == SOOTHE_OK) {
        status = soothe__gguf_plan_add(plan, SOOTHE__TENSOR_B, b, 2, (int64_t[]){d_tgt, d_tgt}, type, err);
    }
    if (bias && status == SOOTHE_OK) {
        status = soothe__gguf_plan_add(plan, SOOTHE__TENSOR_BIAS, bias, 1, (int64_t[]){d_tgt}, GGML_TYPE_F32, err);
    }
    return status;
}

enum soothe_status soothe__calibrator_write(const char *out_path, const struct soothe__calibrator_spec *spec,
                                            struct soothe_error *err) {
    struct soothe__gguf      source   = {0};
    struct soothe__gguf_plan plan     = {0};
    uint32_t                 n_blocks = 0;
    enum soothe_status       status   = SOOTHE_OK;
    if (spec->source_path) {
        status = soothe__gguf_open(&source, spec->source_path, err);
        if (status == SOOTHE_OK) {
            status = soothe__calibrator_check(&source, err);
        }
        if (status != SOOTHE_OK) {
            goto done;
        }
        soothe__gguf_find_u32(&source, SOOTHE__KEY_BLOCKS, &n_blocks);
    }
    status = soothe__gguf_plan_new(&plan, 3 + (source.meta ? (size_t)gguf_get_n_tensors(source.meta) : 0), err);
    if (status != SOOTHE_OK) {
        goto done;
    }
    if (source.meta) {
        status = plan_source(&plan, &source, spec, err);
    } else {
        gguf_set_val_str(plan.meta, "general.architecture", SOOTHE__CALIBRATOR_TYPE);
    }
    if (status == SOOTHE_OK) {
        status =
            soothe__plan_fusion(&plan, spec->a, spec->b, spec->bias, spec->d_cal, spec->d_tgt, spec->matrix_type, err);
    }
    if (status == SOOTHE_OK && (spec->a || spec->b || spec->bias)) {
        status = soothe__set_target_keys(plan.meta, spec->target_path, err);
    }
    if (status != SOOTHE_OK) {
        goto done;
    }
    set_common_keys(plan.meta, source.meta ? "full" : "matrix", spec->form, n_blocks, (uint32_t)spec->d_cal,
                    (uint32_t)spec->d_tgt, spec->strength);
    gguf_set_val_bool(plan.meta, SOOTHE__KEY_LAYER_NORM, spec->layer_norm);
    gguf_set_val_f32(plan.meta, SOOTHE__KEY_STATE_NORM, spec->state_norm);
    gguf_set_val_str(plan.meta, "general.name", spec->name ? spec->name : "calibrator");
    soothe__gguf_set_facts(plan.meta, spec->facts, spec->n_facts);
    status = soothe__gguf_plan_save(&plan, out_path, err);
done:
    soothe__gguf_plan_free(&plan);
    soothe__gguf_close(&source);
    return status;
}

/* ---- pack: the difference to the base --------------------------------------------------------- */

/* Only soothe's own keys and general facts go along: the rest is the base's. */
static void copy_own_keys(struct gguf_context *meta, const struct soothe__gguf *g) {
    const int64_t n = gguf_get_n_kv(g->meta);
    gguf_set_kv(meta, g->meta);
    for (int64_t i = 0; i < n; i++) {
        const char *key = gguf_get_key(g->meta, i);
        if (strncmp(key, "soothe.", 7) != 0 && strncmp(key, "general.", 8) != 0) {
            gguf_remove_key(meta, key);
        }
    }
    gguf_remove_key(meta, "general.alignment");
    gguf_set_val_str(meta, "general.architecture", SOOTHE__CALIBRATOR_TYPE);
}

static enum soothe_status add_delta(struct soothe__gguf_plan *plan, const struct soothe__gguf *cal, int64_t i,
                                    const struct soothe__gguf *base, enum ggml_type type, struct soothe_error *err) {
    const char        *name   = gguf_get_tensor_name(cal->meta, i);
    const int64_t      n      = soothe__gguf_n_elements(cal, i);
    float             *ours   = NULL;
    float             *their  = NULL;
    enum soothe_status status = soothe__gguf_read_f32(cal, i, &ours, err);
    if (status == SOOTHE_OK) {
        status = soothe__gguf_get_f32(base, name, n, &their, err);
    }
    bool differs = false;
    for (int64_t k = 0; k < n && status == SOOTHE_OK; k++) {
        ours[k] -= their[k];
        differs = differs || ours[k] != 0.0f;
    }
    if (status == SOOTHE_OK && differs) {
        status = add_replaced(plan, cal, i, ours, type, err);
    }
    free(ours);
    free(their);
    return status;
}

enum soothe_status soothe__calibrator_check_base(const struct soothe__gguf *cal, const struct soothe__gguf *base,
                                                 uint32_t n_blocks, struct soothe_error *err) {
    char               hex[65];
    const char        *wanted = soothe__gguf_find_string(cal, SOOTHE__KEY_BASE_CUT);
    enum soothe_status status = soothe__cut_hash(hex, base, n_blocks, err);
    if (status == SOOTHE_OK && (!wanted || strcmp(wanted, hex) != 0)) {
        const char *name = soothe__gguf_find_string(cal, SOOTHE__KEY_BASE_NAME);
        status           = soothe__fail(err, SOOTHE_E_MISMATCH,
                                        "calibrator %s was cut from \"%s\" (sha256 %.12s…), but %s has sha256 %.12s… there: "
                                                  "give the base model that it was made from",
                                        cal->path, name ? name : "?", wanted ? wanted : "?", base->path, hex);
    }
    return status;
}

static enum soothe_status plan_fusion_again(struct soothe__gguf_plan *plan, const struct soothe__gguf *cal,
                                            enum ggml_type type, struct soothe_error *err) {
    static const char *const names[] = {SOOTHE__TENSOR_A, SOOTHE__TENSOR_B, SOOTHE__TENSOR_BIAS};
    enum soothe_status       status  = SOOTHE_OK;
    for (size_t k = 0; k < sizeof names / sizeof *names && status == SOOTHE_OK; k++) {
        const int64_t i      = gguf_find_tensor(cal->meta, names[k]);
        float        *values = NULL;
        if (i >= 0) {
            status = soothe__gguf_read_f32(cal, i, &values, err);
        }
        if (values) {
            status = add_replaced(plan, cal, i, values, type, err);
        }
        free(values);
    }
    return status;
}

enum soothe_status soothe_calibrator_pack(const char *calibrator_path, const char *base_path, enum ggml_type type,
                                          const char *out_path, struct soothe_error *err) {
    struct soothe__gguf      cal = {0}, base = {0};
    struct soothe__gguf_plan plan     = {0};
    uint32_t                 n_blocks = 0;
    const char              *kind     = NULL;
    enum soothe_status       status   = soothe__gguf_open(&cal, calibrator_path, err);
    if (status == SOOTHE_OK) {
        status = soothe__calibrator_check(&cal, err);
    }
    if (status != SOOTHE_OK) {
        goto done;
    }
    soothe__gguf_find_u32(&cal, SOOTHE__KEY_BLOCKS, &n_blocks);
    kind = soothe__gguf_find_string(&cal, SOOTHE__KEY_KIND);
    if (!kind || strcmp(kind, "delta") == 0) {
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "%s is packed already", calibrator_path);
        goto done;
    }
    if (n_blocks > 0 && !base_path) {
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "%s has %u blocks: packing it needs the base model",
                              calibrator_path, n_blocks);
        goto done;
    }
    if (n_blocks > 0) {
        status = soothe__gguf_open(&base, base_path, err);
        if (status == SOOTHE_OK) {
            status = soothe__calibrator_check_base(&cal, &base, n_blocks, err);
        }
        if (status != SOOTHE_OK) {
            goto done;
        }
    }
    status = soothe__gguf_plan_new(&plan, (size_t)gguf_get_n_tensors(cal.meta), err);
    if (status != SOOTHE_OK) {
        goto done;
    }
    copy_own_keys(plan.meta, &cal);
    gguf_set_val_str(plan.meta, SOOTHE__KEY_KIND, n_blocks ? "delta" : "matrix");
    const int64_t n = gguf_get_n_tensors(cal.meta);
    for (int64_t i = 0; i < n && status == SOOTHE_OK; i++) {
        const char *name = gguf_get_tensor_name(cal.meta, i);
        if (soothe__block_of_tensor(name) >= 0 || strcmp(name, "output_norm.weight") == 0) {
            status = add_delta(&plan, &cal, i, &base, type, err);
        }
    }
    if (status == SOOTHE_OK) {
        status = plan_fusion_again(&plan, &cal, n_blocks ? GGML_TYPE_F16 : type, err);
    }
    if (status == SOOTHE_OK) {
        status = soothe__gguf_plan_save(&plan, out_path, err);
    }
done:
    soothe__gguf_plan_free(&plan);
    soothe__gguf_close(&base);
    soothe__gguf_close(&cal);
    return status;
}
