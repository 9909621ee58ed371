/* SPDX-License-Identifier: Apache-2.0
 * soothe cfl: tables of the effect that words have on a scorer. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/result.h"
#include "cli/speak.h"
#include "corpus/rows.h"
#include "engine/target_model.h"
#include "methods/ate.h"

static int cmd_train(int argc, const char **argv);
static int cmd_show(int argc, const char **argv);

static const struct soothe__command TRAIN = {
    .name    = "cfl train",
    .run     = cmd_train,
    .summary = "measure the effect of words on a scorer, by replacing them",
    .help =
        "    soothe cfl train --data texts.jsonl -o my.cfl.gguf\n"
        "    soothe cfl train --data tweets.csv --field tweet --scorer lexicon --fills model -m MODEL -o my.cfl.gguf\n"
        "\n"
        "For each word, up to --sentences sentences with it are scored as they are and with the word replaced by up "
        "to\n"
        "--n-fills others that fit the place: by the words on both sides in the texts themselves (ngram), or by what "
        "a\n"
        "model would say there (model). The mean difference is the word's effect; it is shrunk by n/(n+K), and 0 "
        "where\n"
        "its t-interval holds 0. The table works with any model; soothe run --method cfl:table=my.cfl.gguf uses it.\n",
};

static const struct soothe__command SHOW = {
    .name    = "cfl show",
    .run     = cmd_show,
    .summary = "print a table's effects, of some words or all",
    .help =
        "    soothe cfl show my.cfl.gguf female gay black\n"
        "    soothe cfl show my.cfl.gguf female --scorer default --json\n"
        "\n"
        "Effect before shrinking with its interval, sentences behind it, weight; with --scorer also the score of the\n"
        "bare word. Without words: all of the table, the heaviest first. These are words as they stand in the table.\n",
};

static const struct soothe__command *const SUBCOMMANDS[] = {&TRAIN, &SHOW};
enum { N_SUBCOMMANDS = sizeof SUBCOMMANDS / sizeof *SUBCOMMANDS };

const struct soothe__command soothe__command_cfl = {
    .name    = "cfl",
    .run     = soothe__cmd_cfl,
    .summary = "measure the effect of words, for --method cfl",
    .help    = "    soothe cfl train --data texts.jsonl -o my.cfl.gguf\n"
               "    soothe cfl show my.cfl.gguf female gay black\n",
};

struct choice {
    char *scorer, *fills, *model, *field, *margin, *n_min, *n_sentences, *n_fills, *k, *confidence, *seed, *threads,
        *out; /* popt's, free() */
    char **data;
    int    json, skip_bad;
};

static void free_choice(struct choice *c) {
    char *const texts[] = {c->scorer,  c->fills, c->model,      c->field, c->margin,  c->n_min, c->n_sentences,
                           c->n_fills, c->k,     c->confidence, c->seed,  c->threads, c->out};
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
    soothe__free_list(c->data);
}

/* ---- train ------------------------------------------------------------------------------------------------ */

struct work {
    struct soothe__ate_options options;
    float                      margin, k, confidence;
    int32_t                    n_threads;
    bool                       by_model;
    char                       sha256[65]; /* of the files' bytes, one file after another */
    struct soothe__ate_corpus  corpus;
    struct soothe__scorer     *scorer;
    char                      *model_path;
    char                       fingerprint[65];
    struct llama_model        *model;
    struct soothe__fills       fills;
    struct soothe__word_table  table;
};

static int check_choice(struct work *w, const struct choice *c, const char *more) {
    uint32_t seed = 1;
    if (more)
        return soothe__print_misuse(TRAIN.name, "\"%s\" belongs to no option", more);
    if (!c->data || !c->data[0])
        return soothe__print_misuse(TRAIN.name, "which texts? --data takes a file");
    if (!c->out)
        return soothe__print_misuse(TRAIN.name, "where to? -o names the table to be written");
    if (c->fills && strcmp(c->fills, "ngram") != 0 && strcmp(c->fills, "model") != 0)
        return soothe__print_misuse(TRAIN.name, "--fills is ngram or model, not \"%s\"", c->fills);
    if (!soothe__read_int(&w->options.n_min, c->n_min, TRAIN.name, "--min-sentences", 2, 1000000) ||
        !soothe__read_int(&w->options.n_sentences, c->n_sentences, TRAIN.name, "--sentences", 2, 1000000) ||
        !soothe__read_int(&w->options.n_fills, c->n_fills, TRAIN.name, "--n-fills", 1, SOOTHE__FILLS_MAX) ||
        !soothe__read_float(&w->margin, c->margin, TRAIN.name, "--margin", 0, 1000) ||
        !soothe__read_float(&w->k, c->k, TRAIN.name, "--shrink", 0, 1e6) ||
        !soothe__read_float(&w->confidence, c->confidence, TRAIN.name, "--confidence", 0.5, 0.9999) ||
        !soothe__read_int(&w->n_threads, c->threads, TRAIN.name, "-t", 1, 1024) ||
        (c->seed && !soothe__read_seed(&seed, c->seed, TRAIN.name)))
        return SOOTHE__EXIT_MISUSE;
    w->by_model           = c->fills && strcmp(c->fills, "model") == 0;
    w->options.k          = (double)w->k;
    w->options.confidence = (double)w->confidence;
    w->options.seed       = seed;
    return SOOTHE__EXIT_DONE;
}

static enum soothe_status read_file(struct work *w, const char *path, const struct choice *c, char hex[65],
                                    struct soothe_error *err) {
    struct soothe__rows      *rows;
    struct soothe__row_counts counts = {0};
    bool                      more   = true;
    const char               *field  = c->field ? c->field : "text";
    enum soothe_status        status = soothe__rows_open(&rows, path, c->skip_bad != 0, err);
    if (status)
        return status;
    while (!status && !(status = soothe__rows_next(rows, &more, err)) && more) {
        const char *text = soothe__rows_field(rows, field);
        status           = text ? soothe__ate_corpus_add(&w->corpus, text, err)
                                : soothe__rows_reject(rows, err, "there is no field \"%.60s\"", field);
    }
    soothe__rows_close(rows, hex, &counts);
    if (!status && counts.n_bad > 0)
        fprintf(stderr, "soothe: %s: %zu bad rows left out, the first at %s\n", path, counts.n_bad, counts.first_bad);
    return status;
}

static enum soothe_status read_texts(struct work *w, const struct choice *c, struct soothe_error *err) {
    struct soothe__sha256 *hash = soothe__sha256_new();
    char                   hex[65];
    enum soothe_status     status = hash ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    for (char **path = c->data; *path && !status; path++) {
        status = read_file(w, *path, c, hex, err);
        if (!status)
            soothe__sha256_add(hash, hex, 64);
    }
    if (hash)
        soothe__sha256_finish(hash, w->sha256);
    return status ? status : soothe__ate_corpus_finish(&w->corpus, err);
}

static enum soothe_status open_model(struct work *w, const struct choice *c, struct soothe_error *err) {
    struct soothe__gguf g      = {0};
    enum soothe_status  status = soothe__choose_model(&w->model_path, c->model, err);
    if (!status)
        status = soothe__gguf_open(&g, w->model_path, err);
    if (!status)
        status = soothe__model_fingerprint(w->fingerprint, &g, err);
    soothe__gguf_close(&g);
    if (!status)
        status = soothe__target_load(&w->model, w->model_path, 0, err);
    return status ? status : soothe__model_fills_new(&w->fills, w->model, (double)w->margin, w->n_threads, err);
}

static struct soothe__progress progress;

static void say(double fraction) {
    soothe__progress_update(&progress, fraction, "");
}

static enum soothe_status write_table(const struct work *w, const struct choice *c, struct soothe_error *err) {
    const struct soothe__fact facts[] = {
        {"soothe.training.data_sha256", w->sha256, 0}, /* SHA-256 over the files' own, in hexadecimal, in order */
        {"soothe.training.scorer", soothe__scorer_spec(w->scorer), 0},
        {"soothe.training.scorer_identity", soothe__scorer_identity(w->scorer), 0},
        {"soothe.training.fills", w->by_model ? "model" : "ngram", 0},
        {"soothe.training.fills_model", w->by_model ? w->fingerprint : "", 0},
        {"soothe.training.margin", NULL, w->by_model ? w->margin : 0},
        {"soothe.training.sentences", NULL, (double)w->corpus.n_sentences},
        {"soothe.training.sentences_of_a_word", NULL, w->options.n_sentences},
        {"soothe.training.least_sentences", NULL, w->options.n_min},
        {"soothe.training.fills_of_a_sentence", NULL, w->options.n_fills},
        {"soothe.training.shrink", NULL, w->options.k},
        {"soothe.training.confidence", NULL, w->options.confidence},
        {"soothe.training.seed", NULL, (double)w->options.seed},
    };
    return soothe__word_table_write(&w->table, c->out, facts, sizeof facts / sizeof *facts, err);
}

static int print_train(const struct work *w, const struct choice *c) {
    size_t n_above = 0, n_below = 0;
    for (size_t i = 0; i < w->table.n; i++) {
        n_above += w->table.words[i].weight > 0;
        n_below += w->table.words[i].weight < 0;
    }
    if (c->json)
        return soothe__print_json(
            json_pack("{s:I, s:I, s:I, s:I, s:s, s:s, s:I}", "sentences", (json_int_t)w->corpus.n_sentences, "words",
                      (json_int_t)w->table.n, "above", (json_int_t)n_above, "below", (json_int_t)n_below, "fills",
                      w->by_model ? "model" : "ngram", "data_sha256", w->sha256, "seed", (json_int_t)w->options.seed),
            10);
    printf("%zu sentences, %zu words with %d or more: %zu raise the score, %zu lower it, the rest is not told from 0\n",
           w->corpus.n_sentences, w->table.n, w->options.n_min, n_above, n_below);
    return SOOTHE__EXIT_DONE;
}

static int train(struct work *w, const struct choice *c) {
    struct soothe_error                 err;
    const struct soothe__scorer_options scorer_options = {.model_path = c->model, .n_threads = w->n_threads};
    enum soothe_status                  status =
        soothe__scorer_open(&w->scorer, c->scorer ? c->scorer : "default", &scorer_options, &err);
    if (!status)
        status = read_texts(w, c, &err);
    if (!status)
        status = w->by_model ? open_model(w, c, &err) : soothe__ngram_fills_new(&w->fills, &w->corpus, &err);
    progress        = soothe__progress_start();
    w->options.say  = say;
    w->options.stop = soothe__interrupt_flag();
    if (!status)
        status = soothe__ate_table(&w->table, &w->corpus, w->scorer, &w->fills, &w->options, &err);
    soothe__progress_finish(&progress);
    if (!status)
        status = write_table(w, c, &err);
    return status ? soothe__print_failure(&err) : print_train(w, c);
}

static int cmd_train(int argc, const char **argv) {
    struct choice           c         = {0};
    struct work             w         = {.options = soothe__ate_options_default(), .margin = 5};
    const struct poptOption options[] = {
        LIST_OPTION("data", data, "texts, JSON lines, CSV or TSV; may be given again", "FILE"),
        TEXT_OPTION("field", '\0', field, "field of the text (text)", "NAME"),
        TEXT_OPTION("scorer", '\0', scorer, "what the effect is on (default)", "SPEC"),
        TEXT_OPTION("fills", '\0', fills, "ngram (default) or model", "WHICH"),
        TEXT_OPTION("model", 'm', model, "the model that fills: a name, an address or a file", "MODEL"),
        TEXT_OPTION("margin", '\0', margin, "nats by which a fill may make what follows less likely (5)", "X"),
        TEXT_OPTION("min-sentences", '\0', n_min, "sentences that a word must have (5)", "N"),
        TEXT_OPTION("sentences", '\0', n_sentences, "sentences of a word at most (40)", "N"),
        TEXT_OPTION("n-fills", '\0', n_fills, "fills of a sentence at most (5)", "N"),
        TEXT_OPTION("shrink", '\0', k, "K of n/(n+K) (10)", "K"),
        TEXT_OPTION("confidence", '\0', confidence, "of the interval (0.95)", "P"),
        TEXT_OPTION("seed", '\0', seed, "of sentences and fills (1)", "N"),
        TEXT_OPTION("threads", 't', threads, "threads (all processors)", "N"),
        TEXT_OPTION("output", 'o', out, "the table to be written", "FILE"),
        FLAG_OPTION("skip-bad", skip_bad, "leave bad rows out instead of stopping"),
        FLAG_OPTION("json", json, "the counts as JSON"),
        POPT_TABLEEND};
    w.k          = (float)w.options.k;
    w.confidence = (float)w.options.confidence;
    poptContext context;
    int         code = soothe__options_read(&context, &TRAIN, argc, argv, options);
    if (code < 0)
        code = check_choice(&w, &c, poptGetArg(context));
    if (code == SOOTHE__EXIT_DONE && c.out)
        code = train(&w, &c);
    if (w.fills.free)
        w.fills.free(w.fills.self);
    llama_model_free(w.model);
    free(w.model_path);
    soothe__scorer_close(w.scorer);
    soothe__word_table_free(&w.table);
    soothe__ate_corpus_free(&w.corpus);
    poptFreeContext(context);
    free_choice(&c);
    return code;
}

/* ---- show ------------------------------------------------------------------------------------------------- */

static int heaviest_first(const void *a, const void *b) {
    const struct soothe__table_word *x = a, *y = b;
    return x->weight != y->weight ? (x->weight < y->weight) - (x->weight > y->weight) : strcmp(x->word, y->word);
}

static enum soothe_status show_word(const struct soothe__table_word *t, struct soothe__scorer *scorer, json_t *list,
                                    struct soothe_error *err) {
    struct soothe__score bare   = {.toxicity = NAN};
    const char          *text   = t->word;
    enum soothe_status   status = scorer ? soothe__scorer_score(scorer, &text, 1, &bare, err) : SOOTHE_OK;
    if (status)
        return status;
    if (list) {
        json_t *o = json_pack("{s:s, s:i, s:o, s:o, s:o, s:o}", "word", t->word, "n", (int)t->n, "effect",
                              soothe__json_rounded((double)t->effect), "lo", soothe__json_rounded((double)t->lo), "hi",
                              soothe__json_rounded((double)t->hi), "weight", soothe__json_rounded((double)t->weight));
        if (scorer)
            json_object_set_new(o, "bare", soothe__json_rounded(bare.toxicity));
        json_array_append_new(list, o);
        return SOOTHE_OK;
    }
    printf("%-20s %6d", t->word, t->n);
    soothe__print_figure((double)t->effect, 8, 4);
    soothe__print_figure((double)t->lo, 8, 4);
    soothe__print_figure((double)t->hi, 8, 4);
    soothe__print_figure((double)t->weight, 8, 4);
    if (scorer)
        soothe__print_figure(bare.toxicity, 8, 4);
    putchar('\n');
    return SOOTHE_OK;
}

static enum soothe_status show_words(struct soothe__word_table *table, const char *const *words,
                                     struct soothe__scorer *scorer, json_t *list, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    char               folded[SOOTHE__WORD_BYTES_MAX + 1];
    if (!list)
        printf("%-20s %6s %8s %8s %8s %8s%s\n", "word", "n", "effect", "lo", "hi", "weight", scorer ? "     bare" : "");
    for (; words && *words && !status; words++) {
        const bool                       is_word = soothe__fold_phrase(folded, *words, strlen(*words));
        const struct soothe__table_word *found   = is_word ? soothe__word_table_find(table, folded) : NULL;
        status                                   = found ? show_word(found, scorer, list, err)
                                                         : soothe__fail(err, SOOTHE_E_ARGUMENT, "\"%.60s\" is not in the table", *words);
        if (!status && !words[1])
            return SOOTHE_OK;
    }
    if (status)
        return status;
    qsort(table->words, table->n, sizeof *table->words, heaviest_first);
    for (size_t i = 0; i < table->n && !status; i++)
        status = show_word(&table->words[i], scorer, list, err);
    return status;
}

static int show(const char *path, const char *const *words, const struct choice *c) {
    struct soothe_error       err;
    struct soothe__word_table table  = {.n = 0};
    struct soothe__scorer    *scorer = NULL;
    json_t                   *list   = c->json ? json_array() : NULL;
    enum soothe_status        status = soothe__word_table_read(&table, path, &err);
    if (!status && c->scorer)
        status = soothe__scorer_open(&scorer, c->scorer, NULL, &err);
    if (!status)
        status = show_words(&table, words, scorer, list, &err);
    int code = status ? soothe__print_failure(&err) : SOOTHE__EXIT_DONE;
    if (!status && list)
        code = soothe__print_json(json_pack("{s:O}", "words", list), 10);
    json_decref(list);
    soothe__scorer_close(scorer);
    soothe__word_table_free(&table);
    return code;
}

static int cmd_show(int argc, const char **argv) {
    struct choice           c         = {0};
    const struct poptOption options[] = {
        TEXT_OPTION("scorer", '\0', scorer, "also the bare words' scores by this scorer", "SPEC"),
        FLAG_OPTION("json", json, "as JSON"), POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &SHOW, argc, argv, options);
    const char *path = code < 0 ? poptGetArg(context) : NULL;
    if (code < 0)
        code = path ? show(path, poptGetArgs(context), &c)
                    : soothe__print_misuse(SHOW.name, "which table? give the file of soothe cfl train");
    poptFreeContext(context);
    free_choice(&c);
    return code;
}

int soothe__cmd_cfl(int argc, const char **argv) {
    return soothe__run_subcommand(&soothe__command_cfl, SUBCOMMANDS, N_SUBCOMMANDS, argc, argv);
}
