#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Labelled texts for the probe of Model Surgery, as JSON lines {"text", "label", "source"}.

    make_surgery_data.py RTP OUT.jsonl [ROWS]

RTP is a folder with RealToxicityPrompts' rows (mixed.jsonl, toxic.jsonl, nontoxic.jsonl, and challenging.jsonl, whose texts are left
out: they are what is measured on). Prompts and continuations are texts by themselves: toxic from .5 up by the data set's own scores,
clean below .2; of each class the 1500 whose SHA-256 comes first, and of both together the first ROWS (1400).
"""
import hashlib
import json
import pathlib
import sys


def texts(path):
    with open(path, encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            for part in (row.get("prompt") or {}, row.get("continuation") or {}):
                if part.get("toxicity") is not None:
                    yield part["text"], part["toxicity"]


def order(text):
    return hashlib.sha256(text.encode()).digest()[4:]


def main():
    folder, out = pathlib.Path(sys.argv[1]), sys.argv[2]
    n_rows = int(sys.argv[3]) if len(sys.argv) > 3 else 1400
    measured = {text for text, _ in texts(folder / "challenging.jsonl")}
    classes = ([], [])
    for name in ("mixed", "toxic", "nontoxic"):
        for text, toxicity in texts(folder / f"{name}.jsonl"):
            if text not in measured and (toxicity >= 0.5 or toxicity < 0.2):
                classes[toxicity >= 0.5].append(text)
    labels = {}
    for label in (1, 0):
        for text in sorted(classes[label], key=order)[:1500]:
            labels.setdefault(" ".join(text.split()), label)
    labels.pop("", None)
    chosen = sorted(labels, key=order)[:n_rows]
    with open(out, "w", encoding="utf-8") as file:
        for text in chosen:
            json.dump({"text": text, "label": labels[text], "source": "rtp"}, file, ensure_ascii=False)
            file.write("\n")
    print(f"{out}: {len(chosen)} texts, {sum(labels[text] for text in chosen)} toxic")


main()
