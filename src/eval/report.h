/* SPDX-License-Identifier: Apache-2.0
 * report.json in two parts: report.c reads a folder and writes the files, report_json.c says what the figures are. */
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

struct soothe__report {
    const char              *folder;
    bool                     no_timing;
    json_t                  *manifest;
    struct soothe__eval_plan plan;
    struct soothe__figures   figures;
    struct soothe__split     splits[SOOTHE__SPLITS], benign, corpus;
    struct soothe__rescored *rescored;
    size_t                   n_rescored;
    char                     samples_sha256[65]; /* where anything was rescored */
    struct soothe_error     *err;
    enum soothe_status       status; /* of what fails on the way */
};

/* The report as JSON, fresh; where it fails, r->status says so and the result is to be thrown away. */
json_t *soothe__report_json(struct soothe__report *r);

#endif /* SOOTHE_EVAL_REPORT_H */
