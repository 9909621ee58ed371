/* SPDX-License-Identifier: Apache-2.0 */
#include "train/linear.h"

#include <stdlib.h>
#include <string.h>

#include "train/kernels.h"

enum { READ_ROWS = 32 }; /* of a fixed weight that a thread reads at a time */

bool soothe__place_learns(const struct soothe__place *place) {
    return place->learns || place->a != SOOTHE__NOWHERE;
}

/* ---- room --------------------------------------------------------------------------------------------------- */

static void *claim(struct soothe__linear *l, size_t n, size_t size) {
    if (l->memory == SIZE_MAX || n == 0)
        return NULL;
    void *p   = soothe__calloc(n, size);
    l->memory = p ? l->memory + n * size : SIZE_MAX;
    return p;
}

enum soothe_status soothe__linear_init(struct soothe__linear *l, int32_t n_padded_max, size_t n_largest,
                                       struct soothe_error *err) {
    const size_t rows = (size_t)n_padded_max * (size_t)l->rank;
    l->memory         = 0;
    l->converted      = claim(l, l->bf16 ? l->n_parameters : 0, sizeof *l->converted);
    l->wide           = claim(l, n_largest, sizeof *l->wide);
    l->narrow         = claim(l, l->bf16 ? n_largest : 0, sizeof *l->narrow);
    l->u              = claim(l, rows, sizeof *l->u);
    l->v              = claim(l, rows, l->bf16 ? sizeof(uint16_t) : sizeof(float));
    return l->memory == SIZE_MAX ? soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for training") : SOOTHE_OK;
}

void soothe__linear_free(struct soothe__linear *l) {
    free(l->converted);
    free(l->wide);
    free(l->narrow);
    free(l->u);
    free(l->v);
    l->converted = l->narrow = NULL;
    l->wide = l->u = l->v = NULL;
}

void soothe__linear_convert(struct soothe__linear *l) {
    enum { PIECE = 1 << 16 };
    const int64_t n_pieces = l->converted ? (int64_t)((l->n_parameters + PIECE - 1) / PIECE) : 0;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n_pieces; i++) {
        const size_t from = (size_t)i * PIECE, left = l->n_parameters - from;
        soothe__to_bf16(l->converted + from, l->parameters + from, left < PIECE ? left : PIECE);
    }
}

/* ---- operands ----------------------------------------------------------------------------------------------- */

static const void *held(const struct soothe__linear *l, size_t at) {
    return l->bf16 ? (const void *)(l->converted + at) : (const void *)(l->parameters + at);
}

static const void *weight(struct soothe__linear *l, const struct soothe__place *w) {
    if (w->at != SOOTHE__NOWHERE)
        return held(l, w->at);
    const int32_t n_pieces = (w->n_out + READ_ROWS - 1) / READ_ROWS;
#pragma omp parallel for schedule(static)
    for (int32_t i = 0; i < n_pieces; i++) {
        const int32_t from = i * READ_ROWS, left = w->n_out - from, rows = left < READ_ROWS ? left : READ_ROWS;
        const size_t  at = (size_t)from * (size_t)w->n_in;
        l->fixed->read(l->fixed->user, w->handle, from, rows, l->wide + at);
        if (l->bf16)
            soothe__to_bf16(l->narrow + at, l->wide + at, (size_t)rows * (size_t)w->n_in);
    }
    return l->bf16 ? (const void *)l->narrow : (const void *)l->wide;
}

/* The scratch u times s as an operand. */
static void scale_rows(struct soothe__linear *l, void *operand) {
    const size_t n   = (size_t)l->n_padded * (size_t)l->rank;
    float       *out = l->bf16 ? l->u : operand;
    for (size_t i = 0; i < n; i++)
        out[i] = l->scale * l->u[i];
    if (l->bf16)
        soothe__to_bf16(operand, out, n);
}

/* ---- products ------------------------------------------------------------------------------------------------- */

enum soothe_status soothe__linear_forward(struct soothe__linear *l, const struct soothe__place *w, const void *x,
                                          void *u, float *y, bool accumulate, struct soothe_error *err) {
    const int64_t      n = l->n_padded, r = l->rank;
    enum soothe_status status =
        soothe__gemm_run(l->gemm, false, true, n, w->n_out, w->n_in, x, weight(l, w), y, accumulate, err);
    if (status || w->a == SOOTHE__NOWHERE || l->no_factors)
        return status;
    status = soothe__gemm_run(l->gemm, false, true, n, r, w->n_in, x, held(l, w->a), l->u, false, err);
    if (status)
        return status;
    scale_rows(l, u);
    return soothe__gemm_run(l->gemm, false, true, n, w->n_out, r, u, held(l, w->b), y, true, err);
}

/* dA, dB, and in l->v the operand of s dy B. */
static enum soothe_status factors_backward(struct soothe__linear *l, const struct soothe__place *w, const void *x,
                                           const void *u, const void *dy, struct soothe_error *err) {
    const int64_t      n = l->n_padded, r = l->rank;
    enum soothe_status status =
        soothe__gemm_run(l->gemm, true, false, w->n_out, r, n, dy, u, l->gradients + w->b, true, err);
    if (!status)
        status = soothe__gemm_run(l->gemm, false, false, n, r, w->n_out, dy, held(l, w->b), l->u, false, err);
    if (status)
        return status;
    scale_rows(l, l->v);
    return soothe__gemm_run(l->gemm, true, false, r, w->n_in, n, l->v, x, l->gradients + w->a, true, err);
}

enum soothe_status soothe__linear_backward(struct soothe__linear *l, const struct soothe__place *w, const void *x,
                                           const void *u, const void *dy, float *dx, bool accumulate,
                                           struct soothe_error *err) {
    const int64_t      n       = l->n_padded;
    const bool         factors = w->a != SOOTHE__NOWHERE;
    enum soothe_status status  = SOOTHE_OK;
    if (w->learns)
        status = soothe__gemm_run(l->gemm, true, false, w->n_out, w->n_in, n, dy, x, l->gradients + w->at, true, err);
    if (!status && factors)
        status = factors_backward(l, w, x, u, dy, err);
    if (!status && dx)
        status = soothe__gemm_run(l->gemm, false, false, n, w->n_in, w->n_out, dy, weight(l, w), dx, accumulate, err);
    if (!status && dx && factors)
        status = soothe__gemm_run(l->gemm, false, false, n, w->n_in, l->rank, l->v, held(l, w->a), dx, true, err);
    return status;
}
