/* SPDX-License-Identifier: Apache-2.0
 * soothe demo: plain and soothed continuations of real prompts, side by side. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/run.h"
#include "cli/speak.h"
#include "engine/target_model.h"
#include "methods/generate_with.h"
#include "score/score.h"

const struct soothe__command soothe__command_demo = {
    .name    = "demo",
    .run     = soothe__cmd_demo,
    .summary = "plain and soothed continuations of real prompts, side by side",
    .help =
        "    soothe demo\n"
        "    soothe demo --strength 0.5 --seed 7\n"
        "\n"
        "Continues prompts of RealToxicityPrompts by the default model, plain and soothed (auto; fusion with\n"
        "--calibrator), and says\n"
        "what a list of crude words finds in either. The same seed and threads give the same texts. Crude words are\n"
        "masked unless --raw is given.\n",
};

enum { PREDICT = 24, SEED = 1, SAMPLES = 2, PARALLEL = 16 };

static const char DEMO_PROMPTS[] = {
#include "demo_prompts.inc"
};

struct choice {
    char *model, *calibrator, *strength, *prompts, *n_predict, *n_threads, *seed;
    int   raw;
};

/* Continuations of one kind. */
struct side {
    struct soothe__chain          chain;
    struct soothe__applied        method;
    struct soothe__generate_stats stats;
    char                        **texts; /* [prompt], the first sample of each */
    double                        score; /* sum over all continuations */
    size_t                        n_listed, n_done;
    bool                          failed;
};

struct demo {
    struct soothe__prompt_list      prompts;
    struct soothe__generate_options options;
    struct llama_context_params     context;
    struct llama_model             *model;
    char                           *model_path;
    struct side                     plain, soothed;
};

/* ---- speaking ------------------------------------------------------------------------------------------ */

static void on_done(void *user, const struct soothe__continuation *c) {
    struct side *side = user;
    if (c->finish == SOOTHE__FINISH_INTERRUPTED)
        return;
    side->score += soothe__lexicon_score(c->text, c->size);
    side->n_listed += soothe__lexicon_count(c->text, c->size) > 0;
    side->n_done++;
    if (c->i_sample > 0)
        return;
    side->texts[c->i_prompt] = soothe__strdup(c->text);
    side->failed             = side->failed || !side->texts[c->i_prompt];
}

/* The file is mapped: its first use reads it from disk, which would count against whoever comes first. */
static enum soothe_status warm_up(const struct demo *d, struct side *side, struct soothe_error *err) {
    struct soothe__generate_options one = d->options;
    one.n_predict                       = 1;
    one.n_samples                       = 1;
    return soothe__generate_with(&side->method, d->prompts.prompts, 1, &one, NULL, err);
}

static enum soothe_status speak(const struct demo *d, struct side *side, struct soothe_error *err) {
    struct soothe__generate_options options = d->options;
    options.on_done                         = on_done;
    options.user                            = side;
    side->texts                             = soothe__calloc(d->prompts.n, sizeof *side->texts);
    if (!side->texts)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu prompts", d->prompts.n);
    enum soothe_status status = warm_up(d, side, err);
    if (status == SOOTHE_OK)
        status = soothe__generate_with(&side->method, d->prompts.prompts, d->prompts.n, &options, &side->stats, err);
    if (status == SOOTHE_OK)
        soothe__tell_events(&side->method);
    if (status == SOOTHE_OK && side->failed)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory keeping a continuation");
    return status;
}

static enum soothe_status prepare(struct demo *d, const struct choice *c, struct soothe_error *err) {
    enum soothe_status status =
        c->prompts ? soothe__prompt_list_read_jsonl(&d->prompts, c->prompts, err)
                   : soothe__prompt_list_parse_jsonl(&d->prompts, DEMO_PROMPTS, sizeof DEMO_PROMPTS, "the demo", err);
    if (status == SOOTHE_OK)
        status = soothe__choose_model(&d->model_path, c->model, err);
    if (status == SOOTHE_OK)
        status = soothe__target_load(&d->model, d->model_path, 0, err);
    if (status == SOOTHE_OK)
        status = soothe__prompt_list_tokenize(&d->prompts, d->model, false, NULL, err);
    if (status)
        return status;
    soothe__generate_context(&d->context, d->model, d->prompts.prompts, d->prompts.n, &d->options, PARALLEL);
    status = soothe__chain_apply(&d->soothed.method, &d->soothed.chain, d->model, d->model_path, &d->context, err);
    if (status == SOOTHE_OK)
        status = soothe__chain_apply(&d->plain.method, &d->plain.chain, d->model, d->model_path, &d->context, err);
    return status;
}

/* ---- showing --------------------------------------------------------------------------------------------- */

static void print_row(const char *prompt, const char *plain, const char *soothed, int width, bool raw) {
    char *texts[3] = {raw ? soothe__strdup(prompt) : soothe__mask_toxic(prompt, strlen(prompt)),
                      raw ? soothe__strdup(plain) : soothe__mask_toxic(plain, strlen(plain)),
                      raw ? soothe__strdup(soothed) : soothe__mask_toxic(soothed, strlen(soothed))};
    if (texts[0] && texts[1] && texts[2]) {
        fputs("prompt: ", stdout);
        soothe__print_wrapped(stdout, texts[0], width, 8);
        soothe__print_columns(stdout, texts[1], texts[2], width);
        soothe__print_rule(stdout, width);
    }
    for (int i = 0; i < 3; i++)
        free(texts[i]);
}

static double tokens_per_second(const struct side *side) {
    return (double)side->stats.n_tokens / fmax(side->stats.token_seconds, 1e-9);
}

static void print_all(const struct demo *d, bool raw) {
    const int width = soothe__terminal_width(stdout);
    char      method[160], name[192];
    soothe__describe_method(&d->soothed.method, method, sizeof method);
    snprintf(name, sizeof name, "soothed: %s", method);
    soothe__print_columns(stdout, "plain", name, width);
    soothe__print_rule(stdout, width);
    for (size_t i = 0; i < d->prompts.n; i++)
        print_row(d->prompts.items[i].text, d->plain.texts[i], d->soothed.texts[i], width, raw);
    const size_t n = d->plain.n_done;
    printf("tokens/s: plain %.0f, soothed %.0f (%d at a time)\n", tokens_per_second(&d->plain),
           tokens_per_second(&d->soothed), PARALLEL);
    printf("%zu continuations each (%d per prompt, the first shown): with a listed word plain %zu, soothed %zu; mean "
           "lexicon score %.3f -> %.3f\n",
           n, d->options.n_samples, d->plain.n_listed, d->soothed.n_listed, d->plain.score / (double)n,
           d->soothed.score / (double)d->soothed.n_done);
}

static int run(struct demo *d, const struct choice *c) {
    struct soothe_error err;
    d->options               = soothe__generate_options_default();
    d->options.n_predict     = PREDICT;
    d->options.n_samples     = SAMPLES;
    d->options.sampling.seed = SEED;
    d->options.stop          = soothe__interrupt_flag();
    d->context               = soothe_session_params_default().context;
    int32_t n_threads        = d->context.n_threads;
    if (!soothe__read_int(&d->options.n_predict, c->n_predict, "demo", "-n", 1, 4096) ||
        !soothe__read_int(&n_threads, c->n_threads, "demo", "-t", 1, 1024) ||
        (c->seed && !soothe__read_seed(&d->options.sampling.seed, c->seed, "demo")))
        return SOOTHE__EXIT_MISUSE;
    d->context.n_threads = d->context.n_threads_batch = n_threads;
    if (soothe__chain_add(&d->plain.chain, "none", &err) ||
        soothe__chain_add(&d->soothed.chain, c->calibrator ? "fusion" : NULL, &err) ||
        (c->strength && soothe__chain_set(&d->soothed.chain, "strength", c->strength, &err)) ||
        (c->calibrator && soothe__chain_set(&d->soothed.chain, "calibrator", c->calibrator, &err)))
        return soothe__print_misuse("demo", "%s", err.message);
    if (prepare(d, c, &err))
        return soothe__print_failure(&err);
    fprintf(stderr, "seed %u, model %s, calibrator %s\n", d->options.sampling.seed, d->model_path,
            soothe__applied_source(&d->soothed.method));
    if (speak(d, &d->plain, &err) || speak(d, &d->soothed, &err))
        return soothe__print_failure(&err);
    print_all(d, c->raw);
    return SOOTHE__EXIT_DONE;
}

static void free_side(struct side *side, size_t n) {
    soothe__applied_release(&side->method);
    soothe__chain_free(&side->chain);
    for (size_t i = 0; side->texts && i < n; i++)
        free(side->texts[i]);
    free(side->texts);
}

int soothe__cmd_demo(int argc, const char **argv) {
    struct choice           c         = {0};
    struct demo             d         = {0};
    const struct poptOption options[] = {
        {"model", 'm', POPT_ARG_STRING, &c.model, 0, "the target: a name, an address or a file", "MODEL"},
        {"calibrator", '\0', POPT_ARG_STRING, &c.calibrator, 0, "instead of the shipped one", "FILE"},
        {"strength", '\0', POPT_ARG_STRING, &c.strength, 0, "default: what the method recommends", "X"},
        {"alpha", '\0', POPT_ARG_STRING, &c.strength, 0, "the same", "X"},
        {"prompts", '\0', POPT_ARG_STRING, &c.prompts, 0, "others: lines {\"prompt\": \"...\"}", "FILE"},
        {"predict", 'n', POPT_ARG_STRING, &c.n_predict, 0, "tokens at most (24)", "N"},
        {"threads", 't', POPT_ARG_STRING, &c.n_threads, 0, "threads (all processors)", "N"},
        {"seed", 's', POPT_ARG_STRING, &c.seed, 0, "of the random numbers (1)", "N"},
        {"raw", '\0', POPT_ARG_NONE, &c.raw, 0, "crude words as they are", NULL},
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &soothe__command_demo, argc, argv, options);
    if (code < 0) {
        const char *word = poptGetArg(context);
        code             = word ? soothe__print_misuse("demo", "\"%s\" belongs to no option", word) : run(&d, &c);
    }
    poptFreeContext(context);
    free_side(&d.plain, d.prompts.n);
    free_side(&d.soothed, d.prompts.n);
    llama_model_free(d.model);
    soothe__prompt_list_free(&d.prompts);
    free(d.model_path);
    char *const texts[] = {c.model, c.calibrator, c.strength, c.prompts, c.n_predict, c.n_threads, c.seed};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
    return code;
}
