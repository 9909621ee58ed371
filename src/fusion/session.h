/* SPDX-License-Identifier: Apache-2.0
 * A session from inside: session.c makes it and keeps its settings and memories, decode.c decodes. */
#ifndef SOOTHE_SESSION_H
#define SOOTHE_SESSION_H

#include "fusion/fusion.h"
#include "fusion/branch.h"
#include "fusion/stage.h"

struct soothe__tap {
    char                node[GGML_MAX_NAME]; /* "" for nothing */
    struct soothe__rows rows;
    int32_t             i_token, i_row; /* how far the decode under way has come */
};

struct soothe_session {
    struct llama_context            *target;
    struct soothe__calibrator_stage *calibrator; /* the first; NULL: none */
    struct soothe__stage             stages[SOOTHE__STAGES_MAX];
    size_t                           n_stages;
    struct llama_context_params      context; /* as the target's was made */
    int32_t                          d;       /* width of the final state */
    bool                             capture, embeddings, one_sequence_per_batch;
    uint32_t                         n_seq, n_batch, n_ubatch;
    float                           *dose;          /* per sequence */
    llama_pos                       *end;           /* per sequence: its last position before the decode under way */
    float                           *scratch, *row; /* (d) */
    struct soothe__tap               taps[SOOTHE__LISTENERS];
    struct soothe__branches         *branches; /* NULL: nobody branches */
    int32_t                          n_branch_cells;

    /* of the decode under way */
    struct soothe__step step;
    int8_t             *outputs;   /* (n_batch) which tokens are output */
    int32_t            *row_token; /* (n_batch), and so the next two */
    llama_seq_id       *row_seq;
    float              *row_dose;
    int32_t             n_tokens;  /* of the batch */
    int32_t            *token_row; /* (n_batch) row_token the other way round; -1: no output */
    struct llama_batch  pass;      /* what of the batch the target decodes: all, but for branches taken over */
    const int8_t       *pass_outputs;
    int32_t             n_pass_rows;
    bool                branching; /* the callback is for branches */
    bool                z_saved;   /* the rows' logits are in z, no longer in the engine */
    struct soothe__rows z;
    int32_t             i_row; /* of the target's final states, how many are there */
    bool                fusing;
    struct soothe__rows h_t, h_f;
    enum soothe_status  failed; /* what a callback found wrong */
    const char         *failure;
};

/* The target's callback (cb_eval); user is the session. */
bool soothe__session_on_node(struct ggml_tensor *t, bool ask, void *user);

#endif /* SOOTHE_SESSION_H */
