/* SPDX-License-Identifier: Apache-2.0 */
#include "fusion/text_follower.h"

#include <stdlib.h>
#include <string.h>

#include "engine/text_tokens.h"

enum soothe_status soothe__follow_rules_new(struct soothe__follow_rules *r, const struct llama_vocab *target,
                                            const struct llama_model *own, struct soothe_error *err) {
    *r              = (struct soothe__follow_rules){.target = target, .own = llama_model_get_vocab(own)};
    r->target_space = soothe__adds_leading_space(target);
    return soothe__boundaries_new(&r->boundaries, own, err);
}

void soothe__follow_rules_free(struct soothe__follow_rules *r) {
    soothe__boundaries_free(r->boundaries);
    r->boundaries = NULL;
}

static enum soothe_status no_memory(struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory following a text");
}

/* Room for one more of `size` bytes. */
static bool make_room(void *data, size_t n, size_t *capacity, size_t size) {
    if (n < *capacity)
        return true;
    const size_t more  = 2 * *capacity + 16;
    void       **array = data;
    void        *grown = soothe__realloc(*array, more, size);
    if (!grown)
        return false;
    *array    = grown;
    *capacity = more;
    return true;
}

void soothe__follower_free(struct soothe__follower *f) {
    free(f->entries);
    free(f->text);
    free(f->specials);
    free(f->known);
    free(f->tokens.data);
    *f = (struct soothe__follower){.n = 0};
}

llama_pos soothe__follower_end(const struct soothe__follower *f) {
    return f->n ? f->entries[f->n - 1].pos : -1;
}

/* ---- tokens to text ------------------------------------------------------------------------------------------ */

static bool text_room(struct soothe__follower *f, size_t n) {
    if (f->n_text + n <= f->text_capacity)
        return true;
    const size_t capacity = 2 * (f->n_text + n) + 64;
    char        *text     = soothe__realloc(f->text, capacity, 1);
    if (!text)
        return false;
    f->text          = text;
    f->text_capacity = capacity;
    return true;
}

/* Bytes that have waited in vain. */
static void give_up_waiting(struct soothe__follower *f, struct soothe__followed *e) {
    if (e->waiting.n_held > 0) {
        memcpy(f->text + f->n_text, "\xEF\xBF\xBD", 3);
        f->n_text += 3;
    }
    e->waiting.n_held = 0;
}

static bool push_text(struct soothe__follower *f, const struct soothe__follow_rules *r, struct soothe__followed *e) {
    char   small[256], *bytes = small;
    size_t n = soothe__token_bytes(r->target, e->token, small, sizeof small);
    if (n > sizeof small) {
        bytes = soothe__calloc(n, 1);
        n     = bytes ? soothe__token_bytes(r->target, e->token, bytes, n) : 0;
    }
    const bool room = bytes && text_room(f, 3 * (n + sizeof e->waiting.held));
    if (room) {
        const size_t skip = n > 0 && !e->begun && r->target_space && bytes[0] == ' ';
        f->n_text += soothe__utf8_push(&e->waiting, bytes + skip, n - skip, f->text + f->n_text);
        e->begun = e->begun || n > 0;
    }
    if (bytes != small)
        free(bytes);
    return room;
}

static bool push_special(struct soothe__follower *f, struct soothe__followed *e, const struct soothe__role *role) {
    if (!text_room(f, 4) || !make_room(&f->specials, f->n_specials, &f->specials_capacity, sizeof *f->specials))
        return false;
    give_up_waiting(f, e);
    const size_t from = f->n_specials ? f->specials[f->n_specials - 1].at : 0;
    if (role->kind == SOOTHE__ROLE_TOKEN)
        f->specials[f->n_specials++] = (struct soothe__special){f->n_text, role->token};
    else if (role->kind == SOOTHE__ROLE_LINE_BREAK && f->n_text > from && f->text[f->n_text - 1] != '\n')
        f->text[f->n_text++] = '\n';
    e->begun = false;
    return true;
}

enum soothe_status soothe__follower_push(struct soothe__follower *f, const struct soothe__follow_rules *r,
                                         llama_pos pos, llama_token token, struct soothe_error *err) {
    struct soothe__followed e = {.pos = pos, .token = token};
    if (f->n) {
        e.waiting = f->entries[f->n - 1].waiting;
        e.begun   = f->entries[f->n - 1].begun;
    }
    const struct soothe__role role = soothe__role_of(r, token, f->n == 0);
    if (!make_room(&f->entries, f->n, &f->capacity, sizeof *f->entries) ||
        !(role.kind == SOOTHE__ROLE_TEXT ? push_text(f, r, &e) : push_special(f, &e, &role)))
        return no_memory(err);
    e.n_text           = f->n_text;
    e.n_specials       = f->n_specials;
    f->entries[f->n++] = e;
    f->current         = false;
    return SOOTHE_OK;
}

/* ---- cuts and copies ----------------------------------------------------------------------------------------- */

/* Keeps the first n tokens of the target. */
static void cut(struct soothe__follower *f, size_t n) {
    if (n >= f->n)
        return;
    f->current    = false;
    f->n          = n;
    f->n_text     = n ? f->entries[n - 1].n_text : 0;
    f->n_specials = n ? f->entries[n - 1].n_specials : 0;
    while (f->n_known > 0 &&
           (f->known[f->n_known - 1].need > f->n_text || f->known[f->n_known - 1].n_specials > f->n_specials))
        f->n_known--;
}

static size_t first_at(const struct soothe__follower *f, llama_pos pos) {
    size_t lo = 0, hi = f->n;
    while (lo < hi) {
        const size_t middle = lo + (hi - lo) / 2;
        if (f->entries[middle].pos < pos)
            lo = middle + 1;
        else
            hi = middle;
    }
    return lo;
}

/* Cuts to n tokens and pushes others behind. On failure f is left cut. */
static enum soothe_status replace_tail(struct soothe__follower *f, const struct soothe__follow_rules *r, size_t n,
                                       const struct soothe__followed *tail, size_t n_tail, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    cut(f, n);
    for (size_t i = 0; i < n_tail && !status; i++)
        status = soothe__follower_push(f, r, tail[i].pos, tail[i].token, err);
    return status;
}

enum soothe_status soothe__follower_remove(struct soothe__follower *f, const struct soothe__follow_rules *r,
                                           llama_pos p0, llama_pos p1, struct soothe_error *err) {
    const size_t from = first_at(f, p0), to = p1 < 0 ? f->n : first_at(f, p1);
    if (to >= f->n || to <= from) {
        cut(f, to <= from ? f->n : from);
        return SOOTHE_OK;
    }
    const size_t             n_tail = f->n - to;
    struct soothe__followed *tail   = soothe__calloc(n_tail, sizeof *tail);
    if (!tail)
        return no_memory(err);
    memcpy(tail, f->entries + to, n_tail * sizeof *tail);
    const enum soothe_status status = replace_tail(f, r, from, tail, n_tail, err);
    free(tail);
    return status;
}

static bool copy_array(void *to, size_t *capacity, const void *from, size_t n, size_t size) {
    void **array = to;
    if (n > *capacity) {
        void *grown = soothe__realloc(*array, n, size);
        if (!grown)
            return false;
        *array    = grown;
        *capacity = n;
    }
    if (n)
        memcpy(*array, from, n * size);
    return true;
}

/* to becomes what from is. */
static enum soothe_status copy_whole(struct soothe__follower *to, const struct soothe__follower *from,
                                     struct soothe_error *err) {
    to->current = false;
    to->n_known = 0;
    if (!copy_array(&to->entries, &to->capacity, from->entries, from->n, sizeof *from->entries) ||
        !copy_array(&to->text, &to->text_capacity, from->text, from->n_text, 1) ||
        !copy_array(&to->specials, &to->specials_capacity, from->specials, from->n_specials, sizeof *from->specials) ||
        !copy_array(&to->known, &to->known_capacity, from->known, from->n_known, sizeof *from->known) ||
        !copy_array(&to->tokens.data, &to->tokens.capacity, from->tokens.data, from->tokens.n,
                    sizeof *from->tokens.data))
        return no_memory(err);
    to->n          = from->n;
    to->n_text     = from->n_text;
    to->n_specials = from->n_specials;
    to->n_known    = from->n_known;
    to->tokens.n   = from->tokens.n;
    to->current    = from->current;
    return SOOTHE_OK;
}

enum soothe_status soothe__follower_copy(struct soothe__follower *to, const struct soothe__follower *from,
                                         const struct soothe__follow_rules *r, llama_pos p0, llama_pos p1,
                                         struct soothe_error *err) {
    const size_t a = first_at(from, p0), b = p1 < 0 ? from->n : first_at(from, p1);
    if (to == from || b <= a)
        return SOOTHE_OK;
    if (to->n == 0 && a == 0 && b == from->n)
        return copy_whole(to, from, err);
    struct soothe__followed *both = soothe__calloc(to->n + b - a, sizeof *both);
    size_t                   n = 0, i = 0, k = a;
    if (!both)
        return no_memory(err);
    while (i < to->n || k < b) /* by position; where both have one, the copy's */
        if (k == b || (i < to->n && to->entries[i].pos < from->entries[k].pos))
            both[n++] = to->entries[i++];
        else {
            i += i < to->n && to->entries[i].pos == from->entries[k].pos;
            both[n++] = from->entries[k++];
        }
    const enum soothe_status status = replace_tail(to, r, 0, both, n, err);
    free(both);
    return status;
}

/* ---- text to tokens ------------------------------------------------------------------------------------------ */

/* Notes the last boundary of the piece that was tokenized, so that the next time need not go further back. */
static enum soothe_status note_boundary(struct soothe__follower *f, const struct soothe__follow_rules *r,
                                        const struct soothe__known *from, struct soothe_error *err) {
    enum { WORTH_IT = 48 }; /* bytes: below, tokenizing them again costs less than finding out their count */
    const size_t p = soothe__boundary_behind(r->boundaries, f->text, f->n_text, from->byte);
    if (f->n_text - from->byte < WORTH_IT || p == from->byte)
        return SOOTHE_OK;
    struct soothe__tokens head = {.n = 0};
    enum soothe_status    status =
        soothe__boundaries_tokenize(r->boundaries, &head, f->text + from->byte, p - from->byte, from->tail, err);
    /* They are the first ones by what a boundary is; a vocabulary that proved otherwise would lose speed, not truth. */
    if (!status && from->n_tokens + head.n <= f->tokens.n &&
        memcmp(head.data, f->tokens.data + from->n_tokens, head.n * sizeof *head.data) == 0) {
        if (make_room(&f->known, f->n_known, &f->known_capacity, sizeof *f->known)) {
            const size_t need    = p + 2 < f->n_text ? p + 2 : f->n_text;
            f->known[f->n_known] = (struct soothe__known){p, need, f->n_specials, from->n_tokens + head.n, true};
            f->n_known++;
        } else
            status = no_memory(err);
    }
    free(head.data);
    return status;
}

static enum soothe_status begin(struct soothe__follower *f, const struct soothe__follow_rules *r,
                                struct soothe_error *err) {
    const llama_token bos = llama_vocab_get_add_bos(r->own) ? llama_vocab_bos(r->own) : LLAMA_TOKEN_NULL;
    if (f->n_known > 0)
        return SOOTHE_OK;
    if (!make_room(&f->known, 0, &f->known_capacity, sizeof *f->known) || !soothe__tokens_reserve(&f->tokens, 1))
        return no_memory(err);
    f->tokens.data[0] = bos;
    f->known[0]       = (struct soothe__known){.n_tokens = bos != LLAMA_TOKEN_NULL};
    f->n_known        = 1;
    return SOOTHE_OK;
}

enum soothe_status soothe__follower_tokenize(struct soothe__follower *f, const struct soothe__follow_rules *r,
                                             struct soothe_error *err) {
    if (f->current)
        return SOOTHE_OK;
    enum soothe_status status = begin(f, r, err);
    while (!status) {
        const struct soothe__known from = f->known[f->n_known - 1];
        const bool                 last = from.n_specials == f->n_specials;
        const size_t               end  = last ? f->n_text : f->specials[from.n_specials].at;
        f->tokens.n                     = from.n_tokens;
        if (end > from.byte)
            status = soothe__boundaries_tokenize(r->boundaries, &f->tokens, f->text + from.byte, end - from.byte,
                                                 from.tail, err);
        if (!status && last && end > from.byte)
            status = note_boundary(f, r, &from, err);
        if (status || last)
            break;
        if (!soothe__tokens_reserve(&f->tokens, f->tokens.n + 1) ||
            !make_room(&f->known, f->n_known, &f->known_capacity, sizeof *f->known))
            status = no_memory(err);
        else {
            f->tokens.data[f->tokens.n++] = f->specials[from.n_specials].token;
            f->known[f->n_known++]        = (struct soothe__known){end, end, from.n_specials + 1, f->tokens.n, false};
        }
    }
    if (!status && f->tokens.n == 0) {
        if (!soothe__tokens_reserve(&f->tokens, 1))
            return no_memory(err);
        f->tokens.data[f->tokens.n++] = soothe__start_token(r->own);
    }
    f->current = status == SOOTHE_OK;
    return status;
}
