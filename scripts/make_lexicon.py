#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes data/lexicon_en.tsv from the published lists and data/lexicon_changes.tsv.

    python3 scripts/make_lexicon.py profanity_en.csv ldnoobw_en.txt

profanity_en.csv   surge-ai/profanity, MIT (severity 1..3)
ldnoobw_en.txt     LDNOOBW/List-of-Dirty-Naughty-Obscene-and-Otherwise-Bad-Words, CC BY 4.0
Only the words of the second list that data/lexicon_changes.tsv names are used.
Run scripts/embed.py afterwards.
"""
import csv
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent
LEET = str.maketrans("013457@$!", "oieastasi")


def normal(text):
    """As the matcher sees words: lower case, digits read as letters, joined by single spaces; None if it never can."""
    text = re.sub(r"[-_ ]+", " ", text.lower().replace("'", "")).strip()
    if re.search(r"[a-z]", text):
        text = text.translate(LEET)
    return text if re.fullmatch(r"[a-z]+( [a-z]+){0,3}", text) and len(text) > 1 else None


words = {}
with open(sys.argv[1], encoding="utf-8") as f:
    for row in csv.DictReader(f):
        word = normal(row["text"])
        if word:
            # a misspelling read back may meet the word itself: the gentler of the two severities holds
            words[word] = min(words.get(word, (9, ""))[0], float(row["severity_rating"])), ""
second = {normal(line) for line in open(sys.argv[2], encoding="utf-8")}

for line in open(root / "data/lexicon_changes.tsv", encoding="utf-8"):
    if line.startswith("#"):
        continue
    word, severity, flags = (line.rstrip("\n") + "\t").split("\t")[:3]
    if float(severity) == 0:
        words.pop(word, None)
    else:
        words[word] = float(severity), flags

with open(root / "data/lexicon_en.tsv", "w", encoding="utf-8") as out:
    for word in sorted(words):
        severity, flags = words[word]
        out.write(f"{word}\t{severity:g}" + (f"\t{flags}" if flags else "") + "\n")
print(len(words), "words and phrases,", sum(w in second for w in words), "of them in the second list", file=sys.stderr)
