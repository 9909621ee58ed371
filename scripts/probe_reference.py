#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the figures that tests/test_probe.c compares the fits with. Needs numpy, scipy and scikit-learn."""
import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

N, D, SHRINKAGE, L2 = 40, 3, 0.1, 0.05
i, j = np.meshgrid(np.arange(N), np.arange(D), indexing="ij")
y = (np.arange(N) * 7 % 5 < 2).astype(int)
x = (np.sin(1.7 * i + 2.3 * j + 0.5 * j * j) + 0.7 * y[:, None] * (j == 0)) * np.array([1, 100, 0.01])
x = (x + np.array([0, 5000, 0])).astype(np.float32).astype(np.float64)

means = [x[y == c].mean(axis=0) for c in (0, 1)]
within = sum((x[y == c] - means[c]).T @ (x[y == c] - means[c]) for c in (0, 1)) / (N - 2)
shrunk = (1 - SHRINKAGE) * within + SHRINKAGE * np.diag(np.diag(within))
w = np.linalg.solve(shrunk, means[1] - means[0])
print("LDA      ", *[f"{v:.9g}" for v in w], f"{-w @ (means[0] + means[1]) / 2:.9g}")

z = (x - x.mean(axis=0)) / x.std(axis=0)
fit = LogisticRegression(C=1 / (L2 * N), tol=1e-12, max_iter=10000).fit(z, y)
w = fit.coef_[0] / x.std(axis=0)
print("logistic ", *[f"{v:.9g}" for v in w], f"{fit.intercept_[0] - w @ x.mean(axis=0):.9g}")

n_one = y.sum()
target = np.where(y, (n_one + 1) / (n_one + 2), 1 / (N - n_one + 2))


def loss(p):
    s = p[0] * x[:, 0] + p[1]
    return np.sum(np.logaddexp(0, s) - target * s)


best = minimize(loss, [0, 0], method="BFGS", options={"gtol": 1e-10}).x
print("Platt    ", *[f"{v:.9g}" for v in best])
