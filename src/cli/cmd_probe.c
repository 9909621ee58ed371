/* SPDX-License-Identifier: Apache-2.0
 * soothe probe: trains probes on a language model's hidden states, and measures them. */
#include <stdlib.h>
#include <string.h>

#include "cli/score.h"
#include "cli/speak.h"
#include "engine/target_model.h"
#include "score/probe.h"

static int cmd_train(int argc, const char **argv);
static int cmd_test(int argc, const char **argv);

static const struct soothe__command TRAIN = {
    .name    = "probe train",
    .run     = cmd_train,
    .summary = "learn a direction in hidden states that tells toxic from clean",
    .help =
        "    soothe probe train -m smollm2-135m-instruct --data labelled.jsonl -o probe.gguf\n"
        "    soothe probe train -m model.gguf --data a.jsonl --data b.csv --layers 8,12,final --pool mean -o "
        "probe.gguf\n"
        "\n"
        "Rows have \"text\", \"label\" (1 toxic, 0 clean) and perhaps \"source\". Seven tenths of the texts, by their\n"
        "hash, are learnt from, one tenth picks penalty and layer and calibrates, a fifth gives the figures shown: "
        "area\n"
        "under the ROC curve after the text's first 1, 5, 10, 20 tokens and all, mean over the sources.\n",
};

static const struct soothe__command TEST = {
    .name    = "probe test",
    .run     = cmd_test,
    .summary = "measure a probe on labelled texts",
    .help    = "    soothe probe test -m smollm2-135m-instruct --probe probe.gguf --data labelled.jsonl\n"
               "    soothe probe test --probe probe.gguf --data trained-on.jsonl --held-out --json\n"
               "\n"
               "--held-out takes only the fifth of the texts that training leaves alone.\n",
};

static const struct soothe__command *const SUBCOMMANDS[] = {&TRAIN, &TEST};
enum { N_SUBCOMMANDS = sizeof SUBCOMMANDS / sizeof *SUBCOMMANDS, LAYERS_MAX = 512, TOKENS_MAX = 1 << 16 };

const struct soothe__command soothe__command_probe = {
    .name    = "probe",
    .run     = soothe__cmd_probe,
    .summary = "train and measure probes on a model's hidden states",
    .help    = "    soothe probe train -m smollm2-135m-instruct --data labelled.jsonl -o probe.gguf\n"
               "    soothe probe test -m smollm2-135m-instruct --probe probe.gguf --data others.jsonl\n",
};

struct choice {
    char  *model, *layers, *pool, *kind, *out, *probe, *ctx, *threads; /* popt's, free() */
    char **data;
    int    json, skip_bad, held_out;
};

struct work {
    struct soothe__probe_texts   texts;
    char                        *model_path;
    struct llama_model          *model;
    int32_t                      layers[LAYERS_MAX];
    struct soothe__probe_options options;
    struct soothe__probe        *probe;
};

/* ---- reading what was asked for ------------------------------------------------------------------------ */

static bool parse_layers(struct work *w, const char *list) {
    if (strcmp(list, "all") == 0)
        return true;
    for (const char *s = list;; s++) {
        char         word[16];
        const size_t n = strcspn(s, ",");
        if (n >= sizeof word || w->options.n_layers == LAYERS_MAX)
            return false;
        memcpy(word, s, n);
        word[n] = '\0';
        if (!soothe__layer_parse(&w->layers[w->options.n_layers++], word))
            return false;
        s += n;
        if (!*s)
            break;
    }
    w->options.layers = w->layers;
    return true;
}

static int check_choice(struct work *w, const struct choice *c, const char *command, const char *more) {
    if (more)
        return soothe__print_misuse(command, "\"%s\" belongs to no option", more);
    if (!c->data || !c->data[0])
        return soothe__print_misuse(command, "which texts? --data takes a file of labelled texts");
    if (c->layers && !parse_layers(w, c->layers))
        return soothe__print_misuse(command, "--layers takes numbers with commas between, final, or all, not \"%s\"",
                                    c->layers);
    if (c->pool && !soothe__pool_parse(&w->options.pool, c->pool))
        return soothe__print_misuse(command, "--pool is last, mean or token, not \"%s\"", c->pool);
    if (c->kind && !soothe__probe_kind_parse(&w->options.kind, c->kind))
        return soothe__print_misuse(command, "--kind is lda or logistic, not \"%s\"", c->kind);
    if (!soothe__read_int(&w->options.n_tokens_max, c->ctx, command, "-c", 1, TOKENS_MAX) ||
        !soothe__read_int(&w->options.n_threads, c->threads, command, "-t", 1, 1024))
        return SOOTHE__EXIT_MISUSE;
    return SOOTHE__EXIT_DONE;
}

static enum soothe_status load(struct work *w, const struct choice *c, struct soothe_error *err) {
    enum soothe_status status = soothe__read_probe_texts(&w->texts, c->data, true, c->skip_bad != 0, err);
    if (!status)
        status = soothe__choose_model(&w->model_path, c->model, err);
    if (!status && c->probe)
        status = soothe__probe_open(&w->probe, c->probe, w->model_path, err);
    if (!status)
        status = soothe__target_load(&w->model, w->model_path, 0, err);
    return status;
}

static void release(struct work *w) {
    soothe__probe_free(w->probe);
    llama_model_free(w->model);
    soothe__probe_texts_free(&w->texts);
    free(w->model_path);
}

/* ---- figures as text and JSON ---------------------------------------------------------------------------- */

static void print_heading(const char *first) {
    printf("%-16s", first);
    for (int k = 0; k < SOOTHE__N_PREFIXES - 1; k++)
        printf(" %6d", SOOTHE__PREFIXES[k]);
    printf(" %6s", "all");
}

static void print_sources(const struct work *w, const struct soothe__probe_figures *f) {
    print_heading("AUC at tokens:");
    printf(" %6s %6s %6s\n", "ECE", "texts", "toxic");
    for (size_t s = 0; s <= w->texts.n_sources; s++) {
        if (s < w->texts.n_sources && f[s].n == 0)
            continue;
        printf("%-16.40s", s < w->texts.n_sources ? w->texts.sources[s] : "mean, all");
        for (int k = 0; k < SOOTHE__N_PREFIXES; k++)
            soothe__print_figure(f[s].auc[k], 6, 3);
        soothe__print_figure(f[s].calibration_error, 6, 3);
        printf(" %6zu %6zu\n", f[s].n, f[s].n_toxic);
    }
}

static json_t *json_figures(const struct soothe__probe_figures *f, const char *source) {
    json_t *auc = json_object();
    for (int k = 0; k < SOOTHE__N_PREFIXES; k++) {
        char name[16];
        snprintf(name, sizeof name, "%d", SOOTHE__PREFIXES[k]);
        json_object_set_new(auc, k + 1 == SOOTHE__N_PREFIXES ? "all" : name, soothe__json_rounded(f->auc[k]));
    }
    return json_pack("{s:s, s:I, s:I, s:o, s:o}", "source", source, "texts", (json_int_t)f->n, "toxic",
                     (json_int_t)f->n_toxic, "auc", auc, "calibration_error",
                     soothe__json_rounded(f->calibration_error));
}

static json_t *json_sources(const struct work *w, const struct soothe__probe_figures *f) {
    json_t *list = json_array();
    for (size_t s = 0; s <= w->texts.n_sources; s++)
        if (s == w->texts.n_sources || f[s].n > 0)
            json_array_append_new(list, json_figures(&f[s], s < w->texts.n_sources ? w->texts.sources[s] : ""));
    return list;
}

/* ---- train ---------------------------------------------------------------------------------------------------- */

static enum soothe_status write_probe(const struct work *w, const struct soothe__probe_report *r, const char *path,
                                      struct soothe_error *err) {
    const struct soothe__probe_layer   *best    = &r->layers[r->i_best];
    const struct soothe__probe_figures *mean    = &best->held_out[w->texts.n_sources];
    const struct soothe__fact     facts[] = {
            {"soothe.training.data_sha256", w->texts.sha256, 0},
            {"soothe.training.texts", NULL, (double)r->n_train},
            {"soothe.training.validation_texts", NULL, (double)r->n_validation},
            {"soothe.training.penalty", NULL, best->penalty},
            {"soothe.training.seed", NULL, 0},
            {"soothe.training.validation_auc", NULL, best->validation_auc},
            {"soothe.training.held_out_auc", NULL, mean->auc[SOOTHE__N_PREFIXES - 1]},
            {"soothe.training.held_out_calibration_error", NULL, mean->calibration_error},
    };
    return soothe__probe_write(path, w->probe, facts, sizeof facts / sizeof *facts, err);
}

static void print_report(const struct work *w, const struct soothe__probe_report *r) {
    char name[16];
    print_heading("layer");
    printf(" %6s %8s\n", "picked", w->options.kind == SOOTHE__PROBE_LDA ? "shrink" : "l2");
    for (size_t l = 0; l < r->n_layers; l++) {
        soothe__layer_name(name, r->layers[l].layer);
        printf("%-16s", name);
        for (int k = 0; k < SOOTHE__N_PREFIXES; k++)
            soothe__print_figure(r->layers[l].held_out[w->texts.n_sources].auc[k], 6, 3);
        soothe__print_figure(r->layers[l].validation_auc, 6, 3);
        printf(" %8g%s\n", r->layers[l].penalty, l == r->i_best ? " *" : "");
    }
    soothe__layer_name(name, r->layers[r->i_best].layer);
    printf("\nlayer %s, held-out texts:\n", name);
    print_sources(w, r->layers[r->i_best].held_out);
}

static int print_report_json(const struct work *w, const struct soothe__probe_report *r) {
    json_t *layers = json_array();
    char    name[16];
    for (size_t l = 0; l < r->n_layers; l++) {
        soothe__layer_name(name, r->layers[l].layer);
        json_array_append_new(layers, json_pack("{s:s, s:o, s:o, s:o}", "layer", name, "validation_auc",
                                                soothe__json_rounded(r->layers[l].validation_auc), "penalty",
                                                soothe__json_rounded(r->layers[l].penalty), "held_out",
                                                json_figures(&r->layers[l].held_out[w->texts.n_sources], "")));
    }
    soothe__layer_name(name, r->layers[r->i_best].layer);
    return soothe__print_json(
        json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:s, s:I, s:I, s:I, s:I}", "model", w->model_path, "kind",
                  soothe__probe_kind_name(w->options.kind), "pool", soothe__pool_name(w->options.pool), "layer", name,
                  "layers", layers, "sources", json_sources(w, r->layers[r->i_best].held_out), "data_sha256",
                  w->texts.sha256, "training_texts", (json_int_t)r->n_train, "validation_texts",
                  (json_int_t)r->n_validation, "tokens", (json_int_t)r->n_tokens, "cut_texts", (json_int_t)r->n_cut),
        10);
}

static int train(struct work *w, const struct choice *c) {
    struct soothe_error         err;
    struct soothe__probe_report r    = {.n_layers = 0};
    int                         code = SOOTHE__EXIT_DONE;
    w->options.show_progress         = true;
    enum soothe_status status        = load(w, c, &err);
    if (!status)
        status = soothe__probe_train(&w->probe, &r, w->model, w->model_path, &w->texts, &w->options, &err);
    if (!status)
        status = write_probe(w, &r, c->out, &err);
    if (status)
        code = soothe__print_failure(&err);
    else if (c->json)
        code = print_report_json(w, &r);
    else
        print_report(w, &r);
    if (!status)
        fprintf(stderr, "%s: %zu texts learnt from, %zu to pick and calibrate, %lld tokens, %.0f s\n", c->out,
                r.n_train, r.n_validation, (long long)r.n_tokens, r.seconds);
    soothe__probe_report_free(&r);
    return code;
}

/* ---- test ------------------------------------------------------------------------------------------------------- */

static int test(struct work *w, const struct choice *c) {
    struct soothe_error           err;
    struct soothe__probe_figures *figures = NULL;
    enum soothe_status            status  = load(w, c, &err);
    int                           code    = SOOTHE__EXIT_DONE;
    const unsigned                parts   = c->held_out ? 1u << SOOTHE__PART_HELD_OUT : ~0u;
    if (!status && !(figures = soothe__calloc(w->texts.n_sources + 1, sizeof *figures)))
        status = soothe__fail(&err, SOOTHE_E_MEMORY, "out of memory for the figures");
    if (!status)
        status = soothe__probe_test(w->model, &w->probe, 1, &w->texts, parts,
                                    w->options.n_tokens_max > 0 ? w->options.n_tokens_max : 128, w->options.n_threads,
                                    true, figures, &err);
    if (status)
        code = soothe__print_failure(&err);
    else if (!c->json)
        print_sources(w, figures);
    else {
        char name[16];
        soothe__layer_name(name, w->probe->layer);
        code = soothe__print_json(json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:o}", "model", w->model_path, "probe",
                                            c->probe, "layer", name, "pool", soothe__pool_name(w->probe->pool),
                                            "data_sha256", w->texts.sha256, "held_out", c->held_out, "sources",
                                            json_sources(w, figures)),
                                  10);
    }
    free(figures);
    return code;
}

/* ---- the commands --------------------------------------------------------------------------------------------------
 */

static void free_choice(struct choice *c) {
    soothe__free_list(c->data);
    char *const texts[] = {c->model, c->layers, c->pool, c->kind, c->out, c->probe, c->ctx, c->threads};
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
}

#define COMMON_OPTIONS                                                                                                 \
    TEXT_OPTION("model", 'm', model, "the language model: a name, an address or a file", "MODEL"),                     \
        {"data", '\0', POPT_ARG_ARGV, &c.data, 0, "labelled texts, JSON lines or CSV; may be given again", "FILE"},    \
        TEXT_OPTION("ctx-size", 'c', ctx, "cut texts to so many tokens (128)", "N"),                                   \
        TEXT_OPTION("threads", 't', threads, "threads (all processors)", "N"),                                         \
        FLAG_OPTION("skip-bad", skip_bad, "leave bad rows out instead of stopping"),                                   \
        FLAG_OPTION("json", json, "the figures as JSON")

static int cmd_train(int argc, const char **argv) {
    struct choice           c         = {0};
    struct work             w         = {.model_path = NULL};
    const struct poptOption options[] = {
        COMMON_OPTIONS,
        TEXT_OPTION("layers", '\0', layers, "all (default), or block numbers and final with commas between", "LIST"),
        TEXT_OPTION("pool", '\0', pool, "a text's state: last (default), mean, or learn from every token", "POOL"),
        TEXT_OPTION("kind", '\0', kind, "lda (default) or logistic", "KIND"),
        TEXT_OPTION("output", 'o', out, "the probe to be written", "FILE"),
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &TRAIN, argc, argv, options);
    if (code < 0) {
        code = check_choice(&w, &c, TRAIN.name, poptGetArg(context));
        if (!code && !c.out)
            code = soothe__print_misuse(TRAIN.name, "where to? -o names the probe to be written");
        if (!code)
            code = train(&w, &c);
    }
    release(&w);
    poptFreeContext(context);
    free_choice(&c);
    return code;
}

static int cmd_test(int argc, const char **argv) {
    struct choice           c         = {0};
    struct work             w         = {.model_path = NULL};
    const struct poptOption options[] = {COMMON_OPTIONS, TEXT_OPTION("probe", '\0', probe, "the probe", "FILE"),
                                         FLAG_OPTION("held-out", held_out, "only texts that training leaves alone"),
                                         POPT_TABLEEND};
    poptContext             context;
    int                     code = soothe__options_read(&context, &TEST, argc, argv, options);
    if (code < 0) {
        code = check_choice(&w, &c, TEST.name, poptGetArg(context));
        if (!code && !c.probe)
            code = soothe__print_misuse(TEST.name, "which probe? --probe names its file");
        if (!code)
            code = test(&w, &c);
    }
    release(&w);
    poptFreeContext(context);
    free_choice(&c);
    return code;
}

int soothe__cmd_probe(int argc, const char **argv) {
    return soothe__run_subcommand(&soothe__command_probe, SUBCOMMANDS, N_SUBCOMMANDS, argc, argv);
}
