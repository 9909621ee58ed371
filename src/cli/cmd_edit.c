/* SPDX-License-Identifier: Apache-2.0
 * soothe edit: changes of the model itself, GGUF in, GGUF out. Its table of subcommands. */
#include "cli/edit.h"

static const struct soothe__command *const SUBCOMMANDS[] = {&soothe__command_edit_surgery};
enum { N_SUBCOMMANDS = sizeof SUBCOMMANDS / sizeof *SUBCOMMANDS };

const struct soothe__command soothe__command_edit = {
    .name    = "edit",
    .run     = soothe__cmd_edit,
    .summary = "change the model itself: edits, their small diff files, undo",
    .help    = "    soothe edit surgery -m smollm2-135m-instruct --data labelled.jsonl -o gentle.gguf\n",
};

int soothe__cmd_edit(int argc, const char **argv) {
    return soothe__run_subcommand(&soothe__command_edit, SUBCOMMANDS, N_SUBCOMMANDS, argc, argv);
}
