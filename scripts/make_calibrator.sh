#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains the default calibrator again from the data in data/, packs it, and measures it.
#   make_calibrator.sh BUILD [OUT]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
out=${2:-models/default.calibrator.gguf}
work=${SOOTHE_WORK:-$build/calibrator}
mkdir -p "$work"
model=$("$build/soothe" pull --as f16) # reads texts faster than the file as published
# A run that was stopped goes on: the checkpoint and the target's states stay in $work.
"$build/soothe" calibrator train -m "$model" --blocks 0 \
    --data data/train_pairs.jsonl.xz --data data/own_pairs.jsonl.xz \
    --data data/clean_texts.jsonl.xz --data data/general_texts.jsonl.xz --texts-per-step 16 \
    --heldout data/heldout_pairs.jsonl.xz --heldout data/heldout_texts.jsonl.xz \
    --states "$work/states.bin" --default-strength 1.25 -o "$work/trained.gguf"
"$build/soothe" calibrator pack "$work/trained.gguf" --base "$model" --type q8_0 -o "$out"
ls -l "$out"
"$build/soothe" ppl -m "$model" --calibrator "$out" --strength 0,0.5,1,1.25,1.5 --limit 200 \
    --data data/heldout_pairs.jsonl.xz --data data/heldout_texts.jsonl.xz
