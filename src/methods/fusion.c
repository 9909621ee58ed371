/* SPDX-License-Identifier: Apache-2.0
 * Output-layer fusion with a calibrator (docs/fusion.md). */
#include "methods/calibrator_link.h"

static enum soothe_status open_calibrator(struct soothe__link *l, const struct soothe__method_target *target,
                                          struct llama_context_params *context, struct soothe_error *err) {
    (void)context;
    const struct soothe__calibrator_source source = {.calibrator = soothe__link_value(l, "calibrator")->text,
                                                     .base       = soothe__link_value(l, "base")->text,
                                                     .alignment  = soothe__link_value(l, "alignment")->text,
                                                     .shipped    = soothe__default_calibrator,
                                                     .option     = "--calibrator, or take --method none"};
    return soothe__link_open_calibrator(l, &source, target->path, err);
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
    .attach     = soothe__link_attach_calibrator,
    .release    = soothe__link_release_calibrator};
