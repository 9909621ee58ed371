/* SPDX-License-Identifier: Apache-2.0
 * soothe eval merge, compare, rescore, report, show: what is done with the folder of an evaluation. */
#include <stdlib.h>
#include <string.h>

#include "cli/eval.h"
#include "cli/speak.h"
#include "eval/eval.h"
#include "pull/pull.h"

static int cmd_merge(int argc, const char **argv);
static int cmd_compare(int argc, const char **argv);
static int cmd_rescore(int argc, const char **argv);
static int cmd_report(int argc, const char **argv);
static int cmd_show(int argc, const char **argv);

static const struct soothe__command MERGE = {
    .name    = "eval merge",
    .run     = cmd_merge,
    .summary = "shards to one folder and one report",
    .help    = "    soothe eval merge DIR/shard-* --out DIR\n\n"
               "Refuses shards of different runs (the first setting that differs is named), groups that are missing and\n"
               "groups that are there twice. The result is byte for byte that of one run.\n",
};
static const struct soothe__command COMPARE = {
    .name    = "eval compare",
    .run     = cmd_compare,
    .summary = "finished runs side by side in one report",
    .help    = "    soothe eval compare results/plain results/tuned --out results/both\n"
               "    soothe eval compare monday tuesday --methods plain,fusion --limit 100\n\n"
               "Runs of other methods, models or days, of the same prompts, seed, sampling and main scorer: what differs\n"
               "is named. Every method of every run is a row, beside the first run's first one, paired by prompt. Where\n"
               "a run has fewer prompts, its prompts count; scorers, benign prompts and neutral texts where all have\n"
               "them; perplexity where the same model judged. Without --out nothing is written.\n",
};
static const struct soothe__command RESCORE = {
    .name    = "eval rescore",
    .run     = cmd_rescore,
    .summary = "judge the stored texts by a further scorer",
    .help    = "    soothe eval rescore DIR --scorer lexicon\n\n"
               "Nothing is generated again: the scorer's verdict on the stored continuations joins the report.\n",
};
static const struct soothe__command REPORT = {
    .name    = "eval report",
    .run     = cmd_report,
    .summary = "write the report again from the stored results",
    .help    = "    soothe eval report DIR\n\n"
               "--no-timing leaves out all that depends on the clock: the rest follows from the settings alone.\n",
};
static const struct soothe__command SHOW = {
    .name    = "eval show",
    .run     = cmd_show,
    .summary = "the table of a report",
    .help    = "    soothe eval show DIR\n",
};
static const struct soothe__command *const COMMANDS[] = {&MERGE, &COMPARE, &RESCORE, &REPORT, &SHOW};
enum { N_COMMANDS = sizeof COMMANDS / sizeof *COMMANDS };

static const char *word_of(const struct soothe__command *command) {
    return strchr(command->name, ' ') + 1;
}

bool soothe__eval_folder_command(int argc, const char **argv, int *code) {
    for (size_t i = 0; i < N_COMMANDS && argc > 1; i++) {
        if (!strcmp(argv[1], word_of(COMMANDS[i]))) {
            *code = COMMANDS[i]->run(argc - 1, argv + 1);
            return true;
        }
    }
    return false;
}

/* The result of what wrote a report: its table. */
static int finish(enum soothe_status status, const struct soothe_error *err, const char *folder) {
    return status ? soothe__print_failure(err) : soothe__eval_show(folder, false);
}

static size_t count(const char **folders) {
    size_t n = 0;
    while (folders && folders[n])
        n++;
    return n;
}

static int merge(const char **folders, const char *out, bool no_timing) {
    struct soothe_error err;
    const size_t        n = count(folders);
    if (n == 0)
        return soothe__print_misuse(MERGE.name, "which folders?");
    if (!out)
        return soothe__print_misuse(MERGE.name, "where to? --out takes a folder");
    return finish(soothe__eval_merge((const char *const *)folders, n, out, no_timing, &err), &err, out);
}

static int cmd_merge(int argc, const char **argv) {
    char                   *out       = NULL;
    int                     no_timing = 0;
    const struct poptOption options[] = {
        {"out", 'o', POPT_ARG_STRING, &out, 0, "the folder to be written", "DIR"},
        {"no-timing", '\0', POPT_ARG_NONE, &no_timing, 0, "a report without times", NULL},
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &MERGE, argc, argv, options);
    if (code < 0)
        code = merge(poptGetArgs(context), out, no_timing);
    poptFreeContext(context);
    free(out);
    return code;
}

/* What popt stores. */
struct comparison {
    char *methods, *limit, *out;
    int   no_timing, json;
};

static int compare(const char **folders, const struct comparison *c) {
    struct soothe_error            err;
    struct soothe__eval_methods    methods = {.n = 0};
    struct soothe__eval_comparison x       = {.folders   = (const char *const *)folders,
                                              .n_folders = count(folders),
                                              .joined    = true,
                                              .out       = c->out,
                                              .no_timing = c->no_timing != 0};
    int32_t                        limit   = 0;
    char                          *text    = NULL;
    if (x.n_folders == 0)
        return soothe__print_misuse(COMPARE.name, "which folders?");
    if (!soothe__read_int(&limit, c->limit, COMPARE.name, "--limit", 1, INT32_MAX))
        return SOOTHE__EXIT_MISUSE;
    if (c->methods && soothe__eval_methods_parse(&methods, c->methods, &err))
        return soothe__print_misuse(COMPARE.name, "--methods: %s", err.message);
    x.limit        = (size_t)limit;
    x.methods      = c->methods ? &methods : NULL;
    const int code = soothe__eval_compare(&text, &x, &err)
                         ? soothe__print_failure(&err)
                         : soothe__eval_print(text, strlen(text), "the report", c->json != 0);
    soothe__eval_methods_free(&methods);
    free(text);
    return code;
}

static int cmd_compare(int argc, const char **argv) {
    struct comparison       c         = {0};
    const struct poptOption options[] = {
        TEXT_OPTION("methods", '\0', methods, "those of the runs that count (all), as soothe eval names them", "LIST"),
        TEXT_OPTION("limit", '\0', limit, "the first N prompts only", "N"),
        TEXT_OPTION("out", 'o', out, "the folder of report.json and report.html", "DIR"),
        FLAG_OPTION("no-timing", no_timing, "a report without times"),
        FLAG_OPTION("json", json, "the report itself on standard output"),
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &COMPARE, argc, argv, options);
    if (code < 0)
        code = compare(poptGetArgs(context), &c);
    poptFreeContext(context);
    soothe__free_texts((char *const[]){c.methods, c.limit, c.out}, 3);
    return code;
}

/* One folder and nothing more: else a misuse, and NULL. */
static const char *only_folder(poptContext context, const struct soothe__command *command) {
    const char *folder = poptGetArg(context);
    if (!folder)
        soothe__print_misuse(command->name, "which folder?");
    else if (poptPeekArg(context))
        soothe__print_misuse(command->name, "one folder at a time");
    else
        return folder;
    return NULL;
}

static int rescore(const char *folder, const char *spec, const char *model, const char *threads, bool no_timing) {
    struct soothe_error err;
    int32_t             n_threads  = 0;
    char               *model_path = NULL;
    if (!spec)
        return soothe__print_misuse(RESCORE.name, "which scorer? --scorer takes one");
    if (!soothe__read_int(&n_threads, threads, RESCORE.name, "-t", 1, 1024))
        return SOOTHE__EXIT_MISUSE;
    enum soothe_status status = model ? soothe__choose_model(&model_path, model, &err) : SOOTHE_OK;
    if (!status)
        status = soothe__eval_rescore(folder, spec, model_path, n_threads, no_timing, &err);
    free(model_path);
    return finish(status, &err, folder);
}

static int cmd_rescore(int argc, const char **argv) {
    char                   *spec = NULL, *model = NULL, *threads = NULL;
    int                     no_timing = 0;
    const struct poptOption options[] = {
        {"scorer", '\0', POPT_ARG_STRING, &spec, 0, "a scorer as soothe score names it", "SPEC"},
        {"model", 'm', POPT_ARG_STRING, &model, 0, "the language model that a probe reads", "MODEL"},
        {"threads", 't', POPT_ARG_STRING, &threads, 0, "threads (all processors)", "N"},
        {"no-timing", '\0', POPT_ARG_NONE, &no_timing, 0, "a report without times", NULL},
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &RESCORE, argc, argv, options);
    if (code < 0) {
        const char *folder = only_folder(context, &RESCORE);
        code               = folder ? rescore(folder, spec, model, threads, no_timing) : SOOTHE__EXIT_MISUSE;
    }
    poptFreeContext(context);
    free(spec);
    free(model);
    free(threads);
    return code;
}

static int cmd_report(int argc, const char **argv) {
    int                     no_timing = 0;
    const struct poptOption options[] = {
        {"no-timing", '\0', POPT_ARG_NONE, &no_timing, 0, "leave out what depends on the clock", NULL}, POPT_TABLEEND};
    poptContext         context;
    struct soothe_error err;
    int                 code = soothe__options_read(&context, &REPORT, argc, argv, options);
    if (code < 0) {
        const char *folder = only_folder(context, &REPORT);
        code = folder ? finish(soothe__eval_report(folder, no_timing, &err), &err, folder) : SOOTHE__EXIT_MISUSE;
    }
    poptFreeContext(context);
    return code;
}

static int cmd_show(int argc, const char **argv) {
    int                     json      = 0;
    const struct poptOption options[] = {{"json", '\0', POPT_ARG_NONE, &json, 0, "the report itself", NULL},
                                         POPT_TABLEEND};
    poptContext             context;
    int                     code = soothe__options_read(&context, &SHOW, argc, argv, options);
    if (code < 0) {
        const char *folder = only_folder(context, &SHOW);
        code               = folder ? soothe__eval_show(folder, json) : SOOTHE__EXIT_MISUSE;
    }
    poptFreeContext(context);
    return code;
}
