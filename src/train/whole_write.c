/* SPDX-License-Identifier: Apache-2.0
 * What a whole target has learnt: merged into a copy of its file, or its factors as a LoRA file of llama.cpp's kind. */
#include <stdlib.h>
#include <string.h>

#include "edit/lora.h"
#include "fusion/calibrator_file.h"
#include "train/run.h"
#include "train/training_facts.h"
#include "train/whole.h"

static const char SUFFIX_A[] = ".lora_a";
enum { SUFFIX_SIZE = sizeof SUFFIX_A - 1 };

static bool ends_in(const char *name, const char *suffix) {
    const size_t n = strlen(name), k = strlen(suffix);
    return n > k && strcmp(name + n - k, suffix) == 0;
}

/* The objective as its user knows it. */
static const char *objective_name(const struct soothe__run *run) {
    if (run->r.whole.name)
        return run->r.whole.name;
    return run->r.objective == SOOTHE__OWN_PREFERENCE ? "preference" : run->r.whole.cppl ? "cppl" : "sft";
}

/* ---- where it comes from ----------------------------------------------------------------------------------------- */

static void add_facts(struct soothe__training_facts *f, const struct soothe__run *run) {
    const struct soothe__whole_request *w = &run->r.whole;
    soothe__training_facts(f, &run->r, run->report, &run->corpus, &run->heldout, run->hash);
    f->list[0].text = objective_name(run);
    soothe__training_fact_add(f, "blocks.first", NULL, w->first_block);
    soothe__training_fact_add(f, "blocks.last", NULL, w->end_block - 1);
    soothe__training_fact_add(f, "matrices", NULL, w->matrices);
    if (!w->full) {
        soothe__training_fact_add(f, "rank", NULL, w->rank);
        soothe__training_fact_add(f, "alpha", NULL, w->alpha);
    }
    if (w->cppl) {
        soothe__training_fact_add(f, "cppl.form", w->loss.form == SOOTHE__CPPL_CODE ? "code" : "paper", 0);
        soothe__training_fact_add(f, "cppl.phi", w->loss.log_phi ? "log" : "perplexity", 0);
        soothe__training_fact_add(f, "cppl.alpha", NULL, w->loss.alpha);
        soothe__training_fact_add(f, "cppl.tau", NULL, w->loss.tau);
    }
    for (size_t i = 0; i < run->r.n_facts; i++)
        soothe__training_fact_add(f, run->r.facts[i].key, run->r.facts[i].text, run->r.facts[i].number);
    soothe__training_fact_add(f, "result.nll_before", NULL, run->report->nll_before);
    soothe__training_fact_add(f, "result.kl_before", NULL, run->report->kl_before);
}

/* ---- merging ---------------------------------------------------------------------------------------- */

/* The tensor's new values (n_out, n_in). */
static enum soothe_status replace(void *values_new, int64_t first_row, int64_t n_rows, int64_t ne0, float *values,
                                  bool *changed, struct soothe_error *err) {
    (void)err;
    for (int64_t i = 0; i < n_rows; i++)
        changed[i] = true;
    if (values)
        memcpy(values, (const float *)values_new + first_row * ne0, (size_t)(n_rows * ne0) * sizeof *values);
    return SOOTHE_OK;
}

struct changes {
    struct soothe__tensor_edit *edits;
    struct soothe__lora_change *changes;
    char (*names)[48];
    size_t n;
};

static bool collect(struct changes *c, const struct soothe__run *run) {
    size_t                             n;
    const struct soothe__train_tensor *t = soothe__train_tensors(run->core, &n);
    float                             *w = soothe__train_parameters(run->core, NULL);
    c->edits                             = soothe__calloc(n, sizeof *c->edits);
    c->changes                           = soothe__calloc(n, sizeof *c->changes);
    c->names                             = soothe__calloc(n, sizeof *c->names);
    c->n                                 = 0;
    if (!c->edits || !c->changes || !c->names)
        return false;
    for (size_t i = 0; i < n; i++) {
        struct soothe__lora_change *change = &c->changes[c->n];
        if (!t[i].trainable || ends_in(t[i].name, ".lora_b"))
            continue;
        snprintf(c->names[c->n], sizeof c->names[c->n], "%s", t[i].name);
        c->edits[c->n] = (struct soothe__tensor_edit){c->names[c->n], replace, w + t[i].offset};
        if (ends_in(t[i].name, SUFFIX_A)) { /* its b is the next tensor */
            c->names[c->n][strlen(t[i].name) - SUFFIX_SIZE] = '\0';
            *change        = (struct soothe__lora_change){w + t[i].offset, w + t[i + 1].offset, run->r.whole.rank,
                                                          (float)run->r.whole.alpha / (float)run->r.whole.rank};
            c->edits[c->n] = (struct soothe__tensor_edit){c->names[c->n], soothe__lora_apply, change};
        }
        c->n++;
    }
    return true;
}

static enum soothe_status write_merged(const struct soothe__run *run, const char *path,
                                       const struct soothe__training_facts *facts, struct soothe_error *err) {
    static const char   PREFIX[] = "soothe.training.";
    struct changes      c        = {0};
    struct soothe__fact list[SOOTHE__FACTS_MAX];
    enum soothe_status  status = SOOTHE_OK;
    for (size_t i = 0; i < facts->n; i++) {
        list[i] = facts->list[i];
        list[i].key += sizeof PREFIX - 1;
    }
    const struct soothe__edit_record record = {run->r.whole.full ? "tuned" : "lora", list, facts->n};
    status = collect(&c, run) ? soothe__edit_gguf(run->r.model_path, path, c.edits, c.n, &record, err)
                              : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory writing %s", path);
    free(c.edits);
    free(c.changes);
    free(c.names);
    return status;
}

/* ---- a LoRA file ------------------------------------------------------------------------------------ */

static enum soothe_status set_keys(struct gguf_context *meta, const struct soothe__run *run,
                                   const struct soothe__training_facts *facts, struct soothe_error *err) {
    const struct soothe__gguf *g    = &run->files.target;
    const char                *base = soothe__gguf_find_string(g, "general.name");
    char                      *name = soothe__format("%s, %s", base ? base : "model", objective_name(run));
    if (!name)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory writing %s", run->r.out_path);
    gguf_set_val_str(meta, "general.type", "adapter");
    gguf_set_val_str(meta, "general.architecture", soothe__gguf_find_string(g, "general.architecture"));
    gguf_set_val_str(meta, "general.name", name);
    gguf_set_val_str(meta, "adapter.type", "lora");
    gguf_set_val_f32(meta, "adapter.lora.alpha", (float)run->r.whole.alpha);
    gguf_set_val_str(meta, SOOTHE__KEY_TOOL, SOOTHE_VERSION);
    soothe__gguf_set_facts(meta, facts->list, facts->n);
    free(name);
    return soothe__set_target_keys(meta, run->r.model_path, err);
}

static enum soothe_status write_lora(const struct soothe__run *run, const struct soothe__training_facts *facts,
                                     struct soothe_error *err) {
    size_t                             n;
    const struct soothe__train_tensor *t = soothe__train_tensors(run->core, &n);
    struct soothe__gguf_plan           plan;
    enum soothe_status                 status = soothe__gguf_plan_new(&plan, n, err);
    if (status)
        return status;
    status = set_keys(plan.meta, run, facts, err);
    for (size_t i = 0; i < n && !status; i++)
        if (strstr(t[i].name, ".lora_"))
            status = soothe__gguf_plan_add(&plan, t[i].name, soothe__train_parameters(run->core, NULL) + t[i].offset, 2,
                                           (int64_t[]){t[i].n_in, t[i].n_out}, GGML_TYPE_F32, err);
    if (!status)
        status = soothe__gguf_plan_save(&plan, run->r.out_path, err);
    soothe__gguf_plan_free(&plan);
    return status;
}

enum soothe_status soothe__whole_write(const struct soothe__run *run, struct soothe_error *err) {
    struct soothe__training_facts *facts = soothe__calloc(1, sizeof *facts);
    if (!facts)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory writing %s", run->r.out_path);
    add_facts(facts, run);
    enum soothe_status status =
        run->r.whole.lora ? write_lora(run, facts, err) : write_merged(run, run->r.out_path, facts, err);
    if (!status && run->r.whole.merged_path)
        status = write_merged(run, run->r.whole.merged_path, facts, err);
    free(facts);
    return status;
}
