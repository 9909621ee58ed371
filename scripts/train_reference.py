#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/train_reference.f32: small decoders, their losses, gradients and AdamW steps by PyTorch in float64.

    train_reference.py [OUTPUT]

The formulas are those of src/train/train_core.h, written down a second time with autograd doing the way back.
Everything is little-endian. The file is an int32 count of records, then each record:
    char name[64] (zero padded), int32 type (0: int32, 1: float32), int32 n, n values of 4 bytes.
Records of case i are named "i/...":
    shape      int32  n_blocks, d_cal, n_head, n_head_kv, d_head, n_ff, n_vocab, d_tgt, rope_halves, qkv_bias
    shape.f    f32    rope_base, norm_eps
    options    int32  objective (0 preference, 1 paper, 2 fused), a, b, bias, freeze_blocks, n_pairs, given_states
    options.f  f32    kappa, lambda, weight_decay, clip, lr_blocks, lr_fusion
    embedding, head, h_t    int32  bf16 bits; h_c too where states are given
    tokens, text_start      int32
    rows       int32  position, next, kind (0 chosen, 1 rejected, 2 KL, 3 plain), i_pair of every row
    log_p_t, log_p_f, row_kl   f32  one a row (log_p_t and row_kl: all but paper)
    result     f32    loss, preference, kl, nll, gradient norm, pairs ordered rightly
    w/NAME, g/NAME, w1/NAME, w2/NAME   f32  a tensor's values, its gradient, its values after one and after two steps
"""
import struct
import sys

import numpy as np
import torch

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
CHOSEN, REJECTED, KL, PLAIN = range(4)
BETA1, BETA2, EPS = 0.9, 0.95, 1e-8


def f32(x):
    return torch.from_numpy(np.asarray(x, dtype=np.float32).astype(np.float64))


def bf16(x):
    return f32(x).to(torch.bfloat16).to(torch.float64)


def bf16_bits(x):
    return x.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16).astype(np.int32)


# ---- the model ---------------------------------------------------------------------------------------------------


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rope(x, c):  # x (n, heads, d_head)
    n, _, d = x.shape
    angle = torch.arange(n)[:, None] * c["rope_base"] ** (-2.0 * torch.arange(d // 2) / d)[None, :]
    cos, sin = angle.cos()[:, None, :], angle.sin()[:, None, :]
    if c["halves"]:
        u, w = x[..., : d // 2], x[..., d // 2 :]
        return torch.cat([u * cos - w * sin, u * sin + w * cos], -1)
    u, w = x[..., 0::2], x[..., 1::2]
    return torch.stack([u * cos - w * sin, u * sin + w * cos], -1).flatten(-2)


def block(x, w, i, c):
    p = lambda name: w[f"blk.{i}.{name}.weight"]
    n = x.shape[0]
    h = rms_norm(x, p("attn_norm"), c["eps"])
    q, k, v = (h @ p(f"attn_{name}").T for name in "qkv")
    if c["qkv_bias"]:
        q, k, v = (z + w[f"blk.{i}.attn_{name}.bias"] for z, name in ((q, "q"), (k, "k"), (v, "v")))
    q = rope(q.view(n, c["n_head"], -1), c)
    k = rope(k.view(n, c["n_head_kv"], -1), c)
    v = v.view(n, c["n_head_kv"], -1)
    group = c["n_head"] // c["n_head_kv"]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    s = torch.einsum("ihd,jhd->hij", q, k) / c["d_head"] ** 0.5
    s = s.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), float("-inf"))
    x = x + torch.einsum("hij,jhd->ihd", s.softmax(-1), v).flatten(1) @ p("attn_output").T
    h = rms_norm(x, p("ffn_norm"), c["eps"])
    return x + (torch.nn.functional.silu(h @ p("ffn_gate").T) * (h @ p("ffn_up").T)) @ p("ffn_down").T


def states(w, c, data):
    out = []
    for first, end in zip(data["text_start"][:-1], data["text_start"][1:]):
        x = data["embedding"][data["tokens"][first:end]]
        for i in range(c["n_blocks"]):
            x = block(x, w, i, c)
        out.append(rms_norm(x, w["output_norm.weight"], c["eps"]))
    return torch.cat(out)


def loss_of(w, c, data):
    rows = np.array(data["rows"])
    kind, pair = rows[:, 2], rows[:, 3]
    at, following = torch.from_numpy(rows[:, 0]), torch.from_numpy(rows[:, 1])[:, None]
    h_c = data["h_c"] if c["given"] else states(w, c, data)[at] if c["n_blocks"] else None
    if c["objective"] == "paper":
        log_f = (h_c @ data["head"].T).log_softmax(-1).gather(1, following)[:, 0]
        nll = -log_f.mean()
        return dict(loss=nll, preference=0.0, kl=0.0, nll=nll, right=0, log_p_f=log_f)
    h_t = data["h_t"]
    h_f = h_t
    if c["a"]:
        h_f = h_f + h_c @ w["soothe.a.weight"]
    if c["b"]:
        h_f = h_f + h_t @ w["soothe.b.weight"]
    if c["bias"]:
        h_f = h_f + w["soothe.bias"]
    all_f, all_t = ((h @ data["head"].T).log_softmax(-1) for h in (h_f, h_t))
    log_f, log_t = (z.gather(1, following)[:, 0] for z in (all_f, all_t))
    row_kl = (all_t.exp() * (all_t - all_f)).sum(-1)
    if c["objective"] == "fused":
        nll = -log_f.mean()
        return dict(loss=nll, preference=0.0, kl=0.0, nll=nll, right=0, log_p_f=log_f, log_p_t=log_t, row_kl=row_kl)
    gain = log_f - log_t
    margin = torch.stack(
        [
            gain[torch.from_numpy((kind == CHOSEN) & (pair == i))].sum()
            - gain[torch.from_numpy((kind == REJECTED) & (pair == i))].sum()
            for i in range(c["n_pairs"])
        ]
    )
    preference = -torch.nn.functional.logsigmoid(c["kappa"] * margin).mean()
    kl = row_kl[torch.from_numpy(kind == KL)].mean()
    return dict(
        loss=preference + c["lambda"] * kl,
        preference=preference,
        kl=kl,
        nll=-log_f.mean(),
        right=int((margin > 0).sum()),
        log_p_f=log_f,
        log_p_t=log_t,
        row_kl=row_kl,
    )


# ---- random parameters and data --------------------------------------------------------------------------------------


def parameters(c, rng):
    w = {}
    matrix = lambda n_out, n_in: f32(rng.normal(size=(n_out, n_in)) / n_in**0.5)
    norm = lambda n: f32(1 + 0.2 * rng.normal(size=n))
    d, q, kv = c["d_cal"], c["n_head"] * c["d_head"], c["n_head_kv"] * c["d_head"]
    for i in range(c["n_blocks"]):
        b = f"blk.{i}."
        w[b + "attn_norm.weight"] = norm(d)
        for name, n in (("q", q), ("k", kv), ("v", kv)):
            w[b + f"attn_{name}.weight"] = matrix(n, d)
            if c["qkv_bias"]:
                w[b + f"attn_{name}.bias"] = f32(0.3 * rng.normal(size=n))
        w[b + "attn_output.weight"] = matrix(d, q)
        w[b + "ffn_norm.weight"] = norm(d)
        w[b + "ffn_gate.weight"] = matrix(c["n_ff"], d)
        w[b + "ffn_up.weight"] = matrix(c["n_ff"], d)
        w[b + "ffn_down.weight"] = matrix(d, c["n_ff"])
    if c["n_blocks"]:
        w["output_norm.weight"] = norm(d)
    if c["objective"] != "paper":
        if c["a"]:
            w["soothe.a.weight"] = matrix(d, c["d_tgt"])
        if c["b"]:
            w["soothe.b.weight"] = matrix(c["d_tgt"], c["d_tgt"]) * 0.5
        if c["bias"]:
            w["soothe.bias"] = f32(0.2 * rng.normal(size=c["d_tgt"]))
    return w


def data_of(c, rng):
    lengths = [5, 7, 4, 6, 9, 3, 8, 1]  # three pairs (chosen, rejected) and two texts for the KL; one of a single token
    start = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.integers(0, c["n_vocab"], size=start[-1])
    rows = []
    for text, n in enumerate(lengths):
        kind, pair = ((CHOSEN, REJECTED)[text % 2], text // 2) if text < 6 else (KL, 0)
        for t in range(start[text] + (n > 2) + (n > 6), start[text + 1]):  # the first positions are the prompt
            following = tokens[t + 1] if t + 1 < start[text + 1] else rng.integers(0, c["n_vocab"])
            rows.append([t, following, kind, pair])
    rows.append([start[6] + 2, 1, PLAIN, 0])  # only looked at, at the position of a row that counts
    rows.append([start[2] + 1, 5, KL, 0])  # and a KL row inside the text of a pair
    if c.get("shuffled"):
        rng.shuffle(rows)
    data = dict(
        tokens=tokens,
        text_start=start,
        rows=rows,
        embedding=bf16(rng.normal(size=(c["n_vocab"], c["d_cal"]))),
        head=bf16(rng.normal(size=(c["n_vocab"], c["d_tgt"])) / c["d_tgt"] ** 0.5),
        h_t=bf16(1.5 * rng.normal(size=(len(rows), c["d_tgt"]))),
    )
    if c["given"]:
        data["h_c"] = bf16(rng.normal(size=(len(rows), c["d_cal"])))
    return data


# ---- gradient and AdamW ----------------------------------------------------------------------------------------------


def gradient(w, c, data):
    w = {name: x.clone().requires_grad_(not c["freeze"] or name.startswith("soothe.")) for name, x in w.items()}
    result = loss_of(w, c, data)
    result["loss"].backward()
    result = {name: x.detach() if torch.is_tensor(x) else x for name, x in result.items()}
    g = {name: x.grad for name, x in w.items() if x.requires_grad}
    result["norm"] = sum(float(x.pow(2).sum()) for x in g.values()) ** 0.5
    return result, g


def adamw(w, g, norm, m, v, t, c):
    scale = min(1.0, c["clip"] / norm) if c["clip"] else 1.0
    out = dict(w)
    for name, gradient_ in g.items():
        gradient_ = gradient_ * scale
        m[name] = BETA1 * m.get(name, 0) + (1 - BETA1) * gradient_
        v[name] = BETA2 * v.get(name, 0) + (1 - BETA2) * gradient_**2
        lr = c["lr_fusion"] if name.startswith("soothe.") else c["lr_blocks"]
        decay = c["weight_decay"] if w[name].dim() == 2 else 0.0
        step = m[name] / (1 - BETA1**t) / ((v[name] / (1 - BETA2**t)).sqrt() + EPS)
        out[name] = w[name] * (1 - lr * decay) - lr * step
    return out


# ---- cases and file ----------------------------------------------------------------------------------------------------

BASE = dict(
    objective="preference", n_blocks=2, d_cal=16, n_head=4, n_head_kv=2, d_head=4, n_ff=24, n_vocab=40, d_tgt=12,
    halves=False, qkv_bias=False, rope_base=10000.0, eps=1e-5, a=True, b=True, bias=True, freeze=False, given=False,
    n_pairs=3,
    kappa=0.2, **{"lambda": 0.3}, weight_decay=0.1, clip=0.0, lr_blocks=2e-3, lr_fusion=5e-3,
)  # fmt: skip
QWEN2 = dict(halves=True, qkv_bias=True, rope_base=1000.0, eps=1e-6)
CASES = [
    dict(steps=2),
    dict(QWEN2, d_head=6, clip=0.05, steps=2, shuffled=True, kappa=0.7),  # the clip is active
    dict(n_blocks=0, a=False),
    dict(b=False, bias=False, clip=1e6),  # A alone; a clip that never acts
    dict(freeze=True, clip=0.05, weight_decay=0.0),
    dict(objective="paper", d_tgt=16, clip=0.3),
    dict(QWEN2, objective="paper", d_tgt=16, d_head=6, n_head_kv=1, weight_decay=0.0),
    dict(n_blocks=0, given=True, d_cal=20, steps=2),  # a calibrator's states come with the batch
    dict(objective="fused", n_blocks=0, given=True, d_cal=10, b=False, weight_decay=0.0),
]


class Records:
    """A reference file: named arrays of int32 or float32."""

    def __init__(self):
        self.records = []

    def put(self, name, values):
        values = np.asarray(values).ravel()
        integer = values.dtype.kind in "iu"
        data = values.astype("<i4" if integer else "<f4")
        self.records.append(struct.pack("<64sii", name.encode(), 0 if integer else 1, data.size) + data.tobytes())

    def write(self, path):
        with open(path, "wb") as f:
            f.write(struct.pack("<i", len(self.records)) + b"".join(self.records))


def main():
    records = Records()
    put = records.put
    for i, changes in enumerate(CASES):
        c = {**BASE, **changes}
        rng = np.random.default_rng(1000 + i)
        data, w = data_of(c, rng), parameters(c, rng)
        names = ("n_blocks", "d_cal", "n_head", "n_head_kv", "d_head", "n_ff", "n_vocab", "d_tgt", "halves", "qkv_bias")
        put(f"{i}/shape", [int(c[name]) for name in names])
        put(f"{i}/shape.f", [c["rope_base"], c["eps"]])
        names = ("a", "b", "bias", "freeze", "n_pairs", "given")
        objective = ("preference", "paper", "fused").index(c["objective"])
        put(f"{i}/options", [objective] + [int(c[name]) for name in names])
        names = ("kappa", "lambda", "weight_decay", "clip", "lr_blocks", "lr_fusion")
        put(f"{i}/options.f", [c[name] for name in names])
        for name in ("embedding", "head", "h_t", "h_c"):
            if name in data:
                put(f"{i}/{name}", bf16_bits(data[name]))
        for name in ("tokens", "text_start", "rows"):
            put(f"{i}/{name}", data[name])
        result, g = gradient(w, c, data)
        print(i, {k: round(float(result[k]), 6) for k in ("loss", "preference", "kl", "nll", "norm", "right")})
        put(f"{i}/result", [float(result[k]) for k in ("loss", "preference", "kl", "nll", "norm", "right")])
        for name in ("log_p_t", "log_p_f", "row_kl"):
            if name in result:
                put(f"{i}/{name}", result[name])
        steps, m, v = [w], {}, {}
        for t in range(1, c.get("steps", 1) + 1):
            r, gt = gradient(steps[-1], c, data)
            steps.append(adamw(steps[-1], gt, r["norm"], m, v, t, c))
        for name in w:
            put(f"{i}/w/{name}", w[name])
            if name in g:
                put(f"{i}/g/{name}", g[name])
                for t in range(1, len(steps)):
                    put(f"{i}/w{t}/{name}", steps[t][name])
    records.write(sys.argv[1] if len(sys.argv) > 1 else "tests/data/train_reference.f32")


if __name__ == "__main__":
    main()
