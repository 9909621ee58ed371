/* SPDX-License-Identifier: Apache-2.0
 * Calibration of scores by a logistic function of two numbers. */
#ifndef SOOTHE_PLATT_H
#define SOOTHE_PLATT_H

#include "base/base.h"

/* Platt scaling: a, b so that 1/(1+exp(-(a z + b))) fits the labels, by Newton's method, with the targets of Platt
 * (1999) that keep it from certainty on few rows. costs (n): what a row counts; NULL: 1. One class alone: a = 1, b = 0.
 */
void soothe__platt_fit(double *a, double *b, const double *z, const unsigned char *labels, const double *costs,
                       size_t n);

/* The same where z may be of any size, as that of a linear discriminant is: it is standardised first, in place.
 * state  also where z does not vary: a = 1, b = 0 */
void soothe__platt_fit_any_scale(double *a, double *b, double *z, const unsigned char *labels, size_t n);

#endif /* SOOTHE_PLATT_H */
