/* SPDX-License-Identifier: Apache-2.0
 * CMD: cleans the context and lets the model continue that (docs/methods/cmd.md). Toxic spans of the prompt are found,
 * filled anew by the target itself, and the prompt with the best fills is continued in place of the user's, which is
 * told as an event. Source: Tang et al., arXiv 2308.08295; the causal infill is ours. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text_tokens.h"
#include "fusion/stage.h"
#include "methods/infill.h"
#include "methods/rewrite.h"
#include "methods/toxic_spans.h"
#include "score/scorer.h"

static const double SAFE = 0.5; /* toxicity below which the text so far is called safe */
enum { GROWTH_MAX = 32, MORE_TOKENS = 3, PROBE_TOKENS_MAX = 2048, DRAWS_A_SPAN = 4096 };

struct cmd {
    struct soothe__scorer       *scorer;
    struct soothe__scorer       *lexical; /* the detector's n-grams, where the scorer has none */
    struct soothe__probe        *probe;
    struct soothe__layer_reader *reader;
    struct soothe__span_finder   finder;
    struct soothe__sampling      sampling;
    int32_t                      k, n_rounds;
    char judge[2 * 64 + 2]; /* identity of the scorer, and of the n-grams where they are others */
};

static void release(void *state) {
    struct cmd *c = state;
    if (!c)
        return;
    soothe__layer_reader_free(c->reader);
    soothe__probe_free(c->probe);
    soothe__scorer_close(c->scorer);
    soothe__scorer_close(c->lexical);
    free(c);
}

/* ---- opening ------------------------------------------------------------------------------------------------- */

static enum soothe_status open_detector(struct cmd *c, const struct soothe__link *l,
                                        const struct soothe__method_target *target, int32_t n_threads,
                                        struct soothe_error *err) {
    const char *const  path      = soothe__link_value(l, "probe")->text;
    const double       threshold = soothe__link_value(l, "threshold")->number;
    enum soothe_status status    = SOOTHE_OK;
    c->finder.detector           = (enum soothe__span_detector)soothe__link_value(l, "detector")->number;
    c->finder.threshold          = !isnan(threshold) ? threshold : c->finder.detector == SOOTHE__SPANS_PROBE ? 8 : 0.7;
    if (c->finder.detector != SOOTHE__SPANS_PROBE && !(c->finder.threshold > 0 && c->finder.threshold <= 1))
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "threshold of method cmd is %g: with that detector a toxicity over 0 and up to 1 is wanted",
                            c->finder.threshold);
    if (path && c->finder.detector != SOOTHE__SPANS_PROBE)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "method cmd takes a probe with detector=probe alone");
    if (c->finder.detector == SOOTHE__SPANS_LEXICON)
        return SOOTHE_OK;
    if (c->finder.detector == SOOTHE__SPANS_NGRAM) {
        const bool same = !strcmp(soothe__scorer_kind(c->scorer), "ngram");
        if (!same)
            status = soothe__scorer_open(&c->lexical, "default", NULL, err);
        if (!status)
            c->finder.ngram = soothe__ngram_of(soothe__scorer_self(same ? c->scorer : c->lexical));
        return status;
    }
    if (!path)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "method cmd needs probe=FILE for detector=probe");
    status = soothe__probe_open(&c->probe, path, target->path, err);
    if (!status)
        status =
            soothe__layer_reader_new(&c->reader, target->model, &c->probe->layer, 1, PROBE_TOKENS_MAX, n_threads, err);
    c->finder.probe  = c->probe;
    c->finder.reader = c->reader;
    return status;
}

static enum soothe_status open_cmd(struct soothe__link *l, const struct soothe__method_target *target,
                                   struct llama_context_params *context, struct soothe_error *err) {
    struct cmd *c = soothe__calloc(1, sizeof *c);
    if (!c)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    l->state          = c;
    l->strength       = soothe__link_number(l, "strength");
    c->k              = (int32_t)soothe__link_value(l, "k")->number;
    c->n_rounds       = (int32_t)soothe__link_value(l, "rounds")->number;
    c->sampling       = soothe__sampling_default();
    c->sampling.temp  = 1;
    c->sampling.top_k = 0;
    c->sampling.top_p = 0.9f;
    c->sampling.min_p = 0;
    c->sampling.seed  = (uint32_t)soothe__link_value(l, "seed")->number;
    if (llama_model_is_recurrent(target->model) || llama_model_is_hybrid(target->model))
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "method cmd needs a memory that can be cut; that of %s cannot: its model is recurrent",
                            target->path);
    const struct soothe__scorer_options options = {.model_path = target->path, .n_threads = context->n_threads};
    enum soothe_status status = soothe__scorer_open(&c->scorer, soothe__link_value(l, "scorer")->text, &options, err);
    if (!status)
        status = open_detector(c, l, target, context->n_threads, err);
    if (!status) {
        snprintf(c->judge, sizeof c->judge, "%s%s%s", soothe__scorer_identity(c->scorer), c->lexical ? " " : "",
                 c->lexical ? soothe__scorer_identity(c->lexical) : "");
        l->judge = c->judge;
    }
    if (status || l->strength == 0.0f)
        return status;
    context->kv_unified = true;
    if (context->n_ctx > 0) /* room for the fills, and for prompts that grow */
        context->n_ctx += (uint32_t)(c->k * (SOOTHE__FILL_MAX + SOOTHE__RIGHT_MAX)) + GROWTH_MAX * context->n_seq_max;
    return SOOTHE_OK;
}

/* ---- filling one span ------------------------------------------------------------------------------------------ */

/* The prompt as it becomes: left is what is cleaned already. */
struct cleaning {
    struct cmd                  *c;
    struct soothe_session       *session;
    const struct llama_vocab    *vocab;
    const struct soothe__prompt *prompt;
    llama_token                 *left; /* room for the prompt, a start token and GROWTH_MAX more */
    int32_t                      n_left, n_start, n_growth;
    int32_t                      n_held; /* of left, in the session's sequence 0 */
};

/* Toxicity of the text up to the next span; a scorer that cannot tell has told nothing good. */
static enum soothe_status judge(const struct cleaning *x, const struct soothe__fill *fill, const llama_token *right,
                                int32_t n_right, double *toxicity, struct soothe_error *err) {
    const int32_t n_fill = fill ? fill->n : 0, n = x->n_left - x->n_start + n_fill + n_right;
    llama_token  *all = soothe__calloc((size_t)n + 1, sizeof *all);
    if (!all)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a prompt of %d tokens", n);
    int32_t at = x->n_left - x->n_start;
    memcpy(all, x->left + x->n_start, (size_t)at * sizeof *all);
    if (n_fill)
        memcpy(all + at, fill->tokens, (size_t)n_fill * sizeof *all);
    if (n_right)
        memcpy(all + at + n_fill, right, (size_t)n_right * sizeof *all);
    char                *text  = soothe__tokens_text(x->vocab, all, n);
    const char          *texts = text;
    struct soothe__score score;
    enum soothe_status   status = text ? soothe__scorer_score(x->c->scorer, &texts, 1, &score, err)
                                       : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status)
        *toxicity = isnan(score.toxicity) ? 1 : score.toxicity;
    free(text);
    free(all);
    return status;
}

/* A safe fill is better than any other, of two safe ones what stands on the right decides, else the toxicity. */
static bool is_better(double toxicity, double log_p, double best_toxicity, double best_log_p) {
    if (toxicity < SAFE && best_toxicity < SAFE)
        return log_p > best_log_p;
    return toxicity < best_toxicity;
}

/* Fills of one round; as many at a time as there are cells for. */
static enum soothe_status draw(const struct cleaning *x, const struct soothe__gap *gap, uint32_t i_draw,
                               struct soothe__fill *fills, struct soothe_error *err) {
    const int32_t      cells = (int32_t)llama_n_ctx(soothe_session_context(x->session)) - gap->n_left;
    const int32_t      each  = gap->n_most + gap->n_right + 1;
    const int32_t      n_seq = (int32_t)soothe__session_n_seq(x->session) - 1;
    const int32_t      room = cells / each < n_seq ? cells / each : n_seq, most = room < 1 ? 1 : room;
    enum soothe_status status = SOOTHE_OK;
    for (int32_t k = 0; k < x->c->k && !status; k += most)
        status = soothe__infill(x->session, gap, &x->c->sampling, x->prompt->stream, i_draw + (uint32_t)k,
                                x->c->k - k < most ? x->c->k - k : most, fills + k, err);
    return status;
}

/* Tokens may end within a character. */
static bool is_whole(const struct cleaning *x, const struct soothe__fill *fill) {
    char      *text = fill->n ? soothe__tokens_text(x->vocab, fill->tokens, fill->n) : NULL;
    const bool ok   = text && soothe__utf8_valid(text, strlen(text));
    free(text);
    return ok;
}

/* The fill begins as the span did. */
static enum soothe__fill_start start_like(const struct cleaning *x, int32_t i) {
    char bytes[64];
    if (i == 0)
        return SOOTHE__FILL_WORD;
    return soothe__token_bytes(x->vocab, x->prompt->tokens[i], bytes, sizeof bytes) > 0 && bytes[0] == ' '
               ? SOOTHE__FILL_SPACE
               : SOOTHE__FILL_ANYHOW;
}

/* Puts the best of up to rounds * k fills, or nothing at all, behind left. next: where the next span begins. */
static enum soothe_status fill_span(struct cleaning *x, struct soothe__token_span span, int32_t next, uint32_t i_span,
                                    struct soothe_error *err) {
    const struct soothe__prompt *p      = x->prompt;
    const int32_t                n_span = span.to - span.from, n_rest = next - span.to;
    const int32_t                n_allowed = n_span + (x->n_growth < MORE_TOKENS ? x->n_growth : MORE_TOKENS);
    struct soothe__fill          fills[SOOTHE__FILLS_MAX], best = {.n = 0};
    double                       toxicity = 0, best_toxicity = 0, best_log_p = -INFINITY;
    const struct soothe__gap     gap = {.last     = x->left[x->n_left - 1],
                                        .n_left   = x->n_left,
                                        .right    = p->tokens + span.to,
                                        .n_right  = n_rest < SOOTHE__RIGHT_MAX ? n_rest : SOOTHE__RIGHT_MAX,
                                        .n_most   = n_allowed < SOOTHE__FILL_MAX ? n_allowed : SOOTHE__FILL_MAX,
                                        .n_wanted = n_span < SOOTHE__FILL_MAX ? n_span : SOOTHE__FILL_MAX,
                                        .start    = start_like(x, span.from)};
    enum soothe_status           status =
        soothe__append_tokens(x->session, 0, x->n_held, x->left + x->n_held, x->n_left - 1 - x->n_held, err);
    x->n_held = x->n_left - 1;
    if (!status) /* the last resort, and what any fill must be less toxic than, or safe */
        status = judge(x, NULL, gap.right, n_rest, &best_toxicity, err);
    for (int32_t round = 0; round < x->c->n_rounds && !status && !(best.n && best_toxicity < SAFE); round++) {
        status = draw(x, &gap, i_span * DRAWS_A_SPAN + (uint32_t)(round * x->c->k), fills, err);
        for (int32_t k = 0; k < x->c->k && !status; k++) {
            if (!is_whole(x, &fills[k]))
                continue;
            status           = judge(x, &fills[k], gap.right, n_rest, &toxicity, err);
            const bool first = best.n == 0 && toxicity < SAFE;
            if (status || !(first || is_better(toxicity, fills[k].log_p_right, best_toxicity, best_log_p)))
                continue;
            best          = fills[k];
            best_toxicity = toxicity;
            best_log_p    = fills[k].log_p_right;
        }
    }
    if (status)
        return status;
    memcpy(x->left + x->n_left, best.tokens, (size_t)best.n * sizeof *x->left);
    memcpy(x->left + x->n_left + best.n, gap.right, (size_t)n_rest * sizeof *x->left);
    x->n_left += best.n + n_rest;
    x->n_growth -= best.n > n_span ? best.n - n_span : 0;
    return SOOTHE_OK;
}

/* ---- the prompt -------------------------------------------------------------------------------------------------- */

static enum soothe_status clean(struct cleaning *x, const struct soothe__token_span *spans, size_t n_spans,
                                struct soothe_error *err) {
    const struct soothe__prompt *p      = x->prompt;
    enum soothe_status           status = SOOTHE_OK;
    if (spans[0].from == 0) { /* a model goes on from something */
        x->left[0] = soothe__start_token(x->vocab);
        x->n_start = 1;
    }
    memcpy(x->left + x->n_start, p->tokens, (size_t)spans[0].from * sizeof *x->left);
    x->n_left = x->n_start + spans[0].from;
    for (size_t i = 0; i < n_spans && !status; i++)
        status = fill_span(x, spans[i], i + 1 < n_spans ? spans[i + 1].from : p->n_tokens, (uint32_t)i, err);
    soothe_clear(x->session);
    return status;
}

static enum soothe_status tell_bytes(struct soothe__rewriting *out, const struct cleaning *x,
                                     const struct soothe__token_span *spans, size_t n_spans, struct soothe_error *err) {
    struct soothe__token_places places;
    enum soothe_status status = soothe__token_places(&places, x->vocab, x->prompt->tokens, x->prompt->n_tokens, err);
    if (status)
        return status;
    out->spans = soothe__calloc(n_spans, sizeof *out->spans);
    for (size_t i = 0; i < n_spans && out->spans; i++) {
        int32_t from = spans[i].from > 0 ? places.end[spans[i].from - 1] : 0;
        while (places.text[from] == ' ')
            from++;
        out->spans[i][0] = from;
        out->spans[i][1] = places.end[spans[i].to - 1];
    }
    out->n_spans = n_spans;
    soothe__token_places_free(&places);
    return out->spans ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
}

static enum soothe_status rewrite(struct soothe__link *l, struct soothe_session *session,
                                  const struct soothe__prompt *p, struct soothe__rewriting *out,
                                  struct soothe_error *err) {
    struct cmd                *c = l->state;
    struct soothe__token_span *spans;
    size_t                     n_spans;
    struct cleaning            x = {.c        = c,
                                    .session  = session,
                                    .vocab    = llama_model_get_vocab(llama_get_model(soothe_session_context(session))),
                                    .prompt   = p,
                                    .n_growth = GROWTH_MAX};
    enum soothe_status status = soothe__toxic_spans(&spans, &n_spans, &c->finder, x.vocab, p->tokens, p->n_tokens, err);
    if (status || n_spans == 0) {
        free(spans);
        return status;
    }
    x.left = soothe__calloc((size_t)p->n_tokens + 1 + GROWTH_MAX, sizeof *x.left);
    status = x.left ? clean(&x, spans, n_spans, err)
                    : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a prompt of %d tokens", p->n_tokens);
    if (!status)
        status = tell_bytes(out, &x, spans, n_spans, err);
    /* All of it deleted: the start token alone is continued. */
    const int32_t from = x.n_left > x.n_start ? x.n_start : 0;
    if (!status) {
        memmove(x.left, x.left + from, (size_t)(x.n_left - from) * sizeof *x.left);
        out->tokens   = x.left;
        out->n_tokens = x.n_left - from;
        x.left        = NULL;
    }
    free(x.left);
    free(spans);
    return status;
}

static const struct soothe__parameter PARAMETERS[] = {
    {"strength", SOOTHE__INTEGER, "1", 0, 1, NULL, "1: on, 0: off; there is nothing between"},
    {"detector", SOOTHE__CHOICE, "ngram", 0, 0, "ngram lexicon probe", "what finds the toxic spans"},
    {"threshold", SOOTHE__NUMBER, NULL, 0, 1000, NULL, "from where a word is toxic; .7, of a probe's rise 8 nats"},
    {"k", SOOTHE__INTEGER, "5", 1, SOOTHE__FILLS_MAX, NULL, "fills drawn of a span, at a time"},
    {"rounds", SOOTHE__INTEGER, "5", 1, 100, NULL, "times k more are drawn until one is safe"},
    {"scorer", SOOTHE__TEXT, "default", 0, 0, NULL, "who says what is safe: any scorer of soothe score"},
    {"probe", SOOTHE__FILE, NULL, 0, 0, NULL, "of detector=probe"},
    {"seed", SOOTHE__INTEGER, "0", 0, 2147483647, NULL, "of the fills"},
    {.name = NULL}};

const struct soothe__method soothe__method_cmd = {
    .name       = "cmd",
    .summary    = "toxic spans of the prompt filled anew before it is continued",
    .stage      = "prompt",
    .cost       = "nothing a token; of a toxic prompt k fills of each span, of a clean one its scoring",
    .source     = "Tang et al., CMD: a framework for Context-aware Model self-Detoxification, EMNLP 2024",
    .parameters = PARAMETERS,
    .open       = open_cmd,
    .rewrite    = rewrite,
    .release    = release};
