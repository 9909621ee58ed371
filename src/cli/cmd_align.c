/* SPDX-License-Identifier: Apache-2.0
 * soothe align: makes a calibrator serve another target. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/own_pairs.h"
#include "cli/result.h"
#include "cli/speak.h"
#include "pull/pull.h"
#include "train/align.h"

const struct soothe__command soothe__command_align = {
    .name    = "align",
    .run     = soothe__cmd_align,
    .summary = "make a calibrator serve another target",
    .help =
        "    soothe align -m target.gguf --calibrator cal.gguf --base smollm2-135m-instruct --data pairs.jsonl -o "
        "a.gguf\n"
        "    soothe run -m target.gguf --method fusion:calibrator=cal.gguf:alignment=a.gguf -p \"...\"\n"
        "    soothe align -m target.gguf --matrix --self --prompts prompts.jsonl -o a.gguf\n"
        "    soothe align -m target.gguf --calibrator matrix.gguf --base MODEL --objective transfer -o a.gguf\n"
        "\n"
        "Objectives: preference (matrices trained on pairs, the calibrator frozen; the default) and fused (on clean "
        "texts\n"
        "alone) learn in steps; contrastive (the paper's), ridge and procrustes fit a map between the output spaces "
        "on\n"
        "tokens that both vocabularies have; transfer carries a calibrator's own matrices over by such a map; random "
        "is the\n"
        "control. Without a calibrator, preference fits a matrix on the target's own state. Data as for calibrator "
        "train; what is\n"
        "held out of them, or --heldout, gives the figures at the end.\n",
};

struct choice {
    char                        *model, *calibrator, *base, *from, *output, *objective, *precision, *states, *map, *on;
    char                       **data, **heldout;
    int                          json, matrix, bias, exact, seed;
    struct soothe__own_pairs     own;
    float                        strength;
    struct soothe__align_request r;
};

/* ---- output ---------------------------------------------------------------------------------------------------- */

static json_t *json_heldout(const struct soothe__align_figures *f) {
    return json_pack("{s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "n_pairs", (json_int_t)f->n_pairs,
                     "n_texts", (json_int_t)f->n_texts, "pairs_right", soothe__json_number(f->pairs_right), "margin",
                     soothe__json_number(f->margin), "kl", soothe__json_number(f->kl), "nll_clean",
                     soothe__json_number(f->nll_clean), "nll_clean_plain", soothe__json_number(f->nll_clean_plain),
                     "nll_chosen", soothe__json_number(f->nll_chosen), "nll_chosen_plain",
                     soothe__json_number(f->nll_chosen_plain), "nll_toxic", soothe__json_number(f->nll_rejected),
                     "nll_toxic_plain", soothe__json_number(f->nll_rejected_plain));
}

static const char *const BY[] = {"asked", "steps", "own", "drift"};

static int print_json(const struct soothe__align_request *r, const struct soothe__align_report *p) {
    json_t *o = json_pack("{s:s, s:s, s:f, s:b, s:b, s:b}", "alignment", r->out_path, "objective",
                          soothe__align_objective_name(r->objective), "strength", (double)p->strength, "a", p->has_a,
                          "b", p->has_b, "bias", p->has_bias);
    json_object_set_new(o, "tokens",
                        json_pack("{s:I, s:I, s:I, s:I, s:o, s:o}", "calibrator", (json_int_t)p->n_vocab_x, "target",
                                  (json_int_t)p->n_vocab_y, "common", (json_int_t)p->n_common, "held_out",
                                  (json_int_t)p->n_retrieved, "top1", soothe__json_number(p->top1), "top5",
                                  soothe__json_number(p->top5)));
    json_object_set_new(o, "fit",
                        json_pack("{s:I, s:I, s:I, s:i, s:I, s:o, s:f, s:f}", "n_pairs", (json_int_t)p->n_pairs,
                                  "n_texts", (json_int_t)p->n_texts, "n_left_out", (json_int_t)p->n_left_out, "n_steps",
                                  p->n_steps, "n_state_rows", (json_int_t)p->n_state_rows, "loss",
                                  soothe__json_number(p->loss), "seconds", p->seconds, "state_seconds",
                                  p->state_seconds));
    json_object_set_new(o, "chosen_strength",
                        json_pack("{s:s, s:o, s:o, s:f, s:I}", "by", BY[p->strength_by], "kl",
                                  soothe__json_number(p->drift), "own_kl", soothe__json_number(p->own_drift),
                                  "own_strength", (double)p->own_strength, "n_texts", (json_int_t)p->n_drift_texts));
    json_object_set_new(o, "heldout", json_heldout(&p->heldout));
    return soothe__print_json(o, 6);
}

static void print_nll(const char *what, double fused, double plain) {
    if (isfinite(fused))
        printf("  held out        NLL of %s %.4f nats/token (plain %.4f, %+.2f %%)\n", what, fused, plain,
               100 * (fused / plain - 1));
}

static void print_text(const struct soothe__align_request *r, const struct soothe__align_report *p) {
    const struct soothe__align_figures *f = &p->heldout;
    printf("%s\n", r->out_path);
    printf("  holds          %s%s%s, strength %g\n", p->has_a ? " A" : "", p->has_b ? " B" : "",
           p->has_bias ? " bias" : "", (double)p->strength);
    if (p->strength_by == SOOTHE__STRENGTH_DRIFT)
        printf("  strength        KL to plain %.4f on %zu clean texts; beside its own model at %g: %.4f\n", p->drift,
               p->n_drift_texts, (double)p->own_strength, p->own_drift);
    else if (p->strength_by == SOOTHE__STRENGTH_OWN && p->own_strength > 0)
        printf("  strength        the calibrator's own, not made for this model: soothe tune finds a better one\n");
    if (p->n_common)
        printf("  tokens          %zu in common of the calibrator's %zu and the target's %zu\n", p->n_common,
               p->n_vocab_x, p->n_vocab_y);
    if (isfinite(p->top1))
        printf("  retrieval       top-1 %.1f %%, top-5 %.1f %% of %zu held-out tokens\n", 100 * p->top1, 100 * p->top5,
               p->n_retrieved);
    if (p->n_steps)
        printf("  trained         %d steps on %zu pairs and %zu texts (%zu lines left out) in %.0f s, loss %.4f\n",
               p->n_steps, p->n_pairs, p->n_texts, p->n_left_out, p->seconds, p->loss);
    else
        printf("  fitted          in %.1f s%s\n", p->seconds, p->n_state_rows ? " on states" : "");
    if (p->state_seconds > 0)
        printf("  states          %.0f s\n", p->state_seconds);
    if (isfinite(f->pairs_right))
        printf("  held out        %.1f %% of %zu pairs ordered rightly, margin %.3f\n", 100 * f->pairs_right,
               f->n_pairs, f->margin);
    if (isfinite(f->kl))
        printf("  held out        KL to plain %.4f nats/token on %zu clean texts\n", f->kl, f->n_texts);
    print_nll("clean texts ", f->nll_clean, f->nll_clean_plain);
    print_nll("chosen sides", f->nll_chosen, f->nll_chosen_plain);
    print_nll("toxic sides ", f->nll_rejected, f->nll_rejected_plain);
}

/* ---- running --------------------------------------------------------------------------------------------------- */

static int align(struct choice *c, const volatile sig_atomic_t *stop) {
    struct soothe_error         err;
    struct soothe__align_report report;
    char                       *own    = NULL;
    const size_t                n      = soothe__list_length(c->data);
    enum soothe_status          status = SOOTHE_OK;
    if (c->own.self)
        status = soothe__own_pairs_make(&c->own, c->r.model_path, c->output, c->r.n_threads, c->seed, stop, &own, &err);
    const char **data = status ? NULL : soothe__calloc(n + 1, sizeof *data);
    for (size_t i = 0; data && i < n; i++)
        data[i] = c->data[i];
    if (data && own)
        data[n] = own;
    if (!status && !data)
        status = soothe__fail(&err, SOOTHE_E_MEMORY, "out of memory");
    c->r.data_paths    = data;
    c->r.n_data        = n + (own != NULL);
    c->r.heldout_paths = (const char *const *)c->heldout;
    c->r.n_heldout     = soothe__list_length(c->heldout);
    c->r.stop          = stop;
    if (!status)
        status = soothe__align(&c->r, &report, &err);
    free(data);
    free(own);
    if (status)
        return soothe__print_failure(&err);
    if (c->json)
        return print_json(&c->r, &report);
    print_text(&c->r, &report);
    return SOOTHE__EXIT_DONE;
}

/* ---- options --------------------------------------------------------------------------------------------------- */

static int check_numbers(const struct choice *c) {
    const struct soothe__align_request *r = &c->r;
    const struct {
        const char *name;
        double      value, lo, hi;
    } ranges[] = {{"--steps", r->n_steps, 1, 1e6},
                  {"--pairs-per-step", r->n_pairs, 1, 1024},
                  {"--texts-per-step", r->n_texts, 1, 1024},
                  {"--max-length", r->max_length, 4, 4096},
                  {"--threads", r->n_threads, 0, 1024},
                  {"--seed", c->seed, 0, 2147483647},
                  {"--rate", r->rate, 1e-9, 1},
                  {"--kappa", r->kappa, 1e-6, 1e3},
                  {"--lambda", r->lambda, 0, 1e3},
                  {"--weight-decay", r->weight_decay, 0, 1e3},
                  {"--clip", r->clip, 0, 1e6},
                  {"--heldout-share", r->heldout_share, 0, 0.9},
                  {"--ridge", r->ridge, 1e-9, 1e6},
                  {"--epochs", r->contrastive.n_epochs, 1, 1000},
                  {"--negatives", r->contrastive.n_negatives, 1, 1000},
                  {"--temperature", r->contrastive.temperature, 1e-3, 100},
                  {"--strength", isnan(c->strength) ? 1.0 : (double)c->strength, 0, 100}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!(ranges[i].value >= ranges[i].lo && ranges[i].value <= ranges[i].hi))
            return soothe__print_misuse("align", "%s must be from %g to %g, not %g", ranges[i].name, ranges[i].lo,
                                        ranges[i].hi, ranges[i].value);
    return -1;
}

/* One of two words; NULL is the first. Returns its place, or -1. */
static int one_of(const char *word, const char *first, const char *second) {
    return !word || !strcmp(word, first) ? 0 : !strcmp(word, second) ? 1 : -1;
}

static int check(struct choice *c, const char *more) {
    const int objective = soothe__align_objective_find(c->objective ? c->objective : "preference");
    const int map       = soothe__align_map_find(c->map ? c->map : "ridge");
    if (more)
        return soothe__print_misuse("align", "\"%s\" belongs to no option", more);
    if (!c->model)
        return soothe__print_misuse("align", "which target? -m takes a file or a name that soothe pull --list shows");
    if (!c->output)
        return soothe__print_misuse("align", "where to? -o names the alignment to be written");
    if (objective < 0)
        return soothe__print_misuse(
            "align", "--objective is preference, fused, contrastive, ridge, procrustes, transfer or random, not \"%s\"",
            c->objective);
    if (!c->calibrator && !c->matrix && !c->bias)
        return soothe__print_misuse("align",
                                    "what for? --calibrator FILE, or --matrix for one on the target's own state");
    if (c->base && !c->calibrator)
        return soothe__print_misuse("align", "--base needs a --calibrator");
    if (map < 0)
        return soothe__print_misuse("align", "--map is procrustes, ridge or contrastive, not \"%s\"", c->map);
    if (one_of(c->on, "tokens", "states") < 0)
        return soothe__print_misuse("align", "--on is tokens or states, not \"%s\"", c->on);
    if (c->precision && one_of(c->precision, "bf16", "f32") < 0)
        return soothe__print_misuse("align", "--precision is bf16 or f32, not \"%s\"", c->precision);
    if (c->map && objective != SOOTHE__ALIGN_TRANSFER)
        return soothe__print_misuse("align", "--map is for --objective transfer");
    c->r.objective = (enum soothe__align_objective)objective;
    c->r.map       = (enum soothe__align_map)map;
    c->r.on_states = one_of(c->on, "tokens", "states") == 1;
    if (soothe__align_has_steps(c->r.objective) && !c->data && !c->own.self)
        return soothe__print_misuse("align", "on what? --data FILE, or --self --prompts FILE");
    const int code = soothe__own_pairs_check(&c->own, "align");
    return code >= 0 ? code : check_numbers(c);
}

static int run(struct choice *c, const char *more) {
    struct soothe_error err;
    char               *model = NULL, *base = NULL;
    int                 code = check(c, more);
    if (code >= 0)
        return code;
    if (soothe__pull_model(&model, c->model, &err) || (c->base && soothe__pull_model(&base, c->base, &err))) {
        free(model);
        return soothe__print_failure(&err);
    }
    c->r.model_path      = model;
    c->r.base_path       = base;
    c->r.calibrator_path = c->calibrator;
    c->r.from_path       = c->from;
    c->r.out_path        = c->output;
    c->r.states_path     = c->states;
    c->r.keep_type       = c->exact != 0;
    c->r.own_matrix      = c->matrix != 0;
    c->r.bias            = c->bias != 0;
    c->r.strength        = c->strength;
    c->r.seed            = (uint64_t)c->seed;
    if (c->precision)
        c->r.precision = strcmp(c->precision, "bf16") == 0 ? SOOTHE__PRECISION_BF16 : SOOTHE__PRECISION_F32;
    code = align(c, soothe__interrupt_flag());
    free(model);
    free(base);
    return code;
}

#define NUMBER_OPTION(name, field, about)                                                                              \
    { name, '\0', POPT_ARG_DOUBLE | POPT_ARGFLAG_SHOW_DEFAULT, &c.r.field, 0, about, "X" }
#define COUNT_OPTION(name, field, about)                                                                               \
    { name, '\0', POPT_ARG_INT | POPT_ARGFLAG_SHOW_DEFAULT, &c.r.field, 0, about, "N" }

int soothe__cmd_align(int argc, const char **argv) {
    struct choice c = {
        .seed = 1, .strength = NAN, .own = SOOTHE__OWN_PAIRS_DEFAULT, .r = soothe__align_request_default()};
    const struct poptOption options[] = {
        TEXT_OPTION("model", 'm', model, "the target: a file, an address or a name", "MODEL"),
        TEXT_OPTION("calibrator", '\0', calibrator, "to be aligned; stays as it is", "FILE"),
        TEXT_OPTION("base", '\0', base, "model that the calibrator was made from, if not the target itself", "MODEL"),
        TEXT_OPTION("objective", '\0', objective,
                    "preference (default), fused, contrastive, ridge, procrustes, transfer or random", "NAME"),
        TEXT_OPTION("output", 'o', output, "the alignment to be written", "FILE"),
        LIST_OPTION("data", data, "pairs and texts; may be repeated", "FILE"),
        LIST_OPTION("heldout", heldout, "texts for the figures at the end; may be repeated", "FILE"),
        NUMBER_OPTION("heldout-share", heldout_share, "without --heldout: this share of the data"),
        FLAG_OPTION("exact", exact, "run the calibrator's blocks in the data types of its file, not in Q4_0"),
        FLAG_OPTION("matrix", matrix, "a matrix on the target's own state, beside A or alone"),
        FLAG_OPTION("bias", bias, "a constant added to the state, too"),
        TEXT_OPTION("from", '\0', from, "an alignment to begin from", "FILE"),
        COUNT_OPTION("steps", n_steps, "of training"),
        COUNT_OPTION("pairs-per-step", n_pairs, "of preference"),
        COUNT_OPTION("texts-per-step", n_texts, "clean texts"),
        COUNT_OPTION("max-length", max_length, "tokens of a text; longer ones are cut"),
        NUMBER_OPTION("rate", rate, "learning rate of the steps"),
        NUMBER_OPTION("kappa", kappa, "sharpness of the preference"),
        NUMBER_OPTION("lambda", lambda, "weight of KL to plain"),
        NUMBER_OPTION("weight-decay", weight_decay, "of matrices"),
        NUMBER_OPTION("clip", clip, "norm of the gradient; 0: no limit"),
        TEXT_OPTION("map", '\0', map, "of transfer: ridge (default), procrustes or contrastive", "NAME"),
        TEXT_OPTION("on", '\0', on, "ridge and procrustes: tokens (default) or states of the data", "NAME"),
        NUMBER_OPTION("ridge", ridge, "penalty, in units of the mean square"),
        COUNT_OPTION("epochs", contrastive.n_epochs, "of contrastive"),
        COUNT_OPTION("negatives", contrastive.n_negatives, "of contrastive"),
        NUMBER_OPTION("temperature", contrastive.temperature, "of contrastive"),
        {"strength", '\0', POPT_ARG_FLOAT, &c.strength, 0,
         "recommended by the file, and measured at; default: 1 for steps, else where clean text drifts as far as "
         "beside the calibrator's own model",
         "X"},
        {"default-strength", '\0', POPT_ARG_FLOAT | POPT_ARGFLAG_DOC_HIDDEN, &c.strength, 0, NULL, NULL},
        TEXT_OPTION("states", '\0', states, "keep the states there for further runs", "FILE"),
        {"seed", 's', POPT_ARG_INT | POPT_ARGFLAG_SHOW_DEFAULT, &c.seed, 0, "of order, split and samples", "N"},
        TEXT_OPTION("precision", '\0', precision, "bf16 or f32; default: the faster one", "TYPE"),
        {"threads", 't', POPT_ARG_INT, &c.r.n_threads, 0, "default: all cores", "N"},
        SOOTHE__OWN_PAIRS_OPTIONS(c.own),
        FLAG_OPTION("json", json, "report as JSON"),
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &soothe__command_align, argc, argv, options);
    if (code < 0)
        code = run(&c, poptGetArg(context));
    poptFreeContext(context);
    char *all[] = {c.model, c.calibrator, c.base, c.from, c.output, c.objective, c.precision, c.states, c.map, c.on};
    soothe__free_texts(all, sizeof all / sizeof *all);
    soothe__own_pairs_free(&c.own);
    soothe__free_list(c.data);
    soothe__free_list(c.heldout);
    return code;
}
