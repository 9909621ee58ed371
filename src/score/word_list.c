/* SPDX-License-Identifier: Apache-2.0
 * The words that disguises are resolved to, found exactly, by their repeats, or through a mask. */
#include "score/word_list.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a over the letters with each run counted once. */
static uint32_t collapsed_hash(const char *word, size_t n) {
    uint32_t h = 2166136261U;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || word[i] != word[i - 1])
            h = (h ^ (unsigned char)word[i]) * 16777619U;
    return h ^ (h >> 15);
}

static bool same_collapsed(const char *a, size_t n_a, const char *b, size_t n_b) {
    size_t i = 0, j = 0;
    while (i < n_a && j < n_b) {
        if (a[i] != b[j])
            return false;
        for (const char c = a[i]; i < n_a && a[i] == c;)
            i++;
        for (const char c = b[j]; j < n_b && b[j] == c;)
            j++;
    }
    return i == n_a && j == n_b;
}

static bool listable(const char *word) {
    const size_t n = strlen(word);
    return n >= 2 && n < SOOTHE__LISTED_MAX && strspn(word, "abcdefghijklmnopqrstuvwxyz") == n;
}

enum soothe_status soothe__word_list_new(struct soothe__word_list *list, const char *const *words, size_t n,
                                         struct soothe_error *err) {
    memset(list, 0, sizeof *list);
    if (n > SOOTHE__LIST_MAX)
        return soothe__fail(err, SOOTHE_E_FORMAT, "a list of %zu words; %d is the most", n, SOOTHE__LIST_MAX);
    list->n_slots = 64;
    while (list->n_slots < 4 * n)
        list->n_slots *= 2;
    list->words = soothe__calloc(n ? n : 1, sizeof *list->words);
    list->slots = soothe__calloc(list->n_slots, sizeof *list->slots);
    if (!list->words || !list->slots) {
        soothe__word_list_free(list);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a list of %zu words", n);
    }
    for (size_t i = 0; i < n; i++) {
        if (!listable(words[i])) {
            soothe__word_list_free(list);
            return soothe__fail(err, SOOTHE_E_FORMAT, "word %zu of the list is not 2 to %d letters of a to z", i,
                                SOOTHE__LISTED_MAX - 1);
        }
        strcpy(list->words[i], words[i]);
        size_t at = collapsed_hash(words[i], strlen(words[i])) & (list->n_slots - 1);
        while (list->slots[at])
            at = (at + 1) & (list->n_slots - 1);
        list->slots[at] = (uint16_t)(i + 1);
    }
    list->n = n;
    return SOOTHE_OK;
}

void soothe__word_list_free(struct soothe__word_list *list) {
    free(list->words);
    free(list->slots);
    memset(list, 0, sizeof *list);
}

const char *soothe__listed(const struct soothe__word_list *list, const char *word, size_t n, bool collapsed) {
    if (!list || list->n == 0)
        return NULL;
    const size_t mask = list->n_slots - 1;
    for (size_t at = collapsed_hash(word, n) & mask; list->slots[at]; at = (at + 1) & mask) {
        const char  *listed = list->words[list->slots[at] - 1];
        const size_t m      = strlen(listed);
        if (collapsed ? same_collapsed(word, n, listed, m) : (n == m && memcmp(word, listed, n) == 0))
            return listed;
    }
    return NULL;
}

/* A masked letter fits any letter. */
static bool fits(const char *word, const char *pattern, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (pattern[i] != '*' && pattern[i] != word[i])
            return false;
    return true;
}

const char *soothe__listed_masked(const struct soothe__word_list *list, const char *pattern, size_t n) {
    if (!list || n < 3 || n >= SOOTHE__LISTED_MAX)
        return NULL;
    size_t before = 0, after = 0; /* letters before and after the first and last sign */
    while (before < n && pattern[before] != '*')
        before++;
    while (after < n - before && pattern[n - 1 - after] != '*')
        after++;
    for (size_t i = 0; i < list->n; i++)
        if (strlen(list->words[i]) == n && fits(list->words[i], pattern, n))
            return list->words[i];
    if (before == 0 || before + after < 2 || n - before - after < 2)
        return NULL;
    for (size_t i = before; i < n - after; i++)
        if (pattern[i] != '*')
            return NULL;
    for (size_t i = 0; i < list->n; i++) { /* as many signs as somebody liked to write */
        const char  *word = list->words[i];
        const size_t m    = strlen(word);
        if (m > before + after && memcmp(word, pattern, before) == 0 &&
            memcmp(word + m - after, pattern + n - after, after) == 0)
            return word;
    }
    return NULL;
}
