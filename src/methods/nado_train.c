/* SPDX-License-Identifier: Apache-2.0
 * Training a success head by Adam (Kingma and Ba 2015) on cached states, and its figures on held-out prompts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sigmoid.h"
#include "base/statistics.h"
#include "methods/nado.h"

const int32_t SOOTHE__NADO_AT[SOOTHE__NADO_N_AT] = {1, 5, 10, 20};

enum { TEXTS_PER_STEP = 16, HELD_OUT_OF = 5 };

struct trainer {
    const struct soothe__nado_data    *data;
    const struct soothe__nado_options *o;
    struct soothe__nado               *n;
    float                             *head; /* (V, d) */
    size_t                             n_parameters, n_train;
    float                             *gradient, *mean, *square; /* (n_parameters) */
    uint32_t                          *order;                    /* (n_train) texts to be learnt from */
    float                             *scratch, *r;
    int64_t                            n_steps;
};

static bool is_held_out(const struct soothe__nado_text *t) {
    return t->i_prompt % HELD_OUT_OF == 0;
}

static enum soothe_status read_head(float **head, const char *model_path, struct soothe_error *err) {
    struct soothe__gguf        g;
    struct soothe__model_facts facts;
    enum soothe_status         status = soothe__gguf_open(&g, model_path, err);
    if (status)
        return status;
    status = soothe__model_facts(&facts, &g, err);
    if (!status) {
        const char *name = gguf_find_tensor(g.meta, "output.weight") >= 0 ? "output.weight" : "token_embd.weight";
        status           = soothe__gguf_get_f32(&g, name, (int64_t)facts.d * (int64_t)facts.n_vocab, head, err);
    }
    soothe__gguf_close(&g);
    return status;
}

/* P begins at zero, so that the first estimate is the base rate's; Q so that Q h is of size one. */
static void begin(struct trainer *t) {
    struct soothe__rng rng    = soothe__rng_seed(t->o->seed, 0x6e61646f);
    double             square = 0, clean = 0;
    size_t             count = 0;
    for (size_t i = 0; i < t->n_train; i++) {
        const struct soothe__nado_text *x = &t->data->texts[t->order[i]];
        for (int32_t k = 0; k < t->n->d; k++)
            square += (double)x->h[k] * (double)x->h[k];
        clean += (double)x->clean;
        count += (size_t)t->n->d;
    }
    const double scale = 1 / sqrt(square / (double)count * (double)t->n->d + 1e-12);
    for (int32_t i = 0; i < t->n->rank * t->n->d; i++)
        t->n->q[i] = (float)(scale * soothe__rng_normal(&rng));
    const double rate = clean / (double)t->n_train;
    t->n->b[0]        = (float)log(rate / (1 - rate));
}

static void adam_step(struct trainer *t, double scale, float rate) {
    const double b1 = 0.9, b2 = 0.999;
    t->n_steps++;
    const double c1 = 1 - pow(b1, (double)t->n_steps), c2 = 1 - pow(b2, (double)t->n_steps);
    for (size_t i = 0; i < t->n_parameters; i++) {
        const double g = (double)t->gradient[i] * scale;
        t->mean[i]     = (float)(b1 * (double)t->mean[i] + (1 - b1) * g);
        t->square[i]   = (float)(b2 * (double)t->square[i] + (1 - b2) * g * g);
        t->n->p[i] -= (float)((double)rate * ((double)t->mean[i] / c1) / (sqrt((double)t->square[i] / c2) + 1e-8));
    }
}

static void shuffle(uint32_t *order, size_t n, struct soothe__rng *rng) {
    for (size_t i = n; i > 1; i--) {
        const uint32_t k = soothe__rng_below(rng, (uint32_t)i), x = order[i - 1];
        order[i - 1] = order[k];
        order[k]     = x;
    }
}

/* The rate falls linearly to zero. */
static enum soothe_status learn(struct trainer *t, struct soothe_error *err) {
    struct soothe__rng      rng      = soothe__rng_seed(t->o->seed, 0x73687566);
    struct soothe__progress progress = soothe__progress_start();
    for (int32_t epoch = 0; epoch < t->o->n_epochs; epoch++) {
        shuffle(t->order, t->n_train, &rng);
        for (size_t from = 0; from < t->n_train; from += TEXTS_PER_STEP) {
            size_t       n_tokens = 0;
            const double done     = ((double)epoch + (double)from / (double)t->n_train) / t->o->n_epochs;
            if (t->o->stop && *t->o->stop)
                return soothe__fail(err, SOOTHE_E_INTERRUPTED, "interrupted");
            memset(t->gradient, 0, t->n_parameters * sizeof *t->gradient);
            for (size_t i = from; i < t->n_train && i < from + TEXTS_PER_STEP; i++) {
                const struct soothe__nado_text *x = &t->data->texts[t->order[i]];
                soothe__nado_loss(t->n, t->head, x, t->o->bellman, t->gradient, NULL, t->scratch);
                n_tokens += (size_t)x->n;
            }
            adam_step(t, 1 / (double)n_tokens, t->o->rate * (float)(1 - done));
            if (t->o->show_progress)
                soothe__progress_update(&progress, done, "learning");
        }
    }
    if (t->o->show_progress)
        soothe__progress_finish(&progress);
    return SOOTHE_OK;
}

/* Cross-entropy of labels c with one constant estimate. */
static double base_loss(double clean, double estimate) {
    return -(clean * log(estimate) + (1 - clean) * log1p(-estimate));
}

static enum soothe_status measure(struct trainer *t, double base_rate, struct soothe__nado_report *report,
                                  struct soothe_error *err) {
    double        *scores               = soothe__calloc(t->data->n * SOOTHE__NADO_N_AT, sizeof *scores);
    unsigned char *toxic                = soothe__calloc(t->data->n * SOOTHE__NADO_N_AT, 1);
    size_t         n[SOOTHE__NADO_N_AT] = {0}, n_tokens = 0;
    for (size_t i = 0; i < t->data->n && scores && toxic; i++) {
        const struct soothe__nado_text *x = &t->data->texts[i];
        if (!is_held_out(x))
            continue;
        report->loss[1] += soothe__nado_loss(t->n, t->head, x, 0, NULL, t->r, t->scratch);
        report->loss[0] += x->n * base_loss((double)x->clean, base_rate);
        n_tokens += (size_t)x->n;
        report->n_held_out++;
        report->n_toxic_held_out += x->clean <= 0.5f;
        for (int k = 0; k < SOOTHE__NADO_N_AT; k++) { /* a shorter text as a whole */
            const int32_t at   = SOOTHE__NADO_AT[k] < x->n ? SOOTHE__NADO_AT[k] : x->n;
            const size_t  slot = (size_t)k * t->data->n + n[k]++;
            scores[slot]       = 1 - (double)t->r[at - 1];
            toxic[slot]        = x->clean <= 0.5f;
        }
    }
    for (int k = 0; k < SOOTHE__NADO_N_AT && scores && toxic; k++)
        report->auc[k] = soothe__roc_auc(scores + (size_t)k * t->data->n, toxic + (size_t)k * t->data->n, n[k]);
    report->loss[0] /= n_tokens ? (double)n_tokens : NAN;
    report->loss[1] /= n_tokens ? (double)n_tokens : NAN;
    const bool ok = scores && toxic;
    free(scores);
    free(toxic);
    return ok ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the figures");
}

static enum soothe_status make_room(struct trainer *t, struct soothe_error *err) {
    int32_t longest = 1;
    for (size_t i = 0; i < t->data->n; i++)
        longest = t->data->texts[i].n > longest ? t->data->texts[i].n : longest;
    t->n_parameters = soothe__nado_n_parameters(t->n->d, t->n->rank);
    t->gradient     = soothe__calloc(3 * t->n_parameters, sizeof *t->gradient);
    t->order        = soothe__calloc(t->data->n + 1, sizeof *t->order);
    t->scratch      = soothe__calloc(soothe__nado_scratch(t->n, longest), sizeof *t->scratch);
    t->r            = soothe__calloc((size_t)longest, sizeof *t->r);
    if (!t->gradient || !t->order || !t->scratch || !t->r)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for training");
    t->mean   = t->gradient + t->n_parameters;
    t->square = t->mean + t->n_parameters;
    return SOOTHE_OK;
}

/* Both kinds must be there, among texts to learn from and held-out ones. */
static enum soothe_status divide(struct trainer *t, double *base_rate, struct soothe_error *err) {
    size_t n_toxic[2] = {0}, n[2] = {0};
    *base_rate = 0;
    for (size_t i = 0; i < t->data->n; i++) {
        const struct soothe__nado_text *x    = &t->data->texts[i];
        const bool                      held = is_held_out(x);
        n[held]++;
        n_toxic[held] += x->clean <= 0.5f;
        if (!held) {
            t->order[t->n_train++] = (uint32_t)i;
            *base_rate += (double)x->clean;
        }
    }
    *base_rate /= t->n_train ? (double)t->n_train : 1;
    for (int k = 0; k < 2; k++)
        if (n_toxic[k] == 0 || n_toxic[k] == n[k])
            return soothe__fail(err, SOOTHE_E_ARGUMENT,
                                "of %zu samples %s %zu are toxic (score .5 or more): both kinds are needed", n[k],
                                k ? "held out" : "to learn from", n_toxic[k]);
    return SOOTHE_OK;
}

enum soothe_status soothe__nado_train(struct soothe__nado **n, struct soothe__nado_report *report,
                                      struct llama_model *model, const char *model_path,
                                      const struct soothe__nado_options *o, char sha256[65], struct soothe_error *err) {
    struct soothe__nado_data data = {.n = 0};
    struct trainer           t    = {.data = &data, .o = o};
    double                   base_rate;
    const double             from = soothe__seconds();
    *n                            = NULL;
    *report                       = (struct soothe__nado_report){.n_train = 0};
    enum soothe_status status     = soothe__nado_read(&data, model, model_path, o, err);
    if (!status)
        status = read_head(&t.head, model_path, err);
    if (!status)
        status = soothe__nado_new(&t.n, llama_model_n_embd(model), o->rank, err);
    if (!status)
        status = make_room(&t, err);
    if (!status)
        status = divide(&t, &base_rate, err);
    if (!status) {
        begin(&t);
        status = learn(&t, err);
    }
    if (!status)
        status = measure(&t, base_rate, report, err);
    report->n_train  = t.n_train;
    report->n_tokens = data.n_tokens;
    report->seconds  = soothe__seconds() - from;
    memcpy(sha256, data.sha256, 65);
    free(t.head);
    free(t.gradient);
    free(t.order);
    free(t.scratch);
    free(t.r);
    soothe__nado_data_free(&data);
    if (status)
        soothe__nado_free(t.n);
    else
        *n = t.n;
    return status;
}
