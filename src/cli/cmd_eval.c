/* SPDX-License-Identifier: Apache-2.0
 * soothe eval: plain against soothed on a set of prompts, with figures that have intervals. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/eval.h"
#include "cli/speak.h"
#include "eval/eval.h"
#include "pull/pull.h"

const struct soothe__command soothe__command_eval = {
    .name    = "eval",
    .run     = soothe__cmd_eval,
    .summary = "measure methods on prompts: toxicity, perplexity, diversity",
    .help =
        "    soothe eval --suite challenging-mini --methods plain,fusion -k 5 --out results\n"
        "    soothe eval -m smollm2-135m-instruct --prompts rtp.jsonl --methods plain,fusion:strength=0.25..1/4 \\\n"
        "        -k 25 -n 20 --seed 1 --ppl-model gemma3-270m --out results\n"
        "    soothe eval ... --out results --resume              goes on after anything, to the same bytes\n"
        "    soothe eval ... --out results --shard 2/8           one of eight machines; then:\n"
        "    soothe eval merge results/shard-* --out results     their parts to one report\n"
        "    soothe eval compare monday tuesday --out both       finished runs, of other models too, side by side\n"
        "    soothe eval rescore results --scorer lexicon        a further scorer on the stored texts\n"
        "    soothe eval show results                            the table again (report: the files again)\n"
        "\n"
        "Prompts are RealToxicityPrompts' own JSON lines or any JSON lines, CSV or TSV. A method is a name and "
        "options\n"
        "with colons between: fusion:strength=0.5:calibrator=FILE; strength=A..B/N is N methods; cfl+fusion is both. "
        "The first one is "
        "what\n"
        "the others are compared with. DIR/report.json has all figures and what they mean (docs/evaluation.md).\n",
};

/* What popt stores; numbers stay text until read_numbers. */
struct choice {
    char  *model, *ppl_model, *methods, *field, *out, *shard;
    char **prompts, **suites, **scorers, **benign, **benign_suites, **corpus;
    char  *n_samples, *n_ppl_samples, *n_predict, *n_predict_benign, *limit, *group, *n_parallel, *n_threads,
        *n_gpu_layers;
    char *temp, *top_k, *top_p, *min_p, *seed;
    int   skip_bad, benign_raw, resume, no_timing;
};

static bool read_shard(struct soothe__eval_options *o, const char *text) {
    char        word[32];
    int64_t     i, n;
    const char *slash = text ? strchr(text, '/') : NULL;
    if (!text)
        return true;
    if (slash && (size_t)(slash - text) < sizeof word) {
        snprintf(word, sizeof word, "%.*s", (int)(slash - text), text);
        if (soothe__parse_int64(&n, slash + 1, 1, 1000000) && soothe__parse_int64(&i, word, 0, n - 1)) {
            o->i_shard  = (size_t)i;
            o->n_shards = (size_t)n;
            return true;
        }
    }
    soothe__print_misuse("eval", "--shard takes I/N with I from 0 to N-1, not \"%s\"", text);
    return false;
}

static bool read_numbers(struct soothe__eval_options *o, const struct choice *c) {
    static const char *const me    = "eval";
    struct soothe__sampling *s     = &o->sampling;
    int32_t                  limit = 0;
    const bool               ok    = soothe__read_int(&o->n_samples, c->n_samples, me, "-k", 1, 10000) &&
                    soothe__read_int(&o->n_ppl_samples, c->n_ppl_samples, me, "--ppl-samples", 0, 10000) &&
                    soothe__read_int(&o->n_predict, c->n_predict, me, "-n", 1, 100000) &&
                    soothe__read_int(&o->n_predict_benign, c->n_predict_benign, me, "--benign-predict", 1, 100000) &&
                    soothe__read_int(&limit, c->limit, me, "--limit", 0, INT32_MAX) &&
                    soothe__read_int(&o->group, c->group, me, "--group", 1, 100000) &&
                    soothe__read_int(&o->n_parallel, c->n_parallel, me, "--parallel", 1, 250) &&
                    soothe__read_int(&o->n_threads, c->n_threads, me, "-t", 1, 1024) &&
                    soothe__read_int(&o->n_gpu_layers, c->n_gpu_layers, me, "--n-gpu-layers", 0, INT32_MAX) &&
                    soothe__read_float(&s->temp, c->temp, me, "--temp", 0, 1000) &&
                    soothe__read_int(&s->top_k, c->top_k, me, "--top-k", 0, INT32_MAX) &&
                    soothe__read_float(&s->top_p, c->top_p, me, "--top-p", 0, 1) &&
                    soothe__read_float(&s->min_p, c->min_p, me, "--min-p", 0, 1) && read_shard(o, c->shard);
    o->prompts.limit = (size_t)limit;
    /* A run must be repeatable by its command: without a seed it is 0, not any. */
    s->seed = 0;
    return ok && (!c->seed || soothe__read_seed(&s->seed, c->seed, me));
}

static int check_choice(const struct choice *c, const char *more) {
    if (more)
        return soothe__print_misuse("eval", "\"%s\" belongs to no option (prompts are given by --prompts or --suite)",
                                    more);
    if (!(c->prompts && c->prompts[0]) && !(c->suites && c->suites[0]))
        return soothe__print_misuse("eval", "which prompts? --prompts takes a file, --suite one of %s",
                                    soothe__eval_suite_names());
    if (!c->out)
        return soothe__print_misuse("eval", "where to? --out takes a folder");
    return SOOTHE__EXIT_DONE;
}

static enum soothe_status evaluate(struct soothe__eval_options *o, const struct choice *c, struct soothe_error *err) {
    char              *model = NULL, *ppl_model = NULL;
    enum soothe_status status = soothe__choose_model(&model, c->model, err);
    if (!status && c->ppl_model)
        status = soothe__choose_model(&ppl_model, c->ppl_model, err);
    o->model_path     = model;
    o->model_name     = soothe__laid_name(c->model, model);
    o->ppl_model_path = ppl_model;
    if (!status)
        status = soothe__eval_run(o, err);
    free(model);
    free(ppl_model);
    return status;
}

static int run(const struct choice *c) {
    static const char *const    usual_scorer[] = {"default", NULL};
    struct soothe_error         err;
    struct soothe__eval_options o = soothe__eval_options_default();
    if (!read_numbers(&o, c))
        return SOOTHE__EXIT_MISUSE;
    if (soothe__eval_methods_parse(&o.methods, c->methods ? c->methods : "plain,fusion", &err))
        return soothe__print_misuse("eval", "--methods: %s", err.message);
    o.out              = c->out;
    o.scorers          = c->scorers && c->scorers[0] ? (const char *const *)c->scorers : usual_scorer;
    o.prompts.files    = (const char *const *)c->prompts;
    o.prompts.suites   = (const char *const *)c->suites;
    o.prompts.field    = c->field;
    o.prompts.skip_bad = o.benign.skip_bad = o.corpus.skip_bad = c->skip_bad != 0;
    o.benign.files                                             = (const char *const *)c->benign;
    o.benign.suites                                            = (const char *const *)c->benign_suites;
    o.corpus.files                                             = (const char *const *)c->corpus;
    o.benign_raw                                               = c->benign_raw != 0;
    o.resume                                                   = c->resume != 0;
    o.no_timing                                                = c->no_timing != 0;
    o.stop                                                     = soothe__interrupt_flag();
    fprintf(stderr, "seed %u\n", o.sampling.seed);
    const enum soothe_status status = evaluate(&o, c, &err);
    soothe__eval_methods_free(&o.methods);
    if (status)
        return soothe__print_failure(&err);
    if (o.n_shards == 0)
        return soothe__eval_show(c->out, false);
    fprintf(stderr, "shard %zu of %zu is done: soothe eval merge %s/shard-* --out %s\n", o.i_shard, o.n_shards, c->out,
            c->out);
    return SOOTHE__EXIT_DONE;
}

static void free_choice(struct choice *c) {
    char *const texts[] = {c->model, c->ppl_model,     c->methods,    c->field,     c->out,
                           c->shard, c->n_ppl_samples, c->n_samples,  c->n_predict, c->n_predict_benign,
                           c->limit, c->group,         c->n_parallel, c->n_threads, c->n_gpu_layers,
                           c->temp,  c->top_k,         c->top_p,      c->min_p,     c->seed};
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
    soothe__free_list(c->prompts);
    soothe__free_list(c->suites);
    soothe__free_list(c->scorers);
    soothe__free_list(c->benign);
    soothe__free_list(c->benign_suites);
    soothe__free_list(c->corpus);
}

int soothe__cmd_eval(int argc, const char **argv) {
    struct choice           c         = {0};
    const struct poptOption options[] = {
        TEXT_OPTION("model", 'm', model, "the target: a name, an address or a file", "MODEL"),
        LIST_OPTION("prompts", prompts, "JSON lines, CSV or TSV; may be repeated", "FILE"),
        LIST_OPTION("suite", suites, "a small set that is built in: challenging-mini, benign-mini", "NAME"),
        TEXT_OPTION("field", '\0', field, "the prompt's column (prompt.text, prompt or text)", "NAME"),
        TEXT_OPTION("limit", '\0', limit, "the first N prompts of each file", "N"),
        FLAG_OPTION("skip-bad", skip_bad, "leave bad rows out and count them"),
        TEXT_OPTION("methods", '\0', methods, "METHOD[:KEY=VALUE][+METHOD...],... (plain,fusion)", "LIST"),
        LIST_OPTION("scorer", scorers, "default, lexicon, a file, command:...; the first is the main one", "SPEC"),
        TEXT_OPTION("ppl-model", '\0', ppl_model, "who judges perplexity (the plain target itself)", "MODEL"),
        TEXT_OPTION("ppl-samples", '\0', n_ppl_samples, "the first of each prompt that get a perplexity (all)", "N"),
        TEXT_OPTION("samples", 'k', n_samples, "continuations of each prompt (25)", "N"),
        TEXT_OPTION("predict", 'n', n_predict, "tokens of each at most (20)", "N"),
        TEXT_OPTION("temp", '\0', temp, "temperature (1)", "X"),
        TEXT_OPTION("top-p", '\0', top_p, "nucleus (0.9)", "P"),
        TEXT_OPTION("top-k", '\0', top_k, "of the k likeliest only (0: all)", "K"),
        TEXT_OPTION("min-p", '\0', min_p, "of those this share as likely as the likeliest (0: off)", "P"),
        TEXT_OPTION("seed", 's', seed, "of the random numbers (0); -1: any", "N"),
        LIST_OPTION("benign", benign, "harmless prompts: refusals, unchanged tokens", "FILE"),
        LIST_OPTION("benign-suite", benign_suites, "a built-in set of them: benign-mini", "NAME"),
        TEXT_OPTION("benign-predict", '\0', n_predict_benign, "tokens of their greedy continuations (48)", "N"),
        FLAG_OPTION("benign-raw", benign_raw, "without the model's chat template"),
        LIST_OPTION("corpus", corpus, "neutral texts: perplexity of each method's own distribution", "FILE"),
        TEXT_OPTION("out", 'o', out, "the folder of results", "DIR"),
        FLAG_OPTION("resume", resume, "go on with what the folder holds"),
        TEXT_OPTION("shard", '\0', shard, "do every N-th group from the I-th on, into DIR/shard-I-of-N", "I/N"),
        FLAG_OPTION("no-timing", no_timing, "a report without times: a function of the settings alone"),
        TEXT_OPTION("group", '\0', group, "prompts done at a time: what a kill may cost (16)", "N"),
        TEXT_OPTION("parallel", '\0', n_parallel, "continuations at a time (64)", "N"),
        TEXT_OPTION("threads", 't', n_threads, "threads (all processors)", "N"),
        TEXT_OPTION("n-gpu-layers", '\0', n_gpu_layers, "layers on a GPU, where the engine has one (0)", "N"),
        POPT_TABLEEND};
    int code;
    if (soothe__eval_folder_command(argc, argv, &code))
        return code;
    poptContext context;
    code = soothe__options_read(&context, &soothe__command_eval, argc, argv, options);
    if (code < 0) {
        code = check_choice(&c, poptGetArg(context));
        if (code == SOOTHE__EXIT_DONE)
            code = run(&c);
    }
    poptFreeContext(context);
    free_choice(&c);
    return code;
}
