/* SPDX-License-Identifier: Apache-2.0
 * Does a method, or a changed model, keep its abilities? Multiple-choice questions (quiz.h), answered by the choice
 * that is likeliest behind its prompt. docs/utility.md is the manual.
 *
 *   utility.c          the likelihoods, by several workers     utility_store.c   a file of them, for resuming
 *   utility_figures.c  likelihoods to accuracies and paired differences
 *
 * Legend: a *system* is a model under a chain of methods; the first system is what the others are compared with.
 *
 * A worker is a thread with a session of its own that uses one thread (run.h says why). A question is two batches: its
 * prompt, then all choices behind it, which share its cells. Questions do not share a batch: one question's tokens fill
 * a core, and in a unified cache each would attend to the masked cells of the others. So no figure depends on how many
 * workers there are, or on what was measured before. */
#ifndef SOOTHE_UTILITY_H
#define SOOTHE_UTILITY_H

#include "base/statistics.h"
#include "eval/eval.h"
#include "eval/quiz.h"

struct soothe__utility_options {
    const char *const *model_paths, *const *model_names; /* (n_models) */
    size_t                        n_models;
    struct soothe__eval_methods  *methods; /* each under each model */
    const struct soothe__quizzes *quizzes;
    const char                   *out; /* the file of results; NULL: none */
    bool                          resume, quiet;
    int32_t                       n_threads, n_gpu_layers; /* threads 0: all processors */
    const volatile sig_atomic_t  *stop;
};

/* Likelihoods by system, and within it by question: quiz after quiz. */
struct soothe__utility {
    size_t   n_systems, n_questions, n_texts; /* of one system */
    char   **names;                           /* (n_systems) */
    json_t **about;                           /* (n_systems) model, method, strengths and hashes of files */
    size_t  *first;                           /* (n_questions) place of a question's first choice among the texts */
    double  *log_p;                           /* (n_systems, n_texts) nats; NaN: the model's context is too short */
    uint8_t *done;                            /* (n_systems, n_questions) */
    double   seconds;
};

/* Why a text has no likelihood under the chain: the stage of one of its methods; NULL if it has one.
 * *method  which one */
const char *soothe__utility_refuses(const struct soothe__chain *chain, const char **method);

/* Measures what `out` does not hold yet.
 * errors  SOOTHE_E_UNSUPPORTED a method that soothe__utility_refuses; SOOTHE_E_INTERRUPTED after stop, what was
 *         measured is in out; SOOTHE_E_ARGUMENT, _MISMATCH, _FORMAT of out; those of models and methods. u is then
 *         released */
enum soothe_status soothe__utility_measure(struct soothe__utility *u, const struct soothe__utility_options *options,
                                           struct soothe_error *err);
void               soothe__utility_free(struct soothe__utility *u); /* also of a zeroed one */

/* ---- figures: utility_figures.c ----------------------------------------------------------------------------- */

/* Of one quiz under one system. Ties go to the first of the choices. */
struct soothe__utility_figures {
    size_t                  n, n_null;           /* questions, and those without an answer, which count nowhere      */
    struct soothe__interval acc;                 /* share where the right choice has the highest likelihood          */
    struct soothe__interval acc_norm;            /* ... per byte of the choice; NaN in letter form                   */
    struct soothe__interval change, change_norm; /* to the first system, by question; NaN of the first          */
    size_t                  n_lost, n_gained;    /* right under the first system and wrong here; and the reverse: of
                                                    acc in letter form, else of acc_norm                            */
};

/* out (n_quizzes, n_systems). 95 % percentile bootstrap, the draws of a quiz shared by all systems.
 * errors  SOOTHE_E_MEMORY */
enum soothe_status soothe__utility_figures(struct soothe__utility_figures *out, const struct soothe__utility *u,
                                           const struct soothe__quizzes *quizzes, struct soothe_error *err);

/* ---- the file of results: utility_store.c ------------------------------------------------------------------- */

/* JSON lines: the settings, then for each system what it is, and its questions as they are finished. */
struct soothe__utility_store {
    const char *path;
    FILE       *file;  /* NULL: nothing is kept */
    json_t    **known; /* (n_systems) what a system was when its line was written; NULL: no line yet */
    size_t      n_systems;
};

/* Opens or makes path, fills u->log_p and u->done with what it holds.
 * errors  SOOTHE_E_ARGUMENT it exists and resume is not set, or another process has it; SOOTHE_E_MISMATCH it is of
 * other settings; SOOTHE_E_FORMAT damaged before its end (a torn last line is dropped); SOOTHE_E_IO */
enum soothe_status soothe__utility_store_open(struct soothe__utility_store *s, const char *path, bool resume,
                                              const json_t *settings, struct soothe__utility *u,
                                              struct soothe_error *err);
/* A system begins: it must be the one that the file knows. errors  SOOTHE_E_MISMATCH; SOOTHE_E_IO */
enum soothe_status soothe__utility_store_system(struct soothe__utility_store *s, size_t i_system, const json_t *about,
                                                struct soothe_error *err);
enum soothe_status soothe__utility_store_add(struct soothe__utility_store *s, const struct soothe__utility *u,
                                             size_t i_system, size_t i_question, struct soothe_error *err);
void               soothe__utility_store_close(struct soothe__utility_store *s); /* also of a zeroed one */

/* Choices of a question. */
static inline size_t soothe__utility_n_choices(const struct soothe__utility *u, size_t i_question) {
    const size_t end = i_question + 1 < u->n_questions ? u->first[i_question + 1] : u->n_texts;
    return end - u->first[i_question];
}

#endif /* SOOTHE_UTILITY_H */
