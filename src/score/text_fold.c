/* SPDX-License-Identifier: Apache-2.0 */
#include "score/text_fold.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { FOLDED_MAX = 64 }; /* of one character: U+FDFA, the longest, has 18 */

bool soothe__grow(void **array, size_t *capacity, size_t n_wanted, size_t size) {
    if (n_wanted <= *capacity)
        return true;
    size_t n = *capacity ? *capacity : 256;
    while (n < n_wanted)
        n *= 2;
    void *larger = soothe__realloc(*array, n, size);
    if (!larger)
        return false;
    *array    = larger;
    *capacity = n;
    return true;
}

/* ---- letters that look like Latin ones ------------------------------------------------------------ */

/* After case folding; sorted by code point. What NFKC folds already (full width, mathematical letters) is not here. */
static const struct {
    uint32_t c;
    char     latin;
} LOOKALIKES[] = {
    {0x00DF, 's'}, {0x00E6, 'a'}, {0x00F8, 'o'}, {0x0111, 'd'}, {0x0127, 'h'}, {0x0131, 'i'}, {0x0142, 'l'},
    {0x0180, 'b'}, {0x0192, 'f'}, {0x0251, 'a'}, {0x0253, 'b'}, {0x0257, 'd'}, {0x025B, 'e'}, {0x0261, 'g'},
    {0x0269, 'i'}, {0x026A, 'i'}, {0x026F, 'w'}, {0x0274, 'n'}, {0x0280, 'r'}, {0x028B, 'u'}, {0x028F, 'y'},
    {0x029F, 'l'}, {0x03B1, 'a'}, {0x03B2, 'b'}, {0x03B5, 'e'}, {0x03B9, 'i'}, {0x03BA, 'k'}, {0x03BD, 'v'},
    {0x03BF, 'o'}, {0x03C1, 'p'}, {0x03C3, 'o'}, {0x03C4, 't'}, {0x03C5, 'u'}, {0x03C7, 'x'}, {0x03C9, 'w'},
    {0x03F2, 'c'}, {0x03F3, 'j'}, {0x0430, 'a'}, {0x0432, 'b'}, {0x0433, 'r'}, {0x0435, 'e'}, {0x043A, 'k'},
    {0x043C, 'm'}, {0x043D, 'h'}, {0x043E, 'o'}, {0x043F, 'n'}, {0x0440, 'p'}, {0x0441, 'c'}, {0x0442, 't'},
    {0x0443, 'y'}, {0x0445, 'x'}, {0x0448, 'w'}, {0x044C, 'b'}, {0x0454, 'e'}, {0x0455, 's'}, {0x0456, 'i'},
    {0x0458, 'j'}, {0x0461, 'w'}, {0x0475, 'v'}, {0x04AF, 'y'}, {0x04BB, 'h'}, {0x04CF, 'l'}, {0x0501, 'd'},
    {0x051B, 'q'}, {0x051D, 'w'}, {0x0561, 'w'}, {0x0566, 'q'}, {0x0570, 'h'}, {0x0578, 'n'}, {0x057D, 'u'},
    {0x0581, 'g'}, {0x0585, 'o'}, {0x1D00, 'a'}, {0x1D04, 'c'}, {0x1D05, 'd'}, {0x1D07, 'e'}, {0x1D0A, 'j'},
    {0x1D0B, 'k'}, {0x1D0D, 'm'}, {0x1D0F, 'o'}, {0x1D18, 'p'}, {0x1D1B, 't'}, {0x1D1C, 'u'}, {0x1D20, 'v'},
    {0x1D21, 'w'}, {0x1D22, 'z'}, {0xA730, 'f'}, {0xA731, 's'},
};

static uint32_t to_latin(uint32_t c) {
    size_t lo = 0, hi = sizeof LOOKALIKES / sizeof *LOOKALIKES;
    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        if (LOOKALIKES[mid].c < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < sizeof LOOKALIKES / sizeof *LOOKALIKES && LOOKALIKES[lo].c == c ? (uint32_t)LOOKALIKES[lo].latin : c;
}

/* Squared and regional letters, which NFKC leaves or folds into brackets; typographic signs to those of ASCII. */
static uint32_t plain_sign(uint32_t c) {
    if (c >= 0x1F130 && c <= 0x1F149)
        return 'a' + (c - 0x1F130);
    if (c >= 0x1F150 && c <= 0x1F169)
        return 'a' + (c - 0x1F150);
    if (c >= 0x1F170 && c <= 0x1F189)
        return 'a' + (c - 0x1F170);
    if (c >= 0x1F1E6 && c <= 0x1F1FF)
        return 'a' + (c - 0x1F1E6);
    if (c == 0x2018 || c == 0x2019 || c == 0x02BC || c == 0x00B4 || c == '`')
        return '\'';
    if (c == 0x201C || c == 0x201D || c == 0x00AB || c == 0x00BB)
        return '"';
    if (c >= 0x2010 && c <= 0x2015)
        return '-';
    if (c == 0x2022 || c == 0x00B7 || c == 0x2217 || c == 0x22C6 || c == 0x2605 || c == 0x2606 || c == 0x2731)
        return '*';
    return c;
}

/* ---- cells ------------------------------------------------------------------------------------------ */

static uint8_t kind_of(uint32_t c) {
    if (c < 0x80) {
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
            return SOOTHE__CELL_LETTER;
        if (c >= '0' && c <= '9')
            return SOOTHE__CELL_DIGIT;
        return c <= ' ' || c == 0x7F ? SOOTHE__CELL_SPACE : SOOTHE__CELL_SIGN;
    }
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
        return SOOTHE__CELL_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return SOOTHE__CELL_DIGIT;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_CC:
        return SOOTHE__CELL_SPACE;
    default:
        return SOOTHE__CELL_SIGN;
    }
}

static bool push(struct soothe__text_form *form, uint32_t c, size_t start, size_t end, bool capital) {
    if (!soothe__grow((void **)&form->cells, &form->capacity_cells, form->n_cells + 1, sizeof *form->cells))
        return false;
    form->cells[form->n_cells++] = (struct soothe__cell){c, (uint32_t)start, (uint32_t)end, kind_of(c), capital};
    return true;
}

/* A character beyond ASCII, by libutf8proc. */
static bool push_folded(struct soothe__text_form *form, utf8proc_int32_t c, size_t start, size_t end) {
    utf8proc_int32_t   folded[FOLDED_MAX];
    int                boundary = 0;
    const uint32_t     plain    = plain_sign((uint32_t)c);
    const bool         capital  = utf8proc_category(c) == UTF8PROC_CATEGORY_LU;
    const unsigned int options =
        UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE | UTF8PROC_STRIPMARK;
    if (plain != (uint32_t)c)
        return push(form, plain, start, end, false);
    const utf8proc_ssize_t n = utf8proc_decompose_char(c, folded, FOLDED_MAX, (utf8proc_option_t)options, &boundary);
    for (utf8proc_ssize_t i = 0; i < n && i < FOLDED_MAX; i++)
        if (!push(form, to_latin(plain_sign((uint32_t)folded[i])), start, end, capital))
            return false;
    return true;
}

/* The character of an HTML entity at the start of text, and its length; 0 if there is none. */
static size_t entity(const char *text, size_t size, utf8proc_int32_t *c) {
    static const struct {
        const char *name;
        char        c;
    } named[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}, {"&nbsp;", ' '}};
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        const size_t n = strlen(named[i].name);
        if (size >= n && memcmp(text, named[i].name, n) == 0) {
            *c = named[i].c;
            return n;
        }
    }
    uint32_t value = 0;
    size_t   i     = 2;
    if (size < 4 || text[1] != '#')
        return 0;
    while (i < size && i < 9 && text[i] >= '0' && text[i] <= '9')
        value = value * 10 + (uint32_t)(text[i++] - '0');
    if (i == 2 || i >= size || text[i] != ';' || value < 32 || value > 0x10FFFF ||
        !utf8proc_codepoint_valid((utf8proc_int32_t)value))
        return 0;
    *c = (utf8proc_int32_t)value;
    return i + 1;
}

enum soothe_status soothe__text_fold(struct soothe__text_form *form, const char *text, size_t size,
                                     struct soothe_error *err) {
    form->n_cells = 0;
    if (size >= (size_t)1 << 30)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a text of %zu bytes is too long to be scored (under 1 GiB)", size);
    for (size_t i = 0; i < size;) {
        const unsigned char byte = (unsigned char)text[i];
        utf8proc_int32_t    c    = byte;
        size_t              n    = byte == '&' ? entity(text + i, size - i, &c) : 0;
        bool                ok;
        if (n == 0 && byte >= 0x80) {
            const utf8proc_ssize_t got =
                utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(size - i), &c);
            n = got > 0 ? (size_t)got : 1;
            if (got <= 0)
                c = 0xFFFD;
        }
        n = n ? n : 1;
        if (c >= 0x80)
            ok = push_folded(form, c, i, i + n);
        else if (c >= 'A' && c <= 'Z')
            ok = push(form, (uint32_t)(c - 'A' + 'a'), i, i + n, true);
        else
            ok = push(form, c == '`' ? '\'' : (uint32_t)c, i, i + n, false);
        if (!ok)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a text of %zu bytes", size);
        i += n;
    }
    return SOOTHE_OK;
}
