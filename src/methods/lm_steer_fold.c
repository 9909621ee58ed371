/* SPDX-License-Identifier: Apache-2.0
 * LM-Steer folded into the output head. A tied model has no head of its own: llama.cpp takes the embedding where there
 * is no output.weight, so one is added and the embedding stays as the input's. Legend: E (V, d) the head, B (d, d). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tensor_rows.h"
#include "fusion/fusion.h"
#include "methods/lm_steer.h"

static const char HEAD[] = "output.weight", EMBEDDING[] = "token_embd.weight";

struct fold {
    struct soothe__fusion transposed; /* as the method's, with B^T: what fuses a state then steers a row of E */
    float                 strength;
    double                moved, size; /* squares of what is added, and of E */
};

/* ---- rows ------------------------------------------------------------------------------------------------------ */

static enum soothe_status steer_rows(void *user, int64_t first, int64_t n_rows, int64_t ne0, float *values,
                                     bool *changed, struct soothe_error *err) {
    struct fold *f     = user;
    double       moved = 0, size = 0;
    float       *old = soothe__calloc((size_t)n_rows, 2 * (size_t)ne0 * sizeof *old), *scratch = old + n_rows * ne0;
    (void)first;
    if (!old)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %lld rows of the head", (long long)n_rows);
    memcpy(old, values, (size_t)(n_rows * ne0) * sizeof *old);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < n_rows; r++)
        soothe__fuse_row(&f->transposed, values + r * ne0, NULL, f->strength, scratch + r * ne0);
    for (int64_t i = 0; i < n_rows * ne0; i++) {
        moved += pow((double)values[i] - (double)old[i], 2);
        size += (double)old[i] * (double)old[i];
    }
    for (int64_t r = 0; r < n_rows; r++)
        changed[r] = true;
    f->moved += moved;
    f->size += size;
    free(old);
    return SOOTHE_OK;
}

/* ---- may it be folded? ------------------------------------------------------------------------------------------- */

static enum soothe_status check_matrix(const struct soothe_calibrator *cal, struct soothe_error *err) {
    const struct soothe__fusion *f   = &cal->fusion;
    const char                  *why = cal->n_blocks > 0 ? "has blocks of its own, which must run beside the model"
                                       : f->form != SOOTHE_FORM_RESIDUAL ? "has the paper's form, which mixes states"
                                       : f->bias                         ? "has a bias besides its matrix"
                                       : !f->b                           ? "has no matrix on the final state"
                                                                         : NULL;
    return why ? soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s %s: no output head can hold that", cal->path, why)
               : SOOTHE_OK;
}

static enum soothe_status transpose(struct soothe__fusion *out, const struct soothe__fusion *f,
                                    struct soothe_error *err) {
    const int32_t d = f->d_tgt;
    *out            = (struct soothe__fusion){.form = SOOTHE_FORM_RESIDUAL, .d_tgt = d};
    out->b          = soothe__calloc((size_t)d, (size_t)d * sizeof *out->b);
    if (!out->b)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a matrix of %d by %d", d, d);
    for (int32_t i = 0; i < d; i++)
        for (int32_t j = 0; j < d; j++)
            out->b[(size_t)j * (size_t)d + (size_t)i] = f->b[(size_t)i * (size_t)d + (size_t)j];
    return SOOTHE_OK;
}

/* Looks at the head of the model: fills the report. */
static enum soothe_status find_head(struct soothe__fold_report *r, enum ggml_type *type,
                                    const struct soothe__fold_options *o, int32_t d, struct soothe_error *err) {
    struct soothe__gguf g;
    enum soothe_status  status = soothe__gguf_open(&g, o->model_path, err);
    if (status)
        return status;
    r->added        = gguf_find_tensor(g.meta, HEAD) < 0;
    r->from         = r->added ? EMBEDDING : HEAD;
    const int64_t i = gguf_find_tensor(g.meta, r->from);
    if (i < 0)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s has neither %s nor %s", g.path, HEAD, EMBEDDING);
    else if (gguf_get_tensor_ne(g.meta, i)[0] != d)
        status = soothe__fail(err, SOOTHE_E_SHAPE, "the head %s of %s has rows of %lld numbers, not of %d", r->from,
                              g.path, (long long)gguf_get_tensor_ne(g.meta, i)[0], d);
    if (!status) {
        const enum ggml_type own    = gguf_get_tensor_type(g.meta, i);
        const bool           is_own = !o->type || strcmp(o->type, "own") == 0;
        *type                       = is_own ? own : soothe__type_by_name(o->type);
        r->n_rows                   = gguf_get_tensor_ne(g.meta, i)[1];
        r->d                        = d;
        if (*type == GGML_TYPE_COUNT)
            status = soothe__fail(err, SOOTHE_E_ARGUMENT, "there is no data type \"%s\": own, q8_0, f16 …", o->type);
        else
            snprintf(r->type, sizeof r->type, "%s", ggml_type_name(*type));
        snprintf(r->type_before, sizeof r->type_before, "%s", ggml_type_name(own));
    }
    soothe__gguf_close(&g);
    return status;
}

/* ---- writing ------------------------------------------------------------------------------------------------------
 */

static enum soothe_status write_model(struct fold *f, const struct soothe__fold_options *o,
                                      const struct soothe__fold_report *r, enum ggml_type type, const char *steer_path,
                                      struct soothe_error *err) {
    char               hex[65], alignment[65] = "";
    enum soothe_status status = soothe__sha256_file(hex, steer_path, err);
    if (!status && o->alignment_path)
        status = soothe__sha256_file(alignment, o->alignment_path, err);
    if (status)
        return status;
    const struct soothe__fact        facts[] = {{"steer_sha256", hex, 0},
                                                {"alignment_sha256", alignment, 0},
                                                {"strength", NULL, (double)f->strength},
                                                {"type", r->type, 0},
                                                {"type_before", r->type_before, 0}};
    const struct soothe__edit_record record  = {"lm-steer", facts, sizeof facts / sizeof *facts};
    const struct soothe__new_tensor  head    = {HEAD, {r->from, steer_rows, f}, type};
    return f->strength == 0.0f ? soothe__edit_gguf(o->model_path, o->out_path, NULL, 0, &record, err)
                               : soothe__edit_anew(o->model_path, o->out_path, &head, &record, err);
}

enum soothe_status soothe__lm_steer_fold(const struct soothe__fold_options *o, struct soothe__fold_report *report,
                                         struct soothe_error *err) {
    const struct soothe__calibrator_source source =
        soothe__lm_steer_source(o->steer_path, o->alignment_path, "--steer FILE");
    struct soothe_calibrator *cal  = NULL;
    struct fold               f    = {.strength = o->strength};
    enum ggml_type            type = GGML_TYPE_COUNT;
    *report                        = (struct soothe__fold_report){.from = NULL};
    enum soothe_status status      = soothe__calibrator_source_open(&cal, &source, o->model_path, err);
    if (!status)
        status = check_matrix(cal, err);
    if (!status && isnan(f.strength))
        f.strength = cal->default_strength;
    if (!status && !isfinite(f.strength))
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "a strength of %g", (double)f.strength);
    if (!status)
        status = find_head(report, &type, o, cal->fusion.d_tgt, err);
    if (!status)
        status = transpose(&f.transposed, &cal->fusion, err);
    if (!status)
        status = write_model(&f, o, report, type, cal->path, err);
    report->added    = report->added && f.strength != 0.0f;
    report->strength = f.strength;
    report->change   = f.size > 0 ? sqrt(f.moved / f.size) : 0;
    soothe__fusion_free(&f.transposed);
    soothe_calibrator_free(cal);
    return status;
}
