/* SPDX-License-Identifier: Apache-2.0 */
#include "train/training_facts.h"

#include <math.h>

void soothe__training_fact_add(struct soothe__training_facts *f, const char *key, const char *text, double number) {
    if (f->n == SOOTHE__FACTS_MAX || (!text && !isfinite(number)))
        return;
    snprintf(f->keys[f->n], sizeof f->keys[f->n], "soothe.training.%s", key);
    f->list[f->n] = (struct soothe__fact){f->keys[f->n], text, number};
    f->n++;
}

static void add_sources(struct soothe__training_facts *f, const char *kind, const struct soothe__corpus *c) {
    for (size_t i = 0; i < c->n_sources; i++) {
        char key[40];
        snprintf(key, sizeof key, "%s.%zu.file", kind, i);
        soothe__training_fact_add(f, key, soothe__file_name(c->sources[i].path), 0);
        snprintf(key, sizeof key, "%s.%zu.sha256", kind, i);
        soothe__training_fact_add(f, key, c->sources[i].sha256, 0);
    }
}

void soothe__training_facts(struct soothe__training_facts *f, const struct soothe__train_request *r,
                            const struct soothe__train_report *p, const struct soothe__corpus *corpus,
                            const struct soothe__corpus *heldout, const char *run_hash) {
    f->n = 0;
    soothe__training_fact_add(f, "objective", soothe__objective_name(r->objective), 0);
    if (r->objective == SOOTHE__LM_STEER)
        soothe__training_fact_add(f, "rank", NULL, r->rank);
    soothe__training_fact_add(f, "precision", p->bf16 ? "bf16" : "f32", 0);
    soothe__training_fact_add(f, "run_sha256", run_hash, 0);
    soothe__training_fact_add(f, "seed", NULL, (double)r->seed);
    soothe__training_fact_add(f, "steps", NULL, r->n_steps);
    soothe__training_fact_add(f, "pairs_per_step", NULL, r->n_pairs);
    soothe__training_fact_add(f, "texts_per_step", NULL, r->n_texts);
    soothe__training_fact_add(f, "max_length", NULL, r->max_length);
    soothe__training_fact_add(f, "rate_blocks", NULL, r->lr_blocks);
    soothe__training_fact_add(f, "rate_fusion", NULL, r->lr_fusion);
    soothe__training_fact_add(f, "kappa", NULL, r->kappa);
    soothe__training_fact_add(f, "lambda", NULL, r->lambda);
    soothe__training_fact_add(f, "weight_decay", NULL, r->weight_decay);
    soothe__training_fact_add(f, "clip", NULL, r->clip);
    soothe__training_fact_add(f, "n_pairs", NULL, (double)p->n_pairs);
    soothe__training_fact_add(f, "n_texts", NULL, (double)p->n_texts);
    soothe__training_fact_add(f, "loss", NULL, p->loss);
    soothe__training_fact_add(f, "result.n_pairs", NULL, (double)p->n_heldout_pairs);
    soothe__training_fact_add(f, "result.n_texts", NULL, (double)p->n_heldout_texts);
    soothe__training_fact_add(f, "result.pairs_right", NULL, p->pairs_right);
    soothe__training_fact_add(f, "result.kl", NULL, p->kl);
    soothe__training_fact_add(f, "result.nll", NULL, p->nll);
    soothe__training_fact_add(f, "result.nll_plain", NULL, p->nll_plain);
    add_sources(f, "data", corpus);
    add_sources(f, "heldout", heldout);
}
