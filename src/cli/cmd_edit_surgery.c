/* SPDX-License-Identifier: Apache-2.0
 * soothe edit surgery: Model Surgery, as an edited model, a diff, or both. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/edit.h"
#include "cli/score.h"
#include "cli/speak.h"
#include "cli/surgery_controls.h"
#include "engine/target_model.h"

const struct soothe__command soothe__command_edit_surgery = {
    .name    = "edit surgery",
    .run     = soothe__cmd_edit_surgery,
    .summary = "shift gate rows against a probe's direction (Model Surgery)",
    .help =
        "    soothe edit surgery -m smollm2-135m-instruct --data labelled.jsonl -o gentle.gguf --diff "
        "gentle.diff.gguf\n"
        "    soothe edit surgery -m model.gguf --probe probe.gguf --strength 0.5 --rows 2000 --diff gentle.diff.gguf\n"
        "    soothe edit surgery -m model.gguf --probe probe.gguf --controls --prompts rtp.jsonl --corpus "
        "neutral.jsonl\n"
        "\n"
        "A probe is learnt from labelled texts (\"text\", \"label\": 1 toxic, 0 clean) or read from a file. The gate "
        "rows "
        "that\n"
        "point away from it most are shifted towards it by the given share of their mean length. -o writes the edited\n"
        "model, --diff a small file for: soothe run -m model.gguf+gentle.diff.gguf. --controls measures the model, "
        "the\n"
        "edit, and a random direction, random rows and the other sign in its place (docs/methods/surgery.md).\n",
};

struct choice { /* popt's */
    char *model, *out, *diff, *probe, *layer, *pool, *kind, *strength, *share, *rows, *blocks, *coordinates, *control,
        *seed;
    char  *ctx, *threads, *scorer, *limit, *predict;
    char **data, **prompts, **corpus;
    int    json, keep_rows, skip_bad, controls;
};

struct work {
    struct soothe__surgery_options options;
    struct soothe__probe_options   probe_options;
    int32_t                        layer, limit, n_predict;
    struct soothe__probe_texts     texts;
    char                          *model_path;
    struct soothe__probe          *probe;
    double                         probe_auc; /* on the held-out fifth; NaN of a probe that was read */
    struct soothe__diff           *diff;
    struct soothe__surgery_report  report;
    struct soothe__eval_prompts    prompts, corpus;
    struct soothe__scorer         *scorer;
    struct soothe__control_row     controls[SOOTHE__CONTROLS];
};

static const char *const ME = "edit surgery";

/* ---- what was asked for --------------------------------------------------------------------------------------------
 */

static bool read_control(enum soothe__surgery_control *control, const char *text) {
    *control = !text || !strcmp(text, "none")      ? SOOTHE__SURGERY_REAL
               : !strcmp(text, "random-direction") ? SOOTHE__SURGERY_RANDOM_DIRECTION
                                                   : SOOTHE__SURGERY_RANDOM_ROWS;
    if (*control != SOOTHE__SURGERY_RANDOM_ROWS || !strcmp(text, "random-rows"))
        return true;
    soothe__print_misuse(ME, "--control is none, random-direction or random-rows, not \"%s\"", text);
    return false;
}

static bool read_numbers(struct work *w, const struct choice *c) {
    struct soothe__surgery_options *o        = &w->options;
    int32_t                         n_rows   = 0;
    float                           strength = (float)o->strength, share = (float)o->share;
    const bool                      ok = soothe__read_float(&strength, c->strength, ME, "--strength", -1000, 1000) &&
                    soothe__read_float(&share, c->share, ME, "--share", 1e-6, 1) &&
                    soothe__read_int(&n_rows, c->rows, ME, "--rows", 1, INT32_MAX) &&
                    soothe__read_int(&w->probe_options.n_tokens_max, c->ctx, ME, "-c", 1, 1 << 16) &&
                    soothe__read_int(&w->probe_options.n_threads, c->threads, ME, "-t", 1, 1024) &&
                    soothe__read_int(&w->limit, c->limit, ME, "--limit", 1, INT32_MAX) &&
                    soothe__read_int(&w->n_predict, c->predict, ME, "-n", 1, 100000) &&
                    read_control(&o->control, c->control) &&
                    soothe__read_blocks(&o->first_block, &o->end_block, c->blocks, ME) &&
                    (!c->seed || soothe__read_seed(&o->seed, c->seed, ME));
    if (c->strength)
        soothe__parse_double(&o->strength, c->strength, -1000, 1000);
    if (c->share)
        soothe__parse_double(&o->share, c->share, 0, 1);
    o->n_rows = n_rows;
    return ok;
}

static int check_files(const struct choice *c) {
    if (!c->out && !c->diff && !c->controls)
        return soothe__print_misuse(ME, "what is to be made? -o MODEL, --diff FILE, or --controls");
    if (!c->probe == !(c->data && c->data[0]))
        return soothe__print_misuse(ME, "what is toxic? one of --data FILE of labelled texts and --probe FILE");
    if (c->controls && !(c->prompts && c->prompts[0]) && !(c->corpus && c->corpus[0]))
        return soothe__print_misuse(ME, "--controls are measured on --prompts FILE and --corpus FILE");
    if (c->keep_rows && !c->diff)
        return soothe__print_misuse(ME, "--keep-rows is for --diff FILE");
    return SOOTHE__EXIT_DONE;
}

static int check_choice(struct work *w, const struct choice *c, const char *more) {
    if (more)
        return soothe__print_misuse(ME, "\"%s\" belongs to no option", more);
    const int code = check_files(c);
    if (code)
        return code;
    if (c->layer && !soothe__layer_parse(&w->layer, c->layer))
        return soothe__print_misuse(ME, "--layer is a block's number or final, not \"%s\"", c->layer);
    if (c->pool && !soothe__pool_parse(&w->probe_options.pool, c->pool))
        return soothe__print_misuse(ME, "--pool is last, mean or token, not \"%s\"", c->pool);
    if (c->kind && !soothe__probe_kind_parse(&w->probe_options.kind, c->kind))
        return soothe__print_misuse(ME, "--kind is lda or logistic, not \"%s\"", c->kind);
    if (c->coordinates && !soothe__surgery_coordinates_parse(&w->options.coordinates, c->coordinates))
        return soothe__print_misuse(ME, "--coordinates are plain or gain, not \"%s\"", c->coordinates);
    return read_numbers(w, c) ? SOOTHE__EXIT_DONE : SOOTHE__EXIT_MISUSE;
}

/* ---- the work ------------------------------------------------------------------------------------------------------
 */

static enum soothe_status train_probe(struct work *w, const struct choice *c, struct soothe_error *err) {
    struct llama_model         *model  = NULL;
    struct soothe__probe_report report = {0};
    enum soothe_status          status = soothe__read_probe_texts(&w->texts, c->data, true, c->skip_bad != 0, err);
    w->probe_options.layers            = &w->layer;
    w->probe_options.n_layers          = 1;
    w->probe_options.show_progress     = !c->json;
    if (!status)
        status = soothe__target_load(&model, w->model_path, 0, err);
    if (!status)
        status = soothe__probe_train(&w->probe, &report, model, w->model_path, &w->texts, &w->probe_options, err);
    if (!status)
        w->probe_auc = report.layers[report.i_best].held_out[w->texts.n_sources].auc[SOOTHE__N_PREFIXES - 1];
    soothe__probe_report_free(&report);
    llama_model_free(model);
    return status;
}

static enum soothe_status operate(struct work *w, const struct choice *c, struct soothe_error *err) {
    struct soothe__fact facts[2];
    size_t              n = 0;
    facts[n++]            = c->probe ? (struct soothe__fact){"probe_sha256", w->probe->identity, 0}
                                     : (struct soothe__fact){"data_sha256", w->texts.sha256, 0};
    if (isfinite(w->probe_auc))
        facts[n++] = (struct soothe__fact){"probe_held_out_auc", NULL, w->probe_auc};
    enum soothe_status status =
        soothe__surgery(&w->diff, &w->report, w->model_path, w->probe, &w->options, facts, n, err);
    if (!status && c->out)
        status = soothe__diff_apply(w->diff, w->model_path, c->out, err);
    if (!status && c->diff)
        status = soothe__diff_write(w->diff, c->diff, w->model_path, NULL, c->keep_rows != 0, err);
    return status;
}

static enum soothe_status measure(struct work *w, const struct choice *c, struct soothe_error *err) {
    const struct soothe__eval_source prompts = {.files    = (const char *const *)c->prompts,
                                                .limit    = (size_t)w->limit,
                                                .skip_bad = c->skip_bad != 0},
                                     corpus  = {.files = (const char *const *)c->corpus, .skip_bad = c->skip_bad != 0};
    const struct soothe__scorer_options options = {.model_path = w->model_path,
                                                   .n_threads  = w->probe_options.n_threads};
    struct soothe__spot_check           what    = {.prompts   = &w->prompts,
                                                   .corpus    = &w->corpus,
                                                   .n_predict = w->n_predict,
                                                   .n_threads = w->probe_options.n_threads};
    enum soothe_status                  status  = SOOTHE_OK;
    if (c->prompts)
        status = soothe__eval_prompts_read(&w->prompts, &prompts, err);
    if (!status && c->corpus)
        status = soothe__eval_prompts_read(&w->corpus, &corpus, err);
    if (!status)
        status = soothe__scorer_open(&w->scorer, c->scorer ? c->scorer : "default", &options, err);
    what.scorer = w->scorer;
    return status ? status : soothe__surgery_controls(w->controls, w->model_path, w->probe, &w->options, &what, err);
}

/* ---- what is told --------------------------------------------------------------------------------------------------
 */

static void print_controls(const struct work *w) {
    const struct soothe__spot_figures *plain = &w->controls[0].figures;
    printf("\n%-18s %9s %9s %9s %11s %9s\n", "", "greedy-1", "to plain", "mean", "ppl_corpus", "to plain");
    for (int i = 0; i < SOOTHE__CONTROLS; i++) {
        const struct soothe__spot_figures *f = &w->controls[i].figures;
        printf("%-18s", w->controls[i].name);
        soothe__print_figure(f->greedy1, 9, 3);
        soothe__print_figure(f->greedy1 / plain->greedy1, 9, 3);
        soothe__print_figure(f->mean, 9, 3);
        soothe__print_figure(f->ppl_corpus, 11, 3);
        soothe__print_figure(f->ppl_corpus / plain->ppl_corpus, 9, 3);
        putchar('\n');
    }
    printf("%zu prompts, %lld tokens of neutral text\n", plain->n_prompts, (long long)plain->n_corpus_tokens);
}

static void print_report(const struct work *w, const struct choice *c) {
    const struct soothe__surgery_report *r = &w->report;
    printf("%lld of %lld gate rows (%.2f %%), cosines %.3f to %.3f, mean length %.3f; strength %g, coordinates %s\n",
           (long long)r->n_chosen, (long long)r->n_rows, 100.0 * (double)r->n_chosen / (double)r->n_rows, r->cos_first,
           r->cos_last, r->mean_norm, w->options.strength, soothe__surgery_coordinates_name(w->options.coordinates));
    if (isfinite(w->probe_auc))
        printf("probe: AUC %.3f on held-out texts\n", w->probe_auc);
    fputs("rows changed in each block:", stdout);
    for (uint32_t b = 0; b < r->n_blocks; b++)
        printf(" %lld", (long long)r->chosen_in[b]);
    putchar('\n');
    if (c->controls)
        print_controls(w);
}

static json_t *json_control(const struct soothe__control_row *row) {
    const struct soothe__spot_figures *f = &row->figures;
    return json_pack("{s:s, s:o, s:o, s:o, s:I, s:I, s:I}", "edit", row->name, "greedy1",
                     soothe__json_rounded(f->greedy1), "mean", soothe__json_rounded(f->mean), "ppl_corpus",
                     soothe__json_rounded(f->ppl_corpus), "prompts", (json_int_t)f->n_prompts, "nulls",
                     (json_int_t)f->n_nulls, "corpus_tokens", (json_int_t)f->n_corpus_tokens);
}

static int print_report_json(const struct work *w, const struct choice *c) {
    const struct soothe__surgery_report *r      = &w->report;
    json_t                              *blocks = json_array(), *controls = json_array();
    char                                 layer[16];
    soothe__layer_name(layer, w->probe->layer);
    for (uint32_t b = 0; b < r->n_blocks; b++)
        json_array_append_new(blocks, json_integer(r->chosen_in[b]));
    for (int i = 0; c->controls && i < SOOTHE__CONTROLS; i++)
        json_array_append_new(controls, json_control(&w->controls[i]));
    return soothe__print_json(
        json_pack("{s:s, s:s?, s:s?, s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:s, s:s, s:o, s:o, s:o}", "model",
                  w->model_path, "out", c->out, "diff", c->diff, "id", w->diff->id, "rows", (json_int_t)r->n_chosen,
                  "rows_of", (json_int_t)r->n_rows, "strength", soothe__json_rounded(w->options.strength),
                  "mean_length", soothe__json_rounded(r->mean_norm), "cosine_first", soothe__json_rounded(r->cos_first),
                  "cosine_last", soothe__json_rounded(r->cos_last), "coordinates",
                  soothe__surgery_coordinates_name(w->options.coordinates), "layer", layer, "probe_held_out_auc",
                  soothe__json_rounded(w->probe_auc), "rows_in_blocks", blocks, "controls", controls),
        8);
}

static int run(struct work *w, const struct choice *c) {
    struct soothe_error err;
    enum soothe_status  status = soothe__choose_model(&w->model_path, c->model, &err);
    if (!status)
        status = c->probe ? soothe__probe_open(&w->probe, c->probe, w->model_path, &err) : train_probe(w, c, &err);
    if (!status)
        status = operate(w, c, &err);
    if (!status && c->controls)
        status = measure(w, c, &err);
    if (status)
        return soothe__print_failure(&err);
    if (c->json)
        return print_report_json(w, c);
    print_report(w, c);
    return SOOTHE__EXIT_DONE;
}

static void release(struct work *w, struct choice *c) {
    char *const texts[] = {c->model,    c->out,     c->diff,   c->probe,       c->layer,   c->pool,   c->kind,
                           c->strength, c->share,   c->rows,   c->coordinates, c->control, c->blocks, c->seed,
                           c->ctx,      c->threads, c->scorer, c->limit,       c->predict};
    soothe__scorer_close(w->scorer);
    soothe__eval_prompts_free(&w->prompts);
    soothe__eval_prompts_free(&w->corpus);
    soothe__surgery_report_free(&w->report);
    soothe__diff_free(w->diff);
    soothe__probe_free(w->probe);
    soothe__probe_texts_free(&w->texts);
    free(w->model_path);
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
    soothe__free_list(c->data);
    soothe__free_list(c->prompts);
    soothe__free_list(c->corpus);
}

int soothe__cmd_edit_surgery(int argc, const char **argv) {
    struct choice           c         = {0};
    struct work             w         = {.options       = soothe__surgery_options_default(),
                                         .probe_options = {.pool = SOOTHE__POOL_MEAN, .kind = SOOTHE__PROBE_LOGISTIC},
                                         .layer         = SOOTHE__LAYER_FINAL,
                                         .probe_auc     = NAN};
    const struct poptOption options[] = {
        TEXT_OPTION("model", 'm', model, "the model: a name, an address or a file", "MODEL"),
        TEXT_OPTION("output", 'o', out, "the edited model to be written", "FILE"),
        TEXT_OPTION("diff", '\0', diff, "the edit as a small file to be written", "FILE"),
        FLAG_OPTION("keep-rows", keep_rows, "the diff holds the rows as they were too: undo needs no base"),
        LIST_OPTION("data", data, "labelled texts to learn the probe from; may be given again", "FILE"),
        TEXT_OPTION("probe", '\0', probe, "or a probe of the model", "FILE"),
        TEXT_OPTION("layer", '\0', layer, "state that the probe reads: a block's number or final (final)", "L"),
        TEXT_OPTION("pool", '\0', pool, "a text's state: mean (default), last, or learn from every token", "POOL"),
        TEXT_OPTION("kind", '\0', kind, "logistic (default) or lda", "KIND"),
        TEXT_OPTION("strength", '\0', strength, "shift, as a share of the rows' mean length (0.7)", "X"),
        TEXT_OPTION("alpha", '\0', strength, "the same", "X"),
        TEXT_OPTION("share", '\0', share, "share of the gate rows that is changed (0.0465)", "X"),
        TEXT_OPTION("rows", '\0', rows, "or how many", "N"),
        TEXT_OPTION("blocks", '\0', blocks, "only rows of those blocks, as 8-15 or 20- (all)", "RANGE"),
        TEXT_OPTION("coordinates", '\0', coordinates, "plain (default) or gain", "WHICH"),
        TEXT_OPTION("control", '\0', control, "write a control instead: random-direction or random-rows", "WHICH"),
        TEXT_OPTION("seed", 's', seed, "of the controls' random numbers (0)", "N"),
        FLAG_OPTION("controls", controls, "measure the model, the edit and the controls"),
        LIST_OPTION("prompts", prompts, "prompts for --controls, continued greedily", "FILE"),
        LIST_OPTION("corpus", corpus, "neutral texts for --controls", "FILE"),
        TEXT_OPTION("scorer", '\0', scorer, "the judge, as for soothe score (default)", "SPEC"),
        TEXT_OPTION("limit", '\0', limit, "only the first N prompts", "N"),
        TEXT_OPTION("predict", 'n', predict, "tokens of a continuation (20)", "N"),
        TEXT_OPTION("ctx-size", 'c', ctx, "cut labelled texts to so many tokens (128)", "N"),
        TEXT_OPTION("threads", 't', threads, "threads (all processors)", "N"),
        FLAG_OPTION("skip-bad", skip_bad, "leave bad rows out instead of stopping"),
        FLAG_OPTION("json", json, "the report as JSON"),
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &soothe__command_edit_surgery, argc, argv, options);
    if (code < 0) {
        code = check_choice(&w, &c, poptGetArg(context));
        if (!code)
            code = run(&w, &c);
    }
    poptFreeContext(context);
    release(&w, &c);
    return code;
}
