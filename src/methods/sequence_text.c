/* SPDX-License-Identifier: Apache-2.0
 * Tokens by sequence and position, as the engine's cache has them. */
#include "methods/sequence_text.h"

#include <stdlib.h>
#include <string.h>

#include "engine/text_tokens.h"
#include "generate/generate.h"

enum { SEQUENCES = 256 };

struct tokens {
    llama_token *t; /* by position; LLAMA_TOKEN_NULL where none was seen */
    int32_t      n, capacity;
};

struct soothe__sequence_texts {
    const struct llama_vocab *vocab;
    struct tokens             sequences[SEQUENCES];
};

enum soothe_status soothe__sequence_texts_new(struct soothe__sequence_texts **t, const struct llama_vocab *vocab,
                                              struct soothe_error *err) {
    *t = soothe__calloc(1, sizeof **t);
    if (!*t)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for texts");
    (*t)->vocab = vocab;
    return SOOTHE_OK;
}

void soothe__sequence_texts_free(struct soothe__sequence_texts *t) {
    for (int i = 0; t && i < SEQUENCES; i++)
        free(t->sequences[i].t);
    free(t);
}

static bool make_room(struct tokens *q, int32_t n) {
    if (n <= q->capacity)
        return true;
    llama_token *t = soothe__realloc(q->t, (size_t)n + 64, sizeof *t);
    if (!t)
        return false;
    q->t        = t;
    q->capacity = n + 64;
    return true;
}

static bool set(struct tokens *q, llama_pos pos, llama_token token) {
    if (pos < 0 || !make_room(q, pos + 1))
        return pos < 0;
    while (q->n < pos)
        q->t[q->n++] = LLAMA_TOKEN_NULL;
    q->t[pos] = token;
    q->n      = pos + 1 > q->n ? pos + 1 : q->n;
    return true;
}

enum soothe_status soothe__sequence_texts_before(struct soothe__sequence_texts *t, const struct soothe__step *step,
                                                 struct soothe_error *err) {
    static const llama_seq_id ZERO = 0;
    const struct llama_batch *b    = step->batch;
    if (!b->token)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "a batch of embeddings: texts are known of tokens only");
    for (int32_t i = 0; i < b->n_tokens; i++) {
        const llama_seq_id *ids = b->seq_id ? b->seq_id[i] : &ZERO;
        for (int32_t k = 0; k < (b->seq_id ? b->n_seq_id[i] : 1); k++) {
            struct tokens *q = ids[k] >= 0 && ids[k] < SEQUENCES ? &t->sequences[ids[k]] : NULL;
            if (q && !set(q, b->pos ? b->pos[i] : q->n, b->token[i]))
                return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a text of %d tokens", q->n);
        }
    }
    return SOOTHE_OK;
}

/* Tails only: what methods and generators cut. */
static void cut(struct tokens *q, llama_pos p0) {
    if (p0 < q->n)
        q->n = p0 < 0 ? 0 : p0;
}

static void copy(struct soothe__sequence_texts *t, const struct soothe__memory_change *c) {
    const struct tokens *from = &t->sequences[c->seq];
    const llama_pos      end  = c->p1 < 0 || c->p1 > from->n ? from->n : c->p1;
    for (llama_pos p = c->p0 < 0 ? 0 : c->p0; p < end; p++)
        if (!set(&t->sequences[c->to], p, from->t[p]))
            return; /* a shorter text is judged */
}

void soothe__sequence_texts_change(struct soothe__sequence_texts *t, const struct soothe__memory_change *c) {
    const bool known =
        c->seq < SEQUENCES && (c->op != SOOTHE__MEMORY_CP || (c->seq >= 0 && c->to >= 0 && c->to < SEQUENCES));
    if (!known)
        return;
    if (c->op == SOOTHE__MEMORY_CP && c->seq != c->to)
        copy(t, c);
    for (llama_seq_id i = 0; i < SEQUENCES; i++)
        if (c->op == SOOTHE__MEMORY_CLEAR || (c->op == SOOTHE__MEMORY_KEEP && i != c->seq) ||
            (c->op == SOOTHE__MEMORY_RM && (c->seq < 0 || i == c->seq) && (c->p1 < 0 || c->p1 >= t->sequences[i].n)))
            cut(&t->sequences[i], c->op == SOOTHE__MEMORY_RM ? c->p0 : 0);
}

/* A text under construction. */
struct text {
    struct soothe__utf8_stream stream;
    char                      *bytes;
    size_t                     n, capacity;
    bool                       failed;
};

static void append(struct text *x, const struct llama_vocab *vocab, llama_token token) {
    char   piece[256];
    size_t n = token == LLAMA_TOKEN_NULL ? 0 : soothe__token_bytes(vocab, token, piece, sizeof piece);
    n        = n < sizeof piece ? n : sizeof piece;
    if (x->n + 3 * (n + 4) + 1 > x->capacity) {
        const size_t capacity = 2 * x->capacity + 3 * (n + 4) + 256;
        char        *bytes    = soothe__realloc(x->bytes, capacity, 1);
        if (!bytes) {
            x->failed = true;
            return;
        }
        x->bytes    = bytes;
        x->capacity = capacity;
    }
    x->n += soothe__utf8_push(&x->stream, piece, n, x->bytes + x->n);
}

char *soothe__sequence_text(const struct soothe__sequence_texts *t, llama_seq_id seq, llama_pos pos, int32_t n_last,
                            llama_token more) {
    struct text          x = {.n = 0};
    const struct tokens *q = seq >= 0 && seq < SEQUENCES ? &t->sequences[seq] : NULL;
    const int32_t        n = !q ? 0 : pos + 1 < q->n ? pos + 1 : q->n;
    for (int32_t i = n_last > 0 && n > n_last ? n - n_last : 0; i < n && !x.failed; i++)
        append(&x, t->vocab, q->t[i]);
    if (!x.failed)
        append(&x, t->vocab, more);
    if (x.failed) {
        free(x.bytes);
        return NULL;
    }
    x.bytes[x.n] = '\0';
    return x.bytes;
}
