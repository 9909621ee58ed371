#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the figures of tests/test_dinm.c: DINM's loss, its gradient and three steps of Adam by PyTorch in float64.

The formulas are those of src/train/dinm_core.h, written down a second time with autograd doing the way back; the blocks
are scripts/train_reference.py's. Weights and states come of one formula that the test repeats, so no file is needed."""
import math

import numpy as np
import torch
from train_reference import bf16, block, f32, rms_norm

C = dict(n_blocks=2, n_head=4, n_head_kv=2, d_head=4, halves=False, qkv_bias=False, rope_base=10000.0, eps=1e-5)
D, N_FF, V, C_EDIT = 16, 24, 40, 0.5
LENGTHS, FIRST, GENERAL = (9, 7, 8, 6), (4, 3, 3, 2), (False, False, True, True)
W = "blk.0.ffn_down.weight"


def noise(stream, n):
    """n numbers in [-1, 1)."""
    x = [math.sin(12.9898 * (i + 1) + 78.233 * stream) * 43758.5453 for i in range(n)]
    return 2 * np.array([v - math.floor(v) for v in x]) - 1


def parameters():
    w, stream = {}, 0
    for i in range(C["n_blocks"]):
        q, kv = C["n_head"] * C["d_head"], C["n_head_kv"] * C["d_head"]
        shapes = [("attn_norm", 1, D), ("attn_q", q, D), ("attn_k", kv, D), ("attn_v", kv, D), ("attn_output", D, q),
                  ("ffn_norm", 1, D), ("ffn_gate", N_FF, D), ("ffn_up", N_FF, D), ("ffn_down", D, N_FF)]  # fmt: skip
        for name, n_out, n_in in shapes:
            w[f"blk.{i}.{name}.weight"] = tensor(stream, n_out, n_in)
            stream += 1
    w["output_norm.weight"] = tensor(stream, 1, D)
    return w


def tensor(stream, n_out, n_in):
    x = noise(stream, n_out * n_in)
    return f32(1 + 0.2 * x) if n_out == 1 else f32(x * math.sqrt(3 / n_in)).view(n_out, n_in)


def log_p(w, inputs, head):
    out, at = [], 0
    for n, first in zip(LENGTHS, FIRST):
        x = inputs[at : at + n]
        for i in range(C["n_blocks"]):
            x = block(x, w, i, C)
        h = rms_norm(x, w["output_norm.weight"], C["eps"])[first - 1 : n - 1]
        out.append((h @ head.T).log_softmax(-1))
        at += n
    return out


def losses(w, before, inputs, head, tokens):
    nll, kl = [], []
    for t, (now, then) in enumerate(zip(log_p(w, inputs, head), before)):
        if GENERAL[t]:
            kl.append((then.exp() * (then - now)).sum(-1).mean())
        else:
            answer = torch.tensor(tokens[t][FIRST[t] :])[:, None]
            nll.append(-now.gather(1, answer).mean())
    nll, kl = sum(nll) / len(nll), sum(kl) / len(kl)
    return C_EDIT * nll + kl, nll, kl


def main():
    w = parameters()
    inputs = bf16(1.3 * noise(100, sum(LENGTHS) * D)).view(-1, D)
    head = bf16(noise(101, V * D) * math.sqrt(3 / D)).view(V, D)
    tokens = [[(7 * k * k + 3 * k + i) % V for k in range(n)] for i, n in enumerate(LENGTHS)]
    before = [x.detach() for x in log_p(w, inputs, head)]
    show = lambda name, values: print(name, ", ".join(f"{float(torch.as_tensor(v).detach()):.9g}" for v in values))
    show("start", losses(w, before, inputs, head, tokens))
    w[W] = (w[W] + f32(0.05 * noise(102, D * N_FF)).view(D, N_FF)).requires_grad_()
    optimiser = torch.optim.Adam([w[W]], lr=1e-2)
    for step in range(3):
        optimiser.zero_grad()
        found = losses(w, before, inputs, head, tokens)
        found[0].backward()
        show(f"loss {step}", found)
        g = w[W].grad.flatten()
        show(f"gradient {step}", [g.norm(), g[0], g[100], g[383]])
        optimiser.step()
    show("loss 3", losses(w, before, inputs, head, tokens))
    show("weights", [w[W].norm(), w[W].flatten()[0], w[W].flatten()[383]])


if __name__ == "__main__":
    main()
