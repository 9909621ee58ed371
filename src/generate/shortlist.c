/* SPDX-License-Identifier: Apache-2.0
 * The few tokens that sampling can choose, found without sorting the vocabulary.
 *
 * Two passes over the V logits in vector registers (the largest; the sum of exponentials), then the tokens within 4 of
 * the largest, if these hold enough probability, else within 8, 16, … : some dozens out of 49 152, or some thousands
 * where the model is unsure. Those are dealt into ranges of logits, and range after range is sorted until enough is
 * there. The engine's own nucleus sampler builds V records and sorts a good part of them: with it sampling took 30 % of
 * the time of a 135M model with 32 sequences (docs/experiments.md). */
#include "generate/shortlist.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define MULTIVERSION __attribute__((target_clones("avx512f", "avx2,fma", "default")))
#else
#define MULTIVERSION
#endif

enum { N_RANGES = 256 };

/* e^x for x <= 0, relative error below 3e-7 down to -87; 1.6e-38 below that. x = n ln 2 + r with |r| <= ln 2 / 2, e^r
 * by its Taylor series. */
static inline float exp_below(float x) {
    const float clipped = x < -87.0f ? -87.0f : x;
    const float n       = (float)(int32_t)(clipped * 1.44269504f - 0.5f);
    const float r       = (clipped - n * 0.693359375f) + n * 2.12194440e-4f;
    const float p =
        1.0f + r * (1.0f + r * (0.5f + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720))))));
    union {
        int32_t i;
        float   f;
    } scale = {.i = ((int32_t)n + 127) << 23};
    return p * scale.f;
}

/* The largest of z; *bad counts the NaN. */
MULTIVERSION
static float largest_of(const float *z, int32_t n, int32_t *bad) {
    float   top = -INFINITY;
    int32_t nan = 0;
#pragma omp simd reduction(max : top) reduction(+ : nan)
    for (int32_t i = 0; i < n; i++) {
        top = z[i] > top ? z[i] : top;
        nan += z[i] != z[i];
    }
    *bad = nan;
    return top;
}

/* Not in several versions: gcc 12 gives the wider ones a loop that it cannot vectorize. */
static double sum_of_exponentials(const float *z, int32_t n, float largest) {
    enum { PIECE = 64 }; /* floats are added up over so many only, in whatever order: rounding stays below 64 x 2^-24 */
    double sum = 0;
    for (int32_t from = 0; from < n; from += PIECE) {
        const int32_t end  = n - from < PIECE ? n : from + PIECE;
        float         part = 0;
#pragma omp simd reduction(+ : part)
        for (int32_t i = from; i < end; i++)
            part += exp_below(z[i] - largest);
        sum += (double)part;
    }
    return sum;
}

static int by_logit(const void *x, const void *y) {
    const llama_token_data *a = x, *b = y;
    if (a->logit != b->logit)
        return a->logit > b->logit ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static bool make_room(struct soothe__shortlist *list, size_t n) {
    if (n <= list->capacity)
        return true;
    llama_token_data *data = soothe__realloc(list->data, n, sizeof *data);
    if (!data)
        return false;
    list->data              = data;
    llama_token_data *dealt = soothe__realloc(list->dealt, n, sizeof *dealt);
    if (!dealt)
        return false;
    list->dealt     = dealt;
    uint8_t *ranges = soothe__realloc(list->ranges, n, sizeof *ranges);
    if (!ranges)
        return false;
    list->ranges   = ranges;
    list->capacity = n;
    return true;
}

/* All tokens with a logit of at least lowest, and the sum of their exponentials. */
static bool gather(struct soothe__shortlist *list, const float *z, int32_t n_vocab, float lowest, double *mass) {
    list->n = 0;
    *mass   = 0;
    for (int32_t i = 0; i < n_vocab; i++) {
        if (!(z[i] >= lowest))
            continue;
        if (list->n == list->capacity && !make_room(list, 2 * list->n + 256))
            return false;
        list->data[list->n++] = (llama_token_data){.id = i, .logit = z[i], .p = exp_below(z[i] - list->largest)};
        *mass += (double)list->data[list->n - 1].p;
    }
    return true;
}

/* Deals the gathered tokens into ranges of logits, the largest first: range r ends before ends[r]. */
static void deal(struct soothe__shortlist *list, float width, size_t ends[N_RANGES]) {
    const float scale            = N_RANGES / width;
    size_t      places[N_RANGES] = {0};
    uint8_t    *ranges           = list->ranges;
    for (size_t i = 0; i < list->n; i++) {
        const float below = (list->largest - list->data[i].logit) * scale;
        ranges[i]         = below < N_RANGES - 1 ? (uint8_t)below : N_RANGES - 1;
        places[ranges[i]]++;
    }
    for (size_t r = 0, begin = 0; r < N_RANGES; r++) {
        ends[r]   = begin + places[r];
        places[r] = begin;
        begin     = ends[r];
    }
    for (size_t i = 0; i < list->n; i++)
        list->dealt[places[ranges[i]]++] = list->data[i];
    llama_token_data *dealt = list->dealt;
    list->dealt             = list->data;
    list->data              = dealt;
}

/* Leaves the head of the gathered tokens that is wanted, in order: so many tokens, or if that is 0 the shortest that
 * holds the probability top_p, as the engine cuts. */
static void sort_head(struct soothe__shortlist *list, float width, size_t wanted, float top_p) {
    size_t ends[N_RANGES];
    double sum = 0;
    deal(list, width, ends);
    for (size_t r = 0, i = 0; r < N_RANGES; r++) {
        qsort(list->data + i, ends[r] - i, sizeof *list->data, by_logit);
        for (; i < ends[r]; i++) {
            llama_token_data *token = &list->data[i];
            if (wanted) {
                if (i + 1 < wanted)
                    continue;
            } else {
                sum += (double)token->p;
                token->p = (float)((double)token->p / list->sum);
                if (sum / list->sum < (double)top_p)
                    continue;
            }
            list->n = i + 1;
            return;
        }
    }
}

bool soothe__shortlist_read(struct soothe__shortlist *list, const float *z, int32_t n_vocab) {
    int32_t n_bad;
    list->largest = largest_of(z, n_vocab, &n_bad);
    list->n       = 0;
    list->sum     = 0;
    if (n_bad > 0 || !isfinite(list->largest))
        return false;
    list->sum = sum_of_exponentials(z, n_vocab, list->largest);
    return true;
}

bool soothe__shortlist_fill(struct soothe__shortlist *list, const float *z, int32_t n_vocab, int32_t top_k,
                            float top_p) {
    const size_t wanted = top_k > 0 && top_k < n_vocab ? (size_t)top_k : top_k > 0 ? (size_t)n_vocab : 0;
    double       mass   = 0;
    float        width  = 4;
    for (;; width *= 2) {
        const bool all = width > 64;
        if (!gather(list, z, n_vocab, all ? -INFINITY : list->largest - width, &mass))
            return false;
        if (all || (wanted ? list->n >= wanted : mass >= (double)top_p * list->sum))
            break;
    }
    sort_head(list, width, wanted, top_p);
    return true;
}

bool soothe__shortlist_all(struct soothe__shortlist *list, const float *z, int32_t n_vocab) {
    if (!make_room(list, (size_t)n_vocab))
        return false;
    list->n = (size_t)n_vocab;
    for (int32_t i = 0; i < n_vocab; i++)
        list->data[i] = (llama_token_data){.id = i, .logit = z[i], .p = 0};
    return true;
}

double soothe__shortlist_log_prob(const struct soothe__shortlist *list, float logit) {
    return (double)(logit - list->largest) - log(list->sum);
}

double soothe__log_sum_exp(const float *z, int32_t n_vocab) {
    struct soothe__shortlist list = {.n = 0};
    return soothe__shortlist_read(&list, z, n_vocab) ? (double)list.largest + log(list.sum) : (double)NAN;
}

void soothe__shortlist_free(struct soothe__shortlist *list) {
    free(list->data);
    free(list->dealt);
    free(list->ranges);
    *list = (struct soothe__shortlist){.n = 0};
}
