/* SPDX-License-Identifier: Apache-2.0
 * Fills out of a language model, which sees only what stands left of a place: words are drawn there, and what stands
 * right of it has a say afterwards. One batch decodes the right context behind all candidates and behind the word that
 * was there. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/text_tokens.h"
#include "methods/ate.h"
#include "score/lexicon.h"

enum { LEFT_MAX = 48, RIGHT_MAX = 16, N_BATCH = 512 };

struct model_fills {
    struct soothe_session    *session;
    const struct llama_vocab *vocab;
    int32_t                   n_vocab;
    char                    **words; /* (n_vocab) of tokens that are whole words, folded; else NULL */
    double                    margin;
    struct llama_batch        batch;
};

/* ---- which tokens are words ---------------------------------------------------------------------------------- */

/* " word": a space, then letters. */
static char *word_of_token(const struct llama_vocab *vocab, llama_token token) {
    char         bytes[SOOTHE__WORD_BYTES_MAX + 1], folded[SOOTHE__WORD_BYTES_MAX + 1];
    const size_t n = soothe__token_bytes(vocab, token, bytes, sizeof bytes);
    if (n < 3 || n >= sizeof bytes || bytes[0] != ' ' || bytes[1] == ' ')
        return NULL;
    for (size_t i = 1; i < n; i++)
        if (!((bytes[i] >= 'a' && bytes[i] <= 'z') || (bytes[i] >= 'A' && bytes[i] <= 'Z')))
            return NULL;
    if (!soothe__fold_phrase(folded, bytes + 1, n - 1) || soothe__lexicon_count(folded, strlen(folded)) > 0)
        return NULL;
    return soothe__strdup(folded);
}

/* ---- one place ------------------------------------------------------------------------------------------------- */

struct candidate {
    llama_token token;
    double      key; /* its logit and Gumbel noise: the largest are a draw without replacement */
};

/* Keeps the best n of list, the best first. */
static void offer(struct candidate *list, int32_t *n, int32_t n_max, struct candidate c) {
    if (*n == n_max && c.key <= list[*n - 1].key)
        return;
    int32_t i = *n < n_max ? (*n)++ : *n - 1;
    for (; i > 0 && list[i - 1].key < c.key; i--)
        list[i] = list[i - 1];
    list[i] = c;
}

static int32_t draw_candidates(const struct model_fills *f, const float *z, const char *word, int32_t n_max,
                               struct soothe__rng *rng, struct candidate *list) {
    int32_t n = 0;
    for (int32_t i = 0; i < f->n_vocab; i++) {
        const double u = soothe__rng_uniform(rng);
        if (f->words[i] && strcmp(f->words[i], word) != 0)
            offer(list, &n, n_max, (struct candidate){i, (double)z[i] - log(-log(u + 1e-300))});
    }
    return n;
}

static double log_prob(const float *z, int32_t n, llama_token token) {
    double largest = -INFINITY, sum = 0;
    for (int32_t i = 0; i < n; i++)
        largest = (double)z[i] > largest ? (double)z[i] : largest;
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)z[i] - largest);
    return (double)z[token] - largest - log(sum);
}

static void add(struct model_fills *f, llama_token token, llama_pos pos, llama_seq_id seq, bool output) {
    soothe__batch_add(&f->batch, token, pos, seq, output);
}

/* The log-likelihood of right (n_right) behind each of n beginnings, which stand in sequences 1 to n from pos on. */
static enum soothe_status weigh_right(struct model_fills *f, llama_token *const *begin, const int32_t *n_begin,
                                      int32_t n, llama_pos pos, const llama_token *right, int32_t n_right, double *out,
                                      struct soothe_error *err) {
    f->batch.n_tokens = 0;
    for (int32_t k = 0; k < n; k++) {
        soothe_seq_rm(f->session, k + 1, -1, -1);
        soothe_seq_cp(f->session, 0, k + 1, -1, -1);
        for (int32_t i = 0; i < n_begin[k]; i++)
            add(f, begin[k][i], pos + i, k + 1, i == n_begin[k] - 1);
        for (int32_t i = 0; i + 1 < n_right; i++)
            add(f, right[i], pos + n_begin[k] + i, k + 1, true);
        out[k] = 0;
    }
    const enum soothe_status status = soothe_decode(f->session, f->batch, err);
    int32_t                  i      = 0;
    for (int32_t k = 0; k < n && !status; k++) {
        i += n_begin[k] - 1;
        for (int32_t r = 0; r < n_right; r++, i++)
            out[k] += log_prob(soothe_get_logits_ith(f->session, i), f->n_vocab, right[r]);
    }
    return status;
}

struct context {
    llama_token *left, *right, *word;
    int32_t      n_left, n_right, n_word;
};

static void free_context(struct context *c) {
    free(c->left);
    free(c->right);
    free(c->word);
}

static enum soothe_status read_context(struct context *c, const struct model_fills *f,
                                       const struct soothe__ate_sentence *s, const struct soothe__ate_place *p,
                                       struct soothe_error *err) {
    size_t n_left = p->start;
    while (n_left > 0 && s->text[n_left - 1] == ' ')
        n_left--;
    char              *word = soothe__format(" %.*s", (int)(p->end - p->start), s->text + p->start);
    enum soothe_status status =
        word ? soothe__tokenize(&c->left, &c->n_left, f->vocab, s->text, n_left, SOOTHE__TOKENIZE_START, err)
             : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a word");
    if (!status)
        status = soothe__tokenize(&c->word, &c->n_word, f->vocab, word, strlen(word), 0, err);
    if (!status)
        status = soothe__tokenize(&c->right, &c->n_right, f->vocab, s->text + p->end, strlen(s->text + p->end), 0, err);
    free(word);
    return status;
}

static enum soothe_status draw(void *self, const struct soothe__ate_sentence *sentence,
                               const struct soothe__ate_place *place, int32_t n, struct soothe__rng *rng,
                               char (*out)[SOOTHE__WORD_BYTES_MAX + 1], int32_t *n_found, struct soothe_error *err) {
    struct model_fills *f = self;
    struct context      c = {.left = NULL};
    struct candidate    list[SOOTHE__FILLS_MAX];
    llama_token         tokens[SOOTHE__FILLS_MAX], *begin[SOOTHE__FILLS_MAX + 1];
    int32_t             n_begin[SOOTHE__FILLS_MAX + 1], n_list = 0;
    double              weight[SOOTHE__FILLS_MAX + 1];
    char                folded[SOOTHE__WORD_BYTES_MAX + 1] = "";
    *n_found                                               = 0;
    enum soothe_status status                              = read_context(&c, f, sentence, place, err);
    if (status || c.n_word == 0 ||
        !soothe__fold_phrase(folded, sentence->text + place->start, place->end - place->start))
        goto done;
    const int32_t skip = c.n_left > LEFT_MAX ? c.n_left - LEFT_MAX : 0, n_left = c.n_left > 0 ? c.n_left - skip : 1;
    const int32_t n_right = c.n_right < RIGHT_MAX ? c.n_right : RIGHT_MAX;
    f->batch.n_tokens     = 0;
    soothe_clear(f->session);
    for (int32_t i = 0; i < n_left; i++)
        add(f, c.n_left > 0 ? c.left[skip + i] : soothe__start_token(f->vocab), i, 0, i == n_left - 1);
    status = soothe_decode(f->session, f->batch, err);
    if (status)
        goto done;
    const int32_t room   = N_BATCH / (c.n_word + n_right + 1) - 1,
                  wanted = 2 * n < SOOTHE__FILLS_MAX ? 2 * n : SOOTHE__FILLS_MAX;
    n_list =
        draw_candidates(f, soothe_get_logits_ith(f->session, -1), folded, wanted < room ? wanted : room, rng, list);
    for (int32_t i = 0; i < n_list; i++) {
        tokens[i]  = list[i].token;
        begin[i]   = &tokens[i];
        n_begin[i] = 1;
    }
    begin[n_list]   = c.word;
    n_begin[n_list] = c.n_word;
    if (n_right > 0)
        status = weigh_right(f, begin, n_begin, n_list + 1, n_left, c.right, n_right, weight, err);
    for (int32_t i = 0; i < n_list && !status && *n_found < n; i++)
        if (n_right == 0 || weight[i] >= weight[n_list] - f->margin)
            snprintf(out[(*n_found)++], sizeof *out, "%s", f->words[list[i].token]);
done:
    free_context(&c);
    return status;
}

/* ---- making it --------------------------------------------------------------------------------------------------- */

static void fills_free(void *self) {
    struct model_fills *f = self;
    if (!f)
        return;
    soothe_session_free(f->session);
    for (int32_t i = 0; f->words && i < f->n_vocab; i++)
        free(f->words[i]);
    free(f->words);
    if (f->batch.token)
        llama_batch_free(f->batch);
    free(f);
}

enum soothe_status soothe__model_fills_new(struct soothe__fills *fills, struct llama_model *model, double margin,
                                           int32_t n_threads, struct soothe_error *err) {
    struct soothe_session_params p      = soothe_session_params_default();
    struct model_fills          *f      = soothe__calloc(1, sizeof *f);
    enum soothe_status           status = SOOTHE_OK;
    *fills                              = (struct soothe__fills){f, draw, fills_free};
    if (f) {
        f->vocab   = llama_model_get_vocab(model);
        f->n_vocab = llama_vocab_n_tokens(f->vocab);
        f->margin  = margin;
        f->batch   = llama_batch_init(N_BATCH, 0, 1);
        f->words   = soothe__calloc((size_t)f->n_vocab, sizeof *f->words);
    }
    if (!f || !f->words || !f->batch.token)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a model's fills");
    for (int32_t i = 0; !status && i < f->n_vocab; i++)
        f->words[i] = word_of_token(f->vocab, i);
    p.context.n_ctx     = N_BATCH + LEFT_MAX + 16;
    p.context.n_batch   = N_BATCH;
    p.context.n_seq_max = SOOTHE__FILLS_MAX + 2;
    if (n_threads > 0)
        p.context.n_threads = p.context.n_threads_batch = n_threads;
    if (!status)
        status = soothe_session_new(&f->session, model, NULL, &p, err);
    if (status) {
        fills_free(f);
        *fills = (struct soothe__fills){.self = NULL};
    }
    return status;
}
