/* SPDX-License-Identifier: Apache-2.0
 * A control vector: one direction for the output of each block but the first, in llama.cpp's own file format (tensors
 * "direction.1" … of general.architecture "controlvector"), so that other programs can load ours and we theirs. Ours
 * say beside which model they belong to. */
#ifndef SOOTHE_CONTROL_VECTOR_H
#define SOOTHE_CONTROL_VECTOR_H

#include "engine/engine.h"

struct soothe__control_vector {
    int32_t d, n_layers; /* layers 1 to n_layers */
    float  *values;      /* (n_layers, d) row-major; row i is layer i + 1's, as llama_set_adapter_cvec takes it */
    float   strength;    /* what the file recommends; 1 where it does not say */
    char   *path;
};

/* model_path  the model it is for: a file that names another one is refused, one that names none must fit in width and
 *             number of layers
 * errors      SOOTHE_E_FORMAT no control vector, SOOTHE_E_MISMATCH, SOOTHE_E_SHAPE, SOOTHE_E_NUMERIC */
enum soothe_status soothe__control_vector_open(struct soothe__control_vector **v, const char *path,
                                               const char *model_path, struct soothe_error *err);
void               soothe__control_vector_free(struct soothe__control_vector *v); /* NULL is fine */
/* For that model, in F32. */
enum soothe_status soothe__control_vector_write(const char *path, const struct soothe__control_vector *v,
                                                const char *model_path, const struct soothe__fact *facts,
                                                size_t n_facts, struct soothe_error *err);

#endif /* SOOTHE_CONTROL_VECTOR_H */
