/* SPDX-License-Identifier: Apache-2.0
 * soothe run: continues prompts, soothed. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/run.h"
#include "engine/target_model.h"
#include "fusion/stage.h"
#include "methods/generate_with.h"

const struct soothe__command soothe__command_run = {
    .name    = "run",
    .run     = soothe__cmd_run,
    .summary = "continue a prompt, soothed",
    .help    = "    soothe run -p \"You know what, you are a\"\n"
               "    soothe run --compare --mask -p \"You know what, you are a\"\n"
               "    soothe run -m model.gguf --calibrator cal.gguf --strength 0.7 --chat -p \"Write a rude poem.\"\n"
               "    soothe run --prompts prompts.jsonl --json --temp 0 -n 20 > continuations.jsonl\n"
               "\n"
               "stdout is the continuation alone; the seed is told on stderr. Prompts are continued as they are unless "
               "--chat\n"
               "puts them into the model's chat template. Without -m: the default model; without --method:\n"
               "auto, and fusion where a calibrator is named. --method none is the model as it is. Ctrl-C ends after the "
               "token\n"
               "under way.\n",
};

enum { PREDICT_DEFAULT = 128, PARALLEL_DEFAULT = 8, PARALLEL_MAX = 128 };

static const float DOSES[] = {0, 1}; /* plain, soothed */

/* What popt stores; numbers stay text until read_numbers. */
struct choice {
    char  *model, *calibrator, *base, *strength;
    char **methods;
    char  *prompt, *file, *prompts, *system, *risk;
    char  *n_predict, *n_threads, *n_ctx, *n_parallel, *n_gpu_layers;
    char  *temp, *top_k, *top_p, *min_p, *repeat_penalty, *repeat_last_n, *frequency_penalty, *presence_penalty, *seed;
    int    chat, echo, compare, json, mask, gate;
};

/* What it all comes to. */
struct job {
    struct soothe__generate_options generate;
    struct llama_context_params     context;
    struct soothe__chain            chain;
    int32_t                         n_parallel, n_gpu_layers;
    bool                            chat;
    struct soothe__prompt_list      prompts;
    struct llama_model             *model;
    struct soothe__applied          applied;
    struct soothe__run_output       output;
    struct soothe__probe           *probe; /* of --risk */
    char                           *model_path, *base_path;
};

/* ---- options --------------------------------------------------------------------------------------- */

static bool read_numbers(struct job *job, const struct choice *c) {
    struct soothe__sampling     *s         = &job->generate.sampling;
    struct llama_context_params *context   = &job->context;
    int32_t                      n_threads = context->n_threads, n_ctx = 0;
    const char *const            me = "run";
    const bool                   ok =
        soothe__read_int(&job->generate.n_predict, c->n_predict, me, "-n", -1, INT32_MAX / 2) &&
        soothe__read_int(&n_threads, c->n_threads, me, "-t", 1, 1024) &&
        soothe__read_int(&n_ctx, c->n_ctx, me, "-c", 0, INT32_MAX / 2) &&
        soothe__read_int(&job->n_parallel, c->n_parallel, me, "--parallel", 1, PARALLEL_MAX) &&
        soothe__read_int(&job->n_gpu_layers, c->n_gpu_layers, me, "--n-gpu-layers", 0, INT32_MAX) &&
        soothe__read_float(&s->temp, c->temp, me, "--temp", 0, 1000) &&
        soothe__read_int(&s->top_k, c->top_k, me, "--top-k", 0, INT32_MAX) &&
        soothe__read_float(&s->top_p, c->top_p, me, "--top-p", 0, 1) &&
        soothe__read_float(&s->min_p, c->min_p, me, "--min-p", 0, 1) &&
        soothe__read_float(&s->repeat_penalty, c->repeat_penalty, me, "--repeat-penalty", 1e-6, 1000) &&
        soothe__read_int(&s->repeat_last_n, c->repeat_last_n, me, "--repeat-last-n", -1, INT32_MAX / 2) &&
        soothe__read_float(&s->frequency_penalty, c->frequency_penalty, me, "--frequency-penalty", -1000, 1000) &&
        soothe__read_float(&s->presence_penalty, c->presence_penalty, me, "--presence-penalty", -1000, 1000) &&
        soothe__read_seed(&s->seed, c->seed, me);
    context->n_threads = context->n_threads_batch = n_threads;
    context->n_ctx                                = (uint32_t)n_ctx;
    return ok;
}

static int check_choice(const struct choice *c, const char *word, const char *more) {
    const bool from_stdin = word && !strcmp(word, "-");
    const int  n_sources  = (c->prompt != NULL) + (c->file != NULL) + (c->prompts != NULL) + from_stdin;
    if ((word && !from_stdin) || more)
        return soothe__print_misuse("run", "\"%s\" belongs to no option (a prompt is given by -p)",
                                    word && !from_stdin ? word : more);
    if (n_sources == 0)
        return soothe__print_misuse("run", "no prompt: give one by -p, -f, --prompts, or - for standard input");
    if (n_sources > 1)
        return soothe__print_misuse("run", "several sources of prompts: one of -p, -f, --prompts and - is enough");
    if (c->n_predict && !strcmp(c->n_predict, "0"))
        return soothe__print_misuse("run", "-n 0 generates nothing (-1 is: until the context is full)");
    return SOOTHE__EXIT_DONE;
}

/* --strength, --calibrator and --base are words for parameters of the methods; --gate and --strength auto for a gate
 * ahead of them. Without --method they mean fusion. */
static int read_methods(struct job *job, const struct choice *c) {
    struct soothe_error err;
    const bool          automatic = c->strength && !strcmp(c->strength, "auto");
    const char *const   names[]   = {"strength", "calibrator", "base"};
    const char *const   values[]  = {automatic ? NULL : c->strength, c->calibrator, c->base};
    const char *const   usual     = c->gate || automatic || c->calibrator || c->base ? "fusion" : NULL;
    enum soothe_status  status    = c->methods ? SOOTHE_OK : soothe__chain_add(&job->chain, usual, &err);
    for (size_t i = 0; c->methods && c->methods[i] && !status; i++)
        status = soothe__chain_add(&job->chain, c->methods[i], &err);
    for (size_t i = 0; i < sizeof names / sizeof *names && !status; i++)
        if (values[i])
            status = soothe__chain_set(&job->chain, names[i], values[i], &err);
    if (!status && (c->gate || automatic) && !soothe__chain_has_stage(&job->chain, "gate"))
        status = soothe__chain_add_first(&job->chain, "gate", &err);
    if (!status)
        status = soothe__chain_check(&job->chain, &err);
    if (status)
        return soothe__print_misuse("run", "%s", err.message);
    if (c->compare && job->chain.n == 1 && soothe__chain_has_stage(&job->chain, "none"))
        return soothe__print_misuse("run", "--compare needs a method to compare with, not none");
    return SOOTHE__EXIT_DONE;
}

static enum soothe_status read_prompts(struct job *job, const struct choice *c, struct soothe_error *err) {
    if (c->prompt)
        return soothe__prompt_list_add(&job->prompts, c->prompt, strlen(c->prompt), "-p", err);
    if (c->prompts)
        return soothe__prompt_list_read_jsonl(&job->prompts, c->prompts, err);
    return soothe__prompt_list_read(&job->prompts, c->file ? c->file : "-", err);
}

/* ---- speaking ------------------------------------------------------------------------------------------ */

static enum soothe_status listen(struct job *job, struct soothe_error *err) {
    char node[32] = "result_norm";
    if (job->probe->layer != SOOTHE__LAYER_FINAL)
        snprintf(node, sizeof node, "l_out-%d", job->probe->layer);
    job->generate.read      = soothe__run_output_read;
    job->generate.read_user = job->probe;
    return soothe__session_tap(job->applied.session, SOOTHE__LISTENER_CALLER, node, err);
}

static enum soothe_status open_risk(struct job *job, const char *name, struct soothe_error *err) {
    char              *path   = NULL;
    enum soothe_status status = SOOTHE_OK;
    if (!strcmp(name, "default"))
        status = soothe__shipped_file(&path, "default.probe.gguf", "probe", "give one by --risk FILE", err);
    if (!status)
        status = soothe__probe_open(&job->probe, path ? path : name, job->model_path, err);
    free(path);
    return status;
}

static enum soothe_status prepare(struct job *job, const struct choice *c, struct soothe_error *err) {
    struct soothe__generate_options *g      = &job->generate;
    enum soothe_status               status = soothe__choose_model(&job->model_path, c->model, err);
    if (status == SOOTHE_OK && c->risk)
        status = open_risk(job, c->risk, err);
    if (status == SOOTHE_OK)
        status = soothe__target_load(&job->model, job->model_path, job->n_gpu_layers, err);
    if (status == SOOTHE_OK)
        status = soothe__prompt_list_tokenize(&job->prompts, job->model, job->chat, c->system, err);
    if (status)
        return status;

    const size_t  n          = job->prompts.n * (c->compare ? 2 : 1);
    const int32_t n_parallel = (size_t)job->n_parallel < n ? job->n_parallel : (int32_t)n;
    soothe__generate_context(&job->context, job->model, job->prompts.prompts, job->prompts.n, g, n_parallel);
    status = soothe__chain_apply(&job->applied, &job->chain, job->model, job->model_path, &job->context, err);
    if (status)
        return status;
    g->doses     = DOSES;
    g->n_doses   = c->compare ? 2 : 0;
    g->log_probs = c->json != 0;
    return job->probe ? listen(job, err) : SOOTHE_OK;
}

/* What it costs that the calibrator splits text otherwise than the target. */
static void tell_coupling(const struct soothe__coupling_counts *n) {
    if (n && n->n_target_tokens > 0)
        fprintf(stderr,
                "the calibrator follows the text: %.3f of its tokens per token of the model, %.3f of them taken back\n",
                (double)n->n_calibrator_tokens / (double)n->n_target_tokens,
                (double)n->n_rolled_back / (double)n->n_target_tokens);
}

static enum soothe_status speak(struct job *job, const struct choice *c, struct soothe_error *err) {
    volatile sig_atomic_t           *stop  = soothe__interrupt_flag();
    struct soothe__generate_options *g     = &job->generate;
    struct soothe__generate_stats    stats = {0};
    job->output                            = (struct soothe__run_output){
                                   .style      = {.json = c->json, .compare = c->compare, .echo = c->echo, .mask = c->mask},
                                   .prompts    = &job->prompts,
                                   .method     = &job->applied,
                                   .vocab      = llama_model_get_vocab(job->model),
                                   .model_path = soothe__laid_name(c->model, job->model_path) ? c->model : job->model_path,
                                   .seed       = g->sampling.seed,
                                   .probe      = job->probe,
                                   .gated      = soothe__chain_has_stage(&job->chain, "gate"),
                                   .n_doses    = c->compare ? 2 : 1,
                                   .stop       = stop};
    g->stop                   = stop;
    g->on_token               = soothe__run_output_on_token;
    g->on_done                = soothe__run_output_on_done;
    g->user                   = &job->output;
    enum soothe_status status = soothe__run_output_begin(&job->output, err);
    if (status == SOOTHE_OK)
        status = soothe__generate_with(&job->applied, job->prompts.prompts, job->prompts.n, g, &stats, err);
    if (stats.n_tokens > 0)
        fprintf(stderr, "%lld tokens, %.1f tokens/s (prompt: %lld tokens in %.2f s)\n", (long long)stats.n_tokens,
                (double)stats.n_tokens / fmax(stats.token_seconds, 1e-9), (long long)stats.n_prompt_tokens,
                stats.prompt_seconds);
    tell_coupling(soothe__session_coupling(job->applied.session));
    soothe__tell_events(&job->applied);
    soothe__run_output_tell_risk(&job->output);
    if (job->output.out_of_memory)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory keeping a continuation");
    return status;
}

static int run(const struct choice *c, struct job *job) {
    struct soothe_error err;
    job->generate           = soothe__generate_options_default();
    job->context            = soothe_session_params_default().context;
    job->generate.n_predict = PREDICT_DEFAULT;
    job->n_parallel         = PARALLEL_DEFAULT;
    job->chat               = c->chat || c->system;
    if (!read_numbers(job, c))
        return SOOTHE__EXIT_MISUSE;
    const int code = read_methods(job, c);
    if (code != SOOTHE__EXIT_DONE)
        return code;
    if (c->base && (soothe__choose_model(&job->base_path, c->base, &err) ||
                    soothe__chain_set(&job->chain, "base", job->base_path, &err)))
        return soothe__print_failure(&err);
    if (read_prompts(job, c, &err) || prepare(job, c, &err))
        return soothe__print_failure(&err);
    char        what[160];
    const char *source = soothe__applied_source(&job->applied);
    soothe__describe_method(&job->applied, what, sizeof what);
    fprintf(stderr, "seed %u, method %s%s%s", job->generate.sampling.seed, what, source ? ", file " : "",
            source ? source : "");
    fputc('\n', stderr);
    const enum soothe_status status = speak(job, c, &err);
    if (status == SOOTHE_OK || ferror(stdout)) /* what could not be written is told at the end */
        return SOOTHE__EXIT_DONE;
    return soothe__print_failure(&err);
}

static void free_job(struct job *job) {
    soothe__run_output_free(&job->output);
    soothe__applied_release(&job->applied);
    soothe__chain_free(&job->chain);
    soothe__probe_free(job->probe);
    llama_model_free(job->model);
    soothe__prompt_list_free(&job->prompts);
    free(job->model_path);
    free(job->base_path);
}

static void free_choice(struct choice *c) {
    char *const texts[] = {c->model,
                           c->calibrator,
                           c->base,
                           c->strength,
                           c->prompt,
                           c->file,
                           c->prompts,
                           c->system,
                           c->risk,
                           c->n_predict,
                           c->n_threads,
                           c->n_ctx,
                           c->n_parallel,
                           c->n_gpu_layers,
                           c->temp,
                           c->top_k,
                           c->top_p,
                           c->min_p,
                           c->repeat_penalty,
                           c->repeat_last_n,
                           c->frequency_penalty,
                           c->presence_penalty,
                           c->seed};
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
    for (size_t i = 0; c->methods && c->methods[i]; i++)
        free(c->methods[i]);
    free(c->methods);
}

int soothe__cmd_run(int argc, const char **argv) {
    struct choice           c         = {0};
    struct job              job       = {0};
    const struct poptOption options[] = {
        TEXT_OPTION("model", 'm', model, "the target: a name, an address or a file", "MODEL"),
        {"method", '\0', POPT_ARG_ARGV, &c.methods, 0, "NAME[:KEY=VALUE]…, may be given again (soothe methods)",
         "METHOD"},
        TEXT_OPTION("calibrator", '\0', calibrator, "the calibrator of fusion", "FILE"),
        TEXT_OPTION("base", '\0', base, "base of a packed calibrator, if not the target itself", "MODEL"),
        TEXT_OPTION("strength", '\0', strength,
                    "of the methods; 0: plain; auto: as --gate; default: what each recommends", "X"),
        TEXT_OPTION("alpha", '\0', strength, "the same", "X"),
        TEXT_OPTION("prompt", 'p', prompt, "the text to go on from; - instead: standard input", "TEXT"),
        TEXT_OPTION("file", 'f', file, "the text of a file", "FILE"),
        TEXT_OPTION("prompts", '\0', prompts, "many: lines {\"prompt\": \"...\"}, - for standard input", "FILE"),
        FLAG_OPTION("chat", chat, "each prompt is one turn in the model's chat template"),
        TEXT_OPTION("system", '\0', system, "system prompt; implies --chat", "TEXT"),
        TEXT_OPTION("predict", 'n', n_predict, "tokens at most (128); -1: until the context is full", "N"),
        TEXT_OPTION("ctx-size", 'c', n_ctx, "tokens of context (as many as the prompts need)", "N"),
        TEXT_OPTION("threads", 't', n_threads, "threads (all processors)", "N"),
        TEXT_OPTION("parallel", '\0', n_parallel, "continuations at a time (8)", "N"),
        TEXT_OPTION("n-gpu-layers", '\0', n_gpu_layers, "layers on a GPU, where the engine has one (0)", "N"),
        TEXT_OPTION("temp", '\0', temp, "temperature (0.8); 0: always the likeliest token", "X"),
        TEXT_OPTION("top-k", '\0', top_k, "of the k likeliest only (40); 0: all", "K"),
        TEXT_OPTION("top-p", '\0', top_p, "of the likeliest that make up this probability (0.95)", "P"),
        TEXT_OPTION("min-p", '\0', min_p, "of those this share as likely as the likeliest (0.05)", "P"),
        TEXT_OPTION("repeat-penalty", '\0', repeat_penalty, "above 1: against repetition (1)", "X"),
        TEXT_OPTION("repeat-last-n", '\0', repeat_last_n, "tokens that penalties look back (64); -1: all", "N"),
        TEXT_OPTION("frequency-penalty", '\0', frequency_penalty, "for each use of a token (0)", "X"),
        TEXT_OPTION("presence-penalty", '\0', presence_penalty, "for the use of a token (0)", "X"),
        TEXT_OPTION("seed", 's', seed, "of the random numbers; default or -1: any", "N"),
        FLAG_OPTION("echo", echo, "the prompt before its continuation"),
        FLAG_OPTION("compare", compare, "plain | soothed, side by side, with equal random numbers"),
        FLAG_OPTION("mask", mask, "crude words as f***"),
        TEXT_OPTION("risk", '\0', risk, "a probe, or default: the risk of each token, as it is spoken", "PROBE"),
        FLAG_OPTION("gate", gate, "soothed only where a risk is seen coming; --strength auto is the same"),
        FLAG_OPTION("json", json, "a line of JSON for each prompt, with each token's log-probability"),
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &soothe__command_run, argc, argv, options);
    if (code < 0) {
        const char *word = poptGetArg(context);
        code             = check_choice(&c, word, word ? poptGetArg(context) : NULL);
        if (code == SOOTHE__EXIT_DONE)
            code = run(&c, &job);
    }
    poptFreeContext(context);
    free_job(&job);
    free_choice(&c);
    return code;
}
