#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sentences for `soothe cfl train`, as JSON lines {"text"}.

    make_cfl_data.py SETS OUT.jsonl

SETS is a folder with the data sets as their own projects publish them: davidson/ (MIT), implicit_hate_safenlp/ (MIT),
paradetox/ (CC0) and toxic_spans/ (CC0; its training split alone). Labels are not used. Addresses, @mentions and "RT" are
taken out and HTML entities resolved: they are no words that a model would say there.
"""
import csv
import html
import json
import lzma
import pathlib
import re
import sys


def table(path, **options):
    with lzma.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, **options)


def texts(sets):
    for row in table(sets / "davidson/labeled_data.csv.xz"):
        yield row["tweet"]
    with lzma.open(sets / "implicit_hate_safenlp/implicit_hate.jsonl.xz", "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["text"]
    for row in table(sets / "paradetox/paradetox.tsv.xz", delimiter="\t", quoting=csv.QUOTE_NONE):
        yield row["toxic"]
        yield row["neutral1"]
    for row in table(sets / "toxic_spans/tsd_train.csv.xz"):
        yield row["text"]


def clean(text):
    text = html.unescape(html.unescape(text or ""))
    text = re.sub(r"https?\S*|www\.\S+|@\w+:?|\bRT\b|\brt\b", " ", text)
    return re.sub(r"[ \t\0]+", " ", text).strip()


def main():
    sets, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    n = 0
    with open(out, "w", encoding="utf-8") as file:
        for text in map(clean, texts(sets)):
            if text:
                json.dump({"text": text}, file, ensure_ascii=False)
                file.write("\n")
                n += 1
    print(f"{out.name}: {n} texts")


main()
