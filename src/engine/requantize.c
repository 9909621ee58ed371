/* SPDX-License-Identifier: Apache-2.0
 * Why: a file made small for one token at a time is slow in batches (docs/experiments.md). */
#include "engine/requantize.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"

static const struct {
    const char      *name;
    enum llama_ftype ftype;
} TYPES[] = {{"q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},
             {"q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},
             {"bf16", LLAMA_FTYPE_MOSTLY_BF16},
             {"f16", LLAMA_FTYPE_MOSTLY_F16}};
enum { N_TYPES = sizeof TYPES / sizeof *TYPES };

const char *soothe__requantize_types(void) {
    return "q8_0, q4_0, bf16, f16";
}

/* Only whole files reach the engine. */
static enum soothe_status check_source(const char *path, struct soothe_error *err) {
    struct soothe__gguf        g;
    struct soothe__model_facts facts;
    enum soothe_status         status = soothe__gguf_open(&g, path, err);
    if (status)
        return status;
    status = soothe__model_facts(&facts, &g, err);
    soothe__gguf_close(&g);
    return status;
}

enum soothe_status soothe__requantize(const char *path, const char *type, const char *out_path,
                                      struct soothe_error *err) {
    size_t i = 0;
    while (i < N_TYPES && strcmp(TYPES[i].name, type))
        i++;
    if (i == N_TYPES)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "\"%s\" is no data type to convert to (%s)", type,
                            soothe__requantize_types());
    enum soothe_status status    = check_source(path, err);
    char              *temporary = soothe__format("%s.%ld.part", out_path, (long)getpid());
    if (!status && !temporary)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    struct llama_model_quantize_params p = llama_model_quantize_default_params();
    p.ftype                              = TYPES[i].ftype;
    p.allow_requantize                   = true;
    if (!status && llama_model_quantize(path, temporary, &p) != 0)
        status = soothe__fail(err, SOOTHE_E_ENGINE, "the engine cannot convert %s to %s at %s (is the disk full?)",
                              path, type, out_path);
    if (!status && rename(temporary, out_path) != 0)
        status = soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", out_path, strerror(errno));
    if (status && temporary)
        unlink(temporary);
    free(temporary);
    return status;
}
