/* SPDX-License-Identifier: Apache-2.0
 * Output-layer fusion with a calibrator (docs/fusion.md). */
#include <math.h>
#include <stdlib.h>

#include "fusion/fusion.h"
#include "fusion/stage.h"
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

static enum soothe_status open_calibrator(struct soothe__link *l, const struct soothe__method_target *target,
                                          struct llama_context_params *context, struct soothe_error *err) {
    (void)context;
    struct soothe_calibrator       *cal    = NULL;
    struct soothe_calibrator_params params = soothe_calibrator_params_default();
    const char                     *path   = soothe__link_value(l, "calibrator")->text;
    params.base_path                       = soothe__link_value(l, "base")->text;
    params.alignment_path                  = soothe__link_value(l, "alignment")->text;
    const enum soothe_status status        = path || params.alignment_path
                                                 ? soothe_calibrator_open(&cal, path, target->path, &params, err)
                                                 : open_default(&cal, target->path, &params, err);
    if (status)
        return status;
    const float strength = soothe__link_number(l, "strength");
    l->state             = cal;
    l->source            = cal->path;
    l->strength          = isnan(strength) ? cal->default_strength : strength;
    return SOOTHE_OK;
}

static enum soothe_status attach(struct soothe__link *l, struct soothe_session *session, struct soothe_error *err) {
    return soothe__session_add_calibrator(session, l->state, l->strength, 0, err);
}

static void release(void *state) {
    soothe_calibrator_free(state);
}

static const struct soothe__parameter PARAMETERS[] = {
    {"strength", SOOTHE__NUMBER, NULL, -100, 100, NULL, "0: plain; what the calibrator recommends if not given"},
    {"calibrator", SOOTHE__FILE, NULL, 0, 0, NULL, "a calibrator's file; the shipped one where it fits if not given"},
    {"base", SOOTHE__FILE, NULL, 0, 0, NULL, "base of a packed calibrator, if not the target itself"},
    {"alignment", SOOTHE__FILE, NULL, 0, 0, NULL, "matrices that soothe align fitted for this target"},
    {.name = NULL}};

const struct soothe__method soothe__method_fusion = {
    .name       = "fusion",
    .summary    = "a calibrator's final state fused into the target's",
    .stage      = "state",
    .cost       = "the calibrator's blocks; without blocks one d x d product",
    .source     = "Detoxification of LLMs through Output-layer Fusion with a Calibration Model, 2025",
    .parameters = PARAMETERS,
    .open       = open_calibrator,
    .attach     = attach,
    .release    = release};
