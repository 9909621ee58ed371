/* SPDX-License-Identifier: Apache-2.0
 * soothe tune finds a method's strength (cmd_tune.c); with --objective the model itself learns (cmd_tune_model.c); with
 * --merge a LoRA file is merged into it (cmd_tune_merge.c). */
#ifndef SOOTHE_TUNE_MODEL_H
#define SOOTHE_TUNE_MODEL_H

#include "cli/cli.h"

/* Is the option (or OPTION=…) among the words? */
bool soothe__has_option(int argc, const char **argv, const char *option);
int  soothe__cmd_tune_model(int argc, const char **argv);
int  soothe__cmd_tune_merge(int argc, const char **argv);

#endif /* SOOTHE_TUNE_MODEL_H */
