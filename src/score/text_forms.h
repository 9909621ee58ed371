/* SPDX-License-Identifier: Apache-2.0
 * Normal forms of text: what a reader sees, whatever the bytes are. Words in lower case without accents, with the usual
 * disguises taken off, each with the bytes of the text that it came from.
 *
 *   Unicode      compatibility forms, case, marks and invisible characters (libutf8proc: NFKC, case folding), and
 *                Cyrillic, Greek and other letters that look like Latin ones
 *   spelled out  "i d i o t", "i.d.i.o.t": three or more single letters with the same sign between them are a word
 *   leetspeak    "1d10t", "$tupid"
 *   repeats      "stuuupid"
 *   masked       "st*pid", "s*****": by a list of words worth recognising, which comes with the scorer
 *   HTML         entities ("&amp;"); an address, an @mention and a number are one word each
 *
 * thread  any; a form belongs to one thread at a time */
#ifndef SOOTHE_TEXT_FORMS_H
#define SOOTHE_TEXT_FORMS_H

#include "base/base.h"

/* ---- words that disguises are resolved to ------------------------------------------------------ */

enum { SOOTHE__LISTED_MAX = 24, SOOTHE__LIST_MAX = 4096 }; /* letters of a word; words of a list */

struct soothe__word_list {
    size_t n;
    char (*words)[SOOTHE__LISTED_MAX]; /* a-z alone, the likeliest first */
    uint16_t *slots;                   /* by hash of the word with runs of a letter cut to one; 0: empty */
    size_t    n_slots;                 /* a power of two */
};

/* words  (n) of a to z, 2 to 23 letters each; others are an error
 * errors SOOTHE_E_FORMAT, SOOTHE_E_MEMORY */
enum soothe_status soothe__word_list_new(struct soothe__word_list *list, const char *const *words, size_t n,
                                         struct soothe_error *err);
void               soothe__word_list_free(struct soothe__word_list *list); /* also of a zeroed one */

/* ---- the form of a text ------------------------------------------------------------------------- */

/* Words that stand for what is not spelled (private use characters, one each). */
enum { SOOTHE__WORD_ADDRESS = 0xE001, SOOTHE__WORD_MENTION, SOOTHE__WORD_NUMBER };

struct soothe__word {
    uint32_t first, n;   /* its characters in .chars                     */
    uint32_t start, end; /* the bytes of the text that it stands for; a character that
                            unfolds to several words is in each of them */
    bool letters;        /* false: punctuation, or one of the words above */
    bool shouted;        /* two or more letters, all of them capitals     */
};

struct soothe__cell; /* one folded character with the bytes that it came from */

struct soothe__text_form {
    uint32_t            *chars; /* Unicode code points */
    size_t               n_chars, capacity_chars;
    struct soothe__word *words;
    size_t               n_words, capacity_words;
    struct soothe__cell *cells;
    size_t               n_cells, capacity_cells;
};

/* Fills form (zeroed before its first use, used again and again after) with the words of the text.
 * text    any bytes; what is no UTF-8 is read as U+FFFD
 * list    NULL: masked words stay masked
 * errors  SOOTHE_E_MEMORY; SOOTHE_E_ARGUMENT a text of 1 GiB or more */
enum soothe_status soothe__text_form_read(struct soothe__text_form *form, const char *text, size_t size,
                                          const struct soothe__word_list *list, struct soothe_error *err);
void               soothe__text_form_free(struct soothe__text_form *form); /* also of a zeroed one */

/* The SHA-256 of the text's words, by which equal texts are told in whatever writing: 64 bits of it. */
uint64_t soothe__text_form_hash(const struct soothe__text_form *form);

#endif /* SOOTHE_TEXT_FORMS_H */
