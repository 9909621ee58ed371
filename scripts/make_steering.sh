#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the shipped LM-Steer and control vector of the default model again, from the data in data/.
#   make_steering.sh BUILD
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
work=${SOOTHE_WORK:-$build/calibrator}
mkdir -p "$work"
model=$("$build/soothe" pull smollm2-135m-instruct)
# The target's states are those of make_calibrator.sh, where that has run.
"$build/soothe" calibrator train -m "$model" --objective lm-steer --default-strength 5 \
    --data data/train_pairs.jsonl.xz --data data/clean_texts.jsonl.xz \
    --heldout data/heldout_pairs.jsonl.xz --heldout data/heldout_texts.jsonl.xz \
    --states "$work/states.bin" -o "$work/lm-steer.gguf"
"$build/soothe" calibrator pack "$work/lm-steer.gguf" --base "$model" --type q8_0 -o models/default.lm-steer.gguf
"$build/soothe" control-vector -m "$("$build/soothe" pull smollm2-135m-instruct --as q8_0)" --limit 400 \
    --data data/train_pairs.jsonl.xz --default-strength 0.1 -o models/default.control-vector.gguf
ls -l models
