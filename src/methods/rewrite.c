/* SPDX-License-Identifier: Apache-2.0 */
#include "methods/rewrite.h"

#include <stdlib.h>
#include <string.h>

#include "engine/text_tokens.h"

char *soothe__tokens_text(const struct llama_vocab *vocab, const llama_token *tokens, int32_t n) {
    size_t size = 0;
    for (int32_t i = 0; i < n; i++)
        size += soothe__token_bytes(vocab, tokens[i], NULL, 0);
    char *text = soothe__calloc(size + 1, 1);
    for (int32_t i = 0, at = 0; i < n && text; i++)
        at += (int32_t)soothe__token_bytes(vocab, tokens[i], text + at, size - (size_t)at);
    return text;
}

static bool acts(const struct soothe__link *l) {
    return l->method->rewrite && l->strength != 0.0f;
}

bool soothe__rewrites(const struct soothe__applied *a) {
    bool any = false;
    for (size_t i = 0; i < a->n; i++)
        any = any || acts(&a->links[i]);
    return any;
}

void soothe__events_free(struct soothe__applied *a) {
    for (size_t i = 0; i < a->n_events; i++) {
        free(a->events[i].text);
        free(a->events[i].spans);
    }
    free(a->events);
    a->events   = NULL;
    a->n_events = 0;
}

void soothe__rewritten_free(struct soothe__rewritten *r) {
    for (size_t i = 0; i < r->n && r->owned; i++)
        free(r->owned[i]);
    free(r->owned);
    free(r->prompts);
    *r = (struct soothe__rewritten){.n = 0};
}

/* The prompt as UTF-8, whatever its tokens are. */
static char *readable(const struct llama_vocab *vocab, const llama_token *tokens, int32_t n) {
    struct soothe__utf8_stream stream = {.n_held = 0};
    char                      *bytes  = soothe__tokens_text(vocab, tokens, n);
    const size_t               size   = bytes ? strlen(bytes) : 0;
    char                      *text   = bytes ? soothe__calloc(3 * (size + sizeof stream.held) + 1, 1) : NULL;
    if (text)
        soothe__utf8_push(&stream, bytes, size, text);
    free(bytes);
    return text;
}

/* Takes over what a method made of prompt i. */
static enum soothe_status take(struct soothe__rewritten *r, struct soothe__applied *a, size_t i,
                               const struct soothe__method *method, struct soothe__rewriting *w,
                               struct soothe_error *err) {
    const struct llama_vocab *vocab  = llama_model_get_vocab(llama_get_model(soothe_session_context(a->session)));
    struct soothe__event      event  = {.i_prompt = i, .method = method, .spans = w->spans, .n_spans = w->n_spans};
    struct soothe__event     *events = soothe__realloc(a->events, a->n_events + 1, sizeof *events);
    r->n_changed += r->owned[i] == NULL;
    free(r->owned[i]);
    r->owned[i]            = w->tokens;
    r->prompts[i].tokens   = w->tokens;
    r->prompts[i].n_tokens = w->n_tokens;
    event.text             = readable(vocab, w->tokens, w->n_tokens);
    if (events)
        a->events = events;
    if (!events || !event.text) {
        free(event.text);
        free(event.spans);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a prompt of %d tokens", w->n_tokens);
    }
    a->events[a->n_events++] = event;
    return SOOTHE_OK;
}

static enum soothe_status rewrite_one(struct soothe__rewritten *r, struct soothe__applied *a, size_t i,
                                      struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (size_t k = 0; k < a->n && !status; k++) {
        struct soothe__link     *l = &a->links[k];
        struct soothe__rewriting w = {.tokens = NULL};
        if (!acts(l))
            continue;
        status = l->method->rewrite(l, a->session, &r->prompts[i], &w, err);
        if (!status && w.tokens) {
            status = take(r, a, i, l->method, &w, err);
            continue;
        }
        free(w.tokens);
        free(w.spans);
    }
    return status;
}

enum soothe_status soothe__rewrite(struct soothe__rewritten *r, struct soothe__applied *a,
                                   const struct soothe__prompt *prompts, size_t n, const volatile sig_atomic_t *stop,
                                   struct soothe_error *err) {
    *r = (struct soothe__rewritten){
        .prompts = soothe__calloc(n + 1, sizeof *r->prompts), .owned = soothe__calloc(n + 1, sizeof *r->owned), .n = n};
    enum soothe_status status = SOOTHE_OK;
    soothe__events_free(a);
    if (!r->prompts || !r->owned)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu prompts", n);
    else if (n)
        memcpy(r->prompts, prompts, n * sizeof *prompts);
    for (size_t i = 0; i < n && !status; i++)
        status = stop && *stop ? soothe__fail(err, SOOTHE_E_INTERRUPTED, "interrupted") : rewrite_one(r, a, i, err);
    if (status)
        soothe__rewritten_free(r);
    return status;
}
