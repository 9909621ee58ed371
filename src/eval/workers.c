/* SPDX-License-Identifier: Apache-2.0
 * Deals the units out to threads. What is done is in the store, unit by unit, whoever did it. */
#include <stdlib.h>

#include "eval/run.h"

enum { AHEAD_MAX = 2 }; /* units of each worker, the one it is at included */

static bool is_ours(const struct soothe__eval_work *w, const struct soothe__eval_unit *u) {
    return w->o->n_shards == 0 || u->i_group % w->o->n_shards == w->o->i_shard;
}

/* Method by method, so that a worker seldom changes it. */
static struct soothe__eval_unit unit_at(const struct soothe__eval_work *w, size_t i) {
    const size_t n_groups = soothe__eval_n_groups(&w->store.plan);
    return soothe__eval_unit_at(&w->store.plan, i / n_groups, i % n_groups);
}

static size_t n_units(const struct soothe__eval_work *w) {
    return w->store.plan.n_methods * soothe__eval_n_groups(&w->store.plan);
}

/* The units left to this process; notes their texts. */
static size_t count_units(struct soothe__eval_work *w) {
    const size_t n      = n_units(w);
    size_t       n_left = 0;
    for (size_t i = 0; i < n; i++) {
        const struct soothe__eval_unit u = unit_at(w, i);
        if (is_ours(w, &u) && !soothe__eval_store_has(&w->store, &u)) {
            w->n_texts_all += soothe__eval_unit_texts(w, &u);
            n_left++;
        }
    }
    return n_left;
}

/* The next unit nobody has done or is at; false when there is none, or no more is to be begun. What is finished waits
 * in memory for the units before it and would be lost with the process, so no worker runs far ahead of a slow one
 * (which does not wait itself: the first unit that is not written is at work). */
static bool take_unit(struct soothe__eval_work *w, struct soothe__eval_unit *u) {
    const size_t n    = n_units(w);
    bool         took = false;
    pthread_mutex_lock(&w->lock);
    while (!w->failed && w->i_next < n && w->n_ahead >= AHEAD_MAX * w->n_workers)
        pthread_cond_wait(&w->written, &w->lock);
    while (!took && !w->failed && w->i_next < n) {
        *u   = unit_at(w, w->i_next++);
        took = is_ours(w, u) && !soothe__eval_store_has(&w->store, u);
    }
    w->n_ahead += took;
    pthread_mutex_unlock(&w->lock);
    return took;
}

static void note_failure(struct soothe__eval_work *w, enum soothe_status status, const struct soothe_error *err) {
    pthread_mutex_lock(&w->lock);
    if (!w->failed) {
        w->failed  = status;
        w->failure = *err;
    }
    pthread_cond_broadcast(&w->written);
    pthread_mutex_unlock(&w->lock);
}

/* ---- results, in order ------------------------------------------------------------------------------------- */

/* Under the lock, or after all workers have ended. */
static enum soothe_status write_result(struct soothe__eval_work *w, size_t i, struct soothe_error *err) {
    struct soothe__eval_result    *r      = &w->results[i];
    const struct soothe__eval_unit u      = unit_at(w, i);
    const enum soothe_status       status = soothe__eval_store_append(&w->store, &u, r->lines, r->size, r->timing, err);
    free(r->lines);
    free(r->timing);
    *r = (struct soothe__eval_result){.lines = NULL};
    w->n_ahead--;
    pthread_cond_broadcast(&w->written);
    return status;
}

enum soothe_status soothe__eval_hand_in(struct soothe__eval_work *w, const struct soothe__eval_unit *unit,
                                        struct soothe__eval_result result, struct soothe_error *err) {
    const size_t       n      = n_units(w);
    enum soothe_status status = SOOTHE_OK;
    pthread_mutex_lock(&w->lock);
    w->results[unit->i_method * soothe__eval_n_groups(&w->store.plan) + unit->i_group] = result;
    for (; !status && w->i_write < n; w->i_write++) {
        const struct soothe__eval_unit u = unit_at(w, w->i_write);
        if (w->results[w->i_write].lines)
            status = write_result(w, w->i_write, err);
        else if (is_ours(w, &u) && !soothe__eval_store_has(&w->store, &u))
            break; /* still at work */
    }
    pthread_mutex_unlock(&w->lock);
    return status;
}

/* After a failure: what waited for a unit that will not come is kept all the same. */
static void write_the_rest(struct soothe__eval_work *w) {
    const size_t n = n_units(w);
    for (size_t i = 0; i < n; i++)
        if (w->results[i].lines)
            (void)write_result(w, i, NULL);
}

double soothe__eval_clock_turn(struct soothe__eval_clock *clock, double wall, int change) {
    if (clock->n_at_work)
        clock->share += (wall - clock->at) / (double)clock->n_at_work;
    clock->at = wall;
    clock->n_at_work += change > 0 ? 1 : 0;
    clock->n_at_work -= change < 0 && clock->n_at_work ? 1 : 0;
    return clock->share;
}

/* ---- threads ----------------------------------------------------------------------------------------------- */

static void *work(void *user) {
    struct soothe__eval_worker worker = {.w = user, .i_method = SIZE_MAX};
    struct soothe__eval_work  *w      = worker.w;
    struct soothe_error        err    = {.message = ""};
    struct soothe__eval_unit   u;
    enum soothe_status         status = SOOTHE_OK;
    while (!status && take_unit(w, &u)) {
        if (w->o->stop && *w->o->stop)
            status = soothe__fail(&err, SOOTHE_E_INTERRUPTED, "interrupted");
        if (!status && worker.i_method != u.i_method)
            status = soothe__eval_apply_method(&worker, u.i_method, &err);
        if (!status && !worker.ppl_session)
            status = soothe__eval_open_ppl(&worker, &err);
        if (!status)
            status = soothe__eval_unit_do(&worker, &u, &err);
    }
    if (status)
        note_failure(w, status, &err);
    soothe__applied_release(&worker.method);
    soothe_session_free(worker.ppl_session);
    return NULL;
}

static size_t workers_for(const struct soothe__eval_work *w, size_t n_units) {
    const size_t wanted = (size_t)soothe__thread_count(w->o->n_threads);
    return n_units < wanted ? (n_units ? n_units : 1) : wanted;
}

enum soothe_status soothe__eval_do_all(struct soothe__eval_work *w, struct soothe_error *err) {
    w->n_workers = workers_for(w, count_units(w));
    w->progress  = soothe__progress_start();
    w->results   = soothe__calloc(n_units(w), sizeof *w->results);
    if (!w->results || pthread_mutex_init(&w->lock, NULL) != 0 || pthread_cond_init(&w->written, NULL)) {
        free(w->results);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu workers", w->n_workers);
    }
    soothe__run_threads(w->n_workers, work, w);
    write_the_rest(w);
    free(w->results);
    pthread_cond_destroy(&w->written);
    pthread_mutex_destroy(&w->lock);
    soothe__progress_finish(&w->progress);
    if (w->failed == SOOTHE_E_INTERRUPTED)
        return soothe__fail(err, w->failed,
                            "stopped with %zu of %zu texts done; the same command with --resume goes on from %s",
                            w->n_texts_done, w->n_texts_all, w->store.folder);
    return w->failed ? soothe__fail(err, w->failed, "%s", w->failure.message) : SOOTHE_OK;
}
