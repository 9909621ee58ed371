/* SPDX-License-Identifier: Apache-2.0
 * The trie of a table, its walk over a text, and the lists of tokens that complete a word at each of its places. */
#include "methods/token_table.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text_tokens.h"

enum { ROOT = 0 };

struct node {
    uint32_t child, sibling; /* 0: none, since the root is neither */
    float    weight;         /* > 0: a word ends here */
    char     byte;
};

struct penalties {
    struct soothe__token_penalty *list;
    size_t                        n, capacity;
};

struct soothe__token_table {
    atomic_uint      n_owners;
    int32_t          n_vocab;
    char            *bytes; /* of all tokens, one after another; token t has those from at[t] to at[t + 1] */
    uint32_t        *at;    /* (n_vocab + 1) */
    struct node     *nodes;
    uint32_t         n_nodes, capacity;
    struct penalties fresh;  /* at a boundary */
    struct penalties inside; /* within a word that is on no path of the trie */
    struct penalties paths;  /* that go on from a node: those of node k from begin[k] to begin[k + 1] */
    uint32_t        *begin;  /* (n_nodes + 1) */
};

/* ---- the trie --------------------------------------------------------------------------------------------- */

static uint32_t child_of(const struct soothe__token_table *t, uint32_t node, char byte) {
    uint32_t c = t->nodes[node].child;
    while (c && t->nodes[c].byte != byte)
        c = t->nodes[c].sibling;
    return c;
}

/* 0: out of memory. */
static uint32_t add_child(struct soothe__token_table *t, uint32_t node, char byte) {
    if (t->n_nodes == t->capacity) {
        const uint32_t n      = t->capacity ? 2 * t->capacity : 4096;
        struct node   *larger = soothe__realloc(t->nodes, n, sizeof *larger);
        if (!larger)
            return 0;
        t->nodes    = larger;
        t->capacity = n;
    }
    const uint32_t c     = t->n_nodes++;
    t->nodes[c]          = (struct node){.sibling = t->nodes[node].child, .byte = byte};
    t->nodes[node].child = c;
    return c;
}

static bool add_word(struct soothe__token_table *t, const char *word, float weight) {
    uint32_t node = ROOT;
    for (; *word; word++) {
        const uint32_t child = child_of(t, node, *word);
        node                 = child ? child : add_child(t, node, *word);
        if (!node)
            return false;
    }
    t->nodes[node].weight = weight;
    return true;
}

static bool make_trie(struct soothe__token_table *t, const struct soothe__word_table *words) {
    t->nodes = soothe__calloc(4096, sizeof *t->nodes);
    if (!t->nodes)
        return false;
    t->capacity = 4096;
    t->n_nodes  = 1;
    for (size_t i = 0; i < words->n; i++)
        if (words->words[i].weight > 0 && !add_word(t, words->words[i].word, words->words[i].weight))
            return false;
    return true;
}

/* ---- walking ------------------------------------------------------------------------------------------------ */

/* Moves every path on by some bytes and drops those that end there. */
static void follow(const struct soothe__token_table *t, struct soothe__table_state *s, const char *bytes, size_t n) {
    uint8_t kept = 0;
    for (uint8_t k = 0; k < s->n_nodes; k++) {
        uint32_t node = s->nodes[k];
        for (size_t i = 0; i < n && (node || i == 0); i++)
            node = child_of(t, node, bytes[i]);
        if (node)
            s->nodes[kept++] = node;
    }
    s->n_nodes = kept;
}

static void move_char(const struct soothe__token_table *t, struct soothe__table_state *s, enum soothe__char_class class,
                      const char *bytes, size_t n) {
    if (class == SOOTHE__CHAR_LETTER) {
        if (!s->in_word && s->n_nodes < SOOTHE__PHRASE_WORDS_MAX)
            s->nodes[s->n_nodes++] = ROOT;
        follow(t, s, bytes, n);
    } else if (class == SOOTHE__CHAR_SEPARATOR && !s->separated)
        follow(t, s, " ", 1);
    else if (class == SOOTHE__CHAR_BREAK)
        s->n_nodes = 0;
    s->in_word   = class == SOOTHE__CHAR_LETTER;
    s->separated = class == SOOTHE__CHAR_SEPARATOR;
}

static float largest_weight(const struct soothe__token_table *t, const struct soothe__table_state *s) {
    float largest = 0;
    for (uint8_t k = 0; k < s->n_nodes; k++)
        if (t->nodes[s->nodes[k]].weight > largest)
            largest = t->nodes[s->nodes[k]].weight;
    return largest;
}

/* Moves s over the bytes of a token; returns the largest weight of a word whose last letter is among them. */
static float walk(const struct soothe__token_table *t, struct soothe__table_state *s, llama_token token) {
    float largest = 0;
    bool  letter  = false; /* the last character is one, and of this token */
    for (uint32_t i = t->at[token]; i < t->at[token + 1]; i++) {
        char   bytes[4];
        size_t n;
        const enum soothe__char_class class = soothe__word_char(&s->chars, (unsigned char)t->bytes[i], bytes, &n);
        if (class == SOOTHE__CHAR_NONE)
            continue;
        const float ended = letter && class != SOOTHE__CHAR_LETTER ? largest_weight(t, s) : 0;
        largest           = ended > largest ? ended : largest;
        move_char(t, s, class, bytes, n);
        letter = class == SOOTHE__CHAR_LETTER;
    }
    const float ended = letter && s->chars.n_held == 0 ? largest_weight(t, s) : 0;
    return ended > largest ? ended : largest;
}

void soothe__token_table_move(const struct soothe__token_table *t, struct soothe__table_state *s, llama_token token) {
    if (token < 0 || token >= t->n_vocab || t->at[token] == t->at[token + 1])
        *s = (struct soothe__table_state){.n_nodes = 0};
    else
        walk(t, s, token);
}

float soothe__token_table_weight(const struct soothe__token_table *t, const struct soothe__table_state *state,
                                 llama_token token) {
    struct soothe__table_state s = *state;
    return walk(t, &s, token);
}

/* ---- the vocabulary ------------------------------------------------------------------------------------------ */

static bool read_vocabulary(struct soothe__token_table *t, const struct llama_vocab *vocab) {
    size_t n   = 0;
    t->n_vocab = llama_vocab_n_tokens(vocab);
    t->at      = soothe__calloc((size_t)t->n_vocab + 1, sizeof *t->at);
    for (int32_t i = 0; i < t->n_vocab; i++)
        n += soothe__token_bytes(vocab, i, NULL, 0);
    t->bytes = n < UINT32_MAX ? soothe__calloc(n + 1, 1) : NULL;
    if (!t->at || !t->bytes)
        return false;
    for (int32_t i = 0; i < t->n_vocab; i++)
        t->at[i + 1] = t->at[i] + (uint32_t)soothe__token_bytes(vocab, i, t->bytes + t->at[i], n - t->at[i]);
    return true;
}

/* What a token adds to a path up to the end of one of its words: folded letters, one space for a run of separators. */
struct part {
    const char *text;
    size_t      n;
    llama_token token;
};
struct parts {
    char        *text;
    struct part *list;
    size_t       n, capacity;
};

static bool add_part(struct parts *p, const char *text, size_t n, llama_token token) {
    if (p->n == p->capacity) {
        const size_t more   = p->capacity ? 2 * p->capacity : 1 << 16;
        struct part *larger = soothe__realloc(p->list, more, sizeof *larger);
        if (!larger)
            return false;
        p->list     = larger;
        p->capacity = more;
    }
    p->list[p->n++] = (struct part){text, n, token};
    return true;
}

/* Writes the token's form to text, of which *n bytes are then used, and adds its parts. Behind a break nothing is part
 * of a path that began before. */
static bool add_parts_of(struct parts *p, const struct soothe__token_table *t, llama_token token, char *text,
                         size_t *size) {
    size_t                    n     = 0;
    struct soothe__word_chars chars = {.n_held = 0};
    bool                      ok    = true;
    for (uint32_t i = t->at[token]; i < t->at[token + 1] && ok; i++) {
        char   bytes[4];
        size_t n_c;
        const enum soothe__char_class class = soothe__word_char(&chars, (unsigned char)t->bytes[i], bytes, &n_c);
        const bool letters                  = n > 0 && text[n - 1] != ' ';
        *size                               = n;
        if (class == SOOTHE__CHAR_LETTER) {
            memcpy(text + n, bytes, n_c);
            n += n_c;
        } else if (class != SOOTHE__CHAR_NONE) {
            ok = !letters || add_part(p, text, n, token);
            if (class == SOOTHE__CHAR_BREAK)
                return ok;
            if (letters || n == 0)
                text[n++] = ' ';
        }
    }
    *size = n;
    return ok && (n == 0 || text[n - 1] == ' ' || chars.n_held > 0 || add_part(p, text, n, token));
}

static int compare(const char *a, size_t n_a, const char *b, size_t n_b) {
    const int order = memcmp(a, b, n_a < n_b ? n_a : n_b);
    return order ? order : (n_a > n_b) - (n_a < n_b);
}

static int compare_parts(const void *a, const void *b) {
    const struct part *x = a, *y = b;
    const int          order = compare(x->text, x->n, y->text, y->n);
    return order ? order : (x->token > y->token) - (x->token < y->token);
}

static bool make_parts(struct parts *p, const struct soothe__token_table *t) {
    size_t n_text = 0, size = 0;
    p->text = soothe__calloc(2 * (size_t)t->at[t->n_vocab] + 1, 1); /* lower case may take a byte more */
    for (int32_t i = 0; p->text && i < t->n_vocab; i++) {
        if (!add_parts_of(p, t, i, p->text + n_text, &size))
            return false;
        n_text += size;
    }
    if (p->n > 0)
        qsort(p->list, p->n, sizeof *p->list, compare_parts);
    return p->text != NULL;
}

/* ---- the lists ------------------------------------------------------------------------------------------------ */

static bool add_penalty(struct penalties *p, llama_token token, float weight) {
    if (p->n == p->capacity) {
        const size_t                  more   = p->capacity ? 2 * p->capacity : 1024;
        struct soothe__token_penalty *larger = soothe__realloc(p->list, more, sizeof *larger);
        if (!larger)
            return false;
        p->list     = larger;
        p->capacity = more;
    }
    p->list[p->n++] = (struct soothe__token_penalty){token, weight};
    return true;
}

static bool add_matching(struct soothe__token_table *t, const struct parts *p, const char *text, size_t n,
                         float weight) {
    size_t lo = 0, hi = p->n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (compare(p->list[mid].text, p->list[mid].n, text, n) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < p->n && compare(p->list[lo].text, p->list[lo].n, text, n) == 0; lo++)
        if (!add_penalty(&t->paths, p->list[lo].token, weight))
            return false;
    return true;
}

/* All words under a node: text + 1 holds the n bytes that lead to it from where the list begins. text[0] is a space,
 * for paths that stand behind a separator: one more changes nothing there. */
static bool add_paths(struct soothe__token_table *t, const struct parts *p, uint32_t node, char *text, size_t n,
                      bool after_separator) {
    bool ok = true;
    for (uint32_t c = t->nodes[node].child; c && ok; c = t->nodes[c].sibling) {
        text[1 + n] = t->nodes[c].byte;
        if (t->nodes[c].weight > 0)
            ok = add_matching(t, p, text + 1, n + 1, t->nodes[c].weight) &&
                 (!after_separator || add_matching(t, p, text, n + 2, t->nodes[c].weight));
        ok = ok && add_paths(t, p, c, text, n + 1, after_separator);
    }
    return ok;
}

static bool make_lists(struct soothe__token_table *t) {
    const struct soothe__table_state fresh = {.n_nodes = 0}, inside = {.in_word = true};
    struct parts                     p                                = {.n = 0};
    char                             text[SOOTHE__WORD_BYTES_MAX + 2] = " ";
    bool                             ok                               = make_parts(&p, t);
    t->begin = soothe__calloc((size_t)t->n_nodes + 1, sizeof *t->begin);
    for (int32_t i = 0; i < t->n_vocab && ok; i++) {
        const float a = soothe__token_table_weight(t, &fresh, i), b = soothe__token_table_weight(t, &inside, i);
        ok = (a == 0 || add_penalty(&t->fresh, i, a)) && (b == 0 || add_penalty(&t->inside, i, b));
    }
    for (uint32_t node = 1; node < t->n_nodes && ok && t->begin; node++) {
        t->begin[node]     = (uint32_t)t->paths.n;
        ok                 = add_paths(t, &p, node, text, 0, t->nodes[node].byte == ' ');
        t->begin[node + 1] = (uint32_t)t->paths.n;
    }
    free(p.text);
    free(p.list);
    return ok && t->begin;
}

enum soothe_status soothe__token_table_new(struct soothe__token_table **table, const struct soothe__word_table *words,
                                           const struct llama_vocab *vocab, struct soothe_error *err) {
    struct soothe__token_table *t = soothe__calloc(1, sizeof *t);
    *table                        = NULL;
    if (t)
        atomic_init(&t->n_owners, 1);
    if (!t || !make_trie(t, words) || !read_vocabulary(t, vocab) || !make_lists(t)) {
        soothe__token_table_free(t);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a table of %zu words", words->n);
    }
    *table = t;
    return SOOTHE_OK;
}

struct soothe__token_table *soothe__token_table_share(struct soothe__token_table *t) {
    atomic_fetch_add(&t->n_owners, 1);
    return t;
}

void soothe__token_table_free(struct soothe__token_table *t) {
    if (!t || atomic_fetch_sub(&t->n_owners, 1) > 1)
        return;
    free(t->bytes);
    free(t->at);
    free(t->nodes);
    free(t->fresh.list);
    free(t->inside.list);
    free(t->paths.list);
    free(t->begin);
    free(t);
}

/* ---- a row ---------------------------------------------------------------------------------------------------- */

bool soothe__token_room_new(struct soothe__token_room *room, const struct soothe__token_table *t) {
    room->weight  = soothe__calloc((size_t)t->n_vocab + 1, sizeof *room->weight);
    room->list    = soothe__calloc((size_t)t->n_vocab + 1, sizeof *room->list);
    room->n_vocab = t->n_vocab;
    return room->weight && room->list;
}

void soothe__token_room_free(struct soothe__token_room *room) {
    free(room->weight);
    free(room->list);
    *room = (struct soothe__token_room){.weight = NULL};
}

/* Adds a list to the n tokens in the room. */
static size_t collect(struct soothe__token_room *room, size_t n, const struct soothe__token_penalty *list,
                      size_t n_list) {
    for (size_t i = 0; i < n_list; i++) {
        float *weight = &room->weight[list[i].token];
        if (*weight == 0)
            room->list[n++].token = list[i].token;
        if (list[i].weight > *weight)
            *weight = list[i].weight;
    }
    return n;
}

size_t soothe__token_table_list(const struct soothe__token_table *t, const struct soothe__table_state *s,
                                struct soothe__token_room *room) {
    const struct penalties *base = s->in_word ? &t->inside : &t->fresh;
    size_t                  n    = collect(room, 0, base->list, base->n);
    for (uint8_t k = 0; k < s->n_nodes; k++) {
        const uint32_t node = s->nodes[k];
        n                   = collect(room, n, t->paths.list + t->begin[node], t->begin[node + 1] - t->begin[node]);
    }
    for (size_t i = 0; i < n; i++) {
        room->list[i].weight              = room->weight[room->list[i].token];
        room->weight[room->list[i].token] = 0;
    }
    return n;
}
