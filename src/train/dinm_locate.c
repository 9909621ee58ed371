/* SPDX-License-Identifier: Apache-2.0
 * Which layer tells an instance's safe answer from its unsafe one most: three ways to measure it, from one reading. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text_tokens.h"
#include "score/layer_states.h"
#include "train/dinm.h"

const char *const soothe__dinm_rule_names[SOOTHE__DINM_RULES] = {"mean", "tokens", "paper"};

enum { SAFE, UNSAFE };

struct reading {
    struct soothe__layer_reader *reader;
    struct llama_model          *model;
    int32_t                      n_layers, d;

    /* of the instance under way */
    struct soothe__dinm_tokens texts[2];
    float                     *states[2]; /* (n_layers + 1, n_rows, d): of the blocks, then the final one */
    int32_t                    n_rows[2]; /* of the answer */
};

/* ---- what is read ------------------------------------------------------------------------------------ */

/* Keeps the states of the answer's tokens. */
static enum soothe_status take(void *user, size_t i_text, const float *const *states, int32_t n_tokens,
                               struct soothe_error *err) {
    struct reading *r     = user;
    const int32_t   first = r->texts[i_text].first, n = n_tokens - first;
    const size_t    size = (size_t)n * (size_t)r->d;
    free(r->states[i_text]);
    r->n_rows[i_text] = n;
    r->states[i_text] = soothe__calloc((size_t)(r->n_layers + 1) * size, sizeof(float));
    if (!r->states[i_text])
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the states of an answer");
    for (int32_t l = 0; l <= r->n_layers; l++)
        memcpy(r->states[i_text] + (size_t)l * size, states[l] + (size_t)first * (size_t)r->d, size * sizeof(float));
    return SOOTHE_OK;
}

static enum soothe_status read_both(struct reading *r, struct soothe_error *err) {
    const struct soothe__token_text texts[2] = {{r->texts[SAFE].tokens, r->texts[SAFE].n_tokens},
                                                {r->texts[UNSAFE].tokens, r->texts[UNSAFE].n_tokens}};
    return soothe__layer_reader_read(r->reader, texts, 2, take, r, err);
}

static const float *state(const struct reading *r, int which, int32_t layer, int32_t row) {
    return r->states[which] + ((size_t)layer * (size_t)r->n_rows[which] + (size_t)row) * (size_t)r->d;
}

static double norm(const float *x, int32_t n) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static double squared_distance(const float *x, const float *y, int32_t n) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    return sum;
}

/* ---- the rules --------------------------------------------------------------------------------------- */

/* Mean |h| over all tokens of both answers. */
static double mean_norm(const struct reading *r, int32_t layer) {
    double sum = 0;
    for (int which = 0; which < 2; which++)
        for (int32_t t = 0; t < r->n_rows[which]; t++)
            sum += norm(state(r, which, layer, t), r->d) / (r->n_rows[SAFE] + r->n_rows[UNSAFE]);
    return sum;
}

static double mean_distance(const struct reading *r, int32_t layer) {
    double sum = 0;
    for (int32_t k = 0; k < r->d; k++) {
        double mean[2] = {0};
        for (int which = 0; which < 2; which++)
            for (int32_t t = 0; t < r->n_rows[which]; t++)
                mean[which] += (double)state(r, which, layer, t)[k] / r->n_rows[which];
        sum += (mean[SAFE] - mean[UNSAFE]) * (mean[SAFE] - mean[UNSAFE]);
    }
    return sqrt(sum);
}

static double tokens_distance(const struct reading *r, int32_t layer) {
    const int32_t n   = r->n_rows[SAFE] < r->n_rows[UNSAFE] ? r->n_rows[SAFE] : r->n_rows[UNSAFE];
    double        sum = 0;
    for (int32_t t = 0; t < n; t++)
        sum += sqrt(squared_distance(state(r, SAFE, layer, t), state(r, UNSAFE, layer, t), r->d)) / n;
    return sum;
}

/* Of matrices of equal length; the last layer as it leaves the final norm. */
static double paper_distance(const struct reading *r, int32_t layer) {
    const int32_t l   = layer + 1 == r->n_layers ? r->n_layers : layer;
    double        sum = 0;
    for (int32_t t = 0; t < r->n_rows[SAFE]; t++)
        sum += squared_distance(state(r, SAFE, l, t), state(r, UNSAFE, l, t), r->d);
    return sqrt(sum);
}

/* ---- an instance ------------------------------------------------------------------------------------- */

static void forget_texts(struct reading *r) {
    for (int which = 0; which < 2; which++) {
        free(r->texts[which].tokens);
        r->texts[which].tokens = NULL;
    }
}

/* The answers alone, the shorter padded by the end of text. */
static enum soothe_status tokenize_alone(struct reading *r, const struct soothe__dinm_instance *x,
                                         struct soothe_error *err) {
    const struct llama_vocab *vocab   = llama_model_get_vocab(r->model);
    const char *const         text[2] = {x->safe, x->unsafe};
    const llama_token         eos = llama_vocab_eos(vocab), pad = eos != LLAMA_TOKEN_NULL ? eos : 0;
    enum soothe_status        status = SOOTHE_OK;
    for (int which = 0; which < 2 && !status; which++) {
        struct soothe__dinm_tokens *t = &r->texts[which];
        t->first                      = 0;
        status = soothe__tokenize(&t->tokens, &t->n_tokens, vocab, text[which], strlen(text[which]),
                                  SOOTHE__TOKENIZE_START, err);
    }
    for (int which = 0; which < 2 && !status; which++) {
        struct soothe__dinm_tokens *t = &r->texts[which];
        const int32_t               n = r->texts[!which].n_tokens;
        if (t->n_tokens >= n)
            continue;
        llama_token *grown = soothe__realloc(t->tokens, (size_t)n, sizeof *grown);
        if (!grown)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for an answer");
        t->tokens = grown;
        while (t->n_tokens < n)
            grown[t->n_tokens++] = pad;
    }
    return status;
}

static enum soothe_status measure(struct reading *r, const struct soothe__dinm_instance *x,
                                  struct soothe__dinm_layers *layers, double share, struct soothe_error *err) {
    enum soothe_status status = soothe__dinm_tokenize(&r->texts[SAFE], r->model, x->prompt, x->safe, false, err);
    if (!status)
        status = soothe__dinm_tokenize(&r->texts[UNSAFE], r->model, x->prompt, x->unsafe, false, err);
    if (!status)
        status = read_both(r, err);
    for (int32_t l = 0; l < r->n_layers && !status; l++) {
        const double size = mean_norm(r, l);
        layers->distance[SOOTHE__DINM_MEAN][l] += share * mean_distance(r, l) / size;
        layers->distance[SOOTHE__DINM_TOKENS][l] += share * tokens_distance(r, l) / size;
    }
    forget_texts(r);
    if (!status)
        status = tokenize_alone(r, x, err);
    if (!status)
        status = read_both(r, err);
    for (int32_t l = 0; l < r->n_layers && !status; l++)
        layers->distance[SOOTHE__DINM_PAPER][l] += share * paper_distance(r, l);
    forget_texts(r);
    return status;
}

/* ---- all --------------------------------------------------------------------------------------------- */

/* Tokens of the longest text that is read. */
static enum soothe_status find_longest(int32_t *longest, struct reading *r, const struct soothe__dinm_texts *texts,
                                       struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    *longest                  = 1;
    for (size_t i = 0; i < 2 * texts->n_instances && !status; i++) {
        const struct soothe__dinm_instance *x = &texts->instances[i / 2];
        struct soothe_error                 why;
        struct soothe__dinm_tokens         *t = &r->texts[SAFE];
        status = soothe__dinm_tokenize(t, r->model, x->prompt, i % 2 ? x->unsafe : x->safe, false, &why);
        if (status)
            soothe__fail(err, status, "instance %zu: %.900s", i / 2 + 1, why.message);
        *longest = !status && t->n_tokens > *longest ? t->n_tokens : *longest;
        forget_texts(r);
    }
    return status;
}

static enum soothe_status make_room(struct reading *r, struct soothe__dinm_layers *layers, int32_t longest,
                                    int32_t n_threads, struct soothe_error *err) {
    const int32_t n     = llama_model_n_layer(r->model);
    int32_t      *which = soothe__calloc((size_t)n + 1, sizeof *which);
    bool          ok    = which != NULL;
    layers->n_layers    = n;
    for (int rule = 0; rule < SOOTHE__DINM_RULES; rule++) {
        layers->distance[rule] = soothe__calloc((size_t)n, sizeof *layers->distance[rule]);
        ok                     = ok && layers->distance[rule];
    }
    for (int32_t l = 0; l < n && ok; l++)
        which[l] = l;
    if (ok)
        which[n] = SOOTHE__LAYER_FINAL;
    r->n_layers = n;
    r->d        = llama_model_n_embd(r->model);
    enum soothe_status status =
        ok ? soothe__layer_reader_new(&r->reader, r->model, which, (size_t)n + 1, longest, n_threads, err)
           : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d layers", n);
    free(which);
    return status;
}

static int32_t index_of_largest(const double *x, int32_t n) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

enum soothe_status soothe__dinm_locate(struct soothe__dinm_layers *layers, struct llama_model *model,
                                       const struct soothe__dinm_texts *texts, int32_t n_threads,
                                       struct soothe_error *err) {
    struct reading     r = {.model = model};
    int32_t            longest;
    enum soothe_status status = find_longest(&longest, &r, texts, err);
    if (!status)
        status = make_room(&r, layers, longest, n_threads, err);
    for (size_t i = 0; i < texts->n_instances && !status; i++) {
        struct soothe_error why;
        status = measure(&r, &texts->instances[i], layers, 1.0 / (double)texts->n_instances, &why);
        if (status)
            soothe__fail(err, status, "instance %zu: %.900s", i + 1, why.message);
    }
    for (int rule = 0; rule < SOOTHE__DINM_RULES && !status; rule++)
        layers->largest[rule] = index_of_largest(layers->distance[rule], layers->n_layers);
    forget_texts(&r);
    free(r.states[SAFE]);
    free(r.states[UNSAFE]);
    soothe__layer_reader_free(r.reader);
    if (status)
        soothe__dinm_layers_free(layers);
    return status;
}

void soothe__dinm_layers_free(struct soothe__dinm_layers *layers) {
    for (int rule = 0; rule < SOOTHE__DINM_RULES; rule++)
        free(layers->distance[rule]);
    memset(layers, 0, sizeof *layers);
}
