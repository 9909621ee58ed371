/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_number.h"
#include "cli/lasso_result.h"
#include "lasso/trust_curve.h"

static bool is_binomial(const struct soothe__lasso_result *r) {
    return r->options.family == SOOTHE__BINOMIAL;
}

/* ---- the table ------------------------------------------------------------------------------------------- */

static void print_head(FILE *out, const struct soothe__lasso_result *r) {
    fprintf(out, "%s: %zu rows to learn from, %zu held out, %zu features%s%s%s, %s", r->data, r->n_train, r->n_test,
            r->n_features, r->text_column ? " (words of \"" : "", r->text_column ? r->text_column : "",
            r->text_column ? "\")" : "", is_binomial(r) ? "binomial" : "gaussian");
    for (size_t p = 0; p < r->target.n_positive; p++)
        fprintf(out, "%s\"%s\"", p ? ", " : ", positive: ", r->target.positive[p]);
    fputc('\n', out);
    if (!r->factors) {
        fputs("no prior: the plain Lasso\n", out);
        return;
    }
    double least = INFINITY, largest = 0;
    for (size_t j = 0; j < r->n_features; j++) {
        least   = fmin(least, r->factors[j]);
        largest = fmax(largest, r->factors[j]);
    }
    fprintf(out, "penalty factors %.3g to %.3g from %s%s%s\n", least, largest, r->prior ? r->prior : r->model,
            r->by_rank ? ", by rank" : "", r->shuffled ? ", shuffled" : "");
}

static void print_trusts(FILE *out, const struct soothe__lasso_result *r) {
    const struct soothe__llm_lasso *f = &r->fit;
    if (f->n_trusts == 1)
        return;
    fprintf(out, "\ncross-validation, %zu folds; gain: mean difference of loss from 0 to %zu features\n", f->n_folds,
            f->n_compared);
    fprintf(out, "%-10s  %-22s  %9s  %9s\n", "power i", "gain", "best loss", "features");
    for (size_t t = 0; t < f->n_trusts; t++) {
        const struct soothe__lasso_trust *trust = &f->trusts[t];
        char                              gain[48];
        snprintf(gain, sizeof gain, "%+.5f +- %.5f", trust->gain, trust->gain_error);
        fprintf(out, "%d%-9s  %-22s  %9.5f  %9zu\n", trust->power,
                t == f->chosen ? " chosen"
                : t == 0       ? " plain"
                               : "",
                t ? gain : "", trust->cv_loss[trust->best], trust->path.points[trust->best].n_terms);
    }
    if (f->chosen != f->proposed)
        fprintf(out, "the gain of i = %zu is within %g standard error%s: the plain Lasso is kept\n", f->proposed,
                r->options.guard, r->options.guard == 1 ? "" : "s");
    else if (f->chosen == 0)
        fputs("no i has a gain without a higher best loss: the plain Lasso is kept\n", out);
}

static void print_point(FILE *out, const struct soothe__lasso_result *r, size_t t, size_t point) {
    const struct soothe__lasso_trust *trust = &r->fit.trusts[t];
    fprintf(out, "  | %8zu %9.5f", trust->path.points[point].n_terms, trust->cv_loss[point]);
    if (r->judged[t])
        fprintf(out, " %9.5f %9.5f", r->judged[t][point].loss, r->judged[t][point].error);
    if (r->judged[t] && is_binomial(r))
        fprintf(out, " %7.4f", r->judged[t][point].auroc);
}

static void print_columns(FILE *out, const struct soothe__lasso_result *r, bool two, bool units) {
    for (int c = 0; c < (two ? 2 : 1); c++) {
        if (!units) {
            const int width = 18 + (r->n_test ? 20 + (is_binomial(r) ? 8 : 0) : 0);
            char      head[32];
            snprintf(head, sizeof head, c ? "i = %d" : "plain", r->fit.trusts[r->fit.chosen].power);
            fprintf(out, "  | %-*s", width, head);
            continue;
        }
        fprintf(out, "  | %8s %9s", "features", "CV loss");
        if (r->n_test)
            fprintf(out, " %9s %9s", "test loss", is_binomial(r) ? "error" : "MSE");
        if (r->n_test && is_binomial(r))
            fprintf(out, " %7s", "AUROC");
    }
    fputc('\n', out);
}

/* The models that cross-validation would take with so many features at most; what they do on the held-out rows. */
static void print_curves(FILE *out, const struct soothe__lasso_result *r) {
    static const size_t               STEPS[] = {1,  2,   3,   5,   8,   10,  15,  20,   30,   50,
                                                 75, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000};
    const size_t                      chosen  = r->fit.chosen;
    const bool                        two     = chosen != 0;
    const struct soothe__lasso_trust *plain = &r->fit.trusts[0], *own = &r->fit.trusts[chosen];
    const size_t n_plain = plain->path.points[plain->best].n_terms, n_own = own->path.points[own->best].n_terms;
    fprintf(out, "\n%-9s", "");
    print_columns(out, r, two, false);
    fprintf(out, "%-9s", "at most");
    print_columns(out, r, two, true);
    for (size_t s = 0; s < sizeof STEPS / sizeof *STEPS; s++) {
        if (STEPS[s] >= (n_plain > n_own ? n_plain : n_own))
            break;
        fprintf(out, "%-9zu", STEPS[s]);
        print_point(out, r, 0, soothe__lasso_best_within(plain, STEPS[s]));
        if (two)
            print_point(out, r, chosen, soothe__lasso_best_within(own, STEPS[s]));
        fputc('\n', out);
    }
    fprintf(out, "%-9s", "best");
    print_point(out, r, 0, plain->best);
    if (two)
        print_point(out, r, chosen, own->best);
    fputc('\n', out);
}

struct ranked {
    const struct soothe__lasso_term *term;
    double                           size;
};

static int by_size(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->size != y->size)
        return x->size < y->size ? 1 : -1;
    return (x->term->j > y->term->j) - (x->term->j < y->term->j);
}

/* Terms of the chosen model by the size of their standardised coefficient; NULL when out of memory. */
static struct ranked *rank_terms(const struct soothe__lasso_trust *trust) {
    const struct soothe__lasso_point *p      = &trust->path.points[trust->best];
    struct ranked                    *ranked = soothe__calloc(p->n_terms + 1, sizeof *ranked);
    for (size_t k = 0; ranked && k < p->n_terms; k++)
        ranked[k] = (struct ranked){&p->terms[k], fabs(p->terms[k].b) * trust->path.sd[p->terms[k].j]};
    if (ranked && p->n_terms)
        qsort(ranked, p->n_terms, sizeof *ranked, by_size);
    return ranked;
}

static void print_selected(FILE *out, const struct soothe__lasso_result *r, int n_shown) {
    const struct soothe__lasso_trust *trust  = &r->fit.trusts[r->fit.chosen];
    const struct soothe__lasso_point *p      = &trust->path.points[trust->best];
    struct ranked                    *ranked = rank_terms(trust);
    if (!ranked)
        return;
    fprintf(out, "\nselected: %zu features at lambda %.5g, intercept %.5g", p->n_terms, p->lambda, p->intercept);
    if ((size_t)n_shown < p->n_terms)
        fprintf(out, "; the first %d", n_shown);
    fprintf(out, "\n%-32s %14s %14s%s\n", "feature", "coefficient", "standardised", r->factors ? "   factor" : "");
    for (size_t k = 0; k < p->n_terms && k < (size_t)n_shown; k++) {
        const struct soothe__lasso_term *term = ranked[k].term;
        fprintf(out, "%-32s %14.6g %14.6g", r->names[term->j], term->b, term->b * trust->path.sd[term->j]);
        if (r->factors)
            fprintf(out, " %8.4g", r->factors[term->j]);
        fputc('\n', out);
    }
    free(ranked);
}

void soothe__lasso_print(FILE *out, const struct soothe__lasso_result *r, int n_shown) {
    print_head(out, r);
    print_trusts(out, r);
    print_curves(out, r);
    print_selected(out, r, n_shown);
}

/* ---- JSON ------------------------------------------------------------------------------------------------- */

static json_t *text_or_null(const char *text) {
    return text ? json_string(text) : json_null();
}

/* Standard error of cv_loss over the folds. */
static double cv_error(const struct soothe__llm_lasso *f, size_t t, size_t point) {
    const struct soothe__lasso_trust *trust = &f->trusts[t];
    double                            sum   = 0;
    for (size_t k = 0; k < f->n_folds; k++) {
        const double d = trust->fold_loss[k * trust->path.n_points + point] - trust->cv_loss[point];
        sum += d * d;
    }
    return sqrt(sum / (double)(f->n_folds - 1) / (double)f->n_folds);
}

static json_t *json_point(const struct soothe__lasso_result *r, size_t t, size_t point) {
    const struct soothe__lasso_trust *trust = &r->fit.trusts[t];
    json_t *o = json_pack("{s:I, s:f, s:f, s:f, s:f}", "features", (json_int_t)trust->path.points[point].n_terms,
                          "lambda", trust->path.points[point].lambda, "train_loss", trust->path.points[point].loss,
                          "cv_loss", trust->cv_loss[point], "cv_loss_error", cv_error(&r->fit, t, point));
    if (r->judged[t]) {
        json_object_set_new(o, "test_loss", soothe__json_number(r->judged[t][point].loss));
        json_object_set_new(o, "test_error", soothe__json_number(r->judged[t][point].error));
        json_object_set_new(o, "test_auroc", soothe__json_number(r->judged[t][point].auroc));
    }
    return o;
}

static json_t *json_trust(const struct soothe__lasso_result *r, size_t t) {
    const struct soothe__lasso_trust *trust = &r->fit.trusts[t];
    struct soothe__trust_curve        curve;
    json_t                           *points = json_array();
    if (soothe__trust_curve(&curve, trust, NULL) == SOOTHE_OK) {
        for (size_t p = 0; p < curve.n; p++)
            json_array_append_new(points, json_point(r, t, curve.point[p]));
        soothe__trust_curve_free(&curve);
    }
    return json_pack("{s:i, s:f, s:f, s:o, s:o}", "power", (int)trust->power, "gain", trust->gain, "gain_error",
                     trust->gain_error, "best", json_point(r, t, trust->best), "curve", points);
}

static json_t *json_selected(const struct soothe__lasso_result *r) {
    const struct soothe__lasso_trust *trust  = &r->fit.trusts[r->fit.chosen];
    struct ranked                    *ranked = rank_terms(trust);
    json_t                           *list   = json_array();
    for (size_t k = 0; ranked && k < trust->path.points[trust->best].n_terms; k++) {
        const uint32_t j = ranked[k].term->j;
        json_array_append_new(list, json_pack("{s:s, s:f, s:f, s:f, s:o}", "feature", r->names[j], "coefficient",
                                              ranked[k].term->b, "standardised", ranked[k].term->b * trust->path.sd[j],
                                              "weight", trust->w[j], "factor",
                                              r->factors ? json_real(r->factors[j]) : json_null()));
    }
    free(ranked);
    return list;
}

static json_t *json_prior(const struct soothe__lasso_result *r) {
    if (!r->factors)
        return json_null();
    json_t *factors = json_object();
    for (size_t j = 0; j < r->n_features; j++)
        json_object_set_new(factors, r->names[j], json_real(r->factors[j]));
    return json_pack("{s:o, s:o, s:o, s:b, s:b, s:I, s:f, s:o}", "file", text_or_null(r->prior), "model",
                     text_or_null(r->model), "task", text_or_null(r->task), "by_rank", (int)r->by_rank, "shuffled",
                     (int)r->shuffled, "not_listed", (json_int_t)r->n_missing, "seconds", r->seconds_prior, "factors",
                     factors);
}

static json_t *json_target(const struct soothe__lasso_result *r) {
    json_t *positive = json_array();
    for (size_t p = 0; p < r->target.n_positive; p++)
        json_array_append_new(positive, json_string(r->target.positive[p]));
    return json_pack("{s:s, s:s, s:o}", "column", r->target_name, "family", is_binomial(r) ? "binomial" : "gaussian",
                     "positive", positive);
}

json_t *soothe__lasso_json(const struct soothe__lasso_result *r) {
    const struct soothe__llm_lasso *f      = &r->fit;
    json_t                         *trusts = json_array();
    for (size_t t = 0; t < f->n_trusts; t++)
        json_array_append_new(trusts, json_trust(r, t));
    json_t *data =
        json_pack("{s:s, s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:I}", "file", r->data, "sha256", r->data_sha256,
                  "test_file", text_or_null(r->test), "test_sha256", text_or_null(r->test ? r->test_sha256 : NULL),
                  "text_column", text_or_null(r->text_column), "train_rows", (json_int_t)r->n_train, "test_rows",
                  (json_int_t)r->n_test, "features", (json_int_t)r->n_features, "bad_rows", (json_int_t)r->n_bad);
    json_t *options = json_pack("{s:I, s:i, s:i, s:f, s:f, s:f}", "seed", (json_int_t)r->seed, "folds",
                                (int)r->options.n_folds, "lambdas", (int)r->options.n_lambdas, "lambda_min_ratio",
                                r->options.lambda_min_ratio, "guard", r->options.guard, "test_fraction", r->test_share);
    const struct soothe__lasso_trust *chosen = &f->trusts[f->chosen];
    return json_pack("{s:i, s:s, s:o, s:o, s:o, s:o, s:i, s:i, s:I, s:o, s:f, s:f, s:o, s:f}", "schema", 1, "tool",
                     SOOTHE_VERSION, "data", data, "target", json_target(r), "options", options, "prior", json_prior(r),
                     "chosen_power", (int)chosen->power, "proposed_power", (int)f->trusts[f->proposed].power,
                     "compared_features", (json_int_t)f->n_compared, "powers", trusts, "lambda",
                     chosen->path.points[chosen->best].lambda, "intercept", chosen->path.points[chosen->best].intercept,
                     "selected", json_selected(r), "seconds", r->seconds_fit);
}
