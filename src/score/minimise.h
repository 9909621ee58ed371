/* SPDX-License-Identifier: Apache-2.0
 * The least of a smooth function of many numbers, by L-BFGS (Liu and Nocedal 1989) with backtracking (Armijo). Both
 * logistic regressions, on n-grams and on hidden states, end here. */
#ifndef SOOTHE_MINIMISE_H
#define SOOTHE_MINIMISE_H

#include "base/base.h"

/* The loss at w (n), its gradient there into gradient (n). What is not finite ends the search. */
typedef double soothe__objective(const void *problem, const double *w, double *gradient);
typedef void   soothe__minimise_watcher(void *user, int iteration, double loss);

struct soothe__minimise_options {
    int    max_iterations;
    double gradient_tolerance; /* ends where the gradient's norm falls to so much of that at the start; 0: never  */
    double loss_tolerance;     /* ends where a step lowers the loss by less than so much of it; 0: never          */
    double first_damping;      /* the first step goes 1 / (first_damping + |gradient|) along the gradient: 1 keeps
                                  it short where the loss is a mean and its gradient small                        */
    soothe__minimise_watcher *watcher; /* may be NULL */
    void                     *user;
};

struct soothe__minimise_report {
    int    n_iterations;
    double loss, gradient_norm;
    bool   converged; /* by gradient_tolerance */
};

/* w (n) the start, and the result.
 * report  the loss or the norm in it are not finite where the objective was not
 * errors  SOOTHE_E_MEMORY */
enum soothe_status soothe__minimise(soothe__objective *objective, const void *problem, double *w, size_t n,
                                    const struct soothe__minimise_options *options,
                                    struct soothe__minimise_report *report, struct soothe_error *err);

#endif /* SOOTHE_MINIMISE_H */
