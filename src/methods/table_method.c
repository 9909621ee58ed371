/* SPDX-License-Identifier: Apache-2.0
 * Methods on tables of words: a word table, turned into a token table, as a stage. */
#include "methods/table_method.h"

#include <math.h>
#include <stdlib.h>

struct state {
    struct soothe__token_table *table;
    char                       *source;
    float                       bias;
};

enum soothe_status soothe__table_method_open(struct soothe__link *l, const struct soothe__method_target *target,
                                             struct soothe__word_table *words, float bias, const char *source,
                                             struct soothe_error *err) {
    struct state      *s      = soothe__calloc(1, sizeof *s);
    enum soothe_status status = s ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a table");
    l->state                  = s;
    l->strength               = soothe__link_number(l, l->method->parameters[0].name);
    if (!status && source && !(s->source = soothe__strdup(source)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a table");
    if (!status)
        status = soothe__token_table_new(&s->table, words, llama_model_get_vocab(target->model), err);
    soothe__word_table_free(words);
    if (!status) {
        s->bias   = bias;
        l->source = s->source;
    }
    return status;
}

enum soothe_status soothe__table_method_attach(struct soothe__link *l, struct soothe_session *session,
                                               struct soothe_error *err) {
    const struct state *s = l->state;
    return soothe__session_add_token_table(session, s->table, l->strength == 0 ? 0 : s->bias, err);
}

void soothe__table_method_release(void *state) {
    struct state *s = state;
    if (!s)
        return;
    soothe__token_table_free(s->table);
    free(s->source);
    free(s);
}

enum soothe_status soothe__bad_words_open(struct soothe__word_table *words, const struct soothe__link *l,
                                          struct soothe_error *err) {
    const char              *path   = soothe__link_value(l, "words")->text;
    const float              least  = soothe__link_number(l, "severity");
    const enum soothe_status status = soothe__word_table_open(words, path, err);
    for (size_t i = 0; !status && !path && i < words->n; i++)
        words->words[i].weight = words->words[i].weight >= least ? 1 : 0;
    return status;
}
