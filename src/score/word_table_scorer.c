/* SPDX-License-Identifier: Apache-2.0
 * A table of words as a scorer: TABLE.gguf is 1 - prod (1 - weight), TABLE.gguf#max the largest weight. */
#include <stdlib.h>
#include <string.h>

#include "score/scorer.h"
#include "score/word_table.h"

struct opened {
    struct soothe__word_table   table;
    enum soothe__sentence_score how;
};

static bool takes(const char *spec, const char *general_type) {
    (void)spec;
    return general_type && strcmp(general_type, SOOTHE__WORD_TABLE_TYPE) == 0;
}

static void close_table(void *self) {
    struct opened *o = self;
    if (o)
        soothe__word_table_free(&o->table);
    free(o);
}

/* Of the file, of the way to score, and of the program that folds words. */
static enum soothe_status identify(char identity[65], const char *path, const char *how, struct soothe_error *err) {
    const enum soothe_status status = soothe__sha256_file(identity, path, err);
    struct soothe__sha256   *hash   = status ? NULL : soothe__sha256_new();
    if (!status && !hash)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening scorer %s", path);
    if (status)
        return status;
    soothe__sha256_add(hash, identity, 64);
    soothe__sha256_add(hash, how, strlen(how));
    soothe__sha256_add(hash, SOOTHE_VERSION, sizeof SOOTHE_VERSION - 1);
    soothe__sha256_finish(hash, identity);
    return SOOTHE_OK;
}

static enum soothe_status open_table(void **self, char identity[65], const char *spec,
                                     const struct soothe__scorer_options *options, struct soothe_error *err) {
    (void)options;
    *self                   = NULL;
    const char        *mark = strstr(spec, ".gguf#");
    const char        *how  = mark ? mark + strlen(".gguf#") : "any";
    char              *path = mark ? soothe__format("%.*s.gguf", (int)(mark - spec), spec) : soothe__strdup(spec);
    struct opened     *o    = soothe__calloc(1, sizeof *o);
    enum soothe_status status =
        o && path ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening scorer %s", spec);
    if (!status && strcmp(how, "any") != 0 && strcmp(how, "max") != 0)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "a table scores by #any or #max, not by #%.40s", how);
    if (!status)
        status = soothe__word_table_read(&o->table, path, err);
    if (!status)
        status = identify(identity, path, how, err);
    free(path);
    if (status) {
        close_table(o);
        return status;
    }
    o->how = strcmp(how, "max") == 0 ? SOOTHE__SENTENCE_MAX : SOOTHE__SENTENCE_ANY;
    *self  = o;
    return SOOTHE_OK;
}

static enum soothe_status score(void *self, const char *const *texts, size_t n, struct soothe__score *scores,
                                struct soothe_error *err) {
    const struct opened *o = self;
    (void)err;
    for (size_t i = 0; i < n; i++)
        scores[i] =
            (struct soothe__score){.toxicity = soothe__word_table_score(&o->table, o->how, texts[i], strlen(texts[i]))};
    return SOOTHE_OK;
}

extern const struct soothe__scorer_kind soothe__scorer_word_table;
const struct soothe__scorer_kind        soothe__scorer_word_table = {
           .name = "table", .local = true, .takes = takes, .open = open_table, .score = score, .close = close_table};
