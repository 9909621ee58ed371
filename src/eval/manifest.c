/* SPDX-License-Identifier: Apache-2.0
 * The manifest of a run: reading it, the units it stands for, and what makes two of them differ. */
#include <stdlib.h>
#include <string.h>

#include "eval/eval.h"

enum { ITEMS_MAX = 100000000, SAMPLES_MAX = 10000, GROUP_MAX = 100000 };

const char *const soothe__eval_kind_names[SOOTHE__EVAL_KINDS] = {"prompt", "benign", "corpus"};

/* ---- reading ------------------------------------------------------------------------------------------------ */

static bool read_count(size_t *out, const json_t *object, const char *key, json_int_t lo, json_int_t hi) {
    const json_t    *value = json_object_get(object, key);
    const json_int_t n     = json_integer_value(value);
    if (!json_is_integer(value) || n < lo || n > hi)
        return false;
    *out = (size_t)n;
    return true;
}

/* {"n": …} or, where the run has none of the kind, null. */
static bool read_items(size_t *out, const json_t *manifest, const char *key) {
    const json_t *set = json_object_get(manifest, key);
    *out              = 0;
    return json_is_null(set) || read_count(out, set, "n", 0, ITEMS_MAX);
}

static bool all_have(const json_t *array, const char *const *keys) {
    size_t  i;
    json_t *item;
    json_array_foreach(array, i, item) for (size_t k = 0; keys[k];
                                            k++) if (!json_is_string(json_object_get(item, keys[k]))) return false;
    return true;
}

static const char *read_plan(struct soothe__eval_plan *plan, const json_t *m) {
    static const char *const of_method[] = {"name", NULL};
    static const char *const of_scorer[] = {"spec", "kind", "identity", NULL};
    const json_t            *methods = json_object_get(m, "methods"), *scorers = json_object_get(m, "scorers");
    *plan = (struct soothe__eval_plan){.n_methods = json_array_size(methods), .n_scorers = json_array_size(scorers)};
    if (plan->n_methods < 1 || plan->n_methods > SOOTHE__EVAL_METHODS_MAX || !all_have(methods, of_method))
        return "methods";
    if (plan->n_scorers < 1 || plan->n_scorers > SOOTHE__EVAL_SCORERS_MAX || !all_have(scorers, of_scorer))
        return "scorers";
    if (!read_count(&plan->n_samples, m, "n_samples", 1, SAMPLES_MAX))
        return "n_samples";
    plan->n_ppl_samples = plan->n_samples;
    if (json_object_get(m, "n_ppl_samples") && !read_count(&plan->n_ppl_samples, m, "n_ppl_samples", 0, SAMPLES_MAX))
        return "n_ppl_samples";
    if (!read_count(&plan->group, m, "group", 1, GROUP_MAX))
        return "group";
    if (!read_items(&plan->n_items[SOOTHE__EVAL_PROMPT], m, "prompts"))
        return "prompts";
    if (!read_items(&plan->n_items[SOOTHE__EVAL_BENIGN], m, "benign"))
        return "benign";
    if (!read_items(&plan->n_items[SOOTHE__EVAL_CORPUS], m, "corpus"))
        return "corpus";
    return soothe__eval_n_groups(plan) ? NULL : "prompts";
}

enum soothe_status soothe__eval_manifest_parse(json_t **manifest, struct soothe__eval_plan *plan, const char *text,
                                               size_t size, const char *name, struct soothe_error *err) {
    json_error_t why;
    *manifest = NULL;
    json_t *m = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
    if (!m)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s is no JSON: %s", name, why.text);
    const json_t *kind  = json_object_get(m, "kind");
    const char   *wrong = NULL;
    if (!json_is_string(kind) || strcmp(json_string_value(kind), "soothe-eval"))
        soothe__fail(err, SOOTHE_E_FORMAT, "%s is not the manifest of an evaluation", name);
    else if (json_integer_value(json_object_get(m, "schema")) != SOOTHE__EVAL_SCHEMA)
        soothe__fail(err, SOOTHE_E_FORMAT, "%s has another schema than %d: it was written by another version of soothe",
                     name, SOOTHE__EVAL_SCHEMA);
    else if ((wrong = read_plan(plan, m)))
        soothe__fail(err, SOOTHE_E_FORMAT, "%s: \"%s\" is not what a manifest of an evaluation has", name, wrong);
    else {
        if (!json_object_get(m, "n_gpu_layers")) /* not noted by earlier versions */
            json_object_set_new(m, "n_gpu_layers", json_integer(0));
        *manifest = m;
        return SOOTHE_OK;
    }
    json_decref(m);
    return SOOTHE_E_FORMAT;
}

enum soothe_status soothe__eval_manifest_read(json_t **manifest, struct soothe__eval_plan *plan, const char *folder,
                                              struct soothe_error *err) {
    char              *path = soothe__format("%s/manifest.json", folder), *text = NULL;
    size_t             size   = 0;
    enum soothe_status status = path ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    *manifest                 = NULL;
    if (!status && !soothe__file_exists(path))
        status = soothe__fail(err, SOOTHE_E_IO, "%s holds no evaluation: there is no manifest.json", folder);
    if (!status)
        status = soothe__read_file(&text, &size, path, err);
    if (!status)
        status = soothe__eval_manifest_parse(manifest, plan, text, size, path, err);
    free(text);
    free(path);
    return status;
}

/* ---- two of them -------------------------------------------------------------------------------------------- */

/* Where a file lies and how it is called is not what it is. */
static bool counts(const char *key) {
    return strcmp(key, "file") && strcmp(key, "spec");
}

static char *find_difference(const json_t *a, const json_t *b, const char *path, const json_t **in_a,
                             const json_t **in_b);

static char *difference_at(const json_t *a, const json_t *b, const char *path, const char *key, size_t i,
                           const json_t **in_a, const json_t **in_b) {
    char *here  = key ? soothe__format("%s%s%s", path, *path ? "." : "", key) : soothe__format("%s[%zu]", path, i);
    char *found = here ? find_difference(a, b, here, in_a, in_b) : NULL;
    free(here);
    return found;
}

/* Path of the first place where they differ, fresh; NULL: nowhere. */
static char *find_difference(const json_t *a, const json_t *b, const char *path, const json_t **in_a,
                             const json_t **in_b) {
    char       *found = NULL;
    const char *key;
    json_t     *value;
    if (json_is_object(a) && json_is_object(b)) {
        json_object_foreach((json_t *)(uintptr_t)a, key, value) if (!found && counts(key)) found =
            difference_at(value, json_object_get(b, key), path, key, 0, in_a, in_b);
        json_object_foreach((json_t *)(uintptr_t)b, key, value) if (!found && counts(key) && !json_object_get(a, key))
            found = difference_at(NULL, value, path, key, 0, in_a, in_b);
        return found;
    }
    if (json_is_array(a) && json_is_array(b)) {
        const size_t n = json_array_size(a) > json_array_size(b) ? json_array_size(a) : json_array_size(b);
        for (size_t i = 0; i < n && !found; i++)
            found = difference_at(json_array_get(a, i), json_array_get(b, i), path, NULL, i, in_a, in_b);
        return found;
    }
    if (a && b && json_equal(a, b))
        return NULL;
    *in_a = a;
    *in_b = b;
    return soothe__strdup(path);
}

static char *shown(const json_t *value) {
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    if (text && strlen(text) > 80)
        memcpy(text + 76, "...", 4);
    return text ? text : soothe__strdup("nothing");
}

char *soothe__eval_manifest_difference(const json_t *a, const char *name_a, const json_t *b, const char *name_b) {
    const json_t *in_a = NULL, *in_b = NULL;
    char         *path = find_difference(a, b, "", &in_a, &in_b);
    if (!path)
        return NULL;
    char *value_a = shown(in_a), *value_b = shown(in_b);
    char *text = soothe__format("%s is %s in %s and %s in %s", path, value_a ? value_a : "?", name_a,
                                value_b ? value_b : "?", name_b);
    free(value_a);
    free(value_b);
    free(path);
    return text;
}

/* ---- units -------------------------------------------------------------------------------------------------- */

static size_t groups_of(const struct soothe__eval_plan *plan, size_t kind) {
    return (plan->n_items[kind] + plan->group - 1) / plan->group;
}

size_t soothe__eval_n_groups(const struct soothe__eval_plan *plan) {
    size_t n = 0;
    for (size_t kind = 0; kind < SOOTHE__EVAL_KINDS; kind++)
        n += groups_of(plan, kind);
    return n;
}

struct soothe__eval_unit soothe__eval_unit_at(const struct soothe__eval_plan *plan, size_t i_method, size_t i_group) {
    struct soothe__eval_unit u    = {.i_method = i_method, .i_group = i_group};
    size_t                   kind = 0, i = i_group;
    while (kind + 1 < SOOTHE__EVAL_KINDS && i >= groups_of(plan, kind))
        i -= groups_of(plan, kind++);
    u.kind            = (enum soothe__eval_kind)kind;
    u.from            = i * plan->group;
    const size_t left = plan->n_items[kind] > u.from ? plan->n_items[kind] - u.from : 0;
    u.n               = left < plan->group ? left : plan->group;
    return u;
}

size_t soothe__eval_group_of(const struct soothe__eval_plan *plan, enum soothe__eval_kind kind, size_t i_item) {
    size_t i_group = i_item / plan->group;
    for (size_t k = 0; k < (size_t)kind; k++)
        i_group += groups_of(plan, k);
    return i_group;
}
