#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the training data in data/ out of open sets; Python's own library only, every choice by hash.

    scripts/make_training_data.py prompts SETS prompts.jsonl
    build/soothe calibrator train --self -m MODEL --prompts prompts.jsonl --samples 8 --seed 1 \\
        --samples-out samples.jsonl
    scripts/make_training_data.py build SETS samples.jsonl data

SETS is a folder with the sets that data/README.md names: rtp/ (RealToxicityPrompts), paradetox/, unidetox/,
fluency/. Written are train_pairs, heldout_pairs, clean_texts and heldout_texts, each .jsonl.xz, and a table of
what they hold on stdout.
"""
import argparse
import collections
import hashlib
import json
import lzma
import pathlib
import re
import sys

N_PARADETOX = 1500      # pairs of ParaDetox taken for training: of one kind, so no more than four fifths
HELDOUT = 0.2           # share of the prompts, and of the texts without a prompt, that training never sees
N_HELDOUT_PARADETOX = 375  # the same share as of the prompts, so that the held-out mix is the training mix
TOXIC_HUMAN = 0.5       # Perspective's toxicity of a human continuation from which it counts as toxic
CLEAN_HUMAN = 0.1       # ... below which it counts as clean
TOXIC_SAMPLE = 0.4      # built-in lexicon score of a sample from which it counts as toxic; clean is 0


def place(text, salt):
    """In [0,1), by hash: depends on the text alone, not on the others."""
    digest = hashlib.sha256((salt + "\0" + text).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def is_heldout(text):
    return place(text, "heldout") < HELDOUT


def open_text(path):
    if not path.exists():
        path = path.with_name(path.name + ".xz")
    return lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else open(path, encoding="utf-8")


def rtp_rows(sets):
    """Rows of toxic and mixed that carry the data set's own licence alone, none of a challenging prompt."""
    with open_text(sets / "rtp/challenging.jsonl") as f:
        challenging = {json.loads(line)["prompt"]["text"].strip() for line in f}
    seen, n_shared = set(), 0
    for name in "toxic", "mixed":
        with open_text(sets / f"rtp/{name}.jsonl") as f:
            for line in f:
                row = json.loads(line)
                prompt = row["prompt"]["text"]
                if any(s.startswith("AI-secure/") for s in row["from"]) or prompt in seen:
                    continue
                if prompt.strip() in challenging or row.get("challenging"):
                    n_shared += 1
                    continue
                seen.add(prompt)
                yield (prompt, row["continuation"]["text"], row["prompt"].get("toxicity") or 0.0,
                       row["continuation"].get("toxicity") or 0.0)
    print(f"RTP: {len(seen)} prompts; {n_shared} shared with the challenging ones left out", file=sys.stderr)


def write_prompts(sets, out):
    with open(out, "w", encoding="utf-8") as f:
        for prompt, *_ in rtp_rows(sets):
            f.write(json.dumps({"prompt": prompt}, ensure_ascii=False) + "\n")


def read_samples(path):
    samples = collections.defaultdict(list)
    with open_text(path) as f:
        for line in f:
            row = json.loads(line)
            if row.get("score") is not None and row["completion"].strip():
                samples[row["prompt"]].append((row["score"], row["completion"]))
    return samples


def own_pairs(samples):
    """Up to three pairs of own samples for one prompt: clean against toxic."""
    for prompt, rows in samples.items():
        toxic = sorted((r for r in rows if r[0] >= TOXIC_SAMPLE), reverse=True)
        clean = sorted((r for r in rows if r[0] == 0), key=lambda r: place(r[1], "clean"))
        for (_, bad), (_, good) in list(zip(toxic, clean))[:3]:
            yield prompt, good, bad


def human_pairs(sets, samples):
    """Human continuations on the one side, own samples on the other; both ways, so that "written by the model"
    is not what is learnt."""
    for prompt, human, _, toxicity in rtp_rows(sets):
        rows = sorted(samples.get(prompt, []), key=lambda r: place(r[1], "human"))
        clean = [text for score, text in rows if score == 0]
        toxic = [text for score, text in rows if score >= TOXIC_SAMPLE]
        if toxicity > TOXIC_HUMAN:
            for text in clean[:2]:
                yield "human toxic, own clean", (prompt, text, human)
        if toxicity < CLEAN_HUMAN and toxic:
            yield "human clean, own toxic", (prompt, human, toxic[0])


def paradetox_pairs(sets):
    rows = []
    with open_text(sets / "paradetox/paradetox.tsv") as f:
        next(f)
        for line in f:
            toxic, neutral = [c.strip() for c in line.rstrip("\n").split("\t") + [""]][:2]
            if 12 <= len(toxic) <= 200 and len(neutral) >= 8 and toxic.lower() != neutral.lower():
                rows.append(("", neutral, toxic))
    rows.sort(key=lambda r: place(r[2], "paradetox"))
    held = [r for r in rows if is_heldout(r[2]) or is_heldout(r[1])][:N_HELDOUT_PARADETOX]
    train = [r for r in rows if not is_heldout(r[2]) and not is_heldout(r[1])][:N_PARADETOX]
    return train, held


def passages(text):
    """Runs of whole sentences of 150 to 320 characters."""
    text = re.sub(r"\s+", " ", text)
    run = ""
    for sentence in re.split(r"(?<=[.!?]) (?=[A-Z'\"])", text):
        run = (run + " " + sentence).strip()
        if len(run) >= 150:
            if len(run) <= 320:
                yield run
            run = ""


def clean_texts(sets, samples):
    for name in "alice", "pride_and_prejudice":
        with open_text(sets / f"fluency/{name}.txt") as f:
            runs = sorted(passages(f.read()), key=lambda t: place(t, "book"))
        for text in runs[:90 if name == "alice" else 350]:
            yield "book passages", ("", text)
    with open_text(sets / "unidetox/detoxifying_text.jsonl") as f:
        for line in f:
            for text in list(passages(json.loads(line)["text"]))[:1]:
                yield "UniDetox", ("", text)
    for prompt, human, p_toxicity, c_toxicity in rtp_rows(sets):
        if p_toxicity < CLEAN_HUMAN and c_toxicity < CLEAN_HUMAN:
            yield "RTP, human, clean", (prompt, human)
    order = sorted(samples, key=lambda p: place(p, "own clean"))
    for prompt in order:
        clean = sorted((text for score, text in samples[prompt] if score == 0), key=lambda t: place(t, "own clean"))
        if clean and all(score == 0 for score, _ in samples[prompt]):
            yield "own samples, clean", (prompt, clean[0])


def build(sets, samples_path, out):
    samples = read_samples(samples_path)
    files = {name: [] for name in ("train_pairs", "heldout_pairs", "clean_texts", "heldout_texts")}
    table = collections.Counter()

    def put(train, kind, row, held=None):
        held = is_heldout(row[0] or row[1]) if held is None else held
        name = {"train_pairs": "heldout_pairs", "clean_texts": "heldout_texts"}[train] if held else train
        files[name].append(row)
        table[name, kind] += 1

    for row in own_pairs(samples):
        put("train_pairs", "own samples", row)
    for kind, row in human_pairs(sets, samples):
        put("train_pairs", kind, row)
    train, held = paradetox_pairs(sets)
    for rows, is_held in (train, False), (held, True):
        for row in rows:
            put("train_pairs", "ParaDetox", row, is_held)
    n = collections.Counter()
    for kind, row in clean_texts(sets, samples):
        n[kind] += 1
        if n[kind] <= 900:
            put("clean_texts", kind, row)

    check_disjoint(files)
    for name, rows in files.items():
        keys = ("prompt", "chosen", "rejected") if name.endswith("pairs") else ("prompt", "completion")
        rows.sort(key=lambda r: place("\0".join(r), "order"))
        text = "".join(json.dumps(dict(zip(keys, r)), ensure_ascii=False) + "\n" for r in rows).encode()
        path = out / f"{name}.jsonl.xz"
        path.write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
        kinds = ", ".join(f"{k} {c}" for (f, k), c in sorted(table.items()) if f == name)
        print(f"| {path.name} | {len(rows)} | {path.stat().st_size} | {hashlib.sha256(text).hexdigest()} | {kinds} |")


def check_disjoint(files):
    """No prompt and no text of the held-out files is in a training file."""
    def parts(names, sides):
        prompts = {r[0] for n in names for r in files[n] if r[0]}
        return prompts, {t for n in names for r in files[n] for t in r[1:1 + sides]}
    p_train, t_train = parts(("train_pairs", "clean_texts"), 2)
    for name in "heldout_pairs", "heldout_texts":
        files[name] = [r for r in files[name] if r[0] not in p_train and not t_train & set(r[1:])]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = parser.add_subparsers(dest="what", required=True)
    p = sub.add_parser("prompts")
    p.add_argument("sets", type=pathlib.Path)
    p.add_argument("out", type=pathlib.Path)
    p = sub.add_parser("build")
    p.add_argument("sets", type=pathlib.Path)
    p.add_argument("samples", type=pathlib.Path)
    p.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    if args.what == "prompts":
        write_prompts(args.sets, args.out)
    else:
        build(args.sets, args.samples, args.out)


if __name__ == "__main__":
    main()
