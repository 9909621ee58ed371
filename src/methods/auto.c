/* SPDX-License-Identifier: Apache-2.0
 * The combination that our comparison recommends (docs/methods/auto.md). */
#include "methods/methods.h"

const struct soothe__method soothe__method_auto = {.name       = "auto",
                                                   .summary    = "the combination that our comparison recommends",
                                                   .stage      = "gate, state, logits",
                                                   .cost       = "two d x d products, and a table of words",
                                                   .source     = "docs/methods/auto.md",
                                                   .stands_for = "cfl+gate+fusion:strength=1.75"};
