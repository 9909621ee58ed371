/* SPDX-License-Identifier: Apache-2.0
 * Proxy tuning: what training has changed in a small model, added to the target (docs/methods/proxy.md). */
#include "methods/mixer_pair.h"

static enum soothe_status open_pair(struct soothe__link *l, const struct soothe__method_target *target,
                                    struct llama_context_params *context, struct soothe_error *err) {
    const char          *tuned = soothe__link_value(l, "tuned")->text, *base = soothe__link_value(l, "base")->text;
    const float          gain = soothe__link_number(l, "gain");
    struct soothe__pair *p    = soothe__calloc(1, sizeof *p);
    l->state                  = p;
    l->strength               = soothe__link_number(l, "strength");
    if (!p)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    *p = (struct soothe__pair){.a = l->strength, .top_p = 1, .has_plus = true, .context = *context};
    enum soothe_status status = soothe__mixer_base(&p->base, &p->owned, target, base, err);
    if (!status && tuned)
        status = soothe__helper_open(&p->plus, tuned, gain, &p->base, target, err);
    else if (!status)
        status = soothe__helper_shipped(&p->plus, gain, &p->base, err);
    p->has_minus   = p->owned != NULL; /* else the target is its own base, and z stands for its logits */
    p->minus.model = p->base.model;
    l->source      = tuned ? tuned : soothe__pair_calibrator(p);
    return status;
}

static const struct soothe__parameter PARAMETERS[] = {
    {"strength", SOOTHE__NUMBER, "1", -100, 100, NULL, "a in z + a (tuned - base)"},
    {"tuned", SOOTHE__FILE, NULL, 0, 0, NULL,
     "a trained model, or a LoRA or calibrator on the base; the shipped calibrator if not given"},
    {"base", SOOTHE__FILE, NULL, 0, 0, NULL, "the model it was trained from; the target itself if not given"},
    {"gain", SOOTHE__NUMBER, "1", -100, 100, NULL, "of a calibrator, as a multiple of its own strength, and of a LoRA"},
    {.name = NULL}};

const struct soothe__method soothe__method_proxy = {
    .name       = "proxy",
    .summary    = "the difference between a small model tuned and untuned, added to the target",
    .stage      = "logits",
    .cost       = "a pass of the tuned and of the untuned model; of the former alone where the target is the latter",
    .source     = "Tuning Language Models by Proxy, 2024",
    .parameters = PARAMETERS,
    .open       = open_pair,
    .attach     = soothe__pair_attach,
    .release    = soothe__pair_free};
