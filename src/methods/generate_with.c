/* SPDX-License-Identifier: Apache-2.0
 * Generating with the methods of a chain that act on whole texts: several tries of each continuation are kept until
 * all are there, and one of them is chosen. */
#include "methods/generate_with.h"

#include <stdlib.h>
#include <string.h>

#include "fusion/stage.h"
#include "methods/rewrite.h"

/* A try that has ended; text and tokens are our copies. */
struct try {
    bool                        done;
    struct soothe__continuation c;
};

/* The tries of one continuation. */
struct group {
    struct try *tries; /* (n_tries), from the first that ends until one is handed on */
    int32_t     n_done;
    bool        handed_on;
};

struct chooser {
    struct soothe__link                   *link;
    const struct soothe__generate_options *o; /* the caller's */
    int32_t                                n_tries;
    size_t                                 n_samples, n_doses, n_groups;
    struct group                          *groups; /* [(prompt * n_doses + dose) * n_samples + sample] */
    int64_t                                n_tokens;
    enum soothe_status                     status; /* of a callback */
    struct soothe_error                   *err;
};

static void free_tries(const struct chooser *x, struct group *g) {
    for (int32_t i = 0; g->tries && i < x->n_tries; i++) {
        free((char *)(uintptr_t)g->tries[i].c.text);
        free((struct soothe__generated_token *)(uintptr_t)g->tries[i].c.tokens);
    }
    free(g->tries);
    g->tries = NULL;
}

static struct group *group_of(const struct chooser *x, const struct soothe__continuation *c) {
    return &x->groups[(c->i_prompt * x->n_doses + c->i_dose) * x->n_samples + (size_t)c->i_sample];
}

static enum soothe_status keep(struct chooser *x, struct group *g, const struct soothe__continuation *c) {
    if (!g->tries)
        g->tries = soothe__calloc((size_t)x->n_tries, sizeof *g->tries);
    struct try                     *t      = g->tries ? &g->tries[c->i_try] : NULL;
    char                           *text   = soothe__calloc(c->size + 1, 1);
    struct soothe__generated_token *tokens = soothe__calloc((size_t)c->n_tokens + 1, sizeof *tokens);
    if (!t || !text || !tokens) {
        free(text);
        free(tokens);
        return soothe__fail(x->err, SOOTHE_E_MEMORY, "out of memory keeping a continuation to choose from");
    }
    if (c->size > 0)
        memcpy(text, c->text, c->size);
    if (c->n_tokens > 0)
        memcpy(tokens, c->tokens, (size_t)c->n_tokens * sizeof *tokens);
    t->c        = *c;
    t->c.text   = text;
    t->c.tokens = tokens;
    t->c.i_try  = 0; /* to the caller there are none */
    t->done     = true;
    g->n_done++;
    return SOOTHE_OK;
}

/* Tells the caller the tokens of a finished text as if they came now. Returns how many were taken. */
static int32_t replay(const struct chooser *x, const struct soothe__continuation *whole) {
    struct soothe__continuation c    = *whole;
    char                       *text = (char *)(uintptr_t)whole->text; /* our copy */
    c.size                           = 0;
    for (int32_t i = 0; i < whole->n_tokens; i++) {
        const size_t end = whole->tokens[i].text_end, n_new = end - c.size;
        const char   kept = text[end];
        c.n_tokens        = i + 1;
        c.size            = end;
        text[end]         = '\0';
        const bool on     = x->o->on_token(x->o->user, &c, n_new);
        text[end]         = kept;
        if (!on)
            return i + 1;
    }
    return whole->n_tokens;
}

static void hand_on(struct chooser *x, struct group *g, int32_t i_try) {
    struct soothe__continuation *c = &g->tries[i_try].c;
    if (x->o->on_token) {
        const int32_t n = replay(x, c);
        if (n < c->n_tokens) {
            c->n_tokens                           = n;
            c->size                               = c->tokens[n - 1].text_end;
            ((char *)(uintptr_t)c->text)[c->size] = '\0';
            c->finish                             = SOOTHE__FINISH_INTERRUPTED;
        }
    }
    x->n_tokens += c->n_tokens;
    if (x->o->on_done)
        x->o->on_done(x->o->user, c);
    g->handed_on = true;
    free_tries(x, g);
}

/* Among the tries that are there; *i_try is one of them. */
static enum soothe_status choose(struct chooser *x, const struct group *g, int32_t *i_try) {
    const char **texts  = soothe__calloc((size_t)x->n_tries, sizeof *texts);
    int32_t     *places = soothe__calloc((size_t)x->n_tries, sizeof *places), n = 0, i_best = 0;
    if (!texts || !places) {
        free(texts);
        free(places);
        return soothe__fail(x->err, SOOTHE_E_MEMORY, "out of memory for %d texts", x->n_tries);
    }
    for (int32_t i = 0; i < x->n_tries; i++)
        if (g->tries[i].done) {
            places[n]  = i;
            texts[n++] = g->tries[i].c.text;
        }
    const enum soothe_status status = n > 1 ? x->link->method->choose(x->link, texts, n, &i_best, x->err) : SOOTHE_OK;
    *i_try                          = places[i_best];
    free(texts);
    free(places);
    return status;
}

static void on_done(void *user, const struct soothe__continuation *c) {
    struct chooser *x = user;
    struct group   *g = group_of(x, c);
    if (x->status || g->handed_on || (c->dose == 0.0f && c->i_try > 0))
        return;
    int32_t i_try = 0;
    x->status     = keep(x, g, c);
    if (x->status || (c->dose != 0.0f && g->n_done < x->n_tries))
        return;
    if (c->dose != 0.0f)
        x->status = choose(x, g, &i_try);
    if (!x->status)
        hand_on(x, g, i_try);
}

/* Ends what nobody waits for: after a failure all, at dose 0 all tries but the first. */
static bool on_token(void *user, const struct soothe__continuation *c, size_t n_new) {
    const struct chooser *x = user;
    (void)n_new;
    return !x->status && (c->dose != 0.0f || c->i_try == 0);
}

/* After an interruption: of each continuation that was under way, one of the tries that are there. */
static void hand_on_rest(struct chooser *x) {
    for (size_t i = 0; i < x->n_groups; i++) {
        int32_t i_try = 0;
        if (!x->groups[i].tries || x->groups[i].handed_on)
            continue;
        while (!x->groups[i].tries[i_try].done)
            i_try++;
        x->groups[i].tries[i_try].c.finish = SOOTHE__FINISH_INTERRUPTED;
        hand_on(x, &x->groups[i], i_try);
    }
}

static enum soothe_status generate_tries(struct chooser *x, struct soothe_session *session,
                                         const struct soothe__prompt *prompts, size_t n_prompts,
                                         struct soothe__generate_stats *stats) {
    struct soothe__generate_options o = *x->o;
    o.n_tries                         = x->n_tries;
    o.on_token                        = on_token;
    o.on_done                         = on_done;
    o.user                            = x;
    x->n_samples                      = o.n_samples > 0 ? (size_t)o.n_samples : 1;
    x->n_doses                        = o.n_doses ? o.n_doses : 1;
    x->n_groups                       = n_prompts * x->n_doses * x->n_samples;
    x->groups                         = soothe__calloc(x->n_groups + 1, sizeof *x->groups);
    if (!x->groups)
        return soothe__fail(x->err, SOOTHE_E_MEMORY, "out of memory for %zu continuations", x->n_groups);
    enum soothe_status status = soothe__generate(session, prompts, n_prompts, &o, stats, x->err);
    if (status == SOOTHE_E_INTERRUPTED && !x->status)
        hand_on_rest(x);
    if (stats)
        stats->n_tokens = x->n_tokens;
    for (size_t i = 0; i < x->n_groups; i++)
        free_tries(x, &x->groups[i]);
    free(x->groups);
    return x->status ? x->status : status;
}

/* ---- prompts ------------------------------------------------------------------------------------------------- */

/* Continues the prompts as they are. */
static enum soothe_status generate_from(struct soothe__applied *a, const struct soothe__prompt *prompts,
                                        size_t n_prompts, const struct soothe__generate_options *options,
                                        struct soothe__generate_stats *stats, struct soothe_error *err) {
    struct soothe_error ignored;
    struct chooser      x = {.o = options, .err = err ? err : &ignored};
    for (size_t i = 0; i < a->n; i++) {
        const struct soothe__method *m = a->links[i].method;
        const int32_t                n = m->n_tries && a->links[i].strength != 0.0f ? m->n_tries(&a->links[i]) : 1;
        if (n <= 1)
            continue;
        if (x.link)
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "methods %s and %s both choose among continuations: one can",
                                x.link->method->name, m->name);
        x.link    = &a->links[i];
        x.n_tries = n;
    }
    return x.link ? generate_tries(&x, a->session, prompts, n_prompts, stats)
                  : soothe__generate(a->session, prompts, n_prompts, options, stats, err);
}

/* One dose of several: callbacks are told its place among them. */
struct one_dose {
    const struct soothe__generate_options *o; /* the caller's */
    size_t                                 i_dose;
};

static bool dose_on_token(void *user, const struct soothe__continuation *c, size_t n_new) {
    const struct one_dose      *d = user;
    struct soothe__continuation k = *c;
    k.i_dose                      = d->i_dose;
    return d->o->on_token(d->o->user, &k, n_new);
}

static void dose_on_done(void *user, const struct soothe__continuation *c) {
    const struct one_dose      *d = user;
    struct soothe__continuation k = *c;
    k.i_dose                      = d->i_dose;
    d->o->on_done(d->o->user, &k);
}

static void add_stats(struct soothe__generate_stats *sum, const struct soothe__generate_stats *s) {
    sum->n_prompt_tokens += s->n_prompt_tokens;
    sum->n_tokens += s->n_tokens;
    sum->prompt_seconds += s->prompt_seconds;
    sum->token_seconds += s->token_seconds;
}

/* Dose by dose: at 0 the prompts are the user's, else the methods'. */
static enum soothe_status generate_doses(struct soothe__applied *a, const struct soothe__prompt *prompts,
                                         const struct soothe__prompt *rewritten, size_t n_prompts,
                                         const struct soothe__generate_options *options,
                                         struct soothe__generate_stats *stats, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (size_t i = 0; i < options->n_doses && !status; i++) {
        struct one_dose                 d    = {options, i};
        struct soothe__generate_options o    = *options;
        struct soothe__generate_stats   part = {0};
        status = soothe__session_set_dose(a->session, -1, options->doses[i], err); /* of the prompt's sequence, too */
        if (status)
            break;
        o.doses    = &options->doses[i];
        o.n_doses  = 1;
        o.on_token = options->on_token ? dose_on_token : NULL;
        o.on_done  = options->on_done ? dose_on_done : NULL;
        o.user     = &d;
        status     = generate_from(a, options->doses[i] != 0.0f ? rewritten : prompts, n_prompts, &o, &part, err);
        add_stats(stats, &part);
    }
    return status;
}

static bool needs_one_dose(const struct soothe__applied *a) {
    bool any = false;
    for (size_t i = 0; i < a->n; i++)
        any = any || (a->links[i].method->one_dose && a->links[i].strength != 0.0f);
    return any;
}

enum soothe_status soothe__generate_with(struct soothe__applied *a, const struct soothe__prompt *prompts,
                                         size_t n_prompts, const struct soothe__generate_options *options,
                                         struct soothe__generate_stats *stats, struct soothe_error *err) {
    struct soothe__rewritten      r;
    struct soothe__generate_stats ignored, *sum = stats ? stats : &ignored;
    *sum = (struct soothe__generate_stats){0};
    soothe__events_free(a);
    bool wanted = options->n_doses == 0 && soothe__session_dose(a->session, 0) != 0.0f;
    for (size_t i = 0; i < options->n_doses; i++)
        wanted = wanted || options->doses[i] != 0.0f;
    if (!wanted || !soothe__rewrites(a))
        return options->n_doses > 1 && needs_one_dose(a)
                   ? generate_doses(a, prompts, prompts, n_prompts, options, sum, err)
                   : generate_from(a, prompts, n_prompts, options, sum, err);
    const double       start  = soothe__seconds();
    enum soothe_status status = soothe__rewrite(&r, a, prompts, n_prompts, options->stop, err);
    const double       spent  = soothe__seconds() - start;
    if (status)
        return status;
    status = options->n_doses > 1 && (r.n_changed || needs_one_dose(a))
                 ? generate_doses(a, prompts, r.prompts, n_prompts, options, sum, err)
                 : generate_from(a, r.prompts, n_prompts, options, sum, err);
    sum->prompt_seconds += spent;
    soothe__rewritten_free(&r);
    return status;
}
