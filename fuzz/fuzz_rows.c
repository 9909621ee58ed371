/* SPDX-License-Identifier: Apache-2.0
 * Any bytes, packed or not, as a table: refused with a sentence, or rows whose fields are text. */
#include <stdlib.h>
#include <string.h>

#include "corpus/rows.h"
#include "input_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_row(struct soothe__rows *rows) {
    for (const char *const *name = soothe__rows_names(rows); *name; name++) {
        const char *text = soothe__rows_field(rows, *name);
        if (text && !soothe__utf8_valid(text, strlen(text)))
            abort();
    }
    soothe__rows_field(rows, "prompt.text.a");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct soothe__rows *rows;
    struct soothe_error  err    = {.message = ""};
    bool                 more   = true;
    size_t               n      = 0;
    enum soothe_status   status = soothe__rows_open(&rows, fuzz_input_file(data, size), true, &err);
    while (!status && more) {
        status = soothe__rows_next(rows, &more, &err);
        if (!status && more) {
            check_row(rows);
            n++;
        }
    }
    if (status && !err.message[0])
        abort();
    struct soothe__row_counts counts = {0};
    soothe__rows_close(rows, NULL, &counts);
    if (counts.n_good != n)
        abort();
    return 0;
}
