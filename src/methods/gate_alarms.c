/* SPDX-License-Identifier: Apache-2.0
 * The gate's curve and its memory of alarms. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/gate.h"

float soothe__gate_dose(double risk, double low, double high) {
    if (!(risk > low)) /* NaN too */
        return 0.0f;
    if (risk >= high)
        return 1.0f;
    const double t = (risk - low) / (high - low);
    return (float)(t * t * (3 - 2 * t));
}

bool soothe__alarms_reserve(struct soothe__alarms *a, size_t n_more) {
    if (a->n + n_more <= a->capacity)
        return true;
    const size_t          capacity = 2 * (a->n + n_more);
    struct soothe__alarm *items    = soothe__realloc(a->items, capacity, sizeof *items);
    if (!items)
        return false;
    a->items    = items;
    a->capacity = capacity;
    return true;
}

/* The first alarm at pos or behind it. */
static size_t place_of(const struct soothe__alarms *a, llama_pos pos) {
    size_t i = a->n;
    while (i > 0 && a->items[i - 1].pos >= pos)
        i--;
    return i;
}

float soothe__alarms_note(struct soothe__alarms *a, llama_pos pos, float risk, float hold) {
    const size_t i     = place_of(a, pos);
    float        level = risk;
    if (i > 0 && hold > 0)
        level = fmaxf(level, a->items[i - 1].level * exp2f(-(float)(pos - a->items[i - 1].pos) / hold));
    if (i == a->n || a->items[i].pos != pos) {
        memmove(a->items + i + 1, a->items + i, (a->n - i) * sizeof *a->items);
        a->n++;
    }
    a->items[i] = (struct soothe__alarm){pos, level};
    return level;
}

/* The alarms [*from, *to) at positions [p0, p1). */
static void range_of(const struct soothe__alarms *a, llama_pos p0, llama_pos p1, size_t *from, size_t *to) {
    *from = p0 < 0 ? 0 : place_of(a, p0);
    *to   = p1 < 0 ? a->n : place_of(a, p1);
    if (*to < *from)
        *to = *from;
}

void soothe__alarms_rm(struct soothe__alarms *a, llama_pos p0, llama_pos p1) {
    size_t from, to;
    range_of(a, p0, p1, &from, &to);
    if (to > from)
        memmove(a->items + from, a->items + to, (a->n - to) * sizeof *a->items);
    a->n -= to - from;
}

bool soothe__alarms_cp(const struct soothe__alarms *source, struct soothe__alarms *to, llama_pos p0, llama_pos p1) {
    size_t first, end;
    if (source == to)
        return true;
    range_of(source, p0, p1, &first, &end);
    const size_t n = end - first;
    soothe__alarms_rm(to, p0, p1);
    if (!n)
        return true;
    if (!soothe__alarms_reserve(to, n))
        return false;
    const size_t i = place_of(to, source->items[first].pos);
    memmove(to->items + i + n, to->items + i, (to->n - i) * sizeof *to->items);
    memcpy(to->items + i, source->items + first, n * sizeof *to->items);
    to->n += n;
    return true;
}
