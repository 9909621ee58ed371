/* SPDX-License-Identifier: Apache-2.0
 * Best of n: each continuation is drawn n times and the one that a scorer finds least toxic is kept. The baseline that
 * needs nothing but samples (generate_with.h). */
#include <math.h>
#include <stdlib.h>

#include "methods/methods.h"
#include "score/scorer.h"

struct best {
    struct soothe__scorer *scorer;
    char                  *path;
};

static void release(void *state) {
    struct best *a = state;
    if (!a)
        return;
    soothe__scorer_close(a->scorer);
    free(a->path);
    free(a);
}

/* Room for the tries of one continuation side by side, where the caller made room for less. */
static void widen(struct llama_context_params *context, const struct llama_model *model, int32_t n) {
    enum { MOST = 32 };
    const uint32_t now = context->n_seq_max > 1 ? context->n_seq_max - 1 : 1, wanted = n < MOST ? (uint32_t)n : MOST;
    if (wanted <= now)
        return;
    if (context->n_ctx == 0)
        context->n_ctx = (uint32_t)llama_model_n_ctx_train(model);
    context->n_ctx      = (context->n_ctx + now - 1) / now * wanted;
    context->n_seq_max  = wanted + 1;
    context->kv_unified = true;
}

static enum soothe_status open_best(struct soothe__link *l, const struct soothe__method_target *target,
                                    struct llama_context_params *context, struct soothe_error *err) {
    const struct soothe__scorer_options options = {.model_path = target->path, .n_threads = 1};
    const char                         *spec    = soothe__link_value(l, "scorer")->text;
    l->strength                                 = soothe__link_number(l, "n");
    if (l->strength <= 1.0f) { /* one is the text as it is */
        l->strength = 0;
        return SOOTHE_OK;
    }
    struct best *a = l->state = soothe__calloc(1, sizeof *a);
    if (!a)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for best-of-n");
    enum soothe_status status = soothe__scorer_open(&a->scorer, spec, &options, err);
    if (!status && soothe__file_exists(spec) && !(a->path = soothe__strdup(spec)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    l->source = a->path;
    l->judge  = status ? NULL : soothe__scorer_identity(a->scorer);
    widen(context, target->model, (int32_t)l->strength);
    return status;
}

/* No stage; but this says that the method does something. */
static enum soothe_status attach(struct soothe__link *l, struct soothe_session *session, struct soothe_error *err) {
    (void)l;
    (void)session;
    (void)err;
    return SOOTHE_OK;
}

static int32_t n_tries(const struct soothe__link *l) {
    return (int32_t)l->strength;
}

/* The first of equals; what the scorer cannot judge comes last. */
static enum soothe_status choose(struct soothe__link *l, const char *const *texts, int32_t n, int32_t *i_best,
                                 struct soothe_error *err) {
    const struct best    *a      = l->state;
    struct soothe__score *scores = soothe__calloc((size_t)n, sizeof *scores);
    double                best   = INFINITY;
    *i_best                      = 0;
    if (!scores)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d scores", n);
    const enum soothe_status status = soothe__scorer_score(a->scorer, texts, (size_t)n, scores, err);
    for (int32_t i = 0; i < n && !status; i++)
        if (scores[i].toxicity < best) {
            best    = scores[i].toxicity;
            *i_best = i;
        }
    free(scores);
    return status;
}

static const struct soothe__parameter PARAMETERS[] = {
    {"n", SOOTHE__INTEGER, "4", 0, 1024, NULL, "continuations drawn for each that is asked for; 0 or 1: plain"},
    {"scorer", SOOTHE__TEXT, "default", 0, 0, NULL, "which of them is least toxic: default, lexicon, a file"},
    {.name = NULL}};

const struct soothe__method soothe__method_best_of_n = {
    .name       = "best-of-n",
    .summary    = "of n continuations the one that a scorer finds least toxic",
    .stage      = "text",
    .cost       = "n times all",
    .source     = "a baseline",
    .parameters = PARAMETERS,
    .open       = open_best,
    .attach     = attach,
    .n_tries    = n_tries,
    .choose     = choose,
    .release    = release};
