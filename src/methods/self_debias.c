/* SPDX-License-Identifier: Apache-2.0
 * Self-debiasing: what the target finds likelier when it is told that the text is toxic is made less likely
 * (docs/methods/self-debias.md). */
#include <stdlib.h>

#include "methods/mixer.h"

/* The paper's template with the six attributes of the Perspective interface, described in our words. */
#define CONTAINS(description) "The following text contains " description ":\n\n"
static const char *const PREFIXES[] = {
    CONTAINS("rude, disrespectful or unreasonable language that makes people leave a discussion"), /* toxicity        */
    CONTAINS("very hateful, aggressive and disrespectful language"),                               /* severe toxicity */
    CONTAINS("references to sex, to parts of the body or other lewd language"),                    /* sexual content  */
    CONTAINS("threats: the wish or the intention to hurt or to kill somebody"),                    /* threat          */
    CONTAINS("swear words, curses and other obscene language"),                                    /* profanity       */
    CONTAINS("hateful remarks about people for their origin, religion, sex, body or sexual orientation"), /* identity
                                                                                                             attack */
};
enum { N_PREFIXES = sizeof PREFIXES / sizeof *PREFIXES };

struct self_debias {
    struct soothe__helper       helper;
    struct llama_context_params context;
    float                       lambda, eps;
};

static enum soothe_status open_it(struct soothe__link *l, const struct soothe__method_target *target,
                                  struct llama_context_params *context, struct soothe_error *err) {
    struct self_debias *s = soothe__calloc(1, sizeof *s);
    l->state              = s;
    l->strength           = soothe__link_number(l, "strength");
    if (!s)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    s->lambda            = l->strength;
    s->eps               = soothe__link_number(l, "eps");
    s->context           = *context;
    s->helper.model      = target->model;
    s->helper.n_prefixes = N_PREFIXES;
    for (int32_t k = 0; k < N_PREFIXES; k++)
        s->helper.prefixes[k] = PREFIXES[k];
    return SOOTHE_OK;
}

static enum soothe_status row(void *self, const struct soothe__mixer_row *r, struct soothe_error *err) {
    const struct self_debias *s = self;
    return soothe__mix_self_debias(r->z, r->n_vocab, r->sources, N_PREFIXES, s->lambda * r->dose, s->eps, err);
}

static enum soothe_status attach(struct soothe__link *l, struct soothe_session *session, struct soothe_error *err) {
    struct self_debias      *s = l->state;
    struct soothe__follower *followers[SOOTHE__FOLLOWERS_MAX];
    size_t                   n = 0;
    if (s->lambda == 0)
        return SOOTHE_OK;
    const enum soothe_status status = soothe__followers_add(followers, &n, &s->helper, session, &s->context, err);
    if (!status)
        return soothe__mixer_add(session, followers, n, NULL, &(struct soothe__mixer_rule){.self = s, .row = row}, err);
    soothe__followers_free(followers, n);
    return status;
}

static const struct soothe__parameter PARAMETERS[] = {
    {"strength", SOOTHE__NUMBER, "50", 0, 1e6, NULL, "lambda, the decay"},
    {"eps", SOOTHE__NUMBER, "0.01", 1e-9, 1, NULL, "the least factor of a probability"},
    {.name = NULL}};

const struct soothe__method soothe__method_self_debias = {
    .name       = "self-debias",
    .summary    = "less of what the target says when told that the text is toxic",
    .stage      = "logits",
    .cost       = "six rows of the target more, in one batch",
    .source     = "Self-Diagnosis and Self-Debiasing, 2021",
    .parameters = PARAMETERS,
    .open       = open_it,
    .attach     = attach,
    .release    = free};
