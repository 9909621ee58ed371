/* SPDX-License-Identifier: Apache-2.0
 * The prompt's common part stands in the KV cache once, as sequence 0; each feature is a sequence that shares it and
 * adds a few tokens, many features a batch. */
#include "lasso/penalty_factors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/batch.h"
#include "engine/text_tokens.h"

enum { SEQUENCES = 64, BATCH_TOKENS = 1024, NAME_TOKENS_MAX = 48, N_DIGITS = 4, FIRST_DIGIT = 2 };

/* What stands between a name and its digit. */
static const char AFTER_NAME[] = ":";

struct reader {
    const struct soothe__factor_options *options;
    const struct llama_vocab            *vocab;
    struct llama_context                *ctx;
    struct llama_batch                   batch;
    llama_token                         *prefix, *suffix;
    int32_t                              n_prefix, n_suffix;
    llama_token                          digits[N_DIGITS];
    size_t                               first_in_batch; /* its first name; sequence s reads name first + s - 1 */
    int32_t                              rows[SEQUENCES];
    size_t                               n_in_batch;
    struct soothe__progress              progress;
};

/* ---- the prompt ------------------------------------------------------------------------------------------ */

/* Two examples, then the question. Plain text: every model takes it, and of the forms tried (docs/methods/llm-lasso.md)
 * it agreed best with the data; a chat turn was no better, a bare instruction without examples no better than chance.
 */
static const char EXAMPLES[] =
    "How much does each item tell about the answer to the question? 2 = a lot, 3 = something, 4 = little, 5 = nothing\n"
    "\n"
    "Question: whether a text is about sports\n"
    "- football: 2\n- the: 5\n- team: 3\n- today: 5\n- goalkeeper: 2\n- watch: 4\n- and: 5\n- player: 3\n"
    "- tennis: 2\n- green: 5\n"
    "\n"
    "Question: whether a patient has diabetes\n"
    "- blood glucose: 2\n- surname: 5\n- body mass index: 3\n- shoe colour: 5\n- insulin: 2\n- height: 4\n"
    "- weekday: 5\n- age: 3\n"
    "\n";

static enum soothe_status write_prompt(char **prompt, const char *task, struct soothe_error *err) {
    *prompt = soothe__format("%sQuestion: %s\n-", EXAMPLES, task);
    return *prompt ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a prompt");
}

/* Splits AFTER_NAME and each digit: the tokens that all four have in common are fed, the first that differs is the
 * digit's. This finds "2" after a token for the space as well as " 2" in one token, whatever the vocabulary has. */
static enum soothe_status find_digits(struct reader *r, struct soothe_error *err) {
    llama_token       *tokens[N_DIGITS] = {NULL};
    int32_t            n[N_DIGITS] = {0}, common = 0;
    enum soothe_status status = SOOTHE_OK;
    for (int d = 0; d < N_DIGITS && !status; d++) {
        char         text[16];
        const size_t size = (size_t)snprintf(text, sizeof text, "%s %d", AFTER_NAME, FIRST_DIGIT + d);
        status            = soothe__tokenize(&tokens[d], &n[d], r->vocab, text, size, 0, err);
    }
    bool same = !status;
    while (same) {
        for (int d = 0; d < N_DIGITS; d++)
            same = same && common < n[d] && tokens[d][common] == tokens[0][common];
        common += same;
    }
    bool distinct = !status && common > 0;
    for (int d = 0; d < N_DIGITS && distinct; d++) {
        distinct = common < n[d];
        for (int e = 0; e < d && distinct; e++)
            distinct = tokens[e][common] != tokens[d][common];
        r->digits[d] = distinct ? tokens[d][common] : 0;
    }
    if (!status && !distinct)
        status = soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                              "the model's vocabulary does not tell the digits 2 to 5 apart after a colon");
    for (int d = 1; d < N_DIGITS; d++)
        free(tokens[d]);
    r->suffix   = tokens[0];
    r->n_suffix = common;
    return status;
}

/* ---- the engine ------------------------------------------------------------------------------------------- */

static enum soothe_status open_context(struct reader *r, struct llama_model *model, struct soothe_error *err) {
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx                       = (uint32_t)(r->n_prefix + BATCH_TOKENS + 64);
    p.n_batch = p.n_ubatch = BATCH_TOKENS;
    p.n_seq_max            = SEQUENCES + 1;
    p.kv_unified           = true; /* the prefix is shared, not copied */
    p.no_perf              = true;
    if (r->options->n_threads > 0)
        p.n_threads = p.n_threads_batch = r->options->n_threads;
    const int32_t n_trained = llama_model_n_ctx_train(model);
    if (n_trained > 0 && r->n_prefix + NAME_TOKENS_MAX + r->n_suffix > n_trained)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "the task's description makes a prompt of %d tokens, more than the model's %d take",
                            r->n_prefix, n_trained);
    r->ctx = llama_init_from_model(model, p);
    if (!r->ctx)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine gave no context of %u tokens", p.n_ctx);
    r->batch = llama_batch_init(BATCH_TOKENS, 0, 1);
    return SOOTHE_OK;
}

static enum soothe_status decode(struct reader *r, struct soothe_error *err) {
    const int32_t code = llama_decode(r->ctx, r->batch);
    r->batch.n_tokens  = 0;
    return code ? soothe__fail(err, SOOTHE_E_ENGINE, "the engine failed on a batch (code %d)", code) : SOOTHE_OK;
}

static enum soothe_status decode_prefix(struct reader *r, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (int32_t i = 0; i < r->n_prefix && !status; i++) {
        soothe__batch_add(&r->batch, r->prefix[i], i, 0, false);
        if (r->batch.n_tokens == BATCH_TOKENS || i + 1 == r->n_prefix)
            status = decode(r, err);
    }
    return status;
}

/* Mean of the four digits under their own logits. */
static enum soothe_status read_factor(double *factor, const struct reader *r, int32_t row, struct soothe_error *err) {
    const float *z = llama_get_logits_ith(r->ctx, row);
    if (!z)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine gave no logits for token %d of a batch", row);
    double largest = -INFINITY, sum = 0, mean = 0;
    for (int d = 0; d < N_DIGITS; d++)
        largest = fmax(largest, (double)z[r->digits[d]]);
    for (int d = 0; d < N_DIGITS; d++) {
        const double p = exp((double)z[r->digits[d]] - largest);
        sum += p;
        mean += p * (FIRST_DIGIT + d);
    }
    *factor = mean / sum;
    return isfinite(*factor) ? SOOTHE_OK
                             : soothe__fail(err, SOOTHE_E_NUMERIC, "the model gives logits that are not finite");
}

static enum soothe_status run_batch(struct reader *r, double *factors, size_t n_names, struct soothe_error *err) {
    llama_memory_t memory = llama_get_memory(r->ctx);
    for (size_t k = 0; k < r->n_in_batch; k++)
        llama_memory_seq_cp(memory, 0, (llama_seq_id)k + 1, -1, -1);
    enum soothe_status status = decode(r, err);
    for (size_t k = 0; k < r->n_in_batch && !status; k++)
        status = read_factor(&factors[r->first_in_batch + k], r, r->rows[k], err);
    for (size_t k = 0; k < r->n_in_batch; k++)
        llama_memory_seq_rm(memory, (llama_seq_id)k + 1, -1, -1);
    r->first_in_batch += r->n_in_batch;
    r->n_in_batch = 0;
    if (r->options->show_progress) {
        char detail[64];
        snprintf(detail, sizeof detail, "penalty factors: %zu of %zu", r->first_in_batch, n_names);
        soothe__progress_update(&r->progress, (double)r->first_in_batch / (double)n_names, detail);
    }
    return status;
}

static enum soothe_status add_name(struct reader *r, const char *name, struct soothe_error *err) {
    llama_token *tokens;
    int32_t      n;
    char        *text = soothe__format(" %s", name);
    if (!text)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a feature's name");
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ') /* a line break would end the list's line */
            *c = ' ';
    const enum soothe_status status = soothe__tokenize(&tokens, &n, r->vocab, text, strlen(text), 0, err);
    free(text);
    if (status)
        return status;
    n                      = n < NAME_TOKENS_MAX ? n : NAME_TOKENS_MAX;
    const llama_seq_id seq = (llama_seq_id)r->n_in_batch + 1;
    for (int32_t i = 0; i < n; i++)
        soothe__batch_add(&r->batch, tokens[i], r->n_prefix + i, seq, false);
    for (int32_t i = 0; i < r->n_suffix; i++)
        soothe__batch_add(&r->batch, r->suffix[i], r->n_prefix + n + i, seq, i + 1 == r->n_suffix);
    r->rows[r->n_in_batch++] = r->batch.n_tokens - 1;
    free(tokens);
    return SOOTHE_OK;
}

static enum soothe_status read_names(struct reader *r, double *factors, const char *const *names, size_t n_names,
                                     struct soothe_error *err) {
    enum soothe_status status = decode_prefix(r, err);
    for (size_t i = 0; i < n_names && !status; i++) {
        if (r->options->interrupted && *r->options->interrupted)
            return soothe__fail(err, SOOTHE_E_INTERRUPTED, "interrupted");
        status          = add_name(r, names[i], err);
        const bool full = r->n_in_batch == SEQUENCES ||
                          r->batch.n_tokens + NAME_TOKENS_MAX + r->n_suffix > BATCH_TOKENS || i + 1 == n_names;
        if (full && !status)
            status = run_batch(r, factors, n_names, err);
    }
    return status;
}

enum soothe_status soothe__penalty_factors(double *factors, const char *const *names, size_t n_names,
                                           struct llama_model *model, const struct soothe__factor_options *options,
                                           struct soothe_error *err) {
    struct reader r = {.options = options, .vocab = llama_model_get_vocab(model), .progress = soothe__progress_start()};
    char         *prompt;
    enum soothe_status status = write_prompt(&prompt, options->task, err);
    if (!status)
        status = soothe__tokenize(&r.prefix, &r.n_prefix, r.vocab, prompt, strlen(prompt),
                                  SOOTHE__TOKENIZE_START | SOOTHE__TOKENIZE_SPECIAL, err);
    if (!status)
        status = find_digits(&r, err);
    if (!status)
        status = open_context(&r, model, err);
    if (!status)
        status = read_names(&r, factors, names, n_names, err);
    if (options->show_progress)
        soothe__progress_finish(&r.progress);
    if (r.ctx) {
        llama_batch_free(r.batch);
        llama_free(r.ctx);
    }
    free(prompt);
    free(r.prefix);
    free(r.suffix);
    return status;
}
