/* SPDX-License-Identifier: Apache-2.0
 * soothe sasa fit-delta: SASA's bias of tokens, fitted from real branches. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/speak.h"
#include "engine/target_model.h"
#include "methods/sasa_delta.h"

static int cmd_fit_delta(int argc, const char **argv);

static const struct soothe__command FIT = {
    .name    = "sasa fit-delta",
    .run     = cmd_fit_delta,
    .summary = "fit the bias of tokens that stands for SASA's branches",
    .help    = "    soothe sasa fit-delta --prompts prompts.jsonl -o delta.gguf\n"
               "    soothe run --method sasa:form=delta:delta=delta.gguf -p \"You know what,\"\n"
               "\n"
               "The model continues the prompts as it is; at every token its candidates are branched, and the\n"
               "differences of their margins are explained by the tokens' embeddings. Every fifth row is held out:\n"
               "R2 there says how much of what branches tell the bias tells too.\n",
};

static const struct soothe__command *const SUBCOMMANDS[] = {&FIT};

const struct soothe__command soothe__command_sasa = {
    .name    = "sasa",
    .run     = soothe__cmd_sasa,
    .summary = "prepare the method sasa",
    .help    = "    soothe sasa fit-delta --prompts prompts.jsonl -o delta.gguf\n",
};

struct choice {
    char *model, *subspace, *prompts, *out, *n_predict, *n_samples, *k, *seed, *threads; /* popt's, free() */
    int   json;
};

struct work {
    struct soothe__prompt_list      prompts;
    struct soothe__generate_options options;
    struct llama_model             *model;
    char                           *model_path;
    int32_t                         k, n_threads;
};

static enum soothe_status fit(struct work *w, const struct choice *c, struct soothe__sasa_delta_report *r,
                              struct soothe_error *err) {
    enum soothe_status status = soothe__prompt_list_read_jsonl(&w->prompts, c->prompts, err);
    if (!status)
        status = soothe__choose_model(&w->model_path, c->model, err);
    if (!status)
        status = soothe__target_load(&w->model, w->model_path, 0, err);
    if (!status)
        status = soothe__prompt_list_tokenize(&w->prompts, w->model, false, NULL, err);
    if (!status)
        status = soothe__sasa_fit_delta(r, w->model, w->model_path, c->subspace, w->prompts.prompts, w->prompts.n,
                                        &w->options, w->k, w->n_threads, c->out, err);
    return status;
}

static void print(const struct soothe__sasa_delta_report *r, const struct choice *c) {
    if (c->json)
        printf("{\"rows\":%zu,\"branches\":%zu,\"held_out\":%zu,\"r2_train\":%.4f,\"r2_held_out\":%.4f,"
               "\"seconds\":%.1f}\n",
               r->n_rows, r->n_branches, r->n_held_out, r->r2_train, r->r2, r->seconds);
    else
        printf("%zu branches of %zu tokens; R2 of the margins' differences within a token's candidates: %.3f, on %zu "
               "held out %.3f\n%s written\n",
               r->n_branches, r->n_rows, r->r2_train, r->n_held_out, r->r2, c->out);
}

static int run_fit(struct work *w, const struct choice *c, const char *more) {
    struct soothe_error              err;
    struct soothe__sasa_delta_report r;
    if (more)
        return soothe__print_misuse(FIT.name, "\"%s\" belongs to no option", more);
    if (!c->prompts || !c->out)
        return soothe__print_misuse(FIT.name, "%s",
                                    c->prompts ? "where to? -o takes a file" : "which prompts? --prompts takes a file");
    w->options           = soothe__generate_options_default();
    w->options.n_predict = 20;
    w->k                 = 16;
    w->options.n_samples = 1;
    if (!soothe__read_int(&w->options.n_predict, c->n_predict, FIT.name, "-n", 1, 4096) ||
        !soothe__read_int(&w->options.n_samples, c->n_samples, FIT.name, "--samples", 1, 1000) ||
        !soothe__read_int(&w->k, c->k, FIT.name, "-k", 2, 28) ||
        !soothe__read_int(&w->n_threads, c->threads, FIT.name, "-t", 1, 1024) ||
        (c->seed && !soothe__read_seed(&w->options.sampling.seed, c->seed, FIT.name)))
        return SOOTHE__EXIT_MISUSE;
    w->options.stop = soothe__interrupt_flag();
    if (fit(w, c, &r, &err))
        return soothe__print_failure(&err);
    print(&r, c);
    return SOOTHE__EXIT_DONE;
}

static int cmd_fit_delta(int argc, const char **argv) {
    struct choice           c         = {0};
    struct work             w         = {0};
    const struct poptOption options[] = {
        {"model", 'm', POPT_ARG_STRING, &c.model, 0, "the target: a name, an address or a file", "MODEL"},
        {"subspace", '\0', POPT_ARG_STRING, &c.subspace, 0, "a probe of the final state (the shipped one)", "FILE"},
        {"prompts", '\0', POPT_ARG_STRING, &c.prompts, 0, "to continue: lines {\"prompt\": \"...\"}", "FILE"},
        {"out", 'o', POPT_ARG_STRING, &c.out, 0, "the file to write", "FILE"},
        {"predict", 'n', POPT_ARG_STRING, &c.n_predict, 0, "tokens of each continuation (20)", "N"},
        {"samples", '\0', POPT_ARG_STRING, &c.n_samples, 0, "continuations of each prompt (1)", "N"},
        {"candidates", 'k', POPT_ARG_STRING, &c.k, 0, "candidates of each token (16)", "N"},
        {"seed", 's', POPT_ARG_STRING, &c.seed, 0, "of the random numbers (0)", "N"},
        {"threads", 't', POPT_ARG_STRING, &c.threads, 0, "threads (all processors)", "N"},
        {"json", '\0', POPT_ARG_NONE, &c.json, 0, "figures as JSON", NULL},
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &FIT, argc, argv, options);
    if (code < 0)
        code = run_fit(&w, &c, poptGetArg(context));
    poptFreeContext(context);
    llama_model_free(w.model);
    soothe__prompt_list_free(&w.prompts);
    free(w.model_path);
    char *const texts[] = {c.model, c.subspace, c.prompts, c.out, c.n_predict, c.n_samples, c.k, c.seed, c.threads};
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
    return code;
}

int soothe__cmd_sasa(int argc, const char **argv) {
    return soothe__run_subcommand(&soothe__command_sasa, SUBCOMMANDS, 1, argc, argv);
}
