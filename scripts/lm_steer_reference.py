#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the figures of tests/test_lm_steer.c: loss, gradients, one AdamW step and B of LM-Steer, by PyTorch in float64.

    lm_steer_reference.py

z = W (h + s e P1 P2^T h), s = -1 at rejected rows; loss = mean over rows of -log p(next). All numbers come from sines,
so that the test can make the same ones; W and h are rounded to bf16, as training holds them.
"""
import torch

torch.set_default_dtype(torch.float64)
V, D, R, N, E = 40, 16, 3, 9, 0.05
LR, BETA1, BETA2, EPS = 0.01, 0.9, 0.95, 1e-8


def wave(n, m, a, scale):
    return (torch.arange(n * m, dtype=torch.float64) * a).sin().mul(scale).float().double().view(n, m)


def bf16(x):
    return x.float().bfloat16().double()


W, H = bf16(wave(V, D, 0.37, 1.0)), bf16(wave(N, D, 0.53, 2.0))
P1, P2 = wave(D, R, 0.71, 0.6).requires_grad_(), wave(D, R, 1.13, 0.6).requires_grad_()
following = torch.arange(N) * 7 % V
sign = torch.tensor([-1.0 if i % 3 == 1 else 1.0 for i in range(N)])


def loss(sign):
    z = (H + E * sign[:, None] * (H @ P2) @ P1.T) @ W.T
    return -z.log_softmax(-1).gather(1, following[:, None]).mean()


x = loss(sign)
x.backward()
norm = torch.cat([P1.grad.flatten(), P2.grad.flatten()]).norm()
print(f"loss {x:.9f}  all steered alike {loss(torch.ones(N)):.9f}  gradient norm {norm:.9f}")
for name, p in (("P1", P1), ("P2", P2)):
    g = p.grad.flatten()
    print(name, "gradient", " ".join(f"{g[i]:.9f}" for i in (0, 7, D * R - 1)), f"norm {g.norm():.9f}")
    m, v = (1 - BETA1) * p.grad, (1 - BETA2) * p.grad**2
    p.data -= LR * (m / (1 - BETA1)) / ((v / (1 - BETA2)).sqrt() + EPS)
    f = p.data.flatten()
    print(name, "after a step", " ".join(f"{f[i]:.9f}" for i in (0, 7, D * R - 1)))
B = E * P2 @ P1.T
print("B", " ".join(f"{B[i, j]:.9f}" for i, j in ((0, 1), (5, 2), (15, 14))))
