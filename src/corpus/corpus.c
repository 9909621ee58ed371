/* SPDX-License-Identifier: Apache-2.0
 * Reading, splitting, tokenising and shuffling the texts that training learns from. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text_tokens.h"
#include "corpus/corpus.h"

enum { TEXT_MAX_SIZE = 1 << 20 };

/* ---- the table of texts ------------------------------------------------------------------------ */

/* FNV-1a over both strings with their ends, so that ("a", "bc") is not ("ab", "c"). */
static uint64_t hash_text(const char *prompt, const char *completion, uint64_t seed) {
    uint64_t    h        = 14695981039346656037u ^ seed;
    const char *parts[2] = {prompt, completion};
    for (size_t i = 0; i < 2; i++) {
        for (const char *s = parts[i];; s++) {
            h = (h ^ (unsigned char)*s) * 1099511628211u;
            if (!*s)
                break;
        }
    }
    h ^= h >> 33; /* FNV's low bits are poor: finish as MurmurHash3 does */
    h *= 0xff51afd7ed558ccdu;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53u;
    return h ^ (h >> 33);
}

void soothe__corpus_init(struct soothe__corpus *c) {
    memset(c, 0, sizeof *c);
}

void soothe__corpus_free(struct soothe__corpus *c) {
    for (size_t i = 0; i < c->n_texts; i++) {
        free(c->texts[i].prompt);
        free(c->texts[i].completion);
        free(c->texts[i].tokens);
    }
    for (size_t i = 0; i < c->n_sources; i++)
        free(c->sources[i].path);
    free(c->texts);
    free(c->pairs);
    free(c->singles);
    free(c->sources);
    free(c->table);
    memset(c, 0, sizeof *c);
}

/* The slot of a text, or the free one where it belongs. The table is never full. */
static size_t find_slot(const struct soothe__corpus *c, const char *prompt, const char *completion) {
    size_t slot = (size_t)hash_text(prompt, completion, 0) & (c->table_size - 1);
    for (; c->table[slot]; slot = (slot + 1) & (c->table_size - 1)) {
        const struct soothe__text *t = &c->texts[c->table[slot] - 1];
        if (strcmp(t->completion, completion) == 0 && strcmp(t->prompt, prompt) == 0)
            break;
    }
    return slot;
}

static bool grow_table(struct soothe__corpus *c) {
    if (c->table && 2 * (c->n_texts + 1) <= c->table_size)
        return true;
    uint32_t *old = c->table;
    c->table_size = c->table_size ? 2 * c->table_size : 1024;
    c->table      = soothe__calloc(c->table_size, sizeof *c->table);
    if (!c->table) {
        c->table = old;
        c->table_size /= 2;
        return false;
    }
    free(old);
    for (size_t i = 0; i < c->n_texts; i++)
        c->table[find_slot(c, c->texts[i].prompt, c->texts[i].completion)] = (uint32_t)i + 1;
    return true;
}

/* Room for one more element; the arrays here grow by doubling. */
static bool make_room(void **array, size_t n, size_t *capacity, size_t size) {
    if (n < *capacity)
        return true;
    const size_t more  = *capacity ? 2 * *capacity : 256;
    void        *grown = soothe__realloc(*array, more, size);
    if (!grown)
        return false;
    *array    = grown;
    *capacity = more;
    return true;
}

/* The index of a text, which is added if it is new. */
static bool intern(struct soothe__corpus *c, const char *prompt, const char *completion, uint32_t *index) {
    if (!grow_table(c))
        return false;
    const size_t slot = find_slot(c, prompt, completion);
    if (!c->table[slot]) {
        if (c->n_texts >= INT32_MAX || !make_room((void **)&c->texts, c->n_texts, &c->capacity, sizeof *c->texts))
            return false;
        struct soothe__text t = {
            .prompt = soothe__strdup(prompt), .completion = soothe__strdup(completion), .weight = 1.0f};
        if (!t.prompt || !t.completion) {
            free(t.prompt);
            free(t.completion);
            return false;
        }
        c->texts[c->n_texts] = t;
        c->table[slot]       = (uint32_t)++c->n_texts;
    }
    *index = c->table[slot] - 1;
    return true;
}

static enum soothe_status no_memory(struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the training texts");
}

enum soothe_status soothe__corpus_add_single(struct soothe__corpus *c, const char *prompt, const char *completion,
                                             struct soothe_error *err) {
    uint32_t i;
    if (!intern(c, prompt, completion, &i) ||
        !make_room((void **)&c->singles, c->n_singles, &c->singles_capacity, sizeof *c->singles))
        return no_memory(err);
    c->singles[c->n_singles++] = i;
    return SOOTHE_OK;
}

enum soothe_status soothe__corpus_add_pair(struct soothe__corpus *c, const char *prompt, const char *chosen,
                                           const char *rejected, struct soothe_error *err) {
    struct soothe__pair pair = {0};
    if (!intern(c, prompt, chosen, &pair.i_chosen) || !intern(c, prompt, rejected, &pair.i_rejected) ||
        !make_room((void **)&c->pairs, c->n_pairs, &c->pairs_capacity, sizeof *c->pairs))
        return no_memory(err);
    c->pairs[c->n_pairs++] = pair;
    return SOOTHE_OK;
}

/* ---- reading ------------------------------------------------------------------------------------ */

/* The text under key; NULL and a reason if there is none that could be learnt from. */
static const char *text_of(const json_t *object, const char *key, bool may_be_empty, char reason[160]) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value)) {
        snprintf(reason, 160, "\"%s\" is %s", key, value ? "no text" : "missing");
        return NULL;
    }
    if (json_string_length(value) > TEXT_MAX_SIZE) {
        snprintf(reason, 160, "\"%s\" is longer than 1 MiB", key);
        return NULL;
    }
    const char *s = json_string_value(value);
    if (!may_be_empty && !s[strspn(s, " \t\r\n")]) {
        snprintf(reason, 160, "\"%s\" is empty", key);
        return NULL;
    }
    return s;
}

/* A name that several lines share; 0: none, or a reason. */
static uint64_t set_of(const json_t *o, char reason[160]) {
    const json_t *set = json_object_get(o, "set");
    if (set && !json_is_string(set))
        snprintf(reason, 160, "\"set\" is no text");
    return json_is_string(set) ? hash_text(json_string_value(set), "", 0) | 1 : 0;
}

/* False, and a reason. */
static bool weight_of(const json_t *o, float *weight, char reason[160]) {
    const json_t *value = json_object_get(o, "weight");
    const double  w     = json_is_number(value) ? json_number_value(value) : -1;
    *weight             = value ? (float)w : 1.0f;
    if (!value || (w >= 0 && w <= 1000))
        return true;
    snprintf(reason, 160, "\"weight\" is no number from 0 to 1000");
    return false;
}

static enum soothe_status add_object(struct soothe__corpus *c, const json_t *o, char reason[160],
                                     struct soothe_error *err) {
    const bool  is_text = json_object_get(o, "text") != NULL;
    const char *prompt  = is_text ? "" : text_of(o, "prompt", true, reason);
    if (!prompt)
        return SOOTHE_OK;
    if (json_object_get(o, "chosen") || json_object_get(o, "rejected")) {
        const char *chosen   = text_of(o, "chosen", false, reason);
        const char *rejected = chosen ? text_of(o, "rejected", false, reason) : NULL;
        if (!rejected)
            return SOOTHE_OK;
        if (strcmp(chosen, rejected) == 0) {
            snprintf(reason, 160, "\"chosen\" and \"rejected\" are the same");
            return SOOTHE_OK;
        }
        const uint64_t set = set_of(o, reason);
        if (reason[0])
            return SOOTHE_OK;
        const enum soothe_status status = soothe__corpus_add_pair(c, prompt, chosen, rejected, err);
        if (!status)
            c->pairs[c->n_pairs - 1].set = set;
        return status;
    }
    float       weight;
    const char *completion = text_of(o, is_text ? "text" : "completion", false, reason);
    if (!completion || !weight_of(o, &weight, reason))
        return SOOTHE_OK;
    const enum soothe_status status = soothe__corpus_add_single(c, prompt, completion, err);
    if (!status)
        c->texts[c->singles[c->n_singles - 1]].weight = weight;
    return status;
}

static enum soothe_status add_line(struct soothe__corpus *c, const char *line, size_t size, char reason[160],
                                   struct soothe_error *err) {
    json_error_t       why;
    enum soothe_status status = SOOTHE_OK;
    if (!soothe__utf8_valid(line, size)) {
        snprintf(reason, 160, "it is not valid UTF-8");
        return SOOTHE_OK;
    }
    json_t *o = json_loadb(line, size, JSON_REJECT_DUPLICATES, &why); /* refuses \u0000 as well */
    if (!o)
        snprintf(reason, 160, "it is not JSON (%.120s)", why.text);
    else if (!json_is_object(o))
        snprintf(reason, 160, "it is not a JSON object");
    else
        status = add_object(c, o, reason, err);
    json_decref(o);
    return status;
}

static enum soothe_status add_source(struct soothe__corpus *c, const char *path, size_t n_lines, const char *hex,
                                     struct soothe_error *err) {
    struct soothe__source *sources = soothe__realloc(c->sources, c->n_sources + 1, sizeof *sources);
    if (!sources)
        return no_memory(err);
    c->sources               = sources;
    struct soothe__source *s = &sources[c->n_sources];
    memset(s, 0, sizeof *s);
    s->path    = soothe__strdup(path);
    s->n_lines = n_lines;
    memcpy(s->sha256, hex, sizeof s->sha256);
    if (!s->path)
        return no_memory(err);
    c->n_sources++;
    return SOOTHE_OK;
}

static int compare_pairs(const void *a, const void *b) {
    const struct soothe__pair *x = a, *y = b;
    if (x->i_chosen != y->i_chosen)
        return x->i_chosen < y->i_chosen ? -1 : 1;
    return x->i_rejected < y->i_rejected ? -1 : x->i_rejected > y->i_rejected;
}

static int compare_u32(const void *a, const void *b) {
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Sorted by first appearance of the texts, each once. */
static void drop_repetitions(struct soothe__corpus *c) {
    const size_t before = c->n_pairs + c->n_singles;
    size_t       n      = 0;
    if (c->n_pairs)
        qsort(c->pairs, c->n_pairs, sizeof *c->pairs, compare_pairs);
    for (size_t i = 0; i < c->n_pairs; i++)
        if (n == 0 || compare_pairs(&c->pairs[n - 1], &c->pairs[i]) != 0)
            c->pairs[n++] = c->pairs[i];
    c->n_pairs = n;
    n          = 0;
    if (c->n_singles)
        qsort(c->singles, c->n_singles, sizeof *c->singles, compare_u32);
    for (size_t i = 0; i < c->n_singles; i++)
        if (n == 0 || c->singles[n - 1] != c->singles[i])
            c->singles[n++] = c->singles[i];
    c->n_singles = n;
    c->n_repeated += before - c->n_pairs - c->n_singles;
}

enum soothe_status soothe__corpus_read(struct soothe__corpus *c, const char *path, struct soothe_error *err) {
    struct soothe__lines *lines;
    enum soothe_status    status = soothe__lines_open(&lines, path, err);
    if (status)
        return status;
    const size_t before  = c->n_pairs + c->n_singles;
    size_t       n_lines = 0, n_bad = 0;
    for (;;) {
        char  *line, reason[160] = "";
        size_t size;
        bool   too_long;
        status = soothe__lines_next(lines, &line, &size, &too_long, err);
        if (status || !line)
            break;
        n_lines++;
        if (size == 0 && !too_long)
            continue;
        if (too_long)
            snprintf(reason, sizeof reason, "it is longer than 4 MiB");
        else
            status = add_line(c, line, size, reason, err);
        if (status)
            break;
        if (reason[0] && n_bad++ == 0 && c->n_bad == 0)
            snprintf(c->first_bad, sizeof c->first_bad, "line %zu of %.80s: %s", n_lines, path, reason);
    }
    char hex[65];
    soothe__lines_close(lines, hex);
    c->n_bad += n_bad;
    if (status)
        return status;
    if (c->n_pairs + c->n_singles == before)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s holds nothing to learn from: %s%s", path,
                            n_bad ? c->first_bad : "it is empty",
                            n_bad ? "; wanted are lines {\"prompt\": …, \"chosen\": …, \"rejected\": …}" : "");
    drop_repetitions(c);
    return add_source(c, path, n_lines, hex, err);
}

/* ---- splitting ------------------------------------------------------------------------------------ */

/* In [0,1), the same for all pairs and singles that must stay together. */
static double place_of(const struct soothe__text *t, uint64_t seed) {
    const uint64_t h = hash_text(t->prompt, t->prompt[0] ? "" : t->completion, seed);
    return (double)(h >> 11) * 0x1p-53;
}

/* A named set stays together, too. */
static double place_of_pair(const struct soothe__corpus *c, const struct soothe__pair *pair, uint64_t seed) {
    char name[32];
    snprintf(name, sizeof name, "%llx", (unsigned long long)pair->set);
    return pair->set ? (double)(hash_text("set", name, seed) >> 11) * 0x1p-53
                     : place_of(&c->texts[pair->i_chosen], seed);
}

enum soothe_status soothe__corpus_split(struct soothe__corpus *out, struct soothe__corpus *from, double fraction,
                                        uint64_t seed, struct soothe_error *err) {
    size_t             n      = 0;
    enum soothe_status status = SOOTHE_OK;
    for (size_t i = 0; i < from->n_pairs && !status; i++) {
        const struct soothe__text *chosen   = &from->texts[from->pairs[i].i_chosen];
        const struct soothe__text *rejected = &from->texts[from->pairs[i].i_rejected];
        if (place_of_pair(from, &from->pairs[i], seed) < fraction) {
            status = soothe__corpus_add_pair(out, chosen->prompt, chosen->completion, rejected->completion, err);
            if (!status)
                out->pairs[out->n_pairs - 1].set = from->pairs[i].set;
        } else
            from->pairs[n++] = from->pairs[i];
    }
    if (status)
        return status;
    from->n_pairs = n;
    n             = 0;
    for (size_t i = 0; i < from->n_singles && !status; i++) {
        const struct soothe__text *t = &from->texts[from->singles[i]];
        if (place_of(t, seed) < fraction) {
            status = soothe__corpus_add_single(out, t->prompt, t->completion, err);
            if (!status)
                out->texts[out->singles[out->n_singles - 1]].weight = t->weight;
        } else
            from->singles[n++] = from->singles[i];
    }
    if (!status)
        from->n_singles = n;
    return status;
}

/* Notes a text that other uses, and its prompt, in marks. */
static bool mark(struct soothe__corpus *marks, const struct soothe__text *t) {
    uint32_t unused;
    return intern(marks, "", t->completion, &unused) && (!t->prompt[0] || intern(marks, t->prompt, "", &unused));
}

/* Is a text of other, or a prompt of it, the same as t or its prompt? */
static bool is_shared(const struct soothe__text *t, const struct soothe__corpus *marks) {
    if (t->prompt[0] && marks->table[find_slot(marks, t->prompt, "")])
        return true;
    return marks->table[find_slot(marks, "", t->completion)] != 0;
}

enum soothe_status soothe__corpus_remove_shared(struct soothe__corpus *c, const struct soothe__corpus *other,
                                                size_t *n_removed, struct soothe_error *err) {
    struct soothe__corpus marks = {0};
    size_t                n = 0, before = c->n_pairs + c->n_singles;
    bool                  ok = grow_table(&marks);
    /* Not all texts of other: after a split it still holds those that went away. */
    for (size_t i = 0; i < other->n_pairs && ok; i++)
        ok = mark(&marks, &other->texts[other->pairs[i].i_chosen]) &&
             mark(&marks, &other->texts[other->pairs[i].i_rejected]);
    for (size_t i = 0; i < other->n_singles && ok; i++)
        ok = mark(&marks, &other->texts[other->singles[i]]);
    if (!ok) {
        soothe__corpus_free(&marks);
        return no_memory(err);
    }
    for (size_t i = 0; i < c->n_pairs; i++)
        if (!is_shared(&c->texts[c->pairs[i].i_chosen], &marks) &&
            !is_shared(&c->texts[c->pairs[i].i_rejected], &marks))
            c->pairs[n++] = c->pairs[i];
    c->n_pairs = n;
    n          = 0;
    for (size_t i = 0; i < c->n_singles; i++)
        if (!is_shared(&c->texts[c->singles[i]], &marks))
            c->singles[n++] = c->singles[i];
    c->n_singles = n;
    soothe__corpus_free(&marks);
    if (n_removed)
        *n_removed = before - c->n_pairs - c->n_singles;
    return SOOTHE_OK;
}

/* ---- tokens --------------------------------------------------------------------------------------- */

/* Cuts tokens in place to n_max; *first is the place of the completion's first token. */
static void truncate_tokens(int32_t *tokens, int32_t *n, int32_t *first, int32_t n_max) {
    const int32_t n_prompt     = *first;
    int32_t       n_completion = *n - n_prompt;
    const int32_t for_prompt   = n_prompt < n_max / 4 ? n_prompt : n_max / 4;
    if (n_completion > n_max - for_prompt)
        n_completion = n_max - for_prompt;
    const int32_t kept = n_max - n_completion < n_prompt ? n_max - n_completion : n_prompt;
    memmove(tokens, tokens + (n_prompt - kept), (size_t)(kept + n_completion) * sizeof *tokens);
    *first = kept;
    *n     = kept + n_completion;
}

static enum soothe_status tokenize_text(struct soothe__corpus *c, struct soothe__text *t,
                                        const struct llama_vocab *vocab, int32_t n_max, struct soothe_error *err) {
    if (t->tokens)
        return SOOTHE_OK;
    enum soothe_status status = soothe__tokenize_pair(&t->tokens, &t->n_tokens, &t->first, vocab, t->prompt,
                                                      strlen(t->prompt), t->completion, strlen(t->completion), err);
    if (status)
        return status;
    if (t->n_tokens > n_max) {
        /* BOS stays in front: a model that was trained with it is lost without. */
        const bool bos = t->first > 0 && llama_vocab_get_add_bos(vocab) && t->tokens[0] == llama_vocab_bos(vocab);
        truncate_tokens(t->tokens, &t->n_tokens, &t->first, n_max);
        if (bos && t->first > 0)
            t->tokens[0] = llama_vocab_bos(vocab);
        c->n_truncated++;
    }
    if (t->first < 1)
        t->first = 1; /* nothing predicts the very first token */
    return SOOTHE_OK;
}

static bool counts(const struct soothe__text *t) {
    return t->n_tokens > t->first;
}

enum soothe_status soothe__corpus_tokenize(struct soothe__corpus *c, const struct llama_vocab *vocab, int32_t n_max,
                                           size_t *n_removed, struct soothe_error *err) {
    const size_t       before = c->n_pairs + c->n_singles;
    size_t             n      = 0;
    enum soothe_status status = SOOTHE_OK;
    for (size_t i = 0; i < c->n_pairs && !status; i++) {
        struct soothe__text *chosen = &c->texts[c->pairs[i].i_chosen], *rejected = &c->texts[c->pairs[i].i_rejected];
        status = tokenize_text(c, chosen, vocab, n_max, err);
        if (!status)
            status = tokenize_text(c, rejected, vocab, n_max, err);
        if (!status && counts(chosen) && counts(rejected))
            c->pairs[n++] = c->pairs[i];
    }
    if (status)
        return status;
    c->n_pairs = n;
    n          = 0;
    for (size_t i = 0; i < c->n_singles && !status; i++) {
        struct soothe__text *t = &c->texts[c->singles[i]];
        status                 = tokenize_text(c, t, vocab, n_max, err);
        if (!status && counts(t))
            c->singles[n++] = c->singles[i];
    }
    if (status)
        return status;
    c->n_singles = n;
    if (n_removed)
        *n_removed = before - c->n_pairs - c->n_singles;
    return SOOTHE_OK;
}

/* ---- the order of training ------------------------------------------------------------------------ */

static void shuffle_round(struct soothe__series *s, uint64_t round) {
    struct soothe__rng rng = soothe__rng_seed(s->seed + 0x9e3779b97f4a7c15u * round, s->stream);
    for (uint32_t i = 0; i < s->n; i++)
        s->order[i] = i;
    for (uint32_t i = s->n; i > 1; i--) {
        const uint32_t k = soothe__rng_below(&rng, i), swapped = s->order[i - 1];
        s->order[i - 1] = s->order[k];
        s->order[k]     = swapped;
    }
    s->round = round;
}

enum soothe_status soothe__series_init(struct soothe__series *s, size_t n, uint64_t seed, uint64_t stream,
                                       struct soothe_error *err) {
    *s = (struct soothe__series){.seed = seed, .stream = stream, .n = (uint32_t)n};
    if (n < 1 || n > UINT32_MAX)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a series of %zu things", n);
    s->order = soothe__calloc(n, sizeof *s->order);
    if (!s->order)
        return no_memory(err);
    shuffle_round(s, 0);
    return SOOTHE_OK;
}

void soothe__series_free(struct soothe__series *s) {
    free(s->order);
    memset(s, 0, sizeof *s);
}

uint32_t soothe__series_at(struct soothe__series *s, uint64_t i) {
    if (i / s->n != s->round)
        shuffle_round(s, i / s->n);
    return s->order[i % s->n];
}
