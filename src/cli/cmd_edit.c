/* SPDX-License-Identifier: Apache-2.0
 * soothe edit: changes of a model's own weights. */
#include "cli/cli.h"

static const struct soothe__command *const SUBCOMMANDS[] = {&soothe__command_edit_dinm};

const struct soothe__command soothe__command_edit = {
    .name    = "edit",
    .run     = soothe__cmd_edit,
    .summary = "change a model's weights once and for all",
    .help    = "    soothe edit dinm -m smollm2-135m-instruct -o safer.gguf --instances unsafe.jsonl\n",
};

int soothe__cmd_edit(int argc, const char **argv) {
    return soothe__run_subcommand(&soothe__command_edit, SUBCOMMANDS, sizeof SUBCOMMANDS / sizeof *SUBCOMMANDS, argc,
                                  argv);
}
