/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a diff: refused with a sentence, or read; then laid over a tiny model, taken back from it, or refused.
 */
#include <stdlib.h>
#include <unistd.h>

#include "edit/diff.h"
#include "input_file.h"
#include "tiny_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

/* The base of the corpus: scripts/make_fuzz_corpus.sh makes its diffs for the same. */
static const char *base(void) {
    static bool made;
    if (!made && !tiny_model_write(fuzz_other_file(), &(struct tiny_options){.seed = 1, .d = 32, .n_blocks = 1}))
        abort();
    made = true;
    return fuzz_other_file();
}

static void lay(struct soothe__diff *diff) {
    struct soothe_error err = {.message = ""};
    char               *out = soothe__format("%s.laid", fuzz_other_file());
    if (!out)
        abort();
    if (soothe__diff_apply(diff, base(), out, &err) ? !err.message[0] : access(out, F_OK) != 0)
        abort();
    unlink(out);
    err.message[0] = '\0';
    if (soothe__diff_take_back(diff, base(), out, &err) == SOOTHE_OK || !err.message[0])
        abort(); /* the base was never edited */
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct soothe__diff *diff;
    struct soothe_error  err = {.message = ""};
    llama_log_set(quiet, NULL);
    const enum soothe_status status = soothe__diff_open(&diff, fuzz_input_file(data, size), &err);
    if (status ? diff || !err.message[0] : !diff)
        abort();
    if (diff)
        lay(diff);
    soothe__diff_free(diff);
    return 0;
}
