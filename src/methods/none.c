/* SPDX-License-Identifier: Apache-2.0
 * No method: the target as it is, the rival that every other must be compared with. */
#include "methods/methods.h"

const struct soothe__method soothe__method_none = {
    .name = "none", .summary = "the target as it is", .stage = "none", .cost = "nothing", .source = "-"};
