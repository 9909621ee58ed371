/* SPDX-License-Identifier: Apache-2.0
 * Where a text can be cut so that its tokens are those of its parts: what makes following a growing text cheap.
 *
 * A *boundary* p of a text has, for this vocabulary and the pinned engine's rules,
 *     tokens(text) = tokens(text[0,p)) ++ tail tokens of text[p,size)
 * whatever stands behind p's next character. Nothing is claimed of a vocabulary whose rules were not looked into: it
 * has no boundaries, and its texts are tokenized whole.
 *
 *   SentencePiece ("llama")  two symbols merge only into a token of the vocabulary, so between two characters that
 *       stand side by side in no token nothing ever merges
 *   byte-level BPE ("gpt2")  with one of the pre-tokenizers named in text_boundaries.c: a run of letters ends at white
 *       space or at a mark of punctuation, and none of their patterns looks back
 *   both                     but not inside a user-defined token, which the engine looks for before anything else */
#ifndef SOOTHE_TEXT_BOUNDARIES_H
#define SOOTHE_TEXT_BOUNDARIES_H

#include "base/base.h"

struct soothe__boundaries;

/* model   may be loaded vocab_only; must outlive the result
 * errors  SOOTHE_E_UNSUPPORTED a vocabulary that cannot spell every text (the engine would end the process) */
enum soothe_status soothe__boundaries_new(struct soothe__boundaries **out, const struct llama_model *model,
                                          struct soothe_error *err);
void               soothe__boundaries_free(struct soothe__boundaries *b);

/* The last boundary p of the text with from < p < size; from if there is none. */
size_t soothe__boundary_behind(const struct soothe__boundaries *b, const char *text, size_t size, size_t from);

/* Adds the tokens of valid UTF-8 to what out holds.
 * tail    the text goes on at a boundary; false: it stands alone
 * errors  SOOTHE_E_ARGUMENT too long; SOOTHE_E_MEMORY; SOOTHE_E_ENGINE */
struct soothe__tokens {
    llama_token *data; /* free() */
    size_t       n, capacity;
};
enum soothe_status soothe__boundaries_tokenize(const struct soothe__boundaries *b, struct soothe__tokens *out,
                                               const char *text, size_t size, bool tail, struct soothe_error *err);
bool               soothe__tokens_reserve(struct soothe__tokens *t, size_t n); /* room for n in all */

#endif /* SOOTHE_TEXT_BOUNDARIES_H */
