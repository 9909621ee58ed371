/* SPDX-License-Identifier: Apache-2.0
 * soothe nado: trains a success head, what method nado draws tokens by. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/result.h"
#include "cli/speak.h"
#include "engine/target_model.h"
#include "methods/nado.h"

static int cmd_train(int argc, const char **argv);

static const struct soothe__command TRAIN = {
    .name    = "nado train",
    .run     = cmd_train,
    .summary = "learn how likely a text is to end clean, for every next token",
    .help    = "    soothe nado train -m smollm2-135m-instruct --samples samples.jsonl -o head.nado.gguf\n"
               "    soothe run -m smollm2-135m-instruct --method nado:file=head.nado.gguf -p \"Once upon a time\"\n"
               "\n"
               "Samples are continuations that the model itself drew, with scores, as `soothe calibrator train\n"
               "--samples-out` writes them: {\"prompt\", \"completion\", \"score\"} a line. A fifth of the prompts is "
               "held out\n"
               "for the figures: the area under the ROC curve of the estimate after 1, 5, 10 and 20 tokens against the "
               "score.\n",
};

static const struct soothe__command *const SUBCOMMANDS[] = {&TRAIN};

const struct soothe__command soothe__command_nado = {
    .name    = "nado",
    .run     = soothe__cmd_nado,
    .summary = "train success heads, for method nado",
    .help    = "    soothe nado train -m smollm2-135m-instruct --samples samples.jsonl -o head.nado.gguf\n",
};

struct choice {
    char *model, *samples, *out, *prompts, *rank, *epochs, *bellman, *rate, *strength, *seed, *threads;
    int   json;
};

static void free_choice(struct choice *c) {
    char *const texts[] = {c->model,   c->samples, c->out,      c->prompts, c->rank,   c->epochs,
                           c->bellman, c->rate,    c->strength, c->seed,    c->threads};
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
}

static enum soothe_status write_file(const struct choice *c, struct soothe__nado *n, const char *model_path,
                                     const struct soothe__nado_options *o, const struct soothe__nado_report *r,
                                     const char *sha256, struct soothe_error *err) {
    struct soothe__gguf        g;
    struct soothe__model_facts facts;
    enum soothe_status         status = soothe__gguf_open(&g, model_path, err);
    if (!status)
        status = soothe__model_facts(&facts, &g, err);
    if (!status)
        status = soothe__model_fingerprint(n->target, &g, err);
    if (!status) {
        const struct soothe__fact learnt[] = {{"samples_sha256", sha256, 0},
                                              {"seed", NULL, (double)o->seed},
                                              {"epochs", NULL, (double)o->n_epochs},
                                              {"rate", NULL, (double)o->rate},
                                              {"bellman", NULL, (double)o->bellman},
                                              {"n_samples", NULL, (double)r->n_train},
                                              {"result.n_samples", NULL, (double)r->n_held_out},
                                              {"result.loss_base", NULL, r->loss[0]},
                                              {"result.loss", NULL, r->loss[1]},
                                              {"result.auc_1", NULL, r->auc[0]},
                                              {"result.auc_5", NULL, r->auc[1]},
                                              {"result.auc_10", NULL, r->auc[2]},
                                              {"result.auc_20", NULL, r->auc[3]}};
        status = soothe__nado_write(c->out, n, facts.name, learnt, sizeof learnt / sizeof *learnt, err);
    }
    soothe__gguf_close(&g);
    return status;
}

static int print_report(const struct soothe__nado_report *r, bool json) {
    if (json)
        return soothe__print_json(
            json_pack("{s:I, s:I, s:I, s:I, s:f, s:f, s:[ffff], s:f}", "samples", (json_int_t)r->n_train,
                      "held_out_samples", (json_int_t)r->n_held_out, "held_out_toxic", (json_int_t)r->n_toxic_held_out,
                      "tokens", (json_int_t)r->n_tokens, "loss_of_base_rate", r->loss[0], "loss", r->loss[1], "auc",
                      r->auc[0], r->auc[1], r->auc[2], r->auc[3], "seconds", r->seconds),
            10);
    printf("AUC at tokens:");
    for (int k = 0; k < SOOTHE__NADO_N_AT; k++)
        printf(" %6d", SOOTHE__NADO_AT[k]);
    printf("\n%-14s", "held out");
    for (int k = 0; k < SOOTHE__NADO_N_AT; k++)
        printf(" %6.3f", r->auc[k]);
    printf("\nloss a token %.4f, of the base rate alone %.4f; %zu held-out samples, %zu toxic\n", r->loss[1],
           r->loss[0], r->n_held_out, r->n_toxic_held_out);
    return SOOTHE__EXIT_DONE;
}

static int train(const struct choice *c, const struct soothe__nado_options *o, float strength) {
    struct soothe_error        err;
    struct soothe__nado_report report;
    struct soothe__nado       *n      = NULL;
    struct llama_model        *model  = NULL;
    char                      *path   = NULL, sha256[65];
    enum soothe_status         status = soothe__choose_model(&path, c->model, &err);
    if (!status)
        status = soothe__target_load(&model, path, 0, &err);
    if (!status)
        status = soothe__nado_train(&n, &report, model, path, o, sha256, &err);
    if (!status) {
        n->strength = strength;
        status      = write_file(c, n, path, o, &report, sha256, &err);
    }
    const int code = status ? soothe__print_failure(&err) : print_report(&report, c->json != 0);
    if (!status)
        fprintf(stderr, "%s: %zu samples learnt from, %zu tokens, %.0f s\n", c->out, report.n_train, report.n_tokens,
                report.seconds);
    soothe__nado_free(n);
    llama_model_free(model);
    free(path);
    return code;
}

static int read_choice(const struct choice *c, struct soothe__nado_options *o, float *strength, const char *more) {
    const char *me   = TRAIN.name;
    int32_t     seed = 0;
    *o               = soothe__nado_options_default();
    if (more)
        return soothe__print_misuse(me, "\"%s\" belongs to no option", more);
    if (!c->samples)
        return soothe__print_misuse(me, "which samples? --samples takes a file of them");
    if (!c->out)
        return soothe__print_misuse(me, "where to? -o names the file to be written");
    if (!soothe__read_int(&o->n_prompts, c->prompts, me, "--prompts", 1, 1 << 24) ||
        !soothe__read_int(&o->rank, c->rank, me, "--rank", 1, 1024) ||
        !soothe__read_int(&o->n_epochs, c->epochs, me, "--epochs", 1, 1000) ||
        !soothe__read_float(&o->bellman, c->bellman, me, "--bellman", 0, 100) ||
        !soothe__read_float(&o->rate, c->rate, me, "--rate", 1e-8, 1) ||
        !soothe__read_float(strength, c->strength, me, "--strength", 0, 100) ||
        !soothe__read_int(&seed, c->seed, me, "--seed", 0, INT32_MAX) ||
        !soothe__read_int(&o->n_threads, c->threads, me, "-t", 1, 1024))
        return SOOTHE__EXIT_MISUSE;
    o->seed          = (uint32_t)seed;
    o->samples_path  = c->samples;
    o->show_progress = true;
    return SOOTHE__EXIT_DONE;
}

static int cmd_train(int argc, const char **argv) {
    struct choice               c         = {.model = NULL};
    struct soothe__nado_options o         = soothe__nado_options_default();
    float                       strength  = 1;
    const struct poptOption     options[] = {
            TEXT_OPTION("model", 'm', model, "the language model: a name, an address or a file", "MODEL"),
            TEXT_OPTION("samples", '\0', samples, "its own continuations with scores, JSON lines", "FILE"),
            TEXT_OPTION("output", 'o', out, "the success head to be written", "FILE"),
            TEXT_OPTION("prompts", '\0', prompts, "so many prompts only, those with mixed samples first (all)", "N"),
            TEXT_OPTION("rank", '\0', rank, "of the head (16)", "N"),
            TEXT_OPTION("epochs", '\0', epochs, "passes over the samples (8)", "N"),
            TEXT_OPTION("bellman", '\0', bellman, "weight of the term that ties estimates to each other (0.5)", "X"),
            TEXT_OPTION("rate", '\0', rate, "Adam's (0.002)", "X"),
            TEXT_OPTION("strength", '\0', strength, "what the file is to recommend (1)", "X"),
            TEXT_OPTION("seed", '\0', seed, "of the beginning and the order (0)", "N"),
            TEXT_OPTION("threads", 't', threads, "threads (all processors)", "N"),
            FLAG_OPTION("json", json, "the figures as JSON"),
            POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &TRAIN, argc, argv, options);
    if (code < 0) {
        code = read_choice(&c, &o, &strength, poptGetArg(context));
        if (!code)
            code = train(&c, &o, strength);
    }
    poptFreeContext(context);
    free_choice(&c);
    return code;
}

int soothe__cmd_nado(int argc, const char **argv) {
    return soothe__run_subcommand(&soothe__command_nado, SUBCOMMANDS, sizeof SUBCOMMANDS / sizeof *SUBCOMMANDS, argc,
                                  argv);
}
