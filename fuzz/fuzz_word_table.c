/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a table of words: refused with a sentence, or read, turned into a trie over a vocabulary and walked. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "input_file.h"
#include "methods/token_table.h"
#include "tiny_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

static const struct llama_vocab *vocabulary(void) {
    static struct llama_model *model;
    if (!model) {
        struct llama_model_params p = llama_model_default_params();
        p.vocab_only                = true;
        if (!tiny_model_write(fuzz_other_file(), &(struct tiny_options){.family = TINY_LLAMA, .d = 32, .n_blocks = 1}))
            abort();
        model = llama_model_load_from_file(fuzz_other_file(), p);
        if (!model)
            abort();
    }
    return llama_model_get_vocab(model);
}

/* Says every listed word; its last token must be held back where its weight is above 0. */
static void use(const struct soothe__word_table *words) {
    struct soothe__token_table *table;
    struct soothe__token_room   room;
    struct soothe_error         err;
    if (soothe__token_table_new(&table, words, vocabulary(), &err) != SOOTHE_OK)
        return;
    if (!soothe__token_room_new(&room, table))
        abort();
    for (size_t i = 0; i < words->n; i++) {
        struct soothe__table_state state = {.n_nodes = 0};
        const char                *c     = words->words[i].word;
        for (; c[1]; c++)
            soothe__token_table_move(table, &state, (unsigned char)*c);
        const float weight = soothe__token_table_weight(table, &state, (unsigned char)*c);
        if (weight < words->words[i].weight)
            abort();
        (void)soothe__token_table_list(table, &state, &room);
    }
    soothe__token_room_free(&room);
    soothe__token_table_free(table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct soothe__word_table words;
    struct soothe_error       err = {.message = ""};
    llama_log_set(quiet, NULL);
    const enum soothe_status status = soothe__word_table_open(&words, fuzz_input_file(data, size), &err);
    if (status ? words.words || !err.message[0] : words.n == 0)
        abort();
    if (!status) {
        use(&words);
        const double p = soothe__word_table_score(&words, SOOTHE__SENTENCE_ANY, "a bad WORD, and worse", 21);
        if (!(p >= 0 && p <= 1))
            abort();
    }
    soothe__word_table_free(&words);
    return 0;
}
