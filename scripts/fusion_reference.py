#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/fusion_reference.f32: inputs and NumPy's float64 results of fusing one state.

Layout (float32): A (6,8), B (8,8), bias (8), h_t (8), h_c (6), then three results (8 each):
residual form at alpha .7; paper form with LayerNorm at alpha .3; the same with state_norm 5.
"""
import sys

import numpy as np

rng = np.random.default_rng(2025)
D_CAL, D_TGT = 6, 8
a, b = rng.normal(size=(D_CAL, D_TGT)), rng.normal(size=(D_TGT, D_TGT))
bias, h_t, h_c = rng.normal(size=D_TGT), rng.normal(size=D_TGT), rng.normal(size=D_CAL)
a, b, bias, h_t, h_c = (x.astype(np.float32).astype(np.float64) for x in (a, b, bias, h_t, h_c))

residual = h_t + 0.7 * (a.T @ h_c + b.T @ h_t + bias)
u = a.T @ h_c
u = (u - u.mean()) / np.sqrt(u.var() + 1e-5)
paper = 0.7 * h_t + 0.3 * u
scaled = 0.7 * h_t + 0.3 * u * 5.0 / np.sqrt(D_TGT)

path = sys.argv[1] if len(sys.argv) > 1 else "tests/data/fusion_reference.f32"
np.concatenate([x.ravel() for x in (a, b, bias, h_t, h_c, residual, paper, scaled)]).astype("<f4").tofile(path)
