#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Figures of tests/test_ate.c: mean, t-interval and shrunk weight of effects, by NumPy and SciPy.

    scripts/cfl_reference.py
"""
import numpy as np
from scipy import stats

CASES = [  # effects, k, confidence
    ([0.5, 0.25, 0.75, 0.5, 0.125], 10, 0.95),
    ([0.5, -0.25, 0.75, -0.5, 0.125], 10, 0.95),
    ([-0.5, -0.25, -0.375, -0.25], 2, 0.99),
    ([0.01 * i for i in range(1, 41)], 10, 0.99),
    ([0.25, 0.75], 0, 0.9),
]
for effects, k, confidence in CASES:
    x, n = np.array(effects), len(effects)
    mean = x.mean()
    half = stats.t.ppf(0.5 + confidence / 2, n - 1) * x.std(ddof=1) / np.sqrt(n)
    weight = mean * n / (n + k) if mean - half > 0 or mean + half < 0 else 0.0
    print(f"    {{{n}, {k}, {confidence}, {mean:.15g}, {mean - half:.15g}, {mean + half:.15g}, {weight:.15g}}},")
for p, degrees in [(0.975, 1), (0.975, 4), (0.995, 39), (0.75, 2), (0.9999, 7), (0.975, 1000)]:
    print(f"    {{{p}, {degrees}, {stats.t.ppf(p, degrees):.15g}}},")
