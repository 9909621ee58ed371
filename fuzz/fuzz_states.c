/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a file of target states: refused with a sentence, or opened, cut after its last whole record, asked
 * and added to. */
#include <stdlib.h>
#include <string.h>

#include "input_file.h"
#include "train/state_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WIDTH = 4, ROWS = 2 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char                       model[65];
    int32_t                    tokens[]           = {1, 2, 3};
    uint16_t                   rows[ROWS * WIDTH] = {1, 2, 3, 4, 5, 6, 7, 8}, again[ROWS * WIDTH];
    const struct soothe__text  text               = {.tokens = tokens, .n_tokens = 3, .first = 1};
    struct soothe_error        err                = {.message = ""};
    struct soothe__state_file *f;
    int64_t                    offset;
    memset(model, 'a', 64);
    model[64] = '\0';
    if (soothe__state_file_open(&f, fuzz_input_file(data, size), model, WIDTH, &err)) {
        if (!err.message[0] || f)
            abort();
        return 0;
    }
    offset = soothe__state_file_find(f, &text);
    if (offset >= 0 && soothe__state_file_read(f, offset, ROWS * WIDTH, again, &err) && !err.message[0])
        abort();
    if (soothe__state_file_add(f, &text, rows, &offset, &err) ||
        soothe__state_file_read(f, offset, ROWS * WIDTH, again, &err) || memcmp(rows, again, sizeof rows) != 0)
        abort();
    soothe__state_file_close(f);
    return 0;
}
