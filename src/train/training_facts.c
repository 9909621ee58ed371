/* SPDX-License-Identifier: Apache-2.0 */
#include "train/training_facts.h"

#include <math.h>
#include <string.h>

static void add_fact(struct soothe__training_facts *f, const char *key, const char *text, double number) {
    if (f->n == SOOTHE__FACTS_MAX || (!text && !isfinite(number)))
        return;
    snprintf(f->keys[f->n], sizeof f->keys[f->n], "soothe.training.%s", key);
    f->list[f->n] = (struct soothe__fact){f->keys[f->n], text, number};
    f->n++;
}

static const char *file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void add_sources(struct soothe__training_facts *f, const char *kind, const struct soothe__corpus *c) {
    for (size_t i = 0; i < c->n_sources; i++) {
        char key[40];
        snprintf(key, sizeof key, "%s.%zu.file", kind, i);
        add_fact(f, key, file_name(c->sources[i].path), 0);
        snprintf(key, sizeof key, "%s.%zu.sha256", kind, i);
        add_fact(f, key, c->sources[i].sha256, 0);
    }
}

void soothe__training_facts(struct soothe__training_facts *f, const struct soothe__train_request *r,
                            const struct soothe__train_report *p, const struct soothe__corpus *corpus,
                            const struct soothe__corpus *heldout, const char *run_hash) {
    f->n = 0;
    add_fact(f, "objective", soothe__objective_name(r->objective), 0);
    if (r->objective == SOOTHE__LM_STEER)
        add_fact(f, "rank", NULL, r->rank);
    add_fact(f, "precision", p->bf16 ? "bf16" : "f32", 0);
    add_fact(f, "run_sha256", run_hash, 0);
    add_fact(f, "seed", NULL, (double)r->seed);
    add_fact(f, "steps", NULL, r->n_steps);
    add_fact(f, "pairs_per_step", NULL, r->n_pairs);
    add_fact(f, "texts_per_step", NULL, r->n_texts);
    add_fact(f, "max_length", NULL, r->max_length);
    add_fact(f, "rate_blocks", NULL, r->lr_blocks);
    add_fact(f, "rate_fusion", NULL, r->lr_fusion);
    add_fact(f, "kappa", NULL, r->kappa);
    add_fact(f, "lambda", NULL, r->lambda);
    add_fact(f, "weight_decay", NULL, r->weight_decay);
    add_fact(f, "clip", NULL, r->clip);
    add_fact(f, "n_pairs", NULL, (double)p->n_pairs);
    add_fact(f, "n_texts", NULL, (double)p->n_texts);
    add_fact(f, "loss", NULL, p->loss);
    add_fact(f, "result.n_pairs", NULL, (double)p->n_heldout_pairs);
    add_fact(f, "result.n_texts", NULL, (double)p->n_heldout_texts);
    add_fact(f, "result.pairs_right", NULL, p->pairs_right);
    add_fact(f, "result.kl", NULL, p->kl);
    add_fact(f, "result.nll", NULL, p->nll);
    add_fact(f, "result.nll_plain", NULL, p->nll_plain);
    add_sources(f, "data", corpus);
    add_sources(f, "heldout", heldout);
}
