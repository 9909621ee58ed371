/* SPDX-License-Identifier: Apache-2.0
 * Scores of a text while it arrives. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/score.h"

/* The whole text is scored at each of its first WHOLE_WORDS words, then whenever it has grown by an eighth: scoring it
 * at every word would take time that grows with the square of its length. */
enum {
    WINDOW_WORDS  = 24,
    WHOLE_WORDS   = 64,
    GROWTH        = 8,
    TEXT_MAX      = 1 << 20,
    WORD_SIZE_MAX = TEXT_MAX / 64,
    READ_SIZE     = 4096
};

struct stream {
    struct soothe__scorer *scorer;
    char                  *text; /* what has arrived, zero-terminated; its oldest half is dropped when it is full */
    size_t                 size, done;           /* done: bytes that need no further look */
    size_t                 starts[WINDOW_WORDS]; /* of the last words, a ring */
    size_t                 end;                  /* of the last word */
    size_t                 n_words, dropped;     /* dropped: bytes                */
    struct soothe__score   recent, all;          /* of the last words; of the text, up to all_end */
    size_t                 all_end;              /* counted from the beginning of the input */
    bool                   json;
    double                 max;
};

static bool is_gap(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static enum soothe_status print_event(const struct stream *s, struct soothe_error *err) {
    const size_t start = s->dropped + s->starts[(s->n_words - 1) % WINDOW_WORDS], end = s->dropped + s->end;
    if (s->json) {
        json_t *o = json_pack("{s:I, s:I, s:o, s:o, s:f}", "start", (json_int_t)start, "end", (json_int_t)end,
                              "toxicity", soothe__json_number(s->recent.toxicity), "text",
                              soothe__json_number(s->all.toxicity), "max", s->max);
        if (isnan(s->recent.toxicity))
            json_object_set_new(o, "why", json_string(s->recent.why));
        json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
        putchar('\n');
        json_decref(o);
    } else {
        printf("%zu\t%.4f\t%.4f\t%.4f\n", end, s->recent.toxicity, s->all.toxicity, s->max);
    }
    return fflush(stdout) ? soothe__fail(err, SOOTHE_E_IO, "cannot write the scores: %s", strerror(errno)) : SOOTHE_OK;
}

static bool all_is_due(const struct stream *s) {
    return s->n_words <= WHOLE_WORDS || s->dropped + s->end - s->all_end >= s->end / GROWTH;
}

/* Scores of the last words and, with all, of the text up to there. */
static enum soothe_status score_words(struct stream *s, bool all, struct soothe_error *err) {
    const char           after = s->text[s->end];
    struct soothe__score scores[2];
    const size_t         from       = s->n_words < WINDOW_WORDS ? 0 : s->starts[s->n_words % WINDOW_WORDS];
    const char          *texts[2]   = {s->text + from, s->text};
    s->text[s->end]                 = '\0';
    const enum soothe_status status = soothe__scorer_score(s->scorer, texts, all ? 2 : 1, scores, err);
    s->text[s->end]                 = after;
    if (status)
        return status;
    s->recent = scores[0];
    if (all) {
        s->all     = scores[1];
        s->all_end = s->dropped + s->end;
    }
    if (scores[0].toxicity > s->max)
        s->max = scores[0].toxicity;
    return print_event(s, err);
}

/* The word [start, end) has ended. */
static enum soothe_status on_word(struct stream *s, size_t start, size_t end, struct soothe_error *err) {
    s->starts[s->n_words++ % WINDOW_WORDS] = start;
    s->end                                 = end;
    return score_words(s, all_is_due(s), err);
}

/* The end of a piece of a word that is too long to be waited for: before its last character if that may go on. */
static size_t piece_end(const struct stream *s, size_t start, size_t end) {
    size_t at = end;
    while (at > start && end - at < 4 && ((unsigned char)s->text[at - 1] & 0xC0) == 0x80)
        at--;
    return at > start + 1 && (unsigned char)s->text[at - 1] >= 0xC0 ? at - 1 : end;
}

/* Events of the words that have ended; with last also of the one at the end. */
static enum soothe_status find_words(struct stream *s, bool last, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    while (!status) {
        while (s->done < s->size && is_gap(s->text[s->done]))
            s->done++;
        const size_t start = s->done;
        size_t       end   = start;
        while (end < s->size && !is_gap(s->text[end]) && end - start < WORD_SIZE_MAX)
            end++;
        if (end - start == WORD_SIZE_MAX)
            end = piece_end(s, start, end);
        else if (start == end || (end == s->size && !last))
            return SOOTHE_OK;
        s->done = end;
        status  = on_word(s, start, end, err);
    }
    return status;
}

/* Drops the older half, to the end of a word; the words of the ring that lie in it begin where it ended. */
static void drop_half(struct stream *s) {
    size_t n = s->done / 2;
    for (const size_t last = n + WORD_SIZE_MAX; n < s->done && n < last && !is_gap(s->text[n]);)
        n++;
    while (n < s->done && ((unsigned char)s->text[n] & 0xC0) == 0x80) /* nor in the middle of a character */
        n++;
    memmove(s->text, s->text + n, s->size - n);
    s->size -= n;
    s->done -= n;
    s->end = s->end > n ? s->end - n : 0;
    s->dropped += n;
    for (size_t i = 0; i < WINDOW_WORDS; i++)
        s->starts[i] = s->starts[i] > n ? s->starts[i] - n : 0;
}

/* One read, into the room that is left; *any is false at the end of the input. */
static enum soothe_status read_more(struct stream *s, bool *any, struct soothe_error *err) {
    const size_t room = TEXT_MAX + READ_SIZE - s->size;
    ssize_t      n;
    do
        n = read(STDIN_FILENO, s->text + s->size, room < READ_SIZE ? room : READ_SIZE);
    while (n < 0 && errno == EINTR);
    *any = n > 0;
    if (n < 0)
        return soothe__fail(err, SOOTHE_E_IO, "cannot read standard input: %s", strerror(errno));
    for (size_t i = 0; i < (size_t)n; i++) /* a text ends at its first zero byte */
        if (!s->text[s->size + i])
            s->text[s->size + i] = ' ';
    s->size += (size_t)n;
    return SOOTHE_OK;
}

enum soothe_status soothe__score_stream(struct soothe__scorer *scorer, bool json, struct soothe_error *err) {
    struct stream      s      = {.scorer = scorer, .json = json};
    enum soothe_status status = SOOTHE_OK;
    bool               any    = true;
    s.text                    = soothe__calloc(TEXT_MAX + READ_SIZE + 1, 1);
    if (!s.text)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    while (!status && any) {
        status = read_more(&s, &any, err);
        if (!status)
            status = find_words(&s, !any, err);
        if (s.size > TEXT_MAX)
            drop_half(&s);
    }
    if (!status && s.n_words > 0 && s.all_end < s.dropped + s.end) /* once more, with the whole */
        status = score_words(&s, true, err);
    free(s.text);
    return status;
}
