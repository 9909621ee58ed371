/* SPDX-License-Identifier: Apache-2.0
 * The kind "FILE.gguf" of a classifier: an encoder (BERT, RoBERTa as BERT, ModernBERT, NeoBERT) or a decoder (Qwen3)
 * with a classification head, which the engine pools itself (LLAMA_POOLING_TYPE_RANK).
 *   FILE.gguf                     the toxic labels by their words
 *   FILE.gguf#label=NAME,NAME     these labels, by name or number
 * A text longer than the context is cut into windows that overlap by a quarter; its score is that of its worst one. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/text_tokens.h"
#include "score/classifier_labels.h"
#include "score/scorer.h"

enum {
    WINDOW_MAX  = 512, /* tokens; attention costs their square, and few classifiers were trained on more */
    N_SEQUENCES = 64   /* windows judged at once, where they fit into one batch                          */
};

struct classifier {
    struct llama_model     *model;
    struct llama_context   *context;
    struct llama_batch      batch;
    llama_token             before[4], after[4]; /* special tokens around every window */
    int32_t                 n_before, n_after, window, n_batch;
    size_t                  n_labels;
    bool                   *chosen;
    enum soothe__label_link link;
    /* the batch being filled: the text of each of its windows */
    size_t  text_of[N_SEQUENCES];
    int32_t n_windows;
};

static void close_classifier(void *self) {
    struct classifier *c = self;
    if (c->batch.token)
        llama_batch_free(c->batch);
    if (c->context)
        llama_free(c->context);
    if (c->model)
        llama_model_free(c->model);
    free(c->chosen);
    free(c);
}

/* ---- opening ---------------------------------------------------------------------------------------------- */

static bool takes(const char *spec, const char *general_type) {
    (void)spec;
    return general_type && strncmp(general_type, "soothe-", 7) != 0;
}

/* Without this tensor the engine would hand out numbers of the hidden state as if they were scores. */
static enum soothe_status check_head(const char *path, bool *probabilities, struct soothe_error *err) {
    struct soothe__gguf g;
    enum soothe_status  status = soothe__gguf_open(&g, path, err);
    if (status)
        return status;
    const char *architecture = soothe__gguf_find_string(&g, "general.architecture");
    if (!architecture || gguf_find_tensor(g.meta, "cls.output.weight") < 0)
        status = soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                              "%s has no classification head (no tensor cls.output.weight): it is no scorer", path);
    /* the engine puts a softmax behind the head of these */
    *probabilities = architecture && (strcmp(architecture, "qwen3") == 0 || strcmp(architecture, "qwen3vl") == 0);
    soothe__gguf_close(&g);
    return status;
}

static enum soothe_status open_context(struct classifier *c, const char *path, int32_t n_threads,
                                       struct soothe_error *err) {
    const int32_t               n_trained = llama_model_n_ctx_train(c->model);
    struct llama_context_params p         = llama_context_default_params();
    c->window                             = n_trained < WINDOW_MAX ? n_trained : WINDOW_MAX;
    c->n_batch                            = WINDOW_MAX; /* also of short texts: longer batches lose by attention */
    p.n_ctx = p.n_batch = p.n_ubatch = (uint32_t)c->n_batch;
    p.n_seq_max                      = N_SEQUENCES;
    p.kv_unified                     = true;
    p.embeddings                     = true;
    p.pooling_type                   = LLAMA_POOLING_TYPE_RANK;
    p.n_threads = p.n_threads_batch = soothe__thread_count(n_threads);
    c->context                      = llama_init_from_model(c->model, p);
    if (!c->context)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine cannot pool %s", path);
    c->batch = llama_batch_init(c->n_batch, 0, 1);
    return c->batch.token ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %s", path);
}

/* What the vocabulary puts around a text, seen by splitting one with and without. */
static enum soothe_status find_frame(struct classifier *c, const char *path, struct soothe_error *err) {
    const struct llama_vocab *vocab = llama_model_get_vocab(c->model);
    llama_token               framed[16], bare[16];
    const int32_t             n = llama_tokenize(vocab, "a", 1, framed, 16, true, false);
    const int32_t             m = llama_tokenize(vocab, "a", 1, bare, 16, false, false);
    for (int32_t from = 0; m > 0 && from + m <= n; from++) {
        if (memcmp(framed + from, bare, (size_t)m * sizeof *bare) != 0 || from > 4 || n - m - from > 4)
            continue;
        c->n_before = from;
        c->n_after  = n - m - from;
        memcpy(c->before, framed, (size_t)c->n_before * sizeof *framed);
        memcpy(c->after, framed + from + m, (size_t)c->n_after * sizeof *framed);
        if (c->window >= 4 * (c->n_before + c->n_after + 1))
            return SOOTHE_OK;
    }
    return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "the vocabulary or the context of %s (%d tokens) serves no text",
                        path, llama_model_n_ctx_train(c->model));
}

static enum soothe_status choose(struct classifier *c, const char *path, const char *wanted, bool probabilities,
                                 struct soothe_error *err) {
    c->n_labels               = llama_model_n_cls_out(c->model);
    c->chosen                 = soothe__calloc(c->n_labels + 1, sizeof *c->chosen);
    const char       **labels = soothe__calloc(c->n_labels + 1, sizeof *labels);
    enum soothe_status status = SOOTHE_OK;
    if (!c->chosen || !labels)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the labels of %s", path);
    for (size_t i = 0; !status && i < c->n_labels; i++) {
        labels[i] = llama_model_cls_label(c->model, (uint32_t)i);
        labels[i] = labels[i] ? labels[i] : "";
    }
    if (!status)
        status = soothe__choose_labels(c->chosen, &c->link, labels, c->n_labels, wanted, path, err);
    if (!status && probabilities && c->n_labels == 1)
        status = soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s has one label, of which the engine makes 1 for every text",
                              path);
    if (probabilities)
        c->link = SOOTHE__LINK_NONE;
    free(labels);
    return status;
}

/* The file's bytes, the choice among its labels, and how its texts are cut. */
static enum soothe_status identify(char identity[65], const struct classifier *c, const char *path,
                                   struct soothe_error *err) {
    char               file[65], how[80];
    enum soothe_status status = soothe__sha256_file(file, path, err);
    if (status)
        return status;
    struct soothe__sha256 *hash = soothe__sha256_new();
    if (!hash)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the hash of %s", path);
    snprintf(how, sizeof how, "classifier 1 %d %d ", (int)c->link, c->window);
    soothe__sha256_add(hash, how, strlen(how));
    soothe__sha256_add(hash, file, 64);
    soothe__sha256_add(hash, c->chosen, c->n_labels * sizeof *c->chosen);
    soothe__sha256_finish(hash, identity);
    return SOOTHE_OK;
}

static enum soothe_status open_file(struct classifier *c, char identity[65], const char *path, const char *wanted,
                                    int32_t n_threads, struct soothe_error *err) {
    bool               probabilities = false;
    enum soothe_status status        = check_head(path, &probabilities, err);
    if (status)
        return status;
    c->model = llama_model_load_from_file(path, llama_model_default_params());
    if (!c->model)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "the engine cannot load %s (SOOTHE_VERBOSE=1 shows what it says about it)", path);
    status = choose(c, path, wanted, probabilities, err);
    if (!status)
        status = open_context(c, path, n_threads, err);
    if (!status)
        status = find_frame(c, path, err);
    if (!status)
        status = identify(identity, c, path, err);
    return status;
}

static enum soothe_status open_classifier(void **self, char identity[65], const char *spec,
                                          const struct soothe__scorer_options *options, struct soothe_error *err) {
    static const char  OPTION[] = ".gguf#label=";
    const char        *mark     = strstr(spec, OPTION);
    char              *path     = mark ? soothe__format("%.*s.gguf", (int)(mark - spec), spec) : soothe__strdup(spec);
    struct classifier *c        = soothe__calloc(1, sizeof *c);
    enum soothe_status status;
    if (!path || !c)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening scorer %s", spec);
    else if (!mark && strstr(spec, ".gguf#"))
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "after the file's name there may be #label=NAME only: %s", spec);
    else
        status = open_file(c, identity, path, mark ? mark + sizeof OPTION - 1 : NULL, options->n_threads, err);
    free(path);
    if (status && c)
        close_classifier(c);
    *self = status ? NULL : c;
    return status;
}

/* ---- scoring ---------------------------------------------------------------------------------------------- */

/* Judges the windows of the batch: a text's score is the highest of its windows'. A window without a number takes its
 * text's score away for good: what was not judged is not clean. */
static enum soothe_status judge_batch(struct classifier *c, struct soothe__score *scores, struct soothe_error *err) {
    if (c->n_windows == 0)
        return SOOTHE_OK;
    llama_memory_t memory = llama_get_memory(c->context); /* of decoders; encoders have none */
    if (memory)
        llama_memory_clear(memory, true);
    if (llama_decode(c->context, c->batch) != 0)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine failed to judge a batch of %d tokens", c->batch.n_tokens);
    for (int32_t i = 0; i < c->n_windows; i++) {
        const float          *outputs = llama_get_embeddings_seq(c->context, i);
        struct soothe__score *s       = &scores[c->text_of[i]];
        const double          score   = outputs ? soothe__label_score(outputs, c->chosen, c->n_labels, c->link) : NAN;
        if (isnan(score))
            *s = soothe__no_score("the classifier's output is not finite");
        else if (!isnan(s->toxicity) && score > s->toxicity)
            s->toxicity = score;
    }
    c->n_windows      = 0;
    c->batch.n_tokens = 0;
    return SOOTHE_OK;
}

static void put(struct llama_batch *b, const llama_token *tokens, int32_t n, llama_pos *pos, llama_seq_id sequence) {
    for (int32_t i = 0; i < n; i++)
        soothe__batch_add(b, tokens[i], (*pos)++, sequence, true); /* pooling wants them all */
}

static enum soothe_status add_window(struct classifier *c, size_t i_text, const llama_token *tokens, int32_t n,
                                     struct soothe__score *scores, struct soothe_error *err) {
    const int32_t      size   = c->n_before + n + c->n_after;
    enum soothe_status status = SOOTHE_OK;
    if (c->n_windows == N_SEQUENCES || c->batch.n_tokens + size > c->n_batch)
        status = judge_batch(c, scores, err);
    if (status)
        return status;
    llama_pos pos = 0;
    put(&c->batch, c->before, c->n_before, &pos, c->n_windows);
    put(&c->batch, tokens, n, &pos, c->n_windows);
    put(&c->batch, c->after, c->n_after, &pos, c->n_windows);
    c->text_of[c->n_windows++] = i_text;
    return SOOTHE_OK;
}

/* Ranges of the text's tokens, each but the last one full, overlapping by a quarter. */
static enum soothe_status add_text(struct classifier *c, size_t i_text, const char *text, struct soothe__score *scores,
                                   struct soothe_error *err) {
    const struct llama_vocab *vocab = llama_model_get_vocab(c->model);
    llama_token              *tokens;
    int32_t                   n;
    struct soothe_error       why;
    /* as the start of a document, but for its special token: the frame has it */
    enum soothe_status status = soothe__tokenize(&tokens, &n, vocab, text, strlen(text), SOOTHE__TOKENIZE_START, &why);
    if (status == SOOTHE_E_MEMORY)
        return soothe__fail(err, status, "%s", why.message);
    if (status) {
        scores[i_text] = soothe__no_score("%s", why.message);
        return SOOTHE_OK;
    }
    const int32_t skip = llama_vocab_get_add_bos(vocab) ? 1 : 0, room = c->window - c->n_before - c->n_after;
    int32_t       from = skip;
    scores[i_text]     = (struct soothe__score){.toxicity = 0}; /* until its windows are judged */
    if (n == skip && c->n_before + c->n_after == 0)
        scores[i_text] = soothe__no_score("the text has no tokens");
    else
        do {
            const int32_t left = n - from, here = left < room ? left : room;
            status = add_window(c, i_text, tokens + from, here, scores, err);
            from   = here == left ? n : from + room - room / 4;
        } while (!status && from < n);
    free(tokens);
    return status;
}

static enum soothe_status score_texts(void *self, const char *const *texts, size_t n, struct soothe__score *scores,
                                      struct soothe_error *err) {
    struct classifier *c      = self;
    enum soothe_status status = SOOTHE_OK;
    c->n_windows              = 0;
    c->batch.n_tokens         = 0;
    for (size_t i = 0; i < n && !status; i++)
        status = add_text(c, i, texts[i], scores, err);
    return status ? status : judge_batch(c, scores, err);
}

extern const struct soothe__scorer_kind soothe__scorer_classifier;
const struct soothe__scorer_kind        soothe__scorer_classifier = {.name  = "classifier",
                                                                     .local = true,
                                                                     .takes = takes,
                                                                     .open  = open_classifier,
                                                                     .score = score_texts,
                                                                     .close = close_classifier};
