/* SPDX-License-Identifier: Apache-2.0
 * DExperts: an expert's logits less an anti-expert's, added to the target's (docs/methods/dexperts.md). */
#include <math.h>
#include <string.h>

#include "methods/mixer_pair.h"
#include "methods/mixer_prefixes.h"

enum helpers { CALIBRATOR, PREFIX, ANTI_PREFIX };

/* Helpers that need no file: the shipped calibrator forward and backward, or what the target itself writes behind a
 * clean and behind a toxic prefix. */
static enum soothe_status derive(struct soothe__pair *p, enum helpers helpers, float gain,
                                 const struct soothe__method_target *target, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    p->has_plus               = helpers != ANTI_PREFIX;
    p->has_minus              = true;
    if (helpers == CALIBRATOR) {
        status = soothe__helper_shipped(&p->plus, gain, &p->base, err);
        if (!status)
            status = soothe__helper_shipped(&p->minus, -gain, &p->base, err);
        return status ? status : soothe__pair_use_twin(p, target, err);
    }
    p->both  = helpers == PREFIX;
    p->minus = (struct soothe__helper){.model = p->base.model};
    if (p->both)
        p->minus.prefixes[p->minus.n_prefixes++] = SOOTHE__PREFIX_CLEAN;
    p->minus.prefixes[p->minus.n_prefixes++] = SOOTHE__PREFIX_TOXIC;
    return status;
}

static enum soothe_status open_files(struct soothe__pair *p, const char *expert, const char *anti, float gain,
                                     float gain_of_loras, const struct soothe__method_target *target,
                                     struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    p->has_plus               = expert != NULL;
    p->has_minus              = anti != NULL;
    if (expert)
        status = soothe__helper_open(&p->plus, expert, gain, &p->base, target, err);
    if (anti && !status)
        status = soothe__helper_open(&p->minus, anti, -gain, &p->base, target, err);
    if (p->plus.lora)
        p->plus.strength = gain_of_loras;
    if (p->minus.lora) /* a LoRA trained on what is to be avoided is itself the anti-expert */
        p->minus.strength = gain_of_loras;
    return status;
}

static enum soothe_status open_pair(struct soothe__link *l, const struct soothe__method_target *target,
                                    struct llama_context_params *context, struct soothe_error *err) {
    const char          *expert = soothe__link_value(l, "expert")->text, *anti = soothe__link_value(l, "anti")->text;
    const float          gain = soothe__link_number(l, "gain");
    struct soothe__pair *p    = soothe__calloc(1, sizeof *p);
    l->state                  = p;
    l->strength               = soothe__link_number(l, "strength");
    if (!p)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    p->a       = l->strength;
    p->top_p   = soothe__link_number(l, "top-p");
    p->slack   = soothe__link_number(l, "slack");
    p->context = *context;
    enum soothe_status status =
        soothe__mixer_base(&p->base, &p->owned, target, soothe__link_value(l, "model")->text, err);
    if (!status && (expert || anti))
        status = open_files(p, expert, anti, gain, soothe__link_value(l, "gain")->given ? gain : 1, target, err);
    else if (!status)
        status = derive(p, (enum helpers)soothe__link_number(l, "helpers"), gain, target, err);
    if (!status && p->slack > 0 && (!p->twin || p->top_p >= 1))
        status = soothe__fail(err, SOOTHE_E_ARGUMENT,
                              "slack of dexperts needs a calibrator without blocks on both sides and top-p below 1");
    l->source = expert ? expert : anti ? anti : soothe__pair_calibrator(p);
    return status;
}

static const struct soothe__parameter PARAMETERS[] = {
    {"strength", SOOTHE__NUMBER, "2", -100, 100, NULL, "a in z + a (expert - anti-expert)"},
    {"expert", SOOTHE__FILE, NULL, 0, 0, NULL,
     "a model, LoRA, calibrator, or text to be read first; with anti alone: z + a (z - anti)"},
    {"anti", SOOTHE__FILE, NULL, 0, 0, NULL, "the same, of what is to be avoided; a calibrator here works backward"},
    {"top-p", SOOTHE__NUMBER, "0.9", 0.01, 1, NULL, "only tokens of the target's own nucleus are possible; 1: all"},
    {"slack", SOOTHE__NUMBER, "0", 0, 100, NULL,
     "0: the paper's rule; else tokens are only pushed down, and by what is beyond it (calibrator without blocks)"},
    {"helpers", SOOTHE__CHOICE, "calibrator", 0, 0, "calibrator prefix anti-prefix",
     "without files: the shipped calibrator forward and backward, or the target behind two prefixes or one"},
    {"gain", SOOTHE__NUMBER, "0.28", -100, 100, NULL,
     "of calibrators, as a multiple of their own strength; of LoRAs, which without it act at 1"},
    {"model", SOOTHE__FILE, NULL, 0, 0, NULL, "the model that helpers are made of; the target if not given"},
    {.name = NULL}};

const struct soothe__method soothe__method_dexperts = {
    .name       = "dexperts",
    .summary    = "an expert's logits less an anti-expert's, within the target's nucleus",
    .stage      = "logits",
    .cost       = "a pass of each helper; with the shipped calibrator one product with the head",
    .source     = "DExperts: Decoding-Time Controlled Text Generation with Experts and Anti-Experts, 2021",
    .parameters = PARAMETERS,
    .open       = open_pair,
    .attach     = soothe__pair_attach,
    .release    = soothe__pair_free};
