#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The work of bench_train.c in PyTorch, as fast as plain PyTorch does it.

    train_pytorch.py paper|preference VARIANT [STEPS]

VARIANT is f32, autocast (bf16 by torch.autocast) or bf16 (bf16 weights and gradients, F32 master copies), with
"-packed" behind it for linear layers over the tokens that exist instead of a padded batch (attention stays padded).
Rows of the loss are gathered before the head, attention is F.scaled_dot_product_attention, AdamW is the fused one,
embedding and head are constant. Prints the same line as bench_train."""
import os
import resource
import sys
import time

import torch
import torch.nn.functional as F

BLOCKS, D, HEADS, KV, D_HEAD, FF, V, TEXTS, LENGTH = 3, 576, 9, 3, 64, 1536, 49152, 24, 48
objective, variant = sys.argv[1], sys.argv[2]
steps = int(sys.argv[3]) if len(sys.argv) > 3 else 20
packed, precision = variant.endswith("-packed"), variant.removesuffix("-packed")
assert objective in ("paper", "preference") and precision in ("f32", "autocast", "bf16")
torch.set_num_threads(len(os.sched_getaffinity(0)))
torch.manual_seed(1)
compute = torch.float32 if precision == "f32" else torch.bfloat16

# ---- the work: bench_train.c's make_work ------------------------------------------------------------------------------
tokens = torch.zeros(TEXTS, LENGTH, dtype=torch.long)
mask = torch.zeros(TEXTS, LENGTH, dtype=torch.bool)
rows = []
for i in range(TEXTS):
    n = LENGTH - i * 7 % 13
    tokens[i, :n] = torch.tensor([(i * 7919 + t * 104729 + 13) % V for t in range(n)])
    mask[i, :n] = True
    rows += [(i, t) for t in range(n - 1 - n // 3, n - 1)]
text, at = (torch.tensor(x) for x in zip(*rows))
following = tokens[text, at + 1]
place = mask.flatten().nonzero()[:, 0]  # of every token in the padded batch
n_tokens = len(place)
# where the rows of the loss stand in the array that the linear layers see
row_index = torch.searchsorted(place, text * LENGTH + at) if packed else text * LENGTH + at
ids = tokens.flatten()[place] if packed else tokens.flatten()

head = (0.04 * torch.randn(V, D)).bfloat16().to(compute)
h_t = (3 * torch.randn(len(rows), D)).bfloat16().to(compute)
is_pair = text < 16
sign = torch.where(text % 2 == 0, 1.0, -1.0)[is_pair]
log_p_t = torch.full((int(is_pair.sum()),), -8.0)  # known beforehand, as in training

# ---- the model ----------------------------------------------------------------------------------------------------------
KV_WIDTH = KV * D_HEAD
SHAPES = dict(q=(D, D), k=(KV_WIDTH, D), v=(KV_WIDTH, D), o=(D, D), gate=(FF, D), up=(FF, D), down=(D, FF))
master = {f"{i}.{name}": 0.04 * torch.randn(shape) for i in range(BLOCKS) for name, shape in SHAPES.items()}
master |= {f"{i}.norm{j}": torch.ones(D) for i in range(BLOCKS) for j in (1, 2)} | {"norm": torch.ones(D)}
if objective == "preference":
    master["a"] = torch.zeros(D, D)
low = precision == "bf16"
w = {name: x.bfloat16() if low else x for name, x in master.items()}
for x in w.values():
    x.requires_grad_()
angle = torch.arange(LENGTH)[:, None] * 10000.0 ** (-torch.arange(0, D_HEAD, 2) / D_HEAD)[None, :]
cos, sin = angle.cos(), angle.sin()
if precision != "f32":
    cos, sin = cos.bfloat16(), sin.bfloat16()


def rope(x):  # (texts, heads, LENGTH, D_HEAD); halves: the same cost as pairs, and the faster form here
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def heads_of(x, n):
    if packed:
        x = torch.zeros(TEXTS * LENGTH, x.shape[-1], dtype=x.dtype).index_copy(0, place, x)
    return x.view(TEXTS, LENGTH, n, D_HEAD).transpose(1, 2)


def norm(x, weight):
    return F.rms_norm(x, (D,), weight.to(x.dtype), 1e-5)


def states():
    x = head[ids]
    for i in range(BLOCKS):
        p = lambda name: w[f"{i}.{name}"]
        h = norm(x, p("norm1"))
        q, k, v = heads_of(F.linear(h, p("q")), HEADS), heads_of(F.linear(h, p("k")), KV), heads_of(F.linear(h, p("v")), KV)
        o = F.scaled_dot_product_attention(rope(q), rope(k), v, is_causal=True, enable_gqa=True)
        o = o.transpose(1, 2).reshape(TEXTS * LENGTH, D)
        x = x + F.linear(o[place] if packed else o, p("o"))
        h = norm(x, p("norm2"))
        x = x + F.linear(F.silu(F.linear(h, p("gate"))) * F.linear(h, p("up")), p("down"))
    return norm(x[row_index], w["norm"])  # only the rows that count


def loss():
    h = states()
    if objective == "paper":
        return F.cross_entropy(F.linear(h, head).float(), following)
    log_p = F.linear(h_t + h @ w["a"], head).float().log_softmax(-1)
    gain = log_p[is_pair].gather(1, following[is_pair, None])[:, 0] - log_p_t
    margin = torch.zeros(8).index_add(0, text[is_pair] // 2, sign * gain)
    with torch.no_grad():
        reference = F.linear(h_t[~is_pair], head).float().log_softmax(-1)
    kl = F.kl_div(log_p[~is_pair], reference, log_target=True, reduction="sum") / int((~is_pair).sum())
    return -F.logsigmoid(0.2 * margin).mean() + 0.3 * kl


groups = [{"params": [x for name, x in master.items() if name != "a"], "lr": 2e-4}]
if "a" in master:
    groups.append({"params": [master["a"]], "lr": 1e-3})
optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, fused=True)


def step():
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
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
for _ in range(2):
    step()
seconds = []
for _ in range(steps):
    start = time.perf_counter()
    last = step()
    seconds.append(time.perf_counter() - start)
seconds.sort()
median = seconds[steps // 2]
print(
    f"loss-tokens/s {len(rows) / median:.1f} (fastest step {len(rows) / seconds[0]:.1f})  tokens/s {n_tokens / median:.1f}  "
    f"ms/step {1e3 * median:.1f} ({1e3 * seconds[0]:.1f} to {1e3 * seconds[-1]:.1f})  peak MiB "
    f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}  loss {first:.4f} -> {last:.4f}"
)
