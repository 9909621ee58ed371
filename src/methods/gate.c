/* SPDX-License-Identifier: Apache-2.0
 * A gate: how much of all methods of the chain a token needs, by the risk of what comes next (docs/methods/gate.md).
 *
 * The risk is a probe's, of the state from which the next token will be chosen, read in the same decode: the engine
 * comes past the probe's layer before it comes to where the methods act. Or it is any scorer's, of what was said up to
 * there, which is known before the decode. */
#include <math.h>
#include <stdlib.h>

#include "fusion/branch.h"
#include "methods/gate.h"
#include "methods/methods.h"
#include "methods/sequence_text.h"
#include "score/probe.h"
#include "score/scorer.h"

/* ---- the method -------------------------------------------------------------------------------------- */

struct gate { /* probe, scorer or both: then the larger risk counts */
    struct soothe__probe  *probe;
    char                  *path; /* the probe's */
    struct soothe__scorer *scorer;
    double                 low, high;
    float                  strength, hold;
    int32_t                window; /* tokens that the scorer reads */
};

static void release(void *state) {
    struct gate *g = state;
    if (!g)
        return;
    soothe__probe_free(g->probe);
    soothe__scorer_close(g->scorer);
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
    if (path && !(g->path = soothe__strdup(path)))
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    const enum soothe_status status =
        path ? soothe__probe_open(&g->probe, path, target_path, err) : open_shipped(g, target_path, err);
    if (status || g->probe->pool != SOOTHE__POOL_MEAN)
        return status;
    return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                        "probe %s reads the mean of a whole text; the gate needs one of single tokens (soothe probe "
                        "train --pool token, or last)",
                        g->path);
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
    g->window                                   = (int32_t)soothe__link_number(l, "window");
    const struct soothe__scorer_options options = {.model_path = target->path, .n_threads = 1};
    const char *const  probe = soothe__link_value(l, "probe")->text, *scorer = soothe__link_value(l, "scorer")->text;
    enum soothe_status status = scorer ? soothe__scorer_open(&g->scorer, scorer, &options, err) : SOOTHE_OK;
    if (!status && (probe || !scorer))
        status = open_probe(g, probe, target->path, err);
    l->source = g->path;
    l->judge  = g->scorer ? soothe__scorer_identity(g->scorer) : NULL;
    return status;
}

/* ---- the stage ------------------------------------------------------------------------------------------ */

struct stage {
    const struct gate             *gate;
    struct soothe_session         *session;
    uint32_t                       n_seq;
    struct soothe__alarms         *alarms; /* (n_seq); without hold: NULL */
    struct soothe__sequence_texts *texts;  /* for a scorer */
    llama_pos                     *pos;    /* (n_rows) of the decode under way */
    float                         *said;   /* (n_rows) the scorer's risk of the text up to the row */
    int32_t                        n_rows; /* room */
};

static void stage_free(void *self) {
    struct stage *s = self;
    if (!s)
        return;
    for (uint32_t i = 0; s->alarms && i < s->n_seq; i++)
        free(s->alarms[i].items);
    free(s->alarms);
    soothe__sequence_texts_free(s->texts);
    free(s->pos);
    free(s->said);
    free(s);
}

/* A token's sequences, as many as *n says. */
static const llama_seq_id *sequences_of(const struct llama_batch *b, int32_t i_token, int32_t *n) {
    static const llama_seq_id FIRST = 0;
    *n                              = b->seq_id ? b->n_seq_id[i_token] : 1;
    return b->seq_id ? b->seq_id[i_token] : &FIRST;
}

static bool make_room(struct stage *s, int32_t n_rows) {
    if (n_rows <= s->n_rows)
        return true;
    llama_pos *pos  = soothe__realloc(s->pos, (size_t)n_rows, sizeof *pos);
    s->pos          = pos ? pos : s->pos;
    float *said     = soothe__realloc(s->said, (size_t)n_rows, sizeof *said);
    s->said         = said ? said : s->said;
    const bool done = pos && said;
    s->n_rows       = done ? n_rows : s->n_rows;
    return done;
}

/* What a scorer cannot judge is not taken for harmless. */
static enum soothe_status judge_rows(struct stage *s, const struct soothe__step *step, struct soothe_error *err) {
    const size_t          n      = (size_t)step->n_rows;
    char                **texts  = soothe__calloc(n + 1, sizeof *texts);
    struct soothe__score *scores = soothe__calloc(n + 1, sizeof *scores);
    enum soothe_status    status = soothe__sequence_texts_before(s->texts, step, err);
    bool                  ok     = texts && scores;
    for (size_t i = 0; i < n && ok && !status; i++)
        ok = (texts[i] = soothe__sequence_text(s->texts, step->row_seq[i], s->pos[i], s->gate->window,
                                               LLAMA_TOKEN_NULL)) != NULL;
    if (!status)
        status = ok ? soothe__scorer_score(s->gate->scorer, (const char *const *)texts, n, scores, err)
                    : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the texts of %zu rows", n);
    for (size_t i = 0; i < n && !status; i++)
        s->said[i] = isnan(scores[i].toxicity) ? 1.0f : (float)scores[i].toxicity;
    for (size_t i = 0; i < n && texts; i++)
        free(texts[i]);
    free(texts);
    free(scores);
    return status;
}

/* The rows' positions, what was said up to them, and room for their alarms: `gate` must not fail. */
static enum soothe_status before(void *self, const struct soothe__step *step, struct soothe_error *err) {
    struct stage *s = self;
    int32_t       n;
    if (!s->alarms && !s->texts) /* each token by itself, by its state */
        return SOOTHE_OK;
    bool ok = make_room(s, step->n_rows);
    for (int32_t i = 0; i < step->n_rows && ok; i++) {
        const llama_seq_id *ids = sequences_of(step->batch, step->row_token[i], &n);
        s->pos[i]               = soothe__step_position(step, i);
        for (int32_t k = 0; k < n && ok && s->alarms; k++)
            ok = soothe__alarms_reserve(&s->alarms[ids[k]], (size_t)step->n_rows);
    }
    if (!ok)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the gate's alarms");
    return s->texts ? judge_rows(s, step, err) : SOOTHE_OK;
}

/* NaN: the engine has shown no state. */
static float probe_risk(const struct stage *s, int32_t i_row, const float *h) {
    const struct soothe__probe *probe = s->gate->probe;
    if (probe->layer != SOOTHE__LAYER_FINAL)
        h = soothe__session_tapped(s->session, SOOTHE__LISTENER_GATE, i_row);
    return h ? (float)soothe__probe_risk(probe, h) : NAN;
}

static float gate_row(void *self, const struct soothe__step *step, int32_t i_row, const float *h) {
    struct stage      *s    = self;
    const struct gate *g    = s->gate;
    float              risk = g->probe ? probe_risk(s, i_row, h) : 0;
    if (isnan(risk)) /* then as without a gate */
        risk = 1.0f;
    if (s->texts && s->said[i_row] > risk)
        risk = s->said[i_row];
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
    if (s->texts)
        soothe__sequence_texts_change(s->texts, c);
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
    if (!g->probe || g->probe->layer == SOOTHE__LAYER_FINAL)
        return SOOTHE_OK;
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
    s->gate                   = g;
    s->session                = session;
    s->n_seq                  = soothe__session_n_seq(session);
    enum soothe_status status = listen(g, session, err);
    if (!status && g->hold > 0 && !(s->alarms = soothe__calloc(s->n_seq, sizeof *s->alarms)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status && g->scorer)
        status = soothe__sequence_texts_new(
            &s->texts, llama_model_get_vocab(llama_get_model(soothe_session_context(session))), err);
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
    {"probe", SOOTHE__FILE, NULL, 0, 0, NULL,
     "whose risk counts; the shipped gate.probe.gguf if not given, nor a scorer"},
    {"scorer", SOOTHE__TEXT, NULL, 0, 0, NULL,
     "of what was said: default, lexicon, a file (a combination by soothe polar, too); with a probe the larger risk "
     "counts"},
    {"window", SOOTHE__INTEGER, "16", 0, 1e6, NULL, "of a scorer: tokens of the text that it judges; 0: all"},
    {"low", SOOTHE__NUMBER, "0.5", 0, 1, NULL, "the risk up to which the methods rest"},
    {"high", SOOTHE__NUMBER, "0.8", 0, 1, NULL, "the risk from which on they act in full"},
    {"hold", SOOTHE__NUMBER, "40", 0, 1000, NULL, "tokens in which an alarm halves; 0: each token by itself"},
    {.name = NULL}};

const struct soothe__method soothe__method_gate = {
    .name       = "gate",
    .summary    = "the other methods only where a probe or a scorer sees a risk",
    .stage      = "gate",
    .cost       = "one dot product of d, or a score of the last tokens",
    .source     = "Gated Toxicity Avoidance for Text Performance Preservation (arXiv 2312.06122)",
    .parameters = PARAMETERS,
    .open       = open_gate,
    .attach     = attach,
    .release    = release};
