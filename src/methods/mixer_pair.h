/* SPDX-License-Identifier: Apache-2.0
 * Two helpers held against each other: what DExperts, its anti-expert form and proxy tuning share. */
#ifndef SOOTHE_MIXER_PAIR_H
#define SOOTHE_MIXER_PAIR_H

#include "generate/shortlist.h"
#include "methods/mixer.h"

/* z + a (plus - minus), masked: see soothe__mix_contrast. */
struct soothe__pair {
    struct soothe__method_target base;
    struct llama_model          *owned; /* the base, where it is not the target       */
    struct soothe__helper        plus, minus;
    bool                         has_plus, has_minus; /* without: the target's own logits           */
    bool                         both;                /* `minus` gives both rows: two prefixes in one batch  */
    float                        a, top_p, slack;
    struct llama_context_params  context;
    /* The state-space twin: a calibrator without blocks at +s and at -s differs by W 2s (B^T h + b) */
    struct soothe__own_head  *head;
    struct soothe_calibrator *twin;
    float                     twin_strength; /* 2 s */
    float                    *scratch;       /* (d) */
    struct soothe__shortlist  nucleus;
};

/* The file of the calibrator that makes the expert, NULL where it is another; the pair's own. */
const char *soothe__pair_calibrator(const struct soothe__pair *p);
/* Turns plus and minus, one calibrator at opposite strengths on the target itself, into the twin where that is exact:
 * no blocks, the residual form. */
enum soothe_status soothe__pair_use_twin(struct soothe__pair *p, const struct soothe__method_target *target,
                                         struct soothe_error *err);
/* A method's attach and release, where its state is a pair: adds the followers and the rule, nothing at a = 0. */
enum soothe_status soothe__pair_attach(struct soothe__link *l, struct soothe_session *session,
                                       struct soothe_error *err);
void               soothe__pair_free(void *pair); /* the struct itself too; NULL is fine */

#endif /* SOOTHE_MIXER_PAIR_H */
