/* SPDX-License-Identifier: Apache-2.0
 * Fitting SASA's delta form: the model continues prompts as it is, candidates of every token are branched, and
 * u minimises  sum over rows and candidates ((m_v - mean m) - u.(e_v - mean e))^2 + ridge |u|^2.
 * A fifth of the rows picks the ridge, and is learnt from then; another gives the figure and decides nothing. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/candidates.h"
#include "methods/sasa_delta.h"
#include "methods/sasa_delta_file.h"
#include "score/probe_fit.h"

enum { FOLDS = 5, PARALLEL = 8 };
enum part { TRAIN = 1, PICK = 2, HELD_OUT = 4 };
static const double RIDGES[] = {1e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 3}; /* of the mean diagonal of the sums */

struct fit {
    const struct soothe__probe *probe;
    double                      length;
    float                      *embeddings; /* (n_vocab, d) */
    int32_t                     d, n_vocab;
    bool                        out_of_memory;

    /* what was seen: candidates row by row */
    struct seen {
        int32_t row;
        int32_t token;
        float   margin;
    } * seen;
    size_t  n_seen, capacity;
    int32_t n_rows;
};

static float measure(void *self, const float *state) {
    const struct fit *f = self;
    return soothe__margin(f->probe, f->length, state);
}

/* The model goes on as it is. */
static void no_bonus(const void *self, float dose, const struct soothe__candidate *c, int32_t n, float *bonus) {
    (void)self;
    (void)dose;
    (void)c;
    for (int32_t i = 0; i < n; i++)
        bonus[i] = 0;
}

static void observe(void *self, const float *state, const struct soothe__candidate *c, int32_t n) {
    struct fit *f = self;
    (void)state;
    if (f->n_seen + (size_t)n > f->capacity) {
        const size_t capacity = 2 * f->capacity + 4096;
        struct seen *seen     = soothe__realloc(f->seen, capacity, sizeof *seen);
        if (!seen) {
            f->out_of_memory = true;
            return;
        }
        f->seen     = seen;
        f->capacity = capacity;
    }
    for (int32_t i = 0; i < n; i++)
        f->seen[f->n_seen++] = (struct seen){f->n_rows, c[i].id, c[i].value};
    f->n_rows++;
}

/* ---- seeing --------------------------------------------------------------------------------------------------- */

static enum soothe_status see(struct fit *f, struct llama_model *model, const struct soothe__prompt *prompts,
                              size_t n_prompts, const struct soothe__generate_options *options, int32_t k,
                              int32_t n_threads, struct soothe_error *err) {
    struct soothe_session_params   p    = soothe_session_params_default();
    struct soothe_session         *s    = NULL;
    struct soothe__candidates_rule rule = {.k         = k,
                                           .top_p     = 0.99f,
                                           .under     = INFINITY,
                                           .keep_rest = true,
                                           .measure   = measure,
                                           .bonus     = no_bonus,
                                           .observe   = observe,
                                           .self      = f};
    if (n_threads > 0)
        p.context.n_threads = p.context.n_threads_batch = n_threads;
    soothe__generate_context(&p.context, model, prompts, n_prompts, options, PARALLEL);
    struct soothe__branch_plan plan = {.node = "result_norm", .n_spares = soothe__branch_context(&p.context, model, k)};
    enum soothe_status         status = soothe_session_new(&s, model, NULL, &p, err);
    if (!status)
        status = soothe__candidates_attach(s, &rule, &plan, err);
    if (!status)
        status = soothe__generate(s, prompts, n_prompts, options, NULL, err);
    soothe_session_free(s);
    if (!status && f->out_of_memory)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for branches");
    return status;
}

static void take_embedding(void *user, int32_t token, const float *e) {
    struct fit *f = user;
    if (token < f->n_vocab)
        memcpy(f->embeddings + (size_t)token * (size_t)f->d, e, (size_t)f->d * sizeof *e);
}

/* ---- least squares -------------------------------------------------------------------------------------------- */

struct sums {
    double *a, *y, *e; /* (d, d) lower triangle, (d), (d) scratch */
    double  yy, residual;
    size_t  n;
};

static size_t row_end(const struct fit *f, size_t from) {
    size_t to = from;
    while (to < f->n_seen && f->seen[to].row == f->seen[from].row)
        to++;
    return to;
}

/* Differences of candidate i from the means over its row [from, to): e (d), and the margin's. */
static double difference(const struct fit *f, size_t from, size_t to, size_t i, const double *mean_e, double *e) {
    double mean = 0;
    for (size_t k = from; k < to; k++)
        mean += (double)f->seen[k].margin / (double)(to - from);
    const float *x = f->embeddings + (size_t)f->seen[i].token * (size_t)f->d;
    for (int32_t j = 0; j < f->d; j++)
        e[j] = (double)x[j] - mean_e[j];
    return (double)f->seen[i].margin - mean;
}

static void mean_embedding(const struct fit *f, size_t from, size_t to, double *mean) {
    memset(mean, 0, (size_t)f->d * sizeof *mean);
    for (size_t k = from; k < to; k++)
        for (int32_t j = 0; j < f->d; j++)
            mean[j] += (double)f->embeddings[(size_t)f->seen[k].token * (size_t)f->d + (size_t)j] / (double)(to - from);
}

static void add(struct sums *s, int32_t d, double m) {
    for (int32_t j = 0; j < d; j++) {
        s->y[j] += s->e[j] * m;
        for (int32_t k = 0; k <= j; k++)
            s->a[(size_t)j * (size_t)d + (size_t)k] += s->e[j] * s->e[k];
    }
    s->yy += m * m;
    s->n++;
}

static enum part part_of(int32_t row) {
    return row % FOLDS == 0 ? HELD_OUT : row % FOLDS == 1 ? PICK : TRAIN;
}

/* The rows of some parts. u NULL: adds them to a and y; else sums up the residuals that u leaves. */
static void pass(const struct fit *f, struct sums *s, const double *u, int parts, double *mean_e) {
    s->yy = s->residual = 0;
    s->n                = 0;
    for (size_t from = 0, to; from < f->n_seen; from = to) {
        to = row_end(f, from);
        if (!((int)part_of(f->seen[from].row) & parts))
            continue;
        mean_embedding(f, from, to, mean_e);
        for (size_t i = from; i < to; i++) {
            const double m       = difference(f, from, to, i, mean_e, s->e);
            double       guessed = 0;
            if (!u) {
                add(s, f->d, m);
                continue;
            }
            for (int32_t j = 0; j < f->d; j++)
                guessed += u[j] * s->e[j];
            s->yy += m * m;
            s->residual += (m - guessed) * (m - guessed);
            s->n++;
        }
    }
}

/* u (d) by the sums so far; a is not changed, factor (d, d) is scratch. */
static bool solve_ridge(const struct sums *s, int32_t d, double ridge, double *factor, double *u) {
    const size_t n     = (size_t)d;
    double       trace = 0;
    memcpy(factor, s->a, n * n * sizeof *factor);
    memcpy(u, s->y, n * sizeof *u);
    for (size_t j = 0; j < n; j++)
        trace += s->a[j * n + j];
    for (size_t j = 0; j < n; j++)
        factor[j * n + j] += ridge * trace / (double)n;
    return soothe__cholesky_solve(factor, d, u);
}

static double r2_of(const struct fit *f, struct sums *s, const double *u, int parts, double *mean) {
    pass(f, s, u, parts, mean);
    return s->yy > 0 ? 1 - s->residual / s->yy : 0;
}

/* The ridge with which the rows of PICK are explained best. */
static double pick_ridge(const struct fit *f, struct sums *s, double *factor, double *u, double *mean) {
    double best = -INFINITY, ridge = RIDGES[0];
    pass(f, s, NULL, TRAIN, mean);
    for (size_t i = 0; i < sizeof RIDGES / sizeof *RIDGES; i++) {
        const double r2 = solve_ridge(s, f->d, RIDGES[i], factor, u) ? r2_of(f, s, u, PICK, mean) : -INFINITY;
        if (r2 > best) {
            best  = r2;
            ridge = RIDGES[i];
        }
    }
    pass(f, s, NULL, PICK, mean); /* added to the sums */
    return ridge;
}

static enum soothe_status solve(const struct fit *f, struct soothe__sasa_delta *delta,
                                struct soothe__sasa_delta_report *r, struct soothe_error *err) {
    const size_t       d      = (size_t)f->d;
    double            *mean   = soothe__calloc(d, sizeof *mean);
    double            *u      = soothe__calloc(d, sizeof *u);
    double            *factor = soothe__calloc(d * d, sizeof *factor);
    struct sums        s      = {soothe__calloc(d * d, sizeof(double)),
                                 soothe__calloc(d, sizeof(double)),
                                 soothe__calloc(d, sizeof(double)),
                                 0,
                                 0,
                                 0};
    enum soothe_status status = SOOTHE_OK;
    delta->u                  = soothe__calloc(d, sizeof *delta->u);
    if (!s.a || !s.y || !s.e || !mean || !u || !factor || !delta->u)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d sums", f->d);
    if (!status) {
        r->ridge = pick_ridge(f, &s, factor, u, mean);
        if (!solve_ridge(&s, f->d, r->ridge, factor, u))
            status = soothe__fail(err, SOOTHE_E_NUMERIC, "%zu branches do not determine a direction: take more prompts",
                                  f->n_seen);
    }
    if (!status) {
        r->r2_train   = r2_of(f, &s, u, TRAIN | PICK, mean);
        r->r2         = r2_of(f, &s, u, HELD_OUT, mean);
        r->n_held_out = s.n;
        for (size_t j = 0; j < d; j++)
            delta->u[j] = (float)u[j];
    }
    free(s.a);
    free(s.y);
    free(s.e);
    free(mean);
    free(u);
    free(factor);
    return status;
}

/* ---- all of it ------------------------------------------------------------------------------------------------ */

static enum soothe_status save(const struct fit *f, struct soothe__sasa_delta *delta,
                               const struct soothe__sasa_delta_report *r,
                               const struct soothe__generate_options *options, int32_t k, const char *path,
                               struct soothe_error *err) {
    const struct soothe__fact facts[] = {{"seed", NULL, (double)options->sampling.seed},
                                         {"tokens_per_text", NULL, (double)options->n_predict},
                                         {"candidates", NULL, (double)k},
                                         {"rows", NULL, (double)r->n_rows},
                                         {"branches", NULL, (double)r->n_branches},
                                         {"ridge", NULL, r->ridge},
                                         {"r2_train", NULL, r->r2_train},
                                         {"r2_held_out", NULL, r->r2},
                                         {"version", SOOTHE_VERSION, 0}};
    delta->d                          = f->d;
    memcpy(delta->target, f->probe->target, 65);
    memcpy(delta->subspace, f->probe->identity, 65);
    snprintf(delta->target_name, sizeof delta->target_name, "%s", f->probe->target_name);
    return soothe__sasa_delta_write(delta, path, facts, sizeof facts / sizeof *facts, err);
}

enum soothe_status soothe__sasa_fit_delta(struct soothe__sasa_delta_report *report, struct llama_model *model,
                                          const char *model_path, const char *subspace_path,
                                          const struct soothe__prompt *prompts, size_t n_prompts,
                                          const struct soothe__generate_options *options, int32_t k, int32_t n_threads,
                                          const char *out_path, struct soothe_error *err) {
    const double              began = soothe__seconds();
    struct fit                f     = {.d = llama_model_n_embd(model)};
    struct soothe__sasa_delta delta = {.d = 0};
    struct soothe__probe     *probe = NULL;
    char                     *path  = NULL;
    *report                         = (struct soothe__sasa_delta_report){.n_rows = 0};
    enum soothe_status status =
        soothe__open_subspace(&probe, &path, subspace_path, "default.sasa.gguf", model_path, err);
    f.probe   = probe;
    f.n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    if (!status && probe->layer != SOOTHE__LAYER_FINAL)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "%s is a probe of layer %d: sasa needs one of the final state",
                              path, probe->layer);
    if (!status) {
        f.length     = soothe__probe_length(probe);
        f.embeddings = soothe__calloc((size_t)f.n_vocab * (size_t)f.d, sizeof *f.embeddings);
        if (!f.embeddings)
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the embeddings of %d tokens", f.n_vocab);
    }
    int32_t n_embeddings = 0;
    if (!status)
        status = soothe__token_embeddings(model_path, f.d, take_embedding, &f, &n_embeddings, err);
    if (!status)
        status = see(&f, model, prompts, n_prompts, options, k, n_threads, err);
    report->n_rows     = (size_t)f.n_rows;
    report->n_branches = f.n_seen;
    if (!status)
        status = solve(&f, &delta, report, err);
    if (!status)
        status = save(&f, &delta, report, options, k, out_path, err);
    report->seconds = soothe__seconds() - began;
    soothe__sasa_delta_free(&delta);
    soothe__probe_free(probe);
    free(path);
    free(f.embeddings);
    free(f.seen);
    return status;
}
