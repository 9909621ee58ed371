/* SPDX-License-Identifier: Apache-2.0
 * RAD, reward-augmented decoding (arXiv 2310.09520): z'(v) = z(v) + beta (1 - clamp(r_v, 0, 1)) for the k likeliest
 * tokens, -inf for all others; r_v is how toxic the text with v is. The paper's reward is a model of its own that reads
 * along; here it is a probe on the target's own state behind v (a branch), or any scorer of the text, which with
 * n-grams needs no forward at all. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sigmoid.h"
#include "methods/candidates.h"
#include "methods/sasa_delta.h"
#include "methods/sequence_text.h"
#include "score/probe.h"
#include "score/scorer.h"

struct rad {
    float                          beta;
    int32_t                        window;
    struct soothe__probe          *probe; /* or: */
    struct soothe__scorer         *scorer;
    struct soothe__sequence_texts *texts;
    struct soothe__branch_plan     plan;
    struct soothe__candidates_rule rule;
    char                          *path;
};

/* Values are 1 - r: higher is better. */
static float measure(void *self, const float *state) {
    const struct rad *a = self;
    return (float)soothe__sigmoid(-soothe__probe_logit(a->probe, state));
}

/* What a scorer cannot judge is not taken for clean. */
static float value_of(const struct soothe__score *s) {
    const double r = isnan(s->toxicity) ? 1 : s->toxicity;
    return (float)(1 - fmin(fmax(r, 0), 1));
}

static enum soothe_status read_texts(void *self, const struct soothe__step *step, int32_t i_row,
                                     struct soothe__candidate *c, int32_t n, struct soothe_error *err) {
    const struct rad    *a = self;
    char                *texts[SOOTHE__CANDIDATES_MAX];
    struct soothe__score scores[SOOTHE__CANDIDATES_MAX];
    const llama_pos      pos    = soothe__step_position(step, i_row);
    enum soothe_status   status = SOOTHE_OK;
    int32_t              n_made = 0;
    for (; n_made < n && !status; n_made++) {
        texts[n_made] = soothe__sequence_text(a->texts, step->row_seq[i_row], pos, a->window, c[n_made].id);
        if (!texts[n_made])
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the text of a candidate");
    }
    if (!status)
        status = soothe__scorer_score(a->scorer, (const char *const *)texts, (size_t)n, scores, err);
    for (int32_t i = 0; i < n && !status; i++)
        c[i].value = value_of(&scores[i]);
    for (int32_t i = 0; i < n_made; i++)
        free(texts[i]);
    return status;
}

static void bonus(const void *self, float dose, const struct soothe__candidate *c, int32_t n, float *out) {
    const struct rad *a = self;
    for (int32_t i = 0; i < n; i++)
        out[i] = a->beta * dose * c[i].value;
}

static enum soothe_status before(void *self, const struct soothe__step *step, struct soothe_error *err) {
    const struct rad *a = self;
    return soothe__sequence_texts_before(a->texts, step, err);
}

static bool memory(void *self, const struct soothe__memory_change *change) {
    const struct rad *a = self;
    soothe__sequence_texts_change(a->texts, change);
    return true;
}

/* ---- the method ----------------------------------------------------------------------------------------------- */

static void release(void *state) {
    struct rad *a = state;
    if (!a)
        return;
    soothe__probe_free(a->probe);
    soothe__scorer_close(a->scorer);
    soothe__sequence_texts_free(a->texts);
    free(a->path);
    free(a);
}

static enum soothe_status open_probe(struct rad *a, const char *given, const struct soothe__method_target *target,
                                     struct llama_context_params *context, struct soothe_error *err) {
    enum soothe_status status =
        soothe__open_subspace(&a->probe, &a->path, given, "default.sasa.gguf", target->path, err);
    if (status)
        return status;
    if (a->probe->pool == SOOTHE__POOL_MEAN)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "%s is a probe of a text's mean state: rad judges one token's, by a probe of pool last or "
                            "token (soothe probe train --pool token)",
                            a->path);
    const int32_t n_blocks = llama_model_n_layer(target->model), layer = a->probe->layer, k = a->rule.k;
    snprintf(a->plan.node, sizeof a->plan.node, "result_norm");
    if (layer != SOOTHE__LAYER_FINAL)
        snprintf(a->plan.node, sizeof a->plan.node, "l_out-%d", layer);
    /* k branches up to the layer and the token as usual, against k whole ones, of which one is the token */
    a->plan.states_only = layer != SOOTHE__LAYER_FINAL && k * (layer + 1) + n_blocks < k * n_blocks;
    a->plan.read_rows   = a->rule.under < INFINITY;
    a->plan.n_spares    = soothe__branch_context(context, target->model, k);
    a->rule.measure     = measure;
    return SOOTHE_OK;
}

static enum soothe_status open_scorer(struct rad *a, const char *spec, const struct soothe__method_target *target,
                                      struct soothe_error *err) {
    const struct soothe__scorer_options options = {.model_path = target->path, .n_threads = 1};
    enum soothe_status                  status  = soothe__scorer_open(&a->scorer, spec, &options, err);
    if (!status)
        status = soothe__sequence_texts_new(&a->texts, llama_model_get_vocab(target->model), err);
    if (!status && soothe__file_exists(spec) && !(a->path = soothe__strdup(spec)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    a->rule.read   = read_texts;
    a->rule.before = before;
    a->rule.memory = memory;
    return status;
}

/* Is it a probe's file, or the word for the shipped one? */
static enum soothe_status is_probe(bool *probe, const char *reward, struct soothe_error *err) {
    const struct soothe__scorer_kind *kind = NULL;
    *probe                                 = strcmp(reward, "probe") == 0;
    if (*probe)
        return SOOTHE_OK;
    const enum soothe_status status = soothe__scorer_find(&kind, reward, err);
    *probe                          = !status && strcmp(kind->name, "probe") == 0;
    return status;
}

static enum soothe_status open_rad(struct soothe__link *l, const struct soothe__method_target *target,
                                   struct llama_context_params *context, struct soothe_error *err) {
    const double under  = soothe__link_value(l, "under")->number;
    const char  *reward = soothe__link_value(l, "reward")->text;
    bool         probe;
    l->strength = soothe__link_number(l, "beta");
    if (l->strength == 0.0f)
        return SOOTHE_OK;
    struct rad *a = l->state = soothe__calloc(1, sizeof *a);
    if (!a)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for rad");
    a->beta                   = l->strength;
    a->window                 = (int32_t)soothe__link_number(l, "window");
    a->rule                   = (struct soothe__candidates_rule){.k         = (int32_t)soothe__link_number(l, "k"),
                                                                 .top_p     = soothe__link_number(l, "top-p"),
                                                                 .under     = isnan(under) ? INFINITY : (float)under,
                                                                 .keep_rest = soothe__link_number(l, "rest") == 1.0f,
                                                                 .bonus     = bonus,
                                                                 .self      = a};
    enum soothe_status status = is_probe(&probe, reward, err);
    if (!status && probe)
        status = open_probe(a, strcmp(reward, "probe") ? reward : NULL, target, context, err);
    else if (!status)
        status = open_scorer(a, reward, target, err);
    l->source = a->path;
    l->judge  = a->scorer && !status ? soothe__scorer_identity(a->scorer) : NULL;
    return status;
}

static enum soothe_status attach(struct soothe__link *l, struct soothe_session *session, struct soothe_error *err) {
    struct rad *a = l->state;
    return a ? soothe__candidates_attach(session, &a->rule, a->probe ? &a->plan : NULL, err) : SOOTHE_OK;
}

static const struct soothe__parameter PARAMETERS[] = {
    {"beta", SOOTHE__NUMBER, "30", 0, 100000, NULL, "how much the reward counts; 0: plain"},
    {"k", SOOTHE__INTEGER, "20", 1, SOOTHE__CANDIDATES_MAX, NULL, "candidates"},
    {"top-p", SOOTHE__NUMBER, "1", 0, 1, NULL, "of the nucleus of this probability; 1: the k likeliest"},
    {"reward", SOOTHE__TEXT, "default", 0, 0, NULL,
     "a scorer of the text: default, lexicon, a file; or probe (SASA's shipped one), or a probe's file"},
    {"window", SOOTHE__INTEGER, "8", 0, 1e6, NULL, "of a scorer: tokens of the text that it judges; 0: all"},
    {"under", SOOTHE__NUMBER, NULL, 0, 1, NULL, "act only where 1 - r of the text so far is less; always if not given"},
    {"rest", SOOTHE__CHOICE, "drop", 0, 0, "drop keep",
     "tokens that are no candidates: never said, or left as they are"},
    {.name = NULL}};

const struct soothe__method soothe__method_rad = {
    .name       = "rad",
    .summary    = "next tokens by a reward for the text with each",
    .stage      = "candidates",
    .cost       = "k rows up to the probe's layer; with a scorer of text k texts judged and no forward",
    .source     = "Deng and Raffel, Reward-Augmented Decoding, arXiv 2310.09520",
    .parameters = PARAMETERS,
    .open       = open_rad,
    .attach     = attach,
    .release    = release};
