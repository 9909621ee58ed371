/* SPDX-License-Identifier: Apache-2.0
 * The methods of an evaluation from one line of text. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/eval.h"

enum { STEPS_MAX = 64 };

static enum soothe_status add(struct soothe__eval_methods *list, const char *text, struct soothe_error *err) {
    if (list->n == SOOTHE__EVAL_METHODS_MAX)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "more than %d methods in one run", SOOTHE__EVAL_METHODS_MAX);
    struct soothe__eval_method *items = soothe__realloc(list->items, list->n + 1, sizeof *items);
    if (!items)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    list->items                     = items;
    struct soothe__eval_method *x   = &items[list->n++];
    *x                              = (struct soothe__eval_method){.name = NULL};
    const enum soothe_status status = soothe__chain_add(&x->chain, text, err);
    if (status)
        return status;
    if (!(x->name = soothe__chain_name(&x->chain)))
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    for (size_t i = 0; i + 1 < list->n; i++)
        if (!strcmp(items[i].name, x->name))
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "method %s is there twice", x->name);
    return SOOTHE_OK;
}

/* KEY=FROM..TO/STEPS: the entry once for each step, the number in the sweep's place. dots: where ".." stands in it. */
static enum soothe_status add_sweep(struct soothe__eval_methods *list, const char *entry, const char *dots,
                                    struct soothe_error *err) {
    const char *from = dots;
    while (from > entry && from[-1] != '=')
        from--;
    const size_t       n_end  = strcspn(from, ":,+");
    char              *words  = soothe__format("%.*s", (int)n_end, from), *to, *slash;
    enum soothe_status status = words ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    double             first, last;
    int64_t            n = 0;
    if (status)
        return status;
    to    = strstr(words, "..");
    slash = strchr(to, '/');
    *to   = '\0';
    to += 2;
    if (slash)
        *slash++ = '\0';
    if (!slash || !soothe__parse_int64(&n, slash, 2, STEPS_MAX) || !soothe__parse_double(&first, words, -1e6, 1e6) ||
        !soothe__parse_double(&last, to, -1e6, 1e6))
        status =
            soothe__fail(err, SOOTHE_E_ARGUMENT, "\"%.*s\": a sweep is FROM..TO/STEPS with 2 to %d steps, as 0.25..1/4",
                         (int)n_end, from, STEPS_MAX);
    for (int64_t i = 0; i < n && !status; i++) {
        char *text = soothe__format("%.*s%.6g%s", (int)(from - entry), entry,
                                    first + (last - first) * (double)i / (double)(n - 1), from + n_end);
        status     = text ? add(list, text, err) : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
        free(text);
    }
    free(words);
    return status;
}

/* The ".." of a sweep: between a digit and a number, not in a file's name ("../a.gguf"). */
static const char *sweep_in(const char *entry) {
    for (const char *dots = strstr(entry, ".."); dots; dots = strstr(dots + 1, ".."))
        if (dots > entry && strchr("0123456789.", dots[-1]) && dots[2] && strchr("-0123456789.", dots[2]))
            return dots;
    return NULL;
}

/* Where an entry ends: at a comma that is not followed by KEY=VALUE. */
static size_t entry_length(const char *list) {
    size_t n = strcspn(list, ",");
    while (list[n]) {
        const char  *next = list + n + 1;
        const size_t word = strcspn(next, ",:+=");
        if (next[word] != '=')
            break;
        n += 1 + strcspn(next, ",");
    }
    return n;
}

enum soothe_status soothe__eval_methods_parse(struct soothe__eval_methods *methods, const char *list,
                                              struct soothe_error *err) {
    *methods                  = (struct soothe__eval_methods){.n = 0};
    enum soothe_status status = SOOTHE_OK;
    for (bool more = true; more && !status;) {
        const size_t n     = entry_length(list);
        char        *entry = soothe__format("%.*s", (int)n, list);
        const char  *dots  = entry ? sweep_in(entry) : NULL;
        status             = !entry ? soothe__fail(err, SOOTHE_E_MEMORY, "out of memory")
                             : dots ? add_sweep(methods, entry, dots, err)
                                    : add(methods, entry, err);
        free(entry);
        more = list[n] != '\0';
        list += n + more;
    }
    if (status)
        soothe__eval_methods_free(methods);
    return status;
}

void soothe__eval_methods_free(struct soothe__eval_methods *methods) {
    for (size_t i = 0; i < methods->n; i++) {
        free(methods->items[i].name);
        soothe__chain_free(&methods->items[i].chain);
    }
    free(methods->items);
    *methods = (struct soothe__eval_methods){.n = 0};
}
