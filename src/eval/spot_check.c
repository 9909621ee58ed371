/* SPDX-License-Identifier: Apache-2.0
 * Greedy continuations and neutral texts under a model as it is. */
#include "eval/spot_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/target_model.h"
#include "engine/text_tokens.h"
#include "eval/conditional.h"
#include "eval/run.h"

enum { PREDICT_DEFAULT = 20, PARALLEL = 16 };

struct check {
    const struct soothe__spot_check *what;
    struct llama_model              *model;
    struct soothe__prompt           *prompts; /* (prompts->n), tokens owned by lists */
    llama_token                    **tokens;  /* (prompts->n) */
    char                           **texts;   /* (prompts->n) continuations */
    bool                             out_of_memory;
};

static void release(struct check *c) {
    for (size_t i = 0; i < c->what->prompts->n; i++) {
        if (c->tokens)
            free(c->tokens[i]);
        if (c->texts)
            free(c->texts[i]);
    }
    free(c->prompts);
    free(c->tokens);
    free(c->texts);
    llama_model_free(c->model);
}

static void keep_text(void *user, const struct soothe__continuation *k) {
    struct check *c       = user;
    c->texts[k->i_prompt] = soothe__strdup(k->text);
    c->out_of_memory      = c->out_of_memory || !c->texts[k->i_prompt];
}

static enum soothe_status tokenize(struct check *c, struct soothe_error *err) {
    const struct soothe__eval_prompts *p      = c->what->prompts;
    const struct llama_vocab          *vocab  = llama_model_get_vocab(c->model);
    enum soothe_status                 status = SOOTHE_OK;
    for (size_t i = 0; i < p->n && !status; i++) {
        int32_t n = 0;
        status    = soothe__tokenize(&c->tokens[i], &n, vocab, p->items[i].text, strlen(p->items[i].text),
                                     SOOTHE__TOKENIZE_START, err);
        if (!status)
            c->prompts[i] = soothe__prompt_of(c->tokens[i], n, i);
    }
    return status;
}

static enum soothe_status new_session(struct soothe_session **session, const struct check *c,
                                      const struct soothe__generate_options *g, struct soothe_error *err) {
    struct soothe_session_params p = soothe_session_params_default();
    p.strength                     = 0;
    if (c->what->n_threads > 0)
        p.context.n_threads = p.context.n_threads_batch = c->what->n_threads;
    p.context.n_batch = p.context.n_ubatch = 512;
    if (g)
        soothe__generate_context(&p.context, c->model, c->prompts, c->what->prompts->n, g, PARALLEL);
    else
        p.context.n_ctx = SOOTHE__EVAL_CORPUS_TOKENS + 16;
    return soothe_session_new(session, c->model, NULL, &p, err);
}

static enum soothe_status generate(struct check *c, struct soothe_error *err) {
    struct soothe__generate_options g       = soothe__generate_options_default();
    struct soothe_session          *session = NULL;
    g.sampling.temp                         = 0;
    g.n_predict                             = c->what->n_predict > 0 ? c->what->n_predict : PREDICT_DEFAULT;
    g.on_done                               = keep_text;
    g.user                                  = c;
    enum soothe_status status               = new_session(&session, c, &g, err);
    if (!status)
        status = soothe__generate(session, c->prompts, c->what->prompts->n, &g, NULL, err);
    if (!status && c->out_of_memory)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a continuation");
    soothe_session_free(session);
    return status;
}

static enum soothe_status score(struct soothe__spot_figures *f, const struct check *c, struct soothe_error *err) {
    const size_t          n      = c->what->prompts->n;
    struct soothe__score *scores = soothe__calloc(n, sizeof *scores);
    double                sum    = 0;
    if (!scores)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu scores", n);
    const enum soothe_status status =
        soothe__scorer_score(c->what->scorer, (const char *const *)c->texts, n, scores, err);
    for (size_t i = 0; i < n && !status; i++) {
        f->n_nulls += isnan(scores[i].toxicity) ? 1 : 0;
        f->n_toxic += scores[i].toxicity >= SOOTHE__EVAL_THRESHOLD ? 1 : 0;
        sum += isnan(scores[i].toxicity) ? 0 : scores[i].toxicity;
    }
    f->n_prompts = n;
    if (!status && n > f->n_nulls) {
        f->greedy1 = (double)f->n_toxic / (double)(n - f->n_nulls);
        f->mean    = sum / (double)(n - f->n_nulls);
    }
    free(scores);
    return status;
}

static enum soothe_status continue_prompts(struct soothe__spot_figures *f, struct check *c, struct soothe_error *err) {
    const size_t n = c->what->prompts->n;
    c->prompts     = soothe__calloc(n, sizeof *c->prompts);
    c->tokens      = soothe__calloc(n, sizeof *c->tokens);
    c->texts       = soothe__calloc(n, sizeof *c->texts);
    if (!c->prompts || !c->tokens || !c->texts)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu prompts", n);
    enum soothe_status status = tokenize(c, err);
    if (!status)
        status = generate(c, err);
    return status ? status : score(f, c, err);
}

/* One text's first tokens, as soothe eval takes them. */
static enum soothe_status add_text(const struct check *c, struct soothe_session *session, const char *text, double *nll,
                                   int64_t *n_counted, struct soothe_error *err) {
    const struct llama_vocab  *vocab  = llama_model_get_vocab(c->model);
    llama_token               *tokens = NULL;
    int32_t                    n      = 0;
    struct soothe__conditional item   = {0};
    enum soothe_status status = soothe__tokenize(&tokens, &n, vocab, text, strlen(text), SOOTHE__TOKENIZE_START, err);
    n                         = n > SOOTHE__EVAL_CORPUS_TOKENS ? SOOTHE__EVAL_CORPUS_TOKENS : n;
    if (!status && n > 1) {
        item   = (struct soothe__conditional){.tokens = tokens + 1, .n_tokens = n - 1};
        status = soothe__conditional_nll(session, tokens, 1, &item, 1, err);
    }
    *nll += item.nll;
    *n_counted += item.n_counted;
    free(tokens);
    return status;
}

static enum soothe_status read_corpus(struct soothe__spot_figures *f, struct check *c, struct soothe_error *err) {
    struct soothe_session *session = NULL;
    double                 nll     = 0;
    enum soothe_status     status  = new_session(&session, c, NULL, err);
    for (size_t i = 0; i < c->what->corpus->n && !status; i++)
        status = add_text(c, session, c->what->corpus->items[i].text, &nll, &f->n_corpus_tokens, err);
    if (!status && f->n_corpus_tokens)
        f->ppl_corpus = exp(nll / (double)f->n_corpus_tokens);
    soothe_session_free(session);
    return status;
}

enum soothe_status soothe__spot_check(struct soothe__spot_figures *figures, const char *model_path,
                                      const struct soothe__spot_check *what, struct soothe_error *err) {
    struct check c            = {.what = what};
    *figures                  = (struct soothe__spot_figures){.greedy1 = NAN, .mean = NAN, .ppl_corpus = NAN};
    enum soothe_status status = soothe__target_load(&c.model, model_path, 0, err);
    if (!status && what->prompts->n)
        status = continue_prompts(figures, &c, err);
    if (!status && what->corpus->n)
        status = read_corpus(figures, &c, err);
    release(&c);
    return status;
}
