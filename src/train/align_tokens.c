/* SPDX-License-Identifier: Apache-2.0 */
#include "train/align_tokens.h"

#include <stdlib.h>
#include <string.h>

enum { SPELLING_MAX = 256, COMMON_MIN = 16 };

/* As llama.cpp's files number them. */
enum { TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_UNUSED = 5, TYPE_BYTE = 6 };

/* ---- one token -------------------------------------------------------------------------------------------- */

/* The next code point of valid UTF-8, or -1. */
static int32_t next_point(const unsigned char **at) {
    const unsigned char *p = *at;
    const int            n = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc2 ? 2 : 0;
    int32_t              c = n == 1 ? p[0] : p[0] & (0xff >> (n + 1));
    for (int i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return -1;
        c = c << 6 | (p[i] & 0x3f);
    }
    *at = p + n;
    return n ? c : -1;
}

/* GPT-2's alphabet: printable bytes stand for themselves, the others for 256, 257, … in order. */
static int32_t byte_of_point(int32_t c) {
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255))
        return c;
    if (c >= 256 && c < 256 + 33)
        return c - 256;
    if (c >= 256 + 33 && c < 256 + 33 + 34)
        return c - 256 - 33 + 127;
    return c == 256 + 67 ? 173 : -1;
}

static size_t spell_bytes(const char *token, unsigned char *out, size_t size) {
    size_t n = 0;
    for (const unsigned char *at = (const unsigned char *)token; *at; n++) {
        const int32_t point = next_point(&at), byte = byte_of_point(point);
        if (byte < 0 || n == size)
            return 0;
        out[n] = (unsigned char)byte;
    }
    return n;
}

/* "▁" becomes a space. */
static size_t spell_spaces(const char *token, unsigned char *out, size_t size) {
    static const char MARK[] = "\xe2\x96\x81";
    size_t            n      = 0;
    for (const char *at = token; *at; n++) {
        const bool mark = !strncmp(at, MARK, 3);
        if (n == size)
            return 0;
        out[n] = mark ? ' ' : (unsigned char)*at;
        at += mark ? 3 : 1;
    }
    return n;
}

static size_t spell_hash(const char *token, unsigned char *out, size_t size) {
    if (!strncmp(token, "##", 2) && token[2])
        return spell_spaces(token + 2, out, size);
    if (size == 0)
        return 0;
    out[0]         = ' ';
    const size_t n = spell_spaces(token, out + 1, size - 1);
    return n ? n + 1 : 0;
}

size_t soothe__token_spelling(enum soothe__spelling spelling, const char *token, bool is_byte, unsigned char *out,
                              size_t size) {
    unsigned int value;
    char         rest;
    if (is_byte) {
        if (size == 0 || strlen(token) != 6 || sscanf(token, "<0x%2X%c", &value, &rest) != 2 || rest != '>')
            return 0;
        out[0] = (unsigned char)value;
        return 1;
    }
    if (spelling == SOOTHE__SPELL_BYTES)
        return spell_bytes(token, out, size);
    return spelling == SOOTHE__SPELL_WORDS_HASH ? spell_hash(token, out, size) : spell_spaces(token, out, size);
}

/* ---- one vocabulary ----------------------------------------------------------------------------------------- */

struct word {
    unsigned char *bytes;
    uint32_t       n, token;
    bool           is_byte; /* such a token comes second to another of the same bytes */
};

struct vocabulary {
    struct word   *words; /* sorted by bytes, no bytes twice */
    unsigned char *bytes;
    size_t         n;
};

static int by_bytes(const void *a, const void *b) {
    const struct word *x = a, *y = b;
    const int          order = memcmp(x->bytes, y->bytes, x->n < y->n ? x->n : y->n);
    if (order || x->n != y->n)
        return order ? order : x->n < y->n ? -1 : 1;
    if (x->is_byte != y->is_byte)
        return x->is_byte ? 1 : -1;
    return x->token < y->token ? -1 : 1;
}

static bool same_bytes(const struct word *x, const struct word *y) {
    return x->n == y->n && !memcmp(x->bytes, y->bytes, x->n);
}

static bool has_hashes(const struct soothe__gguf *g, int64_t key, size_t n) {
    size_t hashes = 0;
    for (size_t i = 0; i < n; i++)
        hashes += !strncmp(gguf_get_arr_str(g->meta, key, i), "##", 2);
    return hashes > n / 20;
}

static enum soothe_status find_spelling(enum soothe__spelling *spelling, const struct soothe__gguf *g, int64_t key,
                                        size_t n, struct soothe_error *err) {
    const char *model = soothe__gguf_find_string(g, "tokenizer.ggml.model");
    if (model && !strcmp(model, "gpt2"))
        *spelling = SOOTHE__SPELL_BYTES;
    else if (model && (!strcmp(model, "llama") || !strcmp(model, "t5") || !strcmp(model, "gemma")))
        *spelling = SOOTHE__SPELL_SPACES;
    else if (model && !strcmp(model, "bert"))
        *spelling = has_hashes(g, key, n) ? SOOTHE__SPELL_WORDS_HASH : SOOTHE__SPELL_WORDS;
    else
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "%s has a vocabulary of kind %s; how bytes are spelled is known of gpt2 (byte-level BPE), "
                            "llama and t5 (SentencePiece) and bert (WordPiece)",
                            g->path, model ? model : "unknown");
    return SOOTHE_OK;
}

/* Types of the tokens, or NULL where the file has none. */
static const int32_t *token_types(const struct soothe__gguf *g, size_t n) {
    const int64_t key = gguf_find_key(g->meta, "tokenizer.ggml.token_type");
    if (key < 0 || gguf_get_kv_type(g->meta, key) != GGUF_TYPE_ARRAY ||
        gguf_get_arr_type(g->meta, key) != GGUF_TYPE_INT32 || gguf_get_arr_n(g->meta, key) != n)
        return NULL;
    return gguf_get_arr_data(g->meta, key);
}

static void vocabulary_free(struct vocabulary *v) {
    free(v->words);
    free(v->bytes);
}

static void fill(struct vocabulary *v, const struct soothe__gguf *g, int64_t key, size_t n,
                 enum soothe__spelling spelling) {
    const int32_t *types = token_types(g, n);
    unsigned char *out   = v->bytes;
    for (size_t i = 0; i < n; i++) {
        const int32_t type = types ? types[i] : 1;
        const bool    byte = type == TYPE_BYTE;
        if (type == TYPE_UNKNOWN || type == TYPE_CONTROL || type == TYPE_UNUSED)
            continue;
        const char  *token = gguf_get_arr_str(g->meta, key, i);
        const size_t size  = soothe__token_spelling(spelling, token, byte, out, SPELLING_MAX);
        if (size)
            v->words[v->n++] = (struct word){out, (uint32_t)size, (uint32_t)i, byte};
        out += size;
    }
    if (v->n)
        qsort(v->words, v->n, sizeof *v->words, by_bytes);
    size_t kept = 0;
    for (size_t i = 0; i < v->n; i++)
        if (kept == 0 || !same_bytes(&v->words[kept - 1], &v->words[i]))
            v->words[kept++] = v->words[i];
    v->n = kept;
}

static enum soothe_status read_vocabulary(struct vocabulary *v, const struct soothe__gguf *g,
                                          struct soothe_error *err) {
    struct soothe__model_facts facts; /* checks the array of tokens */
    enum soothe__spelling      spelling = SOOTHE__SPELL_BYTES;
    const int64_t              key      = gguf_find_key(g->meta, "tokenizer.ggml.tokens");
    enum soothe_status         status   = soothe__model_facts(&facts, g, err);
    if (!status)
        status = find_spelling(&spelling, g, key, facts.n_vocab, err);
    if (status)
        return status;
    size_t total = SPELLING_MAX;
    for (size_t i = 0; i < facts.n_vocab; i++) {
        const size_t length = strlen(gguf_get_arr_str(g->meta, key, i)) + 1;
        total += length < SPELLING_MAX ? length : SPELLING_MAX;
    }
    v->words = soothe__calloc((size_t)facts.n_vocab + 1, sizeof *v->words);
    v->bytes = soothe__calloc(total, 1);
    if (!v->words || !v->bytes)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the vocabulary of %s", g->path);
    fill(v, g, key, facts.n_vocab, spelling);
    return SOOTHE_OK;
}

/* ---- two vocabularies ---------------------------------------------------------------------------------------- */

struct couple {
    uint32_t x, y;
};

static int by_x(const void *a, const void *b) {
    const struct couple *p = a, *q = b;
    return p->x < q->x ? -1 : p->x > q->x;
}

/* Merges the sorted words; *n couples. */
static void intersect(struct couple *couples, size_t *n, const struct vocabulary *x, const struct vocabulary *y) {
    for (size_t i = 0, k = 0; i < x->n && k < y->n;) {
        const struct word *a = &x->words[i], *b = &y->words[k];
        const int          order = memcmp(a->bytes, b->bytes, a->n < b->n ? a->n : b->n);
        if (!order && a->n == b->n) {
            couples[(*n)++] = (struct couple){a->token, b->token};
            i++, k++;
        } else if (order < 0 || (!order && a->n < b->n)) {
            i++;
        } else {
            k++;
        }
    }
    if (*n)
        qsort(couples, *n, sizeof *couples, by_x);
}

static enum soothe_status pair(struct soothe__token_pairs *pairs, const struct vocabulary *x,
                               const struct vocabulary *y, struct soothe_error *err) {
    struct couple *couples = soothe__calloc(x->n + 1, sizeof *couples);
    pairs->i_x             = soothe__calloc(x->n + 1, sizeof *pairs->i_x);
    pairs->i_y             = soothe__calloc(x->n + 1, sizeof *pairs->i_y);
    pairs->n_x             = x->n;
    pairs->n_y             = y->n;
    if (!couples || !pairs->i_x || !pairs->i_y) {
        free(couples);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu common tokens", x->n);
    }
    intersect(couples, &pairs->n, x, y);
    for (size_t i = 0; i < pairs->n; i++) {
        pairs->i_x[i] = couples[i].x;
        pairs->i_y[i] = couples[i].y;
    }
    free(couples);
    return SOOTHE_OK;
}

enum soothe_status soothe__token_pairs(struct soothe__token_pairs *pairs, const struct soothe__gguf *x,
                                       const struct soothe__gguf *y, struct soothe_error *err) {
    struct vocabulary of_x = {0}, of_y = {0};
    memset(pairs, 0, sizeof *pairs);
    enum soothe_status status = read_vocabulary(&of_x, x, err);
    if (!status)
        status = read_vocabulary(&of_y, y, err);
    if (!status)
        status = pair(pairs, &of_x, &of_y, err);
    if (!status && pairs->n < COMMON_MIN)
        status = soothe__fail(err, SOOTHE_E_MISMATCH,
                              "the vocabularies of %s and %s have %zu tokens in common: too few to align them", x->path,
                              y->path, pairs->n);
    if (status)
        soothe__token_pairs_free(pairs);
    vocabulary_free(&of_x);
    vocabulary_free(&of_y);
    return status;
}

void soothe__token_pairs_free(struct soothe__token_pairs *pairs) {
    free(pairs->i_x);
    free(pairs->i_y);
    memset(pairs, 0, sizeof *pairs);
}

/* ---- rows ----------------------------------------------------------------------------------------------------- */

enum soothe_status soothe__token_rows(float **rows, int32_t *d, const struct soothe__gguf *g, bool head,
                                      const uint32_t *tokens, size_t n, struct soothe_error *err) {
    struct soothe__model_facts facts;
    const bool                 untied = head && gguf_find_tensor(g->meta, "output.weight") >= 0;
    float                     *all    = NULL;
    enum soothe_status         status = soothe__model_facts(&facts, g, err);
    *rows                             = NULL;
    if (!status)
        status = soothe__gguf_get_f32(g, untied ? "output.weight" : "token_embd.weight",
                                      (int64_t)facts.d * facts.n_vocab, &all, err);
    if (status)
        return status;
    *d    = (int32_t)facts.d;
    *rows = soothe__calloc(n, (size_t)facts.d * sizeof **rows);
    for (size_t i = 0; *rows && i < n; i++)
        memcpy(*rows + i * facts.d, all + (size_t)tokens[i] * facts.d, facts.d * sizeof **rows);
    free(all);
    return *rows ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu rows of %s", n, g->path);
}
