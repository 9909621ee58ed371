/* SPDX-License-Identifier: Apache-2.0
 * The model, the edit, and what is put in its place: a random direction, random rows, the other sign. */
#include "cli/surgery_controls.h"

#include <stdlib.h>

static enum soothe_status measure(struct soothe__spot_figures *f, const char *model_path,
                                  const struct soothe__probe *probe, const struct soothe__surgery_options *o,
                                  const struct soothe__spot_check *what, struct soothe_error *err) {
    struct soothe__diff          *diff   = NULL;
    struct soothe__surgery_report report = {0};
    char                         *laid   = NULL;
    enum soothe_status            status = soothe__surgery(&diff, &report, model_path, probe, o, NULL, 0, err);
    if (!status)
        status = soothe__diff_lay_one(&laid, diff, model_path, NULL, err);
    if (!status)
        status = soothe__spot_check(f, laid, what, err);
    soothe__diff_let_go(laid);
    soothe__diff_free(diff);
    soothe__surgery_report_free(&report);
    return status;
}

enum soothe_status soothe__surgery_controls(struct soothe__control_row *rows, const char *model_path,
                                            const struct soothe__probe           *probe,
                                            const struct soothe__surgery_options *options,
                                            const struct soothe__spot_check *what, struct soothe_error *err) {
    static const char *const names[SOOTHE__CONTROLS] = {"plain", "surgery", "random direction", "random rows",
                                                        "sign flip"};
    struct soothe__progress  progress                = soothe__progress_start();
    enum soothe_status       status                  = SOOTHE_OK;
    for (int i = 0; i < SOOTHE__CONTROLS && !status; i++) {
        struct soothe__surgery_options o = *options;
        soothe__progress_update(&progress, (double)i / SOOTHE__CONTROLS, names[i]);
        if (i == 2)
            o.control = SOOTHE__SURGERY_RANDOM_DIRECTION;
        if (i == 3)
            o.control = SOOTHE__SURGERY_RANDOM_ROWS;
        if (i == 4)
            o.strength = -o.strength;
        rows[i].name = names[i];
        status       = i == 0 ? soothe__spot_check(&rows[i].figures, model_path, what, err)
                              : measure(&rows[i].figures, model_path, probe, &o, what, err);
    }
    soothe__progress_finish(&progress);
    return status;
}
