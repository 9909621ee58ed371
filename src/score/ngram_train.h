/* SPDX-License-Identifier: Apache-2.0
 * Training an n-gram scorer:
 *   split      by the hash of a text's words, so that a text lies on one side alone, in whatever source: a held-out
 * part, and a tenth of the rest for calibration words      a first fit, in which disguised words stay disguised, finds
 * the words worth recognising: those that are toxic alone, the most frequent first calibrate  a second fit, without the
 * tenth; Platt scaling on the tenth fit        the third, on all but the held-out part, carries the second's scaling
 *   codes      weights to a byte each
 * The figures are those of the finished scorer on the held-out part. */
#ifndef SOOTHE_NGRAM_TRAIN_H
#define SOOTHE_NGRAM_TRAIN_H

#include "score/labelled_texts.h"
#include "score/ngram_scorer.h"

struct soothe__source_weight {
    const char *source;
    double      weight;
};

struct soothe__ngram_train_options {
    struct soothe__ngram_shape          shape;
    double                              c;       /* inverse of the L2 penalty                                      */
    double                              holdout; /* share of texts                                                 */
    double                              sharpen; /* a label y becomes 1/2 + sharpen (y - 1/2) within [0,1]; 0: 0 or 1 */
    uint32_t                            seed;    /* of the split                                                   */
    uint32_t                            n_listed; /* most words of the list                                         */
    int                                 n_threads, max_iterations;
    const struct soothe__source_weight *weights; /* of sources that do not count 1 */
    size_t                              n_weights;
    void (*say)(void *user, const char *line); /* progress; may be NULL */
    void *user;
};
struct soothe__ngram_train_options soothe__ngram_train_options_default(void);

struct soothe__ngram_train_report {
    size_t                        n_train, n_calibration, n_holdout, n_features, n_listed;
    int                           n_iterations; /* of the last fit */
    double                        loss, a, b;   /* a, b: Platt     */
    unsigned char                *held_out;     /* (texts) */
    double                       *scores;       /* (texts) of the held-out; NaN elsewhere */
    struct soothe__score_figures *figures;
    size_t                        n_figures;
    double                        seconds;
};
void soothe__ngram_train_report_free(struct soothe__ngram_train_report *report); /* also of a zeroed one */

/* errors  SOOTHE_E_ARGUMENT options out of range, a weight of an unknown source, texts of one class alone */
enum soothe_status soothe__ngram_train(struct soothe__ngram_scorer **scorer, struct soothe__ngram_train_report *report,
                                       const struct soothe__labelled_texts      *texts,
                                       const struct soothe__ngram_train_options *options, struct soothe_error *err);

/* Writes the scorer with what is known of its making. */
enum soothe_status soothe__ngram_train_save(const struct soothe__ngram_scorer        *scorer,
                                            const struct soothe__ngram_train_report  *report,
                                            const struct soothe__labelled_texts      *texts,
                                            const struct soothe__ngram_train_options *options, const char *path,
                                            struct soothe_error *err);

#endif /* SOOTHE_NGRAM_TRAIN_H */
