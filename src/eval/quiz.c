/* SPDX-License-Identifier: Apache-2.0
 * From rows of JSON to questions in their forms. */
#include "eval/quiz.h"

#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "corpus/corpus.h"

static const char HELLASWAG_MINI[] = {
#include "hellaswag_mini.inc"
};
static const char MMLU_MINI[] = {
#include "mmlu_mini.inc"
};

static const struct suite {
    const char *name, *lines;
    size_t      size;
} SUITES[] = {{"hellaswag-mini", HELLASWAG_MINI, sizeof HELLASWAG_MINI}, {"mmlu-mini", MMLU_MINI, sizeof MMLU_MINI}};
enum { N_SUITES = sizeof SUITES / sizeof *SUITES };

const char *const soothe__quiz_form_names[SOOTHE__QUIZ_FORMS] = {"plain", "letter", "cloze"};

const char *soothe__quiz_suite_names(void) {
    return "hellaswag-mini, mmlu-mini";
}

/* What a row says, before it is put into a form. */
struct row {
    char  *question;
    char  *choices[SOOTHE__QUIZ_CHOICES_MAX];
    char  *subject; /* NULL: not known */
    size_t n, right;
    bool   goes_on; /* the choices go on from a context, they answer no question */
};

static void free_row(struct row *r) {
    for (size_t i = 0; i < r->n; i++)
        free(r->choices[i]);
    free(r->question);
    free(r->subject);
    *r = (struct row){.n = 0};
}

/* ---- texts -------------------------------------------------------------------------------------------------- */

/* [from, to) without white space at both ends; fresh. */
static char *trimmed(const char *from, const char *to) {
    while (from < to && isspace((unsigned char)*from))
        from++;
    while (to > from && isspace((unsigned char)to[-1]))
        to--;
    return soothe__format("%.*s", (int)(to - from), from);
}

static char *trimmed_text(const char *text) {
    return trimmed(text, text + strlen(text));
}

/* Puts a shorter text in the place of another one wherever it stands, from left to right. */
static void replace_all(char *text, const char *old, const char *new) {
    const size_t n_old = strlen(old), n_new = strlen(new);
    char        *out = text;
    while (*text)
        if (!strncmp(text, old, n_old)) {
            memcpy(out, new, n_new);
            out += n_new;
            text += n_old;
        } else {
            *out++ = *text++;
        }
    *out = '\0';
}

/* WikiHow's marks out of a text of HellaSwag, by the rules of the harness (tasks/hellaswag/utils.py): " [title]" ends a
 * sentence, anything else in brackets on one line goes, and so does one of two spaces. Fresh. */
static char *without_brackets(const char *text) {
    char *clean = trimmed_text(text);
    if (!clean)
        return NULL;
    replace_all(clean, " [title]", ". ");
    char *out = clean;
    for (const char *s = clean; *s;) {
        const char *end = *s == '[' ? strpbrk(s, "]\n") : NULL;
        if (end && *end == ']')
            s = end + 1;
        else
            *out++ = *s++;
    }
    *out = '\0';
    replace_all(clean, "  ", " ");
    return clean;
}

/* ---- rows --------------------------------------------------------------------------------------------------- */

/* All take the row's fault into err and return whether there is none. */
static bool fault(struct soothe_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool fault(struct soothe_error *err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    return false;
}

static bool take_text(char **out, const json_t *object, const char *name, bool clean, struct soothe_error *err) {
    const json_t *value = json_object_get(object, name);
    if (!json_is_string(value))
        return fault(err, value ? "\"%s\" is no text" : "there is no \"%s\"", name);
    *out = clean ? without_brackets(json_string_value(value)) : trimmed_text(json_string_value(value));
    if (!*out)
        return fault(err, "out of memory");
    return **out ? true : fault(err, "\"%s\" is empty", name);
}

static bool take_choices(struct row *r, const json_t *object, const char *name, bool clean, struct soothe_error *err) {
    const json_t *list = json_object_get(object, name);
    if (!json_is_array(list))
        return fault(err, list ? "\"%s\" is no list of texts" : "there is no \"%s\"", name);
    const size_t n = json_array_size(list);
    if (n < 2 || n > SOOTHE__QUIZ_CHOICES_MAX)
        return fault(err, "\"%s\" must have 2 to %d choices, not %zu", name, SOOTHE__QUIZ_CHOICES_MAX, n);
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text)
            return fault(err, "choice %zu of \"%s\" is no text", i, name);
        char *choice = clean ? without_brackets(text) : trimmed_text(text);
        if (!choice)
            return fault(err, "out of memory");
        r->choices[r->n++] = choice;
        if (!*choice)
            return fault(err, "choice %zu of \"%s\" is empty", i, name);
    }
    return true;
}

static bool take_answer(struct row *r, const json_t *object, const char *name, struct soothe_error *err) {
    const json_t *value = json_object_get(object, name);
    const char   *text  = json_string_value(value);
    int64_t       place = -1;
    if (json_is_integer(value))
        place = json_integer_value(value);
    else if (!text)
        return fault(err, value ? "\"%s\" is neither a number nor a text" : "there is no \"%s\"", name);
    else if (text[0] >= 'A' && text[0] <= 'Z' && !text[1])
        place = text[0] - 'A';
    else if (!soothe__parse_int64(&place, text, 0, SOOTHE__QUIZ_CHOICES_MAX))
        for (size_t i = 0; i < r->n; i++)
            if (!strcmp(r->choices[i], text))
                place = (int64_t)i;
    if (place < 0 || (size_t)place >= r->n)
        return fault(err, "\"%s\" is none of the %zu choices (a place from 0, a letter from A, or a choice's text)",
                     name, r->n);
    r->right = (size_t)place;
    return true;
}

/* HellaSwag's own columns, put together as the harness does: the activity, the context's first part, and the second
 * with a capital at its start and nowhere else. */
static bool take_hellaswag(struct row *r, const json_t *object, struct soothe_error *err) {
    const char *activity = json_string_value(json_object_get(object, "activity_label")),
               *a        = json_string_value(json_object_get(object, "ctx_a")),
               *b        = json_string_value(json_object_get(object, "ctx_b"));
    if (!activity || !a || !b)
        return fault(err, "HellaSwag's columns are activity_label, ctx_a and ctx_b, each a text");
    char *text = soothe__format("%s: %s %s", activity, a, b);
    if (text) {
        char *second = text + strlen(activity) + 2 + strlen(a) + 1;
        for (char *s = second; *s; s++)
            *s = (char)(s == second ? toupper((unsigned char)*s) : tolower((unsigned char)*s));
        r->question = without_brackets(text);
    }
    free(text);
    return r->question ? take_choices(r, object, "endings", true, err) : fault(err, "out of memory");
}

/* A question with its choices in lines "A. …", "B. …" at the end. */
static bool take_lettered(struct row *r, const json_t *object, struct soothe_error *err) {
    char *text = NULL, *start = NULL;
    if (!take_text(&text, object, "prompt", false, err)) {
        free(text);
        return false;
    }
    for (char *s = strstr(text, "\nA. "); s; s = strstr(s + 1, "\nA. "))
        start = s;
    char mark[] = "\nA. ";
    bool ok     = true;
    r->question = start ? trimmed(text, start) : NULL;
    for (char *s = start, *next; s && ok && r->n < SOOTHE__QUIZ_CHOICES_MAX; s = next) {
        mark[1]++;
        next       = strstr(s + 4, mark);
        char *line = next ? trimmed(s + 4, next) : trimmed_text(s + 4);
        ok         = line && *line;
        if (line)
            r->choices[r->n++] = line;
    }
    free(text);
    if (!r->question || !*r->question || r->n < 2)
        return fault(err, "\"prompt\" does not end in choices, lines that begin with \"A. \", \"B. \", ...");
    return ok ? true : fault(err, "a choice of \"prompt\" is empty");
}

static bool take_row(struct row *r, const json_t *object, const struct soothe__quiz_source *s,
                     struct soothe_error *err) {
    const char *choices = s->choices ? s->choices : "choices", *answer = s->answer ? s->answer : "answer";
    const bool  named = s->question || s->choices || s->answer;
    bool        ok;
    if (!named && json_object_get(object, "endings")) {
        r->goes_on = true;
        answer     = s->answer ? s->answer : "label";
        ok         = json_object_get(object, "ctx_a")
                         ? take_hellaswag(r, object, err)
                         : take_text(&r->question, object, "ctx", false, err) && take_choices(r, object, "endings", false, err);
    } else if (!named && json_object_get(object, "prompt") && !json_object_get(object, "choices")) {
        ok = take_lettered(r, object, err);
    } else {
        const json_t *subject = json_object_get(object, "subject");
        if (json_is_string(subject))
            r->subject = trimmed_text(json_string_value(subject));
        for (char *c = r->subject; c && *c; c++)
            *c = *c == '_' ? ' ' : *c;
        ok = take_text(&r->question, object, s->question ? s->question : "question", false, err) &&
             take_choices(r, object, choices, false, err);
    }
    return ok && take_answer(r, object, answer, err);
}

/* ---- forms -------------------------------------------------------------------------------------------------- */

/* "…\n\n" above the question. */
static char *heading(const struct row *r, const char *kind) {
    return r->subject ? soothe__format("The following are %s (with answers) about %s.\n\n", kind, r->subject)
                      : soothe__format("The following are %s (with answers).\n\n", kind);
}

static char *prompt_in_form(const struct row *r, enum soothe__quiz_form form) {
    if (form == SOOTHE__QUIZ_PLAIN)
        return soothe__strdup(r->question);
    char *head = heading(r, form == SOOTHE__QUIZ_LETTER ? "multiple choice questions" : "questions");
    char *text =
        head ? soothe__format("%s%s%s", head, form == SOOTHE__QUIZ_CLOZE ? "Question: " : "", r->question) : NULL;
    free(head);
    for (size_t i = 0; i < r->n && text && form == SOOTHE__QUIZ_LETTER; i++) {
        char *longer = soothe__format("%s\n%c. %s", text, 'A' + (int)i, r->choices[i]);
        free(text);
        text = longer;
    }
    char *whole = text ? soothe__format("%s\nAnswer:", text) : NULL;
    free(text);
    return whole;
}

static bool put_in_form(struct soothe__question *q, const struct row *r, enum soothe__quiz_form form) {
    *q      = (struct soothe__question){.prompt = prompt_in_form(r, form), .right = r->right};
    bool ok = q->prompt && (q->choices = soothe__calloc(r->n, sizeof *q->choices));
    for (; ok && q->n < r->n; q->n += ok) {
        q->choices[q->n] = form == SOOTHE__QUIZ_LETTER ? soothe__format(" %c", 'A' + (int)q->n)
                                                       : soothe__format(" %s", r->choices[q->n]);
        ok               = q->choices[q->n] != NULL;
    }
    return ok;
}

static void free_question(struct soothe__question *q) {
    for (size_t i = 0; i < q->n; i++)
        free(q->choices[i]);
    free(q->choices);
    free(q->prompt);
}

static bool add_question(struct soothe__quiz *quiz, const struct row *r) {
    if (quiz->n == quiz->capacity) {
        const size_t             more  = quiz->capacity ? 2 * quiz->capacity : 64;
        struct soothe__question *items = soothe__realloc(quiz->items, more, sizeof *items);
        if (!items)
            return false;
        quiz->items    = items;
        quiz->capacity = more;
    }
    if (put_in_form(&quiz->items[quiz->n], r, quiz->form)) {
        quiz->n++;
        return true;
    }
    free_question(&quiz->items[quiz->n]);
    return false;
}

/* ---- sources ------------------------------------------------------------------------------------------------ */

struct reader {
    const struct soothe__quiz_source *source;
    struct soothe__quizzes           *quizzes;
    const char                       *name; /* of the file or suite, for messages */
    struct soothe__quiz               forms[SOOTHE__QUIZ_FORMS];
    size_t                            n_rows;
};

static enum soothe_status add_row(struct reader *x, const struct row *r, struct soothe_error *err) {
    bool any = false;
    for (int f = 0; f < SOOTHE__QUIZ_FORMS; f++)
        any = any || x->source->forms[f];
    for (int f = 0; f < SOOTHE__QUIZ_FORMS; f++) {
        const bool usual = r->goes_on ? f == SOOTHE__QUIZ_PLAIN : f != SOOTHE__QUIZ_PLAIN;
        if ((any ? x->source->forms[f] : usual) && !add_question(&x->forms[f], r))
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the questions of %s", x->name);
    }
    x->n_rows++;
    return SOOTHE_OK;
}

static enum soothe_status take_line(struct reader *x, const char *line, size_t size, size_t n_line,
                                    struct soothe_error *err) {
    json_error_t        why;
    struct soothe_error wrong  = {.message = "no JSON object"};
    struct row          r      = {.n = 0};
    json_t             *object = json_loadb(line, size, JSON_REJECT_DUPLICATES, &why);
    if (!object)
        fault(&wrong, "%s", why.text);
    const bool         ok     = json_is_object(object) && take_row(&r, object, x->source, &wrong);
    enum soothe_status status = SOOTHE_OK;
    if (ok)
        status = add_row(x, &r, err);
    else if (!x->source->skip_bad)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "line %zu of %s: %s", n_line, x->name, wrong.message);
    else if (x->quizzes->n_bad++ == 0)
        snprintf(x->quizzes->first_bad, sizeof x->quizzes->first_bad, "line %zu of %.80s: %.140s", n_line,
                 soothe__file_name(x->name), wrong.message);
    free_row(&r);
    json_decref(object);
    return status;
}

static bool is_blank(const char *text, size_t size) {
    return strspn(text, " \t\r") >= size;
}

static bool wants_more(const struct reader *x) {
    return x->source->limit == 0 || x->n_rows < x->source->limit;
}

static enum soothe_status read_file(struct reader *x, char hex[65], struct soothe_error *err) {
    struct soothe__lines *lines;
    char                 *line;
    size_t                size, n_line = 0;
    bool                  too_long;
    enum soothe_status    status = soothe__lines_open(&lines, x->name, err);
    if (status)
        return status;
    while (!status) { /* to the end, so that the hash is the whole file's */
        status = soothe__lines_next(lines, &line, &size, &too_long, err);
        if (status || !line)
            break;
        n_line++;
        if (wants_more(x) && !is_blank(line, size))
            status = take_line(x, line, size, n_line, err);
    }
    soothe__lines_close(lines, hex);
    return status;
}

static enum soothe_status read_suite(struct reader *x, char hex[65], struct soothe_error *err) {
    const struct suite    *suite  = NULL;
    enum soothe_status     status = SOOTHE_OK;
    struct soothe__sha256 *h      = soothe__sha256_new();
    for (size_t i = 0; i < N_SUITES; i++)
        if (!strcmp(SUITES[i].name, x->name))
            suite = &SUITES[i];
    if (h && suite)
        soothe__sha256_add(h, suite->lines, suite->size);
    if (h)
        soothe__sha256_finish(h, hex);
    if (!suite)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "there is no suite \"%s\"; there are: %s", x->name,
                            soothe__quiz_suite_names());
    size_t n_line = 0;
    for (size_t at = 0; at < suite->size && !status && wants_more(x);) {
        const char  *end = memchr(suite->lines + at, '\n', suite->size - at);
        const size_t n   = end ? (size_t)(end - suite->lines) - at : suite->size - at;
        status           = take_line(x, suite->lines + at, n, ++n_line, err);
        at += n + 1;
    }
    return h ? status : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
}

/* "sets/mmlu_1000.jsonl.xz" is mmlu_1000. */
static char *short_name(const char *path) {
    const char  *name = soothe__file_name(path);
    const size_t n    = strcspn(name, ".");
    return !strcmp(path, "-") ? soothe__strdup("stdin") : soothe__format("%.*s", (int)(n ? n : strlen(name)), name);
}

static void free_quiz(struct soothe__quiz *quiz) {
    for (size_t i = 0; i < quiz->n; i++)
        free_question(&quiz->items[i]);
    free(quiz->items);
    free(quiz->name);
    *quiz = (struct soothe__quiz){.n = 0};
}

/* The reader's quizzes, those that have questions, join the others. */
static enum soothe_status keep(struct reader *x, const char *hex, struct soothe_error *err) {
    struct soothe__quizzes *all = x->quizzes;
    for (int f = 0; f < SOOTHE__QUIZ_FORMS; f++) {
        if (x->forms[f].n == 0)
            continue;
        struct soothe__quiz *items = soothe__realloc(all->items, all->n + 1, sizeof *items);
        if (items)
            all->items = items;
        x->forms[f].name = items ? short_name(x->name) : NULL;
        if (!x->forms[f].name)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the questions of %s", x->name);
        memcpy(x->forms[f].sha256, hex, sizeof x->forms[f].sha256);
        all->items[all->n++] = x->forms[f];
        x->forms[f]          = (struct soothe__quiz){.n = 0};
    }
    return x->n_rows ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_FORMAT, "%s holds no questions", x->name);
}

static enum soothe_status read_source(struct soothe__quizzes *quizzes, const struct soothe__quiz_source *source,
                                      const char *name, bool is_suite, struct soothe_error *err) {
    struct reader x       = {.source = source, .quizzes = quizzes, .name = name};
    char          hex[65] = "";
    for (int f = 0; f < SOOTHE__QUIZ_FORMS; f++)
        x.forms[f].form = (enum soothe__quiz_form)f;
    enum soothe_status status = is_suite ? read_suite(&x, hex, err) : read_file(&x, hex, err);
    if (!status)
        status = keep(&x, hex, err);
    for (int f = 0; f < SOOTHE__QUIZ_FORMS; f++)
        free_quiz(&x.forms[f]);
    return status;
}

enum soothe_status soothe__quizzes_read(struct soothe__quizzes *quizzes, const struct soothe__quiz_source *source,
                                        struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    *quizzes                  = (struct soothe__quizzes){.n = 0};
    for (size_t i = 0; source->suites && source->suites[i] && !status; i++)
        status = read_source(quizzes, source, source->suites[i], true, err);
    for (size_t i = 0; source->files && source->files[i] && !status; i++)
        status = read_source(quizzes, source, source->files[i], false, err);
    if (status)
        soothe__quizzes_free(quizzes);
    return status;
}

void soothe__quizzes_free(struct soothe__quizzes *quizzes) {
    for (size_t i = 0; i < quizzes->n; i++)
        free_quiz(&quizzes->items[i]);
    free(quizzes->items);
    *quizzes = (struct soothe__quizzes){.n = 0};
}
