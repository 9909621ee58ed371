/* SPDX-License-Identifier: Apache-2.0
 * The closed forms: ridge regression by Cholesky, Procrustes by a one-sided Jacobi decomposition. */
#include "train/align_maps.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/gemm.h"
#include "train/kernels.h"

static enum soothe_status no_memory(struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a map between two spaces");
}

/* C = op(A) B. */
static enum soothe_status product(float *c, bool transposed, const float *a, const float *b, int64_t m, int64_t k,
                                  int64_t n, struct soothe_error *err) {
    struct soothe__gemm *gemm;
    enum soothe_status   status = soothe__gemm_new(&gemm, false, err);
    if (!status)
        status = soothe__gemm_run(gemm, transposed, false, m, n, k, a, b, c, false, err);
    soothe__gemm_free(gemm);
    return status;
}

enum soothe_status soothe__map_product(float *c, const float *a, const float *b, int32_t m, int32_t k, int32_t n,
                                       struct soothe_error *err) {
    return product(c, false, a, b, m, k, n, err);
}

/* ---- ridge ------------------------------------------------------------------------------------------------- */

/* G = L L^T in place of the lower half; false: G is not positive definite. */
static bool cholesky(double *g, size_t d) {
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = g[i * d + j];
            for (size_t k = 0; k < j; k++)
                sum -= g[i * d + k] * g[j * d + k];
            if (i == j && !(sum > 0))
                return false;
            g[i * d + j] = i == j ? sqrt(sum) : sum / g[j * d + j];
        }
    return true;
}

/* L L^T Z = B in place of B (d, m), by rows, so that memory is read in order. */
static void solve(const double *l, double *b, size_t d, size_t m) {
    for (size_t i = 0; i < d; i++) {
        for (size_t k = 0; k < i; k++)
            for (size_t j = 0; j < m; j++)
                b[i * m + j] -= l[i * d + k] * b[k * m + j];
        for (size_t j = 0; j < m; j++)
            b[i * m + j] /= l[i * d + i];
    }
    for (size_t i = d; i-- > 0;) {
        for (size_t k = i + 1; k < d; k++)
            for (size_t j = 0; j < m; j++)
                b[i * m + j] -= l[k * d + i] * b[k * m + j];
        for (size_t j = 0; j < m; j++)
            b[i * m + j] /= l[i * d + i];
    }
}

static double *widen(const float *x, size_t n) {
    double *y = soothe__calloc(n, sizeof *y);
    for (size_t i = 0; y && i < n; i++)
        y[i] = (double)x[i];
    return y;
}

static enum soothe_status solve_ridge(float *w, const float *xx, const float *xy, size_t d, size_t m, double lambda,
                                      struct soothe_error *err) {
    double *g = widen(xx, d * d), *b = widen(xy, d * m), trace = 0;
    for (size_t i = 0; g && i < d; i++)
        trace += g[i * d + i];
    for (size_t i = 0; g && i < d; i++)
        g[i * d + i] += lambda * trace / (double)d;
    enum soothe_status status = g && b ? SOOTHE_OK : no_memory(err);
    if (!status && !cholesky(g, d))
        status = soothe__fail(err, SOOTHE_E_NUMERIC,
                              "the rows to fit on do not span their space: a larger ridge (now %g) helps", lambda);
    if (!status)
        solve(g, b, d, m);
    for (size_t i = 0; i < d * m && !status; i++)
        w[i] = (float)b[i];
    free(g);
    free(b);
    return status;
}

enum soothe_status soothe__map_ridge(float *w, const struct soothe__rows_pair *p, double lambda,
                                     struct soothe_error *err) {
    const size_t       d = (size_t)p->d_x, m = (size_t)p->d_y;
    float             *xx = soothe__calloc(d * d, sizeof *xx), *xy = soothe__calloc(d * m, sizeof *xy);
    enum soothe_status status = xx && xy ? SOOTHE_OK : no_memory(err);
    if (!status)
        status = product(xx, true, p->x, p->x, p->d_x, (int64_t)p->n, p->d_x, err);
    if (!status)
        status = product(xy, true, p->x, p->y, p->d_x, (int64_t)p->n, p->d_y, err);
    if (!status)
        status = solve_ridge(w, xx, xy, d, m, lambda, err);
    free(xx);
    free(xy);
    return status;
}

/* ---- Procrustes ----------------------------------------------------------------------------------------------- */

static double dot(const double *x, const double *y, size_t n) {
    double sum[8] = {0};
    size_t i      = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t k = 0; k < 8; k++)
            sum[k] += x[i + k] * y[i + k];
    for (; i < n; i++)
        sum[0] += x[i] * y[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

static void rotate(double *x, double *y, size_t n, double c, double s) {
    for (size_t i = 0; i < n; i++) {
        const double a = x[i], b = y[i];
        x[i] = c * a - s * b;
        y[i] = s * a + c * b;
    }
}

/* One-sided Jacobi (Hestenes 1958): turns the k rows of c (k, n) until they are orthogonal, and v (k, k), at first the
 * identity, alike: then c = v C with C the matrix at first. */
static void orthogonalise(double *c, double *v, size_t k, size_t n) {
    enum { SWEEPS = 40 };
    const double tiny   = 1e-11;
    bool         turned = true;
    for (int sweep = 0; sweep < SWEEPS && turned; sweep++) {
        turned = false;
        for (size_t i = 0; i + 1 < k; i++)
            for (size_t j = i + 1; j < k; j++) {
                double      *x = c + i * n, *y = c + j * n;
                const double xx = dot(x, x, n), yy = dot(y, y, n), xy = dot(x, y, n);
                if (fabs(xy) <= tiny * sqrt(xx * yy))
                    continue;
                const double zeta   = (yy - xx) / (2 * xy);
                const double t      = (zeta >= 0 ? 1 : -1) / (fabs(zeta) + sqrt(1 + zeta * zeta));
                const double cosine = 1 / sqrt(1 + t * t);
                rotate(x, y, n, cosine, cosine * t);
                rotate(v + i * k, v + j * k, k, cosine, cosine * t);
                turned = true;
            }
    }
}

/* q (k, n) = V^T-weighted sum of the unit rows of c: U V^T of the decomposition of the matrix that c was. */
static void polar(double *q, const double *c, const double *v, size_t k, size_t n) {
    double largest = 0;
    for (size_t j = 0; j < k; j++)
        largest = fmax(largest, sqrt(dot(c + j * n, c + j * n, n)));
    memset(q, 0, k * n * sizeof *q);
    for (size_t j = 0; j < k; j++) {
        const double norm = sqrt(dot(c + j * n, c + j * n, n));
        for (size_t i = 0; norm > 1e-9 * largest && i < k; i++)
            for (size_t l = 0; l < n; l++)
                q[i * n + l] += v[j * k + i] * c[j * n + l] / norm;
    }
}

/* w = U V^T of m (d_x, d_y). The shorter side's rows are turned. */
static enum soothe_status polar_factor(float *w, const float *m, size_t d_x, size_t d_y, struct soothe_error *err) {
    const bool   wide = d_x <= d_y;
    const size_t k = wide ? d_x : d_y, n = wide ? d_y : d_x;
    double      *c = soothe__calloc(k * n, sizeof *c), *v = soothe__calloc(k * k, sizeof *v),
           *q                 = soothe__calloc(k * n, sizeof *q);
    enum soothe_status status = c && v && q ? SOOTHE_OK : no_memory(err);
    for (size_t i = 0; i < d_x && !status; i++)
        for (size_t j = 0; j < d_y; j++)
            c[wide ? i * n + j : j * n + i] = (double)m[i * d_y + j];
    for (size_t i = 0; i < k && !status; i++)
        v[i * k + i] = 1;
    if (!status) {
        orthogonalise(c, v, k, n);
        polar(q, c, v, k, n);
    }
    for (size_t i = 0; i < d_x && !status; i++)
        for (size_t j = 0; j < d_y; j++)
            w[i * d_y + j] = (float)q[wide ? i * n + j : j * n + i];
    free(c);
    free(v);
    free(q);
    return status;
}

void soothe__map_rescale(float *w, const struct soothe__rows_pair *p) {
    const size_t        d_x = (size_t)p->d_x, d_y = (size_t)p->d_y;
    float              *image = soothe__calloc(p->n, d_y * sizeof *image);
    double              along = 0, square = 0;
    struct soothe_error ignored;
    if (!image || product(image, false, p->x, w, (int64_t)p->n, p->d_x, p->d_y, &ignored)) {
        free(image);
        return; /* the scale is a convenience: without memory it stays */
    }
    for (size_t i = 0; i < p->n; i++) {
        along += (double)soothe__dot(image + i * d_y, p->y + i * d_y, d_y);
        square += (double)soothe__dot(image + i * d_y, image + i * d_y, d_y);
    }
    for (size_t i = 0; i < d_x * d_y && square > 0; i++)
        w[i] *= (float)(along / square);
    free(image);
}

enum soothe_status soothe__map_procrustes(float *w, const struct soothe__rows_pair *p, struct soothe_error *err) {
    const size_t       n      = (size_t)p->d_x * (size_t)p->d_y;
    float             *xy     = soothe__calloc(n, sizeof *xy);
    enum soothe_status status = xy ? SOOTHE_OK : no_memory(err);
    if (!status)
        status = product(xy, true, p->x, p->y, p->d_x, (int64_t)p->n, p->d_y, err);
    if (!status)
        status = polar_factor(w, xy, (size_t)p->d_x, (size_t)p->d_y, err);
    if (!status)
        soothe__map_rescale(w, p);
    free(xy);
    return status;
}

/* ---- how good is it? -------------------------------------------------------------------------------------------- */

static void unit_rows(float *rows, size_t n, size_t d) {
    for (size_t i = 0; i < n; i++) {
        const float square = soothe__dot(rows + i * d, rows + i * d, d);
        for (size_t k = 0; k < d && square > 0; k++)
            rows[i * d + k] /= sqrtf(square);
    }
}

/* similarity (n_all): how many are nearer than the anchor's own? */
static size_t rank_of(const float *similarity, size_t n_all, uint32_t own) {
    size_t nearer = 0;
    for (size_t k = 0; k < n_all; k++)
        nearer += similarity[k] > similarity[own];
    return nearer;
}

static enum soothe_status count_ranks(size_t *first, size_t *fifth, struct soothe__gemm *gemm, const float *image,
                                      size_t n, int32_t d, const uint32_t *own, const float *all, size_t n_all,
                                      struct soothe_error *err) {
    enum { PIECE = 64 };
    float             *similarity = soothe__calloc(n_all, PIECE * sizeof *similarity);
    enum soothe_status status     = similarity ? SOOTHE_OK : no_memory(err);
    for (size_t from = 0; from < n && !status; from += PIECE) {
        const size_t piece = n - from < PIECE ? n - from : PIECE;
        status = soothe__gemm_run(gemm, false, true, (int64_t)piece, (int64_t)n_all, d, image + from * (size_t)d, all,
                                  similarity, false, err);
        for (size_t i = 0; i < piece && !status; i++) {
            const size_t rank = rank_of(similarity + i * n_all, n_all, own[from + i]);
            *first += rank == 0;
            *fifth += rank < 5;
        }
    }
    free(similarity);
    return status;
}

enum soothe_status soothe__map_retrieval(double *top1, double *top5, const float *w, const struct soothe__rows_pair *p,
                                         const uint32_t *own, const float *all, size_t n_all,
                                         struct soothe_error *err) {
    const size_t d     = (size_t)p->d_y;
    size_t       first = 0, fifth = 0;
    *top1 = *top5 = NAN;
    if (p->n == 0)
        return SOOTHE_OK;
    struct soothe__gemm *gemm   = NULL;
    float               *image  = soothe__calloc(p->n, d * sizeof *image);
    float               *unit   = soothe__calloc(n_all, d * sizeof *unit);
    enum soothe_status   status = image && unit ? soothe__gemm_new(&gemm, false, err) : no_memory(err);
    if (!status)
        status = soothe__gemm_run(gemm, false, false, (int64_t)p->n, p->d_y, p->d_x, p->x, w, image, false, err);
    if (!status) {
        memcpy(unit, all, n_all * d * sizeof *unit);
        unit_rows(unit, n_all, d);
        status = count_ranks(&first, &fifth, gemm, image, p->n, p->d_y, own, unit, n_all, err);
    }
    if (!status) {
        *top1 = (double)first / (double)p->n;
        *top5 = (double)fifth / (double)p->n;
    }
    soothe__gemm_free(gemm);
    free(image);
    free(unit);
    return status;
}
