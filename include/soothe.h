/* SPDX-License-Identifier: Apache-2.0
 *
 * soothe - makes a language model less toxic while it speaks, without retraining it.
 *
 * A small *calibrator* runs beside the *target* model; its final hidden state is fused into
 * the target's final hidden state just before the target's output head. The engine is
 * llama.cpp; soothe adds to it and takes nothing away: every llama.cpp call stays usable.
 *
 *     struct soothe_error err;
 *     struct soothe_calibrator *cal;
 *     struct soothe_session    *s;
 *     struct soothe_session_params p = soothe_session_params_default();
 *
 *     if (soothe_calibrator_open(&cal, "cal.gguf", "target.gguf", target, &err)) die(err.message);
 *     if (soothe_session_new(&s, target, cal, &p, &err))                         die(err.message);
 *     while (...) {
 *         if (soothe_decode(s, batch, &err)) die(err.message);     // was: llama_decode(ctx, batch)
 *         token = llama_sampler_sample(chain, soothe_session_context(s), -1);
 *     }
 *     soothe_session_free(s);
 *     soothe_calibrator_free(cal);
 *
 * The header is in the order in which a caller meets things. Legend used throughout:
 *   T tokens, V vocabulary, d_tgt width of the target's final state, d_cal of the calibrator's,
 *   h_t final state of the target (after its last norm; node `result_norm` of the engine),
 *   h_c final state of the calibrator, alpha the strength (0 leaves the target untouched).
 */
#ifndef SOOTHE_H
#define SOOTHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "llama.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SOOTHE_VERSION_MAJOR 0
#define SOOTHE_VERSION_MINOR 1
#define SOOTHE_VERSION_PATCH 0
#define SOOTHE_VERSION "0.1.0"

/* ---- errors ------------------------------------------------------------------------------
 * Functions that can fail return a status and, unless err is NULL, fill err with one sentence
 * that names the file, the value and what would be right. On failure an out parameter is set
 * to NULL and nothing is leaked. The library never prints, exits or aborts on bad input.     */
enum soothe_status {
    SOOTHE_OK = 0,
    SOOTHE_E_ARGUMENT,    /* a caller's value is out of range                              */
    SOOTHE_E_IO,          /* a file could not be read or written                           */
    SOOTHE_E_FORMAT,      /* a file is not what it claims to be, or is truncated           */
    SOOTHE_E_SHAPE,       /* widths or counts that must agree do not                       */
    SOOTHE_E_MISMATCH,    /* two files do not belong together (vocabulary, base hash)      */
    SOOTHE_E_UNSUPPORTED, /* an architecture, data type or option that soothe cannot serve */
    SOOTHE_E_MEMORY,      /* out of memory                                                 */
    SOOTHE_E_ENGINE,      /* the engine (llama.cpp) refused or failed                      */
    SOOTHE_E_NETWORK,     /* a download failed                                             */
    SOOTHE_E_INTERRUPTED, /* stopped by the caller; what was asked to be saved is saved    */
    SOOTHE_E_NUMERIC      /* NaN or infinity where a finite number must be                 */
};

struct soothe_error {
    enum soothe_status status;
    char               message[1024];
};

/* The name of a status, "SOOTHE_E_SHAPE"; never NULL; static storage. */
const char *soothe_status_name(enum soothe_status status);

#ifdef __cplusplus
}
#endif
#endif /* SOOTHE_H */
