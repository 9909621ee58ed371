/* SPDX-License-Identifier: Apache-2.0
 * soothe score: judges texts, one result a text, in order. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/score.h"
#include "cli/speak.h"
#include "corpus/corpus.h"
#include "corpus/rows.h"

const struct soothe__command soothe__command_score = {
    .name    = "score",
    .run     = soothe__cmd_score,
    .summary = "judge how toxic texts are; train and test scorers",
    .help =
        "    echo 'have a nice day' | soothe score\n"
        "    soothe score --json texts.jsonl\n"
        "    soothe score --explain --spans comments.txt\n"
        "    soothe score --scorer lexicon --field comment comments.csv\n"
        "    some-program | soothe score --stream\n"
        "    soothe score train --data texts.jsonl -o my.scorer.gguf    a scorer from labelled texts\n"
        "    soothe score test --data texts.jsonl                       a scorer's figures on labelled texts\n"
        "\n"
        "A line of plain text is a text; rows of JSON lines, CSV or TSV (known by the file's name; from standard "
        "input\n"
        "JSON lines, by the first character) have theirs in the field \"text\". Printed is, a line a text and in "
        "order,\n"
        "the toxicity from 0 to 1, a tab and the text with crude words masked; with --json {\"toxicity\": number}, or "
        "null\n"
        "and a \"why\" where the scorer could not say. A summary goes to stderr.\n"
        "    --explain  log-odds = bias + what each word adds\n"
        "    --spans    stretches that are toxic by themselves, and the windows of a long text\n"
        "    --stream   a line as soon as a word of standard input has ended: byte reached, toxicity of the last 24\n"
        "               words, of the text so far, and the largest of the former so far; after 64 words that of the\n"
        "               text is made anew when the text has grown by an eighth, and at the end\n",
};

enum { BATCH = 1024 };

struct choice {
    char *scorer, *model, *field, *threshold, *threads; /* popt's, free() */
    int   json, explain, spans, stream, skip_bad;

    struct soothe__score_view view;
};

struct work {
    struct soothe__scorer             *scorer;
    const struct soothe__ngram_scorer *ngram; /* NULL where it is not asked */
    const struct choice               *c;
    char                              *texts[BATCH];
    size_t                             n;
    struct soothe__score               scores[BATCH];
    size_t                             n_all, n_null;
    double                             sum;
};

static enum soothe_status flush_batch(struct work *w, struct soothe_error *err) {
    enum soothe_status status = soothe__scorer_score(w->scorer, (const char *const *)w->texts, w->n, w->scores, err);
    for (size_t i = 0; i < w->n; i++) {
        if (!status) {
            status = soothe__print_score(&w->scores[i], w->texts[i], w->ngram, &w->c->view, err);
            w->n_null += isnan(w->scores[i].toxicity) ? 1 : 0;
            w->sum += isnan(w->scores[i].toxicity) ? 0 : w->scores[i].toxicity;
            w->n_all++;
        }
        free(w->texts[i]);
    }
    w->n = 0;
    return status;
}

static enum soothe_status take(struct work *w, const char *text, struct soothe_error *err) {
    w->texts[w->n] = soothe__strdup(text);
    if (!w->texts[w->n])
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    w->n++;
    return w->n == BATCH ? flush_batch(w, err) : SOOTHE_OK;
}

/* ---- rows ------------------------------------------------------------------------------------------------ */

static enum soothe_status score_rows(struct work *w, const char *path, struct soothe_error *err) {
    struct soothe__rows      *rows;
    struct soothe__row_counts counts = {0};
    const char               *field  = w->c->field ? w->c->field : "text";
    bool                      more   = true;
    enum soothe_status        status = soothe__rows_open(&rows, path, w->c->skip_bad != 0, err);
    if (status)
        return status;
    while (!(status = soothe__rows_next(rows, &more, err)) && more) {
        const char *text = soothe__rows_field(rows, field);
        status           = text ? take(w, text, err) : soothe__rows_reject(rows, err, "no field \"%s\"", field);
        if (status)
            break;
    }
    soothe__rows_close(rows, NULL, &counts);
    if (counts.n_bad)
        fprintf(stderr, "soothe: %zu bad row%s left out (%s)\n", counts.n_bad, counts.n_bad > 1 ? "s" : "",
                counts.first_bad);
    return status;
}

/* ---- lines ----------------------------------------------------------------------------------------------- */

/* A line without its end. Invalid bytes are no reason to refuse a line of plain text, but it must be printable as
 * JSON: they become question marks. */
static void clean_line(char *line, size_t *size) {
    while (*size > 0 && (line[*size - 1] == '\n' || line[*size - 1] == '\r'))
        line[--*size] = '\0';
    for (size_t i = 0; i < *size; i++)
        if (line[i] == '\0')
            line[i] = ' ';
    if (!soothe__utf8_valid(line, *size))
        for (size_t i = 0; i < *size; i++)
            if ((unsigned char)line[i] >= 0x80)
                line[i] = '?';
}

/* The rest of the lines of a stream; first is one that was read already. */
static enum soothe_status score_lines(struct work *w, FILE *in, struct soothe_error *err) {
    char              *line     = NULL;
    size_t             capacity = 0;
    ssize_t            n;
    enum soothe_status status = SOOTHE_OK;
    while (!status && (n = getline(&line, &capacity, in)) >= 0) {
        size_t size = (size_t)n;
        clean_line(line, &size);
        status = take(w, line, err);
    }
    if (!status && ferror(in))
        status = soothe__fail(err, SOOTHE_E_IO, "cannot read the texts");
    free(line);
    return status;
}

static bool ends_in(const char *path, const char *end) {
    const size_t n = strlen(path), m = strlen(end);
    return n > m && strcmp(path + n - m, end) == 0;
}

/* Is it a table by its name? Packed files are. */
static bool named_as_rows(const char *path) {
    static const char *const ends[] = {".jsonl", ".json", ".csv", ".tsv", ".xz", ".gz", ".zst", ".bz2"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_in(path, ends[i]))
            return true;
    return false;
}

/* Puts what was read from a pipe back before its rest, as standard input, so that it can be read as rows from the
 * start. */
static enum soothe_status put_back(FILE *in, struct soothe_error *err) {
    char   bytes[4096];
    size_t n;
    FILE  *copy = tmpfile();
    bool   ok   = copy != NULL;
    while (ok && (n = fread(bytes, 1, sizeof bytes, in)) > 0)
        ok = fwrite(bytes, 1, n, copy) == n;
    ok = ok && !ferror(in) && fflush(copy) == 0 && lseek(fileno(copy), 0, SEEK_SET) == 0 &&
         dup2(fileno(copy), STDIN_FILENO) >= 0;
    if (!ok)
        return soothe__fail(err, SOOTHE_E_IO, "cannot read the texts: %s", strerror(errno));
    return SOOTHE_OK; /* copy is left open until the end: closing it is for the system */
}

/* Can it be opened again, and will it be the same? Not a pipe, which a shell's <(…) is too. */
static bool is_regular(FILE *in) {
    struct stat facts;
    return fstat(fileno(in), &facts) == 0 && S_ISREG(facts.st_mode);
}

static enum soothe_status score_file(struct work *w, const char *path, struct soothe_error *err) {
    const bool is_stdin = strcmp(path, "-") == 0;
    if (w->c->field || named_as_rows(path))
        return score_rows(w, path, err);
    FILE *in = is_stdin ? stdin : fopen(path, "r");
    if (!in)
        return soothe__fail(err, SOOTHE_E_IO, "cannot open %s: %s", path, strerror(errno));
    const int first = getc(in);
    if (first != EOF)
        ungetc(first, in);
    enum soothe_status status = SOOTHE_OK;
    if (first == '{' && (is_stdin || !is_regular(in))) {
        status = put_back(in, err);
        path   = "-";
    }
    if (!status)
        status = first == '{' ? score_rows(w, path, err) : score_lines(w, in, err);
    if (!is_stdin)
        fclose(in);
    return status;
}

/* ---- the command --------------------------------------------------------------------------------------------- */

static enum soothe_status open_scorer(struct work *w, const struct soothe__scorer_options *options,
                                      struct soothe_error *err) {
    const struct choice *c      = w->c;
    const char          *spec   = c->scorer ? c->scorer : "default";
    enum soothe_status   status = soothe__scorer_open(&w->scorer, spec, options, err);
    if (status || (!c->view.explain && !c->view.spans))
        return status;
    if (strcmp(soothe__scorer_kind(w->scorer), "ngram") != 0)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "--explain and --spans need an n-gram scorer; %s is \"%s\"",
                            spec, soothe__scorer_kind(w->scorer));
    w->ngram = soothe__ngram_of(soothe__scorer_self(w->scorer));
    return SOOTHE_OK;
}

static int run(struct choice *c, const char *path, const char *more) {
    struct soothe__scorer_options options = {.model_path = c->model};
    struct soothe_error           err;
    struct work                  *w         = NULL;
    float                         threshold = 0.5f;
    if (more)
        return soothe__print_misuse("score", "one file at a time (- is standard input), not also \"%s\"", more);
    if (c->stream && (path || c->explain || c->spans || c->field))
        return soothe__print_misuse("score", "--stream reads plain text from standard input, and goes with no file, "
                                             "--field, --explain or --spans");
    if (!soothe__read_int(&options.n_threads, c->threads, "score", "-t", 0, 1024) ||
        !soothe__read_float(&threshold, c->threshold, "score", "--threshold", 0, 1))
        return SOOTHE__EXIT_MISUSE;
    c->view = (struct soothe__score_view){c->json != 0, c->explain != 0, c->spans != 0, (double)threshold};
    w       = soothe__calloc(1, sizeof *w);
    if (!w)
        return SOOTHE__EXIT_FAILED;
    w->c                      = c;
    enum soothe_status status = open_scorer(w, &options, &err);
    if (!status && c->stream)
        status = soothe__score_stream(w->scorer, c->json != 0, &err);
    else if (!status)
        status = score_file(w, path ? path : "-", &err);
    if (w->n > 0) { /* also those before a bad row */
        struct soothe_error      other;
        const enum soothe_status last = flush_batch(w, &other);
        if (!status && last) {
            status = last;
            err    = other;
        }
    }
    if (!status && !c->stream)
        fprintf(stderr, "%zu texts, %zu without a score, mean toxicity %.4f\n", w->n_all, w->n_null,
                w->n_all > w->n_null ? w->sum / (double)(w->n_all - w->n_null) : 0.0);
    soothe__scorer_close(w->scorer);
    free(w);
    return status ? soothe__print_failure(&err) : SOOTHE__EXIT_DONE;
}

static int cmd_texts(int argc, const char **argv) {
    struct choice           c         = {0};
    const struct poptOption options[] = {
        {"scorer", '\0', POPT_ARG_STRING, &c.scorer, 0, "default, lexicon, cppl, FILE.gguf, command:COMMAND, http://…",
         "SPEC"},
        {"model", 'm', POPT_ARG_STRING, &c.model, 0, "the language model, for scorers that read one", "MODEL"},
        {"field", '\0', POPT_ARG_STRING, &c.field, 0, "field of the text in rows (text)", "NAME"},
        {"explain", '\0', POPT_ARG_NONE, &c.explain, 0, "what each word adds", NULL},
        {"spans", '\0', POPT_ARG_NONE, &c.spans, 0, "toxic stretches and windows", NULL},
        {"threshold", '\0', POPT_ARG_STRING, &c.threshold, 0, "toxicity that makes a span (0.5)", "X"},
        {"stream", '\0', POPT_ARG_NONE, &c.stream, 0, "score standard input while it arrives", NULL},
        {"threads", 't', POPT_ARG_STRING, &c.threads, 0, "threads (all)", "N"},
        {"skip-bad", '\0', POPT_ARG_NONE, &c.skip_bad, 0, "leave out and count bad rows, instead of ending", NULL},
        {"json", '\0', POPT_ARG_NONE, &c.json, 0, "lines of JSON", NULL},
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &soothe__command_score, argc, argv, options);
    if (code < 0) {
        const char *path = poptGetArg(context);
        code             = run(&c, path, poptGetArg(context));
    }
    poptFreeContext(context);
    char *strings[] = {c.scorer, c.model, c.field, c.threshold, c.threads};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        free(strings[i]);
    return code;
}

int soothe__cmd_score(int argc, const char **argv) {
    if (argc > 1 && strcmp(argv[1], "train") == 0)
        return soothe__cmd_score_train(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "test") == 0)
        return soothe__cmd_score_test(argc - 1, argv + 1);
    return cmd_texts(argc, argv);
}
