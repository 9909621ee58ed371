/* SPDX-License-Identifier: Apache-2.0
 * Reading and writing alignments, and telling whether they fit. */
#include "fusion/alignment_file.h"

#include <stdlib.h>
#include <string.h>

#include "fusion/calibrator_file.h"

static const struct soothe__gguf_kind KIND = {SOOTHE__ALIGNMENT_TYPE, 1, "alignment", "is not an alignment",
                                              "soothe align"};

/* ---- which calibrator ------------------------------------------------------------------------------------- */

enum soothe_status soothe__calibrator_identity(char hex[65], const struct soothe__gguf *g, struct soothe_error *err) {
    const int64_t n        = gguf_get_n_tensors(g->meta);
    uint32_t      n_blocks = 0;
    const char   *base     = soothe__gguf_find_string(g, SOOTHE__KEY_BASE_CUT);
    soothe__gguf_find_u32(g, SOOTHE__KEY_BLOCKS, &n_blocks);
    struct soothe__sha256 *h = soothe__sha256_new();
    if (!h)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory hashing %s", g->path);
    soothe__sha256_add(h, &n_blocks, sizeof n_blocks);
    soothe__sha256_add(h, base ? base : "", strlen(base ? base : "") + 1);
    enum soothe_status status = SOOTHE_OK;
    for (int64_t i = 0; i < n && !status; i++)
        if (n_blocks == 0 || strncmp(gguf_get_tensor_name(g->meta, i), "soothe.", 7) != 0)
            status = soothe__gguf_hash_tensor(h, g, i, err); /* without blocks the matrices are all that there is */
    soothe__sha256_finish(h, hex);
    return status;
}

static enum soothe_status check_calibrator(const struct soothe__gguf *g, const struct soothe__gguf *calibrator,
                                           struct soothe_error *err) {
    char               hex[65];
    const char        *wanted = soothe__gguf_find_string(g, SOOTHE__KEY_CALIBRATOR);
    const char        *name   = soothe__gguf_find_string(g, SOOTHE__KEY_CALIBRATOR_NAME);
    const char        *other  = soothe__gguf_find_string(calibrator, "general.name");
    enum soothe_status status = soothe__calibrator_identity(hex, calibrator, err);
    if (status)
        return status;
    if (!wanted)
        return soothe__fail(err, SOOTHE_E_MISMATCH,
                            "alignment %s was made without a calibrator: leave out %s, or give its own alignment",
                            g->path, calibrator->path);
    if (strcmp(wanted, hex) != 0)
        return soothe__fail(err, SOOTHE_E_MISMATCH,
                            "alignment %s was made for calibrator \"%s\" (sha256 %.12s…), not for %s (\"%s\", %.12s…)",
                            g->path, name ? name : "?", wanted, calibrator->path, other ? other : "?", hex);
    return SOOTHE_OK;
}

/* ---- reading ---------------------------------------------------------------------------------------------- */

static enum soothe_status apply(struct soothe_calibrator *cal, const struct soothe__gguf *g,
                                const struct soothe__gguf *calibrator, const struct soothe__gguf *target,
                                struct soothe_error *err) {
    uint32_t           d_cal  = 0;
    const char        *name   = soothe__gguf_find_string(g, SOOTHE__KEY_CALIBRATOR_NAME);
    enum soothe_status status = soothe__gguf_check_kind(g, &KIND, err);
    if (status)
        return status;
    soothe__gguf_find_u32(g, SOOTHE__KEY_D_CAL, &d_cal);
    soothe__gguf_find_f32(g, SOOTHE__KEY_STRENGTH, &cal->default_strength);
    status = soothe__fusion_read(&cal->fusion, g, d_cal > 0, err);
    if (!status && !soothe__gguf_find_string(g, SOOTHE__KEY_TARGET))
        status = soothe__fail(err, SOOTHE_E_FORMAT, "alignment %s does not say which target it was made for", g->path);
    if (!status)
        status = soothe__fusion_check_target(&cal->fusion, g, "alignment", target, err);
    if (!status && calibrator)
        status = check_calibrator(g, calibrator, err);
    if (!status && !calibrator && d_cal > 0)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "alignment %s belongs to calibrator \"%s\": give that, too",
                              g->path, name ? name : "?");
    if (!status && calibrator && d_cal > 0 && cal->n_blocks == 0)
        status = soothe__fail(err, SOOTHE_E_SHAPE, "alignment %s is of a calibrator with blocks; %s has none", g->path,
                              calibrator->path);
    if (!status && d_cal == 0)
        cal->n_blocks = 0;
    return status;
}

enum soothe_status soothe__alignment_apply(struct soothe_calibrator *cal, const char *path,
                                           const struct soothe__gguf *calibrator, const struct soothe__gguf *target,
                                           struct soothe_error *err) {
    struct soothe__gguf g;
    enum soothe_status  status = soothe__gguf_open(&g, path, err);
    if (status)
        return status;
    status = apply(cal, &g, calibrator, target, err);
    soothe__gguf_close(&g);
    return status;
}

/* ---- writing ---------------------------------------------------------------------------------------------- */

static enum soothe_status set_calibrator_keys(struct gguf_context *meta, const char *path, struct soothe_error *err) {
    struct soothe__gguf g;
    char                hex[65];
    enum soothe_status  status = soothe__gguf_open(&g, path, err);
    if (status)
        return status;
    status = soothe__calibrator_check(&g, err);
    if (!status)
        status = soothe__calibrator_identity(hex, &g, err);
    if (!status) {
        const char *name = soothe__gguf_find_string(&g, "general.name");
        gguf_set_val_str(meta, SOOTHE__KEY_CALIBRATOR_NAME, name ? name : "");
        gguf_set_val_str(meta, SOOTHE__KEY_CALIBRATOR, hex);
    }
    soothe__gguf_close(&g);
    return status;
}

static void set_fusion_keys(struct gguf_context *meta, const struct soothe__alignment_spec *spec) {
    const struct soothe__fusion *f = spec->fusion;
    gguf_set_val_str(meta, SOOTHE__KEY_OBJECTIVE, spec->objective);
    gguf_set_val_str(meta, SOOTHE__KEY_FORM, f->form == SOOTHE_FORM_RESIDUAL ? "residual" : "paper");
    gguf_set_val_u32(meta, SOOTHE__KEY_D_CAL, (uint32_t)f->d_cal);
    gguf_set_val_u32(meta, SOOTHE__KEY_D_TGT, (uint32_t)f->d_tgt);
    gguf_set_val_f32(meta, SOOTHE__KEY_STRENGTH, spec->strength);
    gguf_set_val_bool(meta, SOOTHE__KEY_LAYER_NORM, f->layer_norm);
    gguf_set_val_f32(meta, SOOTHE__KEY_STATE_NORM, f->state_norm);
}

enum soothe_status soothe__alignment_write(const char *out_path, const struct soothe__alignment_spec *spec,
                                           struct soothe_error *err) {
    const struct soothe__fusion *f = spec->fusion;
    struct soothe__gguf_plan     plan;
    enum soothe_status           status = soothe__gguf_plan_new(&plan, 3, err);
    if (status)
        return status;
    soothe__gguf_set_kind(plan.meta, &KIND, spec->name);
    set_fusion_keys(plan.meta, spec);
    soothe__gguf_set_facts(plan.meta, spec->facts, spec->n_facts);
    status = soothe__set_target_keys(plan.meta, spec->target_path, err);
    if (!status && spec->calibrator_path)
        status = set_calibrator_keys(plan.meta, spec->calibrator_path, err);
    if (!status)
        status = soothe__plan_fusion(&plan, f->a, f->b, f->bias, f->d_cal, f->d_tgt, GGML_TYPE_F16, err);
    if (!status)
        status = soothe__gguf_plan_save(&plan, out_path, err);
    soothe__gguf_plan_free(&plan);
    return status;
}
