/* SPDX-License-Identifier: Apache-2.0
 * A follower: a session of its own on a helper's model, which decodes whatever the mixer's session decodes.
 *
 * Behind K prefixes every sequence s of the session is K sequences here, s K to s K + K - 1, all in one batch, so that
 * the weights are read once. A prefix is decoded once, into a sequence of its own, and copied to a sequence when that
 * gets its first token; positions are shifted by its length. */
#include <stdlib.h>
#include <string.h>

#include "engine/batch.h"
#include "engine/text_tokens.h"
#include "methods/mixer.h"

struct prefix {
    llama_token *tokens;
    int32_t      n;
};

struct soothe__follower {
    struct soothe_session *leader, *session;
    llama_memory_t         memory;
    struct prefix          prefixes[SOOTHE__PREFIXES_MAX];
    int32_t                k;       /* rows per output row */
    int32_t                n_slots; /* sequences of the leader that can be followed */
    bool                   prefixed, ready;
    int32_t                n_batch, n_vocab;
    struct llama_batch     batch;
    float                 *rows; /* (n_rows, k, V) */
    size_t                 capacity;
    int32_t               *pending; /* (n_batch) the rows that the batch's outputs belong to */
    int32_t                n_pending;
};

enum { OUTPUTS_MAX = 64 }; /* of a piece: the engine keeps V logits of each */

static llama_seq_id sequence_of(const struct soothe__follower *f, llama_seq_id slot, int32_t k) {
    return slot * f->k + k;
}

static llama_seq_id prefix_sequence(const struct soothe__follower *f, int32_t k) {
    return sequence_of(f, f->n_slots, k);
}

/* ---- making one ------------------------------------------------------------------------------------------ */

static enum soothe_status read_prefixes(struct soothe__follower *f, const struct soothe__helper *h, int32_t *n_tokens,
                                        struct soothe_error *err) {
    const struct llama_vocab *vocab  = llama_model_get_vocab(h->model);
    enum soothe_status        status = SOOTHE_OK;
    for (int32_t k = 0; k < h->n_prefixes && !status; k++) {
        struct prefix *p = &f->prefixes[k];
        status           = soothe__tokenize(&p->tokens, &p->n, vocab, h->prefixes[k], strlen(h->prefixes[k]),
                                            SOOTHE__TOKENIZE_START, err);
        *n_tokens += p->n;
    }
    f->k        = h->n_prefixes > 0 ? h->n_prefixes : 1;
    f->prefixed = *n_tokens > 0;
    if (!status && f->prefixed && (llama_model_is_recurrent(h->model) || llama_model_is_hybrid(h->model)))
        status = soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                              "a recurrent or hybrid model cannot read several prefixes in one batch");
    return status;
}

static enum soothe_status make_session(struct soothe__follower *f, const struct soothe__helper *h,
                                       const struct llama_context_params *context, int32_t n_prefix_tokens,
                                       struct soothe_error *err) {
    struct llama_context        *leader = soothe_session_context(f->leader);
    struct soothe_session_params p      = soothe_session_params_default();
    p.context                           = *context;
    p.context.n_ubatch                  = llama_n_ubatch(leader);
    p.context.n_threads                 = llama_n_threads(leader);
    p.context.n_threads_batch           = llama_n_threads_batch(leader);
    p.context.cb_eval                   = NULL;
    p.context.cb_eval_user_data         = NULL;
    p.context.embeddings                = false;
    p.context.samplers                  = NULL;
    p.context.n_samplers                = 0;
    p.strength                          = h->strength;
    f->n_slots                          = (int32_t)llama_n_seq_max(leader);
    p.context.n_seq_max                 = (uint32_t)((f->n_slots + f->prefixed) * f->k);
    /* The engine wants room for an output of every sequence in a batch, and for a batch in the context. */
    const uint32_t n_ctx = llama_n_ctx(leader) * (uint32_t)f->k + (uint32_t)n_prefix_tokens;
    const uint32_t n_seq = p.context.n_seq_max, n_batch = llama_n_batch(leader);
    p.context.n_batch         = n_batch > n_seq ? n_batch : n_seq;
    p.context.n_ctx           = n_ctx > n_seq ? n_ctx : n_seq;
    enum soothe_status status = soothe_session_new(&f->session, (struct llama_model *)h->model, h->calibrator, &p, err);
    if (status)
        return status;
    struct llama_context      *ctx   = soothe_session_context(f->session);
    float                      scale = h->strength;
    struct llama_adapter_lora *lora  = h->lora;
    if (lora && llama_set_adapters_lora(ctx, &lora, 1, &scale) != 0)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine refuses the LoRA");
    f->memory  = llama_get_memory(ctx);
    f->n_batch = (int32_t)llama_n_batch(ctx);
    f->n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(h->model));
    if (f->n_batch < f->k)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a batch of %d tokens is too small for %d prefixes", f->n_batch,
                            f->k);
    return SOOTHE_OK;
}

static void follower_free(struct soothe__follower *f) {
    if (!f)
        return;
    soothe_session_free(f->session);
    for (int32_t k = 0; k < SOOTHE__PREFIXES_MAX; k++)
        free(f->prefixes[k].tokens);
    if (f->batch.token)
        llama_batch_free(f->batch);
    free(f->pending);
    free(f->rows);
    free(f);
}

static enum soothe_status follower_new(struct soothe__follower **out, const struct soothe__helper *helper,
                                       struct soothe_session *session, const struct llama_context_params *context,
                                       struct soothe_error *err) {
    struct soothe__follower *f        = soothe__calloc(1, sizeof *f);
    int32_t                  n_tokens = 0;
    *out                              = NULL;
    if (!f)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory making a follower");
    f->leader                 = session;
    enum soothe_status status = read_prefixes(f, helper, &n_tokens, err);
    if (!status)
        status = make_session(f, helper, context, n_tokens, err);
    if (!status) {
        f->batch   = llama_batch_init(f->n_batch, 0, (int32_t)llama_max_parallel_sequences());
        f->pending = soothe__calloc((size_t)f->n_batch, sizeof *f->pending);
        if (!f->pending)
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory making a follower");
    }
    if (status)
        follower_free(f);
    else
        *out = f;
    return status;
}

enum soothe_status soothe__followers_add(struct soothe__follower **followers, size_t *n,
                                         const struct soothe__helper *helper, struct soothe_session *session,
                                         const struct llama_context_params *context, struct soothe_error *err) {
    const int32_t most      = (int32_t)llama_max_parallel_sequences();
    const int32_t n_seq     = (int32_t)llama_n_seq_max(soothe_session_context(session)) + 1; /* one for the prefix */
    const int32_t at_a_time = n_seq < most ? most / n_seq : 1;
    int32_t       from      = 0;
    do {
        struct soothe__helper part = *helper;
        part.n_prefixes            = helper->n_prefixes - from < at_a_time ? helper->n_prefixes - from : at_a_time;
        memcpy(part.prefixes, helper->prefixes + from, (size_t)part.n_prefixes * sizeof *part.prefixes);
        if (*n == SOOTHE__FOLLOWERS_MAX)
            return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "more than %d helpers' contexts for one method",
                                SOOTHE__FOLLOWERS_MAX);
        const enum soothe_status status = follower_new(&followers[*n], &part, session, context, err);
        if (status)
            return status;
        ++*n;
        from += part.n_prefixes;
    } while (from < helper->n_prefixes);
    return SOOTHE_OK;
}

void soothe__followers_free(struct soothe__follower *const *followers, size_t n) {
    for (size_t i = 0; i < n; i++)
        follower_free(followers[i]);
}

int32_t soothe__follower_n_rows(const struct soothe__follower *f) {
    return f->k;
}

/* ---- at a decode ----------------------------------------------------------------------------------------- */

/* Decodes what is in the batch and takes its rows out. */
static enum soothe_status flush(struct soothe__follower *f, bool positions, struct soothe_error *err) {
    struct llama_batch  b = f->batch;
    struct soothe_error why;
    if (b.n_tokens == 0)
        return SOOTHE_OK;
    if (!positions)
        b.pos = NULL;
    f->batch.n_tokens = 0;
    if (soothe_decode(f->session, b, &why))
        return soothe__fail(err, why.status, "a helper of the mixer: %.900s", why.message);
    for (int32_t i = 0, n = 0; i < b.n_tokens; i++) {
        if (!b.logits[i])
            continue;
        const float *z = soothe_get_logits_ith(f->session, i);
        if (!z)
            return soothe__fail(err, SOOTHE_E_ENGINE, "a helper of the mixer gave no logits");
        memcpy(f->rows + (size_t)f->pending[n++] * (size_t)f->n_vocab, z, (size_t)f->n_vocab * sizeof *z);
    }
    f->n_pending = 0;
    return SOOTHE_OK;
}

static enum soothe_status decode_prefixes(struct soothe__follower *f, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (int32_t k = 0; k < f->k && !status; k++) {
        soothe_seq_rm(f->session, prefix_sequence(f, k), -1, -1);
        for (int32_t i = 0; i < f->prefixes[k].n && !status; i++) {
            if (f->batch.n_tokens == f->n_batch)
                status = flush(f, true, err);
            soothe__batch_add(&f->batch, f->prefixes[k].tokens[i], i, prefix_sequence(f, k), false);
        }
    }
    if (!status)
        status = flush(f, true, err);
    f->ready = !status;
    return status;
}

/* A sequence that gets its first token gets its prefix too. */
static void begin_sequence(struct soothe__follower *f, llama_seq_id slot, int32_t k) {
    const llama_seq_id to = sequence_of(f, slot, k);
    if (f->prefixed && llama_memory_seq_pos_max(f->memory, to) < 0)
        soothe_seq_cp(f->session, prefix_sequence(f, k), to, -1, -1);
}

/* Token i of the leader's batch, for prefix k; row: where its logits are wanted, or -1. */
static enum soothe_status add_token(struct soothe__follower *f, const struct llama_batch *b, int32_t i, int32_t k,
                                    int32_t row, struct soothe_error *err) {
    static const llama_seq_id FIRST = 0;
    const bool                named = b->seq_id && b->n_seq_id;
    const llama_seq_id       *ids   = named ? b->seq_id[i] : &FIRST;
    const int32_t             n_ids = named ? b->n_seq_id[i] : 1, at = f->batch.n_tokens;
    for (int32_t s = 0; s < n_ids; s++) {
        if (ids[s] >= f->n_slots)
            return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                                "sequence %d: the helpers of this method follow sequences 0 to %d", ids[s],
                                f->n_slots - 1);
        begin_sequence(f, ids[s], k);
        f->batch.seq_id[at][s] = sequence_of(f, ids[s], k);
    }
    f->batch.n_seq_id[at] = n_ids;
    f->batch.token[at]    = b->token[i];
    f->batch.pos[at]      = b->pos ? b->pos[i] + f->prefixes[k].n : 0;
    f->batch.logits[at]   = row >= 0;
    if (row >= 0)
        f->pending[f->n_pending++] = row * f->k + k;
    f->batch.n_tokens++;
    return SOOTHE_OK;
}

static enum soothe_status make_room(struct soothe__follower *f, int32_t n_rows, struct soothe_error *err) {
    const size_t need = (size_t)n_rows * (size_t)f->k * (size_t)f->n_vocab;
    if (need <= f->capacity)
        return SOOTHE_OK;
    float *rows = soothe__realloc(f->rows, need, sizeof *rows);
    if (!rows)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d rows of logits of a helper", n_rows * f->k);
    f->rows     = rows;
    f->capacity = need;
    return SOOTHE_OK;
}

enum soothe_status soothe__follower_decode(struct soothe__follower *f, const struct soothe__step *step,
                                           struct soothe_error *err) {
    const struct llama_batch *b = step->batch;
    if (!b->token)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "a batch of embeddings: helpers can follow tokens only");
    f->batch.n_tokens         = 0;
    f->n_pending              = 0;
    enum soothe_status status = make_room(f, step->n_rows, err);
    if (!status && f->prefixed && !f->ready)
        status = decode_prefixes(f, err);
    for (int32_t i = 0, i_row = 0; i < b->n_tokens && !status; i++) {
        const bool    output = i_row < step->n_rows && step->row_token[i_row] == i;
        const int32_t row    = output && step->row_dose[i_row] != 0.0f ? i_row : -1;
        i_row += output;
        if (f->batch.n_tokens + f->k > f->n_batch || (f->n_pending > 0 && f->n_pending + f->k > OUTPUTS_MAX))
            status = flush(f, b->pos != NULL, err);
        for (int32_t k = 0; k < f->k && !status; k++)
            status = add_token(f, b, i, k, row, err);
    }
    return status ? status : flush(f, b->pos != NULL, err);
}

const float *soothe__follower_row(const struct soothe__follower *f, int32_t i_row, int32_t k) {
    return f->rows + ((size_t)i_row * (size_t)f->k + (size_t)k) * (size_t)f->n_vocab;
}

/* ---- memories in step -------------------------------------------------------------------------------------- */

static bool remove_range(struct soothe__follower *f, llama_seq_id slot, llama_pos p0, llama_pos p1) {
    bool done = true;
    for (int32_t k = 0; k < f->k; k++) {
        const llama_pos shift = f->prefixes[k].n;
        const bool      whole = p0 <= 0 && p1 < 0; /* its prefix too: it is as new */
        done = soothe_seq_rm(f->session, sequence_of(f, slot, k), whole ? -1 : (p0 < 0 ? 0 : p0) + shift,
                             p1 < 0 ? -1 : p1 + shift) &&
               done;
    }
    return done;
}

static void copy_range(struct soothe__follower *f, llama_seq_id from, llama_seq_id to, llama_pos p0, llama_pos p1) {
    for (int32_t k = 0; k < f->k; k++) {
        const llama_pos shift = f->prefixes[k].n;
        if (f->ready && llama_memory_seq_pos_max(f->memory, sequence_of(f, from, k)) >= 0)
            begin_sequence(f, to, k);
        soothe_seq_cp(f->session, sequence_of(f, from, k), sequence_of(f, to, k), (p0 < 0 ? 0 : p0) + shift,
                      p1 < 0 ? -1 : p1 + shift);
    }
}

static bool remove_all_but(struct soothe__follower *f, llama_seq_id kept) {
    bool done = true;
    for (llama_seq_id slot = 0; slot < f->n_slots; slot++)
        if (slot != kept && llama_memory_seq_pos_max(f->memory, sequence_of(f, slot, 0)) >= 0)
            done = remove_range(f, slot, -1, -1) && done;
    return done;
}

bool soothe__follower_memory(struct soothe__follower *f, const struct soothe__memory_change *c) {
    if (c->seq >= f->n_slots || (c->op == SOOTHE__MEMORY_CP && c->to >= f->n_slots))
        return true; /* never followed: the decode said so */
    bool done = true;
    switch (c->op) {
    case SOOTHE__MEMORY_RM:
        for (llama_seq_id slot = 0; c->seq < 0 && slot < f->n_slots; slot++)
            done = remove_range(f, slot, c->p0, c->p1) && done;
        return c->seq < 0 ? done : remove_range(f, c->seq, c->p0, c->p1);
    case SOOTHE__MEMORY_CP:
        if (c->seq != c->to)
            copy_range(f, c->seq, c->to, c->p0, c->p1);
        return true;
    case SOOTHE__MEMORY_KEEP:
        return remove_all_but(f, c->seq);
    case SOOTHE__MEMORY_CLEAR:
        return remove_all_but(f, -1);
    }
    return false;
}
