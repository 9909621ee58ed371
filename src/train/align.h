/* SPDX-License-Identifier: Apache-2.0
 * Alignment: matrices that let a calibrator serve a target for which it was not trained. docs/alignment.md. */
#ifndef SOOTHE_ALIGN_H
#define SOOTHE_ALIGN_H

#include "train/align_maps.h"
#include "train/train_core.h"

enum soothe__align_objective {
    SOOTHE__ALIGN_PREFERENCE,  /* A, B, bias by clean against toxic completions                                    */
    SOOTHE__ALIGN_FUSED,       /* the same parameters by the fused model's cross-entropy on clean texts            */
    SOOTHE__ALIGN_CONTRASTIVE, /* a map between the output spaces, by InfoNCE on common tokens (the paper's)       */
    SOOTHE__ALIGN_RIDGE,       /* the same in closed form                                                          */
    SOOTHE__ALIGN_PROCRUSTES,
    SOOTHE__ALIGN_TRANSFER, /* A and B of the calibrator, carried over by a map and its way back                */
    SOOTHE__ALIGN_RANDOM,   /* the same by a map that means nothing: the control                                */
    SOOTHE__ALIGN_OBJECTIVES,
};
const char *soothe__align_objective_name(enum soothe__align_objective objective);
/* -1: there is none of that name. */
int soothe__align_objective_find(const char *name);
/* Does it train in steps on pairs and texts? The others fit a map. */
static inline bool soothe__align_has_steps(enum soothe__align_objective objective) {
    return objective == SOOTHE__ALIGN_PREFERENCE || objective == SOOTHE__ALIGN_FUSED;
}

/* Of transfer: how the map and its way back are fitted. */
enum soothe__align_map { SOOTHE__MAP_PROCRUSTES, SOOTHE__MAP_RIDGE, SOOTHE__MAP_CONTRASTIVE, SOOTHE__MAPS };
const char *soothe__align_map_name(enum soothe__align_map map);
int         soothe__align_map_find(const char *name); /* -1: there is none of that name */

/* Where a recommended strength comes from. */
enum soothe__align_strength_by {
    SOOTHE__STRENGTH_ASKED, /* the request names it                                                             */
    SOOTHE__STRENGTH_STEPS, /* 1: training in steps weighs the change at that strength                          */
    SOOTHE__STRENGTH_OWN,   /* the calibrator's own, where drifts cannot be compared; .2 where it has none      */
    SOOTHE__STRENGTH_DRIFT, /* clean text drifts as far as beside the calibrator's own model at its own strength */
};

struct soothe__align_request {
    const char *model_path;
    const char *calibrator_path; /* NULL: none, a matrix on the target's own state */
    const char *base_path;       /* model that the calibrator was made from; NULL: the target or the file itself */
    bool        keep_type;       /* run its blocks in the types of its file, as calibrator_params.keep_type */
    const char *from_path;       /* an alignment to begin from; NULL: from nothing */
    const char *out_path;

    const char *const *data_paths, *const *heldout_paths;
    size_t  n_data, n_heldout;
    double  heldout_share; /* .05, of the data where no held-out file is named */
    int32_t max_length;    /* 96 */

    enum soothe__align_objective objective;
    enum soothe__precision       precision;
    bool                         own_matrix, bias;          /* B, b; without a calibrator B is taken as asked for */
    int32_t                      n_steps, n_pairs, n_texts; /* 300; 8 and 8 a step (fused: no pairs) */
    double                       rate, kappa, lambda, weight_decay, clip; /* 2e-4, .2, 1.5, 0, 1 */

    bool                       on_states; /* maps are fitted on states (h_c, h_t) of the data, not on tokens */
    enum soothe__align_map     map;       /* of transfer, both ways */
    double                     ridge;     /* 1e-2 */
    struct soothe__contrastive contrastive;
    double                     token_share; /* of the common tokens, held out for retrieval; .1, at most 1000 tokens */

    float                        strength; /* recommended; NaN: see enum soothe__align_strength_by */
    uint64_t                     seed;
    int32_t                      n_threads;
    size_t                       cache_bytes;
    const char                  *states_path;
    const volatile sig_atomic_t *stop;
};
struct soothe__align_request soothe__align_request_default(void);

/* Of held-out pairs and texts, with the alignment at its strength and without; NaN where there are none. */
struct soothe__align_figures {
    size_t n_pairs, n_texts;
    double pairs_right, margin; /* S(y+) > S(y-); mean of S(y+) - S(y-) */
    double kl;                  /* clean texts, nats per token, as the next */
    double nll_clean, nll_clean_plain, nll_chosen, nll_chosen_plain, nll_rejected, nll_rejected_plain;
};

struct soothe__align_report {
    size_t  n_vocab_x, n_vocab_y, n_common, n_retrieved; /* tokens of calibrator and target that stand for a text */
    double  top1, top5;                                  /* held-out tokens found again; NaN without a map on tokens */
    size_t  n_pairs, n_texts, n_left_out, n_state_rows;
    int32_t n_steps;
    double  seconds, state_seconds, loss; /* loss: mean of the last tenth of the steps, or of the last epoch */
    float   strength;
    enum soothe__align_strength_by strength_by;
    double                         drift,
        own_drift; /* KL to plain on the clean texts compared, nats a token: here, and of the source; or NaN */
    float                        own_strength;
    size_t                       n_drift_texts;
    bool                         has_a, has_b, has_bias;
    struct soothe__align_figures heldout;
};

/* errors  SOOTHE_E_ARGUMENT an objective without what it needs; SOOTHE_E_INTERRUPTED; those of reading
 * state   out_path is written only at the end */
enum soothe_status soothe__align(const struct soothe__align_request *request, struct soothe__align_report *report,
                                 struct soothe_error *err);

#endif /* SOOTHE_ALIGN_H */
