#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/train_whole_reference.f32: factors of low rank in small decoders under the objectives of whole
models, their losses, gradients and one AdamW step by PyTorch in float64.

    train_whole_reference.py [OUTPUT]

The formulas are those of src/train/train_core.h, linear.h and cppl.h, written down a second time with autograd doing the
way back. The file has the form of train_reference.py's; records of case i are named "i/...":
    shape, shape.f, embedding, head, h_t, tokens, text_start, rows   as there
    options    int32  objective (0 weighted, 1 own preference), n_pairs, rank, weights (0 given, 1 paper's cppl, 2 code's),
                      phi is log, n_random
    options.f  f32    kappa, lambda, alpha of the factors, cppl's alpha, tau, learning rate, weight decay, clip
    weight     f32    of every row (given weights)
    soft       f32    (rows, V): q of a KL row is softmax(z_t + log sigmoid(soft)); only where there is one
    texts      int32  set, toxic of every text (cppl)
    result     f32    loss, preference, kl (mean over KL rows), nll, gradient norm
    w/NAME, g/NAME, w1/NAME   f32  a tensor's values; of factors their gradient and values after one step
"""
import sys

import numpy as np
import torch
from train_reference import (
    BASE,
    CHOSEN,
    KL,
    PLAIN,
    QWEN2,
    REJECTED,
    Records,
    adamw,
    bf16,
    bf16_bits,
    f32,
    parameters,
    states,
)

MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
LENGTHS = [5, 7, 4, 6, 9, 3, 8, 1]


# ---- the model ---------------------------------------------------------------------------------------------------


def merged(w, c):
    """Every matrix that has factors as W + s B A."""
    out = {}
    for name, x in w.items():
        if ".lora_" in name:
            continue
        a = w.get(name + ".lora_a")
        out[name] = x if a is None else x + c["lora_alpha"] / c["rank"] * w[name + ".lora_b"] @ a
    return out


def cppl(c, texts, l):
    """Klein and Nabi 2025: the paper's loss, and the one of the released code."""
    sets = sorted({s for s, _ in texts})
    losses = []
    if c["weights"] == 1:
        phi = l if c["log_phi"] else l.exp()
        for s in sets:
            harmless = torch.stack([phi[i] for i, (k, toxic) in enumerate(texts) if k == s and not toxic])
            toxic = torch.stack([phi[i] for i, (k, toxic) in enumerate(texts) if k == s and toxic])
            similarity = lambda x: (-(x - harmless.mean()).abs() / c["tau"]).exp()
            up = similarity(harmless).sum()
            losses.append(-(up / (up + c["alpha"] * similarity(toxic).sum())).log())
        return torch.stack(losses).mean()
    score = (-(l - l.mean()).abs()).exp() / c["tau"]
    n = len(texts)
    for s in sets:
        own = [i for i, (k, _) in enumerate(texts) if k == s]
        # toxic texts of other sets, from this one on
        others = [i for i in ((own[0] + k) % n for k in range(n)) if texts[i][1] and i not in own][: c["n_random"]]
        logits = torch.stack(
            [score[i] + (c["alpha"] if i in own and texts[i][1] else 0.0) for i in own + others]
        )
        harmless = [k for k, i in enumerate(own) if not texts[i][1]]
        losses.append(-logits.log_softmax(0)[harmless].sum() / (len(harmless) + 1 + c["n_random"]))
    return torch.stack(losses).mean()


def loss_of(w, c, data):
    rows = np.array(data["rows"])
    kind, pair = rows[:, 2], rows[:, 3]
    at, following = torch.from_numpy(rows[:, 0]), torch.from_numpy(rows[:, 1])[:, None]
    z = states(merged(w, c), c, data)[at] @ data["head"].T
    z_t = data["h_t"] @ data["head"].T
    if "soft" in data:
        z_t = z_t + torch.nn.functional.logsigmoid(data["soft"])
    all_f, all_t = z.log_softmax(-1), z_t.log_softmax(-1)
    log_f, log_t = (x.gather(1, following)[:, 0] for x in (all_f, all_t))
    row_kl = (all_t.exp() * (all_t - all_f)).sum(-1)
    is_kl = torch.from_numpy(kind == KL)
    kl = row_kl[is_kl].mean() if is_kl.any() else torch.tensor(0.0)
    nll = -log_f.mean()
    if c["objective"] == 1:
        gain = log_f - log_t
        margin = torch.stack(
            [
                gain[torch.from_numpy((kind == CHOSEN) & (pair == i))].sum()
                - gain[torch.from_numpy((kind == REJECTED) & (pair == i))].sum()
                for i in range(c["n_pairs"])
            ]
        )
        preference = -torch.nn.functional.logsigmoid(c["kappa"] * margin).mean()
        return dict(loss=preference + c["lambda"] * kl, preference=preference, kl=kl, nll=nll)
    if c["weights"]:
        text_of = np.searchsorted(data["text_start"], rows[:, 0], side="right") - 1
        l = torch.stack([-log_f[torch.from_numpy(text_of == i)].mean() for i in range(len(LENGTHS))])
        return dict(loss=cppl(c, data["texts"], l), preference=0.0, kl=kl, nll=nll)
    each = torch.where(is_kl, row_kl, -log_f)
    return dict(loss=(data["weight"] * each).sum(), preference=0.0, kl=kl, nll=nll)


# ---- random parameters and data --------------------------------------------------------------------------------------


def with_factors(w, c, rng):
    out = {}
    for name, x in w.items():
        out[name] = x
        if any(f".{m}.weight" in name for m in MATRICES):
            n_out, n_in = x.shape
            out[name + ".lora_a"] = f32(rng.normal(size=(c["rank"], n_in)) / n_in**0.5)
            out[name + ".lora_b"] = f32(0.3 * rng.normal(size=(n_out, c["rank"])))
    return out


def data_of(c, rng):
    start = np.concatenate([[0], np.cumsum(LENGTHS)])
    tokens = rng.integers(0, c["n_vocab"], size=start[-1])
    rows = []
    for text, n in enumerate(LENGTHS):
        kind, pair = PLAIN, 0
        if c["objective"] == 1:
            kind, pair = ((CHOSEN, REJECTED)[text % 2], text // 2) if text < 6 else (KL, 0)
        elif c["soft"] and text >= 5:
            kind = KL
        for t in range(start[text] + (n > 2) + (n > 6), start[text + 1]):
            following = tokens[t + 1] if t + 1 < start[text + 1] else rng.integers(0, c["n_vocab"])
            rows.append([t, following, kind, pair])
    data = dict(
        tokens=tokens,
        text_start=start,
        rows=rows,
        embedding=bf16(rng.normal(size=(c["n_vocab"], c["d_cal"]))),
        head=bf16(rng.normal(size=(c["n_vocab"], c["d_tgt"])) / c["d_tgt"] ** 0.5),
        h_t=bf16(1.5 * rng.normal(size=(len(rows), c["d_tgt"]))),
        weight=f32(rng.normal(size=len(rows)) / len(rows)),
        texts=[(0, 0), (0, 0), (0, 1), (0, 1), (1, 0), (1, 1), (1, 1), (1, 1)],
    )
    if c["soft"]:
        data["soft"] = f32(2 * rng.normal(size=(len(rows), c["n_vocab"])))
    return data


def gradient(w, c, data):
    w = {name: x.clone().requires_grad_(".lora_" in name) for name, x in w.items()}
    result = loss_of(w, c, data)
    result["loss"].backward()
    g = {name: x.grad for name, x in w.items() if x.requires_grad}
    result["norm"] = sum(float(x.pow(2).sum()) for x in g.values()) ** 0.5
    return result, g


# ---- cases and file ----------------------------------------------------------------------------------------------------

WHOLE = dict(
    BASE, d_tgt=16, objective=0, n_pairs=3, rank=3, weights=0, log_phi=0, n_random=2, soft=False, lora_alpha=5.0,
    alpha=1.1, tau=0.2, weight_decay=0.0, clip=0.0, lr_blocks=2e-3,
)  # fmt: skip
CASES = [
    dict(weight_decay=0.1, clip=0.05),  # given weights, some of them negative
    dict(QWEN2, d_head=6, objective=1, kappa=0.7),
    dict(QWEN2, d_head=6, soft=True),
    dict(weights=1, tau=20.0),  # perplexities lie tens apart
    dict(weights=1, log_phi=1),
    dict(weights=2, log_phi=1, alpha=1.5, tau=1.0),
]


def main():
    records = Records()
    put = records.put
    for i, changes in enumerate(CASES):
        c = {**WHOLE, **changes}
        rng = np.random.default_rng(2000 + i)
        data = data_of(c, rng)
        w = with_factors(parameters({**c, "objective": "paper"}, rng), c, rng)
        names = ("n_blocks", "d_cal", "n_head", "n_head_kv", "d_head", "n_ff", "n_vocab", "d_tgt", "halves", "qkv_bias")
        put(f"{i}/shape", [int(c[name]) for name in names])
        put(f"{i}/shape.f", [c["rope_base"], c["eps"]])
        put(f"{i}/options", [int(c[k]) for k in ("objective", "n_pairs", "rank", "weights", "log_phi", "n_random")])
        names = ("kappa", "lambda", "lora_alpha", "alpha", "tau", "lr_blocks", "weight_decay", "clip")
        put(f"{i}/options.f", [c[name] for name in names])
        for name in ("embedding", "head", "h_t"):
            put(f"{i}/{name}", bf16_bits(data[name]))
        for name in ("tokens", "text_start", "rows", "weight", "texts", "soft"):
            if name in data:
                put(f"{i}/{name}", data[name])
        result, g = gradient(w, c, data)
        print(i, {k: round(float(result[k]), 6) for k in ("loss", "preference", "kl", "nll", "norm")})
        put(f"{i}/result", [float(result[k]) for k in ("loss", "preference", "kl", "nll", "norm")])
        after = adamw(w, g, result["norm"], {}, {}, 1, c)
        for name in w:
            put(f"{i}/w/{name}", w[name])
            if name in g:
                put(f"{i}/g/{name}", g[name])
                put(f"{i}/w1/{name}", after[name])
    records.write(sys.argv[1] if len(sys.argv) > 1 else "tests/data/train_whole_reference.f32")


if __name__ == "__main__":
    main()
