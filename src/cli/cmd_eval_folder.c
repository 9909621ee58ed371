/* SPDX-License-Identifier: Apache-2.0
 * soothe eval merge, rescore, report, show: what is done with the folder of an evaluation. */
#include <stdlib.h>
#include <string.h>

#include "cli/eval.h"
#include "cli/speak.h"
#include "eval/eval.h"
#include "pull/pull.h"

static int cmd_merge(int argc, const char **argv);
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
static const struct soothe__command *const COMMANDS[] = {&MERGE, &RESCORE, &REPORT, &SHOW};
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

static int merge(const char **folders, const char *out, bool no_timing) {
    struct soothe_error err;
    size_t              n = 0;
    while (folders && folders[n])
        n++;
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
