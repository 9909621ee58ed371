/* SPDX-License-Identifier: Apache-2.0
 * A gate: how much of all methods of the chain a token needs, by the risk of what comes next (docs/methods/gate.md).
 *
 * The risk is a probe's, of the state from which the next token will be chosen, read in the same decode: the engine
 * comes past the probe's layer before it comes to where the methods act. */
#include <math.h>
#include <stdlib.h>

#include "methods/gate.h"
#include "methods/methods.h"
#include "score/probe.h"

/* ---- the method -------------------------------------------------------------------------------------- */

struct gate {
    struct soothe__probe *probe;
    char                 *path;
    double                low, high;
    float                 strength, hold;
};

static void release(void *state) {
    struct gate *g = state;
    if (!g)
        return;
    soothe__probe_free(g->probe);
    free(g->path);
    free(g);
}

/* The shipped probe was made for one model: elsewhere the way on is told. */
static enum soothe_status open_shipped(struct gate *g, const char *target_path, struct soothe_error *err) {
    struct soothe_error why;
    enum soothe_status  status =
        soothe__shipped_file(&g->path, "gate.probe.gguf", "probe for the gate", "give one by gate:probe=FILE", err);
    if (status)
        return status;
    status = soothe__probe_open(&g->probe, g->path, target_path, &why);
    if (status == SOOTHE_E_MISMATCH)
        return soothe__fail(err, status,
                            "the gate's shipped probe does not fit %s: train one with soothe probe train --pool token "
                            "and give it by gate:probe=FILE. In full: %.600s",
                            target_path, why.message);
    return status ? soothe__fail(err, status, "%s", why.message) : SOOTHE_OK;
}

static enum soothe_status open_probe(struct gate *g, const char *path, const char *target_path,
                                     struct soothe_error *err) {
    if (!path)
        return open_shipped(g, target_path, err);
    g->path = soothe__strdup(path);
    if (!g->path)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    return soothe__probe_open(&g->probe, path, target_path, err);
}

static enum soothe_status open_gate(struct soothe__link *l, const struct soothe__method_target *target,
                                    struct llama_context_params *context, struct soothe_error *err) {
    (void)context;
    l->strength = soothe__link_number(l, "strength");
    if (l->strength == 0.0f)
        return SOOTHE_OK;
    struct gate *g = soothe__calloc(1, sizeof *g);
    if (!g)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    l->state    = g;
    g->strength = l->strength;
    g->low      = soothe__link_value(l, "low")->number;
    g->high     = soothe__link_value(l, "high")->number;
    g->hold     = soothe__link_number(l, "hold");
    if (g->low > g->high)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "the gate's low of %g is above its high of %g", g->low, g->high);
    const enum soothe_status status = open_probe(g, soothe__link_value(l, "probe")->text, target->path, err);
    if (status)
        return status;
    if (g->probe->pool == SOOTHE__POOL_MEAN)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "probe %s reads the mean of a whole text; the gate needs one of single tokens (soothe "
                            "probe train --pool token, or last)",
                            g->path);
    l->source = g->path;
    return SOOTHE_OK;
}

/* ---- the stage ------------------------------------------------------------------------------------------ */

struct stage {
    const struct gate     *gate;
    struct soothe_session *session;
    uint32_t               n_seq;
    struct soothe__alarms *alarms; /* (n_seq); without hold: NULL */
    llama_pos             *pos;    /* (n_pos) of the rows of the decode under way */
    int32_t                n_pos;
};

static void stage_free(void *self) {
    struct stage *s = self;
    if (!s)
        return;
    for (uint32_t i = 0; s->alarms && i < s->n_seq; i++)
        free(s->alarms[i].items);
    free(s->alarms);
    free(s->pos);
    free(s);
}

/* A token's sequences, as many as *n says. */
static const llama_seq_id *sequences_of(const struct llama_batch *b, int32_t i_token, int32_t *n) {
    static const llama_seq_id FIRST = 0;
    *n                              = b->seq_id ? b->n_seq_id[i_token] : 1;
    return b->seq_id ? b->seq_id[i_token] : &FIRST;
}

/* Ahead of the decode: the engine counts on from the memory's end where a batch names no positions. */
static llama_pos position_of(const struct stage *s, const struct llama_batch *b, int32_t i_token) {
    if (b->pos)
        return b->pos[i_token];
    int32_t            n;
    const llama_seq_id seq = sequences_of(b, i_token, &n)[0];
    llama_pos          pos = llama_memory_seq_pos_max(llama_get_memory(soothe_session_context(s->session)), seq) + 1;
    for (int32_t i = 0; i < i_token; i++)
        pos += sequences_of(b, i, &n)[0] == seq;
    return pos;
}

/* The rows' positions, and room for their alarms: `gate` must not fail. */
static enum soothe_status before(void *self, const struct soothe__step *step, struct soothe_error *err) {
    struct stage *s  = self;
    bool          ok = true;
    int32_t       n;
    if (!s->alarms)
        return SOOTHE_OK;
    if (step->n_rows > s->n_pos) {
        llama_pos *pos = soothe__realloc(s->pos, (size_t)step->n_rows, sizeof *pos);
        ok             = pos != NULL;
        s->pos         = ok ? pos : s->pos;
        s->n_pos       = ok ? step->n_rows : s->n_pos;
    }
    for (int32_t i = 0; i < step->n_rows && ok; i++) {
        const llama_seq_id *ids = sequences_of(step->batch, step->row_token[i], &n);
        s->pos[i]               = position_of(s, step->batch, step->row_token[i]);
        for (int32_t k = 0; k < n && ok; k++)
            ok = soothe__alarms_reserve(&s->alarms[ids[k]], (size_t)step->n_rows);
    }
    return ok ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the gate's alarms");
}

static float gate_row(void *self, const struct soothe__step *step, int32_t i_row, const float *h) {
    struct stage      *s     = self;
    const struct gate *g     = s->gate;
    const float       *state = h;
    if (g->probe->layer != SOOTHE__LAYER_FINAL)
        state = soothe__session_tapped(s->session, SOOTHE__LISTENER_GATE, i_row);
    float risk = state ? (float)soothe__probe_risk(g->probe, state) : NAN;
    if (isnan(risk)) /* then as without a gate */
        risk = 1.0f;
    if (s->alarms) {
        int32_t             n;
        const llama_seq_id *ids = sequences_of(step->batch, step->row_token[i_row], &n);
        for (int32_t k = 1; k < n; k++)
            soothe__alarms_note(&s->alarms[ids[k]], s->pos[i_row], risk, g->hold);
        risk = soothe__alarms_note(&s->alarms[ids[0]], s->pos[i_row], risk, g->hold);
    }
    const float dose = soothe__gate_dose((double)risk, g->low, g->high);
    return g->strength == 1.0f ? dose : 1.0f - g->strength * (1.0f - dose);
}

static bool memory(void *self, const struct soothe__memory_change *c) {
    struct stage *s    = self;
    bool          done = true;
    for (uint32_t i = 0; s->alarms && i < s->n_seq; i++) {
        const bool its = c->seq == (llama_seq_id)i;
        if ((c->op == SOOTHE__MEMORY_RM && (its || c->seq < 0)))
            soothe__alarms_rm(&s->alarms[i], c->p0, c->p1);
        else if (c->op == SOOTHE__MEMORY_CLEAR || (c->op == SOOTHE__MEMORY_KEEP && !its))
            s->alarms[i].n = 0;
        else if (c->op == SOOTHE__MEMORY_CP && its && c->to >= 0 && (uint32_t)c->to < s->n_seq)
            done = soothe__alarms_cp(&s->alarms[i], &s->alarms[c->to], c->p0, c->p1);
    }
    return done;
}

static enum soothe_status listen(const struct gate *g, struct soothe_session *session, struct soothe_error *err) {
    char node[32];
    if (g->probe->layer == SOOTHE__LAYER_FINAL)
        return SOOTHE_OK;
    if (soothe__session_listens(session, SOOTHE__LISTENER_GATE))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "one gate is what a chain can have");
    snprintf(node, sizeof node, "l_out-%d", g->probe->layer);
    return soothe__session_tap(session, SOOTHE__LISTENER_GATE, node, err);
}

static enum soothe_status attach(struct soothe__link *l, struct soothe_session *session, struct soothe_error *err) {
    const struct gate *g = l->state;
    if (l->strength == 0.0f)
        return SOOTHE_OK;
    struct stage *s = soothe__calloc(1, sizeof *s);
    if (!s)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    s->gate    = g;
    s->session = session;
    s->n_seq   = soothe__session_n_seq(session);
    if (g->hold > 0) {
        s->alarms = soothe__calloc(s->n_seq, sizeof *s->alarms);
        if (!s->alarms) {
            stage_free(s);
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
        }
    }
    const enum soothe_status status = listen(g, session, err);
    if (status) {
        stage_free(s);
        return status;
    }
    const struct soothe__stage stage = {
        .self = s, .before = before, .gate = gate_row, .memory = memory, .free = stage_free};
    return soothe__session_add_stage(session, &stage, err);
}

static const struct soothe__parameter PARAMETERS[] = {
    {"strength", SOOTHE__NUMBER, "1", 0, 1, NULL, "1: gated; 0: not at all; between: doses are at least 1 - strength"},
    {"probe", SOOTHE__FILE, NULL, 0, 0, NULL, "whose risk counts; the shipped gate.probe.gguf if not given"},
    {"low", SOOTHE__NUMBER, "0.65", 0, 1, NULL, "the risk up to which the methods rest"},
    {"high", SOOTHE__NUMBER, "0.9", 0, 1, NULL, "the risk from which on they act in full"},
    {"hold", SOOTHE__NUMBER, "40", 0, 1000, NULL, "tokens in which an alarm halves; 0: each token by itself"},
    {.name = NULL}};

const struct soothe__method soothe__method_gate = {
    .name       = "gate",
    .summary    = "the other methods only where a probe sees a risk",
    .stage      = "gate",
    .cost       = "one dot product of d",
    .source     = "Gated Toxicity Avoidance for Text Performance Preservation (arXiv 2312.06122)",
    .parameters = PARAMETERS,
    .open       = open_gate,
    .attach     = attach,
    .release    = release};
