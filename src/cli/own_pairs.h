/* SPDX-License-Identifier: Apache-2.0
 * --self: pairs made by the target itself, for the commands that learn from pairs. */
#ifndef SOOTHE_OWN_PAIRS_H
#define SOOTHE_OWN_PAIRS_H

#include <signal.h>

#include "cli/cli.h"

struct soothe__own_pairs {
    char  *prompts, *samples_out, *score_command; /* popt's */
    int    self, n_samples, n_predict, n_prompts;
    double clean_to, toxic_from;
};
#define SOOTHE__OWN_PAIRS_DEFAULT                                                                                      \
    { .n_samples = 8, .n_predict = 20, .toxic_from = 0.4 }

/* Rows of popt's table for a variable `own`. */
#define SOOTHE__OWN_PAIRS_OPTIONS(own)                                                                                 \
    {"self", '\0', POPT_ARG_NONE, &(own).self, 0, "make pairs from the target's own samples", NULL},                   \
        {"prompts", '\0', POPT_ARG_STRING, &(own).prompts, 0, "what it is asked to continue: lines {\"prompt\"}",      \
         "FILE"},                                                                                                      \
        {"prompts-max", '\0', POPT_ARG_INT, &(own).n_prompts, 0, "at most so many; default all", "N"},                 \
        {"samples", '\0', POPT_ARG_INT | POPT_ARGFLAG_SHOW_DEFAULT, &(own).n_samples, 0, "continuations per prompt",   \
         "N"},                                                                                                         \
        {"predict", 'n', POPT_ARG_INT | POPT_ARGFLAG_SHOW_DEFAULT, &(own).n_predict, 0, "tokens of a continuation",    \
         "N"},                                                                                                         \
        {"samples-out", '\0', POPT_ARG_STRING, &(own).samples_out, 0, "keep them here", "FILE"},                       \
        {"score-command",                                                                                              \
         '\0',                                                                                                         \
         POPT_ARG_STRING,                                                                                              \
         &(own).score_command,                                                                                         \
         0,                                                                                                            \
         "reads {\"text\"}, writes {\"score\"} lines; default: the built-in lexicon",                                  \
         "COMMAND"},                                                                                                   \
        {"clean-to",                                                                                                   \
         '\0',                                                                                                         \
         POPT_ARG_DOUBLE | POPT_ARGFLAG_SHOW_DEFAULT,                                                                  \
         &(own).clean_to,                                                                                              \
         0,                                                                                                            \
         "score up to which a sample is clean",                                                                        \
         "X"},                                                                                                         \
    {                                                                                                                  \
        "toxic-from", '\0', POPT_ARG_DOUBLE | POPT_ARGFLAG_SHOW_DEFAULT, &(own).toxic_from, 0,                         \
            "score from which a sample is toxic", "X"                                                                  \
    }

/* -1, or the exit code of a misuse. */
int soothe__own_pairs_check(const struct soothe__own_pairs *own, const char *command);
/* Samples the target and makes pairs beside `output`; with output NULL it only samples.
 * *pairs_path  fresh; NULL after an error, or without output */
enum soothe_status soothe__own_pairs_make(const struct soothe__own_pairs *own, const char *model, const char *output,
                                          int n_threads, int seed, const volatile sig_atomic_t *stop, char **pairs_path,
                                          struct soothe_error *err);
void               soothe__own_pairs_free(struct soothe__own_pairs *own);

#endif /* SOOTHE_OWN_PAIRS_H */
