#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/classifier_reference.tsv: what a tiny random BERT with a classification head says about some texts,
computed by NumPy in float64 from the file's tensors and not by the engine.

    build/tests/make_tiny bert.gguf bert blocks=2 seed=5
    python3 scripts/classifier_reference.py bert.gguf [OUT]        (needs the packages gguf and numpy)

A line: the text, then the three outputs of the head (neutral, toxic, insult), then the score (softmax: of toxic and
insult together). Texts of more than 254 letters are cut into windows as the scorer does it; their outputs are those of
the window with the highest score.
"""
import sys

import gguf
import numpy as np

TEXTS = ["", "a", "hello", "hello world", "Hello  World", "xyz zyx q", "the quick brown fox jumps over the lazy dog",
         "!?", " ".join(["abcdefg hij"] * 20), "ab " * 400 + "zz"]
WINDOW, CLS, SEP, UNK = 256, 101, 102, 100

reader = gguf.GGUFReader(sys.argv[1])
T = {t.name: np.asarray(t.data, np.float64).reshape(tuple(int(n) for n in t.shape)[::-1]) for t in reader.tensors}
n_blocks = int(reader.fields["bert.block_count"].parts[-1][0])
n_head = int(reader.fields["bert.attention.head_count"].parts[-1][0])
eps = float(reader.fields["bert.attention.layer_norm_epsilon"].parts[-1][0])
gelu = lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))  # the engine's GELU


def tokens(text):
    """WordPiece over single letters: a word holds letters alone, anything else is [UNK]."""
    out, words = [], "".join(f" {c} " if not c.isalnum() else c for c in text.lower()).split()
    for word in words:
        if all("a" <= c <= "z" for c in word):
            out += [104 + ord(c) - 97 + (26 if i else 0) for i, c in enumerate(word)]
        else:
            out.append(UNK)
    return out


def norm(x, name):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * T[name + ".weight"] + T[name + ".bias"]


def linear(x, name):
    return x @ T[name + ".weight"].T + T[name + ".bias"]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def outputs(ids):
    x = T["token_embd.weight"][ids] + T["token_types.weight"][0] + T["position_embd.weight"][: len(ids)]
    x = norm(x, "token_embd_norm")
    for i in range(n_blocks):
        b = f"blk.{i}."
        q, k, v = (linear(x, b + n).reshape(len(ids), n_head, -1).transpose(1, 0, 2) for n in ("attn_q", "attn_k", "attn_v"))
        a = softmax(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])) @ v
        x = norm(x + linear(a.transpose(1, 0, 2).reshape(len(ids), -1), b + "attn_output"), b + "attn_output_norm")
        x = norm(x + linear(gelu(linear(x, b + "ffn_up")), b + "ffn_down"), b + "layer_output_norm")
    return linear(np.tanh(linear(x[0], "cls")), "cls.output")


def windows(ids):
    room, at = WINDOW - 2, 0
    while True:
        yield [CLS] + ids[at : at + room] + [SEP]
        if len(ids) - at <= room:
            return
        at += room - room // 4


with open(sys.argv[2] if len(sys.argv) > 2 else "tests/data/classifier_reference.tsv", "w") as f:
    for text in TEXTS:
        z = max((outputs(w) for w in windows(tokens(text))), key=lambda z: softmax(z)[1:].sum())
        f.write("\t".join([text] + [f"{x:.7f}" for x in (*z, softmax(z)[1:].sum())]) + "\n")
