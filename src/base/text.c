/* SPDX-License-Identifier: Apache-2.0
 * Checks on text and numbers that come from outside. */
#define _XOPEN_SOURCE 700
#include "base/base.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the well-formed sequence at s, 0 if there is none. Source: The Unicode Standard, table 3-7. */
static size_t utf8_sequence(const unsigned char *s, size_t size) {
    const unsigned char a  = s[0];
    unsigned char       lo = 0x80, hi = 0xBF; /* bounds of the second byte */
    size_t              n;
    if (a < 0x80)
        return 1;
    if (a < 0xC2 || a > 0xF4)
        return 0; /* continuation, overlong, or above U+10FFFF */
    n = a < 0xE0 ? 2 : a < 0xF0 ? 3 : 4;
    if (a == 0xE0)
        lo = 0xA0; /* overlong      */
    if (a == 0xED)
        hi = 0x9F; /* surrogates    */
    if (a == 0xF0)
        lo = 0x90; /* overlong      */
    if (a == 0xF4)
        hi = 0x8F; /* above U+10FFFF */
    if (n > size || s[1] < lo || s[1] > hi)
        return 0;
    for (size_t i = 2; i < n; i++)
        if (s[i] < 0x80 || s[i] > 0xBF)
            return 0;
    return n;
}

bool soothe__utf8_valid(const char *text, size_t size) {
    for (size_t i = 0; i < size;) {
        const size_t n = utf8_sequence((const unsigned char *)text + i, size - i);
        if (!n)
            return false;
        i += n;
    }
    return true;
}

bool soothe__parse_double(double *out, const char *text, double lo, double hi) {
    /* Neither white space nor hexadecimal, inf, nan, which strtod would take. */
    if (!*text || text[strspn(text, "0123456789+-.eE")])
        return false;
    /* A program around us may have set a locale with a decimal comma: numbers are read in "C". */
    const locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c)
        return false;
    const locale_t before = uselocale(c);
    char          *end;
    const double   value = strtod(text, &end);
    uselocale(before);
    freelocale(c);
    if (end == text || *end || !isfinite(value) || value < lo || value > hi)
        return false;
    *out = value;
    return true;
}

bool soothe__parse_int64(int64_t *out, const char *text, int64_t lo, int64_t hi) {
    if (!*text || text[strspn(text, "0123456789+-")])
        return false;
    char *end;
    errno                 = 0;
    const long long value = strtoll(text, &end, 10);
    if (end == text || *end || errno || value < lo || value > hi)
        return false;
    *out = value;
    return true;
}
