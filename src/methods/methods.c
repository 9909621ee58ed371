/* SPDX-License-Identifier: Apache-2.0
 * The table of methods. */
#include "methods/methods.h"

#include <string.h>

/* The default first. clang-format would fold the lines that a method is added by. */
/* clang-format off */
static const struct soothe__method *const METHODS[] = {
    &soothe__method_auto,
    &soothe__method_fusion,
    &soothe__method_gate,
    &soothe__method_none,
    &soothe__method_dexperts,
    &soothe__method_self_debias,
    &soothe__method_proxy,
    &soothe__method_gedi,
    &soothe__method_nado,
    &soothe__method_sasa,
    &soothe__method_cfl,
    &soothe__method_rad,
    &soothe__method_best_of_n,
    &soothe__method_word_filter,
    &soothe__method_bad_words,
    &soothe__method_lm_steer,
    &soothe__method_safe_prompt,
    &soothe__method_cmd,
    &soothe__method_control_vector,
    NULL,
};
/* clang-format on */

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
