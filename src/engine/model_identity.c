/* SPDX-License-Identifier: Apache-2.0
 * Telling models apart: vocabulary hash, fingerprint of a base model, hash of a cut. */
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

int32_t soothe__block_of_tensor(const char *name) {
    if (strncmp(name, "blk.", 4) != 0) {
        return -1;
    }
    char      *end;
    const long n = strtol(name + 4, &end, 10);
    return end != name + 4 && *end == '.' && n >= 0 && n < INT32_MAX ? (int32_t)n : -1;
}

enum soothe_status soothe__model_facts(struct soothe__model_facts *facts, const struct soothe__gguf *g,
                                       struct soothe_error *err) {
    memset(facts, 0, sizeof *facts);
    facts->architecture = soothe__gguf_find_string(g, "general.architecture");
    facts->name         = soothe__gguf_find_string(g, "general.name");
    if (!facts->name) {
        facts->name = "(unnamed)";
    }
    if (!facts->architecture) {
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s names no general.architecture", g->path);
    }
    if (!soothe__gguf_find_arch_u32(g, "block_count", &facts->n_blocks) ||
        !soothe__gguf_find_arch_u32(g, "embedding_length", &facts->d)) {
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "%s (architecture %s) does not say block_count and embedding_length: not a decoder",
                            g->path, facts->architecture);
    }
    const int64_t i_tokens = gguf_find_key(g->meta, "tokenizer.ggml.tokens");
    if (i_tokens < 0 || gguf_get_kv_type(g->meta, i_tokens) != GGUF_TYPE_ARRAY ||
        gguf_get_arr_type(g->meta, i_tokens) != GGUF_TYPE_STRING) {
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s carries no vocabulary (tokenizer.ggml.tokens)", g->path);
    }
    facts->n_vocab = (uint32_t)gguf_get_arr_n(g->meta, i_tokens);
    return SOOTHE_OK;
}

static void hash_text(struct soothe__sha256 *h, const char *text) {
    soothe__sha256_add(h, text ? text : "", strlen(text ? text : "") + 1);
}

static void hash_string_array(struct soothe__sha256 *h, const struct soothe__gguf *g, const char *key) {
    const int64_t i = gguf_find_key(g->meta, key);
    if (i < 0 || gguf_get_kv_type(g->meta, i) != GGUF_TYPE_ARRAY || gguf_get_arr_type(g->meta, i) != GGUF_TYPE_STRING) {
        return;
    }
    const size_t n = gguf_get_arr_n(g->meta, i);
    for (size_t k = 0; k < n; k++) {
        hash_text(h, gguf_get_arr_str(g->meta, i, k));
    }
}

static void hash_tokenizer_into(struct soothe__sha256 *h, const struct soothe__gguf *g) {
    hash_text(h, soothe__gguf_find_string(g, "tokenizer.ggml.model"));
    hash_text(h, soothe__gguf_find_string(g, "tokenizer.ggml.pre"));
    hash_string_array(h, g, "tokenizer.ggml.tokens");
    hash_string_array(h, g, "tokenizer.ggml.merges");
}

void soothe__tokenizer_hash(char hex[65], const struct soothe__gguf *g) {
    struct soothe__sha256 *h = soothe__sha256_new();
    hash_tokenizer_into(h, g);
    soothe__sha256_finish(h, hex);
}

enum soothe_status soothe__gguf_hash_tensor(struct soothe__sha256 *h, const struct soothe__gguf *g, int64_t i,
                                            struct soothe_error *err) {
    enum { CHUNK = 1 << 20 };
    enum soothe_status status = SOOTHE_OK;
    const size_t       size   = gguf_get_tensor_size(g->meta, i);
    char              *buffer = soothe__calloc(CHUNK, 1);
    if (!buffer) {
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory hashing %s", g->path);
    }
    hash_text(h, gguf_get_tensor_name(g->meta, i));
    for (size_t at = 0; at < size && status == SOOTHE_OK; at += CHUNK) {
        const size_t n = size - at < CHUNK ? size - at : CHUNK;
        status         = soothe__gguf_read(g, i, at, buffer, n, err);
        soothe__sha256_add(h, buffer, n);
    }
    free(buffer);
    return status;
}

enum soothe_status soothe__tensors_hash(char hex[65], const struct soothe__gguf *g, struct soothe_error *err) {
    enum soothe_status     status = SOOTHE_OK;
    struct soothe__sha256 *h      = soothe__sha256_new();
    const int64_t          n      = gguf_get_n_tensors(g->meta);
    for (int64_t i = 0; i < n && status == SOOTHE_OK; i++) {
        status = soothe__gguf_hash_tensor(h, g, i, err);
    }
    soothe__sha256_finish(h, hex);
    return status;
}

enum soothe_status soothe__model_fingerprint(char hex[65], const struct soothe__gguf *g, struct soothe_error *err) {
    struct soothe__model_facts facts;
    enum soothe_status         status = soothe__model_facts(&facts, g, err);
    if (status != SOOTHE_OK) {
        return status;
    }
    struct soothe__sha256 *h = soothe__sha256_new();
    hash_text(h, facts.architecture);
    soothe__sha256_add(h, &facts.n_blocks, sizeof facts.n_blocks);
    soothe__sha256_add(h, &facts.d, sizeof facts.d);
    hash_tokenizer_into(h, g);
    const int64_t i_norm = gguf_find_tensor(g->meta, "output_norm.weight");
    if (i_norm >= 0) {
        status = soothe__gguf_hash_tensor(h, g, i_norm, err);
    }
    soothe__sha256_finish(h, hex);
    return status;
}

enum soothe_status soothe__cut_hash(char hex[65], const struct soothe__gguf *g, uint32_t n_blocks,
                                    struct soothe_error *err) {
    enum soothe_status     status = SOOTHE_OK;
    struct soothe__sha256 *h      = soothe__sha256_new();
    const int64_t          n      = gguf_get_n_tensors(g->meta);
    for (int64_t i = 0; i < n && status == SOOTHE_OK; i++) {
        const char   *name  = gguf_get_tensor_name(g->meta, i);
        const int32_t block = soothe__block_of_tensor(name);
        const bool    taken = block >= 0
                                  ? (uint32_t)block < n_blocks
                                  : strcmp(name, "token_embd.weight") == 0 || strcmp(name, "output_norm.weight") == 0;
        if (taken) {
            status = soothe__gguf_hash_tensor(h, g, i, err);
        }
    }
    soothe__sha256_finish(h, hex);
    return status;
}
