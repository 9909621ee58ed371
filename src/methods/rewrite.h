/* SPDX-License-Identifier: Apache-2.0
 * Prompts as the methods of a chain would have them. A rewritten prompt is never passed off as the user's: each change
 * is an event of the chain at work, which the commands tell. */
#ifndef SOOTHE_REWRITE_H
#define SOOTHE_REWRITE_H

#include "generate/generate.h"
#include "methods/methods.h"

struct soothe__rewritten {
    struct soothe__prompt *prompts; /* (n) those that no method changes are the given ones, token for token */
    llama_token          **owned;   /* (n) tokens of the changed ones, else NULL */
    size_t                 n, n_changed;
};

/* Does any method of the chain act on prompts? */
bool soothe__rewrites(const struct soothe__applied *a);
/* Lets the methods rewrite n prompts, in the chain's order, and keeps the events in a->events.
 * stop    becomes nonzero to return SOOTHE_E_INTERRUPTED; NULL: never
 * errors  those of the methods; r is then freed */
enum soothe_status soothe__rewrite(struct soothe__rewritten *r, struct soothe__applied *a,
                                   const struct soothe__prompt *prompts, size_t n, const volatile sig_atomic_t *stop,
                                   struct soothe_error *err);
void               soothe__rewritten_free(struct soothe__rewritten *r);
void               soothe__events_free(struct soothe__applied *a);

/* The bytes of n tokens one after another, special ones left out; fresh and zero-terminated, NULL: no memory. */
char *soothe__tokens_text(const struct llama_vocab *vocab, const llama_token *tokens, int32_t n);

#endif /* SOOTHE_REWRITE_H */
