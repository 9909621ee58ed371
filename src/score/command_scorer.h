/* SPDX-License-Identifier: Apache-2.0
 * A scorer of the user's: a shell command that reads a line {"text": "…"} per text on its standard input and
 * writes a line {"score": 0.12}, or {"score": null} where it cannot say, for each, in order. */
#ifndef SOOTHE_COMMAND_SCORER_H
#define SOOTHE_COMMAND_SCORER_H

#include "base/base.h"

/* scores  (n) in [0,1]; NaN where the command said null
 * errors  SOOTHE_E_IO the command cannot be run or failed; SOOTHE_E_FORMAT a line that is no score, or another number
 *         of lines */
enum soothe_status soothe__score_by_command(const char *command, const char *const *texts, size_t n, double *scores,
                                            struct soothe_error *err);

#endif /* SOOTHE_COMMAND_SCORER_H */
