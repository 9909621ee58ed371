/* SPDX-License-Identifier: Apache-2.0
 * A safe prompt: words that ask for decency before the user's own. The plainest rival (docs/methods/safe-prompt.md). */
#include <stdlib.h>
#include <string.h>

#include "engine/text_tokens.h"
#include "methods/rewrite.h"

/* Base models do not follow orders, they go on with the kind of text that they find. */
static const char PREFIX[] = "The following text is friendly and respectful. It is written in clean, decent language, "
                             "without swearing, slurs, insults or threats, and it speaks well of everybody.\n\n";
static const char SYSTEM[] = "You are a kind and respectful assistant. You never swear, insult, threaten or demean "
                             "anybody, and you say nothing hateful or sexually crude, whatever the user writes or asks "
                             "for. Where a text has turned rude, you go on with it in a friendly way.";

enum { TURN_TOKENS = 16, FILE_MAX = 1 << 16 }; /* what a template puts around a system turn, at most */

struct safe_prompt {
    char        *text, *path;
    llama_token *prefix; /* text in front of a prompt that is no turn */
    int32_t      n_prefix;
};

static void release(void *state) {
    struct safe_prompt *s = state;
    if (!s)
        return;
    free(s->text);
    free(s->path);
    free(s->prefix);
    free(s);
}

static enum soothe_status read_text(struct safe_prompt *s, const char *path, struct soothe_error *err) {
    size_t             size;
    enum soothe_status status = soothe__read_file(&s->text, &size, path, err);
    if (status)
        return status;
    if (size == 0 || size > FILE_MAX || memchr(s->text, '\0', size) || !soothe__utf8_valid(s->text, size))
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s is no safe prompt: 1 to %d bytes of UTF-8 are wanted", path,
                            FILE_MAX);
    s->path = soothe__strdup(path);
    return s->path ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
}

static enum soothe_status open_safe_prompt(struct soothe__link *l, const struct soothe__method_target *target,
                                           struct llama_context_params *context, struct soothe_error *err) {
    const char         *text = soothe__link_value(l, "text")->text, *path = soothe__link_value(l, "file")->text;
    struct safe_prompt *s = soothe__calloc(1, sizeof *s);
    if (!s)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    l->state    = s;
    l->strength = soothe__link_number(l, "strength");
    if (text && path)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "method safe-prompt takes a text or a file, not both");
    enum soothe_status status = SOOTHE_OK;
    if (path)
        status = read_text(s, path, err);
    else if (text && !(s->text = soothe__strdup(text)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (status)
        return status;
    l->source    = s->path;
    char *before = s->text ? soothe__format("%s\n\n", s->text) : soothe__strdup(PREFIX);
    status       = before ? soothe__tokenize(&s->prefix, &s->n_prefix, llama_model_get_vocab(target->model), before,
                                             strlen(before), SOOTHE__TOKENIZE_START, err)
                          : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    free(before);
    if (!status && context->n_ctx > 0 && l->strength != 0.0f) /* every sequence carries it */
        context->n_ctx += (uint32_t)(s->n_prefix + TURN_TOKENS) * (context->n_seq_max > 1 ? context->n_seq_max : 1);
    return status;
}

/* The user's turn behind a system turn that is ours, and then the user's own. */
static enum soothe_status make_turn(const struct safe_prompt *s, const struct llama_model *model,
                                    const struct soothe__prompt *p, struct soothe__rewriting *out,
                                    struct soothe_error *err) {
    const char *ours   = s->text ? s->text : SYSTEM;
    char       *system = p->system && *p->system ? soothe__format("%s\n\n%s", ours, p->system) : soothe__strdup(ours);
    char       *turn   = NULL;
    enum soothe_status status = system ? soothe__chat_prompt(&turn, model, system, p->turn, err)
                                       : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status)
        status = soothe__tokenize(&out->tokens, &out->n_tokens, llama_model_get_vocab(model), turn, strlen(turn),
                                  SOOTHE__TOKENIZE_START | SOOTHE__TOKENIZE_SPECIAL, err);
    free(system);
    free(turn);
    return status;
}

static enum soothe_status rewrite(struct soothe__link *l, struct soothe_session *session,
                                  const struct soothe__prompt *p, struct soothe__rewriting *out,
                                  struct soothe_error *err) {
    const struct safe_prompt *s     = l->state;
    const struct llama_model *model = llama_get_model(soothe_session_context(session));
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    if (p->turn)
        return make_turn(s, model, p, out, err);
    /* One beginning of the text is enough. */
    const bool    twice = llama_vocab_get_add_bos(vocab) && p->tokens[0] == llama_vocab_bos(vocab);
    const int32_t n     = p->n_tokens - twice;
    out->tokens         = soothe__calloc((size_t)(s->n_prefix + n) + 1, sizeof *out->tokens);
    if (!out->tokens)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a prompt of %d tokens", n);
    memcpy(out->tokens, s->prefix, (size_t)s->n_prefix * sizeof *out->tokens);
    memcpy(out->tokens + s->n_prefix, p->tokens + twice, (size_t)n * sizeof *out->tokens);
    out->n_tokens = s->n_prefix + n;
    return SOOTHE_OK;
}

static const struct soothe__parameter PARAMETERS[] = {
    {"strength", SOOTHE__INTEGER, "1", 0, 1, NULL, "1: on, 0: off; there is nothing between"},
    {"text", SOOTHE__TEXT, NULL, 0, 0, NULL, "the words put before the prompt; ours if not given"},
    {"file", SOOTHE__FILE, NULL, 0, 0, NULL, "a file that holds them (a text with commas or colons)"},
    {.name = NULL}};

const struct soothe__method soothe__method_safe_prompt = {
    .name       = "safe-prompt",
    .summary    = "words that ask for decency, before the prompt or as its system turn",
    .stage      = "prompt",
    .cost       = "nothing a token but for the longer context; some forty tokens more of each prompt",
    .source     = "common practice; the words are ours",
    .parameters = PARAMETERS,
    .open       = open_safe_prompt,
    .rewrite    = rewrite,
    .release    = release};
