/* SPDX-License-Identifier: Apache-2.0
 * The figures that tell whether surgery is worth something: the model before and after, and the three controls. */
#ifndef SOOTHE_CLI_SURGERY_CONTROLS_H
#define SOOTHE_CLI_SURGERY_CONTROLS_H

#include "eval/spot_check.h"
#include "methods/surgery.h"

enum { SOOTHE__CONTROLS = 5 };
struct soothe__control_row {
    const char                 *name;
    struct soothe__spot_figures figures;
};

/* Each edit is laid over the model in a file without a name, and measured.  rows  (SOOTHE__CONTROLS) */
enum soothe_status soothe__surgery_controls(struct soothe__control_row *rows, const char *model_path,
                                            const struct soothe__probe           *probe,
                                            const struct soothe__surgery_options *options,
                                            const struct soothe__spot_check *what, struct soothe_error *err);

#endif /* SOOTHE_CLI_SURGERY_CONTROLS_H */
