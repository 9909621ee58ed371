/* SPDX-License-Identifier: Apache-2.0
 * Soft labels of a training step: the distribution that a model is held to at KL rows. */
#ifndef SOOTHE_SOFT_LABELS_H
#define SOOTHE_SOFT_LABELS_H

#include "base/base.h"

enum { SOOTHE__SOFT_WIDTH_MAX = 16384 }; /* d: two states lie on the stack */

/* What the KL texts hold the model to, where that is not the model as it was, p: the distribution nearest to p under
 * which texts succeed,
 *     log q(v) = log p(v) + strength log sigmoid(E_v . u + o) - norm,
 * u (d) and o of the state h (d) that p was computed from, E the model's head: acft. docs/methods/acft.md. */
struct soothe__soft_labels {
    /* Fills u, returns o; several threads at once. NULL: q = p. */
    float (*state)(const void *user, const float *h, float *u);
    const void *user;
    float       strength;
    const char *identity; /* of all that decides the function, for the run's hash */
};

/* Makes of the logits z (n_vocab) of a reference those of its soft labels.
 * head  (n_vocab, d) bf16;  h, u  (d), u is scratch */
void soothe__soften(const struct soothe__soft_labels *soft, const uint16_t *head, const float *h, float *u,
                    int32_t n_vocab, int32_t d, float *z);

#endif /* SOOTHE_SOFT_LABELS_H */
