/* SPDX-License-Identifier: Apache-2.0
 * A turn of a chat in the words of the model's own template. */
#include <stdlib.h>
#include <string.h>

#include "generate/generate.h"

enum soothe_status soothe__chat_prompt(char **text, const struct llama_model *model, const char *system,
                                       const char *user, struct soothe_error *err) {
    struct llama_chat_message messages[2];
    size_t                    n = 0;
    const char *template        = llama_model_chat_template(model, NULL);
    *text                       = NULL;
    if (!template)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "the model has no chat template: it takes plain text only");
    if (system && *system)
        messages[n++] = (struct llama_chat_message){"system", system};
    messages[n++] = (struct llama_chat_message){"user", user};

    const int32_t size = llama_chat_apply_template(template, messages, n, true, NULL, 0);
    if (size < 0)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "the engine does not know the model's chat template (it begins \"%.60s\")", template);
    char *out = soothe__calloc((size_t)size + 1, 1);
    if (!out)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a prompt of %d bytes", size);
    llama_chat_apply_template(template, messages, n, true, out, size + 1);
    *text = out;
    return SOOTHE_OK;
}
