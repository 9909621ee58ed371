/* SPDX-License-Identifier: Apache-2.0
 * The target's own head as a function: logits W u of states that the engine never saw. The weights are read from the
 * model's file a second time, in its type (28 MB for SmolLM2-135M in Q8_0), because the engine hands its own out to
 * nobody. */
#include <stdlib.h>
#include <string.h>

#include "ggml-backend.h"
#include "ggml.h"
#include "methods/mixer.h"

enum { ROWS_MAX = 32 };     /* of one product: what is out at a time */
enum { HEAD_PIECE = 1024 }; /* numbers of a row that are dequantised at a time */

struct soothe__own_head {
    int32_t               d, n_vocab;
    ggml_backend_t        backend;
    struct ggml_context  *shapes;
    ggml_backend_buffer_t weights;
    struct ggml_tensor   *w;
};

static enum soothe_status check_plain(const struct soothe__gguf *g, const char *path, struct soothe_error *err) {
    const char *arch = soothe__gguf_find_string(g, "general.architecture");
    for (int i = 0; i < 2; i++) {
        char key[128];
        snprintf(key, sizeof key, i ? "%.80s.logit_scale" : "%.80s.final_logit_softcapping", arch ? arch : "");
        if (gguf_find_key(g->meta, key) >= 0)
            return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                                "the head of %s is no plain matrix (%s): this method cannot compute it", path, key);
    }
    if (gguf_find_tensor(g->meta, "output.bias") >= 0)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "the head of %s is no plain matrix (output.bias): this method cannot compute it", path);
    return SOOTHE_OK;
}

static enum soothe_status read_weights(struct soothe__own_head *h, const struct soothe__gguf *g,
                                       struct soothe_error *err) {
    struct soothe__model_facts facts;
    enum soothe_status         status   = soothe__model_facts(&facts, g, err);
    int64_t                    i_tensor = gguf_find_tensor(g->meta, "output.weight");
    if (i_tensor < 0)
        i_tensor = gguf_find_tensor(g->meta, "token_embd.weight"); /* tied */
    if (status)
        return status;
    if (i_tensor < 0 || soothe__gguf_n_elements(g, i_tensor) != (int64_t)facts.d * (int64_t)facts.n_vocab)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s has no head of %u x %u", g->path, facts.n_vocab, facts.d);
    h->d       = (int32_t)facts.d;
    h->n_vocab = (int32_t)facts.n_vocab;
    h->backend = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, NULL);
    h->shapes  = ggml_init((struct ggml_init_params){.mem_size = ggml_tensor_overhead(), .no_alloc = true});
    if (!h->backend || !h->shapes)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine has no processor for the head");
    const enum ggml_type type = gguf_get_tensor_type(g->meta, i_tensor);
    h->w                      = ggml_new_tensor_2d(h->shapes, type, h->d, h->n_vocab);
    h->weights                = ggml_backend_alloc_ctx_tensors(h->shapes, h->backend);
    const size_t size         = ggml_nbytes(h->w);
    void        *bytes        = h->weights ? soothe__calloc(size, 1) : NULL;
    if (!bytes)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the head of %s", g->path);
    status = soothe__gguf_read(g, i_tensor, 0, bytes, size, err);
    if (!status)
        ggml_backend_tensor_set(h->w, bytes, 0, size);
    free(bytes);
    return status;
}

enum soothe_status soothe__own_head_open(struct soothe__own_head **head, const char *model_path,
                                         struct soothe_error *err) {
    struct soothe__gguf g      = {.meta = NULL};
    *head                      = NULL;
    struct soothe__own_head *h = soothe__calloc(1, sizeof *h);
    if (!h)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    enum soothe_status status = soothe__gguf_open(&g, model_path, err);
    if (!status)
        status = check_plain(&g, model_path, err);
    if (!status)
        status = read_weights(h, &g, err);
    soothe__gguf_close(&g);
    if (status)
        soothe__own_head_free(h);
    else
        *head = h;
    return status;
}

void soothe__own_head_free(struct soothe__own_head *h) {
    if (!h)
        return;
    ggml_backend_buffer_free(h->weights);
    ggml_free(h->shapes);
    if (h->backend)
        ggml_backend_free(h->backend);
    free(h);
}

int32_t soothe__own_head_n_vocab(const struct soothe__own_head *h) {
    return h->n_vocab;
}

int32_t soothe__own_head_width(const struct soothe__own_head *h) {
    return h->d;
}

static void set_threads(struct soothe__own_head *h, int32_t n_threads) {
    ggml_backend_dev_t           device = ggml_backend_get_device(h->backend);
    ggml_backend_reg_t           reg    = device ? ggml_backend_dev_backend_reg(device) : NULL;
    ggml_backend_set_n_threads_t set    = NULL;
    void *address = reg ? ggml_backend_reg_get_proc_address(reg, "ggml_backend_set_n_threads") : NULL;
    memcpy(&set, &address, sizeof set); /* C has no cast from an object's pointer to a function's */
    if (set && n_threads > 0)
        set(h->backend, n_threads);
}

static enum soothe_status product(struct soothe__own_head *h, const float *u, int32_t n, float *out,
                                  struct soothe_error *err) {
    const struct ggml_init_params p      = {.mem_size = 8 * ggml_tensor_overhead() + ggml_graph_overhead(),
                                            .no_alloc = true};
    struct ggml_context          *c      = ggml_init(p);
    enum soothe_status            status = SOOTHE_OK;
    if (!c)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a product");
    struct ggml_tensor   *x      = ggml_new_tensor_2d(c, GGML_TYPE_F32, h->d, n);
    struct ggml_tensor   *y      = ggml_mul_mat(c, h->w, x);
    struct ggml_cgraph   *graph  = ggml_new_graph(c);
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors(c, h->backend);
    ggml_build_forward_expand(graph, y);
    if (!buffer)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d rows of logits", n);
    if (!status) {
        ggml_backend_tensor_set(x, u, 0, (size_t)n * (size_t)h->d * sizeof *u);
        if (ggml_backend_graph_compute(h->backend, graph) != GGML_STATUS_SUCCESS)
            status = soothe__fail(err, SOOTHE_E_ENGINE, "the engine could not compute the head");
        else
            ggml_backend_tensor_get(y, out, 0, (size_t)n * (size_t)h->n_vocab * sizeof *out);
    }
    ggml_backend_buffer_free(buffer);
    ggml_free(c);
    return status;
}

static float dot(const float *x, const float *y, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < n; k++)
        sum += x[k] * y[k];
    return sum;
}

/* The weights lie in the memory of the backend that read_weights asked for: the processor's. */
void soothe__own_head_pick(const struct soothe__own_head *h, const float *u, const llama_token_data *tokens, size_t n,
                           float *out) {
    const struct ggml_type_traits *traits = ggml_get_type_traits(h->w->type);
    float                          row[HEAD_PIECE];
    const int64_t                  piece = HEAD_PIECE / traits->blck_size * traits->blck_size;
    for (size_t i = 0; i < n; i++) {
        const char *weights = (const char *)h->w->data + (size_t)tokens[i].id * h->w->nb[1];
        out[i]              = 0;
        for (int64_t from = 0; from < h->d; from += piece) {
            const int64_t count = h->d - from < piece ? h->d - from : piece;
            const char   *at    = weights + from / traits->blck_size * (int64_t)traits->type_size;
            soothe__dequantise(row, at, h->w->type, count);
            out[i] += dot(row, u + from, count);
        }
    }
}

enum soothe_status soothe__own_head_apply(struct soothe__own_head *h, const float *u, int32_t n, int32_t n_threads,
                                          float *out, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    set_threads(h, n_threads);
    for (int32_t from = 0; from < n && !status; from += ROWS_MAX)
        status = product(h, u + (size_t)from * (size_t)h->d, n - from < ROWS_MAX ? n - from : ROWS_MAX,
                         out + (size_t)from * (size_t)h->n_vocab, err);
    return status;
}
