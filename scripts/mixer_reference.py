#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints tests/data/mixer_reference.tsv: the mixing rules of src/methods/mixer_rules.c computed by NumPy in float64.

    python3 scripts/mixer_reference.py > tests/data/mixer_reference.tsv

A line: a rule with its parameters, then the new logits of twelve tokens. The test makes the same inputs: logits of source
s for token v are 3 sin(1.7 v + 2.3 s) + cos(0.9 v s).
"""
import numpy as np

V = 12
v = np.arange(V)


def logits(s):
    return 3 * np.sin(1.7 * v + 2.3 * s) + np.cos(0.9 * v * s)


def log_softmax(z):
    return z - z.max() - np.log(np.exp(z - z.max()).sum())


def nucleus(z, top_p):
    """The smallest set of tokens that holds top_p."""
    p = np.exp(log_softmax(z))
    order = np.argsort(-z, kind="stable")
    n = 1 + int(np.searchsorted(np.cumsum(p[order]), top_p))
    keep = np.zeros(V, bool)
    keep[order[:n]] = True
    return keep


def contrast(z, plus, minus, a, top_p):
    out = z + a * (plus - minus)
    return np.where(nucleus(z, top_p), out, -np.inf) if top_p < 1 else out


def soften(z, g, a, slack, top_p):
    """Of a g only what pushes a token of the nucleus down by more than slack from the mean."""
    keep = nucleus(z, top_p)
    p = np.where(keep, np.exp(log_softmax(z)), 0)
    mean = (p * g).sum() / p.sum()
    return np.where(keep, z + np.minimum(0, a * (g - mean) + slack), -np.inf)


def self_debias(z, others, lam, eps):
    p = np.exp(log_softmax(z))
    worst = np.max([np.exp(log_softmax(o)) for o in others], axis=0)
    q = p * np.maximum(np.exp(-lam * np.maximum(0, worst - p)), eps)
    return np.log(q / q.sum())


def gedi(z, desired, undesired, sums, length, omega, scale, bias, filter_p, target_p):
    log_p = log_softmax(z)
    first = scale * (sums[0] + log_softmax(desired)) / length + bias
    second = scale * (sums[1] + log_softmax(undesired)) / length
    log_desired = first - np.logaddexp(first, second)
    out = log_p + omega * log_desired
    order = np.argsort(log_desired, kind="stable")  # the least desired first
    tail = np.zeros(V, bool)
    tail[order[np.cumsum(np.exp(log_p)[order]) < filter_p]] = True
    out[tail & (np.exp(log_desired) < target_p)] = -np.inf
    return out


def success(z, g, strength):
    return z + strength * -np.logaddexp(0, -g)


z, one, two, three = (logits(s) for s in range(4))
LINES = [
    ("contrast both 2 0.9", contrast(z, one, two, 2, 0.9)),
    ("contrast both 1 1", contrast(z, one, two, 1, 1)),
    ("contrast anti 0.7 0.95", contrast(z, z, two, 0.7, 0.95)),
    ("contrast expert 0.7 0.5", contrast(z, one, z, 0.7, 0.5)),
    ("soften 2 0.5 0.97", soften(z, one, 2, 0.5, 0.97)),
    ("soften 1 3 0.999", soften(z, one, 1, 3, 0.999)),
    ("self-debias 50 0.01", self_debias(z, [one, two, three], 50, 0.01)),
    ("self-debias 5 0.0001", self_debias(z, [one, two, three], 5, 0.0001)),
    ("gedi 30 1 0 0.8 0.8", gedi(z, one, two, (-3.5, -2.25), 3, 30, 1, 0, 0.8, 0.8)),
    ("gedi 10 2 -0.5 0.5 0.6", gedi(z, one, two, (-3.5, -2.25), 3, 10, 2, -0.5, 0.5, 0.6)),
    ("success 1", success(z, one, 1)),
    ("success 2.5", success(z, two, 2.5)),
]
for name, row in LINES:
    print(name, *(f"{x:.9g}" for x in row), sep="\t")
