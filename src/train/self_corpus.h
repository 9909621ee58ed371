/* SPDX-License-Identifier: Apache-2.0
 * SGEAT's corpus (Wang et al. 2022): the cleanest share of what a model wrote itself, with neutral texts beside it.
 * docs/methods/sgeat.md. */
#ifndef SOOTHE_SELF_CORPUS_H
#define SOOTHE_SELF_CORPUS_H

#include "base/base.h"

/* Chooses of n scores the lowest ones: floor(share * number of scores), and none above clean_to. What has no score
 * (NaN) is neither counted nor chosen. Ties are broken by lot. random: as many by lot, whatever their scores; the
 * control. kept  (n) filled; *n_kept their number.  errors  SOOTHE_E_MEMORY */
enum soothe_status soothe__cleanest(const double *scores, size_t n, double share, double clean_to, bool random,
                                    uint64_t seed, bool *kept, size_t *n_kept, struct soothe_error *err);

struct soothe__self_corpus_options {
    const char        *samples_path; /* as soothe__self_samples writes them                            */
    const char        *corpus_path;  /* written: {"prompt", "completion"} a line, neutral texts behind */
    double             keep_share;   /* .5 */
    double             clean_to;     /* 1 */
    bool               random;       /* a random share of the same size: the control */
    const char *const *neutral_paths;
    size_t             n_neutral;
    double             neutral_share; /* of the corpus' texts, below 1; .25 */
    uint64_t           seed;
};

enum { SOOTHE__SELF_QUANTILES = 7 };
extern const double SOOTHE__SELF_QUANTILE[SOOTHE__SELF_QUANTILES]; /* 0, .1, .25, .5, .75, .9, 1 */

struct soothe__self_corpus_report {
    size_t n_samples, n_empty, n_unscored;    /* of all: nothing but spaces; without a score */
    size_t n_scored, n_kept, n_neutral;       /* samples to choose from, those chosen; neutral texts beside them */
    size_t n_neutral_wanted;                  /* more than n_neutral: the files hold no more */
    double quantiles[SOOTHE__SELF_QUANTILES]; /* of the scores of samples to choose from */
    double mean, mean_kept, worst_kept;
    double toxic, toxic_kept; /* shares with a score of .5 or more */
};

/* errors  SOOTHE_E_ARGUMENT shares out of range, nothing kept, a neutral file without single texts; those of reading
 *         and writing */
enum soothe_status soothe__self_corpus(const struct soothe__self_corpus_options *options,
                                       struct soothe__self_corpus_report *report, struct soothe_error *err);

#endif /* SOOTHE_SELF_CORPUS_H */
