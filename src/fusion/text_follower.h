/* SPDX-License-Identifier: Apache-2.0
 * One sequence of a target's tokens as the text that they stand for, and that text in another vocabulary's tokens.
 *
 * Text       the bytes of the target's tokens. Bytes that do not yet form a character wait; bytes that never will
 * become U+FFFD. The space that a SentencePiece vocabulary puts before every text is not text. Special    tokens have
 * roles instead (text_roles.c): the beginning of a text is the calibrator's own BOS where its vocabulary wants one; the
 * others become its token of the same role, or a line break, or nothing. No text    gives the calibrator its start
 * token, since there is no state of no token.
 *
 * A follower's tokens depend on nothing but the target's tokens that it holds: however they came to be there, they are
 * those of a fresh one. */
#ifndef SOOTHE_TEXT_FOLLOWER_H
#define SOOTHE_TEXT_FOLLOWER_H

#include "fusion/text_boundaries.h"

/* What all sequences of a pair share. */
struct soothe__follow_rules {
    const struct llama_vocab  *target, *own; /* own: the calibrator's */
    struct soothe__boundaries *boundaries;   /* of own */
    bool                       target_space; /* the target puts a space before every text */
};
/* errors  those of soothe__boundaries_new */
enum soothe_status soothe__follow_rules_new(struct soothe__follow_rules *r, const struct llama_vocab *target,
                                            const struct llama_model *own, struct soothe_error *err);
void               soothe__follow_rules_free(struct soothe__follow_rules *r);

/* ---- special tokens: text_roles.c ---------------------------------------------------------------------------- */

enum soothe__role_kind { SOOTHE__ROLE_TEXT, SOOTHE__ROLE_NOTHING, SOOTHE__ROLE_LINE_BREAK, SOOTHE__ROLE_TOKEN };
struct soothe__role {
    enum soothe__role_kind kind;
    llama_token            token; /* of the calibrator */
};
/* first: nothing stands before the token */
struct soothe__role soothe__role_of(const struct soothe__follow_rules *r, llama_token token, bool first);

/* ---- a sequence ---------------------------------------------------------------------------------------------- */

/* One token of the target, and what stood there when it had come. */
struct soothe__followed {
    llama_pos                  pos;
    llama_token                token;
    size_t                     n_text, n_specials;
    struct soothe__utf8_stream waiting;
    bool                       begun; /* text has come since the beginning or the last special token */
};

struct soothe__special {
    size_t      at; /* byte of the text that it stands before */
    llama_token token;
};

/* The calibrator's tokens of text[0,byte) and of the first n_specials special tokens are known: n_tokens of them. */
struct soothe__known {
    size_t byte, need, n_specials, n_tokens; /* holds while the text has `need` bytes */
    bool   tail;                             /* goes on within a piece of text */
};

struct soothe__follower {
    struct soothe__followed *entries;
    size_t                   n, capacity;
    char                    *text;
    size_t                   n_text, text_capacity;
    struct soothe__special  *specials;
    size_t                   n_specials, specials_capacity;
    struct soothe__known    *known;
    size_t                   n_known, known_capacity;
    struct soothe__tokens    tokens; /* up to date after soothe__follower_tokenize: */
    bool                     current;
};

void soothe__follower_free(struct soothe__follower *f); /* and zeroes it */

/* The next token of the target; pos above all before it. After an error the token is not there. */
enum soothe_status soothe__follower_push(struct soothe__follower *f, const struct soothe__follow_rules *r,
                                         llama_pos pos, llama_token token, struct soothe_error *err);
llama_pos          soothe__follower_end(const struct soothe__follower *f); /* last position; -1: none */

/* Positions [p0, p1) are gone. A tail cannot fail. */
enum soothe_status soothe__follower_remove(struct soothe__follower *f, const struct soothe__follow_rules *r,
                                           llama_pos p0, llama_pos p1, struct soothe_error *err);
/* to gets from's tokens of [p0, p1) beside its own, as an engine's sequence does. */
enum soothe_status soothe__follower_copy(struct soothe__follower *to, const struct soothe__follower *from,
                                         const struct soothe__follow_rules *r, llama_pos p0, llama_pos p1,
                                         struct soothe_error *err);

/* Brings f->tokens up to date: never empty afterwards. */
enum soothe_status soothe__follower_tokenize(struct soothe__follower *f, const struct soothe__follow_rules *r,
                                             struct soothe_error *err);

#endif /* SOOTHE_TEXT_FOLLOWER_H */
