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

static enum soothe_status run_pairs(struct soothe__train_core *core, struct soothe__batches *b, size_t n_pairs,
                                    size_t step, struct soothe__heldout_result *result, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    uint32_t           indices[step];
    for (size_t from = 0; from < n_pairs && !status; from += step) {
        const struct soothe__train_batch *batch;
        struct soothe__train_result       r = {0};
        const size_t                      n = smaller(step, n_pairs - from);
        for (size_t i = 0; i < n; i++)
            indices[i] = (uint32_t)(from + i);
        status = soothe__batches_build(b, indices, n, NULL, 0, SOOTHE__ROW_PLAIN, &batch, err);
        if (!status)
            status = soothe__train_evaluate(core, batch, NULL, NULL, NULL, &r, err);
        result->n_pairs_right += (size_t)r.n_pairs_right;
    }
    result->n_pairs = n_pairs;
    return status;
}

static enum soothe_status run_texts(struct soothe__train_core *core, struct soothe__batches *b, const uint32_t *texts,
                                    size_t n_texts, size_t step, bool with_target, struct sums *sums,
                                    struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (size_t from = 0; from < n_texts && !status; from += step) {
        const struct soothe__train_batch *batch;
        status =
            soothe__batches_build(b, NULL, 0, texts + from, smaller(step, n_texts - from), SOOTHE__ROW_KL, &batch, err);
        if (batch->log_p_t) /* here the plain model's probabilities count, too */
            for (int32_t i = 0; i < batch->n_rows; i++)
                batch->log_p_t[i] = NAN;
        if (!status)
            status = add_texts(core, batch, with_target, sums, err);
    }
    return status;
}

enum soothe_status soothe__heldout(struct soothe__train_core *core, const struct soothe__corpus *corpus,
                                   struct soothe__target_states *states, const struct soothe__batches_options *options,
                                   struct soothe__heldout_result *result, struct soothe_error *err) {
    struct soothe__batches *b;
    struct sums             sums   = {0};
    const bool              target = states != NULL;
    memset(result, 0, sizeof *result);
    result->kl = result->nll = result->nll_plain = NAN;
    enum soothe_status status                    = soothe__batches_new(&b, corpus, states, options, err);
    if (status)
        return status;
    if (target && options->n_pairs)
        status = run_pairs(core, b, corpus->n_pairs, options->n_pairs, result, err);
    if (!status && options->n_texts)
        status = run_texts(core, b, corpus->singles, corpus->n_singles, options->n_texts, target, &sums, err);
    result->n_texts = corpus->n_singles;
    result->n_rows  = sums.n;
    if (sums.n) {
        result->nll       = sums.nll / (double)sums.n;
        result->nll_plain = target ? sums.nll_plain / (double)sums.n : NAN;
        result->kl        = target ? sums.kl / (double)sums.n : NAN;
    }
    soothe__batches_free(b);
    return status;
}
