/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a text: its words stand in order within it, whatever list disguises are resolved to. */
#include <stdlib.h>

#include "score/text_forms.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const words[] = {"idiot", "moron", "stupid", "ass", "pest"};
    struct soothe__word_list list;
    struct soothe__text_form form = {0};
    if (soothe__word_list_new(&list, words, 5, NULL))
        abort();
    for (int with_list = 0; with_list < 2; with_list++) {
        size_t start = 0;
        if (soothe__text_form_read(&form, (const char *)data, size, with_list ? &list : NULL, NULL))
            abort();
        for (size_t i = 0; i < form.n_words; i++) {
            const struct soothe__word *w = &form.words[i];
            if (w->start < start || w->end <= w->start || w->end > size || w->n == 0 || w->first + w->n > form.n_chars)
                abort();
            start = w->start; /* one character may be many words: U+FDFA */
        }
        soothe__text_form_hash(&form);
    }
    soothe__text_form_free(&form);
    soothe__word_list_free(&list);
    return 0;
}
