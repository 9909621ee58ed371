/* SPDX-License-Identifier: Apache-2.0
 * Sampling options to a shortlist of tokens and llama.cpp's samplers, in the order of llama.cpp's own programs. */
#include <math.h>
#include <stdlib.h>

#include "generate/generate.h"
#include "generate/shortlist.h"

/* Logits divided by less overflow to infinity, where the engine takes any token. */
#define TEMP_MIN 1e-30f

struct soothe__sampling soothe__sampling_default(void) {
    return (struct soothe__sampling){
        .temp = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1.0f, .repeat_last_n = 64};
}

static enum soothe_status check(const struct soothe__sampling *s, struct soothe_error *err) {
    if (!(s->temp >= 0) || !isfinite(s->temp))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "temperature %g: 0 or a positive number is wanted",
                            (double)s->temp);
    if (s->top_k < 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "top-k %d: 0 (off) or a positive number is wanted", s->top_k);
    if (!(s->top_p >= 0 && s->top_p <= 1))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "top-p %g is not within 0 … 1", (double)s->top_p);
    if (!(s->min_p >= 0 && s->min_p <= 1))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "min-p %g is not within 0 … 1", (double)s->min_p);
    if (!(s->repeat_penalty > 0) || !isfinite(s->repeat_penalty))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "repeat penalty %g: a positive number is wanted (1 is off)",
                            (double)s->repeat_penalty);
    if (s->repeat_last_n < -1)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "penalties over the last %d tokens: -1 (all) or more are wanted",
                            s->repeat_last_n);
    if (!isfinite(s->frequency_penalty) || !isfinite(s->presence_penalty))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "frequency and presence penalties must be finite");
    return SOOTHE_OK;
}

/* The engine takes one value to mean "choose for me". */
static uint32_t engine_seed(uint32_t seed, uint64_t stream, uint32_t i_sample) {
    struct soothe__rng of_stream = soothe__rng_seed(seed, stream);
    struct soothe__rng of_sample = soothe__rng_seed(soothe__rng_u32(&of_stream), i_sample);
    uint32_t           x;
    do
        x = soothe__rng_u32(&of_sample);
    while (x == LLAMA_DEFAULT_SEED);
    return x;
}

static bool has_penalties(const struct soothe__sampling *s) {
    return s->repeat_last_n != 0 &&
           (s->repeat_penalty != 1.0f || s->frequency_penalty != 0.0f || s->presence_penalty != 0.0f);
}

/* The engine allocates for as many tokens as it is told; no text is longer than the context. */
static int32_t penalized(const struct soothe__sampling *s, int32_t n_ctx) {
    return s->repeat_last_n < 0 || s->repeat_last_n > n_ctx ? n_ctx : s->repeat_last_n;
}

struct soothe__sampler {
    struct llama_sampler *chain; /* NULL: the likeliest token    */
    int32_t               top_k; /* of the shortlist             */
    float                 top_p;
    bool                  whole; /* the chain takes every token  */
};

/* With penalties the engine's whole chain; without, what follows the shortlist. */
static bool fill_chain(struct soothe__sampler *sampler, const struct soothe__sampling *s, int32_t n_vocab,
                       int32_t n_ctx, uint32_t seed) {
    struct llama_sampler *c = sampler->chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    if (!c)
        return false;
    if (has_penalties(s))
        llama_sampler_chain_add(c, llama_sampler_init_penalties(n_vocab, penalized(s, n_ctx), s->repeat_penalty,
                                                                s->frequency_penalty, s->presence_penalty));
    if (s->temp < TEMP_MIN) {
        llama_sampler_chain_add(c, llama_sampler_init_greedy());
        return true;
    }
    if (s->top_k > 0 && sampler->whole)
        llama_sampler_chain_add(c, llama_sampler_init_top_k(s->top_k));
    if (s->top_p < 1.0f && (sampler->whole || s->top_k > 0))
        llama_sampler_chain_add(c, llama_sampler_init_top_p(s->top_p, 1));
    if (s->min_p > 0.0f)
        llama_sampler_chain_add(c, llama_sampler_init_min_p(s->min_p, 1));
    llama_sampler_chain_add(c, llama_sampler_init_temp(s->temp));
    llama_sampler_chain_add(c, llama_sampler_init_dist(seed));
    return true;
}

enum soothe_status soothe__sampler_new(struct soothe__sampler **out, const struct soothe__sampling *s,
                                       const struct llama_vocab *vocab, int32_t n_ctx, uint64_t stream,
                                       uint32_t i_sample, struct soothe_error *err) {
    *out                            = NULL;
    const enum soothe_status status = check(s, err);
    if (status)
        return status;
    struct soothe__sampler *sampler = soothe__calloc(1, sizeof *sampler);
    if (!sampler)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a sampler");
    const bool greedy = s->temp < TEMP_MIN && !has_penalties(s);
    sampler->top_k    = s->top_k;
    sampler->top_p    = s->top_p;
    sampler->whole    = has_penalties(s) || (s->top_k == 0 && s->top_p >= 1.0f);
    if (!greedy &&
        !fill_chain(sampler, s, llama_vocab_n_tokens(vocab), n_ctx, engine_seed(s->seed, stream, i_sample))) {
        soothe__sampler_free(sampler);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a sampler");
    }
    *out = sampler;
    return SOOTHE_OK;
}

void soothe__sampler_free(struct soothe__sampler *sampler) {
    if (!sampler)
        return;
    llama_sampler_free(sampler->chain);
    free(sampler);
}

void soothe__sampler_accept(struct soothe__sampler *sampler, llama_token token) {
    if (sampler->chain)
        llama_sampler_accept(sampler->chain, token);
}

static llama_token likeliest(const float *z, int32_t n_vocab, float largest) {
    for (int32_t i = 0; i < n_vocab; i++)
        if (z[i] >= largest)
            return i;
    return LLAMA_TOKEN_NULL;
}

llama_token soothe__sampler_choose(struct soothe__sampler *sampler, const float *z, int32_t n_vocab,
                                   struct soothe__shortlist *list) {
    if (!soothe__shortlist_read(list, z, n_vocab))
        return LLAMA_TOKEN_NULL;
    if (!sampler->chain)
        return likeliest(z, n_vocab, list->largest);
    if (!(sampler->whole ? soothe__shortlist_all(list, z, n_vocab)
                         : soothe__shortlist_fill(list, z, n_vocab, sampler->top_k, sampler->top_p)))
        return LLAMA_TOKEN_NULL;
    llama_token_data_array left = {.data = list->data, .size = list->n, .selected = -1, .sorted = !sampler->whole};
    llama_sampler_apply(sampler->chain, &left);
    if (left.selected < 0 || left.selected >= (int64_t)left.size)
        return LLAMA_TOKEN_NULL;
    const llama_token token = left.data[left.selected].id;
    llama_sampler_accept(sampler->chain, token);
    return isfinite(z[token]) ? token : LLAMA_TOKEN_NULL;
}
