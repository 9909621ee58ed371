/* SPDX-License-Identifier: Apache-2.0
 * A token table as a stage. The state behind every position of every sequence is kept, since sequences are cut, copied
 * and gone on with from anywhere; one takes 28 bytes, an 800th of that position's keys and values in SmolLM2-135M. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/token_table.h"

struct place {
    struct soothe__table_state state; /* behind this position's token */
    bool                       there;
};
struct sequence {
    struct place *places;
    llama_pos     capacity, end; /* positions from 0; behind the last that is there */
};
struct stage {
    const struct soothe__token_table *table;
    float                             strength;
    struct soothe__token_room         room;
    struct sequence                  *sequences;
    uint32_t                          n_seq;
    llama_pos                        *pos; /* of the batch's tokens */
    int32_t                           pos_capacity;
};

/* ---- what the sequences hold --------------------------------------------------------------------------- */

static bool make_room(struct sequence *s, llama_pos pos) {
    if (pos < s->capacity)
        return true;
    const llama_pos n      = pos < 256 ? 512 : pos <= INT32_MAX / 2 ? 2 * pos : INT32_MAX;
    struct place   *larger = soothe__realloc(s->places, (size_t)n, sizeof *larger);
    if (!larger)
        return false;
    memset(larger + s->capacity, 0, (size_t)(n - s->capacity) * sizeof *larger);
    s->places   = larger;
    s->capacity = n;
    return true;
}

/* What has been cut out of the middle counts as a text's beginning. */
static void put(struct stage *g, struct sequence *s, llama_pos pos, llama_token token) {
    struct place *p = &s->places[pos];
    p->state =
        pos > 0 && s->places[pos - 1].there ? s->places[pos - 1].state : (struct soothe__table_state){.n_nodes = 0};
    p->there = true;
    s->end   = pos + 1 > s->end ? pos + 1 : s->end;
    soothe__token_table_move(g->table, &p->state, token);
}

static enum soothe_status before(void *self, const struct soothe__step *step, struct soothe_error *err) {
    static const llama_seq_id FIRST = 0;
    struct stage             *g     = self;
    const struct llama_batch *b     = step->batch;
    if (b->n_tokens > g->pos_capacity) {
        llama_pos *larger = soothe__realloc(g->pos, (size_t)b->n_tokens, sizeof *larger);
        if (!larger)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the positions of %d tokens", b->n_tokens);
        g->pos          = larger;
        g->pos_capacity = b->n_tokens;
    }
    for (int32_t i = 0; i < b->n_tokens; i++) {
        const int32_t       n_ids = b->seq_id ? b->n_seq_id[i] : 1;
        const llama_seq_id *ids   = b->seq_id ? b->seq_id[i] : &FIRST;
        g->pos[i]                 = b->pos ? b->pos[i] : g->sequences[ids[0]].end;
        for (int32_t k = 0; k < n_ids; k++) {
            if (g->pos[i] < 0 || g->pos[i] == INT32_MAX)
                return soothe__fail(err, SOOTHE_E_ARGUMENT, "position %d at %d of the batch", g->pos[i], i);
            if (!make_room(&g->sequences[ids[k]], g->pos[i]))
                return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for position %d", g->pos[i]);
            put(g, &g->sequences[ids[k]], g->pos[i], b->token ? b->token[i] : LLAMA_TOKEN_NULL);
        }
    }
    return SOOTHE_OK;
}

/* ---- cut, copied, cleared ------------------------------------------------------------------------------- */

static void cut(struct sequence *s, llama_pos p0, llama_pos p1) {
    const llama_pos from = p0 > 0 ? p0 : 0, to = p1 < 0 || p1 > s->end ? s->end : p1;
    for (llama_pos i = from; i < to; i++)
        s->places[i].there = false;
    while (s->end > 0 && !s->places[s->end - 1].there)
        s->end--;
}

static bool copy(const struct sequence *s, struct sequence *to, llama_pos p0, llama_pos p1) {
    const llama_pos begin = p0 > 0 ? p0 : 0, end = p1 < 0 || p1 > s->end ? s->end : p1;
    if (begin >= end)
        return true;
    if (!make_room(to, end - 1))
        return false;
    for (llama_pos i = begin; i < end; i++)
        if (s->places[i].there)
            to->places[i] = s->places[i];
    to->end = end > to->end ? end : to->end;
    return true;
}

static bool memory(void *self, const struct soothe__memory_change *c) {
    struct stage *g  = self;
    bool          ok = true;
    for (llama_seq_id i = 0; i < (llama_seq_id)g->n_seq; i++) {
        const bool all = c->op == SOOTHE__MEMORY_CLEAR || (c->op == SOOTHE__MEMORY_KEEP && i != c->seq);
        if (all)
            cut(&g->sequences[i], -1, -1);
        else if (c->op == SOOTHE__MEMORY_RM && (c->seq < 0 || c->seq == i))
            cut(&g->sequences[i], c->p0, c->p1);
        else if (c->op == SOOTHE__MEMORY_CP && c->seq == i && c->to != i && c->to >= 0 &&
                 c->to < (llama_seq_id)g->n_seq)
            ok = copy(&g->sequences[i], &g->sequences[c->to], c->p0, c->p1);
    }
    return ok;
}

/* ---- the logits ------------------------------------------------------------------------------------------- */

static enum soothe_status logits(void *self, const struct soothe__step *step, struct soothe_error *err) {
    struct stage *g = self;
    for (int32_t i = 0; i < step->n_rows; i++) {
        const llama_pos pos = g->pos[step->row_token[i]];
        float          *z   = soothe_get_logits_ith(step->session, step->row_token[i]);
        if (!(step->row_dose[i] > 0))
            continue;
        if (!z)
            return soothe__fail(err, SOOTHE_E_ENGINE, "the engine gave no logits for row %d", i);
        const size_t n =
            soothe__token_table_list(g->table, &g->sequences[step->row_seq[i]].places[pos].state, &g->room);
        const float scale = step->row_dose[i] * g->strength;
        for (size_t k = 0; k < n; k++)
            z[g->room.list[k].token] -= scale * g->room.list[k].weight;
    }
    return SOOTHE_OK;
}

/* ---- making it ---------------------------------------------------------------------------------------------- */

static void stage_free(void *self) {
    struct stage *g = self;
    if (!g)
        return;
    for (uint32_t i = 0; g->sequences && i < g->n_seq; i++)
        free(g->sequences[i].places);
    free(g->sequences);
    free(g->pos);
    soothe__token_room_free(&g->room);
    free(g);
}

enum soothe_status soothe__session_add_token_table(struct soothe_session            *session,
                                                   const struct soothe__token_table *table, float strength,
                                                   struct soothe_error *err) {
    if (isnan(strength) || strength < 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "strength %g of a table of words is not 0 or more",
                            (double)strength);
    if (strength == 0)
        return SOOTHE_OK;
    struct stage *g = soothe__calloc(1, sizeof *g);
    if (g) {
        g->table     = table;
        g->strength  = strength;
        g->n_seq     = soothe__session_n_seq(session);
        g->sequences = soothe__calloc(g->n_seq, sizeof *g->sequences);
    }
    if (!g || !g->sequences || !soothe__token_room_new(&g->room, table)) {
        stage_free(g);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a table's stage");
    }
    return soothe__session_add_stage(
        session,
        &(struct soothe__stage){.self = g, .before = before, .logits = logits, .memory = memory, .free = stage_free},
        err);
}
