/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as an alignment, with a calibrator and alone, for a tiny target: refused with a sentence, or opened. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"
#include "input_file.h"
#include "tiny_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

static char calibrator[4096];

static void remove_calibrator(void) {
    unlink(calibrator);
}

/* Target and calibrator of the corpus: scripts/make_fuzz_corpus.sh makes its alignments from the same. */
static const char *target(void) {
    static bool made;
    const char *path = fuzz_other_file();
    if (made)
        return path;
    snprintf(calibrator, sizeof calibrator, "%s.calibrator", path);
    if (!tiny_model_write(path, &(struct tiny_options){.seed = 1, .d = 32, .n_blocks = 1}) ||
        soothe_calibrator_init(path, 1, calibrator, NULL))
        abort();
    atexit(remove_calibrator);
    made = true;
    return path;
}

static void open_one(const char *cal_path, const char *alignment) {
    struct soothe_calibrator       *cal;
    struct soothe_error             err = {.message = ""};
    struct soothe_calibrator_params p   = soothe_calibrator_params_default();
    p.alignment_path                    = alignment;
    const enum soothe_status status     = soothe_calibrator_open(&cal, cal_path, target(), &p, &err);
    if (status ? cal || !err.message[0] : !cal)
        abort();
    soothe_calibrator_free(cal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    llama_log_set(quiet, NULL);
    target();
    const char *path = fuzz_input_file(data, size);
    open_one(calibrator, path);
    open_one(NULL, path);
    return 0;
}
