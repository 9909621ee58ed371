/* SPDX-License-Identifier: Apache-2.0
 * How much a language model holds each feature to matter, read from its logits: nothing is sampled, nothing parsed,
 * the same answer every time.
 *
 * The model is given the task and a list whose next line is begun by the feature's name; the logits of the four digits
 * 2 (matters much) to 5 (does not matter) that could follow are brought to probabilities, and their mean is the factor.
 */
#ifndef SOOTHE_PENALTY_FACTORS_H
#define SOOTHE_PENALTY_FACTORS_H

#include <signal.h>

#include "base/base.h"

struct soothe__factor_options {
    const char            *task;          /* what is to be predicted, in words: "whether a tweet is offensive" */
    int32_t                n_threads;     /* 0: all                                                            */
    bool                   show_progress; /* on stderr                                                         */
    volatile sig_atomic_t *interrupted;   /* NULL, or a flag that ends the work (SOOTHE_E_INTERRUPTED)         */
};

/* factors  (n_names) in [2,5]
 * names    (n_names) UTF-8; what is beyond 48 tokens of a name is not read
 * errors   SOOTHE_E_UNSUPPORTED a vocabulary that does not tell the four digits apart; SOOTHE_E_ENGINE;
 *          SOOTHE_E_NUMERIC logits that are not finite; SOOTHE_E_MEMORY; SOOTHE_E_INTERRUPTED
 * thread   any, the model is only read. The factors do not depend on how names are batched but for rounding */
enum soothe_status soothe__penalty_factors(double *factors, const char *const *names, size_t n_names,
                                           struct llama_model *model, const struct soothe__factor_options *options,
                                           struct soothe_error *err);

/* Replaces factors (n) by their ranks, spread evenly over [2,5], equal ones by their mean rank. A small model's factors
 * lie in a narrow band around what it always says; only their order is news. */
enum soothe_status soothe__factors_by_rank(double *factors, size_t n, struct soothe_error *err);

/* Factors of names from a table with the columns "feature" and "factor". A name that the file lacks gets the mean of
 * those that it has; *n_missing counts them.
 * errors  SOOTHE_E_FORMAT a factor that is not above 0, a feature named twice, none of the names in the file */
enum soothe_status soothe__factors_read(double *factors, const char *const *names, size_t n_names, const char *path,
                                        size_t *n_missing, struct soothe_error *err);
enum soothe_status soothe__factors_write(const double *factors, const char *const *names, size_t n_names,
                                         const char *path, struct soothe_error *err);

#endif /* SOOTHE_PENALTY_FACTORS_H */
