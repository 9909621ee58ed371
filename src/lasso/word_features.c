/* SPDX-License-Identifier: Apache-2.0
 * All occurrences are listed and sorted: no hash table, and the result does not depend on any order but the bytes'. */
#include "lasso/word_features.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_MAX = 64 }; /* bytes; what is longer is no word of a language */

/* ---- finding words -------------------------------------------------------------------------------------- */

static bool is_letter(unsigned char c) {
    return isalpha(c) || c >= 0x80;
}

static bool is_inner(const char *s) {
    return is_letter((unsigned char)*s) || isdigit((unsigned char)*s) || (*s == '\'' && is_letter((unsigned char)s[1]));
}

/* Where s goes on behind what is no text: @name, an address, an entity; s itself if there is none. */
static const char *pass_over(const char *s) {
    if (*s == '@' && (isalnum((unsigned char)s[1]) || s[1] == '_')) {
        while (isalnum((unsigned char)*++s) || *s == '_')
            ;
        return s;
    }
    if (!strncmp(s, "http://", 7) || !strncmp(s, "https://", 8))
        return s + strcspn(s, " \t\r\n");
    if (*s == '&') {
        const size_t n = strspn(s + 1, "#abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
        return n > 0 && n < 12 && s[1 + n] == ';' ? s + n + 2 : s;
    }
    return s;
}

/* The next word at or after *s into word, *s behind it; false at the end. */
static bool next_word(const char **s, char word[WORD_MAX + 1]) {
    while (**s) {
        const char *behind = pass_over(*s);
        if (behind != *s) {
            *s = behind;
            continue;
        }
        if (!is_inner(*s) || **s == '\'') {
            ++*s;
            continue;
        }
        size_t n      = 0;
        bool   letter = false;
        for (; is_inner(*s); ++*s, n++) {
            letter = letter || is_letter((unsigned char)**s);
            if (n < WORD_MAX)
                word[n] = (char)((unsigned char)**s < 0x80 ? tolower((unsigned char)**s) : **s);
        }
        if (letter && n <= WORD_MAX) {
            word[n] = '\0';
            return true;
        }
    }
    return false;
}

/* ---- choosing --------------------------------------------------------------------------------------------- */

struct occurrence {
    const char *word;
    uint32_t    text;
};

/* Words in blocks that stay where they are, so that occurrences may point into them. */
struct listing {
    struct occurrence *items;
    size_t             n, capacity;
    char             **blocks;
    size_t             n_blocks, used;
};
enum { BLOCK = 1 << 20 };

static const char *keep(struct listing *l, const char *word) {
    const size_t size = strlen(word) + 1;
    if (l->n_blocks == 0 || l->used + size > BLOCK) {
        char **blocks = soothe__realloc(l->blocks, l->n_blocks + 1, sizeof *blocks);
        if (!blocks)
            return NULL;
        l->blocks = blocks;
        if (!(blocks[l->n_blocks] = soothe__calloc(BLOCK, 1)))
            return NULL;
        l->n_blocks++;
        l->used = 0;
    }
    char *at = l->blocks[l->n_blocks - 1] + l->used;
    memcpy(at, word, size);
    l->used += size;
    return at;
}

static bool list_words(struct listing *l, const char *text, uint32_t i_text) {
    char word[WORD_MAX + 1];
    while (next_word(&text, word)) {
        if (l->n == l->capacity) {
            const size_t       capacity = 2 * l->capacity + 1024;
            struct occurrence *items    = soothe__realloc(l->items, capacity, sizeof *items);
            if (!items)
                return false;
            l->items    = items;
            l->capacity = capacity;
        }
        const char *kept = keep(l, word);
        if (!kept)
            return false;
        l->items[l->n++] = (struct occurrence){kept, i_text};
    }
    return true;
}

static void free_listing(struct listing *l) {
    for (size_t i = 0; i < l->n_blocks; i++)
        free(l->blocks[i]);
    free(l->blocks);
    free(l->items);
}

static int by_word_and_text(const void *a, const void *b) {
    const struct occurrence *x = a, *y = b;
    const int                c = strcmp(x->word, y->word);
    return c ? c : (x->text > y->text) - (x->text < y->text);
}

struct counted {
    const char *word;
    size_t      n_texts;
};

static int by_count(const void *a, const void *b) {
    const struct counted *x = a, *y = b;
    return x->n_texts != y->n_texts ? (x->n_texts < y->n_texts) - (x->n_texts > y->n_texts) : strcmp(x->word, y->word);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted occurrences to words with the number of texts they stand in; returns how many words. */
static size_t count_texts(struct counted *counted, const struct listing *l) {
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        const bool same_word = i > 0 && !strcmp(l->items[i].word, l->items[i - 1].word);
        if (!same_word)
            counted[n++] = (struct counted){l->items[i].word, 1};
        else if (l->items[i].text != l->items[i - 1].text)
            counted[n - 1].n_texts++;
    }
    return n;
}

enum soothe_status soothe__words_choose(struct soothe__words *words, const char *const *texts, size_t n,
                                        size_t max_words, size_t min_texts, struct soothe_error *err) {
    struct listing  l       = {0};
    struct counted *counted = NULL;
    bool            ok      = n < UINT32_MAX;
    *words                  = (struct soothe__words){0};
    for (size_t i = 0; i < n && ok; i++)
        ok = list_words(&l, texts[i], (uint32_t)i);
    size_t n_counted = 0;
    if (ok && (ok = (counted = soothe__calloc(l.n + 1, sizeof *counted)))) {
        if (l.n)
            qsort(l.items, l.n, sizeof *l.items, by_word_and_text);
        n_counted = count_texts(counted, &l);
        qsort(counted, n_counted, sizeof *counted, by_count);
        while (n_counted > 0 && (n_counted > max_words || counted[n_counted - 1].n_texts < min_texts))
            n_counted--;
        ok = (words->names = soothe__calloc(n_counted + 1, sizeof *words->names));
    }
    for (; words->n < n_counted && ok; words->n++)
        if (!(words->names[words->n] = soothe__strdup(counted[words->n].word)))
            break;
    ok = ok && words->n == n_counted;
    free(counted);
    free_listing(&l);
    if (ok && n_counted > 0) {
        qsort(words->names, words->n, sizeof *words->names, by_name);
        return SOOTHE_OK;
    }
    soothe__words_free(words);
    if (ok)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "no word stands in at least %zu of the %zu texts", min_texts, n);
    return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the words of %zu texts", n);
}

void soothe__words_free(struct soothe__words *words) {
    for (size_t i = 0; i < words->n; i++)
        free(words->names[i]);
    free(words->names);
    *words = (struct soothe__words){0};
}

/* ---- the matrix -------------------------------------------------------------------------------------------- */

/* Calls of next_word over all texts: first counted, then put into place. seen[j] is the last text, plus 1, that had
 * word j. out NULL: only counts into fill. */
static void visit(const struct soothe__words *words, const char *const *texts, size_t n, size_t *fill, size_t *seen,
                  uint32_t *out) {
    memset(seen, 0, words->n * sizeof *seen);
    for (size_t i = 0; i < n; i++) {
        char        word[WORD_MAX + 1];
        const char *s = texts[i], *key = word;
        while (next_word(&s, word)) {
            char *const *found = bsearch(&key, words->names, words->n, sizeof *words->names, by_name);
            const size_t j     = found ? (size_t)(found - words->names) : 0;
            if (!found || seen[j] == i + 1)
                continue;
            seen[j] = i + 1;
            if (out)
                out[fill[j]] = (uint32_t)i;
            fill[j]++;
        }
    }
}

enum soothe_status soothe__words_design(struct soothe__design *x, const struct soothe__words *words,
                                        const char *const *texts, size_t n, struct soothe_error *err) {
    size_t   *starts = soothe__calloc(words->n + 1, sizeof *starts);
    size_t   *fill   = soothe__calloc(words->n + 1, sizeof *fill);
    size_t   *seen   = soothe__calloc(words->n + 1, sizeof *seen);
    uint32_t *rows   = NULL;
    double   *values = NULL;
    *x               = (struct soothe__design){0};
    enum soothe_status status =
        soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts by %zu words", n, words->n);
    if (!starts || !fill || !seen || n >= UINT32_MAX)
        goto done;
    visit(words, texts, n, fill, seen, NULL);
    for (size_t j = 0; j < words->n; j++) {
        starts[j + 1] = starts[j] + fill[j];
        fill[j]       = starts[j];
    }
    rows   = soothe__calloc(starts[words->n] + 1, sizeof *rows);
    values = soothe__calloc(starts[words->n] + 1, sizeof *values);
    if (!rows || !values)
        goto done;
    visit(words, texts, n, fill, seen, rows);
    for (size_t k = 0; k < starts[words->n]; k++)
        values[k] = 1;
    status = soothe__design_from_sparse(x, n, words->n, starts, rows, values, err);
    rows   = NULL; /* the design's now, also after its failure */
    values = NULL;
done:
    free(starts);
    free(fill);
    free(seen);
    free(rows);
    free(values);
    return status;
}
