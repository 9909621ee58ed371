/* SPDX-License-Identifier: Apache-2.0
 * soothe score train: an n-gram scorer from labelled texts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/score.h"
#include "cli/speak.h"
#include "score/ngram_train.h"

const struct soothe__command soothe__command_score_train = {
    .name    = "score train",
    .run     = soothe__cmd_score_train,
    .summary = "train an n-gram scorer from labelled texts",
    .help    = "    soothe score train --data texts.jsonl.xz --weight forum=2 -o my.scorer.gguf\n"
               "    soothe score train --data a.csv --field comment --label is_toxic -o my.scorer.gguf\n"
               "\n"
               "Rows: {\"text\", \"label\", \"source\"}, in JSON lines, CSV or TSV, plain or compressed; the label a "
               "number from\n"
               "0 to 1, toxic over .5, or with --positive a word; without a source the file's name stands for it. A part "
               "of the\n"
               "texts, drawn by the hash of their words, is held out, and the figures of the finished scorer on it are "
               "printed:\n"
               "    AUC     chance that a toxic text scores above a clean one\n"
               "    ECE     expected calibration error, 15 bins\n"
               "    FPR     share of the clean texts that score over .5;  recall  the same of the toxic ones\n"
               "The same data, options and seed give the same file, byte for byte, with any number of threads.\n",
};

enum { WEIGHTS_MAX = 64 };

struct choice {
    struct soothe__row_choice rows;
    char                    **weight; /* popt's, free() */
    char                     *output, *write_holdout;
    char                     *holdout, *c, *sharpen, *bits, *words, *seed, *threads, *iterations;
    int                       json, no_lexicon;

    struct soothe__source_weight weights[WEIGHTS_MAX];
};

/* "source=2" */
static bool read_weights(struct choice *c, struct soothe__ngram_train_options *o) {
    for (char **w = c->weight; w && *w; w++) {
        char *equals = strrchr(*w, '=');
        if (o->n_weights == WEIGHTS_MAX || !equals || equals == *w ||
            !soothe__parse_double(&c->weights[o->n_weights].weight, equals + 1, 0, 1e6)) {
            soothe__print_misuse("score train", "--weight takes SOURCE=NUMBER, at most %d times, not \"%s\"",
                                 WEIGHTS_MAX, *w);
            return false;
        }
        *equals                           = '\0';
        c->weights[o->n_weights++].source = *w;
    }
    o->weights = c->weights;
    return true;
}

static bool read_double(double *out, const char *text, const char *option, double lo, double hi) {
    if (!text || soothe__parse_double(out, text, lo, hi))
        return true;
    soothe__print_misuse("score train", "%s takes a number from %g to %g, not \"%s\"", option, lo, hi, text);
    return false;
}

static bool read_options(struct choice *c, struct soothe__ngram_train_options *o) {
    int32_t bits = (int32_t)o->shape.bits, words = (int32_t)o->n_listed, threads = 0;
    bool    ok = read_double(&o->holdout, c->holdout, "--holdout-fraction", 0, 0.9) &&
              read_double(&o->c, c->c, "--c", 1e-6, 1e6) && read_double(&o->sharpen, c->sharpen, "--sharpen", 0, 1e3) &&
              soothe__read_int(&bits, c->bits, "score train", "--bits", 8, 24) &&
              soothe__read_int(&words, c->words, "score train", "--words", 0, SOOTHE__LIST_MAX) &&
              soothe__read_int(&threads, c->threads, "score train", "-t", 0, 1024) &&
              soothe__read_int(&o->max_iterations, c->iterations, "score train", "--iterations", 1, 100000) &&
              (!c->seed || soothe__read_seed(&o->seed, c->seed, "score train")) && read_weights(c, o);
    o->shape.lexicon = c->no_lexicon ? 0 : 1;
    o->shape.bits    = (uint32_t)bits;
    o->n_listed      = (uint32_t)words;
    o->n_threads     = soothe__usable_threads(threads);
    return ok;
}

static void say(void *user, const char *line) {
    (void)user;
    fprintf(stderr, "%s\n", line);
}

static int print_json(const struct choice *c, const struct soothe__labelled_texts *t,
                      const struct soothe__ngram_train_report *r, uint32_t seed) {
    json_t *o = json_pack(
        "{s:i, s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:i, s:f, s:I, s:f, s:o}", "schema", 1, "tool", SOOTHE_VERSION,
        "scorer", c->output, "data", soothe__json_files(t), "n_train", (json_int_t)(r->n_train + r->n_calibration),
        "n_calibration", (json_int_t)r->n_calibration, "n_holdout", (json_int_t)r->n_holdout, "n_features",
        (json_int_t)r->n_features, "n_words", (json_int_t)r->n_listed, "iterations", r->n_iterations, "loss", r->loss,
        "seed", (json_int_t)seed, "seconds", r->seconds, "held_out", soothe__json_figures(r->figures, r->n_figures));
    return soothe__print_json(o, 6);
}

static void print_text(const struct choice *c, const struct soothe__ngram_train_report *r) {
    printf("%s\n  trained on %zu texts (%zu of them calibrated it), %zu features, %zu listed words, %.0f s\n",
           c->output, r->n_train + r->n_calibration, r->n_calibration, r->n_features, r->n_listed, r->seconds);
    printf("  on %zu held-out texts:\n\n", r->n_holdout);
    soothe__print_figures(r->figures, r->n_figures);
}

/* The held-out rows, for other scorers to be tested on. */
static enum soothe_status write_holdout(const char *path, const struct soothe__labelled_texts *t,
                                        const struct soothe__ngram_train_report *r, struct soothe_error *err) {
    struct soothe__new_file f;
    enum soothe_status      status = soothe__new_file_open(&f, path, err);
    for (size_t i = 0; i < t->n && !status; i++) {
        if (!r->held_out[i])
            continue;
        json_t *o = json_pack("{s:s, s:f, s:s}", "text", t->texts[i], "label", (double)t->labels[i], "source",
                              t->names[t->sources[i]]);
        if (!o || json_dumpf(o, f.stream, JSON_COMPACT | JSON_REAL_PRECISION(6)) || fputc('\n', f.stream) == EOF)
            status = soothe__fail(err, SOOTHE_E_IO, "cannot write row %zu to %s", i, path);
        json_decref(o);
    }
    if (!status)
        status = soothe__new_file_commit(&f, err);
    soothe__new_file_abort(&f);
    return status;
}

static int train(struct choice *c, const struct soothe__ngram_train_options *o) {
    struct soothe__labelled_texts     texts  = {0};
    struct soothe__ngram_train_report report = {0};
    struct soothe__ngram_scorer      *scorer = NULL;
    struct soothe_error               err;
    int                               code   = SOOTHE__EXIT_DONE;
    enum soothe_status                status = soothe__read_rows(&texts, &c->rows, &err);
    if (!status)
        status = soothe__ngram_train(&scorer, &report, &texts, o, &err);
    if (!status)
        status = soothe__ngram_train_save(scorer, &report, &texts, o, c->output, &err);
    if (!status && c->write_holdout)
        status = write_holdout(c->write_holdout, &texts, &report, &err);
    if (status)
        code = soothe__print_failure(&err);
    else if (c->json)
        code = print_json(c, &texts, &report, o->seed);
    else
        print_text(c, &report);
    soothe__ngram_close(scorer);
    soothe__ngram_train_report_free(&report);
    soothe__labelled_free(&texts);
    return code;
}

static int run(struct choice *c, const char *more) {
    struct soothe__ngram_train_options o    = soothe__ngram_train_options_default();
    const int                          code = soothe__check_rows(&c->rows, "score train", more);
    if (code)
        return code;
    if (!c->output)
        return soothe__print_misuse("score train", "where to? -o names the scorer to be written");
    if (!read_options(c, &o))
        return SOOTHE__EXIT_MISUSE;
    o.say = say;
    return train(c, &o);
}

static void free_choice(struct choice *c) {
    char *strings[] = {c->output, c->write_holdout, c->holdout, c->c,       c->sharpen,
                       c->bits,   c->words,         c->seed,    c->threads, c->iterations};
    soothe__free_texts(strings, sizeof strings / sizeof *strings);
    soothe__row_choice_free(&c->rows);
    soothe__free_list(c->weight);
}

int soothe__cmd_score_train(int argc, const char **argv) {
    struct choice           c         = {0};
    const struct poptOption options[] = {
        ROW_OPTIONS,
        {"output", 'o', POPT_ARG_STRING, &c.output, 0, "the scorer to be written", "FILE"},
        {"weight", '\0', POPT_ARG_ARGV, &c.weight, 0, "what a text of a source counts (1); may be given again",
         "SOURCE=X"},
        {"holdout-fraction", '\0', POPT_ARG_STRING, &c.holdout, 0, "share of the texts to hold out (0.2)", "X"},
        {"write-holdout", '\0', POPT_ARG_STRING, &c.write_holdout, 0, "where to write the held-out rows", "FILE"},
        {"c", '\0', POPT_ARG_STRING, &c.c, 0, "inverse of the penalty (5)", "X"},
        {"sharpen", '\0', POPT_ARG_STRING, &c.sharpen, 0,
         "labels between 0 and 1: how much further from .5 (4); 0: to 0 or 1", "X"},
        {"bits", '\0', POPT_ARG_STRING, &c.bits, 0, "2^N buckets each for words and pieces (20)", "N"},
        {"words", '\0', POPT_ARG_STRING, &c.words, 0, "most words to be recognised under a mask (512)", "N"},
        {"no-lexicon", '\0', POPT_ARG_NONE, &c.no_lexicon, 0, "do not tell words of the built-in lexicon", NULL},
        {"iterations", '\0', POPT_ARG_STRING, &c.iterations, 0, "most steps of a fit (200)", "N"},
        {"seed", '\0', POPT_ARG_STRING, &c.seed, 0, "of the split (1)", "N"},
        {"threads", 't', POPT_ARG_STRING, &c.threads, 0, "threads (all)", "N"},
        {"json", '\0', POPT_ARG_NONE, &c.json, 0, "the report as JSON", NULL},
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &soothe__command_score_train, argc, argv, options);
    if (code < 0)
        code = run(&c, poptGetArg(context));
    poptFreeContext(context);
    free_choice(&c);
    return code;
}
