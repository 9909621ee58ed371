/* SPDX-License-Identifier: Apache-2.0
 * Inside an alignment run: what its parts share. */
#ifndef SOOTHE_ALIGN_PARTS_H
#define SOOTHE_ALIGN_PARTS_H

#include "fusion/fusion.h"
#include "train/align.h"
#include "train/schedule.h"
#include "train/target_states.h"
#include "train/train_model.h"

struct soothe__align_run {
    struct soothe__align_request r;          /* with all defaults filled in */
    struct soothe__train_model   files;      /* head and widths of the target; read where steps or figures need them */
    struct soothe__gguf          calibrator; /* zeroed without */
    uint32_t                     n_blocks;   /* of the calibrator */
    struct soothe__fusion        own;        /* the calibrator's own matrices, in its own target's space */
    float                        own_strength;
    struct soothe_calibrator    *blocks; /* frozen; NULL where no states of it are needed */
    struct llama_model          *target;
    struct soothe__corpus        corpus, heldout;
    bool                         has_texts;
    struct soothe__fusion        fusion; /* the result */
    struct soothe__align_report *report;
};

/* The states of a corpus, with the calibrator's where the run has its blocks. */
enum soothe_status soothe__align_states(struct soothe__align_run *run, const struct soothe__corpus *corpus,
                                        const uint32_t *order, size_t n_order, struct soothe__target_states **states,
                                        struct soothe_error *err);

/* Trains A, B, bias in steps: align_steps.c. */
enum soothe_status soothe__align_steps(struct soothe__align_run *run, struct soothe_error *err);

/* Fits a map and makes the fusion of it: align_fit.c. */
enum soothe_status soothe__align_fit(struct soothe__align_run *run, struct soothe_error *err);

/* Figures of held-out pairs and texts, computed row by row as a session fuses: align_figures.c. */
enum soothe_status soothe__align_measure(struct soothe__align_run *run, struct soothe__align_figures *figures,
                                         struct soothe_error *err);

/* The same of any tokenised corpus, whose states are given; NULL: it is empty. */
enum soothe_status soothe__align_measure_on(const struct soothe__align_run *run, const struct soothe__corpus *corpus,
                                            struct soothe__target_states *states, struct soothe__align_figures *figures,
                                            struct soothe_error *err);

/* Fills strength, strength_by and the drifts of the report: align_strength.c. */
enum soothe_status soothe__align_strength(struct soothe__align_run *run, struct soothe_error *err);

#endif /* SOOTHE_ALIGN_PARTS_H */
