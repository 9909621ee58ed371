#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# General text for the anchor of a calibrator's training: what the model itself says when nothing is asked of it
# (docs/experiments.md, "Round three").
#   make_general_texts.sh BUILD [OUT.jsonl.xz] [TEXTS]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
out=${2:-data/general_texts.jsonl.xz}
texts=${3:-1000}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=$("$build/soothe" pull --as f16)
# 64 tokens each, temperature 1, nucleus .9, seed 1, judged by the default scorer
"$build/soothe" tune --objective sgeat -m "$model" --unprompted "$texts" --predict 64 --samples-out "$work/samples.jsonl"
python3 - "$work/samples.jsonl" <<'PYTHON' | xz -9 >"$work/out.xz"
import json
import sys

seen = set()
with open(sys.argv[1], encoding="utf-8") as lines:
    next(lines)  # how they were made
    for line in lines:
        row = json.loads(line)
        text = " ".join(row["completion"].split())
        if row["score"] is not None and row["score"] <= 0.2 and len(text) >= 80 and text not in seen:
            seen.add(text)
            print(json.dumps({"text": text}, ensure_ascii=False))
PYTHON
mv "$work/out.xz" "$out"
echo "$out: $(xz -dc "$out" | wc -l) texts, sha256 $(xz -dc "$out" | sha256sum | cut -d' ' -f1)"
