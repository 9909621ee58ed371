/* SPDX-License-Identifier: Apache-2.0
 *
 * soothe - makes a language model less toxic while it speaks, without retraining it.
 *
 * A small *calibrator* runs beside the *target* model; its final hidden state is fused into
 * the target's final hidden state just before the target's output head. The engine is
 * llama.cpp; soothe adds to it and takes nothing away: every llama.cpp call stays usable.
 *
 *     struct soothe_error err;
 *     struct soothe_calibrator *cal;
 *     struct soothe_session    *s;
 *     struct soothe_session_params p = soothe_session_params_default();
 *
 *     if (soothe_calibrator_open(&cal, "cal.gguf", "target.gguf", NULL, &err)) die(err.message);
 *     if (soothe_session_new(&s, target, cal, &p, &err))                         die(err.message);
 *     while (...) {
 *         if (soothe_decode(s, batch, &err)) die(err.message);     // was: llama_decode(ctx, batch)
 *         token = llama_sampler_sample(chain, soothe_session_context(s), -1);
 *     }
 *     soothe_session_free(s);
 *     soothe_calibrator_free(cal);
 *
 * The header is in the order in which a caller meets things. Legend used throughout:
 *   T tokens, V vocabulary, d_tgt width of the target's final state, d_cal of the calibrator's,
 *   h_t final state of the target (after its last norm; node `result_norm` of the engine),
 *   h_c final state of the calibrator, alpha the strength (0 leaves the target untouched).
 */
#ifndef SOOTHE_H
#define SOOTHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "llama.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SOOTHE_VERSION_MAJOR 0
#define SOOTHE_VERSION_MINOR 1
#define SOOTHE_VERSION_PATCH 0
#define SOOTHE_VERSION "0.1.0"

/* ---- errors ------------------------------------------------------------------------------
 * Functions that can fail return a status and, unless err is NULL, fill err with one sentence
 * that names the file, the value and what would be right. On failure an out parameter is set
 * to NULL and nothing is leaked. The library never prints, exits or aborts on bad input.     */
enum soothe_status {
    SOOTHE_OK = 0,
    SOOTHE_E_ARGUMENT,    /* a caller's value is out of range                              */
    SOOTHE_E_IO,          /* a file could not be read or written                           */
    SOOTHE_E_FORMAT,      /* a file is not what it claims to be, or is truncated           */
    SOOTHE_E_SHAPE,       /* widths or counts that must agree do not                       */
    SOOTHE_E_MISMATCH,    /* two files do not belong together (vocabulary, base hash)      */
    SOOTHE_E_UNSUPPORTED, /* an architecture, data type or option that soothe cannot serve */
    SOOTHE_E_MEMORY,      /* out of memory                                                 */
    SOOTHE_E_ENGINE,      /* the engine (llama.cpp) refused or failed                      */
    SOOTHE_E_NETWORK,     /* a download failed                                             */
    SOOTHE_E_INTERRUPTED, /* stopped by the caller; what was asked to be saved is saved    */
    SOOTHE_E_NUMERIC      /* NaN or infinity where a finite number must be                 */
};

struct soothe_error {
    enum soothe_status status;
    char               message[1024];
};

/* The name of a status, "SOOTHE_E_SHAPE"; never NULL; static storage. */
const char *soothe_status_name(enum soothe_status status);

/* ---- calibrator --------------------------------------------------------------------------
 * What was learnt: up to k blocks of a small decoder, and the matrices that carry their state
 * into the target's. A GGUF file with general.type = "soothe-calibrator" (docs/format.md):
 *   full    embedding, blocks and norm: a cut model that the engine could load by itself
 *   delta   only the difference to the blocks of a base model, which must be at hand
 *   0 blocks  no decoder at all, only a matrix on the target's own final state
 * Source: "Detoxification of LLMs through Output-layer Fusion with a Calibration Model" (2025). */
struct soothe_calibrator;

/* How the state is fused (docs/fusion.md):
 *   paper     h_f = (1-alpha) h_t + alpha LN(A^T h_c); without A (same base): + alpha h_c
 *   residual  h_f = h_t + alpha (A^T h_c + B^T h_t + b)                                       */
enum soothe_form { SOOTHE_FORM_PAPER = 0, SOOTHE_FORM_RESIDUAL = 1 };

struct soothe_calibrator_info {
    const char      *name;         /* file's own general.name; owned by the calibrator       */
    const char      *base_name;    /* the model it was cut from, "" for 0 blocks             */
    int32_t          n_blocks;     /* 0: only a matrix on the target's own state             */
    int32_t          d_cal, d_tgt; /* widths; d_cal is 0 without blocks                      */
    enum soothe_form form;
    float            default_strength; /* what the file recommends                               */
    bool             has_a, has_b, has_bias;
};

struct soothe_calibrator_params {
    const char    *base_path;      /* NULL: the target's own file; needed by delta files         */
    enum ggml_type block_type;     /* data type of the block matrices in memory; default Q4_0    */
    bool           keep_type;      /* true: keep the types of the file (exact, slower); false    */
    int32_t        n_gpu_layers;   /* as llama_model_params; default 0                           */
    const char    *alignment_path; /* NULL, or matrices fitted by soothe align for this target:
                                      they take the place of the calibrator's own               */
};
struct soothe_calibrator_params soothe_calibrator_params_default(void);

/* Opens a calibrator for one target.
 * path         NULL with an alignment that needs no calibrator (it holds no A)
 * target_path  file of the target (its hash is checked against the calibrator's; where the vocabularies differ, the
 *              calibrator follows the target's text and must have a matrix A made for it)
 * params       NULL for the defaults
 * errors       SOOTHE_E_FORMAT not a GGUF, truncated, or no calibrator; SOOTHE_E_MISMATCH wrong base,
 *              target or vocabulary; SOOTHE_E_SHAPE widths; SOOTHE_E_NUMERIC NaN or infinite weights
 * thread       any; the result is read-only and may be shared by sessions, which must end first  */
enum soothe_status soothe_calibrator_open(struct soothe_calibrator **cal, const char *path, const char *target_path,
                                          const struct soothe_calibrator_params *params, struct soothe_error *err);
void               soothe_calibrator_free(struct soothe_calibrator *cal); /* NULL is fine */
struct soothe_calibrator_info soothe_calibrator_info(const struct soothe_calibrator *cal);

/* Writes the first n_blocks blocks of a model (>= 0) as an untrained calibrator in full form (paper
 * form, no A). Tensors are streamed. Any decoder whose blocks are named blk.N.
 * errors  SOOTHE_E_ARGUMENT n_blocks exceeds the model's; SOOTHE_E_UNSUPPORTED no blocks blk.N   */
enum soothe_status soothe_calibrator_init(const char *model_path, int32_t n_blocks, const char *out_path,
                                          struct soothe_error *err);

/* Writes a full calibrator again as the quantised difference to its base (the size of a few MB).
 * base_path  NULL will do for a calibrator without blocks
 * type       of the block deltas: Q8_0, Q4_0, F16 ...; A, B in F16; without blocks: of B         */
enum soothe_status soothe_calibrator_pack(const char *calibrator_path, const char *base_path, enum ggml_type type,
                                          const char *out_path, struct soothe_error *err);

/* ---- session: decoding with fusion --------------------------------------------------------
 * A session owns the target's llama_context and the calibrator's, and keeps both KV caches in step.
 * One session belongs to one thread at a time; models and calibrators may be shared by sessions. */
struct soothe_session;

struct soothe_session_params {
    struct llama_context_params context; /* of the target; cb_eval must be NULL. With more than one
                                            sequence kv_unified is set: rows then keep their order */
    float   strength;                    /* alpha of all sequences; NaN: the calibrator's default  */
    int32_t n_threads_calibrator;        /* 0: as context.n_threads                                */
};
struct soothe_session_params soothe_session_params_default(void);

/* cal may be NULL: then soothe_decode is llama_decode. target and cal must outlive the session. */
enum soothe_status soothe_session_new(struct soothe_session **s, struct llama_model *target,
                                      const struct soothe_calibrator *cal, const struct soothe_session_params *params,
                                      struct soothe_error *err);
void               soothe_session_free(struct soothe_session *s); /* NULL is fine */

/* The target's context, for llama_get_logits_ith, samplers, performance figures. Owned by the session.
 * Change its memory only through the soothe_seq_ functions below.                               */
struct llama_context *soothe_session_context(struct soothe_session *s);

/* alpha of one sequence, or of all with seq_id < 0. Any finite number; 0 leaves logits bit for bit
 * as the engine alone gives them.  errors  SOOTHE_E_ARGUMENT                                     */
enum soothe_status soothe_session_set_strength(struct soothe_session *s, llama_seq_id seq_id, float alpha,
                                               struct soothe_error *err);
float              soothe_session_strength(const struct soothe_session *s, llama_seq_id seq_id);

/* In place of llama_decode(ctx, batch); takes any batch of tokens it takes: many sequences, prompt
 * chunks, logits of any rows. Afterwards the logits of soothe_session_context() are the fused model's.
 * errors  SOOTHE_E_ARGUMENT bad batch; SOOTHE_E_ENGINE the engine's own failure, among them "no room in
 *         the KV cache"; SOOTHE_E_NUMERIC a state that is not finite.
 * state   after an error neither cache holds the batch: it may be tried again, smaller.         */
enum soothe_status soothe_decode(struct soothe_session *s, struct llama_batch batch, struct soothe_error *err);

/* Logits (V) of the i-th token of the last batch, or of the last one with i = -1, as llama_get_logits_ith; NULL where
 * none were asked for. With a calibrator alone llama_get_logits_ith itself will do.              */
float *soothe_get_logits_ith(struct soothe_session *s, int32_t i);

/* As llama_memory_seq_*, for both caches at once. */
bool soothe_seq_rm(struct soothe_session *s, llama_seq_id seq_id, llama_pos p0, llama_pos p1);
void soothe_seq_cp(struct soothe_session *s, llama_seq_id from, llama_seq_id to, llama_pos p0, llama_pos p1);
void soothe_seq_keep(struct soothe_session *s, llama_seq_id seq_id);
void soothe_clear(struct soothe_session *s);

/* ---- looking inside -------------------------------------------------------------------------
 * Final states of the last successful soothe_decode, one row per requested output in batch order.
 * Kept only while capture is on. Row-major f32, owned by the session until its next decode.     */
enum soothe_state { SOOTHE_STATE_TARGET, SOOTHE_STATE_CALIBRATOR, SOOTHE_STATE_FUSED };

void soothe_session_capture(struct soothe_session *s, bool on);
/* NULL if there are none; *n_rows and *d may be NULL. */
const float *soothe_session_states(const struct soothe_session *s, enum soothe_state which, int32_t *n_rows,
                                   int32_t *d);

/* ---- methods as samplers --------------------------------------------------------------------
 * Methods that change logits alone, for programs that call llama.cpp directly, without a session: a
 * llama_sampler to put before all others of a chain (docs/methods/cfl.md, examples/table_sampler.c).
 *
 * What holds back words: from the logit of every token that would complete a listed word at a word's
 * boundary, strength times the word's weight is taken. It follows the text by llama_sampler_accept, which
 * is to be called for the prompt's tokens too. An extension of llama_sampler_init_logit_bias to words of
 * several tokens.
 * table     a table of `soothe cfl train`, or a list of words, one a line, perhaps with a tab and a weight (else
 *           1); NULL: the built-in lexicon, weights .1 to 3
 * strength  0: no effect; INFINITY: such words are never chosen
 * *sampler  fresh, llama_sampler_free() or a chain's; the vocabulary may end before it; clones share the table
 * errors    SOOTHE_E_ARGUMENT strength below 0 or NaN; SOOTHE_E_IO, SOOTHE_E_FORMAT, SOOTHE_E_NUMERIC of the file
 * thread    one sampler, one thread at a time                                                     */
enum soothe_status soothe_sampler_init_table(struct llama_sampler **sampler, const struct llama_vocab *vocab,
                                             const char *table, float strength, struct soothe_error *err);

#ifdef __cplusplus
}
#endif
#endif /* SOOTHE_H */
