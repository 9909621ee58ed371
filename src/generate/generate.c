/* SPDX-License-Identifier: Apache-2.0
 * Many continuations at once over one session.
 *
 * All of a prompt but its last token is decoded once and copied (soothe_seq_cp) to the sequences that continue
 * it; the last token goes in with each of them, since its logits depend on the dose. From then on every step
 * decodes one token of each sequence. Free sequences take up the next continuation in order; a prompt with
 * continuations still to come is kept in one sequence more, the *keeper*. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/batch.h"
#include "engine/text_tokens.h"
#include "fusion/stage.h"
#include "generate/generate.h"
#include "generate/shortlist.h"

enum { TRY_SHIFT = 20 }; /* tries have generators of their own, behind those of a million samples */

/* A sequence and the continuation that it carries. */
struct slot {
    bool                            active;
    bool                            closing; /* all its tokens are there; the last one's state is yet to be read */
    struct soothe__continuation     c;
    struct soothe__sampler         *sampler;
    struct soothe__utf8_stream      bytes;
    char                           *text;
    size_t                          text_capacity;
    struct soothe__generated_token *tokens;
    int32_t                         tokens_capacity;
    int32_t                         budget; /* tokens at most */
    llama_token                     next;   /* to be decoded, at: */
    llama_pos                       pos;
    int32_t                         i_row; /* of the step's batch */
    double                          started;
};

struct generator {
    struct soothe_session                 *session;
    struct llama_context                  *ctx;
    const struct llama_vocab              *vocab;
    const struct soothe__prompt           *prompts;
    size_t                                 n_prompts;
    const struct soothe__generate_options *o;
    struct soothe__generate_stats          stats;
    struct slot                           *slots;
    int32_t                                n_slots, n_active, n_ctx, n_longest; /* n_longest: tokens of one text */
    struct llama_batch                     batch;
    int32_t                                n_batch;
    size_t                                 i_prompt;  /* the next continuation to start: this prompt's … */
    size_t                                 i_variant; /* … (dose * n_samples + sample) * n_tries + try */
    size_t                                 n_variants;
    struct soothe__shortlist               shortlist;
    llama_seq_id                           primary; /* carries the prompt i_prompt since this round, or -1 */
    bool                                   kept;    /* the keeper carries it                               */
};

struct soothe__generate_options soothe__generate_options_default(void) {
    return (struct soothe__generate_options){.sampling = soothe__sampling_default(), .n_samples = 1, .n_predict = 128};
}

const char *soothe__finish_name(enum soothe__finish finish) {
    static const char *const NAMES[] = {"stop", "length", "interrupted"};
    return NAMES[finish];
}

void soothe__generate_context(struct llama_context_params *context, const struct llama_model *model,
                              const struct soothe__prompt *prompts, size_t n_prompts,
                              const struct soothe__generate_options *o, int32_t n_parallel) {
    context->n_seq_max  = (uint32_t)n_parallel + 1;
    context->kv_unified = true; /* sequences share the cells of their prompt */
    if (context->n_ctx > 0)
        return;
    const int64_t trained = llama_model_n_ctx_train(model);
    int64_t       longest = 0;
    for (size_t i = 0; i < n_prompts; i++)
        longest = prompts[i].n_tokens > longest ? prompts[i].n_tokens : longest;
    int64_t one = o->n_predict < 0 || longest + o->n_predict > trained ? trained : longest + o->n_predict;
    if (one * n_parallel > trained && o->n_predict < 0) /* no wish for memory that no text may need */
        n_parallel = 1;
    context->n_ctx = (uint32_t)(one * n_parallel + (n_parallel > 1 ? longest : 0));
}

/* ---- room -------------------------------------------------------------------------------------------- */

/* Cells of the cache that may be needed by what is under way. Prompts shared count more than once: too many
 * rather than too few. */
static int64_t cells_reserved(const struct generator *g) {
    int64_t n = g->kept ? g->prompts[g->i_prompt].n_tokens : 0;
    for (int32_t i = 0; i < g->n_slots; i++)
        if (g->slots[i].active)
            n += g->prompts[g->slots[i].c.i_prompt].n_tokens + g->slots[i].budget;
    return n;
}

/* What a continuation may grow to does not depend on what runs beside it. */
static int32_t budget_of(const struct generator *g, const struct soothe__prompt *p) {
    const int32_t room = g->n_longest - p->n_tokens;
    return g->o->n_predict < 0 || g->o->n_predict > room ? room : g->o->n_predict;
}

static struct slot *free_slot(const struct generator *g) {
    for (int32_t i = 0; i < g->n_slots; i++)
        if (!g->slots[i].active)
            return &g->slots[i];
    return NULL;
}

static llama_seq_id sequence_of(const struct generator *g, const struct slot *s) {
    return (llama_seq_id)(s - g->slots);
}

static llama_seq_id keeper(const struct generator *g) {
    return g->n_slots;
}

/* ---- batches ------------------------------------------------------------------------------------------ */

static enum soothe_status decode_batch(struct generator *g, double *seconds, struct soothe_error *err) {
    if (g->batch.n_tokens == 0)
        return SOOTHE_OK;
    const double             from   = soothe__seconds();
    const enum soothe_status status = soothe_decode(g->session, g->batch, err);
    g->batch.n_tokens               = 0;
    *seconds += soothe__seconds() - from;
    return status;
}

static bool stopped(const struct generator *g) {
    return g->o->stop && *g->o->stop;
}

/* The prompt without its last token; what is left in the batch is decoded later, with other prompts. */
static enum soothe_status add_prompt(struct generator *g, const struct soothe__prompt *p, llama_seq_id seq,
                                     struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (int32_t i = 0; i + 1 < p->n_tokens && status == SOOTHE_OK && !stopped(g); i++) {
        if (g->batch.n_tokens == g->n_batch)
            status = decode_batch(g, &g->stats.prompt_seconds, err);
        soothe__batch_add(&g->batch, p->tokens[i], i, seq, false);
    }
    g->stats.n_prompt_tokens += p->n_tokens;
    return status;
}

/* ---- starting continuations ------------------------------------------------------------------------------ */

static enum soothe_status start_slot(struct generator *g, struct slot *s, struct soothe_error *err) {
    const struct soothe__prompt *p         = &g->prompts[g->i_prompt];
    const size_t                 n_tries   = g->o->n_tries > 0 ? (size_t)g->o->n_tries : 1;
    const size_t                 n_samples = g->n_variants / n_tries / (g->o->n_doses ? g->o->n_doses : 1);
    const size_t                 i_try     = g->i_variant % n_tries;
    const size_t                 i_sample  = g->i_variant / n_tries % n_samples;
    const uint32_t               i_draw    = (uint32_t)i_sample + ((uint32_t)i_try << TRY_SHIFT);
    enum soothe_status           status =
        soothe__sampler_new(&s->sampler, &g->o->sampling, g->vocab, g->n_ctx, p->stream, i_draw, err);
    if (status)
        return status;
    for (int32_t i = 0; i < p->n_tokens; i++) /* the penalties look back into the prompt */
        soothe__sampler_accept(s->sampler, p->tokens[i]);
    s->c = (struct soothe__continuation){.i_prompt = g->i_prompt,
                                         .i_sample = (int32_t)i_sample,
                                         .i_try    = (int32_t)i_try,
                                         .i_dose   = g->i_variant / n_tries / n_samples};
    if (g->o->n_doses)
        status = soothe__session_set_dose(g->session, sequence_of(g, s), g->o->doses[s->c.i_dose], err);
    s->c.dose = soothe__session_dose(g->session, sequence_of(g, s));
    s->bytes  = (struct soothe__utf8_stream){.n_held = 0};
    if (s->text) /* of the continuation before */
        s->text[0] = '\0';
    s->budget  = budget_of(g, p);
    s->next    = p->tokens[p->n_tokens - 1];
    s->pos     = p->n_tokens - 1;
    s->started = soothe__seconds();
    s->active  = true;
    s->closing = false;
    g->n_active++;
    return status;
}

/* Where the prompts of this round get copied to, once the batch is decoded. */
struct copy {
    llama_seq_id from, to;
};

static void next_prompt(struct generator *g) {
    if (g->kept)
        soothe_seq_rm(g->session, keeper(g), -1, -1);
    g->kept      = false;
    g->primary   = -1;
    g->i_variant = 0;
    g->i_prompt++;
}

/* Fills the free sequences as far as there is work and room. */
static enum soothe_status admit(struct generator *g, struct copy *copies, struct soothe_error *err) {
    enum soothe_status status   = SOOTHE_OK;
    size_t             n_copies = 0;
    g->primary                  = -1;
    while (g->i_prompt < g->n_prompts && status == SOOTHE_OK && !stopped(g)) {
        const struct soothe__prompt *p = &g->prompts[g->i_prompt];
        struct slot                 *s = free_slot(g);
        if (!s || (g->n_active > 0 && cells_reserved(g) + p->n_tokens + budget_of(g, p) > g->n_ctx))
            break;
        const llama_seq_id seq = sequence_of(g, s);
        if (g->kept)
            soothe_seq_cp(g->session, keeper(g), seq, -1, -1);
        else if (g->primary >= 0)
            copies[n_copies++] = (struct copy){g->primary, seq};
        else
            status = add_prompt(g, p, g->primary = seq, err);
        if (status == SOOTHE_OK)
            status = start_slot(g, s, err);
        if (++g->i_variant == g->n_variants)
            next_prompt(g);
    }
    if (g->primary >= 0 && !g->kept) { /* more of this prompt's are to come */
        copies[n_copies++] = (struct copy){g->primary, keeper(g)};
        g->kept            = true;
    }
    if (status == SOOTHE_OK && !stopped(g))
        status = decode_batch(g, &g->stats.prompt_seconds, err);
    for (size_t i = 0; i < n_copies && status == SOOTHE_OK; i++)
        soothe_seq_cp(g->session, copies[i].from, copies[i].to, -1, -1);
    return status;
}

/* ---- one token more ---------------------------------------------------------------------------------------- */

static void finish(struct generator *g, struct slot *s, enum soothe__finish why) {
    s->c.finish  = why;
    s->c.seconds = soothe__seconds() - s->started;
    s->c.text    = s->text ? s->text : "";
    s->c.tokens  = s->tokens;
    if (g->o->on_done)
        g->o->on_done(g->o->user, &s->c);
    soothe_seq_rm(g->session, sequence_of(g, s), -1, -1);
    soothe__sampler_free(s->sampler);
    s->sampler = NULL;
    s->active  = false;
    g->n_active--;
}

/* Appends a token and the characters it completes; *n_new is their size. */
static enum soothe_status append(struct generator *g, struct slot *s, llama_token token, double p, size_t *n_new,
                                 struct soothe_error *err) {
    char         piece[256], *bytes = piece;
    const size_t n     = soothe__token_bytes(g->vocab, token, piece, sizeof piece);
    const size_t need  = s->c.size + 3 * (n + sizeof s->bytes.held) + 1;
    char        *large = NULL;
    if (n > sizeof piece) { /* some vocabularies have whole lines of spaces as one token */
        bytes = large = soothe__calloc(n, 1);
        if (large)
            soothe__token_bytes(g->vocab, token, large, n);
    }
    if (need > s->text_capacity) {
        char *text = soothe__realloc(s->text, 2 * need, 1);
        if (text) {
            s->text          = text;
            s->text_capacity = 2 * need;
        }
    }
    if (s->c.n_tokens == s->tokens_capacity) {
        const int32_t                   more   = s->tokens_capacity ? 2 * s->tokens_capacity : 64;
        struct soothe__generated_token *tokens = soothe__realloc(s->tokens, (size_t)more, sizeof *tokens);
        if (tokens) {
            s->tokens          = tokens;
            s->tokens_capacity = more;
        }
    }
    if (!bytes || need > s->text_capacity || s->c.n_tokens == s->tokens_capacity) {
        free(large);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a text of %d tokens", s->c.n_tokens);
    }
    *n_new = soothe__utf8_push(&s->bytes, bytes, n, s->text + s->c.size);
    s->c.size += *n_new;
    s->text[s->c.size]         = '\0';
    s->tokens[s->c.n_tokens++] = (struct soothe__generated_token){
        token, (float)p, NAN, soothe__session_row_dose(g->session, s->i_row), s->c.size};
    s->c.text   = s->text;
    s->c.tokens = s->tokens;
    free(large);
    return SOOTHE_OK;
}

static enum soothe_status take_token(struct generator *g, struct slot *s, struct soothe_error *err) {
    const int32_t     n_vocab = llama_vocab_n_tokens(g->vocab);
    const float      *z       = soothe_get_logits_ith(g->session, s->i_row);
    const llama_token token   = z ? soothe__sampler_choose(s->sampler, z, n_vocab, &g->shortlist) : LLAMA_TOKEN_NULL;
    if (token < 0)
        return soothe__fail(err, SOOTHE_E_NUMERIC, "the model's logits are no finite numbers: damaged weights?");
    if (llama_vocab_is_eog(g->vocab, token)) {
        finish(g, s, SOOTHE__FINISH_STOP);
        return SOOTHE_OK;
    }
    const double       p      = g->o->log_probs ? soothe__shortlist_log_prob(&g->shortlist, z[token]) : (double)NAN;
    size_t             n_new  = 0;
    enum soothe_status status = append(g, s, token, p, &n_new, err);
    if (status)
        return status;
    g->stats.n_tokens++;
    s->next = token;
    s->pos++;
    s->c.seconds = soothe__seconds() - s->started;
    if (g->o->on_token && !g->o->on_token(g->o->user, &s->c, n_new))
        finish(g, s, SOOTHE__FINISH_INTERRUPTED);
    else if (s->c.n_tokens >= s->budget && g->o->read)
        s->closing = true;
    else if (s->c.n_tokens >= s->budget)
        finish(g, s, SOOTHE__FINISH_LENGTH);
    return SOOTHE_OK;
}

/* The step has decoded the continuation's latest token: its state is there. */
static enum soothe_status read_state(struct generator *g, struct slot *s, struct soothe_error *err) {
    if (!g->o->read || s->c.n_tokens == 0)
        return SOOTHE_OK;
    const float *state = soothe__session_tapped(g->session, SOOTHE__LISTENER_CALLER, s->i_row);
    if (!state)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "the session listens to no state that could be read");
    s->tokens[s->c.n_tokens - 1].reading = (float)g->o->read(g->o->read_user, state);
    return SOOTHE_OK;
}

static enum soothe_status step(struct generator *g, struct soothe_error *err) {
    const double from    = soothe__seconds();
    double       ignored = 0;
    for (int32_t i = 0; i < g->n_slots; i++) {
        struct slot *s = &g->slots[i];
        if (s->active) {
            s->i_row = g->batch.n_tokens;
            soothe__batch_add(&g->batch, s->next, s->pos, i, true);
        }
    }
    enum soothe_status status = decode_batch(g, &ignored, err);
    for (int32_t i = 0; i < g->n_slots && status == SOOTHE_OK; i++) {
        struct slot *s = &g->slots[i];
        if (!s->active)
            continue;
        status = read_state(g, s, err);
        if (s->closing && status == SOOTHE_OK)
            finish(g, s, SOOTHE__FINISH_LENGTH);
        else if (status == SOOTHE_OK)
            status = take_token(g, s, err);
    }
    g->stats.token_seconds += soothe__seconds() - from;
    return status;
}

/* ---- all of them ---------------------------------------------------------------------------------------------- */

static enum soothe_status check(const struct generator *g, struct soothe_error *err) {
    const int32_t n_vocab = llama_vocab_n_tokens(g->vocab);
    if (g->n_slots < 1)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "the session has one sequence; generation needs two or more (n_seq_max)");
    if (g->o->n_predict == 0 || g->o->n_predict < -1)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%d tokens to generate: 1 or more are possible, or -1 for all",
                            g->o->n_predict);
    for (size_t i = 0; i < g->n_prompts; i++) {
        const struct soothe__prompt *p = &g->prompts[i];
        if (p->n_tokens <= 0)
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "prompt %zu is empty", i + 1);
        if (p->n_tokens >= g->n_longest)
            return soothe__fail(err, SOOTHE_E_ARGUMENT,
                                "prompt %zu has %d tokens; with room for a continuation it must be shorter than the "
                                "context of %d",
                                i + 1, p->n_tokens, g->n_longest);
        for (int32_t k = 0; k < p->n_tokens; k++)
            if (p->tokens[k] < 0 || p->tokens[k] >= n_vocab)
                return soothe__fail(err, SOOTHE_E_ARGUMENT, "prompt %zu holds token %d: ids 0 to %d exist", i + 1,
                                    p->tokens[k], n_vocab - 1);
    }
    return SOOTHE_OK;
}

/* The engine mixes the rows of several sequences where a model has a recurrent memory: then one at a time. */
static int32_t slots_of(struct soothe_session *session) {
    struct llama_context     *ctx   = soothe_session_context(session);
    const struct llama_model *model = llama_get_model(ctx);
    const int32_t             n     = (int32_t)soothe__session_n_seq(session) - 1;
    const int32_t             batch = (int32_t)llama_n_batch(ctx);
    if (n > 1 && (llama_model_is_recurrent(model) || llama_model_is_hybrid(model)))
        return 1;
    return n < batch ? n : batch;
}

static enum soothe_status run(struct generator *g, struct soothe_error *err) {
    struct copy       *copies = soothe__calloc((size_t)g->n_slots + 1, sizeof *copies);
    enum soothe_status status = SOOTHE_OK;
    if (!copies)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d sequences", g->n_slots);
    while (status == SOOTHE_OK && !stopped(g) && (g->i_prompt < g->n_prompts || g->n_active > 0)) {
        status = admit(g, copies, err);
        if (status == SOOTHE_OK && !stopped(g))
            status = step(g, err);
    }
    if (status == SOOTHE_OK && stopped(g)) {
        for (int32_t i = 0; i < g->n_slots; i++)
            if (g->slots[i].active)
                finish(g, &g->slots[i], SOOTHE__FINISH_INTERRUPTED);
        status = soothe__fail(err, SOOTHE_E_INTERRUPTED, "interrupted");
    }
    free(copies);
    return status;
}

enum soothe_status soothe__generate(struct soothe_session *session, const struct soothe__prompt *prompts,
                                    size_t n_prompts, const struct soothe__generate_options *options,
                                    struct soothe__generate_stats *stats, struct soothe_error *err) {
    struct llama_context *ctx = soothe_session_context(session);
    struct generator      g   = {.session   = session,
                                 .ctx       = ctx,
                                 .vocab     = llama_model_get_vocab(llama_get_model(ctx)),
                                 .prompts   = prompts,
                                 .n_prompts = n_prompts,
                                 .o         = options,
                                 .n_slots   = slots_of(session),
                                 .n_ctx     = soothe__session_n_ctx(session),
                                 .n_batch   = (int32_t)llama_n_batch(ctx),
                                 .primary   = -1};
    g.n_variants              = (size_t)(options->n_samples > 0 ? options->n_samples : 1) *
                   (size_t)(options->n_tries > 0 ? options->n_tries : 1) * (options->n_doses ? options->n_doses : 1);
    /* A context shared by several may be larger than what the model was trained for. */
    const int32_t trained = llama_model_n_ctx_train(llama_get_model(ctx));
    g.n_longest           = g.n_slots > 1 && trained < g.n_ctx ? trained : g.n_ctx;
    if (stats)
        *stats = g.stats;
    enum soothe_status status = check(&g, err);
    if (status)
        return status;
    soothe_clear(session);
    g.batch = llama_batch_init(g.n_batch, 0, 1);
    g.slots = soothe__calloc((size_t)g.n_slots, sizeof *g.slots);
    status  = g.slots ? run(&g, err) : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d sequences", g.n_slots);
    for (int32_t i = 0; g.slots && i < g.n_slots; i++) {
        soothe__sampler_free(g.slots[i].sampler);
        free(g.slots[i].text);
        free(g.slots[i].tokens);
    }
    free(g.slots);
    soothe__shortlist_free(&g.shortlist);
    llama_batch_free(g.batch);
    soothe_clear(session);
    if (stats)
        *stats = g.stats;
    return status;
}
