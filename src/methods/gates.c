/* SPDX-License-Identifier: Apache-2.0
 * Where a model keeps the gates of its MLPs. */
#include "methods/gates.h"

#include <stdlib.h>
#include <string.h>

enum { PER_BLOCK = 4 };

/* The tensors that are nothing but gates: of a dense block, of its experts, of the expert that always works. */
static const char *const NAMES[] = {"ffn_gate.weight", "ffn_gate_exps.weight", "ffn_gate_shexp.weight"};
/* Gate and up projection in one, the gate first (the engine's SwiGLU over one tensor takes its first half). */
static const char *const FUSED[] = {"ffn_up.weight", "ffn_gate_up_exps.weight"};
static const char *const DOWN[]  = {"ffn_down.weight", "ffn_down_exps.weight"};

static int64_t find(const struct soothe__gguf *model, uint32_t block, const char *suffix) {
    char name[96];
    snprintf(name, sizeof name, "blk.%u.%s", block, suffix);
    return gguf_find_tensor(model->meta, name);
}

static void add(struct soothe__gates *g, const struct soothe__gguf *model, int64_t i, uint32_t block, int64_t first,
                int64_t n) {
    if (n > 0 && gguf_get_tensor_ne(model->meta, i)[0] == g->d)
        g->items[g->n++] = (struct soothe__gate){i, first, n, block};
}

/* A tensor of twice as many rows as the down projection takes: the first half is the gate. Of experts each has its
 * own halves. */
static void add_fused(struct soothe__gates *g, const struct soothe__gguf *model, uint32_t block, int k) {
    const int64_t i = find(model, block, FUSED[k]), down = find(model, block, DOWN[k]);
    if (i < 0 || down < 0)
        return;
    const int64_t *ne = gguf_get_tensor_ne(model->meta, i), n_ff = gguf_get_tensor_ne(model->meta, down)[0];
    if (ne[1] != 2 * n_ff)
        return;
    for (int64_t e = 0; e < ne[2]; e++)
        add(g, model, i, block, e * ne[1], n_ff);
}

static size_t most_gates(const struct soothe__gguf *model, uint32_t n_blocks) {
    size_t n = (size_t)n_blocks * PER_BLOCK;
    for (uint32_t b = 0; b < n_blocks; b++) {
        const int64_t i = find(model, b, FUSED[1]);
        n += i >= 0 ? (size_t)gguf_get_tensor_ne(model->meta, i)[2] : 0;
    }
    return n;
}

static enum soothe_status refuse(const struct soothe__gguf *model, const struct soothe__model_facts *facts,
                                 uint32_t block, struct soothe_error *err) {
    return find(model, block, "ffn_up.weight") >= 0
               ? soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                              "%s (\"%s\", architecture %s) has an MLP without a gate in block %u: surgery needs one",
                              model->path, facts->name, facts->architecture, block)
               : soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                              "%s (\"%s\", architecture %s) has no MLP in block %u that surgery knows", model->path,
                              facts->name, facts->architecture, block);
}

enum soothe_status soothe__gates_find(struct soothe__gates *gates, const struct soothe__gguf *model,
                                      struct soothe_error *err) {
    struct soothe__model_facts facts;
    enum soothe_status         status = soothe__model_facts(&facts, model, err);
    memset(gates, 0, sizeof *gates);
    if (status)
        return status;
    const int64_t n_tensors = gguf_get_n_tensors(model->meta);
    if (facts.n_blocks == 0 || facts.n_blocks > n_tensors)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s says that it has %u blocks and holds %lld tensors", model->path,
                            facts.n_blocks, (long long)n_tensors);
    gates->n_blocks = facts.n_blocks;
    gates->d        = facts.d;
    gates->items    = soothe__calloc(most_gates(model, facts.n_blocks), sizeof *gates->items);
    if (!gates->items)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the gates of %u blocks", facts.n_blocks);
    for (uint32_t b = 0; b < facts.n_blocks && !status; b++) {
        const size_t before = gates->n;
        for (size_t k = 0; k < sizeof NAMES / sizeof *NAMES; k++) {
            const int64_t  i  = find(model, b, NAMES[k]);
            const int64_t *ne = i >= 0 ? gguf_get_tensor_ne(model->meta, i) : NULL;
            if (i >= 0)
                add(gates, model, i, b, 0, ne[1] * ne[2]);
        }
        for (int k = 0; k < 2 && gates->n == before; k++)
            add_fused(gates, model, b, k);
        if (gates->n == before)
            status = refuse(model, &facts, b, err);
    }
    if (status)
        soothe__gates_free(gates);
    return status;
}

void soothe__gates_free(struct soothe__gates *gates) {
    free(gates->items);
    memset(gates, 0, sizeof *gates);
}
