/* SPDX-License-Identifier: Apache-2.0
 * The built-in list of words as a scorer. */
#include <string.h>

#include "score/lexicon.h"
#include "score/scorer.h"

static bool takes(const char *spec, const char *general_type) {
    (void)general_type;
    return strcmp(spec, "lexicon") == 0;
}

/* The list is compiled in: its scores change with it and with the program's version. */
static enum soothe_status open_lexicon(void **self, char identity[65], const char *spec,
                                       const struct soothe__scorer_options *options, struct soothe_error *err) {
    static const char name[] = "soothe lexicon " SOOTHE_VERSION;
    static int        state;
    (void)spec;
    (void)options;
    struct soothe__sha256 *hash = soothe__sha256_new();
    if (!hash)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening the lexicon");
    soothe__sha256_add(hash, name, sizeof name - 1);
    soothe__lexicon_hash(hash);
    soothe__sha256_finish(hash, identity);
    *self = &state;
    return SOOTHE_OK;
}

static enum soothe_status score(void *self, const char *const *texts, size_t n, struct soothe__score *scores,
                                struct soothe_error *err) {
    (void)self;
    (void)err;
    for (size_t i = 0; i < n; i++)
        scores[i] = (struct soothe__score){.toxicity = soothe__lexicon_score(texts[i], strlen(texts[i]))};
    return SOOTHE_OK;
}

static void close_lexicon(void *self) {
    (void)self;
}

extern const struct soothe__scorer_kind soothe__scorer_lexicon;
const struct soothe__scorer_kind        soothe__scorer_lexicon = {
           .name = "lexicon", .local = true, .takes = takes, .open = open_lexicon, .score = score, .close = close_lexicon};
