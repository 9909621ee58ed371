/* SPDX-License-Identifier: Apache-2.0
 * The n-gram scorer among the kinds of scorers: "default", or a file of its type. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "score/ngram_scorer.h"
#include "score/scorer.h"

struct opened {
    struct soothe__ngram_scorer *scorer;
    int                          n_threads;
};

enum soothe_status soothe__default_scorer(char **path, struct soothe_error *err) {
    return soothe__shipped_file(path, "default.scorer.gguf", "scorer", "name a scorer by --scorer, or take lexicon",
                                err);
}

static bool takes(const char *spec, const char *general_type) {
    return strcmp(spec, "default") == 0 || (general_type && strcmp(general_type, SOOTHE__NGRAM_TYPE) == 0);
}

int soothe__usable_threads(int32_t wanted) {
#ifdef _OPENMP
    return wanted > 0 ? wanted : omp_get_max_threads();
#else
    (void)wanted;
    return 1;
#endif
}

static void close_scorer(void *self) {
    struct opened *o = self;
    if (o)
        soothe__ngram_close(o->scorer);
    free(o);
}

/* The file and the version: normal forms and lexicon are the program's. */
static enum soothe_status identify(char identity[65], const char *path, struct soothe_error *err) {
    enum soothe_status     status = soothe__sha256_file(identity, path, err);
    struct soothe__sha256 *hash   = status ? NULL : soothe__sha256_new();
    if (!status && !hash)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening scorer %s", path);
    if (status)
        return status;
    soothe__sha256_add(hash, identity, 64);
    soothe__sha256_add(hash, SOOTHE_VERSION, sizeof SOOTHE_VERSION - 1);
    soothe__sha256_finish(hash, identity);
    return SOOTHE_OK;
}

static enum soothe_status open_scorer(void **self, char identity[65], const char *spec,
                                      const struct soothe__scorer_options *options, struct soothe_error *err) {
    struct opened     *o      = soothe__calloc(1, sizeof *o);
    char              *path   = NULL;
    enum soothe_status status = SOOTHE_OK;
    *self                     = NULL;
    if (strcmp(spec, "default") == 0)
        status = soothe__default_scorer(&path, err);
    else
        path = soothe__strdup(spec);
    if (!status && (!o || !path))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening scorer %s", spec);
    if (!status)
        status = soothe__ngram_open(&o->scorer, path, err);
    if (!status)
        status = identify(identity, path, err);
    free(path);
    if (status) {
        close_scorer(o);
        return status;
    }
    o->n_threads = soothe__usable_threads(options->n_threads);
    *self        = o;
    return SOOTHE_OK;
}

static enum soothe_status score_texts(void *self, const char *const *texts, size_t n, struct soothe__score *scores,
                                      struct soothe_error *err) {
    const struct opened *o = self;
    (void)err;
#pragma omp parallel num_threads(o->n_threads) if (n > 64)
    {
        struct soothe__ngram_reader reader = {0};
#pragma omp for schedule(dynamic, 64)
        for (size_t i = 0; i < n; i++) {
            const double p = soothe__ngram_score_with(o->scorer, &reader, texts[i], strlen(texts[i]));
            scores[i]      = isnan(p) ? soothe__no_score("no memory for the text, or it is over 1 GiB")
                                      : (struct soothe__score){.toxicity = p};
        }
        soothe__ngram_reader_free(&reader);
    }
    return SOOTHE_OK;
}

const struct soothe__ngram_scorer *soothe__ngram_of(const void *scorer_self) {
    const struct opened *o = scorer_self;
    return o->scorer;
}

const struct soothe__scorer_kind soothe__scorer_ngram = {
    .name = "ngram", .local = true, .takes = takes, .open = open_scorer, .score = score_texts, .close = close_scorer};
