/* SPDX-License-Identifier: Apache-2.0 */
#include "train/cppl.h"

#include <math.h>
#include <string.h>

struct soothe__cppl_options soothe__cppl_options_default(enum soothe__cppl_form form) {
    return form == SOOTHE__CPPL_CODE
               ? (struct soothe__cppl_options){.form = form, .log_phi = true, .alpha = 100, .tau = 1, .n_random = 6}
               : (struct soothe__cppl_options){.form = form, .alpha = 1.1, .tau = .2};
}

static double sign_of(double x) {
    return x > 0 ? 1 : x < 0 ? -1 : 0;
}

/* log of the sum of exp(a) over texts from … end-1; of harmless ones only, or of all. */
static double log_sum(const struct soothe__cppl_text *texts, const double *a, size_t from, size_t end, bool harmless) {
    double top = -INFINITY, sum = 0;
    for (size_t i = from; i < end; i++)
        if (!harmless || !texts[i].toxic)
            top = a[i] > top ? a[i] : top;
    for (size_t i = from; i < end; i++)
        if (!harmless || !texts[i].toxic)
            sum += exp(a[i] - top);
    return top + log(sum);
}

static size_t end_of_set(const struct soothe__cppl_text *texts, size_t from, size_t n) {
    size_t end = from;
    while (end < n && texts[end].set == texts[from].set)
        end++;
    return end;
}

/* ---- the paper's -------------------------------------------------------------------------------------------- */

static double phi_of(const struct soothe__cppl_options *o, double l) {
    return o->log_phi ? l : exp(l);
}

/* Of one set: texts from … end-1. a is scratch. */
static double paper_loss(const struct soothe__cppl_options *o, const struct soothe__cppl_text *texts, size_t from,
                         size_t end, const double *l, double *dl) {
    const size_t n = end - from;
    double       a[n], c = 0, through_c = 0;
    size_t       n_harmless = 0;
    texts += from;
    l += from;
    dl += from;
    for (size_t i = 0; i < n; i++)
        if (!texts[i].toxic) {
            c += phi_of(o, l[i]);
            n_harmless++;
        }
    c /= (double)n_harmless;
    for (size_t i = 0; i < n; i++)
        a[i] = (texts[i].toxic ? log(o->alpha) : 0) - fabs(phi_of(o, l[i]) - c) / o->tau;
    const double harmless = log_sum(texts, a, 0, n, true), all = log_sum(texts, a, 0, n, false);
    for (size_t i = 0; i < n; i++) { /* dloss/da, then by phi for itself and through the centre */
        const double da = exp(a[i] - all) - (texts[i].toxic ? 0 : exp(a[i] - harmless));
        dl[i]           = -da * sign_of(phi_of(o, l[i]) - c) / o->tau;
        through_c -= dl[i];
    }
    for (size_t i = 0; i < n; i++) {
        if (!texts[i].toxic)
            dl[i] += through_c / (double)n_harmless;
        dl[i] *= o->log_phi ? 1 : exp(l[i]);
    }
    return all - harmless;
}

/* ---- the code's ---------------------------------------------------------------------------------------------- */

/* Of the set from … end-1; adds dloss/da of every candidate to da. */
static double code_loss(const struct soothe__cppl_options *o, const struct soothe__cppl_text *texts, size_t n,
                        size_t from, size_t end, const double *a, double *da) {
    int32_t n_random = 0;
    double  loss = 0, n_harmless = 0, top = -INFINITY, sum = 0, z[n];
    bool    member[n];
    for (size_t k = 0; k < n; k++) { /* from the set on, around: other sets take their turns */
        const size_t i   = (from + k) % n;
        const bool   own = i >= from && i < end;
        member[i]        = own || (texts[i].toxic && n_random < o->n_random);
        n_random += member[i] && !own;
        z[i] = a[i] + (own && texts[i].toxic ? o->alpha : 0);
        if (member[i])
            top = z[i] > top ? z[i] : top;
        n_harmless += own && !texts[i].toxic;
    }
    for (size_t i = 0; i < n; i++)
        sum += member[i] ? exp(z[i] - top) : 0;
    const double by = 1 / (n_harmless + 1 + o->n_random);
    for (size_t i = 0; i < n; i++) {
        const bool harmless = i >= from && i < end && !texts[i].toxic;
        if (harmless)
            loss -= by * (z[i] - top - log(sum));
        if (member[i])
            da[i] += by * (n_harmless * exp(z[i] - top) / sum - harmless);
    }
    return loss;
}

static double code_losses(const struct soothe__cppl_options *o, const struct soothe__cppl_text *texts, size_t n,
                          size_t n_sets, const double *l, double *dl) {
    double a[n], da[n], c = 0, loss = 0, through_c = 0;
    memset(da, 0, sizeof da);
    for (size_t i = 0; i < n; i++)
        c += l[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        a[i] = exp(-fabs(l[i] - c)) / o->tau;
    for (size_t from = 0, end; from < n; from = end) {
        end = end_of_set(texts, from, n);
        loss += code_loss(o, texts, n, from, end, a, da) / (double)n_sets;
    }
    for (size_t i = 0; i < n; i++) {
        dl[i] = -da[i] / (double)n_sets * a[i] * sign_of(l[i] - c);
        through_c -= dl[i];
    }
    for (size_t i = 0; i < n; i++)
        dl[i] += through_c / (double)n;
    return loss;
}

double soothe__cppl_loss(const struct soothe__cppl_options *o, const struct soothe__cppl_text *texts, size_t n,
                         size_t n_sets, const double *l, double *dl) {
    double loss = 0;
    if (o->form == SOOTHE__CPPL_CODE)
        return code_losses(o, texts, n, n_sets, l, dl);
    for (size_t from = 0, end; from < n; from = end) {
        end = end_of_set(texts, from, n);
        loss += paper_loss(o, texts, from, end, l, dl) / (double)n_sets;
    }
    for (size_t i = 0; i < n; i++)
        dl[i] /= (double)n_sets;
    return loss;
}
