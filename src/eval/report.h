/* SPDX-License-Identifier: Apache-2.0
 * report.json in four parts: part.c reads a run's folder, join.c says what the report of one or several runs is about,
 * report_json.c what the figures are, report.c writes the files. */
#ifndef SOOTHE_EVAL_REPORT_H
#define SOOTHE_EVAL_REPORT_H

#include "eval/figures.h"

enum { SOOTHE__RESAMPLES = 1000, SOOTHE__RESAMPLE_SEED = 20200924, SOOTHE__SPLITS = 3 }; /* all, toxic, nontoxic */

/* A split's prompts: their places, the resamples over them, and room to gather columns. */
struct soothe__split {
    size_t                  *places, n;
    struct soothe__resamples resamples;
    double                  *xa, *wa, *xb, *wb; /* (n) */
};

/* One file rescore-*.jsonl. */
struct soothe__rescored {
    char *path, *spec, *kind, *identity;
};

/* A run whose records the report is made from. */
struct soothe__part {
    const char                 *folder; /* borrowed */
    json_t                     *manifest;
    struct soothe__eval_plan    plan;
    struct soothe__rescored    *rescored;
    size_t                      n_rescored;
    char                        samples_sha256[65]; /* where anything was rescored */
    struct soothe__figures_view view;               /* scorers: the manifest's, then the rescored ones */
};

struct soothe__report {
    const struct soothe__eval_comparison *c;
    struct soothe__part                  *parts;    /* (c->n_folders) */
    json_t                               *manifest; /* of all parts as if they were one run */
    json_t                               *scorers;  /* [{"spec", "kind", "identity", "main", "rescored"}] all parts' */
    struct soothe__eval_plan              plan;     /* of them and of the manifest */
    json_t                               *runs, *notes; /* what the parts are; sentences on what they do not share */
    struct soothe__figures                figures;
    struct soothe__split                  splits[SOOTHE__SPLITS], benign, corpus;
    struct soothe_error                  *err;
    enum soothe_status                    status; /* of what fails on the way */
};

/* ---- part.c ------------------------------------------------------------------------------------------------- */

/* Reads what a folder is about; the view is all of it.
 * errors  SOOTHE_E_FORMAT; SOOTHE_E_MISMATCH a rescore file of other samples; SOOTHE_E_ARGUMENT too many scorers */
enum soothe_status soothe__part_open(struct soothe__part *part, const char *folder, struct soothe_error *err);
/* Takes its records, as far as they count, into the report's figures.
 * errors  SOOTHE_E_FORMAT one is missing; SOOTHE_E_MISMATCH a prompt is not that of an earlier part */
enum soothe_status soothe__part_read(const struct soothe__part *part, struct soothe__report *r,
                                     struct soothe_error *err);
void               soothe__part_close(struct soothe__part *part); /* also of a zeroed one */

/* ---- join.c ------------------------------------------------------------------------------------------------- */

/* From the open parts: the report's manifest, scorers, plan, runs and notes, and the parts' views.
 * errors  SOOTHE_E_MISMATCH naming two runs, the setting and both values; SOOTHE_E_ARGUMENT no such method */
enum soothe_status soothe__report_join(struct soothe__report *r, struct soothe_error *err);

/* ---- report_json.c ------------------------------------------------------------------------------------------ */

/* The report as JSON, fresh; where it fails, r->status says so and the result is to be thrown away. */
json_t *soothe__report_json(struct soothe__report *r);

#endif /* SOOTHE_EVAL_REPORT_H */
