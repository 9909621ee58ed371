/* SPDX-License-Identifier: Apache-2.0
 * One pass over a batch: blocks, fusion, head; the two objectives; and the way back. */
#include "train/train_pass.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sigmoid.h"
#include "train/kernels.h"

/* Learns A, B and the bias. */
static inline bool is_fused(const struct soothe__train_core *core) {
    return core->options.objective == SOOTHE__PREFERENCE || core->options.objective == SOOTHE__FUSED;
}

static inline bool has_a(const struct soothe__train_core *core) {
    return is_fused(core) && core->options.a && (core->blocks || core->options.given_states);
}

static inline bool has_b(const struct soothe__train_core *core) {
    return is_fused(core) && core->options.b;
}

static inline bool has_bias(const struct soothe__train_core *core) {
    return is_fused(core) && core->options.bias;
}

/* ---- forward -------------------------------------------------------------------------------------------- */

static int32_t padded_to(int32_t n, int32_t step) {
    return (n + step - 1) / step * step;
}

static int32_t padded_rows(const struct soothe__train_batch *batch) {
    return padded_to(batch->n_rows, SOOTHE__ROWS_STEP);
}

/* Row i of an operand (R, width). */
static void put_row(const struct soothe__train_core *core, void *operand, const float *x, int32_t i, int32_t width) {
    const size_t n = (size_t)width, at = (size_t)i * n;
    if (core->bf16)
        soothe__to_bf16((uint16_t *)operand + at, x, n);
    else
        memcpy((float *)operand + at, x, n * sizeof *x);
}

static void zero_padding(const struct soothe__train_core *core, void *operand, int32_t n_rows, int32_t width) {
    const size_t  row = (size_t)width * (core->bf16 ? sizeof(uint16_t) : sizeof(float));
    const int32_t end = padded_to(n_rows, SOOTHE__HEAD_ROWS);
    memset((char *)operand + (size_t)n_rows * row, 0, (size_t)(end - n_rows) * row);
}

void        soothe__pass_put_rows(const struct soothe__train_core *core, void *operand, const float *x, int32_t n,
                                  int32_t width) {
#pragma omp parallel for schedule(static)
    for (int32_t i = 0; i < n; i++)
        put_row(core, operand, x + (size_t)i * (size_t)width, i, width);
    zero_padding(core, operand, n, width);
}

enum soothe_status soothe__pass_weight(const struct soothe__train_core *core, size_t offset, size_t n,
                                       const void **operand, void **scratch, struct soothe_error *err) {
    *scratch = core->bf16 ? soothe__calloc(n, sizeof(uint16_t)) : NULL;
    *operand = core->bf16 ? *scratch : core->parameters + offset;
    if (!*operand)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for training");
    if (core->bf16)
        soothe__to_bf16(*scratch, core->parameters + offset, n);
    return SOOTHE_OK;
}

/* h_f += x M with the operand x (R, n_in) and the parameter M (n_in, d_tgt). */
static enum soothe_status add_product(struct soothe__train_core *core, const void *x, size_t offset, int32_t n_in,
                                      int32_t n_rows, struct soothe_error *err) {
    const size_t       n = (size_t)n_in * (size_t)core->shape.d_tgt;
    const void        *weight;
    void              *scratch;
    enum soothe_status status = soothe__pass_weight(core, offset, n, &weight, &scratch, err);
    if (!status)
        status = soothe__gemm_run(core->gemm, false, false, n_rows, core->shape.d_tgt, n_in, x, weight, core->h_f, true,
                                  err);
    free(scratch);
    return status;
}

/* The rows' states h_c as an operand. */
static void gather_states(struct soothe__train_core *core, const struct soothe__train_batch *batch, const float *h_c) {
    const int32_t d = core->shape.d_cal;
#pragma omp parallel for schedule(static)
    for (int32_t i = 0; i < batch->n_rows; i++)
        put_row(core, core->h_c_operand, h_c + (size_t)batch->rows[i].position * (size_t)d, i, d);
    zero_padding(core, core->h_c_operand, batch->n_rows, d);
}

/* The same of states that came with the batch; h_f is free yet. */
static void take_states(struct soothe__train_core *core, const struct soothe__train_batch *batch) {
    const int32_t d = core->shape.d_cal;
    float         row[d];
    for (int32_t i = 0; i < batch->n_rows; i++) {
        soothe__from_bf16(row, batch->h_c + (size_t)i * (size_t)d, (size_t)d);
        put_row(core, core->h_c_operand, row, i, d);
    }
    zero_padding(core, core->h_c_operand, batch->n_rows, d);
}

/* The reference's states as an operand; h_f holds them, too. */
static void take_reference(struct soothe__train_core *core, const struct soothe__train_batch *batch) {
    const int32_t d = core->shape.d_tgt;
    soothe__from_bf16(core->h_f, batch->h_t, (size_t)batch->n_rows * (size_t)d);
    soothe__pass_put_rows(core, core->h_t_operand, core->h_f, batch->n_rows, d);
}

/* h_f = h_t + A^T h_c + B^T h_t + b, or h_t +- e P1 P2^T h_t. */
static enum soothe_status fuse(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                               struct soothe_error *err) {
    const int32_t      d = core->shape.d_tgt, n = batch->n_rows;
    const size_t       width  = (size_t)d;
    enum soothe_status status = SOOTHE_OK;
    take_reference(core, batch);
    if (has_a(core))
        status = add_product(core, core->h_c_operand, core->a, core->shape.d_cal, padded_rows(batch), err);
    if (!status && has_b(core))
        status = add_product(core, core->h_t_operand, core->b, d, padded_rows(batch), err);
    if (!status && core->options.objective == SOOTHE__LM_STEER)
        status = soothe__low_rank_forward(core, batch, err);
    for (int32_t i = 0; i < n && has_bias(core); i++)
        soothe__add_scaled(core->h_f + (size_t)i * width, core->parameters + core->bias, 1.0f, width);
    soothe__pass_put_rows(core, core->h_operand, core->h_f, n, d);
    return status;
}

/* Which rows need what of the reference. */
static void mark_rows(struct soothe__train_core *core, const struct soothe__train_batch *batch, bool reference,
                      bool gradient, bool kl_of_all) {
    /* the plain model's likelihoods are wanted too */
    const bool plain = reference && (is_fused(core) || soothe__is_preference(core) || !gradient);
    const bool kl    = soothe__is_preference(core) || core->options.objective == SOOTHE__WEIGHTED || !gradient;
    for (int32_t i = 0; i < batch->n_rows; i++) {
        core->next[i]          = batch->rows[i].next;
        core->diverge[i]       = reference && (kl_of_all || (kl && batch->rows[i].kind == SOOTHE__ROW_KL));
        core->log_p_t[i]       = batch->log_p_t ? batch->log_p_t[i] : NAN;
        core->needs_log_p_t[i] = plain && isnan(core->log_p_t[i]);
        core->kl[i]            = 0.0f;
    }
}

enum soothe_status soothe__pass_forward(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                        bool gradient, bool kl_of_all, struct soothe_error *err) {
    const bool         direct    = soothe__is_direct(core->options.objective);
    const bool         reference = core->options.objective != SOOTHE__PAPER && batch->h_t;
    const float       *h_c       = NULL;
    enum soothe_status status    = SOOTHE_OK;
    core->for_gradient           = gradient;
    if (core->blocks)
        status = soothe__blocks_forward(core->blocks, core->parameters, batch, &h_c, err);
    if (status)
        return status;
    if (h_c)
        gather_states(core, batch, h_c);
    if (has_a(core) && core->options.given_states)
        take_states(core, batch);
    if (!direct)
        status = fuse(core, batch, err);
    else if (reference)
        take_reference(core, batch);
    if (status)
        return status;
    mark_rows(core, batch, reference, gradient, kl_of_all);
    const struct soothe__head_rows rows = {.n             = batch->n_rows,
                                           .h             = direct ? core->h_c_operand : core->h_operand,
                                           .h_t           = core->h_t_operand,
                                           .next          = core->next,
                                           .diverge       = core->diverge,
                                           .needs_log_p_t = core->needs_log_p_t,
                                           .log_p         = core->log_p,
                                           .log_p_t       = core->log_p_t,
                                           .kl            = core->kl,
                                           .g             = gradient ? core->g : NULL,
                                           .soften        = batch->soften,
                                           .soften_user   = batch->soften_user};
    status                              = soothe__head_run(core->head, &rows, err);
    if (!status && batch->log_p_t)
        memcpy(batch->log_p_t, core->log_p_t, (size_t)batch->n_rows * sizeof *batch->log_p_t);
    return status;
}

/* ---- objectives ------------------------------------------------------------------------------------------- */

/* The loss, and in scale what each row's g counts for in its gradient. */
static void preference_loss(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                            struct soothe__train_result *r) {
    const double kappa = core->options.kappa, lambda = core->options.lambda;
    int32_t      n_kl = 0;
    memset(core->margins, 0, (size_t)batch->n_pairs * sizeof *core->margins);
    for (int32_t i = 0; i < batch->n_rows; i++) {
        const struct soothe__train_row *row   = &batch->rows[i];
        const double                    ratio = (double)core->log_p[i] - (double)core->log_p_t[i];
        if (row->kind == SOOTHE__ROW_CHOSEN)
            core->margins[row->i_pair] += ratio;
        else if (row->kind == SOOTHE__ROW_REJECTED)
            core->margins[row->i_pair] -= ratio;
        else if (row->kind == SOOTHE__ROW_KL) {
            r->kl += (double)core->kl[i];
            n_kl++;
        }
    }
    r->kl /= n_kl ? n_kl : 1;
    for (int32_t i = 0; i < batch->n_pairs; i++) {
        r->preference += soothe__softplus(-kappa * core->margins[i]) / batch->n_pairs;
        r->n_pairs_right += core->margins[i] > 0;
    }
    r->loss = r->preference + lambda * r->kl;
    for (int32_t i = 0; i < batch->n_rows; i++) {
        const struct soothe__train_row *row  = &batch->rows[i];
        double                          pull = 0; /* of a pair's rows: -dloss/dS(y+) */
        if (row->kind == SOOTHE__ROW_CHOSEN || row->kind == SOOTHE__ROW_REJECTED)
            pull = kappa * soothe__sigmoid(-kappa * core->margins[row->i_pair]) / batch->n_pairs;
        core->scale[i] = (float)(row->kind == SOOTHE__ROW_CHOSEN     ? pull
                                 : row->kind == SOOTHE__ROW_REJECTED ? -pull
                                 : row->kind == SOOTHE__ROW_KL       ? lambda / n_kl
                                                                     : 0.0);
    }
}

/* Sum of w l, or whatever the batch makes of the rows' l. */
static void weighted_loss(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                          struct soothe__train_result *r) {
    int32_t n_kl = 0;
    for (int32_t i = 0; i < batch->n_rows; i++) {
        core->scale[i] = batch->row_weight ? batch->row_weight[i] : 1.0f / (float)batch->n_rows;
        r->kl += core->diverge[i] ? (double)core->kl[i] : 0.0;
        n_kl += core->diverge[i];
    }
    r->kl /= n_kl ? n_kl : 1;
    if (batch->weigh)
        r->loss = batch->weigh(batch->weigh_user, batch, core->log_p, core->kl, core->scale);
    for (int32_t i = 0; i < batch->n_rows && !batch->weigh; i++)
        r->loss += (double)core->scale[i] *
                   (batch->rows[i].kind == SOOTHE__ROW_KL ? (double)core->kl[i] : -(double)core->log_p[i]);
}

struct soothe__train_result soothe__pass_loss(struct soothe__train_core        *core,
                                              const struct soothe__train_batch *batch) {
    struct soothe__train_result r = {0};
    for (int32_t i = 0; i < batch->n_rows; i++)
        r.nll -= (double)core->log_p[i] / batch->n_rows;
    if (core->options.objective == SOOTHE__WEIGHTED) {
        weighted_loss(core, batch, &r);
        return r;
    }
    if (soothe__is_preference(core) || (core->options.objective == SOOTHE__LM_STEER && !core->for_gradient)) {
        preference_loss(core, batch, &r);
        return r;
    }
    r.loss = r.nll;
    for (int32_t i = 0; i < batch->n_rows; i++)
        core->scale[i] = 1.0f / (float)batch->n_rows;
    return r;
}

/* ---- backward ----------------------------------------------------------------------------------------------- */

/* Gradients of A, B, bias, and dh_c_rows, from the scaled rows of g, whose operand is in h_operand. */
static enum soothe_status fusion_backward(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                          struct soothe_error *err) {
    const int32_t      d = core->shape.d_tgt, d_cal = core->shape.d_cal, rows = padded_rows(batch);
    float             *gradients = core->gradients;
    enum soothe_status status    = SOOTHE_OK;
    if (has_a(core))
        status = soothe__gemm_run(core->gemm, true, false, d_cal, d, rows, core->h_c_operand, core->h_operand,
                                  gradients + core->a, true, err);
    if (!status && has_b(core))
        status = soothe__gemm_run(core->gemm, true, false, d, d, rows, core->h_t_operand, core->h_operand,
                                  gradients + core->b, true, err);
    for (int32_t i = 0; i < batch->n_rows && has_bias(core); i++)
        soothe__add_scaled(gradients + core->bias, core->g + (size_t)i * (size_t)d, 1.0f, (size_t)d);
    if (status || !has_a(core) || !core->blocks || core->options.freeze_blocks)
        return status;
    const void *weight;
    void       *scratch;
    status = soothe__pass_weight(core, core->a, (size_t)d_cal * (size_t)d, &weight, &scratch, err);
    if (!status)
        status = soothe__gemm_run(core->gemm, false, true, rows, d_cal, d, core->h_operand, weight, core->dh_c_rows,
                                  false, err);
    free(scratch);
    return status;
}

enum soothe_status soothe__pass_backward(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                         struct soothe_error *err) {
    const size_t width = (size_t)core->shape.d_tgt, d_cal = (size_t)core->shape.d_cal;
    memset(core->gradients, 0, core->n_parameters * sizeof *core->gradients);
    for (int32_t i = 0; i < batch->n_rows; i++)
        for (size_t k = 0; k < width; k++)
            core->g[(size_t)i * width + k] *= core->scale[i];
    const float *dh_c_rows = core->g;
    if (!soothe__is_direct(core->options.objective)) {
        soothe__pass_put_rows(core, core->h_operand, core->g, batch->n_rows, core->shape.d_tgt);
        enum soothe_status status = core->options.objective == SOOTHE__LM_STEER
                                        ? soothe__low_rank_backward(core, batch, err)
                                        : fusion_backward(core, batch, err);
        if (status || !has_a(core) || !core->blocks)
            return status;
        dh_c_rows = core->dh_c_rows;
    }
    if (core->options.freeze_blocks)
        return SOOTHE_OK;
    memset(core->dh_c, 0, (size_t)batch->n_tokens * d_cal * sizeof *core->dh_c);
    for (int32_t i = 0; i < batch->n_rows; i++)
        soothe__add_scaled(core->dh_c + (size_t)batch->rows[i].position * d_cal, dh_c_rows + (size_t)i * d_cal, 1.0f,
                           d_cal);
    return soothe__blocks_backward(core->blocks, core->parameters, batch, core->dh_c, core->gradients, err);
}
