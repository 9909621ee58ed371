/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a LoRA file: refused with a sentence, or merged. */
#include <stdlib.h>
#include <unistd.h>

#include "edit/lora.h"
#include "input_file.h"
#include "tiny_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char  *model;
    struct soothe_error err = {.message = ""};
    char                out[64];
    llama_log_set(quiet, NULL);
    if (!model) {
        const struct tiny_options tiny = {.family = TINY_LLAMA, .d = 32, .n_blocks = 1, .seed = 4};
        model                          = fuzz_other_file();
        if (!tiny_model_write(model, &tiny))
            abort();
    }
    snprintf(out, sizeof out, "fuzz_lora_%d.out.gguf", (int)getpid());
    if (soothe__lora_merge(model, fuzz_input_file(data, size), 1, out, &err) && !err.message[0])
        abort();
    unlink(out);
    return 0;
}
