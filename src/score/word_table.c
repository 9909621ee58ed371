/* SPDX-License-Identifier: Apache-2.0
 * Tables of words in memory, from a list and from the lexicon. */
#include "score/word_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "score/lexicon.h"
#include "score/word_chars.h"

/* ---- the table ------------------------------------------------------------------------------------------ */

enum soothe_status soothe__word_table_add(struct soothe__word_table *t, const struct soothe__table_word *entry,
                                          struct soothe_error *err) {
    if (t->n == SOOTHE__WORD_TABLE_MAX)
        return soothe__fail(err, SOOTHE_E_FORMAT, "a table of more than %d words", SOOTHE__WORD_TABLE_MAX);
    if (t->n == t->capacity) {
        const size_t               n      = t->capacity ? 2 * t->capacity : 256;
        struct soothe__table_word *larger = soothe__realloc(t->words, n, sizeof *larger);
        if (!larger)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a table of words");
        t->words    = larger;
        t->capacity = n;
    }
    char *word = soothe__strdup(entry->word);
    if (!word)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a table of words");
    t->words[t->n]        = *entry;
    t->words[t->n++].word = word;
    return SOOTHE_OK;
}

static int by_word(const void *a, const void *b) {
    const struct soothe__table_word *x = a, *y = b;
    const int                        order = strcmp(x->word, y->word);
    return order ? order : (x->weight < y->weight) - (x->weight > y->weight);
}

void soothe__word_table_sort(struct soothe__word_table *t) {
    size_t n = 0;
    if (t->n > 0)
        qsort(t->words, t->n, sizeof *t->words, by_word);
    for (size_t i = 0; i < t->n; i++)
        if (n > 0 && strcmp(t->words[n - 1].word, t->words[i].word) == 0)
            free(t->words[i].word);
        else
            t->words[n++] = t->words[i];
    t->n = n;
}

const struct soothe__table_word *soothe__word_table_find(const struct soothe__word_table *t, const char *word) {
    size_t lo = 0, hi = t->n;
    while (lo < hi) {
        const size_t mid   = lo + (hi - lo) / 2;
        const int    order = strcmp(t->words[mid].word, word);
        if (order == 0)
            return &t->words[mid];
        lo = order < 0 ? mid + 1 : lo;
        hi = order < 0 ? hi : mid;
    }
    return NULL;
}

void soothe__word_table_free(struct soothe__word_table *t) {
    for (size_t i = 0; i < t->n; i++)
        free(t->words[i].word);
    free(t->words);
    *t = (struct soothe__word_table){.n = 0};
}

static enum soothe_status add_plain(struct soothe__word_table *t, char *word, double weight, struct soothe_error *err) {
    const struct soothe__table_word entry = {word, (float)weight, NAN, NAN, NAN, 0};
    return soothe__word_table_add(t, &entry, err);
}

/* ---- the lexicon ------------------------------------------------------------------------------------------ */

/* The lexicon itself says which forms of a word it takes for one, and how severe it finds them. */
static enum soothe_status add_if_listed(struct soothe__word_table *t, const char *form, struct soothe_error *err) {
    char         folded[SOOTHE__WORD_BYTES_MAX + 1];
    const double severity = soothe__lexicon_severity(form);
    return severity > 0 && soothe__fold_phrase(folded, form, strlen(form)) ? add_plain(t, folded, severity, err)
                                                                           : SOOTHE_OK;
}

static enum soothe_status add_forms(struct soothe__word_table *t, const char *word, struct soothe_error *err) {
    static const char *const ENDINGS[] = {"", "s", "es", "z", "ed", "ing", "in", "er", "ers", "ings"};
    const size_t             n         = strlen(word);
    char                     form[2 * SOOTHE__WORD_BYTES_MAX];
    enum soothe_status       status = SOOTHE_OK;
    if (n == 0 || n > SOOTHE__WORD_BYTES_MAX)
        return SOOTHE_OK;
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS && !status; i++) {
        snprintf(form, sizeof form, "%s%s", word, ENDINGS[i]);
        status = add_if_listed(t, form, err);
        if (status || i < 4 || strchr(word, ' '))
            continue;
        snprintf(form, sizeof form, "%s%c%s", word, word[n - 1], ENDINGS[i]); /* shitting */
        status = add_if_listed(t, form, err);
        if (!status && word[n - 1] == 'e') { /* masturbating */
            snprintf(form, sizeof form, "%.*s%s", (int)n - 1, word, ENDINGS[i]);
            status = add_if_listed(t, form, err);
        }
    }
    return status;
}

static enum soothe_status add_lexicon(struct soothe__word_table *t, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    const char        *word;
    for (size_t i = 0; !status && (word = soothe__lexicon_word(i)); i++)
        status = add_forms(t, word, err);
    return status;
}

/* ---- a list ------------------------------------------------------------------------------------------------ */

static enum soothe_status add_line(struct soothe__word_table *t, char *line, const char *path, size_t i_line,
                                   struct soothe_error *err) {
    char   folded[SOOTHE__WORD_BYTES_MAX + 1];
    double weight              = 1;
    line[strcspn(line, "\r#")] = '\0';
    char *tab                  = strchr(line, '\t');
    if (line[strspn(line, " \t")] == '\0')
        return SOOTHE_OK;
    if (tab) {
        *tab++                   = '\0';
        tab[strcspn(tab, " \t")] = '\0';
    }
    if (!soothe__utf8_valid(line, strlen(line)) || !soothe__fold_phrase(folded, line, strlen(line)))
        return soothe__fail(err, SOOTHE_E_FORMAT,
                            "line %zu of %s is no word or phrase: one to four words of letters and digits, %d bytes at "
                            "most, are wanted",
                            i_line, path, SOOTHE__WORD_BYTES_MAX);
    if (tab && !soothe__parse_double(&weight, tab, -1000, 1000))
        return soothe__fail(err, SOOTHE_E_FORMAT,
                            "line %zu of %s: the weight \"%.40s\" is no number from -1000 to 1000", i_line, path, tab);
    return add_plain(t, folded, weight, err);
}

static enum soothe_status add_list(struct soothe__word_table *t, char *data, const char *path,
                                   struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    size_t             i_line = 1;
    for (char *line = data, *next; line && !status; line = next, i_line++) {
        next   = strchr(line, '\n');
        next   = next ? (*next = '\0', next + 1) : NULL;
        status = add_line(t, line, path, i_line, err);
    }
    return !status && t->n == 0 ? soothe__fail(err, SOOTHE_E_FORMAT, "%s lists no words", path) : status;
}

enum soothe_status soothe__word_table_open(struct soothe__word_table *t, const char *path, struct soothe_error *err) {
    char              *data = NULL;
    size_t             size;
    enum soothe_status status = SOOTHE_OK;
    *t                        = (struct soothe__word_table){.n = 0};
    if (!path)
        status = add_lexicon(t, err);
    else
        status = soothe__read_file(&data, &size, path, err);
    if (!status && data && size >= 4 && memcmp(data, "GGUF", 4) == 0) {
        free(data);
        return soothe__word_table_read(t, path, err);
    }
    if (!status && data)
        status = strlen(data) != size
                     ? soothe__fail(err, SOOTHE_E_FORMAT, "%s holds a zero byte: no list of words", path)
                     : add_list(t, data, path, err);
    free(data);
    if (status)
        soothe__word_table_free(t);
    else
        soothe__word_table_sort(t);
    return status;
}

/* ---- sentences ---------------------------------------------------------------------------------------------- */

double soothe__word_table_score(const struct soothe__word_table *t, enum soothe__sentence_score how, const char *text,
                                size_t size) {
    struct soothe__word_at w;
    double                 log_none = 0, largest = 0; /* log prod (1 - weight) */
    for (size_t i = 0; soothe__next_word(&w, text, size, &i);) {
        const struct soothe__table_word *found = soothe__word_table_find(t, w.word);
        if (!found || !(found->weight > 0))
            continue;
        const double p = fmin((double)found->weight, 1);
        largest        = fmax(largest, p);
        log_none += log1p(-p);
    }
    return how == SOOTHE__SENTENCE_MAX ? largest : -expm1(log_none);
}
