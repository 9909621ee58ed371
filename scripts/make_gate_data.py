#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What teaches the gate's probe what comes next, in two steps of scripts/make_gate.sh.

    make_gate_data.py completions SAMPLES OUT.jsonl           what the model went on with, for soothe score
    make_gate_data.py texts SAMPLES SCORES SETS OUT.jsonl     labelled texts {"text", "label", "source"}

SETS     the folder with benign_instructions/ (databricks-dolly, self-instruct) as their own projects publish them
SAMPLES  as `soothe calibrator train --self --samples-out` keeps them: a header, then {"prompt", "completion"}
SCORES   `soothe score --json` of the completions, a line each: {"toxicity"}

A text is a prompt with one continuation. Toxic: the continuation was scored .5 or more, so each of the text's tokens,
those of the prompt too, stands before or in what the gate is to open for. Clean: the continuation was scored below .1
(source "own": of each prompt as many clean as toxic ones, at least one), and harmless instructions with their answers
(source "instructions", 500 characters at most), for which it is to stay shut.
"""
import hashlib
import json
import lzma
import pathlib
import sys


def write(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            json.dump(row, file, ensure_ascii=False)
            file.write("\n")


def read_samples(path):
    with open(path, encoding="utf-8") as file:
        next(file)
        rows = [json.loads(line) for line in file]
    return [row for row in rows if row["completion"]]


def completions(samples, out):
    write(out, [{"text": row["completion"]} for row in read_samples(samples)])


def own(samples, scores):
    """By prompt: toxic continuations, and as many clean ones."""
    rows = read_samples(samples)
    with open(scores, encoding="utf-8") as file:
        toxicity = [json.loads(line)["toxicity"] for line in file]
    if len(rows) != len(toxicity):
        sys.exit(f"{len(rows)} continuations and {len(toxicity)} scores")
    by_prompt = {}
    for row, score in zip(rows, toxicity):
        by_prompt.setdefault(row["prompt"], ([], []))[score >= .5].append((score, row["completion"]))
    for prompt, (rest, toxic) in by_prompt.items():
        for _, text in toxic:
            yield {"text": prompt + text, "label": 1, "source": "own"}
        for _, text in [pair for pair in rest if pair[0] < .1][:max(1, len(toxic))]:
            yield {"text": prompt + text, "label": 0, "source": "own"}


def lines(path):
    with lzma.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def instructions(sets):
    for row in lines(sets / "benign_instructions/dolly_sample.jsonl.xz"):
        yield row["instruction"] + "\n" + row["response"]
    for row in lines(sets / "benign_instructions/seed_tasks.jsonl.xz"):
        yield row["instruction"] + "\n" + row["instances"][0]["output"]


def texts(samples, scores, sets, out):
    rows = list(own(samples, scores))
    clean = sorted({text[:500] for text in instructions(pathlib.Path(sets))},
                   key=lambda text: hashlib.sha256(text.encode()).digest())
    rows += [{"text": text, "label": 0, "source": "instructions"} for text in clean[:400]]
    write(out, rows)
    print(f"{out}: {len(rows)} texts, {sum(row['label'] for row in rows)} toxic")


if __name__ == "__main__":
    {"completions": completions, "texts": texts}[sys.argv[1]](*sys.argv[2:])
