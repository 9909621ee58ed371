/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a probe, as a combination of scorers and as a SASA delta: refused with a sentence, or read. No scorer is
 * opened. */
#include <stdlib.h>

#include "input_file.h"
#include "methods/sasa_delta_file.h"
#include "score/polar.h"
#include "score/probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

/* A state of ones goes through what was read. */
static void use_probe(const struct soothe__probe *p) {
    float *state = soothe__calloc((size_t)p->d, sizeof *state);
    if (!state)
        return;
    for (int32_t i = 0; i < p->d; i++)
        state[i] = 1;
    const double risk = soothe__probe_risk(p, state);
    if (!(risk >= 0 && risk <= 1))
        abort();
    free(state);
}

static void use_polar(const struct soothe__polar *p) {
    float *features = soothe__calloc((size_t)p->harmoniser.n_features, sizeof *features);
    if (features)
        (void)soothe__harmoniser_logit(&p->harmoniser, features);
    free(features);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct soothe__probe *probe;
    struct soothe__polar  polar;
    struct soothe_error   err = {.message = ""};
    llama_log_set(quiet, NULL);
    const char              *path   = fuzz_input_file(data, size);
    const enum soothe_status status = soothe__probe_open(&probe, path, NULL, &err);
    if (status ? probe || !err.message[0] : !probe)
        abort();
    if (probe)
        use_probe(probe);
    soothe__probe_free(probe);
    err.message[0] = '\0';
    if (soothe__polar_read(&polar, path, &err) == SOOTHE_OK)
        use_polar(&polar);
    else if (!err.message[0])
        abort();
    soothe__polar_free(&polar);
    struct soothe__sasa_delta delta;
    err.message[0] = '\0';
    if (soothe__sasa_delta_read(&delta, path, &err) == SOOTHE_OK ? delta.d < 1 || !delta.u : !err.message[0])
        abort();
    soothe__sasa_delta_free(&delta);
    return 0;
}
