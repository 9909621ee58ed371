/* SPDX-License-Identifier: Apache-2.0
 * Reading hidden states between two parts of the engine's graph (cb_eval).
 *
 * The last block works on output rows alone. Layers below it give a row per token whatever is output, so only where
 * the last block or the final state is wanted is every token made an output. */
#include "score/layer_states.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/batch.h"

enum { BATCH_TOKENS = 256, BATCH_TEXTS = 64 };

struct tap { /* of one layer */
    int32_t layer;
    float  *rows;   /* (n_batch, d) */
    int32_t n_rows; /* read so far of the batch under way */
};

struct soothe__layer_reader {
    struct llama_context *ctx;
    struct tap           *taps;
    const float         **states; /* (n_taps) handed out */
    size_t                n_taps;
    int32_t               d, n_blocks, n_batch, n_texts_max;
    int32_t               i_highest; /* the tap behind which the graph is stopped */
    bool                  all_rows_out;
    struct llama_batch    batch;
    const char           *failure; /* what the callback found wrong */
};

/* ---- layers by name ---------------------------------------------------------------------------------- */

void soothe__layer_name(char name[16], int32_t layer) {
    if (layer == SOOTHE__LAYER_FINAL)
        snprintf(name, 16, "final");
    else
        snprintf(name, 16, "%d", layer);
}

bool soothe__layer_parse(int32_t *layer, const char *name) {
    int64_t n;
    if (strcmp(name, "final") == 0) {
        *layer = SOOTHE__LAYER_FINAL;
        return true;
    }
    if (!soothe__parse_int64(&n, name, 0, 100000))
        return false;
    *layer = (int32_t)n;
    return true;
}

/* The layer whose output a node is, or -2. */
static int32_t layer_of_node(const char *name) {
    if (strcmp(name, "result_norm") == 0)
        return SOOTHE__LAYER_FINAL;
    if (strncmp(name, "l_out-", 6) != 0)
        return -2;
    int64_t n;
    return soothe__parse_int64(&n, name + 6, 0, 100000) ? (int32_t)n : -2;
}

/* ---- the callback -------------------------------------------------------------------------------------- */

static int32_t find_tap(const struct soothe__layer_reader *r, int32_t layer) {
    for (size_t i = 0; layer >= SOOTHE__LAYER_FINAL && i < r->n_taps; i++)
        if (r->taps[i].layer == layer)
            return (int32_t)i;
    return -1;
}

static bool on_node(struct ggml_tensor *t, bool ask, void *user) {
    struct soothe__layer_reader *r = user;
    const int32_t                i = find_tap(r, layer_of_node(t->name));
    if (i < 0)
        return !ask;
    if (ask)
        return true;
    struct tap *tap = &r->taps[i];
    if (t->ne[0] != r->d || t->type != GGML_TYPE_F32 || t->ne[1] > r->n_batch - tap->n_rows || t->ne[2] > 1) {
        r->failure = "a layer's state has an unexpected shape";
        return false;
    }
    ggml_backend_tensor_get(t, tap->rows + (size_t)tap->n_rows * (size_t)r->d, 0,
                            (size_t)t->ne[1] * (size_t)r->d * sizeof(float));
    tap->n_rows += (int32_t)t->ne[1];
    return i != r->i_highest; /* false: what follows, and the head, is not needed */
}

/* ---- making a reader ----------------------------------------------------------------------------------- */

static int32_t height(const struct soothe__layer_reader *r, int32_t layer) {
    return layer == SOOTHE__LAYER_FINAL ? r->n_blocks : layer;
}

static enum soothe_status set_taps(struct soothe__layer_reader *r, const int32_t *layers, size_t n,
                                   struct soothe_error *err) {
    r->taps   = soothe__calloc(n + 1, sizeof *r->taps);
    r->states = soothe__calloc(n + 1, sizeof *r->states);
    if (!r->taps || !r->states)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu layers", n);
    for (size_t i = 0; i < n; i++) {
        if (layers[i] < SOOTHE__LAYER_FINAL || layers[i] >= r->n_blocks)
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "the model has no layer %d: 0 to %d exist, and final",
                                layers[i], r->n_blocks - 1);
        if (find_tap(r, layers[i]) >= 0)
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "layer %d is asked for twice", layers[i]);
        r->taps[i].layer = layers[i];
        r->taps[i].rows  = soothe__calloc((size_t)r->n_batch * (size_t)r->d, sizeof(float));
        r->n_taps++;
        if (!r->taps[i].rows)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the states of %zu layers", n);
        if (height(r, layers[i]) > height(r, r->taps[r->i_highest].layer))
            r->i_highest = (int32_t)i;
        r->all_rows_out = r->all_rows_out || height(r, layers[i]) >= r->n_blocks - 1;
    }
    return n > 0 ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_ARGUMENT, "no layer is asked for");
}

static enum soothe_status make_context(struct soothe__layer_reader *r, struct llama_model *model, int32_t n_threads,
                                       struct soothe_error *err) {
    struct llama_context_params p = llama_context_default_params();
    p.n_threads = p.n_threads_batch = soothe__thread_count(n_threads);
    p.n_ctx = p.n_batch = p.n_ubatch = (uint32_t)r->n_batch;
    p.n_seq_max                      = (uint32_t)r->n_texts_max;
    p.kv_unified                     = true; /* the rows of a batch then keep their order */
    p.cb_eval                        = on_node;
    p.cb_eval_user_data              = r;
    r->ctx                           = llama_init_from_model(model, p);
    r->batch                         = llama_batch_init(r->n_batch, 0, 1);
    if (!r->ctx)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine cannot make a context of %d tokens", r->n_batch);
    return r->batch.token ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a batch");
}

enum soothe_status soothe__layer_reader_new(struct soothe__layer_reader **out, struct llama_model *model,
                                            const int32_t *layers, size_t n_layers, int32_t n_tokens_max,
                                            int32_t n_threads, struct soothe_error *err) {
    *out                           = NULL;
    struct soothe__layer_reader *r = soothe__calloc(1, sizeof *r);
    if (!r)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for reading states");
    r->d        = llama_model_n_embd(model);
    r->n_blocks = llama_model_n_layer(model);
    r->n_batch  = n_tokens_max > BATCH_TOKENS ? n_tokens_max : BATCH_TOKENS;
    /* Recurrent and hybrid models reorder the rows of a batch with several sequences. */
    r->n_texts_max            = llama_model_is_recurrent(model) || llama_model_is_hybrid(model) ? 1 : BATCH_TEXTS;
    enum soothe_status status = set_taps(r, layers, n_layers, err);
    if (!status)
        status = make_context(r, model, n_threads, err);
    if (status)
        soothe__layer_reader_free(r);
    else
        *out = r;
    return status;
}

void soothe__layer_reader_free(struct soothe__layer_reader *r) {
    if (!r)
        return;
    for (size_t i = 0; i < r->n_taps; i++)
        free(r->taps[i].rows);
    if (r->batch.token)
        llama_batch_free(r->batch);
    llama_free(r->ctx);
    free(r->taps);
    free(r->states);
    free(r);
}

/* ---- reading --------------------------------------------------------------------------------------------- */

static void add_text(struct soothe__layer_reader *r, const struct soothe__token_text *text, llama_seq_id seq) {
    for (int32_t i = 0; i < text->n_tokens; i++)
        soothe__batch_add(&r->batch, text->tokens[i], i, seq, r->all_rows_out || i + 1 == text->n_tokens);
}

static bool all_finite(const float *x, size_t n) {
    float sum = 0; /* x - x is 0 for a finite x, NaN otherwise */
    for (size_t i = 0; i < n; i++)
        sum += x[i] - x[i];
    return sum == 0.0f;
}

static enum soothe_status decode(struct soothe__layer_reader *r, struct soothe_error *err) {
    for (size_t l = 0; l < r->n_taps; l++)
        r->taps[l].n_rows = 0;
    r->failure = NULL;
    llama_memory_clear(llama_get_memory(r->ctx), true);
    const int code = llama_decode(r->ctx, r->batch);
    llama_synchronize(r->ctx);
    if (r->failure)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s", r->failure);
    if (code)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine could not read a batch of %d tokens (code %d)",
                            r->batch.n_tokens, code);
    for (size_t l = 0; l < r->n_taps; l++) {
        char name[16];
        soothe__layer_name(name, r->taps[l].layer);
        if (r->taps[l].n_rows != r->batch.n_tokens)
            return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "the model's architecture shows no states of layer %s",
                                name);
        if (!all_finite(r->taps[l].rows, (size_t)r->batch.n_tokens * (size_t)r->d))
            return soothe__fail(err, SOOTHE_E_NUMERIC, "the states of layer %s are no finite numbers: damaged weights?",
                                name);
    }
    return SOOTHE_OK;
}

static enum soothe_status check_text(const struct soothe__layer_reader *r, const struct soothe__token_text *text,
                                     size_t i, struct soothe_error *err) {
    if (text->n_tokens < 1 || text->n_tokens > r->n_batch)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "text %zu has %d tokens: 1 to %d can be read", i + 1,
                            text->n_tokens, r->n_batch);
    const int32_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(r->ctx)));
    for (int32_t k = 0; k < text->n_tokens; k++)
        if (text->tokens[k] < 0 || text->tokens[k] >= n_vocab)
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "text %zu holds token %d: ids 0 to %d exist", i + 1,
                                text->tokens[k], n_vocab - 1);
    return SOOTHE_OK;
}

enum soothe_status soothe__layer_reader_read(struct soothe__layer_reader *r, const struct soothe__token_text *texts,
                                             size_t n, soothe__take_states *take, void *user,
                                             struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (size_t i = 0; i < n && !status; i++)
        status = check_text(r, &texts[i], i, err);
    for (size_t from = 0, to = 0; from < n && !status; from = to) {
        r->batch.n_tokens = 0;
        while (to < n && (int32_t)(to - from) < r->n_texts_max &&
               r->batch.n_tokens + texts[to].n_tokens <= r->n_batch) {
            add_text(r, &texts[to], (llama_seq_id)(to - from));
            to++;
        }
        status     = decode(r, err);
        size_t row = 0;
        for (size_t i = from; i < to && !status; i++) {
            for (size_t l = 0; l < r->n_taps; l++)
                r->states[l] = r->taps[l].rows + row * (size_t)r->d;
            status = take(user, i, r->states, texts[i].n_tokens, err);
            row += (size_t)texts[i].n_tokens;
        }
    }
    return status;
}
