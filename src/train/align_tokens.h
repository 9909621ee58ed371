/* SPDX-License-Identifier: Apache-2.0
 * Tokens that two vocabularies share, whatever way each spells them, and the rows of weights that belong to them. */
#ifndef SOOTHE_ALIGN_TOKENS_H
#define SOOTHE_ALIGN_TOKENS_H

#include "engine/engine.h"

/* How a vocabulary writes the bytes of a text. */
enum soothe__spelling {
    SOOTHE__SPELL_BYTES,      /* byte-level BPE: one letter a byte ("Ġword")                                     */
    SOOTHE__SPELL_SPACES,     /* SentencePiece: "▁word"                                                          */
    SOOTHE__SPELL_WORDS,      /* WordPiece as GGUF files have it: a word begins with "▁", what goes on is bare     */
    SOOTHE__SPELL_WORDS_HASH, /* WordPiece as BERT's own files have it: "word", and what goes on is "##word"       */
};

/* The bytes of a text that a token stands for; " word" where a word begins.
 * is_byte  the vocabulary says that it is one byte, written <0xHH>
 * returns  how many; 0: none, or more than size */
size_t soothe__token_spelling(enum soothe__spelling spelling, const char *token, bool is_byte, unsigned char *out,
                              size_t size);

/* Tokens i_x[k] and i_y[k] of two files stand for the same bytes, which no other pair does. Special and unused
 * tokens are left out. */
struct soothe__token_pairs {
    uint32_t *i_x, *i_y;   /* ascending in i_x */
    size_t    n, n_x, n_y; /* n_x, n_y: tokens of each vocabulary that stand for a text */
};

/* errors  SOOTHE_E_UNSUPPORTED a kind of vocabulary whose spelling is not known; SOOTHE_E_MISMATCH next to nothing in
 *         common */
enum soothe_status soothe__token_pairs(struct soothe__token_pairs *pairs, const struct soothe__gguf *x,
                                       const struct soothe__gguf *y, struct soothe_error *err);
void               soothe__token_pairs_free(struct soothe__token_pairs *pairs); /* also of a zeroed one */

/* Rows of the embedding, or of the output head (where tied: the embedding), of the n tokens: *rows (n, d), fresh. */
enum soothe_status soothe__token_rows(float **rows, int32_t *d, const struct soothe__gguf *g, bool head,
                                      const uint32_t *tokens, size_t n, struct soothe_error *err);

#endif /* SOOTHE_ALIGN_TOKENS_H */
