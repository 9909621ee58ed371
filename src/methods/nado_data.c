/* SPDX-License-Identifier: Apache-2.0
 * What a success head learns from: the states and nuclei behind sampled continuations, read off the model in one run.
 * The samples of a prompt share its decoding. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "corpus/corpus.h"
#include "engine/batch.h"
#include "engine/text_tokens.h"
#include "fusion/stage.h"
#include "generate/shortlist.h"
#include "methods/nado.h"

enum { K = SOOTHE__NADO_CANDIDATES, SAMPLES_MAX = 64 /* of a prompt */, TOKENS_MAX = 64 /* of a continuation */ };

struct soothe__nado_options soothe__nado_options_default(void) {
    return (struct soothe__nado_options){.rank = 16, .n_epochs = 8, .bellman = 0.5f, .rate = 0.002f, .top_p = 0.9f};
}

/* ---- samples -------------------------------------------------------------------------------------------------- */

struct sample {
    char  *completion;
    double score;
};

struct group { /* of one prompt */
    char         *prompt;
    struct sample samples[SAMPLES_MAX];
    int32_t       n;
    double        lowest, highest;
};

struct groups {
    struct group *items;
    size_t        n, capacity;
};

static void free_groups(struct groups *g) {
    for (size_t i = 0; i < g->n; i++) {
        free(g->items[i].prompt);
        for (int32_t k = 0; k < g->items[i].n; k++)
            free(g->items[i].samples[k].completion);
    }
    free(g->items);
}

static bool add_sample(struct groups *g, const char *prompt, const char *completion, double score) {
    if (g->n == 0 || strcmp(g->items[g->n - 1].prompt, prompt)) {
        if (g->n == g->capacity) {
            const size_t  more  = g->capacity ? 2 * g->capacity : 64;
            struct group *items = soothe__realloc(g->items, more, sizeof *items);
            if (!items)
                return false;
            g->items    = items;
            g->capacity = more;
        }
        g->items[g->n] = (struct group){.prompt = soothe__strdup(prompt), .lowest = 1, .highest = 0};
        if (!g->items[g->n++].prompt)
            return false;
    }
    struct group *last = &g->items[g->n - 1];
    if (last->n == SAMPLES_MAX)
        return true;
    char *copy = soothe__strdup(completion);
    if (!copy)
        return false;
    last->samples[last->n++] = (struct sample){copy, score};
    last->lowest             = score < last->lowest ? score : last->lowest;
    last->highest            = score > last->highest ? score : last->highest;
    return true;
}

/* soothe's own first line names the model that spoke. */
static enum soothe_status read_line(struct groups *g, const char *line, size_t size, size_t n, const char *path,
                                    const char *fingerprint, struct soothe_error *err) {
    json_error_t       why;
    json_t            *row        = json_loadb(line, size, 0, &why);
    const char        *model      = json_string_value(json_object_get(json_object_get(row, "soothe_samples"), "model"));
    const char        *prompt     = json_string_value(json_object_get(row, "prompt"));
    const char        *completion = json_string_value(json_object_get(row, "completion"));
    json_t            *score      = json_object_get(row, "score");
    const double       x          = json_number_value(score);
    enum soothe_status status     = SOOTHE_OK;
    if (model && strcmp(model, fingerprint))
        status = soothe__fail(err, SOOTHE_E_MISMATCH,
                              "the samples %s were drawn from another model (fingerprint %.12s…, not %.12s…)", path,
                              model, fingerprint);
    else if (!json_object_get(row, "soothe_samples")) {
        if (!prompt || !completion || !(json_is_null(score) || (json_is_number(score) && x >= 0 && x <= 1)))
            status = soothe__fail(err, SOOTHE_E_FORMAT,
                                  "line %zu of %s is not {\"prompt\": text, \"completion\": text, \"score\": 0 to 1 or "
                                  "null}",
                                  n, path);
        else if (json_is_number(score) && prompt[0] && completion[0] && !add_sample(g, prompt, completion, x))
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s", path);
    }
    json_decref(row);
    return status;
}

static enum soothe_status read_groups(struct groups *g, const char *path, const char *fingerprint, char sha256[65],
                                      struct soothe_error *err) {
    struct soothe__lines *lines;
    char                 *line;
    size_t                size, n = 0;
    bool                  too_long;
    enum soothe_status    status = soothe__lines_open(&lines, path, err);
    if (status)
        return status;
    while (!(status = soothe__lines_next(lines, &line, &size, &too_long, err)) && line) {
        n++;
        if (too_long)
            status = soothe__fail(err, SOOTHE_E_FORMAT, "line %zu of %s is too long", n, path);
        else if (size > 0)
            status = read_line(g, line, size, n, path, fingerprint, err);
        if (status)
            break;
    }
    soothe__lines_close(lines, sha256);
    return status;
}

/* The n prompts to be learnt from: those whose samples were judged differently teach most and come first, else in the
 * file's order. */
static void choose_groups(struct groups *g, size_t n, bool *chosen) {
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < g->n && n > 0; i++) {
            const bool mixed = g->items[i].highest >= 0.5 && g->items[i].lowest < 0.5;
            if (mixed == (round == 0)) {
                chosen[i] = true;
                n--;
            }
        }
}

/* ---- the run --------------------------------------------------------------------------------------------------- */

struct reader {
    struct soothe_session             *s;
    const struct llama_vocab          *vocab;
    struct soothe__nado_data          *data;
    const struct soothe__nado_options *o;
    struct llama_batch                 batch;
    struct soothe__shortlist           list;
    int32_t                            d, n_vocab;
    size_t                             n_room; /* tokens of one batch */
};

static struct soothe__nado_text *new_text(struct soothe__nado_data *data, int32_t n, int32_t d) {
    if (data->n == data->capacity) {
        const size_t              more  = data->capacity ? 2 * data->capacity : 256;
        struct soothe__nado_text *texts = soothe__realloc(data->texts, more, sizeof *texts);
        if (!texts)
            return NULL;
        data->texts    = texts;
        data->capacity = more;
    }
    struct soothe__nado_text *t = &data->texts[data->n];
    *t                          = (struct soothe__nado_text){.n = n};
    t->tokens                   = soothe__calloc((size_t)n, sizeof *t->tokens);
    t->h                        = soothe__calloc((size_t)n * (size_t)d, sizeof *t->h);
    t->candidates               = soothe__calloc((size_t)n * K, sizeof *t->candidates);
    t->p                        = soothe__calloc((size_t)n * K, sizeof *t->p);
    data->n++;
    return t->tokens && t->h && t->candidates && t->p ? t : NULL;
}

/* The nucleus of row z, cut to K tokens. */
static bool keep_nucleus(struct reader *r, struct soothe__nado_text *t, int32_t at, const float *z) {
    double sum = 0;
    if (!soothe__shortlist_read(&r->list, z, r->n_vocab) ||
        !soothe__shortlist_fill(&r->list, z, r->n_vocab, 0, r->o->top_p))
        return false;
    const size_t n = r->list.n < K ? r->list.n : K;
    for (size_t k = 0; k < n; k++)
        sum += (double)r->list.data[k].p;
    for (size_t k = 0; k < n; k++) {
        t->candidates[at * K + (int32_t)k] = r->list.data[k].id;
        t->p[at * K + (int32_t)k]          = (float)((double)r->list.data[k].p / sum);
    }
    return true;
}

/* One sample: its prompt lies in sequence 0 but for the last token. */
static enum soothe_status read_sample(struct reader *r, const llama_token *tokens, int32_t n_tokens, int32_t first,
                                      double score, size_t i_prompt, struct soothe_error *err) {
    int32_t n = n_tokens - first;
    n         = n > TOKENS_MAX ? TOKENS_MAX : n;
    if (n < 1)
        return SOOTHE_OK;
    struct soothe__nado_text *t = new_text(r->data, n, r->d);
    if (!t)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the states of %zu samples", r->data->n);
    soothe_seq_rm(r->s, 1, -1, -1);
    soothe_seq_cp(r->s, 0, 1, -1, -1);
    r->batch.n_tokens = 0;
    for (int32_t i = 0; i < n; i++)
        soothe__batch_add(&r->batch, tokens[first - 1 + i], first - 1 + i, 1, true);
    const enum soothe_status status = soothe_decode(r->s, r->batch, err);
    if (status)
        return status;
    int32_t      n_rows, d;
    const float *states = soothe_session_states(r->s, SOOTHE_STATE_TARGET, &n_rows, &d);
    if (!states || n_rows != n || d != r->d)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "the model shows no final states");
    memcpy(t->tokens, tokens + first, (size_t)n * sizeof *tokens);
    memcpy(t->h, states, (size_t)n * (size_t)d * sizeof *states);
    for (int32_t i = 0; i < n; i++)
        if (!keep_nucleus(r, t, i, soothe_get_logits_ith(r->s, i)))
            return soothe__fail(err, SOOTHE_E_NUMERIC, "the model's logits are no finite numbers: damaged weights?");
    t->clean    = (float)(1 - score);
    t->i_prompt = i_prompt;
    r->data->n_tokens += (size_t)n;
    return SOOTHE_OK;
}

static enum soothe_status read_prompt(struct reader *r, const llama_token *tokens, int32_t n,
                                      struct soothe_error *err) {
    soothe_clear(r->s);
    r->batch.n_tokens = 0;
    for (int32_t i = 0; i < n; i++)
        soothe__batch_add(&r->batch, tokens[i], i, 0, false);
    return n > 0 ? soothe_decode(r->s, r->batch, err) : SOOTHE_OK;
}

static enum soothe_status read_group(struct reader *r, const struct group *g, size_t i_prompt,
                                     struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    bool               begun  = false;
    for (int32_t k = 0; k < g->n && !status; k++) {
        llama_token *tokens;
        int32_t      n, first;
        const char  *completion = g->samples[k].completion;
        status = soothe__tokenize_pair(&tokens, &n, &first, r->vocab, g->prompt, strlen(g->prompt), completion,
                                       strlen(completion), err);
        if (status)
            break;
        const bool fits = first > 0 && (size_t)first + TOKENS_MAX < r->n_room;
        if (fits && !begun)
            status = read_prompt(r, tokens, first - 1, err);
        begun = begun || fits;
        if (fits && !status)
            status = read_sample(r, tokens, n, first, g->samples[k].score, i_prompt, err);
        free(tokens);
    }
    return status;
}

static enum soothe_status run(struct reader *r, const struct groups *g, const bool *chosen, size_t n_chosen,
                              struct soothe_error *err) {
    struct soothe__progress progress = soothe__progress_start();
    enum soothe_status      status   = SOOTHE_OK;
    for (size_t i = 0; i < g->n && !status; i++) {
        if (!chosen[i])
            continue;
        if (r->o->stop && *r->o->stop)
            return soothe__fail(err, SOOTHE_E_INTERRUPTED, "interrupted");
        status = read_group(r, &g->items[i], r->data->n_prompts++, err);
        if (r->o->show_progress)
            soothe__progress_update(&progress, (double)r->data->n_prompts / (double)n_chosen, "reading states");
    }
    if (r->o->show_progress)
        soothe__progress_finish(&progress);
    return status;
}

static enum soothe_status open_session(struct reader *r, struct llama_model *model, struct soothe_error *err) {
    struct soothe_session_params p = soothe_session_params_default();
    p.context.n_ctx                = 2048;
    p.context.n_batch = p.context.n_ubatch = 1024;
    p.context.n_seq_max                    = 2;
    p.context.n_outputs_max                = TOKENS_MAX + 1;
    if (r->o->n_threads > 0)
        p.context.n_threads = p.context.n_threads_batch = r->o->n_threads;
    const enum soothe_status status = soothe_session_new(&r->s, model, NULL, &p, err);
    if (status)
        return status;
    soothe_session_capture(r->s, true);
    r->n_room  = 1024;
    r->batch   = llama_batch_init(1024, 0, 1);
    r->vocab   = llama_model_get_vocab(model);
    r->n_vocab = llama_vocab_n_tokens(r->vocab);
    r->d       = llama_model_n_embd(model);
    return SOOTHE_OK;
}

static enum soothe_status fingerprint_of(char hex[65], const char *model_path, struct soothe_error *err) {
    struct soothe__gguf g;
    enum soothe_status  status = soothe__gguf_open(&g, model_path, err);
    if (!status)
        status = soothe__model_fingerprint(hex, &g, err);
    soothe__gguf_close(&g);
    return status;
}

enum soothe_status soothe__nado_read(struct soothe__nado_data *data, struct llama_model *model, const char *model_path,
                                     const struct soothe__nado_options *o, struct soothe_error *err) {
    struct groups groups = {.n = 0};
    struct reader r      = {.data = data, .o = o};
    bool         *chosen = NULL;
    char          hex[65];
    *data                     = (struct soothe__nado_data){.n = 0};
    enum soothe_status status = fingerprint_of(hex, model_path, err);
    if (!status)
        status = read_groups(&groups, o->samples_path, hex, data->sha256, err);
    if (!status)
        status = open_session(&r, model, err);
    if (!status && !(chosen = soothe__calloc(groups.n + 1, sizeof *chosen)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status) {
        const size_t n = o->n_prompts > 0 && (size_t)o->n_prompts < groups.n ? (size_t)o->n_prompts : groups.n;
        choose_groups(&groups, n, chosen);
        status = run(&r, &groups, chosen, n, err);
    }
    if (r.s)
        llama_batch_free(r.batch);
    soothe_session_free(r.s);
    soothe__shortlist_free(&r.list);
    free_groups(&groups);
    free(chosen);
    if (status)
        soothe__nado_data_free(data);
    return status;
}

void soothe__nado_data_free(struct soothe__nado_data *data) {
    for (size_t i = 0; i < data->n; i++) {
        free(data->texts[i].tokens);
        free(data->texts[i].h);
        free(data->texts[i].candidates);
        free(data->texts[i].p);
    }
    free(data->texts);
    *data = (struct soothe__nado_data){.n = 0};
}
