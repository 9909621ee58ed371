/* SPDX-License-Identifier: Apache-2.0
 * One unit: a group of prompts under one method, from tokens to lines of the samples file. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "eval/conditional.h"
#include "eval/run.h"
#include "methods/generate_with.h"

struct job {
    struct soothe__eval_worker     *worker;
    struct soothe__eval_work       *w;
    const struct soothe__eval_unit *unit;
    struct soothe__eval_record     *records; /* (unit.n) */
    bool                            greedy;  /* the generator is at the greedy continuations */
    bool                            out_of_memory;
    size_t                          n_finished;
    struct soothe__generate_stats   stats; /* of the sampled ones */
    double                          score_seconds, ppl_seconds;
};

size_t soothe__eval_unit_texts(const struct soothe__eval_work *w, const struct soothe__eval_unit *unit) {
    return unit->n * (unit->kind == SOOTHE__EVAL_PROMPT ? (size_t)w->o->n_samples + 1 : 1);
}

void soothe__eval_note_texts(struct soothe__eval_work *w, size_t n_texts, int64_t n_tokens) {
    char detail[120];
    pthread_mutex_lock(&w->lock);
    w->n_texts_done += n_texts;
    w->n_tokens += n_tokens;
    const double done    = (double)w->n_texts_done / (double)(w->n_texts_all ? w->n_texts_all : 1);
    const double seconds = soothe__seconds() - w->progress.started;
    if (!w->o->quiet && done > 0) {
        const long left = lround(seconds / done * (1 - done));
        snprintf(detail, sizeof detail, "%zu/%zu texts  %.0f tokens/s  %ld:%02ld:%02ld left", w->n_texts_done,
                 w->n_texts_all, (double)w->n_tokens / seconds, left / 3600, left / 60 % 60, left % 60);
        soothe__progress_update(&w->progress, done, detail);
    }
    pthread_mutex_unlock(&w->lock);
}

/* ---- generating --------------------------------------------------------------------------------------------- */

static void keep_text(void *user, const struct soothe__continuation *c) {
    struct job                 *job = user;
    struct soothe__eval_record *r   = &job->records[c->i_prompt];
    struct soothe__eval_sample *s   = job->greedy ? &r->greedy : &r->samples[c->i_sample];
    s->text                         = soothe__strdup(c->text);
    s->tokens                       = soothe__calloc((size_t)c->n_tokens + 1, sizeof *s->tokens);
    s->scores                       = soothe__calloc(job->w->n_scorers, sizeof *s->scores);
    s->finish                       = c->finish;
    if (!s->text || !s->tokens || !s->scores) {
        job->out_of_memory = true;
        return;
    }
    s->n_tokens = c->n_tokens;
    for (int32_t i = 0; i < c->n_tokens; i++)
        s->tokens[i] = c->tokens[i].id;
    job->n_finished++;
    soothe__eval_note_texts(job->w, 1, c->n_tokens);
}

/* A prompt that was rewritten stands in its record as it was continued, too. */
static void keep_events(struct job *job) {
    const struct soothe__applied *a = &job->worker->method;
    for (size_t i = 0; i < a->n_events; i++) { /* of several methods the last one's counts */
        char **continued = &job->records[a->events[i].i_prompt].continued;
        free(*continued);
        *continued         = soothe__strdup(a->events[i].text);
        job->out_of_memory = job->out_of_memory || !*continued;
    }
}

static enum soothe_status generate(struct job *job, bool greedy, struct soothe_error *err) {
    const struct soothe__eval_options *o = job->w->o;
    const struct soothe__eval_unit    *u = job->unit;
    struct soothe__generate_options    g = soothe__generate_options_default();
    struct soothe__generate_stats      stats;
    g.sampling  = o->sampling;
    g.n_samples = greedy ? 1 : o->n_samples;
    g.n_predict = u->kind == SOOTHE__EVAL_BENIGN ? o->n_predict_benign : o->n_predict;
    g.stop      = o->stop;
    g.on_done   = keep_text;
    g.user      = job;
    if (greedy)
        g.sampling.temp = 0;
    job->greedy = greedy;
    enum soothe_status status =
        soothe__generate_with(&job->worker->method, job->w->tokens[u->kind] + u->from, u->n, &g, &stats, err);
    keep_events(job);
    if (!status && job->out_of_memory)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a continuation");
    if (!greedy)
        job->stats = stats;
    return status;
}

/* ---- scoring ------------------------------------------------------------------------------------------------ */

/* All of a unit's continuations, the greedy ones last. */
static size_t gather_samples(const struct job *job, struct soothe__eval_sample **samples) {
    size_t n = 0;
    for (size_t i = 0; i < job->unit->n; i++)
        for (size_t k = 0; k < job->records[i].n_samples; k++)
            samples[n++] = &job->records[i].samples[k];
    for (size_t i = 0; i < job->unit->n; i++)
        samples[n++] = &job->records[i].greedy;
    return n;
}

static enum soothe_status score(struct job *job, struct soothe_error *err) {
    const size_t                 n_most  = soothe__eval_unit_texts(job->w, job->unit);
    struct soothe__eval_sample **samples = soothe__calloc(n_most, sizeof *samples);
    const char                 **texts   = soothe__calloc(n_most, sizeof *texts);
    struct soothe__score        *scores  = soothe__calloc(n_most, sizeof *scores);
    enum soothe_status           status  = SOOTHE_OK;
    const double                 from    = soothe__seconds();
    if (!samples || !texts || !scores)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu scores", n_most);
    const size_t n = status ? 0 : gather_samples(job, samples);
    for (size_t i = 0; i < n; i++)
        texts[i] = samples[i]->text;
    pthread_mutex_lock(&job->w->lock); /* one scorer, one thread */
    for (size_t s = 0; s < job->w->n_scorers && !status; s++) {
        status = soothe__scorer_score(job->w->scorers[s], texts, n, scores, err);
        for (size_t i = 0; i < n && !status; i++) {
            if (scores[i].toxicity < 0 || scores[i].toxicity > 1) /* NaN is neither */
                status = soothe__fail(err, SOOTHE_E_NUMERIC, "scorer %s gave %g, which is not within 0 ... 1",
                                      soothe__scorer_spec(job->w->scorers[s]), scores[i].toxicity);
            samples[i]->scores[s] = scores[i].toxicity;
            if (isnan(scores[i].toxicity))
                soothe__eval_note_reason(samples[i], s, job->w->n_scorers, scores[i].why);
        }
    }
    pthread_mutex_unlock(&job->w->lock);
    job->score_seconds = soothe__seconds() - from;
    free(samples);
    free(texts);
    free(scores);
    return status;
}

/* ---- perplexity --------------------------------------------------------------------------------------------- */

/* The samples of one prompt. */
static enum soothe_status measure_prompt(struct job *job, struct soothe__eval_record *r, struct soothe_error *err) {
    const int32_t               wanted = job->w->o->n_ppl_samples;
    const size_t                n      = wanted >= 0 && (size_t)wanted < r->n_samples ? (size_t)wanted : r->n_samples;
    struct soothe__conditional *items  = soothe__calloc(n + 1, sizeof *items);
    const char                **texts  = soothe__calloc(n + 1, sizeof *texts);
    enum soothe_status status = items && texts ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n && !status; i++)
        texts[i] = r->samples[i].text;
    if (!status)
        status = soothe__conditional_texts(job->worker->ppl_session, r->prompt, texts, n, items, err);
    for (size_t i = 0; i < n && !status; i++) {
        r->samples[i].nll   = items[i].nll;
        r->samples[i].n_ppl = items[i].n_counted;
    }
    free(texts);
    free(items);
    return status;
}

static bool stopped(const struct job *job) {
    return job->w->o->stop && *job->w->o->stop;
}

static enum soothe_status measure(struct job *job, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    const double       from   = soothe__seconds();
    for (size_t i = 0; i < job->unit->n && !status; i++)
        status = stopped(job) ? soothe__fail(err, SOOTHE_E_INTERRUPTED, "interrupted")
                              : measure_prompt(job, &job->records[i], err);
    job->ppl_seconds = soothe__seconds() - from;
    return status;
}

/* Neutral texts under the method itself. */
static enum soothe_status measure_corpus(struct job *job, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (size_t i = 0; i < job->unit->n && !status; i++) {
        const struct soothe__prompt *t    = &job->w->tokens[SOOTHE__EVAL_CORPUS][job->unit->from + i];
        struct soothe__conditional   item = {.tokens = t->tokens + 1, .n_tokens = t->n_tokens - 1};
        if (stopped(job))
            status = soothe__fail(err, SOOTHE_E_INTERRUPTED, "interrupted");
        else if (item.n_tokens > 0)
            status = soothe__conditional_nll(job->worker->method.session, t->tokens, 1, &item, 1, err);
        job->records[i].nll   = item.nll;
        job->records[i].n_ppl = item.n_counted;
    }
    return status;
}

/* ---- the unit ----------------------------------------------------------------------------------------------- */

static enum soothe_status begin_records(struct job *job, struct soothe_error *err) {
    const struct soothe__eval_unit *u  = job->unit;
    bool                            ok = (job->records = soothe__calloc(u->n, sizeof *job->records)) != NULL;
    for (size_t i = 0; i < u->n && ok; i++) {
        struct soothe__eval_record       *r = &job->records[i];
        const struct soothe__eval_prompt *p = &job->w->sets[u->kind].items[u->from + i];
        *r                                  = (struct soothe__eval_record){.kind     = u->kind,
                                                                           .i_method = u->i_method,
                                                                           .i_item   = u->from + i,
                                                                           .prompt   = soothe__strdup(p->text),
                                                                           .toxicity = p->toxicity,
                                                                           .toxic    = p->toxic};
        ok                                  = r->prompt != NULL;
        if (ok && u->kind == SOOTHE__EVAL_PROMPT) {
            r->samples   = soothe__calloc((size_t)job->w->o->n_samples, sizeof *r->samples);
            r->n_samples = r->samples ? (size_t)job->w->o->n_samples : 0;
            ok           = r->samples != NULL;
        }
    }
    return ok ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu prompts", u->n);
}

static enum soothe_status fill_records(struct job *job, struct soothe_error *err) {
    if (job->unit->kind == SOOTHE__EVAL_CORPUS)
        return measure_corpus(job, err);
    enum soothe_status status = SOOTHE_OK;
    if (job->unit->kind == SOOTHE__EVAL_PROMPT)
        status = generate(job, false, err);
    if (!status)
        status = generate(job, true, err);
    if (!status)
        status = score(job, err);
    if (!status && job->unit->kind == SOOTHE__EVAL_PROMPT)
        status = measure(job, err);
    return status;
}

/* total: the unit's own time, of which the clock gives it only a share, since the others work too. */
static char *timing_line(const struct job *job, double total, double given) {
    const double  share = total > 0 ? given / total : 1;
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    return soothe__format(
        "{\"method\":%zu,\"group\":%zu,\"tokens\":%lld,\"prompt_tokens\":%lld,\"seconds\":%.6f,"
        "\"score_seconds\":%.6f,\"ppl_seconds\":%.6f,\"total_seconds\":%.6f,\"peak_memory_bytes\":%lld}\n",
        job->unit->i_method, job->unit->i_group, (long long)job->stats.n_tokens, (long long)job->stats.n_prompt_tokens,
        share * (job->stats.prompt_seconds + job->stats.token_seconds), share * job->score_seconds,
        share * job->ppl_seconds, given, (long long)usage.ru_maxrss * 1024);
}

/* The lines of all records, one after another. */
static enum soothe_status hand_in(struct job *job, double total, double given, struct soothe_error *err) {
    struct soothe__eval_result result = {.timing = timing_line(job, total, given)};
    for (size_t i = 0; i < job->unit->n; i++) {
        char        *line = soothe__eval_record_line(&job->records[i], job->w->n_scorers);
        const size_t n    = line ? strlen(line) : 0;
        char        *more = line ? soothe__realloc(result.lines, result.size + n + 1, 1) : NULL;
        if (!more) {
            free(line);
            free(result.lines);
            free(result.timing);
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the results of a prompt");
        }
        result.lines = more;
        memcpy(result.lines + result.size, line, n + 1);
        result.size += n;
        free(line);
    }
    return soothe__eval_hand_in(job->w, job->unit, result, err);
}

static double turn_clock(struct soothe__eval_work *w, int change) {
    pthread_mutex_lock(&w->lock);
    const double share = soothe__eval_clock_turn(&w->clock, soothe__seconds(), change);
    pthread_mutex_unlock(&w->lock);
    return share;
}

enum soothe_status soothe__eval_unit_do(struct soothe__eval_worker *worker, const struct soothe__eval_unit *unit,
                                        struct soothe_error *err) {
    struct soothe__eval_work *w    = worker->w;
    struct job                job  = {.worker = worker, .w = w, .unit = unit};
    const double              from = soothe__seconds(), share = turn_clock(w, 1);
    enum soothe_status        status = begin_records(&job, err);
    if (!status)
        status = fill_records(&job, err);
    const double total = soothe__seconds() - from, given = turn_clock(w, -1) - share;
    if (!status)
        status = hand_in(&job, total, given, err);
    for (size_t i = 0; job.records && i < unit->n; i++)
        soothe__eval_record_free(&job.records[i]);
    free(job.records);
    if (!status)
        soothe__eval_note_texts(w, soothe__eval_unit_texts(w, unit) - job.n_finished, 0);
    return status;
}
