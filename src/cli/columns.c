/* SPDX-License-Identifier: Apache-2.0
 * Text in columns of a terminal: a character may take none, one or two of them. */
#define _XOPEN_SOURCE 700
#define _DEFAULT_SOURCE
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "cli/speak.h"

enum { WIDTH_DEFAULT = 100, WIDTH_MAX = 1000, COLUMN_MIN = 8 };

int soothe__terminal_width(FILE *out) {
    struct winsize size;
    const char    *columns = getenv("COLUMNS");
    int64_t        width;
    if (isatty(fileno(out)) && ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return columns && soothe__parse_int64(&width, columns, 20, WIDTH_MAX) ? (int)width : WIDTH_DEFAULT;
}

/* The character at s and its size in bytes; the text is valid UTF-8. */
static wchar_t character(const char *s, size_t *size) {
    const unsigned char *u = (const unsigned char *)s;
    const size_t         n = u[0] < 0x80 ? 1 : u[0] < 0xE0 ? 2 : u[0] < 0xF0 ? 3 : 4;
    uint32_t             c = n == 1 ? u[0] : u[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++)
        c = c << 6 | (u[i] & 0x3Fu);
    *size = n;
    return (wchar_t)c;
}

static bool is_control(wchar_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0);
}

static int columns_of(wchar_t c) {
    const int n = is_control(c) ? 1 : wcwidth(c);
    return n < 0 ? 1 : n;
}

/* One line of at most width columns from *at on, which moves behind it; false at the end of the text. */
static bool next_line(const char **at, int width, const char **line, size_t *size) {
    const char *s = *at;
    while (*s == ' ' || *s == '\n' || *s == '\r')
        s++;
    if (!*s)
        return false;
    const char *space = NULL, *begin = s;
    int         used = 0;
    size_t      n;
    while (*s && *s != '\n') {
        const wchar_t c = character(s, &n);
        if (c == ' ')
            space = s;
        if (used + columns_of(c) > width && s > begin) {
            s = space && space > begin ? space : s;
            break;
        }
        used += columns_of(c);
        s += n;
    }
    *line = begin;
    *size = (size_t)(s - begin);
    *at   = s;
    return true;
}

/* Prints it and returns the columns that it took. */
static int print_line(FILE *out, const char *line, size_t size) {
    int    used = 0;
    size_t n;
    for (size_t i = 0; i < size; i += n) {
        const wchar_t c = character(line + i, &n);
        if (is_control(c))
            fputc(' ', out);
        else
            fwrite(line + i, 1, n, out);
        used += columns_of(c);
    }
    return used;
}

/* wcwidth asks the locale; only the widths of UTF-8 are wanted of it. */
static locale_t use_utf8(locale_t *before) {
    const locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    *before             = utf8 ? uselocale(utf8) : (locale_t)0;
    return utf8;
}

static void use_again(locale_t before, locale_t utf8) {
    if (utf8) {
        uselocale(before);
        freelocale(utf8);
    }
}

void soothe__print_columns(FILE *out, const char *left, const char *right, int width) {
    const int      half = (width - 3) / 2 < COLUMN_MIN ? COLUMN_MIN : (width - 3) / 2;
    locale_t       before;
    const locale_t utf8 = use_utf8(&before);
    const char    *l, *r;
    size_t         n_l, n_r;
    for (;;) {
        const bool more_l = next_line(&left, half, &l, &n_l);
        const bool more_r = next_line(&right, half, &r, &n_r);
        if (!more_l && !more_r)
            break;
        const int used = more_l ? print_line(out, l, n_l) : 0;
        fprintf(out, "%*s |%s", half - used, "", more_r ? " " : "");
        if (more_r)
            print_line(out, r, n_r);
        fputc('\n', out);
    }
    use_again(before, utf8);
}

void soothe__print_wrapped(FILE *out, const char *text, int width, int indent) {
    locale_t       before;
    const locale_t utf8 = use_utf8(&before);
    const char    *line;
    size_t         n;
    const int      inner = width - indent < COLUMN_MIN ? COLUMN_MIN : width - indent;
    for (bool first = true; next_line(&text, inner, &line, &n); first = false) {
        fprintf(out, "%*s", first ? 0 : indent, "");
        print_line(out, line, n);
        fputc('\n', out);
    }
    use_again(before, utf8);
}

void soothe__print_rule(FILE *out, int width) {
    for (int i = 0; i < width; i++)
        fputc('-', out);
    fputc('\n', out);
}
