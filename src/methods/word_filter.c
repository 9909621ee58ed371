/* SPDX-License-Identifier: Apache-2.0
 * A filter of words: the token that would complete a listed one is never chosen. The baseline that every published
 * comparison has, and that must be beaten to be believed: it sees words, not what is said with others. */
#include <math.h>

#include "methods/table_method.h"

static enum soothe_status open_list(struct soothe__link *l, const struct soothe__method_target *target,
                                    struct llama_context_params *context, struct soothe_error *err) {
    struct soothe__word_table words;
    (void)context;
    const enum soothe_status status = soothe__bad_words_open(&words, l, err);
    return status ? status
                  : soothe__table_method_open(l, target, &words, INFINITY, soothe__link_value(l, "words")->text, err);
}

static const struct soothe__parameter PARAMETERS[] = {
    {"strength", SOOTHE__NUMBER, "1", 0, 1, NULL, "0: plain; anything above: listed words cannot be said"},
    {"words", SOOTHE__FILE, NULL, 0, 0, NULL, "a list, one word or phrase a line; the built-in lexicon if not given"},
    {"severity", SOOTHE__NUMBER, "1", 0, 3, NULL, "of the built-in lexicon: words from this severity up"},
    {.name = NULL}};

const struct soothe__method soothe__method_word_filter = {
    .name       = "word-filter",
    .summary    = "listed words cannot be said",
    .stage      = "logits",
    .cost       = "a list of some hundred tokens",
    .source     = "the baseline of Gehman et al. 2020 (RealToxicityPrompts), here for words of several tokens",
    .parameters = PARAMETERS,
    .open       = open_list,
    .attach     = soothe__table_method_attach,
    .release    = soothe__table_method_release};
