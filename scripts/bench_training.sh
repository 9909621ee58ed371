#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Speed of training beside PyTorch's on the same work, in alternating runs; docs/training-engine.md has the table.
#   bench_training.sh BUILD [ROUNDS] [OBJECTIVE]     PYTHON=… a Python in which torch can be imported
# Uses all processors that it may: taskset -c 0,1 bench_training.sh … for two.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build} rounds=${2:-5} objective=${3:-paper} python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# as soothe itself sets it, for both: threads that spin while they wait starve one another on a busy machine
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000}

rivals=()
if "$python" -c 'import torch' 2>/dev/null; then
    rivals=(bf16 bf16-packed autocast-packed f32 f32-packed)
else
    echo "PyTorch cannot be imported by $python: no comparison, soothe alone (PYTHON=… names another Python)"
fi
# The middle of the runs' medians, and of their fastest steps, which other programs on the machine disturb less.
middle() { sort -n | awk '{x[NR] = $1} END {print x[int((NR + 1) / 2)]}'; }
median() { sed -n 's/.*loss-tokens\/s \([0-9.]*\) .*/\1/p' "$1" | middle; }
fastest() { sed -n 's/.*fastest step \([0-9.]*\)).*/\1/p' "$1" | middle; }
ratio() { awk "BEGIN {printf \"%.2f\", $1 / $2}"; }

for ((i = 0; i < rounds; i++)); do
    "$build/bench/bench_train" "$objective" auto 9 | tee -a "$work/soothe" | sed 's/^/soothe            /'
    for variant in "${rivals[@]}"; do
        "$python" bench/train_pytorch.py "$objective" "$variant" 9 | tee -a "$work/$variant" |
            sed "s/^/$(printf '%-18s' "$variant")/"
    done
done
ours=$(median "$work/soothe") ours_fastest=$(fastest "$work/soothe")
echo "soothe: $ours loss-tokens/s, fastest steps $ours_fastest (middle of $rounds runs, $objective)"
for variant in "${rivals[@]}"; do
    theirs=$(median "$work/$variant") theirs_fastest=$(fastest "$work/$variant")
    echo "PyTorch $variant: $theirs, fastest steps $theirs_fastest;" \
        "soothe/PyTorch $(ratio "$ours" "$theirs"), of fastest steps $(ratio "$ours_fastest" "$theirs_fastest")"
done
