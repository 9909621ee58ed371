/* SPDX-License-Identifier: Apache-2.0
 * Writing an n-gram scorer. The file is a GGUF:
 *   general.type "soothe-ngram-scorer", soothe.format_version 1
 *   soothe.ngram.bits, n_words, char_min, char_max, lexicon, window (u32), bias (f32), words (array of strings)
 *   soothe.ngram.scale  (array of f32, one a group): a code c is the weight  scale * sign(c) * (c/127)^2
 *   tensor weights      I8 (groups, 2^bits)
 * The square spends the codes where the weights are: most are small, a few are large. */
#ifndef SOOTHE_NGRAM_FILE_H
#define SOOTHE_NGRAM_FILE_H

#include "engine/engine.h"
#include "score/ngram_scorer.h"

/* A scorer without weights yet: codes zeroed, scales 1.  words (n) of the list.
 * errors  SOOTHE_E_ARGUMENT a shape out of range; those of soothe__word_list_new */
enum soothe_status soothe__ngram_new(struct soothe__ngram_scorer **scorer, const struct soothe__ngram_shape *shape,
                                     const char *const *words, size_t n, struct soothe_error *err);
/* Sets the weight that a code of 127 has in a group. */
void soothe__ngram_set_scale(struct soothe__ngram_scorer *scorer, int group, float scale);

/* facts  metadata to be written besides; may be NULL */
enum soothe_status soothe__ngram_save(const struct soothe__ngram_scorer *scorer, const struct gguf_context *facts,
                                      const char *path, struct soothe_error *err);

#endif /* SOOTHE_NGRAM_FILE_H */
