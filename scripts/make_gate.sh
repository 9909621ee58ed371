#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains the gate's shipped probe again, and prints its figures.   make_gate.sh BUILD SETS [OUT.gguf]
# SETS: the folder that scripts/make_training_data.py and make_gate_data.py describe.
set -euo pipefail
build=$(realpath "$1")
sets=$(realpath "$2")
cd "$(dirname "$0")/.."
out=${3:-models/gate.probe.gguf}
work=${SOOTHE_WORK:-$build/gate}
mkdir -p "$work"
model=$("$build/soothe" pull smollm2-135m-instruct)
fast=$("$build/soothe" pull smollm2-135m-instruct --as q8_0)
python3 scripts/make_training_data.py prompts "$sets" "$work/prompts.jsonl"
# 963 toxic prompts and 337 of any kind, none of them a challenging one, and six continuations of each by the model: 20 tokens, temperature 1, nucleus .9, seed 1.
"$build/soothe" calibrator train -m "$model" --self --prompts "$work/prompts.jsonl" --prompts-max 1300 --samples 6 -n 20 --seed 1 \
    --samples-out "$work/samples.jsonl"
python3 scripts/make_gate_data.py completions "$work/samples.jsonl" "$work/completions.jsonl"
"$build/soothe" score --json "$work/completions.jsonl" >"$work/scores.jsonl"
python3 scripts/make_gate_data.py texts "$work/samples.jsonl" "$work/scores.jsonl" "$sets" "$work/texts.jsonl"
"$build/soothe" probe train -m "$fast" --data "$work/texts.jsonl" --layers 10,14,18,22,26,final --pool token -c 96 -t 1 -o "$out"
