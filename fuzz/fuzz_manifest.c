/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a manifest of models: refused with a sentence, or taken with every field in bounds. */
#include <stdlib.h>
#include <string.h>

#include "pull/pull.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct soothe__manifest *m;
    struct soothe_error      err = {.message = ""};
    if (soothe__manifest_parse(&m, (const char *)data, size, "fuzz", &err)) {
        if (m || !err.message[0])
            abort();
        return 0;
    }
    for (size_t i = 0; i < m->n_models; i++) {
        const struct soothe__model *model = &m->models[i];
        if (strchr(model->file, '/') || model->file[0] == '.' || strlen(model->sha256) != 64 || model->size <= 0)
            abort();
        if (soothe__manifest_find(m, model->name) != model || !model->n_parts)
            abort();
        for (size_t k = 0; k < model->n_parts; k++)
            if (!*model->parts[k].source || model->parts[k].size < 0)
                abort();
        if (strlen(model->title) + strlen(model->license) + strlen(model->license_text) + strlen(model->license_note) ==
            0)
            abort();
    }
    soothe__manifest_free(m);
    return 0;
}
