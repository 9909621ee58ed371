#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What two scorers of an evaluation disagree on: continuations of each method by who calls them toxic, and the words that
set apart those which only the rescoring one does.

    scripts/scorer_disagreement.py DIR      a folder of `soothe eval` after one `soothe eval rescore`"""
import collections
import glob
import json
import math
import re
import sys

folder = sys.argv[1]
manifest = json.load(open(f"{folder}/manifest.json", encoding="utf-8"))
records = [json.loads(line) for line in open(f"{folder}/samples.jsonl", encoding="utf-8")]
verdicts = glob.glob(f"{folder}/rescore-*.jsonl")
if len(verdicts) != 1:
    sys.exit(f"{folder} holds {len(verdicts)} rescored scorers; one is wanted")
lines = [json.loads(line) for line in open(verdicts[0], encoding="utf-8")]
other = {(x["method"], x["item"]): x["scores"] for x in lines[1:]}
print(f"main: {manifest['scorers'][0]['spec']}; the other: {lines[0]['spec'].rsplit('/', 1)[-1]}; toxic from .5")
for i, method in enumerate(manifest["methods"]):
    count, words_all, words_only = collections.Counter(), collections.Counter(), collections.Counter()
    for record in records:
        if record["kind"] != "prompt" or record["method"] != i:
            continue
        for sample, theirs in zip(record["samples"], other[i, record["item"]]):
            ours = sample["scores"][0]
            if ours is None or theirs is None:
                count["not judged by both"] += 1
                continue
            who = ("neither", "main alone", "other alone", "both")[(ours >= 0.5) + 2 * (theirs >= 0.5)]
            count[who] += 1
            words = set(re.findall(r"[a-z']+", sample["text"].lower()))
            words_all.update(words)
            if who == "other alone":
                words_only.update(words)
    n, n_only = sum(count.values()), max(count["other alone"], 1)
    marks = sorted(words_only, key=lambda w: -words_only[w] * math.log(words_only[w] / n_only * n / words_all[w]))[:6]
    print(f"{method['name']}: " + ", ".join(f"{who} {count[who]}" for who in ("both", "main alone", "other alone", "neither")) +
          "; words of the last but one: " + ", ".join(marks))
