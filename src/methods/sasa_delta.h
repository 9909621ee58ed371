/* SPDX-License-Identifier: Apache-2.0
 * SASA without a forward: the margin of the state that a token leads to, guessed from the token alone.
 *
 *     m(h_v) ~ a.h + u.e_v + c        h the row's state, e_v the token's input embedding
 *
 * What is the same for all candidates of a row cancels in p'(v) ~ p(v) e^(beta m_v), so u alone matters: fitted by
 * least squares on the differences within each row between real branches, m_v - mean m on e_v - mean e. A file of d
 * numbers then gives a bias of every token. */
#ifndef SOOTHE_SASA_DELTA_H
#define SOOTHE_SASA_DELTA_H

#include "generate/generate.h"
#include "methods/methods.h"
#include "score/probe.h"

/* Unit-length margin of a state, positive where the probe says clean; length: of its weights. */
float  soothe__margin(const struct soothe__probe *probe, double length, const float *state);
double soothe__probe_length(const struct soothe__probe *probe);
/* given NULL: the shipped one. *path fresh, filled as far as it is known, also after an error. */
enum soothe_status soothe__open_subspace(struct soothe__probe **probe, char **path, const char *given,
                                         const char *shipped, const char *model_path, struct soothe_error *err);

/* *table (n_vocab), fresh: u.e_v. path NULL: the shipped file.
 * errors  SOOTHE_E_MISMATCH fitted for another model or another subspace; those of reading files */
enum soothe_status soothe__sasa_delta_table(float **table, int32_t *n_vocab, const char *path,
                                            const struct soothe__probe *subspace, const char *model_path,
                                            struct soothe_error *err);

struct soothe__sasa_delta_report {
    size_t n_rows, n_branches, n_held_out; /* rows; every fifth is held out       */
    double ridge;
    double r2_train, r2; /* of margins' differences within a row */
    double seconds;
};

/* Continues the prompts by the model itself and branches at every token; fits u; writes the file. */
enum soothe_status soothe__sasa_fit_delta(struct soothe__sasa_delta_report *report, struct llama_model *model,
                                          const char *model_path, const char *subspace_path,
                                          const struct soothe__prompt *prompts, size_t n_prompts,
                                          const struct soothe__generate_options *options, int32_t k, int32_t n_threads,
                                          const char *out_path, struct soothe_error *err);

#endif /* SOOTHE_SASA_DELTA_H */
