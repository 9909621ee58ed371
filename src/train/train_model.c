/* SPDX-License-Identifier: Apache-2.0
 * Reading a target and a calibrator for training. */
#include "train/train_model.h"

#include <stdlib.h>
#include <string.h>

#include "fusion/calibrator_file.h"
#include "train/blocks.h"
#include "train/kernels.h"

/* ---- shape --------------------------------------------------------------------------------------------- */

static const char *architecture_of(const struct soothe__gguf *g) {
    const char *name = soothe__gguf_find_string(g, "general.architecture");
    return name ? name : "unknown";
}

static bool find_arch_f32(const struct soothe__gguf *g, const char *suffix, float *out) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", architecture_of(g), suffix);
    return soothe__gguf_find_f32(g, key, out);
}

enum { WIDTH_MAX = 1 << 20 }; /* of anything: products of two widths are counted in size_t, one width in int32_t */

/* Training turns by plain positions; a file may stretch them for long contexts. */
static enum soothe_status check_positions(const struct soothe__gguf *g, uint32_t d_head, struct soothe_error *err) {
    char        key[128];
    uint32_t    rotated = d_head;
    float       factor = 0.0f, linear = 0.0f;
    const char *type;
    snprintf(key, sizeof key, "%s.rope.scaling.type", architecture_of(g));
    type = soothe__gguf_find_string(g, key);
    find_arch_f32(g, "rope.scaling.factor", &factor);
    find_arch_f32(g, "rope.scale_linear", &linear);
    soothe__gguf_find_arch_u32(g, "rope.dimension_count", &rotated);
    if (rotated != d_head)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s rotates %u of %u dimensions; training rotates all", g->path,
                            rotated, d_head);
    const bool none = type && strcmp(type, "none") == 0, other = type && !none && strcmp(type, "linear") != 0;
    if (other || (!none && ((factor != 0.0f && factor != 1.0f) || (linear != 0.0f && linear != 1.0f))))
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "%s scales its positions (rope.scaling: %s, factor %g), which training does not know",
                            g->path, type ? type : "linear", (double)(factor != 0.0f ? factor : linear));
    return SOOTHE_OK;
}

/* The blocks' shape, from a calibrator in full form or a whole model. */
static enum soothe_status read_block_shape(struct soothe__train_shape *s, const struct soothe__gguf *g, bool whole,
                                           struct soothe_error *err) {
    const char *architecture = architecture_of(g);
    const bool  qwen2        = strcmp(architecture, "qwen2") == 0;
    if (!qwen2 && strcmp(architecture, "llama") != 0)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "%s has blocks of architecture %s; training knows llama and qwen2%s", g->path, architecture,
                            whole ? "" : " (any target can be trained for with --blocks 0)");
    uint32_t blocks = 0, heads = 0, heads_kv = 0, n_ff = 0, d = 0;
    bool     ok = (whole ? soothe__gguf_find_arch_u32(g, "block_count", &blocks)
                         : soothe__gguf_find_u32(g, SOOTHE__KEY_BLOCKS, &blocks)) &&
              soothe__gguf_find_arch_u32(g, "embedding_length", &d) &&
              soothe__gguf_find_arch_u32(g, "attention.head_count", &heads) &&
              soothe__gguf_find_arch_u32(g, "feed_forward_length", &n_ff) &&
              find_arch_f32(g, "attention.layer_norm_rms_epsilon", &s->norm_eps);
    if (!ok)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s does not say its heads, width or feed-forward length", g->path);
    if (!soothe__gguf_find_arch_u32(g, "attention.head_count_kv", &heads_kv))
        heads_kv = heads;
    uint32_t d_head = heads ? d / heads : 0;
    soothe__gguf_find_arch_u32(g, "attention.key_length", &d_head);
    if (heads < 1 || heads > WIDTH_MAX || heads_kv < 1 || heads_kv > heads || d_head < 2 || d_head % 2 != 0 ||
        d_head > WIDTH_MAX / heads || blocks < 1 || blocks > 1024 || d > WIDTH_MAX || n_ff < 1 || n_ff > WIDTH_MAX)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "%s has %u blocks of width %u, %u heads of %u on %u, feed-forward %u: no shape to train",
                            g->path, blocks, d, heads, d_head, heads_kv, n_ff);
    s->rope_base = 10000.0f;
    find_arch_f32(g, "rope.freq_base", &s->rope_base);
    const enum soothe_status status = check_positions(g, d_head, err);
    if (status)
        return status;
    s->n_blocks    = (int32_t)blocks;
    s->d_cal       = (int32_t)d;
    s->n_head      = (int32_t)heads;
    s->n_head_kv   = (int32_t)heads_kv;
    s->d_head      = (int32_t)d_head;
    s->n_ff        = (int32_t)n_ff;
    s->rope_halves = qwen2;
    s->qkv_bias    = gguf_find_tensor(g->meta, "blk.0.attn_q.bias") >= 0;
    return SOOTHE_OK;
}

struct known {
    const struct soothe__gguf *g;
    size_t                     n; /* tensors of blocks that training knows and the file has */
};

static void count_known(void *user, const char *name, struct soothe__place *place) {
    struct known *k = user;
    const int64_t i = gguf_find_tensor(k->g->meta, name);
    if (i >= 0 && soothe__gguf_n_elements(k->g, i) == (int64_t)place->n_out * place->n_in)
        k->n++;
}

/* Every tensor of every block must be one that training computes with: no query norms, no experts. */
static enum soothe_status check_tensors(const struct soothe__train_shape *s, const struct soothe__gguf *g,
                                        struct soothe_error *err) {
    struct known                known    = {.g = g};
    size_t                      present  = 0;
    const char                 *stranger = "";
    const int64_t               n        = gguf_get_n_tensors(g->meta);
    struct soothe__block_places places;
    for (int32_t i = 0; i < s->n_blocks; i++)
        soothe__block_visit(s, i, &places, count_known, &known);
    for (int64_t i = 0; i < n; i++) {
        const char *name  = gguf_get_tensor_name(g->meta, i);
        const bool  block = soothe__block_of_tensor(name) >= 0;
        present += block;
        if (block || strcmp(name, "rope_freqs.weight") == 0)
            stranger = name;
    }
    if (present != known.n || gguf_find_tensor(g->meta, "rope_freqs.weight") >= 0)
        return soothe__fail(
            err, SOOTHE_E_UNSUPPORTED,
            "%s: %zu of its %zu block tensors are of the plain Llama or Qwen2 form that training knows (last "
            "seen: %s)",
            g->path, known.n, present, stranger);
    return SOOTHE_OK;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

/* A matrix (V, d) as bf16, row by row dequantised. */
static enum soothe_status read_bf16(uint16_t **out, const struct soothe__gguf *g, const char *name, int64_t n,
                                    struct soothe_error *err) {
    float             *values = NULL;
    enum soothe_status status = soothe__gguf_get_f32(g, name, n, &values, err);
    if (status)
        return status;
    *out = soothe__calloc((size_t)n, sizeof **out);
    if (*out)
        soothe__to_bf16(*out, values, (size_t)n);
    else
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %s of %s", name, g->path);
    free(values);
    return status;
}

static enum soothe_status read_target(struct soothe__train_model *m, struct soothe_error *err) {
    struct soothe__model_facts facts;
    enum soothe_status         status = soothe__model_facts(&facts, &m->target, err);
    if (status)
        return status;
    float scale = 1.0f, cap = 0.0f;
    if ((find_arch_f32(&m->target, "logit_scale", &scale) && scale != 1.0f) ||
        (find_arch_f32(&m->target, "final_logit_softcapping", &cap) && cap != 0.0f))
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s scales or caps its logits, which training does not know",
                            m->target.path);
    if (gguf_find_tensor(m->target.meta, "output.bias") >= 0)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s adds a bias to its logits, which training does not know",
                            m->target.path);
    const bool untied = gguf_find_tensor(m->target.meta, "output.weight") >= 0;
    m->shape.d_tgt    = (int32_t)facts.d;
    m->shape.n_vocab  = (int32_t)facts.n_vocab;
    return read_bf16(&m->head, &m->target, untied ? "output.weight" : "token_embd.weight",
                     (int64_t)facts.d * facts.n_vocab, err);
}

static enum soothe_status read_calibrator(struct soothe__train_model *m, struct soothe_error *err) {
    const struct soothe__gguf *g = &m->calibrator;
    char                       ours[65], theirs[65];
    const char                *kind   = soothe__gguf_find_string(g, SOOTHE__KEY_KIND);
    enum soothe_status         status = soothe__calibrator_check(g, err);
    if (status)
        return status;
    if (!kind || strcmp(kind, "full") != 0)
        return soothe__fail(
            err, SOOTHE_E_UNSUPPORTED,
            "%s is a calibrator of kind %s; training begins from a full one (soothe calibrator init) or from "
            "none (--blocks 0)",
            g->path, kind ? kind : "unknown");
    soothe__tokenizer_hash(ours, g);
    soothe__tokenizer_hash(theirs, &m->target);
    if (strcmp(ours, theirs) != 0)
        return soothe__fail(err, SOOTHE_E_MISMATCH,
                            "%s and the target %s split text into different tokens: they cannot be trained together",
                            g->path, m->target.path);
    status = read_block_shape(&m->shape, g, false, err);
    if (!status)
        status = check_tensors(&m->shape, g, err);
    if (!status)
        status = read_bf16(&m->embedding, g, "token_embd.weight", (int64_t)m->shape.d_cal * m->shape.n_vocab, err);
    return status;
}

enum soothe_status soothe__train_model_open(struct soothe__train_model *m, const char *target_path,
                                            const char *calibrator_path, struct soothe_error *err) {
    memset(m, 0, sizeof *m);
    enum soothe_status status = soothe__gguf_open(&m->target, target_path, err);
    if (!status)
        status = read_target(m, err);
    if (!status && calibrator_path)
        status = soothe__gguf_open(&m->calibrator, calibrator_path, err);
    if (!status && calibrator_path)
        status = read_calibrator(m, err);
    if (status)
        soothe__train_model_close(m);
    return status;
}

enum soothe_status soothe__train_model_open_whole(struct soothe__train_model *m, const char *target_path,
                                                  struct soothe_error *err) {
    memset(m, 0, sizeof *m);
    m->whole                  = true;
    enum soothe_status status = soothe__gguf_open(&m->target, target_path, err);
    if (!status)
        status = read_target(m, err);
    if (!status)
        status = read_block_shape(&m->shape, &m->target, true, err);
    if (!status && m->shape.d_cal != m->shape.d_tgt)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s gives its width as %d and %d", target_path, m->shape.d_cal,
                              m->shape.d_tgt);
    if (!status)
        status = check_tensors(&m->shape, &m->target, err);
    if (!status && gguf_find_tensor(m->target.meta, "output.weight") < 0)
        m->embedding = m->head;
    else if (!status)
        status =
            read_bf16(&m->embedding, &m->target, "token_embd.weight", (int64_t)m->shape.d_cal * m->shape.n_vocab, err);
    if (status)
        soothe__train_model_close(m);
    return status;
}

void soothe__train_model_close(struct soothe__train_model *m) {
    soothe__gguf_close(&m->target);
    soothe__gguf_close(&m->calibrator);
    if (m->embedding != m->head) /* the same where a whole model's head is tied */
        free(m->embedding);
    free(m->head);
    memset(m, 0, sizeof *m);
}

enum soothe_status soothe__train_model_load(const struct soothe__train_model *m, struct soothe__train_core *core,
                                            struct soothe_error *err) {
    size_t                             n_tensors;
    const struct soothe__gguf         *from       = m->whole ? &m->target : &m->calibrator;
    const struct soothe__train_tensor *tensors    = soothe__train_tensors(core, &n_tensors);
    float                             *parameters = soothe__train_parameters(core, NULL);
    for (size_t i = 0; i < n_tensors && from->meta; i++) {
        const struct soothe__train_tensor *t      = &tensors[i];
        float                             *values = NULL;
        if ((t->fusion && gguf_find_tensor(from->meta, t->name) < 0) || strstr(t->name, ".weight.lora_"))
            continue; /* starts at 0, or as it started */
        const enum soothe_status status = soothe__gguf_get_f32(from, t->name, (int64_t)t->n, &values, err);
        if (status)
            return status;
        memcpy(parameters + t->offset, values, t->n * sizeof *values);
        free(values);
    }
    return SOOTHE_OK;
}
