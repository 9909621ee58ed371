/* SPDX-License-Identifier: Apache-2.0
 * Matrices trained for a target with the calibrator frozen: the gradient goes through the target's head alone, on
 * states that were computed once. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fusion/alignment_file.h"
#include "fusion/calibrator_file.h"
#include "train/align_parts.h"
#include "train/batches.h"

struct steps {
    struct soothe__align_run      *run;
    struct soothe__schedule        schedule;
    struct soothe__target_states  *states;
    struct soothe__batches        *batches;
    struct soothe__batches_options per_step;
    struct soothe__train_core     *core;
    double                         tail_loss;
    int32_t                        n_tail;
};

static bool is_preference(const struct soothe__align_run *run) {
    return run->r.objective == SOOTHE__ALIGN_PREFERENCE;
}

static enum soothe_status make_core(struct steps *s, struct soothe_error *err) {
    const struct soothe__align_run *run   = s->run;
    struct soothe__train_shape      shape = run->files.shape;
    struct soothe__train_options    o     = soothe__train_options_default();
    o.objective                           = is_preference(run) ? SOOTHE__PREFERENCE : SOOTHE__FUSED;
    o.precision                           = run->r.precision;
    o.n_threads                           = run->r.n_threads;
    o.a = o.given_states = run->blocks != NULL;
    o.b                  = run->r.own_matrix;
    o.bias               = run->r.bias;
    o.kappa              = (float)run->r.kappa;
    o.lambda             = (float)run->r.lambda;
    o.weight_decay       = (float)run->r.weight_decay;
    o.clip               = (float)run->r.clip;
    shape.n_blocks       = 0;
    shape.d_cal          = run->blocks ? soothe_calibrator_info(run->blocks).d_cal : 0;
    soothe__batches_room(&run->corpus, &s->per_step, &o.max_tokens, &o.max_rows);
    return soothe__train_core_new(&s->core, &shape, &o, NULL, run->files.head, err);
}

/* ---- beginning from an alignment ----------------------------------------------------------------------------- */

static float *piece_of(const struct steps *s, const char *name) {
    size_t                             n;
    const struct soothe__train_tensor *tensors = soothe__train_tensors(s->core, &n);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(tensors[i].name, name))
            return soothe__train_parameters(s->core, NULL) + tensors[i].offset;
    return NULL;
}

/* values, at the strength that they were made for, into the parameter of that name. */
static enum soothe_status take_piece(const struct steps *s, const char *name, const float *values, size_t n,
                                     float strength, const char *option, struct soothe_error *err) {
    float *piece = piece_of(s, name);
    if (values && !piece)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%s holds %s, which this run does not train: add %s",
                            s->run->r.from_path, name, option);
    for (size_t i = 0; values && i < n; i++)
        piece[i] = strength * values[i];
    return SOOTHE_OK;
}

/* One without A may come from another calibrator than this run's. */
static enum soothe_status has_a(bool *yes, const char *path, struct soothe_error *err) {
    struct soothe__gguf      g;
    const enum soothe_status status = soothe__gguf_open(&g, path, err);
    *yes                            = !status && gguf_find_tensor(g.meta, SOOTHE__TENSOR_A) >= 0;
    if (!status)
        soothe__gguf_close(&g);
    return status;
}

static enum soothe_status take_start(const struct steps *s, struct soothe_error *err) {
    const struct soothe__align_run *run   = s->run;
    struct soothe_calibrator        start = {.n_blocks = (int32_t)run->n_blocks};
    bool                            with_a;
    enum soothe_status              status = has_a(&with_a, run->r.from_path, err);
    if (!status)
        status =
            soothe__alignment_apply(&start, run->r.from_path, with_a && run->calibrator.meta ? &run->calibrator : NULL,
                                    &run->files.target, err);
    const struct soothe__fusion *f = &start.fusion;
    const size_t                 d = (size_t)f->d_tgt;
    if (!status && f->form != SOOTHE_FORM_RESIDUAL)
        status =
            soothe__fail(err, SOOTHE_E_ARGUMENT,
                         "%s is of the paper's form; training begins from one of the residual form", run->r.from_path);
    if (!status)
        status = take_piece(s, SOOTHE__TENSOR_A, f->a, (size_t)f->d_cal * d, start.default_strength, "its --calibrator",
                            err);
    if (!status)
        status = take_piece(s, SOOTHE__TENSOR_B, f->b, d * d, start.default_strength, "--matrix", err);
    if (!status)
        status = take_piece(s, SOOTHE__TENSOR_BIAS, f->bias, d, start.default_strength, "--bias", err);
    soothe__fusion_free(&start.fusion);
    return status;
}

/* ---- steps ------------------------------------------------------------------------------------------------------ */

static enum soothe_status set_up(struct steps *s, struct soothe_error *err) {
    struct soothe__align_run *run = s->run;
    uint32_t                 *order;
    size_t                    n;
    s->per_step =
        (struct soothe__batches_options){.n_pairs = (size_t)run->r.n_pairs, .n_texts = (size_t)run->r.n_texts};
    enum soothe_status status =
        soothe__schedule_init(&s->schedule, &run->corpus, s->per_step.n_pairs, s->per_step.n_texts, run->r.seed, err);
    if (!status)
        status = make_core(s, err);
    if (!status && run->r.from_path)
        status = take_start(s, err);
    if (status)
        return status;
    status = soothe__schedule_order(&s->schedule, run->r.n_steps, &order, &n, err);
    if (!status)
        status = soothe__align_states(run, &run->corpus, order, n, &s->states, err);
    free(order);
    return status ? status : soothe__batches_new(&s->batches, &run->corpus, s->states, &s->per_step, err);
}

static enum soothe_status one_step(struct steps *s, int32_t step, struct soothe__train_result *result,
                                   struct soothe_error *err) {
    uint32_t                          pairs[s->per_step.n_pairs + 1], texts[s->per_step.n_texts + 1];
    const struct soothe__train_batch *batch;
    const double start = soothe__seconds(), rate = soothe__schedule_rate(step, s->run->r.n_steps) * s->run->r.rate;
    soothe__schedule_step(&s->schedule, step, pairs, texts);
    enum soothe_status status = soothe__batches_build(s->batches, pairs, s->per_step.n_pairs, texts,
                                                      s->per_step.n_texts, SOOTHE__ROW_KL, &batch, err);
    const double       built  = soothe__seconds();
    if (!status)
        status = soothe__train_step(s->core, batch, 0, rate, result, err);
    if (!status)
        soothe__batches_keep(s->batches);
    s->run->report->state_seconds += built - start;
    s->run->report->seconds += soothe__seconds() - built;
    return status;
}

static void show(struct soothe__progress *progress, const struct steps *s, int32_t step,
                 const struct soothe__train_result *r) {
    char          detail[128];
    const int32_t n    = s->run->r.n_steps;
    const double  left = (soothe__seconds() - progress->started) / step * (n - step);
    if (is_preference(s->run))
        snprintf(detail, sizeof detail, "step %d/%d  loss %.4f  pairs %d/%d  KL %.3f  %d:%02d left", step, n, r->loss,
                 r->n_pairs_right, s->run->r.n_pairs, r->kl, (int)left / 60, (int)left % 60);
    else
        snprintf(detail, sizeof detail, "step %d/%d  loss %.4f  %d:%02d left", step, n, r->loss, (int)left / 60,
                 (int)left % 60);
    soothe__progress_update(progress, (double)step / n, detail);
}

static enum soothe_status run_steps(struct steps *s, struct soothe_error *err) {
    struct soothe__progress      progress = soothe__progress_start();
    enum soothe_status           status   = SOOTHE_OK;
    const int32_t                n        = s->run->r.n_steps;
    const volatile sig_atomic_t *stop     = s->run->r.stop;
    for (int32_t step = 0; step < n && !status; step++) {
        struct soothe__train_result result;
        status = stop && *stop ? soothe__fail(err, SOOTHE_E_INTERRUPTED,
                                              "stopped before step %d of %d; nothing is written", step + 1, n)
                               : one_step(s, step, &result, err);
        if (status)
            break;
        if (step >= n - (n + 9) / 10) {
            s->tail_loss += result.loss;
            s->n_tail++;
        }
        show(&progress, s, step + 1, &result);
    }
    soothe__progress_finish(&progress);
    s->run->report->n_steps = n;
    s->run->report->loss    = s->n_tail ? s->tail_loss / s->n_tail : NAN;
    return status;
}

static float *copy_piece(const struct steps *s, const char *name, size_t n) {
    const float *piece = piece_of(s, name);
    float       *copy  = piece ? soothe__calloc(n, sizeof *copy) : NULL;
    if (copy)
        memcpy(copy, piece, n * sizeof *copy);
    return copy;
}

static enum soothe_status take_result(struct steps *s, struct soothe_error *err) {
    struct soothe__align_run *run   = s->run;
    const int32_t             d_cal = run->blocks ? soothe_calibrator_info(run->blocks).d_cal : 0;
    const size_t              d     = (size_t)run->files.shape.d_tgt;
    run->fusion      = (struct soothe__fusion){.form = SOOTHE_FORM_RESIDUAL, .d_cal = d_cal, .d_tgt = (int32_t)d};
    run->fusion.a    = copy_piece(s, SOOTHE__TENSOR_A, (size_t)d_cal * d);
    run->fusion.b    = copy_piece(s, SOOTHE__TENSOR_B, d * d);
    run->fusion.bias = copy_piece(s, SOOTHE__TENSOR_BIAS, d);
    const bool lost =
        (!run->fusion.a && run->blocks) || (!run->fusion.b && run->r.own_matrix) || (!run->fusion.bias && run->r.bias);
    return lost ? soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the matrices") : SOOTHE_OK;
}

enum soothe_status soothe__align_steps(struct soothe__align_run *run, struct soothe_error *err) {
    struct steps       s      = {.run = run};
    enum soothe_status status = set_up(&s, err);
    if (!status)
        status = run_steps(&s, err);
    if (!status)
        status = take_result(&s, err);
    soothe__batches_free(s.batches);
    soothe__target_states_free(s.states);
    soothe__train_core_free(s.core);
    soothe__schedule_free(&s.schedule);
    return status;
}
