/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sigmoid.h"
#include "cli/polar.h"

static enum soothe_status take_texts(struct soothe__polar_work *w, unsigned part_mask, struct soothe_error *err) {
    const size_t n = w->texts.n + 1, m = w->polar.n_sources;
    w->list     = soothe__calloc(n, sizeof *w->list);
    w->i_items  = soothe__calloc(n, sizeof *w->i_items);
    w->labels   = soothe__calloc(n, 1);
    w->scores   = soothe__calloc(n, m * sizeof *w->scores);
    w->votes    = soothe__calloc(n, m);
    w->risks    = soothe__calloc(n, sizeof *w->risks);
    w->features = soothe__calloc(n, (size_t)soothe__polar_n_features(&w->polar) * sizeof *w->features);
    if (!w->list || !w->i_items || !w->labels || !w->scores || !w->votes || !w->risks || !w->features)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", w->texts.n);
    for (size_t i = 0; i < w->texts.n; i++) {
        if (!(part_mask & 1u << w->texts.items[i].part))
            continue;
        w->labels[w->n]  = w->texts.items[i].label;
        w->i_items[w->n] = (uint32_t)i;
        w->list[w->n++]  = w->texts.items[i].text;
    }
    return SOOTHE_OK;
}

enum soothe_status soothe__polar_work_ask(struct soothe__polar_work *w, unsigned part_mask, struct soothe_error *err) {
    enum { CHUNK = 256 };
    struct soothe__progress progress = soothe__progress_start();
    char                    whys[SOOTHE__POLAR_SOURCES_MAX][96];
    enum soothe_status      status = take_texts(w, part_mask, err);
    const size_t            m = w->polar.n_sources, n_features = (size_t)soothe__polar_n_features(&w->polar);
    for (size_t from = 0; from < w->n && !status; from += CHUNK) {
        const size_t n = w->n - from < CHUNK ? w->n - from : CHUNK;
        status         = soothe__polar_ask(&w->polar, w->list + from, n, w->scores + from * m, w->votes + from * m,
                                           w->features + from * n_features, whys, err);
        for (size_t j = 0; j < m && !status; j++)
            if (!w->whys[j][0])
                memcpy(w->whys[j], whys[j], sizeof whys[j]);
        soothe__progress_update(&progress, (double)(from + n) / (double)w->n, "asking the scorers");
    }
    soothe__progress_finish(&progress);
    return status;
}

void soothe__polar_work_combine(struct soothe__polar_work *w) {
    const size_t m = w->polar.n_sources, n_features = (size_t)soothe__polar_n_features(&w->polar);
    for (size_t i = 0; i < w->n; i++) {
        bool any = false;
        for (size_t j = 0; j < m; j++)
            any = any || w->votes[i * m + j] != SOOTHE__ABSTAIN;
        w->risks[i] =
            any ? soothe__sigmoid(soothe__harmoniser_logit(&w->polar.harmoniser, w->features + i * n_features))
                : (double)NAN;
    }
}

void soothe__polar_work_free(struct soothe__polar_work *w) {
    soothe__polar_free(&w->polar);
    soothe__probe_texts_free(&w->texts);
    free(w->model_path);
    free(w->list);
    free(w->i_items);
    free(w->labels);
    free(w->scores);
    free(w->votes);
    free(w->risks);
    free(w->features);
}
