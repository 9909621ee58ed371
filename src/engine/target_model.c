/* SPDX-License-Identifier: Apache-2.0
 * Loading the model that is to speak. The file is looked at before the engine sees it: the engine's own
 * refusals say less. */
#include <string.h>

#include "engine/engine.h"
#include "engine/target_model.h"

static enum soothe_status check_file(const char *path, struct soothe_error *err) {
    struct soothe__gguf g;
    enum soothe_status  status = soothe__gguf_open(&g, path, err);
    if (status)
        return status;
    const char *type = soothe__gguf_find_string(&g, "general.type");
    if (type && !strncmp(type, "soothe-", 7))
        status = soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                              "%s is a %s, not a model that can speak: it belongs behind --calibrator", path, type);
    else if (!soothe__gguf_find_string(&g, "general.architecture"))
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s names no general.architecture: not a language model", path);
    soothe__gguf_close(&g);
    return status;
}

/* Metadata alone, as the engine's own estimate of memory is made. */
enum soothe_status soothe__target_check(const char *path, struct soothe_error *err) {
    struct llama_model_params params = llama_model_default_params();
    params.no_alloc                  = true;
    params.load_mode                 = LLAMA_LOAD_MODE_NONE;
    struct llama_model *model        = llama_model_load_from_file(path, params);
    llama_model_free(model);
    return model ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_UNSUPPORTED, "the engine cannot load %s", path);
}

enum soothe_status soothe__target_load(struct llama_model **model, const char *path, int32_t n_gpu_layers,
                                       struct soothe_error *err) {
    *model                          = NULL;
    const enum soothe_status status = check_file(path, err);
    if (status)
        return status;
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers              = n_gpu_layers;
    struct llama_model *loaded       = llama_model_load_from_file(path, params);
    if (!loaded)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "the engine cannot load %s (SOOTHE_VERBOSE=1 shows what it says about it)", path);
    if (!llama_model_has_decoder(loaded)) {
        llama_model_free(loaded);
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s has no decoder: it cannot speak", path);
    }
    *model = loaded;
    return SOOTHE_OK;
}
