/* SPDX-License-Identifier: Apache-2.0
 * One mixer of logits for all methods that read the target's next-token distribution against others': a logits stage
 * with *sources*, each giving rows of V logits for the session's output rows, and a *rule* that makes a new row of
 * them.
 *
 *   follower   a context of its own that decodes the session's batches: the target again, another model of the same
 *              vocabulary, either with a calibrator, a LoRA, or behind K prefixes (K rows per output row)
 *   head       W u(h): the target's own head on a state derived from its final state h; no context, no pass
 *
 * The rules are pure functions of rows (mixer_rules.c), so that they are tested against NumPy without a model.
 * Legend: V vocabulary, d width of the target's state, z logits, K rows that a follower gives per output row. */
#ifndef SOOTHE_MIXER_H
#define SOOTHE_MIXER_H

#include "engine/engine.h"
#include "fusion/fusion.h"
#include "fusion/stage.h"
#include "methods/methods.h"

enum { SOOTHE__PREFIXES_MAX = 8, SOOTHE__FOLLOWERS_MAX = 8 };

/* ---- helpers, opened: mixer_helper.c ------------------------------------------------------------------ */

/* Whom a follower runs. Zeroed: the base model as it is. */
struct soothe__helper {
    const struct llama_model  *model;      /* whom to run; borrowed from the base or owned (below)          */
    struct llama_model        *owned;      /* a model of its own file                                    */
    struct soothe_calibrator  *calibrator; /* fused at `strength`                                           */
    struct llama_adapter_lora *lora;       /* at the scale `strength`                                       */
    float                      strength;
    const char                *prefixes[SOOTHE__PREFIXES_MAX]; /* borrowed texts that stand before every sequence */
    int32_t                    n_prefixes;
    char                      *text; /* a prefix read from a file */
};

/* The model that helpers are made of: the target, or a model of the same vocabulary from path.
 * *owned  the model loaded, for llama_model_free, or NULL
 * errors  those of soothe__target_load and soothe__same_vocabulary */
enum soothe_status soothe__mixer_base(struct soothe__method_target *base, struct llama_model **owned,
                                      const struct soothe__method_target *target, const char *path,
                                      struct soothe_error *err);
/* Opens what a file holds: a calibrator or a LoRA of the base, a model of the target's vocabulary, or else UTF-8 text
 * that the base reads before every sequence.
 * gain    strength of a calibrator as a multiple of its own, or scale of a LoRA; of no effect on others
 * errors  SOOTHE_E_MISMATCH another vocabulary, or made for another model; those of reading it */
enum soothe_status soothe__helper_open(struct soothe__helper *h, const char *path, float gain,
                                       const struct soothe__method_target *base,
                                       const struct soothe__method_target *target, struct soothe_error *err);
/* The shipped calibrator on the base. */
enum soothe_status soothe__helper_shipped(struct soothe__helper *h, float gain,
                                          const struct soothe__method_target *base, struct soothe_error *err);
void               soothe__helper_close(struct soothe__helper *h); /* also of a zeroed one */

/* Equal token by token, texts and attributes: ids can then be mixed.
 * errors  SOOTHE_E_MISMATCH the sentence names the first token that differs */
enum soothe_status soothe__same_vocabulary(const struct llama_model *a, const char *a_name, const struct llama_model *b,
                                           const char *b_name, struct soothe_error *err);

/* ---- followers: mixer_follower.c ------------------------------------------------------------------------ */

struct soothe__follower;

/* Adds the followers of one helper to followers (SOOTHE__FOLLOWERS_MAX): one, or several where so many sequences behind
 * so many prefixes are more than an engine's context takes (256). Their rows are those of the prefixes, in order.
 * context  as the session's was made (of open); n_ctx, n_batch and sequences are set after the session
 * helper   borrowed; what it holds must outlive the followers
 * errors   SOOTHE_E_UNSUPPORTED prefixes on a recurrent model; those of soothe_session_new
 * state    after an error *n counts what is to be freed */
enum soothe_status soothe__followers_add(struct soothe__follower **followers, size_t *n,
                                         const struct soothe__helper *helper, struct soothe_session *session,
                                         const struct llama_context_params *context, struct soothe_error *err);
void               soothe__followers_free(struct soothe__follower *const *followers, size_t n);
int32_t            soothe__follower_n_rows(const struct soothe__follower *f); /* K */
/* Decodes the step's batch; logits of its output rows, but for those of dose 0.
 * errors  SOOTHE_E_UNSUPPORTED embeddings, or a sequence beyond the session's n_seq_max */
enum soothe_status soothe__follower_decode(struct soothe__follower *f, const struct soothe__step *step,
                                           struct soothe_error *err);
/* Row k of output row i of the last decode (V); undefined where the dose was 0. */
const float *soothe__follower_row(const struct soothe__follower *f, int32_t i_row, int32_t k);
bool         soothe__follower_memory(struct soothe__follower *f, const struct soothe__memory_change *change);

/* ---- the target's own head: mixer_head.c ------------------------------------------------------------------ */

struct soothe__own_head;

/* Reads W (V, d) from the model's file, in the file's type.
 * errors  SOOTHE_E_UNSUPPORTED a head that is no plain matrix (a bias, logits scaled or capped) */
enum soothe_status soothe__own_head_open(struct soothe__own_head **head, const char *model_path,
                                         struct soothe_error *err);
void               soothe__own_head_free(struct soothe__own_head *head); /* NULL is fine */
int32_t            soothe__own_head_n_vocab(const struct soothe__own_head *head);
int32_t            soothe__own_head_width(const struct soothe__own_head *head);
/* out (n, V) = u (n, d) W^T, in pieces of at most 32 rows. */
enum soothe_status soothe__own_head_apply(struct soothe__own_head *head, const float *u, int32_t n, int32_t n_threads,
                                          float *out, struct soothe_error *err);
/* The logits of n tokens alone, out (n) = W[tokens] u, by their ids: for rules that look at few. */
void soothe__own_head_pick(const struct soothe__own_head *head, const float *u, const llama_token_data *tokens,
                           size_t n, float *out);

/* ---- the stage: mixer.c ------------------------------------------------------------------------------------ */

struct soothe__mixer_row {
    float              *z;       /* (V) the session's logits, to be changed                      */
    const float *const *sources; /* followers' rows in order, then the head's; each (V)           */
    const float        *h;       /* (d) with a head: the target's final state as this stage saw it */
    const float        *u;       /* (d) with `picks`: what state() made of it, for soothe__own_head_pick */
    int32_t             n_vocab;
    float               dose;
    llama_seq_id        seq;
};

struct soothe__mixer_rule {
    void *self;
    enum soothe_status (*row)(void *self, const struct soothe__mixer_row *row, struct soothe_error *err);
    /* With a head: the state u (d) that goes through it. */
    void (*state)(void *self, const float *h, float *u, int32_t d);
    bool picks; /* the head's rows are not wanted: row() computes the logits of the tokens it looks at */
    /* Every batch before it is decoded, and every change of memory, for rules with a history. NULL: none. */
    enum soothe_status (*batch)(void *self, const struct soothe__step *step, struct soothe_error *err);
    void (*memory)(void *self, const struct soothe__memory_change *change);
    void (*free)(void *self);
};

/* Adds the stage. Followers and the rule's self are the session's from here on, also after an error.
 * head  borrowed; NULL: none */
enum soothe_status soothe__mixer_add(struct soothe_session *session, struct soothe__follower *const *followers,
                                     size_t n_followers, struct soothe__own_head *head,
                                     const struct soothe__mixer_rule *rule, struct soothe_error *err);

/* ---- rules: mixer_rules.c -------------------------------------------------------------------------------------- */

/* DExperts (Liu et al. 2021), anti-expert alone, expert alone, proxy tuning (Liu et al. 2024):
 *     z <- z + a (plus - minus), and -inf outside the smallest set of tokens that holds top_p under the *old* z.
 * plus, minus  (n) NULL: the old z, so that without plus z <- (1 + a) z - a minus
 * top_p        1: no mask */
enum soothe_status soothe__mix_contrast(float *z, int32_t n, const float *plus, const float *minus, float a,
                                        float top_p, struct soothe_error *err);
/* The same where the difference is known of the nucleus alone: -inf everywhere but at nucleus (n_nucleus), a set of
 * tokens with their old z, where z <- old z + a difference. */
void soothe__mix_within(float *z, int32_t n, const llama_token_data *nucleus, size_t n_nucleus, const float *difference,
                        float a);
/* Soft thresholding: of the differences times a (n, of the nucleus) only what pushes a token down by more than slack
 * from the common shift, which is their mean under the old z, and only by what is beyond it:
 *     difference <- min(0, a (difference - mean) + slack)
 * So a row none of whose likely tokens is in question stays as it is. */
void soothe__mix_soften(const llama_token_data *nucleus, size_t n, float *difference, float a, float slack);
/* Self-debiasing (Schick et al. 2021): with p = softmax(z), p_k = softmax(z_k), D = max(0, max_k p_k - p):
 *     p <- p max(exp(-lambda D), eps), not renormalised (softmax does that).  */
enum soothe_status soothe__mix_self_debias(float *z, int32_t n, const float *const *z_k, int32_t n_k, float lambda,
                                           float eps, struct soothe_error *err);

struct soothe__gedi {
    float omega, filter_p, target_p, scale, bias;
};
/* GeDi (Krause et al. 2020): with log p_c = log softmax(z_c),
 *     P(v) = sigmoid(scale ((S_0 + log p_0(v)) - (S_1 + log p_1(v))) / length + bias)
 *     z <- z + omega log P; then -inf for tokens that are in the least desired tail holding less than filter_p under
 * the old z, and have P < target_p. sums    S: log-probabilities under either code of the sequence so far length  of
 * the sequence with v */
enum soothe_status soothe__mix_gedi(float *z, int32_t n, const float *desired, const float *undesired,
                                    const double sums[2], int32_t length, const struct soothe__gedi *p,
                                    struct soothe_error *err);
/* NADO (Meng et al. 2022), as ACFT uses it: z <- z + strength log sigmoid(g + offset). */
void soothe__mix_success(float *z, int32_t n, const float *g, float offset, float strength);

/* The largest t among values (n) for which the weights of all values >= t add up to `mass` or more; the least value if
 * all together do not. Values of -inf do not count. NaN: no memory. */
float soothe__weighted_tail(const float *values, const float *weights, int32_t n, double mass);

#endif /* SOOTHE_MIXER_H */
