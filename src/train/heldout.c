/* SPDX-License-Identifier: Apache-2.0 */
#include "train/heldout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct sums {
    double kl, nll, nll_plain;
    size_t n;
};

static enum soothe_status add_texts(struct soothe__train_core *core, const struct soothe__train_batch *batch,
                                    bool with_target, struct sums *sums, struct soothe_error *err) {
    struct soothe__train_result result;
    const size_t                n = (size_t)batch->n_rows;
    float *values = soothe__calloc(3 * n, sizeof *values), *log_p = values, *log_p_t = values + n, *kl = values + 2 * n;
    if (!values)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for held-out texts");
    const enum soothe_status status =
        soothe__train_evaluate(core, batch, log_p, with_target ? log_p_t : NULL, with_target ? kl : NULL, &result, err);
    for (size_t i = 0; i < n && !status; i++) {
        sums->nll -= (double)log_p[i];
        sums->nll_plain -= (double)log_p_t[i];
        sums->kl += (double)kl[i];
    }
    sums->n += n;
    free(values);
    return status;
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

struct measuring {
    struct soothe__train_core            *core;
    struct soothe__batches               *batches;
    const struct soothe__corpus          *corpus;
    const struct soothe__batches_options *options; /* size of a batch */
    bool                                  with_target;
    const volatile sig_atomic_t          *stop;
};

static enum soothe_status check_stop(const struct measuring *m, struct soothe_error *err) {
    return m->stop && *m->stop ? soothe__fail(err, SOOTHE_E_INTERRUPTED, "stopped") : SOOTHE_OK;
}

static enum soothe_status run_pairs(const struct measuring *m, struct soothe__heldout_result *result,
                                    struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    const size_t       step = m->options->n_pairs, n_pairs = m->corpus->n_pairs;
    uint32_t           indices[step + 1];
    for (size_t from = 0; from < n_pairs && !status; from += step) {
        const struct soothe__train_batch *batch;
        struct soothe__train_result       r = {0};
        const size_t                      n = smaller(step, n_pairs - from);
        for (size_t i = 0; i < n; i++)
            indices[i] = (uint32_t)(from + i);
        status = check_stop(m, err);
        if (!status)
            status = soothe__batches_build(m->batches, indices, n, NULL, 0, SOOTHE__ROW_PLAIN, &batch, err);
        if (!status)
            status = soothe__train_evaluate(m->core, batch, NULL, NULL, NULL, &r, err);
        result->n_pairs_right += (size_t)r.n_pairs_right;
    }
    result->n_pairs = n_pairs;
    return status;
}

static enum soothe_status run_texts(const struct measuring *m, const uint32_t *texts, size_t n_texts, struct sums *sums,
                                    struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    const size_t       step   = m->options->n_texts;
    for (size_t from = 0; from < n_texts && !status; from += step) {
        const struct soothe__train_batch *batch;
        const size_t                      n = smaller(step, n_texts - from);
        status                              = check_stop(m, err);
        if (!status)
            status = soothe__batches_build(m->batches, NULL, 0, texts + from, n,
                                           m->with_target ? SOOTHE__ROW_KL : SOOTHE__ROW_PLAIN, &batch, err);
        if (status)
            return status;
        if (batch->log_p_t) /* here the plain model's probabilities count, too */
            for (int32_t i = 0; i < batch->n_rows; i++)
                batch->log_p_t[i] = NAN;
        status = add_texts(m->core, batch, m->with_target, sums, err);
    }
    return status;
}

/* The pairs' chosen sides count as texts. */
static enum soothe_status run_chosen(const struct measuring *m, struct sums *sums, struct soothe_error *err) {
    const size_t n      = m->corpus->n_pairs;
    uint32_t    *chosen = soothe__calloc(n, sizeof *chosen);
    if (!chosen)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu held-out texts", n);
    for (size_t i = 0; i < n; i++)
        chosen[i] = m->corpus->pairs[i].i_chosen;
    const enum soothe_status status = run_texts(m, chosen, n, sums, err);
    free(chosen);
    return status;
}

enum soothe_status soothe__heldout(struct soothe__train_core *core, const struct soothe__corpus *corpus,
                                   struct soothe__target_states *states, const struct soothe__batches_options *options,
                                   const volatile sig_atomic_t *stop, struct soothe__heldout_result *result,
                                   struct soothe_error *err) {
    struct sums      sums   = {0};
    const bool       target = states != NULL, chosen = !target && corpus->n_singles == 0;
    struct measuring m = {.core = core, .corpus = corpus, .options = options, .with_target = target, .stop = stop};
    memset(result, 0, sizeof *result);
    result->kl = result->nll = result->nll_plain = NAN;
    enum soothe_status status                    = soothe__batches_new(&m.batches, corpus, states, options, err);
    if (status)
        return status;
    if (target && options->n_pairs)
        status = run_pairs(&m, result, err);
    if (!status && options->n_texts)
        status = chosen ? run_chosen(&m, &sums, err) : run_texts(&m, corpus->singles, corpus->n_singles, &sums, err);
    result->n_texts = chosen ? corpus->n_pairs : corpus->n_singles;
    result->n_rows  = sums.n;
    if (sums.n) {
        result->nll       = sums.nll / (double)sums.n;
        result->nll_plain = target ? sums.nll_plain / (double)sums.n : NAN;
        result->kl        = target ? sums.kl / (double)sums.n : NAN;
    }
    soothe__batches_free(m.batches);
    return status;
}
