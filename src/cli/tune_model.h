/* SPDX-License-Identifier: Apache-2.0
 * soothe tune has two meanings: without --objective it finds a method's strength (cmd_tune.c), with it the model itself
 * learns (cmd_tune_model.c). */
#ifndef SOOTHE_TUNE_MODEL_H
#define SOOTHE_TUNE_MODEL_H

#include "cli/cli.h"

bool soothe__is_tune_model(int argc, const char **argv); /* does it name an objective? */
int  soothe__cmd_tune_model(int argc, const char **argv);

#endif /* SOOTHE_TUNE_MODEL_H */
