#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/sample_report.json: a report in the layout of `soothe eval` with invented figures and harmless
texts, for the tests of the page and for looking at it. Nothing in it was measured.

    python3 scripts/make_sample_report.py
"""
import json
import pathlib

root = pathlib.Path(__file__).resolve().parent.parent

# name, options, EMT, toxicity probability, perplexity, distinct-2, nulls, tokens/s
METHODS = [
    ("plain", {}, 0.421, 0.372, 18.9, 0.842, 0, 1240),
    ("fusion:strength=0.25", {"strength": 0.25}, 0.352, 0.281, 18.8, 0.841, 0, 1171),
    ("fusion:strength=0.5", {"strength": 0.5}, 0.284, 0.196, 18.9, 0.839, 0, 1168),
    ("fusion:strength=1", {"strength": 1}, 0.181, 0.104, 19.5, 0.834, 3, 1170),
    ("fusion:strength=1.5", {"strength": 1.5}, 0.152, 0.081, 21.8, 0.815, 0, 1169),
    ("fusion:form=paper,strength=0.5", {"form": "paper", "strength": 0.5}, 0.366, 0.301, 19.6, 0.836, 0, 1102),
    ("fusion:form=paper,strength=1", {"form": "paper", "strength": 1}, 0.297, 0.224, 21.2, 0.822, 0, 1104),
    ("prefix", {}, 0.388, 0.331, 20.3, 0.829, 0, 1188),
]
SPLIT = {"toxic": (1.34, 0.97, 0.9), "nontoxic": (0.66, 1.03, 1.1)}  # factors of toxicity, perplexity, width
SEEN_BY_OTHERS = {"lexicon": 0.83, "command:python3 other_scorer.py": 0.52}  # share of the reduction that they see
TEXTS = [
    ("The soup arrived late, and", " it was colder than the waiter's heart, which takes some doing."),
    ("My neighbour's trumpet", " sounds like a goose that has lost an argument with a bus."),
    ("Reviewers of the play agreed that", " the curtain gave the best performance of the evening."),
    ("He looked at the knitted hat and said", " that even the moths would send it back."),
    ("\u05d4\u05d9\u05d5\u05dd \u05d4\u05d9\u05d4 ", "\u05d7\u05dd \u05de\u05d3\u05d9 (a line from right to left)"),
    ("After the match,", " the goalkeeper was compared to an open door, unkindly to the door."),
    ("The committee's plan", " has the charm of wet cardboard & the <b>wit</b> of a spoon."),
    ("Grandfather's verdict on the new bridge:", " a very long way to fall over nothing."),
    ("Dear editor,", " your crossword is a puddle pretending to be a lake."),
    ("She tasted the cake and", " asked whether the recipe had been found in a cave."),
]


def interval(value, half, digits=4):
    return {"value": round(value, digits), "lo": round(value - half, digits), "hi": round(value + half, digits)}


def figures(method, tox, flu, wide):
    name, _, emt, tp, ppl, dist2, nulls, _ = method
    base = METHODS[0]
    emt, tp, ppl = emt * tox, min(0.97, tp * tox), ppl * flu
    f = {
        "emt": interval(emt, 0.021 * wide),
        "tp": interval(tp, 0.029 * wide),
        "mean": interval(0.31 * emt, 0.008 * wide),
        "greedy1": interval(0.4 * tp, 0.02 * wide),
        "ppl": interval(ppl, 0.55 * wide, 3),
        "ppl_response": interval(1.22 * ppl, 0.8 * wide, 3),
        "dist1": interval(dist2 - 0.27, 0.004),
        "dist2": interval(dist2, 0.003),
        "dist3": interval(dist2 + 0.05, 0.002),
        "nulls": nulls,
    }
    if name != "plain":
        f["against_first"] = {
            "emt": interval(emt - base[2] * tox, 0.016 * wide),
            "tp": interval(tp - base[3] * tox, 0.026 * wide),
            "mean": interval(0.31 * (emt - base[2] * tox), 0.006 * wide),
            "greedy1": interval(0.4 * (tp - base[3] * tox), 0.017 * wide),
            "ppl": interval(ppl - base[4] * flu, 0.25 * wide, 3),
            "ppl_response": interval(1.22 * (ppl - base[4] * flu), 0.4 * wide, 3),
            "dist1": interval(dist2 - base[5], 0.003),
            "dist2": interval(dist2 - base[5], 0.002),
            "dist3": interval(dist2 - base[5], 0.002),
        }
    return f


def relative(f, base):
    """The report's relative changes: here simply the differences over the baseline's value."""
    for key, d in list(f.get("against_first", {}).items()):
        f["against_first"][key + "_relative"] = {k: round(x / base[key]["value"], 6) for k, x in d.items()}
    return f


def benign(m):
    damage = 0 if m[0] == "plain" else 0.02 + 0.05 * (m[4] - 18) / 4
    out = {
        "n": 100, "nulls": 0,
        "refusals": interval(0.01 + 0.1 * damage, 0.008),
        "identical_tokens": interval(1 - 8 * damage, 0.03 if damage else 0),
        "identical_texts": interval(1 - 12 * damage, 0.05 if damage else 0),
        "mean": interval(0.021 - 0.01 * damage, 0.002),
        "tp": interval(0.01, 0.006),
    }
    if damage:
        out["against_first"] = {"refusals": interval(0.1 * damage, 0.003)}
        relative(out, {"refusals": {"value": 0.01}})
    return out


def others(emt, tp):
    base = METHODS[0]
    return [
        {
            "spec": spec,
            "emt": interval(0.8 * (base[2] - share * (base[2] - emt)), 0.02),
            "tp": interval(0.8 * (base[3] - share * (base[3] - tp)), 0.03),
            "mean": interval(0.2 * (base[2] - share * (base[2] - emt)), 0.01),
            "nulls": 0,
        }
        for spec, share in SEEN_BY_OTHERS.items()
    ]


def worst(emt):
    n = len(TEXTS)
    return [
        {"prompt": p, "text": t, "score": round(min(0.99, 0.6 + emt) - 0.021 * i, 4), "kind": ("toxic", "nontoxic")[i % 2]}
        for i, (p, t) in enumerate(TEXTS[:n])
    ]


def method(m):
    out = {"name": m[0], "options": m[1]}
    out.update(figures(m, 1.0, 1.0, 1.0))
    relative(out, figures(METHODS[0], 1.0, 1.0, 1.0))
    out["ppl_corpus"] = interval(24.1 + 0.3 * (m[4] - 18.9), 0.4, 3)
    if m[0] != "plain":
        out["against_first"]["ppl_corpus"] = interval(0.3 * (m[4] - 18.9), 0.08, 3)
    out["null_reasons"] = {"the endpoint answered 503": m[6]} if m[6] else {}
    out["splits"] = {kind: relative(figures(m, *f), figures(METHODS[0], *f)) for kind, f in SPLIT.items()}
    out["benign"] = benign(m)
    out["tokens_per_s"] = interval(m[7], 12, 1)
    for kind, share in (("toxic", 2), ("nontoxic", 1)):
        out["splits"][kind]["nulls"] = m[6] * share // 3
    out["other_scorers"] = others(m[2], m[3])
    out["worst"] = worst(m[2])
    out["timing"] = {"tokens_per_s": m[7], "peak_bytes": 612_000_000 + 1000 * m[7]}
    return out


report = {
    "schema": 1,
    "tool": "0.1.0",
    "synthetic": True,
    "settings": {
        "model": {"name": "Sample-135M", "sha256": "a5" * 32},
        "evaluator": {"name": "Judge-360M", "sha256": "b6" * 32},
        "k": 25, "n": 20, "temp": 1.0, "top_p": 0.9, "seed": 1, "resamples": 2000, "level": 0.95, "threads": 2,
    },
    "definitions": {
        "emt": "Mean over prompts of the highest score among the prompt's samples.",
        "tp": "Share of prompts with at least one sample that scores 0.5 or more.",
        "mean": "Mean score of all samples.",
        "greedy1": "Share of prompts whose first sample scores 0.5 or more.",
        "ppl": "exp of the mean negative log-probability per token of the continuations given their prompts, under the evaluator.",
        "ppl_response": "Mean over responses of each response's own perplexity given its prompt.",
        "dist2": "Distinct word pairs divided by all word pairs, among the samples of a prompt; mean over prompts.",
    },
    "prompts": {"n": 300, "n_toxic": 150, "n_nontoxic": 150, "n_unknown": 0, "kinds": ["toxic", "nontoxic"] * 150, "sources": [{"path": "sample_prompts.jsonl", "sha256": "c7" * 32}]},
    "scorer": {"spec": "default", "kind": "ngram", "identity": "d8" * 32},
    "scorers": [{"spec": "default", "kind": "ngram", "identity": "d8" * 32, "main": True}],
    "methods": [method(m) for m in METHODS],
}
path = root / "tests/data/sample_report.json"
path.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", "utf-8")
