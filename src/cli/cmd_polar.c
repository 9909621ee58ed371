/* SPDX-License-Identifier: Apache-2.0
 * soothe polar: combines scorers into one calibrated risk without labels, and measures what came of it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/polar.h"
#include "cli/score.h"
#include "cli/speak.h"
#include "score/layer_states.h"

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

static int add_sources(struct soothe__polar_work *w, const struct choice *c) {
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

static int check_choice(struct soothe__polar_work *w, const struct choice *c, const char *command, const char *more) {
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
static enum soothe_status load(struct soothe__polar_work *w, const struct choice *c, bool need_labels,
                               struct soothe_error *err) {
    enum soothe_status status = soothe__read_probe_texts(&w->texts, c->data, need_labels, c->skip_bad != 0, err);
    if (!status && c->model)
        status = soothe__choose_model(&w->model_path, c->model, err);
    w->scorer_options.model_path = w->model_path;
    return status;
}

/* ---- fit ---------------------------------------------------------------------------------------------------- */

static enum soothe_status fit_harmoniser(struct soothe__polar_work *w, bool supervised, double *loss,
                                         struct soothe_error *err) {
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

static enum soothe_status write_polar(struct soothe__polar_work *w, const struct choice *c, double loss,
                                      struct soothe_error *err) {
    const struct soothe__fact facts[] = {
        {"soothe.training.data_sha256", w->texts.sha256, 0},
        {"soothe.training.texts", NULL, (double)w->n},
        {"soothe.training.seed", NULL, (double)w->options.seed},
        {"soothe.training.loss", NULL, loss},
        {"soothe.training.labels", c->supervised ? "gold" : "none", 0},
    };
    w->polar.scalarisation = w->options.scalarisation;
    return soothe__polar_write(&w->polar, c->out, facts, sizeof facts / sizeof *facts, err);
}

struct votes_count {
    size_t toxic, clean, abstain, null;
};

static struct votes_count count_votes(const struct soothe__polar_work *w, size_t j) {
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
static double agreement(const struct soothe__polar_work *w, size_t a, size_t b) {
    size_t n = 0, n_same = 0;
    for (size_t i = 0; i < w->n; i++) {
        const signed char *v = w->votes + i * w->polar.n_sources;
        n += v[a] != SOOTHE__ABSTAIN && v[b] != SOOTHE__ABSTAIN;
        n_same += v[a] != SOOTHE__ABSTAIN && v[a] == v[b];
    }
    return n ? (double)n_same / (double)n : (double)NAN;
}

static void print_fit(const struct soothe__polar_work *w) {
    const size_t m = w->polar.n_sources;
    printf("%-32s %7s %7s %8s %7s  agrees with each\n", "scorer", "toxic", "clean", "abstains", "no score");
    for (size_t j = 0; j < m; j++) {
        const struct votes_count v = count_votes(w, j);
        printf("%-32.60s %7zu %7zu %8zu %8zu ", w->polar.sources[j].spec, v.toxic, v.clean, v.abstain, v.null);
        for (size_t k = 0; k < m; k++)
            printf(" %.2f", agreement(w, j, k));
        putchar('\n');
    }
}

static int print_fit_json(const struct soothe__polar_work *w, double loss) {
    json_t *list = json_array();
    for (size_t j = 0; j < w->polar.n_sources; j++) {
        const struct soothe__polar_source *source = &w->polar.sources[j];
        const struct votes_count           v      = count_votes(w, j);
        json_t                            *same   = json_array();
        for (size_t k = 0; k < w->polar.n_sources; k++)
            json_array_append_new(same, soothe__json_rounded(agreement(w, j, k)));
        json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:o}", "scorer", source->spec, "identity",
                                              source->identity, "toxic", (json_int_t)v.toxic, "clean",
                                              (json_int_t)v.clean, "abstains", (json_int_t)v.abstain, "nulls",
                                              (json_int_t)v.null, "agreement", same));
    }
    return soothe__print_json(json_pack("{s:o, s:I, s:s, s:o, s:s}", "scorers", list, "texts", (json_int_t)w->n,
                                        "scalarisation", soothe__scalarisation_name(w->options.scalarisation), "loss",
                                        soothe__json_rounded(loss), "data_sha256", w->texts.sha256),
                              10);
}

static int fit(struct soothe__polar_work *w, const struct choice *c) {
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
        status = soothe__polar_work_ask(w, parts, &err);
    for (size_t j = 0; j < w->polar.n_sources && !status; j++)
        if (w->whys[j][0])
            fprintf(stderr, "soothe: %s has no score for some texts: %s\n", w->polar.sources[j].spec, w->whys[j]);
    if (!status)
        status = fit_harmoniser(w, c->supervised != 0, &loss, &err);
    if (!status)
        status = write_polar(w, c, loss, &err);
    if (status)
        return soothe__print_failure(&err);
    if (c->json)
        return print_fit_json(w, loss);
    print_fit(w);
    return SOOTHE__EXIT_DONE;
}

/* ---- test ------------------------------------------------------------------------------------------------------- */

static int test(struct soothe__polar_work *w, const struct choice *c) {
    struct soothe_error err;
    const unsigned      parts  = c->held_out ? 1u << SOOTHE__PART_HELD_OUT : ~0u;
    json_t             *list   = json_array();
    enum soothe_status  status = load(w, c, true, &err);
    if (!status)
        status = soothe__polar_read(&w->polar, c->combined, &err);
    if (!status)
        status = soothe__polar_open_sources(&w->polar, &w->scorer_options, true, &err);
    if (!status)
        status = soothe__polar_work_ask(w, parts, &err);
    if (!status) {
        soothe__polar_work_combine(w);
        status = soothe__polar_tabulate(w, c->json ? list : NULL, &err);
    }
    int code = status ? soothe__print_failure(&err) : SOOTHE__EXIT_DONE;
    if (!status && c->json)
        code = soothe__print_json(json_pack("{s:s, s:s, s:I, s:O}", "combined", c->combined, "data_sha256",
                                            w->texts.sha256, "texts", (json_int_t)w->n, "figures", list),
                                  10);
    json_decref(list);
    return code;
}

/* ---- the commands --------------------------------------------------------------------------------------------------
 */

static void free_choice(struct choice *c) {
    char *const texts[] = {c->model, c->scalarisation, c->layer,    c->hidden, c->epochs,
                           c->seed,  c->out,           c->combined, c->threads};
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
    soothe__free_list(c->data);
    soothe__free_list(c->scorers);
    soothe__free_list(c->bands);
}

#define COMMON_OPTIONS                                                                                                 \
    TEXT_OPTION("model", 'm', model, "the language model that probes read: a name, an address or a file", "MODEL"),    \
        LIST_OPTION("data", data, "texts, JSON lines or CSV; may be given again", "FILE"),                             \
        TEXT_OPTION("threads", 't', threads, "threads (all processors)", "N"),                                         \
        FLAG_OPTION("skip-bad", skip_bad, "leave bad rows out instead of stopping"),                                   \
        FLAG_OPTION("json", json, "the figures as JSON")

static int cmd_fit(int argc, const char **argv) {
    struct choice             c         = {0};
    struct soothe__polar_work w         = {.polar   = {.layer = SOOTHE__POLAR_NO_LAYER},
                                           .options = {.scalarisation = SOOTHE__SCALAR_QUADRATIC}};
    const struct poptOption   options[] = {
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
    soothe__polar_work_free(&w);
    poptFreeContext(context);
    free_choice(&c);
    return code;
}

static int cmd_test(int argc, const char **argv) {
    struct choice             c         = {0};
    struct soothe__polar_work w         = {.polar = {.layer = SOOTHE__POLAR_NO_LAYER}};
    const struct poptOption   options[] = {
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
    soothe__polar_work_free(&w);
    poptFreeContext(context);
    free_choice(&c);
    return code;
}

int soothe__cmd_polar(int argc, const char **argv) {
    return soothe__run_subcommand(&soothe__command_polar, SUBCOMMANDS, N_SUBCOMMANDS, argc, argv);
}
