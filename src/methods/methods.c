/* SPDX-License-Identifier: Apache-2.0
 * The table of methods. */
#include <math.h>
#include <string.h>

#include "methods/methods.h"

static const struct soothe__method *const METHODS[] = {
    &soothe__method_fusion,
    &soothe__method_none,
    NULL,
};

struct soothe__method_options soothe__method_options_default(void) {
    const struct soothe_session_params session = soothe_session_params_default();
    return (struct soothe__method_options){.strength = NAN, .context = session.context};
}

const struct soothe__method *soothe__method_find(const char *name) {
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

enum soothe_status soothe__method_apply(struct soothe__applied_method *m, const char *name, struct llama_model *target,
                                        const char *target_path, const struct soothe__method_options *options,
                                        struct soothe_error *err) {
    char names[256];
    *m = (struct soothe__applied_method){.method = soothe__method_find(name)};
    if (!m->method) {
        soothe__method_names(names, sizeof names);
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "there is no method \"%s\"; there are: %s", name, names);
    }
    const enum soothe_status status = m->method->apply(m, target, target_path, options, err);
    if (status)
        soothe__method_release(m);
    return status;
}

void soothe__method_release(struct soothe__applied_method *m) {
    soothe_session_free(m->session);
    if (m->method && m->method->release)
        m->method->release(m->state);
    *m = (struct soothe__applied_method){.method = NULL};
}
