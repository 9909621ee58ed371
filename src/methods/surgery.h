/* SPDX-License-Identifier: Apache-2.0
 * Model Surgery (Wang et al., NAACL 2025, arXiv 2407.08770): the rows of the gates that point away from what a probe
 * calls toxic are shifted towards it, so that those neurons fire in toxic states and push the state out of them.
 *
 * Legend: g a row of a block's gate (d), x its input: the residual stream over its root mean square, times the gain of
 * the block's norm. v the probe's weight, in the coordinates of the states that it reads.
 *   rank     rows of all blocks by cos(g, v), the most negative ones are chosen
 *   edit     g <- g + a v;  a |v| = strength * mean |g| over the chosen rows
 * Coordinates: plain, as in the paper: v as it is, though the gate reads other coordinates than the probe; gain:
 * v_l = v gain_probe / gain_l, which makes v_l.x the probe's own product with the state of that block. */
#ifndef SOOTHE_SURGERY_H
#define SOOTHE_SURGERY_H

#include "edit/diff.h"
#include "score/probe.h"

enum soothe__surgery_coordinates { SOOTHE__SURGERY_PLAIN, SOOTHE__SURGERY_GAIN };

/* What is put in place of the method to see what the method is worth. Sign flip is a negative strength. */
enum soothe__surgery_control {
    SOOTHE__SURGERY_REAL,
    SOOTHE__SURGERY_RANDOM_DIRECTION, /* a normal random vector; rows chosen by it */
    SOOTHE__SURGERY_RANDOM_ROWS       /* the probe's direction, added to rows drawn at random */
};

struct soothe__surgery_options {
    double  strength;               /* negative: the other way round; 0: nothing changes */
    double  share;                  /* of those blocks' rows, chosen; (0,1] */
    int64_t n_rows;                 /* instead of a share; 0: the share */
    int32_t first_block, end_block; /* whose rows may be chosen, the end not counted; end 0: all from first on */
    enum soothe__surgery_coordinates coordinates;
    enum soothe__surgery_control     control;
    uint32_t                         seed; /* of the controls */
};
struct soothe__surgery_options soothe__surgery_options_default(void);

struct soothe__surgery_report {
    int64_t  n_rows, n_chosen;    /* gate rows of those blocks, and those that change */
    double   mean_norm;           /* |g| over the chosen rows */
    double   cos_first, cos_last; /* of the chosen rows: the most negative one and the one at the threshold */
    uint32_t n_blocks;
    int64_t *chosen_in; /* (n_blocks) */
};
void soothe__surgery_report_free(struct soothe__surgery_report *report);

const char *soothe__surgery_coordinates_name(enum soothe__surgery_coordinates coordinates);
bool        soothe__surgery_coordinates_parse(enum soothe__surgery_coordinates *coordinates, const char *name);

/* The edit as a diff for the model's file, to be laid over it or written.
 * probe   of that model
 * facts   of the probe's making, for the record; may be NULL
 * errors  SOOTHE_E_UNSUPPORTED a block's MLP has no gate (it is named); SOOTHE_E_ARGUMENT an option;
 *         SOOTHE_E_NUMERIC a row that is not finite
 * memory  a few numbers for each gate row */
enum soothe_status soothe__surgery(struct soothe__diff **diff, struct soothe__surgery_report *report,
                                   const char *model_path, const struct soothe__probe *probe,
                                   const struct soothe__surgery_options *options, const struct soothe__fact *facts,
                                   size_t n_facts, struct soothe_error *err);

#endif /* SOOTHE_SURGERY_H */
