/* SPDX-License-Identifier: Apache-2.0
 * What methods changed of prompts, told: a rewritten prompt is never passed off as the user's. */
#include <stdlib.h>
#include <string.h>

#include "cli/speak.h"
#include "score/score.h"

void soothe__tell_events(const struct soothe__applied *a) {
    for (size_t i = 0; i < a->n_events; i++) {
        const struct soothe__event *e = &a->events[i];
        if (!e->spans)
            continue; /* words before every prompt are told once, by the method's name */
        char *text = soothe__mask_toxic(e->text, strlen(e->text));
        fprintf(stderr, "%s changed prompt %zu at", e->method->name, e->i_prompt + 1);
        for (size_t k = 0; k < e->n_spans; k++)
            fprintf(stderr, "%s bytes %d to %d", k ? "," : "", e->spans[k][0], e->spans[k][1]);
        fprintf(stderr, "; continued was: %s\n", text ? text : "");
        free(text);
    }
}
