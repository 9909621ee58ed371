/* SPDX-License-Identifier: Apache-2.0
 * Commands that are several: soothe NAME SUBCOMMAND. */
#include <string.h>

#include "cli/cli.h"

/* "train" of "probe train" */
static const char *word_of(const struct soothe__command *subcommand) {
    return strrchr(subcommand->name, ' ') + 1;
}

static void print_help(FILE *out, const struct soothe__command *command,
                       const struct soothe__command *const *subcommands, size_t n) {
    fprintf(out, "%s\n", command->help);
    for (size_t i = 0; i < n; i++)
        fprintf(out, "    soothe %-14s %s\n", subcommands[i]->name, subcommands[i]->summary);
}

int soothe__run_subcommand(const struct soothe__command *command, const struct soothe__command *const *subcommands,
                           size_t n, int argc, const char **argv) {
    char   names[256] = "";
    size_t length     = 0;
    if (argc < 2) {
        print_help(stderr, command, subcommands, n);
        return SOOTHE__EXIT_MISUSE;
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(argv[1], word_of(subcommands[i])) == 0)
            return subcommands[i]->run(argc - 1, argv + 1);
        length += (size_t)snprintf(names + length, sizeof names - length, "%s%s",
                                   i == 0      ? ""
                                   : i + 1 < n ? ", "
                                               : " and ",
                                   word_of(subcommands[i]));
    }
    if (strcmp(argv[1], "--help") != 0 && strcmp(argv[1], "-h") != 0)
        return soothe__print_misuse(command->name, "there is no subcommand \"%s\": %s exist", argv[1], names);
    print_help(stdout, command, subcommands, n);
    return SOOTHE__EXIT_DONE;
}
