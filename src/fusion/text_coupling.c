/* SPDX-License-Identifier: Apache-2.0 */
#include "fusion/text_coupling.h"

#include <stdlib.h>
#include <string.h>

#include "engine/batch.h"

/* What is decoded of one sequence after one rollback. Rows of a batch that prolong each other's tokens share a run. */
struct run {
    llama_seq_id seq;
    size_t       keep;       /* tokens of the cache that stay */
    size_t       n;          /* tokens to decode, a list */
    size_t       head, tail; /* its ends */
    int32_t      next;       /* the sequence's next run; -1 */
};

struct run_token {
    llama_token token;
    int32_t     row;  /* -1: no output */
    size_t      next; /* in its run */
};

struct sequence {
    struct soothe__follower f;
    struct soothe__tokens   held, plan;    /* in the cache now; when the runs of this step are done */
    int32_t                 first, last;   /* runs of this step */
    bool                    in_step, lost; /* lost: memory ran out; nothing goes on before it is emptied */
};

struct soothe__coupling {
    struct soothe__follow_rules    rules;
    struct sequence               *sequences;
    uint32_t                       n_seq;
    int32_t                        n_positions; /* the calibrator's model has no more; 0: any number */
    bool                           one_sequence_per_piece;
    struct soothe__coupling_counts counts;

    /* of the decode under way */
    struct run        *runs;
    size_t             n_runs, runs_capacity;
    struct run_token  *tokens;
    size_t             n_tokens, tokens_capacity;
    llama_seq_id      *touched; /* (n_seq) */
    uint32_t           n_touched;
    struct llama_batch piece;
    int32_t           *piece_rows, n_piece_outputs;
};

static enum soothe_status no_memory(struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory following a text");
}

enum soothe_status soothe__coupling_new(struct soothe__coupling **out, const struct llama_vocab *target,
                                        const struct llama_model *own, uint32_t n_seq, struct soothe_error *err) {
    struct soothe__coupling *c = soothe__calloc(1, sizeof *c);
    *out                       = NULL;
    if (!c)
        return no_memory(err);
    enum soothe_status status = soothe__follow_rules_new(&c->rules, target, own, err);
    c->n_seq                  = n_seq;
    c->sequences              = soothe__calloc(n_seq, sizeof *c->sequences);
    c->touched                = soothe__calloc(n_seq, sizeof *c->touched);
    if (!status && (!c->sequences || !c->touched))
        status = no_memory(err);
    c->one_sequence_per_piece = llama_model_is_recurrent(own) || llama_model_is_hybrid(own);
    /* Learnt positions: the engine would look the next one up behind the table's end. */
    if (llama_model_rope_type(own) == LLAMA_ROPE_TYPE_NONE && !c->one_sequence_per_piece)
        c->n_positions = llama_model_n_ctx_train(own);
    if (status)
        soothe__coupling_free(c);
    else
        *out = c;
    return status;
}

void soothe__coupling_free(struct soothe__coupling *c) {
    if (!c)
        return;
    for (uint32_t i = 0; i < c->n_seq && c->sequences; i++) {
        soothe__follower_free(&c->sequences[i].f);
        free(c->sequences[i].held.data);
        free(c->sequences[i].plan.data);
    }
    if (c->piece.token)
        llama_batch_free(c->piece);
    soothe__follow_rules_free(&c->rules);
    free(c->sequences);
    free(c->touched);
    free(c->runs);
    free(c->tokens);
    free(c->piece_rows);
    free(c);
}

uint32_t soothe__coupling_context(uint32_t n_ctx) {
    return n_ctx < UINT32_MAX / 4 ? 2 * n_ctx + 2048 : n_ctx;
}

const struct soothe__coupling_counts *soothe__coupling_counts(const struct soothe__coupling *c) {
    return &c->counts;
}

/* ---- the cache ----------------------------------------------------------------------------------------------- */

/* Takes from the cache of a sequence what lies behind its first n tokens. A recurrent one must be emptied for that. */
static void cut_cache(struct sequence *s, llama_seq_id seq, size_t n, struct llama_context *ctx) {
    llama_memory_t memory = llama_get_memory(ctx);
    if (n > 0 && llama_memory_seq_rm(memory, seq, (llama_pos)n, -1)) {
        s->held.n = n;
        return;
    }
    llama_memory_seq_rm(memory, seq, -1, -1);
    s->held.n = 0;
}

static void roll_back(struct sequence *s, llama_seq_id seq, size_t n, struct llama_context *ctx) {
    if (n < s->held.n)
        cut_cache(s, seq, n, ctx);
}

static size_t common_prefix(const struct soothe__tokens *a, const struct soothe__tokens *b) {
    const size_t n = a->n < b->n ? a->n : b->n;
    size_t       k = 0;
    while (k < n && a->data[k] == b->data[k])
        k++;
    return k;
}

static bool copy_tokens(struct soothe__tokens *to, const struct soothe__tokens *from) {
    if (!soothe__tokens_reserve(to, from->n))
        return false;
    if (from->n)
        memcpy(to->data, from->data, from->n * sizeof *from->data);
    to->n = from->n;
    return true;
}

static void empty(struct soothe__coupling *c, llama_seq_id seq, struct llama_context *ctx) {
    struct sequence *s = &c->sequences[seq];
    soothe__follower_remove(&s->f, &c->rules, -1, -1, NULL);
    roll_back(s, seq, 0, ctx);
    s->lost = false;
}

/* What the cache holds beyond the text is given back: it may be the room that is lacking. */
static void drop_surplus(struct soothe__coupling *c, llama_seq_id seq, struct llama_context *ctx) {
    struct sequence *s = &c->sequences[seq];
    size_t           n = 0;
    if (s->f.n && s->held.n && soothe__follower_tokenize(&s->f, &c->rules, NULL) == SOOTHE_OK)
        n = common_prefix(&s->held, &s->f.tokens);
    roll_back(s, seq, n, ctx);
}

static bool remove_range(struct soothe__coupling *c, llama_seq_id seq, llama_pos p0, llama_pos p1,
                         struct llama_context *ctx) {
    struct sequence *s = &c->sequences[seq];
    if (p0 <= 0 && p1 < 0) {
        empty(c, seq, ctx);
        return true;
    }
    const size_t n = s->f.n;
    if (soothe__follower_remove(&s->f, &c->rules, p0, p1, NULL))
        s->lost = true;
    if (s->f.n != n)
        drop_surplus(c, seq, ctx);
    return !s->lost;
}

static bool copy_range(struct soothe__coupling *c, const struct soothe__memory_change *change,
                       struct llama_context *ctx) {
    struct sequence *from = &c->sequences[change->seq], *to = &c->sequences[change->to];
    llama_memory_t   memory = llama_get_memory(ctx);
    if (from == to)
        return true;
    to->lost = to->lost || from->lost ||
               soothe__follower_copy(&to->f, &from->f, &c->rules, change->p0, change->p1, NULL) != SOOTHE_OK;
    if (soothe__follower_tokenize(&to->f, &c->rules, NULL) == SOOTHE_OK && copy_tokens(&to->plan, &from->held) &&
        common_prefix(&from->held, &to->f.tokens) > common_prefix(&to->held, &to->f.tokens)) {
        llama_memory_seq_rm(memory, change->to, -1, -1);
        llama_memory_seq_cp(memory, change->seq, change->to, -1, -1);
        const struct soothe__tokens t = to->held;
        to->held                      = to->plan;
        to->plan                      = t;
    }
    drop_surplus(c, change->to, ctx);
    return !to->lost;
}

bool soothe__coupling_memory(struct soothe__coupling *c, const struct soothe__memory_change *change,
                             struct llama_context *ctx) {
    const bool all  = change->op == SOOTHE__MEMORY_CLEAR || change->op == SOOTHE__MEMORY_KEEP || change->seq < 0;
    bool       done = true;
    if (change->seq >= (llama_seq_id)c->n_seq ||
        (change->op == SOOTHE__MEMORY_CP &&
         (change->seq < 0 || change->to < 0 || change->to >= (llama_seq_id)c->n_seq)))
        return false;
    if (change->op == SOOTHE__MEMORY_CP)
        return copy_range(c, change, ctx);
    for (llama_seq_id seq = 0; seq < (llama_seq_id)c->n_seq; seq++) {
        if (change->op == SOOTHE__MEMORY_RM && (all || seq == change->seq))
            done = remove_range(c, seq, change->p0, change->p1, ctx) && done;
        else if (change->op == SOOTHE__MEMORY_CLEAR || (change->op == SOOTHE__MEMORY_KEEP && seq != change->seq))
            empty(c, seq, ctx);
    }
    if (change->op == SOOTHE__MEMORY_CLEAR)
        llama_memory_clear(llama_get_memory(ctx), true);
    return done;
}

/* ---- what is to be decoded ----------------------------------------------------------------------------------- */

static bool room_for(void *data, size_t n, size_t *capacity, size_t size) {
    void **array = data;
    if (n <= *capacity)
        return true;
    void *grown = soothe__realloc(*array, n + n / 2 + 64, size);
    if (!grown)
        return false;
    *array    = grown;
    *capacity = n + n / 2 + 64;
    return true;
}

static enum soothe_status check_length(const struct soothe__coupling *c, size_t n, struct soothe_error *err) {
    if (c->n_positions == 0 || n <= (size_t)c->n_positions)
        return SOOTHE_OK;
    return soothe__fail(err, SOOTHE_E_ENGINE,
                        "the text has %zu tokens in the calibrator's vocabulary, whose model has only %d positions", n,
                        c->n_positions);
}

/* A new run of the sequence behind its first `keep` tokens. */
static bool begin_run(struct soothe__coupling *c, llama_seq_id seq, size_t keep) {
    struct sequence *s = &c->sequences[seq];
    if (!room_for(&c->runs, c->n_runs + 1, &c->runs_capacity, sizeof *c->runs))
        return false;
    if (s->last >= 0)
        c->runs[s->last].next = (int32_t)c->n_runs;
    else
        s->first = (int32_t)c->n_runs;
    s->last              = (int32_t)c->n_runs;
    c->runs[c->n_runs++] = (struct run){.seq = seq, .keep = keep, .next = -1};
    return true;
}

static bool add_token(struct soothe__coupling *c, struct run *r, llama_token token) {
    if (!room_for(&c->tokens, c->n_tokens + 1, &c->tokens_capacity, sizeof *c->tokens))
        return false;
    if (r->n > 0)
        c->tokens[r->tail].next = c->n_tokens;
    else
        r->head = c->n_tokens;
    r->tail                  = c->n_tokens;
    c->tokens[c->n_tokens++] = (struct run_token){.token = token, .row = -1};
    r->n++;
    return true;
}

/* Plans to decode the sequence's text as it is now, the state of its last token for `row` (-1: none). */
static enum soothe_status plan(struct soothe__coupling *c, llama_seq_id seq, int32_t row, int32_t *same_as,
                               struct soothe_error *err) {
    struct sequence   *s      = &c->sequences[seq];
    enum soothe_status status = soothe__follower_tokenize(&s->f, &c->rules, err);
    if (!status)
        status = check_length(c, s->f.tokens.n, err);
    if (status)
        return status;
    const struct soothe__tokens *want = &s->f.tokens;
    size_t                       k    = common_prefix(&s->plan, want);
    if (row >= 0 && k == want->n && k == s->plan.n && s->last >= 0 && c->runs[s->last].n > 0) {
        struct run_token *t = &c->tokens[c->runs[s->last].tail];
        if (t->row < 0)
            t->row = row;
        same_as[row] = t->row;
        return SOOTHE_OK;
    }
    if (k == want->n && row < 0)
        return SOOTHE_OK;
    if (k == want->n)
        k--; /* the state was not kept: decode the last token again */
    if (!((k == s->plan.n && s->last >= 0) || begin_run(c, seq, k)) || !copy_tokens(&s->plan, want))
        return no_memory(err);
    for (size_t i = k; i < want->n; i++)
        if (!add_token(c, &c->runs[s->last], want->data[i]))
            return no_memory(err);
    if (row >= 0)
        c->tokens[c->runs[s->last].tail].row = row;
    return SOOTHE_OK;
}

/* The sequence takes part in this step. */
static enum soothe_status touch(struct soothe__coupling *c, llama_seq_id seq, struct soothe_error *err) {
    struct sequence *s = &c->sequences[seq];
    if (s->lost)
        return soothe__fail(err, SOOTHE_E_MEMORY, "memory ran out when sequence %d was copied or cut: clear it first",
                            seq);
    if (s->in_step)
        return SOOTHE_OK;
    s->in_step = true;
    s->first = s->last         = -1;
    c->touched[c->n_touched++] = seq;
    return copy_tokens(&s->plan, &s->held) ? SOOTHE_OK : no_memory(err);
}

/* Token i of the batch, in each of its sequences. */
static enum soothe_status push(struct soothe__coupling *c, const struct llama_batch *b, int32_t i,
                               struct soothe_error *err) {
    static const llama_seq_id FIRST  = 0;
    const int32_t             n      = b->seq_id ? b->n_seq_id[i] : 1;
    const llama_seq_id       *ids    = b->seq_id ? b->seq_id[i] : &FIRST;
    const llama_pos           pos    = b->pos ? b->pos[i] : soothe__follower_end(&c->sequences[ids[0]].f) + 1;
    enum soothe_status        status = SOOTHE_OK;
    for (int32_t k = 0; k < n && !status; k++) {
        struct soothe__follower *f = &c->sequences[ids[k]].f;
        status                     = touch(c, ids[k], err);
        if (!status && pos <= soothe__follower_end(f))
            status = soothe__fail(err, SOOTHE_E_ARGUMENT,
                                  "position %d of sequence %d follows %d: a calibrator that follows the text needs "
                                  "positions that go up",
                                  pos, ids[k], soothe__follower_end(f));
        if (!status)
            status = soothe__follower_push(f, &c->rules, pos, b->token[i], err);
    }
    return status;
}

static enum soothe_status plan_step(struct soothe__coupling *c, const struct soothe__step *step, int32_t *same_as,
                                    struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    int32_t            row    = 0;
    for (int32_t i = 0; i < step->batch->n_tokens && !status; i++) {
        status = push(c, step->batch, i, err);
        if (!status && row < step->n_rows && step->row_token[row] == i) {
            same_as[row] = row;
            status       = plan(c, step->row_seq[row], row, same_as, err);
            row++;
        }
    }
    for (uint32_t i = 0; i < c->n_touched && !status; i++) /* also what no row asks for: it may be copied next */
        status = plan(c, c->touched[i], -1, same_as, err);
    return status;
}

/* ---- decoding it --------------------------------------------------------------------------------------------- */

static enum soothe_status make_piece(struct soothe__coupling *c, int32_t n, struct soothe_error *err) {
    if (c->piece.token)
        return SOOTHE_OK;
    c->piece_rows = soothe__calloc((size_t)n, sizeof *c->piece_rows);
    c->piece      = llama_batch_init(n, 0, 1);
    return c->piece_rows && c->piece.token ? SOOTHE_OK : no_memory(err);
}

static enum soothe_status decode_piece(struct soothe__coupling *c, const struct soothe__piece_target *to,
                                       struct soothe_error *err) {
    struct llama_batch *b      = &c->piece;
    enum soothe_status  status = SOOTHE_OK;
    if (b->n_tokens > 0)
        status = to->decode(to->user, b, c->piece_rows, c->n_piece_outputs, err);
    for (int32_t i = 0; i < b->n_tokens; i++) {
        struct sequence *s = &c->sequences[b->seq_id[i][0]];
        if (status) /* how far the engine came is unknown */
            cut_cache(s, b->seq_id[i][0], s->held.n, to->ctx);
        else
            s->held.data[s->held.n++] = b->token[i];
    }
    c->counts.n_calibrator_tokens += b->n_tokens;
    b->n_tokens        = 0;
    c->n_piece_outputs = 0;
    return status;
}

static enum soothe_status add_to_piece(struct soothe__coupling *c, llama_seq_id seq, size_t pos, llama_token token,
                                       int32_t row, const struct soothe__piece_target *to, struct soothe_error *err) {
    soothe__batch_add(&c->piece, token, (llama_pos)pos, seq, row >= 0);
    if (row >= 0)
        c->piece_rows[c->n_piece_outputs++] = row;
    const bool full = c->piece.n_tokens == to->n_tokens_max || c->n_piece_outputs == to->n_outputs_max;
    return full ? decode_piece(c, to, err) : SOOTHE_OK;
}

static enum soothe_status add_run(struct soothe__coupling *c, const struct run *r,
                                  const struct soothe__piece_target *to, struct soothe_error *err) {
    struct sequence   *s      = &c->sequences[r->seq];
    enum soothe_status status = SOOTHE_OK;
    if (!soothe__tokens_reserve(&s->held, r->keep + r->n))
        return no_memory(err);
    c->counts.n_rolled_back += (int64_t)(s->held.n - r->keep);
    roll_back(s, r->seq, r->keep, to->ctx);
    for (size_t pos = s->held.n; pos < r->keep && !status; pos++) /* a recurrent cache, which lost them all */
        status = add_to_piece(c, r->seq, pos, s->held.data[pos], -1, to, err);
    size_t at = r->head;
    for (size_t i = 0; i < r->n && !status; i++, at = c->tokens[at].next)
        status = add_to_piece(c, r->seq, r->keep + i, c->tokens[at].token, c->tokens[at].row, to, err);
    return status || !c->one_sequence_per_piece ? status : decode_piece(c, to, err);
}

/* The first runs of all sequences together, then the second ones, and so on. */
static enum soothe_status decode_runs(struct soothe__coupling *c, const struct soothe__piece_target *to,
                                      struct soothe_error *err) {
    enum soothe_status status = make_piece(c, to->n_tokens_max, err);
    bool               more   = true;
    c->piece.n_tokens         = 0;
    c->n_piece_outputs        = 0;
    while (more && !status) {
        more = false;
        for (uint32_t i = 0; i < c->n_touched && !status; i++) {
            struct sequence *s = &c->sequences[c->touched[i]];
            if (s->first < 0)
                continue;
            const struct run *r = &c->runs[s->first];
            status              = add_run(c, r, to, err);
            s->first            = r->next;
            more                = more || r->next >= 0;
        }
        if (!status)
            status = decode_piece(c, to, err);
    }
    return status;
}

enum soothe_status soothe__coupling_before(struct soothe__coupling *c, const struct soothe__step *step,
                                           const struct soothe__piece_target *to, int32_t *same_as,
                                           struct soothe_error *err) {
    c->n_runs = c->n_tokens   = 0;
    c->n_touched              = 0;
    enum soothe_status status = plan_step(c, step, same_as, err);
    if (!status)
        status = decode_runs(c, to, err);
    for (uint32_t i = 0; i < c->n_touched; i++)
        c->sequences[c->touched[i]].in_step = false;
    if (!status)
        c->counts.n_target_tokens += step->batch->n_tokens;
    return status;
}
