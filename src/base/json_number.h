/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SOOTHE_JSON_NUMBER_H
#define SOOTHE_JSON_NUMBER_H

#include <jansson.h>
#include <math.h>

/* x, or null where it is not finite: JSON has no NaN. */
static inline json_t *soothe__json_number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

/* The same to six decimals. */
static inline json_t *soothe__json_rounded(double x) {
    return soothe__json_number(round(x * 1e6) / 1e6);
}

#endif /* SOOTHE_JSON_NUMBER_H */
