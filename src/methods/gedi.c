/* SPDX-License-Identifier: Apache-2.0
 * GeDi: a small model reads the text so far behind two control codes; Bayes' rule says for every next token how likely
 * the desired code is (docs/methods/gedi.md).
 *
 * The sums of log-probabilities run over the tokens that were generated while a dose was in force: over those whose row
 * was asked for. A prompt, decoded without rows, does not count, so that a rude prompt leaves the odds even. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "generate/shortlist.h"
#include "methods/mixer.h"
#include "methods/mixer_prefixes.h"

enum { N_SEQUENCES = 256 };

/* What is known of a sequence up to one of its tokens. */
struct past {
    llama_pos pos;
    double    sums[2];
    int32_t   n; /* tokens that count */
};

struct history {
    struct past *items;
    size_t       n, capacity;
    float       *rows;    /* (2, V) log-probabilities of what comes behind: */
    llama_pos    row_pos; /* this position, or -1                           */
};

/* The rule, of one session. */
struct reader {
    struct soothe__gedi p;
    int32_t             n_vocab;
    struct history      histories[N_SEQUENCES];
};

struct gedi {
    struct soothe__method_target base;
    struct llama_model          *owned;
    struct soothe__helper        helper;
    struct llama_context_params  context;
    struct soothe__gedi          p;
};

/* ---- what was read so far ------------------------------------------------------------------------------- */

static struct past last_of(const struct history *h) {
    return h->n ? h->items[h->n - 1] : (struct past){.pos = -1};
}

static bool push(struct history *h, struct past p) {
    if (h->n == h->capacity) {
        const size_t more  = h->capacity ? 2 * h->capacity : 64;
        struct past *items = soothe__realloc(h->items, more, sizeof *items);
        if (!items)
            return false;
        h->items    = items;
        h->capacity = more;
    }
    h->items[h->n++] = p;
    return true;
}

static bool read_token(struct reader *r, struct history *h, llama_token token, const llama_pos *pos) {
    struct past p = last_of(h);
    p.pos         = pos ? *pos : p.pos + 1;
    if (h->rows && h->row_pos >= 0 && h->row_pos + 1 == p.pos) {
        for (int32_t c = 0; c < 2; c++)
            p.sums[c] += (double)h->rows[c * r->n_vocab + token];
        p.n++;
    }
    return push(h, p);
}

static enum soothe_status batch(void *self, const struct soothe__step *step, struct soothe_error *err) {
    static const llama_seq_id FIRST = 0;
    const struct llama_batch *b     = step->batch;
    bool                      ok    = b->token != NULL;
    for (int32_t i = 0; i < b->n_tokens && ok; i++) {
        const bool          named = b->seq_id && b->n_seq_id;
        const llama_seq_id *ids   = named ? b->seq_id[i] : &FIRST;
        for (int32_t k = 0; k < (named ? b->n_seq_id[i] : 1) && ok; k++)
            ok = ids[k] >= N_SEQUENCES ||
                 read_token(self, &((struct reader *)self)->histories[ids[k]], b->token[i], b->pos ? &b->pos[i] : NULL);
    }
    return ok ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_UNSUPPORTED, "helpers can follow tokens only, and need memory");
}

static void cut(struct history *h, llama_pos from) {
    while (h->n && h->items[h->n - 1].pos >= from)
        h->n--;
    if (h->row_pos >= from)
        h->row_pos = -1;
}

static void copy(struct reader *r, const struct history *from, struct history *to, llama_pos p1) {
    cut(to, 0);
    for (size_t i = 0; i < from->n && (p1 < 0 || from->items[i].pos < p1); i++)
        if (!push(to, from->items[i]))
            return; /* the text then counts for less */
    if (from->row_pos < 0 || (p1 >= 0 && from->row_pos >= p1))
        return;
    const size_t n = 2 * (size_t)r->n_vocab;
    if (!to->rows)
        to->rows = soothe__calloc(n, sizeof *to->rows);
    if (to->rows) {
        memcpy(to->rows, from->rows, n * sizeof *to->rows);
        to->row_pos = from->row_pos;
    }
}

static void memory(void *self, const struct soothe__memory_change *c) {
    struct reader *r = self;
    if (c->seq >= N_SEQUENCES || (c->op == SOOTHE__MEMORY_CP && (c->to >= N_SEQUENCES || c->to == c->seq)))
        return;
    if (c->op == SOOTHE__MEMORY_CP) {
        if (c->p0 <= 0)
            copy(r, &r->histories[c->seq], &r->histories[c->to], c->p1);
        return;
    }
    for (llama_seq_id s = 0; s < N_SEQUENCES; s++) {
        const bool kept = c->op == SOOTHE__MEMORY_KEEP ? s == c->seq
                          : c->op == SOOTHE__MEMORY_RM ? (c->seq >= 0 && s != c->seq) || c->p1 >= 0
                                                       : false;
        if (!kept)
            cut(&r->histories[s], c->op == SOOTHE__MEMORY_RM && c->p0 > 0 ? c->p0 : 0);
    }
}

/* ---- the rule --------------------------------------------------------------------------------------------- */

static enum soothe_status keep_rows(struct reader *r, struct history *h, const float *const *sources,
                                    struct soothe_error *err) {
    if (!h->rows)
        h->rows = soothe__calloc(2 * (size_t)r->n_vocab, sizeof *h->rows);
    if (!h->rows)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for two rows of log-probabilities");
    for (int32_t c = 0; c < 2; c++) {
        const float lse = (float)soothe__log_sum_exp(sources[c], r->n_vocab);
        for (int32_t i = 0; i < r->n_vocab; i++)
            h->rows[c * r->n_vocab + i] = sources[c][i] - lse;
    }
    h->row_pos = last_of(h).pos;
    return SOOTHE_OK;
}

static enum soothe_status row(void *self, const struct soothe__mixer_row *m, struct soothe_error *err) {
    struct reader      *r      = self;
    struct history     *h      = &r->histories[m->seq];
    const struct past   past   = last_of(h);
    struct soothe__gedi p      = r->p;
    enum soothe_status  status = keep_rows(r, h, m->sources, err);
    p.omega *= m->dose;
    p.filter_p *= m->dose < 1 ? m->dose : 1;
    return status ? status
                  : soothe__mix_gedi(m->z, m->n_vocab, m->sources[0], m->sources[1], past.sums, past.n + 1, &p, err);
}

static void reader_free(void *self) {
    struct reader *r = self;
    for (size_t i = 0; i < N_SEQUENCES; i++) {
        free(r->histories[i].items);
        free(r->histories[i].rows);
    }
    free(r);
}

/* ---- the method --------------------------------------------------------------------------------------------- */

static enum soothe_status open_it(struct soothe__link *l, const struct soothe__method_target *target,
                                  struct llama_context_params *context, struct soothe_error *err) {
    const char  *clean = soothe__link_value(l, "clean")->text, *dirty = soothe__link_value(l, "dirty")->text;
    const char  *model = soothe__link_value(l, "model")->text;
    struct gedi *g     = soothe__calloc(1, sizeof *g);
    l->state           = g;
    l->strength        = soothe__link_number(l, "strength");
    l->source          = model;
    if (!g)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    g->p                      = (struct soothe__gedi){.omega    = l->strength,
                                                      .filter_p = soothe__link_number(l, "filter-p"),
                                                      .target_p = soothe__link_number(l, "target-p"),
                                                      .scale    = soothe__link_number(l, "scale"),
                                                      .bias     = soothe__link_number(l, "bias")};
    g->context                = *context;
    enum soothe_status status = soothe__mixer_base(&g->base, &g->owned, target, model, err);
    g->helper                 = (struct soothe__helper){
                        .model      = g->base.model,
                        .prefixes   = {clean ? clean : SOOTHE__PREFIX_CLEAN, dirty ? dirty : SOOTHE__PREFIX_TOXIC},
                        .n_prefixes = 2};
    return status;
}

static enum soothe_status attach(struct soothe__link *l, struct soothe_session *session, struct soothe_error *err) {
    struct gedi             *g = l->state;
    struct soothe__follower *followers[SOOTHE__FOLLOWERS_MAX];
    size_t                   n = 0;
    if (g->p.omega == 0)
        return SOOTHE_OK;
    enum soothe_status status = soothe__followers_add(followers, &n, &g->helper, session, &g->context, err);
    struct reader     *r      = status ? NULL : soothe__calloc(1, sizeof *r);
    if (!status && !r)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (status) {
        soothe__followers_free(followers, n);
        return status;
    }
    r->p       = g->p;
    r->n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(g->base.model));
    for (size_t i = 0; i < N_SEQUENCES; i++)
        r->histories[i].row_pos = -1;
    return soothe__mixer_add(
        session, followers, n, NULL,
        &(struct soothe__mixer_rule){.self = r, .row = row, .batch = batch, .memory = memory, .free = reader_free},
        err);
}

static void release(void *state) {
    struct gedi *g = state;
    if (g)
        llama_model_free(g->owned);
    free(g);
}

static const struct soothe__parameter PARAMETERS[] = {
    {"strength", SOOTHE__NUMBER, "30", 0, 1e4, NULL, "omega, the power of the desired code's probability"},
    {"model", SOOTHE__FILE, NULL, 0, 0, NULL, "the class-conditional model; the target itself if not given"},
    {"clean", SOOTHE__TEXT, NULL, 0, 0, NULL, "the desired control code; a sentence about the text if not given"},
    {"dirty", SOOTHE__TEXT, NULL, 0, 0, NULL, "the undesired control code; a sentence about the text if not given"},
    {"filter-p", SOOTHE__NUMBER, "0.8", 0, 1, NULL, "probability of the least desired tokens that may be dropped"},
    {"target-p", SOOTHE__NUMBER, "0.8", 0, 1, NULL, "tokens that make the desired code so likely are never dropped"},
    {"scale", SOOTHE__NUMBER, "1", 0, 1000, NULL, "of the mean log-probability in a code's logit"},
    {"bias", SOOTHE__NUMBER, "0", -100, 100, NULL, "of the desired code's logit over the other's"},
    {.name = NULL}};

const struct soothe__method soothe__method_gedi = {
    .name       = "gedi",
    .summary    = "Bayes' rule over a model behind two control codes",
    .stage      = "logits",
    .cost       = "two rows of the class-conditional model, in one batch",
    .source     = "GeDi: Generative Discriminator Guided Sequence Generation, 2020",
    .parameters = PARAMETERS,
    .open       = open_it,
    .attach     = attach,
    .release    = release};
