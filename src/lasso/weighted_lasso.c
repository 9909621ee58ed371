/* SPDX-License-Identifier: Apache-2.0
 * Coordinate descent on a quadratic that touches the loss in the present solution, remade until it no longer moves.
 *
 * Standardised columns are never made: a sparse column would become dense. With m_j, s_j its mean and deviation, u_i
 * the weight of row i in the quadratic and r_i the residual,
 *     sum_i u_i (x_ij - m_j)/s_j r_i = (sum_i u_i x_ij r_i - m_j sum_i u_i r_i) / s_j,
 * and a change of b_j by d takes d x_ij / s_j off the residuals of the column's own rows and adds d m_j / s_j to all of
 * them: the second part is kept as one number, `shift`. */
#include "lasso/weighted_lasso.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PASSES_MAX = 20000, ROUNDS_MAX = 200, HALVINGS_MAX = 30 };
static const double TOLERANCE     = 1e-13;
static const double PROBABILITY_U = 1e-5; /* least p(1-p): bounds the step of rows that are certain already */
static const double LOSS_LEFT     = 1e-3;

struct solver {
    const struct soothe__lasso_problem *problem;
    size_t                              n, q;
    double                              tolerance; /* absolute */
    double                             *mean, *sd; /* (q) */
    double                              b0, *b;    /* (q) of standardised columns */
    double                             *eta;       /* (n) b0 + x b                */
    /* the quadratic: (1/2) sum_i u_i (z_i - eta_i)^2, residual z_i - eta_i = r_i + shift */
    double *u, *r, *z; /* (n) */
    double  shift, sum_u, sum_ur;
    double *curvature, *x_u; /* (q) of the work set: sum u x~^2, sum u x (x~ standardised) */
    double *gradient;        /* (q) (1/n) x~_j' (y - mu), at the last solution */
    double *b_before;        /* (q) */
    double *eta_before;      /* (n) */
    /* features that may be selected at the present lambda */
    uint32_t *work;
    bool     *in_work;
    size_t    n_work;
};

/* ---- losses ------------------------------------------------------------------------------------------ */

static double row_loss(enum soothe__lasso_family family, double eta, double y) {
    if (family == SOOTHE__GAUSSIAN)
        return 0.5 * (y - eta) * (y - eta);
    return (eta > 0 ? eta + log1p(exp(-eta)) : log1p(exp(eta))) - y * eta; /* log(1 + e^eta) - y eta */
}

double soothe__lasso_loss(enum soothe__lasso_family family, const double *eta, const double *y, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += row_loss(family, eta[i], y[i]);
    return sum / (double)n;
}

static double mean_of_row(enum soothe__lasso_family family, double eta) {
    return family == SOOTHE__GAUSSIAN ? eta : 1.0 / (1.0 + exp(-eta));
}

void soothe__lasso_predict(double *eta, const struct soothe__lasso_point *point, const struct soothe__design *x) {
    for (size_t i = 0; i < x->n_rows; i++)
        eta[i] = point->intercept;
    for (size_t k = 0; k < point->n_terms; k++) {
        const struct soothe__column *c = &x->columns[point->terms[k].j];
        const double                 b = point->terms[k].b;
        for (size_t v = 0; v < c->n_values; v++)
            eta[c->rows ? c->rows[v] : v] += b * c->values[v];
    }
}

static double weight_of(const struct solver *s, size_t j) {
    return s->problem->w ? s->problem->w[j] : 1.0;
}

static double objective(const struct solver *s, double lambda) {
    double penalty = 0;
    for (size_t k = 0; k < s->n_work; k++)
        penalty += weight_of(s, s->work[k]) * fabs(s->b[s->work[k]]);
    return soothe__lasso_loss(s->problem->family, s->eta, s->problem->y, s->n) + lambda * penalty;
}

/* ---- setting up -------------------------------------------------------------------------------------- */

static void release(struct solver *s) {
    void *all[] = {s->mean,      s->sd,  s->b,        s->eta,      s->u,          s->r,    s->z,
                   s->curvature, s->x_u, s->gradient, s->b_before, s->eta_before, s->work, s->in_work};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static bool allocate(struct solver *s) {
    double **const of_rows[]    = {&s->eta, &s->u, &s->r, &s->z, &s->eta_before};
    double **const of_columns[] = {&s->mean, &s->sd, &s->b, &s->curvature, &s->x_u, &s->gradient, &s->b_before};
    bool           ok           = true;
    for (size_t i = 0; i < sizeof of_rows / sizeof *of_rows; i++)
        ok = (*of_rows[i] = soothe__calloc(s->n + 1, sizeof(double))) && ok;
    for (size_t i = 0; i < sizeof of_columns / sizeof *of_columns; i++)
        ok = (*of_columns[i] = soothe__calloc(s->q + 1, sizeof(double))) && ok;
    s->work    = soothe__calloc(s->q + 1, sizeof *s->work);
    s->in_work = soothe__calloc(s->q + 1, sizeof *s->in_work);
    return ok && s->work && s->in_work;
}

/* Mean and deviation of a column; false if a value is not finite. */
static bool measure_column(const struct soothe__column *c, size_t n, double *mean, double *sd) {
    double sum = 0, squares = 0;
    for (size_t k = 0; k < c->n_values; k++)
        sum += c->values[k];
    *mean = sum / (double)n;
    for (size_t k = 0; k < c->n_values; k++)
        squares += (c->values[k] - *mean) * (c->values[k] - *mean);
    squares += (double)(n - c->n_values) * *mean * *mean; /* the zeros of a sparse column */
    *sd = sqrt(squares / (double)n);
    if (*sd <= 1e-12 * fabs(*mean)) /* all but rounding */
        *sd = 0;
    return isfinite(*mean) && isfinite(*sd);
}

/* b = 0 and the intercept that is best then. */
static enum soothe_status start_at_null(struct solver *s, struct soothe_error *err) {
    const struct soothe__lasso_problem *p   = s->problem;
    double                              sum = 0, least = INFINITY, largest = -INFINITY;
    for (size_t i = 0; i < s->n; i++) {
        sum += p->y[i];
        least   = fmin(least, p->y[i]);
        largest = fmax(largest, p->y[i]);
    }
    if (!isfinite(sum))
        return soothe__fail(err, SOOTHE_E_NUMERIC, "a value of the target is not finite");
    if (s->n == 0 || least == largest)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "the target has only one value in %zu rows: nothing to learn",
                            s->n);
    const double mean = sum / (double)s->n;
    s->b0             = p->family == SOOTHE__GAUSSIAN ? mean : log(mean / (1.0 - mean));
    for (size_t i = 0; i < s->n; i++)
        s->eta[i] = s->b0;
    return SOOTHE_OK;
}

static enum soothe_status set_up(struct solver *s, const struct soothe__lasso_problem *problem,
                                 struct soothe_error *err) {
    *s = (struct solver){.problem = problem, .n = problem->x->n_rows, .q = problem->x->n_columns};
    if (!allocate(s))
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu rows and %zu features", s->n, s->q);
    for (size_t j = 0; j < s->q; j++) {
        if (!measure_column(&problem->x->columns[j], s->n, &s->mean[j], &s->sd[j]))
            return soothe__fail(err, SOOTHE_E_NUMERIC, "feature %zu holds a value that is not finite, or too large",
                                j + 1);
        if (!(weight_of(s, j) > 0) || !isfinite(weight_of(s, j)))
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "the penalty weight of feature %zu is %g, not above 0", j + 1,
                                weight_of(s, j));
    }
    return start_at_null(s, err);
}

/* gradient (q): (1/n) sum_i x~_ij (y_i - mu_i); fills r with y - mu on the way. */
static void find_gradient(struct solver *s) {
    double sum = 0;
    for (size_t i = 0; i < s->n; i++) {
        s->r[i] = s->problem->y[i] - mean_of_row(s->problem->family, s->eta[i]);
        sum += s->r[i];
    }
    for (size_t j = 0; j < s->q; j++) {
        const struct soothe__column *c   = &s->problem->x->columns[j];
        double                       dot = 0;
        if (s->sd[j] > 0) {
            for (size_t k = 0; k < c->n_values; k++)
                dot += c->values[k] * s->r[c->rows ? c->rows[k] : k];
            dot = (dot - s->mean[j] * sum) / (s->sd[j] * (double)s->n);
        }
        s->gradient[j] = dot;
    }
}

static double largest_lambda(const struct solver *s) {
    double lambda = 0;
    for (size_t j = 0; j < s->q; j++)
        lambda = fmax(lambda, fabs(s->gradient[j]) / weight_of(s, j));
    return lambda;
}

/* ---- the quadratic ------------------------------------------------------------------------------------- */

/* u, z and r at the present eta. u_i r_i = (y_i - mu_i)/n exactly, whatever least value u_i was given: hence the
 * solution that no longer moves is the optimum of the loss itself. */
static void make_quadratic(struct solver *s) {
    const double n = (double)s->n;
    s->shift = s->sum_u = s->sum_ur = 0;
    for (size_t i = 0; i < s->n; i++) {
        double residual = s->problem->y[i] - s->eta[i], curvature = 1;
        if (s->problem->family == SOOTHE__BINOMIAL) {
            const double mu = mean_of_row(SOOTHE__BINOMIAL, s->eta[i]);
            curvature       = fmax(mu * (1.0 - mu), PROBABILITY_U);
            residual        = (s->problem->y[i] - mu) / curvature;
        }
        s->u[i] = curvature / n;
        s->r[i] = residual;
        s->z[i] = s->eta[i] + residual;
        s->sum_u += s->u[i];
        s->sum_ur += s->u[i] * residual;
    }
    for (size_t w = 0; w < s->n_work; w++) {
        const uint32_t               j   = s->work[w];
        const struct soothe__column *c   = &s->problem->x->columns[j];
        double                       x_u = 0, xx_u = 0;
        for (size_t k = 0; k < c->n_values; k++) {
            const double x = c->values[k], xu = x * s->u[c->rows ? c->rows[k] : k];
            x_u += xu;
            xx_u += x * xu;
        }
        const double m  = s->mean[j];
        s->x_u[j]       = x_u;
        s->curvature[j] = (xx_u - 2 * m * x_u + m * m * s->sum_u) / (s->sd[j] * s->sd[j]);
    }
}

/* b_j <- S(x~_j'Ur + b_j a_j, lambda w_j) / a_j. Returns a_j (change of b_j)^2. */
static double step(struct solver *s, uint32_t j, double lambda) {
    const struct soothe__column *c = &s->problem->x->columns[j];
    const double                 a = s->curvature[j], threshold = lambda * weight_of(s, j);
    double                       dot = s->shift * s->x_u[j];
    if (c->rows)
        for (size_t k = 0; k < c->n_values; k++)
            dot += c->values[k] * s->u[c->rows[k]] * s->r[c->rows[k]];
    else
        for (size_t k = 0; k < c->n_values; k++)
            dot += c->values[k] * s->u[k] * s->r[k];
    if (!(a > 0))
        return 0;
    const double pull   = (dot - s->mean[j] * s->sum_ur) / s->sd[j] + a * s->b[j];
    const double b      = fabs(pull) > threshold ? (pull - copysign(threshold, pull)) / a : 0.0;
    const double change = b - s->b[j];
    if (change == 0)
        return 0;
    const double d = change / s->sd[j];
    if (c->rows)
        for (size_t k = 0; k < c->n_values; k++)
            s->r[c->rows[k]] -= d * c->values[k];
    else
        for (size_t k = 0; k < c->n_values; k++)
            s->r[k] -= d * c->values[k];
    s->shift += d * s->mean[j];
    s->sum_ur -= d * (s->x_u[j] - s->mean[j] * s->sum_u);
    s->b[j] = b;
    return a * change * change;
}

static double step_intercept(struct solver *s) {
    const double change = s->sum_ur / s->sum_u;
    s->b0 += change;
    s->shift -= change;
    s->sum_ur = 0;
    return s->sum_u * change * change;
}

/* One pass over the work set, or over its features that are not 0. Returns the largest step's a d^2. */
static double pass(struct solver *s, double lambda, bool nonzero_only) {
    double largest = 0;
    for (size_t w = 0; w < s->n_work; w++)
        if (!nonzero_only || s->b[s->work[w]] != 0)
            largest = fmax(largest, step(s, s->work[w], lambda));
    return fmax(largest, step_intercept(s));
}

static bool minimise_quadratic(struct solver *s, double lambda) {
    for (int n = 0; n < PASSES_MAX;) {
        n++;
        if (pass(s, lambda, false) <= s->tolerance)
            return true;
        while (n++ < PASSES_MAX && pass(s, lambda, true) > s->tolerance)
            ;
    }
    return false;
}

/* ---- one lambda ---------------------------------------------------------------------------------------- */

/* Where the quadratic's minimum is no better than where it was made, the way there is halved until it is. */
static void go_back_if_worse(struct solver *s, double lambda, double before, double b0_before) {
    for (int k = 0; k < HALVINGS_MAX && !(objective(s, lambda) <= before + 1e-13 * fabs(before)); k++) {
        s->b0 = 0.5 * (s->b0 + b0_before);
        for (size_t w = 0; w < s->n_work; w++)
            s->b[s->work[w]] = 0.5 * (s->b[s->work[w]] + s->b_before[s->work[w]]);
        for (size_t i = 0; i < s->n; i++)
            s->eta[i] = 0.5 * (s->eta[i] + s->eta_before[i]);
    }
}

/* The optimum over the work set. */
static bool solve_work(struct solver *s, double lambda) {
    for (int round = 0; round < ROUNDS_MAX; round++) {
        const double b0_before = s->b0;
        for (size_t w = 0; w < s->n_work; w++)
            s->b_before[s->work[w]] = s->b[s->work[w]];
        memcpy(s->eta_before, s->eta, s->n * sizeof *s->eta);
        const double before = s->problem->family == SOOTHE__BINOMIAL ? objective(s, lambda) : 0;
        make_quadratic(s);
        if (!minimise_quadratic(s, lambda))
            return false;
        for (size_t i = 0; i < s->n; i++)
            s->eta[i] = s->z[i] - (s->r[i] + s->shift);
        if (s->problem->family == SOOTHE__GAUSSIAN)
            return true; /* the loss is its own quadratic */
        go_back_if_worse(s, lambda, before, b0_before);
        double largest = s->sum_u * (s->b0 - b0_before) * (s->b0 - b0_before);
        for (size_t w = 0; w < s->n_work; w++) {
            const uint32_t j      = s->work[w];
            const double   change = s->b[j] - s->b_before[j];
            largest               = fmax(largest, s->curvature[j] * change * change);
        }
        if (largest <= s->tolerance)
            return true;
    }
    return false;
}

static void add_work(struct solver *s, size_t j) {
    s->in_work[j]        = true;
    s->work[s->n_work++] = (uint32_t)j;
}

/* The strong rule: a feature whose gradient was below w (2 lambda - lambda before) stays 0, nearly always. */
static void choose_work(struct solver *s, double lambda, double lambda_before) {
    s->n_work = 0;
    for (size_t j = 0; j < s->q; j++) {
        s->in_work[j] = false;
        if (s->b[j] != 0 || (s->sd[j] > 0 && fabs(s->gradient[j]) >= weight_of(s, j) * (2 * lambda - lambda_before)))
            add_work(s, j);
    }
}

/* …and where it does not, the optimum's own conditions tell. */
static bool solve(struct solver *s, double lambda, double lambda_before) {
    choose_work(s, lambda, lambda_before);
    for (;;) {
        if (!solve_work(s, lambda))
            return false;
        find_gradient(s);
        const size_t n_before = s->n_work;
        for (size_t j = 0; j < s->q; j++)
            if (!s->in_work[j] && fabs(s->gradient[j]) > lambda * weight_of(s, j) * (1 + 1e-9))
                add_work(s, j);
        if (s->n_work == n_before)
            return true;
    }
}

/* ---- the path -------------------------------------------------------------------------------------------- */

static bool keep_point(struct soothe__lasso_path *path, const struct solver *s, double lambda, double loss) {
    struct soothe__lasso_point *p = &path->points[path->n_points];
    *p                            = (struct soothe__lasso_point){.lambda = lambda, .intercept = s->b0, .loss = loss};
    for (size_t j = 0; j < s->q; j++)
        p->n_terms += s->b[j] != 0;
    p->terms = soothe__calloc(p->n_terms + 1, sizeof *p->terms);
    if (!p->terms)
        return false;
    size_t k = 0;
    for (size_t j = 0; j < s->q; j++) {
        if (s->b[j] == 0)
            continue;
        const double b = s->b[j] / s->sd[j];
        p->intercept -= b * s->mean[j];
        p->terms[k++] = (struct soothe__lasso_term){.j = (uint32_t)j, .b = b};
    }
    path->n_points++;
    return true;
}

static enum soothe_status follow(struct soothe__lasso_path *path, struct solver *s, const double *lambdas, size_t n,
                                 struct soothe_error *err) {
    const double null_loss = soothe__lasso_loss(s->problem->family, s->eta, s->problem->y, s->n);
    s->tolerance *= null_loss;
    find_gradient(s);
    double before = largest_lambda(s);
    for (size_t l = 0; l < n; l++) {
        if (!solve(s, lambdas[l], fmax(before, lambdas[l]))) {
            path->gave_up = true;
            return SOOTHE_OK;
        }
        const double loss = soothe__lasso_loss(s->problem->family, s->eta, s->problem->y, s->n);
        if (!isfinite(loss))
            return soothe__fail(err, SOOTHE_E_NUMERIC, "the fit at lambda = %g is not finite", lambdas[l]);
        if (!keep_point(path, s, lambdas[l], loss))
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a path of %zu solutions", n);
        if (loss < LOSS_LEFT * null_loss)
            return SOOTHE_OK;
        before = lambdas[l];
    }
    return SOOTHE_OK;
}

enum soothe_status soothe__lasso_path(struct soothe__lasso_path *path, const struct soothe__lasso_problem *problem,
                                      const double *lambdas, size_t n_lambdas, double tolerance,
                                      struct soothe_error *err) {
    struct solver s;
    *path                     = (struct soothe__lasso_path){0};
    enum soothe_status status = set_up(&s, problem, err);
    s.tolerance               = tolerance > 0 ? tolerance : TOLERANCE;
    if (status)
        goto done;
    path->points = soothe__calloc(n_lambdas + 1, sizeof *path->points);
    if (!path->points) {
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a path of %zu solutions", n_lambdas);
        goto done;
    }
    status     = follow(path, &s, lambdas, n_lambdas, err);
    path->mean = s.mean;
    path->sd   = s.sd;
    s.mean = s.sd = NULL;
    if (status)
        soothe__lasso_path_free(path);
done:
    release(&s);
    return status;
}

void soothe__lasso_path_free(struct soothe__lasso_path *path) {
    for (size_t l = 0; l < path->n_points; l++)
        free(path->points[l].terms);
    free(path->points);
    free(path->mean);
    free(path->sd);
    memset(path, 0, sizeof *path);
}

enum soothe_status soothe__lasso_lambda_max(double *lambda, const struct soothe__lasso_problem *problem,
                                            struct soothe_error *err) {
    struct solver            s;
    const enum soothe_status status = set_up(&s, problem, err);
    if (!status) {
        find_gradient(&s);
        *lambda = largest_lambda(&s);
    }
    release(&s);
    return status;
}
