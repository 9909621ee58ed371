#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Labelled texts to measure the scorer `cppl` on, as JSON lines {"text", "label", "source"}.

    make_cppl_check.py SETS OUT ROWS [SKIP]

SETS is a folder with the data sets as their own projects publish them (paradetox/, davidson/, toxigen/). OUT gets one file
a set of ROWS texts: those whose SHA-256 comes first, behind SKIP others; of ParaDetox pairs, both sides. What
models/default.cppl.jsonl holds is left out.
"""
import csv
import hashlib
import json
import lzma
import pathlib
import sys


def read(path):
    return lzma.open(path, "rt", encoding="utf-8", newline="")


def paradetox(sets):
    for row in csv.DictReader(read(sets / "paradetox/paradetox.tsv.xz"), delimiter="\t", quoting=csv.QUOTE_NONE):
        if row["neutral1"]:
            yield [(row["toxic"], 1), (row["neutral1"], 0)]


def davidson(sets):
    for row in csv.DictReader(read(sets / "davidson/labeled_data.csv.xz")):
        yield [(row["tweet"], int(row["class"] != "2"))]


def toxigen(sets):
    for line in read(sets / "toxigen/annotated_safenlp.jsonl.xz"):
        row = json.loads(line)
        yield [(row["text"], int(row["label"] == "hate"))]


def main():
    sets, out, n = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
    skip = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    out.mkdir(parents=True, exist_ok=True)
    shipped = pathlib.Path(__file__).parent.parent / "models/default.cppl.jsonl"
    known = {row[side] for row in map(json.loads, shipped.open(encoding="utf-8")) for side in ("chosen", "rejected")}
    for source in (paradetox, davidson, toxigen):
        groups = sorted(source(sets), key=lambda group: hashlib.sha256(group[0][0].encode()).hexdigest())
        rows = [row for group in groups for row in group if row[0].strip() not in known][skip:skip + n]
        with open(out / f"{source.__name__}.jsonl", "w", encoding="utf-8") as file:
            for text, label in rows:
                json.dump({"text": text, "label": label, "source": source.__name__}, file, ensure_ascii=False)
                file.write("\n")
        print(f"{source.__name__}: {len(rows)} texts, {sum(label for _, label in rows)} toxic")


if __name__ == "__main__":
    main()
