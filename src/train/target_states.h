/* SPDX-License-Identifier: Apache-2.0
 * The final states of a corpus's texts, computed once each by the engine. */
#ifndef SOOTHE_TARGET_STATES_H
#define SOOTHE_TARGET_STATES_H

#include "corpus/corpus.h"

/* Final states h_t of the target that predict the counted tokens of a text: one row per token
 * first … n_tokens-1. The target runs once per text; rows are kept as bf16, in memory up to a bound
 * and in a temporary file beyond it. */
struct soothe__target_states;
struct llama_model;
struct soothe__train_core;

/* model and corpus must outlive it.
 * order         texts in the order in which they will be asked for; neighbours run in one batch. May be short
 * memory_bound  in bytes */
enum soothe_status soothe__target_states_new(struct soothe__target_states **t, struct llama_model *model,
                                             const struct soothe__corpus *corpus, const uint32_t *order, size_t n_order,
                                             int32_t n_threads, size_t memory_bound, struct soothe_error *err);
/* The same of a target that is itself in a core, by the core (soothe__train_base_states), which must outlive it and has
 * room for batches of soothe__target_states_room tokens, or the longest text's. */
enum soothe_status soothe__target_states_new_core(struct soothe__target_states **t, struct soothe__train_core *core,
                                                  int32_t d, const struct soothe__corpus *corpus, const uint32_t *order,
                                                  size_t n_order, size_t memory_bound, struct soothe_error *err);
int32_t            soothe__target_states_room(void);
/* From now on the calibrator runs beside the target, and its states h_c are kept, too; to be called first. It must have
 * blocks and outlive t; its matrices change nothing here. */
struct soothe_calibrator;
enum soothe_status soothe__target_states_follow(struct soothe__target_states *t, const struct soothe_calibrator *cal,
                                                struct soothe_error *err);
/* Keeps the states in a file from run to run (state_file.h) instead of in memory; to be called before the first
 * get. A text found there keeps the company in which it ran when it was added.
 * key  64 hex digits: of the target's file, or of target and calibrator */
enum soothe_status soothe__target_states_use_file(struct soothe__target_states *t, const char *path, const char *key,
                                                  struct soothe_error *err);
void               soothe__target_states_free(struct soothe__target_states *t);
int32_t            soothe__target_states_width(const struct soothe__target_states *t);
int32_t            soothe__target_states_width_calibrator(const struct soothe__target_states *t); /* 0: none */

/* Rows of the texts i_texts[0 … n) one after the other into h_t, (rows, d_tgt) bf16, and into h_c, (rows, d_cal), of
 * the calibrator where there is one (else NULL); missing ones are computed. A text's states do not depend on what was
 * asked for before: it always runs in the same company. */
enum soothe_status soothe__target_states_get(struct soothe__target_states *t, const uint32_t *i_texts, size_t n,
                                             uint16_t *h_t, uint16_t *h_c, struct soothe_error *err);

#endif /* SOOTHE_TARGET_STATES_H */
