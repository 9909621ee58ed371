/* SPDX-License-Identifier: Apache-2.0
 * A probe: one direction in the hidden states of one layer of one language model, and what it says of a text.
 *
 * risk = sigmoid(weight.h + bias), calibrated when the probe was made. h is the *pooled* state:
 *   last   of the text's last token
 *   mean   mean over the tokens (without the first, whose state is the same whatever it is: it is where attention
 *          goes to rest)
 *   token  learnt from every token by itself; a text's state is the mean
 * While a text grows, the risk of each token is that of the text so far (last, token: of the token's own state).
 * Source of the closed form: SASA (arXiv 2410.03818); docs/methods/probe.md. */
#ifndef SOOTHE_PROBE_H
#define SOOTHE_PROBE_H

#include "engine/engine.h"
#include "score/probe_texts.h"
#include "score/layer_states.h"

enum soothe__pool { SOOTHE__POOL_LAST, SOOTHE__POOL_MEAN, SOOTHE__POOL_TOKEN };
enum soothe__probe_kind { SOOTHE__PROBE_LDA, SOOTHE__PROBE_LOGISTIC };

struct soothe__probe {
    int32_t                 layer, d;
    enum soothe__pool       pool;
    enum soothe__probe_kind kind;
    float                  *weight; /* (d) */
    double                  bias;
    char                    target[65]; /* soothe__model_fingerprint of the model that it reads */
    char                   *target_name;
    char                    identity[65]; /* SHA-256 of the file; "" before it is one */
};

const char *soothe__pool_name(enum soothe__pool pool);
const char *soothe__probe_kind_name(enum soothe__probe_kind kind);
bool        soothe__pool_parse(enum soothe__pool *pool, const char *name);
bool        soothe__probe_kind_parse(enum soothe__probe_kind *kind, const char *name);

/* One dot product each. state (d): pooled, or of one token. */
double soothe__probe_logit(const struct soothe__probe *probe, const float *state);
double soothe__probe_risk(const struct soothe__probe *probe, const float *state);

/* Logits of a text's first n_at[i] tokens (all of them where it is shorter).
 * states  (n_tokens, d) of the probe's layer
 * out     (n) */
void soothe__probe_prefix_logits(const struct soothe__probe *probe, const float *states, int32_t n_tokens,
                                 const int32_t *n_at, size_t n, double *out);
/* The pooled state of a text; out (d). */
void soothe__pool_states(enum soothe__pool pool, const float *states, int32_t n_tokens, int32_t d, float *out);

/* ---- files: probe_file.c (docs/format.md) -------------------------------------------------------------------- */

/* model_path  the model whose states it shall read; NULL: not known yet, unchecked
 * errors      SOOTHE_E_FORMAT no probe; SOOTHE_E_MISMATCH made for another model (quantised files of one model are
 *             the same model); SOOTHE_E_NUMERIC weights that are not finite */
enum soothe_status soothe__probe_open(struct soothe__probe **probe, const char *path, const char *model_path,
                                      struct soothe_error *err);
void               soothe__probe_free(struct soothe__probe *probe); /* NULL is fine */

enum soothe_status soothe__probe_write(const char *path, const struct soothe__probe *probe,
                                       const struct soothe__fact *facts, size_t n_facts, struct soothe_error *err);

/* ---- figures: probe_test.c --------------------------------------------------------------------------------------- */

enum { SOOTHE__N_PREFIXES = 5 };
extern const int32_t SOOTHE__PREFIXES[SOOTHE__N_PREFIXES]; /* 1, 5, 10, 20, all */

struct soothe__probe_figures {
    size_t n, n_toxic;
    double auc[SOOTHE__N_PREFIXES]; /* NaN without both classes */
    double calibration_error;       /* of the whole texts' risk */
};

/* Figures of several probes (of distinct layers) in one pass over the labelled texts of the parts in part_mask
 * (1 << SOOTHE__PART_…).
 * figures  (n_probes, n_sources + 1); the last of each row: auc is the mean over the sources that have both classes
 * model    of every probe */
enum soothe_status soothe__probe_test(struct llama_model *model, struct soothe__probe *const *probes, size_t n_probes,
                                      const struct soothe__probe_texts *texts, unsigned part_mask, int32_t n_tokens_max,
                                      int32_t n_threads, bool show_progress, struct soothe__probe_figures *figures,
                                      struct soothe_error *err);

/* Texts tokenised for reading: those of the parts in part_mask, cut to n_tokens_max tokens. */
struct soothe__token_list {
    struct soothe__token_text *texts;
    uint32_t                  *i_items; /* which of the labelled texts each is */
    size_t                     n, n_cut;
    int64_t                    n_tokens;
};
enum soothe_status soothe__token_list_make(struct soothe__token_list *list, const struct llama_model *model,
                                           const struct soothe__probe_texts *texts, unsigned part_mask,
                                           int32_t n_tokens_max, struct soothe_error *err);
void               soothe__token_list_free(struct soothe__token_list *list);

/* Mean over the sources of the areas under the ROC curve, so that no source's base rate helps. scores, i_items (n). */
double soothe__auc_by_source(const double *scores, const uint32_t *i_items, size_t n,
                             const struct soothe__probe_texts *texts);

/* ---- training: probe_train.c ---------------------------------------------------------------------------------------
 */

struct soothe__probe_options {
    const int32_t          *layers; /* NULL: all, and the final state */
    size_t                  n_layers;
    enum soothe__pool       pool;
    enum soothe__probe_kind kind;
    int32_t                 n_tokens_max; /* of a text; 0: 128 */
    int32_t                 n_threads;
    bool                    show_progress;
};

struct soothe__probe_layer { /* what became of one layer */
    int32_t                       layer;
    double                        penalty;        /* shrinkage (LDA) or l2 (logistic), picked on the validation part */
    double                        validation_auc; /* mean over sources */
    struct soothe__probe_figures *held_out;       /* (n_sources + 1) */
};

struct soothe__probe_report {
    struct soothe__probe_layer *layers;
    size_t                      n_layers, i_best; /* by validation_auc */
    size_t                      n_train, n_validation, n_cut;
    int64_t                     n_tokens;
    double                      seconds;
};

/* One pass over the texts for training and validation, then a second one over the held-out fifth for the figures.
 * *probe   of the best layer, fresh
 * errors   SOOTHE_E_ARGUMENT not both classes among the training texts; those of reading states */
enum soothe_status soothe__probe_train(struct soothe__probe **probe, struct soothe__probe_report *report,
                                       struct llama_model *model, const char *model_path,
                                       const struct soothe__probe_texts   *texts,
                                       const struct soothe__probe_options *options, struct soothe_error *err);
void               soothe__probe_report_free(struct soothe__probe_report *report);

#endif /* SOOTHE_PROBE_H */
