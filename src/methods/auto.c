/* SPDX-License-Identifier: Apache-2.0
 * The combination that our comparison recommends (docs/methods/auto.md). */
#include "methods/methods.h"

const struct soothe__method soothe__method_auto = {.name       = "auto",
                                                   .summary    = "the combination that our comparison recommends",
                                                   .stage      = "gate, state",
                                                   .cost       = "two d x d products",
                                                   .source     = "docs/methods/auto.md",
                                                   .stands_for = "gate+fusion:strength=2.5"};
