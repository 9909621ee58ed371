/* SPDX-License-Identifier: Apache-2.0
 * Opening a calibrator for a target: checks that they belong together, then loads what it has. */
#include <stdlib.h>
#include <string.h>

#include "fusion/alignment_file.h"
#include "fusion/calibrator_file.h"
#include "fusion/calibrator_model.h"
#include "fusion/fusion.h"
#include "fusion/vocabulary_check.h"

struct soothe_calibrator_params soothe_calibrator_params_default(void) {
    return (struct soothe_calibrator_params){.base_path = NULL, .block_type = GGML_TYPE_Q4_0};
}

/* ---- does it fit? ------------------------------------------------------------------------------ */

/* Does it split text as the target does? If not, it follows the target's text (docs/fusion.md). bare: no matrix is
 * wanted, only its states. */
static enum soothe_status compare_vocabularies(struct soothe_calibrator *cal, const struct soothe__gguf *g,
                                               const struct soothe__gguf *target, bool bare, struct soothe_error *err) {
    char        hex[65];
    const char *ours = soothe__gguf_find_string(g, SOOTHE__KEY_BASE_TOKENIZER);
    soothe__tokenizer_hash(hex, target);
    cal->by_text = !ours || strcmp(ours, hex) != 0;
    if (cal->by_text && !cal->fusion.a && !bare) {
        return soothe__fail(
            err, SOOTHE_E_MISMATCH,
            "calibrator %s (cut from \"%s\") and target %s have different vocabularies (sha256 %.12s… and "
            "%.12s…), and no matrix A carries its state over: align it first",
            g->path, cal->base_name[0] ? cal->base_name : "?", target->path, ours ? ours : "none", hex);
    }
    return SOOTHE_OK;
}

/* The vocabulary that a calibrator follows the text by: of its own file or, of a delta, its base's. */
static enum soothe_status check_own_vocabulary(const struct soothe__gguf *g, const struct soothe__gguf *from,
                                               struct soothe_error *err) {
    char        hex[65];
    const char *ours = soothe__gguf_find_string(g, SOOTHE__KEY_BASE_TOKENIZER);
    soothe__tokenizer_hash(hex, from);
    if (!ours || strcmp(ours, hex) != 0) {
        return soothe__fail(err, SOOTHE_E_MISMATCH,
                            "calibrator %s was made with another vocabulary (sha256 %.12s…) than %s has (%.12s…)",
                            g->path, ours ? ours : "none", from->path, hex);
    }
    return from == g ? soothe__vocabulary_check(g, err) : SOOTHE_OK;
}

enum soothe_status soothe__fusion_check_target(const struct soothe__fusion *f, const struct soothe__gguf *g,
                                               const char *noun, const struct soothe__gguf *target,
                                               struct soothe_error *err) {
    struct soothe__model_facts facts;
    char                       hex[65];
    enum soothe_status         status = soothe__model_facts(&facts, target, err);
    if (status != SOOTHE_OK) {
        return status;
    }
    if (facts.d != (uint32_t)f->d_tgt) {
        return soothe__fail(err, SOOTHE_E_SHAPE, "%s %s was made for a target of width %d, but %s has width %u", noun,
                            g->path, f->d_tgt, target->path, facts.d);
    }
    const char *wanted = soothe__gguf_find_string(g, SOOTHE__KEY_TARGET);
    if (!wanted) {
        return SOOTHE_OK;
    }
    status = soothe__model_fingerprint(hex, target, err);
    if (status == SOOTHE_OK && strcmp(wanted, hex) != 0) {
        const char *name = soothe__gguf_find_string(g, SOOTHE__KEY_TARGET_NAME);
        status           = soothe__fail(err, SOOTHE_E_MISMATCH,
                                        "%s %s was fitted to target \"%s\" (fingerprint %.12s…), not to %s (\"%s\", %.12s…)",
                                        noun, g->path, name ? name : "?", wanted, target->path, facts.name, hex);
    }
    return status;
}

/* ---- matrices ------------------------------------------------------------------------------------ */

static enum soothe_status read_matrix(float **out, const struct soothe__gguf *g, const char *name, int64_t n,
                                      struct soothe_error *err) {
    *out = NULL;
    return gguf_find_tensor(g->meta, name) < 0 ? SOOTHE_OK : soothe__gguf_get_f32(g, name, n, out, err);
}

enum soothe_status soothe__fusion_read(struct soothe__fusion *f, const struct soothe__gguf *g, bool has_states,
                                       struct soothe_error *err) {
    enum { WIDTH_MAX = 1 << 17 };
    uint32_t    d_cal = 0, d_tgt = 0;
    const char *form = soothe__gguf_find_string(g, SOOTHE__KEY_FORM);
    soothe__gguf_find_u32(g, SOOTHE__KEY_D_CAL, &d_cal);
    soothe__gguf_find_u32(g, SOOTHE__KEY_D_TGT, &d_tgt);
    if (!form || (strcmp(form, "paper") != 0 && strcmp(form, "residual") != 0) || d_tgt == 0 || d_tgt > WIDTH_MAX ||
        d_cal > WIDTH_MAX || has_states != (d_cal > 0)) {
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s has impossible fusion metadata (form %s, widths %u and %u)",
                            g->path, form ? form : "absent", d_cal, d_tgt);
    }
    f->form  = strcmp(form, "residual") == 0 ? SOOTHE_FORM_RESIDUAL : SOOTHE_FORM_PAPER;
    f->d_cal = (int32_t)d_cal;
    f->d_tgt = (int32_t)d_tgt;
    soothe__gguf_find_bool(g, SOOTHE__KEY_LAYER_NORM, &f->layer_norm);
    soothe__gguf_find_f32(g, SOOTHE__KEY_STATE_NORM, &f->state_norm);
    enum soothe_status status = read_matrix(&f->a, g, SOOTHE__TENSOR_A, (int64_t)d_cal * d_tgt, err);
    if (status == SOOTHE_OK) {
        status = read_matrix(&f->b, g, SOOTHE__TENSOR_B, (int64_t)d_tgt * d_tgt, err);
    }
    if (status == SOOTHE_OK) {
        status = read_matrix(&f->bias, g, SOOTHE__TENSOR_BIAS, d_tgt, err);
    }
    if (status == SOOTHE_OK && f->form == SOOTHE_FORM_PAPER && !f->a && d_cal != d_tgt) {
        status = soothe__fail(err, SOOTHE_E_SHAPE,
                              "%s has no matrix A, but its width %u is not the target's %u: align it first", g->path,
                              d_cal, d_tgt);
    }
    return status;
}

void soothe__fusion_free(struct soothe__fusion *f) {
    free(f->a);
    free(f->b);
    free(f->bias);
    f->a = f->b = f->bias = NULL;
}

/* ---- the model ------------------------------------------------------------------------------------ */

static enum soothe_status open_model(struct soothe_calibrator *cal, const struct soothe__gguf *g,
                                     const struct soothe__gguf *target, const struct soothe_calibrator_params *p,
                                     struct soothe_error *err) {
    const char *kind = soothe__gguf_find_string(g, SOOTHE__KEY_KIND);
    if (!kind || strcmp(kind, "delta") != 0) {
        const enum soothe_status own = cal->by_text ? check_own_vocabulary(g, g, err) : SOOTHE_OK;
        return own != SOOTHE_OK ? own
                                : soothe__calibrator_load_model(cal, g, NULL, cal->by_text ? NULL : target, p, err);
    }
    struct soothe__gguf base   = {0};
    enum soothe_status  status = soothe__gguf_open(&base, p->base_path ? p->base_path : target->path, err);
    if (status == SOOTHE_OK) {
        status = soothe__calibrator_check_base(g, &base, (uint32_t)cal->n_blocks, err);
    }
    if (status == SOOTHE_OK && cal->by_text) {
        status = check_own_vocabulary(g, &base, err);
    }
    if (status == SOOTHE_OK) {
        status = soothe__calibrator_load_model(cal, &base, g, NULL, p, err);
    }
    soothe__gguf_close(&base);
    return status;
}

/* ---- open ------------------------------------------------------------------------------------------ */

static char *copy_string(const struct soothe__gguf *g, const char *key) {
    const char *s = soothe__gguf_find_string(g, key);
    return soothe__strdup(s ? s : "");
}

/* Which matrices are wanted. */
enum matrices { OWN, OF_ALIGNMENT, NONE };

/* A fusion that changes nothing. */
static enum soothe_status bare_fusion(struct soothe__fusion *f, const struct soothe__gguf *g, uint32_t n_blocks,
                                      const struct soothe__gguf *target, struct soothe_error *err) {
    struct soothe__model_facts facts;
    struct soothe__fusion      own    = {0};
    enum soothe_status         status = soothe__model_facts(&facts, target, err);
    if (status == SOOTHE_OK && n_blocks == 0) {
        status =
            soothe__fail(err, SOOTHE_E_ARGUMENT, "calibrator %s has no blocks: it has no states of its own", g->path);
    }
    if (status == SOOTHE_OK) {
        status = soothe__fusion_read(&own, g, true, err);
    }
    soothe__fusion_free(&own);
    if (status == SOOTHE_OK) {
        *f = (struct soothe__fusion){.form = SOOTHE_FORM_RESIDUAL, .d_cal = own.d_cal, .d_tgt = (int32_t)facts.d};
    }
    return status;
}

static enum soothe_status open_matrices(struct soothe_calibrator *cal, const struct soothe__gguf *g,
                                        enum matrices which, const struct soothe__gguf *target,
                                        const struct soothe_calibrator_params *p, struct soothe_error *err) {
    const uint32_t n_blocks = (uint32_t)cal->n_blocks;
    if (which == NONE) {
        return bare_fusion(&cal->fusion, g, n_blocks, target, err);
    }
    if (which == OF_ALIGNMENT) {
        return soothe__alignment_apply(cal, p->alignment_path, g, target, err);
    }
    enum soothe_status status = soothe__fusion_read(&cal->fusion, g, n_blocks > 0, err);
    if (status == SOOTHE_OK && n_blocks > 0) { /* a vocabulary that needs an A is told before a width that lacks one */
        status = compare_vocabularies(cal, g, target, false, err);
    }
    return status ? status : soothe__fusion_check_target(&cal->fusion, g, "calibrator", target, err);
}

static enum soothe_status name_it(struct soothe_calibrator *cal, const struct soothe__gguf *g,
                                  struct soothe_error *err) {
    cal->path      = soothe__strdup(g->path);
    cal->name      = copy_string(g, "general.name");
    cal->base_name = copy_string(g, SOOTHE__KEY_BASE_NAME);
    return cal->path && cal->name && cal->base_name
               ? SOOTHE_OK
               : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening %s", g->path);
}

static enum soothe_status open_into(struct soothe_calibrator *cal, const struct soothe__gguf *g, enum matrices which,
                                    const struct soothe__gguf *target, const struct soothe_calibrator_params *p,
                                    struct soothe_error *err) {
    enum { BLOCKS_MAX = 4096 };
    uint32_t           n_blocks = 0;
    enum soothe_status status   = soothe__calibrator_check(g, err);
    if (status != SOOTHE_OK) {
        return status;
    }
    if (!soothe__gguf_find_u32(g, SOOTHE__KEY_BLOCKS, &n_blocks) || n_blocks > BLOCKS_MAX) {
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s does not say a sensible %s", g->path, SOOTHE__KEY_BLOCKS);
    }
    soothe__gguf_find_f32(g, SOOTHE__KEY_STRENGTH, &cal->default_strength);
    cal->n_blocks = (int32_t)n_blocks;
    status        = name_it(cal, g, err);
    if (status == SOOTHE_OK) {
        status = open_matrices(cal, g, which, target, p, err);
    }
    if (status == SOOTHE_OK && cal->n_blocks > 0 && which != OWN) {
        status = compare_vocabularies(cal, g, target, which == NONE, err);
    }
    if (status == SOOTHE_OK && cal->n_blocks > 0) { /* with an alignment without A there are none */
        status = open_model(cal, g, target, p, err);
    }
    return status;
}

/* An alignment without a calibrator: matrices on the target's own state. */
static enum soothe_status open_alone(struct soothe_calibrator *cal, const struct soothe__gguf *target,
                                     const struct soothe_calibrator_params *p, struct soothe_error *err) {
    struct soothe__gguf g;
    enum soothe_status  status = soothe__gguf_open(&g, p->alignment_path, err);
    if (status == SOOTHE_OK) {
        status = name_it(cal, &g, err);
        if (status == SOOTHE_OK) {
            status = soothe__alignment_apply(cal, p->alignment_path, NULL, target, err);
        }
        soothe__gguf_close(&g);
    }
    return status;
}

static enum soothe_status open_calibrator(struct soothe_calibrator **out, const char *path, enum matrices which,
                                          const char *target_path, const struct soothe_calibrator_params *p,
                                          struct soothe_error *err) {
    struct soothe__gguf       g = {0}, target = {0};
    struct soothe_calibrator *cal    = soothe__calloc(1, sizeof *cal);
    enum soothe_status        status = SOOTHE_OK;
    *out                             = NULL;
    if (!cal) {
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening %s", path ? path : p->alignment_path);
    }
    if (path) {
        status = soothe__gguf_open(&g, path, err);
    }
    if (status == SOOTHE_OK) {
        status = soothe__gguf_open(&target, target_path, err);
    }
    if (status == SOOTHE_OK) {
        status = path ? open_into(cal, &g, which, &target, p, err) : open_alone(cal, &target, p, err);
    }
    if (status == SOOTHE_OK) {
        *out = cal;
        cal  = NULL;
    }
    soothe_calibrator_free(cal);
    soothe__gguf_close(&target);
    soothe__gguf_close(&g);
    return status;
}

enum soothe_status soothe_calibrator_open(struct soothe_calibrator **out, const char *path, const char *target_path,
                                          const struct soothe_calibrator_params *params, struct soothe_error *err) {
    const struct soothe_calibrator_params  defaults = soothe_calibrator_params_default();
    const struct soothe_calibrator_params *p        = params ? params : &defaults;
    if (!path && !p->alignment_path) {
        *out = NULL;
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "neither a calibrator nor an alignment to open");
    }
    return open_calibrator(out, path, p->alignment_path ? OF_ALIGNMENT : OWN, target_path, p, err);
}

enum soothe_status soothe__calibrator_open_blocks(struct soothe_calibrator **out, const char *path,
                                                  const char                            *target_path,
                                                  const struct soothe_calibrator_params *params,
                                                  struct soothe_error                   *err) {
    const struct soothe_calibrator_params defaults = soothe_calibrator_params_default();
    return open_calibrator(out, path, NONE, target_path, params ? params : &defaults, err);
}

void soothe_calibrator_free(struct soothe_calibrator *cal) {
    if (!cal) {
        return;
    }
    llama_model_free(cal->model);
    llama_model_free(cal->vocabulary);
    soothe__file_rows_free(cal->embedding);
    if (cal->memory) {
        fclose(cal->memory);
    }
    soothe__fusion_free(&cal->fusion);
    free(cal->path);
    free(cal->name);
    free(cal->base_name);
    free(cal);
}

struct soothe_calibrator_info soothe_calibrator_info(const struct soothe_calibrator *cal) {
    return (struct soothe_calibrator_info){
        .name             = cal->name,
        .base_name        = cal->base_name,
        .n_blocks         = cal->n_blocks,
        .d_cal            = cal->fusion.d_cal,
        .d_tgt            = cal->fusion.d_tgt,
        .form             = cal->fusion.form,
        .default_strength = cal->default_strength,
        .has_a            = cal->fusion.a != NULL,
        .has_b            = cal->fusion.b != NULL,
        .has_bias         = cal->fusion.bias != NULL,
    };
}
