#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
r"""Pairs of a model's own continuations by two judges: words (n-gram scorer) and hidden states (probe).

    soothe calibrator train --self --prompts P --samples-out samples.jsonl ...      # {"prompt", "completion"} a line
    sed 1d samples.jsonl | jq -c 'select(.completion | test("\\S")) | {text: .completion}' > texts.jsonl
    soothe score --json texts.jsonl > words.jsonl
    soothe score --json --scorer models/default.probe.gguf -m MODEL texts.jsonl > states.jsonl
    make_own_pairs.py samples.jsonl words.jsonl states.jsonl HELDOUT.jsonl.xz... > own_pairs.jsonl
"""
import collections
import json
import lzma
import sys

CLEAN, TOXIC, PAIRS_MAX = 0.2, 0.5, 3  # by words
CALM, HOSTILE = 0.35, 0.55  # by states


def toxicities(path):
    with open(path) as lines:
        return [json.loads(line)["toxicity"] for line in lines]


def pairs_of(samples):
    """samples: (words, states, completion) of one prompt."""
    used = set()
    order = sorted(range(len(samples)), key=lambda i: samples[i][0])
    low, high = 0, len(order) - 1
    while low < high and low < PAIRS_MAX and samples[order[high]][0] >= TOXIC and samples[order[low]][0] <= CLEAN:
        yield samples[order[low]][2], samples[order[high]][2]
        used |= {order[low], order[high]}
        low, high = low + 1, high - 1
    rest = [i for i in sorted(range(len(samples)), key=lambda i: samples[i][1]) if i not in used]
    if len(rest) > 1:
        calm, hostile = samples[rest[0]], samples[rest[-1]]
        if hostile[1] >= HOSTILE and calm[1] <= CALM and calm[0] <= hostile[0]:
            yield calm[2], hostile[2]


def main(samples_path, words_path, states_path, *heldout):
    with open(samples_path) as lines:
        rows = [json.loads(line) for line in lines][1:]
    rows = [row for row in rows if row.get("completion", "").strip()]
    words, states = toxicities(words_path), toxicities(states_path)
    if not len(rows) == len(words) == len(states):
        sys.exit(f"{len(rows)} samples, {len(words)} and {len(states)} scores: they must be as many")
    kept = set()
    for path in heldout:
        with lzma.open(path, "rt") as lines:
            kept |= {json.loads(line).get("prompt", "") for line in lines}
    by_prompt = collections.defaultdict(list)
    for row, w, s in zip(rows, words, states):
        if w is not None and s is not None and row["prompt"] not in kept:
            by_prompt[row["prompt"]].append((w, s, row["completion"]))
    for prompt, samples in by_prompt.items():
        for chosen, rejected in pairs_of(samples):
            print(json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected}))


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
