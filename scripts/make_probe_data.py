#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Labelled texts for probes and the harmoniser, as JSON lines {"text", "label", "source"}.

    make_probe_data.py SETS OUT [ROWS]

SETS is a folder with the data sets as their own projects publish them (toxigen/, implicit_hate_safenlp/, hatecheck/,
davidson/). OUT gets one file a set; toxigen and implicit_hate hold at most ROWS texts (4000), davidson half as many: those
whose SHA-256 comes first, so that the same texts come out in the same order on every machine. combine.jsonl holds ROWS / 8
more of each of the three, for the harmoniser, which is to see what no probe was trained on.
"""
import csv
import hashlib
import json
import lzma
import pathlib
import sys


def lines(path):
    with lzma.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def toxigen(sets):
    for row in lines(sets / "toxigen/annotated_safenlp.jsonl.xz"):
        yield row["text"], row["label"] == "hate"


def implicit_hate(sets):
    for row in lines(sets / "implicit_hate_safenlp/implicit_hate.jsonl.xz"):
        yield row["text"], row["label"] == "hate"


def davidson(sets):
    with lzma.open(sets / "davidson/labeled_data.csv.xz", "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row["tweet"], row["class"] != "2"


def hatecheck(sets):
    with open(sets / "hatecheck/test_suite_cases.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row["test_case"], row["label_gold"] == "hateful"


def write(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            json.dump(row, file, ensure_ascii=False)
            file.write("\n")
    print(f"{path.name}: {len(rows)} texts, {sum(row['label'] for row in rows)} toxic")


def main():
    sets, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    n_rows = int(sys.argv[3]) if len(sys.argv) > 3 else 4000
    out.mkdir(parents=True, exist_ok=True)
    combine = []
    for read, limit in ((toxigen, n_rows), (implicit_hate, n_rows), (davidson, n_rows // 2), (hatecheck, None)):
        texts = {}
        for text, label in read(sets):
            text = " ".join(text.split())
            if text:
                texts.setdefault(text, int(label))
        order = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest()[4:])
        rows = [{"text": text, "label": texts[text], "source": read.__name__} for text in order]
        write(out / f"{read.__name__}.jsonl", rows[:limit])
        if limit:
            combine += rows[limit : limit + n_rows // 8]
    write(out / "combine.jsonl", combine)


main()
