/* SPDX-License-Identifier: Apache-2.0
 * Decoding with fusion. The engine calls back between two parts of its graph: the calibrator's
 * graph is read at `result_norm` and stopped there (its head is never computed); the target's is
 * read and overwritten there, so that its own head runs once, on the fused state. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fusion/fusion.h"

/* All states of one decode, a row per requested output in batch order. */
struct rows {
    float  *data;
    size_t  capacity; /* in floats */
    int32_t n, d;
};

struct soothe_session {
    struct llama_context           *target;
    struct llama_context           *calibrator; /* NULL without blocks */
    const struct soothe_calibrator *cal;
    float                          *strength; /* per sequence */
    llama_pos                      *end;      /* per sequence: its last position before the decode under way */
    uint32_t                        n_seq, n_batch, n_ubatch;
    bool                            capture, embeddings, one_sequence_per_batch;
    int8_t                         *flags; /* (n_batch) which tokens of a piece are output */

    /* what soothe__session_tap listens to */
    char        tap[GGML_MAX_NAME]; /* "" for nothing */
    struct rows tapped;
    int8_t     *outputs; /* (n_batch) of the batch under way: which tokens are output */
    int32_t     n_tokens, i_token_tap, i_row_tap;

    /* of the decode under way */
    int32_t           *row_seq; /* sequence of each requested output */
    int32_t            n_rows, i_row_cal, i_row_tgt;
    bool               fusing;
    struct rows        h_c, h_t, h_f;
    float             *scratch, *row; /* (d_tgt) */
    size_t             row_seq_capacity;
    enum soothe_status failed; /* what a callback found wrong */
    const char        *failure;
};

struct soothe_session_params soothe_session_params_default(void) {
    struct soothe_session_params p = {.context = llama_context_default_params(), .strength = NAN};
    const long                   n = sysconf(_SC_NPROCESSORS_ONLN);
    p.context.n_threads = p.context.n_threads_batch = n > 0 ? (int32_t)n : 1;
    return p;
}

/* ---- rows ------------------------------------------------------------------------------------------ */

static bool rows_begin(struct rows *r, int32_t n, int32_t d) {
    const size_t need = (size_t)n * (size_t)d;
    if (need > r->capacity) {
        float *data = soothe__realloc(r->data, need, sizeof *data);
        if (!data) {
            return false;
        }
        r->data     = data;
        r->capacity = need;
    }
    r->n = n;
    r->d = d;
    return true;
}

static float *row_at(const struct rows *r, int32_t i) {
    return r->data + (size_t)i * (size_t)r->d;
}

static bool fail_in_callback(struct soothe_session *s, enum soothe_status status, const char *what) {
    s->failed  = status;
    s->failure = what;
    return false; /* stops the graph */
}

static bool is_final_state(const struct ggml_tensor *t) {
    return strcmp(t->name, "result_norm") == 0;
}

/* ---- callbacks -------------------------------------------------------------------------------------- */

static bool on_calibrator_node(struct ggml_tensor *t, bool ask, void *user) {
    struct soothe_session *s = user;
    if (!is_final_state(t)) {
        return !ask;
    }
    if (ask) {
        return true;
    }
    const int64_t n = t->ne[1];
    if (t->ne[0] != s->h_c.d || t->type != GGML_TYPE_F32 || s->i_row_cal + n > s->n_rows) {
        return fail_in_callback(s, SOOTHE_E_UNSUPPORTED, "the calibrator's final state has an unexpected shape");
    }
    if (n > 0) {
        ggml_backend_tensor_get(t, row_at(&s->h_c, s->i_row_cal), 0, (size_t)n * (size_t)s->h_c.d * sizeof(float));
    }
    s->i_row_cal += (int32_t)n;
    return false; /* stop here: the head is not needed */
}

static bool row_is_finite(const float *x, int32_t n) {
    float sum = 0; /* x - x is 0 for a finite x, NaN otherwise */
    for (int32_t i = 0; i < n; i++) {
        sum += x[i] - x[i];
    }
    return sum == 0.0f;
}

static bool fuse_tensor_row(struct soothe_session *s, struct ggml_tensor *t, int64_t i_in_tensor, int32_t i_row) {
    const float  alpha = s->strength[s->row_seq[i_row]];
    const size_t size  = (size_t)t->ne[0] * sizeof(float);
    const size_t at    = (size_t)i_in_tensor * size;
    if (alpha == 0.0f && !s->capture) {
        return true;
    }
    ggml_backend_tensor_get(t, s->row, at, size);
    if (s->capture) {
        memcpy(row_at(&s->h_t, i_row), s->row, size);
    }
    if (alpha != 0.0f && s->cal) {
        soothe__fuse_row(&s->cal->fusion, s->row, s->calibrator ? row_at(&s->h_c, i_row) : NULL, alpha, s->scratch);
        if (!row_is_finite(s->row, (int32_t)t->ne[0])) {
            return fail_in_callback(s, SOOTHE_E_NUMERIC, "the fused state is not finite: damaged weights?");
        }
        ggml_backend_tensor_set(t, s->row, at, size);
    }
    if (s->capture) {
        memcpy(row_at(&s->h_f, i_row), s->row, size);
    }
    return true;
}

static bool is_tapped(const struct soothe_session *s, const struct ggml_tensor *t) {
    return s->tap[0] && s->n_rows > 0 && strcmp(t->name, s->tap) == 0;
}

/* A node holds the rows of all tokens of a piece of the batch, or, from the last block on, of its outputs alone. */
static bool read_tap(struct soothe_session *s, const struct ggml_tensor *t) {
    const int32_t left    = s->n_tokens - s->i_token_tap;
    const int32_t n_piece = left < (int32_t)s->n_ubatch ? left : (int32_t)s->n_ubatch;
    int32_t       n_out   = 0;
    for (int32_t i = 0; i < n_piece; i++) {
        n_out += s->outputs[s->i_token_tap + i];
    }
    if (t->ne[0] != s->tapped.d || t->type != GGML_TYPE_F32 || (t->ne[1] != n_piece && t->ne[1] != n_out)) {
        return fail_in_callback(s, SOOTHE_E_UNSUPPORTED, "the state that is listened to has an unexpected shape");
    }
    const bool all = t->ne[1] == n_piece;
    for (int32_t i = 0, row = 0; i < n_piece; i++) {
        if (!s->outputs[s->i_token_tap + i]) {
            row += all;
            continue;
        }
        ggml_backend_tensor_get(t, row_at(&s->tapped, s->i_row_tap++), (size_t)row++ * t->nb[1],
                                (size_t)s->tapped.d * sizeof(float));
    }
    s->i_token_tap += n_piece;
    return true;
}

static bool on_target_node(struct ggml_tensor *t, bool ask, void *user) {
    struct soothe_session *s         = user;
    const bool             to_fuse   = s->fusing && is_final_state(t);
    const bool             to_listen = is_tapped(s, t);
    if (!to_fuse && !to_listen) {
        return !ask;
    }
    if (ask) {
        return true;
    }
    if (to_listen && !read_tap(s, t)) {
        return false;
    }
    if (!to_fuse) {
        return true;
    }
    const int64_t n = t->ne[1];
    const int32_t d = llama_model_n_embd(llama_get_model(s->target));
    if (t->ne[0] != d || t->type != GGML_TYPE_F32 || s->i_row_tgt + n > s->n_rows) {
        return fail_in_callback(s, SOOTHE_E_UNSUPPORTED, "the target's final state has an unexpected shape");
    }
    for (int64_t i = 0; i < n; i++) {
        if (!fuse_tensor_row(s, t, i, s->i_row_tgt + (int32_t)i)) {
            return false;
        }
    }
    s->i_row_tgt += (int32_t)n;
    return true;
}

/* ---- making a session -------------------------------------------------------------------------------- */

static enum soothe_status make_contexts(struct soothe_session *s, struct llama_model *target,
                                        const struct soothe_session_params *p, struct soothe_error *err) {
    struct llama_context_params cp = p->context;
    if (cp.n_seq_max > 1) {
        cp.kv_unified = true; /* the engine then splits batches without reordering their rows */
    }
    s->embeddings        = cp.embeddings;
    cp.cb_eval           = on_target_node;
    cp.cb_eval_user_data = s;
    s->target            = llama_init_from_model(target, cp);
    if (!s->target) {
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine cannot make a context of %u tokens for the target",
                            cp.n_ctx);
    }
    s->n_batch                = llama_n_batch(s->target);
    s->n_ubatch               = llama_n_ubatch(s->target);
    s->n_seq                  = cp.kv_unified ? (uint32_t)llama_max_parallel_sequences() : llama_n_seq_max(s->target);
    s->one_sequence_per_batch = llama_model_is_recurrent(target) || llama_model_is_hybrid(target);
    if (!s->cal || !s->cal->model) {
        return SOOTHE_OK;
    }
    cp.cb_eval    = on_calibrator_node;
    cp.n_ctx      = llama_n_ctx(s->target);
    cp.n_batch    = s->n_batch;
    cp.embeddings = false;
    cp.samplers   = NULL;
    cp.n_samplers = 0;
    if (p->n_threads_calibrator > 0) {
        cp.n_threads = cp.n_threads_batch = p->n_threads_calibrator;
    }
    s->calibrator = llama_init_from_model(s->cal->model, cp);
    return s->calibrator
               ? SOOTHE_OK
               : soothe__fail(err, SOOTHE_E_ENGINE, "the engine cannot make a context for calibrator %s", s->cal->path);
}

static enum soothe_status check_pair(const struct llama_model *target, const struct soothe_calibrator *cal,
                                     const struct soothe_session_params *p, struct soothe_error *err) {
    if (p->context.cb_eval) {
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "context.cb_eval must be NULL: soothe needs it");
    }
    if (cal && p->context.embeddings) {
        return soothe__fail(
            err, SOOTHE_E_UNSUPPORTED,
            "context.embeddings must be false with a calibrator: the engine then renames the final state "
            "(soothe_session_states gives it)");
    }
    if (!llama_model_has_decoder(target)) {
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "the target has no decoder: there is nothing to soothe");
    }
    if (cal && llama_model_n_embd(target) != cal->fusion.d_tgt) {
        return soothe__fail(err, SOOTHE_E_SHAPE, "calibrator %s was made for width %d, the target has width %d",
                            cal->path, cal->fusion.d_tgt, llama_model_n_embd(target));
    }
    if (cal && cal->model &&
        llama_vocab_n_tokens(llama_model_get_vocab(target)) !=
            llama_vocab_n_tokens(llama_model_get_vocab(cal->model))) {
        return soothe__fail(err, SOOTHE_E_MISMATCH, "calibrator %s and the target have different vocabularies",
                            cal->path);
    }
    return SOOTHE_OK;
}

enum soothe_status soothe_session_new(struct soothe_session **out, struct llama_model *target,
                                      const struct soothe_calibrator *cal, const struct soothe_session_params *params,
                                      struct soothe_error *err) {
    const struct soothe_session_params  defaults = soothe_session_params_default();
    const struct soothe_session_params *p        = params ? params : &defaults;
    *out                                         = NULL;
    enum soothe_status status                    = check_pair(target, cal, p, err);
    if (status != SOOTHE_OK) {
        return status;
    }
    const int32_t          d = llama_model_n_embd(target);
    struct soothe_session *s = soothe__calloc(1, sizeof *s);
    if (!s) {
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory making a session");
    }
    s->cal = cal;
    status = make_contexts(s, target, p, err);
    if (status != SOOTHE_OK) {
        soothe_session_free(s);
        return status;
    }
    s->strength = soothe__calloc(s->n_seq, sizeof *s->strength);
    s->end      = soothe__calloc(s->n_seq, sizeof *s->end);
    s->scratch  = soothe__calloc((size_t)d, sizeof *s->scratch);
    s->row      = soothe__calloc((size_t)d, sizeof *s->row);
    s->flags    = soothe__calloc(s->n_batch, sizeof *s->flags);
    if (!s->strength || !s->end || !s->scratch || !s->row || !s->flags) {
        soothe_session_free(s);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory making a session");
    }
    const float alpha = isnan(p->strength) ? (cal ? cal->default_strength : 0.0f) : p->strength;
    status            = soothe_session_set_strength(s, -1, alpha, err);
    if (status != SOOTHE_OK) {
        soothe_session_free(s);
        return status;
    }
    *out = s;
    return SOOTHE_OK;
}

void soothe_session_free(struct soothe_session *s) {
    if (!s) {
        return;
    }
    llama_free(s->calibrator);
    llama_free(s->target);
    free(s->strength);
    free(s->end);
    free(s->scratch);
    free(s->row);
    free(s->row_seq);
    free(s->flags);
    free(s->outputs);
    free(s->tapped.data);
    free(s->h_c.data);
    free(s->h_t.data);
    free(s->h_f.data);
    free(s);
}

struct llama_context *soothe_session_context(struct soothe_session *s) {
    return s->target;
}

enum soothe_status soothe_session_set_strength(struct soothe_session *s, llama_seq_id seq_id, float alpha,
                                               struct soothe_error *err) {
    if (!isfinite(alpha)) {
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "strength %g is not a finite number", (double)alpha);
    }
    if (seq_id >= (llama_seq_id)s->n_seq) {
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "sequence %d does not exist (0 to %u do)", seq_id, s->n_seq - 1);
    }
    for (uint32_t i = 0; i < s->n_seq; i++) {
        if (seq_id < 0 || (uint32_t)seq_id == i) {
            s->strength[i] = alpha;
        }
    }
    return SOOTHE_OK;
}

float soothe_session_strength(const struct soothe_session *s, llama_seq_id seq_id) {
    return seq_id >= 0 && seq_id < (llama_seq_id)s->n_seq ? s->strength[seq_id] : 0.0f;
}

/* ---- decode --------------------------------------------------------------------------------------------- */

static llama_seq_id sequence_of(const struct llama_batch *b, int32_t i) {
    return b->seq_id && b->n_seq_id && b->n_seq_id[i] > 0 ? b->seq_id[i][0] : 0;
}

/* llama.cpp's rule: without flags only the last token is output, or all if embeddings are on. */
static bool is_output(const struct soothe_session *s, const struct llama_batch *b, int32_t i) {
    if (b->logits) {
        return b->logits[i] != 0;
    }
    return i == b->n_tokens - 1 || s->embeddings;
}

static enum soothe_status check_batch(const struct soothe_session *s, const struct llama_batch *b,
                                      struct soothe_error *err) {
    if (b->n_tokens <= 0 || (uint32_t)b->n_tokens > s->n_batch) {
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a batch of %d tokens: 1 to n_batch = %u are possible", b->n_tokens,
                            s->n_batch);
    }
    if (!b->token && s->calibrator) {
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "a batch of embeddings: the calibrator can follow tokens only");
    }
    const int32_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(s->target)));
    for (int32_t i = 0; i < b->n_tokens; i++) {
        if (b->token && (b->token[i] < 0 || b->token[i] >= n_vocab)) {
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "token %d at %d of the batch: ids 0 to %d exist", b->token[i],
                                i, n_vocab - 1);
        }
        if (!b->seq_id != !b->n_seq_id || (b->seq_id && b->n_seq_id[i] < 1)) {
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "token %d of the batch belongs to no sequence", i);
        }
        const int32_t n_ids = b->seq_id ? b->n_seq_id[i] : 0;
        for (int32_t k = 0; k < n_ids; k++) {
            if (b->seq_id[i][k] < 0 || b->seq_id[i][k] >= (llama_seq_id)s->n_seq) {
                return soothe__fail(err, SOOTHE_E_ARGUMENT, "sequence %d at %d of the batch: 0 to %u exist",
                                    b->seq_id[i][k], i, s->n_seq - 1);
            }
        }
        if (s->one_sequence_per_batch && s->cal && sequence_of(b, i) != sequence_of(b, 0)) {
            return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                                "recurrent and hybrid targets take one sequence a batch under fusion: the engine "
                                "reorders the rows of mixed ones");
        }
    }
    return SOOTHE_OK;
}

/* Notes the sequence of each output row and makes room for its states. */
static enum soothe_status begin_rows(struct soothe_session *s, const struct llama_batch *b, struct soothe_error *err) {
    if ((size_t)b->n_tokens > s->row_seq_capacity) {
        int32_t *row_seq = soothe__realloc(s->row_seq, (size_t)b->n_tokens, sizeof *row_seq);
        if (!row_seq) {
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory decoding a batch");
        }
        s->row_seq          = row_seq;
        s->row_seq_capacity = (size_t)b->n_tokens;
    }
    s->n_rows = s->i_row_cal = s->i_row_tgt = s->i_row_tap = s->i_token_tap = 0;
    s->n_tokens                                                             = b->n_tokens;
    s->failed                                                               = SOOTHE_OK;
    bool any                                                                = false;
    for (int32_t i = 0; i < b->n_tokens; i++) {
        if (s->outputs) {
            s->outputs[i] = is_output(s, b, i);
        }
        if (is_output(s, b, i)) {
            s->row_seq[s->n_rows++] = sequence_of(b, i);
            any                     = any || s->strength[sequence_of(b, i)] != 0.0f;
        }
    }
    s->fusing       = s->n_rows > 0 && ((any && s->cal) || s->capture);
    const int32_t d = llama_model_n_embd(llama_get_model(s->target));
    if ((s->calibrator && !rows_begin(&s->h_c, s->n_rows, s->cal->fusion.d_cal)) ||
        (s->tap[0] && !rows_begin(&s->tapped, s->n_rows, d)) ||
        (s->capture && (!rows_begin(&s->h_t, s->n_rows, d) || !rows_begin(&s->h_f, s->n_rows, d)))) {
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d states", s->n_rows);
    }
    return SOOTHE_OK;
}

/* The sequences of token i, as many as n_ids says. */
static const llama_seq_id *sequences_of(const struct llama_batch *b, int32_t i, int32_t *n_ids) {
    static const llama_seq_id FIRST = 0;
    const bool                named = b->seq_id && b->n_seq_id;
    *n_ids                          = named ? b->n_seq_id[i] : 1;
    return named ? b->seq_id[i] : &FIRST;
}

/* Notes where the sequences of the batch end before it. */
static void note_ends(struct soothe_session *s, const struct llama_batch *b) {
    int32_t n_ids;
    for (int32_t i = 0; i < b->n_tokens; i++) {
        const llama_seq_id *ids = sequences_of(b, i, &n_ids);
        for (int32_t k = 0; k < n_ids; k++) {
            s->end[ids[k]] = llama_memory_seq_pos_max(llama_get_memory(s->target), ids[k]);
        }
    }
}

/* Not by the batch's own positions: they may be what is wrong with it. */
static void forget_batch(struct soothe_session *s, const struct llama_batch *b) {
    int32_t n_ids;
    for (int32_t i = 0; i < b->n_tokens; i++) {
        const llama_seq_id *ids = sequences_of(b, i, &n_ids);
        for (int32_t k = 0; k < n_ids; k++) {
            soothe_seq_rm(s, ids[k], s->end[ids[k]] + 1, -1);
        }
    }
}

static enum soothe_status engine_error(int code, const char *who, const struct soothe_session *s,
                                       struct soothe_error *err) {
    if (s->failed != SOOTHE_OK) {
        return soothe__fail(err, s->failed, "%s", s->failure);
    }
    return soothe__fail(err, SOOTHE_E_ENGINE, "the %s could not decode the batch: %s (code %d)", who,
                        code == 1   ? "no room in the KV cache; a larger context is needed"
                        : code == 2 ? "aborted"
                                    : "the engine failed",
                        code);
}

/* The batch again in pieces of at most 64 outputs: the engine keeps V logits per output of a piece
 * even though the calibrator's are never computed. */
static int decode_calibrator(struct soothe_session *s, const struct llama_batch *b) {
    enum { OUTPUTS_MAX = 64 };
    for (int32_t from = 0; from < b->n_tokens;) {
        int32_t n = 0, n_outputs = 0;
        while (from + n < b->n_tokens && (uint32_t)n < s->n_ubatch && n_outputs < OUTPUTS_MAX) {
            s->flags[n] = is_output(s, b, from + n);
            n_outputs += s->flags[n++];
        }
        struct llama_batch piece = {
            .n_tokens = n,
            .token    = b->token + from,
            .pos      = b->pos ? b->pos + from : NULL,
            .n_seq_id = b->n_seq_id ? b->n_seq_id + from : NULL,
            .seq_id   = b->seq_id ? b->seq_id + from : NULL,
            .logits   = s->flags,
        };
        const int code = llama_decode(s->calibrator, piece);
        if (code != 0 || s->failed != SOOTHE_OK) {
            return code ? code : -1;
        }
        from += n;
    }
    if (s->i_row_cal != s->n_rows) {
        fail_in_callback(s, SOOTHE_E_UNSUPPORTED, "the calibrator's architecture shows no node result_norm to fuse");
        return -1;
    }
    return 0;
}

enum soothe_status soothe_decode(struct soothe_session *s, struct llama_batch batch, struct soothe_error *err) {
    enum soothe_status status = check_batch(s, &batch, err);
    if (status == SOOTHE_OK) {
        status = begin_rows(s, &batch, err);
    }
    if (status != SOOTHE_OK) {
        return status;
    }
    note_ends(s, &batch);
    const char *who  = "calibrator";
    int         code = s->calibrator ? decode_calibrator(s, &batch) : 0;
    if (code == 0) {
        who  = "target";
        code = llama_decode(s->target, batch);
        if ((s->fusing || s->tap[0]) && code == 0) {
            llama_synchronize(s->target);
        }
    }
    if (code == 0 && s->failed == SOOTHE_OK && s->fusing && s->i_row_tgt != s->n_rows) {
        fail_in_callback(s, SOOTHE_E_UNSUPPORTED, "the target's architecture shows no node result_norm to fuse at");
    }
    if (code == 0 && s->failed == SOOTHE_OK && s->tap[0] && s->i_row_tap != s->n_rows) {
        fail_in_callback(s, SOOTHE_E_UNSUPPORTED, "the target's architecture shows no such state to listen to");
    }
    if (code != 0 || s->failed != SOOTHE_OK) {
        forget_batch(s, &batch);
        return engine_error(code, who, s, err);
    }
    return SOOTHE_OK;
}

/* ---- both memories in step -------------------------------------------------------------------------------- */

bool soothe_seq_rm(struct soothe_session *s, llama_seq_id seq_id, llama_pos p0, llama_pos p1) {
    const bool target = llama_memory_seq_rm(llama_get_memory(s->target), seq_id, p0, p1);
    const bool ours   = !s->calibrator || llama_memory_seq_rm(llama_get_memory(s->calibrator), seq_id, p0, p1);
    return target && ours;
}

void soothe_seq_cp(struct soothe_session *s, llama_seq_id from, llama_seq_id to, llama_pos p0, llama_pos p1) {
    llama_memory_seq_cp(llama_get_memory(s->target), from, to, p0, p1);
    if (s->calibrator) {
        llama_memory_seq_cp(llama_get_memory(s->calibrator), from, to, p0, p1);
    }
}

void soothe_seq_keep(struct soothe_session *s, llama_seq_id seq_id) {
    llama_memory_seq_keep(llama_get_memory(s->target), seq_id);
    if (s->calibrator) {
        llama_memory_seq_keep(llama_get_memory(s->calibrator), seq_id);
    }
}

void soothe_clear(struct soothe_session *s) {
    llama_memory_clear(llama_get_memory(s->target), true);
    if (s->calibrator) {
        llama_memory_clear(llama_get_memory(s->calibrator), true);
    }
}

/* ---- looking inside ------------------------------------------------------------------------------------------ */

void soothe_session_capture(struct soothe_session *s, bool on) {
    s->capture = on;
    if (!on) {
        s->h_t.n = s->h_f.n = 0;
    }
}

const float *soothe_session_states(const struct soothe_session *s, enum soothe_state which, int32_t *n_rows,
                                   int32_t *d) {
    const struct rows *r = which == SOOTHE_STATE_TARGET ? &s->h_t : which == SOOTHE_STATE_FUSED ? &s->h_f : &s->h_c;
    const bool         available = s->capture && r->n > 0 && r->data;
    if (n_rows) {
        *n_rows = available ? r->n : 0;
    }
    if (d) {
        *d = available ? r->d : 0;
    }
    return available ? r->data : NULL;
}

enum soothe_status soothe__session_tap(struct soothe_session *s, const char *node, struct soothe_error *err) {
    if (node && strlen(node) >= sizeof s->tap) {
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "no node of the engine is called \"%.80s\"", node);
    }
    if (!s->outputs && !(s->outputs = soothe__calloc(s->n_batch, sizeof *s->outputs))) {
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory listening to %s", node ? node : "nothing");
    }
    snprintf(s->tap, sizeof s->tap, "%s", node ? node : "");
    s->tapped.n = 0;
    return SOOTHE_OK;
}

const float *soothe__session_tapped(const struct soothe_session *s, int32_t i) {
    return s->tap[0] && i >= 0 && i < s->i_row_tap && i < s->tapped.n ? row_at(&s->tapped, i) : NULL;
}
