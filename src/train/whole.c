/* SPDX-License-Identifier: Apache-2.0
 * What of a whole target learns, and the batches it learns from. */
#include "train/whole.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/run.h"

struct soothe__whole {
    struct soothe__file_weights   *weights;
    struct soothe__paraphrase_sets sets, heldout; /* cppl */
    struct soothe__series          series;        /* of sets */
    struct soothe__train_batch     batch;         /* of the step under way */
    float                         *row_weight;    /* (max_rows) */
    struct soothe__batch_text     *list;          /* (texts of a batch) */
    struct soothe__cppl_text      *texts;         /* the sets' texts of a batch, in order */
    double                        *l, *dl;        /* of them */
    size_t                         n_texts, n_sets, capacity;
};

/* ---- what learns ------------------------------------------------------------------------------------------------ */

static const char *const MATRICES[] = {"q", "k", "v", "o", "gate", "up", "down"};
static const char *const TENSORS[]  = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
enum { N_MATRICES = 7 };

unsigned soothe__matrices_parse(const char *list) {
    unsigned bits = 0;
    if (strcmp(list, "all") == 0)
        return SOOTHE__MATRIX_ALL;
    for (const char *at = list;; at++) {
        const size_t n     = strcspn(at, ",");
        unsigned     found = 0;
        for (unsigned i = 0; i < N_MATRICES; i++)
            if (strlen(MATRICES[i]) == n && strncmp(at, MATRICES[i], n) == 0)
                found = 1u << i;
        if (!found)
            return 0;
        bits |= found;
        at += n;
        if (!*at)
            return bits;
    }
}

static enum soothe__learning learning(const void *user, const char *name) {
    const struct soothe__whole_request *r     = user;
    const int32_t                       block = soothe__block_of_tensor(name);
    if (block < r->first_block || block >= r->end_block)
        return SOOTHE__STAYS;
    for (unsigned i = 0; i < N_MATRICES; i++) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "blk.%d.%s.weight", block, TENSORS[i]);
        if ((r->matrices & 1u << i) && strcmp(name, wanted) == 0)
            return r->full ? SOOTHE__LEARNS : SOOTHE__LOW_RANK;
    }
    return SOOTHE__STAYS;
}

void soothe__whole_options(const struct soothe__run *run, struct soothe__train_options *o) {
    o->learning      = learning;
    o->learning_user = &run->r.whole;
    o->fixed         = soothe__file_weights_source(run->whole->weights);
    o->rank          = run->r.whole.rank;
    o->alpha         = (float)run->r.whole.alpha;
}

static enum soothe_status check_blocks(struct soothe__run *run, struct soothe_error *err) {
    struct soothe__whole_request *w = &run->r.whole;
    const int32_t                 n = run->files.shape.n_blocks;
    w->end_block                    = w->end_block > 0 ? w->end_block : n;
    if (w->first_block < 0 || w->end_block > n || w->first_block >= w->end_block)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "blocks %d to %d are to learn; %s has blocks 0 to %d",
                            w->first_block, w->end_block - 1, run->r.model_path, n - 1);
    return SOOTHE_OK;
}

enum soothe_status soothe__whole_open(struct soothe__run *run, struct soothe_error *err) {
    enum soothe_status status = soothe__train_model_open_whole(&run->files, run->r.model_path, err);
    if (!status)
        status = check_blocks(run, err);
    run->whole = status ? NULL : soothe__calloc(1, sizeof *run->whole);
    if (!status && !run->whole)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for training");
    if (!status && run->r.whole.soft.state && run->files.shape.d_tgt > SOOTHE__SOFT_WIDTH_MAX)
        status = soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s has states of %d numbers; soft labels are for %d at most",
                              run->r.model_path, run->files.shape.d_tgt, SOOTHE__SOFT_WIDTH_MAX);
    return status ? status : soothe__file_weights_new(&run->whole->weights, &run->files.target, run->r.whole.form, err);
}

void soothe__whole_free(struct soothe__whole *w) {
    if (!w)
        return;
    soothe__file_weights_free(w->weights);
    soothe__paraphrase_sets_free(&w->sets);
    soothe__paraphrase_sets_free(&w->heldout);
    soothe__series_free(&w->series);
    void *all[] = {w->row_weight, w->list, w->texts, w->l, w->dl, w};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* ---- what it learns from ---------------------------------------------------------------------------- */

/* Texts of weight 0 are for KL alone: the held-out likelihood is of the others. */
static void keep_weighted(struct soothe__corpus *c) {
    size_t n = 0;
    for (size_t i = 0; i < c->n_singles; i++)
        if (c->texts[c->singles[i]].weight > 0)
            c->singles[n++] = c->singles[i];
    c->n_singles = n;
}

enum soothe_status soothe__whole_sets(struct soothe__run *run, struct soothe_error *err) {
    struct soothe__whole               *w      = run->whole;
    const struct soothe__whole_request *r      = &run->r.whole;
    enum soothe_status                  status = SOOTHE_OK;
    if (r->cppl)
        status = soothe__paraphrase_sets_make(&w->sets, &run->corpus, r->set_key, r->set_max, err);
    if (!status && r->cppl)
        status = soothe__paraphrase_sets_make(&w->heldout, &run->heldout, r->set_key, r->set_max, err);
    if (!status && r->cppl)
        status = soothe__series_init(&w->series, w->sets.n, run->r.seed, 5, err);
    if (r->kl_apart)
        keep_weighted(&run->heldout);
    return status;
}

static size_t largest_of(const struct soothe__paraphrase_sets *sets) {
    size_t n = 0;
    for (size_t i = 0; i < sets->n; i++)
        if (sets->sets[i].n_harmless + sets->sets[i].n_toxic > n)
            n = sets->sets[i].n_harmless + sets->sets[i].n_toxic;
    return n;
}

size_t soothe__whole_largest_set(const struct soothe__run *run) {
    const size_t a = largest_of(&run->whole->sets), b = largest_of(&run->whole->heldout);
    return a > b ? a : b;
}

size_t soothe__whole_n_heldout(const struct soothe__run *run) {
    return run->whole->heldout.n;
}

enum soothe_status soothe__whole_room(struct soothe__run *run, struct soothe_error *err) {
    struct soothe__whole *w = run->whole;
    int32_t               tokens, rows, heldout_rows = 0;
    soothe__batches_room(&run->corpus, &run->per_step, &tokens, &rows);
    soothe__batches_room(&run->heldout, &run->per_step, &tokens, &heldout_rows);
    rows          = heldout_rows > rows ? heldout_rows : rows;
    w->capacity   = 2 * run->per_step.n_pairs + run->per_step.n_texts;
    w->row_weight = soothe__calloc((size_t)rows, sizeof *w->row_weight);
    w->list       = soothe__calloc(w->capacity, sizeof *w->list);
    w->texts      = soothe__calloc(w->capacity, sizeof *w->texts);
    w->l          = soothe__calloc(w->capacity, sizeof *w->l);
    w->dl         = soothe__calloc(w->capacity, sizeof *w->dl);
    return w->row_weight && w->list && w->texts && w->l && w->dl
               ? SOOTHE_OK
               : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for batches of %zu texts", w->capacity);
}

/* Weights of the rows of a step's texts: the first n_plain count by their own weight over all their rows, KL rows by
 * lambda. */
static void weigh_rows(struct soothe__run *run, const struct soothe__train_batch *batch, size_t n_plain) {
    struct soothe__whole *w    = run->whole;
    int32_t               n_kl = 0, n = 0, text = 0;
    for (int32_t i = 0; i < batch->n_rows; i++)
        n_kl += batch->rows[i].kind == SOOTHE__ROW_KL;
    n = batch->n_rows - n_kl;
    for (int32_t i = 0; i < batch->n_rows; i++) {
        while (batch->rows[i].position >= batch->text_start[text + 1])
            text++;
        const bool plain = (size_t)text < n_plain;
        w->row_weight[i] = plain ? run->corpus.texts[w->list[text].i_text].weight / (float)n
                                 : (float)run->r.lambda / (float)(n_kl ? n_kl : 1);
    }
}

/* ---- soft labels ------------------------------------------------------------------------------------ */

static void soften_row(void *user, int32_t row, float *z) {
    const struct soothe__run *run = user;
    const int32_t             d   = run->files.shape.d_tgt;
    float                     h[d], u[d];
    const uint16_t           *state = run->whole->batch.h_t + (size_t)row * (size_t)d;
    for (int32_t i = 0; i < d; i++)
        h[i] = soothe__f32_from_bf16(state[i]);
    soothe__soften(&run->r.whole.soft, run->files.head, h, u, run->files.shape.n_vocab, d, z);
}

/* ---- cppl ------------------------------------------------------------------------------------------- */

/* The mean l of each of the sets' texts, from their rows; n_rows of each go to counts. */
static void mean_likelihoods(const struct soothe__train_batch *batch, const float *log_p, double *l, int32_t *counts,
                             size_t n) {
    size_t text = 0;
    memset(l, 0, n * sizeof *l);
    memset(counts, 0, n * sizeof *counts);
    for (int32_t i = 0; i < batch->n_rows; i++) {
        while (batch->rows[i].position >= batch->text_start[text + 1])
            text++;
        if (text >= n)
            break;
        l[text] -= (double)log_p[i];
        counts[text]++;
    }
    for (size_t i = 0; i < n; i++)
        l[i] /= counts[i];
}

/* The contrastive loss of the sets, plus lambda KL of the texts behind them. */
static double weigh_sets(void *user, const struct soothe__train_batch *batch, const float *log_p, const float *kl,
                         float *weight) {
    struct soothe__run   *run = user;
    struct soothe__whole *w   = run->whole;
    int32_t               counts[w->n_texts + 1], n_kl = 0;
    size_t                text = 0;
    double                loss, sum_kl = 0;
    mean_likelihoods(batch, log_p, w->l, counts, w->n_texts);
    loss = soothe__cppl_loss(&run->r.whole.loss, w->texts, w->n_texts, w->n_sets, w->l, w->dl);
    for (int32_t i = 0; i < batch->n_rows; i++)
        n_kl += batch->rows[i].kind == SOOTHE__ROW_KL;
    for (int32_t i = 0; i < batch->n_rows; i++) {
        while (batch->rows[i].position >= batch->text_start[text + 1])
            text++;
        const bool in_set = text < w->n_texts;
        weight[i]         = in_set ? (float)(w->dl[text] / counts[text]) : (float)(run->r.lambda / n_kl);
        sum_kl += in_set ? 0 : (double)kl[i];
    }
    return loss + (n_kl ? run->r.lambda * sum_kl / n_kl : 0);
}

/* Appends a set to the list of a batch. */
static void add_set(struct soothe__whole *w, const struct soothe__paraphrase_set *set) {
    for (uint32_t i = 0; i < set->n_harmless + set->n_toxic; i++) {
        w->list[w->n_texts]  = (struct soothe__batch_text){set->texts[i], SOOTHE__ROW_PLAIN, 0};
        w->texts[w->n_texts] = (struct soothe__cppl_text){(int32_t)w->n_sets, i >= set->n_harmless};
        w->n_texts++;
    }
    w->n_sets++;
}

/* ---- batches ---------------------------------------------------------------------------------------- */

enum soothe_status soothe__whole_batch(struct soothe__run *run, const struct soothe__train_batch **batch,
                                       struct soothe_error *err) {
    struct soothe__whole               *w = run->whole;
    const struct soothe__whole_request *r = &run->r.whole;
    const size_t n_kl    = run->r.objective == SOOTHE__OWN_PREFERENCE ? run->schedule.n_texts : (size_t)r->n_kl;
    const size_t n_plain = run->schedule.n_texts - n_kl;
    uint32_t     pairs[run->schedule.n_pairs + 1], texts[run->schedule.n_texts + 1];
    soothe__schedule_step(&run->schedule, run->step, pairs, texts);
    if (run->r.objective == SOOTHE__OWN_PREFERENCE)
        return soothe__batches_build(run->batches, pairs, run->schedule.n_pairs, texts, n_kl, SOOTHE__ROW_KL, batch,
                                     err);
    w->n_texts = w->n_sets = 0;
    for (uint64_t k = 0; r->cppl && k < (uint64_t)run->r.n_pairs; k++)
        add_set(w, &w->sets.sets[soothe__series_at(&w->series, (uint64_t)run->step * (uint64_t)run->r.n_pairs + k)]);
    size_t n = w->n_texts;
    for (size_t i = 0; i < run->schedule.n_texts; i++)
        w->list[n++] = (struct soothe__batch_text){texts[i], i < n_plain ? SOOTHE__ROW_PLAIN : SOOTHE__ROW_KL, 0};
    const enum soothe_status status = soothe__batches_build_texts(run->batches, w->list, n, batch, err);
    if (status)
        return status;
    w->batch = **batch;
    if (r->soft.state) {
        w->batch.soften      = soften_row;
        w->batch.soften_user = run;
    }
    if (r->cppl) {
        w->batch.weigh      = weigh_sets;
        w->batch.weigh_user = run;
    } else {
        weigh_rows(run, *batch, n_plain);
        w->batch.row_weight = w->row_weight;
    }
    *batch = &w->batch;
    return SOOTHE_OK;
}

/* ---- held-out sets ---------------------------------------------------------------------------------- */

/* Adds a batch of sets from … on to the sums. */
static enum soothe_status measure_sets(struct soothe__run *run, struct soothe__batches *batches, size_t from,
                                       size_t end, struct soothe__whole_figures *sums, size_t counts[2],
                                       struct soothe_error *err) {
    struct soothe__whole             *w = run->whole;
    const struct soothe__train_batch *batch;
    struct soothe__train_result       result;
    w->n_texts = w->n_sets = 0;
    for (size_t i = from; i < end; i++)
        add_set(w, &w->heldout.sets[i]);
    enum soothe_status status = soothe__batches_build_texts(batches, w->list, w->n_texts, &batch, err);
    if (!status)
        status = soothe__train_evaluate(run->core, batch, w->row_weight, NULL, NULL, &result, err);
    if (status)
        return status;
    int32_t rows[w->n_texts + 1];
    mean_likelihoods(batch, w->row_weight, w->l, rows, w->n_texts); /* row_weight holds log p here */
    sums->loss +=
        (double)w->n_sets * soothe__cppl_loss(&run->r.whole.loss, w->texts, w->n_texts, w->n_sets, w->l, w->dl);
    for (size_t i = 0; i < w->n_texts; i++) {
        *(w->texts[i].toxic ? &sums->toxic : &sums->harmless) += w->l[i];
        counts[w->texts[i].toxic]++;
    }
    sums->n_sets += w->n_sets;
    return SOOTHE_OK;
}

enum soothe_status soothe__whole_measure(struct soothe__run *run, struct soothe__whole_figures *f,
                                         struct soothe_error *err) {
    struct soothe__batches *batches = NULL;
    const size_t            n = run->whole->heldout.n, step = (size_t)run->r.n_pairs;
    size_t                  counts[2] = {0};
    *f                                = (struct soothe__whole_figures){.loss = NAN, .harmless = NAN, .toxic = NAN};
    if (!run->r.whole.cppl || n == 0)
        return SOOTHE_OK;
    *f                        = (struct soothe__whole_figures){0};
    enum soothe_status status = soothe__batches_new(&batches, &run->heldout, NULL, &run->per_step, err);
    for (size_t from = 0; from < n && !status; from += step) {
        const size_t end = from + step < n ? from + step : n;
        status           = run->r.stop && *run->r.stop ? soothe__fail(err, SOOTHE_E_INTERRUPTED, "stopped")
                                                       : measure_sets(run, batches, from, end, f, counts, err);
    }
    soothe__batches_free(batches);
    f->loss /= (double)n;
    f->harmless /= (double)counts[0];
    f->toxic /= (double)counts[1];
    return status;
}

void soothe__whole_states_key(const struct soothe__run *run, char hex[65]) {
    struct soothe__sha256 *h    = soothe__sha256_new();
    const char            *what = run->report->bf16 ? "states by the core in bf16" : "states by the core";
    hex[0]                      = '\0';
    if (!h)
        return;
    soothe__sha256_add(h, what, strlen(what));
    soothe__sha256_add(h, run->model_sha256, strlen(run->model_sha256));
    soothe__sha256_finish(h, hex);
}

void soothe__whole_hash(const struct soothe__run *run, struct soothe__sha256 *h) {
    const struct soothe__whole_request *r = &run->r.whole;
    char                                numbers[512];
    snprintf(numbers, sizeof numbers, "%u %d %d %d %d %.9g %d %d %d %d %d %.9g %.9g %d %d %u", r->matrices,
             r->first_block, r->end_block, r->full, r->rank, r->alpha, (int)r->form, r->n_kl, r->cppl,
             (int)r->loss.form, r->loss.log_phi, r->loss.alpha, r->loss.tau, r->loss.n_random, (int)r->set_key,
             r->set_max);
    soothe__sha256_add(h, numbers, strlen(numbers) + 1);
    if (!r->soft.state && !r->kl_apart)
        return;
    snprintf(numbers, sizeof numbers, "soft %.9g %d %.200s", (double)r->soft.strength, r->kl_apart,
             r->soft.state ? r->soft.identity : "");
    soothe__sha256_add(h, numbers, strlen(numbers) + 1);
}
