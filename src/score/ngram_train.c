/* SPDX-License-Identifier: Apache-2.0 */
#include "score/ngram_train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "score/ngram_file.h"
#include "score/ngram_matrix.h"
#include "score/ngram_words.h"
#include "score/platt.h"

static const double TOLERANCE = 1e-3; /* of the gradient's norm; figures do not change any more below it */

enum part { PART_TRAIN, PART_CALIBRATION, PART_HELD_OUT };

struct run {
    const struct soothe__labelled_texts      *t;
    const struct soothe__ngram_train_options *o;
    struct soothe__ngram_train_report        *report;
    unsigned char                            *part;  /* (texts) enum part */
    unsigned char                            *which; /* (texts) of a fit  */
    float                                    *costs_by_source;
    double                                   *w; /* (columns + 1) of the last fit */
    struct soothe__ngram_matrix               m;
    const char                               *stage;
};

struct soothe__ngram_train_options soothe__ngram_train_options_default(void) {
    return (struct soothe__ngram_train_options){
        .shape          = {.bits = 20, .n_words = 2, .char_min = 2, .char_max = 5, .lexicon = 1},
        .c              = 5,
        .holdout        = 0.2,
        .sharpen        = 4,
        .seed           = 1,
        .n_listed       = 512,
        .max_iterations = 200};
}

void soothe__ngram_train_report_free(struct soothe__ngram_train_report *r) {
    free(r->held_out);
    free(r->scores);
    free(r->figures);
    memset(r, 0, sizeof *r);
}

static void say(const struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(const struct run *r, const char *format, ...) {
    char    line[256];
    va_list list;
    if (!r->o->say)
        return;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    r->o->say(r->o->user, line);
}

/* ---- the split ------------------------------------------------------------------------------------------ */

/* Uniform in [0,1) by a text's hash, the seed and what it is drawn for. */
static double draw(uint64_t hash, uint32_t seed, uint64_t purpose) {
    uint64_t h = hash + UINT64_C(0x9e3779b97f4a7c15) * (seed + (purpose << 33) + 1);
    h          = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9); /* SplitMix64 */
    h          = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
    h ^= h >> 31;
    return (double)(h >> 11) * 0x1p-53;
}

static enum soothe_status split(struct run *r, struct soothe_error *err) {
    struct soothe__text_form form   = {0};
    enum soothe_status       status = SOOTHE_OK;
    size_t                   n[2]   = {0};
    for (size_t i = 0; i < r->t->n && !status; i++) {
        status = soothe__text_form_read(&form, r->t->texts[i], strlen(r->t->texts[i]), NULL, err);
        if (status)
            break;
        const uint64_t hash    = soothe__text_form_hash(&form);
        r->part[i]             = draw(hash, r->o->seed, 0) < r->o->holdout ? PART_HELD_OUT
                                 : draw(hash, r->o->seed, 1) < 0.1         ? PART_CALIBRATION
                                                                           : PART_TRAIN;
        r->report->held_out[i] = r->part[i] == PART_HELD_OUT;
        r->report->n_holdout += r->part[i] == PART_HELD_OUT;
        r->report->n_calibration += r->part[i] == PART_CALIBRATION;
        r->report->n_train += r->part[i] == PART_TRAIN;
        if (r->part[i] == PART_TRAIN)
            n[r->t->labels[i] > 0.5f]++;
    }
    soothe__text_form_free(&form);
    if (!status && (n[0] == 0 || n[1] == 0))
        status = soothe__fail(err, SOOTHE_E_ARGUMENT,
                              "training needs toxic and clean texts; of %zu texts to learn from %zu are toxic",
                              n[0] + n[1], n[1]);
    return status;
}

static enum soothe_status weigh_sources(struct run *r, struct soothe_error *err) {
    for (size_t k = 0; k < r->t->n_names; k++)
        r->costs_by_source[k] = 1.0f;
    for (size_t i = 0; i < r->o->n_weights; i++) {
        size_t k = 0;
        while (k < r->t->n_names && strcmp(r->t->names[k], r->o->weights[i].source) != 0)
            k++;
        if (k == r->t->n_names)
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "there is no source \"%s\" in the data to be weighted",
                                r->o->weights[i].source);
        r->costs_by_source[k] = (float)r->o->weights[i].weight;
    }
    return SOOTHE_OK;
}

/* ---- a fit -------------------------------------------------------------------------------------------------- */

static void watch(void *user, int iteration, double loss) {
    const struct run *r = user;
    if (iteration % 20 == 0)
        say(r, "%s: step %d, loss %.1f", r->stage, iteration, loss);
}

static float sharpened(float label, double sharpen) {
    if (sharpen <= 0)
        return label > 0.5f ? 1.0f : 0.0f;
    const double y = 0.5 + sharpen * ((double)label - 0.5);
    return (float)(y < 0 ? 0 : y > 1 ? 1 : y);
}

/* Fits r->m; the weights, scaled, are left in r->w, the bias last. */
static enum soothe_status fit_matrix(struct run *r, struct soothe_error *err) {
    const struct soothe__ngram_matrix *m      = &r->m;
    float                             *labels = soothe__calloc(2 * m->n_rows + 1, sizeof *labels);
    struct soothe__minimise_report     report;
    free(r->w);
    r->w = soothe__calloc(m->n_columns + 1, sizeof *r->w);
    if (!labels || !r->w) {
        free(labels);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu weights", m->n_columns);
    }
    float *costs = labels + m->n_rows;
    for (size_t i = 0; i < m->n_rows; i++) {
        labels[i] = sharpened(r->t->labels[m->rows[i]], r->o->sharpen);
        costs[i]  = r->costs_by_source[r->t->sources[m->rows[i]]];
    }
    const struct soothe__logistic         problem = {.n_rows    = m->n_rows,
                                                     .n_groups  = SOOTHE__N_GROUPS,
                                                     .n_columns = m->n_columns,
                                                     .start     = m->start,
                                                     .columns   = m->columns,
                                                     .values    = m->values,
                                                     .scales    = m->scales,
                                                     .labels    = labels,
                                                     .costs     = costs,
                                                     .c         = r->o->c,
                                                     .n_threads = r->o->n_threads};
    const struct soothe__minimise_options options = {
        .max_iterations = r->o->max_iterations, .gradient_tolerance = TOLERANCE, .watcher = watch, .user = r};
    const enum soothe_status status = soothe__logistic_fit(&problem, r->w, &options, &report, err);
    for (size_t j = 0; j < m->n_columns && !status; j++)
        r->w[j] *= (double)m->scales[j];
    r->report->n_iterations = report.n_iterations;
    r->report->loss         = report.loss;
    r->report->n_features   = m->n_columns;
    say(r, "%s: %zu texts, %zu features, %d steps%s", r->stage, m->n_rows, m->n_columns, report.n_iterations,
        report.converged ? "" : " (not converged)");
    free(labels);
    return status;
}

/* Brings the weights, times a, into the scorer's codes. */
static void set_codes(struct run *r, struct soothe__ngram_scorer *s, double a, double b) {
    double largest[SOOTHE__N_GROUPS] = {0};
    memset(s->codes, 0, (size_t)SOOTHE__N_GROUPS << s->shape.bits);
    for (size_t j = 0; j < r->m.n_columns; j++) {
        const uint32_t group = soothe__ngram_group(r->m.buckets[j], &s->shape);
        largest[group]       = fmax(largest[group], fabs(a * r->w[j]));
    }
    for (int g = 0; g < SOOTHE__N_GROUPS; g++)
        soothe__ngram_set_scale(s, g, (float)(largest[g] > 0 ? largest[g] : 1));
    for (size_t j = 0; j < r->m.n_columns; j++) {
        const double weight = a * r->w[j], top = largest[soothe__ngram_group(r->m.buckets[j], &s->shape)];
        const double code         = top > 0 ? round(127 * sqrt(fabs(weight) / top)) : 0;
        s->codes[r->m.buckets[j]] = (int8_t)(weight < 0 ? -code : code);
    }
    s->bias = (float)(a * r->w[r->m.n_columns] + b);
}

/* Fits the parts up to `last` into s, scaled by a and b. */
static enum soothe_status fit(struct run *r, struct soothe__ngram_scorer *s, enum part last, double a, double b,
                              const char *stage, struct soothe_error *err) {
    r->stage = stage;
    for (size_t i = 0; i < r->t->n; i++)
        r->which[i] = r->part[i] <= last;
    soothe__ngram_matrix_free(&r->m);
    enum soothe_status status = soothe__ngram_matrix_make(&r->m, s, r->t->texts, r->which, r->t->n, err);
    if (!status)
        status = fit_matrix(r, err);
    if (!status)
        set_codes(r, s, a, b);
    return status;
}

/* ---- calibration, figures --------------------------------------------------------------------------------- */

static double logit(double p) {
    const double least = 1e-12;
    p                  = p < least ? least : p > 1 - least ? 1 - least : p;
    return log(p / (1 - p));
}

/* Every source counts by its weight, whatever its size: what is right for the large ones alone is wrong for the small
 * ones by as much as they differ in what they call toxic. */
static enum soothe_status calibrate(struct run *r, const struct soothe__ngram_scorer *s, struct soothe_error *err) {
    const size_t                n_most   = r->report->n_calibration + 1;
    double                     *z        = soothe__calloc(2 * n_most, sizeof *z);
    unsigned char              *y        = soothe__calloc(n_most, 1);
    size_t                     *n_source = soothe__calloc(r->t->n_names + 1, sizeof *n_source);
    struct soothe__ngram_reader reader   = {0};
    size_t                      n        = 0;
    enum soothe_status          status   = SOOTHE_OK;
    if (!z || !y || !n_source) {
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory calibrating");
        goto done;
    }
    double *costs = z + n_most;
    for (size_t i = 0; i < r->t->n; i++)
        n_source[r->t->sources[i]] += r->part[i] == PART_CALIBRATION;
    for (size_t i = 0; i < r->t->n; i++)
        if (r->part[i] == PART_CALIBRATION) {
            z[n]     = logit(soothe__ngram_score_with(s, &reader, r->t->texts[i], strlen(r->t->texts[i])));
            costs[n] = (double)r->costs_by_source[r->t->sources[i]] / (double)n_source[r->t->sources[i]];
            y[n++]   = r->t->labels[i] > 0.5f;
        }
    soothe__platt_fit(&r->report->a, &r->report->b, z, y, costs, n);
    say(r, "calibrated on %zu texts: a = %.4f, b = %.4f", n, r->report->a, r->report->b);
done:
    soothe__ngram_reader_free(&reader);
    free(n_source);
    free(z);
    free(y);
    return status;
}

static enum soothe_status measure(struct run *r, const struct soothe__ngram_scorer *s, struct soothe_error *err) {
    struct soothe__ngram_reader reader = {0};
    for (size_t i = 0; i < r->t->n; i++)
        r->report->scores[i] = r->part[i] == PART_HELD_OUT
                                   ? soothe__ngram_score_with(s, &reader, r->t->texts[i], strlen(r->t->texts[i]))
                                   : NAN;
    soothe__ngram_reader_free(&reader);
    return soothe__score_figures(&r->report->figures, &r->report->n_figures, r->t, r->report->scores,
                                 r->report->held_out, err);
}

/* ---- the whole ------------------------------------------------------------------------------------------------ */

/* A scorer whose list has the words that a first fit finds. */
static enum soothe_status learn_list(struct run *r, struct soothe__ngram_scorer **s, struct soothe_error *err) {
    char                       **words  = NULL;
    size_t                       n      = 0;
    struct soothe__ngram_scorer *first  = NULL;
    enum soothe_status           status = soothe__ngram_new(&first, &r->o->shape, NULL, 0, err);
    *s                                  = NULL;
    if (!status)
        status = fit(r, first, PART_TRAIN, 1, 0, "words", err);
    if (!status)
        status = soothe__ngram_find_words(&words, &n, r->o->n_listed, first, r->t->texts, r->which, r->t->n, err);
    if (!status)
        status = soothe__ngram_new(s, &r->o->shape, (const char *const *)words, n, err);
    for (size_t i = 0; i < n; i++)
        free(words[i]);
    free(words);
    soothe__ngram_close(first);
    r->report->n_listed = n;
    return status;
}

static enum soothe_status check_options(const struct soothe__ngram_train_options *o, struct soothe_error *err) {
    if (!(o->c > 0 && o->c < 1e9) || !(o->holdout >= 0 && o->holdout < 1) || !(o->sharpen >= 0) ||
        o->max_iterations < 1)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "training takes C over 0, a held-out share from 0 to under 1, sharpening from 0 and at "
                            "least one iteration; not C = %g, %g, %g, %d",
                            o->c, o->holdout, o->sharpen, o->max_iterations);
    return SOOTHE_OK;
}

enum soothe_status soothe__ngram_train(struct soothe__ngram_scorer **scorer, struct soothe__ngram_train_report *report,
                                       const struct soothe__labelled_texts      *texts,
                                       const struct soothe__ngram_train_options *options, struct soothe_error *err) {
    struct run                   r     = {.t = texts, .o = options, .report = report};
    struct soothe__ngram_scorer *s     = NULL;
    const double                 begun = soothe__seconds();
    *scorer                            = NULL;
    memset(report, 0, sizeof *report);
    r.part                    = soothe__calloc(texts->n + 1, 1);
    r.which                   = soothe__calloc(texts->n + 1, 1);
    r.costs_by_source         = soothe__calloc(texts->n_names + 1, sizeof *r.costs_by_source);
    report->held_out          = soothe__calloc(texts->n + 1, 1);
    report->scores            = soothe__calloc(texts->n + 1, sizeof *report->scores);
    enum soothe_status status = check_options(options, err);
    if (!status && (!r.part || !r.which || !r.costs_by_source || !report->held_out || !report->scores))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", texts->n);
    if (!status)
        status = weigh_sources(&r, err);
    if (!status)
        status = split(&r, err);
    if (!status)
        status = learn_list(&r, &s, err);
    if (!status)
        status = fit(&r, s, PART_TRAIN, 1, 0, "calibration", err);
    if (!status)
        status = calibrate(&r, s, err);
    if (!status)
        status = fit(&r, s, PART_CALIBRATION, report->a, report->b, "fit", err);
    if (!status)
        status = measure(&r, s, err);
    report->seconds = soothe__seconds() - begun;
    soothe__ngram_matrix_free(&r.m);
    free(r.w);
    free(r.part);
    free(r.which);
    free(r.costs_by_source);
    if (status) {
        soothe__ngram_close(s);
        soothe__ngram_train_report_free(report);
    } else {
        *scorer = s;
    }
    return status;
}
