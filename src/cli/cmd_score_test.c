/* SPDX-License-Identifier: Apache-2.0
 * soothe score test: how well a scorer's scores agree with labels. */
#include <stdlib.h>

#include "cli/score.h"
#include "cli/speak.h"

const struct soothe__command soothe__command_score_test = {
    .name    = "score test",
    .run     = soothe__cmd_score_test,
    .summary = "measure a scorer on labelled texts",
    .help    = "    soothe score test --data labelled.jsonl\n"
               "    soothe score test --scorer lexicon --data comments.csv --field comment --label toxic\n"
               "    soothe score test --data cases.csv --field case --label gold --positive hateful --json\n"
               "\n"
               "Rows as for soothe score train. For each source, and for all together:\n"
               "    AUC     chance that a toxic text scores above a clean one\n"
               "    ECE     expected calibration error, 15 bins\n"
               "    FPR     share of the clean texts that score over .5;  recall  the same of the toxic ones\n"
               "Texts that the scorer gives no score are counted, and left out of the figures.\n",
};

struct choice {
    struct soothe__row_choice rows;
    char                     *scorer, *model, *threads; /* popt's, free() */
    int                       json;
};

static enum soothe_status measure(struct soothe__score_figures **figures, size_t *n,
                                  const struct soothe__labelled_texts *t, struct soothe__scorer *scorer,
                                  struct soothe_error *err) {
    enum { BATCH = 4096 };
    struct soothe__score *scores = soothe__calloc(BATCH, sizeof *scores);
    double               *values = soothe__calloc(t->n + 1, sizeof *values);
    enum soothe_status    status = SOOTHE_OK;
    if (!scores || !values)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu scores", t->n);
    for (size_t at = 0; at < t->n && !status; at += BATCH) {
        const size_t k = t->n - at < BATCH ? t->n - at : BATCH;
        status         = soothe__scorer_score(scorer, (const char *const *)t->texts + at, k, scores, err);
        for (size_t i = 0; i < k && !status; i++)
            values[at + i] = scores[i].toxicity;
    }
    if (!status)
        status = soothe__score_figures(figures, n, t, values, NULL, err);
    free(scores);
    free(values);
    return status;
}

static int print_json(const struct soothe__scorer *scorer, const struct soothe__labelled_texts *t,
                      const struct soothe__score_figures *figures, size_t n) {
    json_t *o = json_pack("{s:i, s:s, s:s, s:s, s:s, s:o, s:o}", "schema", 1, "tool", SOOTHE_VERSION, "scorer",
                          soothe__scorer_spec(scorer), "kind", soothe__scorer_kind(scorer), "identity",
                          soothe__scorer_identity(scorer), "data", soothe__json_files(t), "figures",
                          soothe__json_figures(figures, n));
    return soothe__print_json(o, 6);
}

static int run(const struct choice *c, const char *more) {
    struct soothe__scorer_options options = {.model_path = c->model};
    struct soothe__labelled_texts texts   = {0};
    struct soothe__score_figures *figures = NULL;
    struct soothe__scorer        *scorer  = NULL;
    struct soothe_error           err;
    size_t                        n    = 0;
    int                           code = soothe__check_rows(&c->rows, "score test", more);
    if (code)
        return code;
    if (!soothe__read_int(&options.n_threads, c->threads, "score test", "-t", 0, 1024))
        return SOOTHE__EXIT_MISUSE;
    enum soothe_status status = soothe__scorer_open(&scorer, c->scorer ? c->scorer : "default", &options, &err);
    if (!status)
        status = soothe__read_rows(&texts, &c->rows, &err);
    if (!status)
        status = measure(&figures, &n, &texts, scorer, &err);
    if (status)
        code = soothe__print_failure(&err);
    else if (c->json)
        code = print_json(scorer, &texts, figures, n);
    else
        soothe__print_figures(figures, n);
    free(figures);
    soothe__scorer_close(scorer);
    soothe__labelled_free(&texts);
    return code;
}

int soothe__cmd_score_test(int argc, const char **argv) {
    struct choice           c         = {0};
    const struct poptOption options[] = {
        ROW_OPTIONS,
        {"scorer", '\0', POPT_ARG_STRING, &c.scorer, 0, "default, lexicon, cppl, FILE.gguf, command:COMMAND, http://…",
         "SPEC"},
        {"model", 'm', POPT_ARG_STRING, &c.model, 0, "the language model, for scorers that read one", "MODEL"},
        {"threads", 't', POPT_ARG_STRING, &c.threads, 0, "threads (all)", "N"},
        {"json", '\0', POPT_ARG_NONE, &c.json, 0, "the figures as JSON", NULL},
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &soothe__command_score_test, argc, argv, options);
    if (code < 0)
        code = run(&c, poptGetArg(context));
    poptFreeContext(context);
    char *strings[] = {c.scorer, c.model, c.threads};
    soothe__free_texts(strings, sizeof strings / sizeof *strings);
    soothe__row_choice_free(&c.rows);
    return code;
}
