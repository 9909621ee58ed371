/* SPDX-License-Identifier: Apache-2.0
 * The work of bench_train.c (paper objective) by ggml's own automatic differentiation, the rival that the
 * hand-written core was chosen over. In F32: ggml has no way back through bf16. Texts are padded to 48 tokens,
 * only the rows of the loss meet the head, embedding and head are constant, gradients are not clipped.
 *
 *     bench_ggml_training cpu|blas [STEPS] [THREADS]     blas needs an engine built with -DGGML_BLAS=ON */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>

#include "base/base.h"

enum {
    BLOCKS = 3,
    D      = 576,
    HEADS  = 9,
    KV     = 3,
    D_HEAD = 64,
    FF     = 1536,
    V      = 49152,
    TEXTS  = 24,
    LENGTH = 48,
    T      = TEXTS * LENGTH,
    SIZE   = 4096 /* of the graph */
};

typedef struct ggml_tensor *tensor;

struct block {
    tensor norm1, q, k, v, o, norm2, gate, up, down;
};

struct program {
    struct ggml_context *fixed, *c; /* weights and inputs; the graph */
    struct block         blocks[BLOCKS];
    tensor               head, norm, tokens, positions, rows, labels, mask, adamw, one; /* one: the loss's gradient */
    tensor               parameters[9 * BLOCKS + 1], m[9 * BLOCKS + 1], v[9 * BLOCKS + 1];
    int                  n_parameters, n_tokens, n_rows;
    struct ggml_cgraph  *graph;
    tensor               loss;
};

static struct soothe__rng rng;

static void die(const char *message) {
    fprintf(stderr, "bench_ggml_training: %s\n", message);
    exit(1);
}

static void *claim(size_t n, size_t size) {
    void *p = soothe__calloc(n, size);
    if (!p)
        die("out of memory");
    return p;
}

static struct ggml_context *new_context(void) {
    struct ggml_context *c = ggml_init((struct ggml_init_params){
        .mem_size = SIZE * ggml_tensor_overhead() + ggml_graph_overhead_custom(SIZE, true), .no_alloc = true});
    if (!c)
        die("out of memory");
    return c;
}

/* ---- the model ---------------------------------------------------------------------------------------- */

static tensor parameter(struct program *p, int64_t n_in, int64_t n_out) {
    tensor    w = n_out > 1 ? ggml_new_tensor_2d(p->fixed, GGML_TYPE_F32, n_in, n_out)
                            : ggml_new_tensor_1d(p->fixed, GGML_TYPE_F32, n_in);
    const int i = p->n_parameters++;
    ggml_set_param(w);
    p->parameters[i] = w;
    p->m[i]          = ggml_dup_tensor(p->fixed, w);
    p->v[i]          = ggml_dup_tensor(p->fixed, w);
    return w;
}

static void declare(struct program *p) {
    for (int i = 0; i < BLOCKS; i++)
        p->blocks[i] = (struct block){parameter(p, D, 1),           parameter(p, D, D),  parameter(p, D, KV * D_HEAD),
                                      parameter(p, D, KV * D_HEAD), parameter(p, D, D),  parameter(p, D, 1),
                                      parameter(p, D, FF),          parameter(p, D, FF), parameter(p, FF, D)};
    p->norm      = parameter(p, D, 1);
    p->head      = ggml_new_tensor_2d(p->fixed, GGML_TYPE_F32, D, V);
    p->tokens    = ggml_new_tensor_1d(p->fixed, GGML_TYPE_I32, T);
    p->positions = ggml_new_tensor_1d(p->fixed, GGML_TYPE_I32, T);
    p->rows      = ggml_new_tensor_1d(p->fixed, GGML_TYPE_I32, p->n_rows);
    p->labels    = ggml_new_tensor_2d(p->fixed, GGML_TYPE_F32, V, p->n_rows);
    p->mask      = ggml_new_tensor_2d(p->fixed, GGML_TYPE_F32, LENGTH, LENGTH);
    p->adamw     = ggml_new_tensor_1d(p->fixed, GGML_TYPE_F32, 7);
    p->one       = ggml_new_tensor_1d(p->fixed, GGML_TYPE_F32, 1);
}

static tensor norm(struct ggml_context *c, tensor x, tensor weight) {
    return ggml_mul(c, ggml_rms_norm(c, x, 1e-5f), weight);
}

/* (D_HEAD, LENGTH, HEADS, TEXTS) of what a linear layer gave; key and value heads are repeated, for ggml's way back
 * through its own broadcast knows one text only. */
static tensor heads_of(struct ggml_context *c, tensor x, int n_head, tensor positions) {
    x = ggml_reshape_3d(c, x, D_HEAD, n_head, T);
    if (positions)
        x = ggml_rope(c, x, positions, D_HEAD, GGML_ROPE_TYPE_NORMAL);
    if (n_head < HEADS) {
        tensor shape = ggml_new_tensor_4d(c, GGML_TYPE_F32, D_HEAD, HEADS / n_head, n_head, T);
        x            = ggml_repeat(c, ggml_reshape_4d(c, x, D_HEAD, 1, n_head, T), shape);
    }
    return ggml_reshape_4d(c, x, D_HEAD, HEADS, LENGTH, TEXTS);
}

static tensor attention(struct program *p, const struct block *b, tensor x) {
    struct ggml_context *c = p->c;
    tensor               n = norm(c, x, b->norm1);
    tensor q = ggml_cont(c, ggml_permute(c, heads_of(c, ggml_mul_mat(c, b->q, n), HEADS, p->positions), 0, 2, 1, 3));
    tensor k = ggml_cont(c, ggml_permute(c, heads_of(c, ggml_mul_mat(c, b->k, n), KV, p->positions), 0, 2, 1, 3));
    tensor v = ggml_cont(c, ggml_permute(c, heads_of(c, ggml_mul_mat(c, b->v, n), KV, NULL), 1, 2, 0, 3));
    tensor s = ggml_soft_max_ext(c, ggml_mul_mat(c, k, q), p->mask, 1.0f / sqrtf(D_HEAD), 0.0f);
    tensor o = ggml_cont(c, ggml_permute(c, ggml_mul_mat(c, v, s), 0, 2, 1, 3));
    return ggml_add(c, x, ggml_mul_mat(c, b->o, ggml_reshape_2d(c, o, D, T)));
}

static void build(struct program *p) {
    struct ggml_context *c = p->c;
    tensor               x = ggml_get_rows(c, p->head, p->tokens);
    for (int i = 0; i < BLOCKS; i++) {
        const struct block *b = &p->blocks[i];
        x                     = attention(p, b, x);
        tensor n              = norm(c, x, b->norm2);
        tensor m              = ggml_swiglu_split(c, ggml_mul_mat(c, b->gate, n), ggml_mul_mat(c, b->up, n));
        x                     = ggml_add(c, x, ggml_mul_mat(c, b->down, m));
    }
    x       = norm(c, ggml_get_rows(c, x, p->rows), p->norm);
    p->loss = ggml_cross_entropy_loss(c, ggml_mul_mat(c, p->head, x), p->labels);
    ggml_set_loss(p->loss);
    ggml_set_output(p->loss);
    p->graph = ggml_new_graph_custom(c, SIZE, true);
    ggml_build_forward_expand(p->graph, p->loss);
    tensor *gradients                           = claim((size_t)ggml_graph_n_nodes(p->graph), sizeof(tensor));
    gradients[ggml_graph_n_nodes(p->graph) - 1] = p->one; /* the loss is the last node */
    ggml_build_backward_expand(c, p->graph, gradients);
    free(gradients);
    for (int i = 0; i < p->n_parameters; i++) {
        tensor w = p->parameters[i];
        ggml_build_forward_expand(
            p->graph, ggml_opt_step_adamw(c, w, ggml_graph_get_grad(p->graph, w), p->m[i], p->v[i], p->adamw));
    }
}

/* ---- values --------------------------------------------------------------------------------------------- */

static void fill_normal(tensor x, double scale) {
    const size_t n = (size_t)ggml_nelements(x);
    float       *y = claim(n, sizeof *y);
    for (size_t i = 0; i < n; i++)
        y[i] = ggml_n_dims(x) > 1 ? (float)(scale * soothe__rng_normal(&rng)) : 1.0f; /* norms are 1 */
    ggml_backend_tensor_set(x, y, 0, n * sizeof *y);
    free(y);
}

static int length_of(int text) {
    return LENGTH - text * 7 % 13;
}

static int token_of(int text, int t) {
    return (text * 7919 + t * 104729 + 13) % V;
}

/* The work of bench_train.c's make_work. */
static void fill(struct program *p) {
    int32_t tokens[T] = {0}, positions[T], *rows = claim((size_t)p->n_rows, sizeof *rows), n_rows = 0;
    float   mask[LENGTH * LENGTH], one = 1.0f;
    float  *labels = claim((size_t)p->n_rows * V, sizeof *labels);
    for (int i = 0; i < TEXTS; i++) {
        const int n = length_of(i);
        for (int t = 0; t < LENGTH; t++) {
            tokens[i * LENGTH + t]    = t < n ? token_of(i, t) : 0;
            positions[i * LENGTH + t] = t;
        }
        for (int t = n - 1 - n / 3; t < n - 1; t++) {
            labels[(size_t)n_rows * V + (size_t)token_of(i, t + 1)] = 1.0f;
            rows[n_rows++]                                          = i * LENGTH + t;
        }
    }
    for (int i = 0; i < LENGTH * LENGTH; i++)
        mask[i] = i % LENGTH > i / LENGTH ? -INFINITY : 0.0f;
    for (int i = 0; i < p->n_parameters; i++)
        fill_normal(p->parameters[i], 0.04);
    fill_normal(p->head, 0.04);
    ggml_backend_tensor_set(p->tokens, tokens, 0, sizeof tokens);
    ggml_backend_tensor_set(p->positions, positions, 0, sizeof positions);
    ggml_backend_tensor_set(p->rows, rows, 0, (size_t)p->n_rows * sizeof *rows);
    ggml_backend_tensor_set(p->labels, labels, 0, (size_t)p->n_rows * V * sizeof *labels);
    ggml_backend_tensor_set(p->mask, mask, 0, sizeof mask);
    ggml_backend_tensor_set(p->one, &one, 0, sizeof one);
    free(labels);
    free(rows);
}

static double step(struct program *p, ggml_backend_sched_t sched, int t) {
    const float a[7] = {
        2e-4f, 0.9f, 0.95f, 1e-8f, 0.0f, (float)(1 / (1 - pow(0.9, t))), (float)(1 / (1 - pow(0.95, t)))};
    float loss;
    ggml_backend_tensor_set(p->adamw, a, 0, sizeof a);
    if (ggml_backend_sched_graph_compute(sched, p->graph) != GGML_STATUS_SUCCESS)
        die("the graph did not run");
    ggml_backend_tensor_get(p->loss, &loss, 0, sizeof loss);
    return (double)loss;
}

static ggml_backend_t open_backend(const char *name, int n_threads) {
    ggml_backend_t b = ggml_backend_init_by_name(name, NULL);
    if (!b)
        die("this engine was built without that backend");
    void *f = ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(ggml_backend_get_device(b)),
                                                "ggml_backend_set_n_threads");
    ggml_backend_set_n_threads_t set_n_threads;
    memcpy(&set_n_threads, &f, sizeof f);
    if (f)
        set_n_threads(b, n_threads);
    return b;
}

static int ascending(const void *x, const void *y) {
    const double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

int main(int argc, char **argv) {
    enum { WARM_UP = 2, STEPS_MAX = 1000 };
    int64_t n_steps = 7, n_threads = 2;
    double  time[STEPS_MAX], first = 0, last = 0;
    if (argc < 2 || (strcmp(argv[1], "cpu") != 0 && strcmp(argv[1], "blas") != 0) ||
        (argc > 2 && !soothe__parse_int64(&n_steps, argv[2], 1, STEPS_MAX)) ||
        (argc > 3 && !soothe__parse_int64(&n_threads, argv[3], 1, 1024)))
        die("usage: bench_ggml_training cpu|blas [STEPS] [THREADS]");
    ggml_backend_t backends[2];
    int            n_backends = 0;
    if (strcmp(argv[1], "blas") == 0)
        backends[n_backends++] = open_backend("BLAS", (int)n_threads);
    backends[n_backends++] = open_backend("CPU", (int)n_threads);
    rng                    = soothe__rng_seed(1, 1);
    struct program p       = {.fixed = new_context(), .c = new_context()};
    for (int i = 0; i < TEXTS; i++) {
        p.n_tokens += length_of(i);
        p.n_rows += length_of(i) / 3;
    }
    declare(&p);
    ggml_backend_buffer_t fixed = ggml_backend_alloc_ctx_tensors(p.fixed, backends[n_backends - 1]);
    if (!fixed)
        die("out of memory");
    ggml_backend_buffer_clear(fixed, 0); /* moments */
    fill(&p);
    build(&p);
    ggml_backend_sched_t sched = ggml_backend_sched_new(backends, NULL, n_backends, SIZE, false, false);
    for (int i = -WARM_UP; i < n_steps; i++) {
        const double start = soothe__seconds();
        last               = step(&p, sched, i + WARM_UP + 1);
        if (i >= 0)
            time[i] = soothe__seconds() - start;
        if (i == -WARM_UP)
            first = last;
    }
    qsort(time, (size_t)n_steps, sizeof *time, ascending);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    const double median = time[n_steps / 2];
    printf("loss-tokens/s %.1f (fastest step %.1f)  tokens/s %.1f  ms/step %.1f (%.1f to %.1f)  peak MiB %.0f  loss "
           "%.4f -> %.4f\n",
           p.n_rows / median, p.n_rows / time[0], p.n_tokens / median, 1e3 * median, 1e3 * time[0],
           1e3 * time[n_steps - 1], (double)usage.ru_maxrss / 1024, first, last);
    ggml_backend_sched_free(sched);
    ggml_backend_buffer_free(fixed);
    ggml_free(p.c);
    ggml_free(p.fixed);
    for (int i = 0; i < n_backends; i++)
        ggml_backend_free(backends[i]);
    return 0;
}
