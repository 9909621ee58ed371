/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a control vector for a tiny target: refused with a sentence, or read. */
#include <stdlib.h>

#include "fusion/control_vector.h"
#include "input_file.h"
#include "tiny_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

/* scripts/make_fuzz_corpus.sh makes the corpus from the same. */
static const char *target(void) {
    static bool made;
    if (!made && !tiny_model_write(fuzz_other_file(), &(struct tiny_options){.seed = 1, .d = 32, .n_blocks = 2}))
        abort();
    made = true;
    return fuzz_other_file();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct soothe__control_vector *v;
    struct soothe_error            err = {.message = ""};
    llama_log_set(quiet, NULL);
    const enum soothe_status status = soothe__control_vector_open(&v, fuzz_input_file(data, size), target(), &err);
    if (status ? v || !err.message[0] : !v)
        abort();
    soothe__control_vector_free(v);
    return 0;
}
