/* SPDX-License-Identifier: Apache-2.0 */
#include "train/control_vector_train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "corpus/corpus.h"
#include "engine/target_model.h"
#include "fusion/control_vector.h"
#include "score/layer_states.h"

enum { LAYERS_MAX = 1024, TEXTS_A_PIECE = 32 };

struct learner {
    const struct soothe__control_vector_request *r;
    struct soothe__control_vector_report        *report;
    struct llama_model                          *model;
    struct soothe__corpus                        corpus;
    struct soothe__layer_reader                 *reader;
    int32_t                                      d, n_layers;
    size_t                                       n_pairs, i_pair; /* to learn from; the first pair of the piece */
    double                                      *sums;            /* (n_layers, d) */
};

static const struct soothe__text *text_at(const struct learner *x, size_t i_text) {
    const struct soothe__pair *p = &x->corpus.pairs[x->i_pair + i_text / 2];
    return &x->corpus.texts[i_text % 2 ? p->i_rejected : p->i_chosen];
}

/* Even texts are chosen, odd ones rejected. */
static enum soothe_status take_states(void *user, size_t i_text, const float *const *states, int32_t n_tokens,
                                      struct soothe_error *err) {
    struct learner *x     = user;
    const int32_t   first = text_at(x, i_text)->first;
    const double    sign  = (i_text % 2 ? -1.0 : 1.0) / (n_tokens - first);
    (void)err;
    for (int32_t l = 0; l < x->n_layers; l++)
        for (int32_t t = first; t < n_tokens; t++)
            for (int32_t i = 0; i < x->d; i++)
                x->sums[(size_t)l * (size_t)x->d + (size_t)i] +=
                    sign * (double)states[l][(size_t)t * (size_t)x->d + (size_t)i];
    x->report->n_tokens += n_tokens;
    return SOOTHE_OK;
}

static enum soothe_status open_texts(struct learner *x, struct soothe_error *err) {
    enum soothe_status status = soothe__target_load(&x->model, x->r->model_path, 0, err);
    soothe__corpus_init(&x->corpus);
    for (size_t i = 0; i < x->r->n_data && !status; i++)
        status = soothe__corpus_read(&x->corpus, x->r->data_paths[i], err);
    if (!status)
        status = soothe__corpus_tokenize(&x->corpus, llama_model_get_vocab(x->model), x->r->max_length, NULL, err);
    if (status)
        return status;
    x->n_pairs = x->corpus.n_pairs;
    if (x->r->n_pairs_max && x->r->n_pairs_max < x->n_pairs)
        x->n_pairs = x->r->n_pairs_max;
    x->d        = llama_model_n_embd(x->model);
    x->n_layers = llama_model_n_layer(x->model) - 1;
    if (x->n_pairs == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "%s holds no pairs: lines {\"prompt\": …, \"chosen\": …, \"rejected\": …} are wanted",
                            x->r->data_paths[0]);
    if (x->n_layers < 1 || x->n_layers > LAYERS_MAX)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s has %d blocks: a control vector is for 2 to %d",
                            x->r->model_path, x->n_layers + 1, LAYERS_MAX + 1);
    x->sums = soothe__calloc((size_t)x->n_layers * (size_t)x->d, sizeof *x->sums);
    return x->sums ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d directions", x->n_layers);
}

static enum soothe_status read_states(struct learner *x, struct soothe_error *err) {
    int32_t                 layers[LAYERS_MAX];
    struct soothe__progress progress = soothe__progress_start();
    for (int32_t l = 0; l < x->n_layers; l++)
        layers[l] = l + 1;
    enum soothe_status status = soothe__layer_reader_new(&x->reader, x->model, layers, (size_t)x->n_layers,
                                                         x->r->max_length, x->r->n_threads, err);
    for (x->i_pair = 0; x->i_pair < x->n_pairs && !status; x->i_pair += TEXTS_A_PIECE / 2) {
        struct soothe__token_text texts[TEXTS_A_PIECE];
        const size_t              left = 2 * (x->n_pairs - x->i_pair), n = left < TEXTS_A_PIECE ? left : TEXTS_A_PIECE;
        for (size_t i = 0; i < n; i++)
            texts[i] = (struct soothe__token_text){text_at(x, i)->tokens, text_at(x, i)->n_tokens};
        if (x->r->stop && *x->r->stop)
            status = soothe__fail(err, SOOTHE_E_INTERRUPTED, "stopped after %zu of %zu pairs; nothing was written",
                                  x->i_pair, x->n_pairs);
        else
            status = soothe__layer_reader_read(x->reader, texts, n, take_states, x, err);
        if (x->r->show_progress)
            soothe__progress_update(&progress, (double)(x->i_pair + n / 2) / (double)x->n_pairs, "pairs read");
    }
    if (x->r->show_progress)
        soothe__progress_finish(&progress);
    return status;
}

static double norm_of(const float *x, int32_t n) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static enum soothe_status write_vector(struct learner *x, struct soothe_error *err) {
    const size_t                  n = (size_t)x->n_layers * (size_t)x->d;
    struct soothe__control_vector v = {
        .d = x->d, .n_layers = x->n_layers, .strength = x->r->strength, .values = soothe__calloc(n, sizeof *v.values)};
    struct soothe__fact      facts[3 + 8] = {{"soothe.training.method", "difference of means", 0},
                                             {"soothe.training.n_pairs", NULL, (double)x->n_pairs},
                                             {"soothe.training.max_length", NULL, x->r->max_length}};
    static const char *const KEYS[]       = {"soothe.training.data.0.sha256", "soothe.training.data.1.sha256",
                                             "soothe.training.data.2.sha256", "soothe.training.data.3.sha256"};
    size_t                   n_facts      = 3;
    if (!v.values)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d directions", x->n_layers);
    for (size_t i = 0; i < n; i++)
        v.values[i] = (float)(x->sums[i] / (double)x->n_pairs);
    for (size_t i = 0; i < x->corpus.n_sources && i < sizeof KEYS / sizeof *KEYS; i++)
        facts[n_facts++] = (struct soothe__fact){KEYS[i], x->corpus.sources[i].sha256, 0};
    x->report->norm_first  = norm_of(v.values, x->d);
    x->report->norm_middle = norm_of(v.values + (size_t)(x->n_layers / 2) * (size_t)x->d, x->d);
    x->report->norm_last   = norm_of(v.values + (size_t)(x->n_layers - 1) * (size_t)x->d, x->d);
    const enum soothe_status status =
        soothe__control_vector_write(x->r->out_path, &v, x->r->model_path, facts, n_facts, err);
    free(v.values);
    return status;
}

enum soothe_status soothe__control_vector_train(const struct soothe__control_vector_request *request,
                                                struct soothe__control_vector_report        *report,
                                                struct soothe_error                         *err) {
    struct learner x          = {.r = request, .report = report};
    const double   start      = soothe__seconds();
    *report                   = (struct soothe__control_vector_report){.n_pairs = 0};
    enum soothe_status status = open_texts(&x, err);
    if (!status)
        status = read_states(&x, err);
    if (!status)
        status = write_vector(&x, err);
    report->n_pairs  = x.n_pairs;
    report->n_layers = x.n_layers;
    report->seconds  = soothe__seconds() - start;
    soothe__layer_reader_free(x.reader);
    soothe__corpus_free(&x.corpus);
    llama_model_free(x.model);
    free(x.sums);
    return status;
}
