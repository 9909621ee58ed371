/* SPDX-License-Identifier: Apache-2.0
 * Chains of methods: from words to values, and from values to a session at work. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fusion/fusion.h"
#include "methods/methods.h"
#include "methods/rewrite.h"

/* ---- values ------------------------------------------------------------------------------------------ */

/* The place of a word among others, or -1. */
static int place_among(const char *word, const char *choices) {
    const size_t n = strlen(word);
    for (int i = 0; *choices; i++) {
        const size_t length = strcspn(choices, " ");
        if (n == length && !strncmp(word, choices, n))
            return i;
        choices += length + strspn(choices + length, " ");
    }
    return -1;
}

static enum soothe_status read_value(struct soothe__value *v, const struct soothe__method *m,
                                     const struct soothe__parameter *p, const char *text, struct soothe_error *err) {
    double  number = NAN;
    int64_t whole;
    bool    ok = true;
    if (p->kind == SOOTHE__NUMBER)
        ok = soothe__parse_double(&number, text, p->lowest, p->highest);
    else if (p->kind == SOOTHE__INTEGER &&
             (ok = soothe__parse_int64(&whole, text, (int64_t)p->lowest, (int64_t)p->highest)))
        number = (double)whole;
    else if (p->kind == SOOTHE__CHOICE)
        ok = (number = place_among(text, p->choices)) >= 0;
    if (!ok && p->kind == SOOTHE__CHOICE)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%s of method %s is \"%.80s\"; there are: %s", p->name, m->name,
                            text, p->choices);
    if (!ok)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%s of method %s is \"%.80s\": %s from %g to %g is wanted", p->name,
                            m->name, text, p->kind == SOOTHE__INTEGER ? "a whole number" : "a number", p->lowest,
                            p->highest);
    char *copy = soothe__strdup(text);
    if (!copy)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    free(v->text);
    *v = (struct soothe__value){.given = true, .number = number, .text = copy};
    return SOOTHE_OK;
}

static bool any_parameters(const struct soothe__method *m) {
    return m->parameters && m->parameters[0].name;
}

/* "strength" and "alpha" are words for the first parameter. */
static bool is_named(const struct soothe__method *m, size_t i, const char *name) {
    const bool first = i == 0 && (!strcmp(name, "strength") || !strcmp(name, "alpha"));
    return first || !strcmp(m->parameters[i].name, name);
}

static enum soothe_status set_value(struct soothe__chain_item *item, const char *name, const char *value, bool *found,
                                    struct soothe_error *err) {
    const struct soothe__method *m = item->method;
    for (size_t i = 0; any_parameters(m) && m->parameters[i].name; i++)
        if (is_named(m, i, name)) {
            *found = true;
            return read_value(&item->values[i], m, &m->parameters[i], value, err);
        }
    return SOOTHE_OK;
}

static enum soothe_status set_fallbacks(struct soothe__chain_item *item, struct soothe_error *err) {
    const struct soothe__method *m      = item->method;
    enum soothe_status           status = SOOTHE_OK;
    for (size_t i = 0; any_parameters(m) && m->parameters[i].name && !status; i++) {
        item->values[i].number = NAN;
        if (m->parameters[i].fallback)
            status = read_value(&item->values[i], m, &m->parameters[i], m->parameters[i].fallback, err);
        item->values[i].given = false;
    }
    return status;
}

static void free_item(struct soothe__chain_item *item) {
    for (size_t i = 0; i < SOOTHE__PARAMETERS_MAX; i++)
        free(item->values[i].text);
    *item = (struct soothe__chain_item){.method = NULL};
}

/* ---- from words -------------------------------------------------------------------------------------- */

static enum soothe_status no_parameter(const struct soothe__method *m, const char *name, struct soothe_error *err) {
    char   names[256] = "";
    size_t n          = 0;
    if (!any_parameters(m))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "method %s takes no %s: it has no parameters", m->name, name);
    for (size_t i = 0; m->parameters[i].name && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", m->parameters[i].name);
    return soothe__fail(err, SOOTHE_E_ARGUMENT, "method %s takes no %s; it has: %s", m->name, name, names);
}

/* "KEY=VALUE:KEY=VALUE", cut up. */
static enum soothe_status read_parameters(struct soothe__chain_item *item, char *words, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (char *word = words, *next; word && !status; word = next) {
        next        = word + strcspn(word, ":,");
        next        = *next ? (*next = '\0', next + 1) : NULL;
        char *value = strchr(word, '=');
        if (!value || !value[1])
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "\"%.80s\" of method %s is not of the form KEY=VALUE", word,
                                item->method->name);
        *value++   = '\0';
        bool found = false;
        status     = set_value(item, word, value, &found, err);
        if (!status && !found)
            status = no_parameter(item->method, word, err);
    }
    return status;
}

static enum soothe_status add_what_it_stands_for(struct soothe__chain *chain, const struct soothe__method *method,
                                                 struct soothe_error *err) {
    const bool               alone  = chain->n == 0;
    const enum soothe_status status = soothe__chain_add(chain, method->stands_for, err);
    chain->all                      = alone && !status ? method : NULL;
    return status;
}

static enum soothe_status add_one(struct soothe__chain *chain, char *words, struct soothe_error *err) {
    char  names[512];
    char *parameters = words ? strchr(words, ':') : NULL;
    if (parameters)
        *parameters++ = '\0';
    if (chain->n == SOOTHE__CHAIN_MAX)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "more than %d methods in one chain", SOOTHE__CHAIN_MAX);
    const struct soothe__method *method = soothe__method_find(words);
    if (!method) {
        soothe__method_names(names, sizeof names);
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "there is no method \"%.80s\"; there are: %s", words, names);
    }
    if (method->stands_for)
        return parameters ? no_parameter(method, "parameter", err) : add_what_it_stands_for(chain, method, err);
    struct soothe__chain_item *item = &chain->items[chain->n];
    *item                           = (struct soothe__chain_item){.method = method};
    enum soothe_status status       = set_fallbacks(item, err);
    chain->all                      = NULL;
    if (!status && parameters)
        status = read_parameters(item, parameters, err);
    if (status)
        free_item(item);
    else
        chain->n++;
    return status;
}

enum soothe_status soothe__chain_add(struct soothe__chain *chain, const char *text, struct soothe_error *err) {
    const size_t n_before = chain->n;
    if (!text)
        return add_one(chain, NULL, err);
    char              *copy   = soothe__strdup(text);
    enum soothe_status status = copy ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    for (char *word = copy, *next; word && !status; word = next) {
        next   = strchr(word, '+');
        next   = next ? (*next = '\0', next + 1) : NULL;
        status = add_one(chain, word, err);
    }
    free(copy);
    while (status && chain->n > n_before)
        free_item(&chain->items[--chain->n]);
    return status;
}

enum soothe_status soothe__chain_add_first(struct soothe__chain *chain, const char *text, struct soothe_error *err) {
    const size_t             n      = chain->n;
    const enum soothe_status status = soothe__chain_add(chain, text, err);
    for (size_t added = n; added < chain->n; added++) {
        const struct soothe__chain_item item = chain->items[added];
        memmove(&chain->items[added - n + 1], &chain->items[added - n], n * sizeof item);
        chain->items[added - n] = item;
    }
    return status;
}

static bool is_gate(const struct soothe__method *m) {
    return strcmp(m->stage, "gate") == 0;
}

bool soothe__chain_has_stage(const struct soothe__chain *chain, const char *stage) {
    bool has = false;
    for (size_t i = 0; i < chain->n; i++)
        has = has || strcmp(chain->items[i].method->stage, stage) == 0;
    return has;
}

/* A dose is a token's: it reaches what acts on states and logits, not on a prompt, a whole text or a whole context. */
enum soothe_status soothe__chain_check(const struct soothe__chain *chain, struct soothe_error *err) {
    static const char *const with_doses[] = {"state", "logits", "candidates"};
    bool                     gated        = false;
    size_t                   n_gates      = 0;
    for (size_t i = 0; i < chain->n; i++)
        n_gates += is_gate(chain->items[i].method);
    if (n_gates == 0)
        return SOOTHE_OK;
    if (n_gates > 1)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "one gate is what a chain can have");
    for (size_t i = 0; i < chain->n; i++)
        if (!strcmp(chain->items[i].method->stage, "blocks"))
            return soothe__fail(err, SOOTHE_E_ARGUMENT,
                                "method %s acts on the whole context: a gate cannot hold it back",
                                chain->items[i].method->name);
    for (size_t i = 0; i < sizeof with_doses / sizeof *with_doses; i++)
        gated = gated || soothe__chain_has_stage(chain, with_doses[i]);
    return gated ? SOOTHE_OK
                 : soothe__fail(err, SOOTHE_E_ARGUMENT,
                                "a gate needs a method that it can hold back: one of states or logits");
}

/* Not a gate's strength beside those of what it gates. That of a combination (auto) is its last method's, for which the
 * others were chosen; 0 takes all away. */
enum soothe_status soothe__chain_set(struct soothe__chain *chain, const char *name, const char *value,
                                     struct soothe_error *err) {
    double             zero;
    bool               found  = false;
    const bool         amount = !strcmp(name, "strength") || !strcmp(name, "alpha");
    const bool         last   = chain->all && amount && !soothe__parse_double(&zero, value, 0, 0);
    enum soothe_status status = SOOTHE_OK;
    chain->all                = NULL;
    for (size_t i = 0; i < chain->n && !status; i++) {
        const bool other = is_gate(chain->items[i].method) || (last && i + 1 < chain->n);
        if (!amount || chain->n == 1 || !other)
            status = set_value(&chain->items[i], name, value, &found, err);
    }
    if (!status && !found && chain->n == 1)
        return no_parameter(chain->items[0].method, name, err);
    return status || found ? status : soothe__fail(err, SOOTHE_E_ARGUMENT, "no method of the chain takes %s", name);
}

char *soothe__chain_name(const struct soothe__chain *chain) {
    char *name = soothe__strdup(chain->all ? chain->all->name : "");
    for (size_t i = 0; i < chain->n && name && !chain->all; i++) {
        const struct soothe__chain_item *item   = &chain->items[i];
        char                            *longer = soothe__format("%s%s%s", name, i ? "+" : "",
                                      strcmp(item->method->name, "none") ? item->method->name : "plain");
        free(name);
        name = longer;
        for (size_t k = 0; any_parameters(item->method) && item->method->parameters[k].name && name; k++) {
            if (!item->values[k].given)
                continue;
            char        number[32];
            const char *text = item->values[k].text;
            snprintf(number, sizeof number, "%.6g", item->values[k].number);
            longer =
                soothe__format("%s:%s=%s", name, item->method->parameters[k].name,
                               item->method->parameters[k].kind <= SOOTHE__INTEGER ? number : soothe__file_name(text));
            free(name);
            name = longer;
        }
    }
    return name;
}

void soothe__chain_free(struct soothe__chain *chain) {
    for (size_t i = 0; i < chain->n; i++)
        free_item(&chain->items[i]);
    chain->n   = 0;
    chain->all = NULL;
}

/* ---- at work ----------------------------------------------------------------------------------------- */

const struct soothe__value *soothe__link_value(const struct soothe__link *l, const char *name) {
    static const struct soothe__value NOTHING = {.number = NAN};
    for (size_t i = 0; l->method->parameters[i].name; i++)
        if (!strcmp(l->method->parameters[i].name, name))
            return &l->values[i];
    return &NOTHING;
}

static int turn_of(const struct soothe__method *m) {
    return strcmp(m->stage, "state") == 0 ? 0 : is_gate(m) ? 2 : 1;
}

enum soothe_status soothe__chain_apply(struct soothe__applied *a, struct soothe__chain *chain,
                                       struct llama_model *target, const char *target_path,
                                       const struct llama_context_params *context, struct soothe_error *err) {
    const struct soothe__method_target t      = {target, target_path};
    struct soothe_session_params       p      = soothe_session_params_default();
    enum soothe_status                 status = chain->n ? SOOTHE_OK : soothe__chain_add(chain, NULL, err);
    *a                                        = (struct soothe__applied){.n = 0};
    p.context                                 = *context;
    if (!status)
        status = soothe__chain_check(chain, err);
    for (size_t i = 0; i < chain->n && !status; i++) {
        a->links[a->n].method = chain->items[i].method;
        memcpy(a->links[a->n++].values, chain->items[i].values, sizeof a->links->values);
    }
    /* Calibrators first, gates last: that a calibrator does not fit says more than that its gate does not. */
    for (int turn = 0; turn < 3; turn++)
        for (size_t i = 0; i < a->n && !status; i++) {
            struct soothe__link *l = &a->links[i];
            if (turn_of(l->method) == turn && l->method->open)
                status = l->method->open(l, &t, &p.context, err);
        }
    if (!status)
        status = soothe_session_new(&a->session, target, NULL, &p, err);
    for (size_t i = 0; i < a->n && !status; i++)
        if (a->links[i].method->attach)
            status = a->links[i].method->attach(&a->links[i], a->session, err);
    if (status)
        soothe__applied_release(a);
    return status;
}

void soothe__applied_release(struct soothe__applied *a) {
    soothe_session_free(a->session);
    for (size_t i = a->n; i-- > 0;)
        if (a->links[i].method->release)
            a->links[i].method->release(a->links[i].state);
    soothe__events_free(a);
    *a = (struct soothe__applied){.n = 0};
}

void soothe__applied_names(const struct soothe__applied *a, char *out, size_t size) {
    size_t n = 0;
    out[0]   = '\0';
    for (size_t i = 0; i < a->n && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", i ? "+" : "", a->links[i].method->name);
}

const char *soothe__applied_source(const struct soothe__applied *a) {
    const char *source = NULL;
    for (size_t i = a->n; i-- > 0;)
        if (a->links[i].source && !is_gate(a->links[i].method)) {
            source = a->links[i].source;
            if (strcmp(a->links[i].method->stage, "state") == 0)
                break;
        }
    return source;
}

float soothe__applied_strength(const struct soothe__applied *a) {
    return a->n == 1 ? a->links[0].strength : NAN;
}
