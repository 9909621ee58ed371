/* SPDX-License-Identifier: Apache-2.0
 * Text to tokens and back, so that training, evaluation and generation all split text alike.
 *
 * text    UTF-8 of `size` bytes, any length; other bytes are refused (SOOTHE_E_ARGUMENT)
 * *tokens fresh, free(); NULL after an error
 * thread  any */
#ifndef SOOTHE_TEXT_TOKENS_H
#define SOOTHE_TEXT_TOKENS_H

#include "base/base.h"

enum soothe__tokenize_flags {
    SOOTHE__TOKENIZE_START   = 1, /* the text starts a document: BOS first, where the model wants it      */
    SOOTHE__TOKENIZE_SPECIAL = 2, /* "<|im_start|>" and its like in the text become the tokens they name */
};

/* Without SOOTHE__TOKENIZE_START the text goes on after other tokens, and the space that some tokenizers put
 * before every text is left out. An end-of-text token is never added. An empty text may give no token. */
enum soothe_status soothe__tokenize(llama_token **tokens, int32_t *n_tokens, const struct llama_vocab *vocab,
                                    const char *text, size_t size, int flags, struct soothe_error *err);

/* A prompt and what follows it, each tokenized for itself and joined: the prompt's tokens are those that it has
 * alone, as in generation. Spaces at the prompt's end move to the completion, since tokens begin with their
 * space. Special tokens are taken from the prompt only.
 * *first  place of the completion's first token; 0 if nothing stands before it, which no model predicts */
enum soothe_status soothe__tokenize_pair(llama_token **tokens, int32_t *n_tokens, int32_t *first,
                                         const struct llama_vocab *vocab, const char *prompt, size_t prompt_size,
                                         const char *completion, size_t completion_size, struct soothe_error *err);

/* What generation starts from when there is no prompt: BOS, else end of turn, else end of text, else token 0. */
llama_token soothe__start_token(const struct llama_vocab *vocab);

/* Does this vocabulary put a space before every text? */
bool soothe__adds_leading_space(const struct llama_vocab *vocab);

/* Bytes of a token as it stands in a text, perhaps part of a character; special tokens have none.
 * Writes at most `size` and returns how many there are; never zero-terminated. */
size_t soothe__token_bytes(const struct llama_vocab *vocab, llama_token token, char *out, size_t size);

#endif /* SOOTHE_TEXT_TOKENS_H */
