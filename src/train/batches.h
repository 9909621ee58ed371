/* SPDX-License-Identifier: Apache-2.0
 * Pairs and texts of a corpus packed into the batches of the training core. */
#ifndef SOOTHE_BATCHES_H
#define SOOTHE_BATCHES_H

#include "train/target_states.h"
#include "train/train_core.h"

struct soothe__batches;

struct soothe__batches_options {
    size_t n_pairs, n_texts; /* of the largest batch */
    bool   with_tokens;      /* the core has blocks */
};

/* Room that the largest batch of a tokenised corpus needs of the core. */
void soothe__batches_room(const struct soothe__corpus *corpus, const struct soothe__batches_options *options,
                          int32_t *max_tokens, int32_t *max_rows);

/* corpus and states outlive it; states NULL: the objective needs none. */
enum soothe_status soothe__batches_new(struct soothe__batches **b, const struct soothe__corpus *corpus,
                                       struct soothe__target_states         *states,
                                       const struct soothe__batches_options *options, struct soothe_error *err);
void               soothe__batches_free(struct soothe__batches *b);

/* pairs, texts  indices into corpus->pairs and corpus->texts
 * kind          of the texts' rows
 * *batch        owned by b until the next call; rows of the pairs come first. Its log_p_t is known from earlier
 *               batches or NaN: call soothe__batches_keep after the core has filled it. */
enum soothe_status soothe__batches_build(struct soothe__batches *b, const uint32_t *pairs, size_t n_pairs,
                                         const uint32_t *texts, size_t n_texts, enum soothe__row_kind kind,
                                         const struct soothe__train_batch **batch, struct soothe_error *err);
/* The same of any texts, n of them, as many as 2 n_pairs + n_texts at most. */
struct soothe__batch_text {
    uint32_t              i_text;
    enum soothe__row_kind kind;
    int32_t               i_pair;
};
enum soothe_status soothe__batches_build_texts(struct soothe__batches *b, const struct soothe__batch_text *texts,
                                               size_t n, const struct soothe__train_batch **batch,
                                               struct soothe_error *err);
void               soothe__batches_keep(struct soothe__batches *b);

#endif /* SOOTHE_BATCHES_H */
