/* SPDX-License-Identifier: Apache-2.0 */
#include "methods/calibrator_link.h"

#include <math.h>
#include <stdlib.h>

#include "fusion/fusion.h"
#include "fusion/stage.h"

/* The shipped file was made for one model: elsewhere the way on is told. */
static enum soothe_status open_shipped(struct soothe_calibrator **cal, const char *path, const char *option,
                                       const char *target_path, const struct soothe_calibrator_params *params,
                                       struct soothe_error *err) {
    struct soothe_error      why;
    const enum soothe_status status = soothe_calibrator_open(cal, path, target_path, params, &why);
    if (status == SOOTHE_E_MISMATCH || status == SOOTHE_E_SHAPE)
        return soothe__fail(err, status,
                            "the shipped calibrator does not fit %s: give one made for it by %s. In full: %.600s",
                            target_path, option, why.message);
    return status ? soothe__fail(err, status, "%s", why.message) : SOOTHE_OK;
}

enum soothe_status soothe__calibrator_source_open(struct soothe_calibrator              **cal,
                                                  const struct soothe__calibrator_source *source,
                                                  const char *target_path, struct soothe_error *err) {
    struct soothe_calibrator_params params = soothe_calibrator_params_default();
    char                           *found  = NULL;
    const bool                      given  = source->calibrator || source->alignment;
    params.base_path                       = source->base;
    params.alignment_path                  = source->alignment;
    *cal                                   = NULL;
    enum soothe_status status              = given ? SOOTHE_OK : source->shipped(&found, err);
    if (!status)
        status = given ? soothe_calibrator_open(cal, source->calibrator, target_path, &params, err)
                       : open_shipped(cal, found, source->option, target_path, &params, err);
    free(found);
    return status;
}

enum soothe_status soothe__link_open_calibrator(struct soothe__link *l, const struct soothe__calibrator_source *source,
                                                const char *target_path, struct soothe_error *err) {
    struct soothe_calibrator *cal;
    const enum soothe_status  status = soothe__calibrator_source_open(&cal, source, target_path, err);
    if (status)
        return status;
    const float strength = (float)l->values[0].number;
    l->state             = cal;
    l->source            = cal->path;
    l->strength          = isnan(strength) ? cal->default_strength : strength;
    return SOOTHE_OK;
}

enum soothe_status soothe__link_attach_calibrator(struct soothe__link *l, struct soothe_session *session,
                                                  struct soothe_error *err) {
    return soothe__session_add_calibrator(session, l->state, l->strength, 0, err);
}

void soothe__link_release_calibrator(void *state) {
    soothe_calibrator_free(state);
}
