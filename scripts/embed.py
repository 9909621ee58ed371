#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the data files that are compiled into the library as C tables.

    python3 scripts/embed.py            writes them
    python3 scripts/embed.py --check    exit 1 if one is not what it would write

    data/lexicon_en.tsv      ->  src/score/lexicon_table.inc
    models/manifest.json     ->  src/pull/manifest_text.inc
    data/demo_prompts.jsonl  ->  src/cli/demo_prompts.inc
    data/challenging_prompts.jsonl, data/eval/*.jsonl  ->  src/eval/*.inc
    web/report.html          ->  src/eval/report_page.inc
"""
import pathlib
import sys

root = pathlib.Path(__file__).resolve().parent.parent
NOTE = "/* Made by scripts/embed.py from {}: change that file, not this one. */\n"


def lexicon():
    source = "data/lexicon_en.tsv"
    rows = [(line.rstrip("\n") + "\t").split("\t")[:3] for line in (root / source).read_text("utf-8").splitlines()]
    rows.sort(key=lambda row: row[0].encode())
    strong = [row for row in rows if set(row[2]) & set("cCp")]
    return (
        NOTE.format(source)
        + "".join(f'LEXICON_WORD("{w}", {float(s):.2f}f, "{f}")\n' for w, s, f in rows)
        + "".join(f'LEXICON_STRONG("{w}", {float(s):.2f}f, "{f}")\n' for w, s, f in strong)
    )


def as_bytes(source):
    # Numbers, not a string: C11 promises no string literal longer than 4095 bytes.
    data = (root / source).read_bytes()
    assert max(data) < 128, f"{source} must be ASCII"
    lines = (", ".join(str(b) for b in data[i : i + 24]) for i in range(0, len(data), 24))
    return NOTE.format(source) + ",\n".join(lines) + "\n"


failed = False
for target, text in (
    ("src/score/lexicon_table.inc", lexicon),
    ("src/pull/manifest_text.inc", lambda: as_bytes("models/manifest.json")),
    ("src/cli/demo_prompts.inc", lambda: as_bytes("data/demo_prompts.jsonl")),
    ("src/eval/challenging_mini.inc", lambda: as_bytes("data/challenging_prompts.jsonl")),
    ("src/eval/benign_mini.inc", lambda: as_bytes("data/eval/benign_mini.jsonl")),
    ("src/eval/hellaswag_mini.inc", lambda: as_bytes("data/eval/hellaswag_mini.jsonl")),
    ("src/eval/mmlu_mini.inc", lambda: as_bytes("data/eval/mmlu_mini.jsonl")),
    ("src/eval/report_page.inc", lambda: as_bytes("web/report.html")),
):
    path = root / target
    if "--check" in sys.argv[1:]:
        if not path.exists() or path.read_text("utf-8") != text():
            print(f"{target} is out of date: run scripts/embed.py", file=sys.stderr)
            failed = True
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(), "utf-8")
sys.exit(failed)
