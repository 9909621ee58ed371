/* SPDX-License-Identifier: Apache-2.0
 * The harmoniser's numbers: scalarised losses, their gradients, and Adam.
 * Legend: n examples, m sources, x features, z = f(x) a logit, p = sigmoid(z). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sigmoid.h"
#include "base/statistics.h"
#include "score/polar.h"

enum { BATCH = 16, EPOCHS_DEFAULT = 50 };

static const char *const NAMES[] = {"linear", "quadratic", "euclidean", "chebyshev"};

const char *soothe__scalarisation_name(enum soothe__scalarisation s) {
    return NAMES[s];
}

bool soothe__scalarisation_parse(enum soothe__scalarisation *s, const char *name) {
    for (int i = 0; name && i < 4; i++)
        if (strcmp(NAMES[i], name) == 0) {
            *s = (enum soothe__scalarisation)i;
            return true;
        }
    return false;
}

/* ---- one example ------------------------------------------------------------------------------------------- */

double soothe__polar_loss(enum soothe__scalarisation s, double z, const signed char *votes, size_t m, double *dz) {
    const double w = m ? 1 / (double)m : 0, p = soothe__sigmoid(z);
    double       sum = 0, d_sum = 0, squares = 0, d_squares = 0, largest = 0, d_largest = 0;
    for (size_t j = 0; j < m; j++) {
        if (votes[j] == SOOTHE__ABSTAIN)
            continue;
        const double l = soothe__softplus(votes[j] ? -z : z), dl = p - votes[j];
        sum += w * l;
        d_sum += w * dl;
        squares += w * l * l;
        d_squares += 2 * w * l * dl;
        if (w * l > largest) {
            largest   = w * l;
            d_largest = w * dl;
        }
    }
    const double root = sqrt(squares);
    switch (s) {
    case SOOTHE__SCALAR_LINEAR:
        *dz = d_sum;
        return sum;
    case SOOTHE__SCALAR_QUADRATIC:
        *dz = 2 * sum * d_sum;
        return sum * sum;
    case SOOTHE__SCALAR_EUCLIDEAN:
        *dz = root > 0 ? d_squares / (2 * root) : 0;
        return root;
    case SOOTHE__SCALAR_CHEBYSHEV:
        break;
    }
    *dz = d_largest;
    return largest;
}

/* ---- h --------------------------------------------------------------------------------------------------------- */

static size_t n_hidden_values(const struct soothe__harmoniser *h) {
    return (size_t)h->n_hidden * ((size_t)h->n_features + 1);
}

static size_t n_out_values(const struct soothe__harmoniser *h) {
    return (size_t)(h->n_hidden ? h->n_hidden : h->n_features) + 1;
}

enum soothe_status soothe__harmoniser_init(struct soothe__harmoniser *h, int32_t n_features, int32_t n_hidden,
                                           struct soothe_error *err) {
    *h        = (struct soothe__harmoniser){.n_features = n_features, .n_hidden = n_hidden};
    h->mean   = soothe__calloc((size_t)n_features + 1, sizeof *h->mean);
    h->scale  = soothe__calloc((size_t)n_features + 1, sizeof *h->scale);
    h->hidden = soothe__calloc(n_hidden_values(h) + 1, sizeof *h->hidden);
    h->out    = soothe__calloc(n_out_values(h), sizeof *h->out);
    if (!h->mean || !h->scale || !h->hidden || !h->out) {
        soothe__harmoniser_free(h);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a harmoniser of %d features", n_features);
    }
    return SOOTHE_OK;
}

void soothe__harmoniser_free(struct soothe__harmoniser *h) {
    free(h->mean);
    free(h->scale);
    free(h->hidden);
    free(h->out);
    memset(h, 0, sizeof *h);
}

static double standardised(const struct soothe__harmoniser *h, const float *x, int32_t i) {
    return isnan(x[i]) ? 0 : ((double)x[i] - (double)h->mean[i]) * (double)h->scale[i];
}

/* tanh of one hidden unit. */
static double unit(const struct soothe__harmoniser *h, const float *x, int32_t k) {
    const float *w   = h->hidden + (size_t)k * ((size_t)h->n_features + 1);
    double       sum = (double)w[h->n_features];
    for (int32_t i = 0; i < h->n_features; i++)
        sum += (double)w[i] * standardised(h, x, i);
    return tanh(sum);
}

double soothe__harmoniser_logit(const struct soothe__harmoniser *h, const float *x) {
    const int32_t n = h->n_hidden ? h->n_hidden : h->n_features;
    double        z = (double)h->out[n];
    for (int32_t i = 0; i < n; i++)
        z += (double)h->out[i] * (h->n_hidden ? unit(h, x, i) : standardised(h, x, i));
    return z;
}

/* ---- fitting ---------------------------------------------------------------------------------------------------- */

struct fit {
    struct soothe__harmoniser *h;
    const float               *x;
    const signed char         *votes;
    size_t                     n, m;
    enum soothe__scalarisation scalarisation;
    size_t                    *train, n_train, *validation, n_validation;
    size_t                     n_values; /* parameters: hidden, then out */
    double                    *gradient, *first, *second;
    float                     *best;
    int64_t                    step;
};

static float *value(const struct fit *f, size_t i) {
    const size_t n_hidden = n_hidden_values(f->h);
    return i < n_hidden ? &f->h->hidden[i] : &f->h->out[i - n_hidden];
}

static const signed char *votes_of(const struct fit *f, size_t i) {
    return f->votes + i * f->m;
}

static void add_gradient(struct fit *f, size_t i) {
    const struct soothe__harmoniser *h        = f->h;
    const float                     *x        = f->x + i * (size_t)h->n_features;
    const size_t                     n_hidden = n_hidden_values(h);
    double                          *g_out    = f->gradient + n_hidden, dz;
    soothe__polar_loss(f->scalarisation, soothe__harmoniser_logit(h, x), votes_of(f, i), f->m, &dz);
    for (int32_t k = 0; k < h->n_hidden; k++) {
        double      *g = f->gradient + (size_t)k * ((size_t)h->n_features + 1);
        const double a = unit(h, x, k), da = dz * (double)h->out[k] * (1 - a * a);
        g_out[k] += dz * a;
        for (int32_t j = 0; j < h->n_features; j++)
            g[j] += da * standardised(h, x, j);
        g[h->n_features] += da;
    }
    for (int32_t j = 0; !h->n_hidden && j < h->n_features; j++)
        g_out[j] += dz * standardised(h, x, j);
    g_out[n_out_values(h) - 1] += dz;
}

/* Adam (Kingma and Ba 2015), on the batch's mean gradient. */
static void update(struct fit *f, size_t n_batch, double rate) {
    const double b1 = 0.9, b2 = 0.999;
    f->step++;
    const double c1 = 1 - pow(b1, (double)f->step), c2 = 1 - pow(b2, (double)f->step);
    for (size_t i = 0; i < f->n_values; i++) {
        const double g = f->gradient[i] / (double)n_batch;
        f->first[i]    = b1 * f->first[i] + (1 - b1) * g;
        f->second[i]   = b2 * f->second[i] + (1 - b2) * g * g;
        float *v       = value(f, i);
        *v             = (float)((double)*v - rate * (f->first[i] / c1) / (sqrt(f->second[i] / c2) + 1e-8));
        f->gradient[i] = 0;
    }
}

static double mean_loss(const struct fit *f, const size_t *examples, size_t n) {
    double sum = 0, dz;
    for (size_t i = 0; i < n; i++)
        sum += soothe__polar_loss(f->scalarisation,
                                  soothe__harmoniser_logit(f->h, f->x + examples[i] * (size_t)f->h->n_features),
                                  votes_of(f, examples[i]), f->m, &dz);
    return n ? sum / (double)n : 0;
}

static void shuffle(size_t *examples, size_t n, struct soothe__rng *rng) {
    for (size_t i = n; i > 1; i--) {
        const size_t k = soothe__rng_below(rng, (uint32_t)i), t = examples[k];
        examples[k]     = examples[i - 1];
        examples[i - 1] = t;
    }
}

/* Mean and deviation of every feature, over the examples that have it. */
static void standardise(struct soothe__harmoniser *h, const float *x, const size_t *examples, size_t n) {
    const size_t d = (size_t)h->n_features;
    for (size_t j = 0; j < d; j++) {
        double mean = 0, square = 0;
        size_t n_here = 0;
        for (size_t i = 0; i < n; i++) {
            const double v = (double)x[examples[i] * d + j];
            n_here += isnan(v) ? 0 : 1;
            mean += isnan(v) ? 0 : v;
        }
        mean /= n_here ? (double)n_here : 1;
        for (size_t i = 0; i < n; i++)
            if (!isnan(x[examples[i] * d + j]))
                square += pow((double)x[examples[i] * d + j] - mean, 2) / (double)n_here;
        h->mean[j]  = (float)mean;
        h->scale[j] = square > 1e-12 ? (float)(1 / sqrt(square)) : 0;
    }
}

static enum soothe_status set_up(struct fit *f, const bool *is_validation, struct soothe_error *err) {
    f->n_values   = n_hidden_values(f->h) + n_out_values(f->h);
    f->train      = soothe__calloc(f->n + 1, sizeof *f->train);
    f->validation = soothe__calloc(f->n + 1, sizeof *f->validation);
    f->gradient   = soothe__calloc(f->n_values, sizeof *f->gradient);
    f->first      = soothe__calloc(f->n_values, sizeof *f->first);
    f->second     = soothe__calloc(f->n_values, sizeof *f->second);
    f->best       = soothe__calloc(f->n_values, sizeof *f->best);
    if (!f->train || !f->validation || !f->gradient || !f->first || !f->second || !f->best || f->n > UINT32_MAX)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory fitting a harmoniser to %zu texts", f->n);
    for (size_t i = 0; i < f->n; i++) {
        bool any = false;
        for (size_t j = 0; j < f->m; j++)
            any = any || votes_of(f, i)[j] != SOOTHE__ABSTAIN;
        if (any && is_validation && is_validation[i])
            f->validation[f->n_validation++] = i;
        else if (any)
            f->train[f->n_train++] = i;
    }
    return f->n_train ? SOOTHE_OK
                      : soothe__fail(err, SOOTHE_E_ARGUMENT,
                                     "every source abstains on every text: there is nothing to learn from");
}

static double run_epochs(struct fit *f, const struct soothe__polar_options *o, struct soothe__rng *rng) {
    const int32_t n_epochs = o->n_epochs > 0 ? o->n_epochs : EPOCHS_DEFAULT;
    const double  rate     = o->learning_rate > 0 ? (double)o->learning_rate : f->h->n_hidden ? 0.001 : 0.01;
    double        best     = INFINITY;
    for (int32_t epoch = 0; epoch < n_epochs; epoch++) {
        shuffle(f->train, f->n_train, rng);
        for (size_t from = 0; from < f->n_train; from += BATCH) {
            const size_t to = from + BATCH < f->n_train ? from + BATCH : f->n_train;
            for (size_t i = from; i < to; i++)
                add_gradient(f, f->train[i]);
            update(f, to - from, rate * (1 - (double)epoch / n_epochs));
        }
        const double loss =
            f->n_validation ? mean_loss(f, f->validation, f->n_validation) : mean_loss(f, f->train, f->n_train);
        if (loss < best) {
            best = loss;
            for (size_t i = 0; i < f->n_values; i++)
                f->best[i] = *value(f, i);
        }
    }
    for (size_t i = 0; i < f->n_values; i++)
        *value(f, i) = f->best[i];
    return best;
}

enum soothe_status soothe__harmoniser_fit(struct soothe__harmoniser *h, const float *features, const signed char *votes,
                                          const bool *is_validation, size_t n, size_t m,
                                          const struct soothe__polar_options *options, double *loss,
                                          struct soothe_error *err) {
    struct fit f = {.h = h, .x = features, .votes = votes, .n = n, .m = m, .scalarisation = options->scalarisation};
    struct soothe__rng rng    = soothe__rng_seed(options->seed, 0x706f6c6172); /* "polar" */
    enum soothe_status status = set_up(&f, is_validation, err);
    if (!status) {
        standardise(h, features, f.train, f.n_train);
        const double spread = 1 / sqrt((double)h->n_features + 1);
        memset(h->out, 0, n_out_values(h) * sizeof *h->out);
        for (size_t i = 0; i < n_hidden_values(h); i++)
            h->hidden[i] = (float)(spread * soothe__rng_normal(&rng));
        for (int32_t k = 0; k < h->n_hidden; k++)
            h->out[k] = (float)(0.1 * soothe__rng_normal(&rng));
        const double best = run_epochs(&f, options, &rng);
        if (loss)
            *loss = best;
        if (!isfinite(best))
            status = soothe__fail(err, SOOTHE_E_NUMERIC, "the harmoniser's loss is not finite");
    }
    free(f.train);
    free(f.validation);
    free(f.gradient);
    free(f.first);
    free(f.second);
    free(f.best);
    return status;
}

/* ---- estimated against true error ----------------------------------------------------------------------------------
 */

struct answer {
    double        zeta;
    unsigned char wrong;
};

static int by_zeta(const void *a, const void *b) {
    const double x = ((const struct answer *)a)->zeta, y = ((const struct answer *)b)->zeta;
    return (x > y) - (x < y);
}

static double squared_correlation(const double *x, const double *y, int n) {
    double mx = 0, my = 0, sxx = 0, syy = 0, sxy = 0;
    for (int i = 0; i < n; i++) {
        mx += x[i] / n;
        my += y[i] / n;
    }
    for (int i = 0; i < n; i++) {
        sxx += (x[i] - mx) * (x[i] - mx);
        syy += (y[i] - my) * (y[i] - my);
        sxy += (x[i] - mx) * (y[i] - my);
    }
    return sxx > 1e-12 && syy > 1e-12 ? sxy * sxy / (sxx * syy) : (double)NAN;
}

static double r_squared(struct answer *answers, size_t n) {
    enum { BINS = 10 };
    double zeta[BINS] = {0}, rate[BINS] = {0};
    if (n < 2 * BINS)
        return (double)NAN;
    qsort(answers, n, sizeof *answers, by_zeta);
    for (int b = 0; b < BINS; b++) {
        const size_t from = n * (size_t)b / BINS, to = n * (size_t)(b + 1) / BINS;
        for (size_t i = from; i < to; i++) {
            zeta[b] += answers[i].zeta / (double)(to - from);
            rate[b] += answers[i].wrong / (double)(to - from);
        }
    }
    return squared_correlation(zeta, rate, BINS);
}

enum soothe_status soothe__polar_error_figures(struct soothe__error_figures *f, const double *risks,
                                               const signed char *votes, size_t stride, const unsigned char *labels,
                                               size_t n, struct soothe_error *err) {
    struct answer *answers = soothe__calloc(n + 1, sizeof *answers);
    double        *zetas   = soothe__calloc(n + 1, sizeof *zetas);
    unsigned char *wrongs  = soothe__calloc(n + 1, 1);
    *f                     = (struct soothe__error_figures){.n = 0};
    enum soothe_status status =
        answers && zetas && wrongs ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu errors", n);
    for (size_t i = 0; i < n && !status; i++) {
        const signed char vote = votes[i * stride];
        if (vote == SOOTHE__ABSTAIN || isnan(risks[i]) || labels[i] == SOOTHE__LABEL_NONE)
            continue;
        zetas[f->n]   = vote ? 1 - risks[i] : risks[i];
        wrongs[f->n]  = (unsigned char)(vote != labels[i]);
        answers[f->n] = (struct answer){zetas[f->n], wrongs[f->n]};
        f->mean_zeta += zetas[f->n];
        f->error_rate += wrongs[f->n++];
    }
    if (!status) {
        f->mean_zeta /= (double)f->n;
        f->error_rate /= (double)f->n;
        f->ece       = soothe__calibration_error(zetas, wrongs, f->n, 10, NULL);
        f->r_squared = r_squared(answers, f->n);
    }
    free(answers);
    free(zetas);
    free(wrongs);
    return status;
}
