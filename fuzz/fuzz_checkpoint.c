/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a checkpoint: refused with a sentence, or loaded. */
#include <stdlib.h>

#include "input_file.h"
#include "train/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    float                           values[2][8];
    struct soothe_error             err      = {.message = ""};
    struct soothe__checkpoint_array arrays[] = {{"w.x", values[0], 8}, {"m.x", values[1], 5}};
    struct soothe__checkpoint       c        = {.run = "fuzz", .arrays = arrays, .n_arrays = 2};
    llama_log_set(quiet, NULL);
    if (soothe__checkpoint_load(fuzz_input_file(data, size), &c, &err) && !err.message[0])
        abort();
    return 0;
}
