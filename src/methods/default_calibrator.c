/* SPDX-License-Identifier: Apache-2.0
 * Where the shipped calibrator lies. */
#include "methods/methods.h"

enum soothe_status soothe__default_calibrator(char **path, struct soothe_error *err) {
    return soothe__shipped_file(path, "default.calibrator.gguf", "calibrator",
                                "give one by --calibrator, or take --method none", err);
}
