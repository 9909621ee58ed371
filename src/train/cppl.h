/* SPDX-License-Identifier: Apache-2.0
 * Contrastive perplexity: sets of harmless and toxic paraphrases, the harmless ones drawn to one perplexity, the toxic
 * ones pushed off it. The loss knows a model only through l_i, the mean -log p of the tokens of text i, so that its
 * gradient is a weighted likelihood's: sum over i of dloss/dl_i dl_i.
 *
 *   paper:  phi_i = exp(l_i), or l_i;  c = mean of phi over the set's harmless P;  a_i = log omega_i - |phi_i - c| /
 * tau loss = -log (sum over P of exp a / sum over P and N of exp a),  omega = alpha for toxic texts N, else 1 code:   c
 * = mean of l over the whole batch;  a_i = exp(-|l_i - c|) / tau, + alpha for N; the set's candidates are P, N and
 * n_random toxic texts of other sets loss = -sum over P of log softmax(a)_i / (|P| + 1 + n_random) Both: mean over the
 * sets of a batch. A batch's sets: consecutive texts with the same set. Source: Klein and Nabi, "Contrastive Perplexity
 * for Controlled Generation: An Application in Detoxifying Large Language Models", ACL 2025; its formula with tau
 * outside of the exponent would not depend on tau. */
#ifndef SOOTHE_CPPL_H
#define SOOTHE_CPPL_H

#include "base/base.h"

enum soothe__cppl_form { SOOTHE__CPPL_PAPER, SOOTHE__CPPL_CODE };

struct soothe__cppl_options {
    enum soothe__cppl_form form;
    bool                   log_phi;  /* phi = l: perplexities of small models lie too far apart for exp(-|phi - c|) */
    double                 alpha;    /* 1.1; code: 100 */
    double                 tau;      /* .2; code: 1 */
    int32_t                n_random; /* of code: 6 */
};
struct soothe__cppl_options soothe__cppl_options_default(enum soothe__cppl_form form);

struct soothe__cppl_text {
    int32_t set;
    bool    toxic;
};

/* dl (n) = dloss/dl, the loss is returned. n_sets >= 1 sets, each with a harmless text. */
double soothe__cppl_loss(const struct soothe__cppl_options *o, const struct soothe__cppl_text *texts, size_t n,
                         size_t n_sets, const double *l, double *dl);

#endif /* SOOTHE_CPPL_H */
