/* SPDX-License-Identifier: Apache-2.0
 * A scorer of the user's: a shell command that reads a line {"text": "…"} per text on its standard input and writes a
 * line for each, in order:
 *   {"toxicity": 0.12}                        "score" will do, too
 *   {"toxicity": null, "why": "too short"}    where it cannot say; "reason" will do, too
 * A line that is none of these, or a number outside 0 to 1, is no score for that one text. */
#ifndef SOOTHE_COMMAND_SCORER_H
#define SOOTHE_COMMAND_SCORER_H

#include "base/base.h"

/* scores  (n) in [0,1]; NaN where the command gave none
 * errors  SOOTHE_E_IO the command cannot be run or failed; SOOTHE_E_FORMAT another number of lines, for then nobody
 *         knows whose they are, or not one line of scores */
enum soothe_status soothe__score_by_command(const char *command, const char *const *texts, size_t n, double *scores,
                                            struct soothe_error *err);

#endif /* SOOTHE_COMMAND_SCORER_H */
