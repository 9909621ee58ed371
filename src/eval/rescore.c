/* SPDX-License-Identifier: Apache-2.0
 * One more scorer's verdict on texts that are there already: rescore-IDENTITY.jsonl, a line for the scorer and one for
 * each record. samples.jsonl is not touched; its hash is in the first line, and with other samples the verdict counts
 * for nothing. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/eval.h"
#include "score/scorer.h"

enum { BATCH = 4096 }; /* texts at a time: a scorer may be a program to be started */

/* A record that waits for its scores; its texts are the next ones of the batch. */
struct waiting {
    size_t i_method, i_item, n;
};

struct rescore {
    struct soothe__scorer *scorer;
    FILE                  *out;
    char                 **texts; /* of the batch */
    size_t                 n_texts, n_texts_capacity;
    struct waiting        *records;
    size_t                 n_records, n_records_capacity;
};

static json_t *json_score(const struct soothe__score *s) {
    return isnan(s->toxicity) ? json_null() : json_real(s->toxicity);
}

static bool write_record(const struct rescore *r, const struct waiting *w, const struct soothe__score *scores) {
    json_t *list = json_array(), *reasons = json_array();
    size_t  n_nulls = 0;
    for (size_t i = 0; i < w->n; i++) {
        const bool null = isnan(scores[i].toxicity);
        json_array_append_new(reasons, null ? soothe__eval_json_reason(scores[i].why) : json_null());
        n_nulls += null;
    }
    for (size_t i = 0; i + 1 < w->n; i++)
        json_array_append_new(list, json_score(&scores[i]));
    json_t *o = json_pack("{s:I, s:I, s:o, s:o}", "method", (json_int_t)w->i_method, "item", (json_int_t)w->i_item,
                          "scores", list, "greedy", json_score(&scores[w->n - 1]));
    if (n_nulls && o)
        json_object_set(o, "why", reasons);
    json_decref(reasons);
    const bool ok = o && json_dumpf(o, r->out, JSON_COMPACT | JSON_REAL_PRECISION(17)) == 0;
    json_decref(o);
    fputc('\n', r->out);
    return ok;
}

static enum soothe_status flush(struct rescore *r, struct soothe_error *err) {
    enum soothe_status    status = SOOTHE_OK;
    struct soothe__score *scores = soothe__calloc(r->n_texts + 1, sizeof *scores);
    const char          **texts  = soothe__calloc(r->n_texts + 1, sizeof *texts);
    if (!scores || !texts)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu scores", r->n_texts);
    for (size_t i = 0; i < r->n_texts && !status; i++)
        texts[i] = r->texts[i];
    if (!status && r->n_texts)
        status = soothe__scorer_score(r->scorer, texts, r->n_texts, scores, err);
    for (size_t i = 0, at = 0; i < r->n_records && !status; at += r->records[i++].n)
        if (!write_record(r, &r->records[i], scores + at))
            status = soothe__fail(err, SOOTHE_E_IO, "cannot write the scores");
    for (size_t i = 0; i < r->n_texts; i++)
        free(r->texts[i]);
    r->n_texts = r->n_records = 0;
    free(scores);
    free(texts);
    return status;
}

static bool room(void **items, size_t *capacity, size_t n, size_t size) {
    if (n <= *capacity)
        return true;
    void *more = soothe__realloc(*items, 2 * n, size);
    if (more) {
        *items    = more;
        *capacity = 2 * n;
    }
    return more != NULL;
}

static enum soothe_status take(void *user, const struct soothe__eval_record *record, const char *line, size_t size,
                               struct soothe_error *err) {
    struct rescore *r = user;
    const size_t    n = record->n_samples + 1;
    (void)line;
    (void)size;
    if (record->kind != SOOTHE__EVAL_PROMPT)
        return SOOTHE_OK;
    void *texts = r->texts, *records = r->records;
    bool  ok   = room(&texts, &r->n_texts_capacity, r->n_texts + n, sizeof *r->texts);
    r->texts   = texts;
    ok         = room(&records, &r->n_records_capacity, r->n_records + 1, sizeof *r->records) && ok;
    r->records = records;
    for (size_t i = 0; i < n && ok; i++) {
        char *copy = soothe__strdup(i < record->n_samples ? record->samples[i].text : record->greedy.text);
        ok         = copy != NULL;
        if (ok)
            r->texts[r->n_texts++] = copy;
    }
    if (!ok)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the texts of a prompt");
    r->records[r->n_records++] = (struct waiting){record->i_method, record->i_item, n};
    return r->n_texts >= BATCH ? flush(r, err) : SOOTHE_OK;
}

static enum soothe_status check_new(const json_t *manifest, const struct soothe__scorer *scorer,
                                    struct soothe_error *err) {
    size_t  i;
    json_t *known;
    json_array_foreach(json_object_get(manifest, "scorers"), i, known) {
        const char *identity = json_string_value(json_object_get(known, "identity"));
        if (identity && !strcmp(identity, soothe__scorer_identity(scorer)))
            return soothe__fail(err, SOOTHE_E_ARGUMENT, "the run was scored by %s already",
                                soothe__scorer_spec(scorer));
    }
    return SOOTHE_OK;
}

static enum soothe_status score_samples(struct rescore *r, const char *folder, const struct soothe__eval_plan *plan,
                                        const char *path, struct soothe_error *err) {
    struct soothe__new_file f;
    char                   *samples    = soothe__format("%s/samples.jsonl", folder);
    enum soothe_status      status     = soothe__new_file_open(&f, path, err);
    char                    before[65] = "", after[65] = "";
    r->out = f.stream;
    if (!status && !samples)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status)
        status = soothe__sha256_file(before, samples, err);
    if (!status) {
        json_t *head = json_pack("{s:s, s:s, s:s, s:s}", "spec", soothe__scorer_spec(r->scorer), "kind",
                                 soothe__scorer_kind(r->scorer), "identity", soothe__scorer_identity(r->scorer),
                                 "samples_sha256", before);
        if (!head || json_dumpf(head, f.stream, JSON_COMPACT) != 0)
            status = soothe__fail(err, SOOTHE_E_IO, "cannot write %s", path);
        fputc('\n', f.stream);
        json_decref(head);
    }
    if (!status)
        status = soothe__eval_samples_read(samples, plan, take, r, err);
    if (!status)
        status = flush(r, err);
    if (!status)
        status = soothe__sha256_file(after, samples, err);
    if (!status && strcmp(before, after))
        status = soothe__fail(err, SOOTHE_E_MISMATCH, "%s changed while it was judged", samples);
    if (!status)
        status = soothe__new_file_commit(&f, err);
    soothe__new_file_abort(&f);
    free(samples);
    return status;
}

enum soothe_status soothe__eval_rescore(const char *folder, const char *spec, const char *model_path, int32_t n_threads,
                                        bool no_timing, struct soothe_error *err) {
    const struct soothe__scorer_options o = {.model_path = model_path, .n_threads = n_threads};
    struct rescore                      r = {0};
    struct soothe__eval_plan            plan;
    json_t                             *manifest = NULL;
    char                               *path     = NULL;
    enum soothe_status                  status   = soothe__eval_manifest_read(&manifest, &plan, folder, err);
    if (!status && !soothe__utf8_valid(spec, strlen(spec)))
        status = soothe__fail(err, SOOTHE_E_ARGUMENT,
                              "the scorer is not UTF-8: rename its file or write its command in UTF-8");
    if (!status)
        status = soothe__scorer_open(&r.scorer, spec, &o, err);
    if (!status)
        status = check_new(manifest, r.scorer, err);
    if (!status) {
        path = soothe__format("%s/rescore-%.16s.jsonl", folder, soothe__scorer_identity(r.scorer));
        status =
            path ? score_samples(&r, folder, &plan, path, err) : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    }
    if (!status)
        status = soothe__eval_report(folder, no_timing, err);
    for (size_t i = 0; i < r.n_texts; i++)
        free(r.texts[i]);
    free(r.texts);
    free(r.records);
    soothe__scorer_close(r.scorer);
    json_decref(manifest);
    free(path);
    return status;
}
