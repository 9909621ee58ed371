/* SPDX-License-Identifier: Apache-2.0
 * soothe calibrator train: from texts, or from the target's own samples, to a calibrator. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli/own_pairs.h"
#include "cli/result.h"
#include "pull/pull.h"
#include "train/train_run.h"

const struct soothe__command soothe__command_calibrator_train = {
    .name    = "calibrator train",
    .run     = soothe__cmd_calibrator_train,
    .summary = "train a calibrator's blocks and matrices",
    .help =
        "    soothe calibrator init -m smollm2-135m-instruct --blocks 3 -o cal0.gguf\n"
        "    soothe calibrator train -m smollm2-135m-instruct --calibrator cal0.gguf --data pairs.jsonl -o cal.gguf\n"
        "    soothe calibrator train -m smollm2-135m-instruct --blocks 0 --data pairs.jsonl -o matrix.gguf\n"
        "    soothe calibrator train -m smollm2-135m-instruct --blocks 0 --self --prompts prompts.jsonl -o own.gguf\n"
        "    soothe calibrator train -m smollm2-135m-instruct --objective lm-steer --data pairs.jsonl -o steer.gguf\n"
        "\n"
        "Data are JSON lines, plain or compressed: {\"prompt\", \"chosen\", \"rejected\"} are pairs, {\"prompt\",\n"
        "\"completion\"} and {\"text\"} are clean texts to stay close on. --self makes both from the target's own\n"
        "samples. Figures on held-out data come at the end; a run that was stopped (Ctrl-C) goes on by the same "
        "command.\n",
};

struct choice {
    char                        *model, *calibrator, *output, *objective, *checkpoint, *precision, *states;
    char                       **data, **heldout;
    int                          blocks, json, fresh, own_matrix, bias, freeze, seed;
    struct soothe__own_pairs     own;
    struct soothe__train_request r;
    float                        strength;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal) {
    (void)signal;
    interrupted = 1;
}

/* The first Ctrl-C saves and stops, the second one kills. */
static void catch_interrupt(void) {
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* ---- output --------------------------------------------------------------------------------------------- */

static int print_json(const struct soothe__train_report *p, const char *out_path) {
    json_t *o =
        json_pack("{s:s, s:I, s:I, s:I, s:i, s:i, s:f, s:f, s:f, s:I, s:s}", "calibrator", out_path, "n_pairs",
                  (json_int_t)p->n_pairs, "n_texts", (json_int_t)p->n_texts, "n_left_out", (json_int_t)p->n_left_out,
                  "n_steps", p->n_steps, "first_step", p->first_step, "seconds", p->seconds, "state_seconds",
                  p->state_seconds, "loss_tokens_per_second", p->loss_tokens_per_second, "core_bytes",
                  (json_int_t)p->core_bytes, "precision", p->bf16 ? "bf16" : "f32");
    json_object_set_new(o, "loss", soothe__json_number(p->loss));
    json_object_set_new(o, "heldout",
                        json_pack("{s:I, s:I, s:o, s:o, s:o, s:o}", "n_pairs", (json_int_t)p->n_heldout_pairs,
                                  "n_texts", (json_int_t)p->n_heldout_texts, "pairs_right",
                                  soothe__json_number(p->pairs_right), "kl", soothe__json_number(p->kl), "nll",
                                  soothe__json_number(p->nll), "nll_plain", soothe__json_number(p->nll_plain)));
    return soothe__print_json(o, 6);
}

static void print_text(const struct soothe__train_report *p, const char *out_path) {
    printf("%s\n", out_path);
    printf("  trained on      %zu pairs, %zu texts (%zu lines left out), %d steps in %.0f s, %.0f loss-tokens/s (%s)\n",
           p->n_pairs, p->n_texts, p->n_left_out, p->n_steps, p->seconds, p->loss_tokens_per_second,
           p->bf16 ? "bf16" : "f32");
    printf("  target's states %.0f s; loss %.4f over the last tenth\n", p->state_seconds, p->loss);
    if (p->n_heldout_pairs)
        printf("  held out        %.1f %% of %zu pairs ordered rightly\n", 100 * p->pairs_right, p->n_heldout_pairs);
    if (p->n_heldout_texts && isfinite(p->kl))
        printf("  held out        KL to plain %.4f nats/token, NLL %.4f (plain %.4f, %+.2f %%) on %zu texts\n", p->kl,
               p->nll, p->nll_plain, 100 * (p->nll / p->nll_plain - 1), p->n_heldout_texts);
    else if (p->n_heldout_texts)
        printf("  held out        NLL %.4f nats/token on %zu texts\n", p->nll, p->n_heldout_texts);
}

/* ---- running --------------------------------------------------------------------------------------------- */

static int train(struct choice *c, const char *model) {
    struct soothe_error         err;
    struct soothe__train_report report;
    char                       *own    = NULL;
    const size_t                n      = soothe__list_length(c->data);
    enum soothe_status          status = SOOTHE_OK;
    if (c->own.self)
        status = soothe__own_pairs_make(&c->own, model, c->output, c->r.n_threads, c->seed, &interrupted, &own, &err);
    if (status || !c->output) {
        free(own);
        return status ? soothe__print_failure(&err) : SOOTHE__EXIT_DONE;
    }
    const char **data = soothe__calloc(n + 1, sizeof *data);
    for (size_t i = 0; data && i < n; i++)
        data[i] = c->data[i];
    if (data && own)
        data[n] = own;
    const char **heldout = soothe__calloc(soothe__list_length(c->heldout) + 1, sizeof *heldout);
    for (size_t i = 0; heldout && i < soothe__list_length(c->heldout); i++)
        heldout[i] = c->heldout[i];
    c->r.model_path      = model;
    c->r.calibrator_path = c->calibrator;
    c->r.out_path        = c->output;
    c->r.checkpoint_path = c->checkpoint;
    c->r.data_paths      = data;
    c->r.n_data          = n + (own != NULL);
    c->r.heldout_paths   = heldout;
    c->r.n_heldout       = soothe__list_length(c->heldout);
    c->r.states_path     = c->states;
    c->r.strength        = c->strength;
    c->r.stop            = &interrupted;
    status =
        data && heldout ? soothe__train(&c->r, &report, &err) : soothe__fail(&err, SOOTHE_E_MEMORY, "out of memory");
    free(data);
    free(heldout);
    free(own);
    if (status)
        return soothe__print_failure(&err);
    if (report.n_unsaved)
        fprintf(stderr, "soothe: %d checkpoints could not be written (%s); the run went on without\n", report.n_unsaved,
                report.unsaved.message);
    if (c->json)
        return print_json(&report, c->output);
    print_text(&report, c->output);
    return SOOTHE__EXIT_DONE;
}

/* ---- options ----------------------------------------------------------------------------------------------- */

/* What the paper objective has no use for is a misunderstanding, better told than ignored. */
static int check_paper(const struct choice *c, const char *command) {
    const struct {
        const char *option;
        bool        given;
    } strangers[] = {{"--blocks 0", c->blocks == 0},
                     {"--own-matrix", c->own_matrix != 0},
                     {"--bias", c->bias != 0},
                     {"--freeze-blocks", c->freeze != 0},
                     {"--pairs-per-step", c->r.n_pairs > 0},
                     {"--rate-fusion", c->r.lr_fusion > 0},
                     {"--states", c->states != NULL}};
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
        if (strangers[i].given)
            return soothe__print_misuse(
                command, "%s is not for --objective paper, which trains blocks on texts and nothing else",
                strangers[i].option);
    return -1;
}

static int check_steer(const struct choice *c, const char *command) {
    const struct {
        const char *option;
        bool        given;
    } strangers[] = {{"--calibrator", c->calibrator != NULL},
                     {"--own-matrix", c->own_matrix != 0},
                     {"--bias", c->bias != 0},
                     {"--freeze-blocks", c->freeze != 0}};
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
        if (strangers[i].given)
            return soothe__print_misuse(
                command, "%s is not for --objective lm-steer, which trains one matrix of low rank and nothing else",
                strangers[i].option);
    return -1;
}

static int check(struct choice *c, const char *more) {
    const char *command = soothe__command_calibrator_train.name;
    int         code    = -1;
    if (more)
        return soothe__print_misuse(command, "\"%s\" belongs to no option", more);
    if (!c->model)
        return soothe__print_misuse(command, "which target? -m takes a file or a name that soothe pull --list shows");
    if (!c->output && !(c->own.self && c->own.samples_out))
        return soothe__print_misuse(command, "where to? -o names the calibrator to be written");
    if (!c->data && !c->own.self)
        return soothe__print_misuse(command, "on what? --data FILE, or --self --prompts FILE");
    if ((code = soothe__own_pairs_check(&c->own, command)) >= 0)
        return code;
    if (c->blocks != -1 && c->blocks != 0)
        return soothe__print_misuse(
            command,
            "--blocks is 0 or left out, not %d: soothe calibrator init cuts blocks, --calibrator "
            "takes them",
            c->blocks);
    if (c->objective && strcmp(c->objective, "lm-steer") == 0 && (code = check_steer(c, command)) >= 0)
        return code;
    if (!c->calibrator && c->output && c->blocks != 0 && !(c->objective && strcmp(c->objective, "lm-steer") == 0))
        return soothe__print_misuse(command,
                                    "--calibrator FILE (soothe calibrator init makes one), or --blocks 0 for a matrix "
                                    "on the target's own state");
    if (c->calibrator && c->blocks == 0)
        return soothe__print_misuse(command, "--blocks 0 takes no --calibrator");
    if (c->objective && strcmp(c->objective, "preference") != 0 && strcmp(c->objective, "paper") != 0 &&
        strcmp(c->objective, "lm-steer") != 0)
        return soothe__print_misuse(command, "--objective is preference, paper or lm-steer, not \"%s\"", c->objective);
    if (c->objective && strcmp(c->objective, "paper") == 0 && (code = check_paper(c, command)) >= 0)
        return code;
    if (c->precision && strcmp(c->precision, "bf16") != 0 && strcmp(c->precision, "f32") != 0)
        return soothe__print_misuse(command, "--precision is bf16 or f32, not \"%s\"", c->precision);
    const struct {
        const char *name;
        double      value, lo, hi;
    } ranges[] = {{"--steps", c->r.n_steps, 0, 1e6},
                  {"--pairs-per-step", c->r.n_pairs, 0, 1024},
                  {"--texts-per-step", c->r.n_texts, 0, 1024},
                  {"--rank", c->r.rank, 0, 65536},
                  {"--max-length", c->r.max_length, 4, 4096},
                  {"--threads", c->r.n_threads, 0, 1024},
                  {"--checkpoint-every", c->r.checkpoint_every, 0, 1e9},
                  {"--seed", c->seed, 0, 2147483647},
                  {"--rate-blocks", c->r.lr_blocks, 0, 1},
                  {"--rate-fusion", c->r.lr_fusion, 0, 1},
                  {"--kappa", c->r.kappa, 1e-6, 1e3},
                  {"--lambda", c->r.lambda, 0, 1e3},
                  {"--weight-decay", c->r.weight_decay, 0, 1e3},
                  {"--clip", c->r.clip, 0, 1e6},
                  {"--heldout-share", c->r.heldout_share, 0, 0.9},
                  {"--default-strength", (double)c->strength, 0, 100}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!(ranges[i].value >= ranges[i].lo && ranges[i].value <= ranges[i].hi))
            return soothe__print_misuse(command, "%s must be from %g to %g, not %g", ranges[i].name, ranges[i].lo,
                                        ranges[i].hi, ranges[i].value);
    return -1;
}

static int run(struct choice *c, const char *more) {
    struct soothe_error err;
    char               *model;
    const int           code = check(c, more);
    if (code >= 0)
        return code;
    if (c->objective && strcmp(c->objective, "paper") == 0)
        c->r.objective = SOOTHE__PAPER;
    if (c->objective && strcmp(c->objective, "lm-steer") == 0)
        c->r.objective = SOOTHE__LM_STEER;
    if (c->precision)
        c->r.precision = strcmp(c->precision, "bf16") == 0 ? SOOTHE__PRECISION_BF16 : SOOTHE__PRECISION_F32;
    c->r.own_matrix    = c->own_matrix != 0;
    c->r.bias          = c->bias != 0;
    c->r.freeze_blocks = c->freeze != 0;
    c->r.fresh         = c->fresh != 0;
    c->r.seed          = (uint64_t)c->seed;
    if (soothe__pull_model(&model, c->model, &err))
        return soothe__print_failure(&err);
    catch_interrupt();
    const int result = train(c, model);
    free(model);
    return result;
}

int soothe__cmd_calibrator_train(int argc, const char **argv) {
    struct choice           c         = {.blocks   = -1,
                                         .seed     = 1,
                                         .strength = 1.0f,
                                         .own      = SOOTHE__OWN_PAIRS_DEFAULT,
                                         .r        = soothe__train_request_default()};
    const struct poptOption options[] = {
        {"model", 'm', POPT_ARG_STRING, &c.model, 0, "the target: a file, an address or a name", "MODEL"},
        {"calibrator", '\0', POPT_ARG_STRING, &c.calibrator, 0, "full calibrator to begin from", "FILE"},
        {"blocks", '\0', POPT_ARG_INT, &c.blocks, 0, "0: no calibrator, a matrix on the target's own state", "0"},
        {"data", '\0', POPT_ARG_ARGV, &c.data, 0, "pairs and texts; may be repeated", "FILE"},
        {"heldout", '\0', POPT_ARG_ARGV, &c.heldout, 0, "texts never trained on; may be repeated", "FILE"},
        {"heldout-share", '\0', POPT_ARG_DOUBLE | POPT_ARGFLAG_SHOW_DEFAULT, &c.r.heldout_share, 0,
         "without --heldout: this share of the data", "X"},
        {"output", 'o', POPT_ARG_STRING, &c.output, 0, "the calibrator to be written", "FILE"},
        {"objective", '\0', POPT_ARG_STRING, &c.objective, 0, "preference (default), paper or lm-steer", "NAME"},
        {"own-matrix", '\0', POPT_ARG_NONE, &c.own_matrix, 0, "beside the blocks, a matrix on the target's own state",
         NULL},
        {"bias", '\0', POPT_ARG_NONE, &c.bias, 0, "a constant added to the state, too", NULL},
        {"freeze-blocks", '\0', POPT_ARG_NONE, &c.freeze, 0, "train the matrices only", NULL},
        {"rank", '\0', POPT_ARG_INT, &c.r.rank, 0, "of lm-steer's matrix; default 64", "R"},
        {"steps", '\0', POPT_ARG_INT, &c.r.n_steps, 0, "steps; default 300", "N"},
        {"pairs-per-step", '\0', POPT_ARG_INT, &c.r.n_pairs, 0, "default 8", "N"},
        {"texts-per-step", '\0', POPT_ARG_INT, &c.r.n_texts, 0, "default 8; paper 24", "N"},
        {"max-length", '\0', POPT_ARG_INT | POPT_ARGFLAG_SHOW_DEFAULT, &c.r.max_length, 0, "tokens of a text", "N"},
        {"rate-blocks", '\0', POPT_ARG_DOUBLE, &c.r.lr_blocks, 0, "learning rate of blocks; default 2e-4, paper 3e-4",
         "X"},
        {"rate-fusion", '\0', POPT_ARG_DOUBLE, &c.r.lr_fusion, 0,
         "learning rate of matrices; default 2e-4, lm-steer 1e-2", "X"},
        {"kappa", '\0', POPT_ARG_DOUBLE | POPT_ARGFLAG_SHOW_DEFAULT, &c.r.kappa, 0, "sharpness of the preference", "X"},
        {"lambda", '\0', POPT_ARG_DOUBLE | POPT_ARGFLAG_SHOW_DEFAULT, &c.r.lambda, 0, "weight of KL to plain", "X"},
        {"weight-decay", '\0', POPT_ARG_DOUBLE | POPT_ARGFLAG_SHOW_DEFAULT, &c.r.weight_decay, 0, "of matrices", "X"},
        {"clip", '\0', POPT_ARG_DOUBLE | POPT_ARGFLAG_SHOW_DEFAULT, &c.r.clip, 0, "norm of the gradient; 0: no limit",
         "X"},
        {"seed", 's', POPT_ARG_INT | POPT_ARGFLAG_SHOW_DEFAULT, &c.seed, 0, "of order, split and samples", "N"},
        {"precision", '\0', POPT_ARG_STRING, &c.precision, 0, "bf16 or f32; default: the faster one", "TYPE"},
        {"threads", 't', POPT_ARG_INT, &c.r.n_threads, 0, "default: all cores", "N"},
        {"checkpoint", '\0', POPT_ARG_STRING, &c.checkpoint, 0, "default: OUTPUT.checkpoint", "FILE"},
        {"checkpoint-every", '\0', POPT_ARG_INT | POPT_ARGFLAG_SHOW_DEFAULT, &c.r.checkpoint_every, 0, "steps", "N"},
        {"states", '\0', POPT_ARG_STRING, &c.states, 0, "keep the target's states there for further runs", "FILE"},
        {"fresh", '\0', POPT_ARG_NONE, &c.fresh, 0, "begin anew, whatever the checkpoint says", NULL},
        {"default-strength", '\0', POPT_ARG_FLOAT | POPT_ARGFLAG_SHOW_DEFAULT, &c.strength, 0,
         "strength that the file recommends", "X"},
        SOOTHE__OWN_PAIRS_OPTIONS(c.own),
        {"json", '\0', POPT_ARG_NONE, &c.json, 0, "report as JSON", NULL},
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &soothe__command_calibrator_train, argc, argv, options);
    if (code < 0)
        code = run(&c, poptGetArg(context));
    poptFreeContext(context);
    char *all[] = {c.model, c.calibrator, c.output, c.objective, c.checkpoint, c.precision, c.states};
    soothe__free_texts(all, sizeof all / sizeof *all);
    soothe__own_pairs_free(&c.own);
    soothe__free_list(c.data);
    soothe__free_list(c.heldout);
    return code;
}
