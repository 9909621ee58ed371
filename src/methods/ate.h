/* SPDX-License-Identifier: Apache-2.0
 * The average treatment effect (ATE) of words on a scorer, by counterfactual fills: CFL's table (docs/methods/cfl.md).
 *
 *     effect of a word in a sentence   e = f(sentence) - mean over fills w' of f(sentence with the word made w')
 *     effect of the word               mean of e over n sentences, nothing clipped
 *     its weight                       mean * n / (n + k), or 0 where the t-interval of the mean holds 0
 *
 * A word that only keeps bad company loses nothing when it is replaced: its effect is small, whatever f gives the bare
 * word. Fills are what fits the place: words that the neighbours on both sides allow in the texts themselves (n-gram),
 * or what the target would say there (model). Words of the lexicon are no fills. source  CFL (arXiv 2306.00374) and its
 * authors' later code; shrinkage, interval and fills without a masked language model are ours */
#ifndef SOOTHE_ATE_H
#define SOOTHE_ATE_H

#include <signal.h>

#include "score/scorer.h"
#include "score/word_chars.h"
#include "score/word_table.h"

/* ---- sentences: ate_corpus.c ---------------------------------------------------------------------------- */

struct soothe__ate_place {
    uint32_t word;       /* id; 0: what is no word or ends a sentence */
    uint32_t start, end; /* bytes of the sentence */
};
struct soothe__ate_sentence {
    char    *text;
    uint32_t first, n; /* in .places */
};
struct soothe__ate_word {
    char    *word;
    uint32_t n_occurrences;
    uint32_t first, n_sentences; /* in .where: the sentences that hold it, each once */
    bool     listed;             /* in the lexicon */
    bool     plain;              /* letters alone, two at least: may be in the table, or a fill */
};
struct soothe__ate_corpus {
    struct soothe__ate_sentence *sentences;
    struct soothe__ate_place    *places;
    struct soothe__ate_word     *words; /* by id; words[0] is none */
    uint32_t                    *where;
    uint32_t                    *slots; /* ids by hash */
    size_t                       n_sentences, n_places, n_words, n_slots;
    size_t                       sentences_capacity, places_capacity, words_capacity;
};

/* Adds the sentences of a text: cut behind '.', '!' and '?' before a space, and at line ends; those of fewer than three
 * words or more than 600 bytes are left out. */
enum soothe_status soothe__ate_corpus_add(struct soothe__ate_corpus *c, const char *text, struct soothe_error *err);
/* Takes equal sentences out and finds the sentences of each word; after the last text. */
enum soothe_status soothe__ate_corpus_finish(struct soothe__ate_corpus *c, struct soothe_error *err);
void               soothe__ate_corpus_free(struct soothe__ate_corpus *c); /* also of a zeroed one */
/* The id of a word, 0 if there is none. */
uint32_t soothe__ate_corpus_find(const struct soothe__ate_corpus *c, const char *word);

/* ---- fills: ate_ngram_fills.c, ate_model_fills.c ----------------------------------------------------------- */

enum { SOOTHE__FILLS_MAX = 32 };

/* Where fills come from. */
struct soothe__fills {
    void *self;
    /* Writes up to n distinct fills for a place and returns in *n_found how many. */
    enum soothe_status (*draw)(void *self, const struct soothe__ate_sentence *sentence,
                               const struct soothe__ate_place *place, int32_t n, struct soothe__rng *rng,
                               char (*out)[SOOTHE__WORD_BYTES_MAX + 1], int32_t *n_found, struct soothe_error *err);
    void (*free)(void *self);
};

/* p(w | left, right) in proportion to p(w | left) p(right | w), both smoothed bigrams of the corpus. */
enum soothe_status soothe__ngram_fills_new(struct soothe__fills *fills, const struct soothe__ate_corpus *corpus,
                                           struct soothe_error *err);
/* Single tokens that are whole words, drawn from the model's distribution behind the left context, kept if the right
 * context (16 tokens at most) is less likely by no more than `margin` nats than behind the word itself. */
enum soothe_status soothe__model_fills_new(struct soothe__fills *fills, struct llama_model *model, double margin,
                                           int32_t n_threads, struct soothe_error *err);

/* ---- effects: ate.c, ate_statistics.c ------------------------------------------------------------------------ */

struct soothe__ate_options {
    int32_t  n_min;       /* sentences that a word must have             */
    int32_t  n_sentences; /* of a word at most, drawn                    */
    int32_t  n_fills;     /* of a sentence at most                       */
    double   k;           /* of the shrinkage                            */
    double   confidence;  /* of the interval                             */
    uint64_t seed;
    void (*say)(double fraction);      /* NULL: none                    */
    const volatile sig_atomic_t *stop; /* nonzero: stop; NULL: never    */
};
struct soothe__ate_options soothe__ate_options_default(void); /* 5, 40, 5, 10, 0.95, 1 */

struct soothe__ate {
    double mean, lo, hi, weight;
};
/* Of the effects of n sentences; n = 1: no interval, weight 0. */
struct soothe__ate soothe__ate_of(const double *effects, size_t n, double k, double confidence);
/* The p-quantile of Student's t with so many degrees of freedom, p from 0.5 to 1. */
double soothe__t_quantile(double p, double degrees);

/* Fills a zeroed table with every plain word of n_min sentences or more, effects of 0 included.
 * errors  SOOTHE_E_INTERRUPTED; SOOTHE_E_ARGUMENT no word has enough sentences; those of the scorer and the fills */
enum soothe_status soothe__ate_table(struct soothe__word_table *table, const struct soothe__ate_corpus *corpus,
                                     struct soothe__scorer *scorer, const struct soothe__fills *fills,
                                     const struct soothe__ate_options *options, struct soothe_error *err);

#endif /* SOOTHE_ATE_H */
