/* SPDX-License-Identifier: Apache-2.0
 * What the commands that judge texts share: score and its subcommands, probe, polar. */
#ifndef SOOTHE_CLI_SCORE_H
#define SOOTHE_CLI_SCORE_H

#include "cli/result.h"
#include "score/labelled_texts.h"
#include "score/ngram_scorer.h"
#include "score/probe_texts.h"
#include "score/scorer.h"

/* ---- labelled rows: score_rows.c ------------------------------------------------------------------------- */

struct soothe__row_choice {
    char **data;                             /* popt's */
    char  *text, *label, *source, *positive; /* popt's */
    int    skip_bad;
};
/* The options of a command whose variable c has a struct soothe__row_choice .rows. */
#define ROW_OPTIONS                                                                                                    \
    LIST_OPTION("data", rows.data, "labelled texts; may be given again", "FILE"),                                      \
        TEXT_OPTION("field", '\0', rows.text, "field of the text (text)", "NAME"),                                     \
        TEXT_OPTION("label", '\0', rows.label, "field of the label (label)", "NAME"),                                  \
        TEXT_OPTION("source", '\0', rows.source, "field of the source (source)", "NAME"),                              \
        TEXT_OPTION("positive", '\0', rows.positive, "labels that are words: which of them are toxic", "A,B"),         \
        FLAG_OPTION("skip-bad", rows.skip_bad, "leave out and count bad rows, instead of ending")

/* Prints misuse where no file is given, or where more, a word that belongs to no option, is. */
int soothe__check_rows(const struct soothe__row_choice *c, const char *command, const char *more);
/* Reads all files; counts of bad rows on stderr. */
enum soothe_status soothe__read_rows(struct soothe__labelled_texts *texts, const struct soothe__row_choice *c,
                                     struct soothe_error *err);
void               soothe__row_choice_free(struct soothe__row_choice *c);

/* The texts of probe and polar, from files whose last path is NULL; counts of bad rows on stderr. */
enum soothe_status soothe__read_probe_texts(struct soothe__probe_texts *texts, char *const *paths, bool need_labels,
                                            bool skip_bad, struct soothe_error *err);

/* ---- figures: score_output.c ------------------------------------------------------------------------- */

/* A table, one line a source. */
void    soothe__print_figures(const struct soothe__score_figures *figures, size_t n);
json_t *soothe__json_figures(const struct soothe__score_figures *figures, size_t n);
json_t *soothe__json_files(const struct soothe__labelled_texts *t);

/* ---- one text: score_text.c ---------------------------------------------------------------------------- */

struct soothe__score_view {
    bool   json, explain, spans;
    double threshold;
};

/* Prints a text's score, as a line of JSON or as "0.1234<TAB>text", and what the view asks for besides; ngram may be
 * NULL where the view asks for neither explain nor spans. The text of a plain line is masked of crude words unless it
 * is explained. errors  SOOTHE_E_MEMORY */
enum soothe_status soothe__print_score(const struct soothe__score *score, const char *text,
                                       const struct soothe__ngram_scorer *ngram, const struct soothe__score_view *view,
                                       struct soothe_error *err);

/* ---- text as it arrives: score_stream.c ---------------------------------------------------------------- */

/* Reads standard input and prints a line for every word that has ended: its score alone would be that of the text so
 * far, of the last words, and the largest so far. Ends with the input. */
enum soothe_status soothe__score_stream(struct soothe__scorer *scorer, bool json, struct soothe_error *err);

#endif /* SOOTHE_CLI_SCORE_H */
