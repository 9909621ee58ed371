/* SPDX-License-Identifier: Apache-2.0
 * Inside a training run: what it holds, and how it is saved and gone on with. */
#ifndef SOOTHE_RUN_H
#define SOOTHE_RUN_H

#include "train/batches.h"
#include "train/schedule.h"
#include "train/train_model.h"
#include "train/train_run.h"

enum { SOOTHE__N_BEFORE = 5 }; /* NLL, KL; of sets the loss, NLL of harmless and of toxic texts */

/* All that a run holds; freed at the end in every case. */
struct soothe__run {
    struct soothe__train_request  r; /* with all defaults filled in */
    struct soothe__train_model    files;
    char                          model_sha256[65];
    struct llama_model           *target; /* only its vocabulary under the paper objective */
    struct soothe__corpus         corpus, heldout;
    struct soothe__train_core    *core;
    struct soothe__target_states *states,
        *heldout_states;                  /* the latter of a whole target's run, which measures twice */
    struct soothe__whole          *whole; /* NULL: a calibrator is trained */
    struct soothe__batches        *batches;
    struct soothe__batches_options per_step;
    struct soothe__schedule        schedule;
    char                          *checkpoint_path;
    char                           hash[65];
    int32_t                        step, saved_step; /* steps done; of them in the checkpoint, -1: there is none */
    float                         *tail_loss;        /* (n_tail) of the last steps */
    float                        before[SOOTHE__N_BEFORE]; /* a whole target's held-out figures before the first step */
    int32_t                      n_tail;
    struct soothe__train_report *report;
};

/* Fills hash: of everything that decides the result. Texts must be read, the core made. */
enum soothe_status soothe__run_hash(struct soothe__run *run, struct soothe_error *err);

/* Saves the steps done. */
enum soothe_status soothe__run_save(struct soothe__run *run, struct soothe_error *err);

/* Takes up the checkpoint where there is one.
 * errors  SOOTHE_E_MISMATCH of another run, SOOTHE_E_FORMAT damaged, or no checkpoint at all */
enum soothe_status soothe__run_go_on(struct soothe__run *run, struct soothe_error *err);

/* The run ends early for the reason why, of which *err tells: saves the steps done, and adds to *err what is saved
 * where. Returns why. */
enum soothe_status soothe__run_leave(struct soothe__run *run, enum soothe_status why, struct soothe_error *err);

#endif /* SOOTHE_RUN_H */
