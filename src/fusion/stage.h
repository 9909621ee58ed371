/* SPDX-License-Identifier: Apache-2.0
 * Stages: what methods do within a session's decode. A session has any number of them, in order; each acts at the
 * places it has a function for:
 *
 *   before   ahead of the target: followers (a calibrator, an expert model) decode the same batch
 *   gate     by row, when the target's final state is there: how much of all stages this row needs
 *   state    by row: changes the final state h (d_tgt), which then goes through the target's own head
 *   logits   behind the target: changes the rows of logits (V) in place, before anybody samples from them
 *   memory   sequences were cut, copied or cleared: followers and histories do the same
 *
 * So everything that reads logits (sampling, likelihoods, a program of somebody else's) sees the method's distribution.
 * Legend: a *row* is a requested output of the batch; a row's *dose* (soothe__session_set_dose, times the gates) is
 * what every stage multiplies its strength by; at dose 0 a stage leaves the row as it is, bit for bit. */
#ifndef SOOTHE_STAGE_H
#define SOOTHE_STAGE_H

#include "engine/engine.h"

/* A soothe_decode under way. */
struct soothe__step {
    struct soothe_session    *session;
    const struct llama_batch *batch;
    int32_t                   n_rows;
    const int32_t            *row_token; /* (n_rows) the row's place in the batch */
    const llama_seq_id       *row_seq;   /* (n_rows) */
    const float              *row_dose;  /* (n_rows) in `before`: yet without the gates */
};

enum soothe__memory_op { SOOTHE__MEMORY_RM, SOOTHE__MEMORY_CP, SOOTHE__MEMORY_KEEP, SOOTHE__MEMORY_CLEAR };
struct soothe__memory_change {
    enum soothe__memory_op op;
    llama_seq_id           seq, to; /* as llama_memory_seq_*; seq -1 of RM: all sequences */
    llama_pos              p0, p1;  /* -1: from the beginning, to the end */
};

struct soothe__stage {
    void *self;
    enum soothe_status (*before)(void *self, const struct soothe__step *step, struct soothe_error *err);
    /* The factor of row i's dose, 0 to 1; h is its state as the target computed it. */
    float (*gate)(void *self, const struct soothe__step *step, int32_t i_row, const float *h);
    /* scratch (d_tgt); returns whether h was changed. */
    bool (*state)(void *self, const struct soothe__step *step, int32_t i_row, float *h, float *scratch);
    /* Rows by soothe_get_logits_ith(step->session, step->row_token[i]). */
    enum soothe_status (*logits)(void *self, const struct soothe__step *step, struct soothe_error *err);
    /* Must not fail for RM of whole sequences and of tails; false: not possible (as llama_memory_seq_rm). After a
     * decode that failed the session takes the batch back by RM of what lies behind each sequence's old end. */
    bool (*memory)(void *self, const struct soothe__memory_change *change);
    void (*free)(void *self); /* when the session ends; self is the session's from soothe__session_add_stage on */
};

/* The change, done to one of the engine's memories. */
bool soothe__memory_apply(llama_memory_t memory, const struct soothe__memory_change *change);
/* What llama_decode's code means. */
const char *soothe__decode_failure(int code);

enum { SOOTHE__STAGES_MAX = 16 };

/* Stages act in the order in which they were added. The session must be empty.
 * errors  SOOTHE_E_ARGUMENT too many; self is then freed */
enum soothe_status soothe__session_add_stage(struct soothe_session *s, const struct soothe__stage *stage,
                                             struct soothe_error *err);

/* What every stage's strength is multiplied by in a sequence, or in all with seq_id < 0; 1 to begin with. 0: the target
 * alone. errors  SOOTHE_E_ARGUMENT */
enum soothe_status soothe__session_set_dose(struct soothe_session *s, llama_seq_id seq_id, float dose,
                                            struct soothe_error *err);
float              soothe__session_dose(const struct soothe_session *s, llama_seq_id seq_id);

/* The dose, gates included, of the last decode's i-th requested output, in batch order; NaN if there is none. */
float soothe__session_row_dose(const struct soothe_session *s, int32_t i);

/* ---- fusion as a stage: calibrator_stage.c ------------------------------------------------------------------ */

/* The first calibrator added is the one that soothe_session_set_strength and SOOTHE_STATE_CALIBRATOR mean.
 * strength   NaN: the calibrator's default
 * n_threads  of the calibrator's context; 0: as the target's
 * errors     those of soothe_session_new */
enum soothe_status soothe__session_add_calibrator(struct soothe_session *s, const struct soothe_calibrator *cal,
                                                  float strength, int32_t n_threads, struct soothe_error *err);

struct soothe__calibrator_stage; /* for session.c alone: */
enum soothe_status   soothe__calibrator_stage_new(struct soothe__calibrator_stage **out, struct soothe_session *s,
                                                  const struct soothe_calibrator    *cal,
                                                  const struct llama_context_params *context, int32_t n_threads,
                                                  struct soothe_error *err);
struct soothe__stage soothe__calibrator_stage_functions(struct soothe__calibrator_stage *self);
float               *soothe__calibrator_stage_strengths(struct soothe__calibrator_stage *self); /* per sequence */
const float *soothe__calibrator_stage_states(const struct soothe__calibrator_stage *self, int32_t *n_rows, int32_t *d);

/* Of a calibrator that follows the text, because it splits text otherwise than the target (docs/fusion.md). */
struct soothe__coupling_counts {
    int64_t n_target_tokens, n_calibrator_tokens; /* decoded */
    int64_t n_rolled_back;                        /* of the calibrator's, taken back since the text had grown on */
};
/* Of the session's first calibrator; NULL if it decodes the target's tokens themselves. */
const struct soothe__coupling_counts *soothe__session_coupling(const struct soothe_session *s);
const struct soothe__coupling_counts *soothe__calibrator_stage_coupling(const struct soothe__calibrator_stage *self);

/* Is token i of the batch output, by llama.cpp's rule for this session? */
bool soothe__session_is_output(const struct soothe_session *s, const struct llama_batch *b, int32_t i);
/* Sequences for texts: ids from 0. The context may have more, which methods use. */
uint32_t soothe__session_n_seq(const struct soothe_session *s);
/* Cells of the target's cache that texts may take: the context's, without what methods reserve. */
int32_t soothe__session_n_ctx(const struct soothe_session *s);

/* ---- listening: a node of the target's graph, before fusion --------------------------------------------------- */

/* Three may listen, each to a node of its own: who runs the session, its gate, and who judges candidates. */
enum soothe__listener {
    SOOTHE__LISTENER_CALLER,
    SOOTHE__LISTENER_GATE,
    SOOTHE__LISTENER_BRANCHES, /* branch.h */
    SOOTHE__LISTENERS
};

/* From now on every soothe_decode keeps that node's row of each requested output. Logits stay as they are, bit for bit.
 * node    "l_out-N", "result_norm", …; NULL: no more
 * state   an architecture without that node is found out by the next soothe_decode (SOOTHE_E_UNSUPPORTED)
 * errors  SOOTHE_E_ARGUMENT a name too long */
enum soothe_status soothe__session_tap(struct soothe_session *s, enum soothe__listener who, const char *node,
                                       struct soothe_error *err);
/* The row (d) of the last decode's i-th requested output, in batch order; NULL if there is none. Of a decode under way:
 * rows of which the graph has come that far (in `gate` and `state`: the row at hand). */
const float *soothe__session_tapped(const struct soothe_session *s, enum soothe__listener who, int32_t i);

/* Rows of states, one per requested output of a decode. */
struct soothe__rows {
    float  *data;
    size_t  capacity; /* in floats */
    int32_t n, d;
};
bool                 soothe__rows_begin(struct soothe__rows *r, int32_t n, int32_t d); /* false: out of memory */
static inline float *soothe__row_at(const struct soothe__rows *r, int32_t i) {
    return r->data + (size_t)i * (size_t)r->d;
}

#endif /* SOOTHE_STAGE_H */
