/* SPDX-License-Identifier: Apache-2.0
 * The numbers of training: forward, backward and AdamW of a small decoder (the first blocks of a
 * Llama or Qwen2 shape), its fusion matrices and the two objectives. Plain arrays in, plain arrays
 * out: it knows neither files nor the engine. docs/fusion.md has the mathematics, docs/training-engine.md
 * why it is written by hand.
 *
 * Legend: T tokens of a batch (texts packed one after the other, no padding), R rows (positions whose
 * next token counts), V vocabulary, d_cal and d_tgt widths. Matrices are row-major, weights (n_out, n_in).
 *
 *   h_c = blocks(tokens), or given: the states of a calibrator that stays as it is   (T, d_cal), (R, d_cal)
 *   preference, fused:  h_f = h_t + A^T h_c + B^T h_t + b,  z = W_out h_f            (R, V)
 *   paper, weighted, own preference:  z = W_out h_c; in the last two h_t is the reference alone      (R, V)
 *   lm-steer:           z = W_out (h_t +- e P1 P2^T h_t), + but at rejected rows; P1, P2 (d_tgt, r)    (R, V)
 * Preference: S(y) = sum over rows of log p_f(next) - log p_t(next);
 *   loss = mean over pairs of -log sigmoid(kappa (S(y+) - S(y-))) + lambda mean over KL rows of KL(p_t || p_f)
 * Own preference: the same of the whole target against what it was, p for p_f.
 * Weighted: loss = sum over rows of w l, l = KL(q || p) at KL rows and -log p(next) at others; q is p_t, or what soft
 *   labels make of it. The weights are given, or derived from the rows' l between forward and backward (weigh): any
 *   loss of the sequences' likelihoods is trained so.
 * Paper, fused, lm-steer: loss = mean over rows of -log p(next).
 * Source: Rafailov et al. 2023 (preference loss); the fusion paper 2025; Han et al. 2024 (lm-steer); docs/fusion.md. */
#ifndef SOOTHE_TRAIN_CORE_H
#define SOOTHE_TRAIN_CORE_H

#include "base/base.h"

struct soothe__train_shape {
    int32_t n_blocks; /* may be 0: matrices on the target's own state, or on given states */
    int32_t d_cal, n_head, n_head_kv, d_head, n_ff;
    int32_t n_vocab, d_tgt;
    float   rope_base, norm_eps;
    bool    rope_halves; /* false: pairs (2i, 2i+1), as Llama files; true: (i, i + d_head/2), as Qwen2's */
    bool    qkv_bias;
};

enum soothe__objective {
    SOOTHE__PREFERENCE,
    SOOTHE__PAPER,
    SOOTHE__LM_STEER,
    SOOTHE__FUSED,
    SOOTHE__WEIGHTED,
    SOOTHE__OWN_PREFERENCE
};
/* "preference", "paper", "lm-steer", "fused", "weighted", "own preference" */
const char *soothe__objective_name(enum soothe__objective objective);
enum soothe__precision { SOOTHE__PRECISION_AUTO, SOOTHE__PRECISION_BF16, SOOTHE__PRECISION_F32 };

/* How a tensor of the blocks learns: not at all, whole, or (matrices) by two factors of low rank beside it. */
enum soothe__learning { SOOTHE__STAYS, SOOTHE__LEARNS, SOOTHE__LOW_RANK };

/* Matrices that stay as they are, kept elsewhere in whatever form; without, the core keeps them itself in F32. */
struct soothe__fixed_weights {
    /* A handle; NULL: no such matrix (n_out, n_in), the core keeps it. */
    const void *(*find)(void *user, const char *name, int32_t n_out, int32_t n_in);
    /* Rows first … of a matrix as F32; several threads call it at once. */
    void (*read)(void *user, const void *handle, int32_t first, int32_t n_rows, float *out);
    void *user;
};

struct soothe__train_options {
    enum soothe__objective objective;
    enum soothe__precision precision;            /* of matrix products; sums, weights and moments are always F32 */
    int32_t                n_threads;            /* 0: all */
    int32_t                max_tokens, max_rows; /* T and R of the largest batch */
    bool                   a, b, bias;           /* which fusion parameters exist (preference, fused) */
    bool                   given_states; /* batches bring h_c: 0 blocks, yet A (d_cal, d_tgt) where `a` asks for it */
    bool                   freeze_blocks;
    /* Of each tensor of the blocks and the final norm; NULL: all learn. What stays below the lowest that learns is
     * passed forward only. */
    enum soothe__learning (*learning)(const void *user, const char *name);
    const void                         *learning_user;
    const struct soothe__fixed_weights *fixed;              /* NULL: none; outlives the core */
    float                               kappa, lambda;      /* .2, .3 */
    int32_t                             rank;               /* of lm-steer: r, 1 to d_tgt; of factors of low rank */
    float                               alpha;              /* factors count alpha / rank */
    float                               epsilon;            /* of lm-steer: e, 1e-3 */
    float                               weight_decay, clip; /* decoupled, on matrices; global norm, 0: none */
};
struct soothe__train_options soothe__train_options_default(void);

/* One named piece of the flat parameter array. Names are the GGUF's: "blk.0.attn_q.weight",
 * "output_norm.weight", and "soothe.a.weight" (d_cal, d_tgt), "soothe.b.weight" (d_tgt, d_tgt), "soothe.bias"; of
 * lm-steer "soothe.p1.weight" and "soothe.p2.weight" (d_tgt, r), see low_rank.c; of factors
 * "blk.0.attn_q.weight.lora_a" (r, n_in) and "….lora_b" (n_out, r), see linear.h. Matrices that fixed weights keep have
 * none. */
struct soothe__train_tensor {
    char    name[48];
    size_t  offset, n;
    int32_t n_out, n_in; /* a vector has n_out = 1 */
    bool    fusion;      /* A, B or bias: learns at lr_fusion */
    bool    trainable;
};

struct soothe__train_core;

/* embedding  (V, d_cal) bf16, needed with blocks; head (V, d_tgt) bf16; both owned by the caller, outlive the core.
 *            Under the paper objective the head is applied to h_c: then d_tgt must be d_cal.
 * Parameters start at 0 (norm weights at 1): fill them through soothe__train_parameters. */
enum soothe_status soothe__train_core_new(struct soothe__train_core **core, const struct soothe__train_shape *shape,
                                          const struct soothe__train_options *options, const uint16_t *embedding,
                                          const uint16_t *head, struct soothe_error *err);
void               soothe__train_core_free(struct soothe__train_core *core);
/* Factors begin at B = 0, so that the model begins as it is, and A uniform in +-1/sqrt(n_in). */
void   soothe__train_start_factors(struct soothe__train_core *core, uint64_t seed);
size_t soothe__train_core_memory(const struct soothe__train_core *core); /* bytes held, without embedding and head */
bool   soothe__train_core_is_bf16(const struct soothe__train_core *core);

const struct soothe__train_tensor *soothe__train_tensors(const struct soothe__train_core *core, size_t *n);
float *soothe__train_parameters(struct soothe__train_core *core, size_t *n); /* flat, n floats */
float *soothe__train_gradients(struct soothe__train_core *core);             /* of the last forward-backward */
float *soothe__train_moments(struct soothe__train_core *core, int which);    /* AdamW's m (0) and v (1) */
/* Number of updates made, for the bias correction; a resumed run sets it. */
int64_t soothe__train_updates(const struct soothe__train_core *core);
void    soothe__train_set_updates(struct soothe__train_core *core, int64_t n);

enum soothe__row_kind { SOOTHE__ROW_CHOSEN, SOOTHE__ROW_REJECTED, SOOTHE__ROW_KL, SOOTHE__ROW_PLAIN };

struct soothe__train_row {
    int32_t               position; /* index into the packed tokens of the token *before* next */
    int32_t               next;     /* the token whose probability counts */
    enum soothe__row_kind kind;     /* paper: any; preference: CHOSEN or REJECTED of i_pair, KL, or PLAIN (evaluation
                                       of log p only) */
    int32_t i_pair;
};

struct soothe__train_batch {
    int32_t                         n_tokens; /* tokens and text_start are not read without blocks */
    const int32_t                  *tokens;
    int32_t                         n_texts;
    const int32_t                  *text_start; /* n_texts + 1 */
    int32_t                         n_rows;
    const struct soothe__train_row *rows;
    const uint16_t                 *h_t; /* (n_rows, d_tgt) bf16: the target's state at each row; not paper, and
                                            weighted only where there are KL rows */
    const uint16_t *h_c;                 /* (n_rows, d_cal) bf16: the calibrator's; only with given_states */
    float  *log_p_t; /* (n_rows) log p_t(next), NaN where it is not known: filled in; NULL: computed, not told */
    int32_t n_pairs;
    /* weighted: */
    const float *row_weight; /* (n_rows), may be negative; NULL: 1/n_rows */
    /* NULL, or fills weight (n_rows) with the loss's derivatives by each row's l and returns the loss; log_p and kl
     * (n_rows) are of the forward pass. */
    double (*weigh)(void *user, const struct soothe__train_batch *batch, const float *log_p, const float *kl,
                    float *weight);
    void *weigh_user;
    /* NULL, or turns the reference's logits z (n_vocab) of a KL row into those of q; several threads call it. */
    void (*soften)(void *user, int32_t row, float *z);
    void *soften_user;
};

struct soothe__train_result {
    double  loss, preference, kl, nll; /* kl per KL row; nll the mean -log p_f(next) over all rows */
    int32_t n_pairs_right;             /* S(y+) > S(y-) */
    double  gradient_norm;             /* before clipping */
};

/* Loss and gradients of a batch; parameters stay.  errors  SOOTHE_E_ARGUMENT the batch is too large or names
 * tokens that do not exist; SOOTHE_E_NUMERIC the loss or a gradient is not finite */
enum soothe_status soothe__train_gradient(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                          struct soothe__train_result *result, struct soothe_error *err);
/* The same, then one AdamW update (beta .9, .95, eps 1e-8). On an error parameters and moments stay as they were. */
enum soothe_status soothe__train_step(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                      double lr_blocks, double lr_fusion, struct soothe__train_result *result,
                                      struct soothe_error *err);
/* Forward only. log_p_f, log_p_t, kl: (n_rows), each may be NULL; kl and log_p_t need the target's states. Under
 * lm-steer all rows, rejected ones too, are steered by +, and the loss is the preference's. */
enum soothe_status soothe__train_evaluate(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                          float *log_p_f, float *log_p_t, float *kl,
                                          struct soothe__train_result *result, struct soothe_error *err);

/* The final states h (n_rows, d_cal) of the batch's rows without the factors of low rank: of the model as it was, as
 * long as nothing else learns. */
enum soothe_status soothe__train_base_states(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                             float *h, struct soothe_error *err);

uint16_t soothe__bf16_from_f32(float x); /* to nearest even */
float    soothe__f32_from_bf16(uint16_t x);

#endif /* SOOTHE_TRAIN_CORE_H */
