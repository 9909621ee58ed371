/* SPDX-License-Identifier: Apache-2.0
 * soothe_decode. The engine calls back between two parts of the target's graph: the final state is read and
 * overwritten at `result_norm`, so that the target's own head runs once, on the changed state. */
#include <string.h>

#include "fusion/session.h"

static bool fail_in_callback(struct soothe_session *s, enum soothe_status status, const char *what) {
    s->failed  = status;
    s->failure = what;
    return false; /* stops the graph */
}

/* ---- between two parts of the graph -------------------------------------------------------------------- */

static bool row_is_finite(const float *x, int32_t n) {
    float sum = 0; /* x - x is 0 for a finite x, NaN otherwise */
    for (int32_t i = 0; i < n; i++)
        sum += x[i] - x[i];
    return sum == 0.0f;
}

/* Row i of the step, through the gates and the stages. */
static bool change_row(struct soothe_session *s, struct ggml_tensor *t, int64_t i_in_tensor, int32_t i) {
    const size_t size = (size_t)s->d * sizeof(float), at = (size_t)i_in_tensor * size;
    if (s->row_dose[i] == 0.0f && !s->capture)
        return true;
    ggml_backend_tensor_get(t, s->row, at, size);
    if (s->capture)
        memcpy(soothe__row_at(&s->h_t, i), s->row, size);
    for (size_t k = 0; k < s->n_stages; k++)
        if (s->stages[k].gate)
            s->row_dose[i] *= s->stages[k].gate(s->stages[k].self, &s->step, i, s->row);
    bool changed = false;
    for (size_t k = 0; k < s->n_stages && s->row_dose[i] != 0.0f; k++)
        if (s->stages[k].state)
            changed = s->stages[k].state(s->stages[k].self, &s->step, i, s->row, s->scratch) || changed;
    if (changed && !row_is_finite(s->row, s->d))
        return fail_in_callback(s, SOOTHE_E_NUMERIC, "the fused state is not finite: damaged weights?");
    if (changed)
        ggml_backend_tensor_set(t, s->row, at, size);
    if (s->capture)
        memcpy(soothe__row_at(&s->h_f, i), s->row, size);
    return true;
}

/* A node holds the rows of all tokens of a piece of the batch, or, from the last block on, of its outputs alone. */
static bool read_tap(struct soothe_session *s, struct soothe__tap *tap, const struct ggml_tensor *t) {
    const int32_t left    = s->pass.n_tokens - tap->i_token;
    const int32_t n_piece = left < (int32_t)s->n_ubatch ? left : (int32_t)s->n_ubatch;
    int32_t       n_out   = 0;
    for (int32_t i = 0; i < n_piece; i++)
        n_out += s->pass_outputs[tap->i_token + i];
    if (t->ne[0] != s->d || t->type != GGML_TYPE_F32 || (t->ne[1] != n_piece && t->ne[1] != n_out))
        return fail_in_callback(s, SOOTHE_E_UNSUPPORTED, "the state that is listened to has an unexpected shape");
    const bool all = t->ne[1] == n_piece;
    for (int32_t i = 0, row = 0; i < n_piece; i++) {
        if (!s->pass_outputs[tap->i_token + i]) {
            row += all;
            continue;
        }
        ggml_backend_tensor_get(t, soothe__row_at(&tap->rows, tap->i_row++), (size_t)row++ * t->nb[1],
                                (size_t)s->d * sizeof(float));
    }
    tap->i_token += n_piece;
    return true;
}

static bool is_tapped(const struct soothe_session *s, const struct soothe__tap *tap, const struct ggml_tensor *t) {
    return tap->node[0] && s->n_pass_rows > 0 && strcmp(t->name, tap->node) == 0;
}

bool soothe__session_on_node(struct ggml_tensor *t, bool ask, void *user) {
    struct soothe_session *s = user;
    if (s->branching)
        return soothe__branches_on_node(s, t, ask);
    const bool to_change = s->fusing && strcmp(t->name, "result_norm") == 0;
    bool       wanted    = to_change;
    for (size_t k = 0; k < SOOTHE__LISTENERS; k++)
        wanted = wanted || is_tapped(s, &s->taps[k], t);
    if (ask || !wanted)
        return ask ? wanted : true;
    for (size_t k = 0; k < SOOTHE__LISTENERS; k++)
        if (is_tapped(s, &s->taps[k], t) && !read_tap(s, &s->taps[k], t))
            return false;
    if (!to_change)
        return true;
    const int64_t n = t->ne[1];
    if (t->ne[0] != s->d || t->type != GGML_TYPE_F32 || s->i_row + n > s->step.n_rows)
        return fail_in_callback(s, SOOTHE_E_UNSUPPORTED, "the target's final state has an unexpected shape");
    for (int64_t i = 0; i < n; i++)
        if (!change_row(s, t, i, s->i_row + (int32_t)i))
            return false;
    s->i_row += (int32_t)n;
    return true;
}

/* ---- the batch ------------------------------------------------------------------------------------------- */

/* The sequences of token i, as many as n_ids says. */
static const llama_seq_id *sequences_of(const struct llama_batch *b, int32_t i, int32_t *n_ids) {
    static const llama_seq_id FIRST = 0;
    const bool                named = b->seq_id && b->n_seq_id;
    *n_ids                          = named ? b->n_seq_id[i] : 1;
    return named ? b->seq_id[i] : &FIRST;
}

static llama_seq_id sequence_of(const struct llama_batch *b, int32_t i) {
    int32_t n_ids;
    return sequences_of(b, i, &n_ids)[0];
}

bool soothe__session_is_output(const struct soothe_session *s, const struct llama_batch *b, int32_t i) {
    if (b->logits)
        return b->logits[i] != 0;
    return i == b->n_tokens - 1 || s->embeddings;
}

static enum soothe_status check_token(const struct soothe_session *s, const struct llama_batch *b, int32_t i,
                                      int32_t n_vocab, struct soothe_error *err) {
    if (b->token && (b->token[i] < 0 || b->token[i] >= n_vocab))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "token %d at %d of the batch: ids 0 to %d exist", b->token[i], i,
                            n_vocab - 1);
    if (!b->seq_id != !b->n_seq_id || (b->seq_id && b->n_seq_id[i] < 1))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "token %d of the batch belongs to no sequence", i);
    const int32_t n_ids = b->seq_id ? b->n_seq_id[i] : 0;
    for (int32_t k = 0; k < n_ids; k++)
        if (b->seq_id[i][k] < 0 || b->seq_id[i][k] >= (llama_seq_id)s->n_seq)
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "sequence %d at %d of the batch: 0 to %u exist",
                                b->seq_id[i][k], i, s->n_seq - 1);
    if (s->one_sequence_per_batch && s->n_stages && sequence_of(b, i) != sequence_of(b, 0))
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "recurrent and hybrid targets take one sequence a batch under fusion: the engine "
                            "reorders the rows of mixed ones");
    return SOOTHE_OK;
}

static enum soothe_status check_batch(const struct soothe_session *s, const struct llama_batch *b,
                                      struct soothe_error *err) {
    if (b->n_tokens <= 0 || (uint32_t)b->n_tokens > s->n_batch)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a batch of %d tokens: 1 to n_batch = %u are possible", b->n_tokens,
                            s->n_batch);
    const int32_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(s->target)));
    for (int32_t i = 0; i < b->n_tokens; i++) {
        const enum soothe_status status = check_token(s, b, i, n_vocab, err);
        if (status)
            return status;
    }
    return SOOTHE_OK;
}

static bool acts_on_states(const struct soothe_session *s) {
    bool any = false;
    for (size_t k = 0; k < s->n_stages; k++)
        any = any || s->stages[k].state || s->stages[k].gate;
    return any;
}

/* Notes place, sequence and dose of each output row and makes room for its states. */
static enum soothe_status begin_rows(struct soothe_session *s, const struct llama_batch *b, struct soothe_error *err) {
    bool    any = false;
    int32_t n   = 0;
    s->failed   = SOOTHE_OK;
    s->i_row    = 0;
    for (int32_t i = 0; i < b->n_tokens; i++) {
        s->outputs[i]   = soothe__session_is_output(s, b, i);
        s->token_row[i] = s->outputs[i] ? n : -1;
        if (!s->outputs[i])
            continue;
        s->row_token[n] = i;
        s->row_seq[n]   = sequence_of(b, i);
        s->row_dose[n]  = s->dose[s->row_seq[n]];
        any             = any || s->row_dose[n] != 0.0f;
        n++;
    }
    s->n_tokens     = b->n_tokens;
    s->pass         = *b;
    s->pass_outputs = s->outputs;
    s->n_pass_rows  = n;
    s->z_saved      = false;
    s->step         = (struct soothe__step){s, b, n, s->row_token, s->row_seq, s->row_dose};
    s->fusing       = n > 0 && (s->capture || (any && acts_on_states(s)));
    bool room       = !s->capture || (soothe__rows_begin(&s->h_t, n, s->d) && soothe__rows_begin(&s->h_f, n, s->d));
    for (size_t k = 0; k < SOOTHE__LISTENERS; k++) {
        s->taps[k].i_token = s->taps[k].i_row = 0;
        if (s->taps[k].node[0])
            room = room && soothe__rows_begin(&s->taps[k].rows, n, s->d);
    }
    return room ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d states", n);
}

/* Notes where the sequences of the batch end before it. */
static void note_ends(struct soothe_session *s, const struct llama_batch *b) {
    int32_t n_ids;
    for (int32_t i = 0; i < b->n_tokens; i++) {
        const llama_seq_id *ids = sequences_of(b, i, &n_ids);
        for (int32_t k = 0; k < n_ids; k++)
            s->end[ids[k]] = llama_memory_seq_pos_max(llama_get_memory(s->target), ids[k]);
    }
}

/* Not by the batch's own positions: they may be what is wrong with it. */
static void forget_batch(struct soothe_session *s, const struct llama_batch *b) {
    int32_t n_ids;
    for (int32_t i = 0; i < b->n_tokens; i++) {
        const llama_seq_id *ids = sequences_of(b, i, &n_ids);
        for (int32_t k = 0; k < n_ids; k++)
            soothe_seq_rm(s, ids[k], s->end[ids[k]] + 1, -1);
    }
}

/* ---- decode ---------------------------------------------------------------------------------------------- */

const char *soothe__decode_failure(int code) {
    return code == 1   ? "no room in the KV cache; a larger context is needed"
           : code == 2 ? "aborted"
                       : "the engine failed";
}

static enum soothe_status decode_target(struct soothe_session *s, struct soothe_error *err) {
    bool      listening = false;
    const int code      = s->pass.n_tokens > 0 ? llama_decode(s->target, s->pass) : 0;
    for (size_t k = 0; k < SOOTHE__LISTENERS; k++)
        listening = listening || s->taps[k].node[0];
    if ((s->fusing || listening) && code == 0)
        llama_synchronize(s->target);
    if (code == 0 && !s->failed && s->fusing && s->i_row != s->step.n_rows)
        fail_in_callback(s, SOOTHE_E_UNSUPPORTED, "the target's architecture shows no node result_norm to fuse at");
    for (size_t k = 0; k < SOOTHE__LISTENERS && code == 0 && !s->failed; k++)
        if (s->taps[k].node[0] && s->taps[k].i_row != s->n_pass_rows)
            fail_in_callback(s, SOOTHE_E_UNSUPPORTED, "the target's architecture shows no such state to listen to");
    if (s->failed)
        return soothe__fail(err, s->failed, "%s", s->failure);
    return code == 0 ? SOOTHE_OK
                     : soothe__fail(err, SOOTHE_E_ENGINE, "the target could not decode the batch: %s (code %d)",
                                    soothe__decode_failure(code), code);
}

enum soothe_status soothe_decode(struct soothe_session *s, struct llama_batch batch, struct soothe_error *err) {
    enum soothe_status status = check_batch(s, &batch, err);
    if (!status)
        status = begin_rows(s, &batch, err);
    if (status)
        return status;
    note_ends(s, &batch);
    for (size_t k = 0; k < s->n_stages && !status; k++)
        if (s->stages[k].before)
            status = s->stages[k].before(s->stages[k].self, &s->step, err);
    if (!status)
        status = soothe__branches_claim(s, &batch, err);
    if (!status)
        status = decode_target(s, err);
    if (!status)
        status = soothe__branches_join(s, err);
    for (size_t k = 0; k < s->n_stages && !status; k++)
        if (s->stages[k].logits && s->step.n_rows > 0)
            status = s->stages[k].logits(s->stages[k].self, &s->step, err);
    if (status)
        forget_batch(s, &batch);
    return status;
}
