/* SPDX-License-Identifier: Apache-2.0
 * The definition of a matrix product, and the fallback of a build without oneDNN. */
#include <stdlib.h>
#include <string.h>

#include "train/gemm.h"
#include "train/train_core.h"

static float operand(bool bf16, const void *x, int64_t i) {
    return bf16 ? soothe__f32_from_bf16(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

void        soothe__gemm_reference(bool bf16, bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k,
                                   const void *a, const void *b, float *c, bool accumulate) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            float sum = 0;
            for (int64_t l = 0; l < k; l++) {
                sum += operand(bf16, a, a_transposed ? l * m + i : i * k + l) *
                       operand(bf16, b, b_transposed ? j * k + l : l * n + j);
            }
            c[i * n + j] = accumulate ? c[i * n + j] + sum : sum;
        }
    }
}

#ifndef SOOTHE_HAVE_DNNL

struct soothe__gemm {
    bool bf16;
};

struct soothe__packed {
    bool    transposed;
    int64_t m, n, k;
    size_t  size;
    void   *b; /* a copy */
};

bool soothe__gemm_prefers_bf16(void) {
    return false;
}

enum soothe_status soothe__gemm_new(struct soothe__gemm **g, bool bf16, struct soothe_error *err) {
    *g = soothe__calloc(1, sizeof **g);
    if (!*g) {
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    }
    (*g)->bf16 = bf16;
    return SOOTHE_OK;
}

void soothe__gemm_free(struct soothe__gemm *g) {
    free(g);
}

enum soothe_status soothe__gemm_run(struct soothe__gemm *g, bool a_transposed, bool b_transposed, int64_t m, int64_t n,
                                    int64_t k, const void *a, const void *b, float *c, bool accumulate,
                                    struct soothe_error *err) {
    (void)err;
    soothe__gemm_reference(g->bf16, a_transposed, b_transposed, m, n, k, a, b, c, accumulate);
    return SOOTHE_OK;
}

enum soothe_status soothe__gemm_pack(struct soothe__packed **packed, struct soothe__gemm *g, bool b_transposed,
                                     int64_t m, int64_t n, int64_t k, const void *b, struct soothe_error *err) {
    const size_t size = (size_t)n * (size_t)k * (g->bf16 ? sizeof(uint16_t) : sizeof(float));
    *packed           = soothe__calloc(1, sizeof **packed);
    void *copy        = soothe__calloc(size, 1);
    if (!*packed || !copy) {
        free(*packed);
        free(copy);
        *packed = NULL;
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    }
    memcpy(copy, b, size);
    **packed = (struct soothe__packed){b_transposed, m, n, k, size, copy};
    return SOOTHE_OK;
}

void soothe__packed_free(struct soothe__packed *packed) {
    if (packed) {
        free(packed->b);
        free(packed);
    }
}

size_t soothe__packed_bytes(const struct soothe__packed *packed) {
    return packed->size;
}

enum soothe_status soothe__gemm_run_packed(struct soothe__gemm *g, const struct soothe__packed *p, const void *a,
                                           float *c, struct soothe_error *err) {
    return soothe__gemm_run(g, false, p->transposed, p->m, p->n, p->k, a, p->b, c, false, err);
}

#endif
