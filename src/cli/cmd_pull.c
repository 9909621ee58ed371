/* SPDX-License-Identifier: Apache-2.0
 * soothe pull: fetch a model, or list those known. */
#define _XOPEN_SOURCE 700
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "engine/requantize.h"
#include "pull/pull.h"

const struct soothe__command soothe__command_pull = {
    .name    = "pull",
    .run     = soothe__cmd_pull,
    .summary = "fetch a model, and print where it is",
    .help =
        "    soothe pull smollm2-135m-instruct\n"
        "    soothe pull smollm2-135m-instruct --as f16         the same in a type that is faster in batches\n"
        "    soothe pull --list\n"
        "    soothe pull https://example.org/model.gguf --sha256 HEX -o model.gguf\n"
        "\n"
        "Fetches a model by its name, or a file by its address (https, http, file, hf:OWNER/REPO/FILE), checks its\n"
        "sha256 and prints its path, alone, on stdout. Without a name: the default model. Interrupted downloads go\n"
        "on where they ended. Models are kept in $SOOTHE_CACHE/models, by default ~/.cache/soothe/models.\n",
};

struct choice {
    int   list, json, verify;
    char *manifest, *sha256, *output, *type; /* popt's, free() */
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal) {
    (void)signal;
    interrupted = 1;
}

static void print_list(const struct soothe__manifest *manifest) {
    for (size_t i = 0; i < manifest->n_models; i++) {
        const struct soothe__model *m = &manifest->models[i];
        printf("%-24s %6.1f MB  %-8s %s\n", m->name, (double)m->size / 1e6, m->architecture, m->title);
        printf("%-24s %s; %s%s\n", strcmp(m->name, manifest->default_name) ? "" : "  (default)", m->vocabulary,
               m->license, m->redistributable ? "" : ", not to be passed on");
    }
}

static int print_json(const struct soothe__manifest *manifest) {
    json_t *list = json_array();
    for (size_t i = 0; i < manifest->n_models; i++) {
        const struct soothe__model *m = &manifest->models[i];
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:{s:s, s:s, s:s, s:b}, s:b}", "name", m->name,
                            "title", m->title, "file", m->file, "architecture", m->architecture, "vocabulary",
                            m->vocabulary, "size", (json_int_t)m->size, "sha256", m->sha256, "license", "name",
                            m->license, "text", m->license_text, "note", m->license_note, "redistributable",
                            (int)m->redistributable, "default", !strcmp(m->name, manifest->default_name)));
    }
    const int failed = json_dumpf(list, stdout, JSON_INDENT(2));
    json_decref(list);
    putchar('\n');
    return failed ? SOOTHE__EXIT_FAILED : SOOTHE__EXIT_DONE;
}

static void print_license(const struct soothe__model *m) {
    fprintf(stderr, "%s: licence %s, %s%s\n", m->title, m->license, m->license_text,
            m->redistributable ? "" : " (not to be passed on)");
}

/* "model.gguf" as "model.q8_0.gguf", made if it is not there or older; *path is replaced. */
static enum soothe_status convert(char **path, const char *type, struct soothe_error *err) {
    static const char ENDING[] = ".gguf";
    const size_t      n = strlen(*path), n_ending = sizeof ENDING - 1;
    const bool        ends = n > n_ending && !strcmp(*path + n - n_ending, ENDING);
    char             *out  = soothe__format("%.*s.%s.gguf", (int)(ends ? n - n_ending : n), *path, type);
    struct stat       before, after;
    if (!out)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    enum soothe_status status = SOOTHE_OK;
    if (stat(*path, &before) || stat(out, &after) || after.st_mtime < before.st_mtime) {
        fprintf(stderr, "converting to %s …\n", type);
        status = soothe__requantize(*path, type, out, err);
    }
    free(*path);
    *path = out;
    return status;
}

static int pull(const struct soothe__manifest *manifest, const struct choice *choice, const char *what) {
    struct soothe_error         err;
    char                       *path;
    const struct soothe__model *model = soothe__manifest_find(manifest, what);

    /* The first Ctrl-C stops at the next byte and keeps what is there; a second one kills. */
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND}, before;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, &before);
    if (model)
        print_license(model);
    const struct soothe__pull_options options = {.manifest_path = choice->manifest,
                                                 .out_path      = choice->output,
                                                 .sha256        = choice->sha256,
                                                 .verify        = choice->verify,
                                                 .show_progress = true,
                                                 .stop          = &interrupted};
    enum soothe_status                status  = soothe__pull(&path, what, &options, &err);
    sigaction(SIGINT, &before, NULL);
    if (!status && choice->type)
        status = convert(&path, choice->type, &err);
    const int code = status ? soothe__print_failure(&err) : SOOTHE__EXIT_DONE;
    if (!status)
        puts(path);
    free(path);
    return code;
}

static int run(const struct choice *choice, const char *what, bool more) {
    struct soothe__manifest *manifest;
    struct soothe_error      err;
    int                      code = SOOTHE__EXIT_DONE;
    if (more)
        return soothe__print_misuse("pull", "one model at a time");
    if (choice->list && what)
        return soothe__print_misuse("pull", "--list takes no model");
    if (choice->json && !choice->list)
        return soothe__print_misuse("pull", "--json goes with --list");
    if (choice->sha256 && !what)
        return soothe__print_misuse("pull", "--sha256 needs the address of a file");
    if (choice->sha256 && (strlen(choice->sha256) != 64 || choice->sha256[strspn(choice->sha256, "0123456789abcdef")]))
        return soothe__print_misuse("pull", "--sha256 needs 64 digits of 0-9, a-f, not \"%s\"", choice->sha256);
    if (soothe__manifest_open(&manifest, choice->manifest, &err))
        return soothe__print_failure(&err);

    if (!what && !choice->list && !*manifest->default_name)
        code = soothe__print_misuse("pull", "%s names no default model: say which", choice->manifest);
    else if (choice->list && choice->json)
        code = print_json(manifest);
    else if (choice->list)
        print_list(manifest);
    else
        code = pull(manifest, choice, what ? what : manifest->default_name);
    soothe__manifest_free(manifest);
    return soothe__finish_stdout(code);
}

int soothe__cmd_pull(int argc, const char **argv) {
    struct choice           choice    = {0};
    const struct poptOption options[] = {
        {"list", 'l', POPT_ARG_NONE, &choice.list, 0, "list the models that have a name", NULL},
        {"json", '\0', POPT_ARG_NONE, &choice.json, 0, "the list as JSON", NULL},
        {"manifest", '\0', POPT_ARG_STRING, &choice.manifest, 0, "another list of models (docs: models/manifest.json)",
         "FILE"},
        {"sha256", '\0', POPT_ARG_STRING, &choice.sha256, 0, "what the file must hash to", "HEX"},
        {"output", 'o', POPT_ARG_STRING, &choice.output, 0, "write there instead of into the cache", "FILE"},
        {"as", '\0', POPT_ARG_STRING, &choice.type, 0, "also convert it: q8_0, q4_0, bf16, f16", "TYPE"},
        {"verify", '\0', POPT_ARG_NONE, &choice.verify, 0, "hash a cached file again", NULL},
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &soothe__command_pull, argc, argv, options);
    if (code < 0) {
        const char *what = poptGetArg(context);
        code             = run(&choice, what, what && poptGetArg(context));
    }
    poptFreeContext(context);
    free(choice.manifest);
    free(choice.sha256);
    free(choice.output);
    free(choice.type);
    return code;
}
