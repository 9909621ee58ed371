/* SPDX-License-Identifier: Apache-2.0
 * What the subcommands of soothe edit share. */
#ifndef SOOTHE_CLI_EDIT_H
#define SOOTHE_CLI_EDIT_H

#include "cli/result.h"
#include "edit/diff.h"

extern const struct soothe__command soothe__command_edit_surgery; /* cmd_edit_surgery.c */
int                                 soothe__cmd_edit_surgery(int argc, const char **argv);
extern const struct soothe__command soothe__command_edit_lm_steer; /* cmd_edit_lm_steer.c */
int                                 soothe__cmd_edit_lm_steer(int argc, const char **argv);

#endif /* SOOTHE_CLI_EDIT_H */
