/* SPDX-License-Identifier: Apache-2.0
 * The target's final states of the training texts, computed once each and kept as bf16. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/batch.h"
#include "fusion/stage.h"
#include "train/state_file.h"
#include "train/target_states.h"
#include "train/train_core.h"

enum { GROUP_TOKENS = 512, GROUP_TEXTS = 32 };

struct kept {         /* where a text's rows are: all of h_t, then all of h_c */
    uint16_t *rows;   /* in memory, or NULL: */
    int64_t   offset; /* in the file, -1: nowhere yet */
};

struct soothe__target_states {
    const struct soothe__corpus *corpus;
    struct soothe_session       *session; /* or NULL: */
    struct soothe__train_core   *core;
    int32_t                      d, d_cal; /* d_cal 0: no calibrator */
    struct kept                 *kept;     /* per text */
    uint32_t                    *group_of; /* per text */
    uint32_t                    *members;  /* the groups' texts, one group after the other */
    uint32_t                    *starts;   /* (n_groups + 1) into members */
    size_t                       n_groups, n_members;
    int32_t                      n_tokens_max; /* of a group */
    size_t                       memory_bound, memory_used;
    struct soothe__state_file   *cache; /* kept from run to run, instead of memory and file; or NULL */
    FILE                        *file;
    int64_t                      file_size;
    struct llama_batch           batch;
    uint16_t                    *scratch; /* rows of one text */
};

static size_t n_rows(const struct soothe__text *t) {
    return (size_t)(t->n_tokens - t->first);
}

/* Of the target's and the calibrator's states of one position. */
static size_t width(const struct soothe__target_states *t) {
    return (size_t)(t->d + t->d_cal);
}

/* ---- groups ------------------------------------------------------------------------------------- */

static const uint32_t NO_GROUP = UINT32_MAX;

static void put_in_group(struct soothe__target_states *t, uint32_t i_text, bool alone, int32_t *tokens_in_group) {
    const struct soothe__text *text = &t->corpus->texts[i_text];
    if (!text->tokens || text->n_tokens <= text->first || t->group_of[i_text] != NO_GROUP)
        return;
    const uint32_t start = t->n_groups ? t->starts[t->n_groups - 1] : 0;
    if (t->n_groups == 0 || alone || *tokens_in_group + text->n_tokens > GROUP_TOKENS ||
        t->n_members - start >= GROUP_TEXTS) {
        t->starts[t->n_groups++] = (uint32_t)t->n_members;
        *tokens_in_group         = 0;
    }
    *tokens_in_group += text->n_tokens;
    if (*tokens_in_group > t->n_tokens_max)
        t->n_tokens_max = *tokens_in_group;
    t->group_of[i_text]        = (uint32_t)t->n_groups - 1;
    t->members[t->n_members++] = i_text;
    t->starts[t->n_groups]     = (uint32_t)t->n_members;
}

/* Fixed once for all: the engine's rounding depends on a text's neighbours in the batch. */
static enum soothe_status make_groups(struct soothe__target_states *t, const uint32_t *order, size_t n_order,
                                      bool alone, struct soothe_error *err) {
    const size_t n = t->corpus->n_texts;
    t->group_of    = soothe__calloc(n + 1, sizeof *t->group_of);
    t->members     = soothe__calloc(n + 1, sizeof *t->members);
    t->starts      = soothe__calloc(n + 2, sizeof *t->starts);
    t->kept        = soothe__calloc(n + 1, sizeof *t->kept);
    if (!t->group_of || !t->members || !t->starts || !t->kept)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the states of %zu texts", n);
    for (size_t i = 0; i < n; i++) {
        t->group_of[i]    = NO_GROUP;
        t->kept[i].offset = -1;
    }
    int32_t tokens = 0;
    for (size_t i = 0; i < n_order; i++)
        put_in_group(t, order[i], alone, &tokens);
    for (size_t i = 0; i < n; i++)
        put_in_group(t, (uint32_t)i, alone, &tokens);
    return SOOTHE_OK;
}

/* ---- making ------------------------------------------------------------------------------------- */

static enum soothe_status open_session(struct soothe__target_states *t, struct llama_model *model, int32_t n_threads,
                                       struct soothe_error *err) {
    struct soothe_session_params p = soothe_session_params_default();
    const int32_t                n = t->n_tokens_max > 32 ? t->n_tokens_max : 32;
    p.context.n_ctx = p.context.n_batch = p.context.n_ubatch = (uint32_t)n;
    p.context.n_seq_max                                      = GROUP_TEXTS;
    if (n_threads > 0)
        p.context.n_threads = p.context.n_threads_batch = n_threads;
    enum soothe_status status = soothe_session_new(&t->session, model, NULL, &p, err);
    if (!status)
        soothe_session_capture(t->session, true);
    return status;
}

static enum soothe_status make_room(struct soothe__target_states *t, struct soothe_error *err) {
    const int32_t n = t->n_tokens_max > 0 ? t->n_tokens_max : 1;
    t->batch        = llama_batch_init(n, 0, 1);
    t->scratch      = soothe__calloc((size_t)n * (size_t)t->d, sizeof *t->scratch);
    return t->batch.token && t->scratch ? SOOTHE_OK
                                        : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the target's states");
}

/* begun  what is known of it so far; model NULL: the core makes the states */
static enum soothe_status make(struct soothe__target_states **out, const struct soothe__target_states *begun,
                               struct llama_model *model, const uint32_t *order, size_t n_order, int32_t n_threads,
                               struct soothe_error *err) {
    *out                            = NULL;
    struct soothe__target_states *t = soothe__calloc(1, sizeof *t);
    if (!t)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the target's states");
    *t = *begun;
    /* Recurrent and hybrid models reorder the rows of a batch with several sequences. */
    const bool         alone  = model && (llama_model_is_recurrent(model) || llama_model_is_hybrid(model));
    enum soothe_status status = make_groups(t, order, n_order, alone, err);
    if (!status && model)
        status = open_session(t, model, n_threads, err);
    if (!status)
        status = make_room(t, err);
    if (status)
        soothe__target_states_free(t);
    else
        *out = t;
    return status;
}

enum soothe_status soothe__target_states_new(struct soothe__target_states **out, struct llama_model *model,
                                             const struct soothe__corpus *corpus, const uint32_t *order, size_t n_order,
                                             int32_t n_threads, size_t memory_bound, struct soothe_error *err) {
    const struct soothe__target_states begun = {
        .corpus = corpus, .d = llama_model_n_embd(model), .memory_bound = memory_bound};
    return make(out, &begun, model, order, n_order, n_threads, err);
}

int32_t soothe__target_states_room(void) {
    return GROUP_TOKENS;
}

enum soothe_status soothe__target_states_new_core(struct soothe__target_states **out, struct soothe__train_core *core,
                                                  int32_t d, const struct soothe__corpus *corpus, const uint32_t *order,
                                                  size_t n_order, size_t memory_bound, struct soothe_error *err) {
    const struct soothe__target_states begun = {.corpus = corpus, .core = core, .d = d, .memory_bound = memory_bound};
    return make(out, &begun, NULL, order, n_order, 0, err);
}

void soothe__target_states_free(struct soothe__target_states *t) {
    if (!t)
        return;
    for (size_t i = 0; t->kept && i < t->corpus->n_texts; i++)
        free(t->kept[i].rows);
    if (t->batch.token)
        llama_batch_free(t->batch);
    if (t->file)
        fclose(t->file);
    soothe__state_file_close(t->cache);
    soothe_session_free(t->session);
    free(t->kept);
    free(t->group_of);
    free(t->members);
    free(t->starts);
    free(t->scratch);
    free(t);
}

int32_t soothe__target_states_width(const struct soothe__target_states *t) {
    return t->d;
}

int32_t soothe__target_states_width_calibrator(const struct soothe__target_states *t) {
    return t->d_cal;
}

enum soothe_status soothe__target_states_follow(struct soothe__target_states *t, const struct soothe_calibrator *cal,
                                                struct soothe_error *err) {
    /* at strength 1: a session may spare itself a calibrator that has no effect. h_t is read before fusion */
    enum soothe_status status = soothe__session_add_calibrator(t->session, cal, 1.0f, 0, err);
    if (status)
        return status;
    t->d_cal = soothe_calibrator_info(cal).d_cal;
    uint16_t *scratch =
        soothe__realloc(t->scratch, (size_t)(t->n_tokens_max > 0 ? t->n_tokens_max : 1) * width(t), sizeof *t->scratch);
    if (!scratch)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the calibrator's states");
    t->scratch = scratch;
    return SOOTHE_OK;
}

enum soothe_status soothe__target_states_use_file(struct soothe__target_states *t, const char *path, const char *key,
                                                  struct soothe_error *err) {
    enum soothe_status status = soothe__state_file_open(&t->cache, path, key, t->d + t->d_cal, err);
    for (size_t i = 0; i < t->corpus->n_texts && !status; i++)
        if (t->group_of[i] != NO_GROUP)
            t->kept[i].offset = soothe__state_file_find(t->cache, &t->corpus->texts[i]);
    return status;
}

/* ---- keeping ------------------------------------------------------------------------------------- */

static enum soothe_status file_failed(struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_IO,
                        "cannot keep the target's states in a temporary file: %s (--states FILE keeps them where "
                        "there is room)",
                        strerror(errno ? errno : EIO));
}

static enum soothe_status keep_in_file(struct soothe__target_states *t, struct kept *kept, size_t n,
                                       struct soothe_error *err) {
    errno = 0;
    if (!t->file)
        t->file = tmpfile();
    if (!t->file || fseeko(t->file, t->file_size, SEEK_SET) != 0 ||
        fwrite(t->scratch, sizeof(uint16_t), n, t->file) != n)
        return file_failed(err);
    kept->offset = t->file_size;
    t->file_size += (int64_t)(n * sizeof(uint16_t));
    return SOOTHE_OK;
}

/* Keeps the rows of one text. */
static enum soothe_status keep(struct soothe__target_states *t, uint32_t i_text, const float *h_t, const float *h_c,
                               struct soothe_error *err) {
    const size_t rows = n_rows(&t->corpus->texts[i_text]), n = rows * width(t), n_t = rows * (size_t)t->d;
    struct kept *kept = &t->kept[i_text];
    if (kept->rows || kept->offset >= 0)
        return SOOTHE_OK; /* its group is computed again after a failure half way */
    for (size_t i = 0; i < n; i++)
        if (!isfinite(i < n_t ? h_t[i] : h_c[i - n_t]))
            return soothe__fail(err, SOOTHE_E_NUMERIC, "the %s's states are no finite numbers: damaged weights?",
                                i < n_t ? "target" : "calibrator");
    ggml_fp32_to_bf16_row(h_t, (ggml_bf16_t *)t->scratch, (int64_t)n_t);
    if (n > n_t)
        ggml_fp32_to_bf16_row(h_c, (ggml_bf16_t *)t->scratch + n_t, (int64_t)(n - n_t));
    if (t->cache)
        return soothe__state_file_add(t->cache, &t->corpus->texts[i_text], t->scratch, &kept->offset, err);
    if (t->memory_used + n * sizeof(uint16_t) > t->memory_bound)
        return keep_in_file(t, kept, n, err);
    kept->rows = soothe__calloc(n, sizeof *kept->rows);
    if (!kept->rows)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the target's states");
    memcpy(kept->rows, t->scratch, n * sizeof *kept->rows);
    t->memory_used += n * sizeof *kept->rows;
    return SOOTHE_OK;
}

/* ---- computing ------------------------------------------------------------------------------------ */

static void add_to_batch(struct llama_batch *b, const struct soothe__text *text, llama_seq_id seq) {
    /* The last token predicts nothing that counts, so it is left out. */
    for (int32_t i = 0; i + 1 < text->n_tokens; i++)
        soothe__batch_add(b, text->tokens[i], i, seq, i >= text->first - 1);
}

/* NULL, and the sentence in err, if they are not the rows that were asked for. */
static const float *states_of(const struct soothe__target_states *t, enum soothe_state which, size_t total, int32_t d,
                              struct soothe_error *err) {
    int32_t      n = 0, found = 0;
    const float *states = soothe_session_states(t->session, which, &n, &found);
    if (states && (size_t)n == total && found == d)
        return states;
    soothe__fail(err, SOOTHE_E_ENGINE, "the %s gave %d states of width %d where %zu of width %d were asked for",
                 which == SOOTHE_STATE_TARGET ? "target" : "calibrator", n, found, total, d);
    return NULL;
}

static enum soothe_status run_session(struct soothe__target_states *t, uint32_t group, size_t total, const float **h_t,
                                      const float **h_c, struct soothe_error *err) {
    t->batch.n_tokens = 0;
    for (uint32_t k = t->starts[group]; k < t->starts[group + 1]; k++)
        add_to_batch(&t->batch, &t->corpus->texts[t->members[k]], (llama_seq_id)(k - t->starts[group]));
    soothe_clear(t->session);
    enum soothe_status status = soothe_decode(t->session, t->batch, err);
    if (status)
        return status;
    *h_t = states_of(t, SOOTHE_STATE_TARGET, total, t->d, err);
    *h_c = *h_t && t->d_cal ? states_of(t, SOOTHE_STATE_CALIBRATOR, total, t->d_cal, err) : NULL;
    return !*h_t || (t->d_cal && !*h_c) ? SOOTHE_E_ENGINE : SOOTHE_OK;
}

/* h_t (total, d), fresh. */
static enum soothe_status run_core(struct soothe__target_states *t, uint32_t group, size_t total, float **h_t,
                                   struct soothe_error *err) {
    struct soothe__train_batch batch = {.tokens = t->batch.token};
    int32_t                    text_start[GROUP_TEXTS + 1];
    struct soothe__train_row  *rows = soothe__calloc(total, sizeof *rows);
    *h_t                            = soothe__calloc(total * (size_t)t->d, sizeof **h_t);
    batch.text_start                = text_start;
    batch.rows                      = rows;
    text_start[0]                   = 0;
    for (uint32_t k = t->starts[group]; k < t->starts[group + 1] && rows; k++) {
        const struct soothe__text *text = &t->corpus->texts[t->members[k]];
        for (int32_t i = 0; i + 1 < text->n_tokens; i++) {
            if (i >= text->first - 1)
                rows[batch.n_rows++] = (struct soothe__train_row){batch.n_tokens, 0, SOOTHE__ROW_PLAIN, 0};
            t->batch.token[batch.n_tokens++] = text->tokens[i];
        }
        text_start[++batch.n_texts] = batch.n_tokens;
    }
    const enum soothe_status status = rows && *h_t ? soothe__train_base_states(t->core, &batch, *h_t, err)
                                                   : soothe__fail(err, SOOTHE_E_MEMORY,
                                                                  "out of memory for the target's "
                                                                  "states");
    free(rows);
    return status;
}

static enum soothe_status compute_group(struct soothe__target_states *t, uint32_t group, struct soothe_error *err) {
    const float *h_t = NULL, *h_c = NULL;
    float       *fresh = NULL;
    size_t       total = 0;
    for (uint32_t k = t->starts[group]; k < t->starts[group + 1]; k++)
        total += n_rows(&t->corpus->texts[t->members[k]]);
    enum soothe_status status =
        t->core ? run_core(t, group, total, &fresh, err) : run_session(t, group, total, &h_t, &h_c, err);
    h_t = t->core ? fresh : h_t;
    for (uint32_t k = t->starts[group]; k < t->starts[group + 1] && !status; k++) {
        const uint32_t i_text = t->members[k];
        const size_t   rows   = n_rows(&t->corpus->texts[i_text]);
        status                = keep(t, i_text, h_t, h_c, err);
        h_t += rows * (size_t)t->d;
        h_c = h_c ? h_c + rows * (size_t)t->d_cal : NULL;
    }
    free(fresh);
    return status;
}

/* n values from the from-th on of a text's block. */
static enum soothe_status read_kept(const struct soothe__target_states *t, const struct kept *kept, size_t from,
                                    size_t n, uint16_t *out, struct soothe_error *err) {
    const int64_t offset = kept->offset + (int64_t)(from * sizeof *out);
    if (kept->rows) {
        memcpy(out, kept->rows + from, n * sizeof *out);
        return SOOTHE_OK;
    }
    if (t->cache)
        return soothe__state_file_read(t->cache, offset, n, out, err);
    errno = 0;
    if (fseeko(t->file, offset, SEEK_SET) != 0 || fread(out, sizeof *out, n, t->file) != n)
        return file_failed(err);
    return SOOTHE_OK;
}

enum soothe_status soothe__target_states_get(struct soothe__target_states *t, const uint32_t *i_texts, size_t n,
                                             uint16_t *h_t, uint16_t *h_c, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (size_t i = 0; i < n && !status; i++) {
        const struct kept *kept = &t->kept[i_texts[i]];
        if (t->group_of[i_texts[i]] == NO_GROUP)
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "text %u was not tokenised", i_texts[i]);
        if (!kept->rows && kept->offset < 0)
            status = compute_group(t, t->group_of[i_texts[i]], err);
        const size_t rows = n_rows(&t->corpus->texts[i_texts[i]]), n_t = rows * (size_t)t->d,
                     n_c = rows * (size_t)t->d_cal;
        if (!status)
            status = read_kept(t, kept, 0, n_t, h_t, err);
        if (!status && n_c && h_c)
            status = read_kept(t, kept, n_t, n_c, h_c, err);
        h_t += n_t;
        h_c = h_c ? h_c + n_c : NULL;
    }
    return status;
}
