/* SPDX-License-Identifier: Apache-2.0
 * Likelihoods to accuracies, and to differences paired by question. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/report.h"
#include "eval/resample.h"
#include "eval/utility.h"

enum { ACC, ACC_NORM, MEASURES };

/* Of a quiz of n questions: x 1 where the answer is right, w 0 where there is none. */
struct marks {
    double *x[MEASURES]; /* (n) */
    double *w;           /* (n) */
};

/* The highest; the first of several. */
static size_t best_of(const double *values, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = values[i] > values[best] ? i : best;
    return best;
}

static void mark_question(struct marks *m, size_t i, const struct soothe__question *q, const double *log_p) {
    double per_byte[SOOTHE__QUIZ_CHOICES_MAX];
    m->w[i] = !isnan(log_p[0]);
    if (isnan(log_p[0]))
        return;
    for (size_t k = 0; k < q->n; k++)
        per_byte[k] = log_p[k] / (double)(strlen(q->choices[k]) - 1); /* without the space before it */
    m->x[ACC][i]      = best_of(log_p, q->n) == q->right;
    m->x[ACC_NORM][i] = best_of(per_byte, q->n) == q->right;
}

static void free_marks(struct marks *m, size_t n_systems) {
    for (size_t s = 0; m && s < n_systems; s++) {
        free(m[s].x[ACC]);
        free(m[s].x[ACC_NORM]);
        free(m[s].w);
    }
    free(m);
}

/* By system; fresh, NULL: no memory. */
static struct marks *mark_quiz(const struct soothe__utility *u, const struct soothe__quiz *quiz, size_t i_question) {
    struct marks *m  = soothe__calloc(u->n_systems + 1, sizeof *m);
    bool          ok = m != NULL;
    for (size_t s = 0; s < u->n_systems && ok; s++) {
        m[s].x[ACC]      = soothe__calloc(quiz->n + 1, sizeof(double));
        m[s].x[ACC_NORM] = soothe__calloc(quiz->n + 1, sizeof(double));
        m[s].w           = soothe__calloc(quiz->n + 1, sizeof(double));
        ok               = m[s].x[ACC] && m[s].x[ACC_NORM] && m[s].w;
        for (size_t i = 0; i < quiz->n && ok; i++)
            mark_question(&m[s], i, &quiz->items[i], &u->log_p[s * u->n_texts + u->first[i_question + i]]);
    }
    if (ok)
        return m;
    free_marks(m, u->n_systems);
    return NULL;
}

static void count(struct soothe__utility_figures *f, const struct marks *first, const struct marks *m, int measure) {
    for (size_t i = 0; i < f->n; i++) {
        f->n_null += !(m->w[i] > 0);
        if (!(m->w[i] > 0) || !(first->w[i] > 0))
            continue;
        f->n_lost += first->x[measure][i] > m->x[measure][i];
        f->n_gained += m->x[measure][i] > first->x[measure][i];
    }
}

static enum soothe_status figures_of(struct soothe__utility_figures *f, const struct soothe__resamples *r,
                                     const struct soothe__quiz *quiz, const struct marks *first, const struct marks *m,
                                     struct soothe_error *err) {
    static const struct soothe__interval NOTHING          = {NAN, NAN, NAN};
    const bool                           letter           = quiz->form == SOOTHE__QUIZ_LETTER;
    struct soothe__interval             *values[MEASURES] = {&f->acc, &f->acc_norm},
                            *changes[MEASURES]            = {&f->change, &f->change_norm};
    enum soothe_status status                             = SOOTHE_OK;
    *f                                                    = (struct soothe__utility_figures){
                                                           .n = quiz->n, .acc = NOTHING, .acc_norm = NOTHING, .change = NOTHING, .change_norm = NOTHING};
    count(f, first, m, letter ? ACC : ACC_NORM);
    for (int k = 0; k < (letter ? ACC_NORM : MEASURES) && !status; k++) {
        const struct soothe__series a = {first->x[k], first->w, false}, b = {m->x[k], m->w, false};
        status = soothe__resampled(values[k], r, &b, NULL, SOOTHE__VALUE, err);
        if (!status && m != first)
            status = soothe__resampled(changes[k], r, &a, &b, SOOTHE__DIFFERENCE, err);
    }
    return status;
}

enum soothe_status soothe__utility_figures(struct soothe__utility_figures *out, const struct soothe__utility *u,
                                           const struct soothe__quizzes *quizzes, struct soothe_error *err) {
    enum soothe_status status     = SOOTHE_OK;
    size_t             i_question = 0;
    for (size_t i = 0; i < quizzes->n && !status; i_question += quizzes->items[i++].n) {
        const struct soothe__quiz *quiz = &quizzes->items[i];
        struct soothe__resamples   r    = {.n = 0};
        struct marks              *m    = mark_quiz(u, quiz, i_question);
        status = m ? soothe__resamples_draw(&r, quiz->n, SOOTHE__RESAMPLES, SOOTHE__RESAMPLE_SEED, err)
                   : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the figures of %s", quiz->name);
        for (size_t s = 0; s < u->n_systems && !status; s++)
            status = figures_of(&out[i * u->n_systems + s], &r, quiz, &m[0], &m[s], err);
        soothe__resamples_free(&r);
        free_marks(m, u->n_systems);
    }
    return status;
}
