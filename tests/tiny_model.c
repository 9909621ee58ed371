/* SPDX-License-Identifier: Apache-2.0 */
#include "tiny_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "fusion/calibrator_file.h"

enum { N_HEAD = 4, N_HEAD_KV = 2, N_CONTEXT = 256, N_VOCAB = 300 };

struct builder {
    struct soothe__gguf_plan   plan;
    struct soothe__rng         rng;
    const struct tiny_options *o;
    const char                *architecture;
    uint32_t                   d, n_ff, n_blocks;
    bool                       ok;
};

static void add(struct builder *b, const char *name, int64_t n_in, int64_t n_out) {
    const int64_t n      = n_in * n_out;
    const bool    norm   = strstr(name, "norm.weight") != NULL;
    float        *values = soothe__calloc((size_t)n, sizeof *values);
    for (int64_t i = 0; values && i < n; i++) {
        const double x = soothe__rng_normal(&b->rng);
        values[i]      = norm ? (float)(1.0 + 0.1 * x) : (float)(x * (n_out > 1 ? 1.0 / sqrt((double)n_in) : 0.02));
    }
    if (values && b->o->nan_weight && strcmp(name, "blk.0.attn_norm.weight") == 0) {
        values[n / 2] = NAN;
    }
    b->ok = b->ok && values &&
            soothe__gguf_plan_add(&b->plan, name, values, n_out > 1 ? 2 : 1, (int64_t[]){n_in, n_out}, GGML_TYPE_F32,
                                  NULL) == SOOTHE_OK;
    free(values);
}

static void add_block_tensor(struct builder *b, uint32_t i, const char *suffix, int64_t n_in, int64_t n_out) {
    char name[96];
    snprintf(name, sizeof name, "blk.%u.%s", i, suffix);
    add(b, name, n_in, n_out);
}

static void add_gpt2_block(struct builder *b, uint32_t i) {
    const int64_t d = b->d, kv = d / N_HEAD * N_HEAD_KV;
    add_block_tensor(b, i, "attn_norm.weight", d, 1);
    add_block_tensor(b, i, "attn_norm.bias", d, 1);
    add_block_tensor(b, i, "attn_qkv.weight", d, d + 2 * kv);
    add_block_tensor(b, i, "attn_qkv.bias", d + 2 * kv, 1);
    add_block_tensor(b, i, "attn_output.weight", d, d);
    add_block_tensor(b, i, "attn_output.bias", d, 1);
    add_block_tensor(b, i, "ffn_norm.weight", d, 1);
    add_block_tensor(b, i, "ffn_norm.bias", d, 1);
    add_block_tensor(b, i, "ffn_up.weight", d, b->n_ff);
    add_block_tensor(b, i, "ffn_up.bias", b->n_ff, 1);
    add_block_tensor(b, i, "ffn_down.weight", b->n_ff, d);
    add_block_tensor(b, i, "ffn_down.bias", d, 1);
}

static void add_gated_block(struct builder *b, uint32_t i) {
    const int64_t d = b->d, kv = d / N_HEAD * N_HEAD_KV;
    add_block_tensor(b, i, "attn_norm.weight", d, 1);
    add_block_tensor(b, i, "attn_q.weight", d, d);
    add_block_tensor(b, i, "attn_k.weight", d, kv);
    add_block_tensor(b, i, "attn_v.weight", d, kv);
    add_block_tensor(b, i, "attn_output.weight", d, d);
    add_block_tensor(b, i, "ffn_norm.weight", d, 1);
    add_block_tensor(b, i, "ffn_gate.weight", d, b->n_ff);
    add_block_tensor(b, i, "ffn_up.weight", d, b->n_ff);
    add_block_tensor(b, i, "ffn_down.weight", b->n_ff, d);
    if (b->o->family == TINY_QWEN2) {
        add_block_tensor(b, i, "attn_q.bias", d, 1);
        add_block_tensor(b, i, "attn_k.bias", kv, 1);
        add_block_tensor(b, i, "attn_v.bias", kv, 1);
    }
    if (b->o->family == TINY_GEMMA3 || b->o->family == TINY_QWEN3) {
        add_block_tensor(b, i, "attn_q_norm.weight", d / N_HEAD, 1);
        add_block_tensor(b, i, "attn_k_norm.weight", d / N_HEAD, 1);
    }
    if (b->o->family == TINY_GEMMA3) {
        add_block_tensor(b, i, "post_attention_norm.weight", d, 1);
        add_block_tensor(b, i, "post_ffw_norm.weight", d, 1);
    }
}

static void add_bert_block(struct builder *b, uint32_t i) {
    static const char *const square[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
    static const char *const norms[]  = {"attn_output_norm", "layer_output_norm"};
    const int64_t            d        = b->d;
    char                     name[64];
    for (int k = 0; k < 4; k++) {
        snprintf(name, sizeof name, "%s.weight", square[k]);
        add_block_tensor(b, i, name, d, d);
        snprintf(name, sizeof name, "%s.bias", square[k]);
        add_block_tensor(b, i, name, d, 1);
    }
    for (int k = 0; k < 2; k++) {
        snprintf(name, sizeof name, "%s.weight", norms[k]);
        add_block_tensor(b, i, name, d, 1);
        snprintf(name, sizeof name, "%s.bias", norms[k]);
        add_block_tensor(b, i, name, d, 1);
    }
    add_block_tensor(b, i, "ffn_up.weight", d, b->n_ff);
    add_block_tensor(b, i, "ffn_up.bias", b->n_ff, 1);
    add_block_tensor(b, i, "ffn_down.weight", b->n_ff, d);
    add_block_tensor(b, i, "ffn_down.bias", d, 1);
}

static void add_bert_ends(struct builder *b) {
    const int64_t d = b->d;
    add(b, "position_embd.weight", d, N_CONTEXT);
    add(b, "token_types.weight", d, 2);
    add(b, "token_embd_norm.weight", d, 1);
    add(b, "token_embd_norm.bias", d, 1);
    if (b->o->headless)
        return;
    add(b, "cls.weight", d, d);
    add(b, "cls.bias", d, 1);
    add(b, "cls.output.weight", d, b->o->numbered ? 2 : 3);
    add(b, "cls.output.bias", b->o->numbered ? 2 : 3, 1);
}

static void set_u32(struct builder *b, const char *suffix, uint32_t value) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", b->architecture, suffix);
    gguf_set_val_u32(b->plan.meta, key, value);
}

static void set_f32(struct builder *b, const char *suffix, float value) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", b->architecture, suffix);
    gguf_set_val_f32(b->plan.meta, key, value);
}

/* A byte-level BPE vocabulary in GPT-2's spelling: 256 bytes, two merges, control tokens. */
static void set_vocabulary(struct builder *b) {
    static char spelled[N_VOCAB][16];
    const char *tokens[N_VOCAB];
    int32_t     types[N_VOCAB];
    const char *merges[] = {b->o->other_words ? "o n" : "t h", b->o->other_words ? "a n" : "i n"};
    int         n_moved  = 0;
    for (int i = 0; i < N_VOCAB; i++) {
        types[i] = 1;
        if (i < 256) {
            const bool printable = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
            const int  c         = printable ? i : 256 + n_moved++;
            snprintf(spelled[i], sizeof spelled[i], c < 128 ? "%c" : "%c%c", c < 128 ? c : 0xC0 | (c >> 6),
                     0x80 | (c & 63));
        } else if (i < 258) {
            snprintf(spelled[i], sizeof spelled[i], "%c%c", merges[i - 256][0], merges[i - 256][2]);
        } else {
            snprintf(spelled[i], sizeof spelled[i], "<|%d|>", i);
            types[i] = 3;
        }
        tokens[i] = spelled[i];
    }
    gguf_set_val_str(b->plan.meta, "tokenizer.ggml.model", "gpt2");
    gguf_set_val_str(b->plan.meta, "tokenizer.ggml.pre", "gpt-2");
    gguf_set_arr_str(b->plan.meta, "tokenizer.ggml.tokens", tokens, N_VOCAB);
    gguf_set_arr_data(b->plan.meta, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types, N_VOCAB);
    gguf_set_arr_str(b->plan.meta, "tokenizer.ggml.merges", merges, 2);
    gguf_set_val_u32(b->plan.meta, "tokenizer.ggml.bos_token_id", 258);
    gguf_set_val_u32(b->plan.meta, "tokenizer.ggml.eos_token_id", 259);
    gguf_set_val_bool(b->plan.meta, "tokenizer.ggml.add_bos_token", false);
}

/* 256 byte tokens and words of a few letters. */
static void set_sentence_piece_vocabulary(struct builder *b) {
    static const char *const pieces[] = {"_",   "t",    "h",   "e",  "i",   "n",  "o",   "a",   "th",  "_t",
                                         "_th", "_the", "the", "in", "_in", "an", "on",  "_o",  "_a",  "_i",
                                         "_an", "he",   "hi",  "__", "\n",  "nn", "_on", "ion", "tion"};
    enum { N_PIECES = sizeof pieces / sizeof *pieces };
    static char spelled[N_VOCAB][32];
    const char *tokens[N_VOCAB] = {"<unk>", "<s>", "</s>"};
    int32_t     types[N_VOCAB]  = {2, 3, 3};
    float       scores[N_VOCAB] = {0};
    for (int i = 3; i < N_VOCAB; i++) {
        const int piece = i - 259;
        types[i]        = piece < 0 ? 6 : piece < N_PIECES ? 1 : 3;
        scores[i]       = (float)-piece;
        tokens[i]       = spelled[i];
        spelled[i][0]   = '\0';
        if (piece < 0)
            snprintf(spelled[i], sizeof spelled[i], "<0x%02X>", i - 3);
        else if (piece >= N_PIECES)
            snprintf(spelled[i], sizeof spelled[i], "<|%d|>", i);
        for (const char *c = piece >= 0 && piece < N_PIECES ? pieces[piece] : ""; *c; c++)
            strncat(spelled[i], *c == '_' ? "\xE2\x96\x81" : (char[]){*c, '\0'},
                    sizeof spelled[i] - strlen(spelled[i]) - 1);
    }
    gguf_set_val_str(b->plan.meta, "tokenizer.ggml.model", "llama");
    gguf_set_arr_str(b->plan.meta, "tokenizer.ggml.tokens", tokens, N_VOCAB);
    gguf_set_arr_data(b->plan.meta, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores, N_VOCAB);
    gguf_set_arr_data(b->plan.meta, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types, N_VOCAB);
    gguf_set_val_u32(b->plan.meta, "tokenizer.ggml.bos_token_id", 1);
    gguf_set_val_u32(b->plan.meta, "tokenizer.ggml.eos_token_id", 2);
}

/* Places 100 to 103 are where the engine looks for [UNK], [CLS], [SEP] and [MASK]; letters follow. */
static void set_bert_vocabulary(struct builder *b) {
    static char        spelled[N_VOCAB][16];
    static const char *special[] = {"[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    static const char *words[] = {"neutral", "toxic", "insult"}, *numbers[] = {"LABEL_0", "LABEL_1"};
    const char        *tokens[N_VOCAB];
    int32_t            types[N_VOCAB];
    for (int i = 0; i < N_VOCAB; i++) {
        types[i] = i >= 104 && i < 156 ? 1 : 3;
        if (i >= 100 && i < 104)
            snprintf(spelled[i], sizeof spelled[i], "%s", special[i - 100]);
        else if (types[i] == 1)
            snprintf(spelled[i], sizeof spelled[i], "%s%c", i < 130 ? "\xE2\x96\x81" : "", 'a' + (i - 104) % 26);
        else
            snprintf(spelled[i], sizeof spelled[i], "[unused%d]", i);
        tokens[i] = spelled[i];
    }
    gguf_set_val_str(b->plan.meta, "tokenizer.ggml.model", "bert");
    gguf_set_arr_str(b->plan.meta, "tokenizer.ggml.tokens", tokens, N_VOCAB);
    gguf_set_arr_data(b->plan.meta, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types, N_VOCAB);
    gguf_set_val_u32(b->plan.meta, "tokenizer.ggml.token_type_count", 2);
    gguf_set_val_bool(b->plan.meta, "bert.attention.causal", false);
    if (!b->o->headless)
        gguf_set_arr_str(b->plan.meta, "bert.classifier.output_labels", b->o->numbered ? numbers : words,
                         b->o->numbered ? 2 : 3);
}

static void set_shape(struct builder *b) {
    gguf_set_val_str(b->plan.meta, "general.architecture", b->architecture);
    gguf_set_val_str(b->plan.meta, "general.name", "tiny");
    set_u32(b, "block_count", b->n_blocks);
    set_u32(b, "context_length", b->o->n_context ? b->o->n_context : N_CONTEXT);
    set_u32(b, "embedding_length", b->d);
    set_u32(b, "feed_forward_length", b->n_ff);
    set_u32(b, "attention.head_count", N_HEAD);
    set_u32(b, "attention.head_count_kv", b->o->family == TINY_BERT ? N_HEAD : N_HEAD_KV);
    set_u32(b, "attention.key_length", b->d / N_HEAD);
    set_u32(b, "attention.value_length", b->d / N_HEAD);
    set_f32(b, "attention.layer_norm_rms_epsilon", 1e-5f);
    set_f32(b, "attention.layer_norm_epsilon", 1e-5f);
    set_f32(b, "rope.freq_base", 10000.0f);
    if (b->o->family == TINY_GEMMA3) { /* an array per block, as some files have: a cut must shorten it */
        uint32_t widths[64];
        for (uint32_t i = 0; i < b->n_blocks && i < 64; i++) {
            widths[i] = b->n_ff;
        }
        gguf_set_arr_data(b->plan.meta, "gemma3.feed_forward_length", GGUF_TYPE_UINT32, widths, b->n_blocks);
    }
}

bool tiny_model_write(const char *path, const struct tiny_options *options) {
    static const char *const names[] = {"llama", "qwen2", "gemma3", "gpt2", "bert", "qwen3", "gemma"};
    struct builder           b       = {.o = options, .architecture = names[options->family], .ok = true};
    b.rng                            = soothe__rng_seed(options->seed, 1);
    b.d                              = options->d ? options->d : 64;
    b.n_ff                           = 2 * b.d;
    b.n_blocks                       = options->n_blocks ? options->n_blocks : 4;
    if (soothe__gguf_plan_new(&b.plan, 16 + 16 * (size_t)b.n_blocks, NULL) != SOOTHE_OK) {
        return false;
    }
    set_shape(&b);
    if (options->family == TINY_BERT)
        set_bert_vocabulary(&b);
    else if (options->sentence_piece)
        set_sentence_piece_vocabulary(&b);
    else
        set_vocabulary(&b);
    add(&b, "token_embd.weight", b.d, N_VOCAB);
    if (options->family == TINY_BERT)
        add_bert_ends(&b);
    else
        add(&b, "output_norm.weight", b.d, 1);
    if (options->family == TINY_GPT2) {
        add(&b, "output_norm.bias", b.d, 1);
        add(&b, "position_embd.weight", b.d, options->n_context ? options->n_context : N_CONTEXT);
    }
    if (options->family == TINY_QWEN3) {
        add(&b, "cls.output.weight", b.d, 2);
        gguf_set_arr_str(b.plan.meta, "qwen3.classifier.output_labels", (const char *[]){"yes", "no"}, 2);
    }
    if (options->family == TINY_QWEN2) {
        add(&b, "output.weight", b.d, N_VOCAB);
    }
    for (uint32_t i = 0; i < b.n_blocks; i++) {
        if (options->family == TINY_GPT2) {
            add_gpt2_block(&b, i);
        } else if (options->family == TINY_BERT) {
            add_bert_block(&b, i);
        } else {
            add_gated_block(&b, i);
        }
    }
    const bool ok = b.ok && soothe__gguf_plan_save(&b.plan, path, NULL) == SOOTHE_OK;
    soothe__gguf_plan_free(&b.plan);
    return ok;
}

bool tiny_random_alignment(const char *path, const char *source_path, const char *target_path, uint64_t seed) {
    struct soothe__gguf        target = {0}, source = {0};
    struct soothe__model_facts to;
    struct soothe__rng         rng   = soothe__rng_seed(seed, 3);
    uint32_t                   d_cal = 0;
    float                     *a     = NULL;
    bool                       ok    = soothe__gguf_open(&target, target_path, NULL) == SOOTHE_OK &&
              soothe__gguf_open(&source, source_path, NULL) == SOOTHE_OK &&
              soothe__model_facts(&to, &target, NULL) == SOOTHE_OK &&
              soothe__gguf_find_u32(&source, SOOTHE__KEY_D_CAL, &d_cal);
    if (ok)
        a = soothe__calloc((size_t)d_cal * to.d, sizeof *a);
    for (size_t i = 0; a && i < (size_t)d_cal * to.d; i++)
        a[i] = (float)(0.01 * soothe__rng_normal(&rng));
    ok = ok && a &&
         soothe__calibrator_write(path,
                                  &(struct soothe__calibrator_spec){.name        = "random alignment",
                                                                    .source_path = source_path,
                                                                    .target_path = target_path,
                                                                    .form        = SOOTHE_FORM_RESIDUAL,
                                                                    .strength    = 0.5f,
                                                                    .d_cal       = (int32_t)d_cal,
                                                                    .d_tgt       = (int32_t)to.d,
                                                                    .a           = a,
                                                                    .block_type  = GGML_TYPE_F16,
                                                                    .matrix_type = GGML_TYPE_F32},
                                  NULL) == SOOTHE_OK;
    free(a);
    soothe__gguf_close(&source);
    soothe__gguf_close(&target);
    return ok;
}
