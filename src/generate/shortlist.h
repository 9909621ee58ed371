/* SPDX-License-Identifier: Apache-2.0
 * The tokens that top-k or nucleus sampling leaves, without a sort of the vocabulary. */
#ifndef SOOTHE_SHORTLIST_H
#define SOOTHE_SHORTLIST_H

#include "base/base.h"

/* Zeroed to begin; used again for every token, so that nothing is allocated in the long run. */
struct soothe__shortlist {
    llama_token_data *data; /* (n) sorted, the likeliest first */
    size_t            n, capacity;
    float             largest; /* logit                                                */
    double            sum;     /* of e^(z - largest) over the vocabulary: the normaliser */
    llama_token_data *dealt;   /* (capacity) where sorting puts the tokens               */
    uint8_t          *ranges;  /* (capacity) and the range of logits of each             */
};

/* Looks through the logits z (n_vocab) once; false if one is NaN or none is finite. */
bool soothe__shortlist_read(struct soothe__shortlist *list, const float *z, int32_t n_vocab);
/* After that: the top_k likeliest tokens if top_k > 0, else the smallest set of tokens that holds the probability top_p
 * under the softmax of all of z (the nucleus; Holtzman et al. 2020). Equal logits in the order of their ids. false when
 * out of memory. */
bool soothe__shortlist_fill(struct soothe__shortlist *list, const float *z, int32_t n_vocab, int32_t top_k,
                            float top_p);
/* Or every token, in the order of the ids, for samplers that change logits first. */
bool soothe__shortlist_all(struct soothe__shortlist *list, const float *z, int32_t n_vocab);
/* log softmax(z) of a token with that logit, in nats. */
double soothe__shortlist_log_prob(const struct soothe__shortlist *list, float logit);
/* log sum exp of z: log softmax(z)[i] is z[i] less that. NaN if one is NaN or none is finite. Off by less than 1e-6. */
double soothe__log_sum_exp(const float *z, int32_t n_vocab);
void   soothe__shortlist_free(struct soothe__shortlist *list);

#endif /* SOOTHE_SHORTLIST_H */
