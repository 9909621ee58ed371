/* SPDX-License-Identifier: Apache-2.0
 * The text of each sequence of a session, followed through its batches and changes of memory: for methods that judge
 * text. */
#ifndef SOOTHE_SEQUENCE_TEXT_H
#define SOOTHE_SEQUENCE_TEXT_H

#include "fusion/stage.h"

struct soothe__sequence_texts;

enum soothe_status soothe__sequence_texts_new(struct soothe__sequence_texts **t, const struct llama_vocab *vocab,
                                              struct soothe_error *err);
void               soothe__sequence_texts_free(struct soothe__sequence_texts *t); /* NULL is fine */
/* To be called in the stage's before and memory. */
enum soothe_status soothe__sequence_texts_before(struct soothe__sequence_texts *t, const struct soothe__step *step,
                                                 struct soothe_error *err);
void soothe__sequence_texts_change(struct soothe__sequence_texts *t, const struct soothe__memory_change *change);

/* The last n_last tokens (0: all) of a sequence up to and with position pos, as text, and one token more unless that is
 * LLAMA_TOKEN_NULL; fresh, NULL: out of memory. Valid UTF-8: what is part of a character yet to be whole is left out.
 */
char *soothe__sequence_text(const struct soothe__sequence_texts *t, llama_seq_id seq, llama_pos pos, int32_t n_last,
                            llama_token more);

#endif /* SOOTHE_SEQUENCE_TEXT_H */
