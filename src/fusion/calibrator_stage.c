/* SPDX-License-Identifier: Apache-2.0
 * Fusion as a stage: the calibrator's context beside the target's. Its graph is read at `result_norm` and stopped
 * there: its head is never computed. A calibrator of the target's vocabulary decodes the target's batches; one of
 * another follows the text (text_coupling.h). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fusion/fusion.h"
#include "fusion/stage.h"
#include "fusion/text_coupling.h"

/* The engine keeps V logits per output of a piece even though the calibrator's are never computed. */
enum { OUTPUTS_MAX = 64 };

struct soothe__calibrator_stage {
    struct soothe_session          *session;
    const struct soothe_calibrator *cal;
    struct llama_context           *ctx;      /* NULL without blocks */
    struct soothe__coupling        *coupling; /* NULL: decodes the target's tokens */
    float                          *strength; /* per sequence */
    uint32_t                        n_ubatch;
    int32_t                         n_outputs_max; /* of a piece */
    int8_t                         *flags;         /* (n_batch) which tokens of a piece are output */
    float                          *embedded; /* (n_ubatch, d_cal) the embedding's rows of a piece; NULL: by token */

    /* of the decode under way */
    struct soothe__rows h_c;
    int32_t             n_rows, i_row;
    int32_t            *same_as;    /* coupled: (n_batch) the row whose state a row shares */
    const int32_t      *piece_rows; /* coupled: where the states of the piece under way belong */
    const char         *failure;    /* what the callback found wrong */
};

static bool on_node(struct ggml_tensor *t, bool ask, void *user) {
    struct soothe__calibrator_stage *c = user;
    if (strcmp(t->name, "result_norm") != 0)
        return !ask;
    if (ask)
        return true;
    const int64_t n = t->ne[1];
    if (t->ne[0] != c->h_c.d || t->type != GGML_TYPE_F32 || c->i_row + n > c->n_rows) {
        c->failure = "the calibrator's final state has an unexpected shape";
        return false;
    }
    const size_t size = (size_t)c->h_c.d * sizeof(float);
    if (n > 0 && !c->piece_rows)
        ggml_backend_tensor_get(t, soothe__row_at(&c->h_c, c->i_row), 0, (size_t)n * size);
    for (int64_t i = 0; i < n && c->piece_rows; i++)
        ggml_backend_tensor_get(t, soothe__row_at(&c->h_c, c->piece_rows[c->i_row + i]), (size_t)i * size, size);
    c->i_row += (int32_t)n;
    return false; /* stop here: the head is not needed */
}

static enum soothe_status make_context(struct soothe__calibrator_stage *c, const struct llama_context_params *context,
                                       int32_t n_threads, struct soothe_error *err) {
    struct llama_context_params cp = *context;
    cp.cb_eval                     = on_node;
    cp.cb_eval_user_data           = c;
    cp.embeddings                  = false;
    cp.samplers                    = NULL;
    cp.n_samplers                  = 0;
    if (n_threads > 0)
        cp.n_threads = cp.n_threads_batch = n_threads;
    if (c->coupling) {
        cp.n_ctx    = soothe__coupling_context(context->n_ctx);
        cp.swa_full = true; /* a rollback may go further back than a window of attention */
    }
    c->ctx = llama_init_from_model(c->cal->model, cp);
    if (!c->ctx)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine cannot make a context for calibrator %s", c->cal->path);
    c->n_ubatch = llama_n_ubatch(c->ctx);
    c->flags    = soothe__calloc(llama_n_batch(c->ctx), sizeof *c->flags);
    c->same_as  = soothe__calloc(context->n_batch, sizeof *c->same_as);
    if (c->cal->embedding)
        c->embedded = soothe__calloc(c->n_ubatch, (size_t)c->cal->fusion.d_cal * sizeof *c->embedded);
    c->n_outputs_max = c->embedded ? (int32_t)c->n_ubatch : OUTPUTS_MAX;
    return c->flags && c->same_as && (c->embedded || !c->cal->embedding)
               ? SOOTHE_OK
               : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory making a session");
}

static void stage_free(void *self) {
    struct soothe__calibrator_stage *c = self;
    if (!c)
        return;
    llama_free(c->ctx);
    soothe__coupling_free(c->coupling);
    free(c->strength);
    free(c->flags);
    free(c->same_as);
    free(c->embedded);
    free(c->h_c.data);
    free(c);
}

enum soothe_status soothe__calibrator_stage_new(struct soothe__calibrator_stage **out, struct soothe_session *s,
                                                const struct soothe_calibrator    *cal,
                                                const struct llama_context_params *context, int32_t n_threads,
                                                struct soothe_error *err) {
    const struct llama_vocab        *target = llama_model_get_vocab(llama_get_model(soothe_session_context(s)));
    struct soothe__calibrator_stage *c      = soothe__calloc(1, sizeof *c);
    *out                                    = NULL;
    if (!c)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory making a session");
    c->session                = s;
    c->cal                    = cal;
    c->strength               = soothe__calloc(soothe__session_n_seq(s), sizeof *c->strength);
    enum soothe_status status = c->strength ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status && cal->model && cal->by_text)
        status = soothe__coupling_new(&c->coupling, target, cal->vocabulary ? cal->vocabulary : cal->model,
                                      soothe__session_n_seq(s), err);
    if (!status && cal->model)
        status = make_context(c, context, n_threads, err);
    if (status)
        stage_free(c);
    else
        *out = c;
    return status;
}

float *soothe__calibrator_stage_strengths(struct soothe__calibrator_stage *self) {
    return self->strength;
}

const float *soothe__calibrator_stage_states(const struct soothe__calibrator_stage *self, int32_t *n_rows, int32_t *d) {
    *n_rows = self->h_c.n;
    *d      = self->h_c.d;
    return self->h_c.data;
}

const struct soothe__coupling_counts *soothe__calibrator_stage_coupling(const struct soothe__calibrator_stage *self) {
    return self->coupling ? soothe__coupling_counts(self->coupling) : NULL;
}

/* ---- at a decode -------------------------------------------------------------------------------------------- */

static enum soothe_status engine_error(const struct soothe__calibrator_stage *c, int code, struct soothe_error *err) {
    if (c->failure)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s", c->failure);
    return soothe__fail(err, SOOTHE_E_ENGINE, "the calibrator could not decode the batch: %s (code %d)",
                        soothe__decode_failure(code), code);
}

static enum soothe_status no_node(struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "the calibrator's architecture shows no node result_norm to fuse");
}

/* One piece, by the embedding's rows where they are not the engine's. */
static enum soothe_status decode(struct soothe__calibrator_stage *c, struct llama_batch piece, int *code,
                                 struct soothe_error *err) {
    *code = 0;
    if (c->embedded) {
        const enum soothe_status status =
            soothe__file_rows_get(c->cal->embedding, piece.token, piece.n_tokens, c->embedded, err);
        if (status)
            return status;
        piece.token = NULL;
        piece.embd  = c->embedded;
    }
    *code = llama_decode(c->ctx, piece);
    return SOOTHE_OK;
}

/* The target's batch again in pieces. */
static enum soothe_status decode_tokens(struct soothe__calibrator_stage *c, const struct llama_batch *b,
                                        struct soothe_error *err) {
    for (int32_t from = 0; from < b->n_tokens;) {
        int32_t n = 0, n_outputs = 0;
        while (from + n < b->n_tokens && (uint32_t)n < c->n_ubatch && n_outputs < c->n_outputs_max) {
            c->flags[n] = soothe__session_is_output(c->session, b, from + n);
            n_outputs += c->flags[n++];
        }
        struct llama_batch piece = {
            .n_tokens = n,
            .token    = b->token + from,
            .pos      = b->pos ? b->pos + from : NULL,
            .n_seq_id = b->n_seq_id ? b->n_seq_id + from : NULL,
            .seq_id   = b->seq_id ? b->seq_id + from : NULL,
            .logits   = c->flags,
        };
        int                      code;
        const enum soothe_status status = decode(c, piece, &code, err);
        if (status || code != 0 || c->failure)
            return status ? status : engine_error(c, code, err);
        from += n;
    }
    return c->i_row == c->n_rows ? SOOTHE_OK : no_node(err);
}

static enum soothe_status decode_piece(void *self, const struct llama_batch *piece, const int32_t *rows,
                                       int32_t n_outputs, struct soothe_error *err) {
    struct soothe__calibrator_stage *c = self;
    c->i_row                           = 0;
    c->n_rows                          = n_outputs;
    c->piece_rows                      = rows;
    int                      code;
    const enum soothe_status status = decode(c, *piece, &code, err);
    c->piece_rows                   = NULL;
    if (status)
        return status;
    if (code == 1)
        return soothe__fail(
            err, SOOTHE_E_ENGINE,
            "no room in the calibrator's KV cache (%u tokens), though there may be in the target's: the "
            "text has more tokens in its vocabulary; a larger context is needed",
            llama_n_ctx(c->ctx));
    if (code != 0 || c->failure)
        return engine_error(c, code, err);
    return c->i_row == n_outputs ? SOOTHE_OK : no_node(err);
}

static enum soothe_status follow_text(struct soothe__calibrator_stage *c, const struct soothe__step *step,
                                      struct soothe_error *err) {
    const struct soothe__piece_target to     = {c->ctx, decode_piece, c, (int32_t)c->n_ubatch, c->n_outputs_max};
    const enum soothe_status          status = soothe__coupling_before(c->coupling, step, &to, c->same_as, err);
    for (int32_t i = 0; i < step->n_rows && !status; i++)
        if (c->same_as[i] != i)
            memcpy(soothe__row_at(&c->h_c, i), soothe__row_at(&c->h_c, c->same_as[i]),
                   (size_t)c->h_c.d * sizeof(float));
    return status;
}

static enum soothe_status before(void *self, const struct soothe__step *step, struct soothe_error *err) {
    struct soothe__calibrator_stage *c = self;
    if (!c->ctx)
        return SOOTHE_OK;
    if (!step->batch->token)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "a batch of embeddings: the calibrator can follow tokens only");
    c->n_rows     = step->n_rows;
    c->i_row      = 0;
    c->failure    = NULL;
    c->piece_rows = NULL;
    if (!soothe__rows_begin(&c->h_c, step->n_rows, c->cal->fusion.d_cal))
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d states", step->n_rows);
    return c->coupling ? follow_text(c, step, err) : decode_tokens(c, step->batch, err);
}

static bool fuse(void *self, const struct soothe__step *step, int32_t i_row, float *h, float *scratch) {
    const struct soothe__calibrator_stage *c     = self;
    const float                            alpha = c->strength[step->row_seq[i_row]] * step->row_dose[i_row];
    if (alpha == 0.0f)
        return false;
    soothe__fuse_row(&c->cal->fusion, h, c->ctx ? soothe__row_at(&c->h_c, i_row) : NULL, alpha, scratch);
    return true;
}

static bool memory(void *self, const struct soothe__memory_change *change) {
    const struct soothe__calibrator_stage *c = self;
    if (c->coupling)
        return soothe__coupling_memory(c->coupling, change, c->ctx);
    return !c->ctx || soothe__memory_apply(llama_get_memory(c->ctx), change);
}

struct soothe__stage soothe__calibrator_stage_functions(struct soothe__calibrator_stage *self) {
    return (struct soothe__stage){.self = self, .before = before, .state = fuse, .memory = memory, .free = stage_free};
}
