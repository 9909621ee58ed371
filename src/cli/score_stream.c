/* SPDX-License-Identifier: Apache-2.0
 * Scores of a text while it arrives. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/score.h"

enum { WINDOW_WORDS = 24, TEXT_MAX = 1 << 20, READ_SIZE = 4096 };

struct stream {
    struct soothe__scorer *scorer;
    char                  *text; /* what has arrived, zero-terminated; its oldest half is dropped when it is full */
    size_t                 size, done;           /* done: bytes up to the last event */
    size_t                 starts[WINDOW_WORDS]; /* of the last words, a ring */
    size_t                 n_words, dropped;     /* dropped: bytes                */
    bool                   json;
    double                 max;
};

static bool is_gap(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static void print_event(const struct stream *s, size_t start, size_t end, const struct soothe__score *recent,
                        const struct soothe__score *all) {
    if (!s->json) {
        printf("%zu\t%.4f\t%.4f\t%.4f\n", s->dropped + end, recent->toxicity, all->toxicity, s->max);
        return;
    }
    json_t *o = json_pack("{s:I, s:I, s:o, s:o, s:f}", "start", (json_int_t)(s->dropped + start), "end",
                          (json_int_t)(s->dropped + end), "toxicity", soothe__json_number(recent->toxicity), "text",
                          soothe__json_number(all->toxicity), "max", s->max);
    if (isnan(recent->toxicity))
        json_object_set_new(o, "why", json_string(recent->why));
    json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(o);
}

/* The word [start, end) has ended: scores of the last words and of all. */
static enum soothe_status on_word(struct stream *s, size_t start, size_t end, struct soothe_error *err) {
    const char           after = s->text[end];
    struct soothe__score scores[2];
    s->starts[s->n_words++ % WINDOW_WORDS] = start;
    const size_t from                      = s->n_words < WINDOW_WORDS ? 0 : s->starts[s->n_words % WINDOW_WORDS];
    const char  *texts[2]                  = {s->text + from, s->text};
    s->text[end]                           = '\0';
    enum soothe_status status              = soothe__scorer_score(s->scorer, texts, 2, scores, err);
    s->text[end]                           = after;
    if (status)
        return status;
    if (scores[0].toxicity > s->max)
        s->max = scores[0].toxicity;
    print_event(s, start, end, &scores[0], &scores[1]);
    return fflush(stdout) ? soothe__fail(err, SOOTHE_E_IO, "cannot write the scores: %s", strerror(errno)) : SOOTHE_OK;
}

/* Events of the words that have ended; with last also of the one at the end. */
static enum soothe_status find_words(struct stream *s, bool last, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    while (!status) {
        size_t start = s->done;
        while (start < s->size && is_gap(s->text[start]))
            start++;
        size_t end = start;
        while (end < s->size && !is_gap(s->text[end]))
            end++;
        if (start == end || (end == s->size && !last && end - start < TEXT_MAX / 4))
            return SOOTHE_OK;
        status  = on_word(s, start, end, err);
        s->done = end;
    }
    return status;
}

/* Drops the older half; the words of the ring that lie in it begin where it ended. */
static void drop_half(struct stream *s) {
    const size_t n = s->done / 2;
    memmove(s->text, s->text + n, s->size - n);
    s->size -= n;
    s->done -= n;
    s->dropped += n;
    for (size_t i = 0; i < WINDOW_WORDS; i++)
        s->starts[i] = s->starts[i] > n ? s->starts[i] - n : 0;
}

enum soothe_status soothe__score_stream(struct soothe__scorer *scorer, bool json, struct soothe_error *err) {
    struct stream      s      = {.scorer = scorer, .json = json};
    enum soothe_status status = SOOTHE_OK;
    s.text                    = soothe__calloc(TEXT_MAX + READ_SIZE + 1, 1);
    if (!s.text)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    while (!status) {
        const ssize_t n = read(STDIN_FILENO, s.text + s.size, READ_SIZE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            status = soothe__fail(err, SOOTHE_E_IO, "cannot read standard input: %s", strerror(errno));
        if (n <= 0)
            break;
        for (ssize_t i = 0; i < n; i++) /* a text ends at its first zero byte */
            if (!s.text[s.size + (size_t)i])
                s.text[s.size + (size_t)i] = ' ';
        s.size += (size_t)n;
        status = find_words(&s, false, err);
        if (s.size > TEXT_MAX)
            drop_half(&s);
    }
    if (!status)
        status = find_words(&s, true, err);
    free(s.text);
    return status;
}
