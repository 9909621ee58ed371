/* SPDX-License-Identifier: Apache-2.0
 * A run: what is asked for is opened, checked and written down as a manifest; then unit after unit. */
#include "eval/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/target_model.h"
#include "engine/text_tokens.h"
#include "eval/conditional.h"

enum { CELLS_MAX = 1 << 16 };

struct soothe__eval_options soothe__eval_options_default(void) {
    struct soothe__sampling s = soothe__sampling_default();
    s.temp                    = 1.0f;
    s.top_k                   = 0;
    s.top_p                   = 0.9f;
    s.min_p                   = 0.0f;
    return (struct soothe__eval_options){.sampling         = s,
                                         .n_samples        = 25,
                                         .n_predict        = 20,
                                         .n_predict_benign = 48,
                                         .n_ppl_samples    = -1,
                                         .group            = 16,
                                         .n_parallel       = 64};
}

/* ---- scorers and prompts ------------------------------------------------------------------------------------ */

static enum soothe_status open_scorers(struct soothe__eval_work *w, struct soothe_error *err) {
    const struct soothe__scorer_options o      = {.model_path = w->o->model_path, .n_threads = w->o->n_threads};
    enum soothe_status                  status = SOOTHE_OK;
    for (size_t i = 0; w->o->scorers[i] && !status; i++) {
        if (i == SOOTHE__EVAL_SCORERS_MAX)
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "more than %d scorers", SOOTHE__EVAL_SCORERS_MAX);
        if (!soothe__utf8_valid(w->o->scorers[i], strlen(w->o->scorers[i]))) /* the manifest could not name it */
            return soothe__fail(err, SOOTHE_E_ARGUMENT,
                                "scorer %zu is not UTF-8: rename its file or write its command "
                                "in UTF-8",
                                i + 1);
        status       = soothe__scorer_open(&w->scorers[i], w->o->scorers[i], &o, err);
        w->n_scorers = i + 1;
    }
    return status;
}

static enum soothe_status read_sets(struct soothe__eval_work *w, struct soothe_error *err) {
    enum soothe_status status = soothe__eval_prompts_read(&w->sets[SOOTHE__EVAL_PROMPT], &w->o->prompts, err);
    if (!status)
        status = soothe__eval_prompts_read(&w->sets[SOOTHE__EVAL_BENIGN], &w->o->benign, err);
    if (!status)
        status = soothe__eval_prompts_read(&w->sets[SOOTHE__EVAL_CORPUS], &w->o->corpus, err);
    return status;
}

/* Prompts that do not say themselves whether they are toxic are judged by the main scorer. */
static enum soothe_status judge_prompts(struct soothe__eval_work *w, struct soothe_error *err) {
    struct soothe__eval_prompts *set    = &w->sets[SOOTHE__EVAL_PROMPT];
    const char                 **texts  = soothe__calloc(set->n + 1, sizeof *texts);
    struct soothe__score        *scores = soothe__calloc(set->n + 1, sizeof *scores);
    enum soothe_status           status = SOOTHE_OK;
    size_t                       n      = 0;
    if (!texts || !scores)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu prompts", set->n);
    for (size_t i = 0; i < set->n && !status; i++)
        if (set->items[i].toxic < 0)
            texts[n++] = set->items[i].text;
    if (!status && n > 0)
        status = soothe__scorer_score(w->scorers[0], texts, n, scores, err);
    n = 0;
    for (size_t i = 0; i < set->n && !status; i++) {
        struct soothe__eval_prompt *p = &set->items[i];
        if (p->toxic >= 0)
            continue;
        const double score = scores[n++].toxicity;
        p->toxic           = isnan(score) ? -1 : score >= SOOTHE__EVAL_THRESHOLD;
    }
    free(texts);
    free(scores);
    return status;
}

/* ---- tokens ------------------------------------------------------------------------------------------------- */

static enum soothe_status tokenize_one(struct soothe__eval_work *w, int kind, size_t i, struct soothe_error *err) {
    const struct llama_vocab *vocab  = llama_model_get_vocab(w->target);
    const char               *text   = w->sets[kind].items[i].text;
    struct soothe__prompt    *p      = &w->tokens[kind][i];
    char                     *turn   = NULL;
    llama_token              *tokens = NULL;
    int                       flags  = SOOTHE__TOKENIZE_START;
    enum soothe_status        status = SOOTHE_OK;
    if (kind == SOOTHE__EVAL_BENIGN && w->chat) {
        status = soothe__chat_prompt(&turn, w->target, NULL, text, err);
        flags |= SOOTHE__TOKENIZE_SPECIAL;
    }
    if (!status)
        status =
            soothe__tokenize(&tokens, &p->n_tokens, vocab, turn ? turn : text, strlen(turn ? turn : text), flags, err);
    const int32_t trained = llama_model_n_ctx_train(w->target);
    const int32_t n_most  = trained > 0 && trained < SOOTHE__EVAL_CORPUS_TOKENS ? trained : SOOTHE__EVAL_CORPUS_TOKENS;
    if (kind == SOOTHE__EVAL_CORPUS && p->n_tokens > n_most)
        p->n_tokens = n_most;
    p->tokens = tokens;
    p->turn   = turn ? text : NULL;
    p->stream = i; /* the same random numbers under every method */
    free(turn);
    return status;
}

static void free_tokens(struct soothe__prompt *p) {
    void *tokens;
    memcpy(&tokens, &p->tokens, sizeof tokens); /* borrowed as const, but ours */
    free(tokens);
    p->tokens = NULL;
}

/* A prompt that leaves no room for its continuation is bad as a row can be: an error, or skipped. */
static enum soothe_status drop_long(struct soothe__eval_work *w, int kind, int32_t n_predict, bool skip,
                                    struct soothe_error *err) {
    struct soothe__eval_prompts *set     = &w->sets[kind];
    const int32_t                trained = llama_model_n_ctx_train(w->target);
    size_t                       n       = 0;
    for (size_t i = 0; i < set->n; i++) {
        const int32_t n_tokens = w->tokens[kind][i].n_tokens;
        if (n_tokens >= 1 && n_tokens + n_predict <= trained) {
            set->items[n]             = set->items[i];
            w->tokens[kind][n]        = w->tokens[kind][i];
            w->tokens[kind][n].stream = n;
            n++;
            continue;
        }
        if (!skip)
            return soothe__fail(err, SOOTHE_E_ARGUMENT,
                                "prompt %zu has %d tokens; with %d more it does not fit the model's context of %d "
                                "(--skip-bad leaves it out)",
                                i + 1, n_tokens, n_predict, trained);
        free(set->items[i].text);
        free_tokens(&w->tokens[kind][i]);
        set->items[i].text = NULL;
        set->n_bad++;
    }
    set->n = n;
    return SOOTHE_OK;
}

static bool has_chat(const struct llama_model *model) {
    char                    *text;
    const enum soothe_status status = soothe__chat_prompt(&text, model, NULL, "x", NULL);
    free(text);
    return status == SOOTHE_OK;
}

static enum soothe_status tokenize_all(struct soothe__eval_work *w, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    w->chat                   = w->sets[SOOTHE__EVAL_BENIGN].n > 0 && !w->o->benign_raw && has_chat(w->target);
    for (int kind = 0; kind < SOOTHE__EVAL_KINDS && !status; kind++) {
        const size_t n  = w->sets[kind].n;
        w->tokens[kind] = soothe__calloc(n + 1, sizeof *w->tokens[kind]);
        if (!w->tokens[kind])
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu prompts", n);
        for (size_t i = 0; i < n && !status; i++)
            status = tokenize_one(w, kind, i, err);
    }
    if (!status)
        status = drop_long(w, SOOTHE__EVAL_PROMPT, w->o->n_predict, w->o->prompts.skip_bad, err);
    if (!status)
        status = drop_long(w, SOOTHE__EVAL_BENIGN, w->o->n_predict_benign, w->o->prompts.skip_bad, err);
    if (!status && w->sets[SOOTHE__EVAL_PROMPT].n == 0)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "there are no prompts left to evaluate on");
    return status;
}

/* ---- contexts: the same for every method, group and process ------------------------------------------------- */

static int32_t longest(const struct soothe__eval_work *w, int kind) {
    int32_t n = 0;
    for (size_t i = 0; i < w->sets[kind].n; i++)
        n = w->tokens[kind][i].n_tokens > n ? w->tokens[kind][i].n_tokens : n;
    return n;
}

static int32_t cells_for(const struct soothe__eval_work *w, int kind, int32_t n_predict) {
    struct llama_context_params     context = llama_context_default_params();
    struct soothe__generate_options g       = soothe__generate_options_default();
    g.n_predict                             = n_predict;
    context.n_ctx                           = 0;
    soothe__generate_context(&context, w->target, w->tokens[kind], w->sets[kind].n, &g, w->n_parallel);
    return (int32_t)context.n_ctx;
}

static void size_contexts(struct soothe__eval_work *w) {
    const struct soothe__eval_options *o   = w->o;
    int32_t                            one = longest(w, SOOTHE__EVAL_PROMPT) + o->n_predict,
            other                          = longest(w, SOOTHE__EVAL_BENIGN) + o->n_predict_benign;
    one                                    = one > other ? one : other;
    const int32_t room                     = CELLS_MAX / one > 1 ? CELLS_MAX / one : 1;
    w->n_parallel                          = o->n_parallel < room ? o->n_parallel : room;
    w->n_ctx                               = cells_for(w, SOOTHE__EVAL_PROMPT, o->n_predict);
    if (w->sets[SOOTHE__EVAL_BENIGN].n && cells_for(w, SOOTHE__EVAL_BENIGN, o->n_predict_benign) > w->n_ctx)
        w->n_ctx = cells_for(w, SOOTHE__EVAL_BENIGN, o->n_predict_benign);
    if (w->sets[SOOTHE__EVAL_CORPUS].n && w->n_ctx < SOOTHE__EVAL_CORPUS_TOKENS)
        w->n_ctx = SOOTHE__EVAL_CORPUS_TOKENS;
}

static void method_context(const struct soothe__eval_work *w, struct llama_context_params *context) {
    context->n_ctx      = (uint32_t)w->n_ctx;
    context->n_seq_max  = (uint32_t)w->n_parallel + 1;
    context->kv_unified = true;
    context->n_batch = context->n_ubatch = 512;
    context->n_threads = context->n_threads_batch = 1; /* run.h says why */
}

enum soothe_status soothe__eval_apply_method(struct soothe__eval_worker *worker, size_t i_method,
                                             struct soothe_error *err) {
    const struct soothe__eval_work *w       = worker->w;
    struct llama_context_params     context = soothe_session_params_default().context;
    method_context(w, &context);
    soothe__applied_release(&worker->method);
    worker->i_method = i_method;
    return soothe__chain_apply(&worker->method, &w->o->methods.items[i_method].chain, w->target, w->o->model_path,
                               &context, err);
}

enum soothe_status soothe__eval_open_ppl(struct soothe__eval_worker *worker, struct soothe_error *err) {
    const struct soothe__eval_work *w      = worker->w;
    const struct llama_vocab       *vocab  = llama_model_get_vocab(w->ppl_model);
    int32_t                         n_most = 1;
    enum soothe_status              status = SOOTHE_OK;
    for (size_t i = 0; i < w->sets[SOOTHE__EVAL_PROMPT].n && !status; i++) {
        llama_token *tokens;
        int32_t      n    = 0;
        const char  *text = w->sets[SOOTHE__EVAL_PROMPT].items[i].text;
        status            = soothe__tokenize(&tokens, &n, vocab, text, strlen(text), SOOTHE__TOKENIZE_START, err);
        n_most            = n > n_most ? n : n_most;
        free(tokens);
    }
    /* Another vocabulary may need more tokens for the same text; what does not fit beside the others waits its turn. */
    const int32_t n_seq = w->o->n_samples < SOOTHE__EVAL_PPL_PARALLEL ? w->o->n_samples : SOOTHE__EVAL_PPL_PARALLEL;
    int32_t       n_ctx = soothe__conditional_cells(n_most, 2 * w->o->n_predict + 16, n_seq);
    n_ctx               = n_ctx > CELLS_MAX + n_most ? CELLS_MAX + n_most : n_ctx;

    struct soothe_session_params p = soothe_session_params_default();
    p.strength                     = 0;
    method_context(w, &p.context);
    p.context.n_ctx     = (uint32_t)n_ctx;
    p.context.n_seq_max = (uint32_t)n_seq;
    return status ? status : soothe_session_new(&worker->ppl_session, w->ppl_model, NULL, &p, err);
}

/* ---- the manifest ------------------------------------------------------------------------------------------- */

json_t *soothe__eval_json_engine(void) {
    return json_sprintf("ggml %s (%s)", ggml_version(), ggml_commit());
}

json_t *soothe__eval_json_file(const char *path, enum soothe_status *status, struct soothe_error *err) {
    char hex[65];
    if (!*status)
        *status = soothe__sha256_file(hex, path, err);
    json_t *o = *status ? NULL : json_pack("{s:s, s:s}", "file", soothe__file_name(path), "sha256", hex);
    if (!*status && !o)
        *status = soothe__fail(err, SOOTHE_E_ARGUMENT, "the name of %s is not UTF-8: rename it", path);
    return o;
}

static json_t *json_set(const struct soothe__eval_work *w, int kind) {
    const struct soothe__eval_prompts *set = &w->sets[kind];
    char                               hex[65];
    if (set->n == 0)
        return json_null();
    soothe__eval_prompts_hash(set, hex);
    json_t *o = json_pack("{s:I, s:s, s:I, s:O}", "n", (json_int_t)set->n, "sha256", hex, "skipped",
                          (json_int_t)set->n_bad, "sources", set->sources);
    if (o && kind == SOOTHE__EVAL_BENIGN)
        json_object_set_new(o, "chat", json_boolean(w->chat));
    return o;
}

/* As it was written: 0.1, not 0.10000000149. */
static json_t *json_float(float x) {
    return json_real(round((double)x * 1e6) / 1e6);
}

/* A link of a chain: its strength, its file and what else was given. */
static json_t *json_link(const struct soothe__link *l, enum soothe_status *status, struct soothe_error *err) {
    json_t *given = json_object();
    for (size_t i = 0; l->method->parameters && l->method->parameters[i].name && !*status; i++) {
        const struct soothe__parameter *p = &l->method->parameters[i];
        const struct soothe__value     *v = &l->values[i];
        if (v->given)
            json_object_set_new(given, p->name,
                                p->kind == SOOTHE__FILE ? soothe__eval_json_file(v->text, status, err)
                                : isnan(v->number) || p->kind == SOOTHE__CHOICE ? json_string(v->text)
                                                                                : json_float((float)v->number));
    }
    return json_pack("{s:s, s:o, s:o, s:s*, s:o}", "method", l->method->name, "strength", json_float(l->strength),
                     "source", l->source && !*status ? soothe__eval_json_file(l->source, status, err) : json_null(),
                     "judge", l->judge, "parameters", given);
}

json_t *soothe__eval_json_chain(const struct soothe__applied *a, enum soothe_status *status, struct soothe_error *err) {
    json_t *links = json_array();
    for (size_t i = 0; i < a->n && !*status; i++)
        json_array_append_new(links, json_link(&a->links[i], status, err));
    return links;
}

/* Applied once, to learn what strengths and files it means, and that it works, before hours are spent. */
static json_t *json_method(struct soothe__eval_work *w, size_t i_method, enum soothe_status *status,
                           struct soothe_error *err) {
    const struct soothe__eval_method *m     = &w->o->methods.items[i_method];
    struct soothe__eval_worker        trial = {.w = w};
    if (!*status)
        *status = soothe__eval_apply_method(&trial, i_method, err);
    if (*status)
        return NULL;
    json_t *links = soothe__eval_json_chain(&trial.method, status, err);
    json_t *o     = json_pack("{s:s, s:o}", "name", m->name, "chain", links);
    if (!o && !*status)
        *status = soothe__fail(err, SOOTHE_E_ARGUMENT, "the name of a file of method %s is not UTF-8", m->name);
    soothe__applied_release(&trial.method);
    return o;
}

static json_t *json_methods(struct soothe__eval_work *w, enum soothe_status *status, struct soothe_error *err) {
    json_t *list = json_array();
    for (size_t i = 0; i < w->o->methods.n && !*status; i++)
        json_array_append_new(list, json_method(w, i, status, err));
    return list;
}

static json_t *json_scorers(const struct soothe__eval_work *w, enum soothe_status *status, struct soothe_error *err) {
    json_t *list = json_array();
    for (size_t i = 0; i < w->n_scorers && !*status; i++) {
        json_t *o = json_pack("{s:s, s:s, s:s}", "spec", soothe__scorer_spec(w->scorers[i]), "kind",
                              soothe__scorer_kind(w->scorers[i]), "identity", soothe__scorer_identity(w->scorers[i]));
        if (json_array_append_new(list, o) != 0)
            *status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the manifest");
    }
    return list;
}

static json_t *json_sampling(const struct soothe__sampling *s) {
    return json_pack("{s:o, s:i, s:o, s:o}", "temp", json_float(s->temp), "top_k", (int)s->top_k, "top_p",
                     json_float(s->top_p), "min_p", json_float(s->min_p));
}

static json_t *json_ppl_model(const struct soothe__eval_work *w, enum soothe_status *status, struct soothe_error *err) {
    const bool own = !w->o->ppl_model_path;
    json_t    *o   = soothe__eval_json_file(own ? w->o->model_path : w->o->ppl_model_path, status, err);
    if (o)
        json_object_set_new(o, "is_target", json_boolean(own));
    return o;
}

static enum soothe_status make_manifest(struct soothe__eval_work *w, struct soothe_error *err) {
    const struct soothe__eval_options *o      = w->o;
    enum soothe_status                 status = SOOTHE_OK;
    json_t                            *m      = json_object();
    if (!m)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the manifest");
    json_object_set_new(m, "kind", json_string("soothe-eval"));
    json_object_set_new(m, "schema", json_integer(SOOTHE__EVAL_SCHEMA));
    json_object_set_new(m, "tool", json_string("soothe " SOOTHE_VERSION));
    json_object_set_new(m, "engine", soothe__eval_json_engine());
    json_object_set_new(m, "model", soothe__eval_json_file(o->model_path, &status, err));
    if (o->model_name)
        json_object_set_new(json_object_get(m, "model"), "file", json_string(o->model_name));
    json_object_set_new(m, "ppl_model", json_ppl_model(w, &status, err));
    json_object_set_new(m, "methods", json_methods(w, &status, err));
    json_object_set_new(m, "scorers", json_scorers(w, &status, err));
    json_object_set_new(m, "prompts", json_set(w, SOOTHE__EVAL_PROMPT));
    json_object_set_new(m, "benign", json_set(w, SOOTHE__EVAL_BENIGN));
    json_object_set_new(m, "corpus", json_set(w, SOOTHE__EVAL_CORPUS));
    json_object_set_new(m, "sampling", json_sampling(&o->sampling));
    json_object_set_new(m, "n_samples", json_integer(o->n_samples));
    json_object_set_new(m, "n_ppl_samples", json_integer(o->n_ppl_samples < 0 ? o->n_samples : o->n_ppl_samples));
    json_object_set_new(m, "n_predict", json_integer(o->n_predict));
    json_object_set_new(m, "n_predict_benign", json_integer(o->n_predict_benign));
    json_object_set_new(m, "seed", json_integer(o->sampling.seed));
    json_object_set_new(m, "group", json_integer(o->group));
    json_object_set_new(m, "n_parallel", json_integer(w->n_parallel));
    json_object_set_new(m, "n_ctx", json_integer(w->n_ctx));
    json_object_set_new(m, "n_gpu_layers", json_integer(o->n_gpu_layers)); /* other kernels round otherwise */
    w->manifest = m;
    return status;
}

/* ---- the run ------------------------------------------------------------------------------------------------ */

static enum soothe_status prepare(struct soothe__eval_work *w, struct soothe_error *err) {
    enum soothe_status status = open_scorers(w, err);
    if (!status)
        status = read_sets(w, err);
    if (!status)
        status = soothe__target_load(&w->target, w->o->model_path, w->o->n_gpu_layers, err);
    if (!status)
        status = tokenize_all(w, err);
    if (!status)
        status = judge_prompts(w, err);
    if (status)
        return status;
    size_contexts(w);
    w->ppl_model = w->target;
    if (w->o->ppl_model_path)
        status = soothe__target_load(&w->ppl_model, w->o->ppl_model_path, w->o->n_gpu_layers, err);
    if (!status && w->sets[SOOTHE__EVAL_PROMPT].n_bad && !w->o->quiet)
        fprintf(stderr, "soothe: %zu bad rows left out (%s)\n", w->sets[SOOTHE__EVAL_PROMPT].n_bad,
                w->sets[SOOTHE__EVAL_PROMPT].first_bad[0] ? w->sets[SOOTHE__EVAL_PROMPT].first_bad : "too long");
    return status ? status : make_manifest(w, err);
}

static void release(struct soothe__eval_work *w) {
    soothe__eval_store_close(&w->store);
    if (w->ppl_model != w->target)
        llama_model_free(w->ppl_model);
    for (int kind = 0; kind < SOOTHE__EVAL_KINDS; kind++) {
        for (size_t i = 0; w->tokens[kind] && i < w->sets[kind].n; i++)
            free_tokens(&w->tokens[kind][i]);
        free(w->tokens[kind]);
        soothe__eval_prompts_free(&w->sets[kind]);
    }
    for (size_t i = 0; i < w->n_scorers; i++)
        soothe__scorer_close(w->scorers[i]);
    llama_model_free(w->target);
    json_decref(w->manifest);
}

/* A shard has a folder of its own, or the processes of a job array would write into one another's. */
static char *folder_of(const struct soothe__eval_options *o) {
    return o->n_shards ? soothe__format("%s/shard-%zu-of-%zu", o->out, o->i_shard, o->n_shards)
                       : soothe__strdup(o->out);
}

enum soothe_status soothe__eval_run(const struct soothe__eval_options *options, struct soothe_error *err) {
    struct soothe__eval_work w      = {.o = options};
    char                    *folder = folder_of(options);
    enum soothe_status       status = folder ? prepare(&w, err) : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status)
        status = soothe__eval_store_open(&w.store, folder, w.manifest, options->resume, err);
    if (!status)
        status = soothe__eval_do_all(&w, err);
    release(&w);
    if (!status && options->n_shards == 0)
        status = soothe__eval_report(folder, options->no_timing, err);
    free(folder);
    return status;
}
