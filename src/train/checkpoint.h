/* SPDX-License-Identifier: Apache-2.0
 * A training run on disk, to be gone on with: a GGUF with general.type = "soothe-checkpoint". */
#ifndef SOOTHE_CHECKPOINT_H
#define SOOTHE_CHECKPOINT_H

#include "engine/engine.h"

struct soothe__checkpoint_array {
    char   name[64]; /* "m.blk.0.attn_q.weight" */
    float *values;
    size_t n;
};

struct soothe__checkpoint {
    char     run[65]; /* hash of all that decides the result: options, data, models, tool version */
    uint64_t step;    /* steps done */
    struct soothe__checkpoint_array *arrays;
    size_t                           n_arrays;
};

/* Written beside and renamed. */
enum soothe_status soothe__checkpoint_save(const char *path, const struct soothe__checkpoint *c,
                                           struct soothe_error *err);

/* Fills c->step and the arrays' values; run and the arrays' names and sizes say what must be there.
 * errors  SOOTHE_E_MISMATCH of another run; SOOTHE_E_FORMAT damaged. The arrays are then undefined. */
enum soothe_status soothe__checkpoint_load(const char *path, struct soothe__checkpoint *c, struct soothe_error *err);

/* Is it a checkpoint, of whatever run?  errors  SOOTHE_E_FORMAT */
enum soothe_status soothe__checkpoint_check(const char *path, struct soothe_error *err);

#endif /* SOOTHE_CHECKPOINT_H */
