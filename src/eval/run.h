/* SPDX-License-Identifier: Apache-2.0
 * soothe__eval_run in three parts: run.c prepares, workers.c deals the units out, unit.c does one.
 *
 * A worker is a thread with sessions of its own whose contexts use one thread: with many sequences at once that is
 * faster than one context with many threads, which wait for one another at every node of the graph and stand still
 * while one of them samples. And no figure depends on how many there are. */
#ifndef SOOTHE_EVAL_RUN_H
#define SOOTHE_EVAL_RUN_H

#include <pthread.h>

#include "eval/eval.h"
#include "methods/methods.h"
#include "score/scorer.h"

enum { SOOTHE__EVAL_CORPUS_TOKENS = 512, SOOTHE__EVAL_PPL_PARALLEL = 64 };

/* What a unit adds to the store's two files; fresh strings. */
struct soothe__eval_result {
    char  *lines, *timing;
    size_t size;
};

/* Shares the time of the wall between the units at work: while n of them are, each gets 1/n of it, so that the shares
 * of all units add up to the time in which any was at work, however unevenly the workers end. */
struct soothe__eval_clock {
    double at;    /* of the last turn, on the wall                             */
    double share; /* what one that had been at work all along would have got */
    size_t n_at_work;
};
/* One more unit at work (1), one less (-1) or neither (0), at a time of the wall. Returns `share` there: what a unit
 * gets is the difference from its beginning to its end. */
double soothe__eval_clock_turn(struct soothe__eval_clock *clock, double wall, int change);

struct soothe__eval_work {
    const struct soothe__eval_options *o;
    struct llama_model                *target, *ppl_model; /* ppl_model may be the target */
    struct soothe__scorer             *scorers[SOOTHE__EVAL_SCORERS_MAX];
    size_t                             n_scorers;
    struct soothe__eval_prompts        sets[SOOTHE__EVAL_KINDS];
    struct soothe__prompt             *tokens[SOOTHE__EVAL_KINDS]; /* of each item; tokens owned */
    bool                               chat;                       /* benign prompts are turns */
    int32_t                            n_parallel, n_ctx;
    json_t                            *manifest;
    struct soothe__eval_store          store;
    size_t                             n_workers;

    pthread_mutex_t             lock;    /* over what follows, the store and the scorers */
    pthread_cond_t              written; /* signals that n_ahead is less, or failed is set */
    size_t                      n_ahead; /* units dealt out that are not written yet */
    struct soothe__eval_clock   clock;
    size_t                      i_next;  /* unit to be dealt out                                       */
    size_t                      i_write; /* unit to be written                                        */
    struct soothe__eval_result *results; /* (units) finished before one that stands before them    */
    enum soothe_status          failed;  /* of the first worker that did, and its sentence              */
    struct soothe_error         failure;
    struct soothe__progress     progress;
    size_t                      n_texts_all, n_texts_done; /* continuations of this process's units      */
    int64_t                     n_tokens;                  /* sampled so far                             */
};

struct soothe__eval_worker {
    struct soothe__eval_work *w;
    struct soothe__applied    method; /* at work: the i_method-th */
    size_t                    i_method;
    struct soothe_session    *ppl_session;
};

/* run.c: sessions for a worker. */
enum soothe_status soothe__eval_apply_method(struct soothe__eval_worker *worker, size_t i_method,
                                             struct soothe_error *err);
enum soothe_status soothe__eval_open_ppl(struct soothe__eval_worker *worker, struct soothe_error *err);

/* For a manifest: the engine's version; a file's name and hash; the links of a chain at work, with strengths and the
 * hashes of their files. Fresh; NULL and *status after an error, if it was not set before. */
json_t *soothe__eval_json_engine(void);
json_t *soothe__eval_json_file(const char *path, enum soothe_status *status, struct soothe_error *err);
json_t *soothe__eval_json_chain(const struct soothe__applied *a, enum soothe_status *status, struct soothe_error *err);

/* workers.c: all units that are this process's and not done yet. */
enum soothe_status soothe__eval_do_all(struct soothe__eval_work *w, struct soothe_error *err);

/* Takes a finished unit over and writes it, and those that waited for it: the samples file has the units in order.
 * state  result is the function's, in every case */
enum soothe_status soothe__eval_hand_in(struct soothe__eval_work *w, const struct soothe__eval_unit *unit,
                                        struct soothe__eval_result result, struct soothe_error *err);

/* unit.c: does a unit under the worker's method and hands it in. */
enum soothe_status soothe__eval_unit_do(struct soothe__eval_worker *worker, const struct soothe__eval_unit *unit,
                                        struct soothe_error *err);
/* Continuations that a unit has. */
size_t soothe__eval_unit_texts(const struct soothe__eval_work *w, const struct soothe__eval_unit *unit);
/* n_texts more are done; draws the progress. */
void soothe__eval_note_texts(struct soothe__eval_work *w, size_t n_texts, int64_t n_tokens);

#endif /* SOOTHE_EVAL_RUN_H */
