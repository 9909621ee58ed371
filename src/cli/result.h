/* SPDX-License-Identifier: Apache-2.0
 * How commands write their results: JSON, and columns of numbers. */
#ifndef SOOTHE_RESULT_H
#define SOOTHE_RESULT_H

#include "base/json_number.h"
#include "cli/cli.h"

/* Prints o (whose last reference this is) with numbers to so many digits, and returns the exit code. NULL, which
 * json_pack returns for a string that is not UTF-8, is said on stderr. A write that fails is for soothe__finish_stdout
 * to tell. */
int soothe__print_json(json_t *o, size_t digits);

/* A space, then x in so many columns, or - where it is not finite. */
void soothe__print_figure(double x, int width, int digits);

#endif /* SOOTHE_RESULT_H */
