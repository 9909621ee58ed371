/* SPDX-License-Identifier: Apache-2.0
 * --objective sgeat: texts that the model writes itself, of which the cleanest share is learnt. */
#ifndef SOOTHE_OWN_CORPUS_H
#define SOOTHE_OWN_CORPUS_H

#include <jansson.h>

#include "cli/cli.h"
#include "train/self_corpus.h"
#include "train/train_run.h"

struct soothe__own_corpus {
    char *prompts, *n_prompts, *n_unprompted, *n_samples, *n_predict, *samples_out, *scorer, *keep_share, *clean_to,
        *control, *neutral_share; /* popt's */
    char                            **neutral;
    char                             *samples_path, *corpus_path;
    char                              samples_sha256[65];
    struct soothe__self_corpus_report report;
    struct soothe__fact               facts[16];
    size_t                            n_facts;
};

/* Rows of popt's table for a variable `own`. */
#define SOOTHE__OWN_CORPUS_OPTIONS(own)                                                                                 \
    {"prompts", '\0', POPT_ARG_STRING, &(own).prompts, 0, "sgeat, acft: what it goes on from: lines {\"prompt\"}",      \
     "FILE"},                                                                                                           \
        {"prompts-max", '\0', POPT_ARG_STRING, &(own).n_prompts, 0, "sgeat, acft: the first N of them (all)", "N"},     \
        {"unprompted",                                                                                                  \
         '\0',                                                                                                          \
         POPT_ARG_STRING,                                                                                               \
         &(own).n_unprompted,                                                                                           \
         0,                                                                                                             \
         "sgeat: texts from nothing (1000; with --prompts 0)",                                                          \
         "N"},                                                                                                          \
        {"samples", '\0', POPT_ARG_STRING, &(own).n_samples, 0, "sgeat, acft: continuations of each prompt (8)", "N"},  \
        {"predict", 'n', POPT_ARG_STRING, &(own).n_predict, 0, "sgeat, acft: tokens of each at most (40)", "N"},        \
        {"samples-out",                                                                                                 \
         '\0',                                                                                                          \
         POPT_ARG_STRING,                                                                                               \
         &(own).samples_out,                                                                                            \
         0,                                                                                                             \
         "sgeat, acft: keep them there; those there are used (OUTPUT.samples.jsonl); sgeat without -o: no more",        \
         "FILE"},                                                                                                       \
        {"scorer", '\0', POPT_ARG_STRING, &(own).scorer, 0, "sgeat, acft: who judges them (default)", "SPEC"},          \
        {"keep-share", '\0', POPT_ARG_STRING, &(own).keep_share, 0, "sgeat: the cleanest so many are learnt (0.5)",     \
         "X"},                                                                                                          \
        {"clean-to", '\0', POPT_ARG_STRING, &(own).clean_to, 0, "sgeat: none with a higher score (1)", "X"},            \
        {"control", '\0', POPT_ARG_STRING, &(own).control, 0, "sgeat: random: as many, whatever their scores", "KIND"}, \
        {"neutral", '\0', POPT_ARG_ARGV, &(own).neutral, 0, "sgeat: neutral texts beside them; may be repeated",        \
         "FILE"},                                                                                                       \
    {                                                                                                                   \
        "neutral-share", '\0', POPT_ARG_STRING, &(own).neutral_share, 0, "sgeat: of all texts (0.25)", "X"              \
    }

/* The first option of these that was given, NULL: none. */
const char *soothe__own_corpus_given(const struct soothe__own_corpus *own);
/* Of all that was chosen (learns: more than samples is wanted), before anything is read: -1, or the exit code of a
 * misuse. */
int soothe__own_corpus_check(const struct soothe__own_corpus *own, bool learns, const char *command);
/* Samples the model of a request into own->samples_path. */
enum soothe_status soothe__own_corpus_sample(struct soothe__own_corpus *own, const struct soothe__train_request *r,
                                             struct soothe_error *err);
/* Samples the model of a request with its output, seed, threads and stop, and writes the corpus, which becomes the
 * request's data; what it is made of becomes its facts. */
enum soothe_status soothe__own_corpus_make(struct soothe__own_corpus *own, struct soothe__train_request *r,
                                           struct soothe_error *err);
json_t            *soothe__own_corpus_json(const struct soothe__own_corpus *own);
void               soothe__own_corpus_print(const struct soothe__own_corpus *own);
void               soothe__own_corpus_free(struct soothe__own_corpus *own);

#endif /* SOOTHE_OWN_CORPUS_H */
