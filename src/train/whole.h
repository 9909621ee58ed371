/* SPDX-License-Identifier: Apache-2.0
 * Training a whole target: what of it learns, what the objectives learn from, and what is written. train_run.c runs it
 * as it runs a calibrator's training; this is the part that differs.
 *
 *   sft         weighted likelihood of texts (weighted)
 *   acft        the same of useful texts, and KL to soft labels on the model's own samples (weighted)
 *   preference  pairs, against the model as it was (own preference)
 *   cppl        sets of paraphrases (weighted, with weights derived from cppl.h's loss) */
#ifndef SOOTHE_WHOLE_H
#define SOOTHE_WHOLE_H

#include "corpus/corpus.h"
#include "train/cppl.h"
#include "train/file_weights.h"
#include "train/paraphrase_sets.h"
#include "train/soft_labels.h"
#include "train/train_core.h"

enum soothe__matrix { /* bits */
                      SOOTHE__MATRIX_Q    = 1,
                      SOOTHE__MATRIX_K    = 2,
                      SOOTHE__MATRIX_V    = 4,
                      SOOTHE__MATRIX_O    = 8,
                      SOOTHE__MATRIX_GATE = 16,
                      SOOTHE__MATRIX_UP   = 32,
                      SOOTHE__MATRIX_DOWN = 64,
                      SOOTHE__MATRIX_ALL  = 127
};
/* Of "q,k,down" or "all"; 0: another name is among them. */
unsigned soothe__matrices_parse(const char *list);

struct soothe__whole_request {
    bool        on;
    const char *name;                   /* of the objective, for the file; NULL: sft, preference, cppl */
    unsigned    matrices;               /* which learn; 0: all */
    int32_t     first_block, end_block; /* of which blocks, the end not counted; end 0: all from first on */
    bool        full;                   /* they learn whole, without factors */
    int32_t     rank;                   /* 0: 16 */
    double      alpha;                  /* factors count alpha / rank; 0: 2 rank */
    bool        lora;                   /* out_path becomes a LoRA file, not a model */
    const char *merged_path;            /* beside a LoRA file, the model with it; NULL: none */
    enum soothe__weight_form form;      /* in which fixed weights are kept */
    int32_t                  n_kl;      /* single texts a step that hold the model where it was (lambda);
                                           sft, cppl */
    bool                        cppl;   /* n_pairs of the request are then sets a step */
    struct soothe__soft_labels  soft;
    bool                        kl_apart; /* KL texts are those of weight 0, and no others; sft */
    struct soothe__cppl_options loss;
    enum soothe__set_key        set_key;
    uint32_t                    set_max; /* harmless and toxic texts of a set at most, each; 0: 5 */
};

struct soothe__whole_figures { /* on held-out sets; nats a token; NaN: none */
    size_t n_sets;
    double loss, harmless, toxic; /* the loss, and the mean of l over texts */
};

struct soothe__run;
struct soothe__whole;

/* Opens the model and what it learns; run->whole is made. */
enum soothe_status soothe__whole_open(struct soothe__run *run, struct soothe_error *err);
void               soothe__whole_free(struct soothe__whole *w); /* NULL is fine */
/* Under cppl, sets out of the run's texts; then, once the batches' sizes are known, room for them. */
enum soothe_status soothe__whole_sets(struct soothe__run *run, struct soothe_error *err);
size_t             soothe__whole_largest_set(const struct soothe__run *run); /* texts */
size_t             soothe__whole_n_heldout(const struct soothe__run *run);   /* sets */
enum soothe_status soothe__whole_room(struct soothe__run *run, struct soothe_error *err);
/* Adds to the core's options what learns. */
void soothe__whole_options(const struct soothe__run *run, struct soothe__train_options *o);
/* The batch of run->step. */
enum soothe_status soothe__whole_batch(struct soothe__run *run, const struct soothe__train_batch **batch,
                                       struct soothe_error *err);
/* Of held-out sets, under cppl. */
enum soothe_status soothe__whole_measure(struct soothe__run *run, struct soothe__whole_figures *figures,
                                         struct soothe_error *err);
/* Under which the states that the core computes are kept in a file: other than the engine's. */
void soothe__whole_states_key(const struct soothe__run *run, char hex[65]);
/* Of all that decides the result. */
void soothe__whole_hash(const struct soothe__run *run, struct soothe__sha256 *h);
/* The model with what was learnt, or the factors alone. */
enum soothe_status soothe__whole_write(const struct soothe__run *run, struct soothe_error *err);

#endif /* SOOTHE_WHOLE_H */
