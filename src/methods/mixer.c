/* SPDX-License-Identifier: Apache-2.0
 * The mixer as a stage: followers decode ahead of the target; behind it the head's rows are made, in one product for
 * many rows, and every row goes through the rule. */
#include <stdlib.h>
#include <string.h>

#include "methods/mixer.h"

enum { PIECE = 32 }; /* rows of the head at a time */

struct mixer {
    struct soothe__follower  *followers[SOOTHE__FOLLOWERS_MAX];
    size_t                    n_followers;
    struct soothe__own_head  *head;
    struct soothe__mixer_rule rule;
    int32_t                   d, n_vocab;
    struct soothe__rows       h;             /* the target's final states, of rows with a dose */
    float                    *u, *head_rows; /* (PIECE, d), (PIECE, V) */
};

static void free_all(struct soothe__follower *const *followers, size_t n, const struct soothe__mixer_rule *rule) {
    soothe__followers_free(followers, n);
    if (rule->free)
        rule->free(rule->self);
}

static void mixer_free(void *self) {
    struct mixer *m = self;
    if (!m)
        return;
    free_all(m->followers, m->n_followers, &m->rule);
    free(m->h.data);
    free(m->u);
    free(m->head_rows);
    free(m);
}

static enum soothe_status before(void *self, const struct soothe__step *step, struct soothe_error *err) {
    struct mixer      *m      = self;
    enum soothe_status status = m->rule.batch ? m->rule.batch(m->rule.self, step, err) : SOOTHE_OK;
    if (!status && m->head && !soothe__rows_begin(&m->h, step->n_rows, m->d))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d states", step->n_rows);
    for (size_t k = 0; k < m->n_followers && !status; k++)
        status = soothe__follower_decode(m->followers[k], step, err);
    return status;
}

/* Changes nothing: keeps the state for the head. */
static bool keep_state(void *self, const struct soothe__step *step, int32_t i_row, float *h, float *scratch) {
    struct mixer *m = self;
    (void)step;
    (void)scratch;
    memcpy(soothe__row_at(&m->h, i_row), h, (size_t)m->d * sizeof *h);
    return false;
}

/* The head's rows for the next rows that have a dose, from row i on, as many as go at a time. */
static enum soothe_status head_piece(struct mixer *m, const struct soothe__step *step, int32_t i,
                                     struct soothe_error *err) {
    int32_t n = 0;
    for (; i < step->n_rows && n < PIECE; i++)
        if (step->row_dose[i] != 0.0f)
            m->rule.state(m->rule.self, soothe__row_at(&m->h, i), m->u + (size_t)n++ * (size_t)m->d, m->d);
    if (m->rule.picks)
        return SOOTHE_OK;
    return soothe__own_head_apply(m->head, m->u, n, llama_n_threads(soothe_session_context(step->session)),
                                  m->head_rows, err);
}

/* k_head  the row's place in the head's piece */
static enum soothe_status mix_row(struct mixer *m, const struct soothe__step *step, int32_t i, int32_t k_head,
                                  struct soothe_error *err) {
    const float *sources[SOOTHE__FOLLOWERS_MAX * SOOTHE__PREFIXES_MAX + 1];
    size_t       n = 0;
    for (size_t f = 0; f < m->n_followers; f++)
        for (int32_t k = 0; k < soothe__follower_n_rows(m->followers[f]); k++)
            sources[n++] = soothe__follower_row(m->followers[f], i, k);
    if (m->head && !m->rule.picks)
        sources[n] = m->head_rows + (size_t)k_head * (size_t)m->n_vocab;
    const struct soothe__mixer_row row = {.z       = soothe_get_logits_ith(step->session, step->row_token[i]),
                                          .sources = sources,
                                          .h       = m->head ? soothe__row_at(&m->h, i) : NULL,
                                          .u       = m->rule.picks ? m->u + (size_t)k_head * (size_t)m->d : NULL,
                                          .n_vocab = m->n_vocab,
                                          .dose    = step->row_dose[i],
                                          .seq     = step->row_seq[i]};
    if (!row.z)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the target gave no logits for row %d", i);
    return m->rule.row(m->rule.self, &row, err);
}

static enum soothe_status mix(void *self, const struct soothe__step *step, struct soothe_error *err) {
    struct mixer      *m      = self;
    enum soothe_status status = SOOTHE_OK;
    int32_t            n      = 0; /* rows with a dose so far */
    for (int32_t i = 0; i < step->n_rows && !status; i++) {
        if (step->row_dose[i] == 0.0f)
            continue;
        if (m->head && n % PIECE == 0)
            status = head_piece(m, step, i, err);
        if (!status)
            status = mix_row(m, step, i, n % PIECE, err);
        n++;
    }
    return status;
}

static bool memory(void *self, const struct soothe__memory_change *change) {
    struct mixer *m    = self;
    bool          done = true;
    for (size_t k = 0; k < m->n_followers; k++)
        done = soothe__follower_memory(m->followers[k], change) && done;
    if (m->rule.memory)
        m->rule.memory(m->rule.self, change);
    return done;
}

static enum soothe_status make_room(struct mixer *m, struct soothe_error *err) {
    if (!m->head)
        return SOOTHE_OK;
    if (soothe__own_head_width(m->head) != m->d || soothe__own_head_n_vocab(m->head) != m->n_vocab)
        return soothe__fail(err, SOOTHE_E_SHAPE, "a head of %d x %d is not the target's (%d x %d)",
                            soothe__own_head_n_vocab(m->head), soothe__own_head_width(m->head), m->n_vocab, m->d);
    m->u         = soothe__calloc((size_t)PIECE * (size_t)m->d, sizeof *m->u);
    m->head_rows = m->rule.picks ? NULL : soothe__calloc((size_t)PIECE * (size_t)m->n_vocab, sizeof *m->head_rows);
    return m->u && (m->head_rows || m->rule.picks) ? SOOTHE_OK
                                                   : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory making a mixer");
}

enum soothe_status soothe__mixer_add(struct soothe_session *session, struct soothe__follower *const *followers,
                                     size_t n_followers, struct soothe__own_head *head,
                                     const struct soothe__mixer_rule *rule, struct soothe_error *err) {
    const struct llama_model *model = llama_get_model(soothe_session_context(session));
    struct mixer             *m     = soothe__calloc(1, sizeof *m);
    if (!m) {
        free_all(followers, n_followers, rule);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory making a mixer");
    }
    *m = (struct mixer){.n_followers = n_followers, .head = head, .rule = *rule};
    if (n_followers)
        memcpy(m->followers, followers, n_followers * sizeof *followers);
    m->d                      = llama_model_n_embd(model);
    m->n_vocab                = llama_vocab_n_tokens(llama_model_get_vocab(model));
    enum soothe_status status = make_room(m, err);
    if (status) {
        mixer_free(m);
        return status;
    }
    return soothe__session_add_stage(session,
                                     &(struct soothe__stage){.self   = m,
                                                             .before = before,
                                                             .state  = head ? keep_state : NULL,
                                                             .logits = mix,
                                                             .memory = memory,
                                                             .free   = mixer_free},
                                     err);
}
