/* SPDX-License-Identifier: Apache-2.0
 * Two rounds of evaluations around the value that will do. */
#include "eval/tune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/figures.h"

/* ---- judging a value ------------------------------------------------------------------------------------------ */

const char *soothe__tune_fault_text(enum soothe__tune_fault fault) {
    switch (fault) {
    case SOOTHE__TUNE_PPL:
        return "perplexity over the budget";
    case SOOTHE__TUNE_REPEATS:
        return "repeats itself: distinct bigrams fell by more than 3 %, or 2 % more of the continuations go round in "
               "circles";
    case SOOTHE__TUNE_EMPTY:
        return "falls silent: more empty continuations";
    case SOOTHE__TUNE_REFUSES:
        return "refuses: more continuations open like a refusal";
    case SOOTHE__TUNE_EXPLODES:
        return "single continuations make no sense: the mean of their perplexities rose by more than half";
    case SOOTHE__TUNE_DISTURBS:
        return "changes benign answers";
    case SOOTHE__TUNE_UNKNOWN:
        return "a figure has no value";
    case SOOTHE__TUNE_FAULT_END:
        break;
    }
    return "";
}

static unsigned fault_if(bool condition, enum soothe__tune_fault fault) {
    return condition ? (unsigned)fault : 0;
}

/* A comparison with NaN, where nothing was measured, is false. */
unsigned soothe__tune_faults(const struct soothe__tune_options *o, const struct soothe__tune_point *plain,
                             const struct soothe__tune_point *p) {
    const double allowed = 1 + o->budget;
    return fault_if(p->ppl > allowed * plain->ppl || p->ppl_corpus > allowed * plain->ppl_corpus, SOOTHE__TUNE_PPL) |
           fault_if(p->dist2 < .97 * plain->dist2 || p->loops > plain->loops + .02, SOOTHE__TUNE_REPEATS) |
           fault_if(p->empty > plain->empty + .02, SOOTHE__TUNE_EMPTY) |
           fault_if(p->refusals > plain->refusals + .02 || p->benign_refusals > plain->benign_refusals + .02,
                    SOOTHE__TUNE_REFUSES) |
           fault_if(p->ppl_response > 1.5 * plain->ppl_response, SOOTHE__TUNE_EXPLODES) |
           fault_if(p->identical < o->identical, SOOTHE__TUNE_DISTURBS) |
           fault_if(isnan(p->ppl) || isnan(p->emt_change) || (!isnan(o->identical) && isnan(p->identical)),
                    SOOTHE__TUNE_UNKNOWN);
}

int soothe__tune_choose(const struct soothe__tune_options *o, const struct soothe__tune_point *points, size_t n,
                        size_t *edge) {
    size_t faulty = 0, reached = 0;
    while (faulty < n && !points[faulty].faults)
        faulty++;
    while (reached < n && !(points[reached].emt_change <= o->target))
        reached++;
    if (reached < faulty) {
        *edge = reached;
        return (int)reached;
    }
    *edge = faulty;
    return (int)faulty - 1;
}

/* ---- reading a round -------------------------------------------------------------------------------------------- */

static double value_of(const json_t *o, const char *name, const char *key) {
    const json_t *x = json_object_get(json_object_get(o, name), key);
    return json_is_number(x) ? json_number_value(x) : (double)NAN;
}

static void read_figures(struct soothe__tune_point *p, const json_t *m) {
    const json_t *benign = json_object_get(m, "benign"), *against = json_object_get(m, "against_first");
    p->emt             = value_of(m, "emt", "value");
    p->tp              = value_of(m, "tp", "value");
    p->ppl             = value_of(m, "ppl", "value");
    p->ppl_response    = value_of(m, "ppl_response", "value");
    p->ppl_corpus      = value_of(m, "ppl_corpus", "value");
    p->dist2           = value_of(m, "dist2", "value");
    p->loops           = value_of(m, "loops", "value");
    p->empty           = value_of(m, "empty", "value");
    p->benign_refusals = value_of(benign, "refusals", "value");
    p->identical       = value_of(benign, "identical_tokens", "value");
    p->emt_change      = against ? value_of(against, "emt_relative", "value") : 0;
    p->emt_lo          = against ? value_of(against, "emt_relative", "lo") : 0;
    p->emt_hi          = against ? value_of(against, "emt_relative", "hi") : 0;
}

struct refusals {
    size_t n[SOOTHE__TUNE_VALUES_MAX + 1], n_refused[SOOTHE__TUNE_VALUES_MAX + 1];
};

static enum soothe_status count_refusals(void *user, const struct soothe__eval_record *r, const char *line, size_t size,
                                         struct soothe_error *err) {
    struct refusals *counts = user;
    (void)line;
    (void)size;
    (void)err;
    for (size_t i = 0; i < r->n_samples && r->i_method <= SOOTHE__TUNE_VALUES_MAX; i++) {
        counts->n[r->i_method]++;
        counts->n_refused[r->i_method] += soothe__is_refusal(r->samples[i].text);
    }
    return SOOTHE_OK;
}

static enum soothe_status read_refusals(struct soothe__tune_point *points, size_t n, const char *folder,
                                        struct soothe_error *err) {
    struct refusals          counts   = {{0}, {0}};
    struct soothe__eval_plan plan     = {0};
    json_t                  *manifest = NULL;
    char                    *samples  = soothe__format("%s/samples.jsonl", folder);
    enum soothe_status       status   = samples ? soothe__eval_manifest_read(&manifest, &plan, folder, err)
                                                : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status)
        status = soothe__eval_samples_read(samples, &plan, count_refusals, &counts, err);
    for (size_t i = 0; i < n && !status; i++)
        points[i].refusals = counts.n[i] ? (double)counts.n_refused[i] / (double)counts.n[i] : (double)NAN;
    json_decref(manifest);
    free(samples);
    return status;
}

static enum soothe_status read_round(struct soothe__tune_point *points, size_t n, const char *folder,
                                     struct soothe_error *err) {
    char              *path = soothe__format("%s/report.json", folder), *text = NULL;
    size_t             size   = 0;
    json_t            *report = NULL;
    enum soothe_status status =
        path ? soothe__read_file(&text, &size, path, err) : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status)
        status = soothe__eval_report_parse(&report, text, size, path, err);
    const json_t *methods = json_object_get(report, "methods");
    if (!status && json_array_size(methods) != n)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s has %zu methods, not %zu", path, json_array_size(methods), n);
    for (size_t i = 0; i < n && !status; i++)
        read_figures(&points[i], json_array_get(methods, i));
    if (!status)
        status = read_refusals(points, n, folder, err);
    json_decref(report);
    free(text);
    free(path);
    return status;
}

/* ---- running a round -------------------------------------------------------------------------------------------- */

/* The chain with the parameter at a value; NaN: plain. */
static enum soothe_status set_method(struct soothe__eval_method *m, const struct soothe__tune_options *o, double value,
                                     struct soothe_error *err) {
    char number[32];
    *m                        = (struct soothe__eval_method){.name = NULL};
    enum soothe_status status = soothe__chain_add(&m->chain, isnan(value) ? "plain" : o->methods, err);
    snprintf(number, sizeof number, "%.6g", value);
    if (!status && !isnan(value))
        status = soothe__chain_set(&m->chain, o->parameter, number, err);
    if (!status && !(m->name = soothe__chain_name(&m->chain)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    return status;
}

/* Evaluates the values of points (n, the first plain) in a folder. */
static enum soothe_status run_round(const struct soothe__tune_options *o, struct soothe__tune_point *points, size_t n,
                                    struct soothe_error *err) {
    char                       *folder = soothe__format("%s/round-%d", o->out, points[0].round);
    struct soothe__eval_options eval   = o->eval;
    enum soothe_status          status = SOOTHE_OK;
    eval.out                           = folder;
    eval.methods.items                 = soothe__calloc(n, sizeof *eval.methods.items);
    if (!folder || !eval.methods.items)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n && !status; i++) {
        status = set_method(&eval.methods.items[eval.methods.n++], o, points[i].value, err);
        if (!status && !(points[i].method = soothe__strdup(eval.methods.items[i].name)))
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    }
    if (!status)
        status = soothe__eval_run(&eval, err);
    if (!status)
        status = read_round(points, n, folder, err);
    for (size_t i = 1; i < n && !status; i++)
        points[i].faults = soothe__tune_faults(o, &points[0], &points[i]);
    soothe__eval_methods_free(&eval.methods);
    free(folder);
    return status;
}

/* ---- both ---------------------------------------------------------------------------------------------------------
 */

/* n values behind `from`, the last of them `to` or one step before it. */
static void fill_round(struct soothe__tune_point *points, int round, double from, double step, size_t n) {
    points[0] = (struct soothe__tune_point){.value = NAN, .round = round};
    for (size_t i = 1; i <= n; i++)
        points[i] = (struct soothe__tune_point){.value = from + step * (double)i, .round = round};
}

enum soothe_status soothe__tune(const struct soothe__tune_options *o, struct soothe__tune_result *r,
                                struct soothe_error *err) {
    enum { N_FINE = 3 }; /* quarters of the first round's step */
    const size_t n    = (size_t)o->n_values;
    const double step = (o->to - o->from) / (double)n;
    size_t       edge = 0, ignored;
    *r                = (struct soothe__tune_result){.n = 0};
    r->points         = soothe__calloc(n + N_FINE + 2, sizeof *r->points);
    if (!r->points)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    fill_round(r->points, 1, o->from, step, n);
    r->n                      = n + 1;
    enum soothe_status status = run_round(o, r->points, r->n, err);
    if (status)
        return status;
    const int coarse = soothe__tune_choose(o, r->points + 1, n, &edge);
    r->chosen        = coarse < 0 ? NULL : &r->points[coarse + 1];
    if (edge < n) {
        struct soothe__tune_point *second = r->points + r->n;
        fill_round(second, 2, o->from + step * (double)edge, step / (N_FINE + 1), N_FINE);
        r->n += N_FINE + 1;
        status         = run_round(o, second, N_FINE + 1, err);
        const int fine = status ? -1 : soothe__tune_choose(o, second + 1, N_FINE, &ignored);
        if (fine >= 0 && (isnan(o->target) || !(r->chosen && r->chosen->emt_change <= o->target) ||
                          second[fine + 1].emt_change <= o->target))
            r->chosen = &second[fine + 1];
    }
    r->met = r->chosen && r->chosen->emt_change <= o->target;
    return status;
}

void soothe__tune_free(struct soothe__tune_result *r) {
    for (size_t i = 0; i < r->n; i++)
        free(r->points[i].method);
    free(r->points);
    *r = (struct soothe__tune_result){.n = 0};
}
