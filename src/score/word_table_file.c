/* SPDX-License-Identifier: Apache-2.0
 * A table's file (docs/format.md): effects of words with their intervals and counts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "score/word_chars.h"
#include "score/word_table.h"

#define KEY_WORDS "soothe.table.words"   /* array of strings, sorted             */
#define KEY_WEIGHT "soothe.table.weight" /* array of f32, so the next three      */
#define KEY_EFFECT "soothe.table.effect"
#define KEY_LO "soothe.table.lo"
#define KEY_HI "soothe.table.hi"
#define KEY_N "soothe.table.n" /* array of i32                         */

static const struct soothe__gguf_kind KIND = {SOOTHE__WORD_TABLE_TYPE, 1, "table of words", "is no table of words",
                                              "soothe cfl train"};

enum soothe_status soothe__default_word_table(char **path, struct soothe_error *err) {
    return soothe__shipped_file(path, "default.cfl.gguf", "table of words", "give one by table=FILE", err);
}

/* ---- reading ----------------------------------------------------------------------------------------------- */

static int64_t find_array(const struct soothe__gguf *g, const char *key, enum gguf_type type) {
    const int64_t i = gguf_find_key(g->meta, key);
    return i >= 0 && gguf_get_kv_type(g->meta, i) == GGUF_TYPE_ARRAY && gguf_get_arr_type(g->meta, i) == type ? i : -1;
}

/* The numbers of an array as long as the words'; NULL: there is none. */
static const void *numbers(const struct soothe__gguf *g, const char *key, enum gguf_type type, size_t n) {
    const int64_t i = find_array(g, key, type);
    return i >= 0 && gguf_get_arr_n(g->meta, i) == n ? gguf_get_arr_data(g->meta, i) : NULL;
}

static enum soothe_status read_words(struct soothe__word_table *t, const struct soothe__gguf *g,
                                     struct soothe_error *err) {
    const int64_t      i_words = find_array(g, KEY_WORDS, GGUF_TYPE_STRING);
    const size_t       n       = i_words < 0 ? 0 : gguf_get_arr_n(g->meta, i_words);
    const float       *weight  = numbers(g, KEY_WEIGHT, GGUF_TYPE_FLOAT32, n);
    const float       *effect  = numbers(g, KEY_EFFECT, GGUF_TYPE_FLOAT32, n);
    const float       *lo      = numbers(g, KEY_LO, GGUF_TYPE_FLOAT32, n);
    const float       *hi      = numbers(g, KEY_HI, GGUF_TYPE_FLOAT32, n);
    const int32_t     *counts  = numbers(g, KEY_N, GGUF_TYPE_INT32, n);
    enum soothe_status status  = SOOTHE_OK;
    if (n == 0 || !weight || !effect || !lo || !hi || !counts)
        return soothe__fail(err, SOOTHE_E_FORMAT,
                            "%s is damaged: a table's words, or numbers as many as its words, are "
                            "missing",
                            g->path);
    for (size_t i = 0; i < n && !status; i++) {
        const char               *word = gguf_get_arr_str(g->meta, i_words, i);
        char                      folded[SOOTHE__WORD_BYTES_MAX + 1];
        struct soothe__table_word entry = {folded, weight[i], effect[i], lo[i], hi[i], counts[i]};
        if (!soothe__utf8_valid(word, strlen(word)) || !soothe__fold_phrase(folded, word, strlen(word)) ||
            strcmp(folded, word) != 0)
            return soothe__fail(err, SOOTHE_E_FORMAT, "%s is damaged: entry %zu is no word in the table's form",
                                g->path, i);
        if (!isfinite(weight[i]) || !(fabsf(weight[i]) <= 1000))
            return soothe__fail(err, SOOTHE_E_NUMERIC, "%s: the weight %g of entry %zu is not from -1000 to 1000",
                                g->path, (double)weight[i], i);
        status = soothe__word_table_add(t, &entry, err);
    }
    return status;
}

enum soothe_status soothe__word_table_read(struct soothe__word_table *t, const char *path, struct soothe_error *err) {
    struct soothe__gguf g     = {0};
    *t                        = (struct soothe__word_table){.n = 0};
    enum soothe_status status = soothe__gguf_open(&g, path, err);
    if (!status)
        status = soothe__gguf_check_kind(&g, &KIND, err);
    if (!status)
        status = read_words(t, &g, err);
    soothe__gguf_close(&g);
    if (status)
        soothe__word_table_free(t);
    else
        soothe__word_table_sort(t);
    return status;
}

/* ---- writing ----------------------------------------------------------------------------------------------- */

struct columns {
    const char **words;
    float       *weight, *effect, *lo, *hi;
    int32_t     *n;
};

static void free_columns(struct columns *c) {
    free((void *)c->words);
    free(c->weight);
    free(c->effect);
    free(c->lo);
    free(c->hi);
    free(c->n);
}

static bool make_columns(struct columns *c, const struct soothe__word_table *t) {
    c->words  = soothe__calloc(t->n + 1, sizeof *c->words);
    c->weight = soothe__calloc(t->n + 1, sizeof *c->weight);
    c->effect = soothe__calloc(t->n + 1, sizeof *c->effect);
    c->lo     = soothe__calloc(t->n + 1, sizeof *c->lo);
    c->hi     = soothe__calloc(t->n + 1, sizeof *c->hi);
    c->n      = soothe__calloc(t->n + 1, sizeof *c->n);
    if (!c->words || !c->weight || !c->effect || !c->lo || !c->hi || !c->n)
        return false;
    for (size_t i = 0; i < t->n; i++) {
        c->words[i]  = t->words[i].word;
        c->weight[i] = t->words[i].weight;
        c->effect[i] = t->words[i].effect;
        c->lo[i]     = t->words[i].lo;
        c->hi[i]     = t->words[i].hi;
        c->n[i]      = t->words[i].n;
    }
    return true;
}

enum soothe_status soothe__word_table_write(const struct soothe__word_table *t, const char *path,
                                            const struct soothe__fact *facts, size_t n_facts,
                                            struct soothe_error *err) {
    struct soothe__gguf_plan plan;
    struct columns           c      = {0};
    enum soothe_status       status = soothe__gguf_plan_new(&plan, 1, err);
    if (status)
        return status;
    if (!make_columns(&c, t))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a table of %zu words", t->n);
    else {
        soothe__gguf_set_kind(plan.meta, &KIND, "effects of words");
        gguf_set_arr_str(plan.meta, KEY_WORDS, c.words, t->n);
        gguf_set_arr_data(plan.meta, KEY_WEIGHT, GGUF_TYPE_FLOAT32, c.weight, t->n);
        gguf_set_arr_data(plan.meta, KEY_EFFECT, GGUF_TYPE_FLOAT32, c.effect, t->n);
        gguf_set_arr_data(plan.meta, KEY_LO, GGUF_TYPE_FLOAT32, c.lo, t->n);
        gguf_set_arr_data(plan.meta, KEY_HI, GGUF_TYPE_FLOAT32, c.hi, t->n);
        gguf_set_arr_data(plan.meta, KEY_N, GGUF_TYPE_INT32, c.n, t->n);
        soothe__gguf_set_facts(plan.meta, facts, n_facts);
        status = soothe__gguf_plan_save(&plan, path, err);
    }
    free_columns(&c);
    soothe__gguf_plan_free(&plan);
    return status;
}
