/* SPDX-License-Identifier: Apache-2.0
 * The n-gram scorer: logistic regression on hashed words and pieces of words (ngram_features.h). docs/scorer.md has
 * its figures.
 *     log-odds = bias + sum over the distinct features j of w_j / sqrt(number of features in j's group)
 *     toxicity = 1 / (1 + exp(-log-odds))
 * A text without words has toxicity 0.
 *
 * text    any bytes, need not end in zero
 * thread  any after open; a reader belongs to one thread at a time */
#ifndef SOOTHE_NGRAM_SCORER_H
#define SOOTHE_NGRAM_SCORER_H

#include "score/ngram_features.h"

#define SOOTHE__NGRAM_TYPE "soothe-ngram-scorer"
enum { SOOTHE__NGRAM_VERSION = 1 };

struct soothe__ngram_scorer {
    struct soothe__ngram_shape shape;
    struct soothe__word_list   list;
    int8_t                    *codes; /* (groups, 2^bits); weight = values[group][code + 127] */
    float                      values[SOOTHE__N_GROUPS][255];
    float                      bias;
    uint32_t                   window; /* words of a window of a long text; windows overlap by half */
};

/* Room that is used again from text to text: zeroed before its first use. */
struct soothe__ngram_reader {
    struct soothe__text_form form;
    struct soothe__ngrams    ngrams;
};
void soothe__ngram_reader_free(struct soothe__ngram_reader *reader); /* also of a zeroed one */

/* ---- opening: ngram_file.c ------------------------------------------------------------------------- */

/* errors  those of soothe__gguf_open; SOOTHE_E_FORMAT no such scorer, an unknown version; SOOTHE_E_SHAPE sizes;
 *         SOOTHE_E_NUMERIC values that are not finite */
enum soothe_status soothe__ngram_open(struct soothe__ngram_scorer **scorer, const char *path, struct soothe_error *err);
void               soothe__ngram_close(struct soothe__ngram_scorer *scorer); /* NULL is fine */

/* ---- scoring: ngram_scorer.c ------------------------------------------------------------------------- */

/* The toxicity in [0,1]; NaN when out of memory (or for a text of 1 GiB or more). */
double soothe__ngram_score(const struct soothe__ngram_scorer *scorer, const char *text, size_t size);
/* The same with room that is the caller's. */
double soothe__ngram_score_with(const struct soothe__ngram_scorer *scorer, struct soothe__ngram_reader *reader,
                                const char *text, size_t size);

/* What a stretch of the text adds to the log-odds. */
struct soothe__ngram_part {
    size_t start, end; /* bytes */
    double value;
};
struct soothe__ngram_parts {
    double                     bias, log_odds; /* log_odds = bias + sum of the values, up to rounding */
    struct soothe__ngram_part *parts;          /* (n) one a word, in the text's order                  */
    size_t                     n;
};
/* A feature's weight is shared by the words that it goes over and the places where it occurs. */
enum soothe_status soothe__ngram_explain(struct soothe__ngram_parts *out, const struct soothe__ngram_scorer *scorer,
                                         const char *text, size_t size, struct soothe_error *err);
void               soothe__ngram_parts_free(struct soothe__ngram_parts *parts);

/* Stretches of words that are toxic by themselves: every word whose own toxicity reaches the threshold and which adds
 * to the text's, neighbours joined. value is the stretch's own toxicity. bias and log_odds are those of the text. */
enum soothe_status soothe__ngram_spans(struct soothe__ngram_parts *out, const struct soothe__ngram_scorer *scorer,
                                       const char *text, size_t size, double threshold, struct soothe_error *err);

/* Windows of scorer->window words, each beginning half a window after the one before. */
struct soothe__ngram_windows {
    size_t n;          /* 1 for a text that is no longer than a window */
    double max, mean;  /* of their toxicities                            */
    size_t start, end; /* bytes of the worst                             */
};
enum soothe_status soothe__ngram_windows(struct soothe__ngram_windows *out, const struct soothe__ngram_scorer *scorer,
                                         const char *text, size_t size, struct soothe_error *err);

/* ---- the shipped one ------------------------------------------------------------------------------------ */

/* The path of default.scorer.gguf, fresh: in the folder that SOOTHE_MODELS names, else beside an installed program,
 * else in the source tree.  errors  SOOTHE_E_IO there is none */
enum soothe_status soothe__default_scorer(char **path, struct soothe_error *err);

/* The n-gram scorer behind the soothe__scorer_self() of a scorer of kind "ngram"; lives as long as that one. */
const struct soothe__ngram_scorer *soothe__ngram_of(const void *scorer_self);

/* wanted, or with 0 all that the machine has; 1 in a build without threads. */
int soothe__usable_threads(int32_t wanted);

#endif /* SOOTHE_NGRAM_SCORER_H */
