/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a calibrator for a tiny target: refused with a sentence, or opened. Also as the target itself, as
 * far as soothe reads it. What the engine does with a model that soothe let through is part of the test. */
#include <stdlib.h>

#include "engine/engine.h"
#include "input_file.h"
#include "tiny_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

/* The target of the corpus: scripts/make_fuzz_corpus.sh makes its calibrators from the same. */
static const char *target(void) {
    static bool made;
    if (!made && !tiny_model_write(fuzz_other_file(), &(struct tiny_options){.seed = 1, .d = 32, .n_blocks = 1}))
        abort();
    made = true;
    return fuzz_other_file();
}

static void read_as_target(const char *path) {
    struct soothe__gguf        g;
    struct soothe__model_facts facts;
    struct soothe_error        err = {.message = ""};
    char                       hex[65];
    if (soothe__gguf_open(&g, path, &err)) {
        if (!err.message[0])
            abort();
        return;
    }
    if (soothe__model_facts(&facts, &g, &err) == SOOTHE_OK && soothe__model_fingerprint(hex, &g, &err) == SOOTHE_OK)
        soothe__tokenizer_hash(hex, &g);
    soothe__gguf_close(&g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct soothe_calibrator *cal;
    struct soothe_error       err = {.message = ""};
    llama_log_set(quiet, NULL);
    const char              *path   = fuzz_input_file(data, size);
    const enum soothe_status status = soothe_calibrator_open(&cal, path, target(), NULL, &err);
    if (status ? cal || !err.message[0] : !cal)
        abort();
    soothe_calibrator_free(cal);
    read_as_target(path);
    return 0;
}
