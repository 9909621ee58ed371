/* SPDX-License-Identifier: Apache-2.0
 * What tests of training share: references from PyTorch, data out of few letters. Include it after <cmocka.h>. */
#ifndef TRAIN_SUPPORT_H
#define TRAIN_SUPPORT_H

#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "test_support.h"

/* ---- reference files (layout at the top of scripts/train_reference.py) --------------------------------- */

struct record {
    const int32_t *ints;
    const float   *floats;
    int32_t        n;
};

struct records {
    char  *data;
    size_t size;
};

/* Reads NAME of the tests' data; 0, or -1 as a set-up's answer. */
static inline int records_read(struct records *r, const char *name) {
    char                path[4096];
    struct soothe_error err;
    const char         *folder = getenv("SOOTHE_DATA");
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "tests/data", name);
    return soothe__read_file(&r->data, &r->size, path, &err) == SOOTHE_OK ? 0 : -1;
}

/* n is 0 where there is none of that name. */
static inline struct record record_find(const struct records *r, const char *wanted) {
    int32_t       n_records, head[2];
    struct record none = {0};
    memcpy(&n_records, r->data, sizeof n_records);
    const char *at = r->data + 4;
    for (int32_t i = 0; i < n_records; i++) {
        memcpy(head, at + 64, sizeof head);
        if (strncmp(at, wanted, 64) == 0) { /* 4-aligned: every part of the file is a multiple of 4 */
            const void *values = at + 72;
            return (struct record){head[0] == 0 ? values : NULL, head[0] == 1 ? values : NULL, head[1]};
        }
        at += 72 + 4 * (size_t)head[1];
    }
    return none;
}

static inline uint16_t *bf16_of(struct record r) {
    uint16_t *x = soothe__calloc((size_t)r.n, sizeof *x);
    assert_non_null(x);
    for (int32_t i = 0; i < r.n; i++)
        x[i] = (uint16_t)r.ints[i];
    return x;
}

/* ---- data and files ------------------------------------------------------------------------------------- */

/* n pairs and n texts out of few letters; the chosen sides end in "b", the rejected ones in "c". */
static inline void write_data(const char *path, int from, int n) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = from; i < from + n; i++) {
        fprintf(f, "{\"prompt\": \"p%d\", \"chosen\": \" a%dbb\", \"rejected\": \" a%dcc\"}\n", i, i, i);
        fprintf(f, "{\"text\": \"some text number %d of many\"}\n", i);
    }
    assert_int_equal(fclose(f), 0);
}

static inline void assert_same_file(const char *a, const char *b) {
    struct soothe_error err;
    char                x[65], y[65];
    must(soothe__sha256_file(x, a, &err), &err);
    must(soothe__sha256_file(y, b, &err), &err);
    assert_string_equal(x, y);
}

#endif /* TRAIN_SUPPORT_H */
