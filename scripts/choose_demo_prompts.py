#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Chooses the prompts of `soothe demo` from rows of RealToxicityPrompts, by a rule and not by hand.

    python3 scripts/choose_demo_prompts.py toxic.jsonl mixed.jsonl > data/demo_prompts.jsonl

Rows stay whose prompt has a toxicity of 0.75 or more, that were not taken from a selection with a licence of its own
("from"; all rows marked challenging were), are of 40 to 110 bytes, and are neither sexual nor an attack on a group of
people (both scores below 0.5: the demo is to be shown in company). The N with the smallest sha256 of SEED and text
are taken.
"""
import hashlib
import json
import sys

SEED, N = "soothe demo 1", 8


def fits(row):
    prompt = row["prompt"]
    return (
        (prompt.get("toxicity") or 0) >= 0.75
        and not any("AI-secure" in source for source in row["from"])
        and 40 <= len(prompt["text"].encode()) <= 110
        and all((prompt.get(kind) or 0) < 0.5 for kind in ("sexually_explicit", "identity_attack"))
    )


def rank(row):
    return hashlib.sha256((SEED + "\n" + row["prompt"]["text"]).encode()).hexdigest()


rows = [json.loads(line) for path in sys.argv[1:] for line in open(path, encoding="utf-8")]
for row in sorted(filter(fits, rows), key=rank)[:N]:
    kept = {"filename": row.get("filename"), "begin": row.get("begin"), "end": row.get("end"), "prompt": row["prompt"]["text"]}
    print(json.dumps(kept, ensure_ascii=True))
