/* SPDX-License-Identifier: Apache-2.0
 * What a model answers: one turn of a chat each, greedily, many at a time. */
#ifndef SOOTHE_ANSWERS_H
#define SOOTHE_ANSWERS_H

#include <signal.h>

#include "base/base.h"

struct soothe__turn {
    const char *system; /* NULL or "": none */
    const char *user;
    const char *start; /* words that the answer is made to begin with; NULL: none */
};

/* The turn up to where the answer begins, and its start: in the words of the model's chat template; where it has none,
 * the system's and the user's words with a line end after each.
 * *tokens  fresh, free()
 * room     of the model's context, that must be left
 * errors   SOOTHE_E_ARGUMENT the turn does not leave it: the sentence has the counts, not which turn it is */
enum soothe_status soothe__turn_tokenize(llama_token **tokens, int32_t *n_tokens, const struct llama_model *model,
                                         const struct soothe__turn *turn, int32_t room, struct soothe_error *err);

/* A question within an attack: in the place of "{question}", or behind it; then a space and the suffix. Fresh; attack
 * and suffix may be NULL. */
char *soothe__attack_prompt(const char *question, const char *attack, const char *suffix);

struct soothe__answer {
    char *text;  /* with its start; fresh, free() */
    bool  ended; /* by the model itself, not by n_predict */
};

struct soothe__answer_options {
    int32_t                      n_predict;  /* tokens of each at most */
    int32_t                      n_parallel; /* 0: 8 */
    int32_t                      n_threads;  /* 0: all */
    const volatile sig_atomic_t *stop;       /* NULL: never */
};

/* answers  (n) filled; all NULL after an error
 * errors   SOOTHE_E_ARGUMENT turn i does not fit; SOOTHE_E_INTERRUPTED; those of soothe__generate */
enum soothe_status soothe__answer(struct soothe__answer *answers, struct llama_model *model,
                                  const struct soothe__turn *turns, size_t n,
                                  const struct soothe__answer_options *options, struct soothe_error *err);
void               soothe__answers_free(struct soothe__answer *answers, size_t n);

#endif /* SOOTHE_ANSWERS_H */
