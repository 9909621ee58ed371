#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The pairs that the scorer `cppl` reads before every text: short ones of ParaDetox (CC0) from the training data.

    make_cppl_pairs.py data/train_pairs.jsonl.xz models/default.cppl.jsonl [PAIRS]

Those without a prompt, both sides of 20 to 80 characters, whose SHA-256 comes first (16).
"""
import hashlib
import json
import lzma
import sys


def main():
    source, out = sys.argv[1:3]
    n = int(sys.argv[3]) if len(sys.argv) > 3 else 16
    with lzma.open(source, "rt", encoding="utf-8") as file:
        pairs = [json.loads(line) for line in file]
    pairs = [p for p in pairs if not p["prompt"] and all(20 <= len(p[side].strip()) <= 80 for side in ("chosen", "rejected"))]
    pairs.sort(key=lambda p: hashlib.sha256(p["rejected"].encode()).hexdigest())
    with open(out, "w", encoding="utf-8") as file:
        for p in pairs[:n]:
            row = {"prompt": "", "chosen": p["chosen"].strip(), "rejected": p["rejected"].strip()}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
