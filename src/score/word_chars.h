/* SPDX-License-Identifier: Apache-2.0
 * Characters as tables of words see them, byte by byte, so that a text may end anywhere and go on later.
 *
 *   letter     letters and digits of any script, in lower case
 *   separator  spaces, line ends, '-' and '_': between the words of a phrase; a run of them counts as one
 *   break      everything else: ends a word, and no phrase goes over it ("ass's" has the word "ass")
 *
 * As in the lexicon (lexicon.c) no word begins in the midst of letters; unlike there, disguises are not taken off. */
#ifndef SOOTHE_WORD_CHARS_H
#define SOOTHE_WORD_CHARS_H

#include "base/base.h"

enum soothe__char_class { SOOTHE__CHAR_NONE, SOOTHE__CHAR_LETTER, SOOTHE__CHAR_SEPARATOR, SOOTHE__CHAR_BREAK };

/* The bytes of a character not yet whole; zeroed to begin. */
struct soothe__word_chars {
    unsigned char held[4];
    uint8_t       n_held;
};

/* Takes a byte. SOOTHE__CHAR_NONE: the character is not yet whole; of a letter: its folded bytes in out (*n). A byte
 * that can be part of no character is a break; a character that breaks off is passed over. */
enum soothe__char_class soothe__word_char(struct soothe__word_chars *s, unsigned char byte, char out[4], size_t *n);

enum { SOOTHE__WORD_BYTES_MAX = 63, SOOTHE__PHRASE_WORDS_MAX = 4 };

/* One to four words in the form in which tables hold them: folded, single spaces between. false: no letter, a break, or
 * too long. */
bool soothe__fold_phrase(char out[SOOTHE__WORD_BYTES_MAX + 1], const char *text, size_t size);

/* The words of a text, one after another. */
struct soothe__word_at {
    size_t start, end; /* bytes of the text */
    char   word[SOOTHE__WORD_BYTES_MAX + 1];
    bool   joined; /* nothing but separators since the word before */
};
/* Goes on from *position; false at the end. Words too long for a table are passed over. */
bool soothe__next_word(struct soothe__word_at *w, const char *text, size_t size, size_t *position);

#endif /* SOOTHE_WORD_CHARS_H */
