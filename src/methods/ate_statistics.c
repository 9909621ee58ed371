/* SPDX-License-Identifier: Apache-2.0
 * The mean of a word's effects, its interval, and what is believed of it. */
#include <math.h>

#include "methods/ate.h"

/* The regularised incomplete beta function I_x(a, b) by its continued fraction (Lentz), x < (a + 1) / (a + b + 2). */
static double incomplete_beta(double x, double a, double b) {
    const double tiny  = 1e-300;
    const double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a;
    double       c = 1, d = 1 - (a + b) * x / (a + 1);
    d        = 1 / (fabs(d) < tiny ? tiny : d);
    double f = d;
    for (int m = 1; m < 500; m++) {
        const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        d                 = 1 / (1 + even * d);
        c                 = 1 + even / c;
        f *= c * d;
        const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d                = 1 / (1 + odd * d);
        c                = 1 + odd / c;
        f *= c * d;
        if (fabs(c * d - 1) < 1e-15)
            break;
    }
    return front * f;
}

/* P(T > t), t > 0: I_x(n/2, 1/2) / 2 with x = n / (n + t^2). */
static double upper_tail(double t, double n) {
    const double x = n / (n + t * t), a = n / 2, b = 0.5;
    const double i = x < (a + 1) / (a + b + 2) ? incomplete_beta(x, a, b) : 1 - incomplete_beta(1 - x, b, a);
    return i / 2;
}

double soothe__t_quantile(double p, double degrees) {
    double lo = 0, hi = 1;
    while (upper_tail(hi, degrees) > 1 - p && hi < 1e12)
        hi *= 2;
    for (int i = 0; i < 200 && hi - lo > 1e-14 * hi; i++) {
        const double mid = (lo + hi) / 2;
        if (mid > 0 && upper_tail(mid, degrees) > 1 - p)
            lo = mid;
        else
            hi = mid;
    }
    return (lo + hi) / 2;
}

struct soothe__ate soothe__ate_of(const double *effects, size_t n, double k, double confidence) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        sum += effects[i];
    const double mean = n ? sum / (double)n : (double)NAN;
    for (size_t i = 0; i < n; i++)
        squares += (effects[i] - mean) * (effects[i] - mean);
    struct soothe__ate ate = {mean, -INFINITY, INFINITY, 0};
    if (n < 2)
        return ate;
    const double half =
        soothe__t_quantile(0.5 + confidence / 2, (double)(n - 1)) * sqrt(squares / (double)(n - 1) / (double)n);
    ate.lo = mean - half;
    ate.hi = mean + half;
    if (ate.lo > 0 || ate.hi < 0)
        ate.weight = mean * (double)n / ((double)n + k);
    return ate;
}
