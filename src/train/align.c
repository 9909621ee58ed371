/* SPDX-License-Identifier: Apache-2.0
 * An alignment from files to a file. */
#include "train/align.h"
#include "train/training_facts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "engine/target_model.h"
#include "fusion/alignment_file.h"
#include "fusion/calibrator_file.h"
#include "train/align_parts.h"

static const char *const NAMES[SOOTHE__ALIGN_OBJECTIVES] = {"preference", "fused",    "contrastive", "ridge",
                                                            "procrustes", "transfer", "random"};

const char *soothe__align_objective_name(enum soothe__align_objective objective) {
    return NAMES[objective];
}

int soothe__align_objective_find(const char *name) {
    for (int i = 0; i < SOOTHE__ALIGN_OBJECTIVES; i++)
        if (!strcmp(name, NAMES[i]))
            return i;
    return -1;
}

static const char *const MAPS[SOOTHE__MAPS] = {"procrustes", "ridge", "contrastive"};

const char *soothe__align_map_name(enum soothe__align_map map) {
    return MAPS[map];
}

int soothe__align_map_find(const char *name) {
    for (int i = 0; i < SOOTHE__MAPS; i++)
        if (!strcmp(name, MAPS[i]))
            return i;
    return -1;
}

struct soothe__align_request soothe__align_request_default(void) {
    return (struct soothe__align_request){.heldout_share = 0.05,
                                          .max_length    = 96,
                                          .n_steps       = 300,
                                          .n_pairs       = 8,
                                          .n_texts       = 8,
                                          .rate          = 2e-4,
                                          .kappa         = 0.2,
                                          .lambda        = 1.5,
                                          .clip          = 1.0,
                                          .ridge         = 1e-2,
                                          .contrastive   = soothe__contrastive_default(),
                                          .token_share   = 0.1,
                                          .strength      = NAN,
                                          .seed          = 1,
                                          .cache_bytes   = (size_t)512 << 20};
}

/* ---- is it possible? ------------------------------------------------------------------------------------------ */

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return a && b &&
           (!strcmp(a, b) || (stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino &&
                              S_ISREG(x.st_mode)));
}

static enum soothe_status check_out(const struct soothe__align_request *r, struct soothe_error *err) {
    const char *const read[] = {r->model_path, r->calibrator_path, r->base_path, r->states_path};
    bool              taken  = false;
    for (size_t i = 0; i < sizeof read / sizeof *read; i++)
        taken = taken || same_file(r->out_path, read[i]);
    for (size_t i = 0; i < r->n_data; i++)
        taken = taken || same_file(r->out_path, r->data_paths[i]);
    for (size_t i = 0; i < r->n_heldout; i++)
        taken = taken || same_file(r->out_path, r->heldout_paths[i]);
    return taken ? soothe__fail(err, SOOTHE_E_ARGUMENT, "%s cannot be written: it is read", r->out_path) : SOOTHE_OK;
}

static enum soothe_status check_request(const struct soothe__align_request *r, struct soothe_error *err) {
    const bool steps = soothe__align_has_steps(r->objective);
    if (steps && r->n_data == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "objective %s learns from texts: it needs data",
                            NAMES[r->objective]);
    if (!steps && !r->calibrator_path)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "objective %s needs a calibrator to align", NAMES[r->objective]);
    if (!steps && (r->from_path || r->own_matrix || r->bias))
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "objective %s fits a map: an alignment to begin from, a matrix of its own and a bias are "
                            "for preference and fused",
                            NAMES[r->objective]);
    if (r->on_states && r->objective != SOOTHE__ALIGN_RIDGE && r->objective != SOOTHE__ALIGN_PROCRUSTES)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "only ridge and procrustes are fitted on states, not %s",
                            NAMES[r->objective]);
    if (r->on_states && r->n_data == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a map between states needs data");
    return check_out(r, err);
}

/* What the calibrator has decides what can be done with it. */
static enum soothe_status check_calibrator(const struct soothe__align_run *run, struct soothe_error *err) {
    const struct soothe__align_request *r    = &run->r;
    const char                         *path = run->calibrator.path;
    const bool transfers = r->objective == SOOTHE__ALIGN_TRANSFER, steps = soothe__align_has_steps(r->objective);
    if (!run->calibrator.meta || r->objective == SOOTHE__ALIGN_RANDOM)
        return SOOTHE_OK;
    if (steps && run->n_blocks == 0)
        return soothe__fail(
            err, SOOTHE_E_ARGUMENT,
            "calibrator %s has no blocks, so no states to fit a matrix to: leave it out (a matrix on the "
            "target's own state), and begin from what objective transfer makes of it, if you like",
            path);
    if (!steps && !transfers && run->n_blocks == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "calibrator %s has no blocks: only objective transfer carries it over", path);
    if (transfers && (run->own.form != SOOTHE_FORM_RESIDUAL || (!run->own.a && !run->own.b && !run->own.bias)))
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "calibrator %s holds no matrices of the residual form to carry over: align its states "
                            "(contrastive, ridge, procrustes, preference)",
                            path);
    return SOOTHE_OK;
}

/* ---- opening --------------------------------------------------------------------------------------------------- */

static enum soothe_status open_calibrator(struct soothe__align_run *run, struct soothe_error *err) {
    if (!run->r.calibrator_path)
        return SOOTHE_OK;
    enum soothe_status status = soothe__gguf_open(&run->calibrator, run->r.calibrator_path, err);
    if (!status)
        status = soothe__calibrator_check(&run->calibrator, err);
    if (status)
        return status;
    soothe__gguf_find_u32(&run->calibrator, SOOTHE__KEY_BLOCKS, &run->n_blocks);
    soothe__gguf_find_f32(&run->calibrator, SOOTHE__KEY_STRENGTH, &run->own_strength);
    return soothe__fusion_read(&run->own, &run->calibrator, run->n_blocks > 0, err);
}

static enum soothe_status open_target(struct soothe__align_run *run, struct soothe_error *err) {
    struct soothe__model_facts facts;
    enum soothe_status         status;
    if (run->has_texts)
        return soothe__train_model_open(&run->files, run->r.model_path, NULL, err);
    status = soothe__gguf_open(&run->files.target, run->r.model_path, err);
    if (!status)
        status = soothe__model_facts(&facts, &run->files.target, err);
    if (!status)
        run->files.shape.d_tgt = (int32_t)facts.d;
    return status;
}

static enum soothe_status open_blocks(struct soothe__align_run *run, struct soothe_error *err) {
    struct soothe_calibrator_params p = soothe_calibrator_params_default();
    p.base_path                       = run->r.base_path;
    p.keep_type                       = run->r.keep_type;
    if (run->n_blocks == 0)
        return SOOTHE_OK;
    return soothe__calibrator_open_blocks(&run->blocks, run->r.calibrator_path, run->r.model_path, &p, err);
}

static enum soothe_status read_texts(struct soothe__align_run *run, struct soothe_error *err) {
    const struct soothe__align_request *r      = &run->r;
    size_t                              n_read = 0;
    const struct soothe__texts_wanted   wanted = {.data_paths    = r->data_paths,
                                                  .n_data        = r->n_data,
                                                  .heldout_paths = r->heldout_paths,
                                                  .n_heldout     = r->n_heldout,
                                                  .heldout_share = r->n_data ? r->heldout_share : 0,
                                                  .seed          = r->seed,
                                                  .max_length    = r->max_length};
    const enum soothe_status            status =
        soothe__training_texts(&run->corpus, &run->heldout, &wanted, llama_model_get_vocab(run->target), &n_read,
                               &run->report->n_left_out, err);
    if (status)
        return status;
    run->report->n_pairs = run->corpus.n_pairs;
    run->report->n_texts = run->corpus.n_singles;
    if (r->objective == SOOTHE__ALIGN_PREFERENCE && run->corpus.n_pairs == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "the data hold no pairs to train on ({\"prompt\", \"chosen\", "
                            "\"rejected\"} lines; %zu were read, the others are held out)",
                            n_read);
    if (r->objective == SOOTHE__ALIGN_FUSED && run->corpus.n_pairs + run->corpus.n_singles == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "nothing of the data is left to train on");
    return SOOTHE_OK;
}

static enum soothe_status set_up(struct soothe__align_run *run, struct soothe_error *err) {
    enum soothe_status status = open_calibrator(run, err);
    if (!status)
        status = check_calibrator(run, err);
    if (!status)
        status = open_target(run, err);
    if (status || !run->has_texts)
        return status;
    status = soothe__target_load(&run->target, run->r.model_path, 0, err);
    if (!status)
        status = open_blocks(run, err);
    return status ? status : read_texts(run, err);
}

/* States of the target alone and those of target and calibrator are told apart by the key. */
static enum soothe_status states_key(char key[65], const struct soothe__align_run *run, struct soothe_error *err) {
    enum soothe_status status = soothe__sha256_file(key, run->r.model_path, err);
    char               calibrator[65];
    if (status || !run->blocks)
        return status;
    status                   = soothe__calibrator_identity(calibrator, &run->calibrator, err);
    struct soothe__sha256 *h = soothe__sha256_new();
    if (!status && !h)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (status)
        return status;
    soothe__sha256_add(h, key, 64);
    soothe__sha256_add(h, calibrator, 64);
    soothe__sha256_add(h, &run->r.keep_type, sizeof run->r.keep_type);
    soothe__sha256_finish(h, key);
    return SOOTHE_OK;
}

enum soothe_status soothe__align_states(struct soothe__align_run *run, const struct soothe__corpus *corpus,
                                        const uint32_t *order, size_t n_order, struct soothe__target_states **states,
                                        struct soothe_error *err) {
    char               key[65];
    enum soothe_status status = soothe__target_states_new(states, run->target, corpus, order, n_order, run->r.n_threads,
                                                          run->r.cache_bytes, err);
    if (!status && run->blocks)
        status = soothe__target_states_follow(*states, run->blocks, err);
    if (!status && run->r.states_path)
        status = states_key(key, run, err);
    if (!status && run->r.states_path)
        status = soothe__target_states_use_file(*states, run->r.states_path, key, err);
    if (status && *states) {
        soothe__target_states_free(*states);
        *states = NULL;
    }
    return status;
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

static void add_sources(struct soothe__training_facts *f, const char *kind, const struct soothe__corpus *c) {
    for (size_t i = 0; i < c->n_sources; i++) {
        char key[40];
        snprintf(key, sizeof key, "%s.%zu.sha256", kind, i);
        soothe__training_fact_add(f, key, c->sources[i].sha256, 0);
    }
}

static void gather_facts(struct soothe__training_facts *f, const struct soothe__align_run *run) {
    const struct soothe__align_request *r = &run->r;
    const struct soothe__align_report  *p = run->report;
    soothe__training_fact_add(f, "objective", NAMES[r->objective], 0);
    soothe__training_fact_add(f, "seed", NULL, (double)r->seed);
    if (soothe__align_has_steps(r->objective)) {
        soothe__training_fact_add(f, "steps", NULL, r->n_steps);
        soothe__training_fact_add(f, "pairs_per_step", NULL, r->n_pairs);
        soothe__training_fact_add(f, "texts_per_step", NULL, r->n_texts);
        soothe__training_fact_add(f, "rate", NULL, r->rate);
        soothe__training_fact_add(f, "kappa", NULL, r->kappa);
        soothe__training_fact_add(f, "lambda", NULL, r->lambda);
        soothe__training_fact_add(f, "n_pairs", NULL, (double)p->n_pairs);
        soothe__training_fact_add(f, "n_texts", NULL, (double)p->n_texts);
        soothe__training_fact_add(f, "loss", NULL, p->loss);
    } else {
        if (r->objective == SOOTHE__ALIGN_TRANSFER)
            soothe__training_fact_add(f, "map", MAPS[r->map], 0);
        soothe__training_fact_add(f, "fitted_on", r->on_states ? "states" : "tokens", 0);
        soothe__training_fact_add(f, "common_tokens", NULL, (double)p->n_common);
        soothe__training_fact_add(f, "result.top1", NULL, p->top1);
        soothe__training_fact_add(f, "result.top5", NULL, p->top5);
    }
    if (p->strength_by == SOOTHE__STRENGTH_DRIFT) {
        soothe__training_fact_add(f, "result.drift", NULL, p->drift);
        soothe__training_fact_add(f, "result.own_drift", NULL, p->own_drift);
    }
    soothe__training_fact_add(f, "result.n_pairs", NULL, (double)p->heldout.n_pairs);
    soothe__training_fact_add(f, "result.n_texts", NULL, (double)p->heldout.n_texts);
    soothe__training_fact_add(f, "result.pairs_right", NULL, p->heldout.pairs_right);
    soothe__training_fact_add(f, "result.kl", NULL, p->heldout.kl);
    soothe__training_fact_add(f, "result.nll", NULL, p->heldout.nll_clean);
    soothe__training_fact_add(f, "result.nll_plain", NULL, p->heldout.nll_clean_plain);
    soothe__training_fact_add(f, "result.nll_rejected", NULL, p->heldout.nll_rejected);
    soothe__training_fact_add(f, "result.nll_rejected_plain", NULL, p->heldout.nll_rejected_plain);
    add_sources(f, "data", &run->corpus);
    add_sources(f, "heldout", &run->heldout);
}

static enum soothe_status write_result(const struct soothe__align_run *run, struct soothe_error *err) {
    struct soothe__training_facts *facts  = soothe__calloc(1, sizeof *facts);
    const char                    *target = soothe__gguf_find_string(&run->files.target, "general.name");
    const char *source = run->calibrator.meta ? soothe__gguf_find_string(&run->calibrator, "general.name") : NULL;
    char        name[512];
    if (!facts)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory writing %s", run->r.out_path);
    gather_facts(facts, run);
    snprintf(name, sizeof name, "%s for %s, %s", source ? source : "matrix", target ? target : "(unnamed)",
             NAMES[run->r.objective]);
    const struct soothe__alignment_spec spec   = {.name            = name,
                                                  .objective       = NAMES[run->r.objective],
                                                  .target_path     = run->r.model_path,
                                                  .calibrator_path = run->r.calibrator_path,
                                                  .fusion          = &run->fusion,
                                                  .strength        = run->report->strength,
                                                  .n_facts         = facts->n,
                                                  .facts           = facts->list};
    const enum soothe_status            status = soothe__alignment_write(run->r.out_path, &spec, err);
    free(facts);
    return status;
}

static void run_free(struct soothe__align_run *run) {
    soothe_calibrator_free(run->blocks);
    soothe__fusion_free(&run->own);
    soothe__fusion_free(&run->fusion);
    soothe__train_model_close(&run->files);
    soothe__gguf_close(&run->calibrator);
    soothe__corpus_free(&run->corpus);
    soothe__corpus_free(&run->heldout);
    llama_model_free(run->target);
}

enum soothe_status soothe__align(const struct soothe__align_request *request, struct soothe__align_report *report,
                                 struct soothe_error *err) {
    struct soothe__align_run run = {.r = *request, .report = report};
    *report = (struct soothe__align_report){.top1 = NAN, .top5 = NAN, .loss = NAN, .drift = NAN, .own_drift = NAN};
    run.has_texts    = request->n_data + request->n_heldout > 0;
    run.r.own_matrix = request->own_matrix ||
                       (soothe__align_has_steps(request->objective) && !request->calibrator_path && !request->bias);
    if (request->objective == SOOTHE__ALIGN_FUSED)
        run.r.n_pairs = 0;
    run.r.contrastive.seed = request->seed;
    run.r.contrastive.stop = request->stop;
#ifdef _OPENMP
    omp_set_num_threads(request->n_threads > 0 ? request->n_threads : omp_get_num_procs());
#endif
    enum soothe_status status = check_request(&run.r, err);
    if (!status)
        status = set_up(&run, err);
    if (!status)
        status =
            soothe__align_has_steps(run.r.objective) ? soothe__align_steps(&run, err) : soothe__align_fit(&run, err);
    if (!status) {
        report->has_a    = run.fusion.a != NULL;
        report->has_b    = run.fusion.b != NULL;
        report->has_bias = run.fusion.bias != NULL;
        status           = soothe__align_strength(&run, err);
    }
    if (!status) {
        status = soothe__align_measure(&run, &report->heldout, err);
    }
    if (!status)
        status = write_result(&run, err);
    run_free(&run);
    return status;
}
