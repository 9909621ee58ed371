/* SPDX-License-Identifier: Apache-2.0
 * Fixed weights of a core, kept in memory as their GGUF has them and turned into numbers when a product needs them. */
#ifndef SOOTHE_FILE_WEIGHTS_H
#define SOOTHE_FILE_WEIGHTS_H

#include "engine/engine.h"
#include "train/train_core.h"

/* AS_FILE: the file's own types, of its own size. The other two only for comparison (bench_lora.c). */
enum soothe__weight_form { SOOTHE__AS_FILE, SOOTHE__AS_BF16, SOOTHE__AS_F32 };

struct soothe__file_weights;

/* g stays open until the last core that reads from it is made: a matrix is read when a core asks for it. One that
 * cannot be read is not found, so that the core keeps it itself and whoever fills the core meets the error. */
enum soothe_status soothe__file_weights_new(struct soothe__file_weights **w, const struct soothe__gguf *g,
                                            enum soothe__weight_form form, struct soothe_error *err);
void               soothe__file_weights_free(struct soothe__file_weights *w); /* NULL is fine */
size_t             soothe__file_weights_memory(const struct soothe__file_weights *w);
/* For options.fixed; owned by w. */
const struct soothe__fixed_weights *soothe__file_weights_source(const struct soothe__file_weights *w);

#endif /* SOOTHE_FILE_WEIGHTS_H */
