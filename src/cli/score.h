/* SPDX-License-Identifier: Apache-2.0
 * What the commands that judge texts share: score and its subcommands, probe, polar. */
#ifndef SOOTHE_CLI_SCORE_H
#define SOOTHE_CLI_SCORE_H

#include "cli/result.h"
#include "score/labelled_texts.h"
#include "score/ngram_scorer.h"
#include "score/probe_texts.h"
#include "score/scorer.h"

/* ---- figures: score_output.c ------------------------------------------------------------------------- */

/* A table, one line a source. */
void    soothe__print_figures(const struct soothe__score_figures *figures, size_t n);
json_t *soothe__json_figures(const struct soothe__score_figures *figures, size_t n);
json_t *soothe__json_files(const struct soothe__labelled_texts *t);
/* Counts of bad rows, on stderr. */
void soothe__tell_bad_rows(const struct soothe__labelled_texts *t);

/* The texts of probe and polar, from files whose last path is NULL; counts of bad rows, on stderr. */
enum soothe_status soothe__read_probe_texts(struct soothe__probe_texts *texts, char *const *paths, bool need_labels,
                                            bool skip_bad, struct soothe_error *err);

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
