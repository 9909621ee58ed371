/* SPDX-License-Identifier: Apache-2.0
 * A vocabulary out of a file that nobody vouches for, before the engine reads it: the engine ends the process over a
 * token that is there twice, and trusts some arrays' types. */
#ifndef SOOTHE_VOCABULARY_CHECK_H
#define SOOTHE_VOCABULARY_CHECK_H

#include "engine/engine.h"

/* Byte-level BPE and SentencePiece only.
 * errors  SOOTHE_E_FORMAT, SOOTHE_E_UNSUPPORTED another kind, SOOTHE_E_MEMORY */
enum soothe_status soothe__vocabulary_check(const struct soothe__gguf *g, struct soothe_error *err);

#endif /* SOOTHE_VOCABULARY_CHECK_H */
