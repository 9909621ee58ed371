/* SPDX-License-Identifier: Apache-2.0
 * Output-layer fusion with a calibrator (docs/fusion.md). */
#include <math.h>
#include <stdlib.h>

#include "fusion/fusion.h"
#include "methods/methods.h"

/* The shipped calibrator was made for one model: elsewhere the way on is told. */
static enum soothe_status open_default(struct soothe_calibrator **cal, const char *target_path,
                                       const struct soothe_calibrator_params *params, struct soothe_error *err) {
    char               *path;
    struct soothe_error why;
    enum soothe_status  status = soothe__default_calibrator(&path, err);
    if (status)
        return status;
    status = soothe_calibrator_open(cal, path, target_path, params, &why);
    free(path);
    if (status == SOOTHE_E_MISMATCH || status == SOOTHE_E_SHAPE)
        return soothe__fail(err, status,
                            "the shipped calibrator does not fit %s: give one made for it by --calibrator, or take "
                            "--method none. In full: %.600s",
                            target_path, why.message);
    if (status)
        soothe__fail(err, status, "%s", why.message);
    return status;
}

static enum soothe_status apply(struct soothe__applied_method *m, struct llama_model *target, const char *target_path,
                                const struct soothe__method_options *options, struct soothe_error *err) {
    struct soothe_calibrator       *cal    = NULL;
    struct soothe_calibrator_params opened = soothe_calibrator_params_default();
    opened.base_path                       = options->base_path;
    enum soothe_status status              = options->calibrator_path
                                                 ? soothe_calibrator_open(&cal, options->calibrator_path, target_path, &opened, err)
                                                 : open_default(&cal, target_path, &opened, err);
    if (status)
        return status;
    m->state    = cal;
    m->source   = cal->path;
    m->strength = isnan(options->strength) ? cal->default_strength : options->strength;

    struct soothe_session_params params = soothe_session_params_default();
    params.context                      = options->context;
    params.strength                     = m->strength;
    return soothe_session_new(&m->session, target, cal, &params, err);
}

static void release(void *state) {
    soothe_calibrator_free(state);
}

const struct soothe__method soothe__method_fusion = {.name    = "fusion",
                                                     .summary = "a calibrator's final state fused into the target's",
                                                     .apply   = apply,
                                                     .release = release};
