/* SPDX-License-Identifier: Apache-2.0
 * Branches of the rows of a decode, in spare sequences of the target's unified cache: the highest ids, whose cells are
 * shared by metadata alone. Legend: V vocabulary, d width of the state. */
#include "fusion/branch.h"

#include <stdlib.h>
#include <string.h>

#include "engine/batch.h"
#include "fusion/session.h"

enum {
    PIECE_MAX  = 128,     /* branches at once: the engine keeps V logits for each       */
    KEPT_BYTES = 64 << 20 /* of logits of branches that wait for the next decode       */
};

/* A spare sequence; kept ones wait for their token. */
struct spare {
    bool         used, kept;
    llama_seq_id seq; /* kept for this sequence, … */
    llama_pos    pos; /* … its token at this position */
    llama_token  token;
    float       *z;     /* (V) allocated when first kept */
    float       *state; /* (d) the same */
};

struct soothe__branches {
    struct soothe__branch_plan plan;
    llama_seq_id               first; /* ids first … first + plan.n_spares - 1 */
    int32_t                    n_most, n_vocab, n_keepable;
    struct spare              *spares;
    struct llama_batch         batch; /* of a piece */
    struct soothe__rows        states;
    int32_t                    i_state; /* how far the decode of branches has come */
    int32_t                    n_piece; /* branches of that decode */
    const char                *failure;

    /* the pass: what of the batch is not taken over */
    llama_token        *token; /* (n_batch) each */
    llama_pos          *pos;
    int32_t            *n_seq_id;
    llama_seq_id      **seq_id;
    int8_t             *outputs;
    int32_t            *claims;  /* (n_batch) spare of each token, or -1 */
    int32_t            *source;  /* (n_batch) of each row: its place among the pass's rows, or -1 - place in claimed */
    struct soothe__rows claimed; /* states of rows taken over */
    bool                any;     /* something is taken over */
};

/* ---- making ------------------------------------------------------------------------------------------------- */

int32_t soothe__branch_context(struct llama_context_params *context, const struct llama_model *model, int32_t k) {
    const uint32_t n_texts = context->n_seq_max > 0 ? context->n_seq_max : 1;
    const int64_t  n_free = (int64_t)llama_max_parallel_sequences() - n_texts, wanted = (int64_t)n_texts * k;
    const int32_t  n = (int32_t)(wanted < n_free ? wanted : n_free > 0 ? n_free : 0);
    if (context->n_ctx == 0)
        context->n_ctx = (uint32_t)llama_model_n_ctx_train(model);
    context->kv_unified = true;
    context->n_seq_max  = n_texts + (uint32_t)n; /* the engine refuses ids from there up */
    context->n_ctx += (uint32_t)n;
    return n;
}

void soothe__branches_free(struct soothe__branches *b) {
    if (!b)
        return;
    for (int32_t i = 0; b->spares && i < b->plan.n_spares; i++) {
        free(b->spares[i].z);
        free(b->spares[i].state);
    }
    free(b->spares);
    if (b->batch.token)
        llama_batch_free(b->batch);
    free(b->states.data);
    free(b->claimed.data);
    free(b->token);
    free(b->pos);
    free(b->n_seq_id);
    free(b->seq_id);
    free(b->outputs);
    free(b->claims);
    free(b->source);
    free(b);
}

static bool allocate(struct soothe__branches *b, const struct soothe_session *s) {
    b->spares   = soothe__calloc((size_t)b->plan.n_spares + 1, sizeof *b->spares);
    b->token    = soothe__calloc(s->n_batch, sizeof *b->token);
    b->pos      = soothe__calloc(s->n_batch, sizeof *b->pos);
    b->n_seq_id = soothe__calloc(s->n_batch, sizeof *b->n_seq_id);
    b->seq_id   = soothe__calloc(s->n_batch, sizeof *b->seq_id);
    b->outputs  = soothe__calloc(s->n_batch, sizeof *b->outputs);
    b->claims   = soothe__calloc(s->n_batch, sizeof *b->claims);
    b->source   = soothe__calloc(s->n_batch, sizeof *b->source);
    b->batch    = llama_batch_init(PIECE_MAX, 0, 1);
    return b->spares && b->token && b->pos && b->n_seq_id && b->seq_id && b->outputs && b->claims && b->source &&
           b->batch.token;
}

enum soothe_status soothe__branch_enable(struct soothe_session *s, const struct soothe__branch_plan *plan,
                                         struct soothe_error *err) {
    if (s->branches)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "two methods of the chain judge candidates by branches: one can");
    if (s->one_sequence_per_batch)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "the target's memory is recurrent: candidates cannot be branched from a shared prefix");
    if ((plan->n_spares > 0 && !s->context.kv_unified) || plan->n_spares < 0 || (uint32_t)plan->n_spares >= s->n_seq)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "the context was made without sequences for %d branches",
                            plan->n_spares);
    struct soothe__branches *b = s->branches = soothe__calloc(1, sizeof *b);
    if (!b)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for branches");
    b->plan  = *plan;
    b->first = (llama_seq_id)s->n_seq - plan->n_spares;
    s->n_seq -= (uint32_t)plan->n_spares;
    b->n_most         = (int32_t)(s->n_ubatch < s->n_batch ? s->n_ubatch : s->n_batch);
    b->n_most         = b->n_most < PIECE_MAX ? b->n_most : PIECE_MAX;
    b->n_vocab        = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(s->target)));
    b->n_keepable     = b->n_vocab > 0 ? (int32_t)(KEPT_BYTES / sizeof(float)) / b->n_vocab : 0;
    s->n_branch_cells = plan->n_spares;
    if (!allocate(b, s))
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for branches");
    return plan->read_rows ? soothe__session_tap(s, SOOTHE__LISTENER_BRANCHES, plan->node, err) : SOOTHE_OK;
}

/* ---- spares ------------------------------------------------------------------------------------------------- */

static void let_go(struct soothe_session *s, struct spare *p) {
    if (p->used)
        llama_memory_seq_rm(llama_get_memory(s->target), (llama_seq_id)(p - s->branches->spares) + s->branches->first,
                            -1, -1);
    p->used = p->kept = false;
}

/* Those kept for a sequence, or all with seq < 0. */
static void drop_kept(struct soothe_session *s, llama_seq_id seq) {
    for (int32_t i = 0; i < s->branches->plan.n_spares; i++)
        if (s->branches->spares[i].kept && (seq < 0 || s->branches->spares[i].seq == seq))
            let_go(s, &s->branches->spares[i]);
}

void soothe__branches_change(struct soothe_session *s, const struct soothe__memory_change *c) {
    if (s->branches)
        drop_kept(s, c->op == SOOTHE__MEMORY_RM ? c->seq : c->op == SOOTHE__MEMORY_CP ? c->to : -1);
}

int32_t soothe__branch_n_free(struct soothe_session *s, bool forget) {
    int32_t n = 0;
    if (forget)
        drop_kept(s, -1);
    for (int32_t i = 0; i < s->branches->plan.n_spares; i++)
        n += !s->branches->spares[i].used;
    return n;
}

int32_t soothe__branch_room(struct soothe_session *s) {
    const int32_t n = soothe__branch_n_free(s, false);
    return n < s->branches->n_most ? n : s->branches->n_most;
}

/* Whether the logits of a branch are what a decode of its token would give. */
static bool reusable(const struct soothe_session *s) {
    bool plain = !s->capture && !s->branches->plan.states_only && !s->taps[SOOTHE__LISTENER_CALLER].node[0] &&
                 !s->taps[SOOTHE__LISTENER_GATE].node[0];
    for (size_t k = 0; k < s->n_stages; k++)
        plain = plain && !s->stages[k].state && !s->stages[k].gate;
    return plain;
}

int32_t soothe__branch_keepable(const struct soothe_session *s) {
    return reusable(s) ? s->branches->n_keepable : 0;
}

llama_pos soothe__step_position(const struct soothe__step *step, int32_t i_row) {
    const struct llama_batch *b   = step->batch;
    const int32_t             i   = step->row_token[i_row];
    llama_pos                 pos = step->session->end[step->row_seq[i_row]];
    if (b->pos)
        return b->pos[i];
    for (int32_t k = 0; k <= i; k++) /* the engine counts on by itself */
        pos += !b->seq_id || b->seq_id[k][0] == step->row_seq[i_row];
    return pos;
}

/* ---- decoding branches -------------------------------------------------------------------------------------- */

bool soothe__branches_on_node(struct soothe_session *s, struct ggml_tensor *t, bool ask) {
    struct soothe__branches *b = s->branches;
    if (strcmp(t->name, b->plan.node) != 0)
        return !ask;
    if (ask)
        return true;
    if (t->ne[0] != s->d || t->type != GGML_TYPE_F32 || t->ne[1] != b->n_piece) {
        b->failure = "the state of candidates has an unexpected shape";
        return false;
    }
    for (int32_t i = 0; i < b->n_piece; i++)
        ggml_backend_tensor_get(t, soothe__row_at(&b->states, b->i_state++), (size_t)i * t->nb[1],
                                (size_t)s->d * sizeof(float));
    return !b->plan.states_only;
}

/* Copies the rows' logits out of the engine, which forgets them at its next decode. */
static enum soothe_status save_rows(struct soothe_session *s, struct soothe_error *err) {
    if (s->z_saved)
        return SOOTHE_OK;
    if (!soothe__rows_begin(&s->z, s->step.n_rows, s->branches->n_vocab))
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the logits of %d tokens", s->step.n_rows);
    for (int32_t i = 0; i < s->step.n_rows; i++) {
        const float *z = llama_get_logits_ith(s->target, s->row_token[i]);
        if (!z)
            return soothe__fail(err, SOOTHE_E_ENGINE, "the engine gave no logits for a token of a batch");
        memcpy(soothe__row_at(&s->z, i), z, (size_t)s->branches->n_vocab * sizeof(float));
    }
    s->z_saved = true;
    return SOOTHE_OK;
}

/* Puts the branches into spare sequences and into a batch. */
static void plant(struct soothe_session *s, struct soothe__branch *branches, int32_t n) {
    struct soothe__branches *b = s->branches;
    b->batch.n_tokens          = 0;
    for (int32_t i = 0, k = 0; i < n; i++) {
        const llama_pos pos = soothe__step_position(&s->step, branches[i].i_row);
        while (b->spares[k].used)
            k++;
        b->spares[k].used = true;
        branches[i].spare = b->first + k;
        llama_memory_seq_cp(llama_get_memory(s->target), s->row_seq[branches[i].i_row], branches[i].spare, -1, pos + 1);
        soothe__batch_add(&b->batch, branches[i].token, pos + 1, branches[i].spare, true);
    }
}

static enum soothe_status decode_planted(struct soothe_session *s, int32_t n, struct soothe_error *err) {
    struct soothe__branches *b = s->branches;
    b->i_state                 = 0;
    b->failure                 = NULL;
    b->n_piece                 = n;
    s->branching               = true;
    const int code             = llama_decode(s->target, b->batch);
    if (code == 0)
        llama_synchronize(s->target);
    s->branching = false;
    if (code == 1)
        return soothe__fail(err, SOOTHE_E_ENGINE,
                            "no room in the KV cache for %d candidates; a larger context is needed", n);
    if (b->failure)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s", b->failure);
    if (code != 0)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the target could not decode %d candidates: %s (code %d)", n,
                            soothe__decode_failure(code), code);
    if (b->i_state != n)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "the target's architecture shows no node %s to judge by",
                            b->plan.node);
    return SOOTHE_OK;
}

enum soothe_status soothe__branch_decode(struct soothe_session *s, struct soothe__branch *branches, int32_t n,
                                         struct soothe_error *err) {
    struct soothe__branches *b      = s->branches;
    enum soothe_status       status = save_rows(s, err);
    if (!status && !soothe__rows_begin(&b->states, n, s->d))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the states of %d candidates", n);
    if (status)
        return status;
    plant(s, branches, n);
    status = decode_planted(s, n, err);
    for (int32_t i = 0; i < n && !status; i++)
        branches[i].state = soothe__row_at(&b->states, i);
    for (int32_t i = 0; i < n && status; i++)
        let_go(s, &b->spares[branches[i].spare - b->first]);
    return status;
}

/* Branch i of the engine's last pass waits for the next batch. */
static bool keep(struct soothe_session *s, const struct soothe__branch *branch, int32_t i) {
    struct soothe__branches *b = s->branches;
    struct spare            *p = &b->spares[branch->spare - b->first];
    const float             *z = llama_get_logits_ith(s->target, i);
    p->z                       = p->z ? p->z : soothe__calloc((size_t)b->n_vocab, sizeof *p->z);
    p->state                   = p->state ? p->state : soothe__calloc((size_t)s->d, sizeof *p->state);
    if (!z || !p->z || !p->state)
        return false;
    memcpy(p->z, z, (size_t)b->n_vocab * sizeof *p->z);
    memcpy(p->state, branch->state, (size_t)s->d * sizeof *p->state);
    p->seq   = s->row_seq[branch->i_row];
    p->pos   = soothe__step_position(&s->step, branch->i_row) + 1;
    p->token = branch->token;
    p->kept  = true;
    return true;
}

void soothe__branch_settle(struct soothe_session *s, const struct soothe__branch *branches, int32_t n) {
    struct soothe__branches *b   = s->branches;
    const bool               any = soothe__branch_keepable(s) > 0;
    for (int32_t i = 0; i < n; i++)
        if (!any || !branches[i].keep || !keep(s, &branches[i], i))
            let_go(s, &b->spares[branches[i].spare - b->first]);
}

/* ---- the next batch ------------------------------------------------------------------------------------------ */

static int32_t kept_for(const struct soothe__branches *b, const struct llama_batch *batch, int32_t i) {
    if (batch->n_seq_id[i] != 1)
        return -1;
    for (int32_t k = 0; k < b->plan.n_spares; k++)
        if (b->spares[k].kept && b->spares[k].seq == batch->seq_id[i][0] && b->spares[k].pos == batch->pos[i] &&
            b->spares[k].token == batch->token[i])
            return k;
    return -1;
}

/* Row i_row is that of spare k. */
static void take_over(struct soothe_session *s, int32_t k, int32_t i_row) {
    struct soothe__branches *b = s->branches;
    b->source[i_row]           = -1 - i_row;
    memcpy(soothe__row_at(&s->z, i_row), b->spares[k].z, (size_t)b->n_vocab * sizeof(float));
    memcpy(soothe__row_at(&b->claimed, i_row), b->spares[k].state, (size_t)s->d * sizeof(float));
}

/* Finds what can be taken over; its cells then belong to the sequence. */
static bool claim_cells(struct soothe_session *s, const struct llama_batch *batch) {
    struct soothe__branches *b   = s->branches;
    bool                     any = false;
    if (!batch->pos || !batch->seq_id || !batch->n_seq_id || !batch->token || !reusable(s))
        return false;
    for (int32_t i = 0; i < batch->n_tokens; i++) {
        b->claims[i] = kept_for(b, batch, i);
        if (b->claims[i] < 0)
            continue;
        any = true;
        llama_memory_seq_cp(llama_get_memory(s->target), b->first + b->claims[i], batch->seq_id[i][0], batch->pos[i],
                            batch->pos[i] + 1);
    }
    return any;
}

/* The pass is the batch without what was taken over. */
static void make_pass(struct soothe_session *s, const struct llama_batch *batch) {
    struct soothe__branches *b = s->branches;
    int32_t                  n = 0, n_rows = 0, i_row = 0;
    for (int32_t i = 0; i < batch->n_tokens; i++) {
        if (s->outputs[i] && b->claims[i] >= 0)
            take_over(s, b->claims[i], i_row);
        else if (s->outputs[i])
            b->source[i_row] = n_rows++;
        i_row += s->outputs[i];
        if (b->claims[i] >= 0)
            continue;
        b->token[n]     = batch->token[i];
        b->pos[n]       = batch->pos[i];
        b->n_seq_id[n]  = batch->n_seq_id[i];
        b->seq_id[n]    = batch->seq_id[i];
        b->outputs[n++] = s->outputs[i];
    }
    s->pass         = (struct llama_batch){.n_tokens = n,
                                           .token    = b->token,
                                           .pos      = b->pos,
                                           .n_seq_id = b->n_seq_id,
                                           .seq_id   = b->seq_id,
                                           .logits   = b->outputs};
    s->pass_outputs = b->outputs;
    s->n_pass_rows  = n_rows;
}

enum soothe_status soothe__branches_claim(struct soothe_session *s, const struct llama_batch *batch,
                                          struct soothe_error *err) {
    struct soothe__branches *b = s->branches;
    if (!b)
        return SOOTHE_OK;
    for (int32_t i = 0; i < s->step.n_rows; i++)
        b->source[i] = i;
    b->any = claim_cells(s, batch);
    if (b->any && (!soothe__rows_begin(&b->claimed, s->step.n_rows, s->d) ||
                   !soothe__rows_begin(&s->z, s->step.n_rows, b->n_vocab)))
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the logits of %d tokens", s->step.n_rows);
    if (b->any)
        make_pass(s, batch);
    for (int32_t i = 0; i < batch->n_tokens; i++) /* kept for this batch, and no longer */
        for (int32_t k = 0; k < (batch->seq_id ? batch->n_seq_id[i] : 1); k++)
            drop_kept(s, batch->seq_id ? batch->seq_id[i][k] : 0);
    return SOOTHE_OK;
}

enum soothe_status soothe__branches_join(struct soothe_session *s, struct soothe_error *err) {
    const struct soothe__branches *b = s->branches;
    if (!b || !b->any)
        return SOOTHE_OK;
    for (int32_t i = 0, i_pass = 0, n = 0; i < s->step.n_rows; i++) {
        if (b->source[i] < 0)
            continue;
        while (!b->outputs[i_pass])
            i_pass++;
        const float *z = llama_get_logits_ith(s->target, i_pass++);
        if (!z || n++ != b->source[i])
            return soothe__fail(err, SOOTHE_E_ENGINE, "the engine gave no logits for a token of a batch");
        memcpy(soothe__row_at(&s->z, i), z, (size_t)b->n_vocab * sizeof *z);
    }
    s->z_saved = true;
    return SOOTHE_OK;
}

const float *soothe__branch_row_state(const struct soothe_session *s, int32_t i_row) {
    const struct soothe__branches *b = s->branches;
    if (!b->plan.read_rows)
        return NULL;
    return b->source[i_row] < 0 ? soothe__row_at(&b->claimed, -1 - b->source[i_row])
                                : soothe__session_tapped(s, SOOTHE__LISTENER_BRANCHES, b->source[i_row]);
}
