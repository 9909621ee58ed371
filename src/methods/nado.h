/* SPDX-License-Identifier: Apache-2.0
 * NADO (Meng et al. 2022), the head of ACFT (2024): for every next token v an estimate of the chance that a text which
 * goes on with v will be judged clean,
 *     R(v | h) = sigmoid(g_v),   g_v = E_v . P (Q h + c) + w . h + b,
 * with h (d) the target's final state and E (V, d) its own head, so that V-wide estimates cost one product with E and
 * the file holds 2 d r numbers. At decoding  log q(v) = log p(v) + strength log R(v | h) - norm. Legend: r the rank, T
 * tokens of a continuation, C its label (1 clean), K candidates kept of the nucleus. */
#ifndef SOOTHE_NADO_H
#define SOOTHE_NADO_H

#include <signal.h>

#include "engine/engine.h"

enum { SOOTHE__NADO_CANDIDATES = 32 };

struct soothe__nado {
    int32_t d, rank;
    float  *p;          /* (d, r) row-major; all parameters lie in one block that p begins */
    float  *q;          /* (r, d) */
    float  *c;          /* (r) */
    float  *w;          /* (d) */
    float  *b;          /* (1) */
    float   strength;   /* what the file recommends; 0 in one that is being trained */
    char    target[65]; /* fingerprint */
};

size_t             soothe__nado_n_parameters(int32_t d, int32_t rank);
enum soothe_status soothe__nado_new(struct soothe__nado **n, int32_t d, int32_t rank, struct soothe_error *err);
void               soothe__nado_free(struct soothe__nado *n); /* NULL is fine */
/* u (d) = P (Q h + c); returns w . h + b, so that g_v = E_v . u + what is returned. */
float soothe__nado_state(const struct soothe__nado *n, const float *h, float *u);

/* ---- files: nado_file.c ------------------------------------------------------------------------------------- */

/* model_path  NULL: not checked.  errors  SOOTHE_E_FORMAT, SOOTHE_E_MISMATCH another model's, SOOTHE_E_NUMERIC */
enum soothe_status soothe__nado_open(struct soothe__nado **n, const char *path, const char *model_path,
                                     struct soothe_error *err);
enum soothe_status soothe__nado_write(const char *path, const struct soothe__nado *n, const char *target_name,
                                      const struct soothe__fact *facts, size_t n_facts, struct soothe_error *err);

/* ---- the loss: nado_loss.c ---------------------------------------------------------------------------------- */

/* One sampled continuation. */
struct soothe__nado_text {
    int32_t      n;          /* T */
    llama_token *tokens;     /* (T) */
    float       *h;          /* (T, d) the state that each was drawn from */
    llama_token *candidates; /* (T, K) the nucleus it was drawn from, or its likeliest K; */
    float       *p;          /* (T, K) their probabilities, adding up to 1; 0 where there are fewer */
    float        clean;      /* C in [0,1] */
    size_t       i_prompt;
};

/* The sum over the positions of
 *     BCE(sigmoid(g_{y_t}), C) + bellman KL(m_t || R_{t-1}),
 * m_t = sum_v p(v) sigmoid(g_v), R_{t-1} = sigmoid(g_{y_{t-1}}) as it was estimated one token before, from the second
 * position on. Adds the gradient to gradient (as parameters, unless NULL).
 * head     (V, d) E
 * r_out    (T) sigmoid(g_{y_t}), or NULL
 * scratch  (soothe__nado_scratch(n, T) floats) */
double soothe__nado_loss(const struct soothe__nado *n, const float *head, const struct soothe__nado_text *text,
                         float bellman, float *gradient, float *r_out, float *scratch);
size_t soothe__nado_scratch(const struct soothe__nado *n, int32_t n_tokens);

/* ---- data: nado_data.c ---------------------------------------------------------------------------------------- */

struct soothe__nado_data {
    struct soothe__nado_text *texts;
    size_t                    n, capacity, n_prompts, n_tokens;
    char                      sha256[65];
};

struct soothe__nado_options {
    const char                  *samples_path; /* as `soothe calibrator train --samples-out` writes them */
    int32_t                      n_prompts;    /* 0: all; else so many, those whose samples' scores differ first */
    int32_t                      n_threads;    /* 0: all                                            */
    int32_t                      rank;         /* 16                                                */
    int32_t                      n_epochs;     /* 8                                                 */
    float                        bellman;      /* .5                                                */
    float                        rate;         /* Adam's, .002                                      */
    float                        top_p;        /* the nucleus that the samples were drawn from, .9  */
    uint32_t                     seed;
    bool                         show_progress;
    const volatile sig_atomic_t *stop; /* NULL: never */
};
struct soothe__nado_options soothe__nado_options_default(void);

/* Reads samples and runs the model over them. errors  SOOTHE_E_MISMATCH samples of another model */
enum soothe_status soothe__nado_read(struct soothe__nado_data *data, struct llama_model *model, const char *model_path,
                                     const struct soothe__nado_options *o, struct soothe_error *err);
void               soothe__nado_data_free(struct soothe__nado_data *data);

/* ---- training: nado_train.c ------------------------------------------------------------------------------------- */

enum { SOOTHE__NADO_N_AT = 4 };
extern const int32_t SOOTHE__NADO_AT[SOOTHE__NADO_N_AT]; /* 1, 5, 10, 20 tokens */

struct soothe__nado_report {
    size_t n_train, n_held_out, n_toxic_held_out, n_tokens;
    double loss[2];                /* held-out, a token: of the base rate alone, of what was learnt */
    double auc[SOOTHE__NADO_N_AT]; /* of 1 - R against score >= .5, after so many tokens, on held-out prompts */
    double seconds;
};

/* A fifth of the prompts is held out. errors  SOOTHE_E_ARGUMENT too few samples, or all of one kind */
enum soothe_status soothe__nado_train(struct soothe__nado **n, struct soothe__nado_report *report,
                                      struct llama_model *model, const char *model_path,
                                      const struct soothe__nado_options *o, char sha256[65], struct soothe_error *err);

#endif /* SOOTHE_NADO_H */
