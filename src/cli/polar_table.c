/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>

#include "base/statistics.h"
#include "cli/polar.h"
#include "cli/result.h"

struct row { /* figures of one scorer, or of the combination */
    size_t                       n, n_toxic;
    double                       auc, ece;
    struct soothe__error_figures error;
};

/* Of the texts of one source of data (or all: n_sources) that have a score. */
static void figures_of(const struct soothe__polar_work *w, const double *scores, size_t stride, size_t i_source,
                       double *room, unsigned char *labels, struct row *row) {
    for (size_t i = 0; i < w->n; i++) {
        const struct soothe__probe_text *item = &w->texts.items[w->i_items[i]];
        if ((i_source != w->texts.n_sources && item->i_source != i_source) || isnan(scores[i * stride]))
            continue;
        room[row->n]     = scores[i * stride];
        labels[row->n++] = item->label;
        row->n_toxic += item->label;
    }
    row->auc = soothe__roc_auc(room, labels, row->n);
    row->ece = soothe__calibration_error(room, labels, row->n, 10, NULL);
}

static void print_row(const struct soothe__polar_work *w, size_t i_source, const char *scorer, const struct row *r) {
    printf("%-20.40s %-28.60s", i_source < w->texts.n_sources ? w->texts.sources[i_source] : "all", scorer);
    soothe__print_figure(r->auc, 6, 3);
    soothe__print_figure(r->ece, 6, 3);
    printf(" %7zu", r->n);
    if (r->error.n > 0) {
        soothe__print_figure(r->error.error_rate, 6, 3);
        soothe__print_figure(r->error.mean_zeta, 6, 3);
        soothe__print_figure(r->error.ece, 6, 3);
        soothe__print_figure(r->error.r_squared, 6, 3);
    }
    putchar('\n');
}

static json_t *json_row(const struct soothe__polar_work *w, size_t i_source, const char *scorer, const struct row *r) {
    return json_pack("{s:s, s:s, s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:o}", "source",
                     i_source < w->texts.n_sources ? w->texts.sources[i_source] : "", "scorer", scorer, "auc",
                     soothe__json_rounded(r->auc), "calibration_error", soothe__json_rounded(r->ece), "scored",
                     (json_int_t)r->n, "voted", (json_int_t)r->error.n, "true_error",
                     soothe__json_rounded(r->error.n ? r->error.error_rate : (double)NAN), "estimated_error",
                     soothe__json_rounded(r->error.n ? r->error.mean_zeta : (double)NAN), "error_ece",
                     soothe__json_rounded(r->error.n ? r->error.ece : (double)NAN), "error_r2",
                     soothe__json_rounded(r->error.n ? r->error.r_squared : (double)NAN));
}

enum soothe_status soothe__polar_tabulate(const struct soothe__polar_work *w, json_t *list, struct soothe_error *err) {
    const size_t       m = w->polar.n_sources, n_sources = w->texts.n_sources;
    double            *room   = soothe__calloc(w->n + 1, sizeof *room);
    unsigned char     *labels = soothe__calloc(w->n + 1, 1);
    enum soothe_status status = room && labels ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!list)
        printf("%-20s %-28s %6s %6s %7s %6s %6s %6s %6s\n", "data", "scorer", "AUC", "ECE", "scored", "error", "est.",
               "ECE", "R2");
    for (size_t s = n_sources == 1 ? 1 : 0; s <= n_sources && !status; s++) {
        const size_t i_source = n_sources == 1 ? 0 : s;
        for (size_t j = 0; j <= m && !status; j++) {
            struct row  r    = {.n = 0};
            const char *name = j < m ? w->polar.sources[j].spec : "combination";
            figures_of(w, j < m ? w->scores + j : w->risks, j < m ? m : 1, i_source, room, labels, &r);
            if (j < m && s == n_sources)
                status = soothe__polar_error_figures(&r.error, w->risks, w->votes + j, m, w->labels, w->n, err);
            if (list)
                json_array_append_new(list, json_row(w, i_source, name, &r));
            else
                print_row(w, i_source, name, &r);
        }
    }
    free(room);
    free(labels);
    return status;
}
