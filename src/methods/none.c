/* SPDX-License-Identifier: Apache-2.0
 * No method: the target as it is, the rival that every other must be compared with. */
#include <math.h>

#include "methods/methods.h"

static enum soothe_status apply(struct soothe__applied_method *m, struct llama_model *target, const char *target_path,
                                const struct soothe__method_options *options, struct soothe_error *err) {
    (void)target_path;
    if (options->calibrator_path)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "method none takes no calibrator (%s was given)",
                            options->calibrator_path);
    if (!isnan(options->strength) && options->strength != 0.0f)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "method none has no strength (%g was given)",
                            (double)options->strength);
    struct soothe_session_params params = soothe_session_params_default();
    params.context                      = options->context;
    params.strength                     = 0.0f;
    return soothe_session_new(&m->session, target, NULL, &params, err);
}

const struct soothe__method soothe__method_none = {
    .name = "none", .summary = "the target as it is", .apply = apply, .release = NULL};
