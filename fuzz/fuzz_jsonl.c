/* SPDX-License-Identifier: Apache-2.0
 * Any bytes, packed or not, as training texts: refused with a sentence, or a corpus whose parts fit together. */
#include <stdlib.h>
#include <string.h>

#include "input_file.h"
#include "corpus/corpus.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const struct soothe__corpus *c, uint32_t i) {
    if (i >= c->n_texts || !c->texts[i].completion[0] ||
        !soothe__utf8_valid(c->texts[i].prompt, strlen(c->texts[i].prompt)) ||
        !soothe__utf8_valid(c->texts[i].completion, strlen(c->texts[i].completion)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct soothe__corpus c, held = {0};
    struct soothe_error   err = {.message = ""};
    soothe__corpus_init(&c);
    if (soothe__corpus_read(&c, fuzz_input_file(data, size), &err)) {
        if (!err.message[0])
            abort();
    } else {
        if (c.n_pairs + c.n_singles == 0 || c.n_sources != 1 || strlen(c.sources[0].sha256) != 64)
            abort();
        for (size_t i = 0; i < c.n_pairs; i++) {
            check_text(&c, c.pairs[i].i_chosen);
            check_text(&c, c.pairs[i].i_rejected);
            if (c.pairs[i].i_chosen == c.pairs[i].i_rejected)
                abort();
        }
        for (size_t i = 0; i < c.n_singles; i++)
            check_text(&c, c.singles[i]);
        const size_t n = c.n_pairs + c.n_singles;
        if (soothe__corpus_split(&held, &c, 0.5, 1, &err) ||
            c.n_pairs + c.n_singles + held.n_pairs + held.n_singles != n ||
            soothe__corpus_remove_shared(&c, &held, NULL, &err))
            abort();
    }
    soothe__corpus_free(&held);
    soothe__corpus_free(&c);
    return 0;
}
