/* SPDX-License-Identifier: Apache-2.0
 * What soothe polar fit and soothe polar test share: the texts, and what every scorer says of each. */
#ifndef SOOTHE_CLI_POLAR_H
#define SOOTHE_CLI_POLAR_H

#include <jansson.h>

#include "score/polar.h"
#include "score/probe_texts.h"

struct soothe__polar_work {
    struct soothe__probe_texts    texts;
    struct soothe__polar          polar;
    struct soothe__polar_options  options;
    struct soothe__scorer_options scorer_options;
    char                         *model_path;
    int32_t                       n_hidden;
    /* of the texts that are taken; m scorers */
    const char   **list;    /* (n) */
    uint32_t      *i_items; /* (n) their places among .texts */
    size_t         n;
    double        *scores; /* (n, m) */
    double        *risks;  /* (n) of the combination */
    signed char   *votes;  /* (n, m) */
    float         *features;
    unsigned char *labels;                              /* (n) */
    char           whys[SOOTHE__POLAR_SOURCES_MAX][96]; /* (m) why some texts have no score; "" */
};

/* ---- polar_work.c ------------------------------------------------------------------------------------- */

/* Asks every scorer about the texts of the parts in part_mask (1 << SOOTHE__PART_…), and tells how far it is. */
enum soothe_status soothe__polar_work_ask(struct soothe__polar_work *w, unsigned part_mask, struct soothe_error *err);
/* After that: fills risks; NaN where every scorer abstains. */
void soothe__polar_work_combine(struct soothe__polar_work *w);
void soothe__polar_work_free(struct soothe__polar_work *w);

/* ---- polar_table.c ------------------------------------------------------------------------------------ */

/* Figures of every scorer and of the combination, on each source of data and, where there are several, on all
 * together.
 * list    NULL: prints them; else they are added there
 * errors  SOOTHE_E_MEMORY */
enum soothe_status soothe__polar_tabulate(const struct soothe__polar_work *w, json_t *list, struct soothe_error *err);

#endif /* SOOTHE_CLI_POLAR_H */
