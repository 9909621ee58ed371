/* SPDX-License-Identifier: Apache-2.0
 * A training run from files to a file: texts, target states, steps, checkpoints, held-out figures. */
#include "train/train_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fusion/calibrator_file.h"
#include "train/batches.h"
#include "train/checkpoint.h"
#include "train/heldout.h"
#include "train/train_model.h"
#include "train/training_facts.h"

struct soothe__train_request soothe__train_request_default(void) {
    return (struct soothe__train_request){.heldout_share    = 0.05,
                                          .max_length       = 96,
                                          .checkpoint_every = 50,
                                          .kappa            = 0.2,
                                          .lambda           = 0.3,
                                          .clip             = 1.0,
                                          .strength         = 1.0f,
                                          .seed             = 1,
                                          .cache_bytes      = (size_t)512 << 20};
}

/* All that a run holds; freed by run_free in every case. */
struct run {
    struct soothe__train_request   r; /* with all defaults filled in */
    struct soothe__train_model     files;
    struct llama_model            *target; /* NULL under the paper objective */
    struct soothe__corpus          corpus, heldout;
    struct soothe__train_core     *core;
    struct soothe__target_states  *states;
    struct soothe__batches        *batches;
    struct soothe__batches_options per_step;
    struct soothe__series          pairs, texts; /* order of training */
    const uint32_t                *text_pool;    /* what texts indexes: the single texts, or the chosen sides */
    uint32_t                      *chosen;
    size_t                         n_pool;
    char                          *checkpoint_path;
    char                           hash[65];
    struct soothe__train_report   *report;
};

static void run_free(struct run *run) {
    soothe__batches_free(run->batches);
    soothe__target_states_free(run->states);
    soothe__train_core_free(run->core);
    soothe__corpus_free(&run->corpus);
    soothe__corpus_free(&run->heldout);
    soothe__series_free(&run->pairs);
    soothe__series_free(&run->texts);
    soothe__train_model_close(&run->files);
    llama_model_free(run->target);
    free(run->checkpoint_path);
    free(run->chosen);
}

static bool is_preference(const struct run *run) {
    return run->r.objective == SOOTHE__PREFERENCE;
}

static void fill_defaults(struct soothe__train_request *r) {
    const bool preference = r->objective == SOOTHE__PREFERENCE;
    if (!r->calibrator_path)
        r->own_matrix = true;
    r->n_steps   = r->n_steps > 0 ? r->n_steps : 400;
    r->n_pairs   = r->n_pairs > 0 ? r->n_pairs : preference ? 8 : 0;
    r->n_texts   = r->n_texts > 0 ? r->n_texts : preference ? 8 : 24;
    r->lr_blocks = r->lr_blocks > 0 ? r->lr_blocks : preference ? 2e-4 : 3e-4;
    r->lr_fusion = r->lr_fusion > 0 ? r->lr_fusion : 1e-3;
}

/* ---- texts ----------------------------------------------------------------------------------------------- */

static enum soothe_status read_files(struct soothe__corpus *c, const char *const *paths, size_t n,
                                     struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (size_t i = 0; i < n && !status; i++)
        status = soothe__corpus_read(c, paths[i], err);
    return status;
}

static enum soothe_status read_texts(struct run *run, const struct llama_vocab *vocab, struct soothe_error *err) {
    const struct soothe__train_request *r         = &run->r;
    size_t                              n_removed = 0, n_empty = 0;
    enum soothe_status                  status = read_files(&run->corpus, r->data_paths, r->n_data, err);
    if (!status && r->n_heldout)
        status = read_files(&run->heldout, r->heldout_paths, r->n_heldout, err);
    else if (!status && r->heldout_share > 0)
        status = soothe__corpus_split(&run->heldout, &run->corpus, r->heldout_share, r->seed, err);
    if (!status)
        status = soothe__corpus_remove_shared(&run->corpus, &run->heldout, &n_removed, err);
    if (!status)
        status = soothe__corpus_tokenize(&run->corpus, vocab, r->max_length, &n_empty, err);
    if (!status)
        status = soothe__corpus_tokenize(&run->heldout, vocab, r->max_length, NULL, err);
    if (status)
        return status;
    run->report->n_left_out = run->corpus.n_bad + run->corpus.n_repeated + n_removed + n_empty;
    run->report->n_pairs    = run->corpus.n_pairs;
    run->report->n_texts    = run->corpus.n_singles;
    if (is_preference(run) && run->corpus.n_pairs == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "%s holds no pairs: the preference objective needs lines {\"prompt\": …, \"chosen\": …, "
                            "\"rejected\": …}",
                            r->data_paths[0]);
    return SOOTHE_OK;
}

/* Clean texts to learn from or to stay close on: the single ones, and where there are none the chosen sides. */
static enum soothe_status choose_pool(struct run *run, struct soothe_error *err) {
    struct soothe__corpus *c       = &run->corpus;
    const bool             singles = c->n_singles > 0;
    const size_t           n       = singles ? c->n_singles : c->n_pairs;
    run->chosen                    = soothe__calloc(n + 1, sizeof *run->chosen);
    if (!run->chosen)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", n);
    for (size_t i = 0; i < n; i++)
        run->chosen[i] = singles ? c->singles[i] : c->pairs[i].i_chosen;
    run->text_pool            = run->chosen;
    run->n_pool               = n;
    enum soothe_status status = SOOTHE_OK;
    if (is_preference(run))
        status = soothe__series_init(&run->pairs, c->n_pairs, run->r.seed, 1, err);
    if (!status)
        status = soothe__series_init(&run->texts, n, run->r.seed, 2, err);
    return status;
}

/* What step i trains on. */
static void choose_step(struct run *run, int64_t step, uint32_t *pairs, uint32_t *texts) {
    const uint64_t n_pairs = run->per_step.n_pairs, n_texts = run->per_step.n_texts;
    for (uint64_t k = 0; k < n_pairs; k++)
        pairs[k] = soothe__series_at(&run->pairs, (uint64_t)step * n_pairs + k);
    for (uint64_t k = 0; k < n_texts; k++)
        texts[k] = run->text_pool[soothe__series_at(&run->texts, (uint64_t)step * n_texts + k)];
}

static enum soothe_status make_states(struct run *run, const struct soothe__corpus *corpus, const uint32_t *order,
                                      size_t n_order, struct soothe__target_states **states, struct soothe_error *err) {
    char               hex[65];
    enum soothe_status status = soothe__target_states_new(states, run->target, corpus, order, n_order, run->r.n_threads,
                                                          run->r.cache_bytes, err);
    if (!status && run->r.states_path)
        status = soothe__sha256_file(hex, run->r.model_path, err);
    if (!status && run->r.states_path)
        status = soothe__target_states_use_file(*states, run->r.states_path, hex, err);
    return status;
}

/* Texts in the order in which the steps ask for them, for the target's states. */
static enum soothe_status open_states(struct run *run, struct soothe_error *err) {
    const size_t n_pairs = run->per_step.n_pairs, n_texts = run->per_step.n_texts, n = 2 * n_pairs + n_texts;
    uint32_t    *order = soothe__calloc(n * (size_t)run->r.n_steps, sizeof *order);
    uint32_t     pairs[n_pairs + 1], texts[n_texts + 1];
    size_t       at = 0;
    if (!order)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d steps", run->r.n_steps);
    for (int32_t step = 0; step < run->r.n_steps; step++) {
        choose_step(run, step, pairs, texts);
        for (size_t k = 0; k < n_pairs; k++) {
            order[at++] = run->corpus.pairs[pairs[k]].i_chosen;
            order[at++] = run->corpus.pairs[pairs[k]].i_rejected;
        }
        for (size_t k = 0; k < n_texts; k++)
            order[at++] = texts[k];
    }
    const enum soothe_status status = make_states(run, &run->corpus, order, at, &run->states, err);
    free(order);
    return status;
}

/* ---- setting up ------------------------------------------------------------------------------------------ */

static enum soothe_status load_target(struct run *run, struct soothe_error *err) {
    struct llama_model_params p = llama_model_default_params();
    p.vocab_only                = !is_preference(run);
    run->target                 = llama_model_load_from_file(run->r.model_path, p);
    return run->target ? SOOTHE_OK
                       : soothe__fail(err, SOOTHE_E_ENGINE, "the engine cannot load the model %s", run->r.model_path);
}

static enum soothe_status make_core(struct run *run, struct soothe_error *err) {
    struct soothe__train_options o = soothe__train_options_default();
    o.objective                    = run->r.objective;
    o.precision                    = run->r.precision;
    o.n_threads                    = run->r.n_threads;
    o.b                            = run->r.own_matrix;
    o.bias                         = run->r.bias;
    o.freeze_blocks                = run->r.freeze_blocks;
    o.kappa                        = (float)run->r.kappa;
    o.lambda                       = (float)run->r.lambda;
    o.weight_decay                 = (float)run->r.weight_decay;
    o.clip                         = (float)run->r.clip;
    run->per_step                  = (struct soothe__batches_options){.n_pairs     = (size_t)run->r.n_pairs,
                                                                      .n_texts     = (size_t)run->r.n_texts,
                                                                      .with_tokens = run->files.shape.n_blocks > 0};
    int32_t tokens = 0, rows = 0;
    soothe__batches_room(&run->corpus, &run->per_step, &o.max_tokens, &o.max_rows);
    soothe__batches_room(&run->heldout, &run->per_step, &tokens, &rows);
    o.max_tokens = tokens > o.max_tokens ? tokens : o.max_tokens;
    o.max_rows   = rows > o.max_rows ? rows : o.max_rows;
    enum soothe_status status =
        soothe__train_core_new(&run->core, &run->files.shape, &o, run->files.embedding, run->files.head, err);
    if (status)
        return status;
    run->report->core_bytes = soothe__train_core_memory(run->core);
    run->report->bf16       = soothe__train_core_is_bf16(run->core);
    return soothe__train_model_load(&run->files, run->core, err);
}

static void add_hash(struct soothe__sha256 *h, const char *text) {
    soothe__sha256_add(h, text, strlen(text) + 1);
}

/* Of everything that decides the result. */
static enum soothe_status hash_run(struct run *run, struct soothe_error *err) {
    const struct soothe__train_request *r = &run->r;
    char                                model[65], calibrator[65] = "", numbers[512];
    enum soothe_status                  status = soothe__model_fingerprint(model, &run->files.target, err);
    if (!status && r->calibrator_path)
        status = soothe__sha256_file(calibrator, r->calibrator_path, err);
    if (status)
        return status;
    snprintf(numbers, sizeof numbers, "%d %d %d %d %d %d %d %d %d %d %.9g %.9g %.9g %.9g %.9g %.9g %.9g %llu",
             r->objective, run->report->bf16, r->own_matrix, r->bias, r->freeze_blocks, r->n_steps, r->n_pairs,
             r->n_texts, r->max_length, r->n_threads, r->lr_blocks, r->lr_fusion, r->kappa, r->lambda, r->weight_decay,
             r->clip, r->n_heldout ? 0.0 : r->heldout_share, (unsigned long long)r->seed);
    struct soothe__sha256 *h = soothe__sha256_new();
    if (!h)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    add_hash(h, SOOTHE_VERSION);
    add_hash(h, model);
    add_hash(h, calibrator);
    add_hash(h, numbers);
    for (size_t i = 0; i < run->corpus.n_sources; i++)
        add_hash(h, run->corpus.sources[i].sha256);
    for (size_t i = 0; i < run->heldout.n_sources; i++)
        add_hash(h, run->heldout.sources[i].sha256);
    soothe__sha256_finish(h, run->hash);
    return SOOTHE_OK;
}

static enum soothe_status set_up(struct run *run, struct soothe_error *err) {
    enum soothe_status status = soothe__train_model_open(&run->files, run->r.model_path, run->r.calibrator_path, err);
    if (!status)
        status = load_target(run, err);
    if (!status)
        status = read_texts(run, llama_model_get_vocab(run->target), err);
    if (!status)
        status = choose_pool(run, err);
    if (!status)
        status = make_core(run, err);
    if (!status)
        status = hash_run(run, err);
    if (!status && is_preference(run))
        status = open_states(run, err);
    if (!status)
        status = soothe__batches_new(&run->batches, &run->corpus, run->states, &run->per_step, err);
    return status;
}

/* ---- checkpoints ----------------------------------------------------------------------------------------- */

static enum soothe_status with_checkpoint(struct run *run, int64_t step, int64_t *loaded, struct soothe_error *err) {
    size_t                             n_tensors;
    const struct soothe__train_tensor *tensors = soothe__train_tensors(run->core, &n_tensors);
    float *sources[3]           = {soothe__train_parameters(run->core, NULL), soothe__train_moments(run->core, 0),
                                   soothe__train_moments(run->core, 1)};
    struct soothe__checkpoint c = {.step = (uint64_t)step, .n_arrays = 3 * n_tensors};
    memcpy(c.run, run->hash, sizeof c.run);
    c.arrays = soothe__calloc(c.n_arrays, sizeof *c.arrays);
    if (!c.arrays)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a checkpoint");
    for (size_t i = 0; i < c.n_arrays; i++) {
        const struct soothe__train_tensor *t = &tensors[i / 3];
        snprintf(c.arrays[i].name, sizeof c.arrays[i].name, "%c.%s", "wmv"[i % 3], t -> name);
        c.arrays[i].values = sources[i % 3] + t->offset;
        c.arrays[i].n      = t->n;
    }
    enum soothe_status status;
    if (loaded) {
        status  = soothe__checkpoint_load(run->checkpoint_path, &c, err);
        *loaded = (int64_t)c.step;
    } else {
        status = soothe__checkpoint_save(run->checkpoint_path, &c, err);
    }
    free(c.arrays);
    return status;
}

static enum soothe_status go_on(struct run *run, int32_t *first_step, struct soothe_error *err) {
    int64_t step = 0;
    if (run->r.fresh || !soothe__file_exists(run->checkpoint_path))
        return SOOTHE_OK;
    const enum soothe_status status = with_checkpoint(run, 0, &step, err);
    if (!status) {
        *first_step = (int32_t)step;
        soothe__train_set_updates(run->core, step);
    }
    return status;
}

static bool stopped(const struct run *run) {
    return run->r.stop && *run->r.stop;
}

static enum soothe_status save_and_stop(struct run *run, int32_t step, struct soothe_error *err) {
    const enum soothe_status status = with_checkpoint(run, step, NULL, err);
    if (status)
        return status;
    return soothe__fail(err, SOOTHE_E_INTERRUPTED, "stopped after step %d of %d; saved in %s: the same command goes on",
                        step, run->r.n_steps, run->checkpoint_path);
}

/* ---- steps ------------------------------------------------------------------------------------------------ */

/* Warm-up over a twentieth, then a cosine to 0. */
static double rate_at(const struct soothe__train_request *r, int32_t step) {
    const double warm = 1 + r->n_steps / 20, done = step + 0.5;
    if (done < warm)
        return done / warm;
    return 0.5 * (1 + cos(acos(-1.0) * (done - warm) / (r->n_steps - warm)));
}

struct average { /* over about the last ten steps, for display */
    double  loss, right, kl;
    double  tail_loss; /* sum over the last tenth of the run */
    int32_t n_tail;
};

static void add_to_average(struct average *a, const struct run *run, const struct soothe__train_result *result,
                           int32_t step, bool first) {
    const double weight = first ? 1.0 : 0.1;
    a->loss += weight * (result->loss - a->loss);
    a->kl += weight * (result->kl - a->kl);
    a->right += weight * ((double)result->n_pairs_right / (run->r.n_pairs ? run->r.n_pairs : 1) - a->right);
    if (step >= run->r.n_steps - (run->r.n_steps + 9) / 10) {
        a->tail_loss += result->loss;
        a->n_tail++;
    }
}

static void show(struct soothe__progress *progress, const struct run *run, const struct average *a, int32_t step,
                 int32_t first_step, double rate) {
    char         detail[160], pairs[64] = "";
    const double elapsed = soothe__seconds() - progress->started;
    const int    left    = (int)(elapsed / (step - first_step) * (run->r.n_steps - step));
    if (is_preference(run))
        snprintf(pairs, sizeof pairs, "  pairs %.0f %%  KL %.3f", 100 * a->right, a->kl);
    snprintf(detail, sizeof detail, "step %d/%d  loss %.4f%s  %.0f tokens/s  %d:%02d left", step, run->r.n_steps,
             a->loss, pairs, rate, left / 60, left % 60);
    soothe__progress_update(progress, (double)step / run->r.n_steps, detail);
}

static enum soothe_status one_step(struct run *run, int32_t step, struct soothe__train_result *result, int32_t *n_rows,
                                   struct soothe_error *err) {
    uint32_t                          pairs[run->per_step.n_pairs + 1], texts[run->per_step.n_texts + 1];
    const struct soothe__train_batch *batch;
    const double                      start = soothe__seconds(), rate = rate_at(&run->r, step);
    choose_step(run, step, pairs, texts);
    enum soothe_status status =
        soothe__batches_build(run->batches, pairs, run->per_step.n_pairs, texts, run->per_step.n_texts,
                              is_preference(run) ? SOOTHE__ROW_KL : SOOTHE__ROW_PLAIN, &batch, err);
    const double built = soothe__seconds();
    if (!status)
        status = soothe__train_step(run->core, batch, rate * run->r.lr_blocks, rate * run->r.lr_fusion, result, err);
    if (status)
        return status;
    soothe__batches_keep(run->batches);
    run->report->state_seconds += built - start;
    run->report->seconds += soothe__seconds() - built;
    *n_rows = batch->n_rows;
    return SOOTHE_OK;
}

static enum soothe_status run_steps(struct run *run, struct soothe_error *err) {
    struct soothe__progress progress = soothe__progress_start();
    struct average          average  = {0};
    int32_t                 first    = 0;
    double                  rows     = 0;
    enum soothe_status      status   = go_on(run, &first, err);
    for (int32_t step = first; step < run->r.n_steps && !status; step++) {
        struct soothe__train_result result;
        int32_t                     n_rows = 0;
        if (stopped(run)) {
            status = save_and_stop(run, step, err);
            break;
        }
        status = one_step(run, step, &result, &n_rows, err);
        if (status)
            break;
        rows += n_rows;
        add_to_average(&average, run, &result, step, step == first);
        show(&progress, run, &average, step + 1, first, rows / run->report->seconds);
        if (run->r.checkpoint_every > 0 && (step + 1) % run->r.checkpoint_every == 0 && step + 1 < run->r.n_steps)
            status = with_checkpoint(run, step + 1, NULL, err);
    }
    soothe__progress_finish(&progress);
    run->report->n_steps                = run->r.n_steps;
    run->report->first_step             = first;
    run->report->loss                   = average.n_tail ? average.tail_loss / average.n_tail : NAN;
    run->report->loss_tokens_per_second = run->report->seconds > 0 ? rows / run->report->seconds : 0;
    return status;
}

/* ---- the end ---------------------------------------------------------------------------------------------- */

static enum soothe_status measure_heldout(struct run *run, struct soothe_error *err) {
    struct soothe__target_states *states = NULL;
    struct soothe__heldout_result h      = {.kl = NAN, .nll = NAN, .nll_plain = NAN};
    enum soothe_status            status = SOOTHE_OK;
    soothe__batches_free(run->batches); /* their memory is needed again */
    soothe__target_states_free(run->states);
    run->batches = NULL;
    run->states  = NULL;
    if (run->heldout.n_pairs + run->heldout.n_singles > 0) {
        if (is_preference(run))
            status = make_states(run, &run->heldout, NULL, 0, &states, err);
        if (!status)
            status = soothe__heldout(run->core, &run->heldout, states, &run->per_step, &h, err);
    }
    soothe__target_states_free(states);
    run->report->n_heldout_pairs = h.n_pairs;
    run->report->n_heldout_texts = h.n_texts;
    run->report->pairs_right     = h.n_pairs ? (double)h.n_pairs_right / (double)h.n_pairs : NAN;
    run->report->kl              = h.kl;
    run->report->nll             = h.nll;
    run->report->nll_plain       = h.nll_plain;
    return status;
}

static enum soothe_status write_result(const struct run *run, struct soothe_error *err) {
    size_t                             n_tensors;
    const struct soothe__train_tensor *tensors    = soothe__train_tensors(run->core, &n_tensors);
    const float                       *parameters = soothe__train_parameters(run->core, NULL);
    struct soothe__named_values       *replaced   = soothe__calloc(n_tensors + 1, sizeof *replaced);
    struct soothe__training_facts     *facts      = soothe__calloc(1, sizeof *facts);
    const char                        *base       = soothe__gguf_find_string(&run->files.target, "general.name");
    char                               name[256];
    if (!replaced || !facts) {
        free(replaced);
        free(facts);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory writing %s", run->r.out_path);
    }
    snprintf(name, sizeof name, "%s, %d blocks, %s", base ? base : "calibrator", run->files.shape.n_blocks,
             is_preference(run) ? "preference" : "paper");
    soothe__training_facts(facts, &run->r, run->report, &run->corpus, &run->heldout, run->hash);
    struct soothe__calibrator_spec spec = {.name        = name,
                                           .source_path = run->r.calibrator_path,
                                           .target_path = run->r.model_path,
                                           .form        = is_preference(run) ? SOOTHE_FORM_RESIDUAL : SOOTHE_FORM_PAPER,
                                           .strength    = run->r.strength,
                                           .d_cal       = run->files.shape.d_cal,
                                           .d_tgt       = run->files.shape.d_tgt,
                                           .replaced    = replaced,
                                           .block_type  = GGML_TYPE_F16,
                                           .matrix_type = GGML_TYPE_F16,
                                           .n_facts     = facts->n,
                                           .facts       = facts->list};
    for (size_t i = 0; i < n_tensors; i++) {
        const float *values = parameters + tensors[i].offset;
        if (strcmp(tensors[i].name, SOOTHE__TENSOR_A) == 0)
            spec.a = values;
        else if (strcmp(tensors[i].name, SOOTHE__TENSOR_B) == 0)
            spec.b = values;
        else if (strcmp(tensors[i].name, SOOTHE__TENSOR_BIAS) == 0)
            spec.bias = values;
        else if (tensors[i].trainable)
            replaced[spec.n_replaced++] = (struct soothe__named_values){tensors[i].name, values};
    }
    const enum soothe_status status = soothe__calibrator_write(run->r.out_path, &spec, err);
    free(replaced);
    free(facts);
    return status;
}

enum soothe_status soothe__train(const struct soothe__train_request *request, struct soothe__train_report *report,
                                 struct soothe_error *err) {
    struct run run = {.r = *request, .report = report};
    memset(report, 0, sizeof *report);
    if (request->n_data == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "training needs at least one data file");
    fill_defaults(&run.r);
    run.checkpoint_path = request->checkpoint_path ? soothe__strdup(request->checkpoint_path)
                                                   : soothe__format("%s.checkpoint", request->out_path);
    enum soothe_status status =
        run.checkpoint_path ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for training");
    if (!status)
        status = set_up(&run, err);
    if (!status)
        status = run_steps(&run, err);
    if (!status)
        status = measure_heldout(&run, err);
    if (!status)
        status = write_result(&run, err);
    if (!status)
        unlink(run.checkpoint_path);
    run_free(&run);
    return status;
}
