/* SPDX-License-Identifier: Apache-2.0
 * soothe lasso: selects features of a table, with a language model's opinion of their names where that helps. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/lasso_result.h"
#include "cli/speak.h"
#include "engine/target_model.h"
#include "lasso/penalty_factors.h"
#include "lasso/word_features.h"
#include "pull/pull.h"

const struct soothe__command soothe__command_lasso = {
    .name    = "lasso",
    .run     = soothe__cmd_lasso,
    .summary = "select features of a table, guided by a model's opinion of their names",
    .help =
        "    soothe lasso --data cells.csv --target malignant -m smollm2-135m-instruct \\\n"
        "        --task \"whether a tumour is malignant\"\n"
        "    soothe lasso --data tweets.csv.xz --target class --positive 0,1 --features-from-text tweet \\\n"
        "        --prior words.csv\n"
        "\n"
        "LLM-Lasso: a Lasso whose penalty on each feature is its factor to the power i. The factors (2 matters much,\n"
        "5 does not matter) are read from a model's logits for the features' names (--task, -m), or from a file with\n"
        "the columns \"feature\" and \"factor\" (--prior). i is chosen by cross-validation; 0 is the plain Lasso: "
        "kept\n"
        "unless the gain exceeds --guard standard errors and the best loss is not above plain's.\n"
        "Without --task and --prior: the plain Lasso alone.\n"
        "The target is 0 or 1 (two values, or --positive) or a number. Rows held out for the test take no part in\n"
        "any choice. The loss is the log loss, or half the squared error, a row.\n",
};

struct choice {
    char  *data, *test, *target, *family, *positive, *text, *model, *task, *prior, *save_prior, *out; /* popt's */
    char  *seed, *test_fraction, *folds, *lambdas, *ratio, *guard, *max_power, *max_features, *min_texts, *shown;
    char **columns, **leave_out;
    int    by_rank, shuffle, skip_bad, json, n_threads;
};

struct settings {
    enum soothe__family_choice family;
    int32_t                    max_features, min_texts, shown, max_power, folds, lambdas;
    float                      test_share, ratio, guard;
    uint32_t                   seed;
};

struct work {
    const struct choice        *choice;
    struct settings             settings;
    volatile sig_atomic_t      *interrupted;
    struct soothe__words        words;
    struct soothe__design       train, test;
    double                     *y_train, *y_test;
    struct soothe__lasso_result result;
};

/* ---- reading what was asked for --------------------------------------------------------------------------- */

static int read_numbers(const struct choice *c, struct settings *s) {
    *s            = (struct settings){.max_features = 5000,
                                      .min_texts    = 5,
                                      .shown        = 20,
                                      .max_power    = 5,
                                      .folds        = 10,
                                      .lambdas      = 100,
                                      .test_share   = 0.2f,
                                      .ratio        = 0.01f,
                                      .guard        = 1,
                                      .seed         = 1};
    const bool ok = soothe__read_int(&s->max_features, c->max_features, "lasso", "--max-features", 1, 1 << 24) &&
                    soothe__read_int(&s->min_texts, c->min_texts, "lasso", "--min-texts", 1, 1 << 30) &&
                    soothe__read_int(&s->shown, c->shown, "lasso", "--top", 0, 1 << 30) &&
                    soothe__read_int(&s->max_power, c->max_power, "lasso", "--max-power", 0, SOOTHE__POWERS_MAX) &&
                    soothe__read_int(&s->folds, c->folds, "lasso", "--folds", 2, 1000) &&
                    soothe__read_int(&s->lambdas, c->lambdas, "lasso", "--lambdas", 2, 10000) &&
                    soothe__read_float(&s->test_share, c->test_fraction, "lasso", "--test-fraction", 0, 0.9) &&
                    soothe__read_float(&s->ratio, c->ratio, "lasso", "--lambda-min-ratio", 1e-6, 0.9) &&
                    soothe__read_float(&s->guard, c->guard, "lasso", "--guard", 0, 1000);
    return ok && (!c->seed || soothe__read_seed(&s->seed, c->seed, "lasso")) ? SOOTHE__EXIT_DONE : SOOTHE__EXIT_MISUSE;
}

static int check_choice(const struct choice *c, struct settings *s, const char *more) {
    if (more)
        return soothe__print_misuse("lasso", "\"%s\" belongs to no option (the table is given by --data)", more);
    if (!c->data || !c->target)
        return soothe__print_misuse("lasso", "%s",
                                    !c->data ? "which table? --data takes a CSV or JSON-lines file"
                                             : "which column is to be predicted? --target names it");
    if (c->prior && (c->model || c->task))
        return soothe__print_misuse("lasso", "--prior gives the factors: -m and --task would do nothing");
    if (c->model && !c->task)
        return soothe__print_misuse("lasso", "-m needs --task: what is to be predicted, in words");
    if ((c->by_rank || c->shuffle || c->save_prior) && !c->prior && !c->task)
        return soothe__print_misuse("lasso", "%s needs factors: --task or --prior",
                                    c->by_rank   ? "--by-rank"
                                    : c->shuffle ? "--shuffle"
                                                 : "--save-prior");
    if (c->test && c->test_fraction)
        return soothe__print_misuse("lasso", "--test names the test rows: --test-fraction would do nothing");
    if (c->text && (c->columns || c->leave_out))
        return soothe__print_misuse("lasso", "--features-from-text takes words alone, no columns");
    if (!c->text && (c->max_features || c->min_texts))
        return soothe__print_misuse("lasso", "--max-features and --min-texts are for --features-from-text");
    if (c->family && strcmp(c->family, "binomial") != 0 && strcmp(c->family, "gaussian") != 0)
        return soothe__print_misuse("lasso", "--family is binomial or gaussian, not \"%s\"", c->family);
    if (c->positive && c->family && !strcmp(c->family, "gaussian"))
        return soothe__print_misuse("lasso", "--positive is for classes, not for --family gaussian");
    if (c->n_threads < 0 || c->n_threads > 1024)
        return soothe__print_misuse("lasso", "-t takes a number of threads, not %d", c->n_threads);
    const int code = read_numbers(c, s);
    s->family      = !c->family          ? SOOTHE__FAMILY_AUTO
                     : *c->family == 'g' ? SOOTHE__FAMILY_GAUSSIAN
                                         : SOOTHE__FAMILY_BINOMIAL;
    return code;
}

/* ---- the table ------------------------------------------------------------------------------------------------ */

static enum soothe_status read_table(struct soothe__table *table, const struct work *w, const char *path,
                                     const char *const *columns, struct soothe_error *err) {
    const struct choice              *c      = w->choice;
    const struct soothe__table_choice choice = {.target        = c->target,
                                                .text          = c->text,
                                                .columns       = columns,
                                                .leave_out     = (const char *const *)c->leave_out,
                                                .numbers_alone = w->settings.family == SOOTHE__FAMILY_GAUSSIAN,
                                                .skip_bad      = c->skip_bad};
    const enum soothe_status          status = soothe__table_read(table, path, &choice, err);
    if (!status && table->counts.n_bad)
        fprintf(stderr, "soothe: %s: %zu bad row%s left out (%s)\n", path, table->counts.n_bad,
                table->counts.n_bad > 1 ? "s" : "", table->counts.first_bad);
    return status;
}

/* The texts whose mark is mark (marks NULL: all), pointing into the table; fresh. */
static const char **pick_texts(const struct soothe__table *table, const uint32_t *marks, uint32_t mark, size_t *n) {
    const char **texts = soothe__calloc(table->n_rows + 1, sizeof *texts);
    *n                 = 0;
    for (size_t i = 0; texts && i < table->n_rows; i++)
        if (!marks || marks[i] == mark)
            texts[(*n)++] = table->texts[i];
    return texts;
}

/* Features of the rows marked so; the words are chosen first, from these very rows, if there are none yet. */
static enum soothe_status make_design(struct soothe__design *x, struct work *w, const struct soothe__table *table,
                                      const uint32_t *marks, uint32_t mark, struct soothe_error *err) {
    enum soothe_status status;
    if (!w->choice->text) {
        struct soothe__design all;
        status = soothe__design_from_cells(&all, table->cells, table->n_rows, table->n_columns, err);
        if (!status) {
            status = soothe__design_take(x, &all, marks, mark, false, err);
            soothe__design_free(&all);
        }
        return status;
    }
    size_t       n;
    const char **texts = pick_texts(table, marks, mark, &n);
    if (!texts)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", table->n_rows);
    status = w->words.n ? SOOTHE_OK
                        : soothe__words_choose(&w->words, texts, n, (size_t)w->settings.max_features,
                                               (size_t)w->settings.min_texts, err);
    if (!status)
        status = soothe__words_design(x, &w->words, texts, n, err);
    free(texts);
    return status;
}

/* y of the rows marked so. */
static double *pick_values(const double *y, size_t n, const uint32_t *marks, uint32_t mark) {
    double *out = soothe__calloc(n + 1, sizeof *out);
    size_t  k   = 0;
    for (size_t i = 0; out && i < n; i++)
        if (marks[i] == mark)
            out[k++] = y[i];
    return out;
}

/* Rows marked 0 are learnt from, rows marked 1 (of the same table, or of --test) are held out. */
static enum soothe_status split(struct work *w, const struct soothe__table *table, const struct soothe__table *other,
                                double *y, uint32_t *marks, struct soothe_error *err) {
    struct soothe__lasso_result *r      = &w->result;
    struct soothe__rng           rng    = soothe__rng_seed(r->seed, 0x7e57);
    enum soothe_status           status = soothe__target_values(y, &r->target, table, r->data, err);
    if (!status && !other && r->test_share > 0)
        status = soothe__hold_out(marks, y, table->n_rows, r->test_share, r->target.family, &rng, err);
    if (!status)
        status = make_design(&w->train, w, table, marks, 0, err);
    if (!status && !(w->y_train = pick_values(y, table->n_rows, marks, 0)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu rows", table->n_rows);
    if (status)
        return status;
    if (!other) {
        status    = make_design(&w->test, w, table, marks, 1, err);
        w->y_test = pick_values(y, table->n_rows, marks, 1);
        return status || w->y_test ? status : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the test rows");
    }
    uint32_t *all = soothe__calloc(other->n_rows + 1, sizeof *all);
    w->y_test     = soothe__calloc(other->n_rows + 1, sizeof *w->y_test);
    status        = all && w->y_test ? make_design(&w->test, w, other, all, 0, err)
                                     : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the test rows");
    free(all);
    return status ? status : soothe__target_values(w->y_test, &r->target, other, r->test, err);
}

/* The features' names, from the table or its words, become the result's. */
static enum soothe_status take_names(struct work *w, const struct soothe__table *table, struct soothe_error *err) {
    struct soothe__lasso_result *r = &w->result;
    r->n_features                  = w->train.n_columns;
    r->names                       = soothe__calloc(r->n_features + 1, sizeof *r->names);
    for (size_t j = 0; r->names && j < r->n_features; j++)
        if (!(r->names[j] = soothe__strdup(w->choice->text ? w->words.names[j] : table->names[j])))
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the features' names");
    return r->names ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the features' names");
}

static enum soothe_status read_data(struct work *w, struct soothe_error *err) {
    struct soothe__lasso_result *r     = &w->result;
    const struct choice         *c     = w->choice;
    struct soothe__table         table = {0}, other = {0};
    double                      *y     = NULL;
    uint32_t                    *marks = NULL;
    enum soothe_status status = read_table(&table, w, c->data, c->text ? NULL : (const char *const *)c->columns, err);
    if (!status)
        status = soothe__target_decide(&r->target, &table, w->settings.family, c->positive, err);
    if (!status && c->test)
        status = read_table(&other, w, c->test, c->text ? NULL : (const char *const *)table.names, err);
    if (status)
        goto done;
    memcpy(r->data_sha256, table.sha256, sizeof r->data_sha256);
    memcpy(r->test_sha256, other.sha256, sizeof r->test_sha256);
    r->n_bad = table.counts.n_bad + other.counts.n_bad;
    y        = soothe__calloc(table.n_rows + 1, sizeof *y);
    marks    = soothe__calloc(table.n_rows + 1, sizeof *marks);
    status   = y && marks ? split(w, &table, c->test ? &other : NULL, y, marks, err)
                          : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu rows", table.n_rows);
    if (!status)
        status = take_names(w, &table, err);
    r->n_train = w->train.n_rows;
    r->n_test  = w->test.n_rows;
done:
    free(y);
    free(marks);
    soothe__table_free(&table);
    soothe__table_free(&other);
    return status;
}

/* ---- the factors --------------------------------------------------------------------------------------------------
 */

static enum soothe_status ask_model(struct work *w, struct soothe_error *err) {
    struct soothe__lasso_result        *r       = &w->result;
    struct llama_model                 *model   = NULL;
    char                               *path    = NULL;
    const struct soothe__factor_options options = {.task          = w->choice->task,
                                                   .n_threads     = w->choice->n_threads,
                                                   .show_progress = true,
                                                   .interrupted   = w->interrupted};
    enum soothe_status                  status  = soothe__choose_model(&path, w->choice->model, err);
    if (!status)
        status = soothe__target_load(&model, path, 0, err);
    if (!status)
        status =
            soothe__penalty_factors(r->factors, (const char *const *)r->names, r->n_features, model, &options, err);
    llama_model_free(model);
    free(path);
    return status;
}

static void shuffle_factors(double *factors, size_t n, uint32_t seed) {
    struct soothe__rng rng = soothe__rng_seed(seed, 0x5fff1e);
    for (size_t i = n; i > 1; i--) {
        const uint32_t k     = soothe__rng_below(&rng, (uint32_t)i);
        const double   other = factors[i - 1];
        factors[i - 1]       = factors[k];
        factors[k]           = other;
    }
}

static enum soothe_status find_factors(struct work *w, struct soothe_error *err) {
    struct soothe__lasso_result *r = &w->result;
    const struct choice         *c = w->choice;
    if (!c->task && !c->prior)
        return SOOTHE_OK;
    const double started = soothe__seconds();
    r->factors           = soothe__calloc(r->n_features + 1, sizeof *r->factors);
    if (!r->factors)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu factors", r->n_features);
    enum soothe_status status = c->prior ? soothe__factors_read(r->factors, (const char *const *)r->names,
                                                                r->n_features, c->prior, &r->n_missing, err)
                                         : ask_model(w, err);
    if (!status && r->n_missing)
        fprintf(stderr, "soothe: %s does not list %zu of %zu features: they get the mean of the others\n", c->prior,
                r->n_missing, r->n_features);
    if (!status && c->save_prior)
        status = soothe__factors_write(r->factors, (const char *const *)r->names, r->n_features, c->save_prior, err);
    if (!status && c->by_rank)
        status = soothe__factors_by_rank(r->factors, r->n_features, err);
    if (!status && c->shuffle)
        shuffle_factors(r->factors, r->n_features, r->seed);
    r->seconds_prior = soothe__seconds() - started;
    return status;
}

/* ---- doing it -----------------------------------------------------------------------------------------------------
 */

static void describe(struct work *w) {
    struct soothe__lasso_result *r = &w->result;
    const struct choice         *c = w->choice;
    const struct settings       *s = &w->settings;
    *r = (struct soothe__lasso_result){.data = c->data, .test = c->test, .target_name = c->target, .prior = c->prior};
    r->text_column              = c->text;
    r->task                     = c->task;
    r->model                    = c->task ? c->model ? c->model : "the default model" : NULL;
    r->by_rank                  = c->by_rank;
    r->shuffled                 = c->shuffle;
    r->seed                     = s->seed;
    r->test_share               = c->test ? 0 : round((double)s->test_share * 1e6) / 1e6;
    r->options                  = soothe__llm_lasso_defaults();
    r->options.n_folds          = s->folds;
    r->options.n_lambdas        = s->lambdas;
    r->options.lambda_min_ratio = round((double)s->ratio * 1e9) / 1e9;
    r->options.guard            = round((double)s->guard * 1e6) / 1e6;
    r->options.seed             = s->seed;
    r->options.n_threads        = c->n_threads;
    r->options.show_progress    = true;
    r->options.interrupted      = w->interrupted;
}

static enum soothe_status select_features(struct work *w, struct soothe_error *err) {
    struct soothe__lasso_result *r      = &w->result;
    enum soothe_status           status = read_data(w, err);
    if (!status)
        status = find_factors(w, err);
    if (status)
        return status;
    double *ones = soothe__calloc(r->n_features + 1, sizeof *ones);
    for (size_t j = 0; ones && j < r->n_features; j++)
        ones[j] = 1;
    const double started = soothe__seconds();
    r->options.family    = r->target.family;
    r->options.max_power = r->factors ? w->settings.max_power : 0;
    status = ones ? soothe__llm_lasso(&r->fit, &w->train, w->y_train, r->factors ? r->factors : ones, &r->options, err)
                  : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu features", r->n_features);
    free(ones);
    r->seconds_fit = soothe__seconds() - started;
    for (size_t t = 0; t < r->fit.n_trusts && r->n_test && !status; t++)
        status = soothe__lasso_judge_path(&r->judged[t], &r->fit.trusts[t], &w->test, w->y_test, r->target.family, err);
    return status;
}

static int give_json(const struct work *w, struct soothe_error *err) {
    json_t            *o      = soothe__lasso_json(&w->result);
    const size_t       flags  = JSON_INDENT(2) | JSON_REAL_PRECISION(10);
    enum soothe_status status = SOOTHE_OK;
    if (!o) {
        soothe__fail(err, SOOTHE_E_FORMAT, "the result cannot be written as JSON: is a name not UTF-8?");
        return soothe__print_failure(err);
    }
    if (w->choice->out) {
        struct soothe__new_file file = {0};
        status                       = soothe__new_file_open(&file, w->choice->out, err);
        if (!status) {
            json_dumpf(o, file.stream, flags); /* a failed write is found by commit */
            putc('\n', file.stream);
            status = soothe__new_file_commit(&file, err);
            soothe__new_file_abort(&file);
        }
    }
    if (!status && w->choice->json) {
        json_dumpf(o, stdout, flags);
        putchar('\n');
    }
    json_decref(o);
    return status ? soothe__print_failure(err) : SOOTHE__EXIT_DONE;
}

static void release(struct work *w) {
    struct soothe__lasso_result *r = &w->result;
    for (size_t t = 0; t < r->fit.n_trusts; t++)
        free(r->judged[t]);
    soothe__llm_lasso_free(&r->fit);
    for (size_t j = 0; r->names && j < r->n_features; j++)
        free(r->names[j]);
    free(r->names);
    free(r->factors);
    soothe__target_free(&r->target);
    soothe__words_free(&w->words);
    soothe__design_free(&w->train);
    soothe__design_free(&w->test);
    free(w->y_train);
    free(w->y_test);
}

static int run(const struct choice *choice, const char *more) {
    struct work         w = {.choice = choice};
    struct soothe_error err;
    int                 code = check_choice(choice, &w.settings, more);
    if (code)
        return code;
    w.interrupted = soothe__interrupt_flag();
    describe(&w);
    if (select_features(&w, &err))
        code = soothe__print_failure(&err);
    else {
        code = choice->json || choice->out ? give_json(&w, &err) : SOOTHE__EXIT_DONE;
        if (!code && !choice->json)
            soothe__lasso_print(stdout, &w.result, w.settings.shown);
    }
    release(&w);
    return code;
}

static void free_choice(struct choice *c) {
    char *all[] = {c->data,       c->test,          c->target,  c->family,    c->positive,     c->text,      c->model,
                   c->task,       c->prior,         c->out,     c->seed,      c->folds,        c->ratio,     c->guard,
                   c->save_prior, c->test_fraction, c->lambdas, c->max_power, c->max_features, c->min_texts, c->shown};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    char **lists[] = {c->columns, c->leave_out};
    for (size_t i = 0; i < 2; i++) {
        for (char **s = lists[i]; s && *s; s++)
            free(*s);
        free(lists[i]);
    }
}

int soothe__cmd_lasso(int argc, const char **argv) {
    struct choice           c         = {0};
    const struct poptOption options[] = {
        {"data", '\0', POPT_ARG_STRING, &c.data, 0, "CSV, TSV or JSON lines, also compressed; - for stdin", "FILE"},
        {"target", '\0', POPT_ARG_STRING, &c.target, 0, "the column to be predicted", "COLUMN"},
        {"family", '\0', POPT_ARG_STRING, &c.family, 0, "binomial or gaussian (by the target's values)", "NAME"},
        {"positive", '\0', POPT_ARG_STRING, &c.positive, 0, "the target's values to tell from all others", "A,B"},
        {"feature", '\0', POPT_ARG_ARGV, &c.columns, 0, "a column to select from; may be given again (all)", "COLUMN"},
        {"leave-out", '\0', POPT_ARG_ARGV, &c.leave_out, 0, "a column that is no feature; may be given again",
         "COLUMN"},
        {"features-from-text", '\0', POPT_ARG_STRING, &c.text, 0, "the features are this column's words", "COLUMN"},
        {"max-features", '\0', POPT_ARG_STRING, &c.max_features, 0, "so many words, the commonest (5000)", "N"},
        {"min-texts", '\0', POPT_ARG_STRING, &c.min_texts, 0, "words that stand in so many texts (5)", "N"},
        {"skip-bad", '\0', POPT_ARG_NONE, &c.skip_bad, 0, "leave out rows with a missing or bad cell", NULL},
        {"task", '\0', POPT_ARG_STRING, &c.task, 0, "what is to be predicted, in words for the model", "TEXT"},
        {"model", 'm', POPT_ARG_STRING, &c.model, 0,
         "whose opinion is read: a GGUF file or a name of soothe pull (the default model)", "MODEL"},
        {"prior", '\0', POPT_ARG_STRING, &c.prior, 0, "factors from a table (feature, factor) instead", "FILE"},
        {"save-prior", '\0', POPT_ARG_STRING, &c.save_prior, 0, "write the factors as such a table", "FILE"},
        {"by-rank", '\0', POPT_ARG_NONE, &c.by_rank, 0, "use only the factors' order, spread over 2 to 5", NULL},
        {"shuffle", '\0', POPT_ARG_NONE, &c.shuffle, 0, "control: give each feature another's factor", NULL},
        {"max-power", '\0', POPT_ARG_STRING, &c.max_power, 0, "largest i (5)", "N"},
        {"guard", '\0', POPT_ARG_STRING, &c.guard, 0, "standard errors by which i > 0 must gain (1; 0: the largest)",
         "X"},
        {"folds", '\0', POPT_ARG_STRING, &c.folds, 0, "of the cross-validation (10)", "N"},
        {"lambdas", '\0', POPT_ARG_STRING, &c.lambdas, 0, "points of the path (100)", "N"},
        {"lambda-min-ratio", '\0', POPT_ARG_STRING, &c.ratio, 0, "last lambda over the first (0.01)", "X"},
        {"test", '\0', POPT_ARG_STRING, &c.test, 0, "the rows of the test", "FILE"},
        {"test-fraction", '\0', POPT_ARG_STRING, &c.test_fraction, 0, "or so much of the data, drawn (0.2)", "X"},
        {"seed", '\0', POPT_ARG_STRING, &c.seed, 0, "of folds, test rows and --shuffle (1)", "N"},
        {"threads", 't', POPT_ARG_INT, &c.n_threads, 0, "threads (all)", "N"},
        {"top", '\0', POPT_ARG_STRING, &c.shown, 0, "show so many of the selected features (20)", "N"},
        {"output", 'o', POPT_ARG_STRING, &c.out, 0, "write everything as JSON there", "FILE"},
        {"json", '\0', POPT_ARG_NONE, &c.json, 0, "the same on stdout instead of the table", NULL},
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &soothe__command_lasso, argc, argv, options);
    if (code < 0)
        code = run(&c, poptGetArg(context));
    poptFreeContext(context);
    free_choice(&c);
    return code;
}
