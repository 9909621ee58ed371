#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Speed of sampling many continuations beside Hugging Face transformers (KV cache) of the same shape and lengths, in
# alternating runs; docs/experiments.md has the figures.
#   bench_generation.sh BUILD MODEL CALIBRATOR [ROUNDS]     PYTHON=… a Python that has torch and transformers
#                                                           PEER_TYPE=bfloat16 or float32: the peer's numbers
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 model=$2 calibrator=$3 rounds=${4:-3} python=${PYTHON:-python3}
sequences=64 tokens=20 prompt=16 processors=$(nproc)
each=$((sequences / processors))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000}
peer=yes
"$python" -c 'import torch, transformers' 2>/dev/null || {
    peer=no
    echo "torch and transformers cannot be imported by $python: no comparison (PYTHON=… names another Python)"
}
for ((i = 0; i < rounds; i++)); do
    WORKERS=$processors THREADS=1 "$build/bench/bench_generate" "$model" "$calibrator" 1 $tokens $prompt $each | tee -a "$work/ours"
    [ $peer = no ] || "$python" bench/generate_pytorch.py $sequences $tokens $prompt 1 "${PEER_TYPE:-bfloat16}" 2>/dev/null | sed 's/^/transformers /' | tee -a "$work/theirs"
done
middle() { sort -n | awk '{x[NR] = $1} END {print x[int((NR + 1) / 2)]}'; }
for kind in "plain" "fused"; do
    wall=$(sed -n "s/^[^;]*$kind \([0-9]*\).*/\1/p" "$work/ours" | middle)
    processor=$(sed -n "s/.*;.*$kind \([0-9]*\).*/\1/p" "$work/ours" | middle)
    [ -n "$wall" ] || continue
    if [ $peer = yes ]; then
        their_wall=$(sed -n 's/.*: \([0-9]*\) tokens.*;.*/\1/p' "$work/theirs" | middle)
        their_processor=$(sed -n 's/.*time: \([0-9]*\)/\1/p' "$work/theirs" | middle)
        awk "BEGIN {printf \"$kind/transformers: %.2f by the clock, %.2f by processor time\n\", $wall / $their_wall, $processor / $their_processor}"
    fi
done
# The share of what this machine multiplies matrices with, by the library that the peer uses.
[ $peer = no ] || awk -v ours="$(sed -n 's/.*matrices \([0-9.]*\) GFLOP.*/\1/p' "$work/ours" | middle)" \
    -v peak="$("$python" bench/matrix_peak.py)" \
    'BEGIN {printf "matrices: %.0f GFLOP/s a processor of %.0f that PyTorch reaches there: %.0f %%\n", ours, peak, 100 * ours / peak}'
