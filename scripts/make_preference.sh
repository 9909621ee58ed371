#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tunes the default target itself by preference, on the data that train the default calibrator: a LoRA file, and the
# model with it merged (docs/methods/preference-tuning.md).
#   make_preference.sh BUILD [OUT.lora.gguf]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
out=${2:-$build/preference.lora.gguf}
model=$("$build/soothe" pull smollm2-135m-instruct)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# 60 held-out pairs and 60 texts: measuring all of them would take as long as the steps
for name in pairs texts; do
    xz -dc "data/heldout_$name.jsonl.xz" | shuf --random-source=<(yes) -n 60 >"$work/$name.jsonl"
done
# A run that was stopped goes on: the checkpoint stays beside the output.
"$build/soothe" tune --objective preference -m "$model" \
    --data data/train_pairs.jsonl.xz --data data/own_pairs.jsonl.xz --data data/clean_texts.jsonl.xz \
    --heldout "$work/pairs.jsonl" --heldout "$work/texts.jsonl" \
    --texts-per-step 4 --max-length 64 --steps 120 --rate 5e-4 --lora -o "$out"
