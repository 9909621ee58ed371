/* SPDX-License-Identifier: Apache-2.0
 * What a file says of its edits: whether that is true, and back to the file before them. */
#include "edit/history.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "edit/edit_file.h"

static enum soothe_status hash_file(char hex[65], const char *path, struct soothe_error *err) {
    struct soothe__gguf g;
    enum soothe_status  status = soothe__gguf_open(&g, path, err);
    if (!status)
        status = soothe__tensors_hash(hex, &g, err);
    soothe__gguf_close(&g);
    return status;
}

static bool says(const struct soothe__gguf *g, uint32_t i, const char *key, const char *hex) {
    const char *found = soothe__edit_text(g, i, key);
    return found && !strcmp(found, hex);
}

/* ---- undo ------------------------------------------------------------------------------------------------------- */

static enum soothe_status copy_file(const char *from, const char *to, struct soothe_error *err) {
    enum { CHUNK = 1 << 20 };
    struct soothe__new_file file   = {0};
    FILE                   *in     = fopen(from, "rb");
    char                   *buffer = soothe__calloc(CHUNK, 1);
    enum soothe_status      status = SOOTHE_OK;
    if (!in)
        status = soothe__fail(err, SOOTHE_E_IO, "cannot open %s: %s", from, strerror(errno));
    else if (!buffer)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory copying %s", from);
    if (!status)
        status = soothe__new_file_open(&file, to, err);
    for (size_t n = CHUNK; !status && n == CHUNK;) {
        n = fread(buffer, 1, CHUNK, in);
        if (ferror(in))
            status = soothe__fail(err, SOOTHE_E_IO, "cannot read %s: %s", from, strerror(errno));
        else if (fwrite(buffer, 1, n, file.stream) != n)
            status = soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", to, strerror(errno));
    }
    if (!status)
        status = soothe__new_file_commit(&file, err);
    soothe__new_file_abort(&file);
    if (in)
        fclose(in);
    free(buffer);
    return status;
}

enum soothe_status soothe__edit_undo(const char *in_path, const char *base_path, const char *out_path,
                                     uint32_t *n_taken, struct soothe_error *err) {
    struct soothe__gguf in;
    char                hex[65];
    enum soothe_status  status = soothe__edit_check_paths(in_path, out_path, err);
    *n_taken                   = 0;
    if (!status)
        status = soothe__edit_check_paths(base_path, out_path, err);
    if (!status)
        status = hash_file(hex, base_path, err);
    if (!status)
        status = soothe__gguf_open(&in, in_path, err);
    if (status)
        return status;
    const uint32_t n = soothe__edit_count(&in);
    for (uint32_t i = n; i > 0 && *n_taken == 0 && soothe__edit_text(&in, i - 1, "kind"); i--)
        if (says(&in, i - 1, "base_tensors_sha256", hex))
            *n_taken = n - i + 1;
    soothe__gguf_close(&in);
    if (n == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%s records no edit that could be taken back", in_path);
    if (*n_taken == 0)
        return soothe__fail(err, SOOTHE_E_MISMATCH,
                            "%s was not made from %s: no edit that it records began with those "
                            "tensors",
                            in_path, base_path);
    return copy_file(base_path, out_path, err);
}

/* ---- verify ------------------------------------------------------------------------------------------------------ */

static enum soothe__verdict verdict_of(bool yes) {
    return yes ? SOOTHE__VERDICT_YES : SOOTHE__VERDICT_NO;
}

static bool is_unbroken(const struct soothe__gguf *g, uint32_t n) {
    for (uint32_t i = 1; i < n; i++) {
        const char *before = soothe__edit_text(g, i - 1, "tensors_sha256");
        if (!before || !says(g, i, "base_tensors_sha256", before))
            return false;
    }
    return true;
}

static enum soothe_status lay_and_hash(char hex[65], const char *base_path, const char *const *diffs, size_t n_diffs,
                                       struct soothe_error *err) {
    char              *laid   = NULL;
    enum soothe_status status = soothe__diff_lay(&laid, base_path, diffs, n_diffs, NULL, err);
    if (!status)
        status = hash_file(hex, laid, err);
    soothe__diff_let_go(laid);
    return status;
}

enum soothe_status soothe__edit_verify(struct soothe__edit_verdict *v, const char *path, const char *base_path,
                                       const char *const *diffs, size_t n_diffs, struct soothe_error *err) {
    struct soothe__gguf g;
    char                hex[65];
    *v                        = (struct soothe__edit_verdict){.intact         = SOOTHE__VERDICT_NOT_ASKED,
                                                              .unbroken       = SOOTHE__VERDICT_NOT_ASKED,
                                                              .from_base      = SOOTHE__VERDICT_NOT_ASKED,
                                                              .base_and_diffs = SOOTHE__VERDICT_NOT_ASKED};
    enum soothe_status status = soothe__gguf_open(&g, path, err);
    if (!status)
        status = soothe__tensors_hash(v->tensors, &g, err);
    if (!status && base_path)
        status = hash_file(v->base_tensors, base_path, err);
    if (!status)
        v->n_edits = soothe__edit_count(&g);
    if (!status && v->n_edits) {
        v->intact   = verdict_of(says(&g, v->n_edits - 1, "tensors_sha256", v->tensors));
        v->unbroken = verdict_of(is_unbroken(&g, v->n_edits));
        if (base_path)
            v->from_base = verdict_of(says(&g, 0, "base_tensors_sha256", v->base_tensors));
    }
    soothe__gguf_close(&g);
    if (!status && base_path && n_diffs) {
        status            = lay_and_hash(hex, base_path, diffs, n_diffs, err);
        v->base_and_diffs = verdict_of(!status && !strcmp(hex, v->tensors));
    }
    return status;
}

bool soothe__edit_verified(const struct soothe__edit_verdict *v) {
    const enum soothe__verdict all[] = {v->intact, v->unbroken, v->from_base, v->base_and_diffs};
    bool                       any   = false;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i] == SOOTHE__VERDICT_NO)
            return false;
        any = any || all[i] == SOOTHE__VERDICT_YES;
    }
    return any;
}
