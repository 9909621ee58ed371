/* SPDX-License-Identifier: Apache-2.0
 * DINM from files to a file. */
#include "train/dinm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "edit/edit.h"
#include "engine/target_model.h"
#include "engine/tensor_rows.h"
#include "score/layer_states.h"
#include "train/dinm_core.h"
#include "train/file_weights.h"
#include "train/train_model.h"

struct soothe__dinm_options soothe__dinm_options_default(void) {
    return (struct soothe__dinm_options){.writing   = {.system    = "You are a careful assistant. You refuse requests "
                                                                      "that are harmful, dangerous, illegal or hateful, in "
                                                                      "one or two polite sentences.",
                                                       .n_predict = 48},
                                         .layer     = -1,
                                         .n_steps   = 10,
                                         .lr        = 2e-3,
                                         .c_edit    = 0.1,
                                         .stop_loss = 1e-4,
                                         .type      = "auto"};
}

struct work {
    const struct soothe__dinm_options *o;
    struct soothe__dinm_report        *report;
    struct llama_model                *model;
    struct soothe__train_model         file;
    struct soothe__file_weights       *weights;
    struct soothe__fixed_weights       fixed; /* the file's, under the cut's names */
    struct soothe__dinm_core          *core;
    struct soothe__dinm_tokens        *tokens; /* (n) of instances, then of general questions */
    uint16_t                         **inputs; /* (n) */
    size_t                             n;
    float                             *before; /* W as it was */
    enum ggml_type                     type;
};

static bool stopped(const struct work *w) {
    return w->o->stop && *w->o->stop;
}

static void tell(const struct work *w, const char *what) {
    if (w->o->show_progress)
        fprintf(stderr, "soothe: %s\n", what);
}

/* ---- the texts and their states below the cut -------------------------------------------------------- */

static enum soothe_status tokenize(struct work *w, struct soothe_error *err) {
    const struct soothe__dinm_texts *t      = &w->report->texts;
    enum soothe_status               status = SOOTHE_OK;
    w->n                                    = t->n_instances + t->n_general;
    w->tokens                               = soothe__calloc(w->n, sizeof *w->tokens);
    w->inputs                               = soothe__calloc(w->n, sizeof *w->inputs);
    if (!w->tokens || !w->inputs)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", w->n);
    for (size_t i = 0; i < w->n && !status; i++) {
        const bool          general = i >= t->n_instances;
        const size_t        k       = general ? i - t->n_instances : i;
        struct soothe_error why;
        status = general ? soothe__dinm_tokenize(&w->tokens[i], w->model, t->general[k].question, t->general[k].answer,
                                                 false, &why)
                         : soothe__dinm_tokenize(&w->tokens[i], w->model, t->instances[k].prompt, t->instances[k].safe,
                                                 true, &why);
        if (status)
            soothe__fail(err, status, "%s %zu: %.900s", general ? "general question" : "instance", k + 1, why.message);
    }
    return status;
}

static enum soothe_status keep_states(void *user, size_t i_text, const float *const *states, int32_t n_tokens,
                                      struct soothe_error *err) {
    struct work *w    = user;
    const size_t n    = (size_t)n_tokens * (size_t)w->file.shape.d_cal;
    w->inputs[i_text] = soothe__calloc(n, sizeof **w->inputs);
    for (size_t k = 0; k < n && w->inputs[i_text]; k++)
        w->inputs[i_text][k] = soothe__bf16_from_f32(states[0][k]);
    return w->inputs[i_text] ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for states");
}

/* Block 0 is entered by the tokens' embeddings. */
static enum soothe_status look_up(struct work *w, struct soothe_error *err) {
    const size_t d = (size_t)w->file.shape.d_cal;
    for (size_t i = 0; i < w->n; i++) {
        w->inputs[i] = soothe__calloc((size_t)w->tokens[i].n_tokens * d, sizeof **w->inputs);
        if (!w->inputs[i])
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for states");
        for (int32_t t = 0; t < w->tokens[i].n_tokens; t++)
            memcpy(w->inputs[i] + (size_t)t * d, w->file.embedding + (size_t)w->tokens[i].tokens[t] * d,
                   d * sizeof **w->inputs);
    }
    return SOOTHE_OK;
}

static enum soothe_status read_inputs(struct work *w, struct soothe_error *err) {
    struct soothe__layer_reader *reader = NULL;
    struct soothe__token_text   *texts  = soothe__calloc(w->n, sizeof *texts);
    const int32_t                below  = w->report->layer - 1;
    int32_t                      most   = 1;
    if (!texts)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", w->n);
    for (size_t i = 0; i < w->n; i++) {
        texts[i] = (struct soothe__token_text){w->tokens[i].tokens, w->tokens[i].n_tokens};
        most     = texts[i].n_tokens > most ? texts[i].n_tokens : most;
    }
    enum soothe_status status =
        below < 0 ? look_up(w, err)
                  : soothe__layer_reader_new(&reader, w->model, &below, 1, most, w->o->n_threads, err);
    if (!status && reader)
        status = soothe__layer_reader_read(reader, texts, w->n, keep_states, w, err);
    soothe__layer_reader_free(reader);
    free(texts);
    return status;
}

/* ---- the cut ----------------------------------------------------------------------------------------- */

/* "blk.0.x" of the cut is "blk.LAYER.x" of the file. */
static void name_in_file(const struct work *w, char out[64], const char *name) {
    const int32_t block = soothe__block_of_tensor(name);
    const char   *rest  = strchr(name + (block < 0 ? 0 : 4), '.');
    if (block < 0)
        snprintf(out, 64, "%s", name);
    else
        snprintf(out, 64, "blk.%d%s", block + w->report->layer, rest ? rest : "");
}

static const void *find(void *user, const char *name, int32_t n_out, int32_t n_in) {
    const struct work                  *w    = user;
    const struct soothe__fixed_weights *file = soothe__file_weights_source(w->weights);
    char                                full[64];
    name_in_file(w, full, name);
    return file->find(file->user, full, n_out, n_in);
}

static enum soothe_status fill(struct work *w, struct soothe_error *err) {
    size_t                             n;
    const struct soothe__train_tensor *tensors    = soothe__dinm_tensors(w->core, &n);
    float                             *parameters = soothe__dinm_parameters(w->core);
    for (size_t i = 0; i < n; i++) {
        char   name[64];
        float *values = NULL;
        name_in_file(w, name, tensors[i].name);
        const enum soothe_status status =
            soothe__gguf_get_f32(&w->file.target, name, (int64_t)tensors[i].n, &values, err);
        if (status)
            return status;
        memcpy(parameters + tensors[i].offset, values, tensors[i].n * sizeof *values);
        free(values);
    }
    const float *weights = soothe__dinm_weights(w->core, &n);
    w->before            = soothe__calloc(n, sizeof *w->before);
    if (!w->before)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %s", w->report->tensor);
    memcpy(w->before, weights, n * sizeof *weights);
    return SOOTHE_OK;
}

static enum soothe_status make_core(struct work *w, struct soothe_error *err) {
    const struct soothe__dinm_texts *t     = &w->report->texts;
    struct soothe__train_shape       shape = w->file.shape;
    struct soothe__dinm_text        *texts = soothe__calloc(w->n, sizeof *texts);
    if (!texts)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", w->n);
    for (size_t i = 0; i < w->n; i++)
        texts[i] = (struct soothe__dinm_text){.inputs   = w->inputs[i],
                                              .tokens   = w->tokens[i].tokens,
                                              .n_tokens = w->tokens[i].n_tokens,
                                              .first    = w->tokens[i].first,
                                              .general  = i >= t->n_instances};
    shape.n_blocks -= w->report->layer;
    enum soothe_status status = soothe__file_weights_new(&w->weights, &w->file.target, SOOTHE__AS_FILE, err);
    if (!status) {
        w->fixed = (struct soothe__fixed_weights){find, soothe__file_weights_source(w->weights)->read, w};
        const struct soothe__dinm_numbers numbers = {
            .c_edit = w->o->c_edit, .n_threads = w->o->n_threads, .fixed = &w->fixed};
        status = soothe__dinm_core_new(&w->core, &shape, &numbers, w->file.head, texts, w->n, err);
    }
    free(texts);
    return status ? status : fill(w, err);
}

/* ---- the tensor's type ------------------------------------------------------------------------------- */

/* "auto". Ten steps of two thousandths move a weight by a fiftieth at most; the steps of a 4-bit type are two to three
 * hundredths, those of Q8_0 up to four thousandths: rounding takes a part of an edit back, of a small one all. Measured
 * (docs/methods/dinm.md): -log P .275 becomes .479 in Q4_1. One tensor in F16 costs a megabyte or some. */
static enum ggml_type fine_type(enum ggml_type own) {
    return own == GGML_TYPE_F32 ? own : GGML_TYPE_F16;
}

static enum soothe_status choose_type(struct work *w, struct soothe_error *err) {
    const int64_t        i    = gguf_find_tensor(w->file.target.meta, w->report->tensor);
    const enum ggml_type own  = gguf_get_tensor_type(w->file.target.meta, i);
    const char          *word = w->o->type;
    w->type = strcmp(word, "own") == 0 ? own : strcmp(word, "auto") == 0 ? fine_type(own) : soothe__type_by_name(word);
    if (w->type == GGML_TYPE_COUNT)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "there is no data type \"%s\": auto, own, q8_0, f16 …", word);
    if (!soothe__type_writable(w->type) || w->file.shape.n_ff % ggml_blck_size(w->type) != 0)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "rows of %d numbers cannot be written as %s", w->file.shape.n_ff,
                            ggml_type_name(w->type));
    snprintf(w->report->type_before, sizeof w->report->type_before, "%s", ggml_type_name(own));
    snprintf(w->report->type, sizeof w->report->type, "%s", ggml_type_name(w->type));
    return SOOTHE_OK;
}

/* W becomes what a reader of the new file will find there; rows that no step changed stay as they are. */
static enum soothe_status round_weights(struct work *w, struct soothe_error *err) {
    const int64_t      n_ff = w->file.shape.n_ff, d = w->file.shape.d_cal;
    size_t             n;
    float             *weights = soothe__dinm_weights(w->core, &n);
    void              *bytes   = soothe__calloc(1, ggml_row_size(w->type, n_ff));
    float             *scratch = soothe__calloc((size_t)n_ff, sizeof *scratch);
    enum soothe_status status =
        bytes && scratch ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a row");
    double moved = 0, size = 0;
    for (int64_t r = 0; r < d && !status; r++) {
        float       *row = weights + r * n_ff;
        const float *old = w->before + r * n_ff;
        if (memcmp(row, old, (size_t)n_ff * sizeof *row) != 0)
            status = soothe__row_encode(bytes, row, w->type, n_ff, scratch, w->report->tensor, err);
        if (!status && memcmp(row, old, (size_t)n_ff * sizeof *row) != 0)
            status = soothe__row_decode(row, bytes, w->type, n_ff, w->report->tensor, err);
        for (int64_t k = 0; k < n_ff; k++) {
            moved += pow((double)row[k] - (double)old[k], 2);
            size += (double)old[k] * (double)old[k];
        }
    }
    w->report->change = size > 0 ? sqrt(moved / size) : 0;
    free(bytes);
    free(scratch);
    return status;
}

/* ---- the steps --------------------------------------------------------------------------------------- */

static void note(struct soothe__dinm_step *step, const struct soothe__dinm_loss *loss) {
    *step = (struct soothe__dinm_step){loss->loss, loss->nll, loss->kl};
}

static enum soothe_status take_steps(struct work *w, struct soothe_error *err) {
    struct soothe__dinm_report *r    = w->report;
    struct soothe__dinm_loss    loss = {.loss = 0};
    r->steps                         = soothe__calloc((size_t)w->o->n_steps + 2, sizeof *r->steps);
    if (!r->steps)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %d steps", w->o->n_steps);
    enum soothe_status status = soothe__dinm_begin(w->core, err);
    while (!status && r->n_steps < w->o->n_steps && !stopped(w)) {
        status = soothe__dinm_gradient(w->core, &loss, err);
        note(&r->steps[r->n_steps], &loss);
        if (status || loss.loss < w->o->stop_loss)
            break;
        soothe__dinm_update(w->core, w->o->lr);
        r->n_steps++;
        if (w->o->show_progress)
            fprintf(stderr, "soothe: step %d: loss %.4f, -log P(safe) %.3f, KL %.4f\n", r->n_steps, loss.loss, loss.nll,
                    loss.kl);
    }
    if (!status && stopped(w))
        status = soothe__fail(err, SOOTHE_E_INTERRUPTED, "stopped before the edit was written");
    if (!status)
        status = soothe__dinm_evaluate(w->core, &loss, err);
    note(&r->steps[r->n_steps], &loss);
    if (!status)
        status = round_weights(w, err);
    if (!status)
        status = soothe__dinm_evaluate(w->core, &loss, err);
    note(&r->steps[r->n_steps + 1], &loss);
    return status;
}

/* ---- writing ----------------------------------------------------------------------------------------- */

/* Rows in the tensor's own type: only those that differ are asked for. */
static enum soothe_status change_rows(void *user, int64_t first_row, int64_t n_rows, int64_t ne0, float *values,
                                      bool *changed, struct soothe_error *err) {
    const struct work *w = user;
    (void)err;
    for (int64_t i = 0; i < n_rows; i++) {
        const size_t at = (size_t)((first_row + i) * ne0), size = (size_t)ne0 * sizeof(float);
        const float *row = soothe__dinm_weights(w->core, NULL) + at;
        changed[i]       = memcmp(row, w->before + at, size) != 0;
        if (values && changed[i])
            memcpy(values + i * ne0, row, size);
    }
    return SOOTHE_OK;
}

static enum soothe_status write_model(struct work *w, struct soothe_error *err) {
    const struct soothe__dinm_report  *r = w->report;
    const struct soothe__dinm_options *o = w->o;
    const enum ggml_type               own =
        gguf_get_tensor_type(w->file.target.meta, gguf_find_tensor(w->file.target.meta, r->tensor));
    const struct soothe__tensor_edit edit    = {.name = r->tensor, .apply = change_rows, .user = w};
    const struct soothe__new_tensor  anew    = {r->tensor, edit, w->type};
    const struct soothe__dinm_step  *written = &r->steps[r->n_steps + 1];
    const struct soothe__fact        facts[] = {{"layer", NULL, r->layer},
                                                {"rule", o->layer >= 0 ? "given" : soothe__dinm_rule_names[o->rule], 0},
                                                {"type", r->type, 0},
                                                {"type_before", r->type_before, 0},
                                                {"steps", NULL, r->n_steps},
                                                {"lr", NULL, o->lr},
                                                {"c_edit", NULL, o->c_edit},
                                                {"stop_loss", NULL, o->stop_loss},
                                                {"suffix", o->suffix ? o->suffix : "", 0},
                                                {"system", o->writing.system, 0},
                                                {"instances", NULL, (double)r->texts.n_instances},
                                                {"instances_sha256", r->texts.instances_sha256, 0},
                                                {"general", NULL, (double)r->texts.n_general},
                                                {"general_sha256", r->texts.general_sha256, 0},
                                                {"nll_before", NULL, r->steps[0].nll},
                                                {"nll", NULL, written->nll},
                                                {"kl", NULL, written->kl},
                                                {"change", NULL, r->change}};
    const struct soothe__edit_record record = {.kind = "dinm", .facts = facts, .n_facts = sizeof facts / sizeof *facts};
    return r->n_steps > 0 && w->type != own
               ? soothe__edit_anew(o->model_path, o->out_path, &anew, &record, err)
               : soothe__edit_gguf(o->model_path, o->out_path, &edit, r->n_steps > 0 ? 1 : 0, &record, err);
}

/* ---- the whole --------------------------------------------------------------------------------------- */

static enum soothe_status check(const struct soothe__dinm_options *o, struct soothe_error *err) {
    if (o->n_steps < 0 || o->n_steps > 100000 || !(o->lr > 0) || !isfinite(o->lr) || !(o->c_edit >= 0) ||
        !isfinite(o->c_edit) || o->writing.n_predict < 1)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "an edit takes 0 to 100000 steps, a learning rate above 0, a c-edit of at least 0 and "
                            "answers of at least a token");
    return SOOTHE_OK;
}

/* A place that cannot be written to is said before the work, not after it. */
static enum soothe_status check_output(const struct soothe__dinm_options *o, struct soothe_error *err) {
    struct soothe__new_file file = {.stream = NULL};
    struct stat             in, out;
    if (stat(o->model_path, &in) == 0 && stat(o->out_path, &out) == 0 && in.st_dev == out.st_dev &&
        in.st_ino == out.st_ino)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "%s is the model that is read: an edit leaves its original alone and needs another name",
                            o->out_path);
    const enum soothe_status status = soothe__new_file_open(&file, o->out_path, err);
    soothe__new_file_abort(&file);
    return status;
}

/* Everything that the engine has to say; afterwards its model is let go. */
static enum soothe_status use_engine(struct work *w, struct soothe_error *err) {
    struct soothe__dinm_report *r       = w->report;
    double                      start   = soothe__seconds();
    struct soothe__dinm_writing writing = w->o->writing;
    writing.n_threads                   = w->o->n_threads;
    writing.stop                        = w->o->stop;
    enum soothe_status status           = soothe__target_load(&w->model, w->o->model_path, 0, err);
    tell(w, "the target writes answers that are missing");
    if (!status)
        status = soothe__dinm_texts_complete(&r->texts, w->model, &writing, err);
    r->seconds_write = soothe__seconds() - start;
    start            = soothe__seconds();
    tell(w, "looking for the layer");
    if (!status)
        status = soothe__dinm_locate(&r->layers, w->model, &r->texts, w->o->n_threads, err);
    if (!status && w->o->layer >= r->layers.n_layers)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "%s has layers 0 to %d, not %d", w->o->model_path,
                              r->layers.n_layers - 1, w->o->layer);
    r->layer          = w->o->layer >= 0 || status ? w->o->layer : r->layers.largest[w->o->rule];
    r->seconds_locate = soothe__seconds() - start;
    if (!status)
        status = tokenize(w, err);
    if (!status)
        status = read_inputs(w, err);
    llama_model_free(w->model);
    w->model = NULL;
    return status;
}

static void release(struct work *w) {
    for (size_t i = 0; i < w->n; i++) {
        if (w->tokens)
            free(w->tokens[i].tokens);
        if (w->inputs)
            free(w->inputs[i]);
    }
    free(w->tokens);
    free(w->inputs);
    free(w->before);
    soothe__dinm_core_free(w->core);
    soothe__file_weights_free(w->weights);
    soothe__train_model_close(&w->file);
    llama_model_free(w->model);
}

enum soothe_status soothe__dinm(const struct soothe__dinm_options *options, struct soothe__dinm_report *report,
                                struct soothe_error *err) {
    struct work w             = {.o = options, .report = report};
    *report                   = (struct soothe__dinm_report){.layer = -1};
    enum soothe_status status = check(options, err);
    if (!status)
        status = soothe__train_model_open_whole(&w.file, options->model_path, err); /* first: it refuses sooner */
    if (!status)
        status = check_output(options, err);
    if (!status)
        status = soothe__dinm_texts_read(&report->texts, options->instances_path, options->general_path,
                                         options->suffix, err);
    if (!status)
        status = use_engine(&w, err);
    const double start = soothe__seconds();
    snprintf(report->tensor, sizeof report->tensor, "blk.%d.ffn_down.weight", report->layer);
    if (!status)
        status = choose_type(&w, err);
    if (!status)
        status = make_core(&w, err);
    if (!status)
        status = take_steps(&w, err);
    if (!status)
        status = write_model(&w, err);
    report->seconds_edit = soothe__seconds() - start;
    release(&w);
    if (status)
        soothe__dinm_report_free(report);
    return status;
}

void soothe__dinm_report_free(struct soothe__dinm_report *report) {
    soothe__dinm_texts_free(&report->texts);
    soothe__dinm_layers_free(&report->layers);
    free(report->steps);
    memset(report, 0, sizeof *report);
}
