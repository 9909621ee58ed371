/* SPDX-License-Identifier: Apache-2.0 */
#include "score/word_chars.h"

#include <string.h>
#include <utf8proc.h>

static enum soothe__char_class ascii(unsigned char c, char out[4], size_t *n) {
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z')) {
        out[0] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
        *n     = 1;
        return SOOTHE__CHAR_LETTER;
    }
    const bool separates = c == ' ' || (c >= '\t' && c <= '\r') || c == '-' || c == '_';
    return separates ? SOOTHE__CHAR_SEPARATOR : SOOTHE__CHAR_BREAK;
}

static enum soothe__char_class beyond_ascii(utf8proc_int32_t c, char out[4], size_t *n) {
    const utf8proc_category_t k = utf8proc_category(c);
    if ((k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NO)) { /* letters, marks, numbers */
        *n = (size_t)utf8proc_encode_char(utf8proc_tolower(c), (utf8proc_uint8_t *)out);
        return SOOTHE__CHAR_LETTER;
    }
    const bool separates = k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP;
    return separates ? SOOTHE__CHAR_SEPARATOR : SOOTHE__CHAR_BREAK;
}

/* How many bytes the character has that begins with this one; 0: none does. */
static size_t size_by_lead(unsigned char lead) {
    return lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
}

enum soothe__char_class soothe__word_char(struct soothe__word_chars *s, unsigned char byte, char out[4], size_t *n) {
    utf8proc_int32_t c;
    *n = 0;
    if (s->n_held > 0 && (byte & 0xC0) != 0x80)
        s->n_held = 0;
    if (s->n_held == 0 && byte < 0x80)
        return ascii(byte, out, n);
    if (s->n_held == 0 && size_by_lead(byte) == 0)
        return SOOTHE__CHAR_BREAK;
    s->held[s->n_held++] = byte;
    const size_t size    = size_by_lead(s->held[0]);
    if (s->n_held < size)
        return SOOTHE__CHAR_NONE;
    s->n_held = 0;
    return utf8proc_iterate(s->held, (utf8proc_ssize_t)size, &c) == (utf8proc_ssize_t)size ? beyond_ascii(c, out, n)
                                                                                           : SOOTHE__CHAR_BREAK;
}

bool soothe__fold_phrase(char out[SOOTHE__WORD_BYTES_MAX + 1], const char *text, size_t size) {
    struct soothe__word_chars chars = {.n_held = 0};
    size_t                    n = 0, n_words = 0;
    bool                      separated = true;
    for (size_t i = 0; i < size; i++) {
        char   c[4];
        size_t n_c;
        const enum soothe__char_class class = soothe__word_char(&chars, (unsigned char)text[i], c, &n_c);
        if (class == SOOTHE__CHAR_BREAK)
            return false;
        if (class == SOOTHE__CHAR_SEPARATOR)
            separated = true;
        if (class != SOOTHE__CHAR_LETTER)
            continue;
        if (n + n_c + 1 > SOOTHE__WORD_BYTES_MAX || (separated && ++n_words > SOOTHE__PHRASE_WORDS_MAX))
            return false;
        if (separated && n > 0)
            out[n++] = ' ';
        memcpy(out + n, c, n_c);
        n += n_c;
        separated = false;
    }
    out[n] = '\0';
    return n > 0;
}

bool soothe__next_word(struct soothe__word_at *w, const char *text, size_t size, size_t *position) {
    struct soothe__word_chars chars = {.n_held = 0};
    size_t                    n = 0, i = *position;
    bool                      too_long = false;
    w->joined                          = i > 0;
    for (; i < size; i++) {
        char   c[4];
        size_t n_c;
        const enum soothe__char_class class = soothe__word_char(&chars, (unsigned char)text[i], c, &n_c);
        if (class == SOOTHE__CHAR_LETTER) {
            w->start = n == 0 && !too_long ? i + 1 - (n_c > 1 ? n_c : 1) : w->start;
            too_long = too_long || n + n_c > SOOTHE__WORD_BYTES_MAX;
            if (!too_long)
                memcpy(w->word + n, c, n_c);
            n += too_long ? 0 : n_c;
            w->end = i + 1;
        } else if (class != SOOTHE__CHAR_NONE) {
            if (n > 0 && !too_long)
                break;
            w->joined = w->joined && !too_long && class == SOOTHE__CHAR_SEPARATOR;
            too_long  = false;
            n         = 0;
        }
    }
    *position  = n > 0 && !too_long ? w->end : i;
    w->word[n] = '\0';
    return n > 0 && !too_long;
}
