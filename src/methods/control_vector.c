/* SPDX-License-Identifier: Apache-2.0
 * llama.cpp's control vector: a direction added to the output of each block. It acts on a whole context, so all
 * sequences get the same dose (docs/methods/control-vector.md). */
#include "fusion/control_vector.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fusion/stage.h"
#include "methods/methods.h"

struct control {
    struct soothe__control_vector *vector;
    float                         *scaled;         /* (n_layers, d) as the context has it */
    float                          strength, dose; /* dose: in force; NaN: none yet */
    int32_t                        first, last;    /* layers */
};

static enum soothe_status shipped(char **path, struct soothe_error *err) {
    return soothe__shipped_file(path, "default.control-vector.gguf", "control vector",
                                "make one by soothe control-vector, and name it by --method control-vector:file=FILE",
                                err);
}

static void release(void *state) {
    struct control *c = state;
    if (!c)
        return;
    soothe__control_vector_free(c->vector);
    free(c->scaled);
    free(c);
}

static enum soothe_status open_control(struct soothe__link *l, const struct soothe__method_target *target,
                                       struct llama_context_params *context, struct soothe_error *err) {
    const char     *path  = soothe__link_value(l, "file")->text;
    char           *found = NULL;
    struct control *c     = soothe__calloc(1, sizeof *c);
    (void)context;
    l->state = c;
    if (!c)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    enum soothe_status status = path ? SOOTHE_OK : shipped(&found, err);
    if (!status)
        status = soothe__control_vector_open(&c->vector, path ? path : found, target->path, err);
    free(found);
    if (status)
        return status;
    const float  strength = soothe__link_number(l, "strength");
    const double first = soothe__link_value(l, "first")->number, last = soothe__link_value(l, "last")->number;
    const size_t n = (size_t)c->vector->n_layers * (size_t)c->vector->d;
    c->scaled      = soothe__calloc(n, sizeof *c->scaled);
    c->strength = l->strength = isnan(strength) ? c->vector->strength : strength;
    c->dose                   = NAN;
    c->first                  = isnan(first) ? 1 : (int32_t)first;
    c->last                   = isnan(last) ? c->vector->n_layers : (int32_t)last;
    l->source                 = c->vector->path;
    if (c->first > c->last || c->last > c->vector->n_layers)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "method control-vector from layer %d to %d: layers 1 to %d have a direction", c->first,
                            c->last, c->vector->n_layers);
    return c->scaled ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a control vector");
}

/* ---- in the session ------------------------------------------------------------------------------------------- */

struct at_work {
    struct control       *c;
    struct llama_context *ctx;
};

static enum soothe_status set_dose(struct at_work *w, float dose, struct soothe_error *err) {
    struct control *c     = w->c;
    const size_t    n     = (size_t)c->vector->n_layers * (size_t)c->vector->d;
    const float     scale = c->strength * dose;
    for (size_t i = 0; i < n; i++)
        c->scaled[i] = scale * c->vector->values[i];
    const int32_t code =
        llama_set_adapter_cvec(w->ctx, scale != 0.0f ? c->scaled : NULL, n, c->vector->d, c->first, c->last);
    if (code != 0)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine refuses control vector %s (code %d)", c->vector->path,
                            code);
    c->dose = dose;
    return SOOTHE_OK;
}

/* A context that holds states made under one dose cannot go on under another. */
static enum soothe_status before(void *self, const struct soothe__step *step, struct soothe_error *err) {
    struct at_work           *w    = self;
    const struct llama_batch *b    = step->batch;
    float                     dose = NAN;
    for (int32_t i = 0; i < b->n_tokens; i++) {
        const int32_t n_ids = b->seq_id && b->n_seq_id ? b->n_seq_id[i] : 1;
        for (int32_t k = 0; k < n_ids; k++) {
            const float one = soothe__session_dose(step->session, b->seq_id && b->n_seq_id ? b->seq_id[i][k] : 0);
            if (i + k > 0 && one != dose)
                return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                                    "method control-vector acts on a whole context: its sequences cannot have doses "
                                    "%g and %g at once",
                                    (double)dose, (double)one);
            dose = one;
        }
    }
    if (dose == w->c->dose)
        return SOOTHE_OK;
    for (llama_seq_id s = 0; s < (llama_seq_id)soothe__session_n_seq(step->session); s++)
        if (!isnan(w->c->dose) && llama_memory_seq_pos_max(llama_get_memory(w->ctx), s) >= 0)
            return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                                "method control-vector acts on a whole context, which holds text under dose %g: clear "
                                "it before dose %g",
                                (double)w->c->dose, (double)dose);
    return set_dose(w, dose, err);
}

static enum soothe_status attach(struct soothe__link *l, struct soothe_session *session, struct soothe_error *err) {
    if (l->strength == 0.0f)
        return SOOTHE_OK;
    struct at_work *w = soothe__calloc(1, sizeof *w);
    if (!w)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    *w = (struct at_work){l->state, soothe_session_context(session)};
    return soothe__session_add_stage(session, &(struct soothe__stage){.self = w, .before = before, .free = free}, err);
}

static const struct soothe__parameter PARAMETERS[] = {
    {"strength", SOOTHE__NUMBER, NULL, -100, 100, NULL, "0: plain; what the file recommends if not given"},
    {"file", SOOTHE__FILE, NULL, 0, 0, NULL, "llama.cpp's control vector; the shipped one where it fits if not given"},
    {"first", SOOTHE__INTEGER, NULL, 1, 100000, NULL, "first layer; 1 if not given"},
    {"last", SOOTHE__INTEGER, NULL, 1, 100000, NULL, "last layer; the last if not given"},
    {.name = NULL}};

const struct soothe__method soothe__method_control_vector = {
    .name       = "control-vector",
    .summary    = "llama.cpp's control vector: a direction added behind each block",
    .stage      = "blocks",
    .cost       = "one addition of d numbers a block",
    .source     = "mean differences as in Turner et al., arXiv 2308.10248, by llama.cpp's control vectors",
    .parameters = PARAMETERS,
    .one_dose   = true,
    .open       = open_control,
    .attach     = attach,
    .release    = release};
