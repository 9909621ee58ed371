/* SPDX-License-Identifier: Apache-2.0
 * soothe utility: what methods and changed models still can, by multiple-choice questions. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/result.h"
#include "cli/speak.h"
#include "eval/utility.h"

const struct soothe__command soothe__command_utility = {
    .name    = "utility",
    .run     = soothe__cmd_utility,
    .summary = "measure what methods and changed models still can: HellaSwag, MMLU, your own questions",
    .help =
        "    soothe utility --suite hellaswag-mini --methods plain,fusion,auto\n"
        "    soothe utility --models smollm2-135m-instruct,smollm2-135m-instruct+surgery --suite "
        "hellaswag-mini,mmlu-mini\n"
        "    soothe utility -m model.gguf --data hellaswag_val.jsonl --limit 1000 --out results.jsonl\n"
        "    soothe utility ... --out results.jsonl --resume     goes on after anything\n"
        "    soothe utility --data mine.jsonl --question q --choices options --answer correct --form cloze\n"
        "\n"
        "A question's answer is the choice that is likeliest behind its prompt (acc), or likeliest per byte "
        "(acc_norm), as "
        "in\n"
        "lm-evaluation-harness. The first model and method is what the others are compared with, question by "
        "question.\n"
        "Rows: HellaSwag's, MMLU's, {\"question\", \"choices\", \"answer\"}, or fields that you name. Forms: plain "
        "(the\n"
        "context, a choice behind it), letter (lettered choices; A, B, ... behind \"Answer:\"), cloze (a choice's text "
        "behind\n"
        "\"Answer:\"); HellaSwag is plain, questions are asked as letter and as cloze (docs/utility.md).\n",
};

enum { MODELS_MAX = 64 };

/* What popt stores; numbers stay text until they are read. */
struct choice {
    char  *model, *models, *methods, *question, *choices, *answer, *form, *limit, *out, *n_threads, *n_gpu_layers;
    char **data, **suites;
    int    skip_bad, resume, json;
};

struct task {
    struct soothe__utility_options  o;
    struct soothe__quiz_source      source;
    struct soothe__eval_methods     methods;
    struct soothe__quizzes          quizzes;
    char                          **suites;            /* --suite, cut at its commas */
    char                           *words[MODELS_MAX]; /* the models as they were asked for; NULL: the default one */
    char                           *paths[MODELS_MAX]; /* their files */
    const char                     *names[MODELS_MAX]; /* within words or paths */
    struct soothe__utility          results;
    struct soothe__utility_figures *figures; /* (n_quizzes, n_systems) */
};

/* ---- reading what was asked for ----------------------------------------------------------------------------- */

/* Adds the words of "A,B". */
static bool split(char **words, size_t *n, size_t n_max, const char *list) {
    for (const char *s = list;; s++) {
        const size_t size = strcspn(s, ",");
        if (size == 0 || *n == n_max || !(words[*n] = soothe__format("%.*s", (int)size, s)))
            return false;
        ++*n;
        s += size;
        if (!*s)
            return true;
    }
}

static bool read_forms(bool forms[SOOTHE__QUIZ_FORMS], const char *list) {
    char  *words[SOOTHE__QUIZ_FORMS + 1] = {NULL};
    size_t n                             = 0;
    bool   ok                            = split(words, &n, SOOTHE__QUIZ_FORMS + 1, list);
    for (size_t i = 0; i < n; i++) {
        bool found = false;
        for (int f = 0; f < SOOTHE__QUIZ_FORMS; f++)
            if (!strcmp(words[i], soothe__quiz_form_names[f]))
                found = forms[f] = true;
        ok = ok && found;
    }
    soothe__free_texts(words, n);
    return ok;
}

static bool read_suites(struct task *t, char *const *given) {
    size_t n = 0, n_max = 1;
    for (size_t i = 0; given && given[i]; i++)
        n_max += strlen(given[i]) + 1;
    t->suites = soothe__calloc(n_max + 1, sizeof *t->suites);
    for (size_t i = 0; t->suites && given && given[i]; i++)
        if (!split(t->suites, &n, n_max, given[i]))
            return false;
    t->source.suites = (const char *const *)t->suites;
    return t->suites != NULL;
}

static int read_choice(struct task *t, const struct choice *c, const char *more) {
    static const char *const me = "utility";
    struct soothe_error      err;
    int32_t                  limit = 0;
    if (more)
        return soothe__print_misuse(me, "\"%s\" belongs to no option (questions are given by --data or --suite)", more);
    if (!(c->data && c->data[0]) && !(c->suites && c->suites[0]))
        return soothe__print_misuse(me, "which questions? --data takes a file of JSON lines, --suite %s",
                                    soothe__quiz_suite_names());
    if (c->model && c->models)
        return soothe__print_misuse(me, "-m is one model, --models several: give one of the two");
    if (c->resume && !c->out)
        return soothe__print_misuse(me, "--resume goes on with the file of --out");
    if (!soothe__read_int(&limit, c->limit, me, "--limit", 0, INT32_MAX) ||
        !soothe__read_int(&t->o.n_threads, c->n_threads, me, "-t", 1, 1024) ||
        !soothe__read_int(&t->o.n_gpu_layers, c->n_gpu_layers, me, "--n-gpu-layers", 0, INT32_MAX))
        return SOOTHE__EXIT_MISUSE;
    if (c->form && !read_forms(t->source.forms, c->form))
        return soothe__print_misuse(me, "--form takes plain, letter, cloze or several with commas between, not \"%s\"",
                                    c->form);
    if (c->models && !split(t->words, &t->o.n_models, MODELS_MAX, c->models))
        return soothe__print_misuse(me, "--models takes up to %d models with commas between, not \"%s\"", MODELS_MAX,
                                    c->models);
    if (!read_suites(t, c->suites))
        return soothe__print_misuse(me, "--suite takes %s", soothe__quiz_suite_names());
    const char *usual = c->models ? "plain" : "plain,fusion";
    if (soothe__eval_methods_parse(&t->methods, c->methods ? c->methods : usual, &err))
        return soothe__print_misuse(me, "--methods: %s", err.message);
    for (size_t i = 0; i < t->methods.n; i++) {
        const char *method, *why = soothe__utility_refuses(&t->methods.items[i].chain, &method);
        if (why)
            return soothe__print_misuse(me, "--methods: a given text has no likelihood under %s, since %s", method,
                                        why);
    }
    t->source.files    = (const char *const *)c->data;
    t->source.question = c->question;
    t->source.choices  = c->choices;
    t->source.answer   = c->answer;
    t->source.limit    = (size_t)limit;
    t->source.skip_bad = c->skip_bad != 0;
    t->o.out           = c->out;
    t->o.resume        = c->resume != 0;
    return SOOTHE__EXIT_DONE;
}

/* ---- doing it ----------------------------------------------------------------------------------------------- */

/* A model is called what the user called it, without folders. */
static enum soothe_status choose_models(struct task *t, const char *model, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    if (t->o.n_models == 0) {
        t->words[0]   = model ? soothe__strdup(model) : NULL;
        t->o.n_models = 1;
        if (model && !t->words[0])
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < t->o.n_models && !status; i++) {
        status = soothe__choose_model(&t->paths[i], t->words[i], err);
        if (status)
            break;
        const char *laid = soothe__laid_name(t->words[i], t->paths[i]);
        t->names[i]      = laid ? laid : soothe__file_name(t->words[i] ? t->words[i] : t->paths[i]);
    }
    return status;
}

static enum soothe_status measure(struct task *t, const char *model, struct soothe_error *err) {
    enum soothe_status status = soothe__quizzes_read(&t->quizzes, &t->source, err);
    if (!status && t->quizzes.n_bad)
        fprintf(stderr, "soothe: %zu bad row%s left out (%s)\n", t->quizzes.n_bad, t->quizzes.n_bad > 1 ? "s" : "",
                t->quizzes.first_bad);
    if (!status)
        status = choose_models(t, model, err);
    t->o.model_paths = (const char *const *)t->paths;
    t->o.model_names = (const char *const *)t->names;
    t->o.methods     = &t->methods;
    t->o.quizzes     = &t->quizzes;
    t->o.stop        = soothe__interrupt_flag();
    if (!status)
        status = soothe__utility_measure(&t->results, &t->o, err);
    if (status)
        return status;
    t->figures = soothe__calloc(t->quizzes.n * t->results.n_systems + 1, sizeof *t->figures);
    return t->figures ? soothe__utility_figures(t->figures, &t->results, &t->quizzes, err)
                      : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
}

/* ---- showing it --------------------------------------------------------------------------------------------- */

/* "38.5 [32.0, 45.0]", of shares as percents; with a sign for differences. */
static void print_interval(struct soothe__interval i, bool sign) {
    char text[64] = "-";
    if (isfinite(i.value))
        snprintf(text, sizeof text, sign ? "%+.1f [%+.1f, %+.1f]" : "%.1f [%.1f, %.1f]", 100 * i.value, 100 * i.lo,
                 100 * i.hi);
    printf("  %-20s", text);
}

static void print_table(const struct task *t) {
    const struct soothe__utility *u     = &t->results;
    size_t                        width = 6;
    for (size_t s = 0; s < u->n_systems; s++)
        width = strlen(u->names[s]) > width ? strlen(u->names[s]) : width;
    for (size_t i = 0; i < t->quizzes.n; i++) {
        const struct soothe__quiz *z      = &t->quizzes.items[i];
        const bool                 letter = z->form == SOOTHE__QUIZ_LETTER;
        printf("%s%s, %s: %zu questions, percent right [95 %% intervals]; against %s, in points, paired by question\n",
               i ? "\n" : "", z->name, soothe__quiz_form_names[z->form], z->n, u->names[0]);
        printf("%-*s  %-20s  %-20s  %5s  %-20s  %5s  %6s\n", (int)width, "", "acc", "acc_norm", "nulls",
               letter ? "acc change" : "acc_norm change", "lost", "gained");
        for (size_t s = 0; s < u->n_systems; s++) {
            const struct soothe__utility_figures *f = &t->figures[i * u->n_systems + s];
            printf("%-*s", (int)width, u->names[s]);
            print_interval(f->acc, false);
            print_interval(f->acc_norm, false);
            printf("  %5zu", f->n_null);
            print_interval(letter ? f->change : f->change_norm, true);
            if (s > 0)
                printf("  %5zu  %6zu\n", f->n_lost, f->n_gained);
            else
                printf("  %5s  %6s\n", "-", "-");
        }
    }
}

static json_t *json_interval(struct soothe__interval i) {
    return isfinite(i.value) ? json_pack("{s:o, s:o, s:o}", "value", soothe__json_rounded(i.value), "lo",
                                         soothe__json_rounded(i.lo), "hi", soothe__json_rounded(i.hi))
                             : json_null();
}

static json_t *json_figures(const struct task *t, size_t i_quiz, size_t s) {
    const struct soothe__utility_figures *f = &t->figures[i_quiz * t->results.n_systems + s];
    json_t *o = json_pack("{s:I, s:o, s:o}", "nulls", (json_int_t)f->n_null, "acc", json_interval(f->acc), "acc_norm",
                          json_interval(f->acc_norm));
    if (o && s > 0)
        json_object_set_new(o, "against_first",
                            json_pack("{s:o, s:o, s:I, s:I}", "acc", json_interval(f->change), "acc_norm",
                                      json_interval(f->change_norm), "lost", (json_int_t)f->n_lost, "gained",
                                      (json_int_t)f->n_gained));
    return o;
}

static int print_json(const struct task *t) {
    const struct soothe__utility *u    = &t->results;
    json_t                       *sets = json_array(), *systems = json_array();
    for (size_t i = 0; i < t->quizzes.n; i++) {
        const struct soothe__quiz *z = &t->quizzes.items[i];
        json_array_append_new(sets,
                              json_pack("{s:s, s:s, s:I, s:s}", "name", z->name, "form",
                                        soothe__quiz_form_names[z->form], "n", (json_int_t)z->n, "sha256", z->sha256));
    }
    for (size_t s = 0; s < u->n_systems; s++) {
        json_t *figures = json_array();
        for (size_t i = 0; i < t->quizzes.n; i++)
            json_array_append_new(figures, json_figures(t, i, s));
        json_array_append_new(systems,
                              json_pack("{s:s, s:O, s:o}", "name", u->names[s], "is", u->about[s], "sets", figures));
    }
    return soothe__print_json(json_pack("{s:s, s:i, s:s, s:I, s:f, s:o, s:o}", "kind", "soothe-utility-report",
                                        "schema", 1, "tool", "soothe " SOOTHE_VERSION, "skipped",
                                        (json_int_t)t->quizzes.n_bad, "seconds", u->seconds, "sets", sets, "systems",
                                        systems),
                              10);
}

/* ---- the command -------------------------------------------------------------------------------------------- */

static int run(const struct choice *c, const char *more) {
    struct task         t = {.o = {.n_models = 0}};
    struct soothe_error err;
    int                 code = read_choice(&t, c, more);
    if (code == SOOTHE__EXIT_DONE && measure(&t, c->model, &err))
        code = soothe__print_failure(&err);
    else if (code == SOOTHE__EXIT_DONE && c->json)
        code = print_json(&t);
    else if (code == SOOTHE__EXIT_DONE)
        print_table(&t);
    free(t.figures);
    soothe__utility_free(&t.results);
    soothe__quizzes_free(&t.quizzes);
    soothe__eval_methods_free(&t.methods);
    soothe__free_texts(t.words, MODELS_MAX);
    soothe__free_texts(t.paths, MODELS_MAX);
    soothe__free_list(t.suites);
    return code;
}

int soothe__cmd_utility(int argc, const char **argv) {
    struct choice           c         = {0};
    const struct poptOption options[] = {
        TEXT_OPTION("model", 'm', model, "the model: a name, an address or a file; MODEL+DIFF lays diffs over it",
                    "MODEL"),
        TEXT_OPTION("models", '\0', models, "several of them, the first is compared with the others", "A,B,..."),
        TEXT_OPTION("methods", '\0', methods, "METHOD[:KEY=VALUE][+METHOD...],... (plain,fusion; with --models plain)",
                    "LIST"),
        LIST_OPTION("data", data, "questions: JSON lines, plain or compressed; may be repeated", "FILE"),
        LIST_OPTION("suite", suites, "a small set that is built in: hellaswag-mini, mmlu-mini", "NAME"),
        TEXT_OPTION("form", '\0', form, "how questions are put: plain, letter, cloze or several", "LIST"),
        TEXT_OPTION("question", '\0', question, "the question's field (question)", "NAME"),
        TEXT_OPTION("choices", '\0', choices, "the field that holds a list of choices (choices)", "NAME"),
        TEXT_OPTION("answer", '\0', answer, "the right one's: a place from 0, a letter, or its text (answer)", "NAME"),
        TEXT_OPTION("limit", '\0', limit, "the first N rows of each file", "N"),
        FLAG_OPTION("skip-bad", skip_bad, "leave bad rows out and count them"),
        TEXT_OPTION("out", 'o', out, "likelihoods as JSON lines, written as they are measured", "FILE"),
        FLAG_OPTION("resume", resume, "go on with what that file holds"),
        FLAG_OPTION("json", json, "the figures as JSON"),
        TEXT_OPTION("threads", 't', n_threads, "questions at a time, each by one thread (all processors)", "N"),
        TEXT_OPTION("n-gpu-layers", '\0', n_gpu_layers, "layers on a GPU, where the engine has one (0)", "N"),
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &soothe__command_utility, argc, argv, options);
    if (code < 0)
        code = run(&c, poptGetArg(context));
    poptFreeContext(context);
    char *const texts[] = {c.model, c.models, c.methods, c.question,  c.choices,     c.answer,
                           c.form,  c.limit,  c.out,     c.n_threads, c.n_gpu_layers};
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
    soothe__free_list(c.data);
    soothe__free_list(c.suites);
    return code;
}
