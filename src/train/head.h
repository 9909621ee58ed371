/* SPDX-License-Identifier: Apache-2.0
 * The output head over many rows: log-probabilities, Kullback-Leibler divergence, and the way back.
 * The head's weights W_out (V, d) are constant; rows go through in pieces, so that logits of a whole
 * batch are never held. */
#ifndef SOOTHE_HEAD_H
#define SOOTHE_HEAD_H

#include "train/gemm.h"

enum { SOOTHE__HEAD_ROWS = 128 }; /* rows of a piece; operands are padded with zero rows to a multiple */

struct soothe__head;

/* weights (V, d) bf16; not needed afterwards. gemm must outlive it. */
enum soothe_status soothe__head_new(struct soothe__head **head, struct soothe__gemm *gemm, bool bf16,
                                    const uint16_t *weights, int32_t n_vocab, int32_t d, struct soothe_error *err);
void               soothe__head_free(struct soothe__head *head);
size_t             soothe__head_memory(const struct soothe__head *head);

struct soothe__head_rows {
    int32_t        n;
    const void    *h;             /* operand (n, d), padded: the states */
    const void    *h_t;           /* the same of the reference; NULL where no row needs it */
    const int32_t *next;          /* (n) */
    const bool    *diverge;       /* (n) true: G is of KL(p_t || p), and kl is filled; NULL: none */
    const bool    *needs_log_p_t; /* (n) true: log_p_t is to be filled; NULL: none */
    float         *log_p;         /* (n) log p(next) */
    float         *log_p_t;       /* (n) */
    float         *kl;            /* (n) */
    float         *g; /* (n padded, d) gradient with respect to h of -log p(next), or of KL where diverge; NULL: not
                         wanted */
    /* NULL, or makes of the reference's logits of a diverging row those that p is measured against; several threads */
    void (*soften)(void *user, int32_t row, float *z_t);
    void *soften_user;
};

enum soothe_status soothe__head_run(struct soothe__head *head, const struct soothe__head_rows *rows,
                                    struct soothe_error *err);

#endif /* SOOTHE_HEAD_H */
