/* SPDX-License-Identifier: Apache-2.0
 * The blocks of a calibrator as a model of the engine: a cut of the base with the delta laid over it, given to the
 * engine as a file in memory.
 *
 * Where the architecture's first block takes the embedding's rows as they are, the embedding does not go along, nor the
 * vocabulary: rows are read from the base's own file when a token comes (file_rows.h), and handed to the engine as
 * states. That saves the larger part of a small calibrator's memory (SmolLM2: 30 of 36 MB and the vocabulary), and a
 * vocabulary of one token spares the engine copying V logits a row that nobody computed. */
#ifdef __linux__
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create */
#endif
#include <sys/mman.h>
#include <unistd.h>
#endif
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusion/calibrator_model.h"

#define EMBEDDING "token_embd.weight"

/* What a model is made of: the tensors and metadata of from, to which delta (may be NULL) is added. */
struct making {
    struct soothe_calibrator              *cal;
    const struct soothe__gguf             *from, *delta;
    const struct soothe_calibrator_params *p;
};

/* The engine never computes the calibrator's head, but some architectures cannot load without one. */
static bool head_is_optional(const char *architecture) {
    static const char *const names[] = {"llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(architecture, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Does its first block take the embedding's rows as they are? (Gemma scales them where they come by token.) */
static bool embeds_plainly(const char *architecture) {
    return strcmp(architecture, "llama") == 0 || strcmp(architecture, "qwen2") == 0 ||
           strcmp(architecture, "qwen3") == 0;
}

static bool is_wide_type(enum ggml_type type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16;
}

/* Adds one tensor: as it is in from, or with the delta's values added, or in a smaller data type. */
static enum soothe_status plan_tensor(struct soothe__gguf_plan *plan, const struct soothe__gguf *from, int64_t i,
                                      const struct soothe__gguf *delta, const struct soothe_calibrator_params *p,
                                      struct soothe_error *err) {
    const char    *name    = gguf_get_tensor_name(from->meta, i);
    const int64_t *ne      = gguf_get_tensor_ne(from->meta, i);
    const int64_t  i_delta = delta ? gguf_find_tensor(delta->meta, name) : -1;
    const bool     matrix  = ne[1] > 1 && ne[2] == 1 && ne[3] == 1;
    const bool     shrink  = !p->keep_type && matrix && soothe__block_of_tensor(name) >= 0 &&
                        is_wide_type(gguf_get_tensor_type(from->meta, i)) && !is_wide_type(p->block_type);
    if (i_delta < 0 && !shrink) {
        return soothe__gguf_plan_copy(plan, from, i, err);
    }
    const int64_t      n      = soothe__gguf_n_elements(from, i);
    float             *values = NULL, *change = NULL;
    enum soothe_status status = soothe__gguf_read_f32(from, i, &values, err);
    if (status == SOOTHE_OK && i_delta >= 0) {
        status = soothe__gguf_get_f32(delta, name, n, &change, err);
    }
    for (int64_t k = 0; k < n && status == SOOTHE_OK && change; k++) {
        values[k] += change[k];
    }
    if (status == SOOTHE_OK) {
        const enum ggml_type type = !matrix ? GGML_TYPE_F32 : p->keep_type ? GGML_TYPE_F32 : p->block_type;
        status                    = soothe__gguf_plan_add(plan, name, values, matrix ? 2 : 1, ne, type, err);
    }
    free(values);
    free(change);
    return status;
}

static enum soothe_status check_copied(const struct soothe__gguf *g, int64_t i, struct soothe_error *err) {
    enum { CHUNK = 1 << 20 };
    const enum ggml_type type = gguf_get_tensor_type(g->meta, i);
    const size_t         size = gguf_get_tensor_size(g->meta, i), block = ggml_type_size(type);
    const size_t         chunk = block > CHUNK ? block : CHUNK / block * block;
    void                *data  = soothe__calloc(chunk, 1);
    enum soothe_status   status =
        data ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory checking %s", g->path);
    for (size_t at = 0; at < size && !status; at += chunk) {
        const size_t n = size - at < chunk ? size - at : chunk;
        status         = soothe__gguf_read(g, i, at, data, n, err);
        if (!status && !ggml_validate_row_data(type, data, n)) {
            status = soothe__fail(err, SOOTHE_E_NUMERIC, "tensor %s of %s holds values that are not finite",
                                  gguf_get_tensor_name(g->meta, i), g->path);
        }
    }
    free(data);
    return status;
}

static void remove_vocabulary(struct gguf_context *meta) {
    for (int64_t i = gguf_get_n_kv(meta); i-- > 0;) {
        if (strncmp(gguf_get_key(meta, i), "tokenizer.", 10) == 0) {
            gguf_remove_key(meta, gguf_get_key(meta, i));
        }
    }
}

/* Puts the target's vocabulary in the place of the file's own: they are the same where the file is honest, and
 * the engine, which trusts the arrays of a vocabulary, has read the target's already. */
static enum soothe_status take_vocabulary(struct gguf_context *meta, const struct soothe__gguf *target,
                                          struct soothe_error *err) {
    struct gguf_context *vocabulary = gguf_init_empty();
    if (!vocabulary) {
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the vocabulary of %s", target->path);
    }
    remove_vocabulary(meta);
    gguf_set_kv(vocabulary, target->meta);
    for (int64_t i = gguf_get_n_kv(vocabulary); i-- > 0;) {
        if (strncmp(gguf_get_key(vocabulary, i), "tokenizer.", 10) != 0) {
            gguf_remove_key(vocabulary, gguf_get_key(vocabulary, i));
        }
    }
    gguf_set_kv(meta, vocabulary);
    gguf_free(vocabulary);
    return SOOTHE_OK;
}

/* In the place of vocabulary and embedding: one token, which nobody asks for. */
static enum soothe_status plan_without_tokens(struct soothe__gguf_plan *plan, const struct soothe__model_facts *facts,
                                              struct soothe_error *err) {
    char   key[256];
    float *row = soothe__calloc(facts->d, sizeof *row);
    if (!row) {
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the calibrator in memory");
    }
    remove_vocabulary(plan->meta);
    gguf_set_val_str(plan->meta, "tokenizer.ggml.model", "no_vocab");
    snprintf(key, sizeof key, "%s.vocab_size", facts->architecture);
    gguf_set_val_u32(plan->meta, key, 1);
    const enum soothe_status status =
        soothe__gguf_plan_add(plan, EMBEDDING, row, 2, (int64_t[]){facts->d, 1}, GGML_TYPE_F32, err);
    free(row);
    return status;
}

static enum soothe_status plan_model(struct soothe__gguf_plan *plan, const struct making *m, bool with_tokens,
                                     struct soothe_error *err) {
    struct soothe__model_facts facts;
    const struct soothe__gguf *from     = m->from;
    const uint32_t             n_blocks = (uint32_t)m->cal->n_blocks;
    enum soothe_status         status   = soothe__model_facts(&facts, from, err);
    if (status == SOOTHE_OK) {
        status = soothe__gguf_plan_cut_metadata(plan, from, n_blocks, err);
    }
    if (status == SOOTHE_OK && !with_tokens) {
        status = plan_without_tokens(plan, &facts, err);
    }
    const bool    skip_head = status == SOOTHE_OK && head_is_optional(facts.architecture);
    const int64_t n         = gguf_get_n_tensors(from->meta);
    for (int64_t i = 0; i < n && status == SOOTHE_OK; i++) {
        const char *name = gguf_get_tensor_name(from->meta, i);
        if (strncmp(name, "soothe.", 7) == 0 || soothe__block_of_tensor(name) >= (int32_t)n_blocks ||
            (skip_head && strcmp(name, "output.weight") == 0)) {
            continue;
        }
        status = check_copied(from, i, err);
        if (status == SOOTHE_OK && (with_tokens || strcmp(name, EMBEDDING) != 0)) {
            status = plan_tensor(plan, from, i, m->delta, m->p, err);
        }
    }
    return status;
}

static FILE *memory_file(void) {
#ifdef __linux__
    const int fd = memfd_create("soothe-calibrator", MFD_CLOEXEC);
    if (fd >= 0) {
        FILE *stream = fdopen(fd, "w+b");
        if (!stream) {
            close(fd);
        }
        return stream;
    }
#endif
    return tmpfile();
}

/* The plan written to a file in memory and loaded from there. *memory is the caller's to close, with an error, too. */
static enum soothe_status load_plan(struct llama_model **model, FILE **memory, const struct soothe__gguf_plan *plan,
                                    const struct llama_model_params *mp, const char *path, struct soothe_error *err) {
    *memory = memory_file();
    if (!*memory) {
        return soothe__fail(err, SOOTHE_E_IO, "cannot make a file in memory: %s", strerror(errno));
    }
    const enum soothe_status status = soothe__gguf_plan_write(plan, *memory, "the calibrator in memory", err);
    if (status != SOOTHE_OK) {
        return status;
    }
    rewind(*memory);
    *model = llama_model_load_from_file_ptr(*memory, *mp);
    return *model ? SOOTHE_OK
                  : soothe__fail(err, SOOTHE_E_ENGINE, "the engine cannot load the blocks of calibrator %s", path);
}

/* Who follows the text needs the vocabulary, which the model itself then does not have. */
static enum soothe_status load_vocabulary(const struct making *m, struct soothe_error *err) {
    struct soothe__gguf_plan  plan;
    struct llama_model_params mp     = llama_model_default_params();
    FILE                     *memory = NULL;
    enum soothe_status        status = soothe__gguf_plan_new(&plan, 1, err);
    if (status != SOOTHE_OK) {
        return status;
    }
    mp.vocab_only = true;
    status        = soothe__gguf_plan_cut_metadata(&plan, m->from, (uint32_t)m->cal->n_blocks, err);
    if (status == SOOTHE_OK) { /* the engine opens no file without tensors */
        status = soothe__gguf_plan_add(&plan, EMBEDDING, (float[]){0}, 1, (int64_t[]){1}, GGML_TYPE_F32, err);
    }
    if (status == SOOTHE_OK) {
        status = load_plan(&m->cal->vocabulary, &memory, &plan, &mp, m->cal->path, err);
    }
    if (memory) {
        fclose(memory);
    }
    soothe__gguf_plan_free(&plan);
    return status;
}

static enum soothe_status load_blocks(const struct making *m, const struct soothe__gguf *vocabulary, bool with_tokens,
                                      struct soothe_error *err) {
    struct soothe_calibrator *cal = m->cal;
    struct soothe__gguf_plan  plan;
    struct llama_model_params mp     = llama_model_default_params();
    enum soothe_status        status = soothe__gguf_plan_new(&plan, (size_t)gguf_get_n_tensors(m->from->meta) + 1, err);
    if (status != SOOTHE_OK) {
        return status;
    }
    mp.n_gpu_layers = m->p->n_gpu_layers;
    status          = plan_model(&plan, m, with_tokens, err);
    if (status == SOOTHE_OK && vocabulary && with_tokens) {
        status = take_vocabulary(plan.meta, vocabulary, err);
    }
    if (status == SOOTHE_OK) {
        status = load_plan(&cal->model, &cal->memory, &plan, &mp, cal->path, err);
    }
    if (status == SOOTHE_OK && llama_model_n_embd(cal->model) != cal->fusion.d_cal) {
        status = soothe__fail(err, SOOTHE_E_SHAPE, "the blocks of calibrator %s have width %d, its metadata says %d",
                              cal->path, llama_model_n_embd(cal->model), cal->fusion.d_cal);
    }
    soothe__gguf_plan_free(&plan);
    return status;
}

/* Of the embedding of `from`, where its rows alone will do. A delta may change it in principle; training does not. */
static bool can_share_embedding(const struct making *m, const struct soothe__model_facts *facts) {
    const int64_t  i  = gguf_find_tensor(m->from->meta, EMBEDDING);
    const int64_t *ne = i < 0 ? NULL : gguf_get_tensor_ne(m->from->meta, i);
    return ne && embeds_plainly(facts->architecture) && ne[0] == facts->d && ne[1] == facts->n_vocab &&
           !(m->delta && gguf_find_tensor(m->delta->meta, EMBEDDING) >= 0);
}

enum soothe_status soothe__calibrator_load_model(struct soothe_calibrator *cal, const struct soothe__gguf *from,
                                                 const struct soothe__gguf             *delta,
                                                 const struct soothe__gguf             *vocabulary,
                                                 const struct soothe_calibrator_params *p, struct soothe_error *err) {
    const struct making        m = {cal, from, delta, p};
    struct soothe__model_facts facts;
    enum soothe_status         status = soothe__model_facts(&facts, from, err);
    if (status != SOOTHE_OK) {
        return status;
    }
    const bool shares = can_share_embedding(&m, &facts);
    cal->n_vocab      = (int32_t)facts.n_vocab;
    if (shares) {
        status = soothe__file_rows_new(&cal->embedding, from, EMBEDDING, err);
    }
    if (status == SOOTHE_OK && shares && cal->by_text) {
        status = load_vocabulary(&m, err);
    }
    return status == SOOTHE_OK ? load_blocks(&m, vocabulary, !shares, err) : status;
}
