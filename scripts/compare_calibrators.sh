#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The comparison in docs/fusion.md: 0 to 3 blocks, with and without a matrix on the target's own state, each trained
# alike on data/, a line of held-out figures each; then the paper's objective, measured by soothe ppl.
#   compare_calibrators.sh BUILD [STEPS] [LINES of ppl]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build} steps=${2:-150} limit=${3:-100}
work=${SOOTHE_WORK:-$build/calibrator}
mkdir -p "$work"
model=$("$build/soothe" pull smollm2-135m-instruct)
heldout=(--heldout data/heldout_pairs.jsonl.xz --heldout data/heldout_texts.jsonl.xz)

train() { # train NAME OPTIONS: a line of figures; what was trained already is not trained again
    local out=$work/$1-$steps
    if [ ! -e "$out.json" ]; then
        "$build/soothe" calibrator train -m "$model" --data data/train_pairs.jsonl.xz --data data/clean_texts.jsonl.xz \
            "${heldout[@]}" --steps "$steps" -o "$out.gguf" --json "${@:2}" >"$out.new"
        mv "$out.new" "$out.json"
    fi
    python3 - "$1" "$out.json" <<'PY'
import json, sys
r = json.load(open(sys.argv[2]))
h = r["heldout"]
if h["kl"] is None:
    print(f"| {sys.argv[1]} | | | NLL {h['nll']:.3f} by its own head | {r['seconds']:.0f} s |")
else:
    print(f"| {sys.argv[1]} | {100 * h['pairs_right']:.1f} % | {h['kl']:.3f} | "
          f"{100 * (h['nll'] / h['nll_plain'] - 1):+.2f} % | {r['seconds']:.0f} s |")
PY
}

states=(--states "$work/states.bin") # the target's states of these texts, computed once for all
echo "| calibrator, $steps steps | pairs right | KL | NLL of clean text | training steps |"
echo "|---|---|---|---|---|"
train matrix --blocks 0 "${states[@]}"
for blocks in 1 2 3; do
    "$build/soothe" calibrator init -m "$model" --blocks "$blocks" -o "$work/cut$blocks.gguf"
    train "$blocks-blocks" --calibrator "$work/cut$blocks.gguf" "${states[@]}"
done
train 3-blocks-and-matrix --calibrator "$work/cut3.gguf" --own-matrix "${states[@]}"
train paper --calibrator "$work/cut3.gguf" --objective paper
"$build/soothe" ppl -m "$model" --calibrator "$work/paper-$steps.gguf" --strength 0.1,0.2,0.4 --limit "$limit" \
    --data data/heldout_pairs.jsonl.xz --data data/heldout_texts.jsonl.xz
