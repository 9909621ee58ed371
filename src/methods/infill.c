/* SPDX-License-Identifier: Apache-2.0 */
#include "methods/infill.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text_tokens.h"
#include "generate/shortlist.h"

/* A fill while it is drawn. */
struct draw {
    struct soothe__sampler *sampler;
    struct soothe__fill    *fill;
    bool                    open;   /* more tokens come */
    int32_t                 i_row;  /* its place in the last batch */
    int32_t                 n_best; /* tokens of the best beginning so far */
    double                  best;   /* log p(right_0) behind it */
};

struct infiller {
    struct soothe_session    *session;
    const struct soothe__gap *gap;
    const struct llama_vocab *vocab;
    int32_t                   n_vocab, n;
    struct llama_batch        batch;
    struct draw               draws[SOOTHE__FILLS_MAX];
    struct soothe__shortlist  list;
};

static void push(struct llama_batch *b, llama_token token, int32_t pos, llama_seq_id seq, bool output) {
    b->token[b->n_tokens]     = token;
    b->pos[b->n_tokens]       = pos;
    b->n_seq_id[b->n_tokens]  = 1;
    b->seq_id[b->n_tokens][0] = seq;
    b->logits[b->n_tokens++]  = output;
}

enum soothe_status soothe__append_tokens(struct soothe_session *session, llama_seq_id seq, int32_t n_before,
                                         const llama_token *tokens, int32_t n, struct soothe_error *err) {
    const int32_t      n_batch = (int32_t)llama_n_batch(soothe_session_context(session));
    struct llama_batch batch   = llama_batch_init(n_batch < n ? n_batch : n > 0 ? n : 1, 0, 1);
    enum soothe_status status  = SOOTHE_OK;
    for (int32_t i = 0; i < n && !status; i++) {
        push(&batch, tokens[i], n_before + i, seq, false);
        if (batch.n_tokens < n_batch && i + 1 < n)
            continue;
        status         = soothe_decode(session, batch, err);
        batch.n_tokens = 0;
    }
    llama_batch_free(batch);
    return status;
}

/* ---- drawing ------------------------------------------------------------------------------------------------- */

static bool is_space(const struct infiller *f, llama_token token) {
    char         bytes[64];
    const size_t n = soothe__token_bytes(f->vocab, token, bytes, sizeof bytes);
    for (size_t i = 0; i < n && i < sizeof bytes; i++)
        if (!isspace((unsigned char)bytes[i]))
            return false;
    return true;
}

static bool starts_well(enum soothe__fill_start start, const char *bytes) {
    if (start == SOOTHE__FILL_SPACE)
        return bytes[0] == ' ';
    return start != SOOTHE__FILL_WORD || isalnum((unsigned char)bytes[0]) || (unsigned char)bytes[0] >= 0x80;
}

static bool ends_fill(const struct infiller *f, llama_token token, bool first) {
    char         bytes[64];
    const size_t n = soothe__token_bytes(f->vocab, token, bytes, sizeof bytes);
    if (first && n > 0 && !starts_well(f->gap->start, bytes))
        return true;
    return llama_vocab_is_eog(f->vocab, token) || llama_vocab_is_control(f->vocab, token) || n == 0 ||
           n > sizeof bytes || memchr(bytes, '\n', n);
}

/* Looks at the logits behind a fill so far, and draws its next token. */
static enum soothe_status go_on(struct infiller *f, struct draw *d, struct soothe_error *err) {
    const float *z   = soothe_get_logits_ith(f->session, d->i_row);
    const double sum = z ? soothe__log_sum_exp(z, f->n_vocab) : NAN;
    if (!isfinite(sum))
        return soothe__fail(err, SOOTHE_E_NUMERIC, "the target's logits are no numbers");
    if (d->fill->n > 0 && f->gap->n_right > 0 && !is_space(f, d->fill->tokens[d->fill->n - 1])) {
        const double log_p = (double)z[f->gap->right[0]] - sum;
        if (d->n_best == 0 || log_p > d->best) {
            d->best   = log_p;
            d->n_best = d->fill->n;
        }
    }
    d->open = d->fill->n < f->gap->n_most;
    if (!d->open)
        return SOOTHE_OK;
    const llama_token token = soothe__sampler_choose(d->sampler, z, f->n_vocab, &f->list);
    if (token == LLAMA_TOKEN_NULL)
        return soothe__fail(err, SOOTHE_E_NUMERIC, "no token can be drawn from the target's logits");
    d->open = !ends_fill(f, token, d->fill->n == 0);
    if (d->open)
        d->fill->tokens[d->fill->n++] = token;
    return SOOTHE_OK;
}

static enum soothe_status draw_all(struct infiller *f, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    f->batch.n_tokens         = 0;
    for (int32_t k = 0; k < f->n; k++) {
        soothe_seq_cp(f->session, 0, k + 1, -1, -1);
        f->draws[k].i_row = f->batch.n_tokens;
        f->draws[k].open  = true;
        push(&f->batch, f->gap->last, f->gap->n_left - 1, k + 1, true);
    }
    while (f->batch.n_tokens > 0 && !status) {
        status            = soothe_decode(f->session, f->batch, err);
        f->batch.n_tokens = 0;
        for (int32_t k = 0; k < f->n && !status; k++) {
            struct draw *d = &f->draws[k];
            if (!d->open)
                continue;
            status = go_on(f, d, err);
            if (status || !d->open)
                continue;
            d->i_row = f->batch.n_tokens;
            push(&f->batch, d->fill->tokens[d->fill->n - 1], f->gap->n_left + d->fill->n - 1, k + 1, true);
        }
    }
    return status;
}

/* ---- judging --------------------------------------------------------------------------------------------------- */

/* The rest of the right behind fill k, of which the first token is known already. */
static enum soothe_status judge(struct infiller *f, int32_t k, struct soothe_error *err) {
    struct draw              *d   = &f->draws[k];
    const struct soothe__gap *gap = f->gap;
    double                    sum = d->best;
    if (gap->n_right == 0) {
        d->fill->n = d->fill->n < gap->n_wanted ? d->fill->n : gap->n_wanted;
        while (d->fill->n > 0 && is_space(f, d->fill->tokens[d->fill->n - 1]))
            d->fill->n--; /* tokens begin with their space: one alone would stand in the way of the next */
        return SOOTHE_OK;
    }
    d->fill->n           = d->n_best;
    d->fill->log_p_right = -INFINITY;
    if (d->fill->n == 0)
        return SOOTHE_OK;
    if (!soothe_seq_rm(f->session, k + 1, gap->n_left + d->fill->n, -1))
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "the target's memory cannot be cut");
    f->batch.n_tokens = 0;
    for (int32_t i = 0; i + 1 < gap->n_right; i++)
        push(&f->batch, gap->right[i], gap->n_left + d->fill->n + i, k + 1, true);
    enum soothe_status status = f->batch.n_tokens ? soothe_decode(f->session, f->batch, err) : SOOTHE_OK;
    for (int32_t i = 0; i + 1 < gap->n_right && !status; i++) {
        const float *z = soothe_get_logits_ith(f->session, i);
        sum += (double)z[gap->right[i + 1]] - soothe__log_sum_exp(z, f->n_vocab);
    }
    d->fill->log_p_right = sum / gap->n_right;
    return status;
}

enum soothe_status soothe__infill(struct soothe_session *session, const struct soothe__gap *gap,
                                  const struct soothe__sampling *sampling, uint64_t stream, uint32_t i_draw, int32_t n,
                                  struct soothe__fill *fills, struct soothe_error *err) {
    struct llama_context *ctx = soothe_session_context(session);
    struct infiller       f   = {.session = session, .gap = gap, .n = n};
    f.vocab                   = llama_model_get_vocab(llama_get_model(ctx));
    f.n_vocab                 = llama_vocab_n_tokens(f.vocab);
    f.batch                   = llama_batch_init(SOOTHE__FILLS_MAX + SOOTHE__RIGHT_MAX, 0, 1);
    enum soothe_status status = SOOTHE_OK;
    for (int32_t k = 0; k < n && !status; k++) {
        fills[k]        = (struct soothe__fill){.n = 0};
        f.draws[k].fill = &fills[k];
        status          = soothe__sampler_new(&f.draws[k].sampler, sampling, f.vocab, (int32_t)llama_n_ctx(ctx), stream,
                                              i_draw + (uint32_t)k, err);
    }
    if (!status)
        status = draw_all(&f, err);
    for (int32_t k = 0; k < n && !status; k++)
        status = judge(&f, k, err);
    for (int32_t k = 0; k < n; k++) {
        soothe_seq_rm(session, k + 1, -1, -1);
        soothe__sampler_free(f.draws[k].sampler);
    }
    soothe__shortlist_free(&f.list);
    llama_batch_free(f.batch);
    return status;
}
