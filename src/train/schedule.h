/* SPDX-License-Identifier: Apache-2.0
 * What training learns from: reading the texts, and which of them each step takes. */
#ifndef SOOTHE_SCHEDULE_H
#define SOOTHE_SCHEDULE_H

#include "corpus/corpus.h"

struct soothe__texts_wanted {
    const char *const *data_paths, *const *heldout_paths;
    size_t   n_data, n_heldout;
    double   heldout_share; /* of the data, where no held-out file is named */
    uint64_t seed;          /* of that choice */
    int32_t  max_length;    /* tokens of a text */
};

/* Reads and tokenises; what the two have in common is held out.
 * corpus, heldout  zeroed
 * *n_read          pairs in the data before anything was removed
 * *n_left_out      lines of the data that are no good, repeated, held out elsewhere or empty */
enum soothe_status soothe__training_texts(struct soothe__corpus *corpus, struct soothe__corpus *heldout,
                                          const struct soothe__texts_wanted *wanted, const struct llama_vocab *vocab,
                                          size_t *n_read, size_t *n_left_out, struct soothe_error *err);

/* The pairs and texts of each step: both run through theirs in an order that the seed decides. */
struct soothe__schedule {
    const struct soothe__corpus *corpus;
    size_t                       n_pairs, n_texts; /* a step */
    struct soothe__series        pairs, texts;
    uint32_t                    *text_pool; /* what texts indexes: the single texts, or where there are none the chosen
                                               sides of the pairs */
    size_t                n_apart; /* of the n_texts a step, the last so many run through a series of their own */
    struct soothe__series apart;
    uint32_t             *apart_pool; /* NULL: there is none */
};

enum soothe_status soothe__schedule_init(struct soothe__schedule *s, const struct soothe__corpus *corpus,
                                         size_t n_pairs, size_t n_texts, uint64_t seed, struct soothe_error *err);
/* From now on the last n_apart texts of a step are those of weight 0, the others the rest.
 * errors  SOOTHE_E_ARGUMENT one of the two kinds is missing */
enum soothe_status soothe__schedule_part(struct soothe__schedule *s, size_t n_apart, uint64_t seed,
                                         struct soothe_error *err);
void               soothe__schedule_free(struct soothe__schedule *s);
/* Indices into corpus->pairs and corpus->texts. */
void soothe__schedule_step(struct soothe__schedule *s, int64_t step, uint32_t *pairs, uint32_t *texts);
/* Texts in the order in which n_steps first ask for them; *order fresh, free(), NULL after an error. */
enum soothe_status soothe__schedule_order(struct soothe__schedule *s, int32_t n_steps, uint32_t **order, size_t *n,
                                          struct soothe_error *err);
/* Factor of the learning rate: warm-up over a twentieth, then a cosine to 0. */
double soothe__schedule_rate(int32_t step, int32_t n_steps);

#endif /* SOOTHE_SCHEDULE_H */
