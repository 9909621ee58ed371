/* SPDX-License-Identifier: Apache-2.0
 * soothe polar: combines scorers into one calibrated risk without labels, and measures what came of it. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sigmoid.h"
#include "base/statistics.h"
#include "cli/cli.h"
#include "cli/speak.h"
#include "score/polar.h"
#include "score/probe.h"

static int cmd_fit(int argc, const char **argv);
static int cmd_test(int argc, const char **argv);

static const struct soothe__command FIT = {
    .name    = "polar fit",
    .run     = cmd_fit,
    .summary = "learn to combine scorers from texts without labels",
    .help = "    soothe polar fit --scorer default --scorer lexicon --band -1,0.5 --data texts.jsonl -o combined.gguf\n"
            "    soothe polar fit -m smollm2-135m-instruct --scorer default --scorer probe.gguf --data texts.jsonl \\\n"
            "        --scalarisation quadratic -o combined.gguf\n"
            "\n"
            "Each scorer votes toxic, clean, or abstains between the two ends of its band: the k-th --band LO,HI "
            "belongs to\n"
            "the k-th --scorer (0.4,0.6 without). LO below 0: it never votes clean, as suits a list of words, whose "
            "silence\n"
            "says little. Rows have \"text\"; labels, if there are any, are not looked at, except with --supervised, "
            "which\n"
            "learns from them instead of the votes (logistic stacking). The fifth of the texts that probes are "
            "measured on is\n"
            "left alone. The file holds the scorers' names and identities, not the scorers.\n",
};

static const struct soothe__command TEST = {
    .name    = "polar test",
    .run     = cmd_test,
    .summary = "measure a combination, and its estimate of each scorer's errors",
    .help    = "    soothe polar test -m smollm2-135m-instruct --combined combined.gguf --data labelled.jsonl\n"
               "\n"
               "Prints the area under the ROC curve and the calibration error of every scorer and of the combination,\n"
               "and, for each scorer, the error that the combination estimates without labels beside the true one: their\n"
               "calibration error (ECE), and R2 over ten bins with as many texts each.\n",
};

static const struct soothe__command *const SUBCOMMANDS[] = {&FIT, &TEST};
enum { N_SUBCOMMANDS = sizeof SUBCOMMANDS / sizeof *SUBCOMMANDS };

const struct soothe__command soothe__command_polar = {
    .name    = "polar",
    .run     = soothe__cmd_polar,
    .summary = "combine scorers into one calibrated risk, without labels",
    .help    = "    soothe polar fit --scorer default --scorer lexicon --data texts.jsonl -o combined.gguf\n"
               "    soothe polar test --combined combined.gguf --data labelled.jsonl\n",
};

/* Without labels a scorer that is not sure abstains; learning from labels asks for no votes. */
static const float BAND_LO = 0.4F, BAND_HI = 0.6F, BAND_NONE = 0.499999F;

struct choice {
    char  *model, *scalarisation, *layer, *hidden, *epochs, *seed, *out, *combined, *threads; /* popt's, free() */
    char **data, **scorers, **bands;
    int    json, skip_bad, held_out, supervised;
};

struct work {
    struct soothe__probe_texts    texts;
    struct soothe__polar          polar;
    struct soothe__polar_options  options;
    struct soothe__scorer_options scorer_options;
    char                         *model_path;
    int32_t                       n_hidden;
    /* of the texts that are taken */
    const char   **list;
    uint32_t      *i_items;
    size_t         n;
    double        *scores, *risks;
    signed char   *votes;
    float         *features;
    unsigned char *labels;
    char           whys[SOOTHE__POLAR_SOURCES_MAX][96];
};

/* ---- reading what was asked for ------------------------------------------------------------------------ */

static bool parse_band(const char *text, float *lo, float *hi) {
    char         word[32];
    double       a, b;
    const size_t n = strcspn(text, ",");
    if (n >= sizeof word || text[n] != ',')
        return false;
    memcpy(word, text, n);
    word[n] = '\0';
    if (!soothe__parse_double(&a, word, -1, 2) || !soothe__parse_double(&b, text + n + 1, -1, 2) || !(a < b))
        return false;
    *lo = (float)a;
    *hi = (float)b;
    return true;
}

static int add_sources(struct work *w, const struct choice *c) {
    struct soothe_error err;
    char              **band = c->bands;
    for (char **spec = c->scorers; spec && *spec; spec++) {
        float lo = c->supervised ? BAND_NONE : BAND_LO, hi = c->supervised ? 0.5F : BAND_HI;
        if (band && *band && !parse_band(*band++, &lo, &hi))
            return soothe__print_misuse(FIT.name, "--band takes two numbers, LO,HI with LO < HI, not \"%s\"", band[-1]);
        if (soothe__polar_add_source(&w->polar, *spec, lo, hi, &err))
            return soothe__print_failure(&err);
    }
    if (w->polar.n_sources == 0)
        return soothe__print_misuse(FIT.name, "which scorers? --scorer names one and may be given again");
    if (band && *band)
        return soothe__print_misuse(FIT.name, "more --band than --scorer");
    return SOOTHE__EXIT_DONE;
}

static int check_choice(struct work *w, const struct choice *c, const char *command, const char *more) {
    uint32_t seed = 0;
    if (more)
        return soothe__print_misuse(command, "\"%s\" belongs to no option", more);
    if (!c->data || !c->data[0])
        return soothe__print_misuse(command, "which texts? --data takes a file");
    if (c->scalarisation && !soothe__scalarisation_parse(&w->options.scalarisation, c->scalarisation))
        return soothe__print_misuse(command, "--scalarisation is linear, quadratic, euclidean or chebyshev, not \"%s\"",
                                    c->scalarisation);
    if (c->layer && !soothe__layer_parse(&w->polar.layer, c->layer))
        return soothe__print_misuse(command, "--layer takes a block's number or final, not \"%s\"", c->layer);
    if (!soothe__read_int(&w->n_hidden, c->hidden, command, "--hidden", 0, 4096) ||
        !soothe__read_int(&w->options.n_epochs, c->epochs, command, "--epochs", 1, 100000) ||
        !soothe__read_int(&w->scorer_options.n_threads, c->threads, command, "-t", 1, 1024) ||
        (c->seed && !soothe__read_seed(&seed, c->seed, command)))
        return SOOTHE__EXIT_MISUSE;
    w->options.seed = seed;
    return SOOTHE__EXIT_DONE;
}

/* A model is fetched only where it is asked for: scorers of text alone need none. */
static enum soothe_status load(struct work *w, const struct choice *c, bool need_labels, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (char **path = c->data; *path && !status; path++)
        status = soothe__probe_texts_read(&w->texts, *path, need_labels, c->skip_bad != 0, err);
    if (!status && w->texts.n_bad)
        fprintf(stderr, "soothe: %zu bad rows left out\n", w->texts.n_bad);
    if (!status && c->model)
        status = soothe__choose_model(&w->model_path, c->model, err);
    w->scorer_options.model_path = w->model_path;
    return status;
}

/* ---- asking the scorers ------------------------------------------------------------------------------------ */

static enum soothe_status take_texts(struct work *w, unsigned part_mask, struct soothe_error *err) {
    const size_t n = w->texts.n + 1, m = w->polar.n_sources;
    w->list     = soothe__calloc(n, sizeof *w->list);
    w->i_items  = soothe__calloc(n, sizeof *w->i_items);
    w->labels   = soothe__calloc(n, 1);
    w->scores   = soothe__calloc(n, m * sizeof *w->scores);
    w->votes    = soothe__calloc(n, m);
    w->risks    = soothe__calloc(n, sizeof *w->risks);
    w->features = soothe__calloc(n, (size_t)soothe__polar_n_features(&w->polar) * sizeof *w->features);
    if (!w->list || !w->i_items || !w->labels || !w->scores || !w->votes || !w->risks || !w->features)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", w->texts.n);
    for (size_t i = 0; i < w->texts.n; i++) {
        if (!(part_mask & 1u << w->texts.items[i].part))
            continue;
        w->labels[w->n]  = w->texts.items[i].label;
        w->i_items[w->n] = (uint32_t)i;
        w->list[w->n++]  = w->texts.items[i].text;
    }
    return SOOTHE_OK;
}

static enum soothe_status ask(struct work *w, unsigned part_mask, struct soothe_error *err) {
    enum { CHUNK = 256 };
    struct soothe__progress progress = soothe__progress_start();
    char                    whys[SOOTHE__POLAR_SOURCES_MAX][96];
    enum soothe_status      status = take_texts(w, part_mask, err);
    const size_t            m = w->polar.n_sources, n_features = (size_t)soothe__polar_n_features(&w->polar);
    for (size_t from = 0; from < w->n && !status; from += CHUNK) {
        const size_t n = w->n - from < CHUNK ? w->n - from : CHUNK;
        status         = soothe__polar_ask(&w->polar, w->list + from, n, w->scores + from * m, w->votes + from * m,
                                           w->features + from * n_features, whys, err);
        for (size_t j = 0; j < m && !status; j++)
            if (!w->whys[j][0])
                memcpy(w->whys[j], whys[j], sizeof whys[j]);
        soothe__progress_update(&progress, (double)(from + n) / (double)w->n, "asking the scorers");
    }
    soothe__progress_finish(&progress);
    return status;
}

static void release(struct work *w) {
    soothe__polar_free(&w->polar);
    soothe__probe_texts_free(&w->texts);
    free(w->model_path);
    free(w->list);
    free(w->i_items);
    free(w->labels);
    free(w->scores);
    free(w->votes);
    free(w->risks);
    free(w->features);
}

/* ---- fit ---------------------------------------------------------------------------------------------------- */

static enum soothe_status fit_harmoniser(struct work *w, bool supervised, double *loss, struct soothe_error *err) {
    bool *is_validation = soothe__calloc(w->n + 1, sizeof *is_validation);
    if (!is_validation)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", w->n);
    for (size_t i = 0; i < w->n; i++)
        is_validation[i] = w->texts.items[w->i_items[i]].part == SOOTHE__PART_VALIDATION;
    enum soothe_status status =
        soothe__harmoniser_init(&w->polar.harmoniser, soothe__polar_n_features(&w->polar), w->n_hidden, err);
    if (!status)
        status = soothe__harmoniser_fit(&w->polar.harmoniser, w->features,
                                        supervised ? (const signed char *)w->labels : w->votes, is_validation, w->n,
                                        supervised ? 1 : w->polar.n_sources, &w->options, loss, err);
    free(is_validation);
    return status;
}

static enum soothe_status write_polar(struct work *w, const struct choice *c, double loss, struct soothe_error *err) {
    const struct soothe__polar_fact facts[] = {
        {"soothe.training.data_sha256", w->texts.sha256, 0},
        {"soothe.training.texts", NULL, (double)w->n},
        {"soothe.training.seed", NULL, (double)w->options.seed},
        {"soothe.training.loss", NULL, loss},
        {"soothe.training.labels", c->supervised ? "gold" : "none", 0},
    };
    w->polar.scalarisation = w->options.scalarisation;
    return soothe__polar_write(&w->polar, c->out, facts, sizeof facts / sizeof *facts, err);
}

static json_t *json_number(double x) {
    return isfinite(x) ? json_real(round(x * 1e6) / 1e6) : json_null();
}

struct votes_count {
    size_t toxic, clean, abstain, null;
};

static struct votes_count count_votes(const struct work *w, size_t j) {
    struct votes_count count = {0, 0, 0, 0};
    for (size_t i = 0; i < w->n; i++) {
        const signed char vote = w->votes[i * w->polar.n_sources + j];
        count.toxic += vote == 1;
        count.clean += vote == 0;
        count.null += isnan(w->scores[i * w->polar.n_sources + j]) ? 1 : 0;
        count.abstain += vote == SOOTHE__ABSTAIN;
    }
    return count;
}

/* Share of the texts on which both vote that they agree about. */
static double agreement(const struct work *w, size_t a, size_t b) {
    size_t n = 0, n_same = 0;
    for (size_t i = 0; i < w->n; i++) {
        const signed char *v = w->votes + i * w->polar.n_sources;
        n += v[a] != SOOTHE__ABSTAIN && v[b] != SOOTHE__ABSTAIN;
        n_same += v[a] != SOOTHE__ABSTAIN && v[a] == v[b];
    }
    return n ? (double)n_same / (double)n : (double)NAN;
}

static int print_fit(const struct work *w, const struct choice *c, double loss) {
    const size_t m    = w->polar.n_sources;
    json_t      *list = json_array();
    if (!c->json)
        printf("%-32s %7s %7s %8s %7s  agrees with each\n", "scorer", "toxic", "clean", "abstains", "no score");
    for (size_t j = 0; j < m; j++) {
        const struct votes_count v    = count_votes(w, j);
        json_t                  *same = json_array();
        if (!c->json)
            printf("%-32.60s %7zu %7zu %8zu %8zu ", w->polar.sources[j].spec, v.toxic, v.clean, v.abstain, v.null);
        for (size_t k = 0; k < m; k++) {
            if (!c->json)
                printf(" %.2f", agreement(w, j, k));
            json_array_append_new(same, json_number(agreement(w, j, k)));
        }
        if (!c->json)
            putchar('\n');
        json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:o}", "scorer", w->polar.sources[j].spec,
                                              "identity", w->polar.sources[j].identity, "toxic", (json_int_t)v.toxic,
                                              "clean", (json_int_t)v.clean, "abstains", (json_int_t)v.abstain, "nulls",
                                              (json_int_t)v.null, "agreement", same));
    }
    json_t   *o = json_pack("{s:o, s:I, s:s, s:o, s:s}", "scorers", list, "texts", (json_int_t)w->n, "scalarisation",
                            soothe__scalarisation_name(w->options.scalarisation), "loss", json_number(loss),
                            "data_sha256", w->texts.sha256);
    const int failed = !o || (c->json && json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(10)));
    if (c->json)
        putchar('\n');
    json_decref(o);
    return failed ? SOOTHE__EXIT_FAILED : SOOTHE__EXIT_DONE;
}

static int fit(struct work *w, const struct choice *c) {
    struct soothe_error err;
    double              loss   = 0;
    const unsigned      parts  = 1u << SOOTHE__PART_TRAIN | 1u << SOOTHE__PART_VALIDATION;
    int                 code   = add_sources(w, c);
    enum soothe_status  status = SOOTHE_OK;
    if (code)
        return code;
    status = load(w, c, c->supervised != 0, &err);
    if (!status)
        status = soothe__polar_open_sources(&w->polar, &w->scorer_options, false, &err);
    if (!status)
        status = ask(w, parts, &err);
    for (size_t j = 0; j < w->polar.n_sources && !status; j++)
        if (w->whys[j][0])
            fprintf(stderr, "soothe: %s has no score for some texts: %s\n", w->polar.sources[j].spec, w->whys[j]);
    if (!status)
        status = fit_harmoniser(w, c->supervised != 0, &loss, &err);
    if (!status)
        status = write_polar(w, c, loss, &err);
    return status ? soothe__print_failure(&err) : print_fit(w, c, loss);
}

/* ---- test ------------------------------------------------------------------------------------------------------- */

struct row { /* figures of one scorer, or of the combination */
    size_t                       n, n_toxic;
    double                       auc, ece;
    struct soothe__error_figures error;
};

/* Of the texts of one source of data (or all: n_sources) that have a score. */
static void figures_of(const struct work *w, const double *scores, size_t stride, size_t i_source, double *room,
                       unsigned char *labels, struct row *row) {
    for (size_t i = 0; i < w->n; i++) {
        const struct soothe__probe_text *item = &w->texts.items[w->i_items[i]];
        if ((i_source != w->texts.n_sources && item->i_source != i_source) || isnan(scores[i * stride]))
            continue;
        room[row->n]     = scores[i * stride];
        labels[row->n++] = item->label;
        row->n_toxic += item->label;
    }
    row->auc = soothe__roc_auc(room, labels, row->n);
    row->ece = soothe__calibration_error(room, labels, row->n, 10, NULL);
}

static void print_number(double x) {
    if (isfinite(x))
        printf(" %6.3f", x);
    else
        printf(" %6s", "-");
}

static void print_row(const struct work *w, size_t i_source, const char *scorer, const struct row *r) {
    printf("%-20.40s %-28.60s", i_source < w->texts.n_sources ? w->texts.sources[i_source] : "all", scorer);
    print_number(r->auc);
    print_number(r->ece);
    printf(" %7zu", r->n);
    if (r->error.n > 0) {
        print_number(r->error.error_rate);
        print_number(r->error.mean_zeta);
        print_number(r->error.ece);
        print_number(r->error.r_squared);
    }
    putchar('\n');
}

static json_t *json_row(const struct work *w, size_t i_source, const char *scorer, const struct row *r) {
    return json_pack("{s:s, s:s, s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:o}", "source",
                     i_source < w->texts.n_sources ? w->texts.sources[i_source] : "", "scorer", scorer, "auc",
                     json_number(r->auc), "calibration_error", json_number(r->ece), "scored", (json_int_t)r->n, "voted",
                     (json_int_t)r->error.n, "true_error", json_number(r->error.n ? r->error.error_rate : (double)NAN),
                     "estimated_error", json_number(r->error.n ? r->error.mean_zeta : (double)NAN), "error_ece",
                     json_number(r->error.n ? r->error.ece : (double)NAN), "error_r2",
                     json_number(r->error.n ? r->error.r_squared : (double)NAN));
}

/* Every scorer and the combination, on each source of data and, where there are several, on all together. */
static enum soothe_status tabulate(const struct work *w, bool json, json_t *list, struct soothe_error *err) {
    const size_t       m = w->polar.n_sources, n_sources = w->texts.n_sources;
    double            *room   = soothe__calloc(w->n + 1, sizeof *room);
    unsigned char     *labels = soothe__calloc(w->n + 1, 1);
    enum soothe_status status = room && labels ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    for (size_t s = n_sources == 1 ? 1 : 0; s <= n_sources && !status; s++) {
        const size_t i_source = n_sources == 1 ? 0 : s;
        for (size_t j = 0; j <= m && !status; j++) {
            struct row  r    = {.n = 0};
            const char *name = j < m ? w->polar.sources[j].spec : "combination";
            figures_of(w, j < m ? w->scores + j : w->risks, j < m ? m : 1, i_source, room, labels, &r);
            if (j < m && s == n_sources)
                status = soothe__polar_error_figures(&r.error, w->risks, w->votes + j, m, w->labels, w->n, err);
            if (json)
                json_array_append_new(list, json_row(w, i_source, name, &r));
            else
                print_row(w, i_source, name, &r);
        }
    }
    free(room);
    free(labels);
    return status;
}

static void combine(struct work *w) {
    const size_t m = w->polar.n_sources, n_features = (size_t)soothe__polar_n_features(&w->polar);
    for (size_t i = 0; i < w->n; i++) {
        bool any = false;
        for (size_t j = 0; j < m; j++)
            any = any || w->votes[i * m + j] != SOOTHE__ABSTAIN;
        w->risks[i] =
            any ? soothe__sigmoid(soothe__harmoniser_logit(&w->polar.harmoniser, w->features + i * n_features))
                : (double)NAN;
    }
}

static int test(struct work *w, const struct choice *c) {
    struct soothe_error err;
    const unsigned      parts  = c->held_out ? 1u << SOOTHE__PART_HELD_OUT : ~0u;
    json_t             *list   = json_array();
    enum soothe_status  status = load(w, c, true, &err);
    if (!status)
        status = soothe__polar_read(&w->polar, c->combined, &err);
    if (!status)
        status = soothe__polar_open_sources(&w->polar, &w->scorer_options, true, &err);
    if (!status)
        status = ask(w, parts, &err);
    if (!status) {
        combine(w);
        if (!c->json)
            printf("%-20s %-28s %6s %6s %7s %6s %6s %6s %6s\n", "data", "scorer", "AUC", "ECE", "scored", "error",
                   "est.", "ECE", "R2");
        status = tabulate(w, c->json != 0, list, &err);
    }
    int code = status ? soothe__print_failure(&err) : SOOTHE__EXIT_DONE;
    if (!status && c->json) {
        json_t *o = json_pack("{s:s, s:s, s:I, s:O}", "combined", c->combined, "data_sha256", w->texts.sha256, "texts",
                              (json_int_t)w->n, "figures", list);
        if (!o || json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(10)))
            code = SOOTHE__EXIT_FAILED;
        putchar('\n');
        json_decref(o);
    }
    json_decref(list);
    return code;
}

/* ---- the commands --------------------------------------------------------------------------------------------------
 */

static void free_list(char **list) {
    for (char **item = list; item && *item; item++)
        free(*item);
    free(list);
}

static void free_choice(struct choice *c) {
    char *const texts[] = {c->model, c->scalarisation, c->layer,    c->hidden, c->epochs,
                           c->seed,  c->out,           c->combined, c->threads};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
    free_list(c->data);
    free_list(c->scorers);
    free_list(c->bands);
}

#define TEXT_OPTION(long_name, letter, field, about, value)                                                            \
    { long_name, letter, POPT_ARG_STRING, &c.field, 0, about, value }
#define LIST_OPTION(long_name, field, about, value)                                                                    \
    { long_name, '\0', POPT_ARG_ARGV, &c.field, 0, about, value }
#define FLAG_OPTION(long_name, field, about)                                                                           \
    { long_name, '\0', POPT_ARG_NONE, &c.field, 0, about, NULL }
#define COMMON_OPTIONS                                                                                                 \
    TEXT_OPTION("model", 'm', model, "the language model that probes read: a name, an address or a file", "MODEL"),    \
        LIST_OPTION("data", data, "texts, JSON lines or CSV; may be given again", "FILE"),                             \
        TEXT_OPTION("threads", 't', threads, "threads (all processors)", "N"),                                         \
        FLAG_OPTION("skip-bad", skip_bad, "leave bad rows out instead of stopping"),                                   \
        FLAG_OPTION("json", json, "the figures as JSON")

static int cmd_fit(int argc, const char **argv) {
    struct choice           c         = {0};
    struct work             w         = {.polar   = {.layer = SOOTHE__POLAR_NO_LAYER},
                                         .options = {.scalarisation = SOOTHE__SCALAR_QUADRATIC}};
    const struct poptOption options[] = {
        COMMON_OPTIONS,
        LIST_OPTION("scorer", scorers, "default, lexicon, FILE.gguf, …; may be given again", "SPEC"),
        LIST_OPTION("band", bands, "of the k-th scorer: clean at or below LO, toxic from HI up", "LO,HI"),
        TEXT_OPTION("scalarisation", '\0', scalarisation, "linear, quadratic (default), euclidean, chebyshev", "NAME"),
        TEXT_OPTION("layer", '\0', layer, "the text's mean state there is looked at too (needs -m)", "N"),
        TEXT_OPTION("hidden", '\0', hidden, "units of a hidden layer (0: logistic regression)", "N"),
        TEXT_OPTION("epochs", '\0', epochs, "passes over the texts (50)", "N"),
        TEXT_OPTION("seed", '\0', seed, "of the random numbers (0)", "N"),
        FLAG_OPTION("supervised", supervised, "learn from the rows' labels, not from the votes"),
        TEXT_OPTION("output", 'o', out, "the combination to be written", "FILE"),
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &FIT, argc, argv, options);
    if (code < 0) {
        code = check_choice(&w, &c, FIT.name, poptGetArg(context));
        if (!code && !c.out)
            code = soothe__print_misuse(FIT.name, "where to? -o names the combination to be written");
        if (!code)
            code = fit(&w, &c);
    }
    release(&w);
    poptFreeContext(context);
    free_choice(&c);
    return code;
}

static int cmd_test(int argc, const char **argv) {
    struct choice           c         = {0};
    struct work             w         = {.polar = {.layer = SOOTHE__POLAR_NO_LAYER}};
    const struct poptOption options[] = {
        COMMON_OPTIONS, TEXT_OPTION("combined", '\0', combined, "the combination", "FILE"),
        FLAG_OPTION("held-out", held_out, "only texts that fitting leaves alone"), POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &TEST, argc, argv, options);
    if (code < 0) {
        code = check_choice(&w, &c, TEST.name, poptGetArg(context));
        if (!code && !c.combined)
            code = soothe__print_misuse(TEST.name, "which combination? --combined names its file");
        if (!code)
            code = test(&w, &c);
    }
    release(&w);
    poptFreeContext(context);
    free_choice(&c);
    return code;
}

static const struct soothe__command *find(const char *name) {
    char full[64];
    snprintf(full, sizeof full, "polar %s", name);
    for (size_t i = 0; i < N_SUBCOMMANDS; i++)
        if (strcmp(SUBCOMMANDS[i]->name, full) == 0)
            return SUBCOMMANDS[i];
    return NULL;
}

int soothe__cmd_polar(int argc, const char **argv) {
    const bool                    help_first = argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"));
    const struct soothe__command *command    = argc > 1 ? find(argv[1]) : NULL;
    if (command)
        return command->run(argc - 1, argv + 1);
    if (argc > 1 && !help_first)
        return soothe__print_misuse("polar", "there is no subcommand \"%s\": fit and test exist", argv[1]);
    fprintf(help_first ? stdout : stderr, "%s\n", soothe__command_polar.help);
    for (size_t i = 0; i < N_SUBCOMMANDS; i++)
        fprintf(help_first ? stdout : stderr, "    soothe %-14s %s\n", SUBCOMMANDS[i]->name, SUBCOMMANDS[i]->summary);
    return help_first ? SOOTHE__EXIT_DONE : SOOTHE__EXIT_MISUSE;
}
