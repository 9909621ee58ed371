/* SPDX-License-Identifier: Apache-2.0
 * The model of -m, or the default one. */
#include "cli/speak.h"
#include "pull/pull.h"

enum soothe_status soothe__choose_model(char **path, const char *name, struct soothe_error *err) {
    if (name)
        return soothe__pull_model(path, name, err);
    struct soothe__manifest *manifest;
    *path                     = NULL;
    enum soothe_status status = soothe__manifest_open(&manifest, NULL, err);
    if (status)
        return status;
    status = *manifest->default_name
                 ? soothe__pull_model(path, manifest->default_name, err)
                 : soothe__fail(err, SOOTHE_E_ARGUMENT, "the list of models names no default: say which by -m");
    soothe__manifest_free(manifest);
    return status;
}
