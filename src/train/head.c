/* SPDX-License-Identifier: Apache-2.0
 * z = W_out h in pieces of rows; then p = softmax(z), and dz W_out for the way back. */
#include "train/head.h"

#include <math.h>
#include <stdlib.h>

#include "train/kernels.h"

struct soothe__head {
    struct soothe__gemm   *gemm;
    struct soothe__packed *to_logits, *from_logits; /* W^T (d, V); W (V, d) */
    bool                   bf16;
    int32_t                n_vocab, d;
    float                 *z, *z_t; /* (SOOTHE__HEAD_ROWS, V) */
    void                  *dz;      /* operand, the same shape */
};

static size_t piece_size(const struct soothe__head *head) {
    return (size_t)SOOTHE__HEAD_ROWS * (size_t)head->n_vocab;
}

static enum soothe_status pack(struct soothe__head *head, const void *weights, struct soothe_error *err) {
    enum soothe_status status =
        soothe__gemm_pack(&head->to_logits, head->gemm, true, SOOTHE__HEAD_ROWS, head->n_vocab, head->d, weights, err);
    if (!status)
        status = soothe__gemm_pack(&head->from_logits, head->gemm, false, SOOTHE__HEAD_ROWS, head->d, head->n_vocab,
                                   weights, err);
    return status;
}

/* Under F32 precision the products need F32 weights. */
static enum soothe_status pack_f32(struct soothe__head *head, const uint16_t *weights, struct soothe_error *err) {
    const size_t n    = (size_t)head->n_vocab * (size_t)head->d;
    float       *wide = soothe__calloc(n, sizeof *wide);
    if (!wide)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the output head");
    soothe__from_bf16(wide, weights, n);
    const enum soothe_status status = pack(head, wide, err);
    free(wide);
    return status;
}

enum soothe_status soothe__head_new(struct soothe__head **out, struct soothe__gemm *gemm, bool bf16,
                                    const uint16_t *weights, int32_t n_vocab, int32_t d, struct soothe_error *err) {
    *out                      = NULL;
    struct soothe__head *head = soothe__calloc(1, sizeof *head);
    if (!head)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the output head");
    head->gemm                = gemm;
    head->bf16                = bf16;
    head->n_vocab             = n_vocab;
    head->d                   = d;
    head->z                   = soothe__calloc(piece_size(head), sizeof(float));
    head->z_t                 = soothe__calloc(piece_size(head), sizeof(float));
    head->dz                  = soothe__calloc(piece_size(head), bf16 ? sizeof(uint16_t) : sizeof(float));
    enum soothe_status status = SOOTHE_OK;
    if (!head->z || !head->z_t || !head->dz)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the logits of %d rows", SOOTHE__HEAD_ROWS);
    if (!status)
        status = bf16 ? pack(head, weights, err) : pack_f32(head, weights, err);
    if (status)
        soothe__head_free(head);
    else
        *out = head;
    return status;
}

void soothe__head_free(struct soothe__head *head) {
    if (!head)
        return;
    soothe__packed_free(head->to_logits);
    soothe__packed_free(head->from_logits);
    free(head->z);
    free(head->z_t);
    free(head->dz);
    free(head);
}

size_t soothe__head_memory(const struct soothe__head *head) {
    return soothe__packed_bytes(head->to_logits) + soothe__packed_bytes(head->from_logits) +
           piece_size(head) * (2 * sizeof(float) + (head->bf16 ? sizeof(uint16_t) : sizeof(float)));
}

static float log_sum(const float *z, size_t n) {
    const float top = soothe__max(z, n);
    return top + logf(soothe__sum_exp(z, top, n));
}

/* Row i of all, row k of the piece: everything but the products. */
static void finish_row(struct soothe__head *head, const struct soothe__head_rows *r, int32_t i, int32_t k) {
    const size_t n = (size_t)head->n_vocab, at = (size_t)k * n, next = (size_t)r->next[i];
    const float *z       = head->z + at;
    float       *z_t     = head->z_t + at;
    uint16_t    *dz_bf16 = head->bf16 ? (uint16_t *)head->dz + at : NULL;
    float       *dz_f32  = head->bf16 ? NULL : (float *)head->dz + at;
    const bool   diverge = r->diverge && r->diverge[i];
    const bool   needs_t = diverge || (r->needs_log_p_t && r->needs_log_p_t[i]);
    if (diverge && r->soften)
        r->soften(r->soften_user, i, z_t);
    const float sum = log_sum(z, n), sum_t = needs_t ? log_sum(z_t, n) : 0;
    r->log_p[i] = z[next] - sum;
    if (needs_t)
        r->log_p_t[i] = z_t[next] - sum_t;
    if (diverge) {
        r->kl[i] = (float)soothe__softmax_difference(dz_bf16, dz_f32, z, sum, z_t, sum_t, n);
    } else if (r->g) {
        const float p_minus_1 = expf(r->log_p[i]) - 1.0f;
        soothe__softmax(dz_bf16, dz_f32, z, sum, n);
        if (head->bf16)
            soothe__to_bf16(dz_bf16 + next, &p_minus_1, 1);
        else
            dz_f32[next] = p_minus_1;
    }
}

static bool any(const bool *flags, int32_t from, int32_t n) {
    for (int32_t i = 0; flags && i < n; i++)
        if (flags[from + i])
            return true;
    return false;
}

static const void *row_at(const struct soothe__head *head, const void *operand, int32_t row) {
    return (const char *)operand + (size_t)row * (size_t)head->d * (head->bf16 ? sizeof(uint16_t) : sizeof(float));
}

static enum soothe_status run_piece(struct soothe__head *head, const struct soothe__head_rows *r, int32_t from,
                                    int32_t n, struct soothe_error *err) {
    enum soothe_status status =
        soothe__gemm_run_packed(head->gemm, head->to_logits, row_at(head, r->h, from), head->z, err);
    if (!status && (any(r->diverge, from, n) || any(r->needs_log_p_t, from, n)))
        status = soothe__gemm_run_packed(head->gemm, head->to_logits, row_at(head, r->h_t, from), head->z_t, err);
    if (status)
        return status;
#pragma omp parallel for schedule(dynamic, 4)
    for (int32_t k = 0; k < n; k++)
        finish_row(head, r, from + k, k);
    /* rows of dz beyond n hold older values: their products are never read */
    if (r->g)
        status = soothe__gemm_run_packed(head->gemm, head->from_logits, head->dz, r->g + (size_t)from * (size_t)head->d,
                                         err);
    return status;
}

enum soothe_status soothe__head_run(struct soothe__head *head, const struct soothe__head_rows *rows,
                                    struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (int32_t from = 0; from < rows->n && !status; from += SOOTHE__HEAD_ROWS) {
        const int32_t left = rows->n - from;
        status             = run_piece(head, rows, from, left < SOOTHE__HEAD_ROWS ? left : SOOTHE__HEAD_ROWS, err);
    }
    return status;
}
