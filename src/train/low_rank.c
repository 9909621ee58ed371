/* SPDX-License-Identifier: Apache-2.0
 * LM-Steer's term in training: h_f = h_t + s e P1 P2^T h_t with s = -1 at rejected rows, +1 elsewhere; r columns.
 * Its way back, with G the rows' gradient (R, d) and u = s e h_t P2 (R, r):
 *   dP1 = G^T u,   du = s e G P1,   dP2 = h_t^T du
 * Source: Han et al., "Word Embeddings Are Steers for Language Models", ACL 2024. */
#include <stdlib.h>

#include "train/kernels.h"
#include "train/train_pass.h"

void soothe__low_rank_start(struct soothe__train_core *core, uint64_t seed) {
    struct soothe__rng rng = soothe__rng_seed(seed, 3);
    for (size_t i = core->fusion_from; i < core->n_parameters; i++)
        core->parameters[i] = (float)(1e-2 * soothe__rng_normal(&rng));
}

float *soothe__low_rank_matrix(const struct soothe__train_core *core) {
    const size_t d = (size_t)core->shape.d_tgt, r = (size_t)core->options.rank;
    float       *b = soothe__calloc(d * d, sizeof *b);
    for (size_t i = 0; i < d && b; i++)
        for (size_t j = 0; j < d; j++)
            b[i * d + j] = core->options.epsilon *
                           soothe__dot(core->parameters + core->p2 + i * r, core->parameters + core->p1 + j * r, r);
    return b;
}

static int32_t padded_rows(const struct soothe__train_batch *batch) {
    return (batch->n_rows + SOOTHE__ROWS_STEP - 1) / SOOTHE__ROWS_STEP * SOOTHE__ROWS_STEP;
}

/* u times s e, and as an operand. */
static void scale_u(struct soothe__train_core *core, const struct soothe__train_batch *batch) {
    const int32_t r = core->options.rank;
    for (int32_t i = 0; i < batch->n_rows; i++) {
        const bool  other = core->for_gradient && batch->rows[i].kind == SOOTHE__ROW_REJECTED;
        const float by    = other ? -core->options.epsilon : core->options.epsilon;
        for (int32_t k = 0; k < r; k++)
            core->u[(size_t)i * (size_t)r + (size_t)k] *= by;
    }
    soothe__pass_put_rows(core, core->u_operand, core->u, batch->n_rows, r);
}

/* u = x P, for the parameter P (d, r) at offset. */
static enum soothe_status into_u(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                 const void *x, size_t offset, struct soothe_error *err) {
    const int32_t      d = core->shape.d_tgt, r = core->options.rank;
    const void        *p;
    void              *scratch;
    enum soothe_status status = soothe__pass_weight(core, offset, (size_t)d * (size_t)r, &p, &scratch, err);
    if (!status)
        status = soothe__gemm_run(core->gemm, false, false, padded_rows(batch), r, d, x, p, core->u, false, err);
    free(scratch);
    if (!status)
        scale_u(core, batch);
    return status;
}

enum soothe_status soothe__low_rank_forward(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                            struct soothe_error *err) {
    const int32_t      d = core->shape.d_tgt, r = core->options.rank;
    const void        *p1;
    void              *scratch = NULL;
    enum soothe_status status  = into_u(core, batch, core->h_t_operand, core->p2, err);
    if (!status)
        status = soothe__pass_weight(core, core->p1, (size_t)d * (size_t)r, &p1, &scratch, err);
    if (!status)
        status = soothe__gemm_run(core->gemm, false, true, padded_rows(batch), d, r, core->u_operand, p1, core->h_f,
                                  true, err);
    free(scratch);
    return status;
}

enum soothe_status soothe__low_rank_backward(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                             struct soothe_error *err) {
    const int32_t      d = core->shape.d_tgt, r = core->options.rank, rows = padded_rows(batch);
    enum soothe_status status = soothe__gemm_run(core->gemm, true, false, d, r, rows, core->h_operand, core->u_operand,
                                                 core->gradients + core->p1, true, err);
    if (!status)
        status = into_u(core, batch, core->h_operand, core->p1, err);
    if (!status)
        status = soothe__gemm_run(core->gemm, true, false, d, r, rows, core->h_t_operand, core->u_operand,
                                  core->gradients + core->p2, true, err);
    return status;
}
