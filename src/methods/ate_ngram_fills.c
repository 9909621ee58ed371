/* SPDX-License-Identifier: Apache-2.0
 * Fills out of the texts themselves: words between the same neighbours, by bigrams.
 *     p(w | l, r)  ~  p(w | l) p(r | w),   p(y | x) = (c(x y) + MU p(y)) / (c(x) + MU)
 * Candidates are drawn from the successors of l and the predecessors of r, half and half but for a
 * tenth from all words, and weighed against what they were drawn with (importance sampling): a place costs the same
 * however many words there are. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/ate.h"

enum { N_CANDIDATES = 64 };
static const double MU = 2;

struct neighbour {
    uint32_t word, count, cumulative; /* cumulative: of this one and those before it */
};
struct neighbours { /* of word x: list[begin[x]] to list[begin[x + 1]] */
    struct neighbour *list;
    uint32_t         *begin; /* (n_words + 1) */
};
struct ngram_fills {
    const struct soothe__ate_corpus *corpus;
    struct neighbours                after, before;
    uint32_t                        *count; /* of each word, with the ends counted as word 0 */
    uint32_t                        *total; /* cumulative counts of words that may be fills */
    double                           n;     /* of all */
};

/* ---- counting ---------------------------------------------------------------------------------------------- */

struct bigram {
    uint32_t x, y;
};

static int by_pair(const void *a, const void *b) {
    const struct bigram *p = a, *q = b;
    return p->x != q->x ? (p->x > q->x) - (p->x < q->x) : (p->y > q->y) - (p->y < q->y);
}

static bool make_neighbours(struct neighbours *of, struct bigram *pairs, size_t n, size_t n_words) {
    size_t k  = 0;
    of->list  = soothe__calloc(n + 1, sizeof *of->list);
    of->begin = soothe__calloc(n_words + 1, sizeof *of->begin);
    if (!of->list || !of->begin)
        return false;
    qsort(pairs, n, sizeof *pairs, by_pair);
    for (size_t x = 0, i = 0; x < n_words; x++) {
        of->begin[x]        = (uint32_t)k;
        uint32_t cumulative = 0;
        while (i < n && pairs[i].x == x) {
            const size_t begin = i;
            while (i < n && pairs[i].x == x && pairs[i].y == pairs[begin].y)
                i++;
            cumulative += (uint32_t)(i - begin);
            of->list[k++] = (struct neighbour){pairs[begin].y, (uint32_t)(i - begin), cumulative};
        }
        of->begin[x + 1] = (uint32_t)k;
    }
    return true;
}

static bool may_fill(const struct soothe__ate_corpus *c, uint32_t word) {
    return word && c->words[word].plain && !c->words[word].listed && c->words[word].n_occurrences > 1;
}

static bool count_words(struct ngram_fills *f) {
    const struct soothe__ate_corpus *c     = f->corpus;
    uint32_t                         total = 0;
    f->count                               = soothe__calloc(c->n_words, sizeof *f->count);
    f->total                               = soothe__calloc(c->n_words, sizeof *f->total);
    if (!f->count || !f->total)
        return false;
    for (size_t i = 0; i < c->n_sentences; i++)
        for (uint32_t k = 0; k < c->sentences[i].n; k++) {
            f->count[c->places[c->sentences[i].first + k].word]++;
            f->n++;
        }
    for (uint32_t i = 1; i < c->n_words; i++)
        f->total[i] = total += may_fill(c, i) ? f->count[i] : 0;
    return true;
}

static bool count_bigrams(struct ngram_fills *f) {
    const struct soothe__ate_corpus *c     = f->corpus;
    struct bigram                   *pairs = soothe__calloc(c->n_places + 1, sizeof *pairs);
    size_t                           n     = 0;
    bool                             ok    = pairs != NULL;
    for (int reversed = 0; reversed < 2 && ok; reversed++) {
        n = 0;
        for (size_t i = 0; i < c->n_sentences; i++) {
            const struct soothe__ate_place *p = c->places + c->sentences[i].first;
            for (uint32_t k = 1; k < c->sentences[i].n; k++)
                pairs[n++] =
                    reversed ? (struct bigram){p[k].word, p[k - 1].word} : (struct bigram){p[k - 1].word, p[k].word};
        }
        ok = make_neighbours(reversed ? &f->before : &f->after, pairs, n, c->n_words);
    }
    free(pairs);
    return ok;
}

/* ---- drawing ------------------------------------------------------------------------------------------------- */

static uint32_t pair_count(const struct neighbours *of, uint32_t x, uint32_t y) {
    size_t lo = of->begin[x], hi = of->begin[x + 1];
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (of->list[mid].word < y)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < of->begin[x + 1] && of->list[lo].word == y ? of->list[lo].count : 0;
}

static uint32_t draw_neighbour(const struct neighbours *of, uint32_t x, struct soothe__rng *rng) {
    size_t         lo = of->begin[x], hi = of->begin[x + 1] - 1;
    const uint32_t u = soothe__rng_below(rng, of->list[hi].cumulative);
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (of->list[mid].cumulative <= u)
            lo = mid + 1;
        else
            hi = mid;
    }
    return of->list[lo].word;
}

static uint32_t draw_any(const struct ngram_fills *f, struct soothe__rng *rng) {
    size_t         lo = 1, hi = f->corpus->n_words - 1;
    const uint32_t u = soothe__rng_below(rng, f->total[hi]);
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (f->total[mid] <= u)
            lo = mid + 1;
        else
            hi = mid;
    }
    return (uint32_t)lo;
}

static double total_of(const struct neighbours *of, uint32_t x) {
    return of->list[of->begin[x + 1] - 1].cumulative;
}

/* With what probability a candidate that may be a fill is drawn: of the three ways. */
static double drawn_with(const struct ngram_fills *f, uint32_t l, uint32_t r, uint32_t w) {
    return 0.45 * pair_count(&f->after, l, w) / total_of(&f->after, l) +
           0.45 * pair_count(&f->before, r, w) / total_of(&f->before, r) +
           0.1 * f->count[w] / f->total[f->corpus->n_words - 1];
}

static double fits(const struct ngram_fills *f, uint32_t l, uint32_t r, uint32_t w) {
    const double behind = (pair_count(&f->after, l, w) + MU * f->count[w] / f->n) / (f->count[l] + MU);
    const double ahead  = (pair_count(&f->after, w, r) + MU * f->count[r] / f->n) / (f->count[w] + MU);
    return behind * ahead;
}

struct candidate {
    uint32_t word;
    double   weight, key;
};

static int by_key(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    return (x->key < y->key) - (x->key > y->key);
}

static struct candidate *find_or_add(struct candidate *list, int32_t *n, uint32_t word) {
    int32_t i = 0;
    while (i < *n && list[i].word != word)
        i++;
    if (i == *n)
        list[(*n)++] = (struct candidate){.word = word};
    return &list[i];
}

static enum soothe_status draw(void *self, const struct soothe__ate_sentence *sentence,
                               const struct soothe__ate_place *place, int32_t n, struct soothe__rng *rng,
                               char (*out)[SOOTHE__WORD_BYTES_MAX + 1], int32_t *n_found, struct soothe_error *err) {
    const struct ngram_fills *f = self;
    const uint32_t            l = place[-1].word, r = place[1].word;
    struct candidate          list[N_CANDIDATES];
    int32_t                   n_list = 0;
    (void)sentence;
    (void)err;
    for (int32_t i = 0; i < N_CANDIDATES; i++) {
        const double   way = soothe__rng_uniform(rng);
        const uint32_t w   = way < 0.45  ? draw_neighbour(&f->after, l, rng)
                             : way < 0.9 ? draw_neighbour(&f->before, r, rng)
                                         : draw_any(f, rng);
        if (may_fill(f->corpus, w) && w != place->word)
            find_or_add(list, &n_list, w)->weight += fits(f, l, r, w) / drawn_with(f, l, r, w);
    }
    /* The largest log(u) / weight are a weighted draw without replacement (Efraimidis and Spirakis 2006). */
    for (int32_t i = 0; i < n_list; i++)
        list[i].key = log(1 - soothe__rng_uniform(rng)) / list[i].weight;
    if (n_list > 0)
        qsort(list, (size_t)n_list, sizeof *list, by_key);
    *n_found = n_list < n ? n_list : n;
    for (int32_t i = 0; i < *n_found; i++)
        snprintf(out[i], sizeof out[i], "%s", f->corpus->words[list[i].word].word);
    return SOOTHE_OK;
}

static void fills_free(void *self) {
    struct ngram_fills *f = self;
    if (!f)
        return;
    free(f->after.list);
    free(f->after.begin);
    free(f->before.list);
    free(f->before.begin);
    free(f->count);
    free(f->total);
    free(f);
}

enum soothe_status soothe__ngram_fills_new(struct soothe__fills *fills, const struct soothe__ate_corpus *corpus,
                                           struct soothe_error *err) {
    struct ngram_fills *f = soothe__calloc(1, sizeof *f);
    *fills                = (struct soothe__fills){f, draw, fills_free};
    if (f)
        f->corpus = corpus;
    enum soothe_status status = SOOTHE_OK;
    if (!f || !count_words(f) || !count_bigrams(f))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory counting words");
    else if (f->total[corpus->n_words - 1] == 0)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "the texts hold no word twice that could fill a place");
    if (status) {
        fills_free(f);
        *fills = (struct soothe__fills){.self = NULL};
    }
    return status;
}
