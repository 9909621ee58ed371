/* SPDX-License-Identifier: Apache-2.0
 * Two models on the same texts. */
#include "eval/model_change.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "corpus/corpus.h"
#include "engine/batch.h"
#include "eval/perplexity.h"
#include "generate/shortlist.h"

/* ---- texts ------------------------------------------------------------------------------------------- */

struct pair {
    struct soothe_session *sessions[2]; /* before, after */
    struct llama_batch     batch;
    int32_t                n_vocab;
};

static enum soothe_status open_pair(struct pair *p, struct llama_model *const models[2], int32_t longest,
                                    int32_t n_threads, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    p->n_vocab                = llama_vocab_n_tokens(llama_model_get_vocab(models[0]));
    if (p->n_vocab != llama_vocab_n_tokens(llama_model_get_vocab(models[1])))
        return soothe__fail(err, SOOTHE_E_MISMATCH, "the two models have vocabularies of %d and %d tokens", p->n_vocab,
                            llama_vocab_n_tokens(llama_model_get_vocab(models[1])));
    p->batch = llama_batch_init(longest, 0, 1);
    if (!p->batch.token)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a batch");
    for (int i = 0; i < 2 && !status; i++) {
        struct soothe_session_params s = soothe_session_params_default();
        s.context.n_ctx = s.context.n_batch = s.context.n_ubatch = (uint32_t)longest;
        if (n_threads > 0)
            s.context.n_threads = s.context.n_threads_batch = n_threads;
        status = soothe_session_new(&p->sessions[i], models[i], NULL, &s, err);
    }
    return status;
}

/* One text: sums over its counted tokens, nll[2] and kl. */
static enum soothe_status run_text(struct pair *p, const struct soothe__text *t, double nll[2], double *kl,
                                   struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    p->batch.n_tokens         = 0;
    for (int32_t i = 0; i + 1 < t->n_tokens; i++)
        soothe__batch_add(&p->batch, t->tokens[i], i, 0, i + 1 >= t->first);
    for (int k = 0; k < 2 && !status; k++) {
        soothe_clear(p->sessions[k]);
        status = soothe_decode(p->sessions[k], p->batch, err);
    }
    for (int32_t i = t->first - 1; i + 1 < t->n_tokens && !status; i++) {
        const float *z[2];
        double       sum[2];
        for (int k = 0; k < 2; k++) {
            z[k]   = soothe_get_logits_ith(p->sessions[k], i);
            sum[k] = z[k] ? soothe__log_sum_exp(z[k], p->n_vocab) : (double)NAN;
            nll[k] += z[k] ? sum[k] - (double)z[k][t->tokens[i + 1]] : (double)NAN;
        }
        if (isfinite(nll[0]) && isfinite(nll[1]))
            *kl += soothe__logit_divergence(z[0], sum[0], z[1], sum[1], p->n_vocab);
        if (!isfinite(nll[0]) || !isfinite(nll[1]) || !isfinite(*kl))
            return soothe__fail(err, SOOTHE_E_NUMERIC, "the %s model gives logits that are not finite",
                                isfinite(nll[0]) ? "edited" : "original");
    }
    return status;
}

enum soothe_status soothe__model_change(struct soothe__model_change *change, struct llama_model *before,
                                        struct llama_model *after, const struct soothe__corpus *corpus,
                                        int32_t n_threads, const volatile sig_atomic_t *stop,
                                        struct soothe_error *err) {
    struct llama_model *const models[2] = {before, after};
    struct pair               p         = {.n_vocab = 0};
    int32_t                   longest   = 1;
    double                    nll[2] = {0}, kl = 0, kk = 0, kn = 0, nn = 0;
    *change = (struct soothe__model_change){.n_texts = 0};
    for (size_t i = 0; i < corpus->n_singles; i++) {
        const int32_t n = corpus->texts[corpus->singles[i]].n_tokens;
        longest         = n > longest ? n : longest;
    }
    enum soothe_status status = open_pair(&p, models, longest, n_threads, err);
    for (size_t i = 0; i < corpus->n_singles && !status; i++) {
        const struct soothe__text *t  = &corpus->texts[corpus->singles[i]];
        const double               n  = t->n_tokens - t->first;
        double                     of = 0;
        if (stop && *stop)
            status = soothe__fail(err, SOOTHE_E_INTERRUPTED, "stopped while comparing the models");
        else
            status = run_text(&p, t, nll, &of, err);
        kl += of;
        kk += of * of;
        kn += of * n;
        nn += n * n;
        change->n_tokens += (size_t)(t->n_tokens - t->first);
        change->n_texts++;
    }
    const double n = (double)change->n_tokens, m = (double)change->n_texts;
    if (!status && n > 0) {
        change->ppl_before = exp(nll[0] / n);
        change->ppl_after  = exp(nll[1] / n);
        change->kl         = kl / n;
        const double rest  = kk - 2 * change->kl * kn + change->kl * change->kl * nn; /* of a ratio, over texts */
        change->kl_error   = m > 1 && rest > 0 ? sqrt(m / (m - 1) * rest) / n : 0;
    }
    if (p.batch.token)
        llama_batch_free(p.batch);
    soothe_session_free(p.sessions[0]);
    soothe_session_free(p.sessions[1]);
    return status;
}
