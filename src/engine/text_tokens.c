/* SPDX-License-Identifier: Apache-2.0
 * Text to tokens and back. The traps this file keeps the others out of: the engine throws on bytes that
 * are no UTF-8, some vocabularies put a space before every text, some add an end-of-text token. */
#include <stdlib.h>
#include <string.h>

#include "engine/text_tokens.h"

/* As llama_tokenize, into a fresh array with room for n_before tokens in front; *n counts those too. */
static enum soothe_status split(llama_token **tokens, int32_t *n, int32_t n_before, const struct llama_vocab *vocab,
                                const char *text, size_t size, bool special, struct soothe_error *err) {
    *tokens = NULL;
    *n      = 0;
    if (size >= INT32_MAX / 2)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a text of %zu bytes is too long to be split into tokens", size);
    if (!soothe__utf8_valid(text, size))
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "the text is not valid UTF-8; convert it first, for example by iconv");
    int32_t      capacity = (int32_t)size + 8; /* no token is shorter than a byte, but for a leading space */
    llama_token *out      = soothe__calloc((size_t)(capacity + n_before), sizeof *out);
    int32_t      count = out ? llama_tokenize(vocab, text, (int32_t)size, out + n_before, capacity, false, special) : 0;
    if (out && count < 0 && count != INT32_MIN) {
        capacity          = -count;
        llama_token *more = soothe__realloc(out, (size_t)(capacity + n_before), sizeof *out);
        if (!more)
            free(out);
        out   = more;
        count = out ? llama_tokenize(vocab, text, (int32_t)size, out + n_before, capacity, false, special) : 0;
    }
    if (!out)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the tokens of a text of %zu bytes", size);
    if (count < 0) {
        free(out);
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine cannot split a text of %zu bytes into tokens", size);
    }
    *tokens = out;
    *n      = count + n_before;
    return SOOTHE_OK;
}

bool soothe__adds_leading_space(const struct llama_vocab *vocab) {
    llama_token   tokens[4];
    char          bytes[16];
    const int32_t n = llama_tokenize(vocab, "a", 1, tokens, 4, false, false);
    return n > 0 && soothe__token_bytes(vocab, tokens[0], bytes, sizeof bytes) > 0 && bytes[0] == ' ';
}

/* A text that goes on after others, for a vocabulary that would put a space before it. */
static enum soothe_status split_continued(llama_token **tokens, int32_t *n, const struct llama_vocab *vocab,
                                          const char *text, size_t size, bool special, struct soothe_error *err) {
    if (size > 0 && text[0] == ' ') /* the added space stands for the text's own */
        return split(tokens, n, 0, vocab, text + 1, size - 1, special, err);
    /* Behind a line break, whose tokens are then taken off again: no token reaches over one. */
    llama_token   line_break[8];
    const int32_t n_break = llama_tokenize(vocab, "\n", 1, line_break, 8, false, false);
    char         *joined  = soothe__calloc(size + 2, 1);
    if (!joined)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a text of %zu bytes", size);
    joined[0] = '\n';
    memcpy(joined + 1, text, size);
    enum soothe_status status = split(tokens, n, 0, vocab, joined, size + 1, special, err);
    free(joined);
    if (status)
        return status;
    if (n_break > 0 && *n >= n_break && !memcmp(*tokens, line_break, (size_t)n_break * sizeof *line_break)) {
        *n -= n_break;
        memmove(*tokens, *tokens + n_break, (size_t)*n * sizeof **tokens);
        return SOOTHE_OK;
    }
    free(*tokens);
    return split(tokens, n, 0, vocab, text, size, special, err);
}

enum soothe_status soothe__tokenize(llama_token **tokens, int32_t *n_tokens, const struct llama_vocab *vocab,
                                    const char *text, size_t size, int flags, struct soothe_error *err) {
    const bool special = (flags & SOOTHE__TOKENIZE_SPECIAL) != 0;
    if (!(flags & SOOTHE__TOKENIZE_START) && soothe__adds_leading_space(vocab))
        return split_continued(tokens, n_tokens, vocab, text, size, special, err);
    const bool               bos    = (flags & SOOTHE__TOKENIZE_START) && llama_vocab_get_add_bos(vocab);
    const enum soothe_status status = split(tokens, n_tokens, bos, vocab, text, size, special, err);
    if (status == SOOTHE_OK && bos)
        (*tokens)[0] = llama_vocab_bos(vocab);
    return status;
}

/* The completion with the prompt's last spaces before it; fresh. */
static char *with_spaces(const char *completion, size_t size, size_t n_spaces) {
    char *text = soothe__calloc(size + n_spaces + 1, 1);
    if (text) {
        memset(text, ' ', n_spaces);
        memcpy(text + n_spaces, completion, size);
    }
    return text;
}

enum soothe_status soothe__tokenize_pair(llama_token **tokens, int32_t *n_tokens, int32_t *first,
                                         const struct llama_vocab *vocab, const char *prompt, size_t prompt_size,
                                         const char *completion, size_t completion_size, struct soothe_error *err) {
    llama_token *before = NULL, *after = NULL;
    int32_t      n_before = 0, n_after = 0;
    size_t       n_spaces = 0;
    *tokens               = NULL;
    *n_tokens = *first = 0;
    while (n_spaces < prompt_size && prompt[prompt_size - 1 - n_spaces] == ' ')
        n_spaces++;
    char              *moved  = n_spaces ? with_spaces(completion, completion_size, n_spaces) : NULL;
    enum soothe_status status = SOOTHE_OK;
    if (n_spaces && !moved)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a text of %zu bytes", completion_size);
    if (status == SOOTHE_OK)
        status = soothe__tokenize(&before, &n_before, vocab, prompt, prompt_size - n_spaces,
                                  SOOTHE__TOKENIZE_START | SOOTHE__TOKENIZE_SPECIAL, err);
    /* With nothing before it the completion is itself the start of a document, but for BOS, which it has. */
    if (status == SOOTHE_OK && prompt_size == n_spaces)
        status = split(&after, &n_after, 0, vocab, moved ? moved : completion, completion_size + n_spaces, false, err);
    else if (status == SOOTHE_OK)
        status =
            soothe__tokenize(&after, &n_after, vocab, moved ? moved : completion, completion_size + n_spaces, 0, err);
    if (status == SOOTHE_OK) {
        llama_token *all = soothe__realloc(before, (size_t)n_before + (size_t)n_after + 1, sizeof *all);
        if (!all) {
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d tokens", n_before + n_after);
        } else {
            memcpy(all + n_before, after, (size_t)n_after * sizeof *all);
            before    = NULL;
            *tokens   = all;
            *n_tokens = n_before + n_after;
            *first    = n_before;
        }
    }
    free(before);
    free(after);
    free(moved);
    return status;
}

llama_token soothe__start_token(const struct llama_vocab *vocab) {
    const llama_token candidates[] = {llama_vocab_bos(vocab), llama_vocab_eot(vocab), llama_vocab_eos(vocab)};
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++)
        if (candidates[i] != LLAMA_TOKEN_NULL)
            return candidates[i];
    return 0;
}

size_t soothe__token_bytes(const struct llama_vocab *vocab, llama_token token, char *out, size_t size) {
    const int32_t n = llama_token_to_piece(vocab, token, out, size > INT32_MAX ? INT32_MAX : (int32_t)size, 0, false);
    return (size_t)(n < 0 ? -n : n);
}
