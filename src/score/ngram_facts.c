/* SPDX-License-Identifier: Apache-2.0
 * What a trained scorer's file says of its making: soothe.training.… */
#include <math.h>
#include <string.h>

#include "score/ngram_file.h"
#include "score/ngram_train.h"

static void set_string(struct gguf_context *meta, const char *value, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void set_string(struct gguf_context *meta, const char *value, const char *format, ...) {
    char    key[160];
    va_list list;
    va_start(list, format);
    vsnprintf(key, sizeof key, format, list);
    va_end(list);
    gguf_set_val_str(meta, key, value);
}

static void set_number(struct gguf_context *meta, const char *name, double value) {
    char key[160];
    snprintf(key, sizeof key, "soothe.training.%s", name);
    if (isfinite(value))
        gguf_set_val_f64(meta, key, value);
}

static void set_options(struct gguf_context *meta, const struct soothe__ngram_train_options *o) {
    set_number(meta, "c", o->c);
    set_number(meta, "holdout", o->holdout);
    set_number(meta, "sharpen", o->sharpen);
    set_number(meta, "seed", o->seed);
    set_number(meta, "max_iterations", o->max_iterations);
    for (size_t i = 0; i < o->n_weights; i++) {
        char name[120];
        snprintf(name, sizeof name, "weight.%.100s", o->weights[i].source);
        set_number(meta, name, o->weights[i].weight);
    }
}

static void set_figures(struct gguf_context *meta, const struct soothe__score_figures *f) {
    const struct {
        const char *name;
        double      value;
    } figures[] = {{"n", (double)f->n}, {"toxic", (double)f->n_toxic},         {"auc", f->auc},
                   {"ece", f->ece},     {"false_positive", f->false_positive}, {"recall", f->recall}};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        char name[140];
        snprintf(name, sizeof name, "result.%.80s.%s", f->source, figures[i].name);
        set_number(meta, name, figures[i].value);
    }
}

enum soothe_status soothe__ngram_train_save(const struct soothe__ngram_scorer        *scorer,
                                            const struct soothe__ngram_train_report  *report,
                                            const struct soothe__labelled_texts      *t,
                                            const struct soothe__ngram_train_options *options, const char *path,
                                            struct soothe_error *err) {
    struct gguf_context *meta = gguf_init_empty();
    if (!meta)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory writing %s", path);
    gguf_set_val_str(meta, "general.name", "n-gram scorer of toxicity");
    gguf_set_val_str(meta, "soothe.tool_version", SOOTHE_VERSION);
    for (size_t i = 0; i < t->n_files; i++) {
        const struct soothe__labelled_file *f = &t->files[i];
        set_string(meta, soothe__file_name(f->path), "soothe.training.data.%zu.file", i);
        set_string(meta, f->sha256, "soothe.training.data.%zu.sha256", i);
        char name[60];
        snprintf(name, sizeof name, "data.%zu.rows", i);
        set_number(meta, name, (double)f->counts.n_good);
    }
    set_options(meta, options);
    set_number(meta, "n_train", (double)(report->n_train + report->n_calibration));
    set_number(meta, "n_holdout", (double)report->n_holdout);
    set_number(meta, "n_features", (double)report->n_features);
    set_number(meta, "calibration.a", report->a);
    set_number(meta, "calibration.b", report->b);
    for (size_t i = 0; i < report->n_figures; i++)
        set_figures(meta, &report->figures[i]);
    const enum soothe_status status = soothe__ngram_save(scorer, meta, path, err);
    gguf_free(meta);
    return status;
}
