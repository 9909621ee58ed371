/* SPDX-License-Identifier: Apache-2.0
 * How well probes tell toxic from clean texts, after few tokens and after all. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sigmoid.h"
#include "base/statistics.h"
#include "engine/text_tokens.h"
#include "score/probe.h"

const int32_t SOOTHE__PREFIXES[SOOTHE__N_PREFIXES] = {1, 5, 10, 20, INT32_MAX};

/* ---- tokens ------------------------------------------------------------------------------------------------ */

static enum soothe_status add_tokens(struct soothe__token_list *list, const struct llama_vocab *vocab, const char *text,
                                     uint32_t i_item, int32_t n_max, struct soothe_error *err) {
    llama_token       *tokens;
    int32_t            n;
    enum soothe_status status = soothe__tokenize(&tokens, &n, vocab, text, strlen(text), SOOTHE__TOKENIZE_START, err);
    if (status)
        return status;
    if (n == 0) { /* an empty text: what generation without a prompt starts from */
        free(tokens);
        tokens = soothe__calloc(1, sizeof *tokens);
        if (!tokens)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the tokens of a text");
        tokens[0] = soothe__start_token(vocab);
        n         = 1;
    }
    list->n_cut += n > n_max;
    n                        = n > n_max ? n_max : n;
    list->texts[list->n]     = (struct soothe__token_text){tokens, n};
    list->i_items[list->n++] = i_item;
    list->n_tokens += n;
    return SOOTHE_OK;
}

enum soothe_status soothe__token_list_make(struct soothe__token_list *list, const struct llama_model *model,
                                           const struct soothe__probe_texts *texts, unsigned part_mask,
                                           int32_t n_tokens_max, struct soothe_error *err) {
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    *list                           = (struct soothe__token_list){.n = 0};
    list->texts                     = soothe__calloc(texts->n + 1, sizeof *list->texts);
    list->i_items                   = soothe__calloc(texts->n + 1, sizeof *list->i_items);
    enum soothe_status status       = SOOTHE_OK;
    if (!list->texts || !list->i_items)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", texts->n);
    for (size_t i = 0; i < texts->n && !status; i++)
        if (part_mask & 1u << texts->items[i].part)
            status = add_tokens(list, vocab, texts->items[i].text, (uint32_t)i, n_tokens_max, err);
    if (status)
        soothe__token_list_free(list);
    return status;
}

void soothe__token_list_free(struct soothe__token_list *list) {
    for (size_t i = 0; i < list->n; i++)
        free((llama_token *)(uintptr_t)list->texts[i].tokens);
    free(list->texts);
    free(list->i_items);
    memset(list, 0, sizeof *list);
}

/* ---- figures of scores -------------------------------------------------------------------------------------- */

/* Scores and labels of one source (i_source), or of all (n_sources). */
struct column {
    double        *scores;
    unsigned char *labels;
    size_t         n, n_toxic;
};

static void gather(struct column *c, const double *scores, size_t stride, const uint32_t *i_items, size_t n,
                   const struct soothe__probe_texts *texts, size_t i_source) {
    c->n = c->n_toxic = 0;
    for (size_t i = 0; i < n; i++) {
        const struct soothe__probe_text *item = &texts->items[i_items[i]];
        if ((i_source != texts->n_sources && item->i_source != i_source) || item->label == SOOTHE__LABEL_NONE)
            continue;
        c->scores[c->n]   = scores[i * stride];
        c->labels[c->n++] = item->label;
        c->n_toxic += item->label;
    }
}

static bool column_init(struct column *c, size_t n) {
    c->scores = soothe__calloc(n + 1, sizeof *c->scores);
    c->labels = soothe__calloc(n + 1, sizeof *c->labels);
    return c->scores && c->labels;
}

static void column_free(struct column *c) {
    free(c->scores);
    free(c->labels);
}

double soothe__auc_by_source(const double *scores, const uint32_t *i_items, size_t n,
                             const struct soothe__probe_texts *texts) {
    struct column c     = {NULL, NULL, 0, 0};
    double        sum   = 0;
    size_t        n_auc = 0;
    for (size_t s = 0; column_init(&c, n) && s < texts->n_sources; s++) {
        gather(&c, scores, 1, i_items, n, texts, s);
        const double auc = soothe__roc_auc(c.scores, c.labels, c.n);
        if (isfinite(auc)) {
            sum += auc;
            n_auc++;
        }
        column_free(&c);
    }
    column_free(&c);
    return n_auc ? sum / (double)n_auc : (double)NAN;
}

/* ---- a pass ----------------------------------------------------------------------------------------------------- */

struct pass {
    struct soothe__probe *const     *probes;
    size_t                           n_probes, n_done;
    const struct soothe__token_list *list;
    double                          *logits; /* (n_probes, n texts, N_PREFIXES) */
    struct soothe__progress          progress;
    bool                             show_progress;
};

static enum soothe_status take(void *user, size_t i, const float *const *states, int32_t n_tokens,
                               struct soothe_error *err) {
    struct pass *p = user;
    (void)err;
    for (size_t k = 0; k < p->n_probes; k++)
        soothe__probe_prefix_logits(p->probes[k], states[k], n_tokens, SOOTHE__PREFIXES, SOOTHE__N_PREFIXES,
                                    p->logits + (k * p->list->n + i) * SOOTHE__N_PREFIXES);
    if (p->show_progress && ++p->n_done % 64 == 0)
        soothe__progress_update(&p->progress, (double)p->n_done / (double)p->list->n, "measuring");
    return SOOTHE_OK;
}

static void figures_of(struct soothe__probe_figures *f, const double *logits, struct column *c,
                       const struct soothe__token_list *list, const struct soothe__probe_texts *texts,
                       size_t i_source) {
    for (int k = 0; k < SOOTHE__N_PREFIXES; k++) {
        gather(c, logits + k, SOOTHE__N_PREFIXES, list->i_items, list->n, texts, i_source);
        f->auc[k] = soothe__roc_auc(c->scores, c->labels, c->n);
    }
    f->n       = c->n;
    f->n_toxic = c->n_toxic;
    for (size_t i = 0; i < c->n; i++)
        c->scores[i] = soothe__sigmoid(c->scores[i]);
    f->calibration_error = soothe__calibration_error(c->scores, c->labels, c->n, 10, NULL);
}

/* The last one's areas become the mean of the others'. */
static void average(struct soothe__probe_figures *f, size_t n_sources) {
    for (int k = 0; k < SOOTHE__N_PREFIXES; k++) {
        double sum = 0;
        size_t n   = 0;
        for (size_t s = 0; s < n_sources; s++)
            if (isfinite(f[s].auc[k])) {
                sum += f[s].auc[k];
                n++;
            }
        f[n_sources].auc[k] = n ? sum / (double)n : (double)NAN;
    }
}

static enum soothe_status read_all(struct pass *p, struct llama_model *model, int32_t n_tokens_max, int32_t n_threads,
                                   struct soothe_error *err) {
    struct soothe__layer_reader *reader = NULL;
    int32_t                     *layers = soothe__calloc(p->n_probes + 1, sizeof *layers);
    enum soothe_status status = layers ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for layers");
    for (size_t k = 0; k < p->n_probes && !status; k++) {
        layers[k] = p->probes[k]->layer;
        if (p->probes[k]->d != llama_model_n_embd(model))
            status = soothe__fail(err, SOOTHE_E_SHAPE, "a probe of width %d for a model of width %d", p->probes[k]->d,
                                  llama_model_n_embd(model));
    }
    if (!status)
        status = soothe__layer_reader_new(&reader, model, layers, p->n_probes, n_tokens_max, n_threads, err);
    if (!status)
        status = soothe__layer_reader_read(reader, p->list->texts, p->list->n, take, p, err);
    soothe__layer_reader_free(reader);
    free(layers);
    return status;
}

enum soothe_status soothe__probe_test(struct llama_model *model, struct soothe__probe *const *probes, size_t n_probes,
                                      const struct soothe__probe_texts *texts, unsigned part_mask, int32_t n_tokens_max,
                                      int32_t n_threads, bool show_progress, struct soothe__probe_figures *figures,
                                      struct soothe_error *err) {
    struct soothe__token_list list;
    struct column             c      = {NULL, NULL, 0, 0};
    enum soothe_status        status = soothe__token_list_make(&list, model, texts, part_mask, n_tokens_max, err);
    if (status)
        return status;
    struct pass p = {.probes        = probes,
                     .n_probes      = n_probes,
                     .list          = &list,
                     .progress      = soothe__progress_start(),
                     .show_progress = show_progress};
    p.logits      = soothe__calloc(n_probes * (list.n + 1), SOOTHE__N_PREFIXES * sizeof *p.logits);
    if (!p.logits || !column_init(&c, list.n))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the scores of %zu texts", list.n);
    if (!status)
        status = read_all(&p, model, n_tokens_max, n_threads, err);
    if (show_progress)
        soothe__progress_finish(&p.progress);
    const size_t n_columns = texts->n_sources + 1;
    for (size_t k = 0; k < n_probes && !status; k++) {
        for (size_t s = 0; s < n_columns; s++)
            figures_of(&figures[k * n_columns + s], p.logits + k * list.n * SOOTHE__N_PREFIXES, &c, &list, texts, s);
        average(figures + k * n_columns, texts->n_sources);
    }
    column_free(&c);
    free(p.logits);
    soothe__token_list_free(&list);
    return status;
}
