#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains the shipped scorer again, and makes what its tests compare with.   make_scorer.sh SETS [BUILD [WORK]]
# SETS holds the sets that docs/scorer.md names; about 5 minutes on one core.
set -euo pipefail
sets=$(realpath "$1")
cd "$(dirname "$0")/.."
build=$(realpath "${2:-build}")
work=${3:-$(mktemp -d)}
mkdir -p "$work"
scripts/make_scorer_data.py "$sets" "$work/train.jsonl"
scripts/make_scorer_data.py "$sets" "$work/unseen.jsonl" --unseen
"$build/soothe" score train --data "$work/train.jsonl" --weight rtp=3 --weight wiki_toxicity=3 --bits 21 \
    --write-holdout "$work/heldout.jsonl" -o models/default.scorer.gguf
echo
SOOTHE_MODELS=models "$build/soothe" score test --data "$work/unseen.jsonl"
scripts/ngram_reference.py models/default.scorer.gguf data/lexicon_en.tsv tests/data/ngram_reference.tsv
scripts/make_scorer_data.py "$work/train.jsonl" "$work/heldout.jsonl" --test-rows tests/data
