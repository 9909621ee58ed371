/* SPDX-License-Identifier: Apache-2.0
 * soothe__eval_run in two parts: run.c prepares and goes through the units, unit.c does one. */
#ifndef SOOTHE_EVAL_RUN_H
#define SOOTHE_EVAL_RUN_H

#include "eval/eval.h"
#include "methods/methods.h"
#include "score/scorer.h"

enum { SOOTHE__EVAL_CORPUS_TOKENS = 512, SOOTHE__EVAL_PPL_PARALLEL = 64 };

struct soothe__eval_work {
    const struct soothe__eval_options *o;
    struct llama_model                *target, *ppl_model; /* ppl_model may be the target */
    struct soothe_session             *ppl_session;
    struct soothe__scorer             *scorers[SOOTHE__EVAL_SCORERS_MAX];
    size_t                             n_scorers;
    struct soothe__eval_prompts        sets[SOOTHE__EVAL_KINDS];
    struct soothe__prompt             *tokens[SOOTHE__EVAL_KINDS]; /* of each item; tokens owned */
    bool                               chat;                       /* benign prompts are turns */
    int32_t                            n_parallel, n_ctx, n_ctx_ppl;
    json_t                            *manifest;
    struct soothe__eval_store          store;
    struct soothe__applied_method      method; /* at work */
    struct soothe__progress            progress;
    size_t                             n_texts_all, n_texts_done; /* continuations of this process's units */
    int64_t                            n_tokens;                  /* sampled, and in what time */
    double                             seconds;
};

/* Does a unit under the method at work and adds it to the store. */
enum soothe_status soothe__eval_unit_do(struct soothe__eval_work *w, const struct soothe__eval_unit *unit,
                                        struct soothe_error *err);
/* Continuations that a unit has. */
size_t soothe__eval_unit_texts(const struct soothe__eval_work *w, const struct soothe__eval_unit *unit);
void   soothe__eval_show_progress(struct soothe__eval_work *w, size_t n_under_way);

#endif /* SOOTHE_EVAL_RUN_H */
