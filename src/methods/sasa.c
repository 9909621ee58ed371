/* SPDX-License-Identifier: Apache-2.0
 * SASA, self-disciplined autoregressive sampling (arXiv 2410.03818): candidates by the margin of the state that each
 * leads to. Margin m(h) = w.(h - b), |w| = 1, positive on the clean side; w by Fisher's discriminant on final states of
 * labelled texts' last tokens (a probe: soothe probe train --layers final --pool last).
 *   margin   p'(v) ~ p(v) e^(beta m_v)                             the paper
 *   softmax  z'(v) = z(v) + beta softmax over candidates of m      the released code
 *   delta    z'(v) = z(v) + beta u.e_v for every token             no forward at all (sasa_delta.h) */
#include <math.h>
#include <stdlib.h>

#include "methods/candidates.h"
#include "methods/sasa_delta.h"
#include "score/probe.h"

enum form { MARGIN, SOFTMAX, DELTA };

struct sasa {
    struct soothe__probe          *probe;
    double                         length; /* of the probe's weights: they are calibrated, not of unit length */
    enum form                      form;
    float                          beta;
    float                         *table; /* (n_vocab) of form delta */
    int32_t                        n_vocab;
    struct soothe__branch_plan     plan;
    struct soothe__candidates_rule rule;
    char                          *path;
};

float soothe__margin(const struct soothe__probe *probe, double length, const float *state) {
    return (float)(-soothe__probe_logit(probe, state) / length);
}

double soothe__probe_length(const struct soothe__probe *probe) {
    double sum = 0;
    for (int32_t i = 0; i < probe->d; i++)
        sum += (double)probe->weight[i] * (double)probe->weight[i];
    return sqrt(sum);
}

static float measure(void *self, const float *state) {
    const struct sasa *a = self;
    return soothe__margin(a->probe, a->length, state);
}

static void bonus(const void *self, float dose, const struct soothe__candidate *c, int32_t n, float *out) {
    const struct sasa *a    = self;
    double             most = -INFINITY, sum = 0;
    for (int32_t i = 0; i < n; i++)
        most = fmax(most, (double)c[i].value);
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)c[i].value - most);
    for (int32_t i = 0; i < n; i++)
        out[i] = a->beta * dose * (a->form == SOFTMAX ? (float)(exp((double)c[i].value - most) / sum) : c[i].value);
}

/* ---- form delta: a bias of every token ------------------------------------------------------------------------ */

static enum soothe_status add_table(void *self, const struct soothe__step *step, struct soothe_error *err) {
    const struct sasa *a = self;
    for (int32_t i = 0; i < step->n_rows; i++) {
        const float  beta = a->beta * step->row_dose[i];
        const float *h    = a->rule.under < INFINITY ? soothe__branch_row_state(step->session, i) : NULL;
        float       *z    = soothe_get_logits_ith(step->session, step->row_token[i]);
        if (beta == 0.0f || (h && measure(self, h) >= a->rule.under))
            continue;
        if (!z)
            return soothe__fail(err, SOOTHE_E_ENGINE, "the engine gave no logits for a token of a batch");
        for (int32_t v = 0; v < a->n_vocab; v++)
            z[v] += beta * a->table[v];
    }
    return SOOTHE_OK;
}

static enum soothe_status attach_delta(struct sasa *a, struct soothe_session *session, struct soothe_error *err) {
    const struct soothe__stage stage  = {.self = a, .logits = add_table};
    enum soothe_status         status = SOOTHE_OK;
    if (a->plan.read_rows)
        status = soothe__branch_enable(session, &a->plan, err);
    return status ? status : soothe__session_add_stage(session, &stage, err);
}

/* ---- the method ----------------------------------------------------------------------------------------------- */

static void release(void *state) {
    struct sasa *a = state;
    if (!a)
        return;
    soothe__probe_free(a->probe);
    free(a->table);
    free(a->path);
    free(a);
}

enum soothe_status soothe__open_subspace(struct soothe__probe **probe, char **path, const char *given,
                                         const char *shipped, const char *model_path, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    *probe                    = NULL;
    *path                     = given ? soothe__strdup(given) : NULL;
    if (!given)
        status = soothe__shipped_file(path, shipped, "subspace", "give one: soothe probe train makes it", err);
    else if (!*path)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status)
        status = soothe__probe_open(probe, *path, model_path, err);
    return status;
}

static enum soothe_status check(const struct sasa *a, struct soothe_error *err) {
    if (a->probe->layer != SOOTHE__LAYER_FINAL || a->probe->pool == SOOTHE__POOL_MEAN)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "%s is a probe of another place: sasa needs one of the final state, of pool last or token "
                            "(soothe probe train --layers final --pool last)",
                            a->path);
    if (!(a->length > 0))
        return soothe__fail(err, SOOTHE_E_NUMERIC, "subspace %s has no direction: all its weights are 0", a->path);
    return SOOTHE_OK;
}

static enum soothe_status open_sasa(struct soothe__link *l, const struct soothe__method_target *target,
                                    struct llama_context_params *context, struct soothe_error *err) {
    const struct soothe__value *under = soothe__link_value(l, "under");
    l->strength                       = soothe__link_number(l, "beta");
    if (l->strength == 0.0f)
        return SOOTHE_OK;
    struct sasa *a = l->state = soothe__calloc(1, sizeof *a);
    if (!a)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for sasa");
    a->beta                   = l->strength;
    a->form                   = (enum form)soothe__link_number(l, "form");
    a->rule                   = (struct soothe__candidates_rule){.k         = (int32_t)soothe__link_number(l, "k"),
                                                                 .top_p     = soothe__link_number(l, "top-p"),
                                                                 .under     = isnan(under->number) ? INFINITY : (float)under->number,
                                                                 .keep_rest = soothe__link_number(l, "rest") == 1.0f,
                                                                 .measure   = measure,
                                                                 .bonus     = bonus,
                                                                 .self      = a};
    enum soothe_status status = soothe__open_subspace(&a->probe, &a->path, soothe__link_value(l, "subspace")->text,
                                                      "default.sasa.gguf", target->path, err);
    if (status)
        return status;
    l->source = a->path;
    a->length = soothe__probe_length(a->probe);
    status    = check(a, err);
    if (!status && a->form == DELTA)
        status = soothe__sasa_delta_table(&a->table, &a->n_vocab, soothe__link_value(l, "delta")->text, a->probe,
                                          target->path, err);
    a->plan = (struct soothe__branch_plan){.node = "result_norm", .read_rows = a->rule.under < INFINITY};
    if (!status && a->form != DELTA)
        a->plan.n_spares = soothe__branch_context(context, target->model, a->rule.k);
    return status;
}

static enum soothe_status attach(struct soothe__link *l, struct soothe_session *session, struct soothe_error *err) {
    struct sasa *a = l->state;
    if (!a)
        return SOOTHE_OK;
    return a->form == DELTA ? attach_delta(a, session, err)
                            : soothe__candidates_attach(session, &a->rule, &a->plan, err);
}

static const struct soothe__parameter PARAMETERS[] = {
    {"beta", SOOTHE__NUMBER, "1", 0, 100000, NULL, "how much a margin counts; 0: plain"},
    {"k", SOOTHE__INTEGER, "16", 1, SOOTHE__CANDIDATES_MAX, NULL, "candidates at most"},
    {"top-p", SOOTHE__NUMBER, "0.95", 0, 1, NULL, "candidates are the nucleus of this probability"},
    {"under", SOOTHE__NUMBER, NULL, -1e6, 1e6, NULL,
     "branch only where the text's own margin is less; always if not given"},
    {"form", SOOTHE__CHOICE, "margin", 0, 0, "margin softmax delta",
     "the paper's, the released code's, or no forward at all"},
    {"subspace", SOOTHE__FILE, NULL, 0, 0, NULL, "a probe of the final state; the shipped one if not given"},
    {"delta", SOOTHE__FILE, NULL, 0, 0, NULL, "for form delta, by soothe sasa fit-delta; the shipped one if not given"},
    {"rest", SOOTHE__CHOICE, "drop", 0, 0, "drop keep",
     "tokens that are no candidates: never said, or left as they are"},
    {.name = NULL}};

const struct soothe__method soothe__method_sasa = {
    .name       = "sasa",
    .summary    = "next tokens by the margin of the state that each leads to",
    .stage      = "candidates",
    .cost       = "a forward of k rows instead of one; form delta: V additions",
    .source     = "Ko et al., Large Language Models Can Become Strong Self-Detoxifiers, arXiv 2410.03818",
    .parameters = PARAMETERS,
    .open       = open_sasa,
    .attach     = attach,
    .release    = release};
