/* SPDX-License-Identifier: Apache-2.0
 * The first step of a text's form: bytes to folded characters that know where they came from. */
#ifndef SOOTHE_TEXT_FOLD_H
#define SOOTHE_TEXT_FOLD_H

#include "score/text_forms.h"

enum soothe__cell_kind { SOOTHE__CELL_SPACE, SOOTHE__CELL_LETTER, SOOTHE__CELL_DIGIT, SOOTHE__CELL_SIGN };

struct soothe__cell {
    uint32_t c;          /* folded code point: lower case, no marks */
    uint32_t start, end; /* bytes of the text */
    uint8_t  kind;       /* enum soothe__cell_kind */
    bool     capital;
};

/* Fills form->cells. */
enum soothe_status soothe__text_fold(struct soothe__text_form *form, const char *text, size_t size,
                                     struct soothe_error *err);

/* Room for one more entry of an array that doubles; false when out of memory. */
bool soothe__grow(void **array, size_t *capacity, size_t n_wanted, size_t size);

#endif /* SOOTHE_TEXT_FOLD_H */
