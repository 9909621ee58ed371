/* SPDX-License-Identifier: Apache-2.0
 * A bias against listed words: as word-filter, but by so many nats instead of for ever. */
#include "methods/table_method.h"

static enum soothe_status open_list(struct soothe__link *l, const struct soothe__method_target *target,
                                    struct llama_context_params *context, struct soothe_error *err) {
    struct soothe__word_table words;
    (void)context;
    const enum soothe_status status = soothe__bad_words_open(&words, l, err);
    return status ? status
                  : soothe__table_method_open(l, target, &words, soothe__link_number(l, "strength"),
                                              soothe__link_value(l, "words")->text, err);
}

static const struct soothe__parameter PARAMETERS[] = {
    {"strength", SOOTHE__NUMBER, "4", 0, 1000, NULL, "0: plain; taken from the logit of a token that completes a word"},
    {"words", SOOTHE__FILE, NULL, 0, 0, NULL,
     "a list, one word or phrase a line, a tab and a factor behind it; the built-in lexicon if not given"},
    {"severity", SOOTHE__NUMBER, "1", 0, 3, NULL, "of the built-in lexicon: words from this severity up"},
    {.name = NULL}};

const struct soothe__method soothe__method_bad_words = {
    .name       = "bad-words",
    .summary    = "a bias against listed words",
    .stage      = "logits",
    .cost       = "a list of some hundred tokens",
    .source     = "logit bias as model servers offer it, here for words of several tokens",
    .parameters = PARAMETERS,
    .open       = open_list,
    .attach     = soothe__table_method_attach,
    .release    = soothe__table_method_release};
