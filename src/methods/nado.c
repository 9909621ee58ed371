/* SPDX-License-Identifier: Apache-2.0
 * NADO at decoding: tokens are drawn in proportion to p(v) R(v)^strength (docs/methods/nado.md). */
#include <math.h>
#include <stdlib.h>

#include "methods/mixer.h"
#include "methods/nado.h"

struct nado {
    struct soothe__nado     *n;
    struct soothe__own_head *head;
    char                    *path;
    float                    strength;
    float                   *u; /* (d) */
};

static void state(void *self, const float *h, float *u, int32_t d) {
    const struct nado *x = self;
    (void)d;
    soothe__nado_state(x->n, h, u);
}

static enum soothe_status row(void *self, const struct soothe__mixer_row *r, struct soothe_error *err) {
    const struct nado *x = self;
    (void)err;
    soothe__mix_success(r->z, r->n_vocab, r->sources[0], soothe__nado_state(x->n, r->h, x->u), x->strength * r->dose);
    return SOOTHE_OK;
}

static enum soothe_status open_it(struct soothe__link *l, const struct soothe__method_target *target,
                                  struct llama_context_params *context, struct soothe_error *err) {
    const char        *path   = soothe__link_value(l, "file")->text;
    struct nado       *x      = soothe__calloc(1, sizeof *x);
    enum soothe_status status = SOOTHE_OK;
    (void)context;
    l->state = x;
    if (!x)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!path)
        status = soothe__shipped_file(&x->path, "default.nado.gguf", "success head",
                                      "make one by soothe nado train and name it by nado:file=FILE", err);
    else if (!(x->path = soothe__strdup(path)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status)
        status = soothe__nado_open(&x->n, x->path, target->path, err);
    if (!status)
        status = soothe__own_head_open(&x->head, target->path, err);
    if (!status && !(x->u = soothe__calloc((size_t)x->n->d, sizeof *x->u)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (status)
        return status;
    const float strength = soothe__link_number(l, "strength");
    x->strength          = isnan(strength) ? x->n->strength : strength;
    l->strength          = x->strength;
    l->source            = x->path;
    return SOOTHE_OK;
}

static enum soothe_status attach(struct soothe__link *l, struct soothe_session *session, struct soothe_error *err) {
    struct nado *x = l->state;
    if (x->strength == 0)
        return SOOTHE_OK;
    return soothe__mixer_add(session, NULL, 0, x->head,
                             &(struct soothe__mixer_rule){.self = x, .row = row, .state = state}, err);
}

static void release(void *self) {
    struct nado *x = self;
    if (!x)
        return;
    soothe__nado_free(x->n);
    soothe__own_head_free(x->head);
    free(x->path);
    free(x->u);
    free(x);
}

static const struct soothe__parameter PARAMETERS[] = {
    {"strength", SOOTHE__NUMBER, NULL, 0, 100, NULL, "power of the estimate; what the file recommends if not given"},
    {"file", SOOTHE__FILE, NULL, 0, 0, NULL, "a success head; the shipped one where it fits if not given"},
    {.name = NULL}};

const struct soothe__method soothe__method_nado = {
    .name       = "nado",
    .summary    = "tokens weighed by the chance that the text ends clean",
    .stage      = "logits",
    .cost       = "one product with the head",
    .source     = "Controllable Text Generation with Neurally-Decomposed Oracle, 2022; the head of ACFT, 2024",
    .parameters = PARAMETERS,
    .open       = open_it,
    .attach     = attach,
    .release    = release};
