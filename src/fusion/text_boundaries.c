/* SPDX-License-Identifier: Apache-2.0 */
#include "fusion/text_boundaries.h"

#include <stdlib.h>
#include <string.h>

#include "engine/text_tokens.h"

struct soothe__boundaries {
    const struct llama_vocab *vocab;
    bool                      any;           /* false: texts are tokenized whole */
    bool                      pre_tokenized; /* byte-level BPE; else SentencePiece */
    bool                      leading_space;
    bool                      user_first[256]; /* bytes that a user-defined token begins with */
    uint64_t                 *pairs;           /* hash table of neighbours within tokens; 0: empty */
    size_t                    n_pairs, n_places;
};

/* ---- characters ---------------------------------------------------------------------------------------------- */

enum { NO_CHARACTER = 0x110000, SPACE_MARK = 0x2581 };

/* The code point at s; a byte that begins none counts as one of its own. SentencePiece's space is a space. */
static uint32_t character_at(const char *s, size_t size, size_t *length) {
    const unsigned char *u = (const unsigned char *)s;
    const size_t         n = u[0] < 0x80 ? 1 : u[0] < 0xE0 ? 2 : u[0] < 0xF0 ? 3 : 4;
    *length                = 1;
    if (n == 1)
        return u[0];
    if (n > size || !soothe__utf8_valid(s, n))
        return NO_CHARACTER + u[0];
    uint32_t c = u[0] & (0xFFu >> (n + 1));
    for (size_t i = 1; i < n; i++)
        c = c << 6 | (u[i] & 0x3Fu);
    *length = n;
    return c == SPACE_MARK ? ' ' : c;
}

/* Certainly \p{L}, in every version of Unicode: the common ranges without gaps. */
static bool is_letter(uint32_t c) {
    static const uint32_t ranges[][2] = {
        {'A', 'Z'},       {'a', 'z'},       {0xC0, 0xD6},     {0xD8, 0xF6},     {0xF8, 0x24F},
        {0x3B1, 0x3C9},   {0x400, 0x481},   {0x5D0, 0x5EA},   {0x621, 0x63A},   {0x641, 0x64A},
        {0x3041, 0x3096}, {0x30A1, 0x30FA}, {0x3400, 0x4DB5}, {0x4E00, 0x9FA5}, {0xAC00, 0xD7A3},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (c >= ranges[i][0] && c <= ranges[i][1])
            return true;
    return false;
}

/* White space of ASCII, and the marks that end words where no spaces are written. */
static bool ends_letters(uint32_t c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == 0x3001 || c == 0x3002 || c == 0xFF0C ||
           c == 0xFF01 || c == 0xFF1F;
}

/* ---- neighbours within tokens -------------------------------------------------------------------------------- */

static size_t place_of(const struct soothe__boundaries *b, uint64_t pair) {
    size_t i = (size_t)(pair * 0x9E3779B97F4A7C15u >> 20) & (b->n_places - 1);
    while (b->pairs[i] && b->pairs[i] != pair)
        i = (i + 1) & (b->n_places - 1);
    return i;
}

static bool grow_pairs(struct soothe__boundaries *b) {
    uint64_t    *old   = b->pairs;
    const size_t n_old = b->n_places;
    b->n_places        = n_old ? 2 * n_old : 1024;
    b->pairs           = soothe__calloc(b->n_places, sizeof *b->pairs);
    for (size_t i = 0; b->pairs && i < n_old; i++)
        if (old[i])
            b->pairs[place_of(b, old[i])] = old[i];
    free(old);
    return b->pairs != NULL;
}

static uint64_t pair_of(uint32_t before, uint32_t behind) {
    return ((uint64_t)before << 32 | behind) + 1;
}

static bool add_neighbours(struct soothe__boundaries *b, const char *text) {
    const size_t size = strlen(text);
    uint32_t     last = 0;
    for (size_t i = 0, n; i < size; i += n) {
        const uint32_t c = character_at(text + i, size - i, &n);
        if (2 * (b->n_pairs + 1) > b->n_places && !grow_pairs(b))
            return false;
        const uint64_t pair  = pair_of(last, c);
        uint64_t      *place = &b->pairs[place_of(b, pair)];
        b->n_pairs += i > 0 && !*place;
        if (i > 0)
            *place = pair;
        last = c;
    }
    return true;
}

/* ---- the vocabulary ------------------------------------------------------------------------------------------ */

/* Pre-tokenizers whose patterns were read: in each, letters are matched by \p{L}+ with at most one other character
 * before them, white space by patterns that begin with it, and nothing looks back. */
static bool knows_pre_tokenizer(const struct llama_model *model) {
    static const char *const names[] = {"gpt-2",     "phi-2",   "smollm", "starcoder",        "refact",
                                        "command-r", "mpt",     "olmo",   "llama-bpe",        "llama3",
                                        "llama-v3",  "falcon3", "qwen2",  "deepseek-r1-qwen", "stablelm2"};
    char                     name[64];
    if (llama_model_meta_val_str(model, "tokenizer.ggml.model", name, sizeof name) < 0 || strcmp(name, "gpt2") != 0 ||
        llama_model_meta_val_str(model, "tokenizer.ggml.pre", name, sizeof name) < 0)
        return false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* The engine's SentencePiece falls back to byte tokens and throws where one is missing. */
static bool spells_every_byte(const struct llama_vocab *vocab) {
    bool          found[256] = {false};
    const int32_t n          = llama_vocab_n_tokens(vocab);
    for (llama_token t = 0; t < n; t++) {
        const char *text = llama_vocab_get_text(vocab, t);
        if (strlen(text) == 6 && strncmp(text, "<0x", 3) == 0 && text[5] == '>')
            found[strtoul(text + 3, NULL, 16) & 255] = true;
        else if (text[0] && !text[1])
            found[(unsigned char)text[0]] = true;
    }
    for (int i = 0; i < 256; i++)
        if (!found[i])
            return false;
    return true;
}

static enum soothe_status read_vocabulary(struct soothe__boundaries *b, struct soothe_error *err) {
    enum { STRIP = LLAMA_TOKEN_ATTR_LSTRIP | LLAMA_TOKEN_ATTR_RSTRIP };
    const int32_t n = llama_vocab_n_tokens(b->vocab);
    for (llama_token t = 0; t < n && b->any; t++) {
        const int   attr = (int)llama_vocab_get_attr(b->vocab, t);
        const bool  user = (attr & LLAMA_TOKEN_ATTR_USER_DEFINED) != 0;
        const char *text = llama_vocab_get_text(b->vocab, t);
        if (user)
            b->user_first[(unsigned char)text[0]] = true;
        if (user && attr & STRIP) /* takes spaces beside it, however many */
            b->any = false;
        if ((user || !b->pre_tokenized) && !add_neighbours(b, text))
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading a vocabulary");
    }
    return SOOTHE_OK;
}

enum soothe_status soothe__boundaries_new(struct soothe__boundaries **out, const struct llama_model *model,
                                          struct soothe_error *err) {
    struct soothe__boundaries *b      = soothe__calloc(1, sizeof *b);
    enum soothe_status         status = SOOTHE_OK;
    *out                              = NULL;
    if (!b)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading a vocabulary");
    b->vocab                         = llama_model_get_vocab(model);
    const enum llama_vocab_type type = llama_vocab_type(b->vocab);
    if (type == LLAMA_VOCAB_TYPE_NONE)
        status =
            soothe__fail(err, SOOTHE_E_UNSUPPORTED, "the calibrator's model has no vocabulary to follow a text with");
    else if (type == LLAMA_VOCAB_TYPE_SPM && !spells_every_byte(b->vocab))
        status =
            soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                         "the calibrator's vocabulary lacks some of the 256 byte tokens: it cannot spell every text");
    b->pre_tokenized = type == LLAMA_VOCAB_TYPE_BPE;
    b->any           = type == LLAMA_VOCAB_TYPE_SPM || (b->pre_tokenized && knows_pre_tokenizer(model));
    if (!status)
        b->leading_space = soothe__adds_leading_space(b->vocab);
    if (!status)
        status = read_vocabulary(b, err);
    if (!status && !b->pairs && !grow_pairs(b))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading a vocabulary");
    if (status)
        soothe__boundaries_free(b);
    else
        *out = b;
    return status;
}

void soothe__boundaries_free(struct soothe__boundaries *b) {
    if (b)
        free(b->pairs);
    free(b);
}

/* ---- boundaries ---------------------------------------------------------------------------------------------- */

/* p is where a character begins that follows another, at `before`. */
static bool is_boundary(const struct soothe__boundaries *b, const char *text, size_t size, size_t before, size_t p) {
    size_t         n;
    const uint32_t left = character_at(text + before, size - before, &n), right = character_at(text + p, size - p, &n);
    if (b->pre_tokenized && !(is_letter(left) && ends_letters(right)))
        return false;
    /* The space that the engine puts before the tail must stand for the tail's own, which it does unless the tail
     * begins with a token that is taken out before. */
    if (b->leading_space && (text[p] != ' ' || p + 1 >= size || b->user_first[(unsigned char)text[p + 1]]))
        return false;
    const uint64_t pair = pair_of(left, right);
    return b->pairs[place_of(b, pair)] != pair;
}

size_t soothe__boundary_behind(const struct soothe__boundaries *b, const char *text, size_t size, size_t from) {
    size_t p = size;
    while (b->any && p > from) {
        size_t before = p - 1;
        while (before > from && ((unsigned char)text[before] & 0xC0) == 0x80)
            before--;
        if (p < size && is_boundary(b, text, size, before, p))
            return p;
        p = before;
    }
    return from;
}

/* ---- tokens -------------------------------------------------------------------------------------------------- */

bool soothe__tokens_reserve(struct soothe__tokens *t, size_t n) {
    if (n > t->capacity) {
        const size_t capacity = n + n / 2 + 16;
        llama_token *data     = soothe__realloc(t->data, capacity, sizeof *data);
        if (!data)
            return false;
        t->data     = data;
        t->capacity = capacity;
    }
    return true;
}

enum soothe_status soothe__boundaries_tokenize(const struct soothe__boundaries *b, struct soothe__tokens *out,
                                               const char *text, size_t size, bool tail, struct soothe_error *err) {
    const size_t skip = tail && b->leading_space ? 1 : 0;
    if (size >= INT32_MAX / 2)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a text of %zu bytes is too long to be followed", size);
    int32_t room = (int32_t)size + 8, n = 0;
    for (int attempt = 0; attempt < 2; attempt++, room = -n) {
        if (!soothe__tokens_reserve(out, out->n + (size_t)room))
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the tokens of %zu bytes", size);
        n = llama_tokenize(b->vocab, text + skip, (int32_t)(size - skip), out->data + out->n, room, false, false);
        if (n >= 0 || n == INT32_MIN)
            break;
    }
    if (n < 0)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine cannot split a text of %zu bytes into tokens", size);
    out->n += (size_t)n;
    return SOOTHE_OK;
}
