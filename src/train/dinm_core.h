/* SPDX-License-Identifier: Apache-2.0
 * The numbers of DINM (Detoxifying with Intraoperative Neural Monitoring): one block's down projection W, changed by a
 * few steps of Adam so that safe answers become likely and answers to general questions stay what they are. Arrays
 * in, arrays out: it knows neither files nor the engine.
 *
 *   loss = c_edit mean over instances of (mean over its safe answer's tokens of -log P(token))
 *        +        mean over general questions of (mean over its answer's tokens of KL(P_before || P))
 *
 * P_before is the model's distribution before the first step, kept as the final state that leads to it (the head never
 * changes), so the term is exact and has its gradient, p - p_before. In the paper's code it is computed without one.
 * Every instance counts in every step, so none starts from weights that another one bent.
 *
 * Only the *cut* is computed: the edited block and those above it, on states that were read once below it.
 * Source: Wang et al. 2024, "Detoxifying Large Language Models via Knowledge Editing", section 4. */
#ifndef SOOTHE_DINM_CORE_H
#define SOOTHE_DINM_CORE_H

#include "train/train_core.h"

struct soothe__dinm_text {
    const uint16_t *inputs;          /* (n_tokens, d) bf16: the states that enter the cut; copied */
    const int32_t  *tokens;          /* (n_tokens), copied */
    int32_t         n_tokens, first; /* tokens first … n_tokens-1 are the answer; first >= 1 */
    bool            general;         /* to be kept (KL); false: an instance's safe answer, to become likely */
};

struct soothe__dinm_numbers { /* how to compute */
    double                              c_edit;
    enum soothe__precision              precision;
    int32_t                             n_threads; /* 0: all */
    const struct soothe__fixed_weights *fixed;     /* of the matrices but W; NULL: the core keeps them; outlives it */
};

struct soothe__dinm_core;

/* shape  of the cut: n_blocks >= 1 counts its blocks, the first of which is edited
 * head   (V, d) bf16; outlives the core
 * errors SOOTHE_E_ARGUMENT no instance, a text without an answer, a token that does not exist; SOOTHE_E_MEMORY */
enum soothe_status soothe__dinm_core_new(struct soothe__dinm_core **core, const struct soothe__train_shape *shape,
                                         const struct soothe__dinm_numbers *numbers, const uint16_t *head,
                                         const struct soothe__dinm_text *texts, size_t n_texts,
                                         struct soothe_error *err);
void               soothe__dinm_core_free(struct soothe__dinm_core *core); /* NULL is fine */

/* The parameters that the core keeps, to be filled: W ("blk.0.ffn_down.weight", (d, n_ff)), vectors, and matrices that
 * the fixed weights lack. Blocks are counted from the cut's first. */
const struct soothe__train_tensor *soothe__dinm_tensors(const struct soothe__dinm_core *core, size_t *n);
float                             *soothe__dinm_parameters(struct soothe__dinm_core *core);
/* Of these, W, and its gradient after soothe__dinm_gradient. */
float       *soothe__dinm_weights(struct soothe__dinm_core *core, size_t *n);
const float *soothe__dinm_weights_gradient(const struct soothe__dinm_core *core);

struct soothe__dinm_loss {
    double loss, nll, kl; /* loss = c_edit nll + kl, as above */
};

/* Takes the parameters as they are for the model before the edit. To be called before what follows. */
enum soothe_status soothe__dinm_begin(struct soothe__dinm_core *core, struct soothe_error *err);
/* errors  SOOTHE_E_NUMERIC the loss or a gradient is not finite */
enum soothe_status soothe__dinm_evaluate(struct soothe__dinm_core *core, struct soothe__dinm_loss *loss,
                                         struct soothe_error *err);
enum soothe_status soothe__dinm_gradient(struct soothe__dinm_core *core, struct soothe__dinm_loss *loss,
                                         struct soothe_error *err);
/* One step of Adam (beta .9, .999, eps 1e-8, no weight decay) along the last gradient. */
void soothe__dinm_update(struct soothe__dinm_core *core, double lr);

#endif /* SOOTHE_DINM_CORE_H */
