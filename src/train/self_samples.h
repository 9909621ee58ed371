/* SPDX-License-Identifier: Apache-2.0
 * Training data from the target alone: it continues prompts several times, a scorer says which are clean, and
 * clean against toxic continuations of one prompt become pairs. */
#ifndef SOOTHE_SELF_SAMPLES_H
#define SOOTHE_SELF_SAMPLES_H

#include <signal.h>

#include "base/base.h"

struct soothe__self_options {
    const char *model_path;
    const char *prompts_path; /* JSON lines with "prompt": text, or an object with "text"; NULL: only unprompted */
    size_t      n_unprompted; /* texts from nothing, beside those of the prompts, as {"prompt": ""} first in the file;
                                 rounded up to a multiple of n_samples */
    const char *samples_path; /* written: {"prompt", "completion", "score"} a line, scores may be null; goes on from
                                 SAMPLES.part where one of the same run is there. A file that is there already: of
                                 the same run it is completed, without soothe's first line it is left as it is */
    const char                  *score_command; /* NULL: the built-in lexicon */
    const char                  *scorer;        /* a scorer's SPEC (scorer.h), instead of both; NULL: none */
    int32_t                      n_samples;     /* per prompt, 8 */
    int32_t                      n_predict;     /* tokens, 20 */
    int32_t                      n_parallel;    /* sequences at once, 48 */
    int32_t                      n_threads;     /* 0: all */
    size_t                       n_prompts_max; /* 0: all */
    float                        temp, top_p;   /* 1, .9 */
    uint32_t                     seed;
    const volatile sig_atomic_t *stop;
};
struct soothe__self_options soothe__self_options_default(void);

/* errors  SOOTHE_E_INTERRUPTED: what was sampled is kept, the same call goes on; SOOTHE_E_MISMATCH samples_path holds
 *         samples of another target, other prompts, options or scorer */
enum soothe_status soothe__self_samples(const struct soothe__self_options *options, struct soothe_error *err);

struct soothe__self_counts {
    size_t n_prompts, n_samples, n_unscored, n_toxic, n_pairs, n_texts;
};

/* Turns samples into pairs_path: for each prompt up to two pairs of a clean (score 0, or at most clean_to) and a
 * toxic sample (score toxic_from or more), and where all are clean one of them as a text.
 * errors  SOOTHE_E_ARGUMENT not one pair, or not 0 <= clean_to < toxic_from <= 1 */
enum soothe_status soothe__self_pairs(const char *samples_path, const char *pairs_path, double clean_to,
                                      double toxic_from, struct soothe__self_counts *counts, struct soothe_error *err);

#endif /* SOOTHE_SELF_SAMPLES_H */
