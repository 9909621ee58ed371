#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the GFLOP/s of one processor at matrix products, by PyTorch: 2048 x 2048, the faster of float32 and bfloat16, best of seven."""
import time

import torch

torch.set_num_threads(1)
best = 0
for kind in torch.float32, torch.bfloat16:
    a, b = (torch.randn(2048, 2048).to(kind) for _ in range(2))
    for _ in range(7):
        start = time.perf_counter()
        torch.mm(a, b)
        best = max(best, 2 * 2048**3 / (time.perf_counter() - start) / 1e9)
print(f"{best:.1f}")
