/* SPDX-License-Identifier: Apache-2.0
 * A probe as a scorer: it brings the language model along. A long text is read in windows; its score is the
 * largest of theirs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sigmoid.h"
#include "engine/target_model.h"
#include "engine/text_tokens.h"
#include "score/probe.h"
#include "score/scorer.h"

enum { WINDOW = 256 };

struct probe_scorer {
    struct soothe__probe        *probe;
    struct llama_model          *model;
    struct soothe__layer_reader *reader;
};

/* One call's windows, and the scores they go to. */
struct job {
    const struct soothe__probe *probe;
    struct soothe__token_text  *windows;
    size_t                     *i_texts; /* of each window */
    size_t                      n, capacity;
    struct soothe__score       *scores;
};

static bool takes(const char *spec, const char *general_type) {
    (void)spec;
    return general_type && strcmp(general_type, "soothe-probe") == 0;
}

static void close_probe(void *self) {
    struct probe_scorer *p = self;
    soothe__layer_reader_free(p->reader);
    llama_model_free(p->model);
    soothe__probe_free(p->probe);
    free(p);
}

/* Of the probe's and the model's bytes: quantised files of one model score a little differently. */
static enum soothe_status set_identity(char identity[65], const struct soothe__probe *probe, const char *model_path,
                                       struct soothe_error *err) {
    char               hex[65];
    enum soothe_status status = soothe__sha256_file(hex, model_path, err);
    if (status)
        return status;
    struct soothe__sha256 *h = soothe__sha256_new();
    soothe__sha256_add(h, probe->identity, 64);
    soothe__sha256_add(h, hex, 64);
    soothe__sha256_finish(h, identity);
    return SOOTHE_OK;
}

static enum soothe_status open_probe(void **self, char identity[65], const char *spec,
                                     const struct soothe__scorer_options *options, struct soothe_error *err) {
    struct probe_scorer *p = soothe__calloc(1, sizeof *p);
    *self                  = NULL;
    if (!p)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening probe %s", spec);
    enum soothe_status status = soothe__probe_open(&p->probe, spec, options->model_path, err);
    if (!status && !options->model_path)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT,
                              "probe %s reads the hidden states of \"%s\": say where that model is, by -m", spec,
                              p->probe->target_name);
    if (!status)
        status = set_identity(identity, p->probe, options->model_path, err);
    if (!status)
        status = soothe__target_load(&p->model, options->model_path, 0, err);
    if (!status)
        status = soothe__layer_reader_new(&p->reader, p->model, &p->probe->layer, 1, WINDOW, options->n_threads, err);
    if (status)
        close_probe(p);
    else
        *self = p;
    return status;
}

static enum soothe_status add_window(struct job *job, const llama_token *tokens, int32_t n, size_t i_text,
                                     struct soothe_error *err) {
    if (job->n == job->capacity) {
        const size_t               capacity = job->capacity ? 2 * job->capacity : 64;
        struct soothe__token_text *windows  = soothe__realloc(job->windows, capacity, sizeof *windows);
        if (windows)
            job->windows = windows;
        size_t *i_texts = soothe__realloc(job->i_texts, capacity, sizeof *i_texts);
        if (i_texts)
            job->i_texts = i_texts;
        if (!windows || !i_texts)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the tokens of %zu texts", job->n);
        job->capacity = capacity;
    }
    job->windows[job->n]   = (struct soothe__token_text){tokens, n};
    job->i_texts[job->n++] = i_text;
    return SOOTHE_OK;
}

static enum soothe_status take(void *user, size_t i, const float *const *states, int32_t n_tokens,
                               struct soothe_error *err) {
    struct job           *job   = user;
    struct soothe__score *s     = &job->scores[job->i_texts[i]];
    const int32_t         all   = INT32_MAX;
    double                logit = 0;
    (void)err;
    soothe__probe_prefix_logits(job->probe, states[0], n_tokens, &all, 1, &logit);
    const double risk = soothe__sigmoid(logit);
    if (isnan(s->toxicity) || risk > s->toxicity)
        *s = (struct soothe__score){.toxicity = risk};
    return SOOTHE_OK;
}

static enum soothe_status score(void *self, const char *const *texts, size_t n, struct soothe__score *scores,
                                struct soothe_error *err) {
    struct probe_scorer      *p      = self;
    const struct llama_vocab *vocab  = llama_model_get_vocab(p->model);
    struct job                job    = {.probe = p->probe, .scores = scores};
    llama_token             **tokens = soothe__calloc(n + 1, sizeof *tokens);
    enum soothe_status        status = tokens ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n && !status; i++) {
        int32_t      n_tokens = 0;
        const size_t size     = strlen(texts[i]);
        scores[i]             = soothe__no_score("the text has no token");
        if (!soothe__utf8_valid(texts[i], size)) {
            scores[i] = soothe__no_score("the text is not valid UTF-8");
            continue;
        }
        status = soothe__tokenize(&tokens[i], &n_tokens, vocab, texts[i], size, SOOTHE__TOKENIZE_START, err);
        for (int32_t from = 0; from < n_tokens && !status; from += WINDOW)
            status = add_window(&job, tokens[i] + from, n_tokens - from < WINDOW ? n_tokens - from : WINDOW, i, err);
    }
    if (!status)
        status = soothe__layer_reader_read(p->reader, job.windows, job.n, take, &job, err);
    for (size_t i = 0; tokens && i < n; i++)
        free(tokens[i]);
    free(tokens);
    free(job.windows);
    free(job.i_texts);
    return status;
}

extern const struct soothe__scorer_kind soothe__scorer_probe;
const struct soothe__scorer_kind        soothe__scorer_probe = {
           .name = "probe", .local = true, .takes = takes, .open = open_probe, .score = score, .close = close_probe};
