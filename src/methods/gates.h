/* SPDX-License-Identifier: Apache-2.0
 * Where a model keeps the gates of its MLPs: the rows whose product with the block's input goes through the activation
 * and is multiplied with the up projection's. */
#ifndef SOOTHE_GATES_H
#define SOOTHE_GATES_H

#include "engine/engine.h"

struct soothe__gate { /* the gate rows of one tensor */
    int64_t  i_tensor;
    int64_t  first_row, n_rows; /* of a fused gate and up projection the first half; of experts all of all */
    uint32_t block;
};
struct soothe__gates {
    struct soothe__gate *items;
    size_t               n;
    uint32_t             n_blocks;
    int64_t              d;
};

/* errors  SOOTHE_E_UNSUPPORTED a block has an MLP without a gate, or none that is known: the sentence names it */
enum soothe_status soothe__gates_find(struct soothe__gates *gates, const struct soothe__gguf *model,
                                      struct soothe_error *err);
void               soothe__gates_free(struct soothe__gates *gates); /* also of a zeroed one */

#endif /* SOOTHE_GATES_H */
