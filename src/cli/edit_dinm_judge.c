/* SPDX-License-Identifier: Apache-2.0
 * Judging a DINM edit: defence on six kinds of prompts, and what changed elsewhere. */
#include <stdlib.h>
#include <string.h>

#include "cli/edit_dinm.h"
#include "corpus/corpus.h"
#include "corpus/rows.h"
#include "engine/target_model.h"
#include "eval/eval.h"

enum { TEXT_TOKENS = 256 };

struct list {
    char **texts;
    size_t n;
};

struct judged {
    struct list                    questions, attacks;
    struct soothe__attacked       *instances;
    const char                   **harmless; /* the benign prompts' texts */
    struct soothe__eval_prompts    benign;
    struct soothe__defence_prompts prompts;
    struct soothe__corpus          corpus;
    struct llama_model            *before, *after;
    struct soothe__scorer         *scorer;
};

/* ---- what is asked ----------------------------------------------------------------------------------- */

static bool append(struct list *list, const char *text) {
    char **grown = soothe__realloc(list->texts, list->n + 1, sizeof *grown);
    if (!grown)
        return false;
    list->texts    = grown;
    grown[list->n] = soothe__strdup(text);
    return grown[list->n++] != NULL;
}

static void list_free(struct list *list) {
    for (size_t i = 0; i < list->n; i++)
        free(list->texts[i]);
    free(list->texts);
}

static enum soothe_status read_list(struct list *list, const char *path, const char *const *fields,
                                    struct soothe_error *err) {
    struct soothe__rows *rows;
    bool                 more;
    enum soothe_status   status = soothe__rows_open(&rows, path, false, err);
    if (status)
        return status;
    while (!(status = soothe__rows_next(rows, &more, err)) && more) {
        const char *text = soothe__rows_any_field(rows, fields, NULL);
        if (!text || !text[strspn(text, " \t\r\n")])
            status = soothe__rows_reject(rows, err, "there is no \"%s\"", fields[0]);
        else if (!append(list, text))
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the lines of %s", path);
        if (status)
            break;
    }
    soothe__rows_close(rows, NULL, NULL);
    return status;
}

static enum soothe_status read_lists(struct judged *w, const struct soothe__dinm_judging *j, struct soothe_error *err) {
    static const char *const QUESTION[] = {"question", "prompt", "instruction", "text", NULL}, *const ATTACK[] = {
                                                                                                   "attack", "text",
                                                                                                   NULL};
    static const char *const SUITE[] = {"benign-mini", NULL};
    enum soothe_status       status  = SOOTHE_OK;
    if (j->questions)
        status = read_list(&w->questions, j->questions, QUESTION, err);
    if (!status && j->attacks)
        status = read_list(&w->attacks, j->attacks, ATTACK, err);
    for (size_t i = 0; !j->attacks && soothe__attacks[i] && !status; i++)
        if (!append(&w->attacks, soothe__attacks[i]))
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for attacks");
    if (!status)
        status = soothe__eval_prompts_read(&w->benign, &(struct soothe__eval_source){.suites = SUITE}, err);
    return status;
}

static enum soothe_status compose(struct judged *w, const struct soothe__dinm_options *o,
                                  const struct soothe__dinm_texts *texts, const struct soothe__dinm_judging *j,
                                  struct soothe_error *err) {
    w->instances = soothe__calloc(texts->n_instances, sizeof *w->instances);
    w->harmless  = soothe__calloc(w->benign.n + 1, sizeof *w->harmless);
    if (!w->instances || !w->harmless)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for prompts");
    for (size_t i = 0; i < texts->n_instances; i++)
        w->instances[i] = (struct soothe__attacked){texts->instances[i].question, texts->instances[i].attack};
    for (size_t i = 0; i < w->benign.n; i++)
        w->harmless[i] = w->benign.items[i].text;
    const struct soothe__defence_source source = {.instances   = w->instances,
                                                  .n_instances = texts->n_instances,
                                                  .attacks     = (const char *const *)w->attacks.texts,
                                                  .n_attacks   = w->attacks.n,
                                                  .questions   = (const char *const *)w->questions.texts,
                                                  .n_questions = w->questions.n,
                                                  .harmless    = w->harmless,
                                                  .n_harmless  = w->benign.n,
                                                  .suffix      = o->suffix,
                                                  .limit       = (size_t)j->limit};
    return soothe__defence_compose(&w->prompts, &source, err);
}

/* ---- verdicts ---------------------------------------------------------------------------------------- */

static enum soothe_status compare_texts(struct judged *w, struct soothe__dinm_verdict *v,
                                        const struct soothe__dinm_options *o, const struct soothe__dinm_judging *j,
                                        struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    size_t             n_removed;
    for (char *const *path = j->texts; *path && !status; path++)
        status = soothe__corpus_read(&w->corpus, *path, err);
    if (status)
        return status;
    w->corpus.n_pairs = 0;
    if (w->corpus.n_singles > (size_t)j->n_texts)
        w->corpus.n_singles = (size_t)j->n_texts;
    status = soothe__corpus_tokenize(&w->corpus, llama_model_get_vocab(w->before), TEXT_TOKENS, &n_removed, err);
    return status ? status
                  : soothe__model_change(&v->texts, w->before, w->after, &w->corpus, j->n_threads, o->stop, err);
}

static enum soothe_status compare_benign(struct judged *w, struct soothe__dinm_verdict *v,
                                         const struct soothe__dinm_options *o, const struct soothe__dinm_judging *j,
                                         struct soothe_error *err) {
    return soothe__answer_change(&v->benign, w->before, w->after, w->harmless, w->benign.n, j->n_predict, j->n_threads,
                                 o->stop, err);
}

enum soothe_status soothe__dinm_judge(struct soothe__dinm_verdict *v, const struct soothe__dinm_options *o,
                                      const struct soothe__dinm_report *report, const struct soothe__dinm_judging *j,
                                      struct soothe_error *err) {
    const double                         start = soothe__seconds();
    struct judged                        w     = {.before = NULL};
    const struct soothe__defence_options how   = {j->n_predict, j->n_threads, o->stop};
    *v                                         = (struct soothe__dinm_verdict){.seconds = 0};
    soothe__corpus_init(&w.corpus);
    enum soothe_status status = read_lists(&w, j, err);
    if (!status)
        status = compose(&w, o, &report->texts, j, err);
    if (!status)
        status = soothe__scorer_open(&w.scorer, j->scorer,
                                     &(struct soothe__scorer_options){o->model_path, j->n_threads}, err);
    if (!status)
        status = soothe__target_load(&w.before, o->model_path, 0, err);
    if (!status)
        status = soothe__target_load(&w.after, o->out_path, 0, err);
    if (!status)
        status = soothe__defence_measure(v->before, w.before, &w.prompts, w.scorer, &how, err);
    if (!status)
        status = soothe__defence_measure(v->after, w.after, &w.prompts, w.scorer, &how, err);
    if (!status)
        status = compare_benign(&w, v, o, j, err);
    if (!status && j->texts)
        status = compare_texts(&w, v, o, j, err);
    v->seconds = soothe__seconds() - start;
    soothe__scorer_close(w.scorer);
    llama_model_free(w.before);
    llama_model_free(w.after);
    soothe__corpus_free(&w.corpus);
    soothe__defence_prompts_free(&w.prompts);
    soothe__eval_prompts_free(&w.benign);
    free(w.instances);
    free(w.harmless);
    list_free(&w.questions);
    list_free(&w.attacks);
    return status;
}
