/* SPDX-License-Identifier: Apache-2.0
 * The lexicon scorer. A text is read word by word; each word is brought into a few normal forms, and
 * each form is looked up in a sorted table compiled in from data/lexicon_en.tsv. */
#include "score/lexicon.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

/* p(severity) = 1 - exp(-STRENGTH severity): severities of several hits add up. The order of texts does
 * not depend on the figure; at 1.2 "shit" alone gives .85 and "fuck" .91, as Perspective's scores of
 * RTP texts with these words do on average. */
static const double STRENGTH   = 1.2;
static const float  MASK_LEVEL = 1.0f; /* words milder than this are shown */

enum { MAX_WORD = 64, MAX_PHRASE_WORDS = 4, MAX_PHRASE = MAX_PHRASE_WORDS * MAX_WORD };

struct entry {
    const char *word;     /* lower case, phrases with single spaces      */
    float       severity; /* 0.1 .. 3                                    */
    const char *flags;    /* letters of the head of lexicon_changes.tsv  */
};

#define LEXICON_WORD(w, s, f) {w, s, f},
#define LEXICON_STRONG(w, s, f)
static const struct entry entries[] = {
#include "score/lexicon_table.inc"
};
#undef LEXICON_WORD
#undef LEXICON_STRONG
#define LEXICON_WORD(w, s, f)
#define LEXICON_STRONG(w, s, f) {w, s, f},
static const struct entry strong[] = {
/* those found inside longer words */
#include "score/lexicon_table.inc"
};
enum { N_ENTRIES = sizeof entries / sizeof *entries, N_STRONG = sizeof strong / sizeof *strong };

/* Words that people hide behind asterisks; the first that fits a pattern is taken. */
static const char *const disguised[] = {
    "fuck",    "shit",    "ass",      "bitch",      "cunt",         "dick",          "damn",         "pussy",
    "whore",   "nigger",  "nigga",    "faggot",     "fag",          "cock",          "slut",         "tits",
    "twat",    "bastard", "asshole",  "fucking",    "fucked",       "fucker",        "fuckers",      "fuckin",
    "fucks",   "shits",   "shitty",   "bullshit",   "bitches",      "bitching",      "cunts",        "dicks",
    "niggers", "niggas",  "faggots",  "fags",       "asses",        "assholes",      "whores",       "sluts",
    "cocks",   "goddamn", "dickhead", "cocksucker", "motherfucker", "motherfuckers", "motherfucking"};

struct hit {
    size_t              start, end; /* bytes of the text */
    const struct entry *entry;
};

/* ---- the table ----------------------------------------------------------------------------- */

static size_t lower_bound(const char *word) {
    size_t lo = 0, hi = N_ENTRIES;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (strcmp(entries[mid].word, word) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static const struct entry *find_exact(const char *word) {
    const size_t i = lower_bound(word);
    return i < N_ENTRIES && strcmp(entries[i].word, word) == 0 ? &entries[i] : NULL;
}

static bool begins_a_phrase(const char *word) {
    char         first[MAX_WORD + 1];
    const int    n = snprintf(first, sizeof first, "%s ", word);
    const size_t i = lower_bound(first);
    return i < N_ENTRIES && strncmp(entries[i].word, first, (size_t)n) == 0;
}

/* word less its ending, if it has that ending and three letters before it. */
static bool without_ending(char stem[MAX_WORD], const char *word, const char *ending) {
    const size_t n = strlen(word), n_ending = strlen(ending);
    if (n < n_ending + 3 || strcmp(word + n - n_ending, ending) != 0)
        return false;
    memcpy(stem, word, n - n_ending);
    stem[n - n_ending] = '\0';
    return true;
}

static const struct entry *flagged(const struct entry *e, char flag) {
    return e && strchr(e->flags, flag) ? e : NULL;
}

static const struct entry *find_inflected(const char *word) {
    static const char *const plural[] = {"s", "es", "z"};
    static const char *const verbal[] = {"ed", "ing", "in", "er", "ers", "ings"};
    char                     stem[MAX_WORD];
    for (size_t i = 0; i < sizeof plural / sizeof *plural; i++) {
        if (!without_ending(stem, word, plural[i]))
            continue;
        const struct entry *e = find_exact(stem);
        if (e && !strchr(e->flags, 'n'))
            return e;
    }
    for (size_t i = 0; i < sizeof verbal / sizeof *verbal; i++) {
        if (!without_ending(stem, word, verbal[i]))
            continue;
        const struct entry *e = flagged(find_exact(stem), 'v');
        const size_t        n = strlen(stem);
        if (!e && n > 3 && stem[n - 1] == stem[n - 2]) { /* shitting */
            stem[n - 1] = '\0';
            e           = flagged(find_exact(stem), 'v');
        } else if (!e && n + 1 < MAX_WORD) { /* masturbating */
            memcpy(stem + n, "e", 2);
            e = flagged(find_exact(stem), 'v');
        }
        if (e)
            return e;
    }
    return NULL;
}

/* A strong word inside a longer one; *at is where it begins. */
static const struct entry *find_inside(const char *word, size_t *at) {
    const size_t n = strlen(word);
    for (size_t i = 0; i < N_STRONG; i++) {
        const size_t m = strlen(strong[i].word);
        if (m >= n)
            continue;
        const char *found = strstr(word, strong[i].word);
        if (!found)
            continue;
        const char *tail     = word + n - m;
        const bool  at_start = found == word, at_end = strcmp(tail, strong[i].word) == 0;
        if (flagged(&strong[i], 'C') || at_start || (at_end && flagged(&strong[i], 'c'))) {
            *at = flagged(&strong[i], 'C') || at_start ? (size_t)(found - word) : n - m;
            return &strong[i];
        }
    }
    return NULL;
}

/* ---- words of the text ------------------------------------------------------------------------ */

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Is the byte at i part of a word? Letters beyond ASCII are, so that no word begins in their midst;
 * UTF-8 punctuation (U+0080-00BF, U+2000-203F, U+3000-303F: quotes, dashes, spaces) is not. */
static bool in_word(const char *text, size_t size, size_t i) {
    const unsigned char c = (unsigned char)text[i];
    if (is_letter(text[i]) || is_digit(text[i]) || c == '@' || c == '$')
        return true;
    if (c == '!' || c == '\'')
        return i + 1 < size && i > 0 && (is_letter(text[i + 1]) || is_digit(text[i + 1]));
    if (c < 0x80)
        return false;
    size_t lead = i; /* of the character that this byte belongs to */
    while (lead > 0 && i - lead < 3 && ((unsigned char)text[lead] & 0xC0) == 0x80)
        lead--;
    const unsigned char a = (unsigned char)text[lead];
    const unsigned char b = lead + 1 < size ? (unsigned char)text[lead + 1] : 0;
    return !(a == 0xC2 || (a == 0xE2 && b == 0x80) || (a == 0xE3 && b == 0x80));
}

static size_t word_end(const char *text, size_t size, size_t start) {
    size_t end = start;
    while (end < size && in_word(text, size, end))
        end++;
    return end;
}

/* The letter that a digit or sign stands for; one is what "1", "!" and "|" are read as. */
static char unleet(char c, char one) {
    switch (c) {
    case '0':
        return 'o';
    case '1':
    case '!':
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
        return 't';
    default:
        return lower(c);
    }
}

struct form {
    char   word[MAX_WORD];
    size_t from[MAX_WORD]; /* byte of the text that each letter came from */
};

/* One normal form of the word; false if it is empty or too long to be listed.
 * one      0: digits and signs stay; else as for unleet
 * longest  runs of a letter are cut to this many, if there is one longer than two */
static bool normal_form(struct form *f, const char *text, size_t start, size_t end, char one, size_t longest) {
    size_t n = 0, run = 0;
    for (size_t i = start; i < end; i++) {
        const char c = one ? unleet(text[i], one) : lower(text[i]);
        if (c == '\'')
            continue;
        run = n && f->word[n - 1] == c ? run + 1 : 1;
        if (run > longest)
            continue;
        if (n + 1 >= MAX_WORD)
            return false;
        f->from[n]   = i;
        f->word[n++] = c;
    }
    f->word[n] = '\0';
    return n > 0;
}

static bool has_letter_and_sign(const char *text, size_t start, size_t end) {
    bool letter = false, sign = false;
    for (size_t i = start; i < end; i++) {
        letter = letter || is_letter(text[i]);
        sign   = sign || is_digit(text[i]) || strchr("@$!", text[i]);
    }
    return letter && sign;
}

static bool has_long_run(const char *text, size_t start, size_t end) {
    for (size_t i = start + 2; i < end; i++)
        if (lower(text[i]) == lower(text[i - 1]) && lower(text[i]) == lower(text[i - 2]))
            return true;
    return false;
}

static bool capitalised(const char *text, size_t size, size_t i) {
    return i + 1 < size && text[i] >= 'A' && text[i] <= 'Z' && text[i + 1] >= 'a' && text[i + 1] <= 'z';
}

/* A first name before a surname. */
static bool is_name(const char *text, size_t size, const struct hit *hit) {
    return flagged(hit->entry, 'N') && capitalised(text, size, hit->start) && hit->end < size &&
           text[hit->end] == ' ' && capitalised(text, size, hit->end + 1);
}

static bool find_word(struct hit *hit, const char *text, size_t size, size_t start, size_t end) {
    static const char ones[]   = {0, 'i', 'l'};
    const size_t      n_ones   = has_letter_and_sign(text, start, end) ? sizeof ones : 1;
    const bool        long_run = has_long_run(text, start, end);
    struct form       f;
    for (size_t i = 0; i < n_ones; i++) {
        for (size_t longest = long_run ? 2 : SIZE_MAX;; longest = 1) {
            size_t at = 0;
            if (normal_form(&f, text, start, end, ones[i], longest)) {
                *hit = (struct hit){start, end, find_exact(f.word)};
                if (!hit->entry)
                    hit->entry = find_inflected(f.word);
                if (!hit->entry && (hit->entry = find_inside(f.word, &at))) {
                    const size_t last = at + strlen(hit->entry->word) - 1;
                    hit->start        = f.from[at];
                    hit->end          = f.word[last + 1] ? f.from[last + 1] : end;
                }
                if (hit->entry)
                    return !is_name(text, size, hit);
            }
            if (longest != 2)
                break;
        }
    }
    return false;
}

/* "f***", "sh*t", "f--king": the whole run must fit one of the words that people write so. */
static bool find_disguised(struct hit *hit, const char *text, size_t size, size_t start) {
    size_t end = start, n_signs = 0;
    if (!is_letter(text[start]))
        return false;
    while (end < size && (is_letter(text[end]) || text[end] == '*' || text[end] == '-' || text[end] == '#')) {
        n_signs += !is_letter(text[end]);
        end++;
    }
    if (!n_signs || end - start >= MAX_WORD || (end < size && in_word(text, size, end)))
        return false;
    for (size_t w = 0; w < sizeof disguised / sizeof *disguised; w++) {
        const char *word = disguised[w];
        size_t      i    = start;
        if (strlen(word) != end - start)
            continue;
        while (i < end && (!is_letter(text[i]) || lower(text[i]) == word[i - start]))
            i++;
        if (i < end)
            continue;
        const struct entry *e = find_exact(word);
        if (!e)
            e = find_inflected(word);
        *hit = (struct hit){start, end, e};
        return e != NULL;
    }
    return false;
}

/* "f u c k", "s.h.i.t": single letters with the same sign between each. */
static bool find_spelled(struct hit *hit, const char *text, size_t size, size_t start) {
    char   word[MAX_WORD];
    size_t n = 0, i = start;
    while (i < size && is_letter(text[i]) && n + 1 < MAX_WORD) {
        word[n++] = lower(text[i]);
        if (i + 2 >= size || !strchr(" .-_*", text[i + 1]) || !text[i + 1] || (n > 1 && text[i + 1] != text[i - 1]))
            break;
        if (i + 3 < size && in_word(text, size, i + 3))
            break; /* the next word has more letters than one */
        i += 2;
    }
    word[n] = '\0';
    if (n < 3 || (i + 1 < size && in_word(text, size, i + 1)))
        return false;
    const struct entry *e = find_exact(word);
    *hit                  = (struct hit){start, i + 1, e};
    return e && e->severity >= 1.0f;
}

/* The longest listed phrase that begins with the word [start,end). */
static bool find_phrase(struct hit *hit, const char *text, size_t size, size_t start, size_t end) {
    struct form f;
    char        phrase[MAX_PHRASE];
    bool        found = false;
    if (!normal_form(&f, text, start, end, 0, SIZE_MAX) || !begins_a_phrase(f.word))
        return false;
    size_t n = (size_t)snprintf(phrase, sizeof phrase, "%s", f.word);
    for (int i = 1; i < MAX_PHRASE_WORDS; i++) {
        if (end + 1 >= size || !strchr(" -_\n", text[end]) || !text[end] || !in_word(text, size, end + 1))
            break;
        const size_t next = end + 1;
        end               = word_end(text, size, next);
        if (!normal_form(&f, text, next, end, 0, SIZE_MAX) || n + strlen(f.word) + 2 > sizeof phrase)
            break;
        n += (size_t)snprintf(phrase + n, sizeof phrase - n, " %s", f.word);
        const struct entry *e = find_exact(phrase);
        if (!e)
            continue;
        *hit  = (struct hit){start, end, e};
        found = true;
    }
    return found;
}

/* The next hit at or after *position; *position is moved behind the word. */
static bool next_hit(struct hit *hit, const char *text, size_t size, size_t *position) {
    size_t start = *position;
    while (start < size) {
        if (!in_word(text, size, start) || text[start] == '\'' || text[start] == '!') {
            start++;
            continue;
        }
        const size_t end = word_end(text, size, start);
        bool         found =
            find_phrase(hit, text, size, start, end) || find_disguised(hit, text, size, start) ||
            (end == start + 1 && find_spelled(hit, text, size, start)) || find_word(hit, text, size, start, end) ||
            (text[start] == '@' && end > start + 1 && find_word(hit, text, size, start + 1, end)); /* a mention */
        start = found && hit->end > end ? hit->end : end;
        if (found) {
            *position = start;
            return true;
        }
    }
    *position = size;
    return false;
}

/* ---- what is offered ----------------------------------------------------------------------------- */

double soothe__lexicon_score(const char *text, size_t size) {
    struct hit hit;
    double     sum = 0.0;
    for (size_t i = 0; next_hit(&hit, text, size, &i);)
        sum += (double)hit.entry->severity;
    return -expm1(-STRENGTH * sum);
}

size_t soothe__lexicon_count(const char *text, size_t size) {
    struct hit hit;
    size_t     n = 0;
    for (size_t i = 0; next_hit(&hit, text, size, &i);)
        n++;
    return n;
}

const char *soothe__lexicon_word(size_t i) {
    return i < N_ENTRIES ? entries[i].word : NULL;
}

double soothe__lexicon_severity(const char *word) {
    struct hit   hit;
    const size_t size = strlen(word);
    size_t       i    = 0;
    const bool   one  = next_hit(&hit, word, size, &i) && hit.start == 0 && hit.end == size;
    return one ? (double)hit.entry->severity : 0;
}

char *soothe__mask_toxic(const char *text, size_t size) {
    struct hit hit;
    char      *masked = size < SIZE_MAX ? soothe__realloc(NULL, size + 1, 1) : NULL;
    if (!masked)
        return NULL;
    if (size)
        memcpy(masked, text, size);
    masked[size] = '\0';
    for (size_t i = 0; next_hit(&hit, text, size, &i);) {
        if (hit.entry->severity < MASK_LEVEL || strchr(hit.entry->flags, 'd'))
            continue;
        bool first = true; /* of a word: a phrase keeps the first letter of each of its words */
        for (size_t k = hit.start; k < hit.end; k++) {
            const bool sign = text[k] == '*' || text[k] == '-' || text[k] == '#';
            if (!in_word(text, size, k) && !sign)
                first = true;
            else if (first)
                first = false;
            else
                masked[k] = '*';
        }
    }
    return masked;
}

/* ---- identity ----------------------------------------------------------------------------------------------- */

static void hash_entries(struct soothe__sha256 *hash, const struct entry *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        soothe__sha256_add(hash, list[i].word, strlen(list[i].word) + 1);
        soothe__sha256_add(hash, &list[i].severity, sizeof list[i].severity);
        soothe__sha256_add(hash, list[i].flags, strlen(list[i].flags) + 1);
    }
}

void soothe__lexicon_hash(struct soothe__sha256 *hash) {
    hash_entries(hash, entries, N_ENTRIES);
    hash_entries(hash, strong, N_STRONG);
    for (size_t i = 0; i < sizeof disguised / sizeof *disguised; i++)
        soothe__sha256_add(hash, disguised[i], strlen(disguised[i]) + 1);
    soothe__sha256_add(hash, &STRENGTH, sizeof STRENGTH);
}
