/* SPDX-License-Identifier: Apache-2.0
 * A table of words as a sampler of llama.cpp: the stage of token_table_stage.c for one sequence, told of it token by
 * token. */
#include <math.h>
#include <stdlib.h>

#include "methods/token_table.h"

struct sampler {
    struct soothe__token_table *table; /* shared with clones */
    float                       strength;
    struct soothe__table_state  state;
    struct soothe__token_room   room;
};

static const char *name(const struct llama_sampler *s) {
    (void)s;
    return "soothe-table";
}

static void accept_token(struct llama_sampler *s, llama_token token) {
    struct sampler *t = s->ctx;
    soothe__token_table_move(t->table, &t->state, token);
}

/* The candidates may be all tokens in the order of their ids, or what other samplers left of them. */
static void apply(struct llama_sampler *s, llama_token_data_array *candidates) {
    struct sampler *t = s->ctx;
    const size_t    n = soothe__token_table_list(t->table, &t->state, &t->room);
    for (size_t k = 0; k < n; k++)
        t->room.weight[t->room.list[k].token] = t->room.list[k].weight;
    for (size_t i = 0; i < candidates->size && n > 0; i++) {
        llama_token_data *c      = &candidates->data[i];
        const float       weight = c->id >= 0 && c->id < t->room.n_vocab ? t->room.weight[c->id] : 0;
        if (weight > 0) {
            c->logit -= t->strength * weight;
            candidates->sorted = false;
        }
    }
    for (size_t k = 0; k < n; k++)
        t->room.weight[t->room.list[k].token] = 0;
}

static void reset(struct llama_sampler *s) {
    struct sampler *t = s->ctx;
    t->state          = (struct soothe__table_state){.n_nodes = 0};
}

static void sampler_free(struct llama_sampler *s) {
    struct sampler *t = s->ctx;
    soothe__token_table_free(t->table);
    soothe__token_room_free(&t->room);
    free(t);
}

static struct llama_sampler *make(struct soothe__token_table *table, float strength,
                                  const struct soothe__table_state *state);

static struct llama_sampler *clone(const struct llama_sampler *s) {
    const struct sampler *t = s->ctx;
    return make(soothe__token_table_share(t->table), t->strength, &t->state);
}

/* Takes the table over, also where there is no memory (NULL). */
static struct llama_sampler *make(struct soothe__token_table *table, float strength,
                                  const struct soothe__table_state *state) {
    static struct llama_sampler_i INTERFACE = {
        .name = name, .accept = accept_token, .apply = apply, .reset = reset, .clone = clone, .free = sampler_free};
    struct sampler *t = soothe__calloc(1, sizeof *t);
    if (!t || !soothe__token_room_new(&t->room, table)) {
        soothe__token_table_free(table);
        if (t)
            soothe__token_room_free(&t->room);
        free(t);
        return NULL;
    }
    t->table    = table;
    t->strength = strength;
    t->state    = *state;
    return llama_sampler_init(&INTERFACE, t);
}

enum soothe_status soothe_sampler_init_table(struct llama_sampler **sampler, const struct llama_vocab *vocab,
                                             const char *table, float strength, struct soothe_error *err) {
    const struct soothe__table_state start = {.n_nodes = 0};
    struct soothe__word_table        words;
    struct soothe__token_table      *compiled = NULL;
    *sampler                                  = NULL;
    if (isnan(strength) || strength < 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "strength %g of a table of words is not 0 or more",
                            (double)strength);
    enum soothe_status status = soothe__word_table_open(&words, table, err);
    if (status)
        return status;
    if (strength == 0)
        soothe__word_table_free(&words);
    status = soothe__token_table_new(&compiled, &words, vocab, err);
    soothe__word_table_free(&words);
    if (!status && !(*sampler = make(compiled, strength, &start)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a sampler");
    return status;
}
