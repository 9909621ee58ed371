/* SPDX-License-Identifier: Apache-2.0
 * A session: the target's context, the stages beside it, their settings and memories. */
#include "fusion/session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct soothe_session_params soothe_session_params_default(void) {
    struct soothe_session_params p = {.context = llama_context_default_params(), .strength = NAN};
    p.context.n_threads = p.context.n_threads_batch = soothe__thread_count(0);
    return p;
}

bool soothe__rows_begin(struct soothe__rows *r, int32_t n, int32_t d) {
    const size_t need = (size_t)n * (size_t)d;
    if (need > r->capacity) {
        float *data = soothe__realloc(r->data, need, sizeof *data);
        if (!data)
            return false;
        r->data     = data;
        r->capacity = need;
    }
    r->n = n;
    r->d = d;
    return true;
}

/* ---- making a session -------------------------------------------------------------------------------- */

static enum soothe_status make_target(struct soothe_session *s, struct llama_model *target, struct soothe_error *err) {
    struct llama_context_params *cp = &s->context;
    if (cp->n_seq_max > 1)
        cp->kv_unified = true; /* the engine then splits batches without reordering their rows */
    s->embeddings         = cp->embeddings;
    cp->cb_eval           = soothe__session_on_node;
    cp->cb_eval_user_data = s;
    s->target             = llama_init_from_model(target, *cp);
    if (!s->target)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine cannot make a context of %u tokens for the target",
                            cp->n_ctx);
    s->n_batch                = llama_n_batch(s->target);
    s->n_ubatch               = llama_n_ubatch(s->target);
    s->n_seq                  = llama_n_seq_max(s->target);
    s->one_sequence_per_batch = llama_model_is_recurrent(target) || llama_model_is_hybrid(target);
    s->d                      = llama_model_n_embd(target);
    s->dose                   = soothe__calloc(s->n_seq, sizeof *s->dose);
    s->end                    = soothe__calloc(s->n_seq, sizeof *s->end);
    s->scratch                = soothe__calloc((size_t)s->d, sizeof *s->scratch);
    s->row                    = soothe__calloc((size_t)s->d, sizeof *s->row);
    s->outputs                = soothe__calloc(s->n_batch, sizeof *s->outputs);
    s->row_token              = soothe__calloc(s->n_batch, sizeof *s->row_token);
    s->row_seq                = soothe__calloc(s->n_batch, sizeof *s->row_seq);
    s->row_dose               = soothe__calloc(s->n_batch, sizeof *s->row_dose);
    s->token_row              = soothe__calloc(s->n_batch, sizeof *s->token_row);
    if (!s->token_row || !s->dose || !s->end || !s->scratch || !s->row || !s->outputs || !s->row_token || !s->row_seq ||
        !s->row_dose)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory making a session");
    return soothe__session_set_dose(s, -1, 1.0f, err);
}

static enum soothe_status check_pair(const struct llama_model *target, const struct soothe_calibrator *cal,
                                     const struct llama_context_params *context, struct soothe_error *err) {
    if (cal && context->embeddings)
        return soothe__fail(
            err, SOOTHE_E_UNSUPPORTED,
            "context.embeddings must be false with a calibrator: the engine then renames the final state "
            "(soothe_session_states gives it)");
    if (!llama_model_has_decoder(target))
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "the target has no decoder: there is nothing to soothe");
    if (cal && llama_model_n_embd(target) != cal->fusion.d_tgt)
        return soothe__fail(err, SOOTHE_E_SHAPE, "calibrator %s was made for width %d, the target has width %d",
                            cal->path, cal->fusion.d_tgt, llama_model_n_embd(target));
    if (cal && cal->model && !cal->by_text && llama_vocab_n_tokens(llama_model_get_vocab(target)) != cal->n_vocab)
        return soothe__fail(err, SOOTHE_E_MISMATCH, "calibrator %s and the target have different vocabularies",
                            cal->path);
    return SOOTHE_OK;
}

enum soothe_status soothe_session_new(struct soothe_session **out, struct llama_model *target,
                                      const struct soothe_calibrator *cal, const struct soothe_session_params *params,
                                      struct soothe_error *err) {
    const struct soothe_session_params  defaults = soothe_session_params_default();
    const struct soothe_session_params *p        = params ? params : &defaults;
    *out                                         = NULL;
    if (p->context.cb_eval)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "context.cb_eval must be NULL: soothe needs it");
    enum soothe_status status = check_pair(target, cal, &p->context, err);
    if (status)
        return status;
    struct soothe_session *s = soothe__calloc(1, sizeof *s);
    if (!s)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory making a session");
    s->context = p->context;
    status     = make_target(s, target, err);
    if (!status && cal)
        status = soothe__session_add_calibrator(s, cal, p->strength, p->n_threads_calibrator, err);
    else if (!status && !isnan(p->strength) && !isfinite(p->strength))
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "strength %g is not a finite number", (double)p->strength);
    if (status)
        soothe_session_free(s);
    else
        *out = s;
    return status;
}

void soothe_session_free(struct soothe_session *s) {
    if (!s)
        return;
    for (size_t k = 0; k < s->n_stages; k++)
        if (s->stages[k].free)
            s->stages[k].free(s->stages[k].self);
    llama_free(s->target);
    soothe__branches_free(s->branches);
    free(s->token_row);
    free(s->z.data);
    free(s->dose);
    free(s->end);
    free(s->scratch);
    free(s->row);
    free(s->outputs);
    free(s->row_token);
    free(s->row_seq);
    free(s->row_dose);
    for (size_t k = 0; k < SOOTHE__LISTENERS; k++)
        free(s->taps[k].rows.data);
    free(s->h_t.data);
    free(s->h_f.data);
    free(s);
}

struct llama_context *soothe_session_context(struct soothe_session *s) {
    return s->target;
}

const struct soothe__coupling_counts *soothe__session_coupling(const struct soothe_session *s) {
    return s->calibrator ? soothe__calibrator_stage_coupling(s->calibrator) : NULL;
}

uint32_t soothe__session_n_seq(const struct soothe_session *s) {
    return s->n_seq;
}

int32_t soothe__session_n_ctx(const struct soothe_session *s) {
    return (int32_t)llama_n_ctx(s->target) - s->n_branch_cells;
}

float *soothe_get_logits_ith(struct soothe_session *s, int32_t i) {
    if (!s->z_saved)
        return llama_get_logits_ith(s->target, i);
    const int32_t row = i < 0 ? s->step.n_rows + i : i < s->n_tokens ? s->token_row[i] : -1;
    return row >= 0 ? soothe__row_at(&s->z, row) : NULL;
}

/* ---- stages ---------------------------------------------------------------------------------------------- */

enum soothe_status soothe__session_add_stage(struct soothe_session *s, const struct soothe__stage *stage,
                                             struct soothe_error *err) {
    if (s->n_stages == SOOTHE__STAGES_MAX) {
        if (stage->free)
            stage->free(stage->self);
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "more than %d stages in one session", SOOTHE__STAGES_MAX);
    }
    s->stages[s->n_stages++] = *stage;
    return SOOTHE_OK;
}

enum soothe_status soothe__session_add_calibrator(struct soothe_session *s, const struct soothe_calibrator *cal,
                                                  float strength, int32_t n_threads, struct soothe_error *err) {
    struct soothe__calibrator_stage *c;
    struct llama_context_params      context = s->context;
    enum soothe_status               status  = check_pair(llama_get_model(s->target), cal, &s->context, err);
    if (status)
        return status;
    context.n_ctx   = llama_n_ctx(s->target);
    context.n_batch = s->n_batch;
    status          = soothe__calibrator_stage_new(&c, s, cal, &context, n_threads, err);
    if (status)
        return status;
    const struct soothe__stage stage = soothe__calibrator_stage_functions(c);
    status                           = soothe__session_add_stage(s, &stage, err);
    if (status)
        return status;
    const float alpha = isnan(strength) ? cal->default_strength : strength;
    for (uint32_t i = 0; i < s->n_seq; i++)
        soothe__calibrator_stage_strengths(c)[i] = alpha;
    if (!s->calibrator)
        s->calibrator = c;
    return isfinite(alpha) ? SOOTHE_OK
                           : soothe__fail(err, SOOTHE_E_ARGUMENT, "strength %g is not a finite number", (double)alpha);
}

/* Sets one or all of a setting per sequence. */
static enum soothe_status set_each(const struct soothe_session *s, float *values, llama_seq_id seq_id, float x,
                                   const char *what, struct soothe_error *err) {
    if (!isfinite(x))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%s %g is not a finite number", what, (double)x);
    if (seq_id >= (llama_seq_id)s->n_seq)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "sequence %d does not exist (0 to %u do)", seq_id, s->n_seq - 1);
    for (uint32_t i = 0; values && i < s->n_seq; i++)
        if (seq_id < 0 || (uint32_t)seq_id == i)
            values[i] = x;
    return SOOTHE_OK;
}

enum soothe_status soothe_session_set_strength(struct soothe_session *s, llama_seq_id seq_id, float alpha,
                                               struct soothe_error *err) {
    float *values = s->calibrator ? soothe__calibrator_stage_strengths(s->calibrator) : NULL;
    return set_each(s, values, seq_id, alpha, "strength", err);
}

float soothe_session_strength(const struct soothe_session *s, llama_seq_id seq_id) {
    const bool known = s->calibrator && seq_id >= 0 && seq_id < (llama_seq_id)s->n_seq;
    return known ? soothe__calibrator_stage_strengths(s->calibrator)[seq_id] : 0.0f;
}

enum soothe_status soothe__session_set_dose(struct soothe_session *s, llama_seq_id seq_id, float dose,
                                            struct soothe_error *err) {
    return set_each(s, s->dose, seq_id, dose, "dose", err);
}

float soothe__session_dose(const struct soothe_session *s, llama_seq_id seq_id) {
    return seq_id >= 0 && seq_id < (llama_seq_id)s->n_seq ? s->dose[seq_id] : 0.0f;
}

float soothe__session_row_dose(const struct soothe_session *s, int32_t i) {
    return i >= 0 && i < s->step.n_rows ? s->row_dose[i] : NAN;
}

/* ---- all memories in step ---------------------------------------------------------------------------------- */

bool soothe__memory_apply(llama_memory_t memory, const struct soothe__memory_change *c) {
    switch (c->op) {
    case SOOTHE__MEMORY_RM:
        return llama_memory_seq_rm(memory, c->seq, c->p0, c->p1);
    case SOOTHE__MEMORY_CP:
        llama_memory_seq_cp(memory, c->seq, c->to, c->p0, c->p1);
        return true;
    case SOOTHE__MEMORY_KEEP:
        llama_memory_seq_keep(memory, c->seq);
        return true;
    case SOOTHE__MEMORY_CLEAR:
        llama_memory_clear(memory, true);
        return true;
    }
    return false;
}

static bool change_memories(struct soothe_session *s, const struct soothe__memory_change *change) {
    soothe__branches_change(s, change);
    bool done = soothe__memory_apply(llama_get_memory(s->target), change);
    for (size_t k = 0; k < s->n_stages; k++)
        if (s->stages[k].memory)
            done = s->stages[k].memory(s->stages[k].self, change) && done;
    return done;
}

bool soothe_seq_rm(struct soothe_session *s, llama_seq_id seq_id, llama_pos p0, llama_pos p1) {
    return change_memories(s, &(struct soothe__memory_change){SOOTHE__MEMORY_RM, seq_id, 0, p0, p1});
}

void soothe_seq_cp(struct soothe_session *s, llama_seq_id from, llama_seq_id to, llama_pos p0, llama_pos p1) {
    change_memories(s, &(struct soothe__memory_change){SOOTHE__MEMORY_CP, from, to, p0, p1});
}

void soothe_seq_keep(struct soothe_session *s, llama_seq_id seq_id) {
    change_memories(s, &(struct soothe__memory_change){SOOTHE__MEMORY_KEEP, seq_id, 0, -1, -1});
}

void soothe_clear(struct soothe_session *s) {
    change_memories(s, &(struct soothe__memory_change){SOOTHE__MEMORY_CLEAR, -1, 0, -1, -1});
}

/* ---- looking inside ------------------------------------------------------------------------------------------ */

void soothe_session_capture(struct soothe_session *s, bool on) {
    s->capture = on;
    if (!on)
        s->h_t.n = s->h_f.n = 0;
}

const float *soothe_session_states(const struct soothe_session *s, enum soothe_state which, int32_t *n_rows,
                                   int32_t *d) {
    const float *data = NULL;
    int32_t      n = 0, width = 0;
    if (which == SOOTHE_STATE_CALIBRATOR && s->calibrator)
        data = soothe__calibrator_stage_states(s->calibrator, &n, &width);
    else if (which != SOOTHE_STATE_CALIBRATOR) {
        const struct soothe__rows *r = which == SOOTHE_STATE_TARGET ? &s->h_t : &s->h_f;
        data                         = r->data;
        n                            = r->n;
        width                        = r->d;
    }
    const bool available = s->capture && n > 0 && data;
    if (n_rows)
        *n_rows = available ? n : 0;
    if (d)
        *d = available ? width : 0;
    return available ? data : NULL;
}

enum soothe_status soothe__session_tap(struct soothe_session *s, enum soothe__listener who, const char *node,
                                       struct soothe_error *err) {
    struct soothe__tap *tap = &s->taps[who];
    if (node && strlen(node) >= sizeof tap->node)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "no node of the engine is called \"%.80s\"", node);
    snprintf(tap->node, sizeof tap->node, "%s", node ? node : "");
    tap->rows.n = 0;
    return SOOTHE_OK;
}

const float *soothe__session_tapped(const struct soothe_session *s, enum soothe__listener who, int32_t i) {
    const struct soothe__tap *tap = &s->taps[who];
    return tap->node[0] && i >= 0 && i < tap->i_row && i < tap->rows.n ? soothe__row_at(&tap->rows, i) : NULL;
}
