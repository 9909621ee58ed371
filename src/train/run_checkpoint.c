/* SPDX-License-Identifier: Apache-2.0
 * Saving a training run and going on with it. */
#include <stdlib.h>
#include <string.h>

#include "train/checkpoint.h"
#include "train/run.h"

/* ---- which run it is --------------------------------------------------------------------------------------- */

static void add_text(struct soothe__sha256 *h, const char *text) {
    soothe__sha256_add(h, text, strlen(text) + 1);
}

static void add_sources(struct soothe__sha256 *h, const struct soothe__corpus *c) {
    const uint64_t n = c->n_sources;
    soothe__sha256_add(h, &n, sizeof n); /* else a file of data and one of held-out texts could change places */
    for (size_t i = 0; i < c->n_sources; i++)
        add_text(h, c->sources[i].sha256);
}

/* Neither the checkpoint's place nor its interval, nor where states are kept, nor the strength recommended. */
enum soothe_status soothe__run_hash(struct soothe__run *run, struct soothe_error *err) {
    const struct soothe__train_request *r              = &run->r;
    char                                calibrator[65] = "", numbers[512];
    const enum soothe_status            status =
        r->calibrator_path ? soothe__sha256_file(calibrator, r->calibrator_path, err) : SOOTHE_OK;
    if (status)
        return status;
    snprintf(numbers, sizeof numbers, "%d %d %d %d %d %d %d %d %d %d %.9g %.9g %.9g %.9g %.9g %.9g %.9g %llu",
             r->objective, run->report->bf16, r->own_matrix, r->bias, r->freeze_blocks, r->n_steps, r->n_pairs,
             r->n_texts, r->max_length, r->n_threads, r->lr_blocks, r->lr_fusion, r->kappa, r->lambda, r->weight_decay,
             r->clip, r->n_heldout ? 0.0 : r->heldout_share, (unsigned long long)r->seed);
    if (r->objective == SOOTHE__LM_STEER)
        snprintf(numbers + strlen(numbers), sizeof numbers - strlen(numbers), " %d", r->rank);
    struct soothe__sha256 *h = soothe__sha256_new();
    if (!h)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    add_text(h, SOOTHE_VERSION);
    add_text(h, run->model_sha256);
    add_text(h, calibrator);
    add_text(h, numbers);
    if (r->whole.on)
        soothe__whole_hash(run, h);
    add_sources(h, &run->corpus);
    add_sources(h, &run->heldout);
    soothe__sha256_finish(h, run->hash);
    return SOOTHE_OK;
}

/* ---- what is saved ----------------------------------------------------------------------------------------- */

/* Weights and moments, and the losses that the report will average. The arrays are the caller's to free. */
static enum soothe_status describe(struct soothe__run *run, struct soothe__checkpoint *c, struct soothe_error *err) {
    size_t                             n_tensors;
    const struct soothe__train_tensor *tensors = soothe__train_tensors(run->core, &n_tensors);
    float *sources[3] = {soothe__train_parameters(run->core, NULL), soothe__train_moments(run->core, 0),
                         soothe__train_moments(run->core, 1)};
    *c = (struct soothe__checkpoint){.step = (uint64_t)run->step, .n_arrays = 3 * n_tensors + 1 + run->r.whole.on};
    memcpy(c->run, run->hash, sizeof c->run);
    c->arrays = soothe__calloc(c->n_arrays, sizeof *c->arrays);
    if (!c->arrays)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a checkpoint");
    for (size_t i = 0; i < 3 * n_tensors; i++) {
        const struct soothe__train_tensor *t = &tensors[i / 3];
        snprintf(c->arrays[i].name, sizeof c->arrays[i].name, "%c.%s", "wmv"[i % 3], t -> name);
        c->arrays[i].values = sources[i % 3] + t->offset;
        c->arrays[i].n      = t->n;
    }
    c->arrays[3 * n_tensors] = (struct soothe__checkpoint_array){"tail_loss", run->tail_loss, (size_t)run->n_tail};
    if (run->r.whole.on)
        c->arrays[3 * n_tensors + 1] = (struct soothe__checkpoint_array){"before", run->before, SOOTHE__N_BEFORE};
    return SOOTHE_OK;
}

enum soothe_status soothe__run_save(struct soothe__run *run, struct soothe_error *err) {
    struct soothe__checkpoint c;
    enum soothe_status        status = describe(run, &c, err);
    if (status)
        return status;
    status = soothe__checkpoint_save(run->checkpoint_path, &c, err);
    if (!status)
        run->saved_step = run->step;
    free(c.arrays);
    return status;
}

enum soothe_status soothe__run_go_on(struct soothe__run *run, struct soothe_error *err) {
    struct soothe__checkpoint c;
    if (!soothe__file_exists(run->checkpoint_path))
        return SOOTHE_OK;
    if (run->r.fresh)
        return soothe__checkpoint_check(run->checkpoint_path, err);
    enum soothe_status status = describe(run, &c, err);
    if (status)
        return status;
    status = soothe__checkpoint_load(run->checkpoint_path, &c, err);
    if (!status && c.step > (uint64_t)run->r.n_steps)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "checkpoint %s is of step %llu of %d; delete it to begin again",
                              run->checkpoint_path, (unsigned long long)c.step, run->r.n_steps);
    free(c.arrays);
    if (status)
        return status;
    run->step = run->saved_step = (int32_t)c.step;
    soothe__train_set_updates(run->core, run->step);
    return SOOTHE_OK;
}

enum soothe_status soothe__run_leave(struct soothe__run *run, enum soothe_status why, struct soothe_error *err) {
    const struct soothe_error cause = *err;
    struct soothe_error       disk  = {0};
    const bool                stop  = why == SOOTHE_E_INTERRUPTED;
    if (run->saved_step != run->step && why != SOOTHE_E_NUMERIC && (stop || run->step > 0))
        soothe__run_save(run, &disk);
    if (stop && run->saved_step == run->step)
        return soothe__fail(err, why, "stopped after step %d of %d; saved in %s: the same command goes on", run->step,
                            run->r.n_steps, run->checkpoint_path);
    if (stop)
        return soothe__fail(err, why, "stopped after step %d of %d, which could not be saved: %s", run->step,
                            run->r.n_steps, disk.message);
    if (run->saved_step > 0 && why != SOOTHE_E_NUMERIC)
        return soothe__fail(err, why, "%s (step %d of %d is saved in %s: the same command goes on)", cause.message,
                            run->saved_step, run->r.n_steps, run->checkpoint_path);
    return why;
}
