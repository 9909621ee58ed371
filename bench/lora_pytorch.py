#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The work of bench_lora.c in PyTorch, as fast as plain PyTorch does it, on random weights of SmolLM2-135M's shape.

    lora_pytorch.py VARIANT [STEPS]

VARIANT is f32 or bf16 (fixed weights and products in bf16, factors with F32 master copies), with "-packed" behind it for
linear layers over the tokens that exist instead of a padded batch (attention stays padded). Factors are applied as peft
does: y = x W^T + s (x A^T) B^T. Prints the same line as bench_lora."""
import os
import resource
import sys
import time

import torch
import torch.nn.functional as F

BLOCKS, D, HEADS, KV, D_HEAD, FF, V, TEXTS, LENGTH, RANK = 30, 576, 9, 3, 64, 1536, 49152, 24, 48, 16
variant = sys.argv[1]
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 3
packed, precision = variant.endswith("-packed"), variant.removesuffix("-packed")
assert precision in ("f32", "bf16")
torch.set_num_threads(len(os.sched_getaffinity(0)))
torch.manual_seed(1)
compute = torch.float32 if precision == "f32" else torch.bfloat16

tokens = torch.zeros(TEXTS, LENGTH, dtype=torch.long)
mask = torch.zeros(TEXTS, LENGTH, dtype=torch.bool)
rows = []
for i in range(TEXTS):
    n = LENGTH - i * 7 % 13
    tokens[i, :n] = torch.tensor([(i * 7919 + t * 104729 + 13) % V for t in range(n)])
    mask[i, :n] = True
    rows += [(i, t) for t in range(n - 1)]
text, at = (torch.tensor(x) for x in zip(*rows))
following = tokens[text, at + 1]
place = mask.flatten().nonzero()[:, 0]
n_tokens = len(place)
row_index = torch.searchsorted(place, text * LENGTH + at) if packed else text * LENGTH + at
ids = tokens.flatten()[place] if packed else tokens.flatten()

KV_WIDTH = KV * D_HEAD
SHAPES = dict(q=(D, D), k=(KV_WIDTH, D), v=(KV_WIDTH, D), o=(D, D), gate=(FF, D), up=(FF, D), down=(D, FF))
head = (0.04 * torch.randn(V, D)).to(compute)
fixed = {f"{i}.{name}": (0.04 * torch.randn(shape)).to(compute) for i in range(BLOCKS) for name, shape in SHAPES.items()}
norm_weight = torch.ones(D, dtype=compute)
master = {}
for name, x in fixed.items():
    master[name + ".a"] = (2 * torch.rand(RANK, x.shape[1]) - 1) / x.shape[1] ** 0.5
    master[name + ".b"] = torch.zeros(x.shape[0], RANK)
low = precision == "bf16"
w = {name: x.to(compute) if low else x for name, x in master.items()}
for x in w.values():
    x.requires_grad_()
angle = torch.arange(LENGTH)[:, None] * 10000.0 ** (-torch.arange(0, D_HEAD, 2) / D_HEAD)[None, :]
cos, sin = angle.cos().to(compute), angle.sin().to(compute)


def rope(x):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def heads_of(x, n):
    if packed:
        x = torch.zeros(TEXTS * LENGTH, x.shape[-1], dtype=x.dtype).index_copy(0, place, x)
    return x.view(TEXTS, LENGTH, n, D_HEAD).transpose(1, 2)


def norm(x):
    return F.rms_norm(x, (D,), norm_weight, 1e-5)


def linear(x, name):
    return F.linear(x, fixed[name]) + 2.0 * F.linear(F.linear(x, w[name + ".a"]), w[name + ".b"])


def loss():
    x = head[ids]
    for i in range(BLOCKS):
        h = norm(x)
        q, k, v = (heads_of(linear(h, f"{i}.{m}"), n) for m, n in (("q", HEADS), ("k", KV), ("v", KV)))
        o = F.scaled_dot_product_attention(rope(q), rope(k), v, is_causal=True, enable_gqa=True)
        o = o.transpose(1, 2).reshape(TEXTS * LENGTH, D)
        x = x + linear(o[place] if packed else o, f"{i}.o")
        h = norm(x)
        x = x + linear(F.silu(linear(h, f"{i}.gate")) * linear(h, f"{i}.up"), f"{i}.down")
    return F.cross_entropy(F.linear(norm(x[row_index]), head).float(), following)


optimizer = torch.optim.AdamW(list(master.values()), lr=2e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, fused=True)


def step():
    value = loss()
    value.backward()
    if low:
        for name, x in master.items():
            x.grad = w[name].grad.float()
            w[name].grad = None
    torch.nn.utils.clip_grad_norm_(list(master.values()), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if low:
        with torch.no_grad():
            for name, x in master.items():
                w[name].copy_(x)
    return value.item()


first = step()
seconds, cpu = [], time.process_time()
for _ in range(steps):
    start = time.perf_counter()
    last = step()
    seconds.append(time.perf_counter() - start)
cpu = (time.process_time() - cpu) / steps
seconds.sort()
median, usage = seconds[steps // 2], resource.getrusage(resource.RUSAGE_SELF)
print(
    f"tokens/s {n_tokens / median:.1f} (fastest step {n_tokens / seconds[0]:.1f})  ms/step {1e3 * median:.0f} "
    f"({1e3 * seconds[0]:.0f} to {1e3 * seconds[-1]:.0f})  CPU s/step {cpu:.2f}  peak MiB {usage.ru_maxrss / 1024:.0f}  "
    f"loss {first:.4f} -> {last:.4f}  {variant}"
)
