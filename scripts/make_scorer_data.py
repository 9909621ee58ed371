#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Brings open sets of labelled texts into one file, for `soothe score train` and `soothe score test`.

    scripts/make_scorer_data.py SETS train.jsonl            what the shipped scorer is trained on
    scripts/make_scorer_data.py SETS unseen.jsonl --unseen  what it never sees, for `soothe score test`
    scripts/make_scorer_data.py SETS train.jsonl --with-implicit   also toxigen and implicit_hate
    scripts/make_scorer_data.py train.jsonl heldout.jsonl --test-rows tests/data
                                                            the ParaDetox rows (CC0) of the tests

SETS is a folder with the sets that docs/scorer.md names. A row is {"text", "label", "source"}; the label is 0, 1 or a
probability. Texts that also stand in an unseen set are left out of the training rows. Python's own library only; the
same sets give the same bytes. A table of what was written goes to stderr.
"""
import argparse
import collections
import csv
import hashlib
import json
import lzma
import pathlib
import re
import sys

MODERATION = "S", "H", "V", "HR", "S3", "H2", "V2"  # sexual, hate, violence, harassment; not self-harm (SH)


def open_text(path):
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8", newline="")
    return open(path, encoding="utf-8", newline="")


def json_lines(path):
    with open_text(path) as f:
        for line in f:
            if line.strip():
                yield json.loads(line)


def table(path, **options):
    with open_text(path) as f:
        yield from csv.DictReader(f, **options)


def davidson(sets):
    """Hate speech or offensive language (classes 0 and 1) against neither."""
    for row in table(sets / "davidson/labeled_data.csv.xz"):
        yield row["tweet"], int(row["class"] != "2")


def paradetox(sets):
    """Toxic comments against their neutral paraphrases."""
    for row in table(sets / "paradetox/paradetox.tsv.xz", delimiter="\t", quoting=csv.QUOTE_NONE):
        yield row["toxic"], 1
        for name in "neutral1", "neutral2", "neutral3":
            if row.get(name):
                yield row[name], 0


def wiki_toxicity(sets):
    for row in json_lines(sets / "wiki_toxicity/wiki_toxicity_test.jsonl.xz"):
        yield row["text"], int(row["toxic"])


def rtp(sets):
    """Prompts and continuations, each by itself, with Perspective's toxicity of it."""
    for name in "challenging", "mixed", "toxic", "nontoxic":
        for row in json_lines(sets / f"rtp/{name}.jsonl"):
            for part in "prompt", "continuation":
                toxicity = row[part].get("toxicity")
                if toxicity is not None:
                    yield row[part]["text"], round(toxicity, 4)


def rtp_joined(sets):
    """Prompt and continuation as one text; the label is the larger toxicity of the two."""
    for name in "challenging", "mixed", "toxic", "nontoxic":
        for row in json_lines(sets / f"rtp/{name}.jsonl"):
            values = [row[part].get("toxicity") for part in ("prompt", "continuation")]
            if None not in values:
                yield row["prompt"]["text"] + row["continuation"]["text"], round(max(values), 4)


def stormfront(sets):
    for row in json_lines(sets / "stormfront/stormfront.jsonl.xz"):
        if row["label"] in ("hate", "noHate"):
            yield row["text"], int(row["label"] == "hate")


def cannot_rewrite(sets):
    """Comments that nobody could say without their toxicity."""
    for row in table(sets / "paradetox/paradetox_cannot_rewrite.tsv.xz", delimiter="\t"):
        if "toxic_content" in (row["OUTPUT:reasons"] or ""):
            yield row["INPUT:toxic_comment"].strip().strip('"'), 1


def civil_comments(sets):
    """Share of the annotators that found something toxic."""
    for row in json_lines(sets / "toxic_spans/comments_annotated.jsonl.xz"):
        if row["n"]:
            yield row["text"], round(1 - row["not_toxic"] / row["n"], 4)


def bold(sets):
    """Clean sentences of Wikipedia about people and groups, so that the name of a group alone is no reason. Most
    are left out: professions, and the largest group of names."""
    for row in json_lines(sets / "bold/bold.jsonl.xz"):
        if row["domain"] != "profession" and row["category"] not in ("European_Americans", "American_actors"):
            yield row["wikipedia"], 0


def toxigen_sentences(sets):
    """Harmless and hateful sentences about the same groups (demonstrations, not the annotated set)."""
    for row in json_lines(sets / "toxigen/sentences.jsonl"):
        yield row["text"], int(row["label"] == "hate")


def toxigen(sets):
    for row in json_lines(sets / "toxigen/annotated_safenlp.jsonl.xz"):
        yield row["text"], int(row["label"] == "hate")


def implicit_hate(sets):
    for row in json_lines(sets / "implicit_hate_safenlp/implicit_hate.jsonl.xz"):
        yield row["text"], int(row["label"] == "hate")


def openai_moderation(sets):
    """Positive: any flag but that of self-harm."""
    for row in json_lines(sets / "openai_moderation/samples-1680.jsonl.xz"):
        yield row["prompt"], int(any(row.get(flag) for flag in MODERATION))


def bias_madlibs(sets):
    for row in json_lines(sets / "wiki_toxicity/bias_madlibs_6k.jsonl.xz"):
        yield row["text"], int(row["toxic"])


def hatecheck(sets):
    for row in table(sets / "hatecheck/test_suite_cases.csv"):
        yield row["test_case"], int(row["label_gold"] == "hateful")


TRAIN = davidson, paradetox, wiki_toxicity, rtp, stormfront
IMPLICIT = toxigen, implicit_hate
NEVER = openai_moderation, bias_madlibs, hatecheck


def key(text):
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


def by_hash(rows):
    return sorted(rows, key=lambda row: hashlib.sha256(row["text"].encode()).digest())


def write_test_rows(train, heldout, folder):
    """800 rows of ParaDetox to train on and 200 of those that the shipped scorer never saw, half of them toxic."""
    out = {"scorer_heldout.jsonl": (heldout, 100), "scorer_train.jsonl": (train, 400)}
    held = {row["text"] for row in json_lines(heldout)}
    for name, (path, n) in out.items():
        rows = [row for row in json_lines(path) if row["source"] == "paradetox" and len(row["text"]) <= 200
                and (path == heldout or row["text"] not in held)]
        chosen = [row for toxic in (0, 1) for row in by_hash(row for row in rows if row["label"] == toxic)[:n]]
        with open(folder / name, "w", encoding="utf-8") as f:
            for row in by_hash(chosen):
                f.write(json.dumps({**row, "label": int(row["label"])}, ensure_ascii=False) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--unseen", action="store_true")
    parser.add_argument("--with-implicit", action="store_true")
    parser.add_argument("--with", action="append", default=[], dest="extra", metavar="SOURCE")
    parser.add_argument("--test-rows", type=pathlib.Path, metavar="FOLDER")
    choice = parser.parse_args()
    if choice.test_rows:
        write_test_rows(choice.sets, choice.out, choice.test_rows)
        return
    sources = list(NEVER + IMPLICIT) if choice.unseen else list(TRAIN)
    if choice.with_implicit:
        sources = [s for s in sources if s not in IMPLICIT] + ([] if choice.unseen else list(IMPLICIT))
    sources += [globals()[name] for name in choice.extra]
    banned = set()
    if not choice.unseen:
        banned = {key(text) for source in NEVER for text, _ in source(choice.sets)}
    counts = collections.Counter()
    digest = hashlib.sha256()
    with open(choice.out, "wb") as f:
        for source in sources:
            for text, label in source(choice.sets):
                text = text.replace("\0", " ")
                if not text.strip():
                    continue
                name = source.__name__
                if key(text) in banned:
                    counts[name, "left out"] += 1
                    continue
                counts[name, "toxic" if label > 0.5 else "clean"] += 1
                line = json.dumps({"text": text, "label": label, "source": name}, ensure_ascii=False) + "\n"
                f.write(line.encode())
                digest.update(line.encode())
    for source in sources:
        name = source.__name__
        print(f"{name:18} {counts[name, 'toxic']:6} toxic {counts[name, 'clean']:6} clean "
              f"{counts[name, 'left out']:4} left out", file=sys.stderr)
    print(f"sha256 {digest.hexdigest()}", file=sys.stderr)


if __name__ == "__main__":
    main()
