/* SPDX-License-Identifier: Apache-2.0
 * Turns of a chat to tokens, and their greedy answers. */
#include "generate/answers.h"

#include <stdlib.h>
#include <string.h>

#include "engine/text_tokens.h"
#include "generate/generate.h"

enum { CELLS_MAX = 1 << 14 }; /* of the cache, whatever the turns' length */

/* ---- a turn ------------------------------------------------------------------------------------------ */

static enum soothe_status turn_text(char **text, const struct llama_model *model, const struct soothe__turn *t,
                                    struct soothe_error *err) {
    if (llama_model_chat_template(model, NULL))
        return soothe__chat_prompt(text, model, t->system, t->user, err);
    const bool system = t->system && *t->system;
    *text             = soothe__format("%s%s%s\n", system ? t->system : "", system ? "\n" : "", t->user);
    return *text ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a prompt");
}

enum soothe_status soothe__turn_tokenize(llama_token **tokens, int32_t *n_tokens, const struct llama_model *model,
                                         const struct soothe__turn *turn, int32_t room, struct soothe_error *err) {
    const struct llama_vocab *vocab   = llama_model_get_vocab(model);
    const int32_t             trained = llama_model_n_ctx_train(model);
    const char               *start   = turn->start ? turn->start : "";
    llama_token              *more    = NULL;
    int32_t                   n_more  = 0;
    char                     *text    = NULL;
    *tokens                           = NULL;
    enum soothe_status status         = turn_text(&text, model, turn, err);
    if (!status)
        status = soothe__tokenize(tokens, n_tokens, vocab, text, strlen(text),
                                  SOOTHE__TOKENIZE_START | SOOTHE__TOKENIZE_SPECIAL, err);
    if (!status)
        status = soothe__tokenize(&more, &n_more, vocab, start, strlen(start), 0, err);
    if (!status && *n_tokens + n_more + room > trained)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT,
                              "the prompt has %d tokens; with %d more it does not fit the model's context of %d",
                              *n_tokens + n_more, room, trained);
    if (!status && n_more > 0) {
        llama_token *grown = soothe__realloc(*tokens, (size_t)(*n_tokens + n_more), sizeof *grown);
        if (grown) {
            memcpy(grown + *n_tokens, more, (size_t)n_more * sizeof *more);
            *tokens = grown;
            *n_tokens += n_more;
        } else {
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a prompt");
        }
    }
    if (status) {
        free(*tokens);
        *tokens = NULL;
    }
    free(more);
    free(text);
    return status;
}

char *soothe__attack_prompt(const char *question, const char *attack, const char *suffix) {
    static const char PLACE[] = "{question}";
    const char       *place   = attack ? strstr(attack, PLACE) : NULL;
    const char       *space = suffix && *suffix ? " " : "", *end = suffix ? suffix : "";
    if (!attack || !*attack)
        return soothe__format("%s%s%s", question, space, end);
    if (!place)
        return soothe__format("%s\n\n%s%s%s", attack, question, space, end);
    return soothe__format("%.*s%s%s%s%s", (int)(place - attack), attack, question, place + strlen(PLACE), space, end);
}

/* ---- answers ----------------------------------------------------------------------------------------- */

struct work {
    struct soothe__answer     *answers;
    const struct soothe__turn *turns;
    struct soothe__prompt     *prompts;
    llama_token              **tokens; /* the prompts' own */
    size_t                     n;
    bool                       failed; /* out of memory */
};

static void on_done(void *user, const struct soothe__continuation *c) {
    struct work           *w     = user;
    struct soothe__answer *a     = &w->answers[c->i_prompt];
    const char            *start = w->turns[c->i_prompt].start;
    if (c->finish == SOOTHE__FINISH_INTERRUPTED)
        return;
    free(a->text);
    a->text   = soothe__format("%s%s", start ? start : "", c->text);
    a->ended  = c->finish == SOOTHE__FINISH_STOP;
    w->failed = w->failed || !a->text;
}

static enum soothe_status tokenize_all(struct work *w, const struct llama_model *model, int32_t n_predict,
                                       struct soothe_error *err) {
    enum soothe_status  status = SOOTHE_OK;
    struct soothe_error why;
    w->prompts = soothe__calloc(w->n, sizeof *w->prompts);
    w->tokens  = soothe__calloc(w->n, sizeof *w->tokens);
    if (!w->prompts || !w->tokens)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu prompts", w->n);
    for (size_t i = 0; i < w->n && !status; i++) {
        int32_t n;
        status        = soothe__turn_tokenize(&w->tokens[i], &n, model, &w->turns[i], n_predict, &why);
        w->prompts[i] = soothe__prompt_of(w->tokens[i], n, i);
        if (status)
            soothe__fail(err, status, "prompt %zu of %zu: %.900s", i + 1, w->n, why.message);
    }
    return status;
}

static int32_t parallel(const struct work *w, const struct soothe__answer_options *o) {
    int32_t longest = 1;
    for (size_t i = 0; i < w->n; i++)
        longest = w->prompts[i].n_tokens > longest ? w->prompts[i].n_tokens : longest;
    const int32_t wanted = o->n_parallel > 0 ? o->n_parallel : 8, room = CELLS_MAX / (longest + o->n_predict);
    const int32_t n = room < 1 ? 1 : room < wanted ? room : wanted;
    return (size_t)n < w->n ? n : (int32_t)w->n;
}

static enum soothe_status generate(struct work *w, struct llama_model *model, const struct soothe__answer_options *o,
                                   struct soothe_error *err) {
    struct soothe_session          *session = NULL;
    struct soothe_session_params    p       = soothe_session_params_default();
    struct soothe__generate_options g       = soothe__generate_options_default();
    g.sampling.temp                         = 0;
    g.n_predict                             = o->n_predict;
    g.stop                                  = o->stop;
    g.on_done                               = on_done;
    g.user                                  = w;
    p.context.n_ctx                         = 0;
    if (o->n_threads > 0)
        p.context.n_threads = p.context.n_threads_batch = o->n_threads;
    soothe__generate_context(&p.context, model, w->prompts, w->n, &g, parallel(w, o));
    enum soothe_status status = soothe_session_new(&session, model, NULL, &p, err);
    if (!status)
        status = soothe__generate(session, w->prompts, w->n, &g, NULL, err);
    if (!status && w->failed)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu answers", w->n);
    soothe_session_free(session);
    return status;
}

enum soothe_status soothe__answer(struct soothe__answer *answers, struct llama_model *model,
                                  const struct soothe__turn *turns, size_t n,
                                  const struct soothe__answer_options *options, struct soothe_error *err) {
    struct work w = {.answers = answers, .turns = turns, .n = n};
    memset(answers, 0, n * sizeof *answers);
    if (n == 0)
        return SOOTHE_OK;
    enum soothe_status status = tokenize_all(&w, model, options->n_predict, err);
    if (!status)
        status = generate(&w, model, options, err);
    for (size_t i = 0; w.tokens && i < n; i++)
        free(w.tokens[i]);
    free(w.tokens);
    free(w.prompts);
    if (status)
        soothe__answers_free(answers, n);
    return status;
}

void soothe__answers_free(struct soothe__answer *answers, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(answers[i].text);
        answers[i].text = NULL;
    }
}
