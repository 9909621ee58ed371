/* SPDX-License-Identifier: Apache-2.0
 * Branches: what the target would be and say after one more token, asked for several tokens at once. For stages that
 * judge candidates, from within their `logits` hook.
 *
 * A branch is a spare sequence that shares its row's cells up to the row and has one token more. The target alone
 * decodes branches; followers never see them. Branches that are kept wait for the next soothe_decode: where it has a
 * kept branch's token at its place, cell and logits are taken over, so that a token costs one forward of K rows, not
 * K + 1. That is done only where the logits are the target's own: with stages that change or gate states, with
 * listeners, or with capture on, every token is decoded as usual. */
#ifndef SOOTHE_BRANCH_H
#define SOOTHE_BRANCH_H

#include "fusion/stage.h"

struct soothe__branch_plan {
    char    node[GGML_MAX_NAME]; /* whose state is read: "result_norm", "l_out-N"                             */
    int32_t n_spares;            /* sequences and cells for branches alone, as soothe__branch_context made them */
    bool    read_rows;           /* the same state of the output rows themselves: soothe__branch_row_state    */
    bool    states_only;         /* the graph stops at the node, and nothing is ever kept: cheaper in the lower half */
};

/* For a method's open(): raises n_seq_max and n_ctx by what k branches of each sequence need, as far as the engine has
 * sequences, and returns by how many. The cache becomes unified. Texts use ids below (soothe__session_n_seq). */
int32_t soothe__branch_context(struct llama_context_params *context, const struct llama_model *model, int32_t k);

/* To be called once, at attach. errors  SOOTHE_E_ARGUMENT the session has one that branches already;
 * SOOTHE_E_UNSUPPORTED a recurrent or hybrid target, or a cache that is not unified */
enum soothe_status soothe__branch_enable(struct soothe_session *s, const struct soothe__branch_plan *plan,
                                         struct soothe_error *err);

/* Spare sequences that are free; forget: kept branches are dropped for it. */
int32_t soothe__branch_n_free(struct soothe_session *s, bool forget);
/* Branches that can be decoded at once now. */
int32_t soothe__branch_room(struct soothe_session *s);
/* Of them, how many may be kept in all. 0 where none can be re-used. */
int32_t soothe__branch_keepable(const struct soothe_session *s);
/* The position of a row, and of its branches less one. */
llama_pos soothe__step_position(const struct soothe__step *step, int32_t i_row);
/* (d) the row's own state at the node; NULL unless the plan says read_rows. */
const float *soothe__branch_row_state(const struct soothe_session *s, int32_t i_row);

struct soothe__branch {
    int32_t      i_row; /* of the step */
    llama_token  token;
    bool         keep;  /* set before soothe__branch_settle                           */
    llama_seq_id spare; /* filled by soothe__branch_decode, as is                     */
    const float *state; /* (d) the session's, until the next soothe__branch_decode    */
};

/* Decodes n <= room branches. Every decode is followed by a settle. The rows' logits stay what soothe_get_logits_ith
 * gives, no longer what llama_get_logits_ith does.
 * errors  SOOTHE_E_ENGINE; SOOTHE_E_UNSUPPORTED no such node; then nothing is left of the branches */
enum soothe_status soothe__branch_decode(struct soothe_session *s, struct soothe__branch *branches, int32_t n,
                                         struct soothe_error *err);
/* The same branches: keeps those that are to be kept, as far as there is memory, and lets go of the others. */
void soothe__branch_settle(struct soothe_session *s, const struct soothe__branch *branches, int32_t n);

/* ---- for session.c and decode.c ------------------------------------------------------------------------------- */

struct soothe__branches;

void soothe__branches_free(struct soothe__branches *b); /* NULL is fine */
/* A sequence is cut, copied to or cleared: what was kept for it is dropped. */
void soothe__branches_change(struct soothe_session *s, const struct soothe__memory_change *change);
/* Takes over kept branches that the batch goes on with and makes s->pass the rest of the batch. */
enum soothe_status soothe__branches_claim(struct soothe_session *s, const struct llama_batch *b,
                                          struct soothe_error *err);
/* Behind the pass: the rows that were decoded join those taken over. */
enum soothe_status soothe__branches_join(struct soothe_session *s, struct soothe_error *err);
/* The callback while branches are decoded. */
bool soothe__branches_on_node(struct soothe_session *s, struct ggml_tensor *t, bool ask);

#endif /* SOOTHE_BRANCH_H */
