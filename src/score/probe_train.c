/* SPDX-License-Identifier: Apache-2.0
 * Training probes of many layers in one pass over the texts.
 *
 * LDA keeps sums alone of the training texts; logistic regression keeps their pooled states. The validation tenth's
 * pooled states are kept by both: they pick the penalty and the layer, and calibrate. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "score/platt.h"
#include "score/probe.h"
#include "score/probe_fit.h"

enum { TOKENS_DEFAULT = 128, TOKENS_KEPT = 4 /* of a text, where logistic regression learns from every token */ };

static const double SHRINKAGES[] = {0.3, 0.1, 0.03, 0.01, 0.003, 0.001};
static const double L2S[]        = {0.3, 0.1, 0.03, 0.01, 0.003, 0.001};
enum { N_PENALTIES = 6 };

struct rows { /* pooled states that are kept, of one layer */
    float *data;
    size_t n, capacity;
};

struct layer {
    int32_t                number;
    struct soothe__scatter scatter;
    struct rows            train, validation;
    struct soothe__probe  *probe;
    double                 penalty, auc;
};

struct trainer {
    const struct soothe__probe_options *o;
    const struct soothe__probe_texts   *texts;
    struct soothe__token_list           list;
    struct layer                       *layers;
    size_t                              n_layers, n_done;
    int32_t                             d;
    float                              *pooled;       /* (d) */
    unsigned char                      *train_labels; /* of the rows of train, the same in every layer */
    size_t                              n_train_labels, labels_capacity;
    uint32_t                           *validation_items;
    unsigned char                      *validation_labels;
    size_t                              n_validation, n_train;
    struct soothe__rng                  rng;
    struct soothe__progress             progress;
};

/* ---- the pass --------------------------------------------------------------------------------------------- */

static enum soothe_status keep_row(struct rows *r, const float *state, int32_t d, struct soothe_error *err) {
    if (r->n == r->capacity) {
        const size_t capacity = r->capacity ? 2 * r->capacity : 256;
        float       *data     = soothe__realloc(r->data, capacity, (size_t)d * sizeof *data);
        if (!data)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu states (fewer --layers need less)", r->n);
        r->data     = data;
        r->capacity = capacity;
    }
    memcpy(r->data + r->n++ * (size_t)d, state, (size_t)d * sizeof *state);
    return SOOTHE_OK;
}

static enum soothe_status keep_label(struct trainer *t, unsigned char label, struct soothe_error *err) {
    if (t->n_train_labels == t->labels_capacity) {
        const size_t   capacity = t->labels_capacity ? 2 * t->labels_capacity : 1024;
        unsigned char *labels   = soothe__realloc(t->train_labels, capacity, 1);
        if (!labels)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu labels", t->n_train_labels);
        t->train_labels    = labels;
        t->labels_capacity = capacity;
    }
    t->train_labels[t->n_train_labels++] = label;
    return SOOTHE_OK;
}

/* One state of one token position (-1: pooled) into every layer. */
static enum soothe_status learn(struct trainer *t, const float *const *states, int32_t n_tokens, int32_t position,
                                unsigned char label, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (size_t l = 0; l < t->n_layers && !status; l++) {
        const float *state = t->pooled;
        if (position >= 0)
            state = states[l] + (size_t)position * (size_t)t->d;
        else
            soothe__pool_states(t->o->pool, states[l], n_tokens, t->d, t->pooled);
        if (t->o->kind == SOOTHE__PROBE_LDA)
            soothe__scatter_add(&t->layers[l].scatter, state, label);
        else
            status = keep_row(&t->layers[l].train, state, t->d, err);
    }
    if (!status && t->o->kind == SOOTHE__PROBE_LOGISTIC)
        status = keep_label(t, label, err);
    return status;
}

static enum soothe_status learn_tokens(struct trainer *t, const float *const *states, int32_t n_tokens,
                                       unsigned char label, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    const int32_t      first  = n_tokens > 1 ? 1 : 0;
    if (t->o->kind == SOOTHE__PROBE_LDA || n_tokens - first <= TOKENS_KEPT) {
        for (int32_t k = first; k < n_tokens && !status; k++)
            status = learn(t, states, n_tokens, k, label, err);
        return status;
    }
    for (int k = 0; k < TOKENS_KEPT && !status; k++) {
        const int32_t at = first + (int32_t)soothe__rng_below(&t->rng, (uint32_t)(n_tokens - first));
        status           = learn(t, states, n_tokens, at, label, err);
    }
    return status;
}

static enum soothe_status take(void *user, size_t i, const float *const *states, int32_t n_tokens,
                               struct soothe_error *err) {
    struct trainer                  *t      = user;
    const uint32_t                   i_item = t->list.i_items[i];
    const struct soothe__probe_text *item   = &t->texts->items[i_item];
    enum soothe_status               status = SOOTHE_OK;
    if (t->o->show_progress && ++t->n_done % 64 == 0)
        soothe__progress_update(&t->progress, (double)t->n_done / (double)t->list.n, "reading states");
    if (item->label == SOOTHE__LABEL_NONE)
        return SOOTHE_OK;
    if (item->part == SOOTHE__PART_TRAIN) {
        t->n_train++;
        return t->o->pool == SOOTHE__POOL_TOKEN ? learn_tokens(t, states, n_tokens, item->label, err)
                                                : learn(t, states, n_tokens, -1, item->label, err);
    }
    for (size_t l = 0; l < t->n_layers && !status; l++) {
        soothe__pool_states(t->o->pool, states[l], n_tokens, t->d, t->pooled);
        status = keep_row(&t->layers[l].validation, t->pooled, t->d, err);
    }
    t->validation_items[t->n_validation]    = i_item;
    t->validation_labels[t->n_validation++] = item->label;
    return status;
}

static enum soothe_status read_states(struct trainer *t, struct llama_model *model, int32_t n_tokens_max,
                                      struct soothe_error *err) {
    struct soothe__layer_reader *reader = NULL;
    int32_t                     *layers = soothe__calloc(t->n_layers, sizeof *layers);
    if (!layers)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu layers", t->n_layers);
    for (size_t l = 0; l < t->n_layers; l++)
        layers[l] = t->layers[l].number;
    enum soothe_status status =
        soothe__layer_reader_new(&reader, model, layers, t->n_layers, n_tokens_max, t->o->n_threads, err);
    if (!status)
        status = soothe__layer_reader_read(reader, t->list.texts, t->list.n, take, t, err);
    if (t->o->show_progress)
        soothe__progress_finish(&t->progress);
    soothe__layer_reader_free(reader);
    free(layers);
    return status;
}

/* ---- fitting a layer ----------------------------------------------------------------------------------------- */

static enum soothe_status fit_once(struct trainer *t, struct layer *l, double penalty, double *w, double *b,
                                   struct soothe_error *err) {
    return t->o->kind == SOOTHE__PROBE_LDA
               ? soothe__lda_fit(&l->scatter, penalty, w, b, err)
               : soothe__probe_logistic_fit(l->train.data, t->train_labels, l->train.n, t->d, penalty, w, b, err);
}

static void score_validation(const struct trainer *t, const struct layer *l, const double *w, double b,
                             double *scores) {
    for (size_t i = 0; i < l->validation.n; i++) {
        const float *x = l->validation.data + i * (size_t)t->d;
        scores[i]      = b;
        for (int32_t j = 0; j < t->d; j++)
            scores[i] += w[j] * (double)x[j];
    }
}

/* The penalty with the best validation AUC; without validation texts the middle one. */
static enum soothe_status fit_layer(struct trainer *t, struct layer *l, struct soothe_error *err) {
    const size_t  d         = (size_t)t->d;
    const double *penalties = t->o->kind == SOOTHE__PROBE_LDA ? SHRINKAGES : L2S;
    double *w = soothe__calloc(2 * d, sizeof *w), *scores = soothe__calloc(2 * (t->n_validation + 1), sizeof *scores);
    double *best = w ? w + d : NULL, b = 0, slope, offset, best_b = 0;
    enum soothe_status status = SOOTHE_OK;
    if (!w || !scores) {
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a probe of %zu features", d);
        goto done;
    }
    l->auc = NAN;
    for (int k = 0; k < N_PENALTIES && !status; k++) {
        status = fit_once(t, l, penalties[k], w, &b, err);
        if (status)
            break;
        score_validation(t, l, w, b, scores);
        const double auc = soothe__auc_by_source(scores, t->validation_items, t->n_validation, t->texts);
        if (k == 0 || auc > l->auc || (isnan(auc) && k == N_PENALTIES / 2)) {
            l->auc     = auc;
            l->penalty = penalties[k];
            best_b     = b;
            memcpy(best, w, d * sizeof *w);
        }
    }
    if (status)
        goto done;
    score_validation(t, l, best, best_b, scores);
    soothe__platt_fit_any_scale(&slope, &offset, scores, t->validation_labels, t->n_validation);
    for (size_t j = 0; j < d; j++)
        l->probe->weight[j] = (float)(best[j] * slope);
    l->probe->bias = (double)(float)(best_b * slope + offset);
done:
    free(w);
    free(scores);
    return status;
}

static enum soothe_status fit_layers(struct trainer *t, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (size_t l = 0; l < t->n_layers && !status; l++) {
        status = fit_layer(t, &t->layers[l], err);
        if (t->o->show_progress)
            soothe__progress_update(&t->progress, (double)(l + 1) / (double)t->n_layers, "fitting");
    }
    if (t->o->show_progress)
        soothe__progress_finish(&t->progress);
    return status;
}

/* ---- setting up ------------------------------------------------------------------------------------------------ */

static enum soothe_status make_layers(struct trainer *t, struct llama_model *model, struct soothe_error *err) {
    const int32_t n_blocks = llama_model_n_layer(model);
    t->n_layers            = t->o->layers ? t->o->n_layers : (size_t)n_blocks + 1;
    t->layers              = soothe__calloc(t->n_layers + 1, sizeof *t->layers);
    enum soothe_status status =
        t->layers ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu layers", t->n_layers);
    for (size_t l = 0; l < t->n_layers && !status; l++) {
        struct layer *layer = &t->layers[l];
        layer->number       = t->o->layers ? t->o->layers[l] : l < (size_t)n_blocks ? (int32_t)l : SOOTHE__LAYER_FINAL;
        layer->probe        = soothe__calloc(1, sizeof *layer->probe);
        if (layer->probe) {
            *layer->probe =
                (struct soothe__probe){.layer = layer->number, .d = t->d, .pool = t->o->pool, .kind = t->o->kind};
            layer->probe->weight = soothe__calloc((size_t)t->d, sizeof(float));
        }
        if (!layer->probe || !layer->probe->weight)
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu layers", t->n_layers);
        else if (t->o->kind == SOOTHE__PROBE_LDA)
            status = soothe__scatter_init(&layer->scatter, t->d, err);
    }
    return status;
}

static void free_trainer(struct trainer *t) {
    for (size_t l = 0; t->layers && l < t->n_layers; l++) {
        soothe__scatter_free(&t->layers[l].scatter);
        free(t->layers[l].train.data);
        free(t->layers[l].validation.data);
        soothe__probe_free(t->layers[l].probe);
    }
    free(t->layers);
    free(t->pooled);
    free(t->train_labels);
    free(t->validation_items);
    free(t->validation_labels);
    soothe__token_list_free(&t->list);
}

/* ---- the report -------------------------------------------------------------------------------------------------- */

static enum soothe_status held_out(struct trainer *t, struct soothe__probe_report *r, struct llama_model *model,
                                   int32_t n_tokens_max, struct soothe_error *err) {
    const size_t                  n_columns = t->texts->n_sources + 1;
    struct soothe__probe        **probes    = soothe__calloc(t->n_layers, sizeof *probes);
    struct soothe__probe_figures *all       = soothe__calloc(t->n_layers * n_columns, sizeof *all);
    r->layers                               = soothe__calloc(t->n_layers, sizeof *r->layers);
    enum soothe_status status               = SOOTHE_OK;
    if (!probes || !all || !r->layers) {
        free(all);
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the figures");
        goto done;
    }
    for (size_t l = 0; l < t->n_layers; l++) {
        probes[l]    = t->layers[l].probe;
        r->layers[l] = (struct soothe__probe_layer){.layer          = t->layers[l].number,
                                                    .penalty        = t->layers[l].penalty,
                                                    .validation_auc = t->layers[l].auc,
                                                    .held_out       = all + l * n_columns};
        if (t->layers[l].auc > t->layers[r->i_best].auc)
            r->i_best = l;
    }
    r->n_layers = t->n_layers; /* from here on all is the report's, by its first layer */
    status      = soothe__probe_test(model, probes, t->n_layers, t->texts, 1u << SOOTHE__PART_HELD_OUT, n_tokens_max,
                                     t->o->n_threads, t->o->show_progress, all, err);
done:
    free(probes);
    return status;
}

static enum soothe_status name_model(struct soothe__probe *p, const char *model_path, struct soothe_error *err) {
    struct soothe__gguf        g;
    struct soothe__model_facts facts;
    enum soothe_status         status = soothe__gguf_open(&g, model_path, err);
    if (status)
        return status;
    status = soothe__model_facts(&facts, &g, err);
    if (!status)
        status = soothe__model_fingerprint(p->target, &g, err);
    if (!status && !(p->target_name = soothe__strdup(facts.name)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory naming the model");
    soothe__gguf_close(&g);
    return status;
}

enum soothe_status soothe__probe_train(struct soothe__probe **probe, struct soothe__probe_report *report,
                                       struct llama_model *model, const char *model_path,
                                       const struct soothe__probe_texts   *texts,
                                       const struct soothe__probe_options *options, struct soothe_error *err) {
    const int32_t  n_tokens_max = options->n_tokens_max > 0 ? options->n_tokens_max : TOKENS_DEFAULT;
    const unsigned parts        = 1u << SOOTHE__PART_TRAIN | 1u << SOOTHE__PART_VALIDATION;
    struct trainer t            = {.o        = options,
                                   .texts    = texts,
                                   .d        = llama_model_n_embd(model),
                                   .rng      = soothe__rng_seed(0, 0),
                                   .progress = soothe__progress_start()};
    *probe                      = NULL;
    memset(report, 0, sizeof *report);
    t.pooled                  = soothe__calloc((size_t)t.d, sizeof *t.pooled);
    t.validation_items        = soothe__calloc(texts->n + 1, sizeof *t.validation_items);
    t.validation_labels       = soothe__calloc(texts->n + 1, 1);
    enum soothe_status status = t.pooled && t.validation_items && t.validation_labels
                                    ? soothe__token_list_make(&t.list, model, texts, parts, n_tokens_max, err)
                                    : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", texts->n);
    if (!status)
        status = make_layers(&t, model, err);
    if (!status)
        status = read_states(&t, model, n_tokens_max, err);
    if (!status)
        status = fit_layers(&t, err);
    if (!status)
        status = held_out(&t, report, model, n_tokens_max, err);
    if (!status) {
        *probe                         = t.layers[report->i_best].probe;
        t.layers[report->i_best].probe = NULL;
        report->n_train                = t.n_train;
        report->n_validation           = t.n_validation;
        report->n_tokens               = t.list.n_tokens;
        report->n_cut                  = t.list.n_cut;
        report->seconds                = soothe__seconds() - t.progress.started;
        status                         = name_model(*probe, model_path, err);
    }
    if (status) {
        soothe__probe_free(*probe);
        *probe = NULL;
        soothe__probe_report_free(report);
    }
    free_trainer(&t);
    return status;
}

void soothe__probe_report_free(struct soothe__probe_report *r) {
    if (r->n_layers)
        free(r->layers[0].held_out);
    free(r->layers);
    memset(r, 0, sizeof *r);
}
