/* SPDX-License-Identifier: Apache-2.0
 * The kind "cppl": contrastive perplexity as a judge, without training. A language model reads the text twice, behind
 * the harmless sides of some paraphrases and behind their toxic sides; the text is toxic as far as the second makes it
 * likelier (docs/methods/cppl.md).
 *   cppl        the shipped pairs
 *   cppl:FILE   pairs of JSON lines {"chosen", "rejected"}, as training takes them
 * The model is that of the scorer's options. Both contexts stay in its cache: a text costs its own tokens, twice. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sigmoid.h"
#include "corpus/corpus.h"
#include "engine/batch.h"
#include "engine/target_model.h"
#include "engine/text_tokens.h"
#include "generate/shortlist.h"
#include "score/scorer.h"

enum { HARMLESS, TOXIC, N_CONTEXTS };
enum {
    CONTEXT_MAX  = 1024, /* tokens */
    WINDOW       = 128,  /* of a text, read at once; a longer text is the worst of its windows */
    N_TOGETHER   = 8,    /* windows; each is a sequence behind either context */
    BATCH_TOKENS = 256
};

/* What a difference of mean log-perplexities means, in nats a token: a logistic fit (docs/methods/cppl.md). */
static const double SLOPE = 5.3, OFFSET = 0.02;

struct window {
    const llama_token *tokens;
    int32_t            n;
    size_t             i_text;
    double             nll[N_CONTEXTS]; /* sums, in nats */
};

struct row { /* of logits: what they are to predict, and for whom */
    llama_token next;
    double     *nll;
};

struct cppl {
    struct llama_model   *model;
    struct llama_context *context; /* sequences: the two contexts, then those of the windows */
    struct llama_batch    batch;
    struct row            rows[BATCH_TOKENS]; /* of the batch; .nll NULL: nothing to predict */
    int32_t               n_vocab;
    llama_pos             n_before[N_CONTEXTS];
    float                *first[N_CONTEXTS]; /* (V) log-probabilities of a text's first token */
    struct window         windows[N_TOGETHER];
    int32_t               n_windows;
};

static void close_cppl(void *self) {
    struct cppl *c = self;
    if (c->batch.token)
        llama_batch_free(c->batch);
    if (c->context)
        llama_free(c->context);
    llama_model_free(c->model);
    for (int k = 0; k < N_CONTEXTS; k++)
        free(c->first[k]);
    free(c);
}

/* ---- reading ------------------------------------------------------------------------------------------------------
 */

static enum soothe_status decode(struct cppl *c, struct soothe_error *err) {
    if (c->batch.n_tokens == 0)
        return SOOTHE_OK;
    if (llama_decode(c->context, c->batch) != 0)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine failed to read a batch of %d tokens", c->batch.n_tokens);
    for (int32_t i = 0; i < c->batch.n_tokens; i++)
        if (c->rows[i].nll) {
            const float *z = llama_get_logits_ith(c->context, i);
            *c->rows[i].nll += z ? soothe__log_sum_exp(z, c->n_vocab) - (double)z[c->rows[i].next] : (double)NAN;
        }
    c->batch.n_tokens = 0;
    return SOOTHE_OK;
}

static enum soothe_status add(struct cppl *c, llama_token token, llama_pos pos, llama_seq_id seq, struct row row,
                              struct soothe_error *err) {
    const enum soothe_status status = c->batch.n_tokens == BATCH_TOKENS ? decode(c, err) : SOOTHE_OK;
    if (!status)
        c->rows[soothe__batch_add(&c->batch, token, pos, seq, row.nll != NULL)] = row;
    return status;
}

/* Every window behind both contexts, whose sequences are copied: cells are shared, not read again. */
static enum soothe_status read_windows(struct cppl *c, struct soothe_error *err) {
    llama_memory_t     memory = llama_get_memory(c->context);
    enum soothe_status status = SOOTHE_OK;
    for (int32_t s = 0; s < c->n_windows * N_CONTEXTS && !status; s++) {
        struct window     *w   = &c->windows[s / N_CONTEXTS];
        const int          k   = s % N_CONTEXTS;
        const llama_seq_id seq = N_CONTEXTS + s;
        w->nll[k]              = -(double)c->first[k][w->tokens[0]];
        llama_memory_seq_cp(memory, k, seq, -1, -1);
        for (int32_t i = 0; i + 1 < w->n && !status; i++)
            status = add(c, w->tokens[i], c->n_before[k] + i, seq, (struct row){w->tokens[i + 1], &w->nll[k]}, err);
    }
    if (!status)
        status = decode(c, err);
    for (int32_t s = 0; s < c->n_windows * N_CONTEXTS; s++)
        llama_memory_seq_rm(memory, N_CONTEXTS + s, -1, -1);
    return status;
}

/* ---- the two contexts
 * ------------------------------------------------------------------------------------------------ */

/* "- TEXT\n- TEXT\n- ": a list that goes on with the text to be judged. Fresh. */
static char *list_of(const struct soothe__corpus *pairs, int k) {
    char *list = soothe__strdup("");
    for (size_t i = 0; i < pairs->n_pairs && list; i++) {
        const struct soothe__pair *p      = &pairs->pairs[i];
        const struct soothe__text *text   = &pairs->texts[k == TOXIC ? p->i_rejected : p->i_chosen];
        char                      *longer = soothe__format("%s- %s%s\n", list, text->prompt, text->completion);
        free(list);
        list = longer;
    }
    char *whole = list ? soothe__format("%s- ", list) : NULL;
    free(list);
    return whole;
}

/* Reads the pairs and makes a list of either side; hash: of both. */
static enum soothe_status make_lists(char *lists[N_CONTEXTS], const char *path, struct soothe__sha256 *hash,
                                     struct soothe_error *err) {
    struct soothe__corpus pairs;
    soothe__corpus_init(&pairs);
    enum soothe_status status = soothe__corpus_read(&pairs, path, err);
    if (!status && (pairs.n_pairs == 0 || pairs.n_bad > 0))
        status = soothe__fail(err, SOOTHE_E_FORMAT,
                              "%s is to hold pairs {\"chosen\", \"rejected\"} alone: %zu, and %zu bad lines", path,
                              pairs.n_pairs, pairs.n_bad);
    for (int k = 0; k < N_CONTEXTS && !status; k++) {
        lists[k] = list_of(&pairs, k);
        if (lists[k])
            soothe__sha256_add(hash, lists[k], strlen(lists[k]) + 1);
        else
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the pairs of %s", path);
    }
    soothe__corpus_free(&pairs);
    return status;
}

static enum soothe_status tokenize_lists(struct cppl *c, llama_token *tokens[N_CONTEXTS], char *const *lists,
                                         const char *path, struct soothe_error *err) {
    const struct llama_vocab *vocab  = llama_model_get_vocab(c->model);
    enum soothe_status        status = SOOTHE_OK;
    for (int k = 0; k < N_CONTEXTS && !status; k++) {
        status = soothe__tokenize(&tokens[k], &c->n_before[k], vocab, lists[k], strlen(lists[k]),
                                  SOOTHE__TOKENIZE_START, err);
        if (!status && c->n_before[k] > CONTEXT_MAX)
            status = soothe__fail(err, SOOTHE_E_ARGUMENT, "the pairs of %s make a context of %d tokens: at most %d",
                                  path, c->n_before[k], CONTEXT_MAX);
    }
    return status;
}

static enum soothe_status open_context(struct cppl *c, int32_t n_threads, struct soothe_error *err) {
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx   = (uint32_t)(c->n_before[HARMLESS] + c->n_before[TOXIC] + N_CONTEXTS * N_TOGETHER * WINDOW);
    p.n_batch = p.n_ubatch = BATCH_TOKENS;
    p.n_seq_max            = N_CONTEXTS + N_CONTEXTS * N_TOGETHER;
    p.kv_unified           = true; /* sequences then share the cells of what they have in common */
    p.n_threads = p.n_threads_batch = soothe__thread_count(n_threads);
    c->context                      = llama_init_from_model(c->model, p);
    c->batch                        = llama_batch_init(BATCH_TOKENS, 0, 1);
    if (!c->context)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine cannot make a context of %u tokens", p.n_ctx);
    return c->batch.token ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a batch");
}

/* Reads a context into its sequence and keeps what it says of a text's first token. */
static enum soothe_status read_context(struct cppl *c, int k, const llama_token *tokens, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    double             none   = 0;
    for (int32_t i = 0; i + 1 < c->n_before[k] && !status; i++)
        status = add(c, tokens[i], i, k, (struct row){0, NULL}, err);
    if (!status)
        status = decode(c, err);
    const int32_t last = c->n_before[k] - 1;
    if (!status)
        status = add(c, tokens[last], last, k, (struct row){0, &none}, err);
    if (!status)
        status = decode(c, err);
    const float *z = status ? NULL : llama_get_logits_ith(c->context, 0);
    c->first[k]    = soothe__calloc((size_t)c->n_vocab, sizeof *c->first[k]);
    if (!status && (!z || !c->first[k]))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "no logits behind a context");
    const double sum = status ? NAN : soothe__log_sum_exp(z, c->n_vocab);
    if (!status && isnan(sum))
        status = soothe__fail(err, SOOTHE_E_NUMERIC, "the model's logits are not finite: damaged weights?");
    for (int32_t v = 0; v < c->n_vocab && !status; v++)
        c->first[k][v] = (float)((double)z[v] - sum);
    return status;
}

/* ---- opening -------------------------------------------------------------------------------------------------------
 */

static bool takes(const char *spec, const char *general_type) {
    (void)general_type;
    return strcmp(spec, "cppl") == 0 || strncmp(spec, "cppl:", 5) == 0;
}

static enum soothe_status open_with(struct cppl *c, char identity[65], const char *path,
                                    const struct soothe__scorer_options *options, struct soothe_error *err) {
    static const char      how[]              = "cppl 1";
    struct soothe__sha256 *hash               = soothe__sha256_new();
    char                  *lists[N_CONTEXTS]  = {NULL};
    llama_token           *tokens[N_CONTEXTS] = {NULL};
    char                   model[65];
    if (!hash)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening %s", path);
    enum soothe_status status = make_lists(lists, path, hash, err);
    if (!status)
        status = soothe__sha256_file(model, options->model_path, err);
    if (!status)
        status = soothe__target_load(&c->model, options->model_path, 0, err);
    if (!status) {
        c->n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(c->model));
        status     = tokenize_lists(c, tokens, lists, path, err);
    }
    if (!status)
        status = open_context(c, options->n_threads, err);
    for (int k = 0; k < N_CONTEXTS && !status; k++)
        status = read_context(c, k, tokens[k], err);
    soothe__sha256_add(hash, status ? "" : model, status ? 0 : 64);
    soothe__sha256_add(hash, how, sizeof how);
    soothe__sha256_finish(hash, identity);
    for (int k = 0; k < N_CONTEXTS; k++) {
        free(lists[k]);
        free(tokens[k]);
    }
    return status;
}

static enum soothe_status open_cppl(void **self, char identity[65], const char *spec,
                                    const struct soothe__scorer_options *options, struct soothe_error *err) {
    struct cppl       *c      = soothe__calloc(1, sizeof *c);
    char              *path   = NULL;
    enum soothe_status status = c ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening %s", spec);
    *self                     = NULL;
    if (!status && !options->model_path)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT,
                              "scorer %s reads texts with a language model: say where that is, by -m", spec);
    if (!status && spec[4] == ':')
        path = soothe__strdup(spec + 5);
    else if (!status)
        status = soothe__shipped_file(&path, "default.cppl.jsonl", "set of pairs", "give one by cppl:FILE", err);
    if (!status)
        status = path ? open_with(c, identity, path, options, err)
                      : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening %s", spec);
    free(path);
    if (status && c)
        close_cppl(c);
    else
        *self = c;
    return status;
}

/* ---- scoring -------------------------------------------------------------------------------------------------------
 */

/* l_harmless - l_toxic, the ratio of the two perplexities as a logarithm. */
static double toxicity_of(const struct window *w) {
    return soothe__sigmoid(SLOPE * ((w->nll[HARMLESS] - w->nll[TOXIC]) / w->n - OFFSET));
}

/* Judges the windows that have come together. A window without a number takes its text's score away: what was not
 * judged is not clean. */
static enum soothe_status judge(struct cppl *c, struct soothe__score *scores, struct soothe_error *err) {
    const enum soothe_status status = read_windows(c, err);
    for (int32_t i = 0; i < c->n_windows && !status; i++) {
        struct soothe__score *s = &scores[c->windows[i].i_text];
        const double          t = toxicity_of(&c->windows[i]);
        if (isnan(t))
            *s = soothe__no_score("the model's logits are not finite");
        else if (!isnan(s->toxicity) && t > s->toxicity)
            s->toxicity = t;
    }
    c->n_windows = 0;
    return status;
}

static enum soothe_status score(void *self, const char *const *texts, size_t n, struct soothe__score *scores,
                                struct soothe_error *err) {
    struct cppl              *c      = self;
    const struct llama_vocab *vocab  = llama_model_get_vocab(c->model);
    llama_token             **tokens = soothe__calloc(n + 1, sizeof *tokens);
    enum soothe_status        status = tokens ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    c->n_windows                     = 0;
    c->batch.n_tokens                = 0;
    for (size_t i = 0; i < n && !status; i++) {
        const size_t size     = strlen(texts[i]);
        int32_t      n_tokens = 0;
        if (!soothe__utf8_valid(texts[i], size)) {
            scores[i] = soothe__no_score("the text is not valid UTF-8");
            continue;
        }
        status    = soothe__tokenize(&tokens[i], &n_tokens, vocab, texts[i], size, 0, err);
        scores[i] = n_tokens ? (struct soothe__score){.toxicity = 0} : soothe__no_score("the text has no token");
        for (int32_t from = 0; from < n_tokens && !status; from += WINDOW) {
            const int32_t left         = n_tokens - from;
            c->windows[c->n_windows++] = (struct window){tokens[i] + from, left < WINDOW ? left : WINDOW, i, {0}};
            if (c->n_windows == N_TOGETHER)
                status = judge(c, scores, err);
        }
    }
    if (!status)
        status = judge(c, scores, err);
    for (size_t i = 0; tokens && i < n; i++)
        free(tokens[i]);
    free(tokens);
    return status;
}

extern const struct soothe__scorer_kind soothe__scorer_cppl;
const struct soothe__scorer_kind        soothe__scorer_cppl = {
           .name = "cppl", .local = true, .takes = takes, .open = open_cppl, .score = score, .close = close_cppl};
