/* SPDX-License-Identifier: Apache-2.0
 * Learning a control vector: direction_l = mean over pairs of (mean state of the chosen completion's tokens - that of
 * the rejected one's), at the output of each block l >= 1. One pass over the texts, no gradient. */
#ifndef SOOTHE_CONTROL_VECTOR_TRAIN_H
#define SOOTHE_CONTROL_VECTOR_TRAIN_H

#include <signal.h>

#include "base/base.h"

struct soothe__control_vector_request {
    const char                  *model_path, *out_path;
    const char *const           *data_paths; /* (n_data) files of pairs */
    size_t                       n_data;
    size_t                       n_pairs_max; /* the first so many; 0: all */
    int32_t                      max_length;  /* tokens of a text */
    int32_t                      n_threads;   /* 0: all */
    float                        strength;    /* recommended by the file written */
    bool                         show_progress;
    const volatile sig_atomic_t *stop; /* NULL: never */
};

struct soothe__control_vector_report {
    size_t  n_pairs;
    int64_t n_tokens;
    int32_t n_layers;
    double  seconds, norm_first, norm_middle, norm_last; /* of the directions of layers 1, the middle and the last */
};

enum soothe_status soothe__control_vector_train(const struct soothe__control_vector_request *request,
                                                struct soothe__control_vector_report *report, struct soothe_error *err);

#endif /* SOOTHE_CONTROL_VECTOR_TRAIN_H */
