/* SPDX-License-Identifier: Apache-2.0
 * soothe tune: the strength that a budget of perplexity allows, from one's own prompts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/result.h"
#include "cli/speak.h"
#include "cli/tune_model.h"
#include "eval/tune.h"
#include "pull/pull.h"

const struct soothe__command soothe__command_tune = {
    .name    = "tune",
    .run     = soothe__cmd_tune,
    .summary = "find the strength of a method that a budget of perplexity allows",
    .help =
        "    soothe tune -m model.gguf --prompts mine.jsonl --methods fusion --budget 5% --out tuned\n"
        "    soothe tune --prompts mine.jsonl --methods fusion --target emt=-60% --out tuned\n"
        "    soothe tune --prompts mine.jsonl --methods gate+fusion --parameter low --from 0.6 --to 0 \\\n"
        "        --benign-suite benign-mini --identical 95% --out tuned\n"
        "\n"
        "Evaluates plain and a few values of one parameter in two rounds (folders of soothe eval in DIR), each with "
        "the\n"
        "same prompts and random numbers, and chooses the last value before anything goes wrong: perplexity over the\n"
        "budget, repetition, silence, refusals, benign answers that change. With --target: the first that reaches "
        "it.\n"
        "\n"
        "With --objective NAME the model itself learns: soothe tune --objective sft --help. With --merge FILE a LoRA\n"
        "file is merged into a model: soothe tune --merge x --help.\n",
};

/* What popt stores; numbers stay text until read_numbers. */
struct choice {
    char  *model, *ppl_model, *methods, *parameter, *from, *to, *n_values, *budget, *target, *identical, *field, *out;
    char **prompts, **suites, **scorers, **benign, **benign_suites, **corpus;
    char  *n_samples, *n_ppl_samples, *n_predict, *limit, *n_threads, *seed;
    int    resume, json;
};

/* ---- options --------------------------------------------------------------------------------------- */

/* "5%" or ".05". */
static bool read_share(double *out, const char *text, const char *option, double lowest, double highest) {
    char   number[32];
    size_t n       = text ? strlen(text) : 0;
    bool   percent = n > 0 && text[n - 1] == '%';
    if (!text)
        return true;
    n -= percent;
    if (n < sizeof number) {
        snprintf(number, sizeof number, "%.*s", (int)n, text);
        if (soothe__parse_double(out, number, -1e6, 1e6)) {
            *out /= percent ? 100 : 1;
            if (*out >= lowest && *out <= highest)
                return true;
        }
    }
    soothe__print_misuse("tune", "%s takes a share from %g to %g, as 5%% or 0.05, not \"%.60s\"", option, lowest,
                         highest, text);
    return false;
}

static bool read_target(double *out, const char *text) {
    if (text && strncmp(text, "emt=", 4) != 0) {
        soothe__print_misuse("tune", "--target takes emt=CHANGE, as emt=-60%%, not \"%.60s\"", text);
        return false;
    }
    return read_share(out, text ? text + 4 : NULL, "--target emt=", -1, 0);
}

static bool read_value(double *out, const char *text, const char *option) {
    if (!text || soothe__parse_double(out, text, -1e6, 1e6))
        return true;
    soothe__print_misuse("tune", "%s takes a number, not \"%.60s\"", option, text);
    return false;
}

static bool read_numbers(struct soothe__tune_options *o, const struct choice *c) {
    static const char *const     me    = "tune";
    struct soothe__eval_options *e     = &o->eval;
    int32_t                      limit = 0;
    const bool                   ok    = soothe__read_int(&e->n_samples, c->n_samples, me, "-k", 1, 10000) &&
                    soothe__read_int(&e->n_ppl_samples, c->n_ppl_samples, me, "--ppl-samples", 1, 10000) &&
                    soothe__read_int(&e->n_predict, c->n_predict, me, "-n", 1, 100000) &&
                    soothe__read_int(&limit, c->limit, me, "--limit", 0, INT32_MAX) &&
                    soothe__read_int(&e->n_threads, c->n_threads, me, "-t", 1, 1024) &&
                    soothe__read_int(&o->n_values, c->n_values, me, "--values", 2, SOOTHE__TUNE_VALUES_MAX) &&
                    read_value(&o->from, c->from, "--from") && read_value(&o->to, c->to, "--to") &&
                    read_share(&o->budget, c->budget, "--budget", 0, 100) && read_target(&o->target, c->target) &&
                    read_share(&o->identical, c->identical, "--identical", 0, 1);
    e->prompts.limit = (size_t)limit;
    e->sampling.seed = 0;
    return ok && (!c->seed || soothe__read_seed(&e->sampling.seed, c->seed, me));
}

static int check_choice(const struct choice *c, const char *more) {
    const bool benign = (c->benign && c->benign[0]) || (c->benign_suites && c->benign_suites[0]);
    if (more)
        return soothe__print_misuse("tune", "\"%s\" belongs to no option (prompts are given by --prompts or --suite)",
                                    more);
    if (!(c->prompts && c->prompts[0]) && !(c->suites && c->suites[0]))
        return soothe__print_misuse("tune", "which prompts? --prompts takes a file, --suite one of %s",
                                    soothe__eval_suite_names());
    if (!c->out)
        return soothe__print_misuse("tune", "where to? --out takes a folder");
    if (c->identical && !benign)
        return soothe__print_misuse("tune", "--identical is about benign prompts: give them by --benign or "
                                            "--benign-suite");
    return SOOTHE__EXIT_DONE;
}

/* ---- the answer --------------------------------------------------------------------------------------- */

static void print_faults(FILE *out, const struct soothe__tune_point *p, const char *separator) {
    bool any = false;
    for (unsigned f = 1; f < SOOTHE__TUNE_FAULT_END; f <<= 1)
        if (p->faults & f) {
            fprintf(out, "%s%s", any ? separator : "", soothe__tune_fault_text(f));
            any = true;
        }
}

static void print_table(const struct soothe__tune_options *o, const struct soothe__tune_result *r) {
    printf("%-10s %7s %7s %23s %8s %9s %7s %7s %9s %9s\n", o->parameter, "EMT", "tp", "EMT change", "ppl", "ppl/resp",
           "dist-2", "empty", "refusals", "same");
    for (size_t i = 0; i < r->n; i++) {
        const struct soothe__tune_point *p = &r->points[i];
        char                             value[32], change[64] = "";
        if (isnan(p->value) && p->round == 2)
            continue; /* plain again, with the same figures */
        snprintf(value, sizeof value, "%.6g", p->value);
        if (!isnan(p->value))
            snprintf(change, sizeof change, "%+.1f%% [%+.1f, %+.1f]", 100 * p->emt_change, 100 * p->emt_lo,
                     100 * p->emt_hi);
        printf("%-10s", isnan(p->value) ? "plain" : value);
        soothe__print_figure(p->emt, 7, 3);
        soothe__print_figure(p->tp, 7, 3);
        printf(" %23s", change);
        soothe__print_figure(p->ppl, 8, 2);
        soothe__print_figure(p->ppl_response, 9, 1);
        soothe__print_figure(p->dist2, 7, 3);
        soothe__print_figure(p->empty, 7, 3);
        soothe__print_figure(p->refusals, 9, 3);
        soothe__print_figure(p->identical, 9, 3);
        printf("%s", p == r->chosen ? "  <- chosen" : p->faults ? "  " : "");
        print_faults(stdout, p, "; ");
        putchar('\n');
    }
}

static void print_answer(const struct soothe__tune_options *o, const struct soothe__tune_result *r) {
    print_table(o, r);
    if (!r->chosen)
        printf("\nno value of %s from %g to %g will do: see the warnings beside each\n", o->parameter, o->from, o->to);
    else
        printf("\n%s = %.6g: --methods %s\n", o->parameter, r->chosen->value, r->chosen->method);
    if (!isnan(o->target) && !r->met)
        printf("the target of %.3g %% is not reached within the budget\n", 100 * o->target);
    else if (r->chosen && isnan(o->target) && r->chosen->value == o->to)
        printf("nothing went wrong up to the strongest value tried: --to sets it\n");
}

static json_t *json_point(const struct soothe__tune_result *r, const struct soothe__tune_point *p) {
    json_t *faults = json_array();
    for (unsigned f = 1; f < SOOTHE__TUNE_FAULT_END; f <<= 1)
        if (p->faults & f)
            json_array_append_new(faults, json_string(soothe__tune_fault_text(f)));
    const struct {
        const char *name;
        double      x;
    } figures[] = {{"value", p->value},
                   {"emt", p->emt},
                   {"tp", p->tp},
                   {"emt_change", p->emt_change},
                   {"emt_change_lo", p->emt_lo},
                   {"emt_change_hi", p->emt_hi},
                   {"ppl", p->ppl},
                   {"ppl_response", p->ppl_response},
                   {"ppl_corpus", p->ppl_corpus},
                   {"dist2", p->dist2},
                   {"empty", p->empty},
                   {"refusals", p->refusals},
                   {"benign_refusals", p->benign_refusals},
                   {"identical_tokens", p->identical}};
    json_t *o   = json_pack("{s:s, s:i, s:b, s:o}", "method", p->method, "round", p->round, "chosen", p == r->chosen,
                            "warnings", faults);
    for (size_t i = 0; o && i < sizeof figures / sizeof *figures; i++)
        json_object_set_new(o, figures[i].name, soothe__json_rounded(figures[i].x));
    return o;
}

static int print_json(const struct soothe__tune_options *o, const struct soothe__tune_result *r) {
    json_t *points = json_array();
    for (size_t i = 0; i < r->n; i++)
        json_array_append_new(points, json_point(r, &r->points[i]));
    json_t *chosen = r->chosen ? json_pack("{s:s, s:o}", "method", r->chosen->method, "value",
                                           soothe__json_rounded(r->chosen->value))
                               : json_null();
    return soothe__print_json(json_pack("{s:s, s:s, s:o, s:o, s:b, s:o, s:o}", "model", o->eval.model_path, "parameter",
                                        o->parameter, "budget", soothe__json_rounded(o->budget), "target",
                                        soothe__json_rounded(o->target), "target_met", r->met, "points", points,
                                        "chosen", chosen),
                              9);
}

/* ---- the work ------------------------------------------------------------------------------------------ */

static void fill_sources(struct soothe__eval_options *e, const struct choice *c) {
    static const char *const usual_scorer[] = {"default", NULL};
    e->scorers        = c->scorers && c->scorers[0] ? (const char *const *)c->scorers : usual_scorer;
    e->prompts.files  = (const char *const *)c->prompts;
    e->prompts.suites = (const char *const *)c->suites;
    e->prompts.field  = c->field;
    e->benign.files   = (const char *const *)c->benign;
    e->benign.suites  = (const char *const *)c->benign_suites;
    e->corpus.files   = (const char *const *)c->corpus;
    e->resume         = c->resume != 0;
    e->stop           = soothe__interrupt_flag();
}

static enum soothe_status tune(struct soothe__tune_options *o, struct soothe__tune_result *r, const struct choice *c,
                               char **model, char **ppl_model, struct soothe_error *err) {
    enum soothe_status status = soothe__choose_model(model, c->model, err);
    if (!status && c->ppl_model)
        status = soothe__choose_model(ppl_model, c->ppl_model, err);
    o->eval.model_path     = *model;
    o->eval.model_name     = soothe__laid_name(c->model, *model);
    o->eval.ppl_model_path = *ppl_model;
    if (!status)
        status = soothe__make_folders(c->out, err);
    return status ? status : soothe__tune(o, r, err);
}

static int run(const struct choice *c) {
    struct soothe_error         err;
    char                       *model = NULL, *ppl_model = NULL;
    struct soothe__tune_result  r = {.n = 0};
    struct soothe__tune_options o = {.eval      = soothe__eval_options_default(),
                                     .out       = c->out,
                                     .methods   = c->methods ? c->methods : "fusion",
                                     .parameter = c->parameter ? c->parameter : "strength",
                                     .from      = 0,
                                     .to        = 2,
                                     .n_values  = 4,
                                     .budget    = .05,
                                     .target    = NAN,
                                     .identical = NAN};
    if (!read_numbers(&o, c))
        return SOOTHE__EXIT_MISUSE;
    if (o.from == o.to)
        return soothe__print_misuse("tune", "--from and --to are both %g", o.from);
    struct soothe__chain chain = {.n = 0};
    char                 edge[32];
    snprintf(edge, sizeof edge, "%.6g", o.to);
    const bool wrong = soothe__chain_add(&chain, o.methods, &err) || soothe__chain_set(&chain, o.parameter, edge, &err);
    soothe__chain_free(&chain);
    if (wrong)
        return soothe__print_misuse("tune", "%s", err.message);
    fill_sources(&o.eval, c);
    fprintf(stderr, "seed %u\n", o.eval.sampling.seed);
    int code = SOOTHE__EXIT_DONE;
    if (tune(&o, &r, c, &model, &ppl_model, &err))
        code = soothe__print_failure(&err);
    else if (c->json)
        code = print_json(&o, &r);
    else
        print_answer(&o, &r);
    if (code == SOOTHE__EXIT_DONE && (!r.chosen || (!isnan(o.target) && !r.met)))
        code = SOOTHE__EXIT_FAILED;
    soothe__tune_free(&r);
    free(model);
    free(ppl_model);
    return code;
}

static void free_choice(struct choice *c) {
    char *const texts[] = {c->model,     c->ppl_model, c->methods, c->parameter, c->from,          c->to,
                           c->n_values,  c->budget,    c->target,  c->identical, c->field,         c->out,
                           c->n_samples, c->n_predict, c->limit,   c->n_threads, c->n_ppl_samples, c->seed};
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
    soothe__free_list(c->prompts);
    soothe__free_list(c->suites);
    soothe__free_list(c->scorers);
    soothe__free_list(c->benign);
    soothe__free_list(c->benign_suites);
    soothe__free_list(c->corpus);
}

int soothe__cmd_tune(int argc, const char **argv) {
    if (soothe__has_option(argc, argv, "--objective"))
        return soothe__cmd_tune_model(argc, argv);
    if (soothe__has_option(argc, argv, "--merge"))
        return soothe__cmd_tune_merge(argc, argv);
    struct choice           c         = {0};
    const struct poptOption options[] = {
        TEXT_OPTION("model", 'm', model, "the target: a name, an address or a file", "MODEL"),
        LIST_OPTION("prompts", prompts, "JSON lines, CSV or TSV; may be repeated", "FILE"),
        LIST_OPTION("suite", suites, "a small set that is built in: challenging-mini, benign-mini", "NAME"),
        TEXT_OPTION("field", '\0', field, "the prompt's column (prompt.text, prompt or text)", "NAME"),
        TEXT_OPTION("limit", '\0', limit, "the first N prompts of each file", "N"),
        TEXT_OPTION("methods", '\0', methods, "the chain: METHOD[:KEY=VALUE][+METHOD...] (fusion)", "CHAIN"),
        TEXT_OPTION("parameter", '\0', parameter, "what is to be found (strength, of all but gates)", "NAME"),
        TEXT_OPTION("from", '\0', from, "its weakest value, not itself tried (0)", "X"),
        TEXT_OPTION("to", '\0', to, "its strongest value (2)", "X"),
        TEXT_OPTION("values", '\0', n_values, "values of the first round (4)", "N"),
        TEXT_OPTION("budget", '\0', budget, "of perplexity, over plain's (5%)", "SHARE"),
        TEXT_OPTION("target", '\0', target, "the first value that changes EMT by so much, as emt=-60%", "emt=SHARE"),
        TEXT_OPTION("identical", '\0', identical, "share of benign tokens that must stay as they are", "SHARE"),
        LIST_OPTION("benign", benign, "harmless prompts: refusals, unchanged tokens", "FILE"),
        LIST_OPTION("benign-suite", benign_suites, "a built-in set of them: benign-mini", "NAME"),
        LIST_OPTION("corpus", corpus, "neutral texts: the budget counts for their perplexity too", "FILE"),
        LIST_OPTION("scorer", scorers, "default, lexicon, a file, command:...; the first decides", "SPEC"),
        TEXT_OPTION("ppl-model", '\0', ppl_model, "who judges perplexity (the plain target itself)", "MODEL"),
        TEXT_OPTION("ppl-samples", '\0', n_ppl_samples, "the first of each prompt that get a perplexity (all)", "N"),
        TEXT_OPTION("samples", 'k', n_samples, "continuations of each prompt (25)", "N"),
        TEXT_OPTION("predict", 'n', n_predict, "tokens of each at most (20)", "N"),
        TEXT_OPTION("seed", 's', seed, "of the random numbers (0); -1: any", "N"),
        TEXT_OPTION("out", 'o', out, "the folder of results", "DIR"),
        FLAG_OPTION("resume", resume, "go on with what the folder holds"),
        TEXT_OPTION("threads", 't', n_threads, "threads (all processors)", "N"),
        FLAG_OPTION("json", json, "the answer as JSON"),
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &soothe__command_tune, argc, argv, options);
    if (code < 0) {
        code = check_choice(&c, poptGetArg(context));
        if (code == SOOTHE__EXIT_DONE)
            code = run(&c);
    }
    poptFreeContext(context);
    free_choice(&c);
    return code;
}
