/* SPDX-License-Identifier: Apache-2.0
 * Folded characters to words without disguise. */
#include "score/text_forms.h"

#include <stdlib.h>
#include <string.h>

#include "score/text_fold.h"
#include "score/word_list.h"

enum { WORD_MAX = 64 }; /* longer runs of letters are taken as they are */

struct reading {
    struct soothe__text_form       *form;
    const struct soothe__word_list *list;
    const struct soothe__cell      *cells;
    size_t                          n;
    bool                            failed; /* out of memory */
};

static bool is_letter(const struct reading *r, size_t i) {
    return i < r->n && r->cells[i].kind == SOOTHE__CELL_LETTER;
}
static bool is_alnum(const struct reading *r, size_t i) {
    return i < r->n && (r->cells[i].kind == SOOTHE__CELL_LETTER || r->cells[i].kind == SOOTHE__CELL_DIGIT);
}
static bool is_space(const struct reading *r, size_t i) {
    return i >= r->n || r->cells[i].kind == SOOTHE__CELL_SPACE;
}
static bool is_one_of(const struct reading *r, size_t i, const char *signs) {
    return i < r->n && r->cells[i].c > 0 && r->cells[i].c < 0x80 && strchr(signs, (char)r->cells[i].c);
}

/* ---- adding words ------------------------------------------------------------------------------------ */

static void add_word(struct reading *r, const uint32_t *chars, size_t n, size_t first_cell, size_t end_cell,
                     bool letters) {
    struct soothe__text_form *f = r->form;
    if (!soothe__grow((void **)&f->chars, &f->capacity_chars, f->n_chars + n, sizeof *f->chars) ||
        !soothe__grow((void **)&f->words, &f->capacity_words, f->n_words + 1, sizeof *f->words)) {
        r->failed = true;
        return;
    }
    size_t n_letters = 0, n_capitals = 0;
    for (size_t i = first_cell; i < end_cell; i++) {
        n_letters += r->cells[i].kind == SOOTHE__CELL_LETTER;
        n_capitals += r->cells[i].capital;
    }
    memcpy(f->chars + f->n_chars, chars, n * sizeof *chars);
    f->words[f->n_words++] = (struct soothe__word){.first   = (uint32_t)f->n_chars,
                                                   .n       = (uint32_t)n,
                                                   .start   = r->cells[first_cell].start,
                                                   .end     = r->cells[end_cell - 1].end,
                                                   .letters = letters,
                                                   .shouted = n_letters > 1 && n_capitals == n_letters};
    f->n_chars += n;
}

static void add_special(struct reading *r, uint32_t c, size_t first, size_t end) {
    add_word(r, &c, 1, first, end, false);
}

static void add_ascii(struct reading *r, const char *word, size_t n, size_t first, size_t end) {
    uint32_t chars[WORD_MAX];
    for (size_t i = 0; i < n; i++)
        chars[i] = (unsigned char)word[i];
    add_word(r, chars, n, first, end, true);
}

/* ---- taking disguises off a word ------------------------------------------------------------------------ */

/* The letter that a digit or sign stands for; one is what "1", "!" and "|" are read as. */
static char unleet(uint32_t c, char one) {
    switch (c) {
    case '0':
        return 'o';
    case '1':
    case '!':
    case '|':
        return one;
    case '3':
        return 'e';
    case '4':
    case '@':
        return 'a';
    case '5':
    case '$':
        return 's';
    case '7':
    case '+':
        return 't';
    case '8':
        return 'b';
    default:
        return c < 0x80 ? (char)c : '?';
    }
}

static bool has_run(const uint32_t *chars, size_t n, size_t length) {
    size_t run = 1;
    for (size_t i = 1; i < n; i++) {
        run = chars[i] == chars[i - 1] ? run + 1 : 1;
        if (run >= length)
            return true;
    }
    return false;
}

static bool all_lower(const char *word, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (word[i] < 'a' || word[i] > 'z')
            return false;
    return true;
}

/* The listed word that these characters are a writing of, or NULL: leetspeak and repeats. */
static const char *find_listed(const struct reading *r, const uint32_t *chars, size_t n) {
    static const char ones[] = {'i', 'l'};
    if (!r->list || n < 2 || n > WORD_MAX)
        return NULL;
    for (size_t k = 0; k < sizeof ones; k++) {
        char word[WORD_MAX];
        bool changed = false;
        for (size_t i = 0; i < n; i++) {
            word[i] = unleet(chars[i], ones[k]);
            changed = changed || (uint32_t)word[i] != chars[i];
        }
        if (!all_lower(word, n))
            return NULL;
        const char *listed = soothe__listed(r->list, word, n, false);
        if (!listed && has_run(chars, n, 3))
            listed = soothe__listed(r->list, word, n, true);
        if (listed || !changed)
            return listed;
    }
    return NULL;
}

/* Digits and signs between letters are letters ("h3llo"), those at the ends are not ("covid19", "2nd"). */
static size_t plain_letters(uint32_t *out, const uint32_t *chars, size_t n) {
    size_t first = n, last = 0, m = 0, run = 0;
    for (size_t i = 0; i < n; i++)
        if ((chars[i] >= 'a' && chars[i] <= 'z') || chars[i] >= 0x80) {
            first = first < i ? first : i;
            last  = i;
        }
    for (size_t i = 0; i < n; i++) {
        const bool     inside = i > first && i < last && chars[i] < 0x80 && chars[i] != '*';
        const uint32_t c      = inside ? (unsigned char)unleet(chars[i], 'i') : chars[i];
        run                   = m && out[m - 1] == c ? run + 1 : 1;
        if (run >= 3 && c != '*') { /* "sooo" is "so" */
            m = run == 3 ? m - 1 : m;
            continue;
        }
        out[m++] = c;
    }
    return m;
}

static void add_resolved(struct reading *r, const uint32_t *chars, size_t n, size_t first, size_t end) {
    uint32_t    plain[WORD_MAX];
    const char *listed;
    if (n > WORD_MAX) {
        add_word(r, chars, n, first, end, true);
        return;
    }
    listed = find_listed(r, chars, n);
    if (listed)
        add_ascii(r, listed, strlen(listed), first, end);
    else
        add_word(r, plain, plain_letters(plain, chars, n), first, end, true);
}

/* ---- kinds of words; each returns the cell after it, or 0 where there is none of its kind ------------------ */

static size_t starts_with(const struct reading *r, size_t i, const char *word) {
    size_t k = 0;
    while (word[k] && i + k < r->n && r->cells[i + k].c == (uint32_t)word[k])
        k++;
    return word[k] ? 0 : k;
}

static size_t read_address(struct reading *r, size_t i) {
    if (!starts_with(r, i, "http://") && !starts_with(r, i, "https://") && !starts_with(r, i, "www."))
        return 0;
    size_t end = i;
    while (!is_space(r, end))
        end++;
    add_special(r, SOOTHE__WORD_ADDRESS, i, end);
    return end;
}

static bool letterlike(const struct reading *r, size_t i) {
    return is_letter(r, i) || is_one_of(r, i, "@$01345!");
}

/* "i d i o t", "i.d.i.o.t" */
static size_t read_spelled(struct reading *r, size_t i) {
    uint32_t word[WORD_MAX];
    size_t   n = 0, n_letters = 0, at = i;
    if (!letterlike(r, i) || i + 4 >= r->n || r->cells[i + 1].kind == SOOTHE__CELL_LETTER)
        return 0;
    const uint32_t sep = r->cells[i + 1].c;
    if (sep >= 0x80 || !strchr(" .-_*/,|~+", (int)sep) || sep == 0)
        return 0;
    for (;;) {
        word[n++] = r->cells[at].c;
        n_letters += is_letter(r, at);
        if (n == WORD_MAX || at + 2 >= r->n || r->cells[at + 1].c != sep || !letterlike(r, at + 2) ||
            is_alnum(r, at + 3))
            break;
        at += 2;
    }
    if (n < 3 || 2 * n_letters <= n || is_alnum(r, at + 1))
        return 0;
    const bool article = (word[0] == 'a' || word[0] == 'i') && n > 3 && !find_listed(r, word, n);
    const bool two     = article && find_listed(r, word + 1, n - 1); /* "a f o o l" */
    if (two)
        add_word(r, word, 1, i, i + 1, true);
    add_resolved(r, word + two, n - two, two ? i + 2 : i, at + 1);
    return at + 1;
}

/* "st*pid", "s-----": must fit a listed word. */
static size_t read_masked(struct reading *r, size_t i) {
    static const char masks[] = "*@$!-#%"; /* signs in the place of a letter */
    char              pattern[WORD_MAX];
    uint32_t          chars[WORD_MAX];
    size_t            end = i, n_letters = 0, n_stars = 0, n_digits = 0, n = 0;
    while (end < r->n && end - i <= WORD_MAX &&
           (is_alnum(r, end) || is_one_of(r, end, masks) || is_one_of(r, end, "'")))
        end++; /* no further: this is asked at every word of a run */
    while (end > i && (is_one_of(r, end - 1, "!'") || (is_one_of(r, end - 1, "-") && !is_one_of(r, end - 2, "-"))))
        end--;
    if (!r->list || end < i + 3 || end - i > WORD_MAX)
        return 0;
    for (size_t k = i; k < end; k++) {
        if (r->cells[k].c == '\'')
            continue;
        chars[n]   = r->cells[k].c;
        pattern[n] = is_letter(r, k) && chars[n] < 0x80 ? (char)chars[n] : '*';
        n_letters += pattern[n] != '*';
        n_digits += r->cells[k].kind == SOOTHE__CELL_DIGIT;
        n_stars += chars[n] == '*' || chars[n] == '#' || chars[n] == '%' || chars[n] == '@' || chars[n] == '$';
        n++;
    }
    if (n_letters == n || n_letters == 0)
        return 0;
    const char *listed = find_listed(r, chars, n);
    if (r->cells[i].c == '@' && is_one_of(r, end, "_"))
        return 0; /* a mention */
    if (!listed && n_digits == 0 && !is_one_of(r, i, "@-#!%") && (n_stars || (n > 3 && n_letters > 1)))
        listed = soothe__listed_masked(r->list, pattern, n);
    if (!listed)
        return 0;
    add_ascii(r, listed, strlen(listed), i, end);
    return end;
}

static size_t read_mention(struct reading *r, size_t i) {
    size_t end = i + 1;
    if (r->cells[i].c != '@' || !is_alnum(r, i + 1))
        return 0;
    while (is_alnum(r, end) || is_one_of(r, end, "_"))
        end++;
    add_special(r, SOOTHE__WORD_MENTION, i, end);
    return end;
}

/* Where the letters from i on end, or i + max + 1 where there are more than max. */
static size_t letters_end(const struct reading *r, size_t i, size_t max) {
    const size_t last = i + max;
    while (i <= last && is_letter(r, i) && r->cells[i].c < 0x80)
        i++;
    return i;
}

static bool is_little_word(const struct reading *r, size_t i, size_t end) {
    static const char little[] = " a i am an as at be by do go he if in is it me my no of on or so to up us we and are "
                                 "but can did for had has her him his how its let may not now off one our out she the "
                                 "too was way who why you ";
    char              word[8]  = " ";
    if (end - i > 4)
        return false;
    for (size_t k = i; k < end; k++)
        word[1 + k - i] = (char)r->cells[k].c;
    word[1 + end - i] = ' ';
    word[2 + end - i] = '\0';
    return strstr(little, word) != NULL;
}

/* "stu pid": two short pieces that make a listed word, and are not two little words of the language. */
static size_t read_split(struct reading *r, size_t i) {
    char         word[16];
    const size_t middle = letters_end(r, i, 4);
    if (!r->list || middle == i || middle - i > 4 || middle + 1 >= r->n || r->cells[middle].c != ' ')
        return 0;
    const size_t end = letters_end(r, middle + 1, 5), n = end - i - 1;
    if (end == middle + 1 || end - middle > 6 || is_alnum(r, end) || n < 4)
        return 0;
    for (size_t k = 0; k < n; k++)
        word[k] = (char)r->cells[i + k + (i + k >= middle)].c;
    const char *listed = soothe__listed(r->list, word, n, false);
    if (!listed || (is_little_word(r, i, middle) && is_little_word(r, middle + 1, end)))
        return 0;
    if (soothe__listed(r->list, word, middle - i, false) ||
        soothe__listed(r->list, word + (middle - i), end - middle - 1, false))
        return 0;                                              /* what is said is said by one of them */
    if (is_little_word(r, i, middle) && end - middle - 1 >= 3) /* "as sass" has its own second word */
        return 0;
    add_ascii(r, listed, n, i, end);
    return end;
}

/* Letters and digits with apostrophes inside, and the signs that stand for letters. */
static size_t read_plain(struct reading *r, size_t i) {
    uint32_t word[4 * WORD_MAX];
    size_t   end = i, n = 0, n_digits = 0;
    if (!is_alnum(r, i) && !(is_one_of(r, i, "$@*") && is_letter(r, i + 1)))
        return 0;
    while (end < r->n && n < 4 * WORD_MAX) {
        const bool inner = is_alnum(r, end + 1);
        if (!is_alnum(r, end) && !(is_one_of(r, end, "'@$!") && inner) && r->cells[end].c != '*')
            break;
        if (r->cells[end].c != '\'') {
            n_digits += r->cells[end].kind == SOOTHE__CELL_DIGIT;
            word[n++] = r->cells[end].c;
        }
        end++;
    }
    if (n_digits == n)
        add_special(r, SOOTHE__WORD_NUMBER, i, end);
    else
        add_resolved(r, word, n, i, end);
    return end;
}

/* A sign is a word; the same one again and again is told from one alone. */
static size_t read_sign(struct reading *r, size_t i) {
    const uint32_t chars[2] = {r->cells[i].c, r->cells[i].c};
    size_t         end      = i + 1;
    while (end < r->n && r->cells[end].c == chars[0] && r->cells[end].kind == SOOTHE__CELL_SIGN)
        end++;
    add_word(r, chars, end - i > 1 ? 2 : 1, i, end, false);
    return end;
}

enum soothe_status soothe__text_form_read(struct soothe__text_form *form, const char *text, size_t size,
                                          const struct soothe__word_list *list, struct soothe_error *err) {
    form->n_chars = form->n_words = 0;
    enum soothe_status status     = soothe__text_fold(form, text, size, err);
    if (status)
        return status;
    struct reading r = {.form = form, .list = list, .cells = form->cells, .n = form->n_cells};
    for (size_t i = 0; i < r.n && !r.failed;) {
        size_t next = i + 1;
        if (!is_space(&r, i) && !(next = read_address(&r, i)) && !(next = read_spelled(&r, i)) &&
            !(next = read_masked(&r, i)) && !(next = read_mention(&r, i)) && !(next = read_split(&r, i)) &&
            !(next = read_plain(&r, i)))
            next = read_sign(&r, i);
        i = next;
    }
    if (r.failed)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a text of %zu bytes", size);
    return SOOTHE_OK;
}

void soothe__text_form_free(struct soothe__text_form *form) {
    free(form->chars);
    free(form->words);
    free(form->cells);
    memset(form, 0, sizeof *form);
}

uint64_t soothe__text_form_hash(const struct soothe__text_form *form) {
    char                   hex[65];
    struct soothe__sha256 *h   = soothe__sha256_new();
    static const uint32_t  gap = ' ';
    if (!h)
        return 0;
    for (size_t i = 0; i < form->n_words; i++) {
        soothe__sha256_add(h, form->chars + form->words[i].first, form->words[i].n * sizeof *form->chars);
        soothe__sha256_add(h, &gap, sizeof gap);
    }
    soothe__sha256_finish(h, hex);
    hex[16] = '\0';
    return strtoull(hex, NULL, 16);
}
