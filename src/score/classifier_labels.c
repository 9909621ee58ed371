/* SPDX-License-Identifier: Apache-2.0 */
#include "score/classifier_labels.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Beginnings and middles of words in the label sets of published toxicity and hate classifiers. */
static const char *const TOXIC[]   = {"toxic",  "hate",   "offens",   "abus",     "insult",       "obscen",
                                      "threat", "harass", "identity", "profan",   "vulgar",       "slur",
                                      "unsafe", "sexis",  "racis",    "homophob", "inappropriate"};
static const char *const CLEAN[]   = {"neutral", "clean", "normal", "safe",  "ok",         "neither", "none", "benign",
                                      "label0",  "0",     "no",     "other", "acceptable", "good",    "false"};
static const char *const DENIALS[] = {"non", "not", "no", "un"};

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Small letters and digits alone: "Non-Toxic" is "nontoxic". */
static void plain_name(char out[64], const char *label, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < size && n + 1 < 64; i++)
        if (isalnum((unsigned char)label[i]))
            out[n++] = (char)tolower((unsigned char)label[i]);
    out[n] = '\0';
}

static bool holds_toxic_word(const char *name) {
    for (size_t i = 0; i < COUNT(TOXIC); i++)
        if (strstr(name, TOXIC[i]))
            return true;
    return false;
}

/* "nontoxic", "nothate", "nohate", but neither "unsafe" nor "notorious": what is denied must be a toxic word. */
static bool denies(const char *name) {
    for (size_t i = 0; i < COUNT(DENIALS); i++) {
        const size_t n = strlen(DENIALS[i]);
        if (strncmp(name, DENIALS[i], n) == 0 && holds_toxic_word(name + n))
            return true;
    }
    return false;
}

static bool says_clean(const char *name) {
    for (size_t i = 0; i < COUNT(CLEAN); i++)
        if (strcmp(name, CLEAN[i]) == 0)
            return true;
    return denies(name);
}

static size_t choose_by_words(bool *chosen, bool *clean, const char *const *labels, size_t n) {
    char   name[64];
    size_t n_chosen = 0;
    bool   numbered = n == 2;
    for (size_t i = 0; i < n; i++) {
        plain_name(name, labels[i], strlen(labels[i]));
        const bool is_clean = says_clean(name);
        chosen[i]           = !is_clean && holds_toxic_word(name);
        *clean              = *clean || is_clean;
        n_chosen += chosen[i];
        numbered = numbered && strcmp(name, i == 0 ? "label0" : "label1") == 0;
    }
    if (numbered)
        chosen[1] = true;
    return numbered ? 1 : n_chosen;
}

static bool choose_one(bool *chosen, const char *const *labels, size_t n, const char *wanted, size_t size) {
    char    name[64], label[64], number[24];
    int64_t index;
    bool    found = false;
    plain_name(name, wanted, size);
    for (size_t i = 0; i < n; i++) {
        plain_name(label, labels[i], strlen(labels[i]));
        if (label[0] && strcmp(label, name) == 0)
            chosen[i] = found = true;
    }
    snprintf(number, sizeof number, "%.*s", (int)(size < 20 ? size : 20), wanted);
    if (!found && soothe__parse_int64(&index, number, 0, (int64_t)n - 1))
        chosen[index] = found = true;
    return found;
}

/* "a, b and 3 more", for messages. */
static void list_labels(char *out, size_t size, const char *const *labels, size_t n) {
    size_t used = 0, i = 0;
    out[0] = '\0';
    for (; i < n && used + 60 < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%zu \"%.40s\"", i ? ", " : "", i, labels[i]);
    if (i < n)
        snprintf(out + used, size - used, " and %zu more", n - i);
}

enum soothe_status soothe__choose_labels(bool *chosen, enum soothe__label_link *link, const char *const *labels,
                                         size_t n, const char *wanted, const char *path, struct soothe_error *err) {
    char all[500];
    bool clean = false;
    list_labels(all, sizeof all, labels, n);
    const size_t by_words = choose_by_words(chosen, &clean, labels, n);
    *link                 = n == 1 || !clean ? SOOTHE__LINK_SIGMOID : SOOTHE__LINK_SOFTMAX;
    if (!wanted && by_words == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "no label of %s says toxic (it has %s): name those that do, as %s#label=NAME", path, all,
                            path);
    if (!wanted)
        return SOOTHE_OK;
    memset(chosen, 0, n * sizeof *chosen);
    for (const char *p = wanted;; p++) {
        p += strspn(p, " ");
        const size_t size = strcspn(p, ",");
        if (!choose_one(chosen, labels, n, p, size))
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "%s has no label \"%.*s\": it has %s", path,
                                (int)(size < 60 ? size : 60), p, all);
        p += size;
        if (*p == '\0')
            return SOOTHE_OK;
    }
}

double soothe__label_score(const float *outputs, const bool *chosen, size_t n, enum soothe__label_link link) {
    double highest = -INFINITY, sum = 0, score = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(outputs[i]))
            return NAN;
        highest = fmax(highest, outputs[i]);
    }
    for (size_t i = 0; i < n; i++) {
        const double z = outputs[i], e = exp(z - highest);
        sum += e;
        if (!chosen[i])
            continue;
        if (link == SOOTHE__LINK_SIGMOID)
            score = fmax(score, 1 / (1 + exp(-z)));
        else
            score += link == SOOTHE__LINK_SOFTMAX ? e : z;
    }
    return fmin(1, link == SOOTHE__LINK_SOFTMAX ? score / sum : score);
}
