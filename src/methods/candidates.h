/* SPDX-License-Identifier: Apache-2.0
 * Methods that judge candidates: of each output row the likeliest next tokens, each judged by what it would lead to
 * (the state of a branch, or the text), and the row's logits changed accordingly: z_v + bonus_v for candidates, -inf
 * for all others. A row on which the method need not act stays as it is, bit for bit, and costs nothing. */
#ifndef SOOTHE_CANDIDATES_H
#define SOOTHE_CANDIDATES_H

#include "fusion/branch.h"
#include "methods/methods.h"

enum { SOOTHE__CANDIDATES_MAX = 128 };

struct soothe__candidate {
    llama_token id;
    float       z, p;  /* as they came: logit, and probability among all tokens */
    float       value; /* the judgement; higher is better                       */
};

/* What makes one method of it. */
struct soothe__candidates_rule {
    int32_t k;         /* at most so many candidates, 1 to SOOTHE__CANDIDATES_MAX                */
    float   top_p;     /* of the nucleus that holds this probability; 1: the k likeliest            */
    float   under;     /* act on rows whose own value is less; INFINITY: on all                    */
    bool    keep_rest; /* other tokens keep their logits and candidates share what they had between them */
    /* By states: the value of one at the branches' node. */
    float (*measure)(void *self, const float *state);
    /* Or by texts, if not NULL: fills value of n candidates of a row; id LLAMA_TOKEN_NULL: of the text as it is. */
    enum soothe_status (*read)(void *self, const struct soothe__step *step, int32_t i_row, struct soothe__candidate *c,
                               int32_t n, struct soothe_error *err);
    /* bonus[i] of candidate i at a dose. */
    void (*bonus)(const void *self, float dose, const struct soothe__candidate *c, int32_t n, float *bonus);
    /* Told of every row acted on; NULL: nobody is. state (d) is the row's own, NULL where it was not read. */
    void (*observe)(void *self, const float *state, const struct soothe__candidate *c, int32_t n);
    /* As a stage has them; NULL: none. */
    enum soothe_status (*before)(void *self, const struct soothe__step *step, struct soothe_error *err);
    bool (*memory)(void *self, const struct soothe__memory_change *change);
    void *self; /* the method's, which must outlive the session */
};

/* Adds the rule to a session as a stage. plan: NULL for a rule by texts; else from soothe__branch_context at open. */
enum soothe_status soothe__candidates_attach(struct soothe_session *session, const struct soothe__candidates_rule *rule,
                                             const struct soothe__branch_plan *plan, struct soothe_error *err);

/* The logits z (n_vocab) of a row by candidates and their bonus; by_share as keep_rest. Exact: softmax of the result
 * is p_v e^bonus_v / sum over candidates. */
void soothe__candidates_apply(float *z, int32_t n_vocab, const struct soothe__candidate *c, int32_t n,
                              const float *bonus, bool keep_rest);

#endif /* SOOTHE_CANDIDATES_H */
