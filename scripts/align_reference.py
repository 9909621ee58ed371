#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/align_reference.f32: maps between two spaces by NumPy in float64, for tests/test_align.c.

    align_reference.py [OUTPUT]

float32, little-endian, one after the other: X (50, 6), Y (50, 9), then the ridge map X -> Y at lambda .01 (6, 9), the
Procrustes maps X -> Y (6, 9) and Y -> X (9, 6), the Procrustes map of X with its last column zero -> Y (6, 9), a W
(6, 9), the InfoNCE loss of W at temperature .1 for the anchors 0 ... 4 with the candidates (7 i + 3 j) mod 50 besides
the anchor itself, j = 1 ... 4 (1 value), and the carried B' = P^T B Q^T (9, 9) of the Procrustes map for B = X[:6].
"""
import sys

import numpy as np

rng = np.random.default_rng(7)
f32 = lambda x: np.asarray(x, np.float32).astype(np.float64)
x, w = f32(rng.normal(size=(50, 6))), f32(rng.normal(size=(6, 9)))
y = f32(x @ rng.normal(size=(6, 9)) + 0.3 * rng.normal(size=(50, 9)))


def ridge(x, y, share):
    g = x.T @ x
    return np.linalg.solve(g + share * np.trace(g) / len(g) * np.eye(len(g)), x.T @ y)


def procrustes(x, y):
    u, s, vt = np.linalg.svd(x.T @ y, full_matrices=False)
    keep = s > 1e-9 * s[0]
    q = u[:, keep] @ vt[keep]
    return q * ((x @ q) * y).sum() / ((x @ q) ** 2).sum()


def info_nce(x, y, w, temperature):
    unit = lambda a: a / np.linalg.norm(a, axis=-1, keepdims=True)
    losses = []
    for i in range(5):
        at = [i] + [(7 * i + 3 * j) % 50 for j in range(1, 5)]
        logits = unit(y[at]) @ unit(x[i] @ w) / temperature
        losses.append(np.log(np.exp(logits).sum()) - logits[0])
    return np.mean(losses)


flat = x.copy()
flat[:, 5] = 0
p = procrustes(x, y)
q_t = p / ((p**2).sum() / 6)
out = [x, y, ridge(x, y, 0.01), p, procrustes(y, x), procrustes(flat, y), w, info_nce(x, y, w, 0.1), p.T @ x[:6] @ q_t]
path = sys.argv[1] if len(sys.argv) > 1 else "tests/data/align_reference.f32"
np.concatenate([np.ravel(a) for a in out]).astype("<f4").tofile(path)
