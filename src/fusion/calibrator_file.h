/* SPDX-License-Identifier: Apache-2.0
 * The calibrator's file: keys, and the one function that writes it (docs/format.md). */
#ifndef SOOTHE_CALIBRATOR_FILE_H
#define SOOTHE_CALIBRATOR_FILE_H

#include "engine/engine.h"

#define SOOTHE__CALIBRATOR_TYPE "soothe-calibrator" /* general.type */
#define SOOTHE__FORMAT_VERSION 1
#define SOOTHE__KEY_VERSION "soothe.format_version"
#define SOOTHE__KEY_TOOL "soothe.tool.version"
#define SOOTHE__KEY_KIND "soothe.calibrator.kind" /* "full", "delta" or "matrix" (0 blocks) */
#define SOOTHE__KEY_FORM "soothe.calibrator.form" /* "paper" or "residual" */
#define SOOTHE__KEY_BLOCKS "soothe.calibrator.block_count"
#define SOOTHE__KEY_D_CAL "soothe.calibrator.d_cal"
#define SOOTHE__KEY_D_TGT "soothe.calibrator.d_tgt"
#define SOOTHE__KEY_STRENGTH "soothe.calibrator.strength"
#define SOOTHE__KEY_LAYER_NORM "soothe.calibrator.layer_norm" /* paper form with A: LN(A^T h_c) */
#define SOOTHE__KEY_STATE_NORM "soothe.calibrator.state_norm" /* LN's output is scaled to this norm; 0: not */
#define SOOTHE__KEY_BASE_NAME "soothe.base.name"
#define SOOTHE__KEY_BASE_CUT "soothe.base.cut_sha256" /* soothe__cut_hash of the base          */
#define SOOTHE__KEY_BASE_TOKENIZER "soothe.base.tokenizer_sha256"
#define SOOTHE__KEY_TARGET_NAME "soothe.target.name"
#define SOOTHE__KEY_TARGET "soothe.target.fingerprint" /* soothe__model_fingerprint; with A, B or bias */
#define SOOTHE__TENSOR_A "soothe.a.weight"             /* ne = {d_tgt, d_cal}: row-major (d_cal, d_tgt) */
#define SOOTHE__TENSOR_B "soothe.b.weight"             /* ne = {d_tgt, d_tgt}: row-major (d_tgt, d_tgt) */
#define SOOTHE__TENSOR_BIAS "soothe.bias"              /* ne = {d_tgt} */

struct soothe__named_values { /* replaces a tensor of the source, same shape */
    const char  *name;        /* "blk.0.attn_q.weight" */
    const float *values;
};

struct soothe__calibrator_spec {
    const char      *name;
    const char      *source_path; /* calibrator in full form whose tensors are taken over; NULL for 0 blocks */
    const char      *target_path; /* the model whose states A, B and bias were fitted to */
    enum soothe_form form;
    float            strength;
    bool             layer_norm;
    float            state_norm;
    int32_t          d_cal; /* 0 without blocks */
    int32_t          d_tgt;
    const float     *a;    /* (d_cal, d_tgt) or NULL */
    const float     *b;    /* (d_tgt, d_tgt) or NULL */
    const float     *bias; /* (d_tgt) or NULL */
    size_t           n_replaced;
    const struct soothe__named_values *replaced;
    enum ggml_type                     block_type;  /* of replaced matrices: F32 or F16; replaced vectors stay F32 */
    enum ggml_type                     matrix_type; /* of A and B: F32 or F16 */
    size_t                             n_facts;
    const struct soothe__fact         *facts;
};

/* Writes the spec as a calibrator: kind "full" with a source, "matrix" without. */
enum soothe_status soothe__calibrator_write(const char *out_path, const struct soothe__calibrator_spec *spec,
                                            struct soothe_error *err);

/* Parts of a file that calibrators and alignments have in common: */
enum soothe_status soothe__set_target_keys(struct gguf_context *meta, const char *target_path,
                                           struct soothe_error *err);
enum soothe_status soothe__plan_fusion(struct soothe__gguf_plan *plan, const float *a, const float *b,
                                       const float *bias, int64_t d_cal, int64_t d_tgt, enum ggml_type type,
                                       struct soothe_error *err);

/* Is g a calibrator of a format that this version reads? */
enum soothe_status soothe__calibrator_check(const struct soothe__gguf *g, struct soothe_error *err);
/* Is base the model that the calibrator was cut from?  errors  SOOTHE_E_MISMATCH, naming both */
enum soothe_status soothe__calibrator_check_base(const struct soothe__gguf *cal, const struct soothe__gguf *base,
                                                 uint32_t n_blocks, struct soothe_error *err);

#endif /* SOOTHE_CALIBRATOR_FILE_H */
