#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Speed of training factors of low rank beside PyTorch's on the same work, in alternating runs; docs/tuning.md has the
# table.
#   bench_lora.sh BUILD MODEL.gguf [ROUNDS [STEPS]]     PYTHON=… a Python in which torch can be imported, VARIANTS="bf16 f32 …"
# MODEL is SmolLM2-135M in any data type: its weights decide the speed only by their type.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build} model=${2:?a GGUF of SmolLM2-135M} rounds=${3:-3} steps=${4:-3} python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000} # as soothe itself sets it, for both
read -ra rivals <<<"${VARIANTS:-bf16 bf16-packed f32-packed}"
if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "PyTorch cannot be imported by $python: no comparison, soothe alone (PYTHON=… names another Python)"
    rivals=()
fi
middle() { sort -n | awk '{x[NR] = $1} END {print x[int((NR + 1) / 2)]}'; }
median() { sed -n 's/^tokens\/s \([0-9.]*\) .*/\1/p' "$1" | middle; }
fastest() { sed -n 's/.*fastest step \([0-9.]*\)).*/\1/p' "$1" | middle; }
processor() { sed -n 's/.*CPU s\/step \([0-9.]*\) .*/\1/p' "$1" | middle; }
ratio() { awk "BEGIN {printf \"%.2f\", $1 / $2}"; }

for ((i = 0; i < rounds; i++)); do
    "$build/bench/bench_lora" "$model" auto file "$steps" | tee -a "$work/soothe" | sed 's/^/soothe        /'
    for variant in "${rivals[@]}"; do
        "$python" bench/lora_pytorch.py "$variant" "$steps" | tee -a "$work/$variant" | sed "s/^/$(printf '%-14s' "$variant")/"
    done
done
ours=$(median "$work/soothe") ours_fastest=$(fastest "$work/soothe")
echo "soothe: $ours tokens/s, fastest steps $ours_fastest (middle of $rounds runs)"
for variant in "${rivals[@]}"; do
    theirs=$(median "$work/$variant") theirs_fastest=$(fastest "$work/$variant")
    echo "PyTorch $variant: $theirs, fastest steps $theirs_fastest;" \
        "soothe/PyTorch $(ratio "$ours" "$theirs"), of fastest steps $(ratio "$ours_fastest" "$theirs_fastest")," \
        "by processor time $(ratio "$(processor "$work/$variant")" "$(processor "$work/soothe")")"
done
