/* SPDX-License-Identifier: Apache-2.0
 * Tuning: the value of one parameter of a chain of methods, found by evaluating a few in two rounds.
 *
 * A round is an evaluation (eval.h) of plain and some values at once, in a folder of its own: so a round survives
 * anything, its values share prompts and random numbers, and its figures are paired with plain's. The second round
 * looks between the two neighbours of the first where the answer lies. Against bisection, which runs one value at a
 * time and plain beside each, this is less work for the same resolution, and it need not believe that figures are
 * monotone. */
#ifndef SOOTHE_TUNE_H
#define SOOTHE_TUNE_H

#include "eval/eval.h"

enum { SOOTHE__TUNE_VALUES_MAX = 16 };

/* What is wrong with a value. */
enum soothe__tune_fault {
    SOOTHE__TUNE_PPL       = 1,  /* perplexity over the budget, of the samples or of the neutral texts */
    SOOTHE__TUNE_REPEATS   = 2,  /* distinct bigrams fell by more than 3 %, or 2 % more samples loop    */
    SOOTHE__TUNE_EMPTY     = 4,  /* of its samples 2 in 100 more are empty                             */
    SOOTHE__TUNE_REFUSES   = 8,  /* … or open like a refusal; or so of the answers to benign prompts   */
    SOOTHE__TUNE_EXPLODES  = 16, /* the mean of the samples' own perplexities rose by more than half   */
    SOOTHE__TUNE_DISTURBS  = 32, /* fewer benign tokens than wanted stayed what they were              */
    SOOTHE__TUNE_UNKNOWN   = 64, /* a figure that is needed has no value                               */
    SOOTHE__TUNE_FAULT_END = 128
};
const char *soothe__tune_fault_text(enum soothe__tune_fault fault);

struct soothe__tune_point {
    double   value; /* NaN: plain */
    char    *method;
    int      round; /* 1, 2 */
    double   emt, tp, ppl, ppl_response, ppl_corpus, dist2, loops, empty, refusals, benign_refusals, identical;
    double   emt_change, emt_lo, emt_hi; /* over plain's, minus 1, and its 95 % interval; plain's: 0 */
    unsigned faults;
};

struct soothe__tune_options {
    struct soothe__eval_options eval;      /* all but methods and out */
    const char                 *out;       /* a folder; its rounds are in round-1 and round-2 */
    const char                 *methods;   /* one chain, in words */
    const char                 *parameter; /* set in every method that has it */
    double                      from, to;  /* weakest (itself not tried) and strongest value */
    int32_t                     n_values;  /* of the first round, 2 to SOOTHE__TUNE_VALUES_MAX */
    double                      budget;    /* of perplexity: .05 is 5 % over plain's */
    double                      target;    /* of the relative change of EMT: -.6; NaN: as low as the budget lets */
    double                      identical; /* share of benign tokens that must stay; NaN: no matter */
};

struct soothe__tune_result {
    struct soothe__tune_point       *points; /* each round's plain first, then its values from weak to strong */
    size_t                           n;
    const struct soothe__tune_point *chosen; /* NULL: none will do */
    bool                             met;    /* of a target: chosen reaches it */
};

/* errors  SOOTHE_E_ARGUMENT words that are no chain, or no method has the parameter; those of soothe__eval_run
 * state   result is to be freed in any case */
enum soothe_status soothe__tune(const struct soothe__tune_options *options, struct soothe__tune_result *result,
                                struct soothe_error *err);
void               soothe__tune_free(struct soothe__tune_result *result);

/* The faults of a value's figures beside plain's. */
unsigned soothe__tune_faults(const struct soothe__tune_options *options, const struct soothe__tune_point *plain,
                             const struct soothe__tune_point *point);
/* Among n values from weak to strong: the one to take, -1: none. Without a target the last before the first with a
 * fault; with one the first that reaches it, if it has no fault, else as without. *edge: the second round lies between
 * edge - 1 and edge (0: between `from` and the first); n: nothing to refine. */
int soothe__tune_choose(const struct soothe__tune_options *options, const struct soothe__tune_point *points, size_t n,
                        size_t *edge);

#endif /* SOOTHE_TUNE_H */
