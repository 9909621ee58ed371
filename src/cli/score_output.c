/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/score.h"

void soothe__print_figures(const struct soothe__score_figures *figures, size_t n) {
    int width = 6;
    for (size_t i = 0; i < n; i++) {
        const size_t length = strlen(figures[i].source);
        width               = length > (size_t)width && length < 40 ? (int)length : width;
    }
    printf("%-*s  %7s  %7s  %8s  %7s  %7s  %7s  %7s\n", width, "source", "texts", "toxic", "no score", "AUC", "ECE",
           "FPR", "recall");
    for (size_t i = 0; i < n; i++) {
        const struct soothe__score_figures *f = &figures[i];
        printf("%-*s  %7zu  %7zu  %8zu", width, f->source, f->n, f->n_toxic, f->n_null);
        soothe__print_figure(f->auc, 8, 4);
        soothe__print_figure(f->ece, 8, 4);
        soothe__print_figure(f->false_positive, 8, 4);
        soothe__print_figure(f->recall, 8, 4);
        putchar('\n');
    }
}

json_t *soothe__json_figures(const struct soothe__score_figures *figures, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct soothe__score_figures *f = &figures[i];
        json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "source", f->source, "n",
                                              (json_int_t)f->n, "toxic", (json_int_t)f->n_toxic, "nulls",
                                              (json_int_t)f->n_null, "auc", soothe__json_number(f->auc), "ece",
                                              soothe__json_number(f->ece), "false_positive_rate",
                                              soothe__json_number(f->false_positive), "recall",
                                              soothe__json_number(f->recall), "mean", soothe__json_number(f->mean)));
    }
    return list;
}

json_t *soothe__json_files(const struct soothe__labelled_texts *t) {
    json_t *list = json_array();
    for (size_t i = 0; i < t->n_files; i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:I}", "file", t->files[i].path, "sha256",
                                              t->files[i].sha256, "rows", (json_int_t)t->files[i].counts.n_good,
                                              "bad_rows", (json_int_t)t->files[i].counts.n_bad));
    return list;
}
