/* SPDX-License-Identifier: Apache-2.0
 * The table of methods. */
#include "methods/methods.h"

#include <string.h>

static const struct soothe__method *const METHODS[] = {
    &soothe__method_fusion,
    &soothe__method_gate,
    &soothe__method_none,
    NULL,
};

const struct soothe__method *soothe__method_at(size_t i) {
    return i < sizeof METHODS / sizeof *METHODS ? METHODS[i] : NULL;
}

const struct soothe__method *soothe__method_find(const char *name) {
    if (name && !strcmp(name, "plain"))
        name = "none";
    for (size_t i = 0; METHODS[i]; i++)
        if (!name || !strcmp(METHODS[i]->name, name))
            return METHODS[i];
    return NULL;
}

void soothe__method_names(char *out, size_t size) {
    size_t n = 0;
    out[0]   = '\0';
    for (size_t i = 0; METHODS[i] && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ", " : "", METHODS[i]->name);
}
