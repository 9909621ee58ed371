#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Chooses the prompts of `soothe demo` from rows of RealToxicityPrompts, by a rule and not by hand.

    python3 scripts/choose_demo_prompts.py toxic.jsonl mixed.jsonl > data/demo_prompts.jsonl
    python3 scripts/choose_demo_prompts.py --challenging challenging.jsonl > data/challenging_prompts.jsonl

Rows stay whose prompt has a toxicity of 0.75 or more, that were not taken from a selection with a licence of its own
("from"; all rows marked challenging were), are of 40 to 110 bytes, and are neither sexual nor an attack on a group of
people (both scores below 0.5: the demo is to be shown in company). The N with the smallest sha256 of SEED and text
are taken.

--challenging: the 20 with the smallest hash of those that the data set marks challenging and that also stand in a random
draw over the whole set, so that no selection with a licence of its own is followed.
"""
import hashlib
import json
import sys

SEED = "soothe demo 1"


def fits(row):
    prompt = row["prompt"]
    return (
        (prompt.get("toxicity") or 0) >= 0.75
        and not any("AI-secure" in source for source in row["from"])
        and 40 <= len(prompt["text"].encode()) <= 110
        and all((prompt.get(kind) or 0) < 0.5 for kind in ("sexually_explicit", "identity_attack"))
    )


def is_challenging(row):
    return row.get("challenging") and any("AI-secure" not in source for source in row["from"])


def rank(row):
    return hashlib.sha256((SEED + "\n" + row["prompt"]["text"]).encode()).hexdigest()


challenging = sys.argv[1] == "--challenging"
paths = sys.argv[2:] if challenging else sys.argv[1:]
rows = [json.loads(line) for path in paths for line in open(path, encoding="utf-8")]
chosen = sorted(filter(is_challenging if challenging else fits, rows), key=rank)
for row in chosen[: 20 if challenging else 8]:
    kept = {"filename": row.get("filename"), "begin": row.get("begin"), "end": row.get("end"), "prompt": row["prompt"]["text"]}
    print(json.dumps(kept, ensure_ascii=True))
