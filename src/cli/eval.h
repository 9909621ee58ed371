/* SPDX-License-Identifier: Apache-2.0
 * soothe eval in three parts: cmd_eval.c runs, cmd_eval_folder.c works on folders, eval_table.c shows. */
#ifndef SOOTHE_CLI_EVAL_H
#define SOOTHE_CLI_EVAL_H

#include "cli/cli.h"

/* Prints the table of a report on stdout; json: the text itself. name: for the error's sentence. Returns the exit code.
 */
int soothe__eval_print(const char *text, size_t size, const char *name, bool json);
/* Prints the table of FOLDER/report.json on stdout; json: the file itself. Returns the exit code. */
int soothe__eval_show(const char *folder, bool json);

/* merge, compare, rescore, report, show: true if argv[1] is one; *code is what it gave. */
bool soothe__eval_folder_command(int argc, const char **argv, int *code);

#endif /* SOOTHE_CLI_EVAL_H */
