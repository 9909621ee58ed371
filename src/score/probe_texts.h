/* SPDX-License-Identifier: Apache-2.0
 * Texts with labels, read whole into memory, and their split by hash.
 *
 * Which part a text belongs to is decided by its own bytes (SHA-256), so an equal text never stands in two parts,
 * and every run and every file splits alike. */
#ifndef SOOTHE_PROBE_TEXTS_H
#define SOOTHE_PROBE_TEXTS_H

#include "base/base.h"

enum soothe__part {
    SOOTHE__PART_TRAIN,      /* seven tenths                                            */
    SOOTHE__PART_VALIDATION, /* a tenth: picks what is to be picked, calibrates         */
    SOOTHE__PART_HELD_OUT    /* a fifth: figures that are reported, nothing else        */
};

enum { SOOTHE__LABEL_NONE = 2 };

struct soothe__probe_text {
    char             *text;
    uint32_t          i_source;
    unsigned char     label; /* 0, 1 (toxic), SOOTHE__LABEL_NONE */
    enum soothe__part part;
};

struct soothe__probe_texts {
    struct soothe__probe_text *items;
    size_t                     n, capacity, n_bad;
    char                     **sources; /* names, in the order of appearance */
    size_t                     n_sources;
    char                       sha256[65]; /* of the files' bytes, one after another; one file: its own hash */
    size_t                     n_files;
};

/* Adds the rows of a file (JSON lines, CSV, TSV; corpus/rows.h): "text", "label" (a number, or true and false; from
 * 0.5 up it is toxic) and, if it is there, "source" (default: the file's name).
 * need_labels  true: a row without label is bad; false: labels are taken along where there are any
 * errors       as soothe__rows_…; SOOTHE_E_FORMAT also for an empty text */
enum soothe_status soothe__probe_texts_read(struct soothe__probe_texts *texts, const char *path, bool need_labels,
                                            bool skip_bad, struct soothe_error *err);
void               soothe__probe_texts_free(struct soothe__probe_texts *texts); /* also of a zeroed one */

/* The part of a text by its bytes. */
enum soothe__part soothe__part_of_text(const char *text);

#endif /* SOOTHE_PROBE_TEXTS_H */
