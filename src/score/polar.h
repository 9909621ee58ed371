/* SPDX-License-Identifier: Apache-2.0
 * POLAR, the harmoniser: several scorers that may abstain become one calibrated risk, without labels.
 * Source: "Pareto Optimal Learning for Estimating Large Language Model Errors" (ACL 2024, arXiv 2306.16564);
 * docs/methods/polar.md.
 *
 * Every scorer is a *source*. Its score votes 0 (clean) at or below `lo`, 1 (toxic) at or above `hi`, and abstains
 * between and where it has no score. The harmoniser h gives p = sigmoid(f(x)) from features x: the sources' scores as
 * logits, and perhaps the text's mean hidden state. It is fitted to all votes at once: the losses of an example
 * l_j = -log p(vote j), abstaining sources left out, are made one number by a scalarisation. */
#ifndef SOOTHE_POLAR_H
#define SOOTHE_POLAR_H

#include "score/probe_texts.h"
#include "score/layer_states.h"
#include "score/scorer.h"

/* ---- numbers: polar_fit.c ---------------------------------------------------------------------------------- */

enum soothe__scalarisation {
    SOOTHE__SCALAR_LINEAR,    /* sum w_j l_j: soft majority voting, follows correlated bad sources  */
    SOOTHE__SCALAR_QUADRATIC, /* (sum w_j l_j)^2: disputed examples weigh more                      */
    SOOTHE__SCALAR_EUCLIDEAN, /* sqrt(sum w_j l_j^2)                                                */
    SOOTHE__SCALAR_CHEBYSHEV  /* max w_j l_j                                                        */
};
const char *soothe__scalarisation_name(enum soothe__scalarisation s);
bool        soothe__scalarisation_parse(enum soothe__scalarisation *s, const char *name);

enum { SOOTHE__ABSTAIN = -1 };

/* The scalarised loss of one example whose harmoniser says z (a logit), and its exact derivative by z (for the
 * maximum: of the branch that is largest). All weights are 1/m.
 * votes  (m) 0, 1 or SOOTHE__ABSTAIN; all abstain: 0 and 0 */
double soothe__polar_loss(enum soothe__scalarisation s, double z, const signed char *votes, size_t m, double *dz);

/* h: logistic regression, or one hidden layer of tanh units; features are standardised first. One that is missing (NaN)
 * takes its mean. */
struct soothe__harmoniser {
    int32_t n_features, n_hidden; /* n_hidden 0: logistic regression */
    float  *mean, *scale;         /* (n_features); scale 0: the feature never varied */
    float  *hidden;               /* (n_hidden, n_features + 1), the bias last */
    float  *out;                  /* (n_hidden or n_features, + 1), the bias last */
};
enum soothe_status soothe__harmoniser_init(struct soothe__harmoniser *h, int32_t n_features, int32_t n_hidden,
                                           struct soothe_error *err);
void               soothe__harmoniser_free(struct soothe__harmoniser *h); /* also of a zeroed one */
double             soothe__harmoniser_logit(const struct soothe__harmoniser *h, const float *features);

struct soothe__polar_options {
    enum soothe__scalarisation scalarisation;
    int32_t                    n_hidden;      /* 0: logistic regression */
    int32_t                    n_epochs;      /* 0: 50 */
    float                      learning_rate; /* 0: 0.01, with a hidden layer 0.001 */
    uint64_t                   seed;
};

/* Fits h by Adam in batches of 16, and keeps the epoch with the least loss on the validation examples (on the training
 * examples where there are none): no label is looked at.
 * features       (n, n_features)
 * votes          (n, m); examples on which all abstain teach nothing
 * is_validation  (n), or NULL
 * *loss          of the epoch kept, a mean over its examples; may be NULL
 * errors         SOOTHE_E_ARGUMENT every source abstains on every example */
enum soothe_status soothe__harmoniser_fit(struct soothe__harmoniser *h, const float *features, const signed char *votes,
                                          const bool *is_validation, size_t n, size_t m,
                                          const struct soothe__polar_options *options, double *loss,
                                          struct soothe_error *err);

/* ---- a harmoniser and its sources: polar_file.c, polar.c ----------------------------------------------------- */

enum { SOOTHE__POLAR_NO_LAYER = -2, SOOTHE__POLAR_SOURCES_MAX = 32 };

struct soothe__polar_source {
    char                  *spec;
    char                   identity[65];
    float                  lo, hi; /* votes 0 at or below lo, 1 at or above hi; lo < 0, hi > 1: never so */
    struct soothe__scorer *scorer; /* NULL before soothe__polar_open_sources */
};

struct soothe__polar {
    struct soothe__polar_source *sources;
    size_t                       n_sources;
    int32_t                      layer; /* whose mean state is part of the features; or SOOTHE__POLAR_NO_LAYER */
    int32_t                      d;     /* of that state, else 0 */
    enum soothe__scalarisation   scalarisation;
    struct soothe__harmoniser    harmoniser;
    char                target[65];   /* with a layer: soothe__model_fingerprint of the model; "": not known yet */
    char                identity[65]; /* SHA-256 of the file, or of that and the open model's */
    struct llama_model *model;        /* with a layer: the model that it reads */
    struct soothe__layer_reader *reader;
};

/* What one text comes to. */
struct soothe__polar_result {
    double risk;    /* p; NaN where every source abstains */
    char   why[96]; /* without a risk: the reason */
};

/* Sources without scorers yet. errors  SOOTHE_E_ARGUMENT more than SOOTHE__POLAR_SOURCES_MAX */
enum soothe_status soothe__polar_add_source(struct soothe__polar *p, const char *spec, float lo, float hi,
                                            struct soothe_error *err);
/* Opens the scorers; where an identity is known it is compared.
 * With a layer the model is opened and compared, too.
 * from_file  true: sources that run commands or call endpoints are refused, unless the environment says
 *            SOOTHE_ALLOW_COMMANDS=1, since the file may be a stranger's
 * errors     SOOTHE_E_MISMATCH another scorer or model than at the fit; those of soothe__scorer_open */
enum soothe_status soothe__polar_open_sources(struct soothe__polar *p, const struct soothe__scorer_options *options,
                                              bool from_file, struct soothe_error *err);
/* Scores, votes and features of n texts. A source that fails has no score for any of them, which is told in whys.
 * scores    (n, n_sources) NaN: none
 * votes     (n, n_sources)
 * features  (n, n_features) NaN: missing
 * whys      (n_sources) the first reason for a missing score, "" where there is none; may be NULL */
enum soothe_status soothe__polar_ask(struct soothe__polar *p, const char *const *texts, size_t n, double *scores,
                                     signed char *votes, float *features, char (*whys)[96], struct soothe_error *err);
int32_t            soothe__polar_n_features(const struct soothe__polar *p);
enum soothe_status soothe__polar_score(struct soothe__polar *p, const char *const *texts, size_t n,
                                       struct soothe__polar_result *results, struct soothe_error *err);

/* Reads the file only: no scorer is opened. */
enum soothe_status soothe__polar_read(struct soothe__polar *p, const char *path, struct soothe_error *err);
enum soothe_status soothe__polar_write(const struct soothe__polar *p, const char *path,
                                       const struct soothe__fact *facts, size_t n_facts, struct soothe_error *err);
void               soothe__polar_free(struct soothe__polar *p); /* also of a zeroed one */

/* ---- estimated against true error: polar_fit.c ----------------------------------------------------------------- */

/* Of a source that answers: zeta = 1 - p(its vote), error = its vote is not the label.
 * ece        over 10 bins of equal width
 * r_squared  square of the correlation of mean zeta and error rate over 10 bins with as many examples each; NaN for
 *            fewer than 20 examples or where one of the two does not vary */
struct soothe__error_figures {
    size_t n;
    double error_rate, mean_zeta, ece, r_squared;
};
enum soothe_status soothe__polar_error_figures(struct soothe__error_figures *f, const double *risks,
                                               const signed char *votes, size_t stride, const unsigned char *labels,
                                               size_t n, struct soothe_error *err);

#endif /* SOOTHE_POLAR_H */
