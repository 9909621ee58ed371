/* SPDX-License-Identifier: Apache-2.0 */
#include "train/soft_labels.h"

#include <math.h>
#include <string.h>

/* Here, so that the loop around it is vectors. */
static inline float from_bf16(uint16_t x) {
    const uint32_t bits = (uint32_t)x << 16;
    float          y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

static float dot(const uint16_t *a, const float *b, int32_t n) {
    float sums[16] = {0}, sum = 0; /* in this shape the compiler uses vectors */
    for (int32_t i = 0; i + 16 <= n; i += 16)
        for (int32_t k = 0; k < 16; k++)
            sums[k] += from_bf16(a[i + k]) * b[i + k];
    for (int32_t i = n - n % 16; i < n; i++)
        sum += from_bf16(a[i]) * b[i];
    for (int32_t k = 0; k < 16; k++)
        sum += sums[k];
    return sum;
}

void soothe__soften(const struct soothe__soft_labels *soft, const uint16_t *head, const float *h, float *u,
                    int32_t n_vocab, int32_t d, float *z) {
    const float offset = soft->state(soft->user, h, u);
    for (int32_t v = 0; v < n_vocab; v++) {
        const float g = dot(head + (size_t)v * (size_t)d, u, d) + offset;
        z[v] -= soft->strength * (g > 0 ? log1pf(expf(-g)) : log1pf(expf(g)) - g); /* -log sigmoid(g) */
    }
}
