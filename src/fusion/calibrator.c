/* SPDX-License-Identifier: Apache-2.0
 * Opening a calibrator for a target: checks that they belong together, lays a delta over its
 * base, and gives the engine the resulting model as a file in memory. */
#ifdef __linux__
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create */
#endif
#include <sys/mman.h>
#include <unistd.h>
#endif
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusion/alignment_file.h"
#include "fusion/calibrator_file.h"
#include "fusion/fusion.h"
#include "fusion/vocabulary_check.h"

struct soothe_calibrator_params soothe_calibrator_params_default(void) {
    return (struct soothe_calibrator_params){.base_path = NULL, .block_type = GGML_TYPE_Q4_0};
}

/* ---- does it fit? ------------------------------------------------------------------------------ */

/* Does it split text as the target does? If not, it follows the target's text (docs/fusion.md). bare: no matrix is
 * wanted, only its states. */
static enum soothe_status compare_vocabularies(struct soothe_calibrator *cal, const struct soothe__gguf *g,
                                               const struct soothe__gguf *target, bool bare,
                                               struct soothe_error *err) {
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

/* The engine never computes the calibrator's head, but some architectures cannot load without one. */
static bool head_is_optional(const char *architecture) {
    static const char *const names[] = {"llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(architecture, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_wide_type(enum ggml_type type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16;
}

/* Adds one tensor: as it is in from, or with the delta's values added, or in a smaller data type. */
static enum soothe_status plan_tensor(struct soothe__gguf_plan *plan, const struct soothe__gguf *from, int64_t i,
                                      const struct soothe__gguf *delta, const struct soothe_calibrator_params *p,
                                      struct soothe_error *err) {
    const char    *name    = gguf_get_tensor_name(from->meta, i);
    const int64_t *ne      = gguf_get_tensor_ne(from->meta, i);
    const int64_t  i_delta = delta ? gguf_find_tensor(delta->meta, name) : -1;
    const bool     matrix  = ne[1] > 1 && ne[2] == 1 && ne[3] == 1;
    const bool     shrink  = !p->keep_type && matrix && soothe__block_of_tensor(name) >= 0 &&
                        is_wide_type(gguf_get_tensor_type(from->meta, i)) && !is_wide_type(p->block_type);
    if (i_delta < 0 && !shrink) {
        return soothe__gguf_plan_copy(plan, from, i, err);
    }
    const int64_t      n      = soothe__gguf_n_elements(from, i);
    float             *values = NULL, *change = NULL;
    enum soothe_status status = soothe__gguf_read_f32(from, i, &values, err);
    if (status == SOOTHE_OK && i_delta >= 0) {
        status = soothe__gguf_get_f32(delta, name, n, &change, err);
    }
    for (int64_t k = 0; k < n && status == SOOTHE_OK && change; k++) {
        values[k] += change[k];
    }
    if (status == SOOTHE_OK) {
        const enum ggml_type type = !matrix ? GGML_TYPE_F32 : p->keep_type ? GGML_TYPE_F32 : p->block_type;
        status                    = soothe__gguf_plan_add(plan, name, values, matrix ? 2 : 1, ne, type, err);
    }
    free(values);
    free(change);
    return status;
}

static enum soothe_status check_copied(const struct soothe__gguf *g, int64_t i, struct soothe_error *err) {
    const size_t       size   = gguf_get_tensor_size(g->meta, i);
    void              *data   = soothe__calloc(size ? size : 1, 1);
    enum soothe_status status = data ? soothe__gguf_read(g, i, 0, data, size, err)
                                     : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory checking %s", g->path);
    if (status == SOOTHE_OK && !ggml_validate_row_data(gguf_get_tensor_type(g->meta, i), data, size)) {
        status = soothe__fail(err, SOOTHE_E_NUMERIC, "tensor %s of %s holds values that are not finite",
                              gguf_get_tensor_name(g->meta, i), g->path);
    }
    free(data);
    return status;
}

/* Puts the target's vocabulary in the place of the file's own: they are the same where the file is honest, and
 * the engine, which trusts the arrays of a vocabulary, has read the target's already. */
static enum soothe_status take_vocabulary(struct gguf_context *meta, const struct soothe__gguf *target,
                                          struct soothe_error *err) {
    struct gguf_context *vocabulary = gguf_init_empty();
    if (!vocabulary) {
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the vocabulary of %s", target->path);
    }
    for (int64_t i = gguf_get_n_kv(meta); i-- > 0;) {
        if (strncmp(gguf_get_key(meta, i), "tokenizer.", 10) == 0) {
            gguf_remove_key(meta, gguf_get_key(meta, i));
        }
    }
    gguf_set_kv(vocabulary, target->meta);
    for (int64_t i = gguf_get_n_kv(vocabulary); i-- > 0;) {
        if (strncmp(gguf_get_key(vocabulary, i), "tokenizer.", 10) != 0) {
            gguf_remove_key(vocabulary, gguf_get_key(vocabulary, i));
        }
    }
    gguf_set_kv(meta, vocabulary);
    gguf_free(vocabulary);
    return SOOTHE_OK;
}

static enum soothe_status plan_model(struct soothe__gguf_plan *plan, const struct soothe__gguf *from,
                                     const struct soothe__gguf *delta, uint32_t n_blocks,
                                     const struct soothe_calibrator_params *p, struct soothe_error *err) {
    struct soothe__model_facts facts;
    enum soothe_status         status = soothe__model_facts(&facts, from, err);
    if (status == SOOTHE_OK) {
        status = soothe__gguf_plan_cut_metadata(plan, from, n_blocks, err);
    }
    const bool    skip_head = status == SOOTHE_OK && head_is_optional(facts.architecture);
    const int64_t n         = gguf_get_n_tensors(from->meta);
    for (int64_t i = 0; i < n && status == SOOTHE_OK; i++) {
        const char *name = gguf_get_tensor_name(from->meta, i);
        if (strncmp(name, "soothe.", 7) == 0 || soothe__block_of_tensor(name) >= (int32_t)n_blocks ||
            (skip_head && strcmp(name, "output.weight") == 0)) {
            continue;
        }
        status = check_copied(from, i, err);
        if (status == SOOTHE_OK) {
            status = plan_tensor(plan, from, i, delta, p, err);
        }
    }
    return status;
}

static FILE *memory_file(void) {
#ifdef __linux__
    const int fd = memfd_create("soothe-calibrator", MFD_CLOEXEC);
    if (fd >= 0) {
        FILE *stream = fdopen(fd, "w+b");
        if (!stream) {
            close(fd);
        }
        return stream;
    }
#endif
    return tmpfile();
}

/* from: the model's tensors and metadata; delta is added to it; vocabulary takes the place of its own. Both may
 * be NULL. */
static enum soothe_status load_model(struct soothe_calibrator *cal, const struct soothe__gguf *from,
                                     const struct soothe__gguf *delta, const struct soothe__gguf *vocabulary,
                                     const struct soothe_calibrator_params *p, struct soothe_error *err) {
    struct soothe__gguf_plan plan;
    enum soothe_status       status = soothe__gguf_plan_new(&plan, (size_t)gguf_get_n_tensors(from->meta), err);
    if (status != SOOTHE_OK) {
        return status;
    }
    status = plan_model(&plan, from, delta, (uint32_t)cal->n_blocks, p, err);
    if (status == SOOTHE_OK && vocabulary) {
        status = take_vocabulary(plan.meta, vocabulary, err);
    }
    if (status != SOOTHE_OK) {
        goto done;
    }
    cal->memory = memory_file();
    if (!cal->memory) {
        status = soothe__fail(err, SOOTHE_E_IO, "cannot make a file in memory: %s", strerror(errno));
        goto done;
    }
    status = soothe__gguf_plan_write(&plan, cal->memory, "the calibrator in memory", err);
    if (status != SOOTHE_OK) {
        goto done;
    }
    rewind(cal->memory);
    struct llama_model_params mp = llama_model_default_params();
    mp.n_gpu_layers              = p->n_gpu_layers;
    cal->model                   = llama_model_load_from_file_ptr(cal->memory, mp);
    if (!cal->model) {
        status = soothe__fail(err, SOOTHE_E_ENGINE, "the engine cannot load the blocks of calibrator %s", cal->path);
    } else if (llama_model_n_embd(cal->model) != cal->fusion.d_cal) {
        status = soothe__fail(err, SOOTHE_E_SHAPE, "the blocks of calibrator %s have width %d, its metadata says %d",
                              cal->path, llama_model_n_embd(cal->model), cal->fusion.d_cal);
    }
done:
    soothe__gguf_plan_free(&plan);
    return status;
}

static enum soothe_status open_model(struct soothe_calibrator *cal, const struct soothe__gguf *g,
                                     const struct soothe__gguf *target, const struct soothe_calibrator_params *p,
                                     struct soothe_error *err) {
    const char *kind = soothe__gguf_find_string(g, SOOTHE__KEY_KIND);
    if (!kind || strcmp(kind, "delta") != 0) {
        const enum soothe_status own = cal->by_text ? check_own_vocabulary(g, g, err) : SOOTHE_OK;
        return own != SOOTHE_OK ? own : load_model(cal, g, NULL, cal->by_text ? NULL : target, p, err);
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
        status = load_model(cal, &base, g, NULL, p, err);
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
