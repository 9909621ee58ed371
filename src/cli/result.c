/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/result.h"

#include <math.h>

int soothe__print_json(json_t *o, size_t digits) {
    if (!o) {
        fputs("soothe: the result cannot be written as JSON: is a name not UTF-8?\n", stderr);
        return SOOTHE__EXIT_FAILED;
    }
    const int failed = json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(digits));
    json_decref(o);
    putchar('\n');
    return failed && !ferror(stdout) ? SOOTHE__EXIT_FAILED : SOOTHE__EXIT_DONE;
}

void soothe__print_figure(double x, int width, int digits) {
    if (isfinite(x))
        printf(" %*.*f", width, digits, x);
    else
        printf(" %*s", width, "-");
}
