/* SPDX-License-Identifier: Apache-2.0
 * What the methods on tables of words share (word-filter, bad-words, cfl). */
#ifndef SOOTHE_TABLE_METHOD_H
#define SOOTHE_TABLE_METHOD_H

#include "methods/methods.h"
#include "methods/token_table.h"

/* Leaves a link ready whose strength is its first parameter's.
 * words    emptied in every case
 * bias     what is taken from a logit for weight 1; infinite: a ban
 * source   the table's file, or NULL; copied */
enum soothe_status soothe__table_method_open(struct soothe__link *l, const struct soothe__method_target *target,
                                             struct soothe__word_table *words, float bias, const char *source,
                                             struct soothe_error *err);
enum soothe_status soothe__table_method_attach(struct soothe__link *l, struct soothe_session *session,
                                               struct soothe_error *err);
void               soothe__table_method_release(void *state);

/* The words of parameter "words", all of them, with the weights that the list gives; or those of the lexicon from
 * parameter "severity" up, with weight 1. */
enum soothe_status soothe__bad_words_open(struct soothe__word_table *words, const struct soothe__link *l,
                                          struct soothe_error *err);

#endif /* SOOTHE_TABLE_METHOD_H */
