/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as an n-gram scorer: refused with a sentence, or opened, and then every text gets a score. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "input_file.h"
#include "score/ngram_scorer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const     texts[] = {"hello there", "an idi*t, 1d10t", "", "\xff\xfe w o r d"};
    struct soothe_error          err     = {.message = ""};
    struct soothe__ngram_scorer *s;
    struct soothe__ngram_parts   parts;
    llama_log_set(quiet, NULL);
    if (soothe__ngram_open(&s, fuzz_input_file(data, size), &err)) {
        if (!err.message[0] || s)
            abort();
        return 0;
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const double p = soothe__ngram_score(s, texts[i], strlen(texts[i]));
        if (!(p >= 0 && p <= 1))
            abort();
        if (soothe__ngram_explain(&parts, s, texts[i], strlen(texts[i]), &err) || !isfinite(parts.log_odds))
            abort();
        soothe__ngram_parts_free(&parts);
    }
    soothe__ngram_close(s);
    return 0;
}
