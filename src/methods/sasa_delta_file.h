/* SPDX-License-Identifier: Apache-2.0
 * The file of SASA's delta form (docs/format.md): for sasa_delta.c, sasa_fit.c and tests. */
#ifndef SOOTHE_SASA_DELTA_FILE_H
#define SOOTHE_SASA_DELTA_FILE_H

#include "engine/engine.h"

struct soothe__sasa_delta {
    int32_t d;
    float  *u;            /* (d) */
    char    target[65];   /* soothe__model_fingerprint */
    char    subspace[65]; /* SHA-256 of the probe that gave the margins */
    char    target_name[128];
};

/* errors  SOOTHE_E_FORMAT no such file; SOOTHE_E_NUMERIC numbers that are not finite */
enum soothe_status soothe__sasa_delta_read(struct soothe__sasa_delta *delta, const char *path,
                                           struct soothe_error *err);
enum soothe_status soothe__sasa_delta_write(const struct soothe__sasa_delta *delta, const char *path,
                                            const struct soothe__fact *facts, size_t n_facts, struct soothe_error *err);
void               soothe__sasa_delta_free(struct soothe__sasa_delta *delta);

/* Hands on the input embedding e (d) of every token of a model's file, in order. */
typedef void       soothe__take_embedding(void *user, int32_t token, const float *e);
enum soothe_status soothe__token_embeddings(const char *model_path, int32_t d, soothe__take_embedding *take, void *user,
                                            int32_t *n_vocab, struct soothe_error *err);

#endif /* SOOTHE_SASA_DELTA_FILE_H */
