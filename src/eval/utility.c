/* SPDX-License-Identifier: Apache-2.0
 * Likelihoods of all choices under all systems. */
#include "eval/utility.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/target_model.h"
#include "engine/text_tokens.h"
#include "eval/conditional.h"
#include "eval/run.h"

enum { SCHEMA = 1, BATCH = 512 };

struct work {
    const struct soothe__utility_options *o;
    struct soothe__utility               *u;
    const struct soothe__question       **questions; /* (n_questions) */
    struct soothe__utility_store          store;
    struct soothe__progress               progress;
    size_t                                n_all, n_done; /* questions of this run */

    /* of the system at work */
    struct llama_model         *model;
    const char                 *path;
    struct soothe__chain       *chain;
    struct llama_context_params context;
    size_t                      i_system, i_next;
    pthread_mutex_t             lock; /* over i_next, n_done, failed, the store and u */
    enum soothe_status          failed;
    struct soothe_error         failure;
};

const char *soothe__utility_refuses(const struct soothe__chain *chain, const char **method) {
    static const char *const stages[][2] = {{"candidates", "it judges candidates that it draws itself"},
                                            {"text", "it chooses among whole texts that it draws itself"},
                                            {"prompt", "it puts another prompt in the place of the question"}};
    for (size_t i = 0; i < chain->n; i++)
        for (size_t k = 0; k < sizeof stages / sizeof *stages; k++)
            if (!strcmp(chain->items[i].method->stage, stages[k][0])) {
                *method = chain->items[i].method->name;
                return stages[k][1];
            }
    return NULL;
}

/* ---- one question ------------------------------------------------------------------------------------------- */

static void note_failure(struct work *w, enum soothe_status status, const struct soothe_error *err) {
    pthread_mutex_lock(&w->lock);
    if (!w->failed) {
        w->failed  = status;
        w->failure = *err;
    }
    pthread_mutex_unlock(&w->lock);
}

static uint8_t *done_at(const struct work *w, size_t i_question) {
    return &w->u->done[w->i_system * w->u->n_questions + i_question];
}

/* The next question that is not done; false: there is none, or a worker failed. */
static bool take_question(struct work *w, size_t *i) {
    bool took = false;
    pthread_mutex_lock(&w->lock);
    while (!took && !w->failed && w->i_next < w->u->n_questions) {
        *i   = w->i_next++;
        took = !*done_at(w, *i);
    }
    pthread_mutex_unlock(&w->lock);
    return took;
}

static void show_progress(struct work *w) {
    char         detail[160];
    const double done = (double)w->n_done / (double)w->n_all, seconds = soothe__seconds() - w->progress.started;
    const long   left = lround(seconds / done * (1 - done));
    if (w->o->quiet)
        return;
    snprintf(detail, sizeof detail, "%zu/%zu questions  %.60s  %ld:%02ld:%02ld left", w->n_done, w->n_all,
             w->u->names[w->i_system], left / 3600, left / 60 % 60, left % 60);
    soothe__progress_update(&w->progress, done, detail);
}

static enum soothe_status do_question(struct work *w, struct soothe_session *session, size_t i,
                                      struct soothe_error *err) {
    const struct soothe__question *q = w->questions[i];
    struct soothe__conditional     results[SOOTHE__QUIZ_CHOICES_MAX];
    enum soothe_status             status =
        soothe__conditional_texts(session, q->prompt, (const char *const *)q->choices, q->n, results, err);
    if (status)
        return status;
    pthread_mutex_lock(&w->lock);
    double *log_p = &w->u->log_p[w->i_system * w->u->n_texts + w->u->first[i]];
    bool    all   = true;
    for (size_t k = 0; k < q->n; k++)
        all = all && results[k].n_counted > 0;
    for (size_t k = 0; k < q->n; k++)
        log_p[k] = all ? -results[k].nll : (double)NAN;
    *done_at(w, i) = 1;
    w->n_done++;
    status = soothe__utility_store_add(&w->store, w->u, w->i_system, i, err);
    show_progress(w);
    pthread_mutex_unlock(&w->lock);
    return status;
}

static void *work(void *user) {
    struct work           *w       = user;
    struct soothe__applied applied = {.n = 0};
    struct soothe_error    err     = {.message = ""};
    size_t                 i;
    enum soothe_status     status = SOOTHE_OK;
    while (!status && take_question(w, &i)) {
        if (w->o->stop && *w->o->stop)
            status = soothe__fail(&err, SOOTHE_E_INTERRUPTED, "interrupted");
        if (!status && !applied.session)
            status = soothe__chain_apply(&applied, w->chain, w->model, w->path, &w->context, &err);
        if (!status)
            status = do_question(w, applied.session, i, &err);
    }
    if (status)
        note_failure(w, status, &err);
    soothe__applied_release(&applied);
    return NULL;
}

/* ---- one system --------------------------------------------------------------------------------------------- */

static size_t n_left(const struct work *w) {
    size_t n = 0;
    for (size_t i = 0; i < w->u->n_questions; i++)
        n += !*done_at(w, i);
    return n;
}

static enum soothe_status do_system(struct work *w, struct soothe_error *err) {
    const size_t wanted = (size_t)soothe__thread_count(w->o->n_threads), left = n_left(w);
    w->i_next = 0;
    soothe__run_threads(left < wanted ? left : wanted, work, w);
    return w->failed ? soothe__fail(err, w->failed, "%s", w->failure.message) : SOOTHE_OK;
}

/* What a system is, learned by putting it to work once. */
static enum soothe_status describe(struct work *w, json_t *model, const char *name, struct soothe_error *err) {
    struct soothe__applied trial;
    enum soothe_status     status = soothe__chain_apply(&trial, w->chain, w->model, w->path, &w->context, err);
    if (status)
        return status;
    json_t *links = soothe__eval_json_chain(&trial, &status, err);
    json_t *about = json_pack("{s:O, s:s, s:o}", "model", model, "method", name, "chain", links);
    if (!about && !status)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "the name of a file of method %s is not UTF-8", name);
    w->u->about[w->i_system] = about;
    soothe__applied_release(&trial);
    return status;
}

/* ---- one model ---------------------------------------------------------------------------------------------- */

/* A cache for the largest question that the model has positions for. */
static enum soothe_status size_context(struct work *w, struct soothe_error *err) {
    const struct llama_vocab *vocab   = llama_model_get_vocab(w->model);
    const int32_t             trained = llama_model_n_ctx_train(w->model);
    int32_t                   n_ctx   = 1;
    size_t                    n_seq   = 1;
    enum soothe_status        status  = SOOTHE_OK;
    for (size_t i = 0; i < w->u->n_questions && !status; i++) {
        const struct soothe__question *q     = w->questions[i];
        int32_t                        cells = 0, n = 0, first = 0, longest = 0;
        for (size_t k = 0; k < q->n && !status; k++) {
            llama_token *tokens;
            status = soothe__tokenize_pair(&tokens, &n, &first, vocab, q->prompt, strlen(q->prompt), q->choices[k],
                                           strlen(q->choices[k]), err);
            free(tokens);
            cells += n - first;
            longest = n > longest ? n : longest;
        }
        cells += first ? first : 1;
        if (!status && (trained <= 0 || longest <= trained) && cells > n_ctx)
            n_ctx = cells;
        n_seq = q->n > n_seq ? q->n : n_seq;
    }
    w->context           = soothe_session_params_default().context;
    w->context.n_ctx     = (uint32_t)n_ctx;
    w->context.n_seq_max = (uint32_t)n_seq;
    w->context.n_batch = w->context.n_ubatch = BATCH;
    w->context.n_threads = w->context.n_threads_batch = 1;
    w->context.kv_unified                             = true;
    return status;
}

static enum soothe_status do_model(struct work *w, size_t i_model, struct soothe_error *err) {
    w->path                   = w->o->model_paths[i_model];
    enum soothe_status status = SOOTHE_OK;
    json_t            *file   = soothe__eval_json_file(w->path, &status, err);
    if (!status) {
        json_object_set_new(file, "file", json_string(w->o->model_names[i_model]));
        status = soothe__target_load(&w->model, w->path, w->o->n_gpu_layers, err);
    }
    if (!status)
        status = size_context(w, err);
    for (size_t i = 0; i < w->o->methods->n && !status; i++) {
        w->i_system = i_model * w->o->methods->n + i;
        w->chain    = &w->o->methods->items[i].chain;
        status      = describe(w, file, w->o->methods->items[i].name, err);
        if (!status)
            status = soothe__utility_store_system(&w->store, w->i_system, w->u->about[w->i_system], err);
        if (!status)
            status = do_system(w, err);
    }
    json_decref(file);
    llama_model_free(w->model);
    w->model = NULL;
    return status;
}

/* ---- all of it ---------------------------------------------------------------------------------------------- */

static char *system_name(const struct soothe__utility_options *o, size_t i) {
    const char *model = o->model_names[i / o->methods->n], *method = o->methods->items[i % o->methods->n].name;
    return o->n_models == 1     ? soothe__strdup(method)
           : o->methods->n == 1 ? soothe__strdup(model)
                                : soothe__format("%s %s", model, method);
}

static enum soothe_status make_room(struct work *w, struct soothe_error *err) {
    struct soothe__utility       *u = w->u;
    const struct soothe__quizzes *z = w->o->quizzes;
    u->n_systems                    = w->o->n_models * w->o->methods->n;
    for (size_t i = 0; i < z->n; i++)
        u->n_questions += z->items[i].n;
    w->questions = soothe__calloc(u->n_questions + 1, sizeof *w->questions);
    u->first     = soothe__calloc(u->n_questions + 1, sizeof *u->first);
    u->names     = soothe__calloc(u->n_systems + 1, sizeof *u->names);
    u->about     = soothe__calloc(u->n_systems + 1, sizeof *u->about);
    bool ok      = w->questions && u->first && u->names && u->about;
    for (size_t i = 0, n = 0; i < z->n && ok; i++)
        for (size_t k = 0; k < z->items[i].n; k++, n++) {
            w->questions[n] = &z->items[i].items[k];
            u->first[n]     = u->n_texts;
            u->n_texts += w->questions[n]->n;
        }
    for (size_t i = 0; i < u->n_systems && ok; i++)
        ok = (u->names[i] = system_name(w->o, i)) != NULL;
    u->log_p = ok ? soothe__calloc(u->n_systems * u->n_texts + 1, sizeof *u->log_p) : NULL;
    u->done  = ok ? soothe__calloc(u->n_systems * u->n_questions + 1, sizeof *u->done) : NULL;
    return u->log_p && u->done ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the questions");
}

/* What decides the likelihoods, but for the systems. */
static json_t *settings_of(const struct soothe__utility_options *o) {
    json_t *sets = json_array();
    for (size_t i = 0; i < o->quizzes->n; i++) {
        const struct soothe__quiz *z = &o->quizzes->items[i];
        json_array_append_new(sets,
                              json_pack("{s:s, s:s, s:I, s:s}", "file", z->name, "form",
                                        soothe__quiz_form_names[z->form], "n", (json_int_t)z->n, "sha256", z->sha256));
    }
    return json_pack("{s:s, s:i, s:s, s:o, s:I, s:I, s:i, s:o}", "kind", "soothe-utility", "schema", SCHEMA, "tool",
                     "soothe " SOOTHE_VERSION, "engine", soothe__eval_json_engine(), "models", (json_int_t)o->n_models,
                     "methods", (json_int_t)o->methods->n, "n_gpu_layers", (int)o->n_gpu_layers, "sets", sets);
}

static enum soothe_status open_store(struct work *w, struct soothe_error *err) {
    json_t            *settings = settings_of(w->o);
    enum soothe_status status   = settings ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status && w->o->out)
        status = soothe__utility_store_open(&w->store, w->o->out, w->o->resume, settings, w->u, err);
    json_decref(settings);
    return status;
}

static enum soothe_status refuse(const struct soothe__utility_options *o, struct soothe_error *err) {
    for (size_t i = 0; i < o->methods->n; i++) {
        const char *method, *why = soothe__utility_refuses(&o->methods->items[i].chain, &method);
        if (why)
            return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                                "a given text has no likelihood under method %s, since %s: leave it out", method, why);
    }
    return SOOTHE_OK;
}

enum soothe_status soothe__utility_measure(struct soothe__utility *u, const struct soothe__utility_options *options,
                                           struct soothe_error *err) {
    struct work        w     = {.o = options, .u = u};
    const double       start = soothe__seconds();
    enum soothe_status status;
    *u = (struct soothe__utility){.n_systems = 0};
    if (pthread_mutex_init(&w.lock, NULL) != 0)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    status = refuse(options, err);
    if (!status)
        status = make_room(&w, err);
    if (!status)
        status = open_store(&w, err);
    w.progress = soothe__progress_start();
    for (size_t i = 0; i < u->n_systems * u->n_questions && !status; i++)
        w.n_all += !u->done[i];
    for (size_t i = 0; i < options->n_models && !status; i++)
        status = do_model(&w, i, err);
    if (!options->quiet && w.n_done)
        soothe__progress_finish(&w.progress);
    if (status == SOOTHE_E_INTERRUPTED)
        soothe__fail(err, status, "stopped with %zu of %zu questions done%s%s", w.n_done, w.n_all,
                     options->out ? "; the same command with --resume goes on from " : "",
                     options->out ? options->out : "");
    u->seconds = soothe__seconds() - start;
    soothe__utility_store_close(&w.store);
    pthread_mutex_destroy(&w.lock);
    free(w.questions);
    if (status)
        soothe__utility_free(u);
    return status;
}

void soothe__utility_free(struct soothe__utility *u) {
    for (size_t i = 0; i < u->n_systems; i++) {
        if (u->names)
            free(u->names[i]);
        if (u->about)
            json_decref(u->about[i]);
    }
    free(u->names);
    free(u->about);
    free(u->first);
    free(u->log_p);
    free(u->done);
    *u = (struct soothe__utility){.n_systems = 0};
}
