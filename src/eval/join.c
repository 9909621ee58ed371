/* SPDX-License-Identifier: Apache-2.0
 * What the report of several runs is about: what they must agree in, which of their records count, and one manifest for
 * all, as if they had been one run. A single run's is its own. */
#include <stdlib.h>
#include <string.h>

#include "eval/report.h"

static const char *text_at(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "nothing";
}

static void note(struct soothe__report *r, char *sentence) {
    json_array_append_new(r->notes, json_string(sentence ? sentence : "out of memory for a note"));
    free(sentence);
}

/* ---- what must be the same ---------------------------------------------------------------------------------- */

static enum soothe_status refuse(char *difference, struct soothe_error *err) {
    const enum soothe_status status =
        soothe__fail(err, SOOTHE_E_MISMATCH, "these runs cannot be compared: %.900s", difference ? difference : "");
    free(difference);
    return status;
}

/* "what is X in A and Y in B": their names, or where these are the same their hashes. */
static char *file_difference(const char *what, const char *name, const char *hash, const json_t *a, const char *in_a,
                             const json_t *b, const char *in_b) {
    const char *key = strcmp(text_at(a, name), text_at(b, name)) ? name : hash;
    return soothe__format("%s is %s in %s and %s in %s", what, text_at(a, key), in_a, text_at(b, key), in_b);
}

static bool same_text(const json_t *a, const json_t *b, const char *key) {
    return !strcmp(text_at(a, key), text_at(b, key));
}

/* What the texts and their first scores come of; without the prompts' hash where not all of them count:
 * they are compared one by one when they are read. */
static json_t *decisive(const struct soothe__part *p, bool all_prompts) {
    static const char *const keys[] = {"sampling", "n_samples", "n_predict", "seed"};
    json_t                  *o      = json_object();
    if (all_prompts)
        json_object_set_new(
            o, "prompts",
            json_pack("{s:O?}", "sha256", json_object_get(json_object_get(p->manifest, "prompts"), "sha256")));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        json_object_set(o, keys[i], json_object_get(p->manifest, keys[i]));
    return o;
}

static const json_t *main_scorer(const struct soothe__part *p) {
    return json_array_get(json_object_get(p->manifest, "scorers"), 0);
}

static enum soothe_status check_agreement(const struct soothe__part *a, const struct soothe__part *b, size_t limit,
                                          struct soothe_error *err) {
    const size_t n      = a->plan.n_items[SOOTHE__EVAL_PROMPT];
    const bool   same_n = n == b->plan.n_items[SOOTHE__EVAL_PROMPT] && !(limit > 0 && limit < n);
    if (!same_text(main_scorer(a), main_scorer(b), "identity")) /* first: it may have judged the prompts too */
        return refuse(file_difference("the main scorer", "spec", "identity", main_scorer(a), a->folder, main_scorer(b),
                                      b->folder),
                      err);
    json_t *of_a = decisive(a, same_n), *of_b = decisive(b, same_n);
    char   *difference = soothe__eval_manifest_difference(of_a, a->folder, of_b, b->folder);
    json_decref(of_a);
    json_decref(of_b);
    return difference ? refuse(difference, err) : SOOTHE_OK;
}

/* ---- items -------------------------------------------------------------------------------------------------- */

/* The prompts that all have: the first n. The report's are those of the run that has no more. */
static void join_prompts(struct soothe__report *r) {
    const struct soothe__part *fewest = &r->parts[0], *most = &r->parts[0];
    for (size_t i = 1; i < r->c->n_folders; i++) {
        const struct soothe__part *p = &r->parts[i];
        fewest = p->plan.n_items[SOOTHE__EVAL_PROMPT] < fewest->plan.n_items[SOOTHE__EVAL_PROMPT] ? p : fewest;
        most   = p->plan.n_items[SOOTHE__EVAL_PROMPT] > most->plan.n_items[SOOTHE__EVAL_PROMPT] ? p : most;
    }
    size_t      *n       = &r->plan.n_items[SOOTHE__EVAL_PROMPT];
    const size_t n_most  = most->plan.n_items[SOOTHE__EVAL_PROMPT];
    json_t      *prompts = json_copy(json_object_get(fewest->manifest, "prompts"));
    *n                   = fewest->plan.n_items[SOOTHE__EVAL_PROMPT];
    if (r->c->limit > 0 && r->c->limit < *n) {
        *n = r->c->limit;
        json_object_set_new(prompts, "n", json_integer((json_int_t)*n));
        json_object_set_new(prompts, "sha256", json_null());
        note(r, soothe__format("only the first %zu prompts count (--limit); %s has %zu", *n, most->folder, n_most));
    } else if (n_most > *n) {
        note(r, soothe__format("only the first %zu prompts count: %s has no more, %s has %zu", *n, fewest->folder,
                               most->folder, n_most));
    }
    json_object_set_new(r->manifest, "prompts", prompts);
}

/* What makes benign prompts and their answers, or neutral texts, the same. */
static json_t *decisive_set(const struct soothe__part *p, const char *name) {
    json_t *set = json_copy(json_object_get(p->manifest, name)), *o = json_pack("{s:o?}", name, set);
    json_object_del(set, "sources");
    json_object_del(set, "skipped");
    if (!strcmp(name, "benign"))
        json_object_set(o, "n_predict_benign", json_object_get(p->manifest, "n_predict_benign"));
    return o;
}

static char *set_difference(const struct soothe__part *a, const struct soothe__part *b, enum soothe__eval_kind kind) {
    const char *name = soothe__eval_kind_names[kind];
    if (!a->plan.n_items[kind] && !b->plan.n_items[kind])
        return NULL;
    if (!a->plan.n_items[kind] || !b->plan.n_items[kind])
        return soothe__format("%s has none", a->plan.n_items[kind] ? b->folder : a->folder);
    json_t *of_a = decisive_set(a, name), *of_b = decisive_set(b, name);
    char   *difference = soothe__eval_manifest_difference(of_a, a->folder, of_b, b->folder);
    json_decref(of_a);
    json_decref(of_b);
    return difference;
}

/* Benign prompts and neutral texts count where all runs have the same. */
static void join_set(struct soothe__report *r, enum soothe__eval_kind kind, const char *title) {
    char *difference = NULL;
    for (size_t i = 1; i < r->c->n_folders && !difference; i++)
        difference = set_difference(&r->parts[0], &r->parts[i], kind);
    if (!difference)
        return;
    r->plan.n_items[kind] = 0;
    json_object_set_new(r->manifest, soothe__eval_kind_names[kind], json_null());
    note(r, soothe__format("%s are left out: %s", title, difference));
    free(difference);
}

/* ---- scorers ------------------------------------------------------------------------------------------------ */

static size_t n_scorers(const struct soothe__part *p) {
    return p->plan.n_scorers + p->n_rescored;
}

static json_t *scorer_of(const struct soothe__part *p, size_t i) {
    if (i < p->plan.n_scorers) {
        const json_t *scorer = json_array_get(json_object_get(p->manifest, "scorers"), i);
        return json_pack("{s:O, s:O, s:O}", "spec", json_object_get(scorer, "spec"), "kind",
                         json_object_get(scorer, "kind"), "identity", json_object_get(scorer, "identity"));
    }
    const struct soothe__rescored *x = &p->rescored[i - p->plan.n_scorers];
    return json_pack("{s:s, s:s, s:s}", "spec", x->spec, "kind", x->kind, "identity", x->identity);
}

/* The place among a part's scorers of one that is not taken yet. */
static size_t find_scorer(const struct soothe__part *p, const json_t *wanted) {
    size_t found = SOOTHE__NOWHERE;
    for (size_t i = 0; i < n_scorers(p) && found == SOOTHE__NOWHERE; i++) {
        json_t *scorer = scorer_of(p, i);
        if (p->view.scorers[i] == SOOTHE__NOWHERE && same_text(scorer, wanted, "identity"))
            found = i;
        json_decref(scorer);
    }
    return found;
}

/* Gives a scorer its place in the report, if all parts have it. */
static bool take_scorer(struct soothe__report *r, json_t *scorer) {
    bool rescored = false;
    for (size_t i = 0; i < r->c->n_folders; i++)
        if (find_scorer(&r->parts[i], scorer) == SOOTHE__NOWHERE)
            return false;
    for (size_t i = 0; i < r->c->n_folders; i++) {
        struct soothe__part *p     = &r->parts[i];
        const size_t         found = find_scorer(p, scorer);
        p->view.scorers[found]     = r->plan.n_scorers;
        rescored                   = rescored || found >= p->plan.n_scorers;
    }
    json_object_set_new(scorer, "main", json_boolean(r->plan.n_scorers == 0));
    json_object_set_new(scorer, "rescored", json_boolean(rescored));
    json_array_append(r->scorers, scorer);
    r->plan.n_scorers++;
    return true;
}

/* Each once, with the first run that has it. */
static void note_scorers_left_out(struct soothe__report *r) {
    json_t *told = json_object();
    for (size_t i = 0; i < r->c->n_folders; i++) {
        for (size_t k = 0; k < n_scorers(&r->parts[i]); k++) {
            json_t     *scorer   = scorer_of(&r->parts[i], k);
            const char *identity = text_at(scorer, "identity");
            if (r->parts[i].view.scorers[k] == SOOTHE__NOWHERE && !json_object_get(told, identity)) {
                json_object_set_new(told, identity, json_true());
                note(r, soothe__format("the scorer %s of %s is left out: not all runs have it", text_at(scorer, "spec"),
                                       r->parts[i].folder));
            }
            json_decref(scorer);
        }
    }
    json_decref(told);
}

/* The scorers of all parts, in the order of the first one's; the main one is first everywhere. */
static void join_scorers(struct soothe__report *r) {
    json_t *of_manifest = json_array();
    r->scorers          = json_array();
    r->plan.n_scorers   = 0;
    for (size_t i = 0; i < r->c->n_folders; i++)
        for (size_t k = 0; k < SOOTHE__EVAL_SCORERS_MAX; k++)
            r->parts[i].view.scorers[k] = SOOTHE__NOWHERE;
    for (size_t k = 0; k < n_scorers(&r->parts[0]); k++) {
        json_t *scorer = scorer_of(&r->parts[0], k);
        if (take_scorer(r, scorer) && k < r->parts[0].plan.n_scorers)
            json_array_append(of_manifest, json_array_get(json_object_get(r->parts[0].manifest, "scorers"), k));
        json_decref(scorer);
    }
    json_object_set_new(r->manifest, "scorers", of_manifest);
    note_scorers_left_out(r);
}

/* ---- perplexity --------------------------------------------------------------------------------------------- */

static const json_t *ppl_model(const struct soothe__part *p) {
    return json_object_get(p->manifest, "ppl_model");
}

static bool judges_itself(const struct soothe__part *p) {
    return json_is_true(json_object_get(ppl_model(p), "is_target"));
}

/* Whose perplexity model the others must have: the first that was given one, else the first that measured. */
static const struct soothe__part *ppl_reference(const struct soothe__report *r) {
    const struct soothe__part *first = NULL;
    for (size_t i = 0; i < r->c->n_folders; i++) {
        const struct soothe__part *p = &r->parts[i];
        if (p->plan.n_ppl_samples > 0 && (!first || (judges_itself(first) && !judges_itself(p))))
            first = p;
    }
    return first;
}

static enum soothe_status join_perplexity(struct soothe__report *r, struct soothe_error *err) {
    const struct soothe__part *reference = ppl_reference(r), *fewest = reference;
    bool                       differ = false;
    for (size_t i = 0; i < r->c->n_folders && reference; i++) {
        struct soothe__part *p = &r->parts[i];
        if (p->plan.n_ppl_samples == 0) {
            note(r, soothe__format("%s has no perplexity: it measured none", p->folder));
        } else if (same_text(ppl_model(p), ppl_model(reference), "sha256")) {
            differ = differ || p->plan.n_ppl_samples != fewest->plan.n_ppl_samples;
            fewest = p->plan.n_ppl_samples < fewest->plan.n_ppl_samples ? p : fewest;
        } else if (judges_itself(p)) {
            p->view.n_ppl_samples = 0;
            note(r, soothe__format("the perplexity of %s is left out: its own model judged, not %s as for %s",
                                   p->folder, text_at(ppl_model(reference), "file"), reference->folder));
        } else {
            return refuse(file_difference("the perplexity model", "file", "sha256", ppl_model(reference),
                                          reference->folder, ppl_model(p), p->folder),
                          err);
        }
    }
    for (size_t i = 0; i < r->c->n_folders && reference; i++)
        if (r->parts[i].view.n_ppl_samples > fewest->plan.n_ppl_samples)
            r->parts[i].view.n_ppl_samples = fewest->plan.n_ppl_samples;
    if (differ)
        note(r, soothe__format("perplexity is of each prompt's first samples, %zu of them: %s measured no more",
                               fewest->plan.n_ppl_samples, fewest->folder));
    if (reference) {
        r->plan.n_ppl_samples = fewest->plan.n_ppl_samples;
        json_object_set(r->manifest, "ppl_model", (json_t *)(uintptr_t)ppl_model(reference));
        if (differ || fewest != &r->parts[0])
            json_object_set_new(r->manifest, "n_ppl_samples", json_integer((json_int_t)r->plan.n_ppl_samples));
    }
    return SOOTHE_OK;
}

/* ---- methods: the report's rows ----------------------------------------------------------------------------- */

static const char *model_hash(const struct soothe__part *p) {
    return text_at(json_object_get(p->manifest, "model"), "sha256");
}

static bool is_wanted(const struct soothe__report *r, const char *name) {
    if (!r->c->methods)
        return true;
    for (size_t i = 0; i < r->c->methods->n; i++)
        if (!strcmp(r->c->methods->items[i].name, name))
            return true;
    return false;
}

/* Every wanted method must be somewhere, and every run must have one of them. */
static enum soothe_status check_wanted(const struct soothe__report *r, struct soothe_error *err) {
    for (size_t k = 0; r->c->methods && k < r->c->methods->n; k++) {
        const char *name  = r->c->methods->items[k].name;
        bool        found = false;
        for (size_t i = 0; i < r->c->n_folders; i++)
            for (size_t m = 0; m < r->parts[i].plan.n_methods; m++)
                found =
                    found ||
                    !strcmp(text_at(json_array_get(json_object_get(r->parts[i].manifest, "methods"), m), "name"), name);
        if (!found)
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "none of the runs has the method %s", name);
    }
    return SOOTHE_OK;
}

static size_t count_models(const struct soothe__report *r) {
    size_t n = 0;
    for (size_t i = 0; i < r->c->n_folders; i++) {
        bool known = false;
        for (size_t k = 0; k < i; k++)
            known = known || !strcmp(model_hash(&r->parts[i]), model_hash(&r->parts[k]));
        n += !known;
    }
    return n;
}

/* Adds a part's rows, named by method and, among several models, by model. */
static enum soothe_status add_rows(struct soothe__report *r, size_t i_part, bool with_model, json_t *rows,
                                   json_t *folders, struct soothe_error *err) {
    struct soothe__part *p     = &r->parts[i_part];
    const char          *model = text_at(json_object_get(p->manifest, "model"), "file");
    const size_t         n     = json_array_size(rows);
    size_t               i;
    json_t              *method;
    json_array_foreach(json_object_get(p->manifest, "methods"), i, method) {
        const char *name   = text_at(method, "name");
        p->view.methods[i] = is_wanted(r, name) ? json_array_size(rows) : SOOTHE__NOWHERE;
        if (p->view.methods[i] == SOOTHE__NOWHERE)
            continue;
        json_t *row = json_copy(method);
        if (with_model)
            json_object_set_new(row, "name", json_sprintf("%s: %s", model, name));
        json_array_append_new(rows, row);
        json_array_append_new(folders, json_string(p->folder));
    }
    if (json_array_size(rows) == n)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%s has none of the methods asked for", p->folder);
    return SOOTHE_OK;
}

/* Rows of the same name get their run's folder behind it. */
static void tell_apart(json_t *rows, const json_t *folders) {
    const size_t n     = json_array_size(rows);
    bool        *again = soothe__calloc(n, sizeof *again);
    for (size_t i = 0; i < n && again; i++)
        for (size_t k = 0; k < n; k++)
            again[i] = again[i] || (k != i && same_text(json_array_get(rows, i), json_array_get(rows, k), "name"));
    for (size_t i = 0; i < n && again; i++) {
        json_t *row = json_array_get(rows, i);
        if (again[i])
            json_object_set_new(
                row, "name",
                json_sprintf("%s (%s)", text_at(row, "name"), json_string_value(json_array_get(folders, i))));
    }
    free(again);
}

static enum soothe_status join_methods(struct soothe__report *r, struct soothe_error *err) {
    const bool         with_model = count_models(r) > 1;
    json_t            *rows = json_array(), *folders = json_array();
    enum soothe_status status = check_wanted(r, err);
    for (size_t i = 0; i < r->c->n_folders && !status; i++)
        status = add_rows(r, i, with_model, rows, folders, err);
    tell_apart(rows, folders);
    json_decref(folders);
    r->plan.n_methods = json_array_size(rows);
    json_object_set_new(r->manifest, "methods", rows);
    return status;
}

/* ---- the rest of the manifest ------------------------------------------------------------------------------- */

/* What may differ, and would be wrong of all runs then, is null; `runs` has it. */
static const char *const OWN[] = {"tool", "engine", "model", "group", "n_parallel", "n_ctx", "n_gpu_layers"};
enum { N_OWN = sizeof OWN / sizeof *OWN };

static void drop_differing(struct soothe__report *r) {
    const size_t n_models = count_models(r);
    for (size_t k = 0; k < N_OWN; k++) {
        for (size_t i = 1; i < r->c->n_folders; i++) {
            const json_t *a = json_object_get(r->parts[0].manifest, OWN[k]),
                         *b = json_object_get(r->parts[i].manifest, OWN[k]);
            const bool same = strcmp(OWN[k], "model") ? json_equal((json_t *)(uintptr_t)a, (json_t *)(uintptr_t)b)
                                                      : same_text(a, b, "sha256");
            if (!same)
                json_object_set_new(r->manifest, OWN[k], json_null());
        }
    }
    if (n_models > 1)
        json_object_set_new(r->manifest, "model_name", json_sprintf("%zu models", n_models));
}

static json_t *json_run(const struct soothe__report *r, const struct soothe__part *p) {
    json_t *o = json_pack("{s:s}", "folder", p->folder), *names = json_array();
    for (size_t i = 0; i < p->plan.n_methods; i++)
        if (p->view.methods[i] != SOOTHE__NOWHERE)
            json_array_append(
                names,
                json_object_get(json_array_get(json_object_get(r->manifest, "methods"), p->view.methods[i]), "name"));
    json_object_set_new(o, "methods", names);
    for (size_t k = 0; k < N_OWN; k++)
        json_object_set(o, OWN[k], json_object_get(p->manifest, OWN[k]));
    json_object_set_new(o, "n_prompts", json_integer((json_int_t)p->plan.n_items[SOOTHE__EVAL_PROMPT]));
    json_object_set(o, "ppl_model", json_object_get(p->manifest, "ppl_model"));
    json_object_set_new(o, "n_ppl_samples", json_integer((json_int_t)p->plan.n_ppl_samples));
    return o;
}

/* ---- the whole ---------------------------------------------------------------------------------------------- */

static enum soothe_status check_folders(const struct soothe__eval_comparison *c, struct soothe_error *err) {
    for (size_t i = 0; i < c->n_folders; i++) {
        if (!soothe__utf8_valid(c->folders[i], strlen(c->folders[i])))
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "the name of the folder %s is not UTF-8: rename it",
                                c->folders[i]);
        for (size_t k = 0; k < i; k++)
            if (!strcmp(c->folders[i], c->folders[k]))
                return soothe__fail(err, SOOTHE_E_ARGUMENT, "%s is there twice", c->folders[i]);
    }
    return SOOTHE_OK;
}

enum soothe_status soothe__report_join(struct soothe__report *r, struct soothe_error *err) {
    enum soothe_status status = r->c->joined ? check_folders(r->c, err) : SOOTHE_OK;
    for (size_t i = 1; i < r->c->n_folders && !status; i++)
        status = check_agreement(&r->parts[0], &r->parts[i], r->c->limit, err);
    if (status)
        return status;
    r->plan     = r->parts[0].plan;
    r->manifest = json_copy(r->parts[0].manifest);
    r->notes    = json_array();
    join_prompts(r);
    join_set(r, SOOTHE__EVAL_BENIGN, "benign prompts");
    join_set(r, SOOTHE__EVAL_CORPUS, "neutral texts");
    join_scorers(r);
    status = join_perplexity(r, err);
    if (!status)
        status = join_methods(r, err);
    if (status)
        return status;
    drop_differing(r);
    r->runs = json_array();
    for (size_t i = 0; i < r->c->n_folders; i++)
        json_array_append_new(r->runs, json_run(r, &r->parts[i]));
    if (!r->c->joined) { /* a run's own report: there is nothing to tell */
        json_decref(r->runs);
        json_decref(r->notes);
        r->runs = r->notes = NULL;
    }
    return SOOTHE_OK;
}
