/* SPDX-License-Identifier: Apache-2.0
 * The clock, and a bar on stderr. */
#define _POSIX_C_SOURCE 200809L
#include "base/base.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double soothe__seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static bool set_and_not_empty(const char *name) {
    const char *value = getenv(name);
    return value && *value;
}

struct soothe__progress soothe__progress_start(void) {
    const char *terminal = getenv("TERM");
    return (struct soothe__progress){.started    = soothe__seconds(),
                                     .last_draw  = -1.0,
                                     .last_tenth = 0,
                                     .terminal   = isatty(STDERR_FILENO) && terminal && strcmp(terminal, "dumb") != 0};
}

static void draw_bar(double fraction, const char *detail) {
    enum { WIDTH = 28 };
    const char *bar    = "############################";
    const bool  colour = !set_and_not_empty("NO_COLOR"); /* https://no-color.org */
    const int   full   = (int)(fraction * WIDTH + 0.5);
    fprintf(stderr, "\r[%s%.*s%s%*s] %3.0f %%  %s\033[K", colour ? "\033[36m" : "", full, bar, colour ? "\033[0m" : "",
            WIDTH - full, "", 100.0 * fraction, detail);
    fflush(stderr);
}

void soothe__progress_update(struct soothe__progress *p, double fraction, const char *detail) {
    fraction = fraction > 0.0 ? fraction < 1.0 ? fraction : 1.0 : 0.0; /* also NaN */
    if (!detail)
        detail = "";
    if (p->terminal) {
        const double now = soothe__seconds();
        if (p->last_draw >= 0.0 && now - p->last_draw < 0.1 && fraction < 1.0)
            return;
        p->last_draw = now;
        draw_bar(fraction, detail);
        return;
    }
    const int tenth = (int)(fraction * 10.0 + 1e-9);
    if (tenth <= p->last_tenth)
        return;
    p->last_tenth = tenth;
    fprintf(stderr, "%3d %%  %s\n", tenth * 10, detail);
}

void soothe__progress_finish(struct soothe__progress *p) {
    if (p->terminal && p->last_draw >= 0.0)
        fputs("\r\033[K", stderr);
    p->last_draw = -1.0;
}
