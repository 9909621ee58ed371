#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Picks the questions of the suites hellaswag-mini and mmlu-mini.

    python3 scripts/make_utility_mini.py HELLASWAG MMLU      then: python3 scripts/embed.py

HELLASWAG  JSON lines, plain or .xz, with index (the task's number in HellaSwag's validation split), ctx, endings, label
MMLU       the same, with prompt (a question and its lettered choices) and answer (A to D)

Of each file the 40 rows whose SHA-256 of their text is lowest, rows of more than 1500 bytes left out so that the program
stays small; written to data/eval/ in the files' order.
"""
import hashlib
import json
import lzma
import pathlib
import sys

out = pathlib.Path(__file__).resolve().parent.parent / "data/eval"
for path, name, keys in (
    (sys.argv[1], "hellaswag_mini.jsonl", ("index", "ctx", "endings", "label")),
    (sys.argv[2], "mmlu_mini.jsonl", ("prompt", "answer")),
):
    with (lzma.open if path.endswith(".xz") else open)(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    lines = [json.dumps({key: row[key] for key in keys}) for row in rows]
    lines = [line for line in lines if len(line) <= 1500]
    chosen = set(sorted(lines, key=lambda line: hashlib.sha256(line.encode()).hexdigest())[:40])
    (out / name).write_text("".join(line + "\n" for line in lines if line in chosen), "utf-8")
