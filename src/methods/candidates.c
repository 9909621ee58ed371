/* SPDX-License-Identifier: Apache-2.0
 * Candidates of rows: which, judged how, and what becomes of the logits. Rows are taken together into as few decodes as
 * have room. */
#include "methods/candidates.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "generate/shortlist.h"

/* A row that is acted on, and its candidates' place in the group. */
struct row {
    int32_t i_row, from, n;
    float   dose;
};

struct stage {
    struct soothe_session         *session;
    struct soothe__candidates_rule rule;
    bool                           branches;
    int32_t                        n_vocab, n_trained;
    struct soothe__shortlist       list;
    bool                          *flags; /* (n_flags) which rows of the step are acted on */
    int32_t                        n_flags;

    /* the rows under way */
    struct soothe__candidate candidates[SOOTHE__CANDIDATES_MAX];
    struct soothe__branch    twigs[SOOTHE__CANDIDATES_MAX];
    float                    bonus[SOOTHE__CANDIDATES_MAX];
    struct row               rows[SOOTHE__CANDIDATES_MAX];
    int32_t                  n_rows, n, room, n_keep; /* n_keep: of each row */
};

static void free_stage(void *self) {
    struct stage *st = self;
    soothe__shortlist_free(&st->list);
    free(st->flags);
    free(st);
}

/* ---- which -------------------------------------------------------------------------------------------------- */

/* The row's own value; -inf where nobody asks. */
static enum soothe_status value_of_row(struct stage *st, const struct soothe__step *step, int32_t i_row, float *value,
                                       struct soothe_error *err) {
    struct soothe__candidate as_is  = {.id = LLAMA_TOKEN_NULL};
    enum soothe_status       status = SOOTHE_OK;
    *value                          = -INFINITY;
    if (st->rule.under == INFINITY)
        return SOOTHE_OK;
    if (st->rule.read) {
        status = st->rule.read(st->rule.self, step, i_row, &as_is, 1, err);
        *value = as_is.value;
        return status;
    }
    const float *state = soothe__branch_row_state(step->session, i_row);
    if (!state)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the target's state at a row is missing");
    *value = st->rule.measure(st->rule.self, state);
    return SOOTHE_OK;
}

static enum soothe_status acts_on(struct stage *st, const struct soothe__step *step, int32_t i_row, bool *acts,
                                  struct soothe_error *err) {
    float value;
    *acts = step->row_dose[i_row] != 0.0f &&
            /* the engine aborts at a position for which a model has no embedding */
            !(st->branches && soothe__step_position(step, i_row) + 1 >= st->n_trained);
    if (!*acts)
        return SOOTHE_OK;
    const enum soothe_status status = value_of_row(st, step, i_row, &value, err);
    *acts                           = value < st->rule.under;
    return status;
}

/* The candidates of logits z, appended to the group. */
static enum soothe_status pick(struct stage *st, const float *z, int32_t *n, struct soothe_error *err) {
    double sum = 0;
    *n         = 0;
    if (!z || !soothe__shortlist_read(&st->list, z, st->n_vocab))
        return soothe__fail(err, SOOTHE_E_NUMERIC, "the model's logits are no finite numbers: damaged weights?");
    if (!soothe__shortlist_fill(&st->list, z, st->n_vocab, st->rule.k, 1))
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for candidates");
    for (size_t i = 0; i < st->list.n && (i == 0 || sum < (double)st->rule.top_p) && isfinite(st->list.data[i].logit);
         i++) {
        const double p = exp((double)(st->list.data[i].logit - st->list.largest)) / st->list.sum;
        st->candidates[st->n + (*n)++] =
            (struct soothe__candidate){.id = st->list.data[i].id, .z = st->list.data[i].logit, .p = (float)p};
        sum += p;
    }
    return SOOTHE_OK;
}

/* ---- what becomes of the logits ------------------------------------------------------------------------------- */

void soothe__candidates_apply(float *z, int32_t n_vocab, const struct soothe__candidate *c, int32_t n,
                              const float *bonus, bool keep_rest) {
    double mass = 0, changed = 0, most = -INFINITY;
    for (int32_t i = 0; i < n; i++)
        most = fmax(most, (double)bonus[i]);
    for (int32_t i = 0; i < n; i++) {
        mass += (double)c[i].p;
        changed += (double)c[i].p * exp((double)bonus[i] - most);
    }
    const double shift = keep_rest && changed > 0 ? most + log(changed / mass) : 0;
    for (int32_t i = 0; i < n_vocab && !keep_rest; i++)
        z[i] = -INFINITY;
    for (int32_t i = 0; i < n; i++)
        z[c[i].id] = (float)((double)c[i].z + (double)bonus[i] - shift);
}

/* The likeliest of a row's changed candidates are kept for the next batch. */
static void mark_kept(struct stage *st, const struct row *r) {
    for (int32_t i = r->from; i < r->from + r->n; i++) {
        int32_t n_better = 0;
        for (int32_t k = r->from; k < r->from + r->n; k++)
            n_better += st->candidates[k].z + st->bonus[k] > st->candidates[i].z + st->bonus[i];
        st->twigs[i].keep = n_better < st->n_keep;
    }
}

/* Judges the candidates of the rows gathered so far and changes these rows. */
static enum soothe_status flush(struct stage *st, const struct soothe__step *step, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    if (st->branches && st->n > 0)
        status = soothe__branch_decode(step->session, st->twigs, st->n, err);
    if (status)
        return status;
    for (int32_t i = 0; i < st->n && st->branches; i++)
        st->candidates[i].value = st->rule.measure(st->rule.self, st->twigs[i].state);
    for (int32_t k = 0; k < st->n_rows && !status; k++) {
        const struct row         *r = &st->rows[k];
        struct soothe__candidate *c = st->candidates + r->from;
        if (!st->branches)
            status = st->rule.read(st->rule.self, step, r->i_row, c, r->n, err);
        if (status)
            break;
        st->rule.bonus(st->rule.self, r->dose, c, r->n, st->bonus + r->from);
        mark_kept(st, r);
        soothe__candidates_apply(soothe_get_logits_ith(step->session, step->row_token[r->i_row]), st->n_vocab, c, r->n,
                                 st->bonus + r->from, st->rule.keep_rest);
        if (st->rule.observe)
            st->rule.observe(st->rule.self, st->branches ? soothe__branch_row_state(step->session, r->i_row) : NULL, c,
                             r->n);
    }
    if (st->branches && st->n > 0)
        soothe__branch_settle(step->session, st->twigs, st->n);
    st->n = st->n_rows = 0;
    return status;
}

/* ---- the stage ------------------------------------------------------------------------------------------------ */

/* One candidate is certain whatever it is judged: no need to. */
static bool only_one(struct stage *st, const struct soothe__step *step, int32_t i_row, int32_t n) {
    const float none = 0;
    if (n == 1)
        soothe__candidates_apply(soothe_get_logits_ith(step->session, step->row_token[i_row]), st->n_vocab,
                                 st->candidates + st->n, 1, &none, st->rule.keep_rest);
    return n == 1;
}

static int32_t room_of(const struct stage *st) {
    return st->branches ? soothe__branch_room(st->session) : SOOTHE__CANDIDATES_MAX;
}

static enum soothe_status add_row(struct stage *st, const struct soothe__step *step, int32_t i_row,
                                  struct soothe_error *err) {
    int32_t            n;
    enum soothe_status status = SOOTHE_OK;
    if (st->n + st->rule.k > st->room) {
        status   = flush(st, step, err);
        st->room = room_of(st);
    }
    if (!status)
        status = pick(st, soothe_get_logits_ith(step->session, step->row_token[i_row]), &n, err);
    if (status || only_one(st, step, i_row, n))
        return status;
    for (int32_t i = st->n; i < st->n + n; i++)
        st->twigs[i] = (struct soothe__branch){.i_row = i_row, .token = st->candidates[i].id};
    st->rows[st->n_rows++] = (struct row){.i_row = i_row, .from = st->n, .n = n, .dose = step->row_dose[i_row]};
    st->n += n;
    return SOOTHE_OK;
}

/* How many branches there is room for, and how many of each row's may wait for the next batch: with more rows than
 * sequences are free, only the likeliest, so that the last rows find room too. */
static void plan_room(struct stage *st, int32_t n_acted_on) {
    const int32_t k        = st->rule.k;
    const int32_t keepable = st->branches ? soothe__branch_keepable(st->session) : 0;
    int32_t       n_free   = st->branches ? soothe__branch_n_free(st->session, false) : 0;
    st->n_keep             = 0;
    if (st->branches && n_acted_on > 0 && n_free < n_acted_on * k)
        n_free = soothe__branch_n_free(st->session, true);
    st->room = room_of(st);
    if (n_acted_on == 0 || !st->branches)
        return;
    const int32_t n = n_free - k < keepable ? n_free - k : keepable;
    if (n_acted_on * k <= n_free && n_acted_on * k <= keepable)
        st->n_keep = k;
    else if (n > 0)
        st->n_keep = n / n_acted_on;
}

static bool make_flags(struct stage *st, int32_t n) {
    if (n > st->n_flags) {
        bool *flags = soothe__realloc(st->flags, (size_t)n, sizeof *flags);
        if (!flags)
            return false;
        st->flags   = flags;
        st->n_flags = n;
    }
    return true;
}

static enum soothe_status change_rows(void *self, const struct soothe__step *step, struct soothe_error *err) {
    struct stage      *st     = self;
    enum soothe_status status = SOOTHE_OK;
    int32_t            n      = 0;
    if (!make_flags(st, step->n_rows))
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d rows", step->n_rows);
    for (int32_t i = 0; i < step->n_rows && !status; i++) {
        status = acts_on(st, step, i, &st->flags[i], err);
        n += st->flags[i];
    }
    if (status || n == 0)
        return status;
    plan_room(st, n);
    st->n = st->n_rows = 0;
    for (int32_t i = 0; i < step->n_rows && !status; i++)
        if (st->flags[i])
            status = add_row(st, step, i, err);
    return status ? status : flush(st, step, err);
}

static enum soothe_status before(void *self, const struct soothe__step *step, struct soothe_error *err) {
    const struct stage *st = self;
    return st->rule.before(st->rule.self, step, err);
}

static bool memory(void *self, const struct soothe__memory_change *change) {
    const struct stage *st = self;
    return st->rule.memory(st->rule.self, change);
}

enum soothe_status soothe__candidates_attach(struct soothe_session *session, const struct soothe__candidates_rule *rule,
                                             const struct soothe__branch_plan *plan, struct soothe_error *err) {
    const struct llama_model *model = llama_get_model(soothe_session_context(session));
    if (plan) {
        const enum soothe_status status = soothe__branch_enable(session, plan, err);
        if (status)
            return status;
        if (soothe__branch_room(session) < rule->k)
            return soothe__fail(err, SOOTHE_E_ARGUMENT,
                                "%d candidates: with %u sequences at a time at most %d can be branched", rule->k,
                                soothe__session_n_seq(session), soothe__branch_room(session));
    }
    struct stage *st = soothe__calloc(1, sizeof *st);
    if (!st)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for candidates");
    st->session                      = session;
    st->rule                         = *rule;
    st->branches                     = plan != NULL;
    st->n_vocab                      = llama_vocab_n_tokens(llama_model_get_vocab(model));
    st->n_trained                    = llama_model_n_ctx_train(model);
    const struct soothe__stage stage = {.self   = st,
                                        .before = rule->before ? before : NULL,
                                        .logits = change_rows,
                                        .memory = rule->memory ? memory : NULL,
                                        .free   = free_stage};
    return soothe__session_add_stage(session, &stage, err);
}
