/* SPDX-License-Identifier: Apache-2.0
 * soothe tune --merge: a LoRA file laid into a model's matrices. */
#include <stdlib.h>
#include <string.h>

#include "cli/result.h"
#include "cli/speak.h"
#include "cli/tune_model.h"
#include "edit/lora.h"
#include "pull/pull.h"

static const char NAME[] = "tune --merge x"; /* whose --help the sentences name */

static const struct soothe__command COMMAND = {
    .name    = "tune",
    .run     = soothe__cmd_tune_merge,
    .summary = "merge a LoRA file into a model",
    .help    = "    soothe tune --merge tuned.lora.gguf -m model.gguf -o tuned.gguf\n"
               "    soothe tune --merge tuned.lora.gguf -m model.gguf --strength 0.5 -o half.gguf\n"
               "\n"
               "Each tensor keeps its data type. What was done is written into the metadata.\n",
};

struct choice {
    char *lora, *model, *output, *strength;
};

bool soothe__has_option(int argc, const char **argv, const char *option) {
    const size_t n = strlen(option);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], option, n) == 0 && (argv[i][n] == '\0' || argv[i][n] == '='))
            return true;
    return false;
}

static int run(const struct choice *c, const char *more) {
    struct soothe_error err;
    char               *model    = NULL;
    float               strength = 1;
    if (more)
        return soothe__print_misuse(NAME, "\"%s\" belongs to no option", more);
    if (!c->model)
        return soothe__print_misuse(NAME, "into which model? -m takes a file or a name that soothe pull --list shows");
    if (!c->output)
        return soothe__print_misuse(NAME, "where to? -o names the file to be written");
    if (!soothe__read_float(&strength, c->strength, NAME, "--strength", -100, 100))
        return SOOTHE__EXIT_MISUSE;
    enum soothe_status status = soothe__pull_model(&model, c->model, &err);
    if (!status)
        status = soothe__lora_merge(model, c->lora, (double)strength, c->output, &err);
    free(model);
    if (status)
        return soothe__print_failure(&err);
    printf("%s\n", c->output);
    return SOOTHE__EXIT_DONE;
}

int soothe__cmd_tune_merge(int argc, const char **argv) {
    struct choice           c         = {0};
    const struct poptOption options[] = {
        TEXT_OPTION("merge", '\0', lora, "the LoRA file", "FILE"),
        TEXT_OPTION("model", 'm', model, "the model: a name, an address or a file", "MODEL"),
        TEXT_OPTION("output", 'o', output, "the file to be written", "FILE"),
        TEXT_OPTION("strength", '\0', strength, "factor on the file's own scale (1)", "X"), POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &COMMAND, argc, argv, options);
    if (code < 0)
        code = run(&c, poptGetArg(context));
    poptFreeContext(context);
    char *const texts[] = {c.lora, c.model, c.output, c.strength};
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
    return code;
}
