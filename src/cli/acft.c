/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/acft.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/result.h"
#include "cli/speak.h"
#include "corpus/corpus.h"
#include "engine/target_model.h"

/* ---- options ---------------------------------------------------------------------------------------------------- */

const char *soothe__acft_given(const struct soothe__acft *acft) {
    return acft->nado      ? "--nado"
           : acft->power   ? "--power"
           : acft->bellman ? "--bellman"
           : acft->epochs  ? "--epochs"
                           : NULL;
}

static bool read_options(const struct soothe__acft *acft, const char *command, struct soothe__nado_options *o,
                         float *strength) {
    *o        = soothe__nado_options_default();
    *strength = 1;
    return soothe__read_float(strength, acft->power, command, "--power", 0, 100) &&
           soothe__read_float(&o->bellman, acft->bellman, command, "--bellman", 0, 100) &&
           soothe__read_int(&o->n_epochs, acft->epochs, command, "--epochs", 1, 1000);
}

int soothe__acft_check(const struct soothe__acft *acft, const struct soothe__own_corpus *own, const char *command) {
    struct soothe__nado_options o;
    float                       strength;
    const char                 *other = own->n_unprompted    ? "--unprompted"
                                        : own->keep_share    ? "--keep-share"
                                        : own->clean_to      ? "--clean-to"
                                        : own->control       ? "--control"
                                        : own->neutral       ? "--neutral"
                                        : own->neutral_share ? "--neutral-share"
                                                             : NULL;
    if (other)
        return soothe__print_misuse(command, "%s is not for --objective acft, whose other texts are --data", other);
    if (!own->prompts)
        return soothe__print_misuse(command, "--objective acft needs --prompts: what the model goes on from");
    if (acft->nado && (acft->bellman || acft->epochs))
        return soothe__print_misuse(command, "%s trains a head, but --nado names one",
                                    acft->bellman ? "--bellman" : "--epochs");
    return read_options(acft, command, &o, &strength) ? -1 : SOOTHE__EXIT_MISUSE;
}

/* ---- the samples as texts for KL alone ----------------------------------------------------------------------------
 */

/* What is scored or not does not matter here: all of them are the model's own. */
static bool write_kl_text(FILE *out, const char *line, size_t size, size_t *n) {
    json_t     *row        = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    const char *prompt     = json_string_value(json_object_get(row, "prompt"));
    const char *completion = json_string_value(json_object_get(row, "completion"));
    bool        ok         = true;
    if (prompt && completion && completion[strspn(completion, " \t\r\n")]) {
        json_t *text = json_pack("{s:s, s:s, s:i}", "prompt", prompt, "completion", completion, "weight", 0);
        ok           = text && json_dumpf(text, out, JSON_COMPACT) == 0 && fputc('\n', out) != EOF;
        json_decref(text);
        (*n)++;
    }
    json_decref(row);
    return ok;
}

static enum soothe_status write_kl_texts(struct soothe__acft *acft, const char *samples, struct soothe_error *err) {
    struct soothe__lines   *lines;
    struct soothe__new_file out = {0};
    char                   *line;
    size_t                  size;
    bool                    too_long, ok = true;
    enum soothe_status      status = soothe__lines_open(&lines, samples, err);
    if (status)
        return status;
    status = soothe__new_file_open(&out, acft->kl_path, err);
    while (!status && ok && !(status = soothe__lines_next(lines, &line, &size, &too_long, err)) && line)
        ok = too_long || write_kl_text(out.stream, line, size, &acft->n_kl_texts);
    soothe__lines_close(lines, NULL);
    if (!status && !ok)
        status = soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", acft->kl_path, strerror(errno ? errno : EIO));
    if (!status)
        status = soothe__new_file_commit(&out, err);
    soothe__new_file_abort(&out);
    return status;
}

/* ---- the head -----------------------------------------------------------------------------------------------------
 */

/* A head that this run has trained before, on the same samples with the same options? */
static bool is_there(const char *path, const char *key) {
    struct soothe__gguf g;
    if (!soothe__file_exists(path) || soothe__gguf_open(&g, path, NULL))
        return false;
    const char *of   = soothe__gguf_find_string(&g, "soothe.training.acft.key");
    const bool  same = of && strcmp(of, key) == 0;
    soothe__gguf_close(&g);
    return same;
}

static enum soothe_status write_head(struct soothe__acft *acft, const char *model_path, const char *key,
                                     const struct soothe__nado_options *o, struct soothe_error *err) {
    struct soothe__gguf        g;
    struct soothe__model_facts facts;
    const struct soothe__fact  learnt[] = {{"soothe.training.acft.key", key, 0},
                                           {"soothe.training.seed", NULL, (double)o->seed},
                                           {"soothe.training.epochs", NULL, (double)o->n_epochs},
                                           {"soothe.training.bellman", NULL, (double)o->bellman},
                                           {"soothe.training.n_samples", NULL, (double)acft->report.n_train},
                                           {"soothe.training.result.loss_base", NULL, acft->report.loss[0]},
                                           {"soothe.training.result.loss", NULL, acft->report.loss[1]},
                                           {"soothe.training.result.auc_20", NULL, acft->report.auc[3]}};
    enum soothe_status         status   = soothe__gguf_open(&g, model_path, err);
    if (!status)
        status = soothe__model_facts(&facts, &g, err);
    if (!status)
        status = soothe__model_fingerprint(acft->head->target, &g, err);
    acft->head->strength = acft->strength;
    if (!status)
        status =
            soothe__nado_write(acft->head_path, acft->head, facts.name, learnt, sizeof learnt / sizeof *learnt, err);
    soothe__gguf_close(&g);
    return status;
}

static enum soothe_status train_head(struct soothe__acft *acft, const char *model_path, const char *key,
                                     const struct soothe__nado_options *o, struct soothe_error *err) {
    struct llama_model *model = NULL;
    char                sha256[65];
    enum soothe_status  status = soothe__target_load(&model, model_path, 0, err);
    if (!status)
        status = soothe__nado_train(&acft->head, &acft->report, model, model_path, o, sha256, err);
    llama_model_free(model);
    acft->trained = !status;
    if (!status)
        status = write_head(acft, model_path, key, o, err);
    soothe__nado_free(acft->head);
    acft->head = NULL;
    return status;
}

/* The user's, this run's of before, or a new one: read back from its file in any case. */
static enum soothe_status find_head(struct soothe__acft *acft, const struct soothe__own_corpus *own,
                                    const struct soothe__train_request *r, struct soothe__nado_options *o,
                                    struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    char               key[160];
    snprintf(key, sizeof key, "%s %.9g %d %u", own->samples_sha256, (double)o->bellman, o->n_epochs, (unsigned)r->seed);
    acft->head_path = acft->nado ? soothe__strdup(acft->nado) : soothe__format("%s.nado.gguf", r->out_path);
    if (!acft->head_path)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    o->samples_path  = own->samples_path;
    o->n_threads     = r->n_threads;
    o->seed          = (uint32_t)r->seed;
    o->show_progress = true;
    o->stop          = r->stop;
    if (!acft->nado && !is_there(acft->head_path, key))
        status = train_head(acft, r->model_path, key, o, err);
    if (!status)
        status = soothe__nado_open(&acft->head, acft->head_path, r->model_path, err);
    return status ? status : soothe__sha256_file(acft->head_sha256, acft->head_path, err);
}

static float state(const void *head, const float *h, float *u) {
    return soothe__nado_state(head, h, u);
}

static enum soothe_status fill_request(struct soothe__acft *acft, const struct soothe__own_corpus *own,
                                       struct soothe__train_request *r, struct soothe_error *err) {
    const struct soothe__fact facts[] = {{"acft.samples_sha256", own->samples_sha256, 0},
                                         {"acft.head_sha256", acft->head_sha256, 0},
                                         {"acft.power", NULL, (double)acft->strength},
                                         {"acft.n_kl_texts", NULL, (double)acft->n_kl_texts},
                                         {"acft.kl_texts_per_step", NULL, (double)(r->whole.n_kl ? r->whole.n_kl : 8)}};
    acft->data                        = soothe__calloc(r->n_data + 1, sizeof *acft->data);
    if (!acft->data)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    memcpy(acft->data, r->data_paths, r->n_data * sizeof *acft->data);
    acft->data[r->n_data++] = acft->kl_path;
    r->data_paths           = acft->data;
    memcpy(acft->facts, facts, sizeof facts);
    r->facts          = acft->facts;
    r->n_facts        = sizeof facts / sizeof *facts;
    r->whole.n_kl     = r->whole.n_kl ? r->whole.n_kl : 8;
    r->whole.kl_apart = true;
    r->whole.soft     = (struct soothe__soft_labels){state, acft->head, acft->strength, acft->head_sha256};
    return SOOTHE_OK;
}

enum soothe_status soothe__acft_make(struct soothe__acft *acft, struct soothe__own_corpus *own,
                                     struct soothe__train_request *r, struct soothe_error *err) {
    struct soothe__nado_options o;
    if (!read_options(acft, "tune", &o, &acft->strength))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "options that are no numbers");
    acft->kl_path = soothe__format("%s.kl.jsonl", r->out_path);
    if (!acft->kl_path)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    enum soothe_status status = acft->nado ? soothe__nado_open(&acft->head, acft->nado, r->model_path, err) : SOOTHE_OK;
    soothe__nado_free(acft->head); /* only looked at, before hours of sampling */
    acft->head = NULL;
    if (!status)
        status = soothe__own_corpus_sample(own, r, err);
    if (!status)
        status = write_kl_texts(acft, own->samples_path, err);
    if (!status)
        status = find_head(acft, own, r, &o, err);
    return status ? status : fill_request(acft, own, r, err);
}

/* ---- telling ------------------------------------------------------------------------------------------------------
 */

json_t *soothe__acft_json(const struct soothe__acft *acft, const struct soothe__own_corpus *own) {
    json_t *o = json_pack("{s:s, s:s, s:s, s:f, s:I, s:n}", "samples_file", own->samples_path, "kl_file", acft->kl_path,
                          "head_file", acft->head_path, "power", (double)acft->strength, "n_kl_texts",
                          (json_int_t)acft->n_kl_texts, "head");
    const struct soothe__nado_report *r = &acft->report;
    if (acft->trained)
        json_object_set_new(o, "head",
                            json_pack("{s:I, s:I, s:I, s:o, s:o, s:[oooo]}", "samples", (json_int_t)r->n_train,
                                      "held_out_samples", (json_int_t)r->n_held_out, "held_out_toxic",
                                      (json_int_t)r->n_toxic_held_out, "loss_of_base_rate",
                                      soothe__json_number(r->loss[0]), "loss", soothe__json_number(r->loss[1]), "auc",
                                      soothe__json_number(r->auc[0]), soothe__json_number(r->auc[1]),
                                      soothe__json_number(r->auc[2]), soothe__json_number(r->auc[3])));
    return o;
}

void soothe__acft_print(const struct soothe__acft *acft) {
    printf("  soft labels     on %zu own samples, success head %s", acft->n_kl_texts, acft->head_path);
    if (acft->trained)
        printf(" (AUC %.3f after 20 tokens, loss %.4f, of the base rate %.4f)", acft->report.auc[3],
               acft->report.loss[1], acft->report.loss[0]);
    printf("\n");
}

void soothe__acft_free(struct soothe__acft *acft) {
    char *const texts[] = {acft->nado, acft->power, acft->bellman, acft->epochs, acft->kl_path, acft->head_path};
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
    soothe__nado_free(acft->head);
    free(acft->data);
}
