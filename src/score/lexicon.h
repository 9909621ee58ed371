/* SPDX-License-Identifier: Apache-2.0
 * A built-in list of English swear words, slurs and insults: a scorer that needs no file, and the
 * masking of toxic words for display. Sources: THIRD_PARTY.md; figures: bench/bench_lexicon.c.
 *
 * Words are matched whole, in any case, with plurals and verb forms, with the usual disguises
 * ("sh1t", "f**k", "f u c k", "fuuuck"), and a few strong words inside longer ones ("absofuckinglutely").
 * Blind to anything said without a listed word; names of groups of people are no listed words.
 *
 * text    any bytes, need not end in zero
 * thread  any */
#ifndef SOOTHE_LEXICON_H
#define SOOTHE_LEXICON_H

#include <stddef.h>

/* 1 - prod over the hits of (1 - p(severity)), in [0,1); 0 without a listed word. */
double soothe__lexicon_score(const char *text, size_t size);

/* Listed words and phrases in the text, mild ones included. */
size_t soothe__lexicon_count(const char *text, size_t size);

/* The text with each crude word as first letter and asterisks ("f***"), byte for byte as long as
 * before and zero-terminated; mere insults ("idiot") stay readable. NULL when out of memory; free(). */
char *soothe__mask_toxic(const char *text, size_t size);

/* The i-th listed word or phrase in lower case, in the list's order; NULL behind the last. */
const char *soothe__lexicon_word(size_t i);
/* The severity (0.1 to 3) of a text that is one listed word or phrase, or a form of one, from its first byte to its
 * last; 0: it is none. */
double soothe__lexicon_severity(const char *word);

/* Adds the list itself to a hash that changes whenever a score might. */
struct soothe__sha256;
void soothe__lexicon_hash(struct soothe__sha256 *hash);

#endif /* SOOTHE_LEXICON_H */
