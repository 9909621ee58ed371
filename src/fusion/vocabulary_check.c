/* SPDX-License-Identifier: Apache-2.0 */
#include "fusion/vocabulary_check.h"

#include <stdlib.h>
#include <string.h>

/* Absent, or an array of that type with n elements (n < 0: any number). */
static bool array_fits(const struct soothe__gguf *g, const char *key, enum gguf_type type, int64_t n) {
    const int64_t i = gguf_find_key(g->meta, key);
    return i < 0 || (gguf_get_kv_type(g->meta, i) == GGUF_TYPE_ARRAY && gguf_get_arr_type(g->meta, i) == type &&
                     (n < 0 || gguf_get_arr_n(g->meta, i) == (size_t)n));
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The engine gives empty tokens names "[EMPTY_N]". */
static enum soothe_status check_distinct(const struct soothe__gguf *g, int64_t i_tokens, struct soothe_error *err) {
    const size_t       n       = gguf_get_arr_n(g->meta, i_tokens);
    const char       **texts   = soothe__calloc(n, sizeof *texts);
    size_t             n_texts = 0;
    bool               named   = false;
    enum soothe_status status  = SOOTHE_OK;
    if (!texts)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory checking the vocabulary of %s", g->path);
    for (size_t k = 0; k < n; k++) {
        const char *text = gguf_get_arr_str(g->meta, i_tokens, k);
        named            = named || strncmp(text, "[EMPTY_", 7) == 0;
        if (text[0])
            texts[n_texts++] = text;
    }
    qsort(texts, n_texts, sizeof *texts, by_text);
    for (size_t k = 1; k < n_texts && !status; k++)
        if (strcmp(texts[k - 1], texts[k]) == 0)
            status = soothe__fail(err, SOOTHE_E_FORMAT, "the vocabulary of %s has the token \"%.40s\" twice", g->path,
                                  texts[k]);
    if (!status && named && n_texts < n)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "the vocabulary of %s has empty tokens and tokens \"[EMPTY_…\"",
                              g->path);
    free(texts);
    return status;
}

enum soothe_status soothe__vocabulary_check(const struct soothe__gguf *g, struct soothe_error *err) {
    enum { FEWEST = 256 }; /* below, the engine's own numbers of special tokens may not exist */
    const char   *model    = soothe__gguf_find_string(g, "tokenizer.ggml.model");
    const int64_t i_tokens = gguf_find_key(g->meta, "tokenizer.ggml.tokens");
    if (!model || (strcmp(model, "gpt2") != 0 && strcmp(model, "llama") != 0))
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "%s has a vocabulary of kind \"%.40s\": a calibrator that follows the text needs gpt2 or "
                            "llama, or to be packed and given its base",
                            g->path, model ? model : "none");
    if (i_tokens < 0 || !array_fits(g, "tokenizer.ggml.tokens", GGUF_TYPE_STRING, -1) ||
        gguf_get_arr_n(g->meta, i_tokens) < FEWEST || gguf_get_arr_n(g->meta, i_tokens) > INT32_MAX)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s carries no usable vocabulary (tokenizer.ggml.tokens)", g->path);
    const int64_t n = (int64_t)gguf_get_arr_n(g->meta, i_tokens);
    if (!array_fits(g, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, n) ||
        !array_fits(g, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, n) ||
        !array_fits(g, "tokenizer.ggml.merges", GGUF_TYPE_STRING, -1))
        return soothe__fail(err, SOOTHE_E_FORMAT, "the arrays of the vocabulary of %s do not belong together", g->path);
    return check_distinct(g, i_tokens, err);
}
