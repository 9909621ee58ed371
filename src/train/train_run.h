/* SPDX-License-Identifier: Apache-2.0
 * A whole training run: texts in, a calibrator file out. */
#ifndef SOOTHE_TRAIN_RUN_H
#define SOOTHE_TRAIN_RUN_H

#include <signal.h>

#include "corpus/corpus.h"
#include "engine/engine.h"
#include "train/train_core.h"
#include "train/whole.h"

struct soothe__train_request {
    const char        *model_path;
    const char        *calibrator_path; /* full calibrator to begin from; NULL: 0 blocks */
    const char        *out_path;
    const char        *checkpoint_path; /* NULL: OUT.checkpoint */
    const char *const *data_paths;      /* n_data files of pairs and texts */
    size_t             n_data;
    const char *const *heldout_paths; /* n_heldout files; none: heldout_share of the data is held out */
    size_t             n_heldout;
    double             heldout_share; /* .05 */

    enum soothe__objective       objective;
    enum soothe__precision       precision;
    bool                         own_matrix; /* B beside A; always without blocks */
    bool                         bias;
    bool                         freeze_blocks;
    bool                         fresh;                /* do not go on from a checkpoint */
    int32_t                      n_steps;              /* 0: 300 */
    int32_t                      n_pairs, n_texts;     /* a step; 0: 8 and 8 (preference), 24 texts (paper) */
    int32_t                      max_length;           /* tokens of a text, 96 */
    int32_t                      n_threads;            /* 0: all */
    int32_t                      checkpoint_every;     /* steps; 0: only when stopped */
    double                       lr_blocks, lr_fusion; /* 0: 2e-4, 2e-4; paper: 3e-4; lm-steer: 1e-2 */
    double                       kappa, lambda, weight_decay, clip;
    int32_t                      rank;     /* of lm-steer; 0: 64, or the target's width where that is less */
    struct soothe__whole_request whole;    /* on: the target itself learns; objectives weighted, own preference */
    float                        strength; /* recommended by the file written */
    uint64_t                     seed;
    size_t                       cache_bytes; /* of target states in memory; more go to a temporary file */
    const char                  *states_path; /* NULL, or a file that keeps the target's states from run to run */
    const struct soothe__fact   *facts;       /* n_facts of how the data were made, recorded in a whole target */
    size_t                       n_facts;
    const volatile sig_atomic_t *stop;         /* becomes nonzero to save and stop; NULL: never */
    void (*on_step)(void *user, int32_t step); /* after each step; step counts from 1. NULL: none */
    void *user;
};
struct soothe__train_request soothe__train_request_default(void);
/* The numbers that 0 stands for. */
void soothe__train_request_fill(struct soothe__train_request *r);
/* Of a filled request with a checkpoint_path, before anything is read: numbers out of range, an objective without
 * what it trains, a file to be written that is read or whose folder cannot be written. */
enum soothe_status soothe__train_request_check(const struct soothe__train_request *r, struct soothe_error *err);

struct soothe__train_report {
    size_t                       n_pairs, n_texts; /* trained on */
    size_t                       n_heldout_pairs, n_heldout_texts, n_left_out;
    int32_t                      n_steps, first_step;             /* first_step > 0: gone on from a checkpoint */
    double                       seconds, loss_tokens_per_second; /* of training steps, without the target's states */
    double                       state_seconds;                   /* spent on the target's states */
    size_t                       core_bytes;
    bool                         bf16;
    double                       loss;                  /* mean over the last tenth of the steps */
    double                       pairs_right;           /* share of the held-out pairs; NaN: none */
    double                       kl, nll, nll_plain;    /* held-out texts; nats per token; NaN: none */
    double                       tokens_per_second;     /* all tokens that went through blocks */
    double                       kl_before, nll_before; /* a whole target's, before the first step */
    struct soothe__whole_figures sets_before, sets;     /* cppl */
    int32_t                      n_unsaved; /* checkpoints on the way that could not be written; the run went on */
    struct soothe_error          unsaved;   /* why not, of the last one */
};

/* errors  SOOTHE_E_INTERRUPTED stopped, saved, and the same request goes on; those of reading and training; the
 *         message says which step is saved
 * state   out_path is written only at the end; a checkpoint of another run is refused, not overwritten, unless
 *         fresh; a file that is no checkpoint is never overwritten. After an error the checkpoint holds all steps
 *         done, but for SOOTHE_E_NUMERIC, after which it holds the last one of checkpoint_every */
enum soothe_status soothe__train(const struct soothe__train_request *request, struct soothe__train_report *report,
                                 struct soothe_error *err);

#endif /* SOOTHE_TRAIN_RUN_H */
