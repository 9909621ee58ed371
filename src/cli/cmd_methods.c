/* SPDX-License-Identifier: Apache-2.0
 * soothe methods: what --method takes, from the methods' own table. */
#include <string.h>

#include "cli/result.h"
#include "methods/methods.h"

const struct soothe__command soothe__command_methods = {
    .name    = "methods",
    .run     = soothe__cmd_methods,
    .summary = "list the methods that --method takes, with their parameters",
    .help    = "    soothe methods\n"
               "    soothe methods --json\n"
               "\n"
               "Each with the place where it acts (stage), what a token costs, where it comes from, and its parameters: "
               "kind,\n"
               "default, range. The first parameter is the strength: what --strength sets, and at 0 nothing is done. As\n"
               "    soothe run --method NAME:PARAMETER=VALUE:PARAMETER=VALUE --method NAME ...\n",
};

static const char *kind_name(enum soothe__parameter_kind kind) {
    static const char *const names[] = {"number", "integer", "choice", "file", "text"};
    return names[kind];
}

static bool has_range(const struct soothe__parameter *p) {
    return p->kind == SOOTHE__NUMBER || p->kind == SOOTHE__INTEGER;
}

/* ---- as JSON ------------------------------------------------------------------------------------------ */

static json_t *choices_of(const struct soothe__parameter *p) {
    json_t *list = json_array();
    for (const char *word = p->choices; word && *word;) {
        const size_t n = strcspn(word, " ");
        json_array_append_new(list, json_stringn(word, n));
        word += n + strspn(word + n, " ");
    }
    return list;
}

static json_t *parameter_json(const struct soothe__parameter *p) {
    json_t *o = json_pack("{s:s, s:s, s:s?, s:s}", "name", p->name, "kind", kind_name(p->kind), "default", p->fallback,
                          "help", p->help);
    if (has_range(p))
        json_object_set_new(o, "range", json_pack("[f, f]", p->lowest, p->highest));
    if (p->kind == SOOTHE__CHOICE)
        json_object_set_new(o, "choices", choices_of(p));
    return o;
}

static json_t *method_json(const struct soothe__method *m, bool is_default) {
    json_t *parameters = json_array();
    for (const struct soothe__parameter *p = m->parameters; p && p->name; p++)
        json_array_append_new(parameters, parameter_json(p));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:s?, s:o}", "name", m->name, "summary", m->summary, "stage",
                     m->stage, "cost", m->cost, "source", m->source, "default", (int)is_default, "stands_for",
                     m->stands_for, "parameters", parameters);
}

/* ---- for readers --------------------------------------------------------------------------------------- */

static void print_parameter(const struct soothe__parameter *p) {
    char range[128] = "";
    if (has_range(p))
        snprintf(range, sizeof range, " %g to %g", p->lowest, p->highest);
    else if (p->kind == SOOTHE__CHOICE)
        snprintf(range, sizeof range, " of: %s", p->choices);
    printf("    %-12s %s%s", p->name, kind_name(p->kind), range);
    printf(p->fallback ? ", default %s\n" : "\n", p->fallback);
    printf("                 %s\n", p->help);
}

static void print_method(const struct soothe__method *m, bool is_default) {
    printf("%s%s: %s\n", m->name, is_default ? " (default)" : "", m->summary);
    printf("    stage %s; cost %s; source %s\n", m->stage, m->cost, m->source);
    for (const struct soothe__parameter *p = m->parameters; p && p->name; p++)
        print_parameter(p);
}

int soothe__cmd_methods(int argc, const char **argv) {
    int                     as_json   = 0;
    const struct poptOption options[] = {{"json", '\0', POPT_ARG_NONE, &as_json, 0, "the list as JSON", NULL},
                                         POPT_TABLEEND};
    poptContext             context;
    int                     code = soothe__options_read(&context, &soothe__command_methods, argc, argv, options);
    const char             *more = code < 0 ? poptGetArg(context) : NULL;
    if (more)
        code = soothe__print_misuse("methods", "\"%s\" belongs to no option", more);
    json_t *list = json_array();
    for (size_t i = 0; code < 0 && soothe__method_at(i); i++) {
        const struct soothe__method *m          = soothe__method_at(i);
        const bool                   is_default = m == soothe__method_find(NULL);
        if (as_json)
            json_array_append_new(list, method_json(m, is_default));
        else
            print_method(m, is_default);
    }
    if (code < 0)
        code = as_json ? soothe__print_json(json_pack("{s:O}", "methods", list), 10) : SOOTHE__EXIT_DONE;
    json_decref(list);
    poptFreeContext(context);
    return code;
}
