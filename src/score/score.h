/* SPDX-License-Identifier: Apache-2.0
 * Judging text: what the score area offers to the areas above it. */
#ifndef SOOTHE_SCORE_H
#define SOOTHE_SCORE_H

#include "score/command_scorer.h"
#include "score/lexicon.h"

#endif /* SOOTHE_SCORE_H */
