/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a success head: refused with a sentence, or read and applied to a state of ones. */
#include <stdlib.h>

#include "input_file.h"
#include "methods/nado.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

static void use(const struct soothe__nado *n) {
    float *h = soothe__calloc((size_t)n->d, 2 * sizeof *h);
    if (!h)
        return;
    for (int32_t i = 0; i < n->d; i++)
        h[i] = 1;
    (void)soothe__nado_state(n, h, h + n->d);
    free(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct soothe__nado *n;
    struct soothe_error  err = {.message = ""};
    llama_log_set(quiet, NULL);
    const enum soothe_status status = soothe__nado_open(&n, fuzz_input_file(data, size), NULL, &err);
    if (status ? n || !err.message[0] : !n)
        abort();
    if (n)
        use(n);
    soothe__nado_free(n);
    return 0;
}
