/* SPDX-License-Identifier: Apache-2.0
 * Generating with a chain of methods at work. Those that act within a decode are in the session already; those that act
 * on whole texts act here. Whoever has a chain generates by this, not by soothe__generate. */
#ifndef SOOTHE_GENERATE_WITH_H
#define SOOTHE_GENERATE_WITH_H

#include "generate/generate.h"
#include "methods/methods.h"

/* As soothe__generate over applied->session, and exactly that where no method of the chain acts on texts.
 * With a method that chooses, each continuation is drawn several times and the chosen one is handed on when the last
 * try is there: on_token then gets its tokens one after another, at once. At dose 0 the first try is handed on, which
 * is the text without the method. stats count what was handed on, and the time of all.
 * Methods that rewrite prompts do so first (rewrite.h): applied->events tells which, from before the first token until
 * the next call. With several doses these run one after another, and at dose 0 prompts are as given.
 * errors  also those of the methods; SOOTHE_E_ARGUMENT two that choose */
enum soothe_status soothe__generate_with(struct soothe__applied *applied, const struct soothe__prompt *prompts,
                                         size_t n_prompts, const struct soothe__generate_options *options,
                                         struct soothe__generate_stats *stats, struct soothe_error *err);

#endif /* SOOTHE_GENERATE_WITH_H */
