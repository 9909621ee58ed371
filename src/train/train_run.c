/* SPDX-License-Identifier: Apache-2.0
 * A training run from files to a file: texts, target states, steps, checkpoints, held-out figures. */
#include "train/train_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fusion/calibrator_file.h"
#include "train/heldout.h"
#include "train/run.h"
#include "train/train_pass.h"
#include "train/training_facts.h"

static void run_free(struct soothe__run *run) {
    soothe__batches_free(run->batches);
    soothe__target_states_free(run->states);
    soothe__target_states_free(run->heldout_states);
    soothe__train_core_free(run->core);
    soothe__whole_free(run->whole);
    soothe__corpus_free(&run->corpus);
    soothe__corpus_free(&run->heldout);
    soothe__schedule_free(&run->schedule);
    soothe__train_model_close(&run->files);
    llama_model_free(run->target);
    free(run->checkpoint_path);
    free(run->tail_loss);
}

/* Objectives on the target's own states. */
static bool uses_states(const struct soothe__run *run) {
    return run->r.objective != SOOTHE__PAPER && (run->r.objective != SOOTHE__WEIGHTED || run->r.whole.n_kl > 0);
}

/* Those that learn from pairs alone. */
static bool uses_pairs(const struct soothe__run *run) {
    return run->r.objective != SOOTHE__PAPER && (run->r.objective != SOOTHE__WEIGHTED || run->r.whole.cppl);
}

/* ---- texts ----------------------------------------------------------------------------------------------- */

/* Something to train on must be left. */
static enum soothe_status check_texts(const struct soothe__run *run, size_t n_pairs_read, struct soothe_error *err) {
    const struct soothe__corpus *c = &run->corpus;
    const size_t                 n = uses_pairs(run) ? c->n_pairs : c->n_pairs + c->n_singles;
    if (n > 0)
        return SOOTHE_OK;
    if (uses_pairs(run) && n_pairs_read == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "%s%s no pairs: the %s objective needs lines {\"prompt\": …, \"chosen\": …, "
                            "\"rejected\": …}",
                            run->r.data_paths[0], run->r.n_data > 1 ? " and the other data hold" : " holds",
                            run->r.whole.cppl ? "cppl" : soothe__objective_name(run->r.objective));
    return soothe__fail(err, SOOTHE_E_ARGUMENT,
                        "nothing of %s is left to train on: all its %s are held out, share a text or prompt with the "
                        "held-out data, or have no token to learn (%zu pairs and %zu texts are held out)",
                        run->r.data_paths[0], uses_pairs(run) ? "pairs" : "texts", run->heldout.n_pairs,
                        run->heldout.n_singles);
}

static enum soothe_status read_texts(struct soothe__run *run, const struct llama_vocab *vocab,
                                     struct soothe_error *err) {
    const struct soothe__train_request *r      = &run->r;
    size_t                              n_read = 0;
    const struct soothe__texts_wanted   wanted = {.data_paths    = r->data_paths,
                                                  .n_data        = r->n_data,
                                                  .heldout_paths = r->heldout_paths,
                                                  .n_heldout     = r->n_heldout,
                                                  .heldout_share = r->heldout_share,
                                                  .seed          = r->seed,
                                                  .max_length    = r->max_length};
    const enum soothe_status            status =
        soothe__training_texts(&run->corpus, &run->heldout, &wanted, vocab, &n_read, &run->report->n_left_out, err);
    if (status)
        return status;
    run->report->n_pairs = run->corpus.n_pairs;
    run->report->n_texts = run->corpus.n_singles;
    return check_texts(run, n_read, err);
}

/* A target with factors of low rank is in the core as it was, too: its states by the core begin without a difference
 * to what is trained (the engine's products round activations to 8 bits), and the engine need not load it. */
static bool runs_in_core(const struct soothe__run *run) {
    return run->r.whole.on && !run->r.whole.full;
}

static enum soothe_status make_states(struct soothe__run *run, const struct soothe__corpus *corpus,
                                      const uint32_t *order, size_t n_order, struct soothe__target_states **states,
                                      struct soothe_error *err) {
    char               key[65];
    const char        *of = run->model_sha256;
    enum soothe_status status;
    if (runs_in_core(run)) {
        status = soothe__target_states_new_core(states, run->core, run->files.shape.d_tgt, corpus, order, n_order,
                                                run->r.cache_bytes, err);
        soothe__whole_states_key(run, key);
        of = key;
    } else {
        status = soothe__target_states_new(states, run->target, corpus, order, n_order, run->r.n_threads,
                                           run->r.cache_bytes, err);
    }
    if (!status && run->r.states_path)
        status = soothe__target_states_use_file(*states, run->r.states_path, of, err);
    return status;
}

static enum soothe_status open_states(struct soothe__run *run, struct soothe_error *err) {
    uint32_t          *order;
    size_t             n;
    enum soothe_status status = soothe__schedule_order(&run->schedule, run->r.n_steps, &order, &n, err);
    if (!status)
        status = make_states(run, &run->corpus, order, n, &run->states, err);
    free(order);
    return status;
}

/* ---- setting up ------------------------------------------------------------------------------------------ */

static enum soothe_status load_target(struct soothe__run *run, struct soothe_error *err) {
    struct llama_model_params p     = llama_model_default_params();
    p.vocab_only                    = !uses_states(run) || runs_in_core(run);
    const enum soothe_status status = soothe__sha256_file(run->model_sha256, run->r.model_path, err);
    if (status)
        return status;
    run->target = llama_model_load_from_file(run->r.model_path, p);
    return run->target ? SOOTHE_OK
                       : soothe__fail(err, SOOTHE_E_ENGINE, "the engine cannot load the model %s", run->r.model_path);
}

/* A calibrator that has B or a bias already goes on with them: without, it would begin from something else. */
static void keep_parts(struct soothe__run *run) {
    const struct gguf_context *meta = run->files.calibrator.meta;
    if (!meta || !uses_states(run))
        return;
    run->r.own_matrix = run->r.own_matrix || gguf_find_tensor(meta, SOOTHE__TENSOR_B) >= 0;
    run->r.bias       = run->r.bias || gguf_find_tensor(meta, SOOTHE__TENSOR_BIAS) >= 0;
}

/* Of sets, as many texts as the largest have. */
static void set_sizes(struct soothe__run *run) {
    const struct soothe__whole_request *w = &run->r.whole;
    run->per_step                         = (struct soothe__batches_options){.n_pairs     = (size_t)run->r.n_pairs,
                                                                             .n_texts     = (size_t)run->r.n_texts + (size_t)w->n_kl,
                                                                             .with_tokens = run->files.shape.n_blocks > 0};
    if (w->cppl) {
        run->per_step.n_pairs = 0;
        run->per_step.n_texts += run->whole ? soothe__whole_largest_set(run) * (size_t)run->r.n_pairs : 0;
    }
}

static enum soothe_status make_core(struct soothe__run *run, struct soothe_error *err) {
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
    o.rank                         = run->r.rank;
    if (run->whole)
        soothe__whole_options(run, &o);
    int32_t tokens = 0, rows = 0;
    soothe__batches_room(&run->corpus, &run->per_step, &o.max_tokens, &o.max_rows);
    soothe__batches_room(&run->heldout, &run->per_step, &tokens, &rows);
    o.max_tokens = tokens > o.max_tokens ? tokens : o.max_tokens;
    o.max_rows   = rows > o.max_rows ? rows : o.max_rows;
    if (runs_in_core(run) && o.max_tokens < soothe__target_states_room())
        o.max_tokens = soothe__target_states_room();
    enum soothe_status status =
        soothe__train_core_new(&run->core, &run->files.shape, &o, run->files.embedding, run->files.head, err);
    if (status)
        return status;
    run->report->core_bytes = soothe__train_core_memory(run->core);
    run->report->bf16       = soothe__train_core_is_bf16(run->core);
    if (run->r.objective == SOOTHE__LM_STEER)
        soothe__low_rank_start(run->core, run->r.seed);
    if (run->whole)
        soothe__train_start_factors(run->core, run->r.seed);
    return soothe__train_model_load(&run->files, run->core, err);
}

/* What the core achieves on held-out pairs and texts. */
static enum soothe_status measure(struct soothe__run *run, struct soothe__heldout_result *h, struct soothe_error *err) {
    struct soothe__batches_options sizes  = run->per_step;
    enum soothe_status             status = SOOTHE_OK;
    *h                                    = (struct soothe__heldout_result){.kl = NAN, .nll = NAN, .nll_plain = NAN};
    if (run->heldout.n_pairs + run->heldout.n_singles == 0)
        return SOOTHE_OK;
    if (run->r.whole.cppl && run->heldout.n_singles == 0)
        return SOOTHE_OK; /* pairs are measured as sets */
    if (uses_states(run) && !run->heldout_states)
        status = make_states(run, &run->heldout, NULL, 0, &run->heldout_states, err);
    if (!status)
        status = soothe__heldout(run->core, &run->heldout, run->heldout_states, &sizes, run->r.stop, h, err);
    if (run->r.states_path) { /* they stay there */
        soothe__target_states_free(run->heldout_states);
        run->heldout_states = NULL;
    }
    return status;
}

/* Or takes the figures that the checkpoint has kept. */
static enum soothe_status measure_before(struct soothe__run *run, struct soothe_error *err) {
    struct soothe__heldout_result h      = {.n_pairs = 0};
    struct soothe__whole_figures *sets   = &run->report->sets_before;
    enum soothe_status            status = SOOTHE_OK;
    if (run->saved_step < 0) {
        status = measure(run, &h, err);
        if (!status)
            status = soothe__whole_measure(run, sets, err);
        if (status == SOOTHE_E_INTERRUPTED)
            soothe__fail(err, status, "stopped before the first step of %d; nothing is saved", run->r.n_steps);
        const double figures[] = {h.nll, h.kl, sets->loss, sets->harmless, sets->toxic};
        for (int i = 0; i < SOOTHE__N_BEFORE; i++)
            run->before[i] = (float)figures[i];
    }
    run->report->nll_before = (double)run->before[0];
    run->report->kl_before  = (double)run->before[1];
    sets->loss              = (double)run->before[2];
    sets->harmless          = (double)run->before[3];
    sets->toxic             = (double)run->before[4];
    sets->n_sets            = soothe__whole_n_heldout(run);
    return status;
}

static enum soothe_status set_up(struct soothe__run *run, struct soothe_error *err) {
    enum soothe_status status =
        run->r.whole.on ? soothe__whole_open(run, err)
                        : soothe__train_model_open(&run->files, run->r.model_path, run->r.calibrator_path, err);
    if (!status && run->r.rank == 0 && !run->whole)
        run->r.rank = run->files.shape.d_tgt < 64 ? run->files.shape.d_tgt : 64;
    if (!status)
        status = load_target(run, err);
    if (!status)
        keep_parts(run);
    if (!status)
        status = read_texts(run, llama_model_get_vocab(run->target), err);
    if (!status && run->whole)
        status = soothe__whole_sets(run, err);
    set_sizes(run);
    if (!status && run->whole)
        status = soothe__whole_room(run, err);
    if (!status)
        status = make_core(run, err);
    if (!status)
        status = soothe__schedule_init(&run->schedule, &run->corpus, run->per_step.n_pairs,
                                       (size_t)run->r.n_texts + (size_t)run->r.whole.n_kl, run->r.seed, err);
    if (!status && run->r.whole.kl_apart)
        status = soothe__schedule_part(&run->schedule, (size_t)run->r.whole.n_kl, run->r.seed, err);
    if (!status)
        status = soothe__run_hash(run, err);
    if (!status && run->whole)
        status = soothe__run_go_on(run, err);
    if (!status && run->whole) /* before the run's own states are open: a file of states is one owner's */
        status = measure_before(run, err);
    if (!status && uses_states(run))
        status = open_states(run, err);
    if (!status)
        status = soothe__batches_new(&run->batches, &run->corpus, run->states, &run->per_step, err);
    return status;
}

/* ---- steps ------------------------------------------------------------------------------------------------ */

struct average { /* over about the last ten steps, for display */
    double loss, right, kl;
};

static void add_to_average(struct average *a, const struct soothe__run *run, const struct soothe__train_result *result,
                           bool first) {
    const double weight = first ? 1.0 : 0.1;
    a->loss += weight * (result->loss - a->loss);
    a->kl += weight * (result->kl - a->kl);
    a->right += weight * ((double)result->n_pairs_right / (run->r.n_pairs ? run->r.n_pairs : 1) - a->right);
}

/* Of the run's last tenth; floats, as a checkpoint keeps them. */
static void keep_loss(struct soothe__run *run, double loss) {
    const int32_t i = run->step - (run->r.n_steps - run->n_tail);
    if (i >= 0)
        run->tail_loss[i] = (float)loss;
}

static double mean_tail_loss(const struct soothe__run *run) {
    double sum = 0;
    for (int32_t i = 0; i < run->n_tail; i++)
        sum += (double)run->tail_loss[i];
    return sum / run->n_tail;
}

static void show(struct soothe__progress *progress, const struct soothe__run *run, const struct average *a,
                 int32_t first_step, double rate) {
    char          detail[200], pairs[64] = "";
    const int32_t step = run->step, n = run->r.n_steps;
    const double  elapsed = soothe__seconds() - progress->started;
    const int     left    = (int)(elapsed / (step - first_step) * (n - step));
    if (run->r.objective == SOOTHE__PREFERENCE || run->r.objective == SOOTHE__OWN_PREFERENCE)
        snprintf(pairs, sizeof pairs, "  pairs %.0f %%  KL %.3f", 100 * a->right, a->kl);
    snprintf(detail, sizeof detail, "step %d/%d  loss %.4f%s  %.0f tokens/s  %d:%02d left%s", step, n, a->loss, pairs,
             rate, left / 60, left % 60, run->report->n_unsaved ? "  NO CHECKPOINT: disk full?" : "");
    soothe__progress_update(progress, (double)step / n, detail);
}

static enum soothe_status diverged(const struct soothe__run *run, struct soothe_error *err) {
    const struct soothe_error cause = *err;
    return soothe__fail(err, SOOTHE_E_NUMERIC, "step %d of %d: %s%s", run->step + 1, run->r.n_steps, cause.message,
                        run->step ? "; lower learning rates, or a smaller clip, may help" : "");
}

static enum soothe_status build_batch(struct soothe__run *run, const struct soothe__train_batch **batch,
                                      struct soothe_error *err) {
    uint32_t pairs[run->per_step.n_pairs + 1], texts[run->per_step.n_texts + 1];
    if (run->whole)
        return soothe__whole_batch(run, batch, err);
    soothe__schedule_step(&run->schedule, run->step, pairs, texts);
    return soothe__batches_build(run->batches, pairs, run->per_step.n_pairs, texts, run->per_step.n_texts,
                                 run->r.objective == SOOTHE__PREFERENCE ? SOOTHE__ROW_KL : SOOTHE__ROW_PLAIN, batch,
                                 err);
}

struct counts { /* of the steps made */
    double rows, tokens;
};

static enum soothe_status one_step(struct soothe__run *run, struct soothe__train_result *result, struct counts *counts,
                                   struct soothe_error *err) {
    const struct soothe__train_batch *batch;
    const double       start = soothe__seconds(), rate = soothe__schedule_rate(run->step, run->r.n_steps);
    enum soothe_status status = build_batch(run, &batch, err);
    const double       built  = soothe__seconds();
    if (status)
        return status;
    status = soothe__train_step(run->core, batch, rate * run->r.lr_blocks, rate * run->r.lr_fusion, result, err);
    if (status == SOOTHE_E_NUMERIC)
        return diverged(run, err);
    if (status)
        return status;
    soothe__batches_keep(run->batches);
    keep_loss(run, result->loss);
    run->step++;
    run->report->state_seconds += built - start;
    run->report->seconds += soothe__seconds() - built;
    counts->rows += batch->n_rows;
    counts->tokens += batch->n_tokens;
    return SOOTHE_OK;
}

static bool stopped(const struct soothe__run *run) {
    return run->r.stop && *run->r.stop;
}

/* A full disk is no reason to lose what a run would still learn. */
static void save_on_the_way(struct soothe__run *run) {
    if (run->r.checkpoint_every < 1 || run->step % run->r.checkpoint_every != 0 || run->step == run->r.n_steps)
        return;
    if (soothe__run_save(run, &run->report->unsaved))
        run->report->n_unsaved++;
}

static enum soothe_status run_steps(struct soothe__run *run, struct soothe_error *err) {
    struct soothe__progress progress = soothe__progress_start();
    struct average          average  = {0};
    const int32_t           first    = run->step;
    struct counts           counts   = {0};
    enum soothe_status      status   = SOOTHE_OK;
    while (run->step < run->r.n_steps && !status) {
        struct soothe__train_result result;
        status = stopped(run) ? SOOTHE_E_INTERRUPTED : one_step(run, &result, &counts, err);
        if (status)
            break;
        add_to_average(&average, run, &result, run->step == first + 1);
        save_on_the_way(run);
        show(&progress, run, &average, first, (run->whole ? counts.tokens : counts.rows) / run->report->seconds);
        if (run->r.on_step)
            run->r.on_step(run->r.user, run->step);
    }
    soothe__progress_finish(&progress);
    run->report->n_steps                = run->r.n_steps;
    run->report->first_step             = first;
    run->report->loss                   = mean_tail_loss(run);
    run->report->loss_tokens_per_second = run->report->seconds > 0 ? counts.rows / run->report->seconds : 0;
    run->report->tokens_per_second      = run->report->seconds > 0 ? counts.tokens / run->report->seconds : 0;
    return status;
}

/* ---- the end ---------------------------------------------------------------------------------------------- */

static enum soothe_status measure_heldout(struct soothe__run *run, struct soothe_error *err) {
    struct soothe__heldout_result h;
    soothe__batches_free(run->batches); /* their memory is needed again */
    soothe__target_states_free(run->states);
    run->batches              = NULL;
    run->states               = NULL;
    enum soothe_status status = measure(run, &h, err);
    if (!status && run->whole)
        status = soothe__whole_measure(run, &run->report->sets, err);
    soothe__target_states_free(run->heldout_states);
    run->heldout_states          = NULL;
    run->report->n_heldout_pairs = h.n_pairs;
    run->report->n_heldout_texts = h.n_texts;
    run->report->pairs_right     = h.n_pairs ? (double)h.n_pairs_right / (double)h.n_pairs : NAN;
    run->report->kl              = h.kl;
    run->report->nll             = h.nll;
    run->report->nll_plain       = h.nll_plain;
    return status;
}

static enum soothe_status write_result(const struct soothe__run *run, struct soothe_error *err) {
    size_t                             n_tensors;
    const struct soothe__train_tensor *tensors    = soothe__train_tensors(run->core, &n_tensors);
    const float                       *parameters = soothe__train_parameters(run->core, NULL);
    struct soothe__named_values       *replaced   = soothe__calloc(n_tensors + 1, sizeof *replaced);
    struct soothe__training_facts     *facts      = soothe__calloc(1, sizeof *facts);
    const char                        *base       = soothe__gguf_find_string(&run->files.target, "general.name");
    float *product = run->r.objective == SOOTHE__LM_STEER ? soothe__low_rank_matrix(run->core) : NULL;
    char   name[256];
    if (!replaced || !facts || (run->r.objective == SOOTHE__LM_STEER && !product)) {
        free(replaced);
        free(facts);
        free(product);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory writing %s", run->r.out_path);
    }
    snprintf(name, sizeof name, "%s, %d blocks, %s", base ? base : "calibrator", run->files.shape.n_blocks,
             soothe__objective_name(run->r.objective));
    soothe__training_facts(facts, &run->r, run->report, &run->corpus, &run->heldout, run->hash);
    struct soothe__calibrator_spec spec = {.name        = name,
                                           .source_path = run->r.calibrator_path,
                                           .target_path = run->r.model_path,
                                           .form        = uses_states(run) ? SOOTHE_FORM_RESIDUAL : SOOTHE_FORM_PAPER,
                                           .strength    = run->r.strength,
                                           .d_cal       = run->files.shape.d_cal,
                                           .d_tgt       = run->files.shape.d_tgt,
                                           .b           = product,
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
        else if (!product && tensors[i].trainable)
            replaced[spec.n_replaced++] = (struct soothe__named_values){tensors[i].name, values};
    }
    const enum soothe_status status = soothe__calibrator_write(run->r.out_path, &spec, err);
    free(replaced);
    free(facts);
    free(product);
    return status;
}

/* Neither the options nor where to write are wrong, as far as can be told without reading. */
static enum soothe_status prepare(struct soothe__run *run, const struct soothe__train_request *request,
                                  struct soothe_error *err) {
    run->report->kl_before = run->report->nll_before = NAN;
    soothe__train_request_fill(&run->r);
    run->n_tail          = (run->r.n_steps + 9) / 10;
    run->tail_loss       = soothe__calloc((size_t)run->n_tail, sizeof *run->tail_loss);
    run->checkpoint_path = request->checkpoint_path ? soothe__strdup(request->checkpoint_path)
                                                    : soothe__format("%s.checkpoint", request->out_path);
    if (!run->checkpoint_path || !run->tail_loss)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for training");
    run->r.checkpoint_path = run->checkpoint_path;
    return soothe__train_request_check(&run->r, err);
}

enum soothe_status soothe__train(const struct soothe__train_request *request, struct soothe__train_report *report,
                                 struct soothe_error *err) {
    struct soothe__run  run   = {.r = *request, .report = report, .saved_step = -1};
    struct soothe_error local = {0};
    memset(report, 0, sizeof *report);
    enum soothe_status status = prepare(&run, request, &local);
    if (!status)
        status = set_up(&run, &local);
    if (!status && !run.whole)
        status = soothe__run_go_on(&run, &local);
    if (!status) {
        status = run_steps(&run, &local);
        if (!status)
            status = measure_heldout(&run, &local);
        if (!status)
            status = run.whole ? soothe__whole_write(&run, &local) : write_result(&run, &local);
        if (status)
            soothe__run_leave(&run, status, &local);
        else
            unlink(run.checkpoint_path);
    }
    if (status && err)
        *err = local;
    run_free(&run);
    return status;
}
