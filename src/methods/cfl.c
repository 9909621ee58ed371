/* SPDX-License-Identifier: Apache-2.0
 * CFL: the average treatment effect of words on toxicity, taken from the logits of the tokens that complete them.
 *     z_v := z_v - strength * ATE(word that v completes)
 * Effects come from a table that `soothe cfl train` makes (ate.h); those below 0 are left alone: a word that makes
 * texts gentler is no reason to say it. */
#include <stdlib.h>

#include "methods/table_method.h"

static enum soothe_status open_table(struct soothe__link *l, const struct soothe__method_target *target,
                                     struct llama_context_params *context, struct soothe_error *err) {
    struct soothe__word_table words   = {.n = 0};
    char                     *shipped = NULL;
    const char               *path    = soothe__link_value(l, "table")->text;
    const float               least   = soothe__link_number(l, "least");
    (void)context;
    enum soothe_status status = path ? SOOTHE_OK : soothe__default_word_table(&shipped, err);
    if (!status)
        status = soothe__word_table_read(&words, path ? path : shipped, err);
    for (size_t i = 0; !status && i < words.n; i++)
        if (words.words[i].weight < least)
            words.words[i].weight = 0;
    if (!status)
        status = soothe__table_method_open(l, target, &words, soothe__link_number(l, "strength"), path ? path : shipped,
                                           err);
    free(shipped);
    return status;
}

static const struct soothe__parameter PARAMETERS[] = {
    {"strength", SOOTHE__NUMBER, "40", 0, 1000, NULL, "0: plain; what an effect of 1 takes from a logit"},
    {"table", SOOTHE__FILE, NULL, 0, 0, NULL, "a table of soothe cfl train; the shipped one if not given"},
    {"least", SOOTHE__NUMBER, "0.25", 0, 1, NULL, "effects below this are left alone"},
    {.name = NULL}};

const struct soothe__method soothe__method_cfl = {
    .name       = "cfl",
    .summary    = "words are held back by their measured effect on toxicity",
    .stage      = "logits",
    .cost       = "a list of some hundred tokens",
    .source     = "CFL: Causally Fair Language Models Through Token-Level Attribute Control, 2023 (arXiv 2306.00374)",
    .parameters = PARAMETERS,
    .open       = open_table,
    .attach     = soothe__table_method_attach,
    .release    = soothe__table_method_release};
