/* SPDX-License-Identifier: Apache-2.0
 * The methods of an evaluation from one line of text. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/eval.h"
#include "methods/methods.h"

enum { STEPS_MAX = 64 };

/* A sweep that is being read: from … to in n steps; n 0: none. */
struct sweep {
    double from, to;
    size_t n;
};

static enum soothe_status parse_strength(struct soothe__eval_method *m, struct sweep *sweep, const char *value,
                                         struct soothe_error *err) {
    char   text[64], *dots, *slash;
    double number;
    snprintf(text, sizeof text, "%s", value);
    dots  = strstr(text, "..");
    slash = strchr(text, '/');
    if (!dots) {
        if (!soothe__parse_double(&number, value, -100, 100))
            return soothe__fail(err, SOOTHE_E_ARGUMENT,
                                "strength=%s: a number from -100 to 100, or a sweep FROM..TO/STEPS", value);
        m->strength = (float)number;
        return SOOTHE_OK;
    }
    int64_t n;
    *dots = '\0';
    if (slash)
        *slash = '\0';
    if (!slash || !soothe__parse_int64(&n, slash + 1, 2, STEPS_MAX) ||
        !soothe__parse_double(&sweep->from, text, -100, 100) || !soothe__parse_double(&sweep->to, dots + 2, -100, 100))
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "strength=%s: a sweep is FROM..TO/STEPS with 2 to %d steps, as 0.25..1/4", value,
                            STEPS_MAX);
    sweep->n = (size_t)n;
    return SOOTHE_OK;
}

static enum soothe_status parse_option(struct soothe__eval_method *m, struct sweep *sweep, char *word,
                                       struct soothe_error *err) {
    char *value = strchr(word, '=');
    if (!value || !value[1])
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "\"%s\" of a method is not of the form KEY=VALUE", word);
    *value++ = '\0';
    if (!strcmp(word, "strength") || !strcmp(word, "alpha"))
        return parse_strength(m, sweep, value, err);
    char **place = !strcmp(word, "calibrator") ? &m->calibrator : !strcmp(word, "base") ? &m->base : NULL;
    if (!place)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "a method has no option \"%s\"; there are: strength, calibrator, base", word);
    free(*place);
    *place = soothe__strdup(value);
    return *place ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
}

static char *name_of(const struct soothe__eval_method *m) {
    char        strength[48] = "";
    const char *slash        = m->calibrator ? strrchr(m->calibrator, '/') : NULL;
    const char *file         = slash ? slash + 1 : m->calibrator;
    if (!isnan(m->strength))
        snprintf(strength, sizeof strength, ":strength=%.6g", (double)m->strength);
    return soothe__format("%s%s%s%s", strcmp(m->method, "none") ? m->method : "plain", strength,
                          file ? ":calibrator=" : "", file ? file : "");
}

static enum soothe_status add(struct soothe__eval_methods *list, const struct soothe__eval_method *m,
                              struct soothe_error *err) {
    if (list->n == SOOTHE__EVAL_METHODS_MAX)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "more than %d methods in one run", SOOTHE__EVAL_METHODS_MAX);
    struct soothe__eval_method *items = soothe__realloc(list->items, list->n + 1, sizeof *items);
    if (!items)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    list->items                   = items;
    struct soothe__eval_method *x = &items[list->n++];
    *x            = (struct soothe__eval_method){.method = m->method, .strength = m->strength, .name = name_of(m)};
    x->calibrator = m->calibrator ? soothe__strdup(m->calibrator) : NULL;
    x->base       = m->base ? soothe__strdup(m->base) : NULL;
    if (!x->name || (m->calibrator && !x->calibrator) || (m->base && !x->base))
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    for (size_t i = 0; i + 1 < list->n; i++)
        if (!strcmp(items[i].name, x->name))
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "method %s is there twice", x->name);
    return SOOTHE_OK;
}

/* One entry, which may be a sweep; entry is cut up. */
static enum soothe_status parse_entry(struct soothe__eval_methods *list, char *entry, struct soothe_error *err) {
    struct soothe__eval_method m      = {.strength = NAN};
    struct sweep               sweep  = {.n = 0};
    enum soothe_status         status = SOOTHE_OK;
    char                      *next   = strchr(entry, ':');
    if (next)
        *next++ = '\0';
    const char                  *name   = !strcmp(entry, "plain") ? "none" : entry;
    const struct soothe__method *method = *name ? soothe__method_find(name) : NULL;
    if (!method) {
        char names[256];
        soothe__method_names(names, sizeof names);
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "there is no method \"%s\"; there are: plain, %s", entry, names);
    }
    m.method = method->name;
    while (next && !status) {
        char *word = next;
        next       = strchr(word, ':');
        if (next)
            *next++ = '\0';
        status = parse_option(&m, &sweep, word, err);
    }
    if (!status && sweep.n == 0)
        status = add(list, &m, err);
    for (size_t i = 0; i < sweep.n && !status; i++) {
        m.strength = (float)(sweep.from + (sweep.to - sweep.from) * (double)i / (double)(sweep.n - 1));
        status     = add(list, &m, err);
    }
    free(m.calibrator);
    free(m.base);
    return status;
}

enum soothe_status soothe__eval_methods_parse(struct soothe__eval_methods *methods, const char *list,
                                              struct soothe_error *err) {
    *methods                = (struct soothe__eval_methods){.n = 0};
    char              *copy = soothe__strdup(list), *next = copy;
    enum soothe_status status = copy ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    while (next && !status) {
        char *entry = next;
        next        = strchr(entry, ',');
        if (next)
            *next++ = '\0';
        status = parse_entry(methods, entry, err);
    }
    free(copy);
    if (status)
        soothe__eval_methods_free(methods);
    return status;
}

void soothe__eval_methods_free(struct soothe__eval_methods *methods) {
    for (size_t i = 0; i < methods->n; i++) {
        free(methods->items[i].name);
        free(methods->items[i].calibrator);
        free(methods->items[i].base);
    }
    free(methods->items);
    *methods = (struct soothe__eval_methods){.n = 0};
}
