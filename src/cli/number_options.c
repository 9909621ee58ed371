/* SPDX-License-Identifier: Apache-2.0
 * Options that are numbers. popt's own reading takes "1x" and says little. */
#include <string.h>
#include <sys/random.h>

#include "cli/cli.h"
#include "cli/speak.h"

bool soothe__read_int(int32_t *out, const char *text, const char *command, const char *option, int32_t lo, int32_t hi) {
    int64_t value;
    if (!text)
        return true;
    if (!soothe__parse_int64(&value, text, lo, hi)) {
        soothe__print_misuse(command, "%s takes a whole number from %d to %d, not \"%s\"", option, lo, hi, text);
        return false;
    }
    *out = (int32_t)value;
    return true;
}

bool soothe__read_float(float *out, const char *text, const char *command, const char *option, double lo, double hi) {
    double value;
    if (!text)
        return true;
    if (!soothe__parse_double(&value, text, lo, hi)) {
        soothe__print_misuse(command, "%s takes a number from %g to %g, not \"%s\"", option, lo, hi, text);
        return false;
    }
    *out = (float)value;
    return true;
}

bool soothe__read_seed(uint32_t *seed, const char *text, const char *command) {
    int64_t value = -1;
    if (text && !soothe__parse_int64(&value, text, -1, UINT32_MAX)) {
        soothe__print_misuse(command, "--seed takes a whole number from 0 to %u, or -1 for any, not \"%s\"", UINT32_MAX,
                             text);
        return false;
    }
    *seed = (uint32_t)value;
    if (value < 0 && getrandom(seed, sizeof *seed, 0) != sizeof *seed)
        *seed = (uint32_t)(soothe__seconds() * 1e6);
    return true;
}

bool soothe__read_blocks(int32_t *first, int32_t *end, const char *text, const char *command) {
    int64_t     lo, hi = -1; /* that is no block: all from the first on */
    char        head[24] = "";
    const char *dash     = text ? strchr(text, '-') : NULL;
    if (!text)
        return true;
    if (dash)
        snprintf(head, sizeof head, "%.*s", (int)(dash - text), text);
    if (soothe__parse_int64(&lo, dash ? head : text, 0, 9999) &&
        ((dash && !dash[1]) || soothe__parse_int64(&hi, dash ? dash + 1 : text, lo, 9999))) {
        *first = (int32_t)lo;
        *end   = (int32_t)hi + 1;
        return true;
    }
    soothe__print_misuse(command, "--blocks takes blocks as 4, 8-15 or 20-, not \"%.60s\"", text);
    return false;
}
