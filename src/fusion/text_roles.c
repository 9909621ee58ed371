/* SPDX-License-Identifier: Apache-2.0
 * Special tokens of one vocabulary in another: by what they are for, not by how they are spelled. */
#include <string.h>

#include "fusion/text_follower.h"

/* Where a turn of a chat begins and ends, in the templates of the common families. */
static const char *const TURN_STARTS[] = {"<|im_start|>", "<start_of_turn>",   "<|start_header_id|>",
                                          "<|turn>",      "<|start_of_role|>", NULL};
static const char *const TURN_ENDS[]   = {"<|im_end|>", "<end_of_turn>", "<|eot_id|>", "<turn|>", "<|end|>", NULL};

/* What has no text of its own. Some files call the marks of a chat user-defined, which else are text. */
enum { CONTROL = LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN };

static bool has_attr(const struct llama_vocab *vocab, llama_token token, int attr) {
    return ((int)llama_vocab_get_attr(vocab, token) & attr) != 0;
}

/* The special token that is spelled so, or LLAMA_TOKEN_NULL. */
static llama_token find_special(const struct llama_vocab *vocab, const char *text) {
    llama_token   tokens[4];
    const int32_t n = llama_tokenize(vocab, text, (int32_t)strlen(text), tokens, 4, false, true);
    for (int32_t i = 0; i < n; i++) /* some vocabularies put a space before it */
        if (has_attr(vocab, tokens[i], CONTROL | LLAMA_TOKEN_ATTR_USER_DEFINED) &&
            strcmp(llama_vocab_get_text(vocab, tokens[i]), text) == 0)
            return tokens[i];
    return LLAMA_TOKEN_NULL;
}

static bool is_among(const char *text, const char *const *names) {
    for (int i = 0; names[i]; i++)
        if (strcmp(text, names[i]) == 0)
            return true;
    return false;
}

static llama_token find_among(const struct llama_vocab *vocab, const char *const *names) {
    llama_token found = LLAMA_TOKEN_NULL;
    for (int i = 0; names[i] && found == LLAMA_TOKEN_NULL; i++)
        found = find_special(vocab, names[i]);
    return found;
}

static llama_token either(llama_token a, llama_token b) {
    return a != LLAMA_TOKEN_NULL ? a : b;
}

struct soothe__role soothe__role_of(const struct soothe__follow_rules *r, llama_token token, bool first) {
    const struct soothe__role nothing = {.kind = SOOTHE__ROLE_NOTHING}, line = {.kind = SOOTHE__ROLE_LINE_BREAK};
    const struct soothe__role is_text = {.kind = SOOTHE__ROLE_TEXT};
    if (!has_attr(r->target, token, CONTROL | LLAMA_TOKEN_ATTR_USER_DEFINED))
        return is_text;
    const char *text  = llama_vocab_get_text(r->target, token);
    const bool  start = is_among(text, TURN_STARTS), end = is_among(text, TURN_ENDS);
    if (!start && !end && !has_attr(r->target, token, CONTROL))
        return is_text;
    if (first && token == llama_vocab_bos(r->target) && (llama_vocab_get_add_bos(r->target) || !start))
        return nothing; /* the calibrator has its own */
    llama_token same = find_special(r->own, text);
    if (start)
        same = either(same, find_among(r->own, TURN_STARTS));
    else if (token == llama_vocab_eos(r->target) && !end)
        same = either(same, llama_vocab_eos(r->own));
    else if (end || llama_vocab_is_eog(r->target, token))
        same = either(either(same, find_among(r->own, TURN_ENDS)),
                      either(llama_vocab_eot(r->own), llama_vocab_eos(r->own)));
    if (same != LLAMA_TOKEN_NULL)
        return (struct soothe__role){SOOTHE__ROLE_TOKEN, same};
    return start || end || llama_vocab_is_eog(r->target, token) ? line : nothing;
}
