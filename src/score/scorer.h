/* SPDX-License-Identifier: Apache-2.0
 * Judging text: one interface for every scorer. A scorer gives a text a toxicity in [0,1], or says why it cannot;
 * what it could not judge is never counted as clean.
 *
 * A scorer is named by its SPEC:
 *   default          the shipped n-gram scorer                                 (ngram_scorer.c)
 *   lexicon          the built-in list of words                                (lexicon.c)
 *   cppl, cppl:FILE  a language model's perplexity behind harmless texts and toxic ones    (cppl_scorer.c)
 *   FILE.gguf        by the file's general.type: n-gram scorer, probe, combination, or a classifier that the engine
 *                    can pool
 *   command:COMMAND  a shell command, JSON lines in and out                    (command_scorer.c)
 *   http://…, https://…   an endpoint in the shape of OpenAI's /v1/moderations
 *
 * One kind = one file + one line in the table of scorer.c. */
#ifndef SOOTHE_SCORER_H
#define SOOTHE_SCORER_H

#include "base/base.h"

struct soothe__score {
    double toxicity; /* in [0,1]; NaN: no score                                   */
    char   why[96];  /* without a score: the reason, one short clause; else ""     */
};

struct soothe__scorer_options {
    const char *model_path; /* of the language model that a probe reads; NULL: none given */
    int32_t     n_threads;  /* 0: all                                                     */
};

struct soothe__scorer;

/* What a kind of scorer provides. */
struct soothe__scorer_kind {
    const char *name; /* "ngram", "lexicon", "command", … */
    bool local;       /* only reads files and computes: what a stranger's file may ask for. false: not known to be so */
    /* Whether spec names this kind; general_type is that of the GGUF file spec names, else NULL. */
    bool (*takes)(const char *spec, const char *general_type);
    /* *self: the kind's own state; identity: 64 hexadecimal digits that change whenever a score might. */
    enum soothe_status (*open)(void **self, char identity[65], const char *spec,
                               const struct soothe__scorer_options *options, struct soothe_error *err);
    /* Every score of scores (n) is to be filled; an error is for what makes all of them impossible. */
    enum soothe_status (*score)(void *self, const char *const *texts, size_t n, struct soothe__score *scores,
                                struct soothe_error *err);
    void (*close)(void *self);
};

/* The kind that soothe__scorer_open would take. errors as there */
enum soothe_status soothe__scorer_find(const struct soothe__scorer_kind **kind, const char *spec,
                                       struct soothe_error *err);
/* options  NULL: defaults
 * errors   SOOTHE_E_ARGUMENT no scorer of that name; those of reading its file */
enum soothe_status soothe__scorer_open(struct soothe__scorer **scorer, const char *spec,
                                       const struct soothe__scorer_options *options, struct soothe_error *err);
void               soothe__scorer_close(struct soothe__scorer *scorer); /* NULL is fine */

/* texts   (n) UTF-8, zero-terminated; "" is a text and gets a score or a reason
 * scores  (n) filled, all of them, when the function succeeds
 * thread  one scorer, one thread at a time */
enum soothe_status soothe__scorer_score(struct soothe__scorer *scorer, const char *const *texts, size_t n,
                                        struct soothe__score *scores, struct soothe_error *err);

const char *soothe__scorer_spec(const struct soothe__scorer *scorer);     /* as it was opened                  */
const char *soothe__scorer_kind(const struct soothe__scorer *scorer);     /* the kind's name                   */
const char *soothe__scorer_identity(const struct soothe__scorer *scorer); /* 64 hexadecimal digits, for manifests */
void       *soothe__scorer_self(struct soothe__scorer *scorer);           /* the kind's own state              */

/* A score that is none; the reason is cut to its room at a character's end. */
struct soothe__score soothe__no_score(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif /* SOOTHE_SCORER_H */
