#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Coefficients of weighted-L1 models by scikit-learn, which tests/test_lasso.c compares ours with.

    lasso_reference.py tables OUT_DIR      writes the two tables that scikit-learn ships as CSV
    lasso_reference.py figures TABLES_DIR  prints the figures (tests/data/lasso_reference.csv)

Weights w_j are had by dividing the standardised column j by w_j and then the coefficient by w_j. The intercept is
unpenalised in both solvers (Lasso centres, saga leaves it out of the penalty). Made with scikit-learn 1.9.1."""
import csv
import sys
import warnings

import numpy as np
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import Lasso, LogisticRegression

LAMBDAS = {"binomial": [0.1, 0.03, 0.01], "gaussian": [0.2, 0.05, 0.01]}


def write_table(path, header, rows):
    with open(path, "w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def tables(folder):
    cancer = load_breast_cancer()
    names = [n for n in cancer.feature_names] + ["malignant"]
    rows = [[f"{v:g}" for v in x] + [1 - y] for x, y in zip(cancer.data, cancer.target)]
    write_table(f"{folder}/breast_cancer.csv", names, rows)
    wine = load_wine()
    rows = [[f"{v:g}" for v in x] + [y] for x, y in zip(wine.data, wine.target)]
    write_table(f"{folder}/wine.csv", list(wine.feature_names) + ["cultivar"], rows)


def read(path, target, leave_out=()):
    with open(path, newline="") as f:
        rows = list(csv.DictReader(f))
    names = [n for n in rows[0] if n != target and n not in leave_out]
    return (names, np.array([[float(r[n]) for n in names] for r in rows]), np.array([float(r[target]) for r in rows]))


def weights_of(q):
    """Factors 2..5 in a pattern that anybody can write again, brought to sum q."""
    w = np.array([2 + (3 * j) % 4 for j in range(q)], dtype=float)
    return w * q / w.sum()


def solve(family, x, y, w, lam):
    n = len(y)
    mean, sd = x.mean(0), x.std(0)
    scaled = (x - mean) / sd / w
    if family == "gaussian":
        model = Lasso(alpha=lam, tol=1e-14, max_iter=10_000_000).fit(scaled, y)
        slope, intercept = model.coef_, model.intercept_
    else:
        model = LogisticRegression(l1_ratio=1, C=1 / (n * lam), solver="saga", tol=1e-12, max_iter=2_000_000)
        model.fit(scaled, y)
        slope, intercept = model.coef_[0], model.intercept_[0]
    standardised = slope / w
    return standardised, intercept - (standardised / sd) @ mean


def figures(folder):
    print("family,lambda,feature,coefficient")
    for family, file, target, leave_out in (("binomial", "breast_cancer.csv", "malignant", ()),
                                            ("gaussian", "wine.csv", "alcohol", ("cultivar",))):
        names, x, y = read(f"{folder}/{file}", target, leave_out)
        w = weights_of(len(names))
        for lam in LAMBDAS[family]:
            standardised, intercept = solve(family, x, y, w, lam)
            print(f"{family},{lam},(intercept),{intercept:.9f}")
            for name, b in zip(names, standardised):
                print(f"{family},{lam},{name},{b:.9f}")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("tables", "figures"):
        sys.exit(__doc__)
    warnings.simplefilter("ignore", FutureWarning)
    {"tables": tables, "figures": figures}[sys.argv[1]](sys.argv[2])
