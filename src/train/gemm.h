/* SPDX-License-Identifier: Apache-2.0
 * Matrix products for training: operands in bf16 or F32, sums and results in F32. oneDNN where it
 * was found (SOOTHE_HAVE_DNNL), plain C elsewhere; the plain C is also the tests' reference. */
#ifndef SOOTHE_GEMM_H
#define SOOTHE_GEMM_H

#include "base/base.h"

struct soothe__gemm;   /* primitives made so far, by shape */
struct soothe__packed; /* a constant right factor in the layout that the library likes best */

/* bf16 says what the operands' type is.
 * errors  SOOTHE_E_UNSUPPORTED bf16 that the library cannot multiply on this processor (no AVX-512, say) */
enum soothe_status soothe__gemm_new(struct soothe__gemm **g, bool bf16, struct soothe_error *err);
void               soothe__gemm_free(struct soothe__gemm *g);
/* Does this processor multiply bf16 faster than F32? */
bool soothe__gemm_prefers_bf16(void);

/* C (m, n) = op(A) op(B), or += with accumulate. op(A) is (m, k): A as it is, or stored (k, m) with a_transposed;
 * op(B) is (k, n): B as it is, or stored (n, k) with b_transposed. All row-major and dense. */
enum soothe_status soothe__gemm_run(struct soothe__gemm *g, bool a_transposed, bool b_transposed, int64_t m, int64_t n,
                                    int64_t k, const void *a, const void *b, float *c, bool accumulate,
                                    struct soothe_error *err);

/* Packs op(B) (k, n) for products with m rows at a time. */
enum soothe_status soothe__gemm_pack(struct soothe__packed **packed, struct soothe__gemm *g, bool b_transposed,
                                     int64_t m, int64_t n, int64_t k, const void *b, struct soothe_error *err);
void               soothe__packed_free(struct soothe__packed *packed);
size_t             soothe__packed_bytes(const struct soothe__packed *packed);
/* C (m, n) = A (m, k) op(B). */
enum soothe_status soothe__gemm_run_packed(struct soothe__gemm *g, const struct soothe__packed *packed, const void *a,
                                           float *c, struct soothe_error *err);

/* The definition, in plain C. */
void soothe__gemm_reference(bool bf16, bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k,
                            const void *a, const void *b, float *c, bool accumulate);

#endif /* SOOTHE_GEMM_H */
