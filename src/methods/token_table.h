/* SPDX-License-Identifier: Apache-2.0
 * A table of words (score/word_table.h) turned into penalties on a vocabulary's tokens.
 *
 * A token *completes* a word when its letters are the word's last ones, the word began at a boundary (no letter before
 * it), and behind it the token ends or goes on with no letter. So " class", or "ass" behind " cl", completes no word
 * "ass", and of a word of several tokens the last one is meant. A table is a trie; where a text stands in it is a
 * *state* of a few bytes, moved on by a token's bytes. Which tokens complete a word is worked out beforehand for every
 * place of the trie, so that a row of logits costs what its list has entries, not what the vocabulary has tokens.
 *
 * What a token cannot know: whether letters follow. " cock" completes a listed "cock" even if "tail" would have come.
 *
 * thread  a table is read-only and may be shared; states and rooms belong to one thread at a time
 * source  CFL (arXiv 2306.00374): z_v - strength * ATE(v), here over words instead of tokens */
#ifndef SOOTHE_TOKEN_TABLE_H
#define SOOTHE_TOKEN_TABLE_H

#include "fusion/stage.h"
#include "score/word_chars.h"
#include "score/word_table.h"

struct soothe__token_table;

/* Where a text stands; zeroed: at its beginning. */
struct soothe__table_state {
    uint32_t                  nodes[SOOTHE__PHRASE_WORDS_MAX]; /* of the trie, one for every word still possible */
    uint8_t                   n_nodes;
    bool                      in_word, separated; /* the last character was a letter, a separator */
    struct soothe__word_chars chars;
};

/* Words whose weight is 0 or less are left out.
 * errors  SOOTHE_E_MEMORY */
enum soothe_status soothe__token_table_new(struct soothe__token_table **table, const struct soothe__word_table *words,
                                           const struct llama_vocab *vocab, struct soothe_error *err);
/* One more owner, who frees it too; from any thread. */
struct soothe__token_table *soothe__token_table_share(struct soothe__token_table *table);
void                        soothe__token_table_free(struct soothe__token_table *table); /* NULL is fine */

/* Moves the state on by a token. One without text (control tokens) and one that does not exist begin a new text. */
void soothe__token_table_move(const struct soothe__token_table *table, struct soothe__table_state *state,
                              llama_token token);

struct soothe__token_penalty {
    llama_token token;
    float       weight; /* > 0 */
};
/* Room for the penalties of a row. */
struct soothe__token_room {
    float                        *weight; /* (n_vocab), zero between calls */
    struct soothe__token_penalty *list;   /* (n_vocab) */
    int32_t                       n_vocab;
};
bool soothe__token_room_new(struct soothe__token_room *room, const struct soothe__token_table *table);
void soothe__token_room_free(struct soothe__token_room *room); /* also of a zeroed one */

/* The tokens that complete a word here, each once, with the largest weight of the words that it completes; returns how
 * many. room->list holds them. */
size_t soothe__token_table_list(const struct soothe__token_table *table, const struct soothe__table_state *state,
                                struct soothe__token_room *room);

/* The same for one token by its definition, letter by letter: what the lists must agree with. */
float soothe__token_table_weight(const struct soothe__token_table *table, const struct soothe__table_state *state,
                                 llama_token token);

/* ---- as a stage: token_table_stage.c ---------------------------------------------------------------------- */

/* Adds the stage that takes dose * strength * weight from the logits of the tokens so listed. Strength 0: no stage.
 * table     borrowed, must outlive the session
 * strength  >= 0; infinite: they are never chosen, whatever the dose (but 0) */
enum soothe_status soothe__session_add_token_table(struct soothe_session            *session,
                                                   const struct soothe__token_table *table, float strength,
                                                   struct soothe_error *err);

#endif /* SOOTHE_TOKEN_TABLE_H */
