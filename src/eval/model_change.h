/* SPDX-License-Identifier: Apache-2.0
 * What an edit did to a model elsewhere: on texts, and on answers to harmless questions. */
#ifndef SOOTHE_MODEL_CHANGE_H
#define SOOTHE_MODEL_CHANGE_H

#include <signal.h>

#include "base/base.h"

struct soothe__corpus;

struct soothe__model_change {
    size_t n_texts, n_tokens;
    double ppl_before, ppl_after; /* exp of the mean -log p of a token */
    double kl, kl_error;          /* KL(p_before || p_after) a token in nats, and its standard error over texts */
};
/* Runs the texts of a tokenised corpus that its singles use, one after another, through both models.
 * errors  SOOTHE_E_MISMATCH other vocabularies; SOOTHE_E_NUMERIC; those of soothe_decode */
enum soothe_status soothe__model_change(struct soothe__model_change *change, struct llama_model *before,
                                        struct llama_model *after, const struct soothe__corpus *corpus,
                                        int32_t n_threads, const volatile sig_atomic_t *stop, struct soothe_error *err);

struct soothe__answer_change {
    size_t n;
    double same;                          /* share of answers that are the same text */
    double same_start;                    /* mean share of the longer answer before the first difference */
    double refused_before, refused_after; /* shares */
    double distinct2_before, distinct2_after;
};
/* Greedy answers of both. */
enum soothe_status soothe__answer_change(struct soothe__answer_change *change, struct llama_model *before,
                                         struct llama_model *after, const char *const *questions, size_t n,
                                         int32_t n_predict, int32_t n_threads, const volatile sig_atomic_t *stop,
                                         struct soothe_error *err);

#endif /* SOOTHE_MODEL_CHANGE_H */
