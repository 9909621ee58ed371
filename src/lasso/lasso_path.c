/* SPDX-License-Identifier: Apache-2.0 */
#include "lasso/lasso_path.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "lasso/trust_curve.h"

struct soothe__llm_lasso_options soothe__llm_lasso_defaults(void) {
    return (struct soothe__llm_lasso_options){.family           = SOOTHE__BINOMIAL,
                                              .max_power        = 5,
                                              .n_folds          = 10,
                                              .n_lambdas        = 100,
                                              .lambda_min_ratio = 0.01,
                                              .guard            = 1.0,
                                              .seed             = 1};
}

/* Of a fold only its loss is used, whose error is of second order in the coefficients'. */
static const double FOLD_TOLERANCE = 1e-9;

/* One part of the rows: fitted to `in`, judged on `out`. */
struct fold {
    struct soothe__design in, out;
    double               *y_in, *y_out;
};

struct work {
    const struct soothe__design            *x;
    const double                           *y;
    const struct soothe__llm_lasso_options *options;
    struct soothe__llm_lasso               *result;
    uint32_t                               *part;                             /* (n) fold of each row */
    double                                 *lambdas[SOOTHE__POWERS_MAX + 1];  /* (L) each */
    size_t                                 *n_points[SOOTHE__POWERS_MAX + 1]; /* (K + 1) reached by each fit */
    struct soothe__progress                 progress;
    size_t                                  n_done;
};

/* ---- folds --------------------------------------------------------------------------------------------- */

static void shuffle(uint32_t *a, size_t n, struct soothe__rng *rng) {
    for (size_t i = n; i > 1; i--) {
        const uint32_t k = soothe__rng_below(rng, (uint32_t)i);
        const uint32_t t = a[i - 1];
        a[i - 1]         = a[k];
        a[k]             = t;
    }
}

enum soothe_status soothe__deal_rows(uint32_t *part, const double *y, size_t n, uint32_t n_parts,
                                     enum soothe__lasso_family family, struct soothe__rng *rng,
                                     struct soothe_error *err) {
    uint32_t *order = n < UINT32_MAX ? soothe__calloc(n + 1, sizeof *order) : NULL;
    if (!order)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the folds of %zu rows", n);
    uint32_t next = 0;
    for (int class = 0; class < 2; class ++) {
        size_t k = 0;
        for (size_t i = 0; i < n; i++)
            if (family == SOOTHE__BINOMIAL ? (y[i] != 0) == class : class == 0)
                order[k++] = (uint32_t)i;
        shuffle(order, k, rng);
        for (size_t i = 0; i < k; i++)
            part[order[i]] = next++ % n_parts; /* goes on where the other class ended: sizes differ by at most 1 */
    }
    free(order);
    return SOOTHE_OK;
}

static void free_fold(struct fold *fold) {
    soothe__design_free(&fold->in);
    soothe__design_free(&fold->out);
    free(fold->y_in);
    free(fold->y_out);
}

/* Made for each fit anew: copying is cheap beside fitting, and K copies of a large table are not at hand. */
static enum soothe_status make_fold(struct fold *fold, const struct work *w, uint32_t k, struct soothe_error *err) {
    const size_t n    = w->x->n_rows;
    size_t       n_in = 0, n_out = 0;
    *fold                     = (struct fold){0};
    enum soothe_status status = soothe__design_take(&fold->in, w->x, w->part, k, true, err);
    if (!status)
        status = soothe__design_take(&fold->out, w->x, w->part, k, false, err);
    fold->y_in  = soothe__calloc(n + 1, sizeof *fold->y_in);
    fold->y_out = soothe__calloc(n + 1, sizeof *fold->y_out);
    if (!status && (!fold->y_in || !fold->y_out))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the folds of %zu rows", n);
    for (size_t i = 0; i < n && !status; i++)
        if (w->part[i] == k)
            fold->y_out[n_out++] = w->y[i];
        else
            fold->y_in[n_in++] = w->y[i];
    if (status)
        free_fold(fold);
    return status;
}

static enum soothe_status deal_folds(struct work *w, struct soothe_error *err) {
    const size_t n = w->x->n_rows;
    w->part        = soothe__calloc(n + 1, sizeof *w->part);
    if (!w->part)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the folds of %zu rows", n);
    struct soothe__rng rng = soothe__rng_seed(w->options->seed, 0x1a550);
    return soothe__deal_rows(w->part, w->y, n, (uint32_t)w->options->n_folds, w->options->family, &rng, err);
}

/* ---- weights and lambdas ----------------------------------------------------------------------------------- */

static enum soothe_status make_weights(struct work *w, const double *factors, struct soothe_error *err) {
    const size_t q        = w->x->n_columns;
    double       mean_log = 0; /* factors^i without overflow: around their geometric mean */
    for (size_t j = 0; j < q; j++) {
        if (!(factors[j] > 0) || !isfinite(factors[j]))
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "the penalty factor of feature %zu is %g, not above 0", j + 1,
                                factors[j]);
        mean_log += log(factors[j]) / (double)q;
    }
    for (size_t t = 0; t < w->result->n_trusts; t++) {
        struct soothe__lasso_trust *trust = &w->result->trusts[t];
        double                      sum   = 0;
        for (size_t j = 0; j < q; j++)
            sum += trust->w[j] = exp(trust->power * (log(factors[j]) - mean_log));
        for (size_t j = 0; j < q; j++)
            trust->w[j] *= (double)q / sum;
        if (!isfinite(sum))
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "penalty factors to the power %d leave the range of numbers",
                                trust->power);
    }
    return SOOTHE_OK;
}

static enum soothe_status make_lambdas(struct work *w, size_t t, struct soothe_error *err) {
    const int32_t                      n       = w->options->n_lambdas;
    const struct soothe__lasso_problem problem = {w->options->family, w->x, w->y, w->result->trusts[t].w};
    double                             largest = 0;
    const enum soothe_status           status  = soothe__lasso_lambda_max(&largest, &problem, err);
    if (status)
        return status;
    if (!(largest > 0))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "no feature says anything about the target: are all constant?");
    for (int32_t l = 0; l < n; l++)
        w->lambdas[t][l] = largest * pow(w->options->lambda_min_ratio, (double)l / (double)(n - 1));
    return SOOTHE_OK;
}

static enum soothe_status prepare(struct work *w, const double *factors, struct soothe_error *err) {
    const size_t n_folds = (size_t)w->options->n_folds, n_lambdas = (size_t)w->options->n_lambdas;
    w->result->n_folds  = n_folds;
    w->result->n_trusts = (size_t)w->options->max_power + 1;
    bool ok             = true;
    for (size_t t = 0; t < w->result->n_trusts; t++) {
        struct soothe__lasso_trust *trust = &w->result->trusts[t];
        trust->power                      = (int32_t)t;
        ok                                = (trust->w = soothe__calloc(w->x->n_columns + 1, sizeof *trust->w)) && ok;
        ok                                = (trust->cv_loss = soothe__calloc(n_lambdas, sizeof *trust->cv_loss)) && ok;
        ok = (trust->fold_loss = soothe__calloc(n_folds * n_lambdas, sizeof *trust->fold_loss)) && ok;
        ok = (w->lambdas[t] = soothe__calloc(n_lambdas, sizeof *w->lambdas[t])) && ok;
        ok = (w->n_points[t] = soothe__calloc(n_folds + 1, sizeof *w->n_points[t])) && ok;
    }
    if (!ok)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu paths", w->result->n_trusts);
    enum soothe_status status = make_weights(w, factors, err);
    for (size_t t = 0; t < w->result->n_trusts && !status; t++)
        status = make_lambdas(w, t, err);
    return status ? status : deal_folds(w, err);
}

/* ---- fitting ------------------------------------------------------------------------------------------------- */

/* Losses of the held-out rows along one fold's path. */
static enum soothe_status judge_fold(struct work *w, size_t t, size_t k, const struct fold *fold,
                                     const struct soothe__lasso_path *path, struct soothe_error *err) {
    double *eta = soothe__calloc(fold->out.n_rows + 1, sizeof *eta);
    if (!eta)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu predictions", fold->out.n_rows);
    double *loss = w->result->trusts[t].fold_loss + k * (size_t)w->options->n_lambdas;
    for (size_t l = 0; l < path->n_points; l++) {
        soothe__lasso_predict(eta, &path->points[l], &fold->out);
        loss[l] = soothe__lasso_loss(w->options->family, eta, fold->y_out, fold->out.n_rows);
    }
    free(eta);
    return SOOTHE_OK;
}

/* The path of weights t on all rows but fold k's, judged on those. */
static enum soothe_status fit_fold(struct work *w, size_t t, size_t k, struct soothe_error *err) {
    struct fold        fold;
    enum soothe_status status = make_fold(&fold, w, (uint32_t)k, err);
    if (status)
        return status;
    const struct soothe__lasso_problem problem = {w->options->family, &fold.in, fold.y_in, w->result->trusts[t].w};
    struct soothe__lasso_path          path;
    status = soothe__lasso_path(&path, &problem, w->lambdas[t], (size_t)w->options->n_lambdas, FOLD_TOLERANCE, err);
    if (!status) {
        w->n_points[t][k] = path.n_points;
        status            = judge_fold(w, t, k, &fold, &path, err);
        soothe__lasso_path_free(&path);
    }
    free_fold(&fold);
    return status;
}

/* The path of weights t, on fold k's rows; k = K: on all rows. */
static enum soothe_status fit(struct work *w, size_t t, size_t k, struct soothe_error *err) {
    if (w->options->interrupted && *w->options->interrupted)
        return soothe__fail(err, SOOTHE_E_INTERRUPTED, "interrupted");
    if (k < w->result->n_folds)
        return fit_fold(w, t, k, err);
    struct soothe__lasso_trust        *trust   = &w->result->trusts[t];
    const struct soothe__lasso_problem problem = {w->options->family, w->x, w->y, trust->w};
    const enum soothe_status           status =
        soothe__lasso_path(&trust->path, &problem, w->lambdas[t], (size_t)w->options->n_lambdas, 0, err);
    w->n_points[t][k] = trust->path.n_points;
    return status;
}

static enum soothe_status fit_all(struct work *w, struct soothe_error *err) {
    const size_t        n_fits    = w->result->n_folds + 1;
    const int           n_jobs    = (int)(w->result->n_trusts * n_fits);
    const int           n_threads = w->options->n_threads > 0 ? w->options->n_threads : omp_get_num_procs();
    enum soothe_status  status    = SOOTHE_OK;
    struct soothe_error first     = {0};
#pragma omp        parallel for schedule(dynamic) num_threads(n_threads)
    for (int job = 0; job < n_jobs; job++) {
               struct soothe_error own;
               enum soothe_status  seen;
#pragma omp atomic read
        seen                         = status;
        const enum soothe_status one = seen ? seen : fit(w, (size_t)job / n_fits, (size_t)job % n_fits, &own);
#pragma omp        critical(soothe_lasso_fits)
        {
                   if (one && !status) {
                       first = own;
       #pragma omp atomic write
                status = one;
            }
            w->n_done++;
            if (w->options->show_progress) {
                char detail[64];
                snprintf(detail, sizeof detail, "%zu of %d paths", w->n_done, n_jobs);
                soothe__progress_update(&w->progress, (double)w->n_done / n_jobs, detail);
            }
        }
    }
    return status ? soothe__fail(err, status, "%s", first.message) : SOOTHE_OK;
}

/* ---- reducing -------------------------------------------------------------------------------------------------- */

/* Paths end where the shortest of their fits does; the losses are put together to (K x n_points). */
static enum soothe_status average_folds(struct work *w, size_t t, struct soothe_error *err) {
    struct soothe__lasso_trust *trust   = &w->result->trusts[t];
    const size_t                n_folds = w->result->n_folds, n_lambdas = (size_t)w->options->n_lambdas;
    size_t                      n = w->n_points[t][0];
    for (size_t k = 1; k <= n_folds; k++)
        n = w->n_points[t][k] < n ? w->n_points[t][k] : n;
    if (n == 0)
        return soothe__fail(err, SOOTHE_E_NUMERIC, "the fit with factors to the power %d found no solution",
                            trust->power);
    for (size_t l = n; l < trust->path.n_points; l++)
        free(trust->path.points[l].terms);
    trust->path.n_points = n;
    for (size_t k = 0; k < n_folds; k++)
        memmove(trust->fold_loss + k * n, trust->fold_loss + k * n_lambdas, n * sizeof *trust->fold_loss);
    trust->best = 0;
    for (size_t l = 0; l < n; l++) {
        for (size_t k = 0; k < n_folds; k++)
            trust->cv_loss[l] += trust->fold_loss[k * n + l] / (double)n_folds;
        if (trust->cv_loss[l] < trust->cv_loss[trust->best])
            trust->best = l;
    }
    return SOOTHE_OK;
}

/* The area rewards a curve that falls early even where its end, the model that is then taken, is worse than plain's:
 * factors dealt out at random were chosen so, and lost on the test rows. */
static bool may_be_chosen(const struct soothe__llm_lasso *r, size_t t, double guard) {
    const struct soothe__lasso_trust *own = &r->trusts[t], *plain = &r->trusts[0];
    return guard == 0 || own->cv_loss[own->best] <= plain->cv_loss[plain->best];
}

static void choose(struct soothe__llm_lasso *r, double guard) {
    for (size_t t = 1; t < r->n_trusts; t++)
        if (may_be_chosen(r, t, guard) && r->trusts[t].gain > r->trusts[r->proposed].gain) /* plain's is 0 */
            r->proposed = t;
    const struct soothe__lasso_trust *p = &r->trusts[r->proposed];
    r->chosen                           = p->gain > guard * p->gain_error ? r->proposed : 0;
}

size_t soothe__lasso_best_within(const struct soothe__lasso_trust *trust, size_t n_features) {
    size_t best = 0;
    for (size_t l = 1; l < trust->path.n_points; l++)
        if (trust->path.points[l].n_terms <= n_features && trust->cv_loss[l] < trust->cv_loss[best])
            best = l;
    return best;
}

static void release(struct work *w) {
    free(w->part);
    for (size_t t = 0; t <= SOOTHE__POWERS_MAX; t++) {
        free(w->lambdas[t]);
        free(w->n_points[t]);
    }
}

static enum soothe_status check(const struct soothe__design *x, const double *y,
                                const struct soothe__llm_lasso_options *o, struct soothe_error *err) {
    if (o->max_power < 0 || o->max_power > SOOTHE__POWERS_MAX)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "the largest power is 0 to %d, not %d", SOOTHE__POWERS_MAX,
                            o->max_power);
    if (o->n_lambdas < 2 || !(o->lambda_min_ratio > 0 && o->lambda_min_ratio < 1))
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "a path has at least 2 lambdas, the last above 0 and below the first");
    if (x->n_columns == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "there is no feature to select from");
    size_t n_positive = 0;
    for (size_t i = 0; i < x->n_rows; i++)
        n_positive += y[i] != 0;
    const size_t fewest = o->family == SOOTHE__GAUSSIAN         ? x->n_rows
                          : n_positive < x->n_rows - n_positive ? n_positive
                                                                : x->n_rows - n_positive;
    if (o->n_folds < 2 || fewest < (size_t)o->n_folds || fewest < 2)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%d folds do not fit %zu %s", o->n_folds, fewest,
                            o->family == SOOTHE__GAUSSIAN ? "rows" : "rows of the rarer class");
    return SOOTHE_OK;
}

enum soothe_status soothe__llm_lasso(struct soothe__llm_lasso *result, const struct soothe__design *x, const double *y,
                                     const double *factors, const struct soothe__llm_lasso_options *options,
                                     struct soothe_error *err) {
    *result                   = (struct soothe__llm_lasso){0};
    struct work        w      = {.x = x, .y = y, .options = options, .result = result};
    enum soothe_status status = check(x, y, options, err);
    if (status)
        return status;
    w.progress = soothe__progress_start();
    status     = prepare(&w, factors, err);
    if (!status)
        status = fit_all(&w, err);
    if (options->show_progress)
        soothe__progress_finish(&w.progress);
    for (size_t t = 0; t < result->n_trusts && !status; t++)
        status = average_folds(&w, t, err);
    if (!status)
        status = soothe__compare_curves(result, err);
    if (!status)
        choose(result, options->guard);
    release(&w);
    if (status)
        soothe__llm_lasso_free(result);
    return status;
}

void soothe__llm_lasso_free(struct soothe__llm_lasso *result) {
    for (size_t t = 0; t <= SOOTHE__POWERS_MAX; t++) {
        struct soothe__lasso_trust *trust = &result->trusts[t];
        free(trust->w);
        free(trust->cv_loss);
        free(trust->fold_loss);
        soothe__lasso_path_free(&trust->path);
    }
    memset(result, 0, sizeof *result);
}
