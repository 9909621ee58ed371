/* SPDX-License-Identifier: Apache-2.0
 * Two helpers held against each other.
 *
 * The twin. Expert and anti-expert made of one calibrator without blocks, at strengths +s and -s, have the logits
 * W (h + s c) and W (h - s c) with c = B^T h + b. Their difference is W 2s c: one product with the head instead of two
 * passes of the target. a times it on z is W (h + 2 a s c), which is fusion at strength 2 a s; what DExperts adds to
 * that is the mask alone. */
#include <stdlib.h>
#include <string.h>

#include "methods/mixer_pair.h"

/* ---- the twin -------------------------------------------------------------------------------------------- */

enum soothe_status soothe__pair_use_twin(struct soothe__pair *p, const struct soothe__method_target *target,
                                         struct soothe_error *err) {
    struct soothe_calibrator *cal  = p->plus.calibrator;
    const bool                twin = cal && !cal->model && cal->fusion.form == SOOTHE_FORM_RESIDUAL && !p->owned &&
                      p->minus.calibrator && p->minus.strength == -p->plus.strength;
    if (!twin)
        return SOOTHE_OK;
    struct soothe_error      why;
    const enum soothe_status status = soothe__own_head_open(&p->head, target->path, &why);
    if (status == SOOTHE_E_UNSUPPORTED)
        return SOOTHE_OK; /* a head that cannot be computed alone: two contexts then */
    if (status)
        return soothe__fail(err, status, "%s", why.message);
    p->scratch = soothe__calloc((size_t)cal->fusion.d_tgt, sizeof *p->scratch);
    if (!p->scratch)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    p->twin            = cal;
    p->twin_strength   = 2 * p->plus.strength;
    p->plus.calibrator = NULL;
    soothe__helper_close(&p->plus);
    soothe__helper_close(&p->minus);
    return SOOTHE_OK;
}

const char *soothe__pair_calibrator(const struct soothe__pair *p) {
    const struct soothe_calibrator *cal = p->twin ? p->twin : p->plus.calibrator;
    return cal ? cal->path : NULL;
}

/* u = 2 s (B^T h + b): what the fusion leaves in its scratch. */
static void twin_state(void *self, const float *h, float *u, int32_t d) {
    const struct soothe__pair *p = self;
    memcpy(p->scratch, h, (size_t)d * sizeof *h);
    soothe__fuse_row(&p->twin->fusion, p->scratch, NULL, 1, u);
    for (int32_t i = 0; i < d; i++)
        u[i] *= p->twin_strength;
}

/* z + a g, everywhere. */
static enum soothe_status twin_row(void *self, const struct soothe__mixer_row *row, struct soothe_error *err) {
    const struct soothe__pair *p = self;
    (void)err;
    for (int32_t i = 0; i < row->n_vocab; i++)
        row->z[i] += p->a * row->dose * row->sources[0][i];
    return SOOTHE_OK;
}

/* With a mask only the nucleus needs the difference: some dozen rows of the head instead of all V. */
static enum soothe_status twin_within_nucleus(void *self, const struct soothe__mixer_row *row,
                                              struct soothe_error *err) {
    struct soothe__pair      *p    = self;
    struct soothe__shortlist *list = &p->nucleus;
    if (!soothe__shortlist_read(list, row->z, row->n_vocab))
        return soothe__fail(err, SOOTHE_E_NUMERIC, "logits to be mixed are no finite numbers: damaged weights?");
    const bool filled     = soothe__shortlist_fill(list, row->z, row->n_vocab, 0, p->top_p);
    float     *difference = filled ? soothe__calloc(list->n, sizeof *difference) : NULL;
    if (!difference)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory mixing logits");
    const float a = p->a * row->dose;
    soothe__own_head_pick(p->head, row->u, list->data, list->n, difference);
    if (p->slack > 0)
        soothe__mix_soften(list->data, list->n, difference, a, p->slack);
    soothe__mix_within(row->z, row->n_vocab, list->data, list->n, difference, p->slack > 0 ? 1 : a);
    free(difference);
    return SOOTHE_OK;
}

/* ---- two followers ---------------------------------------------------------------------------------------- */

static enum soothe_status row(void *self, const struct soothe__mixer_row *r, struct soothe_error *err) {
    const struct soothe__pair *p     = self;
    const float               *plus  = p->has_plus ? r->sources[0] : NULL;
    const float               *minus = p->has_minus ? r->sources[p->has_plus] : NULL;
    return soothe__mix_contrast(r->z, r->n_vocab, plus, minus, p->a * r->dose, p->top_p, err);
}

enum soothe_status soothe__pair_attach(struct soothe__link *l, struct soothe_session *session,
                                       struct soothe_error *err) {
    struct soothe__pair      *p = l->state;
    struct soothe__follower  *followers[SOOTHE__FOLLOWERS_MAX];
    size_t                    n      = 0;
    enum soothe_status        status = SOOTHE_OK;
    struct soothe__mixer_rule rule   = {.self = p, .row = row};
    if (p->a == 0)
        return SOOTHE_OK;
    if (p->twin) {
        rule.picks = p->top_p < 1;
        rule.row   = rule.picks ? twin_within_nucleus : twin_row;
        rule.state = twin_state;
        return soothe__mixer_add(session, NULL, 0, p->head, &rule, err);
    }
    if (p->has_plus && !p->both)
        status = soothe__followers_add(followers, &n, &p->plus, session, &p->context, err);
    if (p->has_minus && !status)
        status = soothe__followers_add(followers, &n, &p->minus, session, &p->context, err);
    if (!status)
        return soothe__mixer_add(session, followers, n, NULL, &rule, err);
    soothe__followers_free(followers, n);
    return status;
}

void soothe__pair_free(void *pair) {
    struct soothe__pair *p = pair;
    if (!p)
        return;
    soothe__helper_close(&p->plus);
    soothe__helper_close(&p->minus);
    soothe_calibrator_free(p->twin);
    soothe__own_head_free(p->head);
    llama_model_free(p->owned);
    soothe__shortlist_free(&p->nucleus);
    free(p->scratch);
    free(p);
}
