/* SPDX-License-Identifier: Apache-2.0
 * The prompt is decoded once and its cache shared (soothe_seq_cp) by the continuations, whose tokens then run
 * together: for 25 continuations of 20 tokens of a prompt of 12, 512 tokens instead of 800. */
#include "eval/conditional.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/batch.h"
#include "engine/text_tokens.h"
#include "fusion/stage.h"
#include "generate/shortlist.h"

/* Nats of a token that a method rules out, as those that judge candidates do: finite in files, and exp() of it is not,
 * so that the perplexity comes out as what it is. */
#define RULED_OUT 1e6

enum { LOGITS_BYTES = 96 << 20, ROWS_LEAST = 32, ROWS_MOST = 512 };

struct row {
    size_t      i_item;
    llama_token next;
    int32_t     i_batch;
    double      log_p;
};

struct pass {
    struct soothe_session      *session;
    struct llama_context       *ctx;
    struct soothe__conditional *items;
    struct llama_batch          batch;
    int32_t                     n_batch, n_vocab, n_threads;
    struct row                 *rows; /* (n_batch) of the batch's outputs */
    int32_t                     n_rows;
};

int32_t soothe__conditional_cells(int32_t n_prompt, int32_t n_longest, int32_t n_parallel) {
    const int64_t n = n_prompt + (int64_t)n_longest * n_parallel;
    return n < INT32_MAX ? (int32_t)n : INT32_MAX;
}

/* The engine aborts at a position for which a model has no embedding. */
int32_t soothe__conditional_most(const struct llama_context *ctx) {
    const int32_t n_ctx = (int32_t)llama_n_ctx(ctx), trained = llama_model_n_ctx_train(llama_get_model(ctx));
    return trained > 0 && trained < n_ctx ? trained : n_ctx;
}

int32_t soothe__conditional_rows(const struct llama_model *model) {
    const int32_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    const int32_t n       = (int32_t)(LOGITS_BYTES / sizeof(float)) / (n_vocab > 0 ? n_vocab : 1);
    return n < ROWS_LEAST ? ROWS_LEAST : n > ROWS_MOST ? ROWS_MOST : n;
}

static enum soothe_status decode(struct pass *p, struct soothe_error *err) {
    if (p->batch.n_tokens == 0)
        return SOOTHE_OK;
    enum soothe_status status = soothe_decode(p->session, p->batch, err);
    for (int32_t i = 0; i < p->n_rows && !status; i++)
        if (!soothe_get_logits_ith(p->session, p->rows[i].i_batch))
            status = soothe__fail(err, SOOTHE_E_ENGINE, "the engine gave no logits for a token of a batch");
    if (!status) {
#pragma omp parallel for schedule(static) num_threads(p->n_threads)
        for (int32_t i = 0; i < p->n_rows; i++) {
            const float *z   = soothe_get_logits_ith(p->session, p->rows[i].i_batch);
            p->rows[i].log_p = (double)z[p->rows[i].next] - soothe__log_sum_exp(z, p->n_vocab);
        }
    }
    for (int32_t i = 0; i < p->n_rows && !status; i++) { /* in the order of the rows: sums round alike */
        struct soothe__conditional *item = &p->items[p->rows[i].i_item];
        if (p->rows[i].log_p == -INFINITY)
            p->rows[i].log_p = -RULED_OUT;
        if (!isfinite(p->rows[i].log_p))
            status = soothe__fail(err, SOOTHE_E_NUMERIC, "the model gives logits that are not finite");
        item->nll -= p->rows[i].log_p;
        item->n_counted++;
    }
    p->batch.n_tokens = 0;
    p->n_rows         = 0;
    return status;
}

/* The prompt in sequence 0; the first token of every item is predicted by its last one. */
static enum soothe_status run_prompt(struct pass *p, const llama_token *prompt, int32_t n_prompt, size_t n,
                                     struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (int32_t i = 0; i < n_prompt && !status; i++) {
        if (p->batch.n_tokens == p->n_batch)
            status = decode(p, err);
        if (!status)
            soothe__batch_add(&p->batch, prompt[i], i, 0, i == n_prompt - 1);
    }
    const int32_t last = p->batch.n_tokens - 1;
    if (!status)
        status = decode(p, err);
    const float *z = status ? NULL : soothe_get_logits_ith(p->session, last);
    if (!status && !z)
        status = soothe__fail(err, SOOTHE_E_ENGINE, "the engine gave no logits for a prompt");
    const double normaliser = z ? soothe__log_sum_exp(z, p->n_vocab) : 0; /* of every item */
    for (size_t i = 0; i < n && !status; i++) {
        struct soothe__conditional *item = &p->items[i];
        if (item->n_tokens == 0)
            continue;
        double log_p = (double)z[item->tokens[0]] - normaliser;
        if (log_p == -INFINITY)
            log_p = -RULED_OUT;
        if (!isfinite(log_p))
            return soothe__fail(err, SOOTHE_E_NUMERIC, "the model gives logits that are not finite");
        item->nll       = -log_p;
        item->n_counted = 1;
    }
    return status;
}

/* The rest of items [from, to), each in a sequence of its own. */
static enum soothe_status run_items(struct pass *p, int32_t n_prompt, size_t from, size_t to,
                                    struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (size_t i = from + 1; i < to; i++)
        soothe_seq_cp(p->session, 0, (llama_seq_id)(i - from), -1, -1);
    for (size_t i = from; i < to && !status; i++) {
        const struct soothe__conditional *item = &p->items[i];
        for (int32_t k = 0; k + 1 < item->n_tokens && !status; k++) {
            if (p->batch.n_tokens == p->n_batch)
                status = decode(p, err);
            if (status)
                break;
            p->rows[p->n_rows++] = (struct row){.i_item = i, .next = item->tokens[k + 1], .i_batch = p->batch.n_tokens};
            soothe__batch_add(&p->batch, item->tokens[k], n_prompt + k, (llama_seq_id)(i - from), true);
        }
    }
    return status ? status : decode(p, err);
}

/* Leaves the prompt alone in sequence 0. Recurrent models cannot forget: they read it again. */
static enum soothe_status back_to_prompt(struct pass *p, const llama_token *prompt, int32_t n_prompt, size_t n_used,
                                         struct soothe_error *err) {
    for (size_t i = 1; i < n_used; i++)
        soothe_seq_rm(p->session, (llama_seq_id)i, -1, -1);
    if (soothe_seq_rm(p->session, 0, n_prompt, -1))
        return SOOTHE_OK;
    soothe_clear(p->session);
    return run_prompt(p, prompt, n_prompt, 0, err);
}

static enum soothe_status run(struct pass *p, const llama_token *prompt, int32_t n_prompt, size_t n,
                              struct soothe_error *err) {
    const struct llama_model *model   = llama_get_model(p->ctx);
    const int64_t             n_cells = soothe__session_n_ctx(p->session), n_most = soothe__conditional_most(p->ctx);
    const bool   alone = llama_model_is_recurrent(model) || llama_model_is_hybrid(model); /* no mixed rows there */
    const size_t n_seq = alone ? 1 : soothe__session_n_seq(p->session);
    if (n_prompt < 1 || n_prompt > n_most)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a prompt of %d tokens does not fit the context of %lld", n_prompt,
                            (long long)n_most);
    enum soothe_status status = run_prompt(p, prompt, n_prompt, n, err);
    for (size_t from = 0, to; from < n && !status; from = to) {
        int64_t cells = n_prompt;
        for (to = from; to < n && to - from < n_seq && cells + p->items[to].n_tokens <= n_cells &&
                        n_prompt + (int64_t)p->items[to].n_tokens <= n_most;
             to++)
            cells += p->items[to].n_tokens;
        if (to == from) { /* too long even alone */
            p->items[to].nll         = 0;
            p->items[to++].n_counted = 0;
            continue;
        }
        status = run_items(p, n_prompt, from, to, err);
        if (!status && to < n)
            status = back_to_prompt(p, prompt, n_prompt, to - from, err);
    }
    return status;
}

enum soothe_status soothe__conditional_nll(struct soothe_session *session, const llama_token *prompt, int32_t n_prompt,
                                           struct soothe__conditional *items, size_t n, struct soothe_error *err) {
    struct llama_context *ctx = soothe_session_context(session);
    struct pass           p   = {.session   = session,
                                 .ctx       = ctx,
                                 .items     = items,
                                 .n_batch   = soothe__conditional_rows(llama_get_model(ctx)),
                                 .n_vocab   = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx))),
                                 .n_threads = llama_n_threads_batch(ctx)};
    if (p.n_batch > (int32_t)llama_n_batch(ctx))
        p.n_batch = (int32_t)llama_n_batch(ctx);
    for (size_t i = 0; i < n; i++) {
        items[i].nll       = 0;
        items[i].n_counted = 0;
    }
    soothe_clear(session);
    p.batch                   = llama_batch_init(p.n_batch, 0, 1);
    p.rows                    = soothe__calloc((size_t)p.n_batch, sizeof *p.rows);
    enum soothe_status status = p.rows && p.batch.token ? run(&p, prompt, n_prompt, n, err)
                                                        : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    free(p.rows);
    llama_batch_free(p.batch);
    soothe_clear(session);
    return status;
}

enum soothe_status soothe__conditional_texts(struct soothe_session *session, const char *prompt,
                                             const char *const *texts, size_t n, struct soothe__conditional *results,
                                             struct soothe_error *err) {
    struct llama_context     *ctx    = soothe_session_context(session);
    const struct llama_vocab *vocab  = llama_model_get_vocab(llama_get_model(ctx));
    llama_token             **tokens = soothe__calloc(n + 1, sizeof *tokens);
    int32_t                   first  = 0; /* of every text: the prompt's tokens are those that it has alone */
    enum soothe_status        status = tokens ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++)
        results[i] = (struct soothe__conditional){.tokens = NULL};
    for (size_t i = 0; i < n && !status; i++) {
        int32_t n_tokens = 0;
        status           = soothe__tokenize_pair(&tokens[i], &n_tokens, &first, vocab, prompt, strlen(prompt), texts[i],
                                                 strlen(texts[i]), err);
        if (!status && n_tokens > first)
            results[i] = (struct soothe__conditional){.tokens = tokens[i] + first, .n_tokens = n_tokens - first};
    }
    /* first 0: nothing but spaces, which went to the texts, and no BOS */
    const llama_token start = soothe__start_token(vocab);
    if (!status && n > 0 && first == 0)
        status = soothe__conditional_nll(session, &start, 1, results, n, err);
    else if (!status && n > 0 && first <= soothe__conditional_most(ctx))
        status = soothe__conditional_nll(session, tokens[0], first, results, n, err);
    for (size_t i = 0; i < n; i++) {
        results[i].tokens = NULL;
        if (tokens)
            free(tokens[i]);
    }
    free(tokens);
    return status;
}
